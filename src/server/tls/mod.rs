//! TLS by rustls: stores of keys and certificates under Apache's key names, who is trusted, and one connection's
//! session.
//!
//! [`TlsPort`] is what a port has: it makes a [`TlsSession`] for each connection, from the files as they are now. Nothing
//! here knows a client or a prefix of keys, so that TLS between servers is the same with other settings.
//!
//! ZooKeeper: `X509Util`, `ZKTrustManager`, `org.apache.zookeeper.common`.

mod certificate;
mod dialing;
mod failure;
mod jks;
mod names;
mod pem;
mod pkcs12;
mod port;
mod protocols;
mod session;
mod stores;
mod verifier;

#[cfg(test)]
mod test_files;
#[cfg(test)]
mod tests;

pub use dialing::{check_names, plain_names};
pub use failure::{reason, reason_between_servers};
pub use names::subject;
pub use port::{TlsPort, reload};
pub use session::TlsSession;

use std::path::PathBuf;

/// Why TLS cannot be set up. Exit code 2 when the server starts; a server that runs keeps what it has.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A key that is needed is not there: add it.
    #[error("{key} is not set: {remedy}")]
    Missing { key: String, remedy: &'static str },
    /// A value cannot be used: correct it.
    #[error("{key}={value}: {reason}")]
    Setting { key: String, value: String, reason: String },
    /// A file is not there or not readable: check its path and its permissions.
    #[error("{key}: cannot read {}: {source}", .path.display())]
    Read { key: String, path: PathBuf, source: std::io::Error },
    /// A file does not hold what its key says, or needs another password.
    #[error("{key}: {}: {reason}", .path.display())]
    Store { key: String, path: PathBuf, reason: String },
}
