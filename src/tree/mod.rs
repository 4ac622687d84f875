//! The znodes: an arena of nodes with their stats, ACLs, digests and watches, changed by transactions alone.
//!
//! Two trees that applied the same transactions are equal, also when some of them were applied twice (a snapshot may
//! already hold them): [`DataTree::apply`] follows ZooKeeper's replay rules. The one thing that is easy to get wrong:
//! a transaction is never refused. Whatever is odd about it becomes its result code, the same on every server.
//!
//! Inside: [`blocks`] and [`arena`] hold bytes and links, [`nodes`] adds what few nodes have, [`edit`] makes single
//! changes and keeps everything that depends on them, [`apply`] makes a transaction of them.
//!
//! ZooKeeper: `DataTree`, `DataNode`, `WatchManager`.

pub mod acl;
mod acl_table;
mod apply;
mod arena;
mod blocks;
pub mod digest;
mod edit;
mod ephemerals;
mod loader;
mod node;
mod nodes;
mod quota;
mod result;
mod snapshot;
mod watch;

pub use loader::{LoadError, TreeLoader};
pub use result::{Change, ChangeKind, ResultBody, TxnResult};
pub use snapshot::CursorId;
pub use watch::{WatchCounts, WatchLists, WatchManager, WatchMode, WatchTable, WatcherId, WatcherType};

use crate::records::{Acl, Owner, SessionId, Stat, StatPersisted, perms};
use ephemerals::Ephemerals;
use node::NodeId;
use nodes::Nodes;
use quota::{Quotas, StatsTrack};
use snapshot::Cursors;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The tree of znodes. ZooKeeper: `DataTree`.
pub struct DataTree {
    nodes: Nodes,
    /// Sum of the nodes' digests.
    digest: i64,
    /// Bytes of all paths and data.
    data_size: u64,
    ephemerals: Ephemerals,
    containers: BTreeSet<NodeId>,
    ttls: BTreeSet<NodeId>,
    quotas: Quotas,
    /// Nodes of a snapshot without the ACL that they name; see [`DataTree::without_acl`].
    without_acl: BTreeSet<NodeId>,
    cursors: Cursors,
}

/// A znode, borrowed from its tree.
#[derive(Clone, Copy)]
pub struct NodeRef<'a> {
    nodes: &'a Nodes,
    id: NodeId,
}

impl Default for DataTree {
    fn default() -> Self {
        Self::new()
    }
}

impl DataTree {
    /// Apache's empty tree: `/`, `/zookeeper`, `/zookeeper/quota`, `/zookeeper/config`, all zxids and times 0.
    pub fn new() -> DataTree {
        let mut tree = DataTree::with_root_only();
        // These children are not counted as created: the root shows cversion -1, `/zookeeper` -2.
        for path in ["/zookeeper", QUOTA_PATH] {
            tree.add_built_in(path, &[Acl::open()], 0);
        }
        tree.add_config();
        tree
    }

    fn with_root_only() -> DataTree {
        let mut tree = DataTree {
            nodes: Nodes::new(),
            digest: 0,
            data_size: 1, // The root's path `/`.
            ephemerals: Ephemerals::default(),
            containers: BTreeSet::new(),
            ttls: BTreeSet::new(),
            quotas: Quotas::default(),
            without_acl: BTreeSet::new(),
            cursors: Cursors::default(),
        };
        tree.refresh_digest(NodeId::ROOT, "");
        tree
    }

    fn add_config(&mut self) {
        let mut acl = Acl::open();
        acl.perms = perms::READ;
        self.add_built_in(CONFIG_PATH, &[acl], -1);
    }

    /// The znode at `path`; `""` and `/` are the root. Any string may be asked for: what is no path is not there.
    pub fn get(&self, path: &str) -> Option<NodeRef<'_>> {
        self.nodes.arena.find(path).map(|id| NodeRef { nodes: &self.nodes, id })
    }

    /// The tree digest, version 2: the wrapping sum of the digests of all znodes.
    pub fn digest(&self) -> i64 {
        self.digest
    }

    /// The number of znodes as ZooKeeper counts them, the root twice (5 in an empty tree).
    pub fn node_count(&self) -> usize {
        self.nodes.arena.len() + 1
    }

    /// The bytes of all paths and data, as ZooKeeper counts them (44 in an empty tree).
    pub fn approximate_data_size(&self) -> u64 {
        self.data_size
    }

    /// The number of ephemeral znodes.
    pub fn ephemeral_count(&self) -> usize {
        self.ephemerals.count()
    }

    /// The paths of the ephemerals of `session`, sorted.
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = String> {
        self.sorted_paths(self.ephemerals.of(session)).into_iter()
    }

    /// The sessions that own ephemerals, ascending.
    pub fn ephemeral_owners(&self) -> impl Iterator<Item = SessionId> {
        self.ephemerals.owners()
    }

    /// The number of znodes below `path`; `None` without a znode there.
    pub fn descendant_count(&self, path: &str) -> Option<i32> {
        let arena = &self.nodes.arena;
        let top = arena.find(path)?;
        if top == NodeId::ROOT {
            return Some((arena.len() - 1) as i32);
        }
        Some(self.subtree(top).skip(1).count() as i32)
    }

    /// The paths of containers and TTL nodes that may be removed at `now_ms`, sorted: without children, and a
    /// container only if it had some. One that never had a child only if `never_used_ms` is not 0 and it is older.
    pub fn reapable(&self, now_ms: i64, never_used_ms: i64) -> Vec<String> {
        let is_reapable = |&id: &NodeId| {
            let node = self.nodes.arena.get(id);
            let age_ms = now_ms.saturating_sub(node.mtime);
            node.first_child.is_none()
                && match self.nodes.owner(id) {
                    Owner::Container => node.created > 0 || (never_used_ms != 0 && age_ms > never_used_ms),
                    Owner::Ttl { ttl_ms } => ttl_ms != 0 && age_ms > ttl_ms,
                    Owner::Persistent | Owner::Ephemeral(_) => false,
                }
        };
        self.sorted_paths(self.containers.iter().chain(&self.ttls).copied().filter(is_reapable))
    }

    /// Whether a change of `count_diff` znodes and `bytes_diff` bytes at `path` would exceed a hard limit of the
    /// quota it is under. Limits are not enforced unless configured.
    pub fn exceeds_quota(&self, path: &str, count_diff: i64, bytes_diff: i64) -> bool {
        let Some(quota) = self.quotas.deepest(path) else {
            return false;
        };
        let read = |path: String| self.get(&path).map(|node| StatsTrack::parse(node.data().unwrap_or_default()));
        let (Some(limits), Some(usage)) = (read(quota::limits_path(quota)), read(quota::stats_path(quota))) else {
            return false; // As in ZooKeeper: without its two nodes a quota limits nothing.
        };
        let exceeds = |limit: i64, used: i64, diff: i64| diff != 0 && limit > -1 && used.saturating_add(diff) > limit;
        exceeds(limits.count_hard_limit(), usage.count(), count_diff)
            || exceeds(limits.byte_hard_limit(), usage.bytes(), bytes_diff)
    }

    /// The paths of znodes that were loaded from a snapshot which lacks their ACL, sorted. Replaying the log mends
    /// them; until then nobody but super has a permission on them.
    pub fn without_acl(&self) -> Vec<String> {
        self.sorted_paths(self.without_acl.iter().copied())
    }

    fn sorted_paths(&self, ids: impl Iterator<Item = NodeId>) -> Vec<String> {
        let mut paths: Vec<String> = ids.map(|id| self.nodes.arena.path(id)).collect();
        paths.sort_unstable();
        paths
    }

    /// `top` and all nodes below it, parents first.
    fn subtree(&self, top: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let arena = &self.nodes.arena;
        let end = arena.behind_subtree(top);
        std::iter::successors(Some(top), move |&id| arena.next(id).filter(|&next| Some(next) != end))
    }
}

/// Where the configuration of the ensemble can be read.
const CONFIG_PATH: &str = "/zookeeper/config";
const QUOTA_PATH: &str = quota::QUOTA_ROOT;

impl<'a> NodeRef<'a> {
    /// `None` is null, which is not the same as empty.
    pub fn data(&self) -> Option<&'a [u8]> {
        self.nodes.arena.data(self.id)
    }

    /// The stat as clients see it.
    pub fn stat(&self) -> Stat {
        self.nodes.stat(self.id)
    }

    /// The stat as logs and snapshots hold it.
    pub fn persisted(&self) -> StatPersisted {
        self.nodes.persisted(self.id)
    }

    pub fn acl(&self) -> &'a Arc<[Acl]> {
        self.nodes.acl(self.id)
    }

    pub fn owner(&self) -> Owner {
        self.nodes.owner(self.id)
    }

    /// The names of the children, the youngest first.
    pub fn children(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let arena = &self.nodes.arena;
        arena.children(self.id).map(|id| arena.name(id))
    }

    pub fn child_count(&self) -> i32 {
        self.nodes.rare(self.id).child_count
    }

    /// The node's share of the tree digest: 0 below `/zookeeper/`.
    pub fn digest(&self) -> u32 {
        self.nodes.arena.get(self.id).digest
    }
}
