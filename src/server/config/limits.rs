//! What clients may ask for at most: connections, bytes, requests.
//!
//! ZooKeeper: `QuorumPeerConfig`, `ServerCnxnFactory`, `RequestThrottler`.

use super::ConfigError;
use super::value::Value;

/// What clients may ask for at most: connections, bytes, requests.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    /// `maxClientCnxns`, for each client address; 0: no limit.
    pub max_client_cnxns: u32,
    /// `maxCnxns`, in all; 0: no limit.
    pub max_cnxns: u32,
    /// `clientPortListenBacklog`; -1: the system's.
    pub client_backlog: i32,
    /// `nio.sessionlessCnxnTimeout`: a connection without a connect request is closed after it.
    pub sessionless_timeout_ms: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig { max_client_cnxns: 60, max_cnxns: 0, client_backlog: -1, sessionless_timeout_ms: 10_000 }
    }
}

impl LimitsConfig {
    /// Takes the key if it is one of this area.
    pub(super) fn take(&mut self, value: &Value<'_>) -> Result<bool, ConfigError> {
        match value.key {
            "maxClientCnxns" => self.max_client_cnxns = value.number()?,
            "maxCnxns" => self.max_cnxns = value.number()?,
            "clientPortListenBacklog" => self.client_backlog = value.signed()?.clamp(-1, 65_535) as i32,
            "nio.sessionlessCnxnTimeout" => self.sessionless_timeout_ms = value.number()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}
