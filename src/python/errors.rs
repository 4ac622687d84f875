//! Rust's errors as `zabkit.errors`' exceptions, with every cause in the message.

use std::error::Error;
use std::fmt::Write as _;

use pyo3::PyErr;

pyo3::import_exception!(zabkit.errors, ClosedError);
pyo3::import_exception!(zabkit.errors, EnsembleError);
pyo3::import_exception!(zabkit.errors, ForkError);
pyo3::import_exception!(zabkit.errors, NoLeaderError);
pyo3::import_exception!(zabkit.errors, StartError);

/// `StartError` with the message of `error` and of all that caused it.
pub(super) fn start_error(error: &dyn Error) -> PyErr {
    StartError::new_err(with_causes(error))
}

/// One line: the message of `error`, then of each source that the messages before it do not tell already.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !text.contains(&told) {
            let _ = write!(text, ": {told}"); // Writing to a String cannot fail.
        }
        source = cause.source();
    }
    text
}
