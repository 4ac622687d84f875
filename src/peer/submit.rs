//! Step 1 of a request: decode what a connection sent, answer the reads, hand on the writes.
//!
//! All frames of a batch are handled in one hold of the database's read lock. A read is answered now, unless a write
//! or sync of its session is still without an answer: then it is parked behind it. Writes leave at once; they never
//! wait for parked reads.
//!
//! When their write is done, parked reads are answered as fast as the client takes the answers: what is more waits in
//! the outbox, and nothing more is taken from the connection. But what the session's next write would change is read
//! before it.
//!
//! ZooKeeper: `ZooKeeperServer.processPacket`, `CommitProcessor`.

use super::Database;
use super::io::{ClientRequest, ConnId, Now};
use super::limits::{Rest, Taken, Turn};
use super::local_sessions::is_ephemeral;
use super::outbox::{ConnEnd, ConnPhase, Outbox, OutboxState, Waiting, What};
use super::prepare::is_multi_well_formed;
use super::read::Asked;
use crate::jute::{Reader, Record};
use crate::records::{ErrorCode, ForwardedBody, MultiOp, PathOnly, ReplyHeader, Request, RequestHeader, Zxid, op};
use std::sync::Arc;

/// A frame from a client after the connect request, without its length.
pub type Frame<'a> = &'a [u8];

impl Database {
    /// Takes frames of one connection, in order: answers what can be answered, parks what must wait, adds writes and
    /// syncs to `forward`. `now` is the time under the lock. Returns how many frames it took; the others are to be
    /// offered again once the session is open, or some of the outbox has been sent or answered. Goes on first with
    /// what [is due](Outbox::has_due).
    pub fn submit(
        &self,
        outbox: &Arc<Outbox>,
        frames: &[Frame<'_>],
        now: Now,
        forward: &mut Vec<ClientRequest>,
    ) -> usize {
        self.offer(outbox, frames, 0, now, forward).frames
    }

    /// As [`submit`](Database::submit), for frames that have waited for `waited_micros` since they were first offered;
    /// tells besides what is to be done with those that were not taken.
    pub fn offer(
        &self,
        outbox: &Arc<Outbox>,
        frames: &[Frame<'_>],
        waited_micros: u64,
        now: Now,
        forward: &mut Vec<ClientRequest>,
    ) -> Taken {
        let mut state = outbox.lock();
        if state.phase == ConnPhase::Open {
            self.touch(&state);
        }
        let limits = &self.settings.requests;
        if limits.ends_stale && waited_micros > u64::from(state.timeout_ms.unsigned_abs()) * 1000 {
            state.end_for(ConnEnd::Stale);
        }
        let mut turn = Turn::new(limits, &self.load, &state, waited_micros);
        self.answer_parked(outbox.conn(), &mut state, now);
        let mut taken = Taken { frames: frames.len(), rest: Rest::Nothing };
        for (before, frame) in frames.iter().enumerate() {
            let stop = match state.phase {
                ConnPhase::Connecting => Some(Rest::Answers),
                ConnPhase::Open => turn.stops(&state),
                ConnPhase::Closing => break, // Nobody will hear an answer.
            };
            if let Some(rest) = stop {
                taken = Taken { frames: before, rest };
                break;
            }
            self.submit_frame(outbox, &mut state, frame, &mut turn, now, forward);
        }
        if taken.rest == Rest::Nothing && state.has_due() {
            taken.rest = Rest::Answers;
        }
        state.settle(&self.load);
        taken
    }

    fn submit_frame(
        &self,
        outbox: &Outbox,
        state: &mut OutboxState,
        frame: Frame<'_>,
        turn: &mut Turn<'_>,
        now: Now,
        forward: &mut Vec<ClientRequest>,
    ) {
        state.stats.received += 1;
        let mut body = Reader::new(frame);
        let Ok(RequestHeader { xid, op }) = RequestHeader::read(&mut body) else {
            return state.close();
        };
        turn.count(op, frame.len());
        if turn.is_too_large(state, frame.len()) {
            return state.end_for(ConnEnd::LargeRequests);
        }
        if matches!(op, op::AUTH | op::SASL) {
            return self.authenticate(state, xid, Request::read(op, &mut body), now);
        }
        if !self.settings.auth.admits(&state.auth) {
            let err = ErrorCode::SessionClosedRequireAuth.code();
            state.reply(ReplyHeader { xid, zxid: Zxid::ZERO, err }, now.micros, now.micros, |_| {});
            return state.end_for(ConnEnd::Unauthenticated);
        }
        let decoded = if turn.is_late && !matches!(op, op::PING | op::CLOSE_SESSION) {
            Decoded::Throttled
        } else if self.is_read_only() && is_refused_read_only(op) {
            Decoded::NotReadOnly
        } else {
            decode(op, &mut body)
        };
        if state.is_moved && !matches!(decoded, Decoded::Write(_)) {
            return state.close(); // The leader refuses a write itself, and takes the end of the session.
        }
        let (what, request) = match decoded {
            Decoded::Read(request) if state.first_waiting().is_none() => {
                let auth = state.auth.clone();
                let asked = Asked { xid, since_micros: now.micros, request: &request, auth: &auth };
                return self.answer(outbox.conn(), state, &asked, now);
            }
            Decoded::Read(request) => (What::Read { request, auth: state.auth.clone() }, None),
            // Behind another write of the session the tree is not yet what this one will find.
            Decoded::Write(request)
                if state.first_waiting().is_none()
                    && let Some(error) = self.eager_refusal(&request, &state.auth) =>
            {
                let header = ReplyHeader { xid, zxid: Zxid::ZERO, err: error.code() };
                return state.reply(header, now.micros, now.micros, |_| {});
            }
            Decoded::Write(request) => {
                let is_ephemeral =
                    matches!(&request, Request::Create(body) | Request::Create2(body) if is_ephemeral(body));
                (What::Write { op, create2: create2_ops(&request), is_ephemeral }, Some(request))
            }
            Decoded::Sync(body) => (What::Sync { path: body.path.clone() }, Some(Request::Sync(body))),
            Decoded::Malformed => (What::Malformed, None),
            Decoded::Refused => (What::Refused, None),
            Decoded::NotReadOnly => (What::NotReadOnly, None),
            Decoded::Throttled => (What::Throttled, None),
        };
        if let Some(body) = request {
            forward.push(ClientRequest {
                conn: outbox.conn(),
                session: state.session,
                xid,
                body: ForwardedBody::Request(body),
                auth: state.auth.clone(),
            });
        }
        let (len, is_large) = (frame.len(), frame.len() > self.settings.requests.large_above);
        state.push_waiting(Waiting { xid, since_micros: now.micros, len, is_large, what });
        self.answer_parked(outbox.conn(), state, now);
    }

    /// Answers everything up to the next write or sync, as far as there is room for the answers. Who has called it
    /// sends what is in the outbox; [`offer`](Database::offer) goes on then.
    pub(super) fn answer_parked(&self, conn: ConnId, state: &mut OutboxState, now: Now) {
        while !state.is_full() {
            let Some(request) = state.pop_due() else { return };
            self.answer_due(conn, state, request, now);
        }
        state.set_due();
    }

    /// Answers what is before a write of the session, or its end, that is done now. The tree may not change before, so
    /// that this is the one place where answers go beyond [`OUTPUT_BYTES_BUSY`](super::OUTPUT_BYTES_BUSY).
    pub(super) fn answer_before_write(&self, conn: ConnId, state: &mut OutboxState, now: Now) {
        while let Some(request) = state.pop_due() {
            self.answer_due(conn, state, request, now);
        }
    }

    fn answer_due(&self, conn: ConnId, state: &mut OutboxState, request: Waiting, now: Now) {
        let Waiting { xid, since_micros, what, .. } = request;
        let (zxid, ok) = (self.last_processed, 0);
        let mut reply = |zxid, err| state.reply(ReplyHeader { xid, zxid, err }, since_micros, now.micros, |_| {});
        match what {
            What::Read { request, auth } => {
                let asked = Asked { xid, since_micros, request: &request, auth: &auth };
                self.answer(conn, state, &asked, now);
            }
            What::Synced { path } => {
                let header = ReplyHeader { xid, zxid, err: ok };
                state.reply(header, since_micros, now.micros, |out| path.write(out));
            }
            What::Malformed => reply(zxid, ErrorCode::MarshallingError.code()),
            What::NotReadOnly => reply(zxid, ErrorCode::NotReadOnly.code()),
            What::Throttled => reply(zxid, ErrorCode::ThrottledOp.code()),
            What::Refused => {
                reply(Zxid::NONE, ErrorCode::Unimplemented.code());
                state.close();
            }
            What::End => {
                reply(zxid, ok);
                state.close();
            }
            What::Write { .. } | What::Sync { .. } => unreachable!("it is not due before the leader's answer"),
        }
    }
}

enum Decoded {
    Read(Request),
    Write(Request),
    Sync(PathOnly),
    /// The bytes are no request of this operation.
    Malformed,
    /// No operation for clients.
    Refused,
    /// A write or sync, in read-only mode.
    NotReadOnly,
    /// It came too late to be looked at.
    Throttled,
}

/// What a server in read-only mode does not do; its bytes are not looked at. It ends sessions: they are its own.
fn is_refused_read_only(op: i32) -> bool {
    matches!(
        op,
        op::CREATE
            | op::CREATE2
            | op::CREATE_TTL
            | op::CREATE_CONTAINER
            | op::DELETE
            | op::DELETE_CONTAINER
            | op::SET_DATA
            | op::SET_ACL
            | op::RECONFIG
            | op::MULTI
            | op::CHECK
            | op::SYNC
    )
}

fn decode(op: i32, body: &mut Reader<'_>) -> Decoded {
    // A lone check leads 3.8.0 servers astray; the other two are between servers.
    if matches!(op, op::CHECK | op::DELETE_CONTAINER | op::CREATE_SESSION) {
        return Decoded::Refused;
    }
    match Request::read(op, body) {
        None => Decoded::Refused,
        Some(Err(_)) => Decoded::Malformed,
        Some(Ok(Request::Multi(multi))) if !is_multi_well_formed(&multi) => Decoded::Malformed,
        Some(Ok(Request::MultiRead(multi))) if !multi.ops.iter().all(MultiOp::is_read) => Decoded::Malformed,
        Some(Ok(Request::Sync(body))) => Decoded::Sync(body),
        Some(Ok(request)) if request.is_write() => Decoded::Write(request),
        Some(Ok(request)) => Decoded::Read(request),
    }
}

/// Which operations of a multi are create2: their transactions are those of create, their answers are not.
fn create2_ops(request: &Request) -> Box<[bool]> {
    match request {
        Request::Multi(multi) => multi.ops.iter().map(|op| matches!(op, MultiOp::Create2(_))).collect(),
        _ => Box::default(),
    }
}
