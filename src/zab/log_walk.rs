//! Where a learner that is older than what memory holds stands in the log on disk. Zab phase 2;
//! ZooKeeper: `ZKDatabase.getProposalsFromTxnLog`, `LearnerHandler.queueCommittedProposals`.
//!
//! In a log there may be holes that nobody can see: a server of Apache's keeps its old logs when a leader has sent it a
//! snapshot, and goes on behind them. So a record counts as the next one only if its zxid says so; where epochs meet,
//! none does, and only what the tree here was made of counts. ZooKeeper sends what it finds, and a learner goes on
//! without what lay in the hole.

use crate::records::Zxid;

/// What the log says about a learner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogPlace {
    /// Its history is a prefix of ours, and the log has all that follows: DIFF. There is no place for TRUNC: something that
    /// we lack would be behind a gap in one epoch, and where epochs meet nobody knows what lay between.
    Prefix,
    /// The log cannot help, for this reason: SNAP.
    Unknown(&'static str),
}

/// Walks through the log from the file that may hold `peer`, up to where memory begins.
#[derive(Debug)]
pub struct LogWalk {
    /// The learner's last logged zxid.
    peer: Zxid,
    /// The first zxid in memory.
    up_to: Zxid,
    place: Option<LogPlace>,
    /// The last record, and whether there can be no hole behind it.
    previous: Option<(Zxid, bool)>,
}

impl LogWalk {
    pub fn new(peer: Zxid, up_to: Zxid) -> LogWalk {
        LogWalk { peer, up_to, place: None, previous: None }
    }

    /// The next record. `is_replayed`: the tree here was made of it and of what follows it, so no hole can be behind it.
    /// False: no more is needed.
    pub fn step(&mut self, zxid: Zxid, is_replayed: bool) -> bool {
        match self.previous {
            None if zxid > self.peer => {
                self.place = Some(LogPlace::Unknown("the log begins behind its last transaction"));
                return false;
            }
            Some((previous, _)) if zxid <= previous => return true,
            _ => {}
        }
        match self.place {
            None if zxid < self.peer => {}
            None => self.place = Some(self.place_at(zxid)),
            Some(_) if !self.is_next(zxid) => self.place = Some(LogPlace::Unknown("there is a gap in the log")),
            Some(_) => {}
        }
        self.previous = Some((zxid, is_replayed));
        zxid < self.up_to && !matches!(self.place, Some(LogPlace::Unknown(_)))
    }

    /// Whether nothing can be missing between the last record and this one.
    fn is_next(&self, zxid: Zxid) -> bool {
        let Some((previous, is_replayed)) = self.previous else { return false };
        let is_same_epoch = zxid.epoch() == previous.epoch();
        if is_same_epoch { zxid.0 == previous.0 + 1 } else { is_replayed && zxid.counter() == 1 }
    }

    /// `zxid` is the first record that is not before the learner's last one.
    fn place_at(&self, zxid: Zxid) -> LogPlace {
        const GAP: LogPlace = LogPlace::Unknown("there is a gap in the log where its last transaction would be");
        let is_same_epoch = zxid.epoch() == self.peer.epoch();
        if zxid == self.peer {
            return LogPlace::Prefix;
        }
        if self.peer.counter() == 0 {
            // The beginning of an epoch is no transaction: it can be neither truncated to nor away.
            let is_first = is_same_epoch && zxid.counter() == 1;
            return if is_first || self.is_next(zxid) { LogPlace::Prefix } else { GAP };
        }
        if !is_same_epoch {
            return LogPlace::Unknown("our history goes on with another epoch where its last transaction would be");
        }
        // Ours lacks it, and goes on behind it. ZooKeeper truncates to the one before, behind which the next one does not
        // follow either.
        GAP
    }

    /// All that there is, or enough, has been seen.
    pub fn finish(self) -> LogPlace {
        match self.place {
            Some(LogPlace::Unknown(why)) => LogPlace::Unknown(why),
            Some(place) if self.previous.is_some_and(|(previous, _)| previous == self.up_to) => place,
            _ => LogPlace::Unknown("the log does not reach to what is in memory"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Epoch;

    fn zxid(epoch: i64, counter: u32) -> Zxid {
        Zxid::new(Epoch(epoch), counter)
    }

    /// Where `peer` stands in a log of these zxids, `up_to` being the first in memory.
    fn place(log: &[(i64, u32)], is_replayed: bool, peer: (i64, u32), up_to: (i64, u32)) -> LogPlace {
        let mut walk = LogWalk::new(zxid(peer.0, peer.1), zxid(up_to.0, up_to.1));
        log.iter().take_while(|(epoch, counter)| walk.step(zxid(*epoch, *counter), is_replayed)).count();
        walk.finish()
    }

    const LOG: &[(i64, u32)] = &[(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (2, 4)];

    #[test]
    fn a_learner_whose_last_transaction_is_in_the_log_gets_what_follows() {
        for peer in [(1, 1), (1, 3), (2, 1), (2, 2)] {
            assert_eq!(place(LOG, true, peer, (2, 3)), LogPlace::Prefix, "{peer:?}");
        }
        // Nobody has written in the epoch that it has seen begin, and then somebody has.
        assert_eq!(place(LOG, true, (2, 0), (2, 3)), LogPlace::Prefix);
        assert_eq!(place(&[(1, 3), (3, 1), (3, 2)], true, (2, 0), (3, 1)), LogPlace::Prefix);
    }

    #[test]
    fn what_the_log_does_not_reach_back_to_is_unknown() {
        for peer in [(0, 0), (1, 0), (0, 7)] {
            assert!(matches!(place(LOG, true, peer, (2, 3)), LogPlace::Unknown(_)), "{peer:?}");
        }
        assert!(matches!(place(&[], true, (1, 1), (2, 3)), LogPlace::Unknown(_)));
        let mut walk = LogWalk::new(Zxid::NONE, zxid(2, 3));
        assert!(!walk.step(zxid(1, 1), true));
        assert!(matches!(walk.finish(), LogPlace::Unknown(_)));
    }

    #[test]
    fn the_tail_of_another_epoch_is_unknown() {
        assert!(matches!(place(LOG, true, (1, 4), (2, 3)), LogPlace::Unknown(_)));
    }

    /// It would refuse what comes behind a TRUNC, and come again.
    #[test]
    fn a_learner_in_a_hole_of_the_log_is_not_truncated_to_its_edge() {
        let log = [(1, 1), (1, 2), (1, 4), (1, 5)];
        for is_replayed in [true, false] {
            assert!(matches!(place(&log, is_replayed, (1, 3), (1, 5)), LogPlace::Unknown(_)));
        }
    }

    #[test]
    fn a_log_with_a_hole_behind_the_learner_is_of_no_use() {
        for log in [&[(1, 1), (1, 2), (1, 4)][..], &[(1, 1), (1, 2), (2, 2)], &[(1, 1), (1, 2), (1, 3)]] {
            assert!(matches!(place(log, true, (1, 1), (2, 2)), LogPlace::Unknown(_)), "{log:?}");
        }
        assert!(matches!(place(&[(1, 1), (2, 5), (2, 6)], true, (2, 0), (2, 6)), LogPlace::Unknown(_)));
    }

    #[test]
    fn where_epochs_meet_in_a_log_that_was_not_replayed_there_may_be_a_hole() {
        assert!(matches!(place(LOG, false, (1, 2), (2, 3)), LogPlace::Unknown(_)));
        assert_eq!(place(LOG, false, (2, 1), (2, 3)), LogPlace::Prefix);
        assert_eq!(place(LOG, false, (2, 0), (2, 3)), LogPlace::Prefix);
    }

    #[test]
    fn a_record_that_comes_again_is_passed_over() {
        let log = [(1, 1), (1, 2), (1, 3), (1, 2), (1, 3), (1, 4)];
        assert_eq!(place(&log, true, (1, 1), (1, 4)), LogPlace::Prefix);
    }

    #[test]
    fn nothing_beyond_what_memory_begins_with_is_asked_for() {
        let mut walk = LogWalk::new(zxid(1, 1), zxid(1, 3));
        assert!(walk.step(zxid(1, 1), true) && walk.step(zxid(1, 2), true));
        assert!(!walk.step(zxid(1, 3), true));
        assert_eq!(walk.finish(), LogPlace::Prefix);
    }
}
