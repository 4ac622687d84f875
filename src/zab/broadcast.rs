//! Step 6 of a write, on the leader: count ACKs, and commit in zxid order. Zab phase 3; ZooKeeper: `Leader.tryToCommit`.
//!
//! A server acknowledges proposals in the order of its log, so one number for each server says all that it has
//! acknowledged. ZooKeeper retries a commit only when an ACK for that very proposal arrives; going on with the next
//! one after each commit is harmless and cannot hang.
//!
//! A reconfiguration and what is proposed behind it need quorums of the old and of the new configuration; what was
//! proposed before it needs the old one alone. With its commit the count stops, since another server may be the one to
//! go on: whoever leads on says so by [`Broadcast::activate`], and then the new configuration alone counts.

use super::{Proposal, QuorumVerifier, Quorums};
use crate::records::{ServerId, Zxid};
use std::collections::{BTreeMap, VecDeque};

/// The proposals of an epoch that are not committed yet, and who has acknowledged how much.
///
/// Invariants: `outstanding` ascends by zxid without a gap; `last_committed` < its first.
#[derive(Clone, Debug)]
pub struct Broadcast {
    /// Of what was proposed before `change`, or of everything.
    quorums: Quorums,
    change: Option<Change>,
    outstanding: VecDeque<Proposal>,
    /// The last proposal that each server has on its disk.
    acked: BTreeMap<ServerId, Zxid>,
    last_proposed: Zxid,
    last_committed: Zxid,
}

/// A reconfiguration that is not activated yet.
#[derive(Clone, Debug)]
struct Change {
    zxid: Zxid,
    /// Of the old configuration and of the new one.
    joint: Quorums,
    new: QuorumVerifier,
}

impl Broadcast {
    /// Begins at `start`: the beginning of the epoch, or a standalone server's last zxid.
    pub fn new(quorums: Quorums, start: Zxid) -> Self {
        Broadcast {
            quorums,
            change: None,
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

    /// The epoch has begun by completing a change: from its first proposal on these count.
    pub fn count_by(&mut self, quorums: Quorums) {
        assert!(self.outstanding.is_empty() && self.change.is_none(), "the epoch has begun already");
        self.quorums = quorums;
    }

    /// The next proposal is a reconfiguration, by which `new` is to count.
    pub fn begin_change(&mut self, new: QuorumVerifier) {
        assert!(self.change.is_none(), "a reconfiguration was proposed before the last one was activated");
        let joint = Quorums::new(self.quorums.committed().clone(), Some(new.clone()));
        self.change = Some(Change { zxid: self.last_proposed.successor(), joint, new });
    }

    /// The reconfiguration is committed, and this server leads on. Returns what is committed by the new quorums.
    pub fn activate(&mut self) -> Vec<Proposal> {
        let change = self.change.take().expect("a reconfiguration was proposed");
        assert!(change.zxid <= self.last_committed, "a reconfiguration was activated before its commit");
        self.quorums = Quorums::new(change.new, None);
        // Who does not vote any more counts in nothing; who may vote later says again what it has.
        self.acked.retain(|server, _| self.quorums.is_voter(*server));
        self.commit_ready()
    }

    /// The last proposal that `server` has acknowledged.
    pub fn acked_by(&self, server: ServerId) -> Option<Zxid> {
        self.acked.get(&server).copied()
    }

    /// `server` connects anew: its log may be cut before it acknowledges again, so its former ACKs no longer count.
    pub fn forget_acks(&mut self, server: ServerId) {
        self.acked.remove(&server);
    }

    /// `server` has everything up to `zxid` on its disk. Returns what is committed by that, in order; a reconfiguration
    /// is the last of it.
    pub fn on_ack(&mut self, server: ServerId, zxid: Zxid) -> Vec<Proposal> {
        assert!(zxid <= self.last_proposed, "an ACK of {zxid}, which was never proposed");
        let acked = self.acked.entry(server).or_insert(zxid);
        *acked = zxid.max(*acked);
        self.commit_ready()
    }

    fn commit_ready(&mut self) -> Vec<Proposal> {
        let mut committed = Vec::new();
        let Some(Change { zxid, joint, .. }) = &self.change else {
            self.commit_up_to(self.reached(&self.quorums), &mut committed);
            return committed;
        };
        let (zxid, before) = (*zxid, Zxid(zxid.0 - 1));
        let (reached, reached_by_both) = (self.reached(&self.quorums), self.reached(joint));
        if self.last_committed < before {
            self.commit_up_to(reached.min(Some(before)), &mut committed);
        }
        if self.last_committed == before && reached_by_both >= Some(zxid) {
            self.commit_up_to(Some(zxid), &mut committed);
        }
        committed
    }

    fn reached(&self, quorums: &Quorums) -> Option<Zxid> {
        quorums.reached_by_quorum(|voter| self.acked.get(&voter).copied())
    }

    /// Later ones wait behind the first that lacks a quorum, whoever has acknowledged them: clients see one order.
    fn commit_up_to(&mut self, reached: Option<Zxid>, committed: &mut Vec<Proposal>) {
        while self.outstanding.front().is_some_and(|first| Some(first.zxid()) <= reached) {
            let first = self.outstanding.pop_front().expect("it has a first");
            self.last_committed = first.zxid();
            committed.push(first);
        }
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

    /// Two voters become three others: 1 and 2 are left behind.
    #[test]
    fn a_reconfiguration_needs_both_quorums_and_what_was_before_it_only_the_old_one() {
        let of = |ids: &[i64]| QuorumVerifier::majority_of(ids.iter().copied().map(ServerId).collect());
        let mut broadcast = Broadcast::new(Quorums::new(of(&[1, 2]), None), zxid(0));
        broadcast.propose(proposal(1));
        broadcast.begin_change(of(&[3, 4, 5]));
        (2..=4).for_each(|counter| broadcast.propose(proposal(counter)));
        assert_eq!(broadcast.on_ack(ServerId(1), zxid(4)), vec![]);
        assert_eq!(broadcast.on_ack(ServerId(2), zxid(4)), vec![proposal(1)]);
        assert_eq!(broadcast.on_ack(ServerId(3), zxid(4)), vec![]);
        assert_eq!(broadcast.on_ack(ServerId(4), zxid(2)), vec![proposal(2)]);
        assert_eq!(broadcast.on_ack(ServerId(4), zxid(3)), vec![], "who goes on is not said yet");
        assert_eq!(broadcast.activate(), vec![proposal(3)], "several may be due at once");
        assert_eq!(broadcast.on_ack(ServerId(5), zxid(4)), vec![proposal(4)]);
        assert_eq!(broadcast.acked_by(ServerId(4)), Some(zxid(3)));
        assert_eq!(broadcast.acked_by(ServerId(1)), None, "it is no member any more");
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
