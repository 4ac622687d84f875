//! How a learner is brought to the leader's history: DIFF, TRUNC or SNAP. Zab phase 2;
//! ZooKeeper: `LearnerHandler.syncFollower`, `queueCommittedProposals`.

use super::Proposal;
use crate::records::Zxid;
use std::collections::VecDeque;

/// How many committed transactions are kept in memory at least, and unless `commitLogCount` says more.
pub const RECENT_COUNT: usize = 500;

/// The newest committed transactions, without a gap: of a log that has one, only what is behind it. A learner refuses
/// what does not follow, each time that it comes.
#[derive(Clone, Debug)]
pub struct CommittedLog {
    proposals: VecDeque<Proposal>,
    /// How many are kept.
    count_max: usize,
}

/// What the leader sends to a learner before NEWLEADER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncPlan {
    /// The learner's history is a prefix of ours: the missing ones follow.
    Diff { to: Zxid, missing: Vec<Proposal> },
    /// The learner must forget what is after `to`; then the missing ones follow.
    Trunc { to: Zxid, missing: Vec<Proposal> },
    /// It is older than our memory, which begins at `from`: the log on disk may say how the histories differ.
    Log { from: Zxid },
    /// Our memory does not say how the histories differ: the whole tree.
    Snap,
}

impl CommittedLog {
    /// The newest `count_max` of `proposals`, which ascend up to the last one that is applied.
    pub fn new(proposals: impl IntoIterator<Item = Proposal>, count_max: usize) -> Self {
        let mut log = CommittedLog { proposals: VecDeque::new(), count_max: count_max.max(1) };
        proposals.into_iter().for_each(|proposal| log.push(proposal));
        log
    }

    /// The next one that is committed.
    pub fn push(&mut self, proposal: Proposal) {
        if let Some(last) = self.last() {
            assert!(proposal.zxid() > last, "{} was committed after {last}", proposal.zxid());
            if !is_next(last, proposal.zxid()) {
                self.proposals.clear();
            }
        }
        if self.proposals.len() == self.count_max {
            self.proposals.pop_front();
        }
        self.proposals.push_back(proposal);
    }

    /// Where it begins; `None`: it is empty.
    pub fn first(&self) -> Option<Zxid> {
        self.proposals.front().map(Proposal::zxid)
    }

    /// Where it ends.
    pub fn last(&self) -> Option<Zxid> {
        self.proposals.back().map(Proposal::zxid)
    }

    /// What follows `zxid`.
    pub fn after(&self, zxid: Zxid) -> Vec<Proposal> {
        let at = self.proposals.partition_point(|proposal| proposal.zxid() <= zxid);
        self.proposals.iter().skip(at).cloned().collect()
    }

    /// How to synchronise a learner whose last logged zxid is `peer`; `last` is our last processed one.
    pub fn plan_sync(&self, peer: Zxid, last: Zxid) -> SyncPlan {
        let min = self.proposals.front().map_or(last, Proposal::zxid);
        let max = self.proposals.back().map_or(last, Proposal::zxid);
        if peer == last {
            return SyncPlan::Diff { to: peer, missing: Vec::new() };
        }
        // The beginning of an epoch is no transaction: it can be neither truncated to nor away.
        let epoch_start = peer.counter() == 0;
        if peer > max && !epoch_start {
            return SyncPlan::Trunc { to: max, missing: Vec::new() };
        }
        if peer < min {
            return SyncPlan::Log { from: min };
        }
        if peer > max {
            return SyncPlan::Snap;
        }
        self.walk(peer, max, epoch_start)
    }

    /// `min <= peer <= max`: finds where the histories part.
    fn walk(&self, peer: Zxid, max: Zxid, epoch_start: bool) -> SyncPlan {
        let at = self.proposals.partition_point(|proposal| proposal.zxid() < peer);
        let after = |index: usize| self.proposals.iter().skip(index).cloned().collect();
        match self.proposals.get(at) {
            Some(same) if same.zxid() == peer => SyncPlan::Diff { to: max, missing: after(at + 1) },
            Some(_) if epoch_start => SyncPlan::Diff { to: max, missing: after(at) },
            // The tail of an older epoch: where to cut it is not in our memory.
            Some(_) => SyncPlan::Snap,
            None if epoch_start => SyncPlan::Diff { to: max, missing: Vec::new() },
            None => SyncPlan::Snap,
        }
    }
}

/// Whether nothing is missing between two transactions. A standalone server of Apache's whose counter ends counts on
/// into the next epoch.
fn is_next(previous: Zxid, next: Zxid) -> bool {
    next.0 == previous.0 + 1 || next.epoch() > previous.epoch() && next.counter() == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Epoch, ErrorTxn, SessionId, Txn, TxnBody};

    fn zxid(epoch: i64, counter: u32) -> Zxid {
        Zxid::new(Epoch(epoch), counter)
    }

    fn proposal(zxid: Zxid) -> Proposal {
        let body = TxnBody::Error(ErrorTxn { err: -101 });
        Proposal::new(Txn { session: SessionId(1), cxid: 0, zxid, time_ms: 0, body, digest: None })
    }

    fn history(zxids: &[(i64, std::ops::RangeInclusive<u32>)]) -> CommittedLog {
        CommittedLog::new(
            zxids.iter().flat_map(|(epoch, counters)| counters.clone().map(|c| proposal(zxid(*epoch, c)))),
            RECENT_COUNT,
        )
    }

    fn zxids(missing: &[Proposal]) -> Vec<Zxid> {
        missing.iter().map(Proposal::zxid).collect()
    }

    /// The table of quorum-protocol B.4, as a real server was seen to choose.
    #[test]
    fn plans_are_those_of_zookeeper() {
        let running = history(&[(1, 1..=10)]);
        let last = zxid(1, 10);
        assert_eq!(running.plan_sync(zxid(1, 10), last), SyncPlan::Diff { to: last, missing: vec![] });
        assert_eq!(running.plan_sync(zxid(1, 12), last), SyncPlan::Trunc { to: last, missing: vec![] });
        assert_eq!(running.plan_sync(zxid(2, 3), last), SyncPlan::Trunc { to: last, missing: vec![] });
        assert_eq!(running.plan_sync(zxid(2, 0), last), SyncPlan::Snap);
        for older in [Zxid::NONE, Zxid::ZERO, zxid(1, 0)] {
            assert_eq!(running.plan_sync(older, last), SyncPlan::Log { from: zxid(1, 1) }, "{older}");
        }
        let SyncPlan::Diff { to, missing } = running.plan_sync(zxid(1, 7), last) else { panic!("not a DIFF") };
        assert_eq!((to, zxids(&missing)), (last, vec![zxid(1, 8), zxid(1, 9), zxid(1, 10)]));
    }

    #[test]
    fn a_peer_at_the_beginning_of_a_later_epoch_gets_a_diff() {
        let log = history(&[(1, 1..=10), (2, 1..=2)]);
        let SyncPlan::Diff { to, missing } = log.plan_sync(zxid(2, 0), zxid(2, 2)) else { panic!("not a DIFF") };
        assert_eq!((to, zxids(&missing)), (zxid(2, 2), vec![zxid(2, 1), zxid(2, 2)]));
    }

    #[test]
    fn the_uncommitted_tail_of_an_older_epoch_gets_a_snapshot() {
        let log = history(&[(1, 1..=10), (2, 1..=1)]);
        assert_eq!(log.plan_sync(zxid(1, 12), zxid(2, 1)), SyncPlan::Snap);
    }

    /// A log with a hole in it is what an operator's repair leaves; the learner's own log may have what is missing.
    #[test]
    fn of_a_log_with_a_hole_only_what_is_behind_it_is_kept() {
        let log = history(&[(1, 1..=4), (1, 6..=8)]);
        assert_eq!((log.first(), log.last()), (Some(zxid(1, 6)), Some(zxid(1, 8))));
        for older in [zxid(1, 3), zxid(1, 4), zxid(1, 5)] {
            assert_eq!(log.plan_sync(older, zxid(1, 8)), SyncPlan::Log { from: zxid(1, 6) }, "{older}");
        }
        assert_eq!(history(&[(1, 1..=4), (2, 2..=3)]).first(), Some(zxid(2, 2)));
        assert_eq!(history(&[(1, 1..=4), (2, 1..=3)]).first(), Some(zxid(1, 1)));
        assert_eq!(history(&[(1, u32::MAX..=u32::MAX), (2, 0..=3)]).first(), Some(zxid(1, u32::MAX)));
    }

    #[test]
    fn a_started_leader_with_an_empty_memory_has_only_its_log_to_look_into() {
        assert_eq!(history(&[]).plan_sync(Zxid::ZERO, zxid(1, 0)), SyncPlan::Log { from: zxid(1, 0) });
        let fresh = history(&[]).plan_sync(Zxid::ZERO, Zxid::ZERO);
        assert_eq!(fresh, SyncPlan::Diff { to: Zxid::ZERO, missing: vec![] });
    }

    #[test]
    fn only_the_newest_are_kept() {
        let log = history(&[(1, 1..=600)]);
        assert_eq!(log.plan_sync(zxid(1, 100), zxid(1, 600)), SyncPlan::Log { from: zxid(1, 101) });
        assert!(matches!(log.plan_sync(zxid(1, 101), zxid(1, 600)), SyncPlan::Diff { .. }));
        assert_eq!((log.first(), log.last()), (Some(zxid(1, 101)), Some(zxid(1, 600))));
        assert_eq!(zxids(&log.after(zxid(1, 598))), [zxid(1, 599), zxid(1, 600)]);
    }

    #[test]
    fn as_many_are_kept_as_are_asked_for() {
        let newest = |count_max| CommittedLog::new((1..=900).map(|c| proposal(zxid(1, c))), count_max).first();
        assert_eq!(newest(800), Some(zxid(1, 101)));
        assert_eq!(newest(3), Some(zxid(1, 898)));
    }
}
