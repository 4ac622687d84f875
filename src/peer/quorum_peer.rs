//! A server: looks for a leader, then follows or leads until that ends, and again. ZooKeeper: `QuorumPeer`.
//!
//! Between two roles the disk is drained and memory is made equal to the log: what was logged and not committed counts
//! as history, and the vote says so. Only then does the next election begin (ZOOKEEPER-2845, 4712).

use super::Database;
use super::core::{Core, Leave, PeerConfig};
use super::io::{
    ClientRequest, ConnId, DbOp, DiskOp, Effects, Generation, Input, LinkId, LinkOp, Note, Now, Proposal, ServerMode,
    Serving,
};
use super::leader::{Leader, NAMELESS_MAX};
use super::learner::Learner;
use crate::records::{
    ConnectRequest, CreateSessionRequest, Epoch, ForwardedBody, PeerState, QuorumPacket, Request, ServerId, SessionId,
    Zxid, is_session_password,
};
use crate::zab::{Decision, Vote};
use std::sync::Arc;

/// First pause before the next election after a role that never served, in microseconds; it doubles.
const PAUSE_MIN_MICROS: u64 = 10_000;
const PAUSE_MAX_MICROS: u64 = 1_000_000;
/// How long a learner that connects before we know that we lead may wait, in microseconds.
const EARLY_LINK_MICROS: u64 = 1_000_000;

/// What a data directory said at the start.
#[derive(Debug)]
pub struct Boot {
    pub accepted_epoch: Epoch,
    pub current_epoch: Epoch,
    /// Of the last logged transaction; [`Zxid::NONE`] for an empty database that is not trusted.
    pub last_logged: Zxid,
    /// The newest logged transactions.
    pub recent: Vec<Proposal>,
    /// How many transactions were replayed behind the snapshot.
    pub replayed: u32,
}

/// What a server does.
pub(super) enum Role {
    /// Waiting for the disk to finish what the last role asked for; then a pause, then an election.
    Draining {
        /// Microseconds.
        pause: u64,
        /// Who leads next, if a reconfiguration has said so.
        next: Option<ServerId>,
    },
    /// A role never got as far as serving, or it was an observer's: waiting a little, so that servers that disagree do
    /// not spin, and observers do not all come at once.
    Pausing {
        until: u64,
    },
    /// Without a quorum: with the read-only mode, clients that allow it may read what is here after a while.
    Looking {
        read_only: ReadOnly,
    },
    /// Under a leader: as a follower or an observer.
    Following(Box<Learner>),
    Leading(Box<Leader>),
}

/// Whether a server that looks for a leader serves those who only read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadOnly {
    /// It is not set up so, or has lost its data.
    Never,
    /// Not before this time, in microseconds: most elections end sooner.
    From(u64),
    Serving,
}

/// A learner's connection that came before an election told us that we lead. There are [`NAMELESS_MAX`] at most.
struct EarlyLink {
    link: LinkId,
    until: u64,
    /// FOLLOWERINFO or OBSERVERINFO. It says no more before it is answered.
    info: Option<QuorumPacket>,
}

/// What a peer is doing, for `srvr`, metrics and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    pub state: PeerState,
    /// Whether clients are served.
    pub serving: bool,
    /// Whether clients that allow it are served without a quorum.
    pub read_only: bool,
    /// The leader followed, or ourselves.
    pub leader: Option<ServerId>,
    pub epoch: Epoch,
    pub last_logged: Zxid,
    pub last_committed: Zxid,
    /// Leader only.
    pub learners: LearnerCounts,
    /// Learner only: the server it is connected to, which of an observer may be a follower.
    pub master: Option<ServerId>,
    /// Follower only: its observers that are up to date; `None`: it takes none.
    pub master_of: Option<usize>,
    pub pending_syncs: usize,
}

/// A leader's learners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LearnerCounts {
    /// All that are connected and have said who they are.
    pub connected: usize,
    /// Followers that are up to date, voters or not.
    pub followers: usize,
    /// Those of them that are no voters: they are not in the configuration, or as observers.
    pub non_voting: usize,
    /// Observers that are up to date.
    pub observers: usize,
}

/// A whole server without I/O.
pub struct QuorumPeer {
    pub(super) core: Core,
    pub(super) role: Role,
    early: Vec<EarlyLink>,
    pause: u64,
    next_session: i64,
    /// The first id that this role may have given out.
    first_session: i64,
}

impl QuorumPeer {
    pub fn new(config: PeerConfig, boot: Boot) -> QuorumPeer {
        QuorumPeer {
            core: Core::new(config, boot),
            role: Role::Looking { read_only: ReadOnly::Never },
            early: Vec::new(),
            pause: PAUSE_MIN_MICROS,
            next_session: 0,
            first_session: 0,
        }
    }

    /// Begins: a standalone server serves at once, a member of an ensemble looks for a leader.
    pub fn start(&mut self, now: Now, db: &Database, out: &mut Effects) {
        if self.core.is_standalone() {
            self.core.generation = Generation(1);
            self.begin_sessions(now);
            self.role = Role::Leading(Box::new(Leader::start(&mut self.core, now, Vec::new(), db, out)));
        } else {
            self.core.set_config(now, out);
            self.judge_at_start(now, db, out);
            self.look(now, db, out);
        }
    }

    /// Handles one input at time `now`; whatever the host must do is added to `out`.
    pub fn step(&mut self, now: Now, input: Input, db: &Database, out: &mut Effects) {
        self.notice_divergence(now, db, out);
        if matches!((&self.role, &input), (Role::Looking { .. }, Input::Wakeup)) && self.gives_up_waiting(now, out) {
            self.look(now, db, out);
        }
        if matches!(input, Input::Wakeup) {
            self.core.locals.on_wakeup(now, db, out);
        }
        if let Some(input) = self.filter(now, input, db, out)
            && let Err(leave) = self.step_role(now, input, db, out)
        {
            self.leave(leave, out);
        }
        if self.is_established() {
            self.pause = PAUSE_MIN_MICROS;
            self.core.snapshot_if_due(out);
        }
    }

    /// When the host must feed [`Input::Wakeup`] at the latest, in microseconds of [`Now::micros`].
    pub fn next_wakeup(&self) -> Option<u64> {
        let role = match &self.role {
            Role::Draining { .. } => None,
            Role::Pausing { until } => Some(*until),
            Role::Looking { read_only: ReadOnly::From(at) } => {
                Some(self.core.election.next_wakeup().map_or(*at, |election| election.min(*at)))
            }
            Role::Looking { .. } => {
                self.core.election.next_wakeup().into_iter().chain(self.core.divergence.wait_until()).min()
            }
            Role::Following(learner) => Some(learner.next_wakeup(&self.core)),
            Role::Leading(leader) => Some(leader.next_wakeup(&self.core)),
        };
        let early = self.early.iter().map(|early| early.until).min();
        let has_role = matches!(self.role, Role::Following(_) | Role::Leading(_));
        let divergence = self.core.divergence.act_at().filter(|_| has_role);
        role.into_iter().chain(early).chain(divergence).chain(self.core.locals.next_wakeup()).min()
    }

    /// Whether it leads, or is about to.
    pub fn is_leading(&self) -> bool {
        matches!(self.role, Role::Leading(_))
    }

    pub fn status(&self) -> PeerStatus {
        let (state, leader, epoch) = match &self.role {
            Role::Following(learner) if learner.is_observer() => {
                (PeerState::Observing, Some(learner.leader()), learner.epoch())
            }
            Role::Following(learner) => (PeerState::Following, Some(learner.leader()), learner.epoch()),
            Role::Leading(leader) => (PeerState::Leading, Some(self.core.my_id()), leader.epoch()),
            _ => (PeerState::Looking, None, self.core.current_epoch),
        };
        let (learners, pending_syncs) = match &self.role {
            Role::Leading(leader) => (leader.learner_counts(&self.core), leader.pending_syncs()),
            _ => Default::default(),
        };
        let (master, master_of) = match &self.role {
            Role::Following(learner) => (Some(learner.master()), learner.synced_observers(&self.core)),
            _ => (None, None),
        };
        PeerStatus {
            state,
            serving: self.serves(),
            read_only: self.is_read_only(),
            leader,
            epoch,
            last_logged: self.core.last_logged,
            last_committed: self.core.last_committed,
            learners,
            master,
            master_of,
            pending_syncs,
        }
    }

    /// The epochs as they were last asked of the disk: accepted, current.
    pub fn epochs(&self) -> (Epoch, Epoch) {
        (self.core.accepted_epoch, self.core.current_epoch)
    }

    fn is_established(&self) -> bool {
        match &self.role {
            Role::Following(learner) => learner.is_established(),
            Role::Leading(leader) => leader.is_established(),
            _ => false,
        }
    }

    /// Whether clients are served, by the rules of the role.
    fn serves(&self) -> bool {
        self.is_established() && (self.core.serves_as_leader() || !self.is_leading())
    }

    fn is_read_only(&self) -> bool {
        matches!(self.role, Role::Looking { read_only: ReadOnly::Serving })
    }

    // ----- What concerns every role -----

    /// Handles what does not depend on the role, and drops what belongs to a former one.
    fn filter(&mut self, now: Now, input: Input, db: &Database, out: &mut Effects) -> Option<Input> {
        let current = self.core.generation;
        match input {
            Input::Notification { from, notification } => {
                // Who leads must be asked anew if the members are others than was thought.
                if matches!(self.role, Role::Looking { .. }) && self.core.adopt(now, &notification, out) {
                    if self.is_read_only() {
                        out.db.push(DbOp::StopServing);
                    }
                    if self.core.must_log() {
                        // It votes from now on: what it says it has must be on its disk before.
                        self.core.election.stop();
                        self.core.generation.0 += 1;
                        self.core.log_what_was_not(out);
                        self.role = Role::Draining { pause: 0, next: None };
                        out.disk.push(DiskOp::Drain { generation: self.core.generation });
                    } else {
                        self.look(now, db, out);
                    }
                    return None;
                }
                let decision = self.core.election.on_notification(now.micros, from, &notification, &mut out.election);
                self.decided(now, decision, db, out);
                None
            }
            Input::ElectionLink { server, up } => {
                let decision = self.core.election.on_link(now.micros, server, up, &mut out.election);
                self.decided(now, decision, db, out);
                None
            }
            Input::Connect { conn, request } => {
                self.on_connect(now, conn, &request, db, out);
                None
            }
            Input::Requests(requests) => {
                let requests = self.core.locals.admit(now, requests, out);
                (!requests.is_empty()).then_some(Input::Requests(requests))
            }
            Input::SnapshotSaved { install, .. } => {
                if !install {
                    self.core.on_snapshot_ended();
                }
                None
            }
            // The directory is cut, whichever role asked for it: memory must follow.
            Input::Truncated { generation, loaded } if generation != current => {
                if self.core.truncating {
                    self.core.install_loaded(loaded, out);
                }
                None
            }
            Input::Flushed { generation, .. }
            | Input::Drained { generation }
            | Input::LogSearched { generation, .. }
            | Input::AcceptedEpochSaved { generation, .. }
            | Input::CurrentEpochSaved { generation, .. }
                if generation != current =>
            {
                None
            }
            input => self.filter_early_links(now, input, out),
        }
    }

    /// Keeps the connections of learners that were quicker to see us elected than we were.
    fn filter_early_links(&mut self, now: Now, input: Input, out: &mut Effects) -> Option<Input> {
        // A reconfiguration that is on its way may end with us as the leader, and others may read so before we do.
        let wants_learners = !matches!(self.role, Role::Following(_)) || self.core.last_seen.is_some();
        match input {
            Input::LearnerLinkUp { link } if !matches!(self.role, Role::Leading(_)) => {
                if wants_learners {
                    if self.early.len() >= NAMELESS_MAX {
                        let oldest = self.early.remove(0);
                        out.links.push(LinkOp::Close { link: oldest.link });
                    }
                    self.early.push(EarlyLink { link, until: now.micros + EARLY_LINK_MICROS, info: None });
                } else {
                    out.links.push(LinkOp::Close { link });
                }
                None
            }
            Input::Packets { link, packets } => match self.early.iter().position(|early| early.link == link) {
                Some(at) => {
                    self.on_early_packets(at, packets, out);
                    None
                }
                None => Some(Input::Packets { link, packets }),
            },
            Input::LinkDown { link, reason } => {
                self.early.retain(|early| early.link != link);
                Some(Input::LinkDown { link, reason })
            }
            Input::Wakeup => {
                for late in self.early.extract_if(.., |early| early.until <= now.micros) {
                    out.links.push(LinkOp::Close { link: late.link });
                }
                Some(Input::Wakeup)
            }
            input => Some(input),
        }
    }

    /// Keeps what the early link `at` says, if it is what a learner says.
    fn on_early_packets(&mut self, at: usize, mut packets: Vec<QuorumPacket>, out: &mut Effects) {
        let early = &mut self.early[at];
        let is_info = |packet: &QuorumPacket| {
            matches!(packet, QuorumPacket::FollowerInfo { .. } | QuorumPacket::ObserverInfo { .. })
        };
        match packets.pop() {
            Some(packet) if early.info.is_none() && packets.is_empty() && is_info(&packet) => early.info = Some(packet),
            _ => {
                out.links.push(LinkOp::Close { link: early.link });
                self.early.remove(at);
            }
        }
    }

    fn step_role(&mut self, now: Now, input: Input, db: &Database, out: &mut Effects) -> Result<(), Leave> {
        match (&mut self.role, input) {
            (Role::Following(learner), input) => learner.step(&mut self.core, now, input, db, out),
            (Role::Leading(leader), input) => leader.step(&mut self.core, now, input, db, out),
            (Role::Draining { pause, next }, Input::Drained { .. }) => {
                let (pause, next) = (*pause, *next);
                self.core.commit_all(out);
                match self.core.divergence.is_rebuilding {
                    true => out.disk.push(DiskOp::Reload { generation: self.core.generation }),
                    false => self.end_draining(now, pause, next, db, out),
                }
                Ok(())
            }
            (Role::Draining { pause, next }, Input::Truncated { loaded, .. }) => {
                let (pause, next) = (*pause, *next);
                self.on_rebuilt(now, loaded, out);
                self.end_draining(now, pause, next, db, out);
                Ok(())
            }
            (Role::Pausing { until }, Input::Wakeup) => {
                if *until <= now.micros {
                    self.look(now, db, out);
                }
                Ok(())
            }
            (Role::Looking { read_only }, Input::Wakeup) => {
                if matches!(*read_only, ReadOnly::From(at) if at <= now.micros) {
                    *read_only = ReadOnly::Serving;
                    self.serve_read_only(now, out);
                }
                let decision = self.core.election.on_wakeup(now.micros, &mut out.election);
                self.decided(now, decision, db, out);
                Ok(())
            }
            (_, Input::ObserverLinkUp { link }) => {
                out.links.push(LinkOp::Close { link });
                Ok(())
            }
            // Asked for by a follower that is no more.
            (_, Input::LeaderLinkUp { link, .. }) => {
                out.links.push(LinkOp::Close { link });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    // ----- From role to role -----

    /// Memory equals the log.
    fn end_draining(&mut self, now: Now, pause: u64, next: Option<ServerId>, db: &Database, out: &mut Effects) {
        if let Some(leader) = next {
            self.core.election.appoint(leader, self.core.last_committed);
            self.begin_role(now, leader, db, out);
        } else if pause > 0 {
            self.role = Role::Pausing { until: now.micros + pause };
        } else {
            self.look(now, db, out);
        }
    }

    pub(super) fn look(&mut self, now: Now, db: &Database, out: &mut Effects) {
        let read_only = match self.core.config.sessions.read_only_after_ms {
            Some(ms) if db.last_processed() > Zxid::NONE && !self.core.divergence.is_known => {
                ReadOnly::From(now.micros + (u64::from(ms) * 1000).max(self.core.tick_micros()))
            }
            _ => ReadOnly::Never,
        };
        self.role = Role::Looking { read_only };
        let leader = self.core.successor.take().unwrap_or(self.core.my_id());
        let first = Vote { peer_epoch: self.core.current_epoch.0, zxid: self.core.last_voted(), leader };
        self.begin_waiting_for_a_tree(now);
        out.notes.push(Note::StateChanged { state: "LOOKING" });
        let decision = self.core.election.start(now.micros, first, &mut out.election);
        out.notes.push(Note::ElectionStarted { round: self.core.election.round(), zxid: first.zxid });
        self.decided(now, decision, db, out);
    }

    fn decided(&mut self, now: Now, decision: Option<Decision>, db: &Database, out: &mut Effects) {
        let Some(Decision { leader, took_micros }) = decision else { return };
        out.notes.push(Note::ElectionWon { leader, took_ms: took_micros / 1000 });
        self.begin_role(now, leader, db, out);
    }

    /// Leads, or follows `leader`.
    fn begin_role(&mut self, now: Now, leader: ServerId, db: &Database, out: &mut Effects) {
        if self.is_read_only() {
            out.db.push(DbOp::StopServing);
        }
        self.core.divergence.on_role();
        self.core.generation.0 += 1;
        self.begin_sessions(now);
        let early = std::mem::take(&mut self.early);
        if leader != self.core.my_id() {
            let state = if self.core.is_observer() { "OBSERVING" } else { "FOLLOWING" };
            out.notes.push(Note::StateChanged { state });
            out.links.extend(early.into_iter().map(|early| LinkOp::Close { link: early.link }));
            self.role = Role::Following(Box::new(Learner::start(&mut self.core, leader, now, out)));
            return;
        }
        out.notes.push(Note::StateChanged { state: "LEADING" });
        let links = early.iter().map(|early| early.link).collect();
        self.role = Role::Leading(Box::new(Leader::start(&mut self.core, now, links, db, out)));
        for EarlyLink { link, info, .. } in early {
            if let Some(info) = info
                && let Err(leave) = self.step_role(now, Input::Packets { link, packets: vec![info] }, db, out)
            {
                return self.leave(leave, out);
            }
        }
    }

    /// Step 0 of the read-only mode: the election has gone on for so long that there may be no quorum. The tree does
    /// not change before it ends.
    fn serve_read_only(&mut self, now: Now, out: &mut Effects) {
        self.begin_sessions(now);
        let (generation, mode) = (self.core.generation, ServerMode::ReadOnly);
        out.db.push(DbOp::Serve(Serving { generation, mode, until_micros: u64::MAX }));
        out.notes.push(Note::ServingReadOnly);
    }

    /// Ends the role: no reads, no clients, no links; then the disk is drained.
    pub(super) fn leave(&mut self, Leave { reason, next }: Leave, out: &mut Effects) {
        let was_established = self.is_established();
        out.notes.push(Note::RoleEnded { reason });
        out.db.push(DbOp::StopServing);
        self.core.locals.clear();
        self.core.generation.0 += 1;
        let mut pause = 0;
        if !was_established {
            pause = self.pause;
            self.pause = (2 * self.pause).min(PAUSE_MAX_MICROS);
        }
        if matches!(&self.role, Role::Following(learner) if learner.is_observer()) {
            pause = pause.max(self.core.draw_observer_delay());
        }
        self.core.log_what_was_not(out);
        match std::mem::replace(&mut self.role, Role::Draining { pause, next }) {
            Role::Following(learner) => learner.end(out),
            Role::Leading(leader) => leader.end(out),
            _ => {}
        }
        self.core.election.unsettle();
        out.disk.push(DiskOp::Drain { generation: self.core.generation });
    }

    // ----- Sessions -----

    /// Session ids begin with the server's id and the time, so that no two servers and no two roles make the same.
    fn begin_sessions(&mut self, now: Now) {
        self.core.locals.clear();
        let time = ((now.wall_ms << 24) as u64 >> 8) as i64;
        let first = (self.core.my_id().0 << 56) | time;
        // As unsigned numbers: the id takes the highest bits.
        self.next_session = (self.next_session as u64).max(first as u64) as i64;
        if self.next_session == i64::MIN {
            self.next_session += 1; // That one marks containers.
        }
        self.first_session = self.next_session;
    }

    /// Step 1 of a session: a new one becomes a createSession or is this server's alone, a known one is renewed by who
    /// knows it.
    fn on_connect(&mut self, now: Now, conn: ConnId, request: &ConnectRequest, db: &Database, out: &mut Effects) {
        let is_read_only = self.is_read_only();
        let may_serve = self.serves() || is_read_only && request.read_only == Some(true);
        if !may_serve || request.last_zxid_seen > db.last_processed() {
            // Not serving, or behind what the client has seen elsewhere: it tries the next server.
            return out.db.push(DbOp::CloseConn { conn });
        }
        let config = &self.core.config;
        let timeout_ms = request.timeout_ms.max(config.min_session_timeout_ms).min(config.max_session_timeout_ms);
        let session = request.session;
        if session == SessionId(0) {
            return match is_read_only || self.core.locals.are_rule() {
                true => self.open_local_session(now, conn, timeout_ms, db, out),
                false => self.create_session(now, conn, timeout_ms, db, out),
            };
        }
        let is_local = self.core.locals.lives(session);
        if is_read_only && !is_local && !self.has_ended(session) {
            return out.db.push(DbOp::CloseConn { conn });
        }
        // Before the password is looked at, as ZooKeeper does: a former connection of the session here is closed.
        out.db.push(DbOp::BindSession { conn, session, timeout_ms });
        let is_password_right = is_session_password(session, request.password.as_deref().unwrap_or_default());
        match &mut self.role {
            _ if !is_password_right => out.db.push(DbOp::RefuseSession { conn }),
            Role::Leading(leader) if is_local => leader.renew_local(conn, session, timeout_ms, out),
            Role::Leading(leader) => leader.renew(&self.core, now, conn, session, timeout_ms, out),
            Role::Following(learner) if is_local => learner.renew_local(conn, session, timeout_ms, out),
            Role::Following(learner) => learner.revalidate(conn, session, timeout_ms, out),
            _ if is_local => {
                let after = self.core.last_logged;
                out.db.push(DbOp::OpenLocalSession { conn, session, timeout_ms, after });
            }
            _ => out.db.push(DbOp::RefuseSession { conn }),
        }
        if is_local && is_password_right {
            self.core.locals.track(now, session, timeout_ms);
        }
    }

    /// Whether a server without a quorum can know that a session which is not (any more) its own has ended: only of
    /// those that it has made since it serves without one. All others may live: another server's may be younger than
    /// what is here, and one of an earlier life may have been committed, and answered, before our own disk had it.
    fn has_ended(&self, session: SessionId) -> bool {
        (self.first_session..self.next_session).contains(&session.0)
    }

    /// An id that no session has.
    fn new_session(&mut self, db: &Database) -> SessionId {
        // After the wall clock was set back, sessions of an earlier life may have these ids.
        while db.sessions().contains_key(&SessionId(self.next_session)) {
            self.next_session = self.next_session.wrapping_add(1);
        }
        let session = SessionId(self.next_session);
        self.next_session = self.next_session.wrapping_add(1);
        session
    }

    fn open_local_session(&mut self, now: Now, conn: ConnId, timeout_ms: i32, db: &Database, out: &mut Effects) {
        let session = self.new_session(db);
        self.core.locals.track(now, session, timeout_ms);
        out.db.push(DbOp::BindSession { conn, session, timeout_ms });
        out.db.push(DbOp::OpenLocalSession { conn, session, timeout_ms, after: Zxid::NONE });
    }

    fn create_session(&mut self, now: Now, conn: ConnId, timeout_ms: i32, db: &Database, out: &mut Effects) {
        let session = self.new_session(db);
        out.db.push(DbOp::BindSession { conn, session, timeout_ms });
        let body = ForwardedBody::Request(Request::CreateSession(CreateSessionRequest { timeout_ms }));
        let request = ClientRequest { conn, session, xid: 0, body, auth: Arc::from([]) };
        if let Err(leave) = self.step_role(now, Input::Requests(vec![request]), db, out) {
            self.leave(leave, out);
        }
    }
}
