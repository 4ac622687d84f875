//! Planted bugs of counting: the host of a leader gives its core ACKs that nobody has sent.

use super::ensemble::is_quorum;
use super::planted::Planted;
use crate::peer::io::{Input, LinkId, Members};
use crate::records::{PeerType, QuorumPacket, ServerId, Zxid};
use std::collections::BTreeMap;

/// Who is at the other end of each link, and what they have acknowledged.
pub struct ForgedAcks {
    planted: Option<Planted>,
    id: ServerId,
    members: Members,
    learners: BTreeMap<LinkId, (ServerId, PeerType)>,
    acked: BTreeMap<ServerId, Zxid>,
}

impl ForgedAcks {
    /// Of server `id`, which goes by `members`.
    pub fn new(planted: Option<Planted>, id: ServerId, members: Members) -> ForgedAcks {
        ForgedAcks { planted, id, members, learners: BTreeMap::new(), acked: BTreeMap::new() }
    }

    pub fn on_members(&mut self, members: &Members) {
        self.members = members.clone();
    }

    /// What the core is given before `input`; it means nothing to one that does not lead.
    pub fn before(&mut self, input: &Input) -> Vec<Input> {
        match input {
            _ if self.planted.is_none() => Vec::new(),
            Input::Packets { link, packets } => {
                packets.iter().flat_map(|packet| self.on_packet(*link, packet)).collect()
            }
            Input::Flushed { up_to, .. } => self.on_ack(self.id, *up_to),
            Input::LinkDown { link, .. } => {
                self.learners.remove(link);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn on_packet(&mut self, link: LinkId, packet: &QuorumPacket) -> Vec<Input> {
        match packet {
            QuorumPacket::FollowerInfo { info, .. } => self.on_learner(link, info.server, PeerType::Participant),
            QuorumPacket::ObserverInfo { info, .. } => self.on_learner(link, info.server, PeerType::Observer),
            QuorumPacket::Ack { zxid } => match self.learners.get(&link) {
                Some((_, PeerType::Observer)) => return self.on_ack_of_observer(*zxid),
                Some((server, _)) if zxid.counter() > 0 => return self.on_ack(*server, *zxid),
                _ => {}
            },
            _ => {}
        }
        Vec::new()
    }

    fn on_learner(&mut self, link: LinkId, server: ServerId, kind: PeerType) {
        self.acked.remove(&server);
        self.learners.insert(link, (server, kind));
    }

    /// It counts as that of the voter which has come last.
    fn on_ack_of_observer(&self, zxid: Zxid) -> Vec<Input> {
        let is_voter = |(server, kind): &(ServerId, PeerType)| {
            *kind == PeerType::Participant && self.members.committed.is_voter(*server)
        };
        let last = self.learners.iter().rev().find(|(_, learner)| is_voter(learner));
        let voter = last.filter(|_| self.planted == Some(Planted::ObserverAcks));
        voter.map(|(link, _)| ack(*link, zxid)).into_iter().collect()
    }

    /// What a quorum of the committed configuration has, all voters of the proposed one have acknowledged.
    fn on_ack(&mut self, server: ServerId, zxid: Zxid) -> Vec<Input> {
        let acked = self.acked.entry(server).or_insert(zxid);
        *acked = zxid.max(*acked);
        let Members { committed, last_seen: Some(proposed) } = &self.members else { return Vec::new() };
        if self.planted != Some(Planted::OldQuorumAlone) {
            return Vec::new();
        }
        let has = |zxid: Zxid| is_quorum(committed, |id| self.acked.get(&id).is_some_and(|acked| *acked >= zxid));
        let Some(reached) = self.acked.values().copied().filter(|zxid| has(*zxid)).max() else { return Vec::new() };
        let voters = self.learners.iter().filter(|(_, (server, _))| proposed.is_voter(*server));
        voters.map(|(link, _)| ack(*link, reached)).collect()
    }
}

fn ack(link: LinkId, zxid: Zxid) -> Input {
    Input::Packets { link, packets: vec![QuorumPacket::Ack { zxid }] }
}
