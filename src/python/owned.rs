//! A running server or ensemble as a Python object holds it: shut once, and never touched by a forked child.
//!
//! `fork` copies memory but none of the threads. In the child every lock may be held by a thread that does not exist
//! there, the directory belongs to the parent, and so do the sockets. So each use first compares process ids and
//! raises `ForkError` in a child *before* it takes any lock, and a child's drop leaks instead of shutting down.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::PyResult;

use super::errors::{ClosedError, ForkError};

/// Shared access to a `T` that lives until [`Owned::take`].
pub(super) struct Owned<T> {
    /// The process that made it.
    pid: u32,
    /// What Python calls it, for messages.
    what: &'static str,
    value: Mutex<Option<Arc<T>>>,
}

impl<T> Owned<T> {
    pub(super) fn new(what: &'static str, value: T) -> Owned<T> {
        Owned { pid: std::process::id(), what, value: Mutex::new(Some(Arc::new(value))) }
    }

    /// The value, for one operation.
    pub(super) fn get(&self) -> PyResult<Arc<T>> {
        self.check_process()?;
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        value.clone().ok_or_else(|| ClosedError::new_err(format!("this {} has been stopped", self.what)))
    }

    /// The value, for the operation that ends it; `None` when that has happened before.
    pub(super) fn take(&self) -> PyResult<Option<Arc<T>>> {
        self.check_process()?;
        Ok(self.value.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    fn check_process(&self) -> PyResult<()> {
        let here = std::process::id();
        if here == self.pid {
            return Ok(());
        }
        Err(ForkError::new_err(format!(
            "this {} runs in process {}; process {here} is a forked child, which has none of its threads: \
             connect a client to its hosts, or start one of the child's own",
            self.what, self.pid
        )))
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if std::process::id() != self.pid {
            // The child's copy: shutting down would join threads that do not exist and delete the parent's files.
            let value = self.value.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(value.take());
        }
    }
}
