//! How long sessions live, and on which servers.
//!
//! ZooKeeper: `QuorumPeerConfig`.

use super::ConfigError;
use super::value::Value;
use crate::peer::SessionRules;

/// How long a server looks for a leader before it serves read-only; most elections take less. As Apache's.
const READ_ONLY_AFTER_MS: u32 = 2000;

/// How long sessions live, and on which servers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionsConfig {
    /// `minSessionTimeout`; `None`: 2 ticks.
    pub min_timeout_ms: Option<u32>,
    /// `maxSessionTimeout`; `None`: 20 ticks.
    pub max_timeout_ms: Option<u32>,
    /// `localSessionsEnabled`: new sessions are known only to the server of an ensemble that they were opened on.
    pub local: bool,
    /// `localSessionsUpgradingEnabled`: such a session becomes one of the ensemble with its first ephemeral.
    pub upgrade: bool,
    /// `readonlymode.enabled`: without a quorum, clients that allow it may read.
    pub read_only_mode: bool,
}

impl SessionsConfig {
    /// What the core needs of it.
    pub fn rules(&self) -> SessionRules {
        let &SessionsConfig { local, upgrade, read_only_mode, .. } = self;
        SessionRules { local, upgrade, read_only_after_ms: read_only_mode.then_some(READ_ONLY_AFTER_MS) }
    }

    /// Takes the key if it is one of this area.
    pub(super) fn take(&mut self, value: &Value<'_>) -> Result<bool, ConfigError> {
        match value.key {
            "minSessionTimeout" => self.min_timeout_ms = value.number_or_none()?,
            "maxSessionTimeout" => self.max_timeout_ms = value.number_or_none()?,
            "localSessionsEnabled" => self.local = value.boolean()?,
            "localSessionsUpgradingEnabled" => self.upgrade = value.boolean()?,
            "readonlymode.enabled" => self.read_only_mode = value.boolean()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}
