//! Zab phase 2, leader's side: when each learner has [the history that it lacked](super::catch_up), a quorum of ACKs of
//! NEWLEADER makes us leader. ZooKeeper: `Leader.waitForNewLeaderAck`.

use super::super::Database;
use super::super::core::Core;
use super::super::in_flight::InFlight;
use super::super::io::{DbOp, Effects, LinkId, LinkOp, Note, Now, Proposal, ServerMode, Serving};
use super::{Leader, Learner, Phase, Progress};
use crate::records::{Epoch, QuorumPacket, Zxid};
use crate::zab::Broadcast;

impl Leader {
    pub(super) fn on_current_epoch_saved(
        &mut self,
        core: &mut Core,
        now: Now,
        epoch: Epoch,
        db: &Database,
        out: &mut Effects,
    ) {
        if self.phase != Phase::SavingEpoch || epoch != self.epoch {
            return;
        }
        self.phase = Phase::Synchronizing;
        self.number_first_configuration(core, out);
        self.broadcast = Broadcast::new(core.quorums.clone(), Zxid::new(epoch, 0));
        let ready = self.learners.iter().filter(|(_, learner)| learner.progress == Progress::EpochAcked);
        let ready: Vec<LinkId> = ready.map(|(link, _)| *link).collect();
        for link in ready {
            self.synchronize(core, now, link, out);
        }
        self.try_establish(core, now, db, out);
    }

    pub(super) fn send_proposal(now: Now, link: LinkId, learner: &mut Learner, proposal: &Proposal, out: &mut Effects) {
        let zxid = proposal.zxid();
        learner.last_sent = zxid;
        learner.awaited.get_or_insert((zxid, now.micros));
        out.send(link, QuorumPacket::Proposal { zxid, txn: proposal.bytes.clone() });
    }

    pub(super) fn on_ack(
        &mut self,
        core: &mut Core,
        now: Now,
        link: LinkId,
        zxid: Zxid,
        db: &Database,
        out: &mut Effects,
    ) {
        if zxid > self.broadcast.last_proposed() {
            return self.drop_learner(link, &format!("it acknowledges {zxid}, which was never proposed"), out);
        }
        if zxid.counter() == 0 {
            return self.on_new_leader_ack(core, now, link, zxid, db, out);
        }
        let Some(learner) = self.learners.get_mut(&link) else { return };
        if learner.awaited.is_some_and(|(awaited, _)| awaited <= zxid) {
            learner.awaited = (zxid < learner.last_sent).then(|| (zxid.successor(), now.micros));
        }
        if learner.is_observer {
            return; // Nobody asked it.
        }
        learner.acked = learner.acked.max(zxid);
        self.count_acks(core, now, link, out);
    }

    /// A learner's ACKs count once it has acknowledged NEWLEADER: before that, its currentEpoch may still be an older
    /// one, and its history could lose an election against one without the proposal (ZOOKEEPER-4685 sends them early).
    pub(super) fn count_acks(&mut self, core: &mut Core, now: Now, link: LinkId, out: &mut Effects) {
        let Some(learner) = self.learners.get(&link) else { return };
        if let Some(server) = learner.server.filter(|_| learner.progress >= Progress::Synced && !learner.is_observer) {
            let acked = learner.acked;
            self.count_ack(core, now, server, acked, out);
        }
    }

    /// The ACK of NEWLEADER; a learner sends it again after UPTODATE. One of another epoch says nothing.
    pub(super) fn on_new_leader_ack(
        &mut self,
        core: &mut Core,
        now: Now,
        link: LinkId,
        zxid: Zxid,
        db: &Database,
        out: &mut Effects,
    ) {
        let established = self.is_established();
        let Some(learner) = self.learners.get_mut(&link) else { return };
        if zxid.epoch() != self.epoch || learner.progress != Progress::Synchronizing {
            return;
        }
        learner.progress = Progress::Synced;
        // What it was sent meanwhile it may acknowledge only now, however long it took to read a snapshot.
        learner.awaited = learner.awaited.map(|(zxid, _)| (zxid, now.micros));
        if established {
            Self::send_up_to_date(link, learner, out);
        } else {
            self.try_establish(core, now, db, out);
        }
        self.count_acks(core, now, link, out);
    }

    pub(super) fn send_up_to_date(link: LinkId, learner: &mut Learner, out: &mut Effects) {
        learner.progress = Progress::UpToDate;
        out.send(link, QuorumPacket::UpToDate);
        for committed in learner.held.drain(..) {
            out.send(link, committed.packet());
        }
    }

    pub(super) fn try_establish(&mut self, core: &mut Core, now: Now, db: &Database, out: &mut Effects) {
        let synced = self.with_me(core, |learner| learner.progress >= Progress::Synced);
        if self.phase == Phase::Synchronizing && core.quorums.is_reached(synced) {
            self.establish(core, now, db, out);
        }
    }

    /// A quorum has our history: serve.
    pub(super) fn establish(&mut self, core: &mut Core, now: Now, db: &Database, out: &mut Effects) {
        self.phase = Phase::Broadcast;
        let mode = if core.is_standalone() { ServerMode::Standalone } else { ServerMode::Leader };
        if mode == ServerMode::Leader {
            core.last_committed = Zxid::new(self.epoch, 0);
            out.db.push(DbOp::SetLastProcessed(core.last_committed));
            self.complete_change(core, out);
            core.set_config(now, out);
            core.settle_as_leader(self.epoch);
            let mut supporters: Vec<_> = self.with_me(core, |learner| learner.progress >= Progress::Synced).collect();
            supporters.sort_unstable();
            out.notes.push(Note::Leading { epoch: self.epoch, supporters });
        }
        self.lease_until = if core.is_standalone() { u64::MAX } else { now.micros + core.sync_limit_micros() };
        if core.serves_as_leader() {
            out.db.push(DbOp::Serve(Serving { generation: core.generation, mode, until_micros: self.lease_until }));
        }
        for (session, timeout_ms) in db.sessions() {
            self.sessions.track(now.micros, *session, *timeout_ms, None);
        }
        self.in_flight = Some(InFlight::new(db));
        for (link, learner) in &mut self.learners {
            if learner.progress == Progress::Synced {
                Self::send_up_to_date(*link, learner, out);
            }
        }
        // Ephemerals whose session is not in the table (a session's end was lost with an old log): end them.
        let orphans = db.tree().ephemeral_owners().filter(|owner| !self.sessions.lives(*owner));
        for session in orphans.collect::<Vec<_>>() {
            self.propose_close(core, now, session, db, out);
        }
    }

    pub(super) fn drop_learner(&mut self, link: LinkId, reason: &str, out: &mut Effects) {
        if let Some(learner) = self.learners.remove(&link) {
            out.notes.push(Note::LearnerDropped { learner: learner.server, reason: reason.to_owned() });
        }
        out.links.push(LinkOp::Close { link });
        self.syncs.forget(link);
    }
}
