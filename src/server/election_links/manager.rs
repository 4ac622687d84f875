//! Who connects to whom, when again, and which connection is the one with a server.

use super::link::{Link, Slot, receive, transmit};
use super::strangers::{Anonymous, Nameless, to_forget};
use super::{ElectionConfig, ElectionEvent, Events, Internal, Members, NewPorts};
use crate::jute::Reader;
use crate::records::{HostPort, Initial, InitialAddresses, Notification, ServerId};
use crate::server::channel::Channel;
use crate::server::dial::dial;
use crate::server::net_faults::Network;
use crate::server::shared::Event;
use crate::server::task;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

/// First pause after a failed connect; doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_millis(100);
/// How long the smaller side waits to be connected back, and how long a connection counts as just made.
pub const CONNECT_BACK: Duration = Duration::from_millis(500);

/// What is known of one other server.
pub struct Peer {
    /// What its last INITIAL has said, if that was anything; it counts where the configuration does not reach it.
    told: Vec<HostPort>,
    slot: Arc<Slot>,
    last: Option<Vec<u8>>,
    pub link: Option<Link>,
    dialing: bool,
    /// After the next failed connect.
    pause: Duration,
    retry_at: Option<Instant>,
    /// When it was first heard of: the number of links made until then.
    pub since: u64,
}

pub struct Manager {
    config: ElectionConfig,
    network: Network,
    panics: mpsc::UnboundedSender<Event>,
    events: Events,
    inbox: mpsc::UnboundedSender<Internal>,
    peers: BTreeMap<ServerId, Peer>,
    looking: bool,
    links_made: u64,
    nameless: Nameless,
    anonymous: Anonymous,
    /// The tasks that accept connections.
    listening: Vec<AbortHandle>,
}

impl Manager {
    pub fn new(
        config: ElectionConfig,
        network: Network,
        panics: mpsc::UnboundedSender<Event>,
        events: Events,
        inbox: mpsc::UnboundedSender<Internal>,
    ) -> Manager {
        let (peers, nameless, anonymous, listening) = Default::default();
        let (looking, links_made) = (true, 0);
        Manager { config, network, panics, events, inbox, peers, looking, links_made, nameless, anonymous, listening }
    }

    pub async fn run(mut self, listeners: Vec<TcpListener>, mut internal: mpsc::UnboundedReceiver<Internal>) {
        listeners.into_iter().for_each(|listener| self.listen(listener));
        loop {
            let retry = self.peers.values().filter_map(|peer| peer.retry_at).min();
            tokio::select! {
                biased;
                message = internal.recv() => match message {
                    Some(message) => self.on(message),
                    None => return,
                },
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => self.on_retry(),
            }
        }
    }

    fn on(&mut self, message: Internal) {
        match message {
            Internal::Send { to, notification } => self.on_send(to, &notification),
            Internal::Looking(looking) => self.on_looking(looking),
            Internal::Members { members, ports } => self.on_members(members, ports),
            Internal::Accepting { stream } => self.on_accept(stream),
            Internal::Accepted { initial, channel } => self.on_initial(&initial, *channel),
            Internal::Dialed { server, result } => self.on_dialed(server, result),
            Internal::Closed { server, link, reason } => self.on_closed(server, link, &reason),
        }
    }

    fn listen(&mut self, listener: TcpListener) {
        let (inbox, security) = (self.inbox.clone(), self.config.security.clone());
        let listening = task::spawn("the election port", &self.panics, async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => _ = inbox.send(Internal::Accepting { stream }),
                    // Out of file descriptors, or the other side has gone: neither ends the listener.
                    Err(error) => {
                        security.tell_failure("cannot accept at the election port", &error);
                        tokio::time::sleep(RETRY_MIN).await;
                    }
                }
            }
        });
        self.listening.push(listening);
    }

    /// What a server has said about its addresses counts until the configuration says others.
    fn on_members(&mut self, members: Members, ports: Option<NewPorts>) {
        for (server, peer) in &mut self.peers {
            if members.get(server).is_some_and(|addrs| self.config.members.get(server) != Some(addrs)) {
                peer.told.clear();
            }
        }
        self.config.members = members;
        let Some(NewPorts { listeners, replace }) = ports else { return };
        if replace {
            self.listening.drain(..).for_each(|task| task.abort());
        }
        for listener in listeners {
            match listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)) {
                Ok(listener) => self.listen(listener),
                Err(error) => tracing::error!("the new election port cannot be used: {error}"),
            }
        }
    }

    fn peer(&mut self, server: ServerId) -> &mut Peer {
        if !self.is_member(server) && !self.peers.contains_key(&server) {
            while let Some(oldest) = to_forget(&self.peers, &self.config.members) {
                self.forget(oldest);
            }
        }
        let since = self.links_made;
        self.peers.entry(server).or_insert_with(|| Peer {
            told: Vec::new(),
            slot: Arc::default(),
            last: None,
            link: None,
            dialing: false,
            pause: RETRY_MIN,
            retry_at: None,
            since,
        })
    }

    fn is_member(&self, server: ServerId) -> bool {
        self.config.members.contains_key(&server)
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
        self.nameless.make_room();
        let (inbox, limit) = (self.inbox.clone(), self.config.initial_timeout);
        let channel = Channel::new(stream, self.network.clone());
        let security = self.config.security.clone();
        let task = task::spawn("an accepted election connection", &self.panics, async move {
            let ip = channel.peer_ip();
            let greeting = async {
                let mut channel = security.accept(channel).await?;
                let initial = read_initial(&mut channel).await?;
                security.authenticate(&mut channel).await?;
                Ok((initial, channel))
            };
            match timeout(limit, greeting).await {
                Ok(Ok((initial, channel))) => {
                    let _ = inbox.send(Internal::Accepted { initial, channel: Box::new(channel) });
                }
                Ok(Err(error)) => security.tell(&error),
                Err(_) => security.tell_silence("the election port", ip),
            }
        });
        self.nameless.add(task);
    }

    /// The other side has said who it is.
    fn on_initial(&mut self, initial: &Initial, channel: Channel) {
        let server = self.anonymous.name(initial.server);
        let my_id = self.config.my_id;
        if server == my_id {
            return tracing::warn!("a connection to the election port says that it is this server ({my_id})");
        }
        // One that cannot be read ends the connection: whatever comes next would not be understood either.
        let texts = initial.addresses.texts();
        let told: Option<Vec<HostPort>> = texts.iter().map(|text| HostPort::parse(text)).collect();
        let Some(mut told) = told else {
            return tracing::warn!("server {server} says that its election address is {texts:?}");
        };
        told.retain(|addr| !addr.is_wildcard());
        let peer = self.peer(server);
        peer.told = told;
        if server > my_id {
            return self.install(server, channel);
        }
        drop(channel);
        if peer.link.as_ref().is_some_and(|link| link.made.elapsed() < CONNECT_BACK) {
            return; // Both connected at the same moment: the other side has this connection by now.
        }
        peer.link = None;
        tracing::debug!("Have smaller server identifier, so dropping the connection: (myId:{my_id} --> sid:{server})");
        self.dial(server);
    }

    /// Where to connect: what the server itself says is newest, the configuration is ours.
    fn addresses(&self, server: ServerId) -> Vec<HostPort> {
        let mut addrs = self.peers.get(&server).map(|peer| peer.told.clone()).unwrap_or_default();
        let configured = self.config.members.get(&server).into_iter().flatten();
        for addr in configured {
            if !addrs.contains(addr) {
                addrs.push(addr.clone());
            }
        }
        addrs
    }

    fn dial(&mut self, server: ServerId) {
        let my_id = self.config.my_id;
        let mine = self.config.members.get(&my_id).into_iter().flatten().map(HostPort::to_string);
        let addresses = match (self.config.multi_address, mine.collect::<Vec<_>>()) {
            (_, mine) if mine.is_empty() => InitialAddresses::None,
            (true, mine) => InitialAddresses::Several(mine),
            (false, mut mine) => InitialAddresses::One(mine.swap_remove(0)),
        };
        let initial = Initial { server: my_id, addresses };
        let (inbox, limit) = (self.inbox.clone(), self.config.connect_timeout);
        let addrs = self.addresses(server);
        let peer = self.peer(server);
        peer.retry_at = None;
        if peer.dialing || addrs.is_empty() {
            return;
        }
        peer.dialing = true;
        let (network, security) = (self.network.clone(), self.config.security.clone());
        let stagger = self.config.reachability_timeout;
        task::spawn("a connect to an election port", &self.panics, async move {
            let connecting = async {
                let (stream, addr) = dial(&network, server, &addrs, stagger).await?;
                let mut channel = security.dial(Channel::dialed(stream, network.pair(server)), &addr.host).await?;
                // In one write: Apache's servers read INITIAL in one read.
                let mut bytes = Vec::new();
                initial.write(&mut bytes);
                channel.write(&bytes).await?;
                security.log_in(&mut channel).await?;
                Ok(Box::new(channel))
            };
            let timed_out = || Err(io::Error::from(io::ErrorKind::TimedOut));
            let result = timeout(limit, connecting).await.unwrap_or_else(|_| timed_out());
            let _ = inbox.send(Internal::Dialed { server, result });
        });
    }

    fn on_dialed(&mut self, server: ServerId, result: io::Result<Box<Channel>>) {
        let keeps = self.config.my_id > server;
        let looking = self.looking;
        // A stranger may have been forgotten meanwhile.
        let Some(peer) = self.peers.get_mut(&server) else { return };
        peer.dialing = false;
        match result {
            Ok(channel) if keeps => self.install(server, *channel),
            // It connects back; if it does not, we ask again.
            Ok(channel) => {
                if peer.link.is_none() {
                    peer.retry_at = Some(Instant::now() + CONNECT_BACK);
                }
                self.await_close(server, *channel);
            }
            Err(error) => {
                if looking && peer.link.is_none() {
                    peer.retry_at = Some(Instant::now() + peer.pause);
                    peer.pause = (peer.pause * 2).min(RETRY_MAX);
                }
                if peer.link.is_some() {
                    self.config.security.tell(&error);
                } else {
                    let addrs = self.addresses(server).iter().map(HostPort::to_string).collect::<Vec<_>>().join("|");
                    let what = format_args!("Cannot open channel to {server} at election address {addrs}");
                    self.config.security.tell_failure(what, &error);
                    (self.events)(ElectionEvent::Link { server, up: false });
                    if !self.is_member(server) {
                        self.forget(server);
                    }
                }
            }
        }
    }

    /// The larger side closes the connection when it has read INITIAL. A reset says that nobody has read it: the server
    /// was killed after the kernel had taken the connection, and will not connect back.
    fn await_close(&self, server: ServerId, mut channel: Channel) {
        let inbox = self.inbox.clone();
        task::spawn("a connection to a larger server", &self.panics, async move {
            let Ok(end) = timeout(CONNECT_BACK, channel.read_more()).await else { return };
            // If it was closed before INITIAL came, the reset is behind the end.
            if let Some(error) = end.err().or_else(|| channel.take_error()) {
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
    fn install(&mut self, server: ServerId, channel: Channel) {
        let (incoming, outgoing, rest) = channel.split();
        let pair = outgoing.pair().clone();
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
            let end = receive(incoming, rest, server, &events).await;
            let reason = end.err().map_or_else(String::new, |error| error.to_string());
            let _ = closed.send(Internal::Closed { server, link: number, reason });
        });
        let slot = peer.slot.clone();
        let writer = task::spawn("an election link", &panics, async move {
            let reason = transmit(outgoing, &slot, &pair).await.to_string();
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
        tracing::debug!("Connection broken for id {server}: {reason}");
        if !self.config.members.contains_key(&server) {
            return self.forget(server);
        }
        peer.link = None;
        let unsent = !peer.slot.is_empty();
        (self.events)(ElectionEvent::Link { server, up: false });
        if unsent {
            self.dial(server);
        }
    }
}

/// INITIAL; what was read behind it stays in the channel. An error if the connection ends before it, or says something
/// else.
async fn read_initial(channel: &mut Channel) -> io::Result<Initial> {
    loop {
        let mut from = Reader::new(&channel.read);
        let taken = Initial::take(&mut from).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if let Some(initial) = taken {
            channel.consume(channel.read.len() - from.remaining());
            return Ok(initial);
        }
        if channel.read_more().await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
