//! A whole server of its own for each scenario, over sockets and files; for local sessions and the read-only mode as a
//! member of an ensemble.
//!
//! Nothing sleeps: what a step is to bring is waited for, and what comes too much is found in front of the next
//! step's frames, or at the end in front of the reply to a ping.

use super::replay::World;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use zabkit::jute::Record;
use zabkit::records::{Configuration, RequestHeader, ServerId, op};
use zabkit::server::{
    AuthConfig, Config, Ensemble, EnsembleConfig, Listeners, NodesConfig, Server, ServerAddr, SessionsConfig, Status,
};

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Socket {
    conns: BTreeMap<String, Conn>,
    addr: SocketAddr,
    _servers: Servers,
}

#[allow(dead_code, clippy::large_enum_variant, reason = "they are kept, and end with this; there is one of it")]
enum Servers {
    One(Server, tempfile::TempDir),
    /// The ports of the others, where nobody answers.
    Alone(Server, tempfile::TempDir, [TcpListener; 2]),
    Three(Ensemble),
}

struct Conn {
    stream: TcpStream,
    bytes: Vec<u8>,
    is_closed: bool,
    /// Its connect request was answered.
    is_open: bool,
}

impl Socket {
    /// The server that the scenario was recorded from.
    pub fn of(scenario: &str) -> Socket {
        let (addr, servers) = match scenario {
            "local-session" => a_follower(),
            "read-only" => without_a_quorum(),
            _ => standalone(),
        };
        Socket { conns: BTreeMap::new(), addr, _servers: servers }
    }
}

fn standalone() -> (SocketAddr, Servers) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        tick_time_ms: 2000,
        nodes: NodesConfig { extended_types: Some(true), enforce_quota: true, ..NodesConfig::default() },
        auth: AuthConfig { super_digest: Some(zabkit::tree::acl::digest_id("super:secret")), ..AuthConfig::default() },
        ..in_directory(&dir)
    };
    let server = Server::start(config, Listeners::default()).unwrap();
    wait_until(&server, |status| status.serving);
    (server.client_addr(), Servers::One(server, dir))
}

/// One of three, with local sessions that are not upgraded.
fn a_follower() -> (SocketAddr, Servers) {
    let ensemble = Ensemble::start(EnsembleConfig {
        tick_time_ms: 1000,
        max_session_timeout_ms: 20_000,
        sessions: SessionsConfig { local: true, ..SessionsConfig::default() },
        ..EnsembleConfig::default()
    });
    let ensemble = ensemble.unwrap();
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    let follower = ensemble.ids().into_iter().find(|id| *id != leader).unwrap();
    ensemble.wait_until_serving(follower, PATIENCE).unwrap();
    (ensemble.client_addr(follower).unwrap(), Servers::Three(ensemble))
}

/// One of three, alone from its beginning.
fn without_a_quorum() -> (SocketAddr, Servers) {
    let dir = tempfile::tempdir().unwrap();
    let [quorum, election, silent, other] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let line = |quorum: &TcpListener, election: &TcpListener| {
        let [quorum, election] = [quorum, election].map(|listener| listener.local_addr().unwrap().port());
        ServerAddr::parse(&format!("127.0.0.1:{quorum}:{election}")).unwrap()
    };
    let (me, others) = (line(&quorum, &election), line(&silent, &other));
    let servers = [me, others.clone(), others];
    let config = Config {
        my_id: Some(ServerId(1)),
        ensemble: Configuration { servers: (1..).map(ServerId).zip(servers).collect(), ..Configuration::default() },
        tick_time_ms: 1000,
        init_limit: 10,
        sync_limit: 5,
        sessions: SessionsConfig { local: true, read_only_mode: true, ..SessionsConfig::default() },
        ..in_directory(&dir)
    };
    let (election, quorum) = (Some(election), Some(quorum));
    let server = Server::start(config, Listeners { client: None, election, quorum }).unwrap();
    wait_until(&server, |status| status.read_only);
    (server.client_addr(), Servers::Alone(server, dir, [silent, other]))
}

fn in_directory(dir: &tempfile::TempDir) -> Config {
    Config {
        data_dir: dir.path().to_owned(),
        data_log_dir: dir.path().to_owned(),
        client_addr: Some("127.0.0.1:0".parse().unwrap()),
        pre_alloc_kib: 64,
        ..Config::default()
    }
}

fn wait_until(server: &Server, is_there: impl Fn(&Status) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut status = server.status();
    while !is_there(&status) {
        assert!(Instant::now() < deadline, "{status:?}");
        status = server.wait_status(status.version, deadline);
    }
}

impl Conn {
    /// The next frame, when it is whole. `until`: so long it may take to arrive.
    fn frame(&mut self, until: Option<Instant>) -> Option<Vec<u8>> {
        loop {
            if let Some((length, _)) = self.bytes.split_first_chunk::<4>() {
                let end = 4 + i32::from_be_bytes(*length) as usize;
                if self.bytes.len() >= end {
                    self.is_open = true;
                    return Some(self.bytes.drain(..end).collect());
                }
            }
            if !self.read(until) {
                return None;
            }
        }
    }

    /// Reads some more; false when there is nothing more to come in time.
    fn read(&mut self, until: Option<Instant>) -> bool {
        if self.is_closed {
            return false;
        }
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(left) if left.is_zero() => return false,
            Some(left) => {
                self.stream.set_nonblocking(false).unwrap();
                self.stream.set_read_timeout(Some(left)).unwrap();
            }
            None => self.stream.set_nonblocking(true).unwrap(),
        }
        let mut some = [0; 4096];
        match self.stream.read(&mut some) {
            Ok(0) => self.is_closed = true,
            Ok(length) => self.bytes.extend_from_slice(&some[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return false,
            Err(_) => self.is_closed = true,
        }
        !self.is_closed
    }
}

impl World for Socket {
    fn has(&self, name: &str) -> bool {
        self.conns.contains_key(name)
    }

    fn open(&mut self, name: &str) {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_nodelay(true).unwrap();
        self.conns.insert(name.to_owned(), Conn { stream, bytes: Vec::new(), is_closed: false, is_open: false });
    }

    fn send(&mut self, name: &str, bytes: &[u8]) {
        let conn = self.conns.get_mut(name).expect("it was opened");
        conn.stream.set_nonblocking(false).unwrap();
        // A closed connection shows when the answer is read.
        _ = conn.stream.write_all(bytes);
    }

    /// Time passes by itself: what it is to bring is waited for.
    fn pass(&mut self, _: u64) {}

    fn take(&mut self, wanted: &BTreeMap<String, usize>, closing: &BTreeSet<String>) -> BTreeMap<String, Vec<Vec<u8>>> {
        let until = Some(Instant::now() + PATIENCE);
        let mut arrived = BTreeMap::new();
        for (name, conn) in &mut self.conns {
            let wanted = wanted.get(name).copied().unwrap_or_default();
            let mut frames: Vec<Vec<u8>> = (0..wanted).map_while(|_| conn.frame(until)).collect();
            if closing.contains(name) {
                frames.extend(std::iter::from_fn(|| conn.frame(until)));
            } else {
                frames.extend(std::iter::from_fn(|| conn.frame(None)));
            }
            arrived.insert(name.clone(), frames);
        }
        arrived
    }

    fn last_zxid(&self) -> Option<i64> {
        None
    }

    fn closed(&self) -> BTreeSet<String> {
        self.conns.iter().filter(|(_, conn)| conn.is_closed).map(|(name, _)| name.clone()).collect()
    }

    fn finish(&mut self) -> BTreeMap<String, Vec<Vec<u8>>> {
        let mut left = BTreeMap::new();
        for (name, conn) in &mut self.conns {
            if conn.is_open && !conn.is_closed {
                let mut ping = 8i32.to_be_bytes().to_vec();
                RequestHeader { xid: -2, op: op::PING }.write(&mut ping);
                _ = conn.stream.write_all(&ping);
                _ = conn.stream.shutdown(Shutdown::Write);
            }
            let mut frames: Vec<Vec<u8>> = Vec::new();
            while conn.is_open
                && let Some(frame) = conn.frame(Some(Instant::now() + PATIENCE))
            {
                let is_ping = frame.get(4..8) == Some(&(-2i32).to_be_bytes());
                if is_ping {
                    break;
                }
                frames.push(frame);
            }
            left.insert(name.clone(), frames);
        }
        left
    }
}
