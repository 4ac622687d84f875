//! Kinds of znodes, their reaping, and quotas.
//!
//! ZooKeeper: `ContainerManager`, `EphemeralType`, `ZooKeeperServer`.

use super::ConfigError;
use super::value::Value;

/// Kinds of znodes, their reaping, and quotas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodesConfig {}

impl NodesConfig {
    /// Takes the key if it is one of this area.
    pub(super) fn take(&mut self, value: &Value<'_>) -> Result<bool, ConfigError> {
        let _ = value;
        Ok(false)
    }
}
