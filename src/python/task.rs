//! How a call that blocks is offered to Python twice: blocking without the GIL, and as an `asyncio.Future`.
//!
//! Futures are completed by pyo3-async-runtimes on a runtime of its own, apart from every server's: its threads do
//! attach to Python, so nothing of a server may ever run on them. It is far too slow for requests and right for what
//! happens once in a test (start, stop, kill, wait for a leader).

use std::sync::OnceLock;

use pyo3::prelude::*;

use super::errors::{EnsembleError, ForkError};

/// Runs `work` on this thread while other Python threads go on.
pub(super) fn block<T: Send>(py: Python<'_>, work: impl FnOnce() -> PyResult<T> + Send) -> PyResult<T> {
    py.detach(work)
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
    pyo3_async_runtimes::tokio::future_into_py(py, async move {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|failed| Err(EnsembleError::new_err(format!("a bug of zabkit: {failed}"))))
    })
}

/// Keeps the runtime small, once, and to the process that first used it: its threads are in no forked child.
fn prepare_runtime() -> PyResult<()> {
    static OWNER: OnceLock<u32> = OnceLock::new();
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
