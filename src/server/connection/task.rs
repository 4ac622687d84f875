//! The task of a connection: reads frames and has them taken, and writes what the core could not.

use super::super::limits::ConnectKind;
use super::super::secure::{Secure, Speaks};
use super::super::shared::{Shared, count};
use super::super::tls::TlsSession;
use super::super::words;
use super::{Conn, Flushed, Omitted};
use crate::jute::Record;
use crate::peer::io::Input;
use crate::peer::{ConnEnd, Rest, Taken};
use crate::records::{ConnectRequest, op};
use crate::sync;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;

/// Room for a read at first, and the most that is read at once; a connection that sends much gets more.
const READ_BYTES_MIN: usize = 4 << 10;
const READ_BYTES_MAX: usize = 64 << 10;

/// Serves the connection until it ends; the size of the buffer that it has had at the end.
pub(super) async fn run(shared: &Arc<Shared>, conn: &Arc<Conn>, read: OwnedReadHalf, speaks: Speaks) -> usize {
    let mut task = Task {
        shared,
        conn,
        read,
        input: Vec::new(),
        secure: Secure::new(speaks),
        is_first: true,
        room: READ_BYTES_MIN,
        waiting_micros: None,
        has_backlog: false,
        word: None,
    };
    task.run().await;
    task.set_backlog(false);
    task.input.capacity()
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

/// Whether a frame, without its length, says who the client is.
fn is_auth(frame: &[u8]) -> bool {
    let code = frame.get(4..8).and_then(|code| code.try_into().ok()).map(i32::from_be_bytes);
    matches!(code, Some(op::AUTH | op::SASL))
}
