//! Step 1 of a request, the host's part: bytes of a client's socket to frames, and what is in the outbox to bytes.
//!
//! After: [`submit`](crate::peer::Database::submit) answers and hands on.
//! One turn is one read of the socket, one hold of the database's lock for all whole frames, one write. The core
//! writes to the socket itself when it has answered something ([`Conn::flush`]); only what the socket does not take
//! is left to the connection's task. A frame's length is checked before anything is made room for.
//!
//! ZooKeeper: `NIOServerCnxn`.

use super::shared::{Shared, count};
use super::task;
use super::words;
use crate::peer::io::{ConnId, Input};
use crate::peer::{ConnPhase, Outbox};
use crate::records::JUTE_MAX_BUFFER;
use crate::sync;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

/// Room for a read at first, and the most that is read at once; a connection that sends much gets more.
const READ_BYTES_MIN: usize = 4 << 10;
const READ_BYTES_MAX: usize = 64 << 10;
/// An idle connection keeps no buffer larger than this.
const BUFFER_KEPT_MAX: usize = 128 << 10;
/// A session's connection without traffic is closed after its timeout and this. ZooKeeper: buckets of 10 s.
const IDLE_GRACE_MICROS: u64 = 10_000_000;

/// The client connections of a server.
#[derive(Default)]
pub struct Connections {
    table: Mutex<Table>,
    last_id: AtomicU64,
}

#[derive(Default)]
struct Table {
    by_id: HashMap<ConnId, Arc<Conn>>,
    by_ip: HashMap<IpAddr, u32>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// One client's connection.
pub struct Conn {
    pub outbox: Arc<Outbox>,
    pub peer: SocketAddr,
    /// Wall clock, ms since 1970 UTC.
    pub established_ms: i64,
    write: OwnedWriteHalf,
    sending: Mutex<Sending>,
    /// Tells the task that there is more to write, that frames can be taken again, or that the connection ends.
    wake: Notify,
    /// Frames wait in the task because the outbox is full or the session is not open yet.
    is_paused: AtomicBool,
    /// When something was last received, monotonic.
    heard_micros: AtomicU64,
    is_expired: AtomicBool,
}

/// What the socket has not taken yet.
#[derive(Default)]
struct Sending {
    bytes: Vec<u8>,
    written: usize,
}

/// How far a flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flushed {
    /// Everything is with the kernel.
    All,
    /// The socket takes no more now.
    Blocked,
    /// Everything that was to be sent is, and the connection is to be closed.
    Closing,
    /// Broken.
    Broken,
}

/// Why a new connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `maxClientCnxns`.
    TooManyFrom(IpAddr),
    /// `maxCnxns`.
    TooMany(usize),
}

impl Connections {
    /// Registers a connection from `ip`, unless there are too many.
    fn reserve(&self, ip: IpAddr, max_per_ip: u32, max: u32) -> Result<ConnId, Refused> {
        let mut table = lock(&self.table);
        if max > 0 && table.by_id.len() >= max as usize {
            return Err(Refused::TooMany(table.by_id.len()));
        }
        let count = table.by_ip.entry(ip).or_default();
        if max_per_ip > 0 && *count >= max_per_ip {
            return Err(Refused::TooManyFrom(ip));
        }
        *count += 1;
        Ok(ConnId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1))
    }

    fn release(&self, conn: ConnId, ip: IpAddr) {
        let mut table = lock(&self.table);
        table.by_id.remove(&conn);
        if let Some(count) = table.by_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                table.by_ip.remove(&ip);
            }
        }
    }

    pub fn get(&self, conn: ConnId) -> Option<Arc<Conn>> {
        lock(&self.table).by_id.get(&conn).cloned()
    }

    /// All of them, newest first.
    pub fn all(&self) -> Vec<Arc<Conn>> {
        let mut all: Vec<Arc<Conn>> = lock(&self.table).by_id.values().cloned().collect();
        all.sort_by_key(|conn| std::cmp::Reverse(conn.outbox.conn()));
        all
    }

    /// Closes all: their tasks are gone with the runtime.
    pub fn clear(&self) {
        *lock(&self.table) = Table::default();
    }

    /// Writes what the core has put into these outboxes.
    pub fn flush(&self, shared: &Shared, dirty: &mut Vec<Arc<Outbox>>) {
        for outbox in dirty.drain(..) {
            let Some(conn) = self.get(outbox.conn()) else {
                continue;
            };
            let flushed = conn.flush(shared);
            if flushed == Flushed::Closing {
                // The client sees the end now, not when the task has its turn: who is told that a role is over
                // (`Ensemble::kill`) finds its connections closed.
                let _ = socket2::SockRef::from(conn.write.as_ref()).shutdown(std::net::Shutdown::Write);
            }
            if flushed != Flushed::All || conn.is_paused.load(Ordering::Relaxed) {
                conn.wake.notify_one();
            }
        }
    }

    /// Ends connections that say nothing: those without a session after `sessionlessCnxnTimeout`, others after their
    /// session's timeout.
    pub fn expire_idle(&self, shared: &Shared) {
        let now = shared.clock.micros();
        for conn in self.all() {
            let idle = now.saturating_sub(conn.heard_micros.load(Ordering::Relaxed));
            let info = conn.outbox.info();
            let limit = match info.phase {
                ConnPhase::Open => u64::from(info.timeout_ms.unsigned_abs()) * 1000 + IDLE_GRACE_MICROS,
                ConnPhase::Connecting | ConnPhase::Closing => {
                    u64::from(shared.config.limits.sessionless_timeout_ms) * 1000
                }
            };
            if idle > limit {
                if info.phase == ConnPhase::Connecting {
                    count(&shared.metrics.sessionless_expired, 1);
                }
                conn.is_expired.store(true, Ordering::Relaxed);
                conn.wake.notify_one();
            }
        }
    }
}

/// Serves a connection that was just accepted, on the current runtime, until it ends.
pub fn serve(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    // A listener of both families sees an IPv4 client as `::ffff:1.2.3.4`.
    let ip = peer.ip().to_canonical();
    let peer = SocketAddr::new(ip, peer.port());
    let config = &shared.config;
    let id = match shared.connections.reserve(ip, config.limits.max_client_cnxns, config.limits.max_cnxns) {
        Ok(id) => id,
        Err(refused) => {
            count(&shared.metrics.connection_rejected, 1);
            match refused {
                Refused::TooManyFrom(ip) => {
                    tracing::warn!("Too many connections from /{ip} - max is {}", config.limits.max_client_cnxns);
                }
                Refused::TooMany(n) => tracing::error!("Too many connections {n} - max is {}", config.limits.max_cnxns),
            }
            // A reset, so that the client does not take it for a server that has no answer yet.
            let _ = socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
            return;
        }
    };
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    let outbox = Outbox::new(id, ip);
    let now = shared.now();
    let conn = Arc::new(Conn {
        outbox: outbox.clone(),
        peer,
        established_ms: now.wall_ms,
        write,
        sending: Mutex::default(),
        wake: Notify::new(),
        is_paused: AtomicBool::new(false),
        heard_micros: AtomicU64::new(now.micros),
        is_expired: AtomicBool::new(false),
    });
    lock(&shared.connections.table).by_id.insert(id, conn.clone());
    sync::read(&shared.db).attach(outbox);
    let shared = shared.clone();
    let events = shared.events.clone();
    task::spawn("a client's connection", &events, async move {
        let (input, room) = (Vec::new(), READ_BYTES_MIN);
        let mut task = Task { shared: &shared, conn: &conn, read, input, is_first: true, room };
        task.run().await;
        // Not after a panic of the core: then the lock is poisoned, and nobody is left to be told.
        if let Ok(db) = shared.db.read() {
            db.detach(id);
        }
        shared.connections.release(id, ip);
    });
}

impl Conn {
    /// Moves what is in the outbox to the socket, as far as it takes it.
    fn flush(&self, shared: &Shared) -> Flushed {
        let mut sending = lock(&self.sending);
        loop {
            // The outbox fills up while the socket takes nothing, and then no more requests are read.
            if sending.written == sending.bytes.len() {
                sending.written = 0;
                sending.bytes.clear();
                let is_closing = self.outbox.take(&mut sending.bytes);
                if sending.bytes.is_empty() {
                    if sending.bytes.capacity() > BUFFER_KEPT_MAX {
                        sending.bytes = Vec::new();
                    }
                    return if is_closing { Flushed::Closing } else { Flushed::All };
                }
            }
            while sending.written < sending.bytes.len() {
                let rest = &sending.bytes[sending.written..];
                match shared.gate.pass(|| self.write.try_write(rest)) {
                    Some(Ok(n)) => {
                        sending.written += n;
                        count(&shared.metrics.bytes_sent, n as u64);
                    }
                    Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => return Flushed::Blocked,
                    Some(Err(_)) | None => return Flushed::Broken,
                }
            }
        }
    }

    fn has_unsent(&self) -> bool {
        let sending = lock(&self.sending);
        sending.written < sending.bytes.len()
    }
}

/// Why a connection's task ends.
struct End;

/// A frame, and what follows it.
type Split<'b> = (&'b [u8], &'b [u8]);

/// The task of a connection: reads, and writes what the core could not.
struct Task<'a> {
    shared: &'a Arc<Shared>,
    conn: &'a Conn,
    read: OwnedReadHalf,
    /// Received, not taken yet; begins with a length.
    input: Vec<u8>,
    /// Nothing has been taken: a word or a connect request comes.
    is_first: bool,
    /// How much to read at once.
    room: usize,
}

impl Task<'_> {
    async fn run(&mut self) {
        loop {
            let reads = !self.conn.is_paused.load(Ordering::Relaxed);
            let writes = self.conn.has_unsent();
            self.input.reserve(self.room);
            let received = tokio::select! {
                n = self.read.read_buf(&mut self.input), if reads => Some(n),
                ready = self.conn.write.writable(), if writes => match ready {
                    Ok(()) => None,
                    Err(error) => Some(Err(error)),
                },
                () = self.conn.wake.notified() => None,
            };
            if received.map_or(Ok(()), |n| self.on_received(n)).and_then(|()| self.process()).is_err() {
                return self.finish().await;
            }
        }
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
        self.conn.heard_micros.store(self.shared.clock.micros(), Ordering::Relaxed);
        Ok(())
    }

    /// Hands on what is whole, and writes what there is to write.
    fn process(&mut self) -> Result<(), End> {
        if self.conn.is_expired.load(Ordering::Relaxed) {
            return Err(End);
        }
        if self.is_first {
            self.take_first()?;
        }
        if self.conn.is_paused.load(Ordering::Relaxed) {
            self.flush()?;
        }
        loop {
            let taken = if self.is_first { 0 } else { self.take_frames()? };
            self.flush()?;
            // Some were not taken; there may be room for them now.
            if taken == 0 || !self.conn.is_paused.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    fn flush(&self) -> Result<(), End> {
        match self.conn.flush(self.shared) {
            Flushed::All | Flushed::Blocked => Ok(()),
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
                    *lock(&self.conn.sending) = Sending { bytes: text, written: 0 };
                    self.conn.flush(self.shared);
                    Err(End)
                }
            };
        }
        let Some((frame, rest)) = self.split(&self.input)? else {
            return Ok(());
        };
        count(&self.shared.metrics.connection_requests, 1);
        let now = self.shared.now();
        let request = sync::read(&self.shared.db).connect(&self.conn.outbox, frame, now);
        let request = request.ok_or(End)?;
        let consumed = self.input.len() - rest.len();
        self.shared.input(Input::Connect { conn: self.conn.outbox.conn(), request });
        self.input.drain(..consumed);
        self.is_first = false;
        Ok(())
    }

    /// Offers all whole frames, in one hold of the database's lock; how many were taken.
    fn take_frames(&mut self) -> Result<usize, End> {
        let mut frames = Vec::new();
        let mut rest = &self.input[..];
        while let Some((frame, behind)) = self.split(rest)? {
            frames.push(frame);
            rest = behind;
        }
        if frames.is_empty() {
            self.conn.is_paused.store(false, Ordering::Relaxed);
            return Ok(0);
        }
        // Set before the frames are offered: who makes room for them afterwards sees it and wakes this task.
        self.conn.is_paused.store(true, Ordering::SeqCst);
        let mut forward = Vec::new();
        let taken = {
            let db = sync::read(&self.shared.db);
            let taken = db.submit(&self.conn.outbox, &frames, self.shared.now(), &mut forward);
            #[cfg(test)]
            let db = self.shared.late_forward.let_go(db);
            // Before the lock is let go: the end of the role, or the session's next connection, comes behind them.
            if !forward.is_empty() {
                self.shared.input(Input::Requests(forward));
            }
            drop(db);
            taken
        };
        let is_paused = taken < frames.len();
        self.conn.is_paused.store(is_paused, Ordering::SeqCst);
        let consumed: usize = frames.iter().take(taken).map(|frame| 4 + frame.len()).sum();
        if consumed == self.input.len() {
            self.input.clear();
            if self.input.capacity() > BUFFER_KEPT_MAX {
                self.input = Vec::new();
            }
        } else {
            self.input.drain(..consumed);
        }
        Ok(taken)
    }

    /// The first frame of `bytes` and what follows; `None`: not all of it is here.
    fn split<'b>(&self, bytes: &'b [u8]) -> Result<Option<Split<'b>>, End> {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*length);
        match usize::try_from(length) {
            Ok(length) if length <= JUTE_MAX_BUFFER => Ok(rest.split_at_checked(length)),
            _ => {
                let (peer, limit) = (self.conn.peer, JUTE_MAX_BUFFER);
                tracing::warn!(
                    "Len error. A message from /{peer} with advertised length of {length} is either a malformed message \
                     or too large to process (length is greater than jute.maxbuffer={limit})"
                );
                Err(End)
            }
        }
    }

    /// Writes what is left, within a bound, and closes. What the client still sends is read, since a socket that is
    /// closed with unread bytes takes back what was sent last.
    async fn finish(&mut self) {
        let deadline = tokio::time::sleep(std::time::Duration::from_secs(2));
        tokio::pin!(deadline);
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
