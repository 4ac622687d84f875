//! Which ephemerals each session owns, so that its end finds them.

use super::node::NodeId;
use crate::records::SessionId;
use std::collections::{BTreeMap, BTreeSet};

/// The ephemerals of all sessions. ZooKeeper: `DataTree.ephemerals`.
#[derive(Default)]
pub(super) struct Ephemerals {
    by_session: BTreeMap<SessionId, BTreeSet<NodeId>>,
    count: usize,
}

impl Ephemerals {
    pub fn insert(&mut self, session: SessionId, id: NodeId) {
        if self.by_session.entry(session).or_default().insert(id) {
            self.count += 1;
        }
    }

    pub fn remove(&mut self, session: SessionId, id: NodeId) {
        let Some(ids) = self.by_session.get_mut(&session) else {
            return;
        };
        if ids.remove(&id) {
            self.count -= 1;
        }
        if ids.is_empty() {
            self.by_session.remove(&session);
        }
    }

    /// The nodes of `session`, in an order that says nothing.
    pub fn of(&self, session: SessionId) -> impl Iterator<Item = NodeId> + '_ {
        self.by_session.get(&session).into_iter().flatten().copied()
    }

    /// The sessions that own any, ascending.
    pub fn owners(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.by_session.keys().copied()
    }

    pub fn count(&self) -> usize {
        self.count
    }
}
