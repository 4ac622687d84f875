//! Zab phase 2, leader's side: a learner gets the history that it lacks, then NEWLEADER. From memory if that reaches back
//! far enough, else from the log on disk, else the whole tree.
//!
//! Between the question where a learner stands in the log and the answer the broadcast goes on, and so does memory's
//! beginning. So what the log has to give ends where memory begins *when the answer comes*, in one step with what
//! memory adds, and only once our own disk has synced that much: others may have committed it without us.
//!
//! ZooKeeper: `LearnerHandler.syncFollower`, `LearnerSyncThrottler`.

use super::super::core::Core;
use super::super::io::{DiskOp, Effects, LinkId, LinkOp, LogPlace, Note, Now, Proposal};
use super::{Leader, Progress};
use crate::records::{QuorumPacket, Zxid};
use crate::zab::{RECENT_COUNT, SyncPlan};

/// How learners are brought up to date. The default is Apache's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CatchUpRules {
    /// `commitLogCount`: how many transactions are kept in memory for it, 500 at least.
    pub recent_max: usize,
    /// `forceSnapshotSync`: always by a snapshot.
    pub snapshots_only: bool,
    /// `snapshotSizeFactor`: the log on disk is used if it is not larger than so many times the newest snapshot; 0: of
    /// whatever size; `None`: never.
    pub log_size_factor: Option<f64>,
    /// `leader.maxConcurrentSnapSyncs`: observers that want one more at the same time have to come again.
    pub snapshots_max: usize,
    /// `leader.maxConcurrentDiffSyncs`: the same for whoever gets single transactions.
    pub diffs_max: usize,
}

impl Default for CatchUpRules {
    fn default() -> Self {
        CatchUpRules {
            recent_max: RECENT_COUNT,
            snapshots_only: false,
            log_size_factor: Some(0.33),
            snapshots_max: 10,
            diffs_max: 100,
        }
    }
}

/// What a learner is sent before NEWLEADER.
enum History {
    /// The tree as it is.
    Snapshot,
    /// Behind `from`, to which a learner that has more is cut, what is in the log up to `logged`, then what memory adds.
    Txns { trunc: bool, from: Zxid, to: Zxid, logged: Option<Zxid>, recent: Vec<Proposal> },
}

impl Leader {
    /// Sends a learner what it lacks, then NEWLEADER; from there on it gets every proposal.
    pub(super) fn synchronize(&mut self, core: &Core, now: Now, link: LinkId, out: &mut Effects) {
        let last = self.last(core);
        if self.awaits_decision(core) {
            return;
        }
        let Some(learner) = self.learners.get_mut(&link) else { return };
        let (rules, peer) = (core.config.catch_up, learner.last_logged);
        let plan = if rules.snapshots_only { SyncPlan::Snap } else { core.recent.plan_sync(peer, last) };
        let history = match plan {
            SyncPlan::Diff { to, missing } => {
                History::Txns { trunc: false, from: peer, to, logged: None, recent: missing }
            }
            SyncPlan::Trunc { to, missing } => {
                History::Txns { trunc: true, from: to, to, logged: None, recent: missing }
            }
            SyncPlan::Log { from } if let Some(size_factor) = rules.log_size_factor => {
                learner.progress = Progress::Searched;
                let generation = core.generation;
                return out.disk.push(DiskOp::SearchLog { generation, link, peer, up_to: from, size_factor });
            }
            SyncPlan::Log { .. } | SyncPlan::Snap => History::Snapshot,
        };
        self.send_history(core, now, link, history, out);
    }

    /// Before the epoch is established our history ends with a transaction, not with the epoch's beginning that a former
    /// role may have shown to clients.
    fn last(&self, core: &Core) -> Zxid {
        if self.is_established() { core.last_committed } else { core.last_logged }
    }

    pub(super) fn on_log_searched(&mut self, core: &Core, now: Now, link: LinkId, place: LogPlace, out: &mut Effects) {
        let Some(learner) = self.learners.get_mut(&link) else { return };
        if learner.progress != Progress::Searched {
            return;
        }
        learner.found = Some((place, now.micros));
        self.send_found(core, now, out);
    }

    /// Sends their history to the learners that were found in the log, as soon as our own disk has what memory does not
    /// reach back to. One that lags far behind for a tick is not waited for.
    pub(super) fn send_found(&mut self, core: &Core, now: Now, out: &mut Effects) {
        let found = self.learners.iter().filter_map(|(link, learner)| Some((*link, learner.found?)));
        let found: Vec<(LinkId, (LogPlace, u64))> = found.collect();
        let (first, last) = (core.recent.first(), core.recent.last());
        let is_synced = self.unflushed.is_none_or(|(unflushed, _)| first < Some(unflushed));
        for (link, (place, since)) in found {
            let Some(learner) = self.learners.get_mut(&link) else { continue };
            let peer = learner.last_logged;
            let snapshot = |why: &str, out: &mut Effects| {
                out.notes.push(Note::LogOfNoUse { learner: learner.server, why: why.to_owned() });
                History::Snapshot
            };
            let history = match (place, first, last) {
                (LogPlace::Unknown(why), ..) => snapshot(why, out),
                (_, Some(first), Some(last)) if is_synced => {
                    let recent = core.recent.after(first);
                    History::Txns { trunc: false, from: peer, to: last, logged: Some(first), recent }
                }
                _ if now.micros < since + core.tick_micros() => continue,
                _ => snapshot("our own disk is behind", out),
            };
            learner.found = None;
            self.send_history(core, now, link, history, out);
        }
    }

    fn send_history(&mut self, core: &Core, now: Now, link: LinkId, history: History, out: &mut Effects) {
        let is_snapshot = matches!(history, History::Snapshot);
        if self.awaits_decision(core)
            && let Some(learner) = self.learners.get_mut(&link)
        {
            learner.progress = Progress::EpochAcked;
            return;
        }
        if let Some(limit) = self.throttle(core, link, is_snapshot) {
            let reason = format!("{limit} learners are being synchronised in the same way already");
            return self.drop_learner(link, &reason, out);
        }
        let from = self.last(core);
        let Some(learner) = self.learners.get_mut(&link) else { return };
        let (how, packet) = match &history {
            History::Snapshot => ("SNAP", QuorumPacket::Snap { zxid: core.last_committed }),
            History::Txns { trunc: true, to, .. } => ("TRUNC", QuorumPacket::Trunc { zxid: *to }),
            History::Txns { to, .. } => ("DIFF", QuorumPacket::Diff { zxid: *to }),
        };
        if let Some(server) = learner.server {
            out.notes.push(Note::SyncSent { learner: server, how, peer_last: learner.last_logged, from });
        }
        out.send(link, packet);
        let sent = match history {
            History::Snapshot => {
                out.links.push(LinkOp::StreamSnapshot { link, zxid: core.last_committed });
                core.last_committed
            }
            History::Txns { from, logged, recent, .. } => {
                if let Some(up_to) = logged {
                    out.links.push(LinkOp::StreamLog { link, after: from, up_to });
                }
                let sent = recent.last().map_or(logged.unwrap_or(from), Proposal::zxid);
                if !recent.is_empty() {
                    out.links.push(LinkOp::StreamProposals { link, proposals: recent });
                }
                sent
            }
        };
        learner.last_sent = sent;
        // An observer is told of them when they are committed.
        let is_told = !learner.is_observer;
        for proposal in self.broadcast.outstanding().filter(|proposal| is_told && proposal.zxid() > sent) {
            Self::send_proposal(now, link, learner, proposal, out);
        }
        (learner.progress, learner.gets_snapshot) = (Progress::Synchronizing, is_snapshot);
        learner.with_us_at = now.micros;
        let config = Some(core.last_seen.as_ref().unwrap_or(&core.committed).to_string());
        out.send(link, QuorumPacket::NewLeader { zxid: Zxid::new(self.epoch, 0), config });
    }

    /// How many learners are being synchronised in this way, if this one, an observer, would be one too many. Those who
    /// may be needed for a quorum count and are let in.
    fn throttle(&self, core: &Core, link: LinkId, by_snapshot: bool) -> Option<usize> {
        let CatchUpRules { snapshots_max, diffs_max, .. } = core.config.catch_up;
        let is_observer = self.learners.get(&link).is_some_and(|learner| learner.is_observer);
        let under_way = self
            .learners
            .values()
            .filter(|of| of.progress == Progress::Synchronizing && of.gets_snapshot == by_snapshot);
        let (count, max) = (under_way.count(), if by_snapshot { snapshots_max } else { diffs_max });
        (is_observer && count >= max).then_some(count)
    }
}
