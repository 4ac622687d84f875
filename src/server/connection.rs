//! Step 1 of a request, the host's part: bytes of a client's socket to frames, and what is in the outbox to bytes.
//!
//! After: [`submit`](crate::peer::Database::submit) answers and hands on.
//! One turn is one read of the socket, one hold of the database's lock for all whole frames, one write. The core
//! writes to the socket itself when it has answered something ([`Conn::flush`]); only what the socket does not take
//! is left to the connection's task. A frame's length is checked before anything is made room for, and room is made
//! for what has come, not for what the length says. After a turn's share of frames the other connections have theirs.
//!
//! ZooKeeper: `NIOServerCnxn`.

use super::limits::{CONNECTION_BYTES, ConnectKind};
use super::secure::{Secure, Speaks};
use super::shared::{Shared, count};
use super::task;
use super::tls::TlsSession;
use super::words;
use crate::jute::Record;
use crate::peer::io::Input;
use crate::peer::{AuthNote, ConnEnd, NONCE_BYTES, Outbox, Rest, Taken};
use crate::records::{ConnectRequest, op};
use crate::sync;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

/// Room for a read at first, and the most that is read at once; a connection that sends much gets more.
const READ_BYTES_MIN: usize = 4 << 10;
const READ_BYTES_MAX: usize = 64 << 10;
/// An idle connection keeps no output buffer larger than this.
const BUFFER_KEPT_MAX: usize = 128 << 10;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// One client's connection.
pub struct Conn {
    pub outbox: Arc<Outbox>,
    pub peer: SocketAddr,
    /// Wall clock, ms since 1970 UTC.
    pub established_ms: i64,
    /// Monotonic.
    accepted_micros: u64,
    pub(super) write: OwnedWriteHalf,
    sending: Mutex<Sending>,
    /// Tells the task that there is more to write, that frames can be taken again, or that the connection ends.
    pub(super) wake: Notify,
    /// Frames wait in the task because the outbox is full or the session is not open yet.
    pub(super) is_paused: AtomicBool,
    /// When something was last received, monotonic.
    pub(super) heard_micros: AtomicU64,
    is_expired: AtomicBool,
    /// When a TLS handshake, or the first bytes on a port that takes both, must be over, monotonic; `u64::MAX`: they are.
    handshake_until_micros: AtomicU64,
}

/// What a connection does after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It waits for the client.
    Read,
    /// It has another turn, when the others have had theirs.
    Turn,
    /// It waits until it is woken.
    Wait,
    /// It looks again after `requestThrottleStallTime`.
    Poll,
}

/// What the socket has not taken yet.
#[derive(Default)]
struct Sending {
    bytes: Vec<u8>,
    written: usize,
    /// What of the rest is counted in the server's [`Limits`](super::limits::Limits): nothing, unless the socket took
    /// less than there was.
    counted: usize,
    /// Since when the socket takes nothing, monotonic; 0: it does.
    blocked_micros: u64,
    /// Makes `bytes`, if the connection is TLS.
    tls: Option<Box<TlsSession>>,
}

impl Sending {
    /// Fills `bytes`, which is empty. True: the connection is to be closed behind them.
    fn fill(&mut self, outbox: &Outbox) -> bool {
        match &mut self.tls {
            None => outbox.take(&mut self.bytes),
            Some(tls) => tls.fill(&mut self.bytes, |plain| outbox.take(plain)),
        }
    }

    fn rest(&self) -> usize {
        self.bytes.len() - self.written + self.tls.as_ref().map_or(0, |tls| tls.waiting())
    }
}

/// How far a flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Everything is with the kernel.
    All,
    /// It is, and there are requests that have waited for this: they are to be offered room.
    Room,
    /// The socket takes no more now.
    Blocked,
    /// Everything that was to be sent is, and the connection is to be closed.
    Closing,
    /// Broken.
    Broken,
}

/// How many lines like the one that is said were not.
pub(super) struct Omitted(pub u64);

impl std::fmt::Display for Omitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " [{n} more before it]"),
        }
    }
}

/// Serves a connection that was just accepted, on the current runtime, until it ends.
pub fn serve(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr, speaks: Speaks) {
    // A listener of both families sees an IPv4 client as `::ffff:1.2.3.4`.
    let ip = peer.ip().to_canonical();
    let peer = SocketAddr::new(ip, peer.port());
    let limits = &shared.config.limits;
    let is_secure = matches!(speaks, Speaks::Tls(_));
    let id = match shared.connections.reserve(ip, is_secure, limits.max_client_cnxns, limits.max_cnxns) {
        Ok(id) => id,
        Err(refused) => {
            refused.say(shared);
            // A reset, so that the client does not take it for a server that has no answer yet.
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            return;
        }
    };
    let _ = stream.set_nodelay(true);
    if limits.client_keep_alive {
        let _ = socket2::SockRef::from(&stream).set_keepalive(true);
    }
    let (read, write) = stream.into_split();
    let outbox = Outbox::new(id, ip);
    let now = shared.now();
    let conn = Arc::new(Conn {
        outbox: outbox.clone(),
        peer,
        established_ms: now.wall_ms,
        accepted_micros: now.micros,
        write,
        sending: Mutex::default(),
        wake: Notify::new(),
        is_paused: AtomicBool::new(false),
        heard_micros: AtomicU64::new(now.micros),
        is_expired: AtomicBool::new(false),
        handshake_until_micros: AtomicU64::new(u64::MAX),
    });
    conn.set_handshake_limit(speaks.handshake_micros(shared));
    shared.connections.insert(conn.clone());
    {
        let db = sync::read(&shared.db);
        if db.settings().auth.sasl.is_some()
            && let Some(nonce) = random()
        {
            outbox.allow_sasl(nonce);
        }
        db.attach(outbox);
    }
    let shared = shared.clone();
    let events = shared.events.clone();
    task::spawn("a client's connection", &events, async move {
        let (input, room) = (Vec::new(), READ_BYTES_MIN);
        let mut task = Task {
            shared: &shared,
            conn: &conn,
            read,
            input,
            secure: Secure::new(speaks),
            is_first: true,
            room,
            waiting_micros: None,
            has_backlog: false,
            word: None,
        };
        task.run().await;
        task.set_backlog(false);
        shared.limits.count_freed(CONNECTION_BYTES + task.input.capacity() + conn.forget_unsent(&shared));
        // Not after a panic of the core: then the lock is poisoned, and nobody is left to be told.
        if let Ok(db) = shared.db.read() {
            db.detach(id);
        }
        shared.connections.release(id, ip, is_secure);
    });
}

/// Whether a frame, without its length, says who the client is.
fn is_auth(frame: &[u8]) -> bool {
    let code = frame.get(4..8).and_then(|code| code.try_into().ok()).map(i32::from_be_bytes);
    matches!(code, Some(op::AUTH | op::SASL))
}

/// Bytes that nobody can guess; `None`: the system gives none.
fn random() -> Option<[u8; NONCE_BYTES]> {
    let mut bytes = [0; NONCE_BYTES];
    let n = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).ok()?;
    (n == NONCE_BYTES).then_some(bytes)
}

impl Conn {
    /// Moves what is in the outbox to the socket, as far as it takes it.
    pub(super) fn flush(&self, shared: &Shared) -> Flushed {
        let mut sending = lock(&self.sending);
        let flushed = self.flush_locked(shared, &mut sending);
        // Nothing, for all but those whose socket is full.
        let rest = if flushed == Flushed::Blocked { sending.rest() } else { 0 };
        if rest != sending.counted {
            shared.limits.count_unsent(sending.counted, rest);
            sending.counted = rest;
        }
        flushed
    }

    fn flush_locked(&self, shared: &Shared, sending: &mut Sending) -> Flushed {
        loop {
            // The outbox fills up while the socket takes nothing, and then no more requests are read.
            if sending.written == sending.bytes.len() {
                sending.written = 0;
                sending.bytes.clear();
                let is_closing = sending.fill(&self.outbox);
                if sending.bytes.is_empty() {
                    if sending.bytes.capacity() > BUFFER_KEPT_MAX {
                        shared.limits.count_freed(sending.bytes.capacity());
                        sending.bytes = Vec::new();
                    }
                    return match is_closing {
                        true => Flushed::Closing,
                        false if self.outbox.has_due() => Flushed::Room,
                        false => Flushed::All,
                    };
                }
            }
            while sending.written < sending.bytes.len() {
                let rest = &sending.bytes[sending.written..];
                match shared.gate.pass(|| self.write.try_write(rest)) {
                    Some(Ok(n)) => {
                        sending.written += n;
                        sending.blocked_micros = 0;
                        count(&shared.metrics.bytes_sent, n as u64);
                    }
                    Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                        if sending.blocked_micros == 0 {
                            sending.blocked_micros = shared.clock.micros().max(1);
                        }
                        return Flushed::Blocked;
                    }
                    Some(Err(_)) | None => return Flushed::Broken,
                }
            }
        }
    }

    fn has_unsent(&self) -> bool {
        lock(&self.sending).rest() > 0
    }

    /// Sends `text` at the next flush, in place of what waits.
    fn send_text(&self, text: Vec<u8>) {
        let mut sending = lock(&self.sending);
        match &mut sending.tls {
            Some(tls) => tls.queue(text),
            None => sending.bytes = text,
        }
    }

    /// Does something with the TLS of this connection; `None`: it has none.
    pub(super) fn with_tls<T>(&self, act: impl FnOnce(&mut TlsSession) -> T) -> Option<T> {
        lock(&self.sending).tls.as_deref_mut().map(act)
    }

    /// From here on the connection is TLS.
    pub(super) fn begin_tls(&self, session: TlsSession) {
        lock(&self.sending).tls = Some(Box::new(session));
    }

    /// Until when a handshake must be over, in µs from the beginning; `None`: there is none, or it is.
    pub(super) fn set_handshake_limit(&self, limit_micros: Option<u64>) {
        let until = limit_micros.map_or(u64::MAX, |limit| self.accepted_micros.saturating_add(limit));
        self.handshake_until_micros.store(until, Ordering::Relaxed);
    }

    pub(super) fn is_handshake_late(&self, now_micros: u64) -> bool {
        now_micros > self.handshake_until_micros.load(Ordering::Relaxed)
    }

    /// How many bytes the socket does not take, and since when. Nothing is known of one that is being written to, or
    /// whose handshake is being computed: who sweeps all connections does not wait for that.
    pub(super) fn unsent(&self) -> Option<(usize, u64)> {
        let sending = self.sending.try_lock().ok()?;
        (sending.blocked_micros > 0).then_some((sending.rest(), sending.blocked_micros))
    }

    /// Drops what is unsent; the size of its buffer.
    fn forget_unsent(&self, shared: &Shared) -> usize {
        let sending = std::mem::take(&mut *lock(&self.sending));
        shared.limits.count_unsent(sending.counted, 0);
        sending.bytes.capacity()
    }

    /// Ends the connection, without waiting for what is unsent.
    pub(super) fn expire(&self) {
        self.is_expired.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Says that the client does not read, and is disconnected for it.
    pub(super) fn say_deaf(&self, shared: &Shared, bytes: usize) {
        if let Some(left_out) = shared.limits.repetition("deaf", shared.clock.micros() / 1000) {
            let (peer, session) = (self.peer, self.outbox.info().session);
            tracing::warn!(
                "Closing the connection of /{peer}, session {session}: it does not read, {bytes} bytes wait for it{}",
                Omitted(left_out)
            );
        }
    }

    /// Says what has become of auth and sasl packets. In Apache's words, but the client's are quoted.
    fn say_auth(&self, shared: &Shared) {
        let now_ms = shared.clock.micros() / 1000;
        for note in self.outbox.take_auth_notes() {
            let kind = match note {
                AuthNote::Accepted { .. } | AuthNote::LoggedIn { .. } => "auth",
                AuthNote::Refused { .. } | AuthNote::LoginFailed { .. } => "auth failed",
            };
            let Some(left_out) = shared.limits.repetition(kind, now_ms) else { continue };
            let (peer, session, omitted) = (self.peer, self.outbox.info().session, Omitted(left_out));
            match note {
                AuthNote::Accepted { scheme } => {
                    tracing::info!(
                        "Session {session}: auth success for scheme {scheme:?} and address /{peer}{omitted}"
                    );
                }
                AuthNote::Refused { scheme } => {
                    tracing::warn!("Authentication failed for scheme: {scheme:?}, /{peer}, session {session}{omitted}");
                }
                AuthNote::LoggedIn { user, is_super } => {
                    tracing::info!(
                        "Session {session}: adding SASL authorization for authorizationID: {user:?}{}, /{peer}{omitted}",
                        if is_super { " as super user" } else { "" }
                    );
                }
                AuthNote::LoginFailed { reason, stays } => {
                    let end = if stays {
                        "Maintaining client connection despite"
                    } else {
                        "Closing client connection due to"
                    };
                    tracing::warn!(
                        "Client /{peer} failed to SASL authenticate: {reason}. {end} SASL authentication failure, \
                         session {session}{omitted}"
                    );
                }
            }
        }
    }

    /// Says why this server ends the connection, if the client is to blame.
    fn say_end(&self, shared: &Shared) {
        let Some(end) = self.outbox.end() else { return };
        let (kind, why) = match end {
            ConnEnd::DoesNotRead => return self.say_deaf(shared, crate::peer::OUTPUT_BYTES_MAX),
            ConnEnd::LargeRequests => {
                count(&shared.metrics.large_requests_rejected, 1);
                ("large", "Rejecting large request")
            }
            ConnEnd::Stale => {
                count(&shared.metrics.stale_requests, 1);
                ("stale", "its requests have waited longer than its session's timeout")
            }
            ConnEnd::Unauthenticated => ("required", "Client authentication scheme(s) does not match with expected"),
        };
        if let Some(left_out) = shared.limits.repetition(kind, shared.clock.micros() / 1000) {
            let (peer, session) = (self.peer, self.outbox.info().session);
            tracing::warn!("Closing the connection of /{peer}, session {session}: {why}{}", Omitted(left_out));
        }
    }
}

/// Why a connection's task ends.
struct End;

/// A frame, and what follows it.
type Split<'b> = (&'b [u8], &'b [u8]);

/// The task of a connection: reads, and writes what the core could not.
struct Task<'a> {
    shared: &'a Arc<Shared>,
    conn: &'a Arc<Conn>,
    read: OwnedReadHalf,
    /// Received, not taken yet; begins with a length.
    input: Vec<u8>,
    /// What turns the socket's bytes into these, unless they are the same.
    secure: Option<Secure>,
    /// Nothing has been taken: a word or a connect request comes.
    is_first: bool,
    /// How much to read at once.
    room: usize,
    /// Since when the first of the frames in `input` wait because of `requestThrottleLimit`.
    waiting_micros: Option<u64>,
    /// Counted among the connections that have more than a turn takes.
    has_backlog: bool,
    /// What is still to be said, by another thread: then the connection ends.
    word: Option<tokio::task::JoinHandle<String>>,
}

impl Task<'_> {
    async fn run(&mut self) {
        let mut next = Next::Read;
        loop {
            let reads = !self.conn.is_paused.load(Ordering::Relaxed);
            let writes = self.conn.has_unsent();
            let buffer = self.secure.as_mut().map_or(&mut self.input, |secure| &mut secure.received);
            if reads {
                buffer.reserve(self.room);
            }
            let stall = Duration::from_millis(u64::from(self.shared.config.limits.request_throttle_stall_ms));
            let received = tokio::select! {
                n = self.read.read_buf(buffer), if reads => Some(n),
                ready = self.conn.write.writable(), if writes => match ready {
                    Ok(()) => None,
                    Err(error) => Some(Err(error)),
                },
                () = self.conn.wake.notified() => None,
                () = tokio::time::sleep(stall), if next == Next::Poll => None,
            };
            let mut received = received.map_or(Ok(()), |n| self.on_received(n));
            if received.is_ok() && self.secure.is_some() {
                received = self.decrypt().await;
            }
            let mut turn = received.and_then(|()| self.process());
            while let Ok(Next::Turn) = turn {
                // All other connections that have something to do go first.
                tokio::task::yield_now().await;
                turn = self.process();
            }
            match turn {
                // The client has ended its direction: as the end of a plain stream.
                Ok(Next::Read) if self.secure.as_ref().is_some_and(Secure::is_over) => return self.finish().await,
                Ok(what) => next = what,
                Err(End) => return self.finish().await,
            }
        }
    }

    /// Moves what has come over TLS to the input.
    async fn decrypt(&mut self) -> Result<(), End> {
        let Some(secure) = &mut self.secure else { return Ok(()) };
        if !secure.decrypt(self.shared, self.conn, &mut self.input).await.map_err(|_| End)? {
            self.secure = None; // It speaks plainly.
        }
        Ok(())
    }

    /// Counts what one read has brought; the end of the stream is the end.
    fn on_received(&mut self, n: io::Result<usize>) -> Result<(), End> {
        let n = n.map_err(|_| End)?;
        if n == 0 {
            return Err(End);
        }
        if n >= self.room {
            self.room = (self.room * 4).min(READ_BYTES_MAX);
        }
        count(&self.shared.metrics.bytes_received, n as u64);
        // Until there is a connect request the time runs from the beginning: a byte a second is no handshake.
        if !self.is_first {
            self.hear();
        }
        Ok(())
    }

    fn hear(&self) {
        self.conn.heard_micros.store(self.shared.clock.micros(), Ordering::Relaxed);
    }

    /// A turn: hands on what is whole, and writes what there is to write.
    fn process(&mut self) -> Result<Next, End> {
        if self.conn.is_expired.load(Ordering::Relaxed) {
            return Err(End);
        }
        if self.is_first {
            self.take_first()?;
        }
        if self.conn.is_paused.load(Ordering::Relaxed) {
            self.flush()?;
        }
        let none = Taken { frames: 0, rest: Rest::Nothing };
        let taken = if self.is_first { none } else { self.take_frames()? };
        let flushed = self.flush()?;
        Ok(match taken.rest {
            _ if flushed == Flushed::Room => Next::Turn,
            Rest::Nothing => Next::Read,
            Rest::NextTurn => Next::Turn,
            // What was just sent may have made room.
            Rest::Answers if taken.frames > 0 => Next::Turn,
            Rest::Answers => Next::Wait,
            Rest::Throttled => Next::Poll,
        })
    }

    fn flush(&self) -> Result<Flushed, End> {
        match self.conn.flush(self.shared) {
            flushed @ (Flushed::All | Flushed::Room | Flushed::Blocked) => Ok(flushed),
            Flushed::Closing | Flushed::Broken => Err(End),
        }
    }

    /// The first frame: a connect request, or four letters where its length would be.
    fn take_first(&mut self) -> Result<(), End> {
        if let Some(word) = self.input.first_chunk::<4>()
            && let Some(end) = words::answer(self.shared, self.conn, word, &self.input[4..])
        {
            return match end {
                words::Answer::NeedsMore => Ok(()),
                words::Answer::Text(text) => {
                    self.conn.send_text(text.into_bytes());
                    self.conn.flush(self.shared);
                    Err(End)
                }
                words::Answer::Later(answer) => {
                    self.word = Some(tokio::task::spawn_blocking(answer));
                    Err(End)
                }
            };
        }
        let Some((frame, rest)) = self.split(&self.input)? else {
            return Ok(());
        };
        if !self.is_admitted(frame) {
            return Err(End);
        }
        count(&self.shared.metrics.connection_requests, 1);
        let now = self.shared.now();
        let request = sync::read(&self.shared.db).connect(&self.conn.outbox, frame, now);
        let request = request.ok_or(End)?;
        let consumed = self.input.len() - rest.len();
        self.shared.input(Input::Connect { conn: self.conn.outbox.conn(), request });
        self.input.drain(..consumed);
        self.is_first = false;
        self.hear();
        Ok(())
    }

    /// Whether the connection throttle lets this connect request in. What is none is left to the database.
    fn is_admitted(&self, frame: &[u8]) -> bool {
        let limits = &self.shared.limits;
        if !limits.throttles_connects() || sync::read(&self.shared.db).serving().is_none() {
            return true;
        }
        let Ok(request) = ConnectRequest::from_bytes(frame) else {
            return true;
        };
        let kind = ConnectKind::of(request.session, self.shared.config.sessions.local);
        let now_ms = self.shared.clock.micros() / 1000;
        let is_admitted = limits.admits(kind, now_ms);
        if !is_admitted {
            count(&self.shared.metrics.connection_rejected, 1);
            if let Some(left_out) = limits.repetition("throttled", now_ms) {
                tracing::warn!("Connection throttled: closing that of /{}{}", self.conn.peer, Omitted(left_out));
            }
        }
        is_admitted
    }

    /// Offers the whole frames, no more than there may be in a turn, in one hold of the database's lock.
    fn take_frames(&mut self) -> Result<Taken, End> {
        let mut frames = Vec::new();
        let mut rest = &self.input[..];
        let mut is_more = false;
        let turn_frames = self.shared.limits.turn_frames();
        while let Some((frame, behind)) = self.split(rest)? {
            if frames.len() == turn_frames {
                is_more = true;
                break;
            }
            frames.push(frame);
            rest = behind;
        }
        if frames.is_empty() && !self.conn.outbox.has_due() {
            self.conn.is_paused.store(false, Ordering::Relaxed);
            self.set_backlog(false);
            return Ok(Taken { frames: 0, rest: Rest::Nothing });
        }
        // Set before the frames are offered: who makes room for them afterwards sees it and wakes this task.
        self.conn.is_paused.store(true, Ordering::SeqCst);
        if self.shared.limits.unsent_excess() > 0 && self.conn.has_unsent() {
            return Ok(Taken { frames: 0, rest: Rest::Answers });
        }
        let now = self.shared.now();
        let waited_micros = self.waiting_micros.map_or(0, |since| now.micros.saturating_sub(since));
        let mut forward = Vec::new();
        let mut taken = {
            let db = sync::read(&self.shared.db);
            let taken = db.offer(&self.conn.outbox, &frames, waited_micros, self.shared.now(), &mut forward);
            #[cfg(test)]
            let db = self.shared.late_forward.let_go(db);
            // Before the lock is let go: the end of the role, or the session's next connection, comes behind them.
            if !forward.is_empty() {
                self.shared.input(Input::Requests(forward));
            }
            drop(db);
            taken
        };
        if frames.iter().take(taken.frames).any(|frame| is_auth(frame)) {
            self.conn.say_auth(self.shared);
        }
        if taken.rest == Rest::Nothing && is_more {
            taken.rest = Rest::NextTurn;
        }
        self.waiting_micros = match taken.rest {
            Rest::Nothing => None,
            Rest::Throttled => {
                count(&self.shared.metrics.throttled_waits, 1);
                self.waiting_micros.or(Some(now.micros))
            }
            Rest::NextTurn | Rest::Answers => self.waiting_micros,
        };
        self.conn.is_paused.store(taken.rest != Rest::Nothing, Ordering::SeqCst);
        let consumed: usize = frames.iter().take(taken.frames).map(|frame| 4 + frame.len()).sum();
        self.consume(consumed);
        self.set_backlog(taken.rest == Rest::NextTurn);
        Ok(taken)
    }

    /// Counts this connection among those that have more than a turn takes, or not.
    fn set_backlog(&mut self, has_one: bool) {
        if std::mem::replace(&mut self.has_backlog, has_one) != has_one {
            self.shared.limits.count_backlog(has_one);
        }
    }

    /// Forgets the first bytes of the input. A connection that sends little keeps little.
    fn consume(&mut self, bytes: usize) {
        if bytes < self.input.len() {
            self.input.drain(..bytes);
            return;
        }
        self.input.clear();
        if bytes < self.room / 4 {
            self.room = (self.room / 4).max(READ_BYTES_MIN);
        }
        if self.input.capacity() > 2 * self.room {
            self.input = Vec::new();
        }
    }

    /// The first frame of `bytes` and what follows; `None`: not all of it is here.
    fn split<'b>(&self, bytes: &'b [u8]) -> Result<Option<Split<'b>>, End> {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*length);
        let limits = &self.shared.config.limits;
        match usize::try_from(length) {
            Ok(length) if length <= limits.max_buffer as usize => match rest.split_at_checked(length) {
                // Before all of it is here; what is here is asked again when it is offered.
                None if limits.large_request_threshold.is_some_and(|large| length > large as usize) => {
                    if sync::read(&self.shared.db).has_room_for_large(length) {
                        return Ok(None);
                    }
                    self.conn.outbox.end_for(ConnEnd::LargeRequests);
                    Err(End)
                }
                split => Ok(split),
            },
            _ => {
                if let Some(left_out) = self.shared.limits.repetition("length", self.shared.clock.micros() / 1000) {
                    let (peer, limit) = (self.conn.peer, limits.max_buffer);
                    tracing::warn!(
                        "Len error. A message from /{peer} with advertised length of {length} is either a malformed \
                         message or too large to process (length is greater than jute.maxbuffer={limit}){}",
                        Omitted(left_out)
                    );
                }
                Err(End)
            }
        }
    }

    /// Writes what is left, within a bound, and closes. What the client still sends is read, since a socket that is
    /// closed with unread bytes takes back what was sent last.
    async fn finish(&mut self) {
        self.conn.say_end(self.shared);
        if self.conn.is_expired.load(Ordering::Relaxed) {
            return;
        }
        if let Some(word) = self.word.take()
            && let Ok(text) = word.await
        {
            self.conn.send_text(text.into_bytes());
            self.conn.flush(self.shared);
        }
        let deadline = tokio::time::sleep(Duration::from_secs(2));
        tokio::pin!(deadline);
        if self.secure.is_some() {
            self.conn.with_tls(TlsSession::close);
            self.conn.flush(self.shared);
        }
        while self.conn.has_unsent() {
            tokio::select! {
                ready = self.conn.write.writable() => {
                    if ready.is_err() || self.conn.flush(self.shared) == Flushed::Broken {
                        return;
                    }
                }
                () = &mut deadline => return,
            }
        }
        // Not for ever: a client that sends as fast as this reads would keep the thread.
        let mut scratch = [0; 4096];
        for _ in 0..256 {
            if !matches!(self.read.try_read(&mut scratch), Ok(n) if n > 0) {
                return;
            }
        }
    }
}
