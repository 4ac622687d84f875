//! What a server has when its recorded connection begins, and how it comes by it: another leader synchronises it.

use super::script::{Packet, Sequence, sequences, single};
use super::snapshot;
use super::world::{Link, World};
use zabkit::records::*;

/// What the learner has when its recorded connection begins.
pub struct Before {
    pub accepted: Epoch,
    pub zxid: Zxid,
    /// A snapshot at this zxid...
    snapshot: (Zxid, Vec<u8>),
    /// ... and these proposals behind it.
    tail: Vec<(Zxid, Vec<u8>)>,
}

impl Before {
    pub fn of(sequence: &Sequence) -> Before {
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
            "sequence-03" => ((zxid, snapshot::cut_back(&stream(4), zxid, ROOT_PZXID)), vec![]),
            "sequence-05" => ((full, stream(4)), vec![txn(4, 0x1_0000_0040)]),
            "sequence-06" | "sequence-07" | "sequence-08" => {
                let tail = vec![txn(4, 0x1_0000_0040), txn(5, 0x1_0000_0041), txn(5, 0x1_0000_0042)];
                ((full, stream(4)), tail)
            }
            // Behind what is to be cut stands something that is cut.
            "sequence-10" => {
                let error = single("broadcast", "PROPOSAL:error").bytes;
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

    /// What a leader has when it is elected, if that is something. In epoch 2 it is all that its committed list was seen
    /// to hold.
    pub fn of_leader(sequence: &Sequence) -> Option<Before> {
        let QuorumPacket::LeaderInfo { epoch, .. } = sequence.find("LEADERINFO").expect("each has one").decoded()
        else {
            panic!("a LEADERINFO is no LEADERINFO")
        };
        if sequence.name == "sequence-04" {
            // The tree that it sends is there from the beginning; what made it was not recorded, and uses up zxids.
            let snapshot = (Zxid::ZERO, sequences()[4].find("SNAP-STREAM").expect("it is a SNAP").bytes.clone());
            return Some(Before { accepted: Epoch(0), zxid: Zxid::ZERO, snapshot, tail: Vec::new() });
        }
        if epoch == Epoch(1) {
            return None;
        }
        let mut before = Before::of(sequence);
        // The learner had logged more than was committed.
        if sequence.name == "sequence-10" {
            let last = Zxid(0x1_0000_0005);
            let mut error = single("broadcast", "PROPOSAL:error").bytes;
            error[28..36].copy_from_slice(&last.0.to_be_bytes());
            before.tail = vec![(last, error[16..error.len() - 4].to_vec())];
            before.snapshot.0 = Zxid(0x1_0000_0004);
            before.zxid = last;
        }
        Some(before)
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

/// When the root's children had last changed before 0x10000003a; found by the digest of 0x10000003b.
const ROOT_PZXID: Zxid = Zxid(0x1_0000_0039);
