//! A session's inputs, outputs and what it remembers.

use super::calls::{Call, CallError, CallId, WatchId};
use super::events::{Event, Failure, Lost, State};
use super::requests::{Entry, Kind, Requests};
use super::servers::Servers;
use super::watches::Watches;
use crate::jute::Record;
use crate::records::{
    AUTH_XID, AuthRequest, PING_XID, PathType, Request, RequestHeader, SessionId, Zxid, op, validate_path, write_frame,
};
use std::collections::VecDeque;

/// What a session is to be.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// How many addresses the host has. The session speaks of them by index, and tries them in an order of its own.
    pub servers: usize,
    /// In front of every path: `""` or a path such as `"/app"`.
    pub chroot: String,
    /// Wanted session timeout, in ms; the server decides ([`Session::timeout_ms`]).
    pub timeout_ms: i32,
    /// Whether a server without a quorum will do.
    pub read_only: bool,
    /// A session of before, and its password.
    pub resume: Option<(SessionId, Vec<u8>)>,
    /// Scheme and credentials; told to each server before anything else.
    pub auths: Vec<(String, Vec<u8>)>,
    /// Of the order of servers and of the pauses. 0: the servers in the host's order.
    pub seed: u64,
}

impl SessionConfig {
    pub fn new(servers: usize, timeout_ms: i32) -> SessionConfig {
        SessionConfig {
            servers,
            chroot: String::new(),
            timeout_ms,
            read_only: false,
            resume: None,
            auths: Vec::new(),
            seed: 0,
        }
    }
}

/// The link to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// None; the next attempt is at that time.
    Waiting {
        until: u64,
    },
    /// The host opens it.
    Opening {
        until: u64,
    },
    /// The connect request is sent, or is about to be.
    Handshake {
        until: u64,
    },
    /// The server has the session; the answers to `add_auth` are awaited.
    Authenticating {
        until: u64,
    },
    Up,
    /// There will be no other.
    Over,
}

/// What the server has told of the session.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub id: SessionId,
    pub password: Vec<u8>,
}

/// Credentials, remembered for every connection.
#[derive(Debug)]
pub(super) struct Auth {
    pub scheme: String,
    pub auth: Vec<u8>,
    /// The calls that wait for the server's answer, each until that time (ms) if there is no connection.
    pub calls: Vec<(CallId, u64)>,
}

/// The client's side of one session. See the [module](super).
#[derive(Debug)]
pub struct Session {
    pub(super) chroot: String,
    pub(super) wanted_timeout_ms: i32,
    /// What the server granted.
    pub(super) timeout_ms: Option<i32>,
    pub(super) read_only: bool,
    /// The server has no quorum.
    pub(super) is_read_only: bool,
    pub(super) servers: Servers,
    pub(super) state: State,
    pub(super) link: Link,
    /// Counts links: what is left of a frame of an older one is dropped.
    pub(super) link_number: u64,
    pub(super) known: Option<Known>,
    pub(super) last_zxid: Zxid,
    /// The frames of the handshake, which go before all requests.
    pub(super) handshake: Vec<u8>,
    pub(super) handshake_sent: usize,
    pub(super) auths: Vec<Auth>,
    /// The auth packets that this server has not answered, as indexes into `auths`.
    pub(super) auths_waiting: VecDeque<usize>,
    pub(super) requests: Requests,
    pub(super) watches: Watches,
    /// The beginning of a frame.
    pub(super) received: Vec<u8>,
    pub(super) events: VecDeque<Event>,
    pub(super) next_call: u64,
    pub(super) next_xid: i32,
    /// No call that waits for a connection has an earlier deadline.
    pub(super) deadline_ms: u64,
    /// When bytes came last.
    pub(super) heard_ms: u64,
    /// When the last request was made.
    pub(super) sent_ms: u64,
    /// The session is being closed, until then.
    pub(super) closing: Option<u64>,
}

/// The longest that `close` waits for the server.
const CLOSE_MS_MAX: u64 = 5_000;

impl Session {
    /// A session that begins by connecting.
    ///
    /// # Panics
    ///
    /// Without servers, or with a chroot that is not a path: the host has checked both.
    pub fn new(config: SessionConfig, now_ms: u64) -> Session {
        let chroot = if config.chroot == "/" { String::new() } else { config.chroot };
        assert!(chroot.is_empty() || validate_path(&chroot).is_ok(), "the chroot {chroot:?} is not a path");
        let auth = |(scheme, auth)| Auth { scheme, auth, calls: Vec::new() };
        let mut session = Session {
            chroot,
            wanted_timeout_ms: config.timeout_ms,
            timeout_ms: None,
            read_only: config.read_only,
            is_read_only: false,
            servers: Servers::new(config.servers, config.seed),
            state: State::Connecting,
            link: Link::Waiting { until: now_ms },
            link_number: 0,
            known: config.resume.map(|(id, password)| Known { id, password }),
            last_zxid: Zxid::ZERO,
            handshake: Vec::new(),
            handshake_sent: 0,
            auths: config.auths.into_iter().map(auth).collect(),
            auths_waiting: VecDeque::new(),
            requests: Requests::default(),
            watches: Watches::default(),
            received: Vec::new(),
            events: VecDeque::new(),
            next_call: 0,
            next_xid: 1,
            deadline_ms: u64::MAX,
            heard_ms: now_ms,
            sent_ms: now_ms,
            closing: None,
        };
        session.connect(now_ms);
        session
    }

    /// Queues one call; its answer is an [`Event::Reply`]. While there is no connection it waits, at most for the
    /// session's timeout.
    pub fn call(&mut self, now_ms: u64, call: &Call<'_>) -> Result<CallId, CallError> {
        self.check_open()?;
        if self.requests.is_full() {
            return Err(CallError::Full { calls: self.requests.len(), bytes: self.requests.byte_len() });
        }
        let op = call.op();
        let kind = match op {
            op::SYNC => Kind::Sync,
            _ if call.is_write() => Kind::Write,
            _ => Kind::Read,
        };
        let mut entry = self.entry(now_ms, kind, op);
        entry.watch = call.watch();
        let chroot = &self.chroot;
        self.requests.push(entry, |out| call.write_frame(chroot, entry.xid, out))?;
        self.on_made(now_ms, &entry);
        self.next_call += 1;
        self.next_xid = after(entry.xid);
        Ok(entry.call)
    }

    /// Tells this server, and each one after it, who we are. Refused: [`State::AuthFailed`], which is final.
    pub fn add_auth(&mut self, now_ms: u64, scheme: &str, auth: &[u8]) -> Result<CallId, CallError> {
        self.check_open()?;
        let call = CallId(self.next_call);
        self.next_call += 1;
        let deadline_ms = if self.link == Link::Up { u64::MAX } else { now_ms + self.timeout() };
        let is_same = |each: &Auth| each.scheme == scheme && each.auth == auth;
        let index = self.auths.iter().position(is_same).unwrap_or_else(|| {
            self.auths.push(Auth { scheme: scheme.to_owned(), auth: auth.to_owned(), calls: Vec::new() });
            self.auths.len() - 1
        });
        self.auths[index].calls.push((call, deadline_ms));
        match self.link {
            Link::Up => {
                let entry = Entry { call, xid: AUTH_XID, ..self.entry(now_ms, Kind::Auth, op::AUTH) };
                self.push_own(now_ms, entry, &auth_request(&self.auths[index]));
                self.auths_waiting.push_back(index);
            }
            Link::Authenticating { .. } => self.write_auth(index),
            _ => {}
        }
        self.deadline_ms = self.deadline_ms.min(deadline_ms);
        Ok(call)
    }

    /// Ends the session; [`State::Closed`] follows. What was called before is still sent and answered if there is a
    /// connection, else it fails.
    pub fn close(&mut self, now_ms: u64) {
        if self.closing.is_some() || self.state.is_final() {
            return;
        }
        self.closing = Some(now_ms + self.timeout().min(CLOSE_MS_MAX));
        match self.link {
            Link::Up => self.push_close(now_ms),
            // One try: a server that has the session would keep its ephemeral znodes until it expires.
            Link::Handshake { .. } | Link::Authenticating { .. } => self.fail_calls(|sent| Failure::Closed { sent }),
            Link::Opening { .. } if self.known.is_some() => self.fail_calls(|sent| Failure::Closed { sent }),
            Link::Opening { .. } => {
                self.disconnect("closed before there was a session");
                self.finish(State::Closed);
            }
            Link::Waiting { .. } | Link::Over => self.finish(State::Closed),
        }
    }

    /// The host has `count` addresses from now on. A link that is open stays.
    pub fn set_servers(&mut self, count: usize) {
        self.servers.set(count);
    }

    /// The watch is not wanted any more. Its server is told if that was the last one on the path.
    pub fn forget_watch(&mut self, now_ms: u64, id: WatchId) {
        match self.watches.forget(id) {
            Some((path, true)) => self.remove_watches(now_ms, path),
            Some(_) => {}
            None => self.requests.forget_watch(id),
        }
    }

    /// Tells the server that nothing on `path` (with the chroot) is watched, unless a call that is not answered yet
    /// will watch it.
    pub(super) fn remove_watches(&mut self, now_ms: u64, path: String) {
        let will_watch = |(entry, frame): (&Entry, &[u8])| entry.watch.is_some() && path_in(frame) == path.as_bytes();
        if self.link != Link::Up || self.closing.is_some() || self.requests.iter().any(will_watch) {
            return;
        }
        let entry = self.entry(now_ms, Kind::RemoveWatches, op::REMOVE_WATCHES);
        self.next_xid = after(entry.xid);
        const ANY: i32 = 3;
        self.push_own(now_ms, entry, &Request::RemoveWatches(PathType { path: Some(path), kind: ANY }));
    }

    /// Bytes for the link. After [`sent`](Self::sent) there may be more.
    pub fn output(&self) -> &[u8] {
        match self.handshake.get(self.handshake_sent..) {
            Some(rest) if !rest.is_empty() => rest,
            _ if self.link == Link::Up => self.requests.unsent(),
            _ => &[],
        }
    }

    /// The link has taken the first `count` bytes of [`output`](Self::output).
    pub fn sent(&mut self, count: usize) {
        if self.handshake_sent < self.handshake.len() {
            self.handshake_sent += count;
            assert!(self.handshake_sent <= self.handshake.len(), "more is sent than there was");
        } else {
            self.requests.on_sent(count);
        }
    }

    /// The next thing for the host to do or to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// 0 before the first connection.
    pub fn session_id(&self) -> SessionId {
        self.known.as_ref().map_or(SessionId(0), |known| known.id)
    }

    pub fn password(&self) -> &[u8] {
        self.known.as_ref().map_or(&[], |known| &known.password)
    }

    /// The session's timeout in ms: the negotiated one, before that the wanted one.
    pub fn timeout_ms(&self) -> i32 {
        self.timeout_ms.unwrap_or(self.wanted_timeout_ms)
    }

    /// Index of the server that is asked now, or was last; after [`set_servers`](Self::set_servers), from the next
    /// [`Event::Connect`] on.
    pub fn server(&self) -> usize {
        self.servers.current()
    }

    /// The newest zxid that the session has seen.
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// Requests that are not answered, those that wait for a connection too.
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    pub fn chroot(&self) -> &str {
        &self.chroot
    }

    /// The timeout in ms, made usable.
    pub(super) fn timeout(&self) -> u64 {
        self.timeout_ms().max(100) as u64
    }

    fn check_open(&self) -> Result<(), CallError> {
        if self.state.is_final() {
            return Err(CallError::Over(self.state));
        }
        if self.closing.is_some() { Err(CallError::Over(State::Closed)) } else { Ok(()) }
    }

    /// An entry for a request that is made now.
    pub(super) fn entry(&self, now_ms: u64, kind: Kind, op: i32) -> Entry {
        let deadline_ms = if self.link == Link::Up { u64::MAX } else { now_ms + self.timeout() };
        Entry {
            call: CallId(self.next_call),
            deadline_ms,
            watch: None,
            xid: self.next_xid,
            op,
            length: 0,
            kind,
            was_sent: false,
            is_again: false,
        }
    }

    /// A request has been made.
    fn on_made(&mut self, now_ms: u64, entry: &Entry) {
        if self.link == Link::Up {
            self.sent_ms = now_ms;
        } else {
            self.deadline_ms = self.deadline_ms.min(entry.deadline_ms);
        }
    }

    /// Adds a request of the session's own.
    pub(super) fn push_own(&mut self, now_ms: u64, entry: Entry, request: &Request) {
        let written = self.requests.push(entry, |out| {
            write_frame(out, |out| {
                RequestHeader { xid: entry.xid, op: entry.op }.write(out);
                request.write(out);
            });
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(()) = written;
        self.on_made(now_ms, &entry);
    }

    pub(super) fn push_ping(&mut self, now_ms: u64) {
        let entry = Entry { xid: PING_XID, ..self.entry(now_ms, Kind::Ping, op::PING) };
        self.push_own(now_ms, entry, &Request::Ping);
    }

    pub(super) fn push_close(&mut self, now_ms: u64) {
        let entry = self.entry(now_ms, Kind::Close, op::CLOSE_SESSION);
        self.next_xid = after(entry.xid);
        self.push_own(now_ms, entry, &Request::CloseSession);
    }

    /// Adds an auth packet to the handshake.
    pub(super) fn write_auth(&mut self, index: usize) {
        let request = auth_request(&self.auths[index]);
        write_frame(&mut self.handshake, |out| {
            RequestHeader { xid: AUTH_XID, op: op::AUTH }.write(out);
            request.write(out);
        });
        self.auths_waiting.push_back(index);
    }

    /// Every call that is not answered fails; the session's own requests go with them.
    pub(super) fn fail_calls(&mut self, failure: impl Fn(bool) -> Failure) {
        let events = &mut self.events;
        let mut fail = |call, sent| {
            events.push_back(Event::Reply { call, zxid: Zxid::NONE, result: Err(failure(sent)) });
        };
        self.requests.retain(|entry, is_sent| {
            if entry.kind.is_call() {
                fail(entry.call, is_sent || entry.was_sent);
            }
            false
        });
        for auth in &mut self.auths {
            auth.calls.drain(..).for_each(|(call, _)| fail(call, false));
        }
        self.deadline_ms = u64::MAX;
    }

    /// The end: nothing is sent or connected any more.
    pub(super) fn finish(&mut self, state: State) {
        self.forget_link();
        self.link = Link::Over;
        self.state = state;
        self.events.push_back(Event::State(state));
        let (failure, lost): (fn(bool) -> Failure, _) = match state {
            State::AuthFailed => (|sent| Failure::AuthFailed { sent }, Lost::AuthFailed),
            _ => (|sent| Failure::Closed { sent }, Lost::Closed),
        };
        self.fail_calls(failure);
        self.lose_watches(lost);
    }

    pub(super) fn lose_watches(&mut self, reason: Lost) {
        let ids = self.watches.take_all();
        if !ids.is_empty() {
            self.events.push_back(Event::WatchesLost { ids, reason });
        }
    }

    pub(super) fn note(&mut self, text: String) {
        self.events.push_back(Event::Note(text));
    }
}

/// xids are positive: the negative ones have meanings (kazoo#403).
fn after(xid: i32) -> i32 {
    xid.checked_add(1).unwrap_or(1)
}

fn auth_request(auth: &Auth) -> Request {
    Request::Auth(AuthRequest { kind: 0, scheme: Some(auth.scheme.clone()), auth: Some(auth.auth.clone()) })
}

/// The path in the frame of a request that begins with one: behind length, xid and operation.
pub(super) fn path_in(frame: &[u8]) -> &[u8] {
    let length = frame.get(12..16).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_be_bytes);
    usize::try_from(length).ok().and_then(|length| frame.get(16..16 + length)).unwrap_or_default()
}
