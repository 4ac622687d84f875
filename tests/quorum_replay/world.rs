//! One real server of an ensemble whose other members are scripted: the sockets, its directory, its configuration.

use super::puppets::{Greet, Policy, Puppets};
use super::script::{Ports, Sequence};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use zabkit::jute::Reader;
use zabkit::records::{QuorumPacket, SNAPSHOT_SIGNATURE, ServerId, SnapshotDecoder, TXN_BYTES_MAX};
use zabkit::server::{Config, Listeners, Server};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// The server that joins where the members change, and its own line in its file.
const JOINER: (ServerId, &str) = (ServerId(4), "127.0.0.1:31104:31204:observer;127.0.0.1:31304");

pub struct World {
    id: ServerId,
    pub server: Server,
    pub puppets: Puppets,
    /// The sequence, with the addresses of this run.
    pub sequence: Sequence,
    pub ports: Ports,
    /// Where the server's own learners connect.
    pub quorum_port: u16,
    pub election_addr: SocketAddr,
    /// The others' quorum ports.
    pub quorum: BTreeMap<ServerId, TcpListener>,
    dir: tempfile::TempDir,
}

impl World {
    /// Starts server `id` of the ensemble of `sequence`; the others do as `policy` says.
    pub fn start(sequence: &Sequence, id: ServerId, policy: Policy) -> World {
        World::start_with(sequence, id, policy, "", None)
    }

    /// Starts the server anew on what it has on its disk.
    pub fn restart(&mut self) {
        self.server.stop();
        let config = Config::from_file(&self.dir.path().join("zoo.cfg")).unwrap();
        self.server = Server::start(config, Listeners::default()).unwrap();
    }

    /// As [`World::start`], with more lines of its configuration, and what the others say behind INITIAL.
    pub fn start_with(sequence: &Sequence, id: ServerId, policy: Policy, settings: &str, greet: Greet) -> World {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        // Where the members can change, the client's address is in the member's line.
        let has_address = sequence.run == "reconfig";
        let joiner = has_address.then_some(JOINER.0);
        let mut sockets: BTreeMap<ServerId, [TcpListener; 3]> =
            sequence.founders.keys().copied().chain(joiner).map(|id| (id, [bind(), bind(), bind()])).collect();
        let ports = Ports::of(sockets.iter().map(|(&id, sockets)| (id, sockets.each_ref())));
        let sequence = sequence.at(&ports);
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().display();
        let mut text = format!(
            "dataDir={data}\ntickTime=50\ninitLimit=400\nsyncLimit=400\n\
             minSessionTimeout=1000\nmaxSessionTimeout=60000\npreAllocSize=64\nextendedTypesEnabled=true\n"
        );
        text += if has_address {
            "reconfigEnabled=true\nskipACL=yes\n"
        } else {
            "clientPort=0\nclientPortAddress=127.0.0.1\n"
        };
        if sequence.run == "local" {
            text += "localSessionsEnabled=true\nlocalSessionsUpgradingEnabled=true\n";
        }
        text += settings;
        let mut lines = String::new();
        for (id, line) in &sequence.founders {
            let _ = writeln!(lines, "server.{id}={line}");
        }
        text += &lines;
        // A server that is about to join says so in its own file alone, and is told of what has become of the others'.
        let is_member = sequence.founders.contains_key(&id);
        if !is_member {
            let _ = writeln!(text, "server.{id}={}", ports.replace_text(JOINER.1));
        }
        let told = lines + if is_member { "version=0" } else { "version=100000000" };
        let file = dir.path().join("zoo.cfg");
        std::fs::write(&file, text).unwrap();
        std::fs::write(dir.path().join("myid"), format!("{id}\n")).unwrap();
        let [quorum, election, client] = sockets.remove(&id).expect("it is a member");
        let (quorum_port, addr) = (quorum.local_addr().unwrap().port(), election.local_addr().unwrap());
        let (mut quorum_listeners, mut election_listeners) = (BTreeMap::new(), Vec::new());
        for (id, [quorum, election, _]) in sockets {
            quorum_listeners.insert(id, quorum);
            election_listeners.push((id, election));
        }
        let puppets = Puppets::start(id, addr, election_listeners, told, policy, greet);
        let listeners =
            Listeners { client: has_address.then_some(client), election: Some(election), quorum: Some(quorum) };
        let server = Server::start(Config::from_file(&file).unwrap(), listeners).unwrap();
        World { id, server, puppets, sequence, ports, quorum_port, election_addr: addr, quorum: quorum_listeners, dir }
    }

    /// Whether our server is the observer of the recording.
    pub fn is_observer(&self) -> bool {
        self.sequence.is_observer && self.id == self.sequence.learner
    }

    /// The connection of the server to `leader`.
    pub fn accept(&self, leader: ServerId) -> Link {
        let (stream, _) = self.quorum[&leader].accept().unwrap();
        Link::new(stream, false)
    }

    /// A connection to the server, which leads.
    pub fn connect(&self) -> Link {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match TcpStream::connect(("127.0.0.1", self.quorum_port)) {
                Ok(stream) => return Link::new(stream, true),
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
    }
}

/// A connection between a learner and a leader.
pub struct Link {
    pub stream: TcpStream,
    from_leader: bool,
    bytes: Vec<u8>,
    /// The last packet was a SNAP.
    in_snapshot: bool,
}

impl Link {
    /// `from_leader`: whether a leader is at the other end.
    fn new(stream: TcpStream, from_leader: bool) -> Link {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Link { stream, from_leader, bytes: Vec::new(), in_snapshot: false }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server has closed the connection");
    }

    pub fn send_packet(&mut self, packet: &QuorumPacket) {
        let mut bytes = Vec::new();
        packet.write(&mut bytes);
        self.send(&bytes);
    }

    /// The bytes of the next packet, or of a snapshot's stream behind a SNAP; `Err`: there are none.
    pub fn next(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if let Some(length) = self.whole() {
                return Ok(self.bytes.drain(..length).collect());
            }
            let mut some = [0; 4096];
            match self.stream.read(&mut some) {
                Ok(0) => return Err("the server has closed the connection".to_owned()),
                Ok(length) => self.bytes.extend_from_slice(&some[..length]),
                Err(error) => return Err(format!("nothing more comes: {error}")),
            }
        }
    }

    fn whole(&mut self) -> Option<usize> {
        let mut from = Reader::new(&self.bytes);
        if self.in_snapshot {
            let mut decoder = SnapshotDecoder::default();
            while decoder.take(&mut from, TXN_BYTES_MAX).expect("an item").is_some() {}
            let length = self.bytes.len() - from.remaining() + 4 + SNAPSHOT_SIGNATURE.len();
            let is_whole = decoder.is_done() && self.bytes.len() >= length;
            self.in_snapshot = !is_whole;
            return is_whole.then_some(length);
        }
        let packet = QuorumPacket::take(&mut from, self.from_leader).expect("a packet")?;
        self.in_snapshot = self.from_leader && matches!(packet, QuorumPacket::Snap { .. });
        Some(self.bytes.len() - from.remaining())
    }
}

pub fn decode(bytes: &[u8], from_leader: bool) -> QuorumPacket {
    QuorumPacket::take(&mut Reader::new(bytes), from_leader).expect("a packet").expect("all of it")
}
