//! The server as a learner: a scripted leader says what Apache's said, and each answer is compared.

use super::compare::{Comparer, Counts};
use super::puppets::Policy;
use super::script::{Packet, Sequence, recorded, sequences};
use super::table::{Instead, Table};
use super::world::{Link, PATIENCE, World};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;
use zabkit::jute::Record;
use zabkit::records::*;

/// Who leads it: the leader of the recording is not told by it.
pub fn leader_of(sequence: &Sequence) -> ServerId {
    let voters = sequence.servers.iter().filter(|(_, line)| !line.contains("observer")).map(|(&id, _)| id);
    [ServerId(2), ServerId(3), ServerId(1)]
        .into_iter()
        .find(|id| *id != sequence.learner && voters.clone().any(|voter| voter == *id))
        .expect("there is another voter")
}

/// Replays one sequence.
pub fn replay(sequence: &Sequence, table: &Table) -> Result<Counts, String> {
    let leader = leader_of(sequence);
    let before = Before::of(sequence);
    let settled = |epoch: i64| Policy::Settled { leader, zxid: before.zxid, peer_epoch: epoch };
    let world = World::start(sequence, sequence.learner, settled(1));
    if before.accepted.0 > 0 {
        let mut link = world.accept(leader);
        before.establish(&world, &mut link)?;
        drop(link);
    }
    let mut replay = Replay { link: world.accept(leader), world, client: None, comparer: Comparer::default() };
    replay.run(table)?;
    if sequence.name == "sequence-00" {
        replay.compare_settled()?;
    }
    Ok(replay.comparer.counts)
}

/// What the learner has when its recorded connection begins.
pub struct Before {
    accepted: Epoch,
    pub zxid: Zxid,
    /// A snapshot at this zxid...
    snapshot: (Zxid, Vec<u8>),
    /// ... and these proposals behind it.
    tail: Vec<(Zxid, Vec<u8>)>,
}

impl Before {
    fn of(sequence: &Sequence) -> Before {
        let accepted = match sequence.packets[0].decoded() {
            QuorumPacket::FollowerInfo { accepted_epoch, .. } | QuorumPacket::ObserverInfo { accepted_epoch, .. } => {
                accepted_epoch
            }
            other => panic!("{other:?}"),
        };
        let ack = sequence.find("ACKEPOCH").expect("each has one").decoded();
        let QuorumPacket::AckEpoch { last_logged: zxid, .. } = ack else { panic!("{ack:?}") };
        let all = sequences();
        let stream = |index: usize| all[index].find("SNAP-STREAM").expect("it is a SNAP").bytes.clone();
        let txn = |index: usize, counter: i64| {
            let of_zxid = |packet: &&Packet| {
                matches!(packet.name(), "PROPOSAL" | "INFORM") && packet.bytes[4..12] == counter.to_be_bytes()
            };
            let packet = all[index].packets.iter().find(of_zxid).expect("it was recorded");
            (Zxid(counter), packet.bytes[16..packet.bytes.len() - 4].to_vec())
        };
        let full = Zxid(0x1_0000_003f);
        let (snapshot, tail) = match sequence.name.as_str() {
            "sequence-03" => ((zxid, cut_back(&stream(4), zxid)), vec![]),
            "sequence-05" => ((full, stream(4)), vec![txn(4, 0x1_0000_0040)]),
            "sequence-06" | "sequence-07" | "sequence-08" => {
                let tail = vec![txn(4, 0x1_0000_0040), txn(5, 0x1_0000_0041), txn(5, 0x1_0000_0042)];
                ((full, stream(4)), tail)
            }
            // Behind what is to be cut stands something that is cut.
            "sequence-10" => {
                let error = recorded("broadcast", "PROPOSAL:error");
                let numbered = |counter: i64| {
                    let mut txn = error[16..error.len() - 4].to_vec();
                    txn[12..20].copy_from_slice(&counter.to_be_bytes());
                    (Zxid(counter), txn)
                };
                ((Zxid(0x1_0000_0005), stream(1)), (0x1_0000_0006..=zxid.0).map(numbered).collect())
            }
            _ => ((zxid, stream(1)), vec![]),
        };
        Before { accepted, zxid, snapshot, tail }
    }

    /// What the leader of a sequence of epoch 2 has when it is elected: all that its committed list was seen to hold.
    pub fn of_leader(sequence: &Sequence) -> Before {
        let mut before = Before::of(sequence);
        // The learner had logged more than was committed.
        if sequence.name == "sequence-10" {
            let last = Zxid(0x1_0000_0005);
            let mut error = recorded("broadcast", "PROPOSAL:error");
            error[28..36].copy_from_slice(&last.0.to_be_bytes());
            before.tail = vec![(last, error[16..error.len() - 4].to_vec())];
            before.snapshot.0 = Zxid(0x1_0000_0004);
            before.zxid = last;
        }
        before
    }

    /// Another leader's synchronisation brings it there.
    pub fn establish(&self, world: &World, link: &mut Link) -> Result<(), String> {
        let new_leader = Zxid(self.accepted.0 << 32);
        link.next()?;
        link.send_packet(&QuorumPacket::LeaderInfo { epoch: self.accepted, protocol_version: PROTOCOL_VERSION });
        link.next()?;
        link.send_packet(&QuorumPacket::Snap { zxid: self.snapshot.0 });
        link.send(&world.ports.replace(&self.snapshot.1));
        link.send_packet(&QuorumPacket::NewLeader { zxid: new_leader, config: None });
        link.next()?;
        link.send_packet(&QuorumPacket::UpToDate);
        link.next()?;
        for (zxid, txn) in &self.tail {
            if world.is_observer() {
                link.send_packet(&QuorumPacket::Inform { zxid: *zxid, txn: txn.clone().into() });
                continue; // Which nobody acknowledges.
            }
            link.send_packet(&QuorumPacket::Proposal { zxid: *zxid, txn: txn.clone().into() });
            link.next()?;
            // What is cut off later was never committed.
            if world.sequence.find("TRUNC").is_none() {
                link.send_packet(&QuorumPacket::Commit { zxid: *zxid });
            }
        }
        Ok(())
    }
}

/// The tree of a snapshot before what came after `zxid`: its creations below the root, as the digests tell.
fn cut_back(stream: &[u8], zxid: Zxid) -> Vec<u8> {
    let (mut decoder, mut from) = (SnapshotDecoder::default(), zabkit::jute::Reader::new(stream));
    let (mut items, mut later) = (Vec::new(), 0);
    while let Some(item) = decoder.take(&mut from, TXN_BYTES_MAX).expect("an item") {
        match &item {
            SnapshotItem::Node(node) if node.stat.czxid > zxid => later += 1,
            _ => items.push(item),
        }
    }
    let mut out = Vec::new();
    for item in &mut items {
        if let SnapshotItem::Node(node) = item
            && node.path.is_empty()
        {
            node.stat.cversion -= later;
            node.stat.pzxid = Zxid(ROOT_PZXID);
        }
        item.write(&mut out);
    }
    SNAPSHOT_SIGNATURE.to_owned().write(&mut out);
    out
}

/// When the root's children had last changed before 0x10000003a; found by the digest of 0x10000003b.
const ROOT_PZXID: i64 = 0x1_0000_0039;

struct Replay {
    world: World,
    link: Link,
    client: Option<TcpStream>,
    comparer: Comparer,
}

impl Replay {
    fn run(&mut self, table: &Table) -> Result<(), String> {
        let sequence = self.world.sequence.clone();
        let left_out = table.get(&sequence.name) == Some(&Instead::NoAcksOfDiff);
        let history = sequence.packets.iter().take_while(|packet| packet.kind != "NEWLEADER");
        let history: Vec<&[u8]> =
            history.filter(|packet| packet.name() == "PROPOSAL").map(|packet| &packet.bytes[4..12]).collect();
        for (at, packet) in sequence.packets.iter().enumerate() {
            if packet.from_leader {
                if packet.name() == "PING" {
                    self.wait_for_commits(&sequence.packets[..at]);
                }
                let bytes = self.in_this_run(packet);
                self.link.send(&bytes);
                continue;
            }
            if left_out && packet.name() == "ACK" && history.contains(&&packet.bytes[4..12]) {
                self.comparer.counts.listed += 1;
                continue;
            }
            if packet.name() == "REQUEST" {
                self.cause(packet, &sequence.packets[at + 1..])?;
            }
            let received = self.link.next().map_err(|error| format!("{}: {error}", packet.kind))?;
            self.comparer.compare(packet, &received)?;
        }
        self.wait_for_commits(&sequence.packets);
        let digest = self.world.server.status().tree_digest;
        match sequence.packets.iter().rfind(|packet| is_txn(packet)) {
            Some(last) if last.bytes[last.bytes.len() - 12..][..8] != digest.to_be_bytes() && !self.is_cut() => {
                Err(format!("the tree has the digest {digest:x}, another than {}", last.kind))
            }
            _ => Ok(()),
        }
    }

    /// Whether the tree is not the recorded one: what stood before the cut was not recorded.
    fn is_cut(&self) -> bool {
        self.world.sequence.find("TRUNC").is_some()
    }

    /// In a recording there is time between a COMMIT and a PING; what is committed is in the PING's answer.
    fn wait_for_commits(&self, sent: &[Packet]) {
        if !sent.iter().any(|packet| packet.name() == "UPTODATE") {
            return;
        }
        let commits = sent.iter().filter(|packet| matches!(packet.name(), "COMMIT" | "INFORM"));
        let last = commits.map(|packet| i64::from_be_bytes(*packet.bytes[4..].first_chunk().unwrap())).max();
        let deadline = Instant::now() + PATIENCE;
        while self.world.server.status().last_processed.0 < last.unwrap_or(0) {
            assert!(Instant::now() < deadline, "{last:x?} is not applied");
            std::thread::yield_now();
        }
    }

    /// A leader's packet, with the sessions of this run, and the digest of a tree that has none of the recorded times.
    fn in_this_run(&self, packet: &Packet) -> Vec<u8> {
        let mut bytes = packet.bytes.clone();
        if is_txn(packet)
            && let Some(session) = self.comparer.sessions.get(&i64::from_be_bytes(*bytes[16..].first_chunk().unwrap()))
        {
            bytes[16..24].copy_from_slice(&session.to_be_bytes());
            let digest = bytes.len() - 12;
            let change = owner_in_digest(&bytes).wrapping_sub(owner_in_digest(&packet.bytes));
            let recorded = u64::from_be_bytes(*bytes[digest..].first_chunk().unwrap());
            bytes[digest..digest + 8].copy_from_slice(&recorded.wrapping_add(change).to_be_bytes());
        }
        if self.is_cut() && packet.kind == "PROPOSAL:createSession" {
            let (at, digest) = (bytes.len() - 12, self.world.server.status().tree_digest);
            bytes[at..at + 8].copy_from_slice(&digest.to_be_bytes());
        }
        bytes
    }

    /// Lets a client do what makes the server send this request.
    fn cause(&mut self, packet: &Packet, later: &[Packet]) -> Result<(), String> {
        let QuorumPacket::Request(request) = packet.decoded() else { panic!("{packet:?}") };
        let next = later.iter().find(|packet| !packet.from_leader).map(Packet::decoded);
        match (&request.body, &mut self.client, next) {
            (ForwardedBody::Request(Request::CreateSession(create)), client @ None, _) => {
                *client = Some(self.world.client(create.timeout_ms));
            }
            // A local session becomes one of the ensemble with its first ephemeral.
            (ForwardedBody::Request(Request::CreateSession(_)), Some(client), Some(QuorumPacket::Request(create))) => {
                send_request(client, &create);
            }
            (ForwardedBody::Request(Request::Create(create)), Some(client), _) => {
                if create.flags & 1 == 0 {
                    send_request(client, &request);
                }
            }
            (ForwardedBody::Request(_), client @ None, _) => {
                let client = client.insert(self.world.client(4000));
                read_frame(client);
                send_request(client, &request);
            }
            (ForwardedBody::Request(_), Some(client), _) => send_request(client, &request),
            other => return Err(format!("how would a client cause {other:?}?")),
        }
        Ok(())
    }

    /// Somebody who looks for a leader is told who it is, as the recorded follower told it.
    fn compare_settled(&mut self) -> Result<(), String> {
        super::election::compare(
            &self.world,
            "NOTIFICATION:FOLLOWING",
            &self.world.puppets.ask(ServerId(3)),
            &mut self.comparer,
        )
    }
}

/// Whether a packet holds a transaction.
fn is_txn(packet: &Packet) -> bool {
    matches!(packet.name(), "PROPOSAL" | "INFORM")
}

/// What the new node of a proposal is in the tree's digest, if it is an ephemeral one: its owner is.
fn owner_in_digest(proposal: &[u8]) -> u64 {
    let txn = Txn::read(&mut zabkit::jute::Reader::new(&proposal[16..proposal.len() - 4])).expect("a transaction");
    let TxnBody::Create(create) = &txn.body else { return 0 };
    if !create.ephemeral {
        return 0;
    }
    let mut bytes = create.path.as_bytes().to_vec();
    bytes.extend_from_slice(create.data.as_deref().unwrap_or_default());
    for number in [txn.zxid.0, txn.zxid.0, txn.zxid.0, txn.time_ms, txn.time_ms] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(&[0; 12]); // Its versions.
    bytes.extend_from_slice(&txn.session.0.to_be_bytes());
    let crc = bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    u64::from(!crc)
}

fn send_request(client: &mut TcpStream, request: &ForwardedRequest) {
    let ForwardedBody::Request(body) = &request.body else { panic!("a body is needed") };
    let mut bytes = Vec::new();
    write_frame(&mut bytes, |out| {
        RequestHeader { xid: request.cxid, op: body.op() }.write(out);
        body.write(out);
    });
    client.write_all(&bytes).unwrap();
}

fn read_frame(client: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    client.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    client.read_exact(&mut frame).unwrap();
    frame
}

impl World {
    /// A client that has asked for a session.
    fn client(&self, timeout_ms: i32) -> TcpStream {
        let deadline = Instant::now() + PATIENCE;
        let mut status = self.server.status();
        while !status.serving {
            assert!(Instant::now() < deadline, "{status:?}");
            status = self.server.wait_status(status.version, deadline);
        }
        let mut stream = TcpStream::connect(self.server.client_addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let connect = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid(0),
            timeout_ms,
            session: SessionId(0),
            password: Some(vec![0; PASSWORD_LEN]),
            read_only: Some(false),
        };
        let mut bytes = Vec::new();
        write_frame(&mut bytes, |out| connect.write(out));
        stream.write_all(&bytes).unwrap();
        stream
    }
}
