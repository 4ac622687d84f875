//! The private extension module `zabkit._zabkit`; `zabkit` (in `python/zabkit/`) is its public face.
//!
//! Only here does Rust attach to a Python interpreter, and only on Python's own threads and on the small runtime that
//! completes awaitables ([`task`]). A thread of a server never attaches: a program that holds the GIL, or a debugger
//! that stops every Python thread, must not cost an ensemble its leader.

mod client;
mod client_calls;
mod client_errors;
mod client_host;
mod client_link;
mod client_transport;
mod ensemble;
mod errors;
mod logging;
mod owned;
mod server;
mod stat;
mod status;
mod task;

use pyo3::prelude::*;

/// The compiled half of `zabkit`.
#[pymodule]
mod _zabkit {
    #[pymodule_export]
    use super::client::ClientCore;
    #[pymodule_export]
    use super::ensemble::EnsembleCore;
    #[pymodule_export]
    use super::server::ServerCore;
    #[pymodule_export]
    use super::stat::Stat;

    /// Sends the servers' log lines to stderr, in Apache's layout; `RUST_LOG` filters, default `info`.
    #[pyo3::pyfunction]
    fn log_to_stderr() {
        crate::server::log::init();
    }

    /// From now on log lines of this level (Python's number) and above can be taken by `log_lines`.
    #[pyo3::pyfunction]
    #[pyo3(signature = (level, /))]
    fn log_begin(level: i64) -> pyo3::PyResult<()> {
        super::logging::begin(level)
    }

    /// Waits without the GIL for log lines, at most `limit`; None after `log_end`, when all have been taken.
    #[pyo3::pyfunction]
    #[pyo3(signature = (limit, /))]
    fn log_lines(py: pyo3::Python<'_>, limit: usize) -> Option<Vec<super::logging::LineTuple>> {
        super::logging::lines(py, limit)
    }

    /// Ends the log lines.
    #[pyo3::pyfunction]
    fn log_end(py: pyo3::Python<'_>) {
        super::logging::end(py);
    }

    /// Called at exit: waits until no thread of the awaitables is attached.
    #[pyo3::pyfunction]
    fn end_awaitables(py: pyo3::Python<'_>) {
        super::task::end(py);
    }

    /// The version of the crate, which is the version of the wheel.
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
