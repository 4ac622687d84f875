//! Step 6 of a write, on the leader: count ACKs, and commit in zxid order. Zab phase 3; ZooKeeper: `Leader.tryToCommit`.
//!
//! A server acknowledges proposals in the order of its log, so one number for each server says all that it has
//! acknowledged. ZooKeeper retries a commit only when an ACK for that very proposal arrives; going on with the next
//! one after each commit is harmless and cannot hang.

use super::{Proposal, Quorums};
use crate::records::{ServerId, Zxid};
use std::collections::{BTreeMap, VecDeque};

/// The proposals of an epoch that are not committed yet, and who has acknowledged how much.
///
/// Invariants: `outstanding` ascends by zxid without a gap; `last_committed` < its first.
#[derive(Clone, Debug)]
pub struct Broadcast {
    quorums: Quorums,
    outstanding: VecDeque<Proposal>,
    /// The last proposal that each server has on its disk.
    acked: BTreeMap<ServerId, Zxid>,
    last_proposed: Zxid,
    last_committed: Zxid,
}

impl Broadcast {
    /// Begins at `start`: the beginning of the epoch, or a standalone server's last zxid.
    pub fn new(quorums: Quorums, start: Zxid) -> Self {
        Broadcast {
            quorums,
            outstanding: VecDeque::new(),
            acked: BTreeMap::new(),
            last_proposed: start,
            last_committed: start,
        }
    }

    pub fn last_proposed(&self) -> Zxid {
        self.last_proposed
    }

    pub fn last_committed(&self) -> Zxid {
        self.last_committed
    }

    /// Proposed and not committed, in order.
    pub fn outstanding(&self) -> impl Iterator<Item = &Proposal> {
        self.outstanding.iter()
    }

    pub fn is_idle(&self) -> bool {
        self.outstanding.is_empty()
    }

    pub fn propose(&mut self, proposal: Proposal) {
        assert_eq!(proposal.zxid(), self.last_proposed.successor(), "a proposal skipped a zxid");
        self.last_proposed = proposal.zxid();
        self.outstanding.push_back(proposal);
    }

    /// `server` connects anew: its log may be cut before it acknowledges again, so its former ACKs no longer count.
    pub fn forget_acks(&mut self, server: ServerId) {
        self.acked.remove(&server);
    }

    /// `server` has everything up to `zxid` on its disk. Returns what is committed by that, in order.
    pub fn on_ack(&mut self, server: ServerId, zxid: Zxid) -> Vec<Proposal> {
        assert!(zxid <= self.last_proposed, "an ACK of {zxid}, which was never proposed");
        let acked = self.acked.entry(server).or_insert(zxid);
        *acked = zxid.max(*acked);
        let Some(reached) = self.quorums.reached_by_quorum(|voter| self.acked.get(&voter).copied()) else {
            return Vec::new();
        };
        let mut committed = Vec::new();
        while let Some(first) = self.outstanding.front() {
            if first.zxid() > reached {
                break; // Later ones wait behind it, whoever has acknowledged them: clients see one order.
            }
            self.last_committed = first.zxid();
            committed.extend(self.outstanding.pop_front());
        }
        committed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Epoch, ErrorTxn, SessionId, Txn, TxnBody};

    fn zxid(counter: u32) -> Zxid {
        Zxid::new(Epoch(1), counter)
    }

    fn proposal(counter: u32) -> Proposal {
        let body = TxnBody::Error(ErrorTxn { err: -101 });
        Proposal::new(Txn { session: SessionId(1), cxid: 0, zxid: zxid(counter), time_ms: 0, body, digest: None })
    }

    fn three() -> Broadcast {
        let quorums = Quorums::majority_of((1..=3).map(ServerId).collect());
        let mut broadcast = Broadcast::new(quorums, zxid(0));
        (1..=3).for_each(|counter| broadcast.propose(proposal(counter)));
        broadcast
    }

    #[test]
    fn a_proposal_is_committed_by_a_majority_and_those_before_it_first() {
        let mut broadcast = three();
        assert_eq!(broadcast.on_ack(ServerId(1), zxid(3)), vec![]);
        assert_eq!(broadcast.on_ack(ServerId(2), zxid(1)), vec![proposal(1)]);
        assert_eq!(broadcast.on_ack(ServerId(3), zxid(3)), vec![proposal(2), proposal(3)]);
        assert_eq!(broadcast.last_committed(), zxid(3));
    }

    #[test]
    fn acks_from_before_a_new_connection_do_not_count() {
        let mut broadcast = three();
        broadcast.on_ack(ServerId(2), zxid(3));
        broadcast.forget_acks(ServerId(2));
        assert_eq!(broadcast.on_ack(ServerId(1), zxid(3)), vec![]);
        assert_eq!(broadcast.on_ack(ServerId(2), zxid(1)), vec![proposal(1)]);
    }

    #[test]
    fn acks_of_servers_that_are_no_voters_do_not_count() {
        let mut broadcast = three();
        broadcast.on_ack(ServerId(1), zxid(1));
        assert_eq!(broadcast.on_ack(ServerId(9), zxid(3)), vec![]);
    }

    #[test]
    fn a_late_ack_for_what_is_committed_does_nothing() {
        let mut broadcast = three();
        broadcast.on_ack(ServerId(1), zxid(2));
        broadcast.on_ack(ServerId(2), zxid(2));
        assert_eq!(broadcast.on_ack(ServerId(3), zxid(1)), vec![]);
        assert_eq!(broadcast.last_committed(), zxid(2));
    }
}
