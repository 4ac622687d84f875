//! The outbox of one connection: what is to be sent, what still waits for its turn, and who the client is.
//!
//! Replies leave in the order of the requests, so a request that cannot be answered yet holds back every later one.
//! Everything here is under one small lock, taken inside the database's lock and never around another one but those
//! of the watches: `database > outbox > watches`.

use super::auth::AuthNote;
use super::io::ConnId;
use super::limits::{Load, Share};
use super::sasl::{self, Exchange, NONCE_BYTES};
use crate::jute::{Record, write_string};
use crate::records::{
    ConnectResponse, ErrorCode, EventType, Id, NOTIFICATION_XID, ReplyHeader, Request, SYNC_CONNECTED, SessionId, Zxid,
    op, session_password, write_frame,
};
use crate::sync::{Mutex, MutexGuard, lock};
use crate::tree::acl::address_text;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

/// Bytes that may wait for a client that does not read, plus the one frame that went beyond. What comes on top closes
/// the connection: a frame left out would be worse than an end.
pub const OUTPUT_BYTES_MAX: usize = 32 << 20;
/// From here on no further request is taken from the connection until some of it is sent.
pub const OUTPUT_BYTES_BUSY: usize = 1 << 20;
/// Requests of one connection without an answer, from which on no further one is taken from it.
pub const WAITING_MAX: usize = 1000;
/// Bytes of such requests, from which on no further one is taken.
pub const WAITING_BYTES_MAX: usize = 4 << 20;

/// A client's connection as the database sees it; shared with the host, which sends the bytes.
#[derive(Debug)]
pub struct Outbox {
    conn: ConnId,
    peer_ip: IpAddr,
    state: Mutex<OutboxState>,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnPhase {
    /// No session yet: the connect request is under way, or not even here.
    Connecting,
    Open,
    /// To be closed once its bytes are sent; nothing is added any more.
    Closing,
}

#[derive(Debug)]
pub(super) struct OutboxState {
    bytes: Vec<u8>,
    pub phase: ConnPhase,
    /// The session it has or is opening; 0 before.
    pub session: SessionId,
    /// The negotiated session timeout.
    pub timeout_ms: i32,
    /// The readOnly byte of the connect response: whether this server is in read-only mode. Only if the request had
    /// one: older clients cannot read it.
    pub read_only: Option<bool>,
    /// It asked for a new session: its createSession opens it, and nothing else's.
    pub is_new: bool,
    /// Only this server knows the session.
    pub is_local: bool,
    /// This server leads, and the session's newer connection is on another one.
    pub is_moved: bool,
    /// Transactions up to here were asked for by a former connection of the session.
    pub answers_after: Zxid,
    /// Requests without an answer, oldest first. The first is a write or a sync: reads wait only behind those.
    waiting: VecDeque<Waiting>,
    /// Requests in front of those, with nothing of the session before them that is not done: only the client has to
    /// take what it was sent. No request is taken meanwhile, so the bounds of `waiting` are those of both.
    due: VecDeque<Waiting>,
    /// The frames of `waiting`.
    waiting_bytes: usize,
    /// Those of them that are large requests.
    waiting_large: usize,
    /// Requests in `waiting` with an xid above 0: what a client has asked, not its library.
    waiting_asked: usize,
    /// What of `waiting` is in the server's [`Load`].
    pub counted: Share,
    /// Why this server has ended the connection, if the client is to blame.
    end: Option<ConnEnd>,
    /// Who the client is. Writes carry the list as it was when they were read.
    pub auth: Arc<[Id]>,
    /// Its login by SASL, where that is set up.
    pub sasl: Option<Box<Exchange>>,
    /// What the host has not taken yet; no more than it could say at once.
    pub auth_notes: Vec<AuthNote>,
    /// The host knows already that there is something to send.
    is_announced: bool,
    /// Since the last `srst`.
    pub stats: ConnStats,
    /// Before it.
    former_stats: Option<Box<ConnStats>>,
}

/// What a client did that ends its connection; the host says so in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnEnd {
    /// It does not read: more than [`OUTPUT_BYTES_MAX`] wait for it.
    DoesNotRead,
    /// `largeRequestMaxBytes`
    LargeRequests,
    /// Its requests have waited longer than its session's timeout.
    Stale,
    /// It has no id of a scheme that one must have.
    Unauthenticated,
}

/// A request that waits for its turn.
#[derive(Debug)]
pub(super) struct Waiting {
    pub xid: i32,
    /// When it was read.
    pub since_micros: u64,
    /// Bytes of its frame.
    pub len: usize,
    /// Counted as a large request.
    pub is_large: bool,
    pub what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// The leader has it.
    Write {
        op: i32,
        /// Of a multi: which of its operations are create2, whose transactions do not tell.
        create2: Box<[bool]>,
        /// A lone create of an ephemeral.
        is_ephemeral: bool,
    },
    /// The leader has it; the path is echoed.
    Sync { path: Option<String> },
    /// Done; the path is to be echoed.
    Synced { path: Option<String> },
    /// To be answered right after the write or sync before it, to who the client was when it was read.
    Read { request: Request, auth: Arc<[Id]> },
    /// Bytes that are no request of their operation.
    Malformed,
    /// An operation that clients may not ask for: the connection ends with the refusal.
    Refused,
    /// A write or a sync of a server in read-only mode.
    NotReadOnly,
    /// The session, which only this server knew, has ended: the answer to closeSession, and the end.
    End,
    /// It waited too long before it was taken, and is not done.
    Throttled,
}

/// What is told of a connection by `cons` and `stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnStats {
    /// Frames.
    pub received: u64,
    /// Frames, notifications too.
    pub sent: u64,
    /// Answered requests; the latencies are theirs, in microseconds from reading to answering.
    pub answered: u64,
    pub latency_min_micros: u64,
    pub latency_max_micros: u64,
    pub latency_total_micros: u64,
    pub last_latency_micros: u64,
    /// Of the last answered request.
    pub last_xid: i32,
    pub last_zxid: Zxid,
    /// Monotonic time of the last answer.
    pub last_answer_micros: u64,
}

impl ConnStats {
    fn on_answer(&mut self, xid: i32, zxid: Zxid, since_micros: u64, now_micros: u64) {
        let latency = now_micros.saturating_sub(since_micros);
        self.latency_min_micros = if self.answered == 0 { latency } else { self.latency_min_micros.min(latency) };
        self.latency_max_micros = self.latency_max_micros.max(latency);
        self.latency_total_micros += latency;
        self.last_latency_micros = latency;
        self.answered += 1;
        (self.last_xid, self.last_zxid, self.last_answer_micros) = (xid, zxid, now_micros);
    }

    /// Adds another connection's figures to a server's.
    pub(super) fn add(&mut self, other: &ConnStats) {
        if other.answered > 0 {
            let min = other.latency_min_micros;
            self.latency_min_micros = if self.answered == 0 { min } else { self.latency_min_micros.min(min) };
            self.latency_max_micros = self.latency_max_micros.max(other.latency_max_micros);
        }
        self.received += other.received;
        self.sent += other.sent;
        self.answered += other.answered;
        self.latency_total_micros += other.latency_total_micros;
    }
}

/// An event as it is sent, encoded once for all who are told of it.
#[derive(Debug, Default)]
pub(super) struct Notification {
    frame: Vec<u8>,
}

impl Notification {
    pub fn new(zxid: Zxid, kind: EventType, path: &str) -> Notification {
        let mut notification = Notification::default();
        notification.set(zxid, kind, path);
        notification
    }

    /// Makes another event of it, in the same room.
    pub fn set(&mut self, zxid: Zxid, kind: EventType, path: &str) {
        self.frame.clear();
        write_frame(&mut self.frame, |out| {
            ReplyHeader { xid: NOTIFICATION_XID, zxid, err: 0 }.write(out);
            // A [`WatcherEvent`](crate::records::WatcherEvent), without a path of its own.
            (kind as i32).write(out);
            SYNC_CONNECTED.write(out);
            write_string(path, out);
        });
    }
}

/// A line of `cons`.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    pub conn: ConnId,
    pub peer_ip: IpAddr,
    pub phase: ConnPhase,
    pub session: SessionId,
    pub timeout_ms: i32,
    /// Requests without an answer.
    pub waiting: usize,
    pub stats: ConnStats,
}

impl Outbox {
    /// The outbox of a new connection from `peer_ip`.
    pub fn new(conn: ConnId, peer_ip: IpAddr) -> Arc<Outbox> {
        let state = OutboxState {
            bytes: Vec::new(),
            phase: ConnPhase::Connecting,
            session: SessionId(0),
            timeout_ms: 0,
            read_only: None,
            is_new: true,
            is_local: false,
            is_moved: false,
            answers_after: Zxid::NONE,
            waiting: VecDeque::new(),
            due: VecDeque::new(),
            waiting_bytes: 0,
            waiting_large: 0,
            waiting_asked: 0,
            counted: Share::default(),
            end: None,
            auth: Arc::new([Id::new("ip", &address_text(peer_ip))]),
            sasl: None,
            auth_notes: Vec::new(),
            is_announced: false,
            stats: ConnStats::default(),
            former_stats: None,
        };
        Arc::new(Outbox { conn, peer_ip, state: Mutex::new(state) })
    }

    /// Lets the client log in by SASL. `nonce` is the host's: random, and never used before.
    pub fn allow_sasl(&self, nonce: [u8; NONCE_BYTES]) {
        self.lock().sasl = Some(Box::new(Exchange::new(sasl::CLIENTS, nonce)));
    }

    /// Adds what else is known of who the client is, such as the
    /// [ids of its certificate](super::auth::certificate_ids). False: they are too many, close the connection.
    #[must_use]
    pub fn add_ids(&self, ids: impl IntoIterator<Item = Id>) -> bool {
        self.lock().add_ids(ids)
    }

    /// What has become of the authentications since the last call, for the log.
    pub fn take_auth_notes(&self) -> Vec<AuthNote> {
        std::mem::take(&mut self.lock().auth_notes)
    }

    pub fn conn(&self) -> ConnId {
        self.conn
    }

    pub fn peer_ip(&self) -> IpAddr {
        self.peer_ip
    }

    /// Moves what is to be sent to the end of `out`. True: the connection is to be closed once that is sent.
    pub fn take(&self, out: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        state.is_announced = false;
        match (state.bytes.is_empty(), out.is_empty()) {
            // Not exchanged: a large buffer whose bytes are sent would come back here, and stay.
            (true, _) => {}
            (false, true) => std::mem::swap(out, &mut state.bytes),
            (false, false) => out.append(&mut state.bytes),
        }
        state.phase == ConnPhase::Closing
    }

    /// Whether the connection is to be closed once everything is sent.
    pub fn is_closing(&self) -> bool {
        self.lock().phase == ConnPhase::Closing
    }

    /// Whether there are requests that only wait for the client to take what it was sent: once it has,
    /// [`offer`](super::Database::offer) goes on with them, also without another frame.
    pub fn has_due(&self) -> bool {
        self.lock().has_due()
    }

    pub fn phase(&self) -> ConnPhase {
        self.lock().phase
    }

    /// Why this server has ended the connection, if the client is to blame.
    pub fn end(&self) -> Option<ConnEnd> {
        self.lock().end
    }

    /// The session and its timeout in ms, of an open connection.
    pub fn session(&self) -> Option<(SessionId, i32)> {
        let state = self.lock();
        (state.phase == ConnPhase::Open).then_some((state.session, state.timeout_ms))
    }

    pub fn info(&self) -> ConnInfo {
        let state = self.lock();
        ConnInfo {
            conn: self.conn,
            peer_ip: self.peer_ip,
            phase: state.phase,
            session: state.session,
            timeout_ms: state.timeout_ms,
            waiting: state.due.len() + state.waiting.len(),
            stats: state.all_stats(),
        }
    }

    /// A four-letter word came.
    pub fn count_word(&self) {
        self.lock().stats.received += 1;
    }

    /// Sets the connection's figures back and returns what they were of the server's. ZooKeeper: `crst`.
    pub(super) fn reset_stats(&self) -> ConnStats {
        let mut state = self.lock();
        state.former_stats = None;
        std::mem::take(&mut state.stats)
    }

    /// Sets the server's figures back; the connection's own stay. ZooKeeper: `srst`.
    pub(super) fn reset_server_stats(&self) {
        let mut state = self.lock();
        state.former_stats = Some(Box::new(state.all_stats()));
        state.stats = ConnStats::default();
    }

    /// What counts of the connection in the server's figures, and how many requests have no answer.
    pub(super) fn server_stats(&self) -> (ConnStats, usize) {
        let state = self.lock();
        (state.stats, state.waiting.len())
    }

    /// Ends the connection because of what the client did.
    pub fn end_for(&self, reason: ConnEnd) {
        self.lock().end_for(reason);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, OutboxState> {
        lock(&self.state)
    }
}

impl OutboxState {
    /// The connection's own figures.
    fn all_stats(&self) -> ConnStats {
        let Some(former) = &self.former_stats else { return self.stats };
        let newer = if self.stats.answered > 0 { &self.stats } else { former };
        let &ConnStats { last_latency_micros, last_xid, last_zxid, last_answer_micros, .. } = newer;
        let mut all = ConnStats { last_latency_micros, last_xid, last_zxid, last_answer_micros, ..**former };
        all.add(&self.stats);
        all
    }

    /// No further request should be taken from the connection now.
    pub fn is_busy(&self) -> bool {
        self.is_full() || self.has_due() || self.waiting.len() >= WAITING_MAX || self.waiting_bytes >= WAITING_BYTES_MAX
    }

    /// So much is to be sent that nothing more should be answered that can wait.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= OUTPUT_BYTES_BUSY
    }

    /// As [`Outbox::has_due`].
    pub fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Takes the next request that waits for nothing but the client.
    pub fn pop_due(&mut self) -> Option<Waiting> {
        self.due.pop_front().or_else(|| self.pop_ready())
    }

    /// Puts what is behind no write and no sync any more where it waits for nothing but the client.
    pub fn set_due(&mut self) {
        while let Some(ready) = self.pop_ready() {
            self.due.push_back(ready);
        }
    }

    fn pop_ready(&mut self) -> Option<Waiting> {
        let is_ready = !matches!(self.first_waiting()?.what, What::Write { .. } | What::Sync { .. });
        if is_ready { self.pop_waiting() } else { None }
    }

    /// The request whose turn it is, or will be after those that are due.
    pub fn first_waiting(&self) -> Option<&Waiting> {
        self.waiting.front()
    }

    /// Takes the request whose turn it is, to answer it.
    pub fn pop_waiting(&mut self) -> Option<Waiting> {
        let first = self.waiting.pop_front()?;
        self.waiting_bytes -= first.len;
        self.waiting_large -= if first.is_large { first.len } else { 0 };
        self.waiting_asked -= usize::from(first.xid > 0);
        Some(first)
    }

    /// The closeSession of this xid is to be answered here, in its turn.
    pub fn end_session_at(&mut self, xid: i32) {
        let is_asked = |waiting: &&mut Waiting| {
            waiting.xid == xid && matches!(waiting.what, What::Write { op: op::CLOSE_SESSION, .. })
        };
        if let Some(waiting) = self.waiting.iter_mut().rev().find(is_asked) {
            waiting.what = What::End;
        }
    }

    /// The sync whose turn it is, of this xid, is done. False: there is none, the connection is closing.
    pub fn sync_done(&mut self, xid: i32) -> bool {
        let Some(Waiting { what, .. }) = self.waiting.front_mut().filter(|first| first.xid == xid) else {
            return false;
        };
        let What::Sync { path } = what else { return false };
        *what = What::Synced { path: path.take() };
        true
    }

    /// Puts a request behind all others.
    pub fn push_waiting(&mut self, request: Waiting) {
        self.waiting_bytes += request.len;
        self.waiting_large += if request.is_large { request.len } else { 0 };
        self.waiting_asked += usize::from(request.xid > 0);
        self.waiting.push_back(request);
    }

    /// Whether the client has asked for something and waits for the answer.
    pub fn waits_for_an_answer(&self) -> bool {
        self.waiting_asked > 0
    }

    /// What waits here, as the server's [`Load`] counts it.
    pub fn share(&self) -> Share {
        Share { requests: self.waiting.len(), bytes: self.waiting_bytes, large_bytes: self.waiting_large }
    }

    /// Brings the server's figures up to date with what waits here.
    pub fn settle(&mut self, load: &Load) {
        let now = self.share();
        load.replace(&mut self.counted, now);
    }

    /// Bytes that are to be sent.
    pub fn output_len(&self) -> usize {
        self.bytes.len()
    }

    /// Ends the connection because of what the client did.
    pub fn end_for(&mut self, reason: ConnEnd) {
        self.end.get_or_insert(reason);
        self.close();
    }

    /// Whether the host is still to be told that there is something to do here; it counts as told from now on.
    pub fn announce(&mut self) -> bool {
        !std::mem::replace(&mut self.is_announced, true)
    }

    /// Appends a frame. Nothing is added to a connection that is closing.
    fn frame(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.takes_frame() {
            write_frame(&mut self.bytes, write);
            self.stats.sent += 1;
        }
    }

    /// Whether a frame can be appended. At the bound the connection is closed.
    fn takes_frame(&mut self) -> bool {
        if self.phase != ConnPhase::Closing && self.bytes.len() > OUTPUT_BYTES_MAX {
            self.bytes = Vec::new();
            self.end_for(ConnEnd::DoesNotRead);
        }
        self.phase != ConnPhase::Closing
    }

    /// Appends the reply to a request that was read at `since_micros`. With an error there is no body.
    pub fn reply(&mut self, header: ReplyHeader, since_micros: u64, now_micros: u64, body: impl FnOnce(&mut Vec<u8>)) {
        let has_body = header.err == 0;
        self.reply_with_body(header, since_micros, now_micros, |out| {
            if has_body {
                body(out);
            }
        });
    }

    /// As [`reply`](OutboxState::reply), with the body also behind an error.
    pub fn reply_with_body(
        &mut self,
        header: ReplyHeader,
        since_micros: u64,
        now_micros: u64,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        self.stats.on_answer(header.xid, header.zxid, since_micros, now_micros);
        self.frame(|out| {
            header.write(out);
            body(out);
        });
    }

    /// As [`reply`](OutboxState::reply), for a request that may fail while its body is written.
    pub fn try_reply(
        &mut self,
        header: ReplyHeader,
        since_micros: u64,
        now_micros: u64,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), ErrorCode>,
    ) {
        let ReplyHeader { xid, zxid, .. } = header;
        self.stats.on_answer(xid, zxid, since_micros, now_micros);
        self.frame(|out| {
            let start = out.len();
            header.write(out);
            if let Err(error) = body(out) {
                out.truncate(start);
                ReplyHeader { xid, zxid, err: error.code() }.write(out);
            }
        });
    }

    /// Appends a notification.
    pub fn event(&mut self, notification: &Notification) {
        if self.takes_frame() {
            self.bytes.extend_from_slice(&notification.frame);
            self.stats.sent += 1;
        }
    }

    /// The session is open: appends the connect response. Only once.
    pub fn open_if_connecting(&mut self) {
        if self.phase != ConnPhase::Connecting {
            return;
        }
        let response = ConnectResponse {
            protocol_version: 0,
            timeout_ms: self.timeout_ms,
            session: self.session,
            password: session_password(self.session).to_vec(),
            read_only: self.read_only,
        };
        self.frame(|out| response.write(out));
        self.phase = ConnPhase::Open;
    }

    /// There is no such session: appends the zero response, and ends.
    pub fn refuse(&mut self) {
        let response = ConnectResponse::refused(self.read_only);
        self.frame(|out| response.write(out));
        self.close();
    }

    /// Ends the connection after what is in it; what waits is dropped, without an answer.
    pub fn close(&mut self) {
        self.phase = ConnPhase::Closing;
        (self.due, self.waiting) = (VecDeque::new(), VecDeque::new());
        (self.waiting_bytes, self.waiting_large, self.waiting_asked) = (0, 0, 0);
    }
}
