//! Snapshot items become a tree: in recovery from a file, on a learner from the leader's stream.
//!
//! Apache's snapshots are fuzzy: they may hold the effects of later transactions, and a node may name an ACL that the
//! table, written earlier, does not have. Such a node is loaded with a list that gives nobody a permission (an empty
//! one would give everybody all) until the log is replayed.
//!
//! ZooKeeper: `DataTree.deserialize`.

use super::acl_table::AclId;
use super::node::NodeId;
use super::quota;
use super::{DataTree, QUOTA_PATH};
use crate::records::{Acl, Id, OPEN_ACL_KEY, SessionId, SnapshotItem, SnapshotNode, parent_and_name};
use std::collections::BTreeMap;

/// Why the items of a snapshot are not a tree: the snapshot cannot be used, an older one may be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A znode comes before its parent.
    #[error("the snapshot has {path:?} without a parent before it")]
    NoParent { path: String },
    /// A znode comes twice.
    #[error("the snapshot has {path:?} twice")]
    Duplicate { path: String },
    /// A znode has no name.
    #[error("the snapshot has {path:?}, which is no path")]
    BadPath { path: String },
    /// Items are missing at the end, or follow it.
    #[error("the snapshot does not end where it should")]
    NotEnded,
    /// There is not even a root.
    #[error("the snapshot has no root znode")]
    NoRoot,
}

/// Builds a tree from the items of a snapshot.
pub struct TreeLoader {
    tree: DataTree,
    sessions: BTreeMap<SessionId, i32>,
    /// By the snapshot's key. The loader holds one use of each until the end.
    acls: BTreeMap<i64, AclId>,
    /// For keys that the snapshot does not have.
    no_acl: AclId,
    has_root: bool,
    ended: bool,
    /// The parent of the last node: often that of the next one too.
    last_parent: (String, NodeId),
}

impl Default for TreeLoader {
    fn default() -> Self {
        Self::new()
    }
}

impl TreeLoader {
    pub fn new() -> TreeLoader {
        let mut tree = DataTree::with_root_only();
        let no_acl = tree.nodes.acls.acquire(&[Acl { perms: 0, id: Id::world_anyone() }]);
        TreeLoader {
            tree,
            sessions: BTreeMap::new(),
            acls: BTreeMap::from([(OPEN_ACL_KEY, AclId::OPEN)]),
            no_acl,
            has_root: false,
            ended: false,
            last_parent: (String::new(), NodeId::ROOT),
        }
    }

    /// Makes room for about `nodes` znodes, so that loading does not stop to grow.
    pub fn reserve(&mut self, nodes: usize) {
        self.tree.nodes.arena.reserve(nodes);
    }

    /// Takes the next item of the body.
    pub fn push(&mut self, item: SnapshotItem) -> Result<(), LoadError> {
        if self.ended {
            return Err(LoadError::NotEnded);
        }
        match item {
            SnapshotItem::SessionCount(_) | SnapshotItem::AclCount(_) => {}
            SnapshotItem::Session(session) => {
                self.sessions.insert(session.session, session.timeout_ms);
            }
            SnapshotItem::Acl(entry) => {
                let id = self.tree.nodes.acls.acquire(&entry.acl);
                if let Some(former) = self.acls.insert(entry.key, id) {
                    self.tree.nodes.acls.release(former);
                }
            }
            SnapshotItem::Node(node) => return self.push_node(node),
            SnapshotItem::End => self.ended = true,
        }
        Ok(())
    }

    fn push_node(&mut self, node: SnapshotNode) -> Result<(), LoadError> {
        let SnapshotNode { path, data, acl_key, stat } = node;
        let found = self.acls.get(&acl_key).copied();
        let acl = found.unwrap_or(self.no_acl);
        self.tree.nodes.acls.acquire_again(acl);
        let id = if path.is_empty() {
            if std::mem::replace(&mut self.has_root, true) {
                return Err(LoadError::Duplicate { path });
            }
            self.tree.set_stat(NodeId::ROOT, acl, &stat);
            self.tree.replace_data(NodeId::ROOT, data.as_deref());
            self.tree.refresh_digest(NodeId::ROOT, "");
            NodeId::ROOT
        } else {
            let Some((parent_path, name)) = parent_and_name(&path).filter(|(_, name)| !name.is_empty()) else {
                return Err(LoadError::BadPath { path });
            };
            if self.last_parent.0 != parent_path {
                match self.tree.nodes.arena.find(parent_path).filter(|_| parent_path != "/") {
                    Some(parent) => self.last_parent = (parent_path.into(), parent),
                    None => return Err(LoadError::NoParent { path }),
                }
            }
            let place = (path.as_str(), self.last_parent.1, name);
            match self.tree.add_node(place, data.as_deref(), acl, &stat) {
                Some(id) => id,
                None => return Err(LoadError::Duplicate { path }),
            }
        };
        if found.is_none() {
            self.tree.without_acl.insert(id);
        }
        Ok(())
    }

    /// The tree and the sessions (timeouts in ms), once the end has been pushed.
    pub fn finish(mut self) -> Result<(DataTree, BTreeMap<SessionId, i32>), LoadError> {
        if !self.ended {
            return Err(LoadError::NotEnded);
        }
        if !self.has_root {
            return Err(LoadError::NoRoot);
        }
        for id in self.acls.into_values().chain([self.no_acl]) {
            self.tree.nodes.acls.release(id); // Lists that no node uses go.
        }
        self.tree.register_quotas();
        Ok((self.tree, self.sessions))
    }
}

impl DataTree {
    /// Finds the quotas that a snapshot holds, and counts their usage again.
    fn register_quotas(&mut self) {
        let arena = &self.nodes.arena;
        let Some(top) = arena.find(QUOTA_PATH) else {
            return;
        };
        let limits = self.subtree(top).filter(|&id| arena.name(id) == quota::LIMITS);
        let parents: Vec<String> = limits.map(|id| arena.path(arena.get(id).parent)).collect();
        for limited in parents.iter().filter_map(|parent| quota::quota_of(parent)) {
            self.quotas.insert(limited);
            self.recount_usage(limited);
        }
    }
}
