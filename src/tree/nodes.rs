//! The arena together with what few nodes have: an owner, an ACL of their own, children, a changed ACL.
//!
//! This is all of a node but what others know about it (digest sum, quotas, ephemerals by session, snapshots).

use super::acl_table::{AclId, AclTable};
use super::arena::Arena;
use super::node::{Node, NodeId, RareId};
use crate::records::{Acl, Owner, Stat, StatPersisted, Zxid};
use std::sync::Arc;

/// What most nodes do not have: they share the entry 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rare {
    /// As stored: a session, or the mark of a container or TTL node.
    pub owner: i64,
    pub aversion: i32,
    pub child_count: i32,
    pub acl: AclId,
}

pub(super) struct Nodes {
    pub arena: Arena,
    pub acls: AclTable,
    rares: Vec<Rare>,
    free: Vec<RareId>,
}

impl Nodes {
    /// A root without anything.
    pub fn new() -> Nodes {
        Nodes { arena: Arena::new(), acls: AclTable::new(), rares: vec![Rare::default()], free: Vec::new() }
    }

    fn rare_of(&self, node: &Node) -> &Rare {
        &self.rares[node.rare.0 as usize]
    }

    pub fn rare(&self, id: NodeId) -> &Rare {
        self.rare_of(self.arena.get(id))
    }

    /// Changes the rare fields of `id`; the entry goes when all of them are usual again.
    pub fn change_rare(&mut self, id: NodeId, change: impl FnOnce(&mut Rare)) {
        let at = self.arena.get(id).rare;
        let mut rare = self.rares[at.0 as usize];
        change(&mut rare);
        let usual = rare == Rare::default();
        match (at, usual) {
            (RareId(0), true) => {}
            (RareId(0), false) => {
                let at = self.free.pop().unwrap_or_else(|| {
                    self.rares.push(rare);
                    RareId(u32::try_from(self.rares.len() - 1).expect("no more entries than nodes"))
                });
                self.rares[at.0 as usize] = rare;
                self.arena.get_mut(id).rare = at;
            }
            (at, true) => {
                self.free.push(at);
                self.arena.get_mut(id).rare = RareId(0);
            }
            (at, false) => self.rares[at.0 as usize] = rare,
        }
    }

    pub fn persisted(&self, id: NodeId) -> StatPersisted {
        let node = self.arena.get(id);
        let rare = self.rare_of(node);
        StatPersisted {
            czxid: Zxid(node.czxid),
            mzxid: Zxid(node.mzxid),
            ctime: node.ctime,
            mtime: node.mtime,
            version: node.version,
            cversion: node.created,
            aversion: rare.aversion,
            ephemeral_owner: rare.owner,
            pzxid: Zxid(node.pzxid),
        }
    }

    /// The stat as clients see it: the shown cversion counts creates and deletes of children.
    pub fn stat(&self, id: NodeId) -> Stat {
        let node = self.arena.get(id);
        let rare = self.rare_of(node);
        Stat {
            czxid: Zxid(node.czxid),
            mzxid: Zxid(node.mzxid),
            ctime: node.ctime,
            mtime: node.mtime,
            version: node.version,
            cversion: node.created.wrapping_mul(2).wrapping_sub(rare.child_count),
            aversion: rare.aversion,
            ephemeral_owner: owner(rare).shown(),
            data_length: node.data_bytes() as i32,
            num_children: rare.child_count,
            pzxid: Zxid(node.pzxid),
        }
    }

    pub fn owner(&self, id: NodeId) -> Owner {
        owner(self.rare(id))
    }

    pub fn acl(&self, id: NodeId) -> &Arc<[Acl]> {
        self.acls.get(self.rare(id).acl)
    }

    /// A new child of `parent`, or `None` if there is one of that name. `path` is its whole path.
    pub fn insert(&mut self, path: &str, parent: NodeId, name: &str, data: Option<&[u8]>) -> Option<NodeId> {
        let id = self.arena.insert(path, parent, name, data)?;
        self.change_rare(parent, |rare| rare.child_count += 1);
        Some(id)
    }

    /// Removes a node without children. The use of its ACL stays: the caller gives it back.
    pub fn remove(&mut self, id: NodeId) -> AclId {
        let acl = self.rare(id).acl;
        let parent = self.arena.get(id).parent;
        self.change_rare(id, |rare| *rare = Rare::default());
        self.change_rare(parent, |rare| rare.child_count -= 1);
        self.arena.remove(id);
        acl
    }
}

/// TTLs are understood, as with Apache's `extendedTypesEnabled`.
fn owner(rare: &Rare) -> Owner {
    Owner::from_stored(rare.owner, true)
}
