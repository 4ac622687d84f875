//! TLS on the client ports: stores, protocols, who must show a certificate.
//!
//! ZooKeeper: `X509Util`, `ClientX509Util`.

use super::ConfigError;
use super::value::Value;

/// TLS on the client ports: stores, protocols, who must show a certificate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsConfig {}

impl TlsConfig {
    /// Takes the key if it is one of this area.
    pub(super) fn take(&mut self, value: &Value<'_>) -> Result<bool, ConfigError> {
        let _ = value;
        Ok(false)
    }
}
