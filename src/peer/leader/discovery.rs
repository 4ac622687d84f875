//! Zab phase 1, leader's side: a new epoch, larger than any that a quorum has accepted.
//!
//! The epoch is on our disk as accepted before anybody is told of it, and a quorum has accepted it before it is our
//! current one. ZooKeeper: `Leader.getEpochToPropose`, `waitForEpochAck`.

use super::super::core::{Core, Leave};
use super::super::io::{DiskOp, Effects, LinkId, Note, Now};
use super::{EPOCH_MAX, Leader, Learner, Phase, Progress};
use crate::records::{Configuration, Epoch, LearnerInfo, PROTOCOL_VERSION, QuorumPacket, ServerId, Zxid};

/// How many epochs a server may be ahead. Each is a leader that failed; a few forged bytes must not use up the epochs.
const EPOCHS_AHEAD_MAX: i64 = 1_000_000;

/// Whether a server that goes by that version of the configuration is not ahead of us. What we have seen proposed is what
/// we complete; one between that and the committed one was never part of our history, but is part of the learner's.
fn is_known(core: &Core, version: i64) -> bool {
    let is_completed = |proposed: &Configuration| {
        // Several leaders in a row may give the first list a version.
        let is_number = proposed.is_same_as(&core.committed) && Zxid(version).counter() == 0;
        version == proposed.version || is_number && version < proposed.version
    };
    version <= core.committed.version || core.last_seen.as_ref().is_some_and(is_completed)
}

/// Why a server that asks to follow cannot be let in.
fn refusal(core: &Core, accepted_epoch: Epoch, info: &LearnerInfo) -> Option<String> {
    if !is_known(core, info.config_version) {
        return Some(format!("its configuration {:#x} is newer than ours", info.config_version));
    }
    if !(0..EPOCH_MAX).contains(&accepted_epoch.0) {
        return Some(format!("no epoch can follow its epoch {accepted_epoch}"));
    }
    if accepted_epoch.0 > core.accepted_epoch.0 + EPOCHS_AHEAD_MAX {
        return Some(format!("its epoch {accepted_epoch} is too far ahead of {} to be believed", core.accepted_epoch));
    }
    // The ACKs of a server with our id would count as our own disk's.
    (info.server == core.my_id()).then(|| format!("its id is ours, {}: two servers have the same myid", info.server))
}

/// Whether what a learner says in discovery may count. An observer that votes in the proposed configuration alone may not
/// have heard of that: it hears of it with NEWLEADER, and comes again as a follower before it acknowledges that.
fn promises(core: &Core, server: ServerId, learner: &Learner) -> bool {
    !learner.is_observer || !core.quorums.committed().is_voter(server)
}

impl Leader {
    pub(super) fn on_learner_info(
        &mut self,
        core: &mut Core,
        link: LinkId,
        accepted_epoch: Epoch,
        info: LearnerInfo,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        if let Some(reason) = refusal(core, accepted_epoch, &info) {
            self.drop_learner(link, &reason, out);
            return Ok(());
        }
        let is_voter = core.quorums.is_voter(info.server)
            && self.learners.get(&link).is_some_and(|learner| promises(core, info.server, learner));
        if self.is_epoch_accepted() && accepted_epoch > self.epoch && is_voter {
            let is_with_us =
                |learner: &Learner| learner.server == Some(info.server) && learner.progress >= Progress::Synced;
            if self.learners.values().any(is_with_us) {
                // It follows us in this epoch, so it has accepted no later one: somebody else speaks here.
                self.drop_learner(link, &format!("server {} is with us already", info.server), out);
                return Ok(());
            }
            // It has promised a leader that failed to follow nobody older, so it can never follow us. ZooKeeper leaves
            // it out until some other failure ends the epoch; then perhaps no quorum is left.
            core.epoch_promised = core.epoch_promised.max(accepted_epoch);
            return Err(Leave::because(format!(
                "server {} has accepted epoch {accepted_epoch} already, this is {}",
                info.server, self.epoch
            )));
        }
        // A server has one connection; the newer one counts.
        let older = self.learners.iter().find(|(_, learner)| learner.server == Some(info.server));
        if let Some(older) = older.map(|(link, _)| *link) {
            self.drop_learner(older, "it has connected again", out);
        }
        // It may be told to truncate what it acknowledged before: only what it acknowledges from here on counts.
        self.broadcast.forget_acks(info.server);
        let epoch_fixed = self.is_epoch_accepted();
        let epoch = self.epoch;
        let Some(learner) = self.learners.get_mut(&link) else { return Ok(()) };
        learner.server = Some(info.server);
        learner.accepted_epoch = accepted_epoch;
        learner.progress = Progress::Known;
        if epoch_fixed {
            learner.progress = Progress::EpochSent;
            out.send(link, QuorumPacket::LeaderInfo { epoch, protocol_version: PROTOCOL_VERSION });
        } else {
            self.try_accept_epoch(core, out);
        }
        Ok(())
    }

    pub(super) fn is_epoch_accepted(&self) -> bool {
        !matches!(self.phase, Phase::Discovery | Phase::AcceptingEpoch)
    }

    /// The servers among the followers that satisfy `has`, and ourselves.
    pub(super) fn with_me<'a>(
        &'a self,
        core: &Core,
        has: impl Fn(&Learner) -> bool + 'a,
    ) -> impl Iterator<Item = ServerId> + 'a {
        let me = core.my_id();
        self.learners
            .values()
            .filter(move |learner| !learner.is_observer && has(learner))
            .filter_map(|learner| learner.server)
            .chain([me])
    }

    /// The learners that satisfy `has` and may promise to follow nobody older, and ourselves.
    fn promised_by<'a>(
        &'a self,
        core: &'a Core,
        has: impl Fn(&Learner) -> bool + 'a,
    ) -> impl Iterator<Item = ServerId> {
        let promising = self.learners.values().filter_map(move |learner| {
            let server = learner.server?;
            (promises(core, server, learner) && has(learner)).then_some(server)
        });
        promising.chain([core.my_id()])
    }

    /// A standalone server begins another epoch by itself, when the zxids of the last one are used up. What it begins
    /// with; it is on disk before the next transaction is.
    pub(super) fn next_epoch_alone(&mut self, core: &mut Core, out: &mut Effects) -> Zxid {
        let epoch = Epoch(self.epoch.0.max(core.accepted_epoch.0) + 1);
        if epoch.0 >= EPOCH_MAX {
            return core.last_logged;
        }
        (self.epoch, core.accepted_epoch, core.current_epoch) = (epoch, epoch, epoch);
        let generation = core.generation;
        out.disk.push(DiskOp::SaveAcceptedEpoch { generation, epoch });
        out.disk.push(DiskOp::SaveCurrentEpoch { generation, epoch });
        Zxid::new(epoch, 0)
    }

    /// With a quorum connected, the new epoch is larger than any that one of its members has accepted.
    pub(super) fn try_accept_epoch(&mut self, core: &mut Core, out: &mut Effects) {
        let known = self.promised_by(core, |learner| learner.progress >= Progress::Known);
        if self.phase != Phase::Discovery || !core.quorums.is_reached(known) {
            return;
        }
        let accepted = self.learners.values().map(|learner| learner.accepted_epoch).max().unwrap_or_default();
        let accepted = accepted.max(core.accepted_epoch).max(core.epoch_promised);
        // A restored directory may be older than the list: what is proposed must be newer than that.
        let listed = Zxid(core.committed.version.saturating_sub(1)).epoch();
        let accepted = if listed.0 <= accepted.0 + EPOCHS_AHEAD_MAX { accepted.max(listed) } else { accepted };
        if accepted.0 + 1 >= EPOCH_MAX {
            let text =
                format!("no epoch can follow {accepted}: this ensemble has used up its epochs, and needs a new start");
            return out.notes.push(Note::Warning(text));
        }
        self.epoch = Epoch(accepted.0 + 1);
        self.phase = Phase::AcceptingEpoch;
        core.accepted_epoch = self.epoch;
        out.disk.push(DiskOp::SaveAcceptedEpoch { generation: core.generation, epoch: self.epoch });
    }

    pub(super) fn on_accepted_epoch_saved(&mut self, core: &mut Core, epoch: Epoch, out: &mut Effects) {
        if self.phase != Phase::AcceptingEpoch || epoch != self.epoch {
            return;
        }
        self.phase = Phase::AwaitingEpochAcks;
        out.notes.push(Note::EpochAccepted { epoch });
        for (link, learner) in &mut self.learners {
            if learner.progress == Progress::Known {
                learner.progress = Progress::EpochSent;
                out.send(*link, QuorumPacket::LeaderInfo { epoch, protocol_version: PROTOCOL_VERSION });
            }
        }
        self.try_begin_epoch(core, out); // A quorum of one needs nobody's ACK.
    }

    pub(super) fn on_ack_epoch(
        &mut self,
        core: &mut Core,
        now: Now,
        link: LinkId,
        (last_logged, current_epoch): (Zxid, Option<Epoch>),
        out: &mut Effects,
    ) -> Result<(), Leave> {
        let Some(learner) = self.learners.get_mut(&link) else { return Ok(()) };
        let is_open = self.phase == Phase::AwaitingEpochAcks;
        if is_open && current_epoch.is_some_and(|epoch| (epoch, last_logged) > self.summary) {
            self.ahead.extend(learner.server);
            let reason = format!("it knows more than we do: {last_logged} against {}", self.summary.1);
            self.drop_learner(link, &reason, out);
            return self.check_ahead(core);
        }
        learner.last_logged = last_logged;
        learner.current_epoch = current_epoch;
        learner.progress = Progress::EpochAcked;
        match self.phase {
            Phase::Synchronizing | Phase::Broadcast => self.synchronize(core, now, link, out),
            _ => self.try_begin_epoch(core, out),
        }
        Ok(())
    }

    /// Without those who know more than we do there must be a quorum, or one of them must lead.
    fn check_ahead(&self, core: &Core) -> Result<(), Leave> {
        if core.quorums.is_reached(core.quorums.voters().difference(&self.ahead).copied()) {
            return Ok(());
        }
        let ids = self.ahead.iter().map(ServerId::to_string).collect::<Vec<_>>().join(", ");
        Err(Leave::because(format!("without those who know more, [ {ids} ], there is no quorum")))
    }

    pub(super) fn try_begin_epoch(&mut self, core: &mut Core, out: &mut Effects) {
        let acked = self.promised_by(core, |learner| {
            learner.progress >= Progress::EpochAcked
                && learner.current_epoch.is_some()
                && learner.last_logged != Zxid::NONE
        });
        if self.phase != Phase::AwaitingEpochAcks || !core.quorums.is_reached(acked) {
            return;
        }
        self.phase = Phase::SavingEpoch;
        core.current_epoch = self.epoch;
        out.disk.push(DiskOp::SaveCurrentEpoch { generation: core.generation, epoch: self.epoch });
    }
}
