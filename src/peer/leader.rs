//! A server's life as leader: discovery, synchronisation of its learners, broadcast, sessions. Also a standalone
//! server, which is a quorum of one and goes through the same steps without packets. Zab phases 1 to 3, leader's side.
//!
//! Nothing is served before a quorum has acknowledged NEWLEADER; nothing is committed before a quorum has it on disk.
//!
//! ZooKeeper: `Leader`, `LearnerHandler`, `ProposalRequestProcessor`.

use super::Database;
use super::core::{Core, Leave};
use super::in_flight::InFlight;
use super::io::{
    ClientRequest, ConnId, DbOp, DiskOp, Effects, Input, LinkId, LinkOp, Note, Now, Proposal, ServerMode, Serving,
};
use super::prepare::PrepareRequest;
use super::sessions::SessionTracker;
use crate::records::{
    Epoch, ErrorCode, ForwardedBody, ForwardedRequest, Id, LearnerInfo, PROTOCOL_VERSION, QuorumPacket, Request,
    ServerId, SessionId, Txn, TxnBody, Zxid,
};
use crate::zab::{Broadcast, SyncPlan};
use std::collections::{BTreeMap, VecDeque};

/// How long a server that was elected waits for a quorum to connect (or initLimit, if that is less), in microseconds.
/// Short, since those who voted for it come at once or have changed their minds.
const DISCOVERY_LIMIT_MICROS: u64 = 3_000_000;

/// Epochs fill the high 32 bits of a zxid, which is signed.
const EPOCH_MAX: i64 = i32::MAX as i64;

/// How far the new epoch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for FOLLOWERINFO of a quorum.
    Discovery,
    /// The new epoch is on its way to our acceptedEpoch.
    AcceptingEpoch,
    /// LEADERINFO is sent; waiting for ACKEPOCH of a quorum.
    AwaitingEpochAcks,
    /// A quorum has accepted the epoch; it is on its way to our currentEpoch.
    SavingEpoch,
    /// Learners are being synchronised; waiting for ACKs of NEWLEADER from a quorum.
    Synchronizing,
    /// Serving.
    Broadcast,
}

/// How far a learner has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    /// Nothing received.
    Connected,
    /// FOLLOWERINFO received.
    Known,
    /// LEADERINFO sent.
    EpochSent,
    /// ACKEPOCH received.
    EpochAcked,
    /// The history and NEWLEADER are sent; it gets every new proposal.
    Synchronizing,
    /// NEWLEADER acknowledged.
    Synced,
    /// UPTODATE sent; it gets commits.
    UpToDate,
}

/// A learner's connection.
#[derive(Debug)]
struct Learner {
    server: Option<ServerId>,
    progress: Progress,
    accepted_epoch: Epoch,
    last_logged: Zxid,
    /// In ACKEPOCH; `None` (-1) does not count towards the quorum.
    current_epoch: Option<Epoch>,
    connected_at: u64,
    last_heard: u64,
    /// The oldest proposal it has not acknowledged, and when it was sent.
    awaited: Option<(Zxid, u64)>,
    last_sent: Zxid,
    /// The highest proposal it has acknowledged on this connection.
    acked: Zxid,
    /// Commits kept back until UPTODATE: between NEWLEADER and UPTODATE they kill a learner of 3.8 (ZOOKEEPER-4394).
    held: Vec<Zxid>,
}

/// Who waits for a sync.
#[derive(Clone, Copy, Debug)]
enum SyncWaiter {
    Client(ConnId, i32),
    Learner(LinkId),
}

/// The leader role.
pub struct Leader {
    phase: Phase,
    started: u64,
    epoch: Epoch,
    /// (currentEpoch, last zxid) with which we were elected: no learner of the first quorum may know more.
    summary: (Epoch, Zxid),
    learners: BTreeMap<LinkId, Learner>,
    broadcast: Broadcast,
    in_flight: Option<InFlight>,
    sessions: SessionTracker,
    /// Syncs, each with the proposal that was the last one when it came; ascending.
    syncs: VecDeque<(Zxid, SyncWaiter)>,
    next_ping: u64,
    /// When this machine last ran, in microseconds.
    last_step: u64,
    /// Pings come twice a tick; whether a quorum is still with us is asked once.
    ping_count: u64,
    lease_until: u64,
}

impl Leader {
    /// Elected; `early` are learners that have connected before we knew.
    pub fn start(core: &mut Core, now: Now, early: Vec<LinkId>, db: &Database, out: &mut Effects) -> Leader {
        let mut leader = Leader {
            phase: Phase::Discovery,
            started: now.micros,
            epoch: core.accepted_epoch,
            summary: (core.current_epoch, core.last_logged),
            learners: BTreeMap::new(),
            broadcast: Broadcast::new(core.verifier.clone(), core.last_logged),
            in_flight: None,
            sessions: SessionTracker::new(core.config.tick_ms),
            syncs: VecDeque::new(),
            next_ping: now.micros + core.tick_micros() / 2,
            last_step: now.micros,
            ping_count: 0,
            lease_until: 0,
        };
        for link in early {
            leader.on_learner_up(now, link);
        }
        if core.is_standalone() {
            leader.epoch = core.last_logged.epoch();
            leader.broadcast = Broadcast::new(core.verifier.clone(), core.last_logged.max(Zxid::ZERO));
            leader.establish(core, now, db, out);
        } else {
            leader.try_accept_epoch(core, out);
        }
        leader
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether a quorum has acknowledged NEWLEADER.
    pub fn is_established(&self) -> bool {
        self.phase == Phase::Broadcast
    }

    /// Learners that are connected and known, and those of them that are up to date.
    pub fn learner_counts(&self) -> (usize, usize) {
        let known = self.learners.values().filter(|learner| learner.server.is_some()).count();
        let synced = self.learners.values().filter(|learner| learner.progress == Progress::UpToDate).count();
        (known, synced)
    }

    /// Syncs that wait for a commit.
    pub fn pending_syncs(&self) -> usize {
        self.syncs.len()
    }

    pub fn next_wakeup(&self, core: &Core) -> u64 {
        let mut at = self.next_ping;
        if !self.is_established() {
            at = at.min(self.deadline(core));
        } else if let Some(expiry) = self.sessions.next_expiry() {
            at = at.min(expiry);
        }
        at
    }

    /// When a leader without a quorum gives up.
    fn deadline(&self, core: &Core) -> u64 {
        let limit = core.init_limit_micros();
        let limit = if self.phase == Phase::Discovery { limit.min(DISCOVERY_LIMIT_MICROS) } else { limit };
        self.started + limit
    }

    /// Handles one input. An error ends the role.
    pub fn step(
        &mut self,
        core: &mut Core,
        now: Now,
        input: Input,
        db: &Database,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.retire(db.last_processed());
        }
        self.notice_leap(core, now);
        match input {
            Input::Requests(requests) => self.on_requests(core, now, requests, db, out),
            Input::Packets { link, packets } => self.on_packets(core, now, link, packets, db, out),
            Input::Flushed { up_to, .. } => {
                let committed = self.broadcast.on_ack(core.my_id(), up_to);
                self.commit(core, committed, out);
                Ok(())
            }
            Input::LearnerLinkUp { link } => {
                self.on_learner_up(now, link);
                Ok(())
            }
            Input::LinkDown { link, reason } => {
                if let Some(Learner { server: Some(server), .. }) = self.learners.remove(&link) {
                    out.notes.push(Note::LearnerDropped { learner: Some(server), reason });
                }
                self.syncs.retain(|(_, waiter)| !matches!(waiter, SyncWaiter::Learner(gone) if *gone == link));
                Ok(())
            }
            Input::AcceptedEpochSaved { epoch, .. } => {
                self.on_accepted_epoch_saved(core, epoch, out);
                Ok(())
            }
            Input::CurrentEpochSaved { epoch, .. } => {
                self.on_current_epoch_saved(core, now, epoch, db, out);
                Ok(())
            }
            Input::Wakeup => self.on_wakeup(core, now, db, out),
            _ => Ok(()),
        }
    }

    // ----- Discovery -----

    fn on_learner_up(&mut self, now: Now, link: LinkId) {
        let learner = Learner {
            server: None,
            progress: Progress::Connected,
            accepted_epoch: Epoch(0),
            last_logged: Zxid::ZERO,
            current_epoch: None,
            connected_at: now.micros,
            last_heard: now.micros,
            awaited: None,
            last_sent: Zxid::ZERO,
            acked: Zxid::ZERO,
            held: Vec::new(),
        };
        self.learners.insert(link, learner);
    }

    fn on_packets(
        &mut self,
        core: &mut Core,
        now: Now,
        link: LinkId,
        packets: Vec<QuorumPacket>,
        db: &Database,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        for packet in packets {
            let Some(learner) = self.learners.get_mut(&link) else { return Ok(()) };
            learner.last_heard = now.micros;
            let progress = learner.progress;
            match packet {
                QuorumPacket::FollowerInfo { accepted_epoch, info } if progress == Progress::Connected => {
                    self.on_follower_info(core, link, accepted_epoch, info, out);
                }
                QuorumPacket::AckEpoch { last_logged, current_epoch } if progress == Progress::EpochSent => {
                    self.on_ack_epoch(core, now, link, (last_logged, current_epoch), out);
                }
                QuorumPacket::Ack { zxid } if progress >= Progress::Synchronizing => {
                    self.on_ack(core, now, link, zxid, db, out);
                }
                QuorumPacket::Ping { touched, .. } if progress >= Progress::Synchronizing => {
                    for touched in touched.unwrap_or_default() {
                        self.sessions.touch(now.micros, touched.session, touched.timeout_ms);
                    }
                }
                QuorumPacket::Request(request) if progress == Progress::UpToDate => {
                    self.on_forwarded(core, now, link, request, db, out)?;
                }
                QuorumPacket::Revalidate { session, timeout_ms } if progress == Progress::UpToDate => {
                    let valid = match self.learners.get(&link).and_then(|learner| learner.server) {
                        Some(server) => self.sessions.renew(now.micros, session, timeout_ms, server),
                        None => false,
                    };
                    out.send(link, QuorumPacket::Revalidated { session, valid });
                }
                // Requests of a learner that is not up to date: its clients will ask again.
                QuorumPacket::Request(_) | QuorumPacket::Revalidate { .. } => {}
                QuorumPacket::ObserverInfo { .. } => {
                    self.drop_learner(link, "observers are not supported yet", out);
                    return Ok(());
                }
                other => {
                    self.drop_learner(link, &format!("{} is out of turn", other.name()), out);
                    return Ok(());
                }
            }
        }
        self.extend_lease(core, now, out);
        Ok(())
    }

    fn on_follower_info(
        &mut self,
        core: &mut Core,
        link: LinkId,
        accepted_epoch: Epoch,
        info: LearnerInfo,
        out: &mut Effects,
    ) {
        if info.config_version > core.config.config_version {
            let reason = format!("its configuration {:#x} is newer than ours", info.config_version);
            return self.drop_learner(link, &reason, out);
        }
        if !(0..EPOCH_MAX).contains(&accepted_epoch.0) {
            return self.drop_learner(link, &format!("no epoch can follow its epoch {accepted_epoch}"), out);
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
        let Some(learner) = self.learners.get_mut(&link) else { return };
        learner.server = Some(info.server);
        learner.accepted_epoch = accepted_epoch;
        learner.progress = Progress::Known;
        if epoch_fixed {
            learner.progress = Progress::EpochSent;
            out.send(link, QuorumPacket::LeaderInfo { epoch, protocol_version: PROTOCOL_VERSION });
        } else {
            self.try_accept_epoch(core, out);
        }
    }

    fn is_epoch_accepted(&self) -> bool {
        !matches!(self.phase, Phase::Discovery | Phase::AcceptingEpoch)
    }

    /// The servers among the learners that satisfy `has`, and ourselves.
    fn with_me<'a>(&'a self, core: &Core, has: impl Fn(&Learner) -> bool + 'a) -> impl Iterator<Item = ServerId> + 'a {
        let me = core.my_id();
        self.learners.values().filter(move |learner| has(learner)).filter_map(|learner| learner.server).chain([me])
    }

    /// With a quorum connected, the new epoch is larger than any that one of its members has accepted.
    fn try_accept_epoch(&mut self, core: &mut Core, out: &mut Effects) {
        let known = self.with_me(core, |learner| learner.progress >= Progress::Known);
        if self.phase != Phase::Discovery || !core.verifier.is_reached(known) {
            return;
        }
        let accepted = self.learners.values().map(|learner| learner.accepted_epoch).max().unwrap_or_default();
        self.epoch = Epoch(accepted.max(core.accepted_epoch).0 + 1);
        self.phase = Phase::AcceptingEpoch;
        core.accepted_epoch = self.epoch;
        out.disk.push(DiskOp::SaveAcceptedEpoch { generation: core.generation, epoch: self.epoch });
    }

    fn on_accepted_epoch_saved(&mut self, core: &mut Core, epoch: Epoch, out: &mut Effects) {
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

    fn on_ack_epoch(
        &mut self,
        core: &mut Core,
        now: Now,
        link: LinkId,
        (last_logged, current_epoch): (Zxid, Option<Epoch>),
        out: &mut Effects,
    ) {
        let is_open = self.phase == Phase::AwaitingEpochAcks;
        if is_open && current_epoch.is_some_and(|epoch| (epoch, last_logged) > self.summary) {
            let reason = format!("it knows more than we do: {last_logged} against {}", self.summary.1);
            return self.drop_learner(link, &reason, out);
        }
        let Some(learner) = self.learners.get_mut(&link) else { return };
        learner.last_logged = last_logged;
        learner.current_epoch = current_epoch;
        learner.progress = Progress::EpochAcked;
        match self.phase {
            Phase::Synchronizing | Phase::Broadcast => self.synchronize(core, now, link, out),
            _ => self.try_begin_epoch(core, out),
        }
    }

    fn try_begin_epoch(&mut self, core: &mut Core, out: &mut Effects) {
        let acked = self.with_me(core, |learner| {
            learner.progress >= Progress::EpochAcked
                && learner.current_epoch.is_some()
                && learner.last_logged != Zxid::NONE
        });
        if self.phase != Phase::AwaitingEpochAcks || !core.verifier.is_reached(acked) {
            return;
        }
        self.phase = Phase::SavingEpoch;
        core.current_epoch = self.epoch;
        out.disk.push(DiskOp::SaveCurrentEpoch { generation: core.generation, epoch: self.epoch });
    }

    // ----- Synchronisation -----

    fn on_current_epoch_saved(&mut self, core: &mut Core, now: Now, epoch: Epoch, db: &Database, out: &mut Effects) {
        if self.phase != Phase::SavingEpoch || epoch != self.epoch {
            return;
        }
        self.phase = Phase::Synchronizing;
        self.broadcast = Broadcast::new(core.verifier.clone(), Zxid::new(epoch, 0));
        let ready = self.learners.iter().filter(|(_, learner)| learner.progress == Progress::EpochAcked);
        let ready: Vec<LinkId> = ready.map(|(link, _)| *link).collect();
        for link in ready {
            self.synchronize(core, now, link, out);
        }
        self.try_establish(core, now, db, out);
    }

    /// Sends a learner what it lacks, then NEWLEADER; from here on it gets every proposal.
    fn synchronize(&mut self, core: &Core, now: Now, link: LinkId, out: &mut Effects) {
        let established = self.is_established();
        let Some(learner) = self.learners.get_mut(&link) else { return };
        // Before the epoch is established our history ends with a transaction, not with the epoch's beginning that
        // a former role may have shown to clients.
        let last = if established { core.last_committed } else { core.last_logged };
        let plan = core.recent.plan_sync(learner.last_logged, last);
        let (how, packet, missing, mut sent) = match plan {
            SyncPlan::Diff { to, missing } => ("DIFF", QuorumPacket::Diff { zxid: to }, missing, learner.last_logged),
            SyncPlan::Trunc { to, missing } => ("TRUNC", QuorumPacket::Trunc { zxid: to }, missing, to),
            SyncPlan::Snap => {
                ("SNAP", QuorumPacket::Snap { zxid: core.last_committed }, Vec::new(), core.last_committed)
            }
        };
        if let Some(learner) = learner.server {
            let peer_last = self.learners[&link].last_logged;
            out.notes.push(Note::SyncSent { learner, how, peer_last, from: last });
        }
        out.send(link, packet);
        if how == "SNAP" {
            out.links.push(LinkOp::StreamSnapshot { link, zxid: core.last_committed });
        }
        for Proposal { txn, bytes } in missing {
            sent = txn.zxid;
            out.send(link, QuorumPacket::Proposal { zxid: sent, txn: bytes });
            out.send(link, QuorumPacket::Commit { zxid: sent });
        }
        let Some(learner) = self.learners.get_mut(&link) else { return };
        learner.last_sent = sent;
        for proposal in self.broadcast.outstanding().filter(|proposal| proposal.zxid() > sent) {
            Self::send_proposal(now, link, learner, proposal, out);
        }
        learner.progress = Progress::Synchronizing;
        let config = Some(core.config.config_text.clone());
        out.send(link, QuorumPacket::NewLeader { zxid: Zxid::new(self.epoch, 0), config });
    }

    fn send_proposal(now: Now, link: LinkId, learner: &mut Learner, proposal: &Proposal, out: &mut Effects) {
        let zxid = proposal.zxid();
        learner.last_sent = zxid;
        learner.awaited.get_or_insert((zxid, now.micros));
        out.send(link, QuorumPacket::Proposal { zxid, txn: proposal.bytes.clone() });
    }

    fn on_ack(&mut self, core: &mut Core, now: Now, link: LinkId, zxid: Zxid, db: &Database, out: &mut Effects) {
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
        learner.acked = learner.acked.max(zxid);
        self.count_acks(core, link, out);
    }

    /// A learner's ACKs count once it has acknowledged NEWLEADER: before that, its currentEpoch may still be an older
    /// one, and its history could lose an election against one without the proposal (ZOOKEEPER-4685 sends them early).
    fn count_acks(&mut self, core: &mut Core, link: LinkId, out: &mut Effects) {
        let Some(learner) = self.learners.get(&link) else { return };
        if let Some(server) = learner.server.filter(|_| learner.progress >= Progress::Synced) {
            let committed = self.broadcast.on_ack(server, learner.acked);
            self.commit(core, committed, out);
        }
    }

    /// The ACK of NEWLEADER; a learner sends it again after UPTODATE. One of another epoch says nothing.
    fn on_new_leader_ack(
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
        if established {
            Self::send_up_to_date(link, learner, out);
        } else {
            self.try_establish(core, now, db, out);
        }
        self.count_acks(core, link, out);
    }

    fn send_up_to_date(link: LinkId, learner: &mut Learner, out: &mut Effects) {
        learner.progress = Progress::UpToDate;
        out.send(link, QuorumPacket::UpToDate);
        for zxid in learner.held.drain(..) {
            out.send(link, QuorumPacket::Commit { zxid });
        }
    }

    fn try_establish(&mut self, core: &mut Core, now: Now, db: &Database, out: &mut Effects) {
        let synced = self.with_me(core, |learner| learner.progress >= Progress::Synced);
        if self.phase == Phase::Synchronizing && core.verifier.is_reached(synced) {
            self.establish(core, now, db, out);
        }
    }

    /// A quorum has our history: serve.
    fn establish(&mut self, core: &mut Core, now: Now, db: &Database, out: &mut Effects) {
        self.phase = Phase::Broadcast;
        let mode = if core.is_standalone() { ServerMode::Standalone } else { ServerMode::Leader };
        if mode == ServerMode::Leader {
            core.last_committed = Zxid::new(self.epoch, 0);
            out.db.push(DbOp::SetLastProcessed(core.last_committed));
            core.set_config(now, out);
            core.settle_as_leader(self.epoch);
            let mut supporters: Vec<_> = self.with_me(core, |learner| learner.progress >= Progress::Synced).collect();
            supporters.sort_unstable();
            out.notes.push(Note::Leading { epoch: self.epoch, supporters });
        }
        self.lease_until = if core.is_standalone() { u64::MAX } else { now.micros + core.sync_limit_micros() };
        out.db.push(DbOp::Serve(Serving { generation: core.generation, mode, until_micros: self.lease_until }));
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

    fn drop_learner(&mut self, link: LinkId, reason: &str, out: &mut Effects) {
        if let Some(learner) = self.learners.remove(&link) {
            out.notes.push(Note::LearnerDropped { learner: learner.server, reason: reason.to_owned() });
        }
        out.links.push(LinkOp::Close { link });
        self.syncs.retain(|(_, waiter)| !matches!(waiter, SyncWaiter::Learner(gone) if *gone == link));
    }

    // ----- Broadcast -----

    fn on_requests(
        &mut self,
        core: &mut Core,
        now: Now,
        requests: Vec<ClientRequest>,
        db: &Database,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        if !self.is_established() {
            return Ok(()); // Sent under a former role, whose end has closed the connection.
        }
        let me = core.my_id();
        for ClientRequest { conn, session, xid, body, auth } in requests {
            if matches!(body, ForwardedBody::Request(Request::Sync(_))) {
                self.on_sync(SyncWaiter::Client(conn, xid), out);
            } else {
                self.order(core, now, me, session, xid, &body, &auth, db, out)?;
            }
        }
        Ok(())
    }

    fn on_forwarded(
        &mut self,
        core: &mut Core,
        now: Now,
        link: LinkId,
        request: ForwardedRequest,
        db: &Database,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        if matches!(request.body, ForwardedBody::Request(Request::Sync(_))) {
            self.on_sync(SyncWaiter::Learner(link), out);
            return Ok(());
        }
        let Some(server) = self.learners.get(&link).and_then(|learner| learner.server) else { return Ok(()) };
        let ForwardedRequest { session, cxid, body, auth } = request;
        self.order(core, now, server, session, cxid, &body, &auth, db, out)
    }

    /// Steps 4 and 5 of a write: make the transaction and propose it. A request that fails is a transaction as well.
    #[expect(clippy::too_many_arguments, reason = "the context of a step, and the parts of a request")]
    fn order(
        &mut self,
        core: &mut Core,
        now: Now,
        from: ServerId,
        session: SessionId,
        cxid: i32,
        body: &ForwardedBody,
        auth: &[Id],
        db: &Database,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        let session_check = match body {
            ForwardedBody::Request(Request::CreateSession(create)) => {
                self.sessions.track(now.micros, session, create.timeout_ms, Some(from));
                Ok(())
            }
            // Accepted from whichever server: the session ends.
            ForwardedBody::Request(Request::CloseSession) if self.sessions.lives(session) => Ok(()),
            ForwardedBody::Request(Request::CloseSession) => Err(ErrorCode::SessionExpired),
            _ => self.sessions.check(session, from),
        };
        if session_check.is_ok() && matches!(body, ForwardedBody::Request(Request::CloseSession)) {
            self.sessions.close(session);
        }
        self.propose(core, now, &PrepareRequest { session, cxid, body, auth, session_check }, db, out)
    }

    fn propose(
        &mut self,
        core: &mut Core,
        now: Now,
        request: &PrepareRequest<'_>,
        db: &Database,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        let Some(in_flight) = &mut self.in_flight else { return Ok(()) };
        if self.broadcast.last_proposed().counter() >= u32::MAX - 1 {
            // The low 32 bits are used up: the next epoch starts at 1 again. ZooKeeper: XidRolloverException.
            return Err(Leave::because(format!("the zxids of epoch {} are used up", self.epoch)));
        }
        let zxid = self.broadcast.last_proposed().successor();
        let (body, digest) = in_flight.prepare(db, request, zxid, now.wall_ms);
        let &PrepareRequest { session, cxid, .. } = request;
        let proposal = Proposal::new(Txn { session, cxid, zxid, time_ms: now.wall_ms, body, digest });
        self.broadcast.propose(proposal.clone());
        for (link, learner) in &mut self.learners {
            if learner.progress >= Progress::Synchronizing {
                Self::send_proposal(now, *link, learner, &proposal, out);
            }
        }
        core.log(proposal, out);
        Ok(())
    }

    fn propose_close(&mut self, core: &mut Core, now: Now, session: SessionId, db: &Database, out: &mut Effects) {
        let body = ForwardedBody::Request(Request::CloseSession);
        let request = PrepareRequest { session, cxid: 0, body: &body, auth: &[], session_check: Ok(()) };
        // Without zxids left the role ends at the next request of a client; the session's end can wait.
        let _ = self.propose(core, now, &request, db, out);
    }

    fn commit(&mut self, core: &mut Core, committed: Vec<Proposal>, out: &mut Effects) {
        for proposal in committed {
            let zxid = proposal.zxid();
            if let TxnBody::CloseSession { .. } = proposal.txn.body {
                self.sessions.forget(proposal.txn.session);
            }
            assert_eq!(core.uncommitted.front().map(Proposal::zxid), Some(zxid), "a commit skipped a logged proposal");
            core.commit_first(out);
            for (link, learner) in &mut self.learners {
                match learner.progress {
                    Progress::UpToDate => out.send(*link, QuorumPacket::Commit { zxid }),
                    Progress::Synchronizing | Progress::Synced => learner.held.push(zxid),
                    _ => {}
                }
            }
            while let Some((_, waiter)) = self.syncs.front().copied().filter(|(last, _)| *last <= zxid) {
                self.syncs.pop_front();
                Self::answer_sync(waiter, out);
            }
        }
    }

    /// A sync is answered when everything that was proposed before it is committed.
    fn on_sync(&mut self, waiter: SyncWaiter, out: &mut Effects) {
        if self.broadcast.is_idle() {
            Self::answer_sync(waiter, out);
        } else {
            self.syncs.push_back((self.broadcast.last_proposed(), waiter));
        }
    }

    fn answer_sync(waiter: SyncWaiter, out: &mut Effects) {
        match waiter {
            SyncWaiter::Client(conn, xid) => out.db.push(DbOp::SyncDone { conn, xid }),
            SyncWaiter::Learner(link) => out.send(link, QuorumPacket::Sync { zxid: Zxid::ZERO }),
        }
    }

    /// A client of this server renews its session.
    pub fn renew(
        &mut self,
        core: &Core,
        now: Now,
        conn: ConnId,
        session: SessionId,
        timeout_ms: i32,
        out: &mut Effects,
    ) {
        let valid = self.sessions.renew(now.micros, session, timeout_ms, core.my_id());
        out.db.push(DbOp::SessionRenewed { conn, session, valid, after: self.broadcast.last_proposed() });
    }

    // ----- Time -----

    fn on_wakeup(&mut self, core: &mut Core, now: Now, db: &Database, out: &mut Effects) -> Result<(), Leave> {
        if !self.is_established() && self.deadline(core) <= now.micros {
            return Err(Leave::because(format!("no quorum has come to epoch {} in time", self.epoch)));
        }
        if self.next_ping <= now.micros {
            self.next_ping = now.micros + core.tick_micros() / 2;
            self.ping_count += 1;
            self.ping(core, now, out);
            if self.ping_count.is_multiple_of(2) && self.is_established() {
                self.check_quorum(core, now)?;
            }
        }
        if self.is_established() {
            self.expire_sessions(core, now, db, out);
        }
        Ok(())
    }

    /// There is a wake-up each half tick. A much longer pause means that the process was stopped, or its machine.
    fn notice_leap(&mut self, core: &Core, now: Now) {
        let pause = now.micros.saturating_sub(self.last_step);
        if pause > 2 * core.tick_micros() {
            self.sessions.postpone(pause);
        }
        self.last_step = now.micros;
    }

    fn ping(&mut self, core: &Core, now: Now, out: &mut Effects) {
        let (sync_limit, init_limit) = (core.sync_limit_micros(), core.init_limit_micros());
        let mut late = Vec::new();
        for (link, learner) in &self.learners {
            // A learner that is being synchronised may be busy with a snapshot for as long as initLimit.
            let limit = if learner.progress >= Progress::Synced { sync_limit } else { init_limit + sync_limit };
            let silent = now.micros.saturating_sub(learner.last_heard.max(learner.connected_at));
            let lagging = learner.awaited.map_or(0, |(_, since)| now.micros.saturating_sub(since));
            if silent > limit || lagging > limit {
                late.push((*link, silent.max(lagging) / 1000));
            } else if learner.progress >= Progress::Synchronizing {
                out.send(*link, QuorumPacket::Ping { zxid: self.broadcast.last_proposed(), touched: None });
            }
        }
        for (link, ms) in late {
            self.drop_learner(link, &format!("it has been behind for {ms} ms"), out);
        }
    }

    /// Steps down when a quorum has not been heard within syncLimit.
    fn check_quorum(&self, core: &Core, now: Now) -> Result<(), Leave> {
        let heard = |learner: &Learner| {
            learner.progress >= Progress::Synced && now.micros <= learner.last_heard + core.sync_limit_micros()
        };
        let synced: Vec<ServerId> = self.with_me(core, heard).collect();
        if core.verifier.is_reached(synced.iter().copied()) {
            return Ok(());
        }
        let ids = synced.iter().map(ServerId::to_string).collect::<Vec<_>>().join(", ");
        Err(Leave::because(format!("Not sufficient followers synced, only synced with sids: [ {ids} ]")))
    }

    fn expire_sessions(&mut self, core: &mut Core, now: Now, db: &Database, out: &mut Effects) {
        if self.sessions.next_expiry().is_none_or(|at| at > now.micros) {
            return;
        }
        for touched in db.touched() {
            self.sessions.touch(now.micros, touched.session, touched.timeout_ms);
        }
        for (session, timeout_ms) in self.sessions.expire(now.micros) {
            out.notes.push(Note::SessionExpired { session, timeout_ms });
            self.propose_close(core, now, session, db, out);
        }
    }

    /// We may answer reads for syncLimit after a quorum was last heard.
    fn extend_lease(&mut self, core: &Core, now: Now, out: &mut Effects) {
        if !self.is_established() {
            return;
        }
        let me = core.my_id();
        let heard = |voter| {
            if voter == me {
                return Some(now.micros);
            }
            let learner = self.learners.values().find(|learner| learner.server == Some(voter))?;
            (learner.progress >= Progress::Synced).then_some(learner.last_heard)
        };
        let Some(quorum_heard) = core.verifier.reached_by_quorum(heard) else { return };
        let until_micros = quorum_heard + core.sync_limit_micros();
        if until_micros > self.lease_until + core.tick_micros() / 4 {
            self.lease_until = until_micros;
            out.db.push(DbOp::ExtendLease { until_micros });
        }
    }

    /// Ends the role: closes the links.
    pub fn end(self, out: &mut Effects) {
        out.links.extend(self.learners.into_keys().map(|link| LinkOp::Close { link }));
    }
}
