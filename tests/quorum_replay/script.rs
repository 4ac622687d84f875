//! The recordings of `tests/testdata/quorum`, with the addresses of this run in the place of theirs.

use super::compare::Field;
use super::vectors::{json_files, list, text, unhex};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::ops::Range;
use zabkit::jute::Reader;
use zabkit::records::{QuorumPacket, ServerId};

/// One packet, or a snapshot's stream, as it was seen on the wire.
#[derive(Clone, Debug)]
pub struct Packet {
    pub from_leader: bool,
    /// `PROPOSAL:create`
    pub kind: String,
    pub bytes: Vec<u8>,
}

impl Packet {
    /// `PROPOSAL`
    pub fn name(&self) -> &str {
        self.kind.split(':').next().unwrap_or_default()
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
}

impl Sequence {
    pub fn find(&self, name: &str) -> Option<&Packet> {
        self.packets.iter().find(|packet| packet.name() == name)
    }

    /// With the addresses of this run.
    pub fn at(&self, ports: &Ports) -> Sequence {
        let mut sequence = self.clone();
        sequence.packets.iter_mut().for_each(|packet| packet.bytes = ports.replace(&packet.bytes));
        sequence.servers.values_mut().for_each(|line| *line = ports.replace_text(line));
        sequence
    }
}

/// All recorded sequences, in their order.
pub fn sequences() -> Vec<Sequence> {
    let (_, file) = json_files("quorum").into_iter().find(|(name, _)| name == "sequences").expect("they are there");
    list(&file, "sequences")
        .iter()
        .enumerate()
        .map(|(index, sequence)| {
            let packets: Vec<Packet> = list(sequence, "packets")
                .iter()
                .map(|packet| Packet {
                    from_leader: text(packet, "from") == "leader",
                    kind: text(packet, "kind").to_owned(),
                    bytes: unhex(&packet["hex"]),
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
            Sequence {
                name: format!("sequence-{index:02}"),
                run: text(sequence, "run").to_owned(),
                learner: info.server,
                is_observer: text(sequence, "learner") == "observer",
                servers: config.lines().filter_map(line).collect(),
                packets,
            }
        })
        .collect()
}

/// The first recorded packet of this kind in a file.
pub fn recorded(file: &str, kind: &str) -> Vec<u8> {
    let (_, file) = json_files("quorum").into_iter().find(|(name, _)| name == file).expect("it is there");
    let packet = list(&file, "packets").iter().find(|packet| text(packet, "kind") == kind);
    unhex(&packet.expect("it was recorded")["hex"])
}

/// Where times stand in the snapshot of a fresh ensemble; its other fields that may differ do not.
pub fn times_of_snapshot() -> Vec<(Range<usize>, Field)> {
    let (_, file) = json_files("quorum").into_iter().find(|(name, _)| name == "handshake").expect("it is there");
    let stream = list(&file, "packets").iter().find(|packet| text(packet, "kind") == "SNAP-STREAM").expect("one");
    let fields = list(stream, "variableFields").iter().filter(|field| text(field, "name").ends_with("time"));
    let number = |value: &serde_json::Value| value.as_u64().expect("a number") as usize;
    let range =
        |field: &serde_json::Value| number(&field["offset"])..number(&field["offset"]) + number(&field["length"]);
    fields.map(|field| (range(field), Field::Time)).collect()
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

    fn replace_text(&self, text: &str) -> String {
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
