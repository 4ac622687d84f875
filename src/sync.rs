//! The only locks of the pure layers: std's, or loom's under `cfg(loom)`, which tries every interleaving of them.
//!
//! A lock is poisoned only when a thread panicked inside it. That server is failed and stops; so [`lock`] and its
//! kin panic too rather than show a half-made change.
//!
//! What is never changed after it was made (an ACL, a reply's bytes) is shared by std's `Arc` directly: there is
//! nothing about it to interleave, and loom's has no slices.

#[cfg(loom)]
pub use loom::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};
#[cfg(not(loom))]
pub use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};

const POISONED: &str = "another thread panicked while it held this lock";

/// Locks `mutex`.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect(POISONED)
}

/// Locks `rwlock` for reading, beside other readers.
pub fn read<T>(rwlock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    rwlock.read().expect(POISONED)
}

/// Locks `rwlock` for writing, alone.
pub fn write<T>(rwlock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    rwlock.write().expect(POISONED)
}

/// What is in `mutex`, without locking: whoever has it exclusively needs no lock.
pub fn get_mut<T>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().expect(POISONED)
}

/// A number that threads change without a lock, and on which nothing but "how much" hangs: std's atomic also under loom,
/// which has nothing to interleave here.
#[derive(Debug, Default)]
pub struct Figure(std::sync::atomic::AtomicUsize);

impl Figure {
    pub fn get(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Part of the number has changed from `before` to `after`.
    pub fn change(&self, before: usize, after: usize) {
        if after >= before {
            self.0.fetch_add(after - before, std::sync::atomic::Ordering::Relaxed);
        } else {
            self.0.fetch_sub(before - after, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
