//! The link of a simulated client, read along in both directions: what the session says must be what a client may say,
//! and what servers answer is judged here frame by frame, whatever the session makes of it.

use super::client::Client;
use super::client_checks::Pending;
use super::world::Ctx;
use crate::client::CallId;
use crate::jute::{Reader, Record};
use crate::records::{
    ConnectRequest, ConnectResponse, NOTIFICATION_XID, ReplyHeader, Request, RequestHeader, Response, ServerId,
    SessionId, WatcherEvent, Zxid,
};
use std::collections::VecDeque;

/// One link, from its first byte on.
#[derive(Debug, Default)]
pub struct Wire {
    /// Bytes of a frame that is not whole yet, to and from the server.
    said: Vec<u8>,
    received: Vec<u8>,
    has_asked: bool,
    has_session: bool,
    /// When the session was asked for, in microseconds.
    asked_at: u64,
    /// The server has no quorum: it may only be read, and its state is that of this zxid.
    pub read_only: Option<Zxid>,
    pub is_read_only: bool,
    /// The server has been told the watches of before, if there are any.
    has_watches: bool,
    /// Requests without an answer.
    pub pending: VecDeque<Pending>,
    /// What the session must tell next.
    pub heard: VecDeque<Heard>,
}

/// What servers have told of a session.
#[derive(Clone, Debug)]
pub struct Told {
    pub id: SessionId,
    password: Vec<u8>,
    pub closing: bool,
    /// When it was told, one server alone knew it.
    pub is_local: bool,
}

/// Something that the session must tell its host.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    Answer { call: CallId, zxid: Zxid, result: Result<Response, i32> },
    Event { kind: i32, path: String, zxid: Zxid },
}

/// Takes the first whole frame off `bytes`.
fn take_frame(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut from = Reader::new(bytes);
    let frame = from.buffer().ok().flatten()?.to_vec();
    bytes.drain(..4 + frame.len());
    Some(frame)
}

impl Client {
    /// The session sends `bytes`.
    pub fn say(&mut self, bytes: &[u8], ctx: &mut Ctx) {
        self.wire.said.extend_from_slice(bytes);
        while let Some(frame) = take_frame(&mut self.wire.said) {
            if let Err(wrong) = self.on_said(&frame, ctx) {
                return ctx.checkers.fail(|| format!("client {}: {wrong}", self.index));
            }
        }
    }

    fn on_said(&mut self, frame: &[u8], ctx: &mut Ctx) -> Result<(), String> {
        if !self.wire.has_asked {
            (self.wire.has_asked, self.wire.asked_at) = (true, ctx.now());
            let request = ConnectRequest::from_bytes(frame).map_err(|error| error.to_string())?;
            let same = match &self.told {
                Some(told) => request.session == told.id && request.password.as_ref() == Some(&told.password),
                None => request.session == SessionId(0),
            };
            if !same || request.last_zxid_seen != self.last_zxid {
                return Err(format!("{request:?}, but it knows {:?} and has seen {}", self.told, self.last_zxid));
            }
            return Ok(());
        }
        let mut body = Reader::new(frame);
        let header = RequestHeader::read(&mut body).map_err(|error| error.to_string())?;
        let request = match Request::read(header.op, &mut body) {
            Some(Ok(request)) if body.remaining() == 0 => request,
            other => return Err(format!("{header:?} with {other:?}")),
        };
        if !self.wire.has_session {
            return Err(format!("{request:?} before there is a session"));
        }
        ctx.trace.line(|| format!("client {}: sends {} {request:?}", self.index, header.xid));
        ctx.counts.requests += 1;
        if !std::mem::replace(&mut self.wire.has_watches, true) {
            let watches = if let Request::SetWatches(body) = &request { Some(body) } else { None };
            self.watches.restore(watches)?;
        }
        let call = match &request {
            Request::Ping | Request::CloseSession => None,
            Request::RemoveWatches(_) => {
                ctx.counts.watches_removed += 1;
                None
            }
            Request::SetWatches(_) => None,
            request => Some(self.calls.sent(header.xid, request, ctx)?),
        };
        let acknowledged = ctx.checkers.acknowledged;
        self.wire.pending.push_back(Pending { xid: header.xid, request, acknowledged, call });
        Ok(())
    }

    /// The server has sent `bytes`.
    pub fn hear(&mut self, bytes: &[u8], ctx: &mut Ctx) {
        self.wire.received.extend_from_slice(bytes);
        while let Some(frame) = take_frame(&mut self.wire.received) {
            self.on_frame(&frame, ctx);
        }
    }

    fn on_frame(&mut self, frame: &[u8], ctx: &mut Ctx) {
        if !self.wire.has_session {
            return self.on_connect_response(frame, ctx);
        }
        let mut from = Reader::new(frame);
        let Ok(header) = ReplyHeader::read(&mut from) else {
            return ctx.checkers.fail(|| "a reply without a header".into());
        };
        ctx.trace.word(header.zxid.0 as u64 ^ ((header.xid as u64) << 32));
        if header.xid == NOTIFICATION_XID {
            match WatcherEvent::read(&mut from) {
                Ok(event) => {
                    ctx.trace.line(|| format!("client {}: event {event:?} at {}", self.index, header.zxid));
                    self.watches.on_event(self.index, header.zxid, &event, ctx);
                    self.last_zxid = self.last_zxid.max(header.zxid);
                    let (kind, path, zxid) = (event.kind, event.path, header.zxid);
                    self.wire.heard.push_back(Heard::Event { kind, path, zxid });
                }
                Err(error) => ctx.checkers.fail(|| format!("an event that cannot be read: {error}")),
            }
            return;
        }
        self.on_reply(&header, &mut from, ctx);
    }

    /// The session is over: what comes next is another one.
    pub fn session_is_over(&mut self) {
        self.told = None;
        self.watches = Default::default();
        (self.last_zxid, self.last_reply) = (Zxid::ZERO, Zxid::ZERO);
    }

    fn on_connect_response(&mut self, frame: &[u8], ctx: &mut Ctx) {
        let Ok(response) = ConnectResponse::from_bytes(frame) else {
            return ctx.checkers.fail(|| "a connect response that cannot be read".into());
        };
        ctx.trace.line(|| format!("client {}: {response:?}", self.index));
        if response.timeout_ms <= 0 {
            // One that a single server knew is unknown to all others, until its createSession has come through.
            let is_known = |id| ctx.checkers.ghost.created_at(id).is_some_and(|at| at < self.wire.asked_at);
            match self.told.take() {
                Some(told) if !told.closing && !ctx.checkers.is_over(told.id) && is_known(told.id) => {
                    ctx.checkers.fail(|| format!("session {} is refused, but nothing has closed it", told.id));
                }
                Some(_) => ctx.counts.sessions_expired += 1,
                None => ctx.checkers.fail(|| format!("client {}: a new session is refused", self.index)),
            }
            return self.session_is_over();
        }
        let is_read_only = response.read_only == Some(true);
        let is_local = !ctx.checkers.ghost.was_created(response.session);
        match &self.told {
            Some(told) if told.id != response.session || told.password != response.password => {
                ctx.checkers.fail(|| format!("session {} is renewed as {}", told.id, response.session));
            }
            Some(_) => ctx.counts.sessions_renewed += 1,
            None if is_read_only => ctx.counts.read_only_sessions += 1,
            None if is_local && ctx.sessions.local => ctx.counts.local_sessions += 1,
            None if is_local => {
                ctx.checkers.fail(|| format!("session {} is told, but not committed", response.session));
            }
            None => ctx.counts.sessions_created += 1,
        }
        let is_observer = |host: usize| ctx.checkers.is_observer(ServerId(1 + host as i64));
        ctx.counts.sessions_on_observers += u64::from(self.last_server.is_some_and(is_observer));
        ctx.counts.sessions_moved += u64::from(self.told.is_some() && self.serving != self.last_server);
        self.serving = self.last_server;
        let closing = self.told.as_ref().is_some_and(|told| told.closing);
        self.told = Some(Told { id: response.session, password: response.password, closing, is_local });
        (self.wire.has_session, self.wire.is_read_only) = (true, is_read_only);
        if !closing {
            self.watches.on_connected(&self.calls);
        }
    }
}
