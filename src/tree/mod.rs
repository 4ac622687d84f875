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
mod lifetimes;
mod loader;
mod node;
mod nodes;
mod quota;
mod result;
mod snapshot;
mod watch;
mod watch_store;

pub use lifetimes::{Lifetimes, ReapMark};
pub use loader::{LoadError, TreeLoader};
pub use quota::ExceededQuota;
pub use result::{Change, ChangeKind, ResultBody, TxnResult};
pub use snapshot::CursorId;
pub use watch::{Deliver, WatchCounts, WatchLists, WatchManager, WatchMode, WatchTable, WatcherId, WatcherType};

use crate::records::{Acl, Owner, SessionId, Stat, StatPersisted, perms};
use ephemerals::Ephemerals;
use node::NodeId;
use nodes::Nodes;
use quota::{Quotas, StatsTrack};
use snapshot::Cursors;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

/// The tree of znodes. ZooKeeper: `DataTree`.
pub struct DataTree {
    nodes: Nodes,
    /// Sum of the nodes' digests.
    digest: i64,
    /// Bytes of all paths and data.
    data_size: u64,
    ephemerals: Ephemerals,
    /// Containers and TTL nodes.
    mortals: BTreeSet<NodeId>,
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
            mortals: BTreeSet::new(),
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

    /// Looks at the next `max` containers and TTL nodes behind `mark`, in no order that means anything: the paths of
    /// those whose lifetime is over, and where to go on. `None`: these were the last.
    pub fn reapable(
        &self,
        mark: Option<ReapMark>,
        max: usize,
        lifetimes: &Lifetimes,
    ) -> (Vec<String>, Option<ReapMark>) {
        let behind = mark.map_or(Bound::Unbounded, |ReapMark(id)| Bound::Excluded(id));
        let mut left = self.mortals.range((behind, Bound::Unbounded));
        let (mut found, mut last) = (Vec::new(), None);
        for &id in left.by_ref().take(max) {
            last = Some(ReapMark(id));
            if lifetimes.are_over(&self.nodes.persisted(id), self.nodes.rare(id).child_count) {
                found.push(self.nodes.arena.path(id));
            }
        }
        (found, last.filter(|_| left.next().is_some()))
    }

    /// The limit, if any, that a change of `count_diff` znodes and `bytes_diff` bytes at `path` would go beyond, of the
    /// quota it is under; a hard one first. Where there is a hard limit the soft one does not count.
    pub fn exceeded_quota(&self, path: &str, count_diff: i64, bytes_diff: i64) -> Option<ExceededQuota> {
        let quota = self.quotas.deepest(path)?;
        let read = |path: String| self.get(&path).map(|node| StatsTrack::parse(node.data().unwrap_or_default()));
        // As in ZooKeeper: without its two nodes a quota limits nothing.
        let limits = read(quota::limits_path(quota))?;
        let usage = read(quota::stats_path(quota))?;
        let of_count = limits.count_limit().exceeded_by(quota, "count", usage.count(), count_diff);
        if of_count.as_ref().is_some_and(|exceeded| exceeded.is_hard) {
            return of_count;
        }
        let of_bytes = limits.bytes_limit().exceeded_by(quota, "bytes", usage.bytes(), bytes_diff);
        if of_bytes.as_ref().is_some_and(|exceeded| exceeded.is_hard) { of_bytes } else { of_count.or(of_bytes) }
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
