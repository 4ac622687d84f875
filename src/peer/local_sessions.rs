//! The sessions that only this server knows: they cost no transaction, and cannot own ephemerals.
//!
//! This server's own clock ends them. With its first ephemeral such a session may become one of the whole ensemble: a
//! createSession of the same id is proposed before the create. Which of the two a session is, is decided here and
//! nowhere else, in the order in which the core takes requests; connections only follow.
//! ZooKeeper lets threads race over that (ZOOKEEPER-2725, 3471).
//!
//! They end with the role: a server that looks for a leader has forgotten them, as Apache's has.
//!
//! ZooKeeper: `LocalSessionTracker`, `UpgradeableSessionTracker`, `LeaderRequestProcessor`, `FollowerRequestProcessor`.

use super::Database;
use super::core::SessionRules;
use super::io::{ClientRequest, DbOp, Effects, Note, Now};
use super::sessions::SessionTracker;
use crate::records::{CreateRequest, CreateSessionRequest, ForwardedBody, MultiOp, Request, ServerId, SessionId};
use std::sync::Arc;

/// Expiry does not ask who owns a local session: its server does.
const OWNER: Option<ServerId> = None;

/// The local sessions of a server, in one role.
pub struct LocalSessions {
    rules: SessionRules,
    tick_ms: u32,
    /// How long the end of a session is remembered, in microseconds: for as long as requests of it can be under way.
    ends_kept: u64,
    tracker: SessionTracker,
    /// When connections are next asked who was heard, in microseconds.
    next_sweep: u64,
    last_sweep: u64,
}

impl LocalSessions {
    /// `ends_kept`: how long a connection may wait for what it asked before its session ended, in microseconds.
    pub fn new(rules: SessionRules, tick_ms: u32, ends_kept: u64) -> LocalSessions {
        LocalSessions { rules, tick_ms, ends_kept, tracker: SessionTracker::new(tick_ms), next_sweep: 0, last_sweep: 0 }
    }

    /// Whether new sessions of a server that has a quorum are local.
    pub fn are_rule(&self) -> bool {
        self.rules.local
    }

    /// A role begins.
    pub fn clear(&mut self) {
        self.tracker = SessionTracker::new(self.tick_ms);
    }

    pub fn lives(&self, session: SessionId) -> bool {
        self.tracker.lives(session)
    }

    /// A client opens `session`, or comes back to it: a full timeout from now.
    pub fn track(&mut self, now: Now, session: SessionId, timeout_ms: i32) {
        if self.tracker.is_empty() {
            self.last_sweep = now.micros;
            self.next_sweep = now.micros + self.half_tick();
        }
        self.tracker.track(now.micros, session, timeout_ms, OWNER);
    }

    fn half_tick(&self) -> u64 {
        u64::from(self.tick_ms.max(1)) * 500
    }

    pub fn next_wakeup(&self) -> Option<u64> {
        Some(self.tracker.next_expiry()?.min(self.next_sweep))
    }

    /// Hears who was heard, and ends those whose time is over.
    pub fn on_wakeup(&mut self, now: Now, db: &Database, out: &mut Effects) {
        if self.next_wakeup().is_none_or(|at| at > now.micros) {
            return;
        }
        let pause = now.micros.saturating_sub(self.last_sweep);
        if pause > 4 * self.half_tick() {
            self.tracker.postpone(pause); // As the leader does: what clients sent meanwhile has not been read yet.
        }
        self.last_sweep = now.micros;
        self.next_sweep = now.micros + self.half_tick();
        for touched in db.touched_local() {
            self.tracker.touch(now.micros, touched.session, touched.timeout_ms);
        }
        for (session, timeout_ms) in self.tracker.expire(now.micros) {
            out.notes.push(Note::SessionExpired { session, timeout_ms });
            self.end(now, session, None, out);
        }
    }

    /// What is left for the leader of `requests`: the end of a local session is told at once, and before its first
    /// ephemeral comes the createSession that makes it one of the ensemble. Nothing is left of what comes behind the
    /// end: the leader does not know the session and would do it, and its connection answers nothing more.
    pub fn admit(&mut self, now: Now, requests: Vec<ClientRequest>, out: &mut Effects) -> Vec<ClientRequest> {
        if self.tracker.is_blank() {
            return requests;
        }
        let mut left = Vec::with_capacity(requests.len());
        for request in requests {
            if self.tracker.has_ended(request.session) {
                continue;
            }
            if self.lives(request.session) {
                if matches!(request.body, ForwardedBody::Request(Request::CloseSession)) {
                    self.end(now, request.session, Some(&request), out);
                    continue;
                }
                if self.rules.upgrade && makes_ephemerals(&request.body) {
                    left.extend(self.upgrade(&request, out));
                }
            }
            left.push(request);
        }
        left
    }

    fn upgrade(&mut self, request: &ClientRequest, out: &mut Effects) -> Option<ClientRequest> {
        let &ClientRequest { conn, session, .. } = request;
        let timeout_ms = self.tracker.forget(session)?;
        out.db.push(DbOp::UpgradeSession { session });
        let body = ForwardedBody::Request(Request::CreateSession(CreateSessionRequest { timeout_ms }));
        Some(ClientRequest { conn, session, xid: 0, body, auth: Arc::from([]) })
    }

    fn end(&mut self, now: Now, session: SessionId, request: Option<&ClientRequest>, out: &mut Effects) {
        self.tracker.forget(session);
        self.tracker.remember_end(now.micros, session, now.micros + self.ends_kept);
        let asked = request.map(|request| (request.conn, request.xid));
        out.db.push(DbOp::EndLocalSession { session, asked });
    }
}

/// Whether a request needs a session of the whole ensemble.
pub(super) fn makes_ephemerals(body: &ForwardedBody) -> bool {
    match body {
        ForwardedBody::Request(Request::Create(body) | Request::Create2(body)) => is_ephemeral(body),
        ForwardedBody::Request(Request::Multi(multi)) => multi
            .ops
            .iter()
            .any(|op| matches!(op, MultiOp::Create(body) | MultiOp::Create2(body) if is_ephemeral(body))),
        _ => false,
    }
}

/// CreateMode EPHEMERAL or EPHEMERAL_SEQUENTIAL.
pub(super) fn is_ephemeral(body: &CreateRequest) -> bool {
    matches!(body.flags, 1 | 3)
}
