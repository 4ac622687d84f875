//! The gate that every write, sync and send of a server passes: once it is shut nothing leaves the server any more.
//!
//! Killing a server inside a process that lives on must look as `kill -9` does from outside. The threads are joined
//! too, but it is the gate that makes "from now on" exact: whoever holds it open finishes one operation, and
//! [`Gate::shut`] waits for that. A send never blocks; an operation of a disk may take for ever, so those are waited
//! for apart and within a limit ([`Gate::wait_disk_end`]), as the kernel too keeps a killed process' last system call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

/// Open until shut, then shut for ever.
#[derive(Debug, Default)]
pub struct Gate {
    shut: AtomicBool,
    /// Held for reading during a send, for writing to wait for the last one.
    sends: RwLock<()>,
    /// The disk's thread has ended and let go of the directory.
    disk_has_ended: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// Does `send`, which must not block, unless the gate is shut.
    pub fn pass<T>(&self, send: impl FnOnce() -> T) -> Option<T> {
        let _send = self.sends.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        if self.is_shut() {
            return None;
        }
        Some(send())
    }

    /// Does `operation` of the disk, however long it takes, unless the gate is shut.
    pub fn pass_disk<T>(&self, operation: impl FnOnce() -> T) -> Option<T> {
        (!self.is_shut()).then(operation)
    }

    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }

    /// From the return on no send is under way and none will begin; the disk's last operation may be.
    pub fn shut(&self) {
        {
            let _disk = self.disk();
            self.shut.store(true, Ordering::Release);
            self.changed.notify_all();
        }
        drop(self.sends.write().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }

    /// The disk's thread has let go of everything.
    pub fn disk_has_ended(&self) {
        *self.disk() = true;
        self.changed.notify_all();
    }

    /// Waits for [`Gate::disk_has_ended`]; false: the gate is shut, and `limit` after that it has not come.
    pub fn wait_disk_end(&self, limit: Duration) -> bool {
        let mut has_ended = self.disk();
        let mut deadline = None;
        while !*has_ended {
            if !self.is_shut() {
                has_ended = self.changed.wait(has_ended).unwrap_or_else(|poisoned| poisoned.into_inner());
                continue;
            }
            let left = deadline.get_or_insert_with(|| Instant::now() + limit).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            has_ended = self.changed.wait_timeout(has_ended, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        true
    }

    fn disk(&self) -> MutexGuard<'_, bool> {
        self.disk_has_ended.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, mpsc};

    #[test]
    fn shutting_waits_for_the_send_under_way_and_lets_no_other_begin() {
        let gate = Arc::new(Gate::default());
        let (began, begin) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let done = Arc::new(AtomicBool::new(false));
        let worker = std::thread::spawn({
            let (gate, done) = (gate.clone(), done.clone());
            move || {
                gate.pass(|| {
                    began.send(()).unwrap();
                    released.recv().unwrap();
                    done.store(true, Ordering::SeqCst);
                })
            }
        });
        begin.recv().unwrap();
        let shutter = std::thread::spawn({
            let (gate, done) = (gate.clone(), done.clone());
            move || {
                gate.shut();
                assert!(done.load(Ordering::SeqCst));
            }
        });
        release.send(()).unwrap();
        assert!(worker.join().unwrap().is_some());
        shutter.join().unwrap();
        assert!(gate.pass(|| ()).is_none());
        assert!(gate.pass_disk(|| ()).is_none());
    }

    #[test]
    fn a_disk_that_hangs_is_waited_for_within_a_limit() {
        let gate = Arc::new(Gate::default());
        let (began, begin) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let worker = std::thread::spawn({
            let gate = gate.clone();
            move || {
                gate.pass_disk(|| {
                    began.send(()).unwrap();
                    released.recv().unwrap();
                });
                gate.disk_has_ended();
            }
        });
        begin.recv().unwrap();
        gate.shut(); // Returns though the operation goes on.
        assert!(!gate.wait_disk_end(Duration::from_millis(1)));
        release.send(()).unwrap();
        assert!(gate.wait_disk_end(Duration::from_secs(30)));
        worker.join().unwrap();
    }
}
