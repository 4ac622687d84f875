//! Kinds of znodes, their reaping, and quotas.
//!
//! ZooKeeper: `ContainerManager`, `EphemeralType`, `ZooKeeperServer`.

use super::ConfigError;
use super::value::Value;
use crate::peer::ReaperConfig;

/// With TTL nodes a server's id must leave the mark of their owner field free: 0xff in its highest byte.
pub(super) const EXTENDED_SERVER_ID_MAX: i64 = 0xfe;

/// Kinds of znodes, their reaping, and quotas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodesConfig {
    /// `extendedTypesEnabled`: TTL nodes. `None`: not set, which is off.
    pub extended_types: Option<bool>,
    /// `emulate353TTLNodes`; not supported, said at the start.
    pub emulate_353_ttl: bool,
    /// `enforceQuota`.
    pub enforce_quota: bool,
    /// `reconfigEnabled`.
    pub reconfig: bool,
    /// `closeSessionTxn.enabled`, the other way around.
    pub close_session_without_list: bool,
    /// `znode.container.*`.
    pub reaper: ReaperConfig,
}

impl NodesConfig {
    /// Takes the key if it is one of this area.
    pub(super) fn take(&mut self, value: &Value<'_>) -> Result<bool, ConfigError> {
        match value.key {
            "extendedTypesEnabled" => self.extended_types = Some(value.boolean()?),
            "emulate353TTLNodes" => self.emulate_353_ttl = value.boolean()?,
            "enforceQuota" => self.enforce_quota = value.boolean()?,
            "reconfigEnabled" => self.reconfig = value.boolean()?,
            "closeSessionTxn.enabled" => self.close_session_without_list = !value.boolean()?,
            "znode.container.checkIntervalMs" => self.reaper.check_interval_ms = value.number()?,
            "znode.container.maxPerMinute" => {
                self.reaper.max_per_minute = value.number()?;
                if self.reaper.max_per_minute == 0 {
                    return Err(value.invalid("at least 1 is needed; checkIntervalMs=0 ends the reaping"));
                }
            }
            "znode.container.maxNeverUsedIntervalMs" => self.reaper.max_never_used_ms = value.number()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}
