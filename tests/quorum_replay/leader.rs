//! The server as a leader: scripted learners say what Apache's said, and what it sends to one of them is compared.
//!
//! Which packets wait for which is the protocol's, and is kept. How PINGs, proposals and commits of a running ensemble
//! come between each other is a matter of moments: there each kind is compared in its own order, and a COMMIT must
//! stand behind its PROPOSAL.

use super::compare::{Comparer, Counts};
use super::helper::{self, Helper};
use super::learner::{Before, leader_of};
use super::puppets::{Heard, Policy};
use super::script::{Packet, Sequence};
use super::world::{Link, World, decode};
use std::collections::{BTreeSet, VecDeque};
use zabkit::records::*;

/// Replays one sequence.
pub fn replay(sequence: &Sequence) -> Result<Counts, String> {
    let leader = leader_of(sequence);
    let info = sequence.find("LEADERINFO").expect("each has one").decoded();
    let QuorumPacket::LeaderInfo { epoch, .. } = info else { panic!("{info:?}") };
    // What another leader has left it with.
    let before = (epoch.0 > 1).then(|| Before::of_leader(sequence));
    let helper_id = (1..=3).map(ServerId).find(|id| *id != leader && *id != sequence.learner).expect("three vote");
    let former = if sequence.is_observer { helper_id } else { sequence.learner };
    let policy = match &before {
        None => Policy::Elect,
        Some(before) => Policy::Settled { leader: former, zxid: before.zxid, peer_epoch: 1 },
    };
    let world = World::start(sequence, leader, policy);
    if let Some(before) = &before {
        let mut link = world.accept(former);
        before.establish(&world, &mut link)?;
        world.puppets.set(Policy::Elect);
    }
    let mut comparer = Comparer::default();
    if sequence.name == "sequence-00" {
        compare_first_words(&world, &mut comparer)?;
    }
    let last = before.map_or(Zxid::ZERO, |before| before.zxid);
    let helper = Helper::new(helper_id, epoch, last);
    let mut replay =
        Replay { link: world.connect(), world, helper, comparer, received: VecDeque::new(), proposed: BTreeSet::new() };
    replay.prepare()?;
    replay.run()?;
    if sequence.name == "sequence-00" {
        let leading = replay.world.puppets.ask(ServerId(3));
        super::election::compare(&replay.world, "NOTIFICATION:LEADING", &leading, &mut replay.comparer)?;
    }
    Ok(replay.comparer.counts)
}

/// What it says when it begins to look for a leader.
fn compare_first_words(world: &World, comparer: &mut Comparer) -> Result<(), String> {
    let (mut initial, mut vote) = (false, false);
    while !(initial && vote) {
        match world.puppets.next() {
            (_, Heard::Initial(bytes)) if !initial => {
                super::election::compare(world, "INITIAL:v1", &bytes, comparer)?;
                initial = true;
            }
            (_, Heard::Notification(bytes)) if !vote => {
                super::election::compare(world, "NOTIFICATION:LOOKING", &bytes, comparer)?;
                vote = true;
            }
            _ => {}
        }
    }
    Ok(())
}

struct Replay {
    world: World,
    /// To the learner whose connection was recorded.
    link: Link,
    /// Another learner.
    helper: Helper,
    comparer: Comparer,
    /// Not compared yet.
    received: VecDeque<Vec<u8>>,
    /// Proposals that have come.
    proposed: BTreeSet<Zxid>,
}

impl Replay {
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
            "sequence-04" => helper::filler(Zxid(0x1_0000_003f), 9),
            "sequence-05" => helper::filler(Zxid(0x1_0000_0040), 10),
            _ => Vec::new(),
        };
        if sequence.name == "sequence-04" {
            let later = sequence.packets.iter().find(|packet| packet.name() == "PROPOSAL").map(Packet::decoded);
            // The session that goes on afterwards, in the place of the last request.
            requests.pop();
            requests.extend(later.as_ref().map(helper::session_of));
        }
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

    fn run(&mut self) -> Result<(), String> {
        let packets = self.world.sequence.packets.clone();
        let (mut is_serving, mut requested) = (false, BTreeSet::new());
        for packet in &packets {
            let decoded = (packet.kind != "SNAP-STREAM").then(|| packet.decoded());
            match &decoded {
                Some(QuorumPacket::Request(request)) => {
                    requested.insert((request.session, request.cxid, request.body.op()));
                }
                Some(proposal @ (QuorumPacket::Proposal { .. } | QuorumPacket::Inform { .. })) if is_serving => {
                    let request = helper::request_of(proposal);
                    if !requested.contains(&(request.session, request.cxid, request.body.op())) {
                        self.helper.begin(request)?;
                    }
                }
                _ => {}
            }
            if !packet.from_leader {
                self.link.send(&packet.bytes);
                continue;
            }
            let received = self.take(packet, is_serving)?;
            if packet.kind == "UPTODATE" {
                is_serving = true;
                self.helper.join(&self.world)?;
            }
            if packet.kind == "SNAP-STREAM" && self.world.sequence.name == "sequence-04" {
                continue; // That of a tree whose history was not recorded.
            }
            self.comparer.compare(packet, &received)?;
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
