//! The server as a learner: a scripted leader says what Apache's said, and each answer is compared.

use super::before::Before;
use super::client::Client;
use super::compare::{Comparer, Field, masked};
use super::election::{self, Message};
use super::puppets::Policy;
use super::reconfig;
use super::script::{Packet, Sequence};
use super::table::{Instead, Table};
use super::world::{Link, PATIENCE, World};
use std::collections::BTreeMap;
use std::time::Instant;
use zabkit::jute::{Reader, Record};
use zabkit::records::*;
use zabkit::tree::{DataTree, TreeLoader};

/// Who leads it: the leader of the recording is told by it only where the members change.
pub fn leader_of(sequence: &Sequence) -> ServerId {
    if sequence.run == "reconfig" {
        return reconfig::FIRST;
    }
    let voters = sequence.servers.iter().filter(|(_, line)| !line.contains("observer")).map(|(&id, _)| id);
    [ServerId(2), ServerId(3), ServerId(1)]
        .into_iter()
        .find(|id| *id != sequence.learner && voters.clone().any(|voter| voter == *id))
        .expect("there is another voter")
}

/// Replays one sequence.
pub fn replay(sequence: &Sequence, table: &Table) -> Result<Comparer, String> {
    if let Some(number) = reconfig::number(sequence) {
        return reconfig::replay_learner(sequence, number, table);
    }
    let leader = leader_of(sequence);
    let before = Before::of(sequence);
    let settled = |epoch: i64| Policy::Settled { leader, zxid: before.zxid, peer_epoch: epoch };
    let world = World::start(sequence, sequence.learner, settled(1));
    if before.accepted.0 > 0 {
        let mut link = world.accept(leader);
        before.establish(&world, &mut link)?;
        drop(link);
    }
    let mut comparer = Comparer::default();
    if sequence.name == "sequence-02" {
        let said = world.puppets.next_notification();
        election::compare(&world.ports, election::OBSERVER, &said, &mut comparer)?;
    }
    let link = world.accept(leader);
    let mut replay = Replay::new(world, link, comparer);
    replay.run(table)?;
    match &*sequence.name {
        "sequence-00" => replay.compare_settled(ServerId(3), election::FOLLOWING)?,
        "sequence-11" => replay.compare_settled(ServerId(2), election::FOLLOWING_AGREED)?,
        _ => {}
    }
    Ok(replay.comparer)
}

/// A server as a learner, on its recorded connection.
pub struct Replay {
    world: World,
    link: Link,
    /// By the recorded sessions.
    clients: BTreeMap<SessionId, Client>,
    /// As the leader's packets make it, where all of it was recorded.
    tree: Option<DataTree>,
    comparer: Comparer,
}

impl Replay {
    pub fn new(world: World, link: Link, comparer: Comparer) -> Replay {
        Replay { world, link, clients: BTreeMap::new(), tree: None, comparer }
    }

    pub fn into_parts(self) -> (World, Link, Comparer) {
        (self.world, self.link, self.comparer)
    }

    pub fn run(&mut self, table: &Table) -> Result<(), String> {
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
                self.comparer.leave_out(packet);
                continue;
            }
            if matches!(packet.name(), "REQUEST" | "REVALIDATE") {
                self.cause(packet, &sequence.packets[at + 1..])?;
            }
            let received = self.link.next().map_err(|error| format!("{}: {error}", packet.kind))?;
            self.comparer.compare(packet, &received)?;
        }
        self.wait_for_commits(&sequence.packets);
        let digest = self.world.server.status().tree_digest;
        if let Some(tree) = self.tree.as_ref().filter(|tree| tree.digest() as u64 != digest) {
            return Err(format!("the tree has the digest {digest:x}, another than {:x}", tree.digest()));
        }
        match sequence.packets.iter().rfind(|packet| is_txn(packet) && !packet.recorded.is_empty()) {
            _ if !sequence.asked.is_empty() || sequence.name.starts_with("broadcast") => Ok(()),
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

    /// A leader's packet, with the sessions of this run, and the digest of a tree that has those.
    fn in_this_run(&mut self, packet: &Packet) -> Vec<u8> {
        match packet.name() {
            "DIFF" if packet.bytes[4..12] == [0; 8] => self.tree = Some(DataTree::new()),
            "SNAP-STREAM" => self.tree = Some(load(&packet.bytes)),
            _ => {}
        }
        let mut bytes = packet.bytes.clone();
        for (range, field) in masked(packet) {
            let id = i64::from_be_bytes(bytes[range.clone()].try_into().expect("eight bytes"));
            if let (Field::Session, Some(session)) = (field, self.comparer.sessions.get(&id)) {
                bytes[range].copy_from_slice(&session.to_be_bytes());
            }
        }
        if !is_txn(packet) {
            return bytes;
        }
        let (end, is_cut) = (bytes.len() - 4, self.is_cut());
        let txn = Txn::from_bytes(&bytes[16..end]).expect("a transaction");
        let digest = match &mut self.tree {
            Some(tree) => {
                tree.apply(txn.session, txn.zxid, txn.time_ms, &txn.body, &mut |_| {});
                tree.digest() as u64
            }
            None if is_cut => self.world.server.status().tree_digest,
            None => return bytes,
        };
        if txn.digest.is_some() {
            bytes[end - 8..end].copy_from_slice(&digest.to_be_bytes());
        }
        bytes
    }

    /// Lets a client do what makes the server ask this of its leader.
    fn cause(&mut self, packet: &Packet, later: &[Packet]) -> Result<(), String> {
        let server = &self.world.server;
        let request = match packet.decoded() {
            QuorumPacket::Request(request) => request,
            QuorumPacket::Revalidate { session, timeout_ms } => {
                let here = self.comparer.sessions.get(&session.0).map_or(session, |here| SessionId(*here));
                self.clients.insert(session, Client::connect(server, timeout_ms, here));
                return Ok(());
            }
            other => return Err(format!("how would a client cause {other:?}?")),
        };
        let ForwardedBody::Request(body) = &request.body else { panic!("{packet:?}") };
        let is_local = self.world.sequence.run == "local";
        match (body, self.clients.get_mut(&request.session)) {
            (Request::CreateSession(create), None) => {
                let client = Client::connect(server, create.timeout_ms, SessionId(0));
                self.clients.insert(request.session, client);
            }
            // A local session becomes one of the ensemble with its first ephemeral.
            (Request::CreateSession(_), Some(client)) => {
                let next = later.iter().find(|packet| !packet.from_leader).map(Packet::decoded);
                let Some(QuorumPacket::Request(create)) = next else { return Err("no ephemeral".to_owned()) };
                client.send(&create);
            }
            (Request::Create(create), Some(_)) if is_local && create.flags & 1 == 1 => {}
            (_, Some(client)) => client.send(&request),
            (_, None) => {
                let client = Client::connect(server, 4000, SessionId(0));
                self.clients.entry(request.session).or_insert(client).send(&request);
            }
        }
        Ok(())
    }

    /// Somebody who looks for a leader is told who it is, as the recorded follower told it.
    fn compare_settled(&mut self, who: ServerId, message: Message) -> Result<(), String> {
        let puppets = &self.world.puppets;
        // Servers of former releases are answered in the form of today.
        let former = [NotificationForm::Old28, NotificationForm::Old40 { last: 0 }];
        let said = former.into_iter().map(|form| puppets.ask_in(who, form)).chain([puppets.ask(who)]);
        for said in said {
            election::compare(&self.world.ports, message, &said, &mut self.comparer)?;
        }
        Ok(())
    }
}

/// Whether a packet holds a transaction.
fn is_txn(packet: &Packet) -> bool {
    matches!(packet.name(), "PROPOSAL" | "INFORM")
}

/// The tree of a snapshot's stream.
fn load(stream: &[u8]) -> DataTree {
    let (mut decoder, mut from, mut loader) = (SnapshotDecoder::default(), Reader::new(stream), TreeLoader::new());
    while let Some(item) = decoder.take(&mut from, TXN_BYTES_MAX).expect("an item") {
        loader.push(item).expect("a snapshot");
    }
    loader.finish().expect("a snapshot").0
}
