//! The gate that every write, sync and send of a server passes: once it is shut nothing leaves the server any more.
//!
//! Killing a server inside a process that lives on must look as `kill -9` does from outside. The threads are joined
//! too, but it is the gate that makes "from now on" exact: whoever holds it open finishes one operation, and
//! [`Gate::shut`] waits for that.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Open until shut, then shut for ever.
#[derive(Debug, Default)]
pub struct Gate {
    shut: AtomicBool,
    /// Held for reading during an operation, for writing to wait for the last one.
    operations: RwLock<()>,
}

impl Gate {
    /// Does `operation`, unless the gate is shut.
    pub fn pass<T>(&self, operation: impl FnOnce() -> T) -> Option<T> {
        let _operation = self.operations.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        if self.is_shut() {
            return None;
        }
        Some(operation())
    }

    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }

    /// From the return on no operation is under way and none will begin.
    pub fn shut(&self) {
        self.shut.store(true, Ordering::Release);
        drop(self.operations.write().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, mpsc};

    #[test]
    fn shutting_waits_for_the_operation_under_way_and_lets_no_other_begin() {
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
    }
}
