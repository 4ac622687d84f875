//! Single changes of the tree, each with all that depends on it: digest, sizes, owners, quotas, snapshots under way.
//!
//! Every change of a node goes through here, and calls [`DataTree::before_change`] first: a snapshot that has not
//! come to the node yet must still find it as it was.

use super::acl_table::AclId;
use super::digest::node_digest;
use super::node::NodeId;
use super::nodes::Rare;
use super::quota::{self, StatsTrack};
use super::{CONFIG_PATH, DataTree};
use crate::records::{Acl, Owner, SessionId, StatPersisted, parent_and_name};

/// The length of `text` as ZooKeeper counts it: in UTF-16 units.
fn utf16_length(text: &str) -> u64 {
    if text.is_ascii() { text.len() as u64 } else { text.encode_utf16().count() as u64 }
}

impl DataTree {
    /// Must be called before anything of `id` that a snapshot holds is changed.
    pub(super) fn before_change(&mut self, id: NodeId) {
        self.cursors.before_change(&self.nodes, id);
    }

    /// Brings the digests up to date after a change of `id`, whose path is `path` (the root's: `""`).
    pub(super) fn refresh_digest(&mut self, id: NodeId, path: &str) {
        let digest = node_digest(path, self.nodes.arena.data(id), &self.nodes.persisted(id));
        let old = std::mem::replace(&mut self.nodes.arena.get_mut(id).digest, digest);
        self.digest = self.digest.wrapping_sub(old.into()).wrapping_add(digest.into());
    }

    /// Adds a node below `parent` with this stat, and counts it in everything but the parent's stat and quotas.
    /// `None`: it is there already. The use of `acl` goes over to the node.
    pub(super) fn add_node(
        &mut self,
        (path, parent, name): (&str, NodeId, &str),
        data: Option<&[u8]>,
        acl: AclId,
        stat: &StatPersisted,
    ) -> Option<NodeId> {
        let id = self.nodes.insert(path, parent, name, data)?;
        self.cursors.born(id);
        self.set_stat(id, acl, stat);
        self.data_size += utf16_length(path) + data.map_or(0, <[u8]>::len) as u64;
        self.refresh_digest(id, path);
        Some(id)
    }

    /// Gives a node that has none of these yet its stat, ACL and owner.
    pub(super) fn set_stat(&mut self, id: NodeId, acl: AclId, stat: &StatPersisted) {
        let node = self.nodes.arena.get_mut(id);
        (node.czxid, node.mzxid, node.pzxid) = (stat.czxid.0, stat.mzxid.0, stat.pzxid.0);
        (node.ctime, node.mtime) = (stat.ctime, stat.mtime);
        (node.version, node.created) = (stat.version, stat.cversion);
        let &StatPersisted { ephemeral_owner: owner, aversion, .. } = stat;
        if owner != 0 || aversion != 0 || acl != AclId::OPEN {
            self.nodes.change_rare(id, |rare| *rare = Rare { owner, aversion, acl, ..*rare });
        }
        match self.nodes.owner(id) {
            Owner::Persistent => {}
            Owner::Ephemeral(session) => self.ephemerals.insert(session, id),
            Owner::Container | Owner::Ttl { .. } => _ = self.mortals.insert(id),
        }
    }

    /// Adds a node of the empty tree; its parent does not count it as created.
    pub(super) fn add_built_in(&mut self, path: &str, acl: &[Acl], aversion: i32) {
        let Some((parent, name)) = parent_and_name(path) else { return };
        let Some(parent) = self.nodes.arena.find(parent) else { return };
        let acl = self.nodes.acls.acquire(acl);
        let mut stat = self.nodes.persisted(NodeId::ROOT);
        (stat.cversion, stat.pzxid) = (0, stat.czxid);
        stat.aversion = aversion;
        self.add_node((path, parent, name), Some(&[]), acl, &stat);
    }

    /// Removes a node and all below it, and counts them off everything but the parent's stat. In a correct history
    /// there is nothing below; while a fuzzy snapshot is replayed a later incarnation may have children.
    ///
    /// Returns the ACL it had, whose use the caller gives back.
    pub(super) fn remove_node(&mut self, id: NodeId, path: &str) -> AclId {
        if self.nodes.arena.get(id).first_child.some().is_some() {
            let below: Vec<NodeId> = self.subtree(id).skip(1).collect();
            for id in below.into_iter().rev() {
                let path = self.nodes.arena.path(id);
                let acl = self.remove_leaf(id, &path);
                self.nodes.acls.release(acl);
            }
        }
        self.remove_leaf(id, path)
    }

    fn remove_leaf(&mut self, id: NodeId, path: &str) -> AclId {
        self.cursors.dying(&self.nodes, id, path);
        match self.nodes.owner(id) {
            Owner::Persistent => {}
            Owner::Ephemeral(session) => self.ephemerals.remove(session, id),
            Owner::Container | Owner::Ttl { .. } => _ = self.mortals.remove(&id),
        }
        self.without_acl.remove(&id);
        let node = self.nodes.arena.get(id);
        let bytes = node.data_bytes();
        self.digest = self.digest.wrapping_sub(node.digest.into());
        self.data_size -= utf16_length(path) + bytes as u64;
        let acl = self.nodes.remove(id);
        if let Some((parent, quota::LIMITS)) = parent_and_name(path)
            && let Some(limited) = quota::quota_of(parent)
        {
            self.quotas.remove(limited);
        }
        self.count_usage(path, -1, -(bytes as i64));
        acl
    }

    /// Replaces the data of a node; its stat stays.
    pub(super) fn replace_data(&mut self, id: NodeId, data: Option<&[u8]>) {
        self.before_change(id);
        let old = self.nodes.arena.get(id).data_bytes() as u64;
        self.nodes.arena.set_data(id, data);
        self.data_size = self.data_size - old + data.map_or(0, <[u8]>::len) as u64;
    }

    /// Replaces the ACL of a node.
    pub(super) fn replace_acl(&mut self, id: NodeId, acl: &[Acl], aversion: Option<i32>) {
        self.before_change(id);
        self.without_acl.remove(&id);
        let new = self.nodes.acls.acquire(acl);
        let mut old = new;
        self.nodes.change_rare(id, |rare| {
            old = std::mem::replace(&mut rare.acl, new);
            rare.aversion = aversion.unwrap_or(rare.aversion);
        });
        self.nodes.acls.release(old);
    }

    /// What the creation of a node means for quotas: its parent is at `parent`.
    pub(super) fn after_create(&mut self, parent: &str, name: &str, path: &str, bytes: usize) {
        if let Some(limited) = quota::quota_of(parent) {
            match name {
                quota::LIMITS => self.quotas.insert(limited),
                quota::STATS => self.recount_usage(limited),
                _ => {}
            }
        }
        self.count_usage(path, 1, bytes as i64);
    }

    /// Adds to the usage of the quota that `path` is under.
    pub(super) fn count_usage(&mut self, path: &str, count: i64, bytes: i64) {
        let Some(quota) = self.quotas.deepest(path) else {
            return;
        };
        let Some(id) = self.nodes.arena.find(&quota::stats_path(quota)) else {
            return;
        };
        let usage = StatsTrack::parse(self.nodes.arena.data(id).unwrap_or_default()).plus(count, bytes);
        self.replace_data(id, Some(usage.to_string().as_bytes()));
    }

    /// Writes the usage of the quota on `path` anew from the tree.
    pub(super) fn recount_usage(&mut self, path: &str) {
        let Some(stats) = self.nodes.arena.find(&quota::stats_path(path)) else {
            return;
        };
        let (mut count, mut bytes) = (0, 0);
        if let Some(top) = self.nodes.arena.find(path) {
            for id in self.subtree(top) {
                count += 1;
                bytes += self.nodes.arena.get(id).data_bytes() as i64;
            }
        }
        self.replace_data(stats, Some(StatsTrack::new(count, bytes).to_string().as_bytes()));
    }

    /// Sets `/zookeeper/config` from the configuration of the ensemble, not from a transaction: version -1, mzxid
    /// the configuration's `version`, mtime this server's clock.
    pub fn set_config(&mut self, data: &[u8], version: i64, time_ms: i64) {
        if self.nodes.arena.find(CONFIG_PATH).is_none() {
            self.add_config(); // Snapshots of 3.4 lack it.
        }
        let Some(id) = self.nodes.arena.find(CONFIG_PATH) else {
            return;
        };
        self.replace_data(id, Some(data));
        let node = self.nodes.arena.get_mut(id);
        (node.version, node.mzxid, node.mtime) = (-1, version, time_ms);
        self.refresh_digest(id, CONFIG_PATH);
    }

    /// The paths of the ephemerals of `session`, sorted: the order in which its end removes them.
    pub(super) fn ephemeral_paths(&self, session: SessionId) -> Vec<String> {
        self.sorted_paths(self.ephemerals.of(session))
    }
}
