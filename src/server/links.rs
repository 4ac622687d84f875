//! The quorum port: packets between a learner and its leader, as bytes.
//!
//! What the core sends is appended to the link's buffer and written once per turn, straight from the core when the
//! socket has room; only what it does not take waits for the link's own task. A snapshot is streamed by that task,
//! chunk by chunk as the socket takes them, and whatever the core sends meanwhile waits behind it. A link whose other
//! side does not read is closed when [`LINK_BYTES_MAX`] are waiting: it will be synchronised anew.
//!
//! ZooKeeper: `LearnerHandler`, `Learner` (their threads and streams).

use super::gate::Gate;
use super::net_faults::{Line, Network, Pair};
use super::shared::Event;
use super::task;
use crate::jute::{DecodeError, Reader, write_string};
use crate::peer::io::{Input, LinkId};
use crate::records::HostPort;
use crate::records::{QuorumPacket, SNAPSHOT_SIGNATURE, ServerId, SnapshotDecoder, SnapshotItem};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

/// Bytes that may wait for a peer that does not read.
const LINK_BYTES_MAX: usize = 256 << 20;
/// How long a link that is to be closed may go on sending what was queued before.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// While fewer bytes than this wait, the next chunk of a snapshot is made.
const CHUNK_BYTES: usize = 64 << 10;
/// Room for a read; a buffer that was filled grows, to [`BUFFER_KEPT_MAX`] and more while a packet is larger.
const READ_BYTES_MIN: usize = 16 << 10;
/// Between an ACK (20 bytes) and a proposal (some 200), which is what comes in crowds.
const PACKET_BYTES_USUAL: usize = 64;
/// A buffer that has grown beyond this is given back when empty.
const BUFFER_KEPT_MAX: usize = 1 << 20;

/// Makes a snapshot's body, chunk by chunk.
pub trait ChunkSource: Send {
    /// Appends about `bytes_max` bytes.
    fn next_chunk(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> Chunk;
}

/// What a [`ChunkSource`] has to say with a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    More,
    /// That was the last one.
    Last,
    /// The tree has been replaced meanwhile; the snapshot cannot be finished.
    Gone,
}

/// All links of a server.
pub struct Links {
    shared: Arc<Shared>,
    /// Links that the core has spoken to, so that a packet does not cost a look into the shared table.
    known: Vec<Arc<Link>>,
    /// Links with something new to write.
    dirty: Vec<Arc<Link>>,
}

struct Shared {
    links: Mutex<BTreeMap<LinkId, Arc<Link>>>,
    last_id: AtomicU64,
    /// Where the links' inputs go, and panics of their tasks.
    events: mpsc::UnboundedSender<Event>,
    gate: Arc<Gate>,
    network: Network,
    limits: Limits,
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
    pair: Pair,
    write: OwnedWriteHalf,
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
    /// A snapshot that follows `bytes`.
    snapshot: Option<Box<dyn ChunkSource>>,
    /// What follows the snapshot.
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
    pub fn new(events: mpsc::UnboundedSender<Event>, gate: Arc<Gate>, network: Network, txn_bytes_max: usize) -> Links {
        Links::with_limits(events, gate, network, Limits { bytes_max: LINK_BYTES_MAX, txn_bytes_max })
    }

    fn with_limits(events: mpsc::UnboundedSender<Event>, gate: Arc<Gate>, network: Network, limits: Limits) -> Links {
        let (links, last_id) = Default::default();
        let shared = Shared { links, last_id, events, gate, network, limits };
        Links { shared: Arc::new(shared), known: Vec::new(), dirty: Vec::new() }
    }

    /// Accepts learners from now on, in every role: the core keeps those that come a little before it leads, and
    /// closes others.
    pub fn listen(&self, listener: std::net::TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let shared = self.shared.clone();
        task::spawn("the quorum port", &self.shared.events, async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let pair = shared.network.accepted(&stream);
                        let link = shared.add(stream, pair, false);
                        shared.input(Input::LearnerLinkUp { link });
                    }
                    // Out of file descriptors, or the other side has gone.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Ok(())
    }

    /// Connects to the leader's quorum port.
    pub fn connect(&self, leader: ServerId, addr: Option<HostPort>) {
        let shared = self.shared.clone();
        task::spawn("a connect to the leader", &self.shared.events, async move {
            let result = match addr {
                Some(addr) => shared.network.connect(leader, &addr).await,
                None => Err(io::ErrorKind::AddrNotAvailable.into()),
            };
            shared.input(match result {
                Ok(stream) => {
                    Input::LeaderLinkUp { link: shared.add(stream, shared.network.pair(leader), true), leader }
                }
                Err(_) => Input::LeaderLinkFailed { leader },
            });
        });
    }

    /// Queues a packet; it leaves at the next [`Links::flush`].
    pub fn send(&mut self, link: LinkId, packet: &QuorumPacket) {
        self.queue(link, |out| {
            packet.write(if out.snapshot.is_some() { &mut out.later } else { &mut out.bytes });
        });
    }

    /// Queues a snapshot's body and its signature.
    pub fn stream_snapshot(&mut self, link: LinkId, source: Box<dyn ChunkSource>) {
        self.queue(link, |out| {
            assert!(out.snapshot.is_none(), "a snapshot is being streamed to {link:?} already");
            out.snapshot = Some(source);
        });
    }

    /// Closes the link after what was queued, or after [`CLOSE_LIMIT`] if the other side does not take it. No [`Input::LinkDown`] follows.
    pub fn close(&mut self, link: LinkId) {
        self.queue(link, |out| out.closing = true);
    }

    fn queue(&mut self, id: LinkId, change: impl FnOnce(&mut Out)) {
        if !self.known.iter().any(|link| link.id == id) {
            self.known.extend(lock(&self.shared.links).get(&id).cloned());
        }
        // A link that is gone has been reported, or will be.
        let Some(link) = self.known.iter().find(|link| link.id == id) else {
            return;
        };
        let mut out = lock(&link.out);
        change(&mut out);
        if !std::mem::replace(&mut out.is_dirty, true) {
            self.dirty.push(link.clone());
        }
    }

    /// Writes what was queued, as far as the sockets take it.
    pub fn flush(&mut self) {
        self.known.retain(|link| !link.is_gone.load(Ordering::Relaxed));
        for link in self.dirty.drain(..) {
            match self.shared.write_some(&link) {
                Ok(Progress::Idle) => {}
                // The rest, the snapshot, the close and the error are its task's.
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

    /// Registers a connection and starts its task.
    fn add(self: &Arc<Self>, stream: TcpStream, pair: Pair, from_leader: bool) -> LinkId {
        let _ = stream.set_nodelay(true);
        let id = LinkId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1);
        let (read, write) = stream.into_split();
        let is_gone = AtomicBool::new(false);
        let line = pair.line();
        let link = Arc::new(Link { id, pair, write, out: Mutex::default(), is_gone, wake: Notify::new() });
        lock(&self.links).insert(id, link.clone());
        let shared = self.clone();
        task::spawn("a link between servers", &self.events, async move {
            let end = shared.serve(&link, line, read, from_leader).await;
            lock(&shared.links).remove(&id);
            link.is_gone.store(true, Ordering::Relaxed);
            // The core may still know the link: its socket is closed now all the same.
            let _ = socket2::SockRef::from(link.write.as_ref()).shutdown(std::net::Shutdown::Both);
            if let Err(error) = end {
                shared.input(Input::LinkDown { link: id, reason: error.to_string() });
            }
        });
        id
    }

    /// Reads packets, and writes what the core could not, until the link ends; `Ok`: the core has closed it.
    async fn serve(&self, link: &Link, mut line: Line, mut read: OwnedReadHalf, from_leader: bool) -> io::Result<()> {
        let mut decoder = Decoder::new(from_leader, self.limits.txn_bytes_max);
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
                out.closing || out.snapshot.is_some() || out.written < out.bytes.len()
            };
            let is_cut = link.pair.is_cut();
            decoder.bytes.reserve(READ_BYTES_MIN);
            tokio::select! {
                n = line.read(&mut read, &mut decoder.bytes) => {
                    if n? == 0 {
                        let closed = "the other side has closed the connection";
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, closed));
                    }
                    let end = decoder.decode(link.id, &mut |input| self.input(input));
                    end.map_err(|error| {
                        io::Error::new(io::ErrorKind::InvalidData, format!("the stream cannot be understood: {error}"))
                    })?;
                }
                () = link.pair.open(), if is_cut => {}
                ready = link.write.writable(), if is_blocked && !is_cut => {
                    ready?;
                    if let Progress::Closed = self.write_some(link)? {
                        return Ok(());
                    }
                    // A chunk has been made; others of this thread have their turn.
                    tokio::task::yield_now().await;
                }
                () = link.wake.notified() => {}
                // Else a peer that is stopped would keep the socket, its bytes and a snapshot's cursor for ever.
                () = sleep_until(close_at.unwrap_or_else(Instant::now)), if close_at.is_some() => return Ok(()),
            }
        }
    }

    /// Writes until everything is written or the socket takes no more; makes at most one chunk of a snapshot.
    fn write_some(&self, link: &Link) -> io::Result<Progress> {
        let mut out = lock(&link.out);
        out.is_dirty = false;
        if out.snapshot.is_some() && out.bytes.len() - out.written < CHUNK_BYTES {
            out.next_chunk()?;
        }
        while out.written < out.bytes.len() {
            let rest = &out.bytes[out.written..];
            let write =
                || if link.pair.is_cut() { Err(io::ErrorKind::WouldBlock.into()) } else { link.write.try_write(rest) };
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
        Ok(match (out.snapshot.is_some(), out.closing) {
            (true, _) => Progress::Blocked,
            (false, true) => Progress::Closed,
            (false, false) => Progress::Idle,
        })
    }
}

impl Out {
    fn next_chunk(&mut self) -> io::Result<()> {
        let Some(source) = &mut self.snapshot else {
            return Ok(());
        };
        match source.next_chunk(CHUNK_BYTES, &mut self.bytes) {
            Chunk::More => {}
            Chunk::Last => {
                self.snapshot = None;
                write_string(SNAPSHOT_SIGNATURE, &mut self.bytes);
                self.bytes.append(&mut self.later);
            }
            Chunk::Gone => return Err(io::Error::other("the tree was replaced while a snapshot of it was sent")),
        }
        Ok(())
    }
}

/// A stream's bytes to inputs: packets, and after a SNAP the snapshot's items.
struct Decoder {
    from_leader: bool,
    bytes: Vec<u8>,
    snapshot: Option<SnapshotDecoder>,
    txn_bytes_max: usize,
}

impl Decoder {
    fn new(from_leader: bool, txn_bytes_max: usize) -> Decoder {
        Decoder { from_leader, bytes: Vec::new(), snapshot: None, txn_bytes_max }
    }

    /// Hands on everything that is whole; keeps the rest.
    fn decode(&mut self, link: LinkId, sink: &mut dyn FnMut(Input)) -> Result<(), DecodeError> {
        let bytes = std::mem::take(&mut self.bytes);
        let mut from = Reader::new(&bytes);
        loop {
            let before = from.remaining();
            match self.snapshot {
                None => self.packets(link, &mut from, sink)?,
                Some(_) => self.items(link, &mut from, sink)?,
            }
            if from.remaining() == before {
                break;
            }
        }
        let consumed = bytes.len() - from.remaining();
        // The longest packet: its data, and the identities of a client.
        let limit = 4 * self.txn_bytes_max;
        if bytes.len() - consumed > limit {
            return Err(DecodeError::TooLong { length: bytes.len() - consumed, limit });
        }
        self.bytes = bytes;
        self.bytes.drain(..consumed);
        if self.bytes.is_empty() && self.bytes.capacity() > BUFFER_KEPT_MAX {
            self.bytes = Vec::new();
        }
        Ok(())
    }

    /// Packets up to the end, or up to a SNAP.
    fn packets(&mut self, link: LinkId, from: &mut Reader<'_>, sink: &mut dyn FnMut(Input)) -> Result<(), DecodeError> {
        // Nearly no growing on the way: a crowd brings thousands in one read.
        let mut packets = Vec::with_capacity(from.remaining() / PACKET_BYTES_USUAL + 1);
        let end = loop {
            match QuorumPacket::take_within(from, self.from_leader, self.txn_bytes_max) {
                Ok(Some(packet)) => {
                    let is_snap = matches!(packet, QuorumPacket::Snap { .. });
                    packets.push(packet);
                    if is_snap && self.from_leader {
                        self.snapshot = Some(SnapshotDecoder::default());
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                // Taken off the stream, and of a release that knows more than we do.
                Err(error @ DecodeError::Unknown { .. }) => tracing::warn!("a packet of {link:?} is ignored: {error}"),
                Err(error) => break Err(error),
            }
        };
        if !packets.is_empty() {
            sink(Input::Packets { link, packets });
        }
        end
    }

    /// Items of a snapshot up to the end of what is here, or to the signature.
    fn items(&mut self, link: LinkId, from: &mut Reader<'_>, sink: &mut dyn FnMut(Input)) -> Result<(), DecodeError> {
        let Some(decoder) = &mut self.snapshot else {
            return Ok(());
        };
        let mut items: Vec<SnapshotItem> = Vec::new();
        while let Some(item) = decoder.take(from, self.txn_bytes_max)? {
            items.push(item);
        }
        let end = decoder.is_done() && take_signature(from)?;
        if end {
            self.snapshot = None;
        }
        if end || !items.is_empty() {
            sink(Input::SnapshotItems { link, items, end });
        }
        Ok(())
    }
}

/// Takes the signature behind a snapshot; false: not all of it is here.
fn take_signature(from: &mut Reader<'_>) -> Result<bool, DecodeError> {
    let mut ahead = Reader::with_limit(from.rest(), SNAPSHOT_SIGNATURE.len());
    match ahead.buffer() {
        Ok(Some(bytes)) if bytes == SNAPSHOT_SIGNATURE.as_bytes() => {
            from.bytes(4 + bytes.len())?;
            Ok(true)
        }
        Ok(_) => Err(DecodeError::Unknown { what: "signature of a snapshot", value: 0 }),
        Err(DecodeError::Short { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jute::Record;
    use crate::records::TXN_BYTES_MAX;
    use crate::records::{SessionId, SnapshotSession, Zxid};
    use std::sync::mpsc::{Sender, TryRecvError, channel};

    fn items() -> Vec<SnapshotItem> {
        vec![
            SnapshotItem::SessionCount(1),
            SnapshotItem::Session(SnapshotSession { session: SessionId(7), timeout_ms: 100 }),
            SnapshotItem::AclCount(0),
            SnapshotItem::End,
        ]
    }

    fn ack(counter: i64) -> QuorumPacket {
        QuorumPacket::Ack { zxid: Zxid(counter) }
    }

    /// What the inputs say, packets and items one by one.
    fn flat(inputs: Vec<Input>) -> Vec<String> {
        let one = |input| match input {
            Input::Packets { packets, .. } => packets.iter().map(|packet| format!("{packet:?}")).collect::<Vec<_>>(),
            Input::SnapshotItems { items, end, .. } => {
                let ends = end.then(|| "signature".to_owned());
                items.iter().map(|item| format!("{item:?}")).chain(ends).collect()
            }
            other => vec![format!("{other:?}")],
        };
        inputs.into_iter().flat_map(one).collect()
    }

    #[test]
    fn packets_and_a_snapshot_are_the_same_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        ack(1).write(&mut stream);
        QuorumPacket::Snap { zxid: Zxid(2) }.write(&mut stream);
        items().iter().for_each(|item| item.write(&mut stream));
        write_string(SNAPSHOT_SIGNATURE, &mut stream);
        ack(3).write(&mut stream);

        let decode = |sizes: usize| {
            let (mut decoder, mut inputs) = (Decoder::new(true, TXN_BYTES_MAX), Vec::new());
            for part in stream.chunks(sizes) {
                decoder.bytes.extend_from_slice(part);
                decoder.decode(LinkId(1), &mut |input| inputs.push(input)).unwrap();
            }
            assert!(decoder.bytes.is_empty());
            flat(inputs)
        };
        let whole = decode(stream.len());
        assert_eq!(whole.len(), 2 + items().len() + 1 + 1);
        for sizes in 1..20 {
            assert_eq!(decode(sizes), whole, "cut into {sizes} bytes");
        }
    }

    #[test]
    fn a_wrong_signature_ends_the_stream_and_an_unknown_packet_is_skipped() {
        let mut stream = Vec::new();
        QuorumPacket::Snap { zxid: Zxid(2) }.write(&mut stream);
        items().iter().for_each(|item| item.write(&mut stream));
        write_string("BenWasGone", &mut stream);
        let mut decoder = Decoder::new(true, TXN_BYTES_MAX);
        decoder.bytes = stream;
        assert!(decoder.decode(LinkId(1), &mut |_| {}).is_err());

        let (mut decoder, mut inputs) = (Decoder::new(true, TXN_BYTES_MAX), Vec::new());
        99i32.write(&mut decoder.bytes);
        decoder.bytes.extend_from_slice(&[0; 12]);
        decoder.bytes.extend_from_slice(&[0xff; 4]);
        ack(1).write(&mut decoder.bytes);
        decoder.decode(LinkId(1), &mut |input| inputs.push(input)).unwrap();
        assert_eq!(flat(inputs), [format!("{:?}", ack(1))]);
    }

    /// Chunks that are ready only one after the other, larger in all than any socket's buffers.
    struct Source {
        chunks: std::vec::IntoIter<Vec<u8>>,
    }

    impl ChunkSource for Source {
        fn next_chunk(&mut self, _: usize, out: &mut Vec<u8>) -> Chunk {
            out.extend(self.chunks.next().unwrap());
            if self.chunks.len() == 0 { Chunk::Last } else { Chunk::More }
        }
    }

    type Events = mpsc::UnboundedReceiver<Event>;

    async fn pair() -> (Links, LinkId, std::net::TcpStream, Events) {
        pair_with_limit(LINK_BYTES_MAX).await
    }

    async fn pair_with_limit(bytes_max: usize) -> (Links, LinkId, std::net::TcpStream, Events) {
        let (sender, mut events) = mpsc::unbounded_channel();
        let limits = Limits { bytes_max, txn_bytes_max: TXN_BYTES_MAX };
        let links = Links::with_limits(sender, Arc::default(), Network::default(), limits);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        links.listen(listener).unwrap();
        let peer = tokio::task::spawn_blocking(move || std::net::TcpStream::connect(addr).unwrap()).await.unwrap();
        let Some(Event::Input(Input::LearnerLinkUp { link })) = events.recv().await else { panic!("no link") };
        (links, link, peer, events)
    }

    #[tokio::test]
    async fn what_is_sent_while_a_snapshot_is_streamed_follows_it() {
        let (mut links, link, mut peer, _inputs) = pair().await;
        let mut body = Vec::new();
        items()[..3].iter().for_each(|item| item.write(&mut body));
        let mut chunks = vec![body.clone()];
        let mut node = Vec::new();
        let stat = crate::records::StatPersisted::from_bytes(&[0; 100]).unwrap();
        crate::records::write_snapshot_node("/a", Some(&vec![7; 60_000]), -1, &stat, &mut node);
        chunks.extend(std::iter::repeat_n(node, 400));
        let mut end = Vec::new();
        SnapshotItem::End.write(&mut end);
        chunks.push(end);
        let length: usize = chunks.iter().map(Vec::len).sum();

        links.send(link, &QuorumPacket::Snap { zxid: Zxid(2) });
        links.stream_snapshot(link, Box::new(Source { chunks: chunks.into_iter() }));
        links.send(link, &ack(3));
        links.flush();
        links.close(link);
        links.flush();

        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut peer, &mut bytes).unwrap();
            bytes
        });
        let bytes = read.await.unwrap();
        assert!(bytes.len() > length);
        let (mut decoder, mut inputs) = (Decoder::new(true, TXN_BYTES_MAX), Vec::new());
        decoder.bytes = bytes;
        decoder.decode(LinkId(1), &mut |input| inputs.push(input)).unwrap();
        let told = flat(inputs);
        assert_eq!(told.len(), 1 + 3 + 400 + 1 + 1 + 1);
        assert_eq!(told[told.len() - 2..], ["signature".to_owned(), format!("{:?}", ack(3))]);
    }

    #[tokio::test]
    async fn the_other_sides_end_is_told_and_nothing_is_written_behind_a_shut_gate() {
        let (mut links, link, peer, inputs) = pair().await;
        links.shared.gate.shut();
        links.send(link, &ack(1));
        links.flush();
        peer.set_nonblocking(true).unwrap();
        match std::io::Read::read(&mut &peer, &mut [0; 1]) {
            Ok(n) => assert_eq!(n, 0),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        drop(peer);

        let (links, link, peer, mut inputs_of_second) = pair().await;
        drop(peer);
        assert_eq!(
            link_down(&mut inputs_of_second).await,
            (link, "the other side has closed the connection".to_owned())
        );
        drop((links, inputs));
    }

    async fn link_down(events: &mut Events) -> (LinkId, String) {
        let down = async {
            loop {
                if let Some(Event::Input(Input::LinkDown { link, reason })) = events.recv().await {
                    return (link, reason);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), down).await.unwrap()
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_loses_its_link_when_too_much_waits_for_it() {
        let (mut links, link, _peer, mut inputs) = pair_with_limit(1 << 20).await;
        let packet = QuorumPacket::Proposal { zxid: Zxid(1), txn: vec![7; 1 << 20].into() };
        // More than the sockets' buffers take, and the limit.
        for _ in 0..64 {
            links.send(link, &packet);
            links.flush();
        }
        let (down, reason) = link_down(&mut inputs).await;
        assert_eq!(down, link);
        assert!(reason.ends_with("it is too slow"), "{reason}");
    }

    /// One chunk, and then a bug.
    struct Broken(bool);

    impl ChunkSource for Broken {
        fn next_chunk(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> Chunk {
            assert!(!std::mem::replace(&mut self.0, true), "on purpose");
            out.resize(out.len() + bytes_max, 7);
            Chunk::More
        }
    }

    #[tokio::test]
    async fn a_panic_of_a_link_is_told() {
        let (mut links, link, _peer, mut events) = pair().await;
        links.stream_snapshot(link, Box::new(Broken(false)));
        links.flush();
        let Some(Event::Fail { reason, .. }) = events.recv().await else { panic!("something else was told") };
        assert_eq!(reason, "a link between servers has panicked: on purpose");
    }

    /// Never ends; tells when it is dropped.
    struct Endless(#[expect(dead_code, reason = "its end is the news")] Sender<()>);

    impl ChunkSource for Endless {
        fn next_chunk(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> Chunk {
            out.resize(out.len() + bytes_max, 7);
            Chunk::More
        }
    }

    #[tokio::test]
    async fn a_closed_link_lets_go_of_its_snapshot_though_the_peer_does_not_read() {
        let (mut links, link, _peer, _inputs) = pair().await;
        let (source, dropped) = channel();
        links.stream_snapshot(link, Box::new(Endless(source)));
        links.flush();
        links.close(link);
        links.flush();
        drop(links);
        let gone = async {
            while dropped.try_recv() != Err(TryRecvError::Disconnected) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
    }
}
