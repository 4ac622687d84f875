//! A server's life as leader: discovery, synchronisation of its learners, broadcast, sessions. Also a standalone
//! server, which is a quorum of one and goes through the same steps without packets. Zab phases 1 to 3, leader's side.
//!
//! Nothing is served before a quorum has acknowledged NEWLEADER; nothing is committed before a quorum has it on disk.
//!
//! ZooKeeper: `Leader`, `LearnerHandler`, `ProposalRequestProcessor`.

mod broadcast;
mod catch_up;
mod discovery;
mod hand_over;
mod observers;
mod quota_log;
mod reaper;
mod reconfig;
mod sync;
mod synchronization;

pub use catch_up::CatchUpRules;
pub use reaper::ReaperConfig;

use super::Database;
use super::core::{Core, Leave};
use super::in_flight::InFlight;
use super::io::{DbOp, Effects, Input, LinkId, LinkOp, LogPlace, Note, Now};
use super::membership::Commit;
use super::sessions::SessionTracker;
use crate::records::{Epoch, QuorumPacket, ServerId, Zxid};
use crate::zab::Broadcast;
use hand_over::HandOver;
use quota_log::QuotaLog;
use reaper::Reaper;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use sync::{Arrived, Syncs};

/// How long a server that was elected waits for a quorum to connect (or initLimit, if that is less), in microseconds.
/// Short, since those who voted for it come at once or have changed their minds.
const DISCOVERY_LIMIT_MICROS: u64 = 3_000_000;

/// Links on which nobody has said yet who he is, at most; of more the oldest is closed. A learner does so at once.
pub(super) const NAMELESS_MAX: usize = 64;

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
    /// It is being looked for in the log on disk.
    Searched,
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
    /// It said OBSERVERINFO: it gets what is committed, and counts in nothing.
    is_observer: bool,
    progress: Progress,
    accepted_epoch: Epoch,
    last_logged: Zxid,
    /// In ACKEPOCH; `None` (-1) does not count towards the quorum.
    current_epoch: Option<Epoch>,
    connected_at: u64,
    last_heard: u64,
    /// When the PINGs were sent that it has not answered, and their rounds; oldest first; only those it must answer.
    pinged: VecDeque<(u64, u64)>,
    /// The newest round of PINGs that it has answered.
    answered_round: u64,
    /// It was with us after this time: when the last PING that it answered was sent (at first, NEWLEADER). When an
    /// answer *arrives* says nothing, if this server was stopped and the answer waited in a socket.
    with_us_at: u64,
    /// The oldest proposal it has not acknowledged, and when it was sent.
    awaited: Option<(Zxid, u64)>,
    last_sent: Zxid,
    /// The highest proposal it has acknowledged on this connection.
    acked: Zxid,
    /// Where it stands in the log, and since when, while our own disk has not synced up to where memory begins.
    found: Option<(LogPlace, u64)>,
    /// It is sent the whole tree.
    gets_snapshot: bool,
    /// Commits kept back until UPTODATE: between NEWLEADER and UPTODATE they kill a learner of 3.8 (ZOOKEEPER-4394).
    held: Vec<Commit>,
}

/// The leader role.
pub struct Leader {
    phase: Phase,
    started: u64,
    epoch: Epoch,
    /// (currentEpoch, last zxid) with which we were elected: no learner of the first quorum may know more.
    summary: (Epoch, Zxid),
    learners: BTreeMap<LinkId, Learner>,
    /// Servers that were found to know more than that.
    ahead: BTreeSet<ServerId>,
    broadcast: Broadcast,
    in_flight: Option<InFlight>,
    sessions: SessionTracker,
    syncs: Syncs,
    reaper: Reaper,
    quota_log: QuotaLog,
    /// The oldest proposal that is not on our own disk, and since when it has been the oldest.
    unflushed: Option<(Zxid, u64)>,
    /// Nothing is proposed, and the role ends soon, unless this is given up.
    hand_over: Option<HandOver>,
    next_ping: u64,
    /// When this machine last ran, in microseconds.
    last_step: u64,
    /// Pings come twice a tick; whether a quorum is still with us is asked once.
    ping_count: u64,
    lease_until: u64,
    /// Who leads from now on: this server proposes and commits nothing more, and goes when its learners have gone.
    successor: Option<ServerId>,
    /// A reconfiguration was activated in this step, by which this server leads on.
    has_decided: bool,
}

impl Leader {
    /// Elected; `early` are learners that have connected before we knew.
    pub fn start(core: &mut Core, now: Now, early: Vec<LinkId>, db: &Database, out: &mut Effects) -> Leader {
        core.forget_unlogged(out);
        let mut leader = Leader {
            phase: Phase::Discovery,
            started: now.micros,
            epoch: core.accepted_epoch,
            summary: (core.current_epoch, core.last_logged),
            learners: BTreeMap::new(),
            ahead: BTreeSet::new(),
            broadcast: Broadcast::new(core.quorums.clone(), core.last_logged),
            in_flight: None,
            sessions: SessionTracker::new(core.config.tick_ms),
            syncs: Syncs::default(),
            reaper: Reaper::new(core.config.reaper, now),
            quota_log: QuotaLog::default(),
            unflushed: None,
            hand_over: None,
            next_ping: now.micros + core.tick_micros() / 2,
            last_step: now.micros,
            ping_count: 0,
            lease_until: 0,
            successor: None,
            has_decided: false,
        };
        for link in early {
            leader.on_learner_up(now, link, out);
        }
        if core.is_standalone() {
            leader.epoch = core.last_logged.epoch();
            let mut last = core.last_logged.max(Zxid::ZERO);
            if last.counter() >= core.config.roles.hand_over_at {
                last = leader.next_epoch_alone(core, out);
            }
            leader.broadcast = Broadcast::new(core.quorums.clone(), last);
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

    /// Syncs that wait for a commit, or for a quorum to say that we still lead.
    pub fn pending_syncs(&self) -> usize {
        self.syncs.len()
    }

    pub fn next_wakeup(&self, core: &Core) -> u64 {
        let mut at = self.next_ping;
        if !self.is_established() {
            at = at.min(self.deadline(core));
        } else if !self.is_on_hold() {
            let expiry = self.sessions.next_expiry();
            at = expiry.into_iter().chain(self.reaper.next_wakeup()).fold(at, u64::min);
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
        self.on_input(core, now, input, db, out)?;
        self.synchronize_waiting(core, now, out);
        self.order_waiting(core, now, db, out)?;
        self.end_hand_over(core, now, db, out)
    }

    fn on_input(
        &mut self,
        core: &mut Core,
        now: Now,
        input: Input,
        db: &Database,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        match input {
            Input::Requests(requests) => self.on_requests(core, now, requests, db, out),
            Input::Packets { link, packets } => self.on_packets(core, now, link, packets, db, out),
            Input::Flushed { up_to, .. } => {
                if self.unflushed.is_some_and(|(first, _)| first <= up_to) {
                    let is_behind = up_to < self.broadcast.last_proposed();
                    self.unflushed = is_behind.then(|| (up_to.successor(), now.micros));
                }
                self.count_ack(core, now, core.my_id(), up_to, out);
                self.send_found(core, now, out); // Behind all commits of the step: a tree that is sent has them.
                Ok(())
            }
            Input::LearnerLinkUp { link } => {
                self.on_learner_up(now, link, out);
                Ok(())
            }
            Input::ObserverLinkUp { link } => {
                out.links.push(LinkOp::Close { link }); // A leader's observers come to its quorum port.
                Ok(())
            }
            Input::LinkDown { link, reason } => {
                if let Some(Learner { server: Some(server), .. }) = self.learners.remove(&link) {
                    out.notes.push(Note::LearnerDropped { learner: Some(server), reason });
                }
                self.syncs.forget(link);
                // It looks for a leader now. Without it we may be none, and it can only find out when we do.
                if self.is_established() { self.check_quorum(core, now) } else { Ok(()) }
            }
            Input::AcceptedEpochSaved { epoch, .. } => {
                self.on_accepted_epoch_saved(core, epoch, out);
                Ok(())
            }
            Input::CurrentEpochSaved { epoch, .. } => {
                self.on_current_epoch_saved(core, now, epoch, db, out);
                Ok(())
            }
            Input::HandOver => {
                self.on_hand_over(core, now, out);
                Ok(())
            }
            Input::LogSearched { link, place, .. } => {
                self.on_log_searched(core, now, link, place, out);
                Ok(())
            }
            Input::Wakeup => self.on_wakeup(core, now, db, out),
            _ => Ok(()),
        }
    }

    fn on_learner_up(&mut self, now: Now, link: LinkId, out: &mut Effects) {
        let mut nameless = self.learners.iter().filter(|(_, learner)| learner.progress == Progress::Connected);
        if let Some((&oldest, _)) = nameless.next()
            && 1 + nameless.count() >= NAMELESS_MAX
        {
            self.drop_learner(oldest, "too many have connected and not said who they are", out);
        }
        let learner = Learner {
            server: None,
            is_observer: false,
            progress: Progress::Connected,
            accepted_epoch: Epoch(0),
            last_logged: Zxid::ZERO,
            current_epoch: None,
            connected_at: now.micros,
            last_heard: now.micros,
            pinged: VecDeque::new(),
            answered_round: 0,
            with_us_at: 0,
            awaited: None,
            last_sent: Zxid::ZERO,
            acked: Zxid::ZERO,
            found: None,
            gets_snapshot: false,
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
                    self.on_learner_info(core, link, accepted_epoch, info, out)?;
                }
                QuorumPacket::ObserverInfo { accepted_epoch, info } if progress == Progress::Connected => {
                    learner.is_observer = true;
                    self.on_learner_info(core, link, accepted_epoch, info, out)?;
                }
                QuorumPacket::AckEpoch { last_logged, current_epoch } if progress == Progress::EpochSent => {
                    self.on_ack_epoch(core, now, link, (last_logged, current_epoch), out)?;
                }
                QuorumPacket::Ack { zxid } if progress >= Progress::Synchronizing => {
                    self.on_ack(core, now, link, zxid, db, out);
                }
                QuorumPacket::Ping { touched, .. } if progress >= Progress::Synchronizing => {
                    // PINGs are answered in order.
                    if let Some((sent_at, round)) = learner.pinged.pop_front() {
                        (learner.with_us_at, learner.answered_round) = (sent_at, round);
                    }
                    for touched in touched.unwrap_or_default() {
                        self.sessions.touch(now.micros, touched.session, touched.timeout_ms);
                    }
                }
                QuorumPacket::Request(request) if progress == Progress::UpToDate => {
                    self.on_arrived(core, now, Arrived::Forwarded(link, request), db, out)?;
                }
                QuorumPacket::Revalidate { session, timeout_ms } if progress == Progress::UpToDate => {
                    self.on_revalidate(core, now, link, session, timeout_ms, out);
                }
                // Requests of a learner that is not up to date: its clients will ask again.
                QuorumPacket::Request(_) | QuorumPacket::Revalidate { .. } => {}
                other => {
                    self.drop_learner(link, &format!("{} is out of turn", other.name()), out);
                    return Ok(());
                }
            }
        }
        self.extend_lease(core, now, out);
        self.answer_syncs(core, now, out);
        Ok(())
    }

    // ----- Time -----

    fn on_wakeup(&mut self, core: &mut Core, now: Now, db: &Database, out: &mut Effects) -> Result<(), Leave> {
        if !self.is_established() && self.deadline(core) <= now.micros {
            return Err(Leave::because(format!("no quorum has come to epoch {} in time", self.epoch)));
        }
        if self.next_ping <= now.micros {
            self.next_ping = now.micros + core.tick_micros() / 2;
            self.ping_count += 1;
            self.touch_own_clients(now, db);
            self.send_found(core, now, out);
            self.ping(core, now, out);
            self.check_own_disk(core, now)?;
            // A quorum of one has nobody's answers to do it.
            self.extend_lease(core, now, out);
            if self.ping_count.is_multiple_of(2) && self.is_established() {
                self.check_quorum(core, now)?;
            }
        }
        if let Some(next) = self.successor
            && self.lease_until <= now.micros
        {
            return Err(Leave { next: Some(next), ..Leave::because("changes proposed in reconfig") });
        }
        if self.is_established() && !self.is_on_hold() {
            self.expire_sessions(core, now, db, out);
            self.reap(core, now, db, out)?;
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
        let round = self.syncs.next_round();
        for (link, learner) in &mut self.learners {
            // A learner that is being synchronised may be busy with a snapshot for as long as initLimit.
            let limit = if learner.progress >= Progress::Synced { sync_limit } else { init_limit + sync_limit };
            // What it says before it has accepted the epoch does not make it a learner.
            let heard = if learner.progress <= Progress::EpochSent { 0 } else { learner.last_heard };
            let silent = now.micros.saturating_sub(heard.max(learner.connected_at));
            let since = learner
                .awaited
                .map(|(_, since)| since)
                .into_iter()
                .chain(learner.pinged.front().map(|(sent_at, _)| *sent_at));
            let lagging = now.micros.saturating_sub(since.min().unwrap_or(now.micros));
            if silent > limit || lagging > limit {
                late.push((*link, silent.max(lagging) / 1000));
            } else if learner.progress >= Progress::Synchronizing {
                if learner.progress == Progress::UpToDate {
                    learner.pinged.push_back((now.micros, round)); // Before, it leaves them unanswered.
                }
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
        if core.quorums.is_reached(synced.iter().copied()) {
            return Ok(());
        }
        if let Some(next) = self.successor {
            return Err(Leave { next: Some(next), ..Leave::because("changes proposed in reconfig") });
        }
        let ids = synced.iter().map(ServerId::to_string).collect::<Vec<_>>().join(", ");
        Err(Leave::because(format!("Not sufficient followers synced, only synced with sids: [ {ids} ]")))
    }

    /// A disk that does not answer must not let what is proposed pile up without a bound: where a follower would be
    /// dropped, we hand over to one whose disk works.
    fn check_own_disk(&self, core: &Core, now: Now) -> Result<(), Leave> {
        match self.unflushed {
            Some((zxid, since))
                if core.quorums.voters().len() > 1 && now.micros.saturating_sub(since) > core.sync_limit_micros() =>
            {
                let ms = (now.micros - since) / 1000;
                Err(Leave::because(format!("our own disk has not synced {zxid} for {ms} ms")))
            }
            _ => Ok(()),
        }
    }

    /// What our own clients sent counts from now on; those of learners are told with the answers to PINGs.
    fn touch_own_clients(&mut self, now: Now, db: &Database) {
        for touched in db.touched() {
            self.sessions.touch(now.micros, touched.session, touched.timeout_ms);
        }
    }

    fn expire_sessions(&mut self, core: &mut Core, now: Now, db: &Database, out: &mut Effects) {
        if self.sessions.next_expiry().is_none_or(|at| at > now.micros) {
            return;
        }
        self.touch_own_clients(now, db);
        for (session, timeout_ms) in self.sessions.expire(now.micros) {
            out.notes.push(Note::SessionExpired { session, timeout_ms });
            self.propose_close(core, now, session, db, out);
        }
    }

    /// We may answer reads for syncLimit after a quorum was last with us: none of it leaves us earlier without closing
    /// its link.
    fn extend_lease(&mut self, core: &Core, now: Now, out: &mut Effects) {
        // A lease that cannot become noticeably longer need not be counted out, for each batch of packets anew.
        let (sync_limit, least) = (core.sync_limit_micros(), self.lease_until.saturating_add(core.tick_micros() / 4));
        if !self.is_established() || self.successor.is_some() || now.micros + sync_limit <= least {
            return;
        }
        let me = core.my_id();
        let with_us = |voter| {
            if voter == me {
                return Some(now.micros);
            }
            let learner = self.voter(voter)?;
            (learner.progress >= Progress::Synced).then_some(learner.with_us_at)
        };
        let Some(since) = core.quorums.reached_by_quorum(with_us) else { return };
        let until_micros = since + sync_limit;
        if until_micros > least {
            self.lease_until = until_micros;
            out.db.push(DbOp::ExtendLease { until_micros });
        }
    }

    /// Ends the role: closes the links.
    pub fn end(self, out: &mut Effects) {
        out.links.extend(self.learners.into_keys().map(|link| LinkOp::Close { link }));
    }
}
