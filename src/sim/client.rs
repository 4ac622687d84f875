//! A simulated client: the real [`client::Session`](crate::client::Session) on a simulated link, with a workload.
//!
//! It opens links, carries bytes and makes calls. What goes over the wire is judged by
//! [`client_checks`](super::client_checks), what the session makes of it by [`client_calls`](super::client_calls).

use super::client_calls::Calls;
use super::client_checks::Watches;
use super::client_wire::{Told, Wire};
use super::network::{Delivery, Port, Socket};
use super::rng::Rng;
use super::run::Scenario;
use super::workload::{self, Workload};
use super::world::{ClientEvent, Ctx, Event};
use crate::client::{self, Session, SessionConfig, State};
use crate::records::{Request, SessionId, Zxid};

/// A client and its session.
pub struct Client {
    pub index: usize,
    host: usize,
    servers: usize,
    rng: Rng,
    /// `None` before the first one, and between two.
    pub session: Option<Session>,
    link: Option<Socket>,
    /// Bytes can be sent on it.
    is_link_up: bool,
    /// The last session has ended, and the next one is not asked for yet.
    is_lost: bool,
    /// The time of the next wake-up that is scheduled, in microseconds.
    wakes_at: u64,
    pub wire: Wire,
    pub calls: Calls,
    /// The session, as servers have told of it.
    pub told: Option<Told>,
    pub last_zxid: Zxid,
    /// Of the last reply; events may be ahead of it.
    pub last_reply: Zxid,
    pub watches: Watches,
    /// The server of the last link, and the one that last opened or renewed the session.
    pub last_server: Option<usize>,
    pub serving: Option<usize>,
    /// When bytes came last, in microseconds.
    heard_at: u64,
    /// How many calls may be unanswered.
    window: usize,
    /// Mean time between calls, in microseconds.
    pace: u64,
    wanted_timeout_ms: i32,
    pub workload: Workload,
    mode: Mode,
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
    /// `scenario`: what its workload is for.
    pub fn new(index: usize, servers: usize, scenario: Scenario, mut rng: Rng) -> Client {
        let window = *rng.pick(&[1, 2, 8, 30]);
        let pace = *rng.pick(&[2_000, 10_000, 40_000]);
        let wanted_timeout_ms = *rng.pick(&[400, 1_000, 3_000]);
        Client {
            index,
            host: servers + index,
            servers,
            session: None,
            link: None,
            is_link_up: false,
            is_lost: false,
            wakes_at: u64::MAX,
            wire: Wire::default(),
            calls: Calls::default(),
            told: None,
            last_zxid: Zxid::ZERO,
            last_reply: Zxid::ZERO,
            watches: Watches::default(),
            last_server: None,
            serving: None,
            heard_at: 0,
            window,
            pace,
            wanted_timeout_ms,
            workload: Workload::new(index, scenario, rng.fork()),
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
        let timeout = self.session.as_ref().map_or(0, |session| session.timeout_ms() as u64 * 1_000);
        self.told.as_ref().is_some_and(|own| own.id == session && !own.closing)
            && self.session.as_ref().is_some_and(|session| session.state() == State::Connected)
            && ctx.now() - self.heard_at < timeout / 2
    }

    /// The server that it has a session with now.
    pub fn connected_to(&self) -> Option<usize> {
        self.session.as_ref().filter(|session| session.state().is_connected()).map(Session::server)
    }

    pub fn is_done(&self) -> bool {
        self.mode == Mode::Last { sent: true, done: true } && self.calls.is_empty()
    }

    pub fn on_event(&mut self, event: ClientEvent, ctx: &mut Ctx) {
        match event {
            ClientEvent::Begin if self.session.is_none() => self.begin(ctx),
            ClientEvent::Act => self.act(ctx),
            ClientEvent::Wake if ctx.now() >= self.wakes_at => {
                self.wakes_at = u64::MAX;
                if let Some(session) = &mut self.session {
                    session.wakeup(ctx.now() / 1_000);
                }
            }
            ClientEvent::Begin | ClientEvent::Wake | ClientEvent::Flush => {}
        }
        self.pump(ctx);
    }

    pub fn on_net(&mut self, socket: Socket, delivery: Delivery, ctx: &mut Ctx) {
        let now_ms = ctx.now() / 1_000;
        let Some(session) = self.session.as_mut().filter(|_| self.link == Some(socket)) else {
            return;
        };
        match delivery {
            Delivery::Connected => {
                self.is_link_up = true;
                session.link_up(now_ms);
            }
            Delivery::Refused | Delivery::Closed => {
                self.link_is_over();
                if let Some(session) = &mut self.session {
                    session.link_down(now_ms, "closed");
                }
            }
            Delivery::Bytes(bytes) => {
                self.heard_at = ctx.now();
                self.hear(&bytes, ctx);
                if let Some(session) = &mut self.session {
                    session.receive(now_ms, &bytes);
                }
            }
            Delivery::Accepted { .. } => {}
        }
        self.pump(ctx);
    }

    /// Opens a session.
    fn begin(&mut self, ctx: &mut Ctx) {
        let config = SessionConfig {
            seed: self.rng.next_u64(),
            // Some would rather wait.
            read_only: ctx.sessions.read_only_after_ms.is_some() && !self.index.is_multiple_of(3),
            ..SessionConfig::new(self.servers, self.wanted_timeout_ms)
        };
        self.session = Some(Session::new(config, ctx.now() / 1_000));
        self.calls = Calls::default();
        self.session_is_over();
    }

    /// Does what the session asks for, judges what it tells, sends what it has, and sees to its next wake-up.
    fn pump(&mut self, ctx: &mut Ctx) {
        while let Some(event) = self.session.as_mut().and_then(Session::poll_event) {
            ctx.trace.line(|| format!("client {}: {event:?}", self.index));
            self.on_session_event(event, ctx);
        }
        if self.session.as_ref().is_some_and(|session| session.state() == State::Closed) {
            self.session = None;
            self.check_nothing_left(ctx);
            let delay = 1_000 + self.rng.below(30_000);
            ctx.sched.after(delay, Event::Client { client: self.index, event: ClientEvent::Begin });
        }
        if self.link.is_some() && !self.wire.heard.is_empty() {
            let untold = self.wire.heard.pop_front();
            ctx.checkers.fail(|| format!("client {}: the session does not tell of {untold:?}", self.index));
        }
        self.flush(ctx);
        let Some(at) = self.session.as_ref().and_then(Session::next_wakeup) else {
            return;
        };
        let at = (at * 1_000).max(ctx.now());
        if at < self.wakes_at {
            self.wakes_at = at;
            ctx.sched.at(at, Event::Client { client: self.index, event: ClientEvent::Wake });
        }
    }

    fn on_session_event(&mut self, event: client::Event, ctx: &mut Ctx) {
        match event {
            client::Event::Connect { server } => {
                if self.told.is_some() && self.last_server.is_some_and(|last| last != server) {
                    ctx.counts.session_move_attempts += 1;
                }
                self.link_is_over();
                if std::mem::take(&mut self.is_lost) {
                    self.check_nothing_left(ctx);
                    self.calls.session_is_over();
                }
                self.last_server = Some(server);
                self.heard_at = ctx.now();
                self.link = Some(ctx.connect(self.host, server, Port::Client));
            }
            client::Event::Disconnect { reason } => {
                let silence = ctx.now() - self.heard_at;
                let timeout_ms = self.session.as_ref().map_or(0, |session| session.timeout_ms() as u64);
                if ctx.settled && self.link.is_some() && timeout_ms > 0 && silence >= timeout_ms * 500 {
                    ctx.checkers.fail(|| format!("client {} gives up a server that serves: {reason}", self.index));
                }
                if let Some(socket) = self.link {
                    ctx.close(socket);
                }
                self.link_is_over();
            }
            client::Event::Reply { call, zxid, result } => self.on_call_answered(call, zxid, result, ctx),
            client::Event::Watch { ids, event } => self.on_watch_fired(&ids, &event, ctx),
            client::Event::WatchesLost { ids, reason } => self.on_watches_lost(&ids, reason, ctx),
            client::Event::State(state) => self.on_state(state, ctx),
            client::Event::Note(_) => {}
        }
    }

    fn on_state(&mut self, state: State, ctx: &mut Ctx) {
        match state {
            State::AuthFailed => ctx.checkers.fail(|| format!("client {}: {state:?}", self.index)),
            State::Suspended => ctx.counts.links_lost += 1,
            State::Lost => self.is_lost = true,
            _ => {}
        }
    }

    fn link_is_over(&mut self) {
        self.link = None;
        self.is_link_up = false;
        self.wire = Wire::default();
        self.watches.disconnected();
    }

    /// Sends what the session has to send; sometimes the link takes a part only.
    fn flush(&mut self, ctx: &mut Ctx) {
        while let (Some(socket), true) = (self.link, self.is_link_up)
            && let Some(session) = &mut self.session
        {
            let mut bytes = session.output().to_vec();
            if bytes.is_empty() {
                return;
            }
            let is_full = self.rng.one_in(16);
            if is_full {
                bytes.truncate(self.rng.below(bytes.len() as u64) as usize);
            }
            session.sent(bytes.len());
            self.say(&bytes, ctx);
            if !bytes.is_empty() {
                ctx.send(socket, bytes);
            }
            if is_full {
                let delay = self.rng.about(2_000);
                return ctx.sched.after(delay, Event::Client { client: self.index, event: ClientEvent::Flush });
            }
        }
    }

    /// Makes the next calls of the workload.
    fn act(&mut self, ctx: &mut Ctx) {
        let delay = self.rng.about(self.pace);
        let next = Event::Client { client: self.index, event: ClientEvent::Act };
        match self.mode {
            Mode::Work => {
                ctx.sched.after(delay, next);
                let burst = if self.rng.one_in(8) { 1 + self.rng.below(self.window as u64) as usize } else { 1 };
                for _ in 0..burst {
                    if self.calls.len() >= self.window {
                        break;
                    }
                    let request = self.workload.next_request();
                    self.make(request, ctx);
                }
                // The read behind a sync, without waiting for it; or later, when it may be answered.
                if self.workload.is_read_next() && self.rng.one_in(2) {
                    let request = self.workload.next_request();
                    self.make(request, ctx);
                }
                if self.rng.one_in(20) {
                    self.pump(ctx); // Or what the session has told by now would name the watch still.
                    self.forget_a_watch(ctx);
                }
            }
            Mode::Last { sent, done } => {
                if !done {
                    ctx.sched.after(delay, next);
                }
                if !sent && self.session.is_some() {
                    self.mode = Mode::Last { sent: true, done };
                    let request = self.workload.last_request();
                    self.make(request, ctx);
                }
            }
        }
    }

    /// Asks for something that is not of its workload.
    pub fn ask(&mut self, request: Request, ctx: &mut Ctx) {
        self.make(request, ctx);
        self.pump(ctx);
    }

    fn make(&mut self, request: Request, ctx: &mut Ctx) {
        let now_ms = ctx.now() / 1_000;
        let Some(session) = self.session.as_mut() else { return };
        if request == Request::CloseSession {
            if let Some(told) = &mut self.told {
                told.closing = true;
            }
            return session.close(now_ms);
        }
        let is_cut_off = session.state().is_connected() && ctx.is_cut_off(session.server());
        let watch = workload::asks_for_watch(&request).then(|| self.calls.next_watch());
        match workload::with_call(&request, watch, |call| session.call(now_ms, call)) {
            Ok(call) => {
                ctx.counts.syncs_behind_a_cut += u64::from(is_cut_off && matches!(request, Request::Sync(_)));
                self.calls.made(call, request, watch, ctx.checkers.acknowledged, is_cut_off);
            }
            Err(client::CallError::Over(State::Closed)) => self.call_is_not_made(&request),
            Err(error) => ctx.checkers.fail(|| format!("client {}: {request:?} is refused: {error}", self.index)),
        }
    }

    /// The last write has not been made, or has failed: it is tried again.
    fn call_is_not_made(&mut self, request: &Request) {
        if let Mode::Last { sent, done: false } = &mut self.mode
            && workload::is_last(request)
        {
            *sent = false;
        }
    }

    fn forget_a_watch(&mut self, ctx: &mut Ctx) {
        if let (Some(id), Some(session)) = (self.calls.pick_watch(&mut self.rng), &mut self.session) {
            ctx.trace.line(|| format!("client {}: forgets {id:?}", self.index));
            ctx.counts.watches_forgotten += 1;
            session.forget_watch(ctx.now() / 1_000, id);
            self.calls.forget(id);
        }
    }

    /// A call has its answer, which has passed its checks.
    pub fn on_done(&mut self, request: &Request, is_ok: bool) {
        if !is_ok {
            return self.call_is_not_made(request);
        }
        if let Mode::Last { sent: true, .. } = self.mode
            && workload::is_last(request)
        {
            self.mode = Mode::Last { sent: true, done: true };
        }
    }
}
