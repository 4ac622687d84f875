//! The election port: one connection for each pair of servers, kept by the one with the larger id.
//!
//! The side that has something to say connects and writes INITIAL. If its id is the smaller one it closes at once and
//! waits for the other to connect back; the accepting side closes too and does so. For each server only the newest
//! unsent message is kept, and the last one is sent again on a fresh connection, since nobody knows whether the old
//! connection lost it. What is easy to get wrong: when both sides connect at the same moment, the larger one must not
//! throw away the connection that it has just made, or both would go on replacing each other's.
//!
//! A server that is not in the configuration is answered, for it may be about to join, but anybody can say that he is
//! one: there are at most [`STRANGERS_MAX`] of them, and one whose connection has ended is forgotten.
//!
//! ZooKeeper: `QuorumCnxManager`.

use super::net_faults::{Line, Network, Pair};
use super::shared::Event;
use super::task;
use crate::jute::Reader;
use crate::records::HostPort;
use crate::records::{Initial, NOTIFICATION_BYTES_MAX, Notification, ServerId};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

/// First pause after a failed connect; doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_millis(100);
/// How long the smaller side waits to be connected back, and how long a connection counts as just made.
const CONNECT_BACK: Duration = Duration::from_millis(500);

/// Servers that are in no configuration, at most; of more the one that was heard of first is forgotten.
const STRANGERS_MAX: usize = 64;
/// Connections whose other side has not said who it is, at most; of more the oldest is closed, since members say it at
/// once.
const NAMELESS_MAX: usize = 64;
/// Room for a read; a notification takes some hundred bytes.
const READ_BYTES: usize = 1 << 10;

/// What the links need to know.
#[derive(Clone, Debug)]
pub struct ElectionConfig {
    pub my_id: ServerId,
    /// Election addresses of all members; this server's own goes into INITIAL.
    pub servers: BTreeMap<ServerId, HostPort>,
    pub connect_timeout: Duration,
    /// How long an accepted connection may take to send INITIAL.
    pub initial_timeout: Duration,
}

/// What happens on the election port.
#[derive(Debug, PartialEq, Eq)]
pub enum ElectionEvent {
    Message {
        from: ServerId,
        notification: Notification,
    },
    /// The connection is open, or is known to be closed or refused.
    Link {
        server: ServerId,
        up: bool,
    },
}

/// The handle: what the core says to the links.
pub struct ElectionLinks {
    inbox: mpsc::UnboundedSender<Internal>,
}

impl ElectionLinks {
    /// Starts the links on the current runtime. `events` is called on it for whatever happens; a panic of a task goes to
    /// `panics`.
    pub fn start(
        config: ElectionConfig,
        network: Network,
        listener: TcpListener,
        panics: mpsc::UnboundedSender<Event>,
        events: impl Fn(ElectionEvent) + Send + Sync + 'static,
    ) -> ElectionLinks {
        let (inbox, internal) = mpsc::unbounded_channel();
        let manager = Manager {
            config,
            network,
            panics: panics.clone(),
            events: Arc::new(events),
            inbox: inbox.clone(),
            peers: BTreeMap::new(),
            looking: true,
            links_made: 0,
            nameless: VecDeque::new(),
        };
        task::spawn("the election port", &panics, manager.run(listener, internal));
        ElectionLinks { inbox }
    }

    /// Sends to `to`, or replaces what is still unsent.
    pub fn send(&self, to: ServerId, notification: Notification) {
        let _ = self.inbox.send(Internal::Send { to, notification });
    }

    /// While this server is looking for a leader, refused connects are tried again by themselves.
    pub fn set_looking(&self, looking: bool) {
        let _ = self.inbox.send(Internal::Looking(looking));
    }
}

/// What the manager's task is told: by the core, and by the tasks of its connections.
enum Internal {
    Send { to: ServerId, notification: Notification },
    Looking(bool),
    Accepted { initial: Initial, accepted: Accepted },
    Dialed { server: ServerId, result: io::Result<TcpStream> },
    Closed { server: ServerId, link: u64, reason: String },
}

/// A connection whose other side has said who it is.
struct Accepted {
    stream: TcpStream,
    pair: Pair,
    line: Line,
    /// What was read behind INITIAL.
    rest: Vec<u8>,
}

/// The newest unsent message for a server.
#[derive(Default)]
struct Slot {
    message: Mutex<Option<Vec<u8>>>,
    filled: Notify,
}

impl Slot {
    fn put(&self, message: Vec<u8>) {
        *self.message.lock().expect("no panic while it is held") = Some(message);
        self.filled.notify_one();
    }

    fn is_empty(&self) -> bool {
        self.message.lock().expect("no panic while it is held").is_none()
    }

    fn newest(&self) -> Option<Vec<u8>> {
        self.message.lock().expect("no panic while it is held").take()
    }

    async fn take(&self) -> Vec<u8> {
        loop {
            if let Some(message) = self.newest() {
                return message;
            }
            self.filled.notified().await;
        }
    }
}

/// A connection in use.
struct Link {
    number: u64,
    made: Instant,
    reader: AbortHandle,
    writer: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

/// What is known of one other server.
struct Peer {
    /// The configured address, or what its INITIAL says.
    addr: Option<HostPort>,
    slot: Arc<Slot>,
    last: Option<Vec<u8>>,
    link: Option<Link>,
    dialing: bool,
    /// After the next failed connect.
    pause: Duration,
    retry_at: Option<Instant>,
    /// When it was first heard of: the number of links made until then.
    since: u64,
}

type Events = Arc<dyn Fn(ElectionEvent) + Send + Sync>;

struct Manager {
    config: ElectionConfig,
    network: Network,
    panics: mpsc::UnboundedSender<Event>,
    events: Events,
    inbox: mpsc::UnboundedSender<Internal>,
    peers: BTreeMap<ServerId, Peer>,
    looking: bool,
    links_made: u64,
    /// Accepted connections whose other side has not said who it is, oldest first.
    nameless: VecDeque<AbortHandle>,
}

impl Manager {
    async fn run(mut self, listener: TcpListener, mut internal: mpsc::UnboundedReceiver<Internal>) {
        loop {
            let retry = self.peers.values().filter_map(|peer| peer.retry_at).min();
            tokio::select! {
                biased;
                message = internal.recv() => match message {
                    Some(message) => self.on(message),
                    None => return,
                },
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.on_accept(stream),
                    // Out of file descriptors, or the other side has gone: neither ends the listener.
                    Err(_) => tokio::time::sleep(RETRY_MIN).await,
                },
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => self.on_retry(),
            }
        }
    }

    fn on(&mut self, message: Internal) {
        match message {
            Internal::Send { to, notification } => self.on_send(to, &notification),
            Internal::Looking(looking) => self.on_looking(looking),
            Internal::Accepted { initial, accepted } => self.on_initial(&initial, accepted),
            Internal::Dialed { server, result } => self.on_dialed(server, result),
            Internal::Closed { server, link, reason } => self.on_closed(server, link, &reason),
        }
    }

    fn peer(&mut self, server: ServerId) -> &mut Peer {
        if !self.is_known(server) && !self.peers.contains_key(&server) {
            self.make_room();
        }
        let since = self.links_made;
        let addr = self.config.servers.get(&server);
        self.peers.entry(server).or_insert_with(|| Peer {
            addr: addr.cloned(),
            slot: Arc::default(),
            last: None,
            link: None,
            dialing: false,
            pause: RETRY_MIN,
            retry_at: None,
            since,
        })
    }

    /// Whether it is in the configuration.
    fn is_known(&self, server: ServerId) -> bool {
        self.config.servers.contains_key(&server)
    }

    /// Forgets strangers until there is room for one more: first those that have no connection.
    fn make_room(&mut self) {
        loop {
            let strangers = self.peers.iter().filter(|(id, _)| !self.config.servers.contains_key(id));
            let strangers: Vec<_> = strangers.map(|(&id, peer)| (peer.link.is_some(), peer.since, id)).collect();
            let (true, Some(&(_, _, oldest))) = (strangers.len() >= STRANGERS_MAX, strangers.iter().min()) else {
                return;
            };
            self.forget(oldest);
        }
    }

    fn forget(&mut self, server: ServerId) {
        if self.peers.remove(&server).is_some_and(|peer| peer.link.is_some()) {
            (self.events)(ElectionEvent::Link { server, up: false });
        }
    }

    fn on_send(&mut self, to: ServerId, notification: &Notification) {
        let mut message = Vec::new();
        notification.write(&mut message);
        let peer = self.peer(to);
        peer.last = Some(message.clone());
        peer.slot.put(message);
        if peer.link.is_none() && peer.retry_at.is_none() {
            self.dial(to);
        }
    }

    fn on_looking(&mut self, looking: bool) {
        self.looking = looking;
        for peer in self.peers.values_mut() {
            peer.pause = RETRY_MIN;
            peer.retry_at = (looking && peer.link.is_none() && !peer.slot.is_empty()).then(Instant::now);
        }
    }

    fn on_accept(&mut self, stream: TcpStream) {
        self.nameless.retain(|task| !task.is_finished());
        if self.nameless.len() >= NAMELESS_MAX
            && let Some(oldest) = self.nameless.pop_front()
        {
            oldest.abort();
        }
        let (inbox, limit) = (self.inbox.clone(), self.config.initial_timeout);
        let pair = self.network.accepted(&stream);
        let task = task::spawn("an accepted election connection", &self.panics, async move {
            let (mut stream, mut line) = (stream, pair.line());
            if let Ok(Some((initial, rest))) = timeout(limit, read_initial(&mut line, &mut stream)).await {
                let _ = inbox.send(Internal::Accepted { initial, accepted: Accepted { stream, pair, line, rest } });
            }
        });
        self.nameless.push_back(task);
    }

    /// The other side has said who it is.
    fn on_initial(&mut self, initial: &Initial, accepted: Accepted) {
        let server = initial.server;
        let my_id = self.config.my_id;
        if server == my_id {
            return tracing::warn!("a connection to the election port says that it is this server ({my_id})");
        }
        let mut told = initial.addresses.iter().flatten().filter_map(|text| HostPort::parse(text));
        let told = told.find(|addr| addr.host != "0.0.0.0" && addr.host != "::");
        let peer = self.peer(server);
        if let Some(addr) = told {
            peer.addr = Some(addr);
        }
        if server > my_id {
            return self.install(server, accepted);
        }
        drop(accepted);
        if peer.link.as_ref().is_some_and(|link| link.made.elapsed() < CONNECT_BACK) {
            return; // Both connected at the same moment: the other side has this connection by now.
        }
        peer.link = None;
        tracing::debug!("Have smaller server identifier, so dropping the connection: (myId:{my_id} --> sid:{server})");
        self.dial(server);
    }

    fn dial(&mut self, server: ServerId) {
        let initial = Initial {
            server: self.config.my_id,
            addresses: self.config.servers.get(&self.config.my_id).map(|addr| vec![addr.to_string()]),
        };
        let (inbox, limit) = (self.inbox.clone(), self.config.connect_timeout);
        let peer = self.peer(server);
        peer.retry_at = None;
        let (false, Some(addr)) = (peer.dialing, peer.addr.clone()) else {
            return;
        };
        peer.dialing = true;
        let network = self.network.clone();
        task::spawn("a connect to an election port", &self.panics, async move {
            let timed_out = || Err(io::Error::from(io::ErrorKind::TimedOut));
            let connecting = connect(&network, server, &addr, &initial);
            let result = timeout(limit, connecting).await.unwrap_or_else(|_| timed_out());
            let _ = inbox.send(Internal::Dialed { server, result });
        });
    }

    fn on_dialed(&mut self, server: ServerId, result: io::Result<TcpStream>) {
        let keeps = self.config.my_id > server;
        let looking = self.looking;
        // A stranger may have been forgotten meanwhile.
        let Some(peer) = self.peers.get_mut(&server) else { return };
        peer.dialing = false;
        match result {
            Ok(stream) if keeps => {
                let pair = self.network.pair(server);
                let line = pair.line();
                self.install(server, Accepted { stream, pair, line, rest: Vec::new() });
            }
            // It connects back; if it does not, we ask again.
            Ok(stream) => {
                if peer.link.is_none() {
                    peer.retry_at = Some(Instant::now() + CONNECT_BACK);
                }
                self.await_close(server, stream);
            }
            Err(error) => {
                if looking && peer.link.is_none() {
                    peer.retry_at = Some(Instant::now() + peer.pause);
                    peer.pause = (peer.pause * 2).min(RETRY_MAX);
                }
                if peer.link.is_none() {
                    let addr = peer.addr.as_ref().map_or_else(String::new, HostPort::to_string);
                    tracing::debug!("Cannot open channel to {server} at election address {addr}: {error}");
                    (self.events)(ElectionEvent::Link { server, up: false });
                    if !self.is_known(server) {
                        self.forget(server);
                    }
                }
            }
        }
    }

    /// The larger side closes the connection when it has read INITIAL. A reset says that nobody has read it: the server
    /// was killed after the kernel had taken the connection, and will not connect back.
    fn await_close(&self, server: ServerId, mut stream: TcpStream) {
        let inbox = self.inbox.clone();
        let pair = self.network.pair(server);
        task::spawn("a connection to a larger server", &self.panics, async move {
            let (mut line, mut bytes) = (pair.line(), Vec::new());
            let Ok(end) = timeout(CONNECT_BACK, line.read(&mut stream, &mut bytes)).await else { return };
            // If it was closed before INITIAL came, the reset is behind the end.
            if let Some(error) = end.err().or_else(|| stream.take_error().ok().flatten()) {
                let _ = inbox.send(Internal::Dialed { server, result: Err(error) });
            }
        });
    }

    fn on_retry(&mut self) {
        let now = Instant::now();
        let due = |peer: &Peer| peer.retry_at.is_some_and(|at| at <= now);
        let due: Vec<ServerId> = self.peers.iter().filter(|(_, peer)| due(peer)).map(|(&server, _)| server).collect();
        for server in due {
            let peer = self.peer(server);
            peer.retry_at = None;
            if peer.link.is_none() && !peer.slot.is_empty() {
                self.dial(server);
            }
        }
    }

    /// From now on this is the connection with `server`; an older one is dropped.
    fn install(&mut self, server: ServerId, Accepted { stream, pair, line, rest }: Accepted) {
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        self.links_made += 1;
        let number = self.links_made;
        let (inbox, events, panics) = (self.inbox.clone(), self.events.clone(), self.panics.clone());
        let peer = self.peer(server);
        if let (true, Some(last)) = (peer.slot.is_empty(), &peer.last) {
            peer.slot.put(last.clone());
        }
        peer.pause = RETRY_MIN;
        peer.retry_at = None;
        (events)(ElectionEvent::Link { server, up: true });

        let closed = inbox.clone();
        let reader = task::spawn("an election link", &panics, async move {
            let reason = receive(read, line, rest, server, &events)
                .await
                .err()
                .map_or_else(String::new, |error| error.to_string());
            let _ = closed.send(Internal::Closed { server, link: number, reason });
        });
        let slot = peer.slot.clone();
        let writer = task::spawn("an election link", &panics, async move {
            let reason = transmit(write, &slot, &pair).await.to_string();
            let _ = inbox.send(Internal::Closed { server, link: number, reason });
        });
        let made = Instant::now();
        peer.link = Some(Link { number, made, reader, writer });
    }

    fn on_closed(&mut self, server: ServerId, link: u64, reason: &str) {
        let Some(peer) = self.peers.get_mut(&server) else { return };
        if peer.link.as_ref().is_none_or(|current| current.number != link) {
            return; // It had been replaced.
        }
        if !self.config.servers.contains_key(&server) {
            tracing::debug!("Connection broken for id {server}: {reason}");
            return self.forget(server);
        }
        tracing::debug!("Connection broken for id {server}: {reason}");
        peer.link = None;
        let unsent = !peer.slot.is_empty();
        (self.events)(ElectionEvent::Link { server, up: false });
        if unsent {
            self.dial(server);
        }
    }
}

/// Connects and says who we are, in one write: Apache's servers read INITIAL in one read.
async fn connect(network: &Network, server: ServerId, addr: &HostPort, initial: &Initial) -> io::Result<TcpStream> {
    let mut stream = network.connect(server, addr).await?;
    let mut bytes = Vec::new();
    initial.write(&mut bytes);
    stream.write_all(&bytes).await?;
    Ok(stream)
}

/// INITIAL and what was read behind it; `None` if the connection ends before it or says something else.
async fn read_initial(line: &mut Line, stream: &mut (impl AsyncRead + Unpin)) -> Option<(Initial, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        bytes.reserve(READ_BYTES);
        if line.read(stream, &mut bytes).await.ok()? == 0 {
            return None;
        }
        let mut from = Reader::new(&bytes);
        if let Some(initial) = Initial::take(&mut from).ok()? {
            return Some((initial, from.rest().to_vec()));
        }
    }
}

/// Hands on what the other side says until the connection ends; `bytes` have been read already.
async fn receive(
    mut read: OwnedReadHalf,
    mut line: Line,
    mut bytes: Vec<u8>,
    from: ServerId,
    events: &Events,
) -> io::Result<()> {
    loop {
        while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            if length == 0 || length > NOTIFICATION_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("invalid message length {length}")));
            }
            // Room is made for what is really there, not for the length that is told.
            let Some(message) = rest.get(..length) else { break };
            match Notification::decode(message) {
                Ok(notification) => events(ElectionEvent::Message { from, notification }),
                Err(error) => {
                    tracing::warn!("skipping a notification of server {from} that is no notification: {error}");
                }
            }
            bytes.drain(..4 + length);
        }
        bytes.reserve(READ_BYTES);
        if line.read(&mut read, &mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Writes the newest message, whenever there is one; ends with the error.
async fn transmit(mut write: OwnedWriteHalf, slot: &Slot, pair: &Pair) -> io::Error {
    loop {
        let mut message = slot.take().await;
        if pair.is_cut() {
            pair.open().await;
            message = slot.newest().unwrap_or(message);
        }
        if let Err(error) = write.write_all(&message).await {
            return error;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{NotificationForm, PeerState, Zxid};
    use tokio::io::AsyncReadExt;

    /// A server's election port with what happened on it.
    struct Port {
        links: ElectionLinks,
        events: mpsc::UnboundedReceiver<ElectionEvent>,
    }

    impl Port {
        /// The next message, past news of links.
        async fn message(&mut self) -> (i64, i64) {
            loop {
                if let ElectionEvent::Message { from, notification } = self.events.recv().await.unwrap() {
                    return (from.0, notification.election_epoch);
                }
            }
        }

        async fn link_news(&mut self) -> (i64, bool) {
            loop {
                if let ElectionEvent::Link { server, up } = self.events.recv().await.unwrap() {
                    return (server.0, up);
                }
            }
        }
    }

    fn vote(round: i64) -> Notification {
        Notification {
            state: PeerState::Looking,
            leader: ServerId(1),
            zxid: Zxid(0),
            election_epoch: round,
            peer_epoch: 0,
            form: NotificationForm::V2 { version: 2, config: "version=0".to_owned() },
        }
    }

    async fn listeners(count: usize) -> (Vec<TcpListener>, BTreeMap<ServerId, HostPort>) {
        let mut listeners = Vec::new();
        let mut servers = BTreeMap::new();
        for id in 1..=count {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            servers.insert(ServerId(id as i64), HostPort::new("127.0.0.1", listener.local_addr().unwrap().port()));
            listeners.push(listener);
        }
        (listeners, servers)
    }

    fn config(id: i64, servers: &BTreeMap<ServerId, HostPort>) -> ElectionConfig {
        ElectionConfig {
            my_id: ServerId(id),
            servers: servers.clone(),
            connect_timeout: Duration::from_secs(5),
            initial_timeout: Duration::from_secs(5),
        }
    }

    fn start(id: i64, listener: TcpListener, servers: &BTreeMap<ServerId, HostPort>) -> Port {
        let (sender, events) = mpsc::unbounded_channel();
        let config = config(id, servers);
        let (panics, _) = mpsc::unbounded_channel();
        let links = ElectionLinks::start(config, Network::default(), listener, panics, move |event| {
            let _ = sender.send(event);
        });
        Port { links, events }
    }

    #[tokio::test]
    async fn a_panic_of_a_link_is_told() {
        let (mut listeners, servers) = listeners(2).await;
        let (_second, first) = (listeners.pop().unwrap(), listeners.pop().unwrap());
        let config = config(1, &servers);
        let (panics, mut told) = mpsc::unbounded_channel();
        let _links = ElectionLinks::start(config, Network::default(), first, panics, |event| panic!("{event:?}"));
        let initial = Initial { server: ServerId(2), addresses: None };
        let _link = connect(&Network::default(), ServerId(1), &servers[&ServerId(1)], &initial).await.unwrap();
        let Some(Event::Fail { reason, .. }) = told.recv().await else { panic!("something else was told") };
        assert!(reason.starts_with("the election port has panicked: Link"), "{reason}");
    }

    #[tokio::test]
    async fn votes_go_both_ways_whoever_speaks_first() {
        let (listeners, servers) = listeners(3).await;
        let mut ports: Vec<Port> = (1..).zip(listeners).map(|(id, listener)| start(id, listener, &servers)).collect();
        for from in 1..=3 {
            for to in (1..=3).filter(|&to| to != from) {
                ports[from as usize - 1].links.send(ServerId(to), vote(from * 10 + to));
            }
        }
        for (me, port) in (1..).zip(&mut ports) {
            let mut missing: Vec<(i64, i64)> =
                (1..=3).filter(|&from| from != me).map(|from| (from, from * 10 + me)).collect();
            while !missing.is_empty() {
                let message = port.message().await;
                missing.retain(|wanted| *wanted != message);
            }
        }
    }

    #[tokio::test]
    async fn the_smaller_side_is_closed_and_connected_back_at_the_address_it_tells() {
        let (mut listeners, mut servers) = listeners(2).await;
        let (second, first) = (listeners.pop().unwrap(), listeners.pop().unwrap());
        let told = servers.insert(ServerId(1), HostPort::new("127.0.0.1", 1)).unwrap();
        let mut port = start(2, second, &servers);
        let initial = Initial { server: ServerId(1), addresses: Some(vec![told.to_string()]) };
        let mut mine = connect(&Network::default(), ServerId(2), &servers[&ServerId(2)], &initial).await.unwrap();
        assert_eq!(mine.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

        let (mut back, _) = first.accept().await.unwrap();
        let (initial, rest) = read_initial(&mut Line::default(), &mut back).await.unwrap();
        assert_eq!((initial.server, rest.len()), (ServerId(2), 0));
        assert_eq!(port.link_news().await, (1, true));
        let mut bytes = Vec::new();
        vote(7).write(&mut bytes);
        back.write_all(&bytes).await.unwrap();
        assert_eq!(port.message().await, (1, 7));
    }

    #[tokio::test]
    async fn a_refused_connect_is_told_at_once_and_the_newest_vote_arrives_when_the_server_is_there() {
        let (mut listeners, servers) = listeners(2).await;
        let first = start(1, listeners.remove(0), &servers);
        let addr = listeners.remove(0).local_addr().unwrap(); // The listener is dropped: connects are refused.
        let mut first = first;
        first.links.send(ServerId(2), vote(1));
        assert_eq!(first.link_news().await, (2, false));
        first.links.send(ServerId(2), vote(2));

        let mut second = start(2, TcpListener::bind(addr).await.unwrap(), &servers);
        assert_eq!(second.message().await, (1, 2));
        while first.link_news().await != (2, true) {} // Retries may have been refused before.
    }

    /// The larger server was killed when the kernel had taken the connection for it already.
    #[tokio::test]
    async fn a_dial_that_nobody_has_read_is_told_as_a_closed_link() {
        let (mut listeners, servers) = listeners(2).await;
        let (second, first) = (listeners.pop().unwrap(), listeners.pop().unwrap());
        let mut first = start(1, first, &servers);
        first.links.send(ServerId(2), vote(1));
        let (taken, _) = second.accept().await.unwrap();
        drop(second);
        taken.peek(&mut [0]).await.unwrap(); // INITIAL is there; closing now is a reset.
        drop(taken);
        let told = timeout(CONNECT_BACK / 2, first.link_news()).await.expect("it was not noticed at once");
        assert_eq!(told, (2, false));
    }

    #[tokio::test]
    async fn a_broken_connection_is_told_and_the_last_message_is_sent_again_on_the_next() {
        let (mut listeners, servers) = listeners(2).await;
        let (second, first) = (listeners.pop().unwrap(), listeners.pop().unwrap());
        let mut first = start(1, first, &servers);
        let initial = Initial { server: ServerId(2), addresses: None };
        let mut link = connect(&Network::default(), ServerId(1), &servers[&ServerId(1)], &initial).await.unwrap();
        assert_eq!(first.link_news().await, (2, true));
        first.links.send(ServerId(2), vote(5));
        let length = link.read_i32().await.unwrap();
        assert!(length > 40);
        drop(link);
        assert_eq!(first.link_news().await, (2, false));

        let mut second = start(2, second, &servers);
        second.links.send(ServerId(1), vote(6));
        assert_eq!(first.message().await, (2, 6));
        assert_eq!(second.message().await, (1, 5));
    }

    #[tokio::test]
    async fn of_more_strangers_than_there_may_be_the_first_is_forgotten_and_members_are_not() {
        let (mut listeners, servers) = listeners(2).await;
        let (second, first) = (listeners.pop().unwrap(), listeners.pop().unwrap());
        let (mut first, network) = (start(1, first, &servers), Network::default());
        let mut second = start(2, second, &servers);
        second.links.send(ServerId(1), vote(1));
        assert_eq!(first.message().await, (2, 1));
        let mut strangers = Vec::new();
        for id in (1000..).take(STRANGERS_MAX + 2) {
            let initial = Initial { server: ServerId(id), addresses: Some(vec!["127.0.0.1:9".to_owned()]) };
            strangers.push(connect(&network, ServerId(1), &servers[&ServerId(1)], &initial).await.unwrap());
            if strangers.len() > STRANGERS_MAX {
                assert_eq!(first.link_news().await, (id - STRANGERS_MAX as i64, false));
            }
            assert_eq!(first.link_news().await, (id, true));
        }
        assert_eq!(strangers[0].read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        first.links.send(ServerId(2), vote(2));
        assert_eq!(second.message().await, (1, 2));
    }

    #[tokio::test]
    async fn of_more_connections_that_say_nothing_than_there_may_be_the_first_is_closed() {
        let (mut listeners, servers) = listeners(2).await;
        let mut first = start(1, listeners.remove(0), &servers);
        let addr = format!("127.0.0.1:{}", servers[&ServerId(1)].port);
        let mut silent = Vec::new();
        for _ in 0..=NAMELESS_MAX {
            silent.push(TcpStream::connect(&addr).await.unwrap());
        }
        assert_eq!(silent[0].read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let initial = Initial { server: ServerId(2), addresses: None };
        let _link = connect(&Network::default(), ServerId(1), &servers[&ServerId(1)], &initial).await.unwrap();
        assert_eq!(first.link_news().await, (2, true));
    }

    #[tokio::test]
    async fn a_length_that_cannot_be_ends_the_connection_and_a_strange_message_does_not() {
        let (mut listeners, servers) = listeners(2).await;
        let mut first = start(1, listeners.remove(0), &servers);
        let initial = Initial { server: ServerId(2), addresses: None };
        let mut link = connect(&Network::default(), ServerId(1), &servers[&ServerId(1)], &initial).await.unwrap();
        assert_eq!(first.link_news().await, (2, true));
        link.write_all(&[0, 0, 0, 3, 9, 9, 9]).await.unwrap();
        let mut bytes = Vec::new();
        vote(8).write(&mut bytes);
        link.write_all(&bytes).await.unwrap();
        assert_eq!(first.message().await, (2, 8));
        link.write_all(&(NOTIFICATION_BYTES_MAX as i32 + 1).to_be_bytes()).await.unwrap();
        assert_eq!(first.link_news().await, (2, false));
    }
}
