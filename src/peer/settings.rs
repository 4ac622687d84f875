//! What an operator sets and the database reads: plain data, the same from a server's start to its end.

use super::auth::AuthSettings;
use super::limits::RequestLimits;
use crate::records::TXN_BYTES_MAX;

/// Rules of one server; the default is Apache's.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Who clients are, and what they may do.
    pub auth: AuthSettings,
    pub nodes: NodeSettings,
    /// What clients may have at a time.
    pub requests: RequestLimits,
}

/// Which znodes there may be, and how large a transaction.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// TTL nodes may be created, and are reaped. ZooKeeper: `extendedTypesEnabled`.
    pub extended_types: bool,
    /// Hard limits of quotas refuse writes, soft ones are noted. ZooKeeper: `enforceQuota`.
    pub enforce_quota: bool,
    /// ZooKeeper: `reconfigEnabled`.
    pub reconfig: bool,
    /// The end of a session lists the ephemerals that go with it. ZooKeeper: `closeSessionTxn.enabled`.
    pub close_session_lists: bool,
    /// Bytes of a transaction with its header and digest, at most: a longer one could not be read back, from a log or
    /// a link. ZooKeeper: `jute.maxbuffer` and its `extrasize`, in all that servers read.
    pub txn_bytes_max: usize,
}

impl Default for NodeSettings {
    fn default() -> Self {
        NodeSettings {
            extended_types: false,
            enforce_quota: false,
            reconfig: false,
            close_session_lists: true,
            txn_bytes_max: TXN_BYTES_MAX,
        }
    }
}
