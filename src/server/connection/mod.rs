//! Step 1 of a request, the host's part: bytes of a client's socket to frames, and what is in the outbox to bytes.
//!
//! After: [`submit`](crate::peer::Database::submit) answers and hands on.
//! One turn is one read of the socket, one hold of the database's lock for all whole frames, one write. The core
//! writes to the socket itself when it has answered something ([`Conn::flush`]); only what the socket does not take
//! is left to the connection's task. A frame's length is checked before anything is made room for, and room is made
//! for what has come, not for what the length says. After a turn's share of frames the other connections have theirs.
//!
//! ZooKeeper: `NIOServerCnxn`.

mod task;

use super::limits::CONNECTION_BYTES;
use super::secure::Speaks;
use super::shared::{Shared, count};
use super::task::spawn;
use super::tls::TlsSession;
use crate::peer::{AuthNote, ConnEnd, NONCE_BYTES, Outbox};
use crate::sync;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

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
    spawn("a client's connection", &events, async move {
        let input_bytes = task::run(&shared, &conn, read, speaks).await;
        shared.limits.count_freed(CONNECTION_BYTES + input_bytes + conn.forget_unsent(&shared));
        // Not after a panic of the core: then the lock is poisoned, and nobody is left to be told.
        if let Ok(db) = shared.db.read() {
            db.detach(id);
        }
        shared.connections.release(id, ip, is_secure);
    });
}

/// Bytes that nobody can guess; `None`: the system gives none.
pub fn random() -> Option<[u8; NONCE_BYTES]> {
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
