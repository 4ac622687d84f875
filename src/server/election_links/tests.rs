//! Real sockets on loopback, with servers of ours and with scripted ones.

use super::manager::CONNECT_BACK;
use super::strangers::{NAMELESS_MAX, STRANGERS_MAX};
use super::*;
use crate::jute::Reader;
use crate::records::{InitialAddresses, NOTIFICATION_BYTES_MAX, NotificationForm, PeerState, Zxid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

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

fn addr_of(listener: &TcpListener) -> HostPort {
    HostPort::new("127.0.0.1", listener.local_addr().unwrap().port())
}

/// Connects as `server` to the election port of another one.
async fn connect(to: &[HostPort], server: i64, addresses: InitialAddresses) -> TcpStream {
    let mut stream = TcpStream::connect((to[0].host.as_str(), to[0].port)).await.unwrap();
    let mut bytes = Vec::new();
    Initial { server: ServerId(server), addresses }.write(&mut bytes);
    stream.write_all(&bytes).await.unwrap();
    stream
}

/// What a connection begins with.
async fn read_initial(stream: &mut TcpStream) -> Initial {
    let mut bytes = Vec::new();
    loop {
        bytes.push(stream.read_u8().await.unwrap());
        if let Some(initial) = Initial::take(&mut Reader::new(&bytes)).unwrap() {
            return initial;
        }
    }
}

async fn listeners(count: usize) -> (Vec<TcpListener>, Members) {
    let mut listeners = Vec::new();
    let mut servers = BTreeMap::new();
    for id in 1..=count {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        servers.insert(ServerId(id as i64), vec![addr_of(&listener)]);
        listeners.push(listener);
    }
    (listeners, servers)
}

fn config(id: i64, servers: &Members) -> ElectionConfig {
    ElectionConfig {
        my_id: ServerId(id),
        members: servers.clone(),
        multi_address: false,
        reachability_timeout: Duration::from_secs(1),
        security: Arc::default(),
        connect_timeout: Duration::from_secs(5),
        initial_timeout: Duration::from_secs(5),
    }
}

fn start(id: i64, listener: TcpListener, servers: &Members) -> Port {
    start_with(config(id, servers), vec![listener])
}

fn start_with(config: ElectionConfig, listeners: Vec<TcpListener>) -> Port {
    let (sender, events) = mpsc::unbounded_channel();
    let (panics, _) = mpsc::unbounded_channel();
    let links = ElectionLinks::start(config, Network::default(), listeners, panics, move |event| {
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
    let _links = ElectionLinks::start(config, Network::default(), vec![first], panics, |event| panic!("{event:?}"));
    let _link = connect(&servers[&ServerId(1)], 2, InitialAddresses::None).await;
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
    let told = servers.insert(ServerId(1), vec![HostPort::new("127.0.0.1", 1)]).unwrap();
    let mut port = start(2, second, &servers);
    let told = InitialAddresses::One(told[0].to_string());
    let mut mine = connect(&servers[&ServerId(2)], 1, told).await;
    assert_eq!(mine.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

    let (mut back, _) = first.accept().await.unwrap();
    assert_eq!(read_initial(&mut back).await.server, ServerId(2));
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
    let mut link = connect(&servers[&ServerId(1)], 2, InitialAddresses::None).await;
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
    let mut first = start(1, first, &servers);
    let mut second = start(2, second, &servers);
    second.links.send(ServerId(1), vote(1));
    assert_eq!(first.message().await, (2, 1));
    let mut strangers = Vec::new();
    for id in (1000..).take(STRANGERS_MAX + 2) {
        let told = InitialAddresses::One("127.0.0.1:9".to_owned());
        strangers.push(connect(&servers[&ServerId(1)], id, told).await);
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
    let addr = servers[&ServerId(1)][0].to_string();
    let mut silent = Vec::new();
    for _ in 0..=NAMELESS_MAX {
        silent.push(TcpStream::connect(&addr).await.unwrap());
    }
    assert_eq!(silent[0].read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let _link = connect(&servers[&ServerId(1)], 2, InitialAddresses::None).await;
    assert_eq!(first.link_news().await, (2, true));
}

#[tokio::test]
async fn a_length_that_cannot_be_ends_the_connection_and_a_strange_message_does_not() {
    let (mut listeners, servers) = listeners(2).await;
    let mut first = start(1, listeners.remove(0), &servers);
    let mut link = connect(&servers[&ServerId(1)], 2, InitialAddresses::None).await;
    assert_eq!(first.link_news().await, (2, true));
    link.write_all(&[0, 0, 0, 3, 9, 9, 9]).await.unwrap();
    let mut bytes = Vec::new();
    vote(8).write(&mut bytes);
    link.write_all(&bytes).await.unwrap();
    assert_eq!(first.message().await, (2, 8));
    link.write_all(&(NOTIFICATION_BYTES_MAX as i32 + 1).to_be_bytes()).await.unwrap();
    assert_eq!(first.link_news().await, (2, false));
}

#[tokio::test]
async fn a_server_with_several_addresses_tells_all_of_them_and_is_reached_at_any() {
    let (mut listeners, mut servers) = listeners(3).await;
    let (another, second, first) = (listeners.pop().unwrap(), listeners.pop().unwrap(), listeners.pop().unwrap());
    servers.remove(&ServerId(3));
    let refusing = HostPort::new("127.0.0.1", 1);
    // Server 2 is dialed at an address where nobody is, and then at one of its two that are.
    servers.insert(ServerId(2), vec![refusing, addr_of(&second), addr_of(&another)]);
    let multi = |id| ElectionConfig { multi_address: true, ..config(id, &servers) };
    let second = start_with(multi(2), vec![second, another]);
    second.links.send(ServerId(1), vote(7));
    let (mut back, _) = first.accept().await.unwrap();
    let addresses = servers[&ServerId(2)].iter().map(HostPort::to_string).collect();
    assert_eq!(read_initial(&mut back).await.addresses, InitialAddresses::Several(addresses));

    let mut first = start_with(multi(1), vec![first]);
    first.links.send(ServerId(2), vote(1));
    drop(back);
    assert_eq!(first.message().await, (2, 7));
}

#[tokio::test]
async fn wildcards_in_what_a_server_tells_are_no_addresses_and_nonsense_ends_the_connection() {
    let (mut listeners, servers) = listeners(2).await;
    let (second, first) = (listeners.pop().unwrap(), listeners.pop().unwrap());
    let _port = start(2, second, &servers);
    for told in ["0.0.0.0:1|[::]:2", "nonsense", "[::1:3", "a:b"] {
        let mut mine = connect(&servers[&ServerId(2)], 1, InitialAddresses::One(told.to_owned())).await;
        assert_eq!(mine.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let back = timeout(Duration::from_millis(50), first.accept()).await;
        assert_eq!(back.is_ok(), told.starts_with('0'), "at the configured address, if that is meant: {told}");
    }
}

#[tokio::test]
async fn members_may_change_and_a_new_one_is_reached_where_it_is() {
    let (mut listeners, servers) = listeners(2).await;
    let (second, first) = (listeners.pop().unwrap(), listeners.pop().unwrap());
    let mut old = servers.clone();
    old.remove(&ServerId(2));
    let first = start(1, first, &old);
    let mut second = start(2, second, &servers);
    first.links.send(ServerId(2), vote(1));
    first.links.set_members(servers, None);
    first.links.send(ServerId(2), vote(3));
    assert_eq!(second.message().await, (1, 3));
}
