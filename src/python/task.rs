//! How a call that blocks is offered to Python twice: blocking without the GIL, and as an `asyncio.Future`.
//!
//! Futures are completed by pyo3-async-runtimes on a runtime of its own, apart from every server's: its threads do
//! attach to Python, so nothing of a server may ever run on them. It is far too slow for requests and right for what
//! happens once in a test (start, stop, kill, wait for a leader).

use std::pin::Pin;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::generic::{ContextExt, Runtime};
use pyo3_async_runtimes::tokio::get_runtime;
use tokio::task::{JoinError, JoinHandle};

use super::errors::{EnsembleError, ForkError};

/// Runs `work` on this thread while other Python threads go on.
pub(super) fn block<T: Send>(py: Python<'_>, work: impl FnOnce() -> PyResult<T> + Send) -> PyResult<T> {
    py.detach(work)
}

/// How often a wait looks for signals: Ctrl-C must not feel dead.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// As [`block`], for what may take long: signals are handled meanwhile, and an exception of their handler
/// (`KeyboardInterrupt`) gives up the wait. What was asked of a server still happens to it.
pub(super) fn wait<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> PyResult<T> + Send + 'static,
) -> PyResult<T> {
    let (done, result) = sync_channel(1);
    let thread = std::thread::Builder::new().name("zabkit-wait".to_owned()).spawn(move || {
        let _ = done.send(work()); // Nobody waits for it any more.
    });
    let thread = thread.map_err(|error| EnsembleError::new_err(format!("cannot start a thread: {error}")))?;
    // Received where the GIL is not held, since another thread may be waiting for it; never both at once.
    let result = Mutex::new(result);
    loop {
        let received = py.detach(|| result.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(SIGNALS_EVERY));
        match received {
            Ok(done) => {
                let _ = py.detach(|| thread.join());
                return done;
            }
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => return Err(EnsembleError::new_err("a bug of zabkit: it panicked")),
        }
    }
}

/// Starts `work` on a thread of the awaitables' runtime; the `asyncio.Future` of the running loop has its result.
///
/// Cancelling the future gives up the result, not the work: what was asked of a server still happens to it.
pub(super) fn later<T>(
    py: Python<'_>,
    work: impl FnOnce() -> PyResult<T> + Send + 'static,
) -> PyResult<Bound<'_, PyAny>>
where
    T: Send + 'static + for<'py> IntoPyObject<'py>,
{
    prepare_runtime()?;
    pyo3_async_runtimes::generic::future_into_py::<Counted, _, _>(py, async move {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|failed| Err(EnsembleError::new_err(format!("a bug of zabkit: {failed}"))))
    })
}

/// The process whose threads complete the futures.
static OWNER: OnceLock<u32> = OnceLock::new();

/// Keeps the runtime small, once, and to the process that first used it: its threads are in no forked child.
fn prepare_runtime() -> PyResult<()> {
    let owner = *OWNER.get_or_init(|| {
        // One worker is plenty: it hands work to blocking threads and takes the results.
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("zabkit-await").enable_all();
        pyo3_async_runtimes::tokio::init(builder);
        std::process::id()
    });
    let here = std::process::id();
    if here == owner {
        return Ok(());
    }
    Err(ForkError::new_err(format!(
        "the awaitables' threads run in process {owner}; in process {here}, a forked child, use zabkit.blocking"
    )))
}

/// Tokio for pyo3-async-runtimes, with a count of the threads that are attached to Python.
///
/// What completes a future wakes its loop first and lets go of Python's objects afterwards. A program that ends with
/// that future may be finalizing by then, and the thread would crash it: so [`end`] waits for the last one.
struct Counted;

#[derive(Default)]
struct Attached {
    threads: usize,
    has_ended: bool,
}

static ATTACHED: Mutex<Attached> = Mutex::new(Attached { threads: 0, has_ended: false });
static DETACHED: Condvar = Condvar::new();

impl Runtime for Counted {
    type JoinError = JoinError;
    type JoinHandle = JoinHandle<()>;

    fn spawn<F: Future<Output = ()> + Send + 'static>(fut: F) -> Self::JoinHandle {
        get_runtime().spawn(fut)
    }

    fn spawn_blocking<F: FnOnce() + Send + 'static>(f: F) -> Self::JoinHandle {
        get_runtime().spawn_blocking(move || {
            {
                let mut attached = ATTACHED.lock().unwrap_or_else(PoisonError::into_inner);
                if attached.has_ended {
                    return std::mem::forget(f); // Its Python objects are the interpreter's, which is gone.
                }
                attached.threads += 1;
            }
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
            ATTACHED.lock().unwrap_or_else(PoisonError::into_inner).threads -= 1;
            DETACHED.notify_all();
            if let Err(panic) = done {
                std::panic::resume_unwind(panic);
            }
        })
    }
}

impl ContextExt for Counted {
    fn scope<F, R>(_: TaskLocals, fut: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        Box::pin(fut) // The work is Rust's alone: nothing in it asks for a loop.
    }

    fn get_task_locals() -> Option<TaskLocals> {
        None
    }
}

/// At the interpreter's exit: from now on no thread of the awaitables attaches, and none is attached when it returns.
pub(super) fn end(py: Python<'_>) {
    if OWNER.get() != Some(&std::process::id()) {
        return; // Never used, or a forked child, where those threads are not.
    }
    py.detach(|| {
        let mut attached = ATTACHED.lock().unwrap_or_else(PoisonError::into_inner);
        attached.has_ended = true;
        while attached.threads > 0 {
            attached = DETACHED.wait(attached).unwrap_or_else(PoisonError::into_inner);
        }
    });
}
