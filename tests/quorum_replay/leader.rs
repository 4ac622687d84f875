//! The server as a leader: scripted learners say what Apache's said, and what it sends to one of them is compared.
//!
//! Which packets wait for which is the protocol's, and is kept. How PINGs, proposals and commits of a running ensemble
//! come between each other is a matter of moments: there each kind is compared in its own order, and a COMMIT must
//! stand behind its PROPOSAL.

use super::before::Before;
use super::compare::Comparer;
use super::election;
use super::helper::{self, Helper};
use super::learner::leader_of;
use super::puppets::{Heard, Policy};
use super::reconfig;
use super::script::{Packet, Sequence};
use super::snapshot;
use super::table::{Instead, Table};
use super::world::{Link, World, decode};
use std::collections::{BTreeSet, VecDeque};
use zabkit::records::*;

/// Replays one sequence.
pub fn replay(sequence: &Sequence) -> Result<Comparer, String> {
    if let Some(number) = reconfig::number(sequence) {
        return reconfig::replay_leader(sequence, number);
    }
    let leader = leader_of(sequence);
    let info = sequence.find("LEADERINFO").expect("each has one").decoded();
    let QuorumPacket::LeaderInfo { epoch, .. } = info else { panic!("{info:?}") };
    // What another leader has left it with.
    let before = Before::of_leader(sequence);
    let helper_id = (1..=3).map(ServerId).find(|id| *id != leader && *id != sequence.learner).expect("three vote");
    let former = if sequence.is_observer { helper_id } else { sequence.learner };
    let policy = match &before {
        None => Policy::Elect,
        Some(before) => Policy::Settled { leader: former, zxid: before.zxid, peer_epoch: before.accepted.0 },
    };
    let world = World::start(sequence, leader, policy);
    if let Some(before) = &before {
        let mut link = world.accept(former);
        before.establish(&world, &mut link)?;
        world.puppets.set(Policy::Elect);
    }
    let mut comparer = Comparer::default();
    // What it says when it begins to look for a leader.
    match &*sequence.name {
        "sequence-00" => compare_first_words(&world, &mut comparer)?,
        "sequence-11" => {
            let said = world.puppets.next_notification();
            election::compare(&world.ports, election::FOUNDER, &said, &mut comparer)?;
        }
        _ => {}
    }
    let last = before.map_or(Zxid::ZERO, |before| before.zxid);
    let helper = Helper::new(helper_id, epoch, last);
    let link = world.connect();
    let mut replay = Replay::new(world, link, helper, comparer);
    replay.prepare()?;
    replay.run()?;
    let asked = match &*sequence.name {
        "sequence-00" => Some((ServerId(3), election::LEADING)),
        "sequence-11" => Some((ServerId(2), election::LEADING_AGREED)),
        _ => None,
    };
    if let Some((who, message)) = asked {
        let said = replay.world.puppets.ask(who);
        election::compare(&replay.world.ports, message, &said, &mut replay.comparer)?;
    }
    Ok(replay.comparer)
}

/// How it connects, and its first vote.
fn compare_first_words(world: &World, comparer: &mut Comparer) -> Result<(), String> {
    let (mut initial, mut vote) = (false, false);
    while !(initial && vote) {
        match world.puppets.next() {
            (_, Heard::Initial(bytes)) if !initial => {
                election::compare(&world.ports, election::INITIAL, &bytes, comparer)?;
                initial = true;
            }
            (_, Heard::Notification(bytes)) if !vote => {
                election::compare(&world.ports, election::LOOKING, &bytes, comparer)?;
                vote = true;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A session of the run `main`.
const LATER_SESSION: SessionId = SessionId(0x0200_0013_f3f6_0001);

/// A server as a leader, beside the recorded learner.
pub struct Replay {
    world: World,
    /// To the learner whose connection was recorded.
    link: Link,
    /// Another learner.
    helper: Helper,
    pub comparer: Comparer,
    /// Not compared yet.
    received: VecDeque<Vec<u8>>,
    /// Proposals that have come.
    proposed: BTreeSet<Zxid>,
    /// The nodes of its snapshot are compared, and not their order.
    has_same_nodes: bool,
}

impl Replay {
    pub fn new(world: World, link: Link, helper: Helper, comparer: Comparer) -> Replay {
        let has_same_nodes = Table::load().get(&world.sequence.name) == Some(&Instead::SameNodes);
        let (received, proposed) = Default::default();
        Replay { world, link, helper, comparer, received, proposed, has_same_nodes }
    }

    /// What has happened before the recorded learner connects.
    fn prepare(&mut self) -> Result<(), String> {
        let sequence = &self.world.sequence;
        let running = ["sequence-01", "sequence-03", "sequence-04", "sequence-08", "sequence-10"];
        // An observer makes no quorum.
        if !running.contains(&&*sequence.name) && !sequence.is_observer {
            return Ok(());
        }
        let history = sequence.packets.iter().take_while(|packet| packet.kind != "NEWLEADER");
        let history: Vec<QuorumPacket> =
            history.filter(|packet| packet.name() == "PROPOSAL").map(Packet::decoded).collect();
        self.helper.join(&self.world)?;
        let mut requests = match &*sequence.name {
            "sequence-03" => helper::filler(Zxid(0x1_0000_003a), 5),
            // Of the session that the tree came with.
            "sequence-04" => (1..=0x3f).map(|cxid| helper::refused(LATER_SESSION, cxid)).collect(),
            "sequence-05" => helper::filler(Zxid(0x1_0000_0040), 10),
            _ => Vec::new(),
        };
        if sequence.name == "sequence-05" {
            // The session that the history is of, in the place of the last request.
            requests.pop();
            requests.extend(history.first().map(helper::session_of));
        }
        requests.extend(history.iter().map(helper::request_of));
        for request in requests {
            self.helper.ask(request)?;
        }
        Ok(())
    }

    pub fn run(&mut self) -> Result<(), String> {
        let packets = self.world.sequence.packets.clone();
        let (mut is_serving, mut requested) = (false, BTreeSet::new());
        for packet in &packets {
            let decoded = (packet.kind != "SNAP-STREAM").then(|| packet.decoded());
            match &decoded {
                Some(QuorumPacket::Request(request)) => {
                    requested.insert((request.session, request.cxid));
                    self.helper.keep(request.session);
                }
                Some(proposal @ (QuorumPacket::Proposal { .. } | QuorumPacket::Inform { .. })) if is_serving => {
                    let made = helper::request_of(proposal);
                    let key = (made.session, made.cxid);
                    if !requested.contains(&key) {
                        let asked = self.world.sequence.asked.get(&key);
                        self.helper.begin(asked.cloned().unwrap_or(made))?;
                    }
                }
                _ => {}
            }
            if !packet.from_leader {
                self.link.send(&packet.bytes);
                continue;
            }
            let mut received = self.take(packet, is_serving)?;
            let mut packet = packet.clone();
            if packet.kind == "SNAP-STREAM" && self.has_same_nodes {
                (packet.bytes, packet.is_listed) = (snapshot::in_order(&packet.bytes), true);
                received = snapshot::in_order(&received);
            }
            if packet.kind == "UPTODATE" {
                is_serving = true;
                self.helper.join(&self.world)?;
            }
            self.comparer.compare(&packet, &received)?;
        }
        Ok(())
    }

    /// The next packet that can be the recorded one: PINGs come when they come, and once the learner serves, so do
    /// proposals and commits.
    fn take(&mut self, recorded: &Packet, is_serving: bool) -> Result<Vec<u8>, String> {
        let mut at = 0;
        loop {
            while self.received.len() <= at {
                let bytes = self.link.next().map_err(|error| format!("{}: {error}", recorded.kind))?;
                self.received.push_back(bytes);
            }
            let candidate = self.received[at].clone();
            let name = if recorded.kind == "SNAP-STREAM" { "SNAP-STREAM" } else { name_of(&candidate) };
            let is_loose = |name: &str| name == "PING" || is_serving && matches!(name, "PROPOSAL" | "COMMIT");
            let comes_later =
                recorded.name() == "PING" || is_loose(name) && (is_loose(recorded.name()) || name == "PING");
            if name != recorded.name() && comes_later {
                at += 1;
                continue;
            }
            self.received.remove(at);
            self.check_order(&candidate, name)?;
            return Ok(candidate);
        }
    }

    fn check_order(&mut self, bytes: &[u8], name: &str) -> Result<(), String> {
        let zxid = Zxid(i64::from_be_bytes(*bytes[4..].first_chunk().expect("a zxid")));
        match name {
            "PROPOSAL" => drop(self.proposed.insert(zxid)),
            "COMMIT" if !self.proposed.contains(&zxid) => {
                return Err(format!("COMMIT {zxid} comes before its PROPOSAL"));
            }
            _ => {}
        }
        Ok(())
    }
}

fn name_of(bytes: &[u8]) -> &'static str {
    decode(bytes, true).name()
}
