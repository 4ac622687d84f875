//! Those who connect and are in no configuration, or have not said who they are.
//!
//! A server that is not in the configuration is answered, for it may be about to join, but anybody can say that he is
//! one: there are at most [`STRANGERS_MAX`] of them, and one whose connection has ended is forgotten. Observers of old
//! releases have no id of their own; they get one here, below all real ones.

use super::Members;
use super::manager::Peer;
use crate::records::ServerId;
use std::collections::{BTreeMap, VecDeque};
use tokio::task::AbortHandle;

/// Servers that are in no configuration, at most; of more the one that was heard of first is forgotten.
pub const STRANGERS_MAX: usize = 64;
/// Connections whose other side has not said who it is, at most; of more the oldest is closed, since members say it at
/// once.
pub const NAMELESS_MAX: usize = 64;

/// What an observer without an id calls itself. ZooKeeper: `QuorumPeer.OBSERVER_ID`.
const ANONYMOUS: ServerId = ServerId(i64::MAX);

/// Accepted connections whose other side has not said who it is.
#[derive(Default)]
pub struct Nameless {
    /// Oldest first.
    tasks: VecDeque<AbortHandle>,
}

impl Nameless {
    /// Makes room for one more.
    pub fn make_room(&mut self) {
        self.tasks.retain(|task| !task.is_finished());
        if self.tasks.len() >= NAMELESS_MAX
            && let Some(oldest) = self.tasks.pop_front()
        {
            oldest.abort();
        }
    }

    pub fn add(&mut self, task: AbortHandle) {
        self.tasks.push_back(task);
    }
}

/// Ids for those who have none: -1, -2, ... in order of arrival.
#[derive(Default)]
pub struct Anonymous {
    given: i64,
}

impl Anonymous {
    /// The id by which `told` is known here.
    pub fn name(&mut self, told: ServerId) -> ServerId {
        if told != ANONYMOUS {
            return told;
        }
        self.given += 1;
        ServerId(-self.given)
    }
}

/// The stranger that has to be forgotten before there may be another: first those that have no connection.
pub fn to_forget(peers: &BTreeMap<ServerId, Peer>, members: &Members) -> Option<ServerId> {
    let strangers = peers.iter().filter(|(id, _)| !members.contains_key(id));
    let strangers: Vec<_> = strangers.map(|(&id, peer)| (peer.link.is_some(), peer.since, id)).collect();
    let oldest = strangers.iter().min().map(|&(_, _, id)| id);
    oldest.filter(|_| strangers.len() >= STRANGERS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observer_without_an_id_gets_the_next_one_below_all() {
        let mut anonymous = Anonymous::default();
        let names = [ANONYMOUS, ServerId(7), ANONYMOUS, ServerId(-9)].map(|told| anonymous.name(told).0);
        assert_eq!(names, [-1, 7, -2, -9]);
    }
}
