//! The recordings of `tests/testdata/quorum`, with the addresses of this run in the place of theirs.

use super::vectors::{json_files, list, text, unhex};
use std::collections::BTreeMap;
use std::net::TcpListener;
use zabkit::jute::Reader;
use zabkit::records::{ForwardedRequest, QuorumPacket, ServerId, SessionId};

/// One packet, or a snapshot's stream, as it was seen on the wire.
#[derive(Clone, Debug)]
pub struct Packet {
    pub from_leader: bool,
    /// `PROPOSAL:create`
    pub kind: String,
    pub bytes: Vec<u8>,
    /// As it stands in the file, with the recorded addresses; nothing if it does not stand there.
    pub recorded: Vec<u8>,
    /// It is not as it was recorded, as the table of differences says.
    pub is_listed: bool,
}

impl Packet {
    pub fn new(from_leader: bool, kind: &str, recorded: Vec<u8>) -> Packet {
        Packet { from_leader, kind: kind.to_owned(), bytes: recorded.clone(), recorded, is_listed: false }
    }

    /// One that was not recorded, and must have been said.
    pub fn made(from_leader: bool, packet: &QuorumPacket) -> Packet {
        let mut made = Packet::new(from_leader, packet.name(), Vec::new());
        packet.write(&mut made.bytes);
        made
    }

    /// Says this instead, by the table of differences.
    pub fn replace(&mut self, packet: &QuorumPacket) {
        self.bytes.clear();
        packet.write(&mut self.bytes);
        self.is_listed = true;
    }

    /// `PROPOSAL`
    pub fn name(&self) -> &str {
        self.kind.split(':').next().unwrap_or_default()
    }

    /// With the addresses of this run.
    pub fn at(&self, ports: &Ports) -> Packet {
        Packet { bytes: ports.replace(&self.bytes), ..self.clone() }
    }

    pub fn decoded(&self) -> QuorumPacket {
        let mut from = Reader::new(&self.bytes);
        QuorumPacket::take(&mut from, self.from_leader).expect("a packet").expect("all of it")
    }
}

/// A learner's connection from its first byte on.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// `sequence-03`: the name in the table of differences.
    pub name: String,
    pub run: String,
    pub learner: ServerId,
    pub is_observer: bool,
    pub packets: Vec<Packet>,
    /// Lines `server.N=` of the leader's configuration, as in NEWLEADER.
    pub servers: BTreeMap<ServerId, String>,
    /// The same of the files that the ensemble began with.
    pub founders: BTreeMap<ServerId, String>,
    /// What clients of other servers asked for, by session and cxid.
    pub asked: BTreeMap<(SessionId, i32), ForwardedRequest>,
}

impl Sequence {
    pub fn find(&self, name: &str) -> Option<&Packet> {
        self.packets.iter().find(|packet| packet.name() == name)
    }

    /// With the addresses of this run.
    pub fn at(&self, ports: &Ports) -> Sequence {
        let mut sequence = self.clone();
        sequence.packets.iter_mut().for_each(|packet| *packet = packet.at(ports));
        let lines = sequence.servers.values_mut().chain(sequence.founders.values_mut());
        lines.for_each(|line| *line = ports.replace_text(line));
        sequence
    }
}

/// All recorded sequences, in their order.
pub fn sequences() -> Vec<Sequence> {
    let (_, file) = json_files("quorum").into_iter().find(|(name, _)| name == "sequences").expect("they are there");
    let mut founders: BTreeMap<String, BTreeMap<ServerId, String>> = BTreeMap::new();
    list(&file, "sequences")
        .iter()
        .enumerate()
        .map(|(index, sequence)| {
            let packets: Vec<Packet> = list(sequence, "packets")
                .iter()
                .map(|packet| {
                    let from_leader = text(packet, "from") == "leader";
                    Packet::new(from_leader, text(packet, "kind"), unhex(&packet["hex"]))
                })
                .collect();
            let (QuorumPacket::FollowerInfo { info, .. } | QuorumPacket::ObserverInfo { info, .. }) =
                packets[0].decoded()
            else {
                panic!("a learner says first who it is");
            };
            let new_leader = packets.iter().find(|packet| packet.kind == "NEWLEADER").expect("each has one");
            let QuorumPacket::NewLeader { config: Some(config), .. } = new_leader.decoded() else { panic!("no text") };
            let line = |line: &str| {
                let (id, line) = line.strip_prefix("server.")?.split_once('=')?;
                Some((ServerId(id.parse().expect("an id")), line.to_owned()))
            };
            let run = text(sequence, "run").to_owned();
            let servers: BTreeMap<ServerId, String> = config.lines().filter_map(line).collect();
            Sequence {
                name: format!("sequence-{index:02}"),
                founders: founders.entry(run.clone()).or_insert_with(|| servers.clone()).clone(),
                run,
                learner: info.server,
                is_observer: text(sequence, "learner") == "observer",
                servers,
                packets,
                asked: BTreeMap::new(),
            }
        })
        .collect()
}

/// All single packets of a file, in their order.
pub fn singles(file: &str) -> Vec<Packet> {
    let (_, file) = json_files("quorum").into_iter().find(|(name, _)| name == file).expect("it is there");
    let single = |packet: &serde_json::Value| {
        // Election messages have no leader.
        let from_leader = text(packet, "direction").starts_with("leader");
        Packet::new(from_leader, text(packet, "kind"), unhex(&packet["hex"]))
    };
    list(&file, "packets").iter().chain(list(&file, "messages")).map(single).collect()
}

/// All packets of a file.
pub fn packets(file: &str) -> Vec<Packet> {
    match file {
        "sequences" => sequences().into_iter().flat_map(|sequence| sequence.packets).collect(),
        file => singles(file),
    }
}

/// The first recorded packet of this kind in a file.
pub fn single(file: &str, kind: &str) -> Packet {
    singles(file).into_iter().find(|packet| packet.kind == kind).expect("it was recorded")
}

/// A message of the election port.
pub fn message(index: usize) -> Packet {
    singles("election").swap_remove(index)
}

/// The recorded ports and those of this run, which are as long.
pub struct Ports(Vec<(String, String)>);

impl Ports {
    /// `servers`: of each the quorum, the election and the client port.
    pub fn of<'a>(servers: impl IntoIterator<Item = (ServerId, [&'a TcpListener; 3])>) -> Ports {
        let mut ports = Vec::new();
        for (id, [quorum, election, client]) in servers {
            for (base, listener) in [(31100, quorum), (31200, election), (31300, client)] {
                let (recorded, real) = (base + id.0, listener.local_addr().expect("it is bound").port());
                let (recorded, real) = (format!(":{recorded}"), format!(":{real}"));
                assert_eq!(recorded.len(), real.len(), "a port of five digits is needed");
                ports.push((recorded, real));
            }
        }
        Ports(ports)
    }

    pub fn replace_text(&self, text: &str) -> String {
        String::from_utf8(self.replace(text.as_bytes())).expect("digits replace digits")
    }

    pub fn replace(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        let mut at = 0;
        while at + 6 <= out.len() {
            if let Some((_, real)) = self.0.iter().find(|(recorded, _)| out[at..].starts_with(recorded.as_bytes())) {
                out[at..at + real.len()].copy_from_slice(real.as_bytes());
            }
            at += 1;
        }
        out
    }
}
