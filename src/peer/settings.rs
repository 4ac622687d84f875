//! What an operator sets and the database reads: plain data, the same from a server's start to its end.

/// Rules of one server; the default is Apache's.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whoever authenticates to this id of scheme `digest` passes every check. ZooKeeper:
    /// `DigestAuthenticationProvider.superDigest`.
    pub super_digest: Option<String>,
}
