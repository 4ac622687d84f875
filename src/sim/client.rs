//! A simulated client: the real wire format, a session kept over reconnects, requests pipelined, one-shot watches.
//!
//! It decides when to connect and what to send; what it gets is judged by [`client_checks`](super::client_checks).

use super::client_checks::{Pending, Watches};
use super::network::{Delivery, Port, Socket};
use super::rng::Rng;
use super::workload;
use super::world::{ClientEvent, Ctx, Event};
use crate::jute::{Reader, Record};
use crate::records::{
    ConnectRequest, ConnectResponse, NOTIFICATION_XID, PING_XID, ReplyHeader, Request, RequestHeader, SET_WATCHES_XID,
    SessionId, WatcherEvent, Zxid, write_frame,
};
use std::collections::VecDeque;

/// A client and its session.
pub struct Client {
    pub index: usize,
    host: usize,
    servers: usize,
    rng: Rng,
    link: Link,
    /// Bytes of a frame that is not whole yet.
    received: Vec<u8>,
    /// Number of connections so far; events of an older one are stale.
    connection: u64,
    pub session: Option<Session>,
    pub last_zxid: Zxid,
    /// Of the last reply; events may be ahead of it.
    pub last_reply: Zxid,
    next_xid: i32,
    pub pending: VecDeque<Pending>,
    pub watches: Watches,
    last_server: Option<usize>,
    /// The server that last opened or renewed the session.
    serving: Option<usize>,
    /// When bytes came last, in microseconds.
    heard_at: u64,
    sent_at: u64,
    /// How many requests may be unanswered.
    window: usize,
    /// Mean time between requests, in microseconds.
    pace: u64,
    wanted_timeout_ms: i32,
    pub workload: workload::Workload,
    mode: Mode,
}

/// What a client remembers of its session.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    password: Vec<u8>,
    timeout_ms: i32,
    closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Idle,
    Opening(Socket),
    /// The connect request is sent.
    Handshake(Socket),
    Open(Socket),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Work,
    /// One last write, then only pings.
    Last {
        sent: bool,
        done: bool,
    },
}

impl Client {
    pub fn new(index: usize, servers: usize, mut rng: Rng) -> Client {
        let window = *rng.pick(&[1, 2, 8, 30]);
        let pace = *rng.pick(&[2_000, 10_000, 40_000]);
        let wanted_timeout_ms = *rng.pick(&[400, 1_000, 3_000]);
        Client {
            index,
            host: servers + index,
            servers,
            link: Link::Idle,
            received: Vec::new(),
            connection: 0,
            session: None,
            last_zxid: Zxid::ZERO,
            last_reply: Zxid::ZERO,
            next_xid: 1,
            pending: VecDeque::new(),
            watches: Watches::default(),
            last_server: None,
            serving: None,
            heard_at: 0,
            sent_at: 0,
            window,
            pace,
            wanted_timeout_ms,
            workload: workload::Workload::new(index, rng.fork()),
            mode: Mode::Work,
            rng,
        }
    }

    /// From now on: one last write, whose answer [`is_done`](Self::is_done) waits for.
    pub fn finish(&mut self) {
        if self.mode == Mode::Work {
            self.mode = Mode::Last { sent: false, done: false };
        }
    }

    /// Whether it has the session, and has heard of its server within half of the timeout.
    pub fn is_alive(&self, session: SessionId, ctx: &Ctx) -> bool {
        self.session.as_ref().is_some_and(|own| own.id == session && !own.closing)
            && matches!(self.link, Link::Open(_))
            && ctx.now() - self.heard_at < self.timeout_micros() / 2
    }

    pub fn is_done(&self) -> bool {
        self.mode == Mode::Last { sent: true, done: true } && self.pending.is_empty()
    }

    pub fn on_event(&mut self, event: ClientEvent, ctx: &mut Ctx) {
        match event {
            ClientEvent::Connect => self.connect(ctx),
            ClientEvent::Act(connection) if connection == self.connection => self.act(ctx),
            ClientEvent::Watchdog(connection) if connection == self.connection => self.watch_over(ctx),
            ClientEvent::Act(_) | ClientEvent::Watchdog(_) => {}
        }
    }

    pub fn on_net(&mut self, socket: Socket, delivery: Delivery, ctx: &mut Ctx) {
        let ours = match self.link {
            Link::Idle => false,
            Link::Opening(open) | Link::Handshake(open) | Link::Open(open) => open == socket,
        };
        if !ours {
            return;
        }
        match delivery {
            Delivery::Connected => self.handshake(socket, ctx),
            Delivery::Refused | Delivery::Closed => self.disconnected(ctx),
            Delivery::Bytes(bytes) => {
                self.heard_at = ctx.now();
                self.received.extend_from_slice(&bytes);
                self.take_frames(ctx);
            }
            Delivery::Accepted { .. } => {}
        }
    }

    fn connect(&mut self, ctx: &mut Ctx) {
        if self.link != Link::Idle {
            return;
        }
        let server = self.rng.below(self.servers as u64) as usize;
        if self.session.is_some() && self.last_server.is_some_and(|last| last != server) {
            ctx.counts.session_move_attempts += 1;
        }
        self.last_server = Some(server);
        self.connection += 1;
        self.received.clear();
        self.heard_at = ctx.now();
        self.link = Link::Opening(ctx.connect(self.host, server, Port::Client));
        let watchdog = ClientEvent::Watchdog(self.connection);
        // The server may grant less than was asked for.
        let after = (self.timeout_micros() / 6).min(30_000);
        ctx.sched.after(after, Event::Client { client: self.index, event: watchdog });
    }

    fn timeout_micros(&self) -> u64 {
        let ms = self.session.as_ref().map_or(self.wanted_timeout_ms, |session| session.timeout_ms);
        ms as u64 * 1_000
    }

    fn handshake(&mut self, socket: Socket, ctx: &mut Ctx) {
        self.link = Link::Handshake(socket);
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: self.last_zxid,
            timeout_ms: self.wanted_timeout_ms,
            session: self.session.as_ref().map_or(SessionId(0), |session| session.id),
            password: Some(self.session.as_ref().map_or(vec![0; 16], |session| session.password.clone())),
            read_only: Some(false),
        };
        let mut frame = Vec::new();
        write_frame(&mut frame, |out| request.write(out));
        ctx.send(socket, frame);
        // setWatches is pipelined behind the connect request, before anything else can be.
        if let Some(request) = self.watches.restore(self.last_zxid) {
            self.send(socket, SET_WATCHES_XID, request, ctx);
        }
    }

    /// The connection is gone; what is unanswered has an unknown outcome.
    fn disconnected(&mut self, ctx: &mut Ctx) {
        self.link = Link::Idle;
        ctx.counts.unknown_outcomes += self.pending.iter().filter(|pending| pending.is_write()).count() as u64;
        self.pending.clear();
        self.watches.disconnected();
        if let Mode::Last { sent, done: false } = &mut self.mode {
            *sent = false;
        }
        let delay = 1_000 + self.rng.below(30_000);
        ctx.sched.after(delay, Event::Client { client: self.index, event: ClientEvent::Connect });
    }

    fn drop_link(&mut self, ctx: &mut Ctx) {
        if let Link::Opening(socket) | Link::Handshake(socket) | Link::Open(socket) = self.link {
            ctx.close(socket);
            self.disconnected(ctx);
        }
    }

    /// Pings when idle; gives up a server that is silent.
    fn watch_over(&mut self, ctx: &mut Ctx) {
        let timeout = self.timeout_micros();
        if ctx.now() - self.heard_at > timeout * 2 / 3 {
            return self.drop_link(ctx);
        }
        if let Link::Open(socket) = self.link
            && ctx.now() - self.sent_at >= timeout / 4
        {
            self.send(socket, PING_XID, Request::Ping, ctx);
        }
        let watchdog = ClientEvent::Watchdog(self.connection);
        ctx.sched.after(timeout / 6, Event::Client { client: self.index, event: watchdog });
    }

    /// Sends the next requests of the workload.
    fn act(&mut self, ctx: &mut Ctx) {
        let Link::Open(socket) = self.link else {
            return;
        };
        match self.mode {
            Mode::Work => {
                let burst = if self.rng.one_in(8) { 1 + self.rng.below(self.window as u64) as usize } else { 1 };
                for _ in 0..burst {
                    if self.pending.len() >= self.window || self.session.as_ref().is_none_or(|s| s.closing) {
                        break;
                    }
                    let request = self.workload.next_request();
                    if request == Request::CloseSession {
                        self.session.as_mut().expect("checked above").closing = true;
                    }
                    self.send_next(socket, request, ctx);
                }
            }
            Mode::Last { sent: false, done } => {
                self.mode = Mode::Last { sent: true, done };
                let request = self.workload.last_request();
                self.send_next(socket, request, ctx);
            }
            Mode::Last { sent: true, .. } => return,
        }
        let next = ClientEvent::Act(self.connection);
        let delay = self.rng.about(self.pace);
        ctx.sched.after(delay, Event::Client { client: self.index, event: next });
    }

    fn send_next(&mut self, socket: Socket, request: Request, ctx: &mut Ctx) {
        let xid = self.next_xid;
        self.next_xid += 1;
        self.send(socket, xid, request, ctx);
    }

    fn send(&mut self, socket: Socket, xid: i32, request: Request, ctx: &mut Ctx) {
        let mut frame = Vec::new();
        write_frame(&mut frame, |out| {
            RequestHeader { xid, op: request.op() }.write(out);
            request.write(out);
        });
        ctx.trace.line(|| format!("client {}: sends {xid} {request:?}", self.index));
        self.pending.push_back(Pending { xid, request, acknowledged: ctx.checkers.acknowledged });
        self.sent_at = ctx.now();
        ctx.counts.requests += 1;
        ctx.send(socket, frame);
    }

    fn take_frames(&mut self, ctx: &mut Ctx) {
        let received = std::mem::take(&mut self.received);
        let mut from = Reader::new(&received);
        loop {
            let mut ahead = from.clone();
            let Ok(Some(frame)) = ahead.buffer() else {
                break;
            };
            let frame = frame.to_vec();
            from = ahead;
            self.on_frame(&frame, ctx);
            if self.link == Link::Idle {
                return;
            }
        }
        self.received = from.rest().to_vec();
    }

    fn on_frame(&mut self, frame: &[u8], ctx: &mut Ctx) {
        if let Link::Handshake(socket) = self.link {
            return self.on_connect_response(socket, frame, ctx);
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
                }
                Err(error) => ctx.checkers.fail(|| format!("an event that cannot be read: {error}")),
            }
            return;
        }
        self.on_reply(&header, &mut from, ctx);
    }

    /// A reply has passed its checks and is done.
    pub fn on_answered(&mut self, pending: &Pending, ctx: &mut Ctx) {
        match (&pending.request, self.mode) {
            (Request::CloseSession, _) => {
                self.session = None;
                self.watches = Watches::default();
                (self.last_zxid, self.last_reply) = (Zxid::ZERO, Zxid::ZERO);
                self.drop_link(ctx);
            }
            (request, Mode::Last { sent: true, .. }) if workload::is_last(request) => {
                self.mode = Mode::Last { sent: true, done: true };
            }
            _ => {}
        }
    }

    fn on_connect_response(&mut self, socket: Socket, frame: &[u8], ctx: &mut Ctx) {
        let Ok(response) = ConnectResponse::from_bytes(frame) else {
            return ctx.checkers.fail(|| "a connect response that cannot be read".into());
        };
        ctx.trace.line(|| format!("client {}: {response:?}", self.index));
        if response.timeout_ms <= 0 {
            if let Some(session) = self.session.take() {
                if !session.closing && !ctx.checkers.is_over(session.id) {
                    ctx.checkers.fail(|| format!("session {} is refused, but nothing has closed it", session.id));
                }
                ctx.counts.sessions_expired += 1;
            } else {
                ctx.checkers.fail(|| format!("client {}: a new session is refused", self.index));
            }
            self.watches = Watches::default();
            (self.last_zxid, self.last_reply) = (Zxid::ZERO, Zxid::ZERO);
            return self.drop_link(ctx);
        }
        match &self.session {
            Some(session) if session.id != response.session || session.password != response.password => {
                ctx.checkers.fail(|| format!("session {} is renewed as {}", session.id, response.session));
            }
            Some(_) => ctx.counts.sessions_renewed += 1,
            None if !ctx.checkers.ghost.was_created(response.session) => {
                ctx.checkers.fail(|| format!("session {} is told, but not committed", response.session));
            }
            None => ctx.counts.sessions_created += 1,
        }
        ctx.counts.sessions_moved += u64::from(self.session.is_some() && self.serving != self.last_server);
        self.serving = self.last_server;
        let (id, password, timeout_ms) = (response.session, response.password, response.timeout_ms);
        self.session = Some(Session { id, password, timeout_ms, closing: false });
        self.link = Link::Open(socket);
        self.act(ctx);
    }
}
