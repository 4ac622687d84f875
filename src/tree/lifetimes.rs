//! When a container or a TTL node may be removed.
//!
//! ZooKeeper: `ContainerManager.getCandidates`.

use super::node::NodeId;
use crate::records::{Owner, StatPersisted};

/// Where a look at all containers and TTL nodes goes on. The node may be gone by then.
#[derive(Clone, Copy, Debug)]
pub struct ReapMark(pub(super) NodeId);

/// What decides whether a node's life is over.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Wall clock, ms since 1970 UTC.
    pub now_ms: i64,
    /// A container that never had a child lives so long, ms; 0: for ever.
    pub never_used_ms: i64,
    /// TTL nodes are removed. Where Apache has no extended types they are ephemerals of nobody, and stay.
    pub with_ttl: bool,
}

impl Lifetimes {
    /// Whether a node with this stat and number of children may be removed. Time counts from the last write to it.
    pub fn are_over(&self, stat: &StatPersisted, child_count: i32) -> bool {
        let age_ms = self.now_ms.saturating_sub(stat.mtime);
        child_count == 0
            && match Owner::from_stored(stat.ephemeral_owner, true) {
                // One that is new would go before its first child comes.
                Owner::Container if stat.cversion <= 0 => self.never_used_ms != 0 && age_ms > self.never_used_ms,
                Owner::Container => true,
                Owner::Ttl { ttl_ms } => self.with_ttl && ttl_ms != 0 && age_ms > ttl_ms,
                Owner::Persistent | Owner::Ephemeral(_) => false,
            }
    }
}
