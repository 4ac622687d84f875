//! How long sessions live, and on which servers.
//!
//! ZooKeeper: `QuorumPeerConfig`.

use super::ConfigError;
use super::value::Value;

/// How long sessions live, and on which servers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionsConfig {
    /// `minSessionTimeout`; `None`: 2 ticks.
    pub min_timeout_ms: Option<u32>,
    /// `maxSessionTimeout`; `None`: 20 ticks.
    pub max_timeout_ms: Option<u32>,
    /// `readonlymode.enabled`.
    pub read_only_mode: bool,
}

impl SessionsConfig {
    /// Takes the key if it is one of this area.
    pub(super) fn take(&mut self, value: &Value<'_>) -> Result<bool, ConfigError> {
        match value.key {
            "minSessionTimeout" => self.min_timeout_ms = value.number_or_none()?,
            "maxSessionTimeout" => self.max_timeout_ms = value.number_or_none()?,
            "readonlymode.enabled" => self.read_only_mode = value.boolean()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}
