//! The quorum port: packets between a learner and its leader, as bytes.
//!
//! What the core sends is appended to the link's buffer and written once per turn, straight from the core when the
//! socket has room; only what it does not take waits for the link's own task. A snapshot, or what a learner lacks of
//! the history, is streamed by that task, chunk by chunk as the socket takes them, and whatever the core sends meanwhile
//! waits behind it. A link whose other side does not read is closed when [`LINK_BYTES_MAX`] are waiting: it will be
//! synchronised anew.
//!
//! ZooKeeper: `LearnerHandler`, `Learner` (their threads and streams).

mod decoder;
mod recent;
#[cfg(test)]
mod tests;

use super::channel::{Channel, Incoming, Outgoing, Sealed, Security};
use super::dial::dial;
use super::gate::Gate;
use super::net_faults::Network;
use super::shared::Event;
use super::task;
use crate::jute::write_string;
use crate::peer::io::{Input, LinkId};
use crate::records::{HostPort, QuorumPacket, SNAPSHOT_SIGNATURE, ServerId};
use decoder::Decoder;
pub use recent::Recent;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

/// Bytes that may wait for a peer that does not read.
const LINK_BYTES_MAX: usize = 256 << 20;
/// How long a link that is to be closed may go on sending what was queued before.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// While fewer bytes than this wait, the next chunk of a snapshot is made.
const CHUNK_BYTES: usize = 64 << 10;
/// Room for a read; a buffer that was filled grows, to [`BUFFER_KEPT_MAX`] and more while a packet is larger.
const READ_BYTES_MIN: usize = 16 << 10;
/// Learners that have not proved who they are, at most; of more the oldest is closed.
const NAMELESS_MAX: usize = 64;
/// A buffer that has grown beyond this is given back when empty.
const BUFFER_KEPT_MAX: usize = 1 << 20;

/// Makes what is to be sent, chunk by chunk: a snapshot's body, or a part of the log.
pub trait ChunkSource: Send {
    /// Appends about `bytes_max` bytes.
    fn next_chunk(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> Chunk;
}

/// What a [`ChunkSource`] has to say with a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    More,
    /// Nothing is there yet; the link is [woken](Wake) when something is.
    Later,
    /// That was the last one.
    Last,
    /// What was to be sent is not there any more; it cannot be finished.
    Gone,
}

/// Wakes the task of a link that waits for its [`ChunkSource`].
pub struct Wake(Weak<Link>);

impl Wake {
    pub fn wake(&self) {
        if let Some(link) = self.0.upgrade() {
            link.wake.notify_one();
        }
    }
}

/// A snapshot's body, with the signature behind it.
struct Signed(Box<dyn ChunkSource>);

impl ChunkSource for Signed {
    fn next_chunk(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> Chunk {
        let chunk = self.0.next_chunk(bytes_max, out);
        if chunk == Chunk::Last {
            write_string(SNAPSHOT_SIGNATURE, out);
        }
        chunk
    }
}

/// Which port a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptedBy {
    QuorumPort,
    ObserverMasterPort,
}

/// All links of a server.
pub struct Links {
    shared: Arc<Shared>,
    /// Links that the core has spoken to, so that a packet does not cost a look into the shared table.
    known: Vec<Arc<Link>>,
    /// Links with something new to write.
    dirty: Vec<Arc<Link>>,
    /// The tasks that accept learners.
    listening: Vec<AbortHandle>,
}

struct Shared {
    links: Mutex<BTreeMap<LinkId, Arc<Link>>>,
    last_id: AtomicU64,
    /// Where the links' inputs go, and panics of their tasks.
    events: mpsc::UnboundedSender<Event>,
    gate: Arc<Gate>,
    network: Network,
    access: Access,
    limits: Limits,
}

/// How servers get at each other.
#[derive(Clone)]
pub struct Access {
    pub security: Arc<Security>,
    /// How long TLS and a login may take.
    pub setup_timeout: Duration,
    /// After which the next of several addresses is tried beside one that does not answer.
    pub reachability_timeout: Duration,
}

impl Default for Access {
    fn default() -> Access {
        let (setup_timeout, reachability_timeout) = (Duration::from_secs(20), Duration::from_secs(1));
        Access { security: Arc::default(), setup_timeout, reachability_timeout }
    }
}

/// How much there may be of what.
#[derive(Clone, Copy)]
struct Limits {
    /// [`LINK_BYTES_MAX`]
    bytes_max: usize,
    /// The longest transaction, and string or buffer of a snapshot.
    txn_bytes_max: usize,
}

struct Link {
    id: LinkId,
    outgoing: Outgoing,
    out: Mutex<Out>,
    /// Its task has ended.
    is_gone: AtomicBool,
    /// Tells the link's task that it has to go on writing, or to end.
    wake: Notify,
}

/// What is to be written.
#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    /// How many of `bytes` are written.
    written: usize,
    /// What of those the socket has not taken.
    sealed: Sealed,
    /// What follows `bytes`, one after the other.
    streams: VecDeque<Box<dyn ChunkSource>>,
    /// The first one had nothing to give, and will wake the task when it has.
    is_starved: bool,
    /// What follows the streams.
    later: Vec<u8>,
    closing: bool,
    /// What went wrong when the core wrote; the link's task ends with it.
    failed: Option<io::Error>,
    /// The core has added something since its last flush.
    is_dirty: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Links {
    /// No links yet; transactions may be as long as `txn_bytes_max`.
    pub fn new(
        events: mpsc::UnboundedSender<Event>,
        gate: Arc<Gate>,
        network: Network,
        access: Access,
        txn_bytes_max: usize,
    ) -> Links {
        Links::with_limits(events, gate, network, access, Limits { bytes_max: LINK_BYTES_MAX, txn_bytes_max })
    }

    fn with_limits(
        events: mpsc::UnboundedSender<Event>,
        gate: Arc<Gate>,
        network: Network,
        access: Access,
        limits: Limits,
    ) -> Links {
        let (links, last_id) = Default::default();
        let shared = Shared { links, last_id, events, gate, network, access, limits };
        Links { shared: Arc::new(shared), known: Vec::new(), dirty: Vec::new(), listening: Vec::new() }
    }

    /// Accepts learners from now on, in every role: the core keeps those that come a little before it leads, and
    /// closes others. Likewise observers, at the port for them.
    pub fn listen(&mut self, listener: std::net::TcpListener, of: AcceptedBy) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let shared = self.shared.clone();
        let listening = task::spawn("the quorum port", &self.shared.events, async move {
            let mut nameless: VecDeque<AbortHandle> = VecDeque::new();
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let channel = Channel::new(stream, shared.network.clone());
                        if shared.access.security.is_plain() {
                            shared.accepted(channel, of);
                            continue;
                        }
                        nameless.retain(|task| !task.is_finished());
                        if nameless.len() >= NAMELESS_MAX
                            && let Some(oldest) = nameless.pop_front()
                        {
                            oldest.abort();
                        }
                        nameless.push_back(shared.clone().greet(channel, of));
                    }
                    // Out of file descriptors, or the other side has gone.
                    Err(error) => {
                        shared.access.security.tell_failure("cannot accept at the quorum port", &error);
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            }
        });
        if of == AcceptedBy::QuorumPort {
            self.listening.push(listening); // The other stays where the server was at its start.
        }
        Ok(())
    }

    /// Closes the quorum ports that it listens at; links stay.
    pub fn stop_listening(&mut self) {
        self.listening.drain(..).for_each(|task| task.abort());
    }

    /// Connects to the leader's quorum port, at one of its addresses.
    pub fn connect(&self, leader: ServerId, addrs: Vec<HostPort>) {
        let shared = self.shared.clone();
        task::spawn("a connect to the leader", &self.shared.events, async move {
            let Access { security, setup_timeout, reachability_timeout } = &shared.access;
            let connecting = async {
                let (stream, addr) = dial(&shared.network, leader, &addrs, *reachability_timeout).await?;
                let channel = Channel::dialed(stream, shared.network.pair(leader));
                let mut channel = security.dial(channel, &addr.host).await?;
                security.log_in(&mut channel).await?;
                Ok(channel)
            };
            let timed_out = || Err(io::Error::from(io::ErrorKind::TimedOut));
            shared.input(match timeout(*setup_timeout, connecting).await.unwrap_or_else(|_| timed_out()) {
                Ok(channel) => Input::LeaderLinkUp { link: shared.add(channel, true), leader },
                Err(error) => {
                    let addrs = addrs.iter().map(HostPort::to_string).collect::<Vec<_>>().join("|");
                    security.tell_failure(format_args!("cannot connect to leader {leader} at {addrs}"), &error);
                    Input::LeaderLinkFailed { leader }
                }
            });
        });
    }

    /// Queues a packet; it leaves at the next [`Links::flush`].
    pub fn send(&mut self, link: LinkId, packet: &QuorumPacket) {
        self.queue(link, |out| {
            packet.write(if out.streams.is_empty() { &mut out.bytes } else { &mut out.later });
        });
    }

    /// Queues a snapshot's body and its signature.
    pub fn stream_snapshot(&mut self, link: LinkId, source: Box<dyn ChunkSource>) {
        self.stream(link, |_| Box::new(Signed(source)));
    }

    /// Queues what `make` makes; what is sent later follows it. A stream may follow another at once.
    pub fn stream(&mut self, id: LinkId, make: impl FnOnce(Wake) -> Box<dyn ChunkSource>) {
        let Some(link) = self.known(id) else { return };
        let source = make(Wake(Arc::downgrade(&link)));
        self.queue(id, |out| {
            assert!(out.later.is_empty(), "packets to {id:?} wait behind a stream, and would be overtaken by another");
            out.streams.push_back(source);
        });
    }

    /// Closes the link after what was queued, or after [`CLOSE_LIMIT`] if the other side does not take it. No [`Input::LinkDown`] follows.
    pub fn close(&mut self, link: LinkId) {
        self.queue(link, |out| out.closing = true);
    }

    /// `None`: it is gone, which has been reported, or will be.
    fn known(&mut self, id: LinkId) -> Option<Arc<Link>> {
        if !self.known.iter().any(|link| link.id == id) {
            self.known.extend(lock(&self.shared.links).get(&id).cloned());
        }
        self.known.iter().find(|link| link.id == id).cloned()
    }

    fn queue(&mut self, id: LinkId, change: impl FnOnce(&mut Out)) {
        let Some(link) = self.known(id) else { return };
        let mut out = lock(&link.out);
        change(&mut out);
        if !std::mem::replace(&mut out.is_dirty, true) {
            drop(out);
            self.dirty.push(link);
        }
    }

    /// Writes what was queued, as far as the sockets take it.
    pub fn flush(&mut self) {
        self.known.retain(|link| !link.is_gone.load(Ordering::Relaxed));
        for link in self.dirty.drain(..) {
            match self.shared.write_some(&link) {
                Ok(Progress::Idle) => {}
                // The rest, the stream, the close and the error are its task's.
                Ok(Progress::Blocked | Progress::Closed) => link.wake.notify_one(),
                Err(error) => {
                    lock(&link.out).failed = Some(error);
                    link.wake.notify_one();
                }
            }
        }
    }
}

/// How far writing came.
enum Progress {
    /// Everything is written.
    Idle,
    /// More is to be written when the socket takes it.
    Blocked,
    /// Everything is written, and the link is to be closed.
    Closed,
}

impl Shared {
    fn input(&self, input: Input) {
        let _ = self.events.send(Event::Input(input));
    }

    /// Lets a learner prove who it is.
    fn greet(self: Arc<Self>, channel: Channel, of: AcceptedBy) -> AbortHandle {
        let shared = self.clone();
        task::spawn("an accepted learner", &self.events, async move {
            let Access { security, setup_timeout, .. } = &shared.access;
            let ip = channel.peer_ip();
            let greeting = async {
                let mut channel = security.accept(channel).await?;
                security.authenticate(&mut channel).await?;
                Ok(channel)
            };
            match timeout(*setup_timeout, greeting).await {
                Ok(Ok(channel)) => shared.accepted(channel, of),
                Ok(Err(error)) => security.tell(&error),
                Err(_) => security.tell_silence("the quorum port", ip),
            }
        })
    }

    fn accepted(self: &Arc<Self>, channel: Channel, of: AcceptedBy) {
        let link = self.add(channel, false);
        self.input(match of {
            AcceptedBy::QuorumPort => Input::LearnerLinkUp { link },
            AcceptedBy::ObserverMasterPort => Input::ObserverLinkUp { link },
        });
    }

    /// Registers a connection and starts its task.
    fn add(self: &Arc<Self>, channel: Channel, from_leader: bool) -> LinkId {
        let id = LinkId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1);
        let (incoming, outgoing, read) = channel.split();
        let is_gone = AtomicBool::new(false);
        let link = Arc::new(Link { id, outgoing, out: Mutex::default(), is_gone, wake: Notify::new() });
        lock(&self.links).insert(id, link.clone());
        let shared = self.clone();
        let mut decoder = Decoder::new(from_leader, self.limits.txn_bytes_max);
        decoder.bytes = read;
        task::spawn("a link between servers", &self.events, async move {
            let end = shared.serve(&link, incoming, decoder).await;
            lock(&shared.links).remove(&id);
            link.is_gone.store(true, Ordering::Relaxed);
            // The core may still know the link: its socket is closed now all the same.
            link.outgoing.shutdown();
            if let Err(error) = end {
                shared.input(Input::LinkDown { link: id, reason: error.to_string() });
            }
        });
        id
    }

    /// Reads packets, and writes what the core could not, until the link ends; `Ok`: the core has closed it.
    async fn serve(&self, link: &Link, mut incoming: Incoming, mut decoder: Decoder) -> io::Result<()> {
        if !decoder.bytes.is_empty() {
            self.decode(link, &mut decoder)?; // What has come behind the greeting.
        }
        let mut close_at = None;
        loop {
            let is_blocked = {
                let mut out = lock(&link.out);
                if let Some(error) = out.failed.take() {
                    return Err(error);
                }
                if out.closing {
                    close_at.get_or_insert_with(|| Instant::now() + CLOSE_LIMIT);
                }
                let has_bytes = out.written < out.bytes.len() || !out.sealed.is_empty();
                has_bytes || !out.is_starved && (out.closing || !out.streams.is_empty())
            };
            let is_cut = link.outgoing.pair().is_cut();
            decoder.bytes.reserve(READ_BYTES_MIN);
            tokio::select! {
                n = incoming.read(&mut decoder.bytes) => {
                    if n? == 0 {
                        let closed = "the other side has closed the connection";
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, closed));
                    }
                    self.decode(link, &mut decoder)?;
                }
                () = link.outgoing.pair().open(), if is_cut => {}
                ready = link.outgoing.writable(), if is_blocked && !is_cut => {
                    ready?;
                    if let Progress::Closed = self.write_some(link)? {
                        return Ok(());
                    }
                    // A chunk has been made; others of this thread have their turn.
                    tokio::task::yield_now().await;
                }
                () = link.wake.notified() => lock(&link.out).is_starved = false,
                // Else a peer that is stopped would keep the socket, its bytes and a snapshot's cursor for ever.
                () = sleep_until(close_at.unwrap_or_else(Instant::now)), if close_at.is_some() => return Ok(()),
            }
        }
    }

    fn decode(&self, link: &Link, decoder: &mut Decoder) -> io::Result<()> {
        let end = decoder.decode(link.id, &mut |input| self.input(input));
        end.map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("the stream cannot be understood: {error}"))
        })
    }

    /// Writes until everything is written or the socket takes no more; makes at most one chunk of a stream.
    fn write_some(&self, link: &Link) -> io::Result<Progress> {
        let mut out = lock(&link.out);
        let out = &mut *out;
        out.is_dirty = false;
        if !out.streams.is_empty() && out.bytes.len() - out.written < CHUNK_BYTES {
            out.next_chunk()?;
        }
        while out.written < out.bytes.len() || !out.sealed.is_empty() {
            let (rest, sealed) = (&out.bytes[out.written..], &mut out.sealed);
            let write = || match link.outgoing.pair().is_cut() {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => link.outgoing.try_write(rest, sealed),
            };
            let n = match self.gate.pass(write) {
                None => return Ok(Progress::Closed),
                Some(Ok(n)) => n,
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    let waiting = out.bytes.len() - out.written + out.later.len();
                    if waiting > self.limits.bytes_max {
                        return Err(io::Error::other(format!("it has not taken {waiting} bytes; it is too slow")));
                    }
                    return Ok(Progress::Blocked);
                }
                Some(Err(error)) => return Err(error),
            };
            out.written += n;
        }
        out.written = 0;
        out.bytes.clear();
        if out.bytes.capacity() > BUFFER_KEPT_MAX {
            out.bytes = Vec::new();
        }
        if !out.streams.is_empty() && out.later.len() > self.limits.bytes_max {
            return Err(io::Error::other(format!("{} bytes wait behind a stream; it is too slow", out.later.len())));
        }
        Ok(match (out.streams.is_empty(), out.closing) {
            (false, _) => Progress::Blocked,
            (true, true) => Progress::Closed,
            (true, false) => Progress::Idle,
        })
    }
}

impl Out {
    fn next_chunk(&mut self) -> io::Result<()> {
        let Some(source) = self.streams.front_mut() else {
            return Ok(());
        };
        match source.next_chunk(CHUNK_BYTES, &mut self.bytes) {
            Chunk::More => {}
            Chunk::Later => self.is_starved = true,
            Chunk::Last => {
                self.streams.pop_front();
                if self.streams.is_empty() {
                    self.bytes.append(&mut self.later);
                }
            }
            Chunk::Gone => {
                return Err(io::Error::other("the history was replaced, or its files are gone, as it was sent"));
            }
        }
        Ok(())
    }
}
