//! Zab phase 2, learner's side: the history that we lack, then NEWLEADER; and what the leader proposes from then on.
//!
//! The history is on disk before currentEpoch is, and both before NEWLEADER is acknowledged.
//!
//! ZooKeeper: `Learner.syncWithLeader`, `Follower.processPacket`.

use super::super::Database;
use super::super::core::{Core, Leave};
use super::super::io::{DbOp, DiskOp, Effects, End, Loaded, Note, Now, Proposal, ServerMode, Serving};
use super::super::membership::Commit;
use super::{Learner, Phase};
use crate::jute::Record;
use crate::records::{Epoch, QuorumPacket, SnapshotItem, Txn, Zxid};
use bytes::Bytes;
use std::sync::Arc;

/// The exit code of a server that got a COMMIT for another proposal than its oldest one.
const EXIT_UNMATCHED_COMMIT: i32 = 12;

impl Learner {
    pub(super) fn on_sync_start(
        &mut self,
        how: &'static str,
        zxid: Zxid,
        next: Phase,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        if !matches!(self.phase, Phase::AwaitingSync) {
            return Err(self.unexpected(how));
        }
        out.notes.push(Note::SyncReceived { how, zxid });
        if how != "DIFF" {
            (self.last_received, self.flushed) = (zxid, zxid);
        }
        self.phase = next;
        Ok(())
    }

    pub(super) fn on_snapshot_items(&mut self, items: Vec<SnapshotItem>, end: bool) -> Result<(), Leave> {
        let Phase::ReceivingSnapshot { loader, .. } = &mut self.phase else {
            return Err(self.unexpected("a snapshot stream"));
        };
        for item in items {
            loader
                .push(item)
                .map_err(|error| Leave::because(format!("the leader's snapshot is malformed: {error}")))?;
        }
        if end
            && let Phase::ReceivingSnapshot { zxid, loader } =
                std::mem::replace(&mut self.phase, Phase::CollectingHistory)
        {
            let loaded = loader
                .finish(zxid)
                .map_err(|error| Leave::because(format!("the leader's snapshot is malformed: {error}")))?;
            self.staged = Some((zxid, Box::new(loaded)));
        }
        Ok(())
    }

    pub(super) fn on_truncated(
        &mut self,
        core: &mut Core,
        now: Now,
        loaded: Box<Loaded>,
        db: &Database,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        let held = loaded.last_zxid;
        core.install_loaded(loaded, out);
        if !matches!(self.phase, Phase::Truncating) {
            return Ok(());
        }
        if held != self.last_received {
            // We hold less than the leader believes: its history would leave a gap behind ours. Tell it the truth.
            return Err(Leave::because(format!(
                "after truncation the log ends at {held}, the leader expects {}",
                self.last_received
            )));
        }
        self.phase = Phase::CollectingHistory;
        for packet in std::mem::take(&mut self.deferred) {
            self.on_packet(core, now, packet, db, out)?;
        }
        Ok(())
    }

    pub(super) fn on_proposal(
        &mut self,
        core: &mut Core,
        zxid: Zxid,
        bytes: Bytes,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        let collecting = matches!(self.phase, Phase::CollectingHistory);
        if !collecting && !self.is_history_requested() {
            return Err(self.unexpected("PROPOSAL"));
        }
        if collecting && self.staged.as_ref().is_some_and(|(snapshot, _)| zxid <= *snapshot) {
            return Ok(()); // The snapshot holds it already.
        }
        let last = self.last_received;
        let follows = zxid > last && (zxid.0 - 1 == last.0 || zxid.epoch() > last.epoch());
        if !follows {
            return Err(Leave::because(format!("proposal {zxid} does not follow {last}")));
        }
        let txn = Txn::from_bytes(&bytes)
            .map_err(|error| Leave::because(format!("proposal {zxid} of the leader is malformed: {error}")))?;
        if txn.zxid != zxid {
            return Err(Leave::because(format!("proposal {zxid} holds transaction {}", txn.zxid)));
        }
        self.last_received = zxid;
        let proposal = Proposal { txn: Arc::new(txn), bytes };
        self.on_proposed(core, &proposal, out)?;
        if collecting {
            self.not_logged.push_back(proposal);
        } else {
            self.log(core, proposal, out);
        }
        Ok(())
    }

    /// To an observer: PROPOSAL and COMMIT in one.
    pub(super) fn on_inform(
        &mut self,
        core: &mut Core,
        commit: Commit,
        bytes: Bytes,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        if !self.is_observer {
            return Err(self.unexpected("INFORM"));
        }
        self.on_proposal(core, commit.zxid, bytes, out)?;
        self.on_commit(core, commit, out)
    }

    pub(super) fn log(&mut self, core: &mut Core, proposal: Proposal, out: &mut Effects) {
        if !self.is_observer {
            self.to_ack.push_back(proposal.zxid());
        }
        core.log(proposal, out);
    }

    /// Whether NEWLEADER has come: from then on proposals go to the log as they arrive.
    pub(super) fn is_history_requested(&self) -> bool {
        matches!(self.phase, Phase::PersistingHistory | Phase::SavingEpoch | Phase::AwaitingUpToDate | Phase::Broadcast)
    }

    pub(super) fn on_commit(&mut self, core: &mut Core, commit: Commit, out: &mut Effects) -> Result<(), Leave> {
        if matches!(self.phase, Phase::Broadcast) {
            return self.apply_commit(core, commit, out);
        }
        if !matches!(self.phase, Phase::CollectingHistory) && !self.is_history_requested() {
            return Err(self.unexpected("COMMIT"));
        }
        self.committed.push_back(commit);
        Ok(())
    }

    pub(super) fn apply_commit(&mut self, core: &mut Core, commit: Commit, out: &mut Effects) -> Result<(), Leave> {
        let Commit { zxid, designated } = commit;
        match core.uncommitted.front() {
            Some(first) if first.zxid() == zxid => {
                let proposal = first.clone();
                core.commit_first(out);
                self.observers.on_committed(&proposal, designated, out);
                self.on_committed(core, &proposal, designated, out)
            }
            Some(first) if zxid > core.last_committed => {
                let reason = format!("COMMIT of {zxid}, but the oldest proposal here is {}", first.zxid());
                out.end = Some(End { code: EXIT_UNMATCHED_COMMIT, reason: reason.clone() });
                Err(Leave::because(reason))
            }
            // What the history brought is committed already.
            _ if zxid <= core.last_committed => Ok(()),
            _ => Err(Leave::because(format!("COMMIT of {zxid}, which was never proposed here"))),
        }
    }

    // ----- NEWLEADER: history, then epoch, then the ACK -----

    pub(super) fn on_new_leader(
        &mut self,
        core: &mut Core,
        now: Now,
        zxid: Zxid,
        config: Option<&str>,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        if !matches!(self.phase, Phase::CollectingHistory) {
            return Err(self.unexpected("NEWLEADER"));
        }
        if zxid != Zxid::new(self.epoch, 0) {
            return Err(Leave::because(format!("NEWLEADER of {zxid} in epoch {}", self.epoch)));
        }
        self.on_offered(core, config, out)?;
        self.check_role(core)?;
        if let Some((zxid, loaded)) = self.staged.take() {
            let keeps = core.divergence.keeps_files();
            core.install_loaded(loaded, out);
            out.disk.push(DiskOp::TakeSnapshot { generation: core.generation, zxid, install: true, keeps });
        }
        core.set_config(now, out);
        for proposal in std::mem::take(&mut self.not_logged) {
            self.log(core, proposal, out);
        }
        out.disk.push(DiskOp::Drain { generation: core.generation });
        self.phase = Phase::PersistingHistory;
        Ok(())
    }

    pub(super) fn on_history_durable(&mut self, core: &mut Core, out: &mut Effects) -> Result<(), Leave> {
        if matches!(self.phase, Phase::PersistingHistory) {
            self.phase = Phase::SavingEpoch;
            core.current_epoch = self.epoch;
            out.disk.push(DiskOp::SaveCurrentEpoch { generation: core.generation, epoch: self.epoch });
        }
        Ok(())
    }

    pub(super) fn on_current_epoch_saved(&mut self, epoch: Epoch, out: &mut Effects) -> Result<(), Leave> {
        if matches!(self.phase, Phase::SavingEpoch) && epoch == self.epoch {
            self.phase = Phase::AwaitingUpToDate;
            self.send_new_leader_ack(out);
        }
        Ok(())
    }

    pub(super) fn send_new_leader_ack(&self, out: &mut Effects) {
        if let Some(link) = self.link {
            out.send(link, QuorumPacket::Ack { zxid: Zxid::new(self.epoch, 0) });
        }
    }

    pub(super) fn on_up_to_date(&mut self, core: &mut Core, now: Now, out: &mut Effects) -> Result<(), Leave> {
        if !matches!(self.phase, Phase::AwaitingUpToDate) {
            return Err(self.unexpected("UPTODATE"));
        }
        self.send_new_leader_ack(out);
        for commit in std::mem::take(&mut self.committed) {
            self.apply_commit(core, commit, out)?;
        }
        self.on_confirmed(core, now, out)?;
        self.phase = Phase::Broadcast;
        // The NEWLEADER ACK covered what was committed by then.
        self.to_ack.retain(|zxid| *zxid > core.last_committed);
        // The epoch's beginning is what the leader shows too: a client may move here after a read there.
        if core.last_committed < Zxid::new(self.epoch, 0) {
            core.last_committed = Zxid::new(self.epoch, 0);
            out.db.push(DbOp::SetLastProcessed(core.last_committed));
        }
        core.settle_as_learner(self.epoch);
        core.keep_master(self.master);
        self.observers.begin(core, self.epoch, out);
        self.lease_until = now.micros + core.sync_limit_micros();
        out.db.push(DbOp::Serve(Serving {
            generation: core.generation,
            mode: if self.is_observer { ServerMode::Observer } else { ServerMode::Follower },
            until_micros: self.lease_until,
        }));
        let (epoch, leader) = (self.epoch, self.leader);
        out.notes.push(match self.is_observer {
            true => Note::Observing { epoch, leader },
            false => Note::Following { epoch, leader },
        });
        self.ack_flushed(out);
        Ok(())
    }

    /// One ACK for each transaction, ascending: ZooKeeper's leader commits a proposal only by an ACK of its own.
    pub(super) fn ack_flushed(&mut self, out: &mut Effects) {
        let (Phase::Broadcast, Some(link)) = (&self.phase, self.link) else { return };
        while let Some(zxid) = self.to_ack.front().copied().filter(|zxid| *zxid <= self.flushed) {
            self.to_ack.pop_front();
            out.send(link, QuorumPacket::Ack { zxid });
        }
    }
}
