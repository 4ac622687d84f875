//! The private extension module `zabkit._zabkit`; `zabkit` (in `python/zabkit/`) is its public face.
//!
//! Only here does Rust attach to a Python interpreter. A server never waits for one: see [`crate`]'s `server`.

use pyo3::prelude::*;

/// The compiled half of `zabkit`.
#[pymodule]
mod _zabkit {
    /// The version of the crate, which is the version of the wheel.
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
