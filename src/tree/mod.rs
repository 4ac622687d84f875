//! The znodes: an arena of nodes with their stats, ACLs, digests and watches, changed by transactions alone.
//!
//! Two trees that applied the same transactions are equal, also when some of them were applied twice (a snapshot may
//! already hold them): `apply` follows ZooKeeper's replay rules. The one thing that is easy to get wrong: a
//! transaction is never refused. Whatever is odd about it becomes its result code, the same on every server.
//!
//! ZooKeeper: `DataTree`, `DataNode`, `WatchManager`.

// A skeleton: the bodies follow at once.
#![allow(unused_variables, dead_code, clippy::ptr_arg)]

pub mod acl;
pub mod digest;
mod result;
mod snapshot;
mod watch;

pub use result::{Change, ChangeKind, ResultBody, TxnResult};
pub use snapshot::{CursorId, LoadError, TreeLoader};
pub use watch::{WatchCounts, WatchLists, WatchManager, WatchMode, WatchTable, WatcherId, WatcherType};

use crate::records::{Acl, Owner, SessionId, Stat, StatPersisted, TxnBody, Zxid};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The tree of znodes. ZooKeeper: `DataTree`.
pub struct DataTree {}

/// A znode, borrowed from its tree.
#[derive(Clone, Copy)]
pub struct NodeRef<'a> {
    tree: &'a DataTree,
}

impl Default for DataTree {
    fn default() -> Self {
        Self::new()
    }
}

impl DataTree {
    /// Apache's empty tree: `/`, `/zookeeper`, `/zookeeper/quota`, `/zookeeper/config`, all stats 0.
    pub fn new() -> DataTree {
        todo!()
    }
    /// The znode at `path`; `""` and `/` are the root. Any string may be asked for: what is no path is not there.
    pub fn get(&self, path: &str) -> Option<NodeRef<'_>> {
        todo!()
    }
    /// The tree digest, version 2: the wrapping sum of the digests of all znodes.
    pub fn digest(&self) -> i64 {
        todo!()
    }
    /// The number of znodes as ZooKeeper counts them, the root twice (5 in an empty tree).
    pub fn node_count(&self) -> usize {
        todo!()
    }
    /// The bytes of all paths and data, as ZooKeeper counts them (44 in an empty tree).
    pub fn approximate_data_size(&self) -> u64 {
        todo!()
    }
    /// The number of ephemeral znodes.
    pub fn ephemeral_count(&self) -> usize {
        todo!()
    }
    /// The paths of the ephemerals of `session`, sorted.
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = String> {
        todo!() as std::iter::Empty<String>
    }
    /// The sessions that own ephemerals, ascending.
    pub fn ephemeral_owners(&self) -> impl Iterator<Item = SessionId> {
        todo!() as std::iter::Empty<SessionId>
    }
    /// The number of znodes below `path`; `None` without a znode there.
    pub fn descendant_count(&self, path: &str) -> Option<i32> {
        todo!()
    }
    /// The paths of containers and TTL nodes that may be removed at `now_ms`, sorted. Containers that never had a
    /// child only if `container_never_used_ms` is not 0 and they are older.
    pub fn reapable(&self, now_ms: i64, container_never_used_ms: i64) -> Vec<String> {
        todo!()
    }
    /// Whether `path` lies under a quota that a create or set (`count_diff`, `bytes_diff`) would exceed.
    pub fn exceeds_quota(&self, path: &str, count_diff: i64, bytes_diff: i64) -> bool {
        todo!()
    }
    /// Applies one transaction, whose `session` owns what is ephemeral in it; again, if it was applied already
    /// (`disk-format` section 5). `on_change` is called for each change of a znode, in order, after it.
    pub fn apply<'t>(
        &mut self,
        session: SessionId,
        zxid: Zxid,
        time_ms: i64,
        body: &'t TxnBody,
        on_change: &mut dyn FnMut(Change<'_>),
    ) -> TxnResult<'t> {
        todo!()
    }
    /// Sets `/zookeeper/config` from the configuration of the ensemble, not from a transaction: version -1, mzxid
    /// the configuration's `version`, mtime this server's clock.
    pub fn set_config(&mut self, data: &[u8], version: i64, time_ms: i64) {
        todo!()
    }
    /// Begins a snapshot of the tree as it is now, and of `sessions` (timeouts in ms). `None`: 8 are under way.
    pub fn begin_snapshot(&mut self, sessions: &BTreeMap<SessionId, i32>) -> Option<CursorId> {
        todo!()
    }
    /// Appends about `max_bytes` of the snapshot's body to `out`; true when that was the end of it. Items may be cut
    /// between chunks.
    pub fn next_chunk(&self, cursor: CursorId, max_bytes: usize, out: &mut Vec<u8>) -> bool {
        todo!()
    }
    /// Ends a snapshot, done or not.
    pub fn end_snapshot(&mut self, cursor: CursorId) {
        todo!()
    }
}

impl<'a> NodeRef<'a> {
    /// `None` is null, which is not the same as empty.
    pub fn data(&self) -> Option<&'a [u8]> {
        todo!()
    }
    /// The stat as clients see it.
    pub fn stat(&self) -> Stat {
        todo!()
    }
    /// The stat as logs and snapshots hold it.
    pub fn persisted(&self) -> StatPersisted {
        todo!()
    }
    pub fn acl(&self) -> &'a Arc<[Acl]> {
        todo!()
    }
    pub fn owner(&self) -> Owner {
        todo!()
    }
    /// The names of the children, the youngest first.
    pub fn children(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        todo!() as std::iter::Empty<&'a str>
    }
    pub fn child_count(&self) -> i32 {
        todo!()
    }
    /// The node's share of the tree digest: 0 below `/zookeeper/`.
    pub fn digest(&self) -> u32 {
        todo!()
    }
}
