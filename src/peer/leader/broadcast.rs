//! Steps 4 to 6 of a write, on the leader: prepare, propose, commit. Zab phase 3.
//!
//! Before: [`submit`](super::super::submit) has taken the request, here or on a follower.
//! After: [`apply`](super::super::apply) applies what is committed. ZooKeeper: `PrepRequestProcessor`, `Leader.propose`.

use super::super::Database;
use super::super::core::{Core, Leave};
use super::super::io::{ClientRequest, Effects, Now, Proposal};
use super::super::prepare::PrepareRequest;
use super::sync::Arrived;
use super::{Leader, Progress};
use crate::records::{ErrorCode, ForwardedBody, Id, Request, ServerId, SessionId, Txn, TxnBody};

impl Leader {
    pub(super) fn on_requests(
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
        requests.into_iter().try_for_each(|request| self.on_arrived(core, now, Arrived::Here(request), db, out))
    }

    /// Steps 4 and 5 of a write: make the transaction and propose it. A request that fails is a transaction as well.
    #[expect(clippy::too_many_arguments, reason = "the context of a step, and the parts of a request")]
    pub(super) fn order(
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
        let (session_check, ephemeral_check) = match body {
            ForwardedBody::Request(Request::CreateSession(create)) => {
                self.sessions.track(now.micros, session, create.timeout_ms, Some(from));
                (Ok(()), Ok(()))
            }
            // Accepted from whichever server: the session ends.
            ForwardedBody::Request(Request::CloseSession) if self.sessions.lives(session) => (Ok(()), Ok(())),
            ForwardedBody::Request(Request::CloseSession) => {
                (Err(ErrorCode::SessionExpired), Err(ErrorCode::SessionExpired))
            }
            _ => self.check_session(core, session, from),
        };
        if session_check.is_ok() && matches!(body, ForwardedBody::Request(Request::CloseSession)) {
            self.sessions.close(session);
        }
        let new_config = self.plan(core, body).map(|new| new.to_string());
        let new_config = new_config.as_deref().map_err(|error| *error);
        let request = PrepareRequest { session, cxid, body, auth, session_check, ephemeral_check, new_config };
        self.propose(core, now, &request, db, out)
    }

    /// Whether a request of `session` that came by way of `from` may be ordered, and whether it may make ephemerals.
    fn check_session(
        &mut self,
        core: &Core,
        session: SessionId,
        from: ServerId,
    ) -> (Result<(), ErrorCode>, Result<(), ErrorCode>) {
        let global = self.sessions.check(session, from);
        if !core.locals.are_rule() || !self.sessions.is_unheard_of(session) {
            return (global, global);
        }
        if core.locals.lives(session) {
            return (Ok(()), Err(ErrorCode::EphemeralOnLocalSession));
        }
        // It may be a local session of another server; one of ours would be known.
        let is_ours = session.server_byte() == core.my_id().0 as u8;
        (if is_ours { global } else { Ok(()) }, global)
    }

    pub(super) fn propose(
        &mut self,
        core: &mut Core,
        now: Now,
        request: &PrepareRequest<'_>,
        db: &Database,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        if self.is_on_hold() {
            // Requests wait elsewhere; this is the rest of a step that has begun the end of the role, which will come: the
            // client loses its connection, and asks another server.
            return Ok(());
        }
        let Some(in_flight) = &mut self.in_flight else { return Ok(()) };
        if self.broadcast.last_proposed().counter() >= u32::MAX - 1 {
            // The low 32 bits are used up: the next epoch starts at 1 again. ZooKeeper: XidRolloverException.
            return Err(Leave::because(format!("the zxids of epoch {} are used up", self.epoch)));
        }
        let zxid = self.broadcast.last_proposed().successor();
        let (body, digest) = in_flight.prepare(db, request, zxid, now.wall_ms);
        if db.settings().nodes.enforce_quota {
            self.quota_log.say(now, in_flight.take_exceeded(), out);
        }
        let &PrepareRequest { session, cxid, .. } = request;
        let proposal = Proposal::new(Txn { session, cxid, zxid, time_ms: now.wall_ms, body, digest });
        self.begin_change(core, &proposal, out);
        self.broadcast.propose(proposal.clone());
        self.unflushed.get_or_insert((zxid, now.micros));
        for (link, learner) in &mut self.learners {
            if learner.progress >= Progress::Synchronizing && !learner.is_observer {
                Self::send_proposal(now, *link, learner, &proposal, out);
            }
        }
        core.log(proposal, out);
        self.hand_over_if_due(core, now, out);
        Ok(())
    }

    pub(super) fn propose_close(
        &mut self,
        core: &mut Core,
        now: Now,
        session: SessionId,
        db: &Database,
        out: &mut Effects,
    ) {
        let body = ForwardedBody::Request(Request::CloseSession);
        let request = PrepareRequest::new(session, 0, &body, &[]);
        // Without zxids left the role ends at the next request of a client; the session's end can wait.
        let _ = self.propose(core, now, &request, db, out);
    }

    /// With local sessions, a request of one that is not known may be that of another server's local session, or one
    /// that its server sent before it heard of the end: for so long the end is remembered.
    fn forget_session(&mut self, core: &Core, now: Now, session: SessionId) {
        self.sessions.forget(session);
        if core.locals.are_rule() {
            let until = now.micros + 2 * core.sync_limit_micros();
            self.sessions.remember_end(now.micros, session, until);
        }
    }

    pub(super) fn commit(&mut self, core: &mut Core, now: Now, committed: Vec<Proposal>, out: &mut Effects) {
        for proposal in committed {
            let zxid = proposal.zxid();
            if let TxnBody::CloseSession { .. } = proposal.txn.body {
                self.forget_session(core, now, proposal.txn.session);
            }
            assert_eq!(core.uncommitted.front().map(Proposal::zxid), Some(zxid), "a commit skipped a logged proposal");
            core.commit_first(out);
            let designated = self.activate(core, &proposal, out);
            for (link, learner) in &mut self.learners {
                Self::tell_committed(*link, learner, &proposal, designated, out);
            }
            if designated.is_some() {
                self.go_on(core, now, out);
            }
        }
        self.answer_syncs(core, now, out);
    }
}
