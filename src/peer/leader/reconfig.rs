//! A reconfiguration on the leader: asked for, proposed, committed; and one that the last leader left behind.
//!
//! From its proposal on the old configuration and the new one must both agree, to everything. Its commit names who
//! leads from then on: this server, if it still votes and is found where it was; else the voter of the new configuration
//! that has acknowledged most. A leader that is replaced commits nothing more, and goes when its learners have gone:
//! they close their links once they have read the commit.
//!
//! A new leader completes what it has seen proposed: its NEWLEADER carries that configuration, and needs both quorums.
//! The first configuration gets its version in the same way, so that all servers agree on one.
//!
//! ZooKeeper: `Leader.tryToCommit`, `getDesignatedLeader`, `startZkServer`.

use super::super::core::Core;
use super::super::io::{Effects, LinkId, Note, Now, Proposal};
use super::super::membership::{may_lead, stays_leader};
use super::super::reconfig::{Ensemble, change};
use super::{Leader, Progress};
use crate::records::{Configuration, ErrorCode, ForwardedBody, Request, ServerId, Zxid};
use crate::zab::QuorumVerifier;

impl Leader {
    /// The configuration that a reconfig makes, as the next transaction. Other requests make none.
    pub(super) fn plan(&self, core: &Core, body: &ForwardedBody) -> Result<Configuration, ErrorCode> {
        let ForwardedBody::Request(Request::Reconfig(request)) = body else { return Err(ErrorCode::Unimplemented) };
        if core.is_standalone() {
            return Err(ErrorCode::Unimplemented);
        }
        let is_synced =
            |new: &QuorumVerifier| new.is_reached(self.with_me(core, |learner| learner.progress == Progress::UpToDate));
        let ensemble = Ensemble {
            committed: &core.committed,
            is_changing: core.last_seen.is_some() || self.successor.is_some(),
            voters_min: if core.config.standalone_enabled { 2 } else { 1 },
        };
        change(&ensemble, request, self.broadcast.last_proposed().successor(), is_synced)
    }

    /// `proposal` is about to be proposed: if it is a reconfiguration, both configurations count from it on.
    pub(super) fn begin_change(&mut self, core: &mut Core, proposal: &Proposal, out: &mut Effects) {
        if let Some(Ok(configuration)) = core.reconfiguration(proposal) {
            self.broadcast.begin_change(QuorumVerifier::of(&configuration));
            core.see(configuration, out);
        }
    }

    /// Activates a reconfiguration that is committed. Returns who leads from now on; `None`: it is none.
    pub(super) fn activate(&mut self, core: &mut Core, proposal: &Proposal, out: &mut Effects) -> Option<ServerId> {
        let configuration = core.reconfiguration(proposal)?.ok()?;
        let designated = self.designated(core, &configuration, |leader, voter| {
            leader.broadcast.acked_by(voter).filter(|acked| *acked >= proposal.zxid())
        });
        self.succeed_by(core, configuration, designated, out);
        Some(designated)
    }

    fn succeed_by(&mut self, core: &mut Core, new: Configuration, designated: ServerId, out: &mut Effects) {
        core.activate(new, out);
        if designated != core.my_id() {
            out.notes.push(Note::LeaderDesignated { leader: designated });
            self.successor = Some(designated);
        }
    }

    /// Who is to lead `new`: this server if it can, else the voter that `has` most; of equals the one with the largest id.
    fn designated<T: Ord>(
        &self,
        core: &Core,
        new: &Configuration,
        has: impl Fn(&Leader, ServerId) -> Option<T>,
    ) -> ServerId {
        let me = core.my_id();
        if stays_leader(me, &core.committed, new) {
            return me;
        }
        let others = new.voters().into_iter().filter(|voter| *voter != me && may_lead(*voter, new));
        let best = others.filter_map(|voter| Some((has(self, voter)?, voter))).max();
        best.map_or(me, |(_, voter)| voter)
    }

    /// Whether a learner must wait to be brought up to date: its NEWLEADER must say which configuration holds, and that is
    /// not decided. If this leader cannot decide it without that learner, it is none any more.
    pub(super) fn awaits_decision(&self, core: &Core) -> bool {
        self.is_established() && core.last_seen.is_some()
    }

    /// A reconfiguration is activated. If this server leads on, the new quorums may have what comes behind it already,
    /// and learners that waited for the decision can be brought up to date when the step has committed all it can: a tree
    /// that is sent has everything that it commits.
    pub(super) fn go_on(&mut self, core: &mut Core, now: Now, out: &mut Effects) {
        if self.successor.is_some() {
            return;
        }
        let committed = self.broadcast.activate();
        self.has_decided = true;
        self.commit(core, now, committed, out);
    }

    /// At the end of each step: brings the learners up to date that have waited for a decision which the step has brought.
    pub(super) fn synchronize_waiting(&mut self, core: &Core, now: Now, out: &mut Effects) {
        if !std::mem::take(&mut self.has_decided) {
            return;
        }
        let waiting = self.learners.iter().filter(|(_, learner)| learner.progress == Progress::EpochAcked);
        let waiting: Vec<LinkId> = waiting.map(|(link, _)| *link).collect();
        for link in waiting {
            self.synchronize(core, now, link, out);
        }
    }

    /// Counts that `server` has everything up to `zxid` on its disk. A leader that is replaced counts no more.
    pub(super) fn count_ack(&mut self, core: &mut Core, now: Now, server: ServerId, zxid: Zxid, out: &mut Effects) {
        if self.successor.is_none() {
            let committed = self.broadcast.on_ack(server, zxid);
            self.commit(core, now, committed, out);
        }
    }

    /// The servers' files have no version. The first leader gives them that of its epoch, so that what the ensemble has
    /// agreed on is newer than the list of a server that is about to join.
    pub(super) fn number_first_configuration(&self, core: &mut Core, out: &mut Effects) {
        if core.committed.version == 0 && core.last_seen.is_none() {
            let version = Zxid::new(self.epoch, 0).0;
            core.see(Configuration { version, ..core.committed.clone() }, out);
        }
    }

    /// A quorum of both configurations has our history, and with it the configuration that was proposed.
    pub(super) fn complete_change(&mut self, core: &mut Core, out: &mut Effects) {
        if let Some(new) = core.last_seen.clone().filter(|_| core.config.reconfig_enabled) {
            let designated = self.designated(core, &new, |leader, voter| {
                leader.voter(voter).filter(|learner| learner.progress >= Progress::Synced).map(drop)
            });
            self.succeed_by(core, new, designated, out);
            self.broadcast.count_by(core.quorums.clone());
        }
    }
}
