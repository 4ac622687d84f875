//! Who may do what: ACLs, authentication, super users.
//!
//! ZooKeeper: `QuorumPeerConfig`, `AuthenticationProvider`.

use super::ConfigError;
use super::value::Value;

/// Who may do what: ACLs, authentication, super users.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuthConfig {
    /// `DigestAuthenticationProvider.superDigest`: `user:base64(sha1(user:password))` of who passes every ACL.
    pub super_digest: Option<String>,
}

impl AuthConfig {
    /// Takes the key if it is one of this area.
    pub(super) fn take(&mut self, value: &Value<'_>) -> Result<bool, ConfigError> {
        match value.key {
            "DigestAuthenticationProvider.superDigest" => self.super_digest = Some(value.text.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}
