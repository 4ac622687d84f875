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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{SetAclTxn, SnapshotAcl, SnapshotSession, StatPersisted, TxnBody, Zxid};
    use crate::tree::acl::{AclRules, allows};

    fn stat() -> StatPersisted {
        StatPersisted {
            czxid: Zxid(1),
            mzxid: Zxid(2),
            ctime: 3,
            mtime: 4,
            version: 5,
            cversion: 6,
            aversion: 0,
            ephemeral_owner: 0,
            pzxid: Zxid(7),
        }
    }

    fn node(path: &str, acl_key: i64) -> SnapshotItem {
        SnapshotItem::Node(SnapshotNode { path: path.into(), data: Some(b"12".to_vec()), acl_key, stat: stat() })
    }

    fn owned(path: &str, ephemeral_owner: i64) -> SnapshotItem {
        let stat = StatPersisted { ephemeral_owner, ..stat() };
        SnapshotItem::Node(SnapshotNode { path: path.into(), data: None, acl_key: -1, stat })
    }

    type Loaded = Result<(DataTree, BTreeMap<SessionId, i32>), LoadError>;

    fn load(items: impl IntoIterator<Item = SnapshotItem>) -> Loaded {
        let mut loader = TreeLoader::new();
        items.into_iter().try_for_each(|item| loader.push(item))?;
        loader.finish()
    }

    fn error(loaded: Loaded) -> LoadError {
        loaded.err().expect("it is no tree")
    }

    #[test]
    fn a_tree_is_what_the_snapshot_says_and_no_more() {
        let session = SnapshotSession { session: SessionId(9), timeout_ms: 4000 };
        let (tree, sessions) =
            load([SnapshotItem::Session(session), node("", -1), node("/a", -1), SnapshotItem::End]).unwrap();
        assert_eq!(sessions, BTreeMap::from([(SessionId(9), 4000)]));
        assert_eq!(tree.get("/").unwrap().persisted(), stat());
        assert_eq!(tree.get("/a").unwrap().persisted(), stat());
        assert_eq!(tree.get("/a").unwrap().data(), Some(&b"12"[..]));
        assert_eq!((tree.node_count(), tree.approximate_data_size()), (3, 1 + 2 + 2 + 2));
        assert!(tree.get("/zookeeper").is_none());
    }

    #[test]
    fn owners_and_quotas_are_found_again() {
        let (tree, _) = load([
            node("", -1),
            node("/zookeeper", -1),
            node("/zookeeper/quota", -1),
            node("/zookeeper/quota/a", -1),
            node("/zookeeper/quota/a/zookeeper_limits", -1),
            node("/zookeeper/quota/a/zookeeper_stats", -1),
            node("/a", -1),
            owned("/a/e", 0x77),
            owned("/c", crate::records::CONTAINER_OWNER),
            SnapshotItem::End,
        ])
        .unwrap();
        assert_eq!(tree.ephemerals(SessionId(0x77)).collect::<Vec<_>>(), ["/a/e"]);
        let lifetimes = crate::tree::Lifetimes { now_ms: 0, never_used_ms: 0, with_ttl: true };
        assert_eq!(tree.reapable(None, 9, &lifetimes).0, ["/c"]);
        let usage = tree.get("/zookeeper/quota/a/zookeeper_stats").unwrap().data();
        assert_eq!(usage, Some(&b"count=2,bytes=2"[..]), "what the file says of it is not believed");
        assert!(tree.quotas.deepest("/a/b").is_some());
    }

    #[test]
    fn a_node_without_its_acl_is_closed_until_the_log_brings_one() {
        let acl = vec![Acl { perms: 1, id: Id::new("digest", "a:x") }];
        let known = SnapshotItem::Acl(SnapshotAcl { key: 5, acl: acl.clone() });
        let unused = SnapshotItem::Acl(SnapshotAcl { key: 6, acl: vec![] });
        let (mut tree, _) =
            load([known, unused, node("", -1), node("/a", 5), node("/b", 99), SnapshotItem::End]).unwrap();
        assert_eq!(**tree.get("/a").unwrap().acl(), acl);
        let ids = [Id::new("digest", "a:x")];
        assert!(!allows(&AclRules::default(), tree.get("/b").unwrap().acl(), &ids, crate::records::perms::ALL));
        assert_eq!(tree.without_acl(), ["/b"]);
        let body = TxnBody::SetAcl(SetAclTxn { path: "/b".into(), acl: acl.clone(), version: 1 });
        tree.apply(SessionId(0), Zxid(9), 0, &body, &mut |_| {});
        assert_eq!(**tree.get("/b").unwrap().acl(), acl);
        assert_eq!(tree.without_acl(), Vec::<String>::new());
        assert_eq!(tree.nodes.acls.iter().count(), 1, "lists that no node uses are gone");
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let path = |path: &str| path.to_string();
        assert_eq!(error(load([node("", -1)])), LoadError::NotEnded);
        assert_eq!(error(load([node("", -1), SnapshotItem::End, node("/a", -1)])), LoadError::NotEnded);
        assert_eq!(error(load([node("/a", -1), SnapshotItem::End])), LoadError::NoRoot);
        assert_eq!(error(load([node("", -1), node("/a/b", -1)])), LoadError::NoParent { path: path("/a/b") });
        assert_eq!(error(load([node("", -1), node("//b", -1)])), LoadError::NoParent { path: path("//b") });
        for twice in ["", "/a"] {
            let items = [node("", -1), node("/a", -1), node(twice, -1)];
            assert_eq!(error(load(items)), LoadError::Duplicate { path: path(twice) });
        }
        for bad in ["x", "/a/"] {
            assert_eq!(error(load([node("", -1), node(bad, -1)])), LoadError::BadPath { path: path(bad) });
        }
    }
}
