//! What went wrong with a call, as an exception of `zabkit.errors`.
//!
//! Python has the classes and knows which is whose ([`error`] calls its one function); Rust says what happened. An
//! exception is made when a call has failed, so a call that succeeds pays nothing for it.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::client::{CallError, Failure, State};

/// What `zabkit.errors._error` makes an exception from.
enum Kind {
    /// ZooKeeper's code.
    Code(i32),
    /// A failure that ZooKeeper has no code for.
    Word(&'static str),
}

/// The exception for a call that has failed.
pub(super) fn failure<'py>(py: Python<'py>, failure: Failure, path: Option<&Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
    let unknown = failure.is_outcome_unknown();
    let (kind, message) = match failure {
        Failure::Server(code) => (Kind::Code(code), String::new()),
        Failure::ConnectionLoss { sent: true } => {
            (Kind::Code(failure.code()), "the link broke before the answer".to_owned())
        }
        Failure::ConnectionLoss { sent: false } => {
            (Kind::Code(failure.code()), "no server could be reached in time; nothing was sent".to_owned())
        }
        Failure::Closed { .. } => (Kind::Word("closed"), "the client was closed before the answer".to_owned()),
        Failure::ReplyTooLong { length } => {
            (Kind::Code(failure.code()), format!("the answer takes {length} bytes, more than a client reads"))
        }
        Failure::Malformed => (Kind::Code(failure.code()), "the answer cannot be read".to_owned()),
        _ => (Kind::Code(failure.code()), String::new()),
    };
    error(py, kind, path, unknown, &message)
}

/// The exception for one part of a multi.
pub(super) fn code<'py>(py: Python<'py>, code: i32, path: Option<&Py<PyAny>>) -> PyResult<Bound<'py, PyAny>> {
    error(py, Kind::Code(code), path, false, "")
}

/// What a call raises that is not even queued.
pub(super) fn refused(py: Python<'_>, refused: &CallError, path: Option<&Py<PyAny>>) -> PyErr {
    let kind = match refused {
        CallError::Path { .. } => Kind::Word("bad_path"),
        CallError::TooLong { .. } => Kind::Word("too_large"),
        CallError::Full { .. } => Kind::Word("queue_full"),
        CallError::Over(State::AuthFailed) => Kind::Code(crate::records::ErrorCode::AuthFailed.code()),
        CallError::Over(_) => Kind::Word("closed"),
    };
    match error(py, kind, path, false, &refused.to_string()) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

fn error<'py>(
    py: Python<'py>,
    kind: Kind,
    path: Option<&Py<PyAny>>,
    outcome_unknown: bool,
    message: &str,
) -> PyResult<Bound<'py, PyAny>> {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let make = MAKE.import(py, "zabkit.errors", "_error")?;
    match kind {
        Kind::Code(code) => make.call1((code, path, outcome_unknown, message)),
        Kind::Word(word) => make.call1((word, path, outcome_unknown, message)),
    }
}
