//! SYNC: what a client reads after its sync, it reads at least as new as anything acknowledged before the sync.
//!
//! So a sync is answered only when everything that was proposed before it is committed *and* a quorum has answered a
//! PING that was sent after it came: a leader whose followers have gone over to another, unknown to it, must not
//! answer. PINGs for syncs go out in rounds, one at a time, each for all syncs that came before it; under load a round
//! costs next to nothing, and a lone sync waits for one exchange with the nearest quorum.
//!
//! Meanwhile what its session writes behind it waits here: were that ordered at once, its commit could overtake the
//! sync's answer, and the reads between the two would see what was written after them. Not more can wait than a
//! connection may have unanswered, which its own server bounds. Syncs are answered in the order in which they came, all
//! together: a learner knows them by nothing else.
//!
//! Writes wait here as well while nothing is proposed because the leader [hands over](super::hand_over): if that is given
//! up, it is their turn.
//!
//! "Your session has expired" waits in the same way: a leader that is none any more does not know the sessions that
//! have begun since.
//!
//! ZooKeeper answers as soon as nothing is outstanding, and refuses sessions at once, from a leader that may be none
//! any more.

use super::super::Database;
use super::super::core::{Core, Leave};
use super::super::io::{ClientRequest, ConnId, DbOp, Effects, LinkId, Now};
use super::{Leader, Progress};
use crate::records::{ForwardedBody, ForwardedRequest, QuorumPacket, Request, ServerId, SessionId, Zxid};
use std::collections::{BTreeMap, VecDeque};

/// A learner with so many unanswered PINGs gets no more for syncs; it is behind, and others make the quorum.
const UNANSWERED_MAX: usize = 32;

/// Who waits for what.
#[derive(Clone, Copy, Debug)]
pub(super) enum SyncWaiter {
    Client(ConnId, i32),
    Learner(LinkId),
    /// A client of ours, with a session that we do not know (and its timeout, ms).
    ClientRenewal(ConnId, SessionId, i32),
    /// The same, of a learner.
    LearnerRenewal(LinkId, SessionId, i32),
}

/// A request as it came: of a client of this server, or of a learner's.
#[derive(Debug)]
pub(super) enum Arrived {
    Here(ClientRequest),
    Forwarded(LinkId, ForwardedRequest),
}

impl Arrived {
    fn session(&self) -> SessionId {
        match self {
            Arrived::Here(request) => request.session,
            Arrived::Forwarded(_, request) => request.session,
        }
    }

    /// Who waits for the answer, if it is a sync.
    fn sync_waiter(&self) -> Option<SyncWaiter> {
        let (waiter, body) = match self {
            Arrived::Here(request) => (SyncWaiter::Client(request.conn, request.xid), &request.body),
            Arrived::Forwarded(link, request) => (SyncWaiter::Learner(*link), &request.body),
        };
        matches!(body, ForwardedBody::Request(Request::Sync(_))).then_some(waiter)
    }
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    waiter: SyncWaiter,
    /// Of a sync, whose session's next writes wait for it.
    sync: Option<SyncId>,
    /// The last proposal when the sync came, or when what its session had written before was proposed.
    after: Zxid,
    /// The first round of PINGs that began after it came.
    round: u64,
}

/// A sync: its session, and its number among all of this role.
type SyncId = (SessionId, u64);

/// What a session waits for, in the order in which it asked: first a sync that is not answered, or, while nothing is
/// proposed or until the end of the step that answers the sync, what comes after it.
#[derive(Debug)]
enum Turn {
    Sync(u64),
    Write(Arrived),
}

/// The syncs without an answer, and the rounds of PINGs.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    /// In the order in which they came, so `round` ascends; none is answered before the one in front of it.
    waiting: VecDeque<Waiting>,
    /// The newest round.
    round: u64,
    /// How many syncs there have been.
    count: u64,
    /// The sessions that have a sync without an answer, or writes that wait.
    turns: BTreeMap<SessionId, VecDeque<Turn>>,
    /// Of these, those whose writes wait for no sync: it is their turn as soon as anything is proposed.
    ready: VecDeque<SessionId>,
}

impl Syncs {
    /// Another round begins.
    pub fn next_round(&mut self) -> u64 {
        self.round += 1;
        self.round
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The link is gone, with everybody who waits behind it.
    pub fn forget(&mut self, link: LinkId) {
        let is_gone = |waiter| match waiter {
            SyncWaiter::Learner(gone) | SyncWaiter::LearnerRenewal(gone, ..) => gone == link,
            SyncWaiter::Client(..) | SyncWaiter::ClientRenewal(..) => false,
        };
        let sessions: Vec<SessionId> = self
            .waiting
            .iter()
            .filter(|waiting| is_gone(waiting.waiter))
            .filter_map(|waiting| Some(waiting.sync?.0))
            .collect();
        self.waiting.retain(|waiting| !is_gone(waiting.waiter));
        sessions.into_iter().for_each(|session| self.forget_turns(session));
    }

    /// The session's connection is gone: what it has written behind a sync never happens. The syncs themselves are
    /// answered, since their server counts them.
    fn forget_turns(&mut self, session: SessionId) {
        if self.turns.remove(&session).is_some() {
            for waiting in &mut self.waiting {
                waiting.sync = waiting.sync.filter(|(of, _)| *of != session);
            }
        }
    }

    /// Whether what the session wrote before this sync has been proposed.
    fn is_its_turn(&self, sync: Option<SyncId>) -> bool {
        let Some((session, number)) = sync else { return true };
        let first = self.turns.get(&session).and_then(|turns| turns.front());
        matches!(first, Some(Turn::Sync(first)) if *first == number)
    }

    /// The write of a session that waits for nothing has to wait until something is proposed again.
    fn hold(&mut self, arrived: Arrived) {
        let session = arrived.session();
        self.turns.entry(session).or_default().push_back(Turn::Write(arrived));
        self.ready.push_back(session);
    }

    /// The sync is answered.
    fn end_turn(&mut self, sync: Option<SyncId>) {
        let Some((session, _)) = sync else { return };
        let Some(turns) = self.turns.get_mut(&session) else { return };
        turns.pop_front();
        match turns.front() {
            None => drop(self.turns.remove(&session)),
            Some(Turn::Write(_)) => self.ready.push_back(session),
            Some(Turn::Sync(_)) => {}
        }
    }
}

impl Leader {
    /// Takes a request; a write behind a sync of its session has to wait for it.
    pub(super) fn on_arrived(
        &mut self,
        core: &mut Core,
        now: Now,
        arrived: Arrived,
        db: &Database,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        let session = arrived.session();
        if let Some(waiter) = arrived.sync_waiter() {
            self.syncs.count += 1;
            let number = self.syncs.count;
            self.syncs.turns.entry(session).or_default().push_back(Turn::Sync(number));
            self.await_quorum(core, now, waiter, Some((session, number)), out);
        } else if let Some(turns) = self.syncs.turns.get_mut(&session) {
            turns.push_back(Turn::Write(arrived));
        } else if self.is_on_hold() {
            self.syncs.hold(arrived);
        } else {
            self.order_arrived(core, now, arrived, db, out)?;
        }
        Ok(())
    }

    fn order_arrived(
        &mut self,
        core: &mut Core,
        now: Now,
        arrived: Arrived,
        db: &Database,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        match arrived {
            Arrived::Here(ClientRequest { session, xid, body, auth, .. }) => {
                let me = core.my_id();
                self.order(core, now, me, session, xid, &body, &auth, db, out)
            }
            Arrived::Forwarded(link, ForwardedRequest { session, cxid, body, auth }) => {
                let Some(server) = self.server_of(link) else { return Ok(()) };
                self.order(core, now, server, session, cxid, &body, &auth, db, out)
            }
        }
    }

    /// At the end of each step, unless nothing is proposed now: the writes that wait for no sync, up to their session's next
    /// sync, which then waits for them.
    pub(super) fn order_waiting(
        &mut self,
        core: &mut Core,
        now: Now,
        db: &Database,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        while !self.is_on_hold()
            && let Some(session) = self.syncs.ready.pop_front()
        {
            while let Some(turns) = self.syncs.turns.get_mut(&session) {
                match turns.pop_front() {
                    Some(Turn::Write(arrived)) => self.order_arrived(core, now, arrived, db, out)?,
                    Some(Turn::Sync(number)) => {
                        turns.push_front(Turn::Sync(number));
                        let sync = Some((session, number));
                        if let Some(waiting) = self.syncs.waiting.iter_mut().find(|waiting| waiting.sync == sync) {
                            waiting.after = self.broadcast.last_proposed();
                        }
                        break;
                    }
                    None => drop(self.syncs.turns.remove(&session)),
                }
            }
            self.answer_syncs(core, now, out);
        }
        Ok(())
    }

    /// Answers `waiter` once a quorum has said that we still lead.
    fn await_quorum(&mut self, core: &Core, now: Now, waiter: SyncWaiter, sync: Option<SyncId>, out: &mut Effects) {
        let (after, round) = (self.broadcast.last_proposed(), self.syncs.round + 1);
        self.syncs.waiting.push_back(Waiting { waiter, sync, after, round });
        self.answer_syncs(core, now, out);
    }

    /// Answers the syncs whose time has come, and begins the next round if somebody waits for it.
    pub(super) fn answer_syncs(&mut self, core: &Core, now: Now, out: &mut Effects) {
        let Some(wanted) = self.syncs.waiting.back().map(|waiting| waiting.round) else { return };
        if wanted > self.syncs.round && self.answered_round(core) >= Some(self.syncs.round) {
            self.begin_round(now, out);
        }
        let answered = self.answered_round(core);
        while let Some(first) = self.syncs.waiting.front()
            && first.after <= core.last_committed
            && Some(first.round) <= answered
            && self.syncs.is_its_turn(first.sync)
        {
            let (waiter, sync) = (first.waiter, first.sync);
            self.syncs.waiting.pop_front();
            self.syncs.end_turn(sync);
            match waiter {
                SyncWaiter::Client(conn, xid) => out.db.push(DbOp::SyncDone { conn, xid }),
                SyncWaiter::Learner(link) => out.send(link, QuorumPacket::Sync { zxid: Zxid::ZERO }),
                SyncWaiter::ClientRenewal(conn, session, timeout_ms) => {
                    let valid = self.renew_by(core, now, session, timeout_ms, Some(core.my_id()), out);
                    self.answer_renewal(conn, session, valid, out);
                }
                SyncWaiter::LearnerRenewal(link, session, timeout_ms) => {
                    let valid = self.renew_by(core, now, session, timeout_ms, self.server_of(link), out);
                    out.send(link, QuorumPacket::Revalidated { session, valid });
                }
            }
        }
    }

    /// A client of this server renews its session.
    pub(in super::super) fn renew(
        &mut self,
        core: &Core,
        now: Now,
        conn: ConnId,
        session: SessionId,
        timeout_ms: i32,
        out: &mut Effects,
    ) {
        if self.renew_by(core, now, session, timeout_ms, Some(core.my_id()), out) {
            self.answer_renewal(conn, session, true, out);
        } else {
            self.await_quorum(core, now, SyncWaiter::ClientRenewal(conn, session, timeout_ms), None, out);
        }
    }

    /// A client of a learner does.
    pub(super) fn on_revalidate(
        &mut self,
        core: &Core,
        now: Now,
        link: LinkId,
        session: SessionId,
        timeout_ms: i32,
        out: &mut Effects,
    ) {
        if self.renew_by(core, now, session, timeout_ms, self.server_of(link), out) {
            out.send(link, QuorumPacket::Revalidated { session, valid: true });
        } else {
            self.await_quorum(core, now, SyncWaiter::LearnerRenewal(link, session, timeout_ms), None, out);
        }
    }

    /// Moves the session to `server`, if it lives: what an older connection has asked for behind a sync is dropped.
    fn renew_by(
        &mut self,
        core: &Core,
        now: Now,
        session: SessionId,
        timeout_ms: i32,
        server: Option<ServerId>,
        out: &mut Effects,
    ) -> bool {
        let lives = server.is_some_and(|server| self.sessions.renew(now.micros, session, timeout_ms, server));
        if lives {
            self.syncs.forget_turns(session);
            if server != Some(core.my_id()) {
                out.db.push(DbOp::SessionMoved { session });
            }
        }
        lives
    }

    /// A client of this server comes back to a session that only this server knows.
    pub(in super::super) fn renew_local(
        &mut self,
        conn: ConnId,
        session: SessionId,
        timeout_ms: i32,
        out: &mut Effects,
    ) {
        self.syncs.forget_turns(session);
        let after = self.broadcast.last_proposed();
        out.db.push(DbOp::OpenLocalSession { conn, session, timeout_ms, after });
    }

    fn server_of(&self, link: LinkId) -> Option<ServerId> {
        self.learners.get(&link).and_then(|learner| learner.server)
    }

    fn answer_renewal(&self, conn: ConnId, session: SessionId, valid: bool, out: &mut Effects) {
        out.db.push(DbOp::SessionRenewed { conn, session, valid, after: self.broadcast.last_proposed() });
    }

    /// The newest round of PINGs that a quorum has answered.
    fn answered_round(&self, core: &Core) -> Option<u64> {
        let me = core.my_id();
        core.quorums.reached_by_quorum(|voter| {
            if voter == me {
                return Some(self.syncs.round);
            }
            self.voter(voter).map(|learner| learner.answered_round)
        })
    }

    fn begin_round(&mut self, now: Now, out: &mut Effects) {
        let (round, zxid) = (self.syncs.next_round(), self.broadcast.last_proposed());
        for (link, learner) in &mut self.learners {
            if learner.progress == Progress::UpToDate && learner.pinged.len() < UNANSWERED_MAX {
                learner.pinged.push_back((now.micros, round));
                out.send(*link, QuorumPacket::Ping { zxid, touched: None });
            }
        }
    }
}
