//! Byte by byte, but for what changes from run to run, and that is not ignored: a session must be the one that stands
//! for the recorded one, a digest that of a tree that is as it should be. Only times are free, and must be there.

use super::script::Packet;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use zabkit::records::{op, packet};

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    pub packets: usize,
    pub bytes: usize,
    /// Bytes that the recording masks.
    pub masked: usize,
    /// How often a packet with one byte altered was compared, and was found to differ.
    pub altered: usize,
    /// Packets that differ as the table says.
    pub listed: usize,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.masked += other.masked;
        self.altered += other.altered;
        self.listed += other.listed;
    }
}

/// What a masked field stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// A session's id, made by the server that is replayed.
    Session,
    /// The leader's clock.
    Time,
    /// Of a tree in which those times stand.
    Digest,
    /// The last proposal at the moment of a PING.
    LastProposed,
}

/// The fields of a recorded packet that cannot be the same in another run. zxids are: they are made to be.
pub fn masked(recorded: &Packet) -> Vec<(Range<usize>, Field)> {
    let bytes = &recorded.bytes;
    if recorded.kind == "SNAP-STREAM" {
        return super::snapshot::times(bytes);
    }
    let kind = i32::from_be_bytes(*bytes.first_chunk().expect("a type"));
    match kind {
        packet::REQUEST | packet::REVALIDATE => vec![(16..24, Field::Session)],
        packet::PING if recorded.from_leader => vec![(4..12, Field::LastProposed)],
        packet::PING => (16..bytes.len() - 4).step_by(12).map(|at| (at..at + 8, Field::Session)).collect(),
        packet::PROPOSAL | packet::INFORM | packet::INFORM_AND_ACTIVATE => {
            // Behind who leads from then on, if that is said.
            let at = if kind == packet::INFORM_AND_ACTIVATE { 24 } else { 16 };
            let mut fields = vec![(at..at + 8, Field::Session), (at + 20..at + 28, Field::Time)];
            let is_error = bytes[at + 28..at + 32] == op::ERROR.to_be_bytes();
            if !is_error {
                fields.push((bytes.len() - 12..bytes.len() - 4, Field::Digest));
            }
            fields
        }
        _ => Vec::new(),
    }
}

/// Compares what was received with what was recorded.
#[derive(Default)]
pub struct Comparer {
    /// Sessions of this run, by the recorded ones.
    pub sessions: BTreeMap<i64, i64>,
    pub counts: Counts,
    /// The packets that were compared, or that the table leaves out, as they stand in the files; whether they are a
    /// leader's.
    pub compared: BTreeSet<(bool, Vec<u8>)>,
}

impl Comparer {
    /// Counts and compares; says what differs.
    pub fn compare(&mut self, recorded: &Packet, received: &[u8]) -> Result<(), String> {
        let verdict = self.judge(recorded, received);
        let fields = masked(recorded);
        self.counts.packets += 1;
        self.counts.bytes += received.len();
        self.counts.masked += fields.iter().map(|(range, _)| range.len()).sum::<usize>();
        verdict?;
        let is_free = |at: usize| fields.iter().any(|(range, field)| *field != Field::Session && range.contains(&at));
        let mut altered = received.to_vec();
        for at in (0..altered.len()).filter(|&at| !is_free(at)) {
            altered[at] ^= 1;
            if self.judge(recorded, &altered).is_ok() {
                return Err(format!("{}: byte {at} could be any", recorded.kind));
            }
            altered[at] ^= 1;
            self.counts.altered += 1;
        }
        self.counts.listed += usize::from(recorded.is_listed);
        self.compared.insert((recorded.from_leader, recorded.recorded.clone()));
        Ok(())
    }

    /// The table says that this is not said.
    pub fn leave_out(&mut self, recorded: &Packet) {
        self.counts.listed += 1;
        self.compared.insert((recorded.from_leader, recorded.recorded.clone()));
    }

    fn judge(&mut self, recorded: &Packet, received: &[u8]) -> Result<(), String> {
        let differs = |what: &str| {
            let (recorded, kind, received) = (hex(&recorded.bytes), &recorded.kind, hex(received));
            Err(format!("{kind}: {what}\n  recorded {recorded}\n  received {received}"))
        };
        let mut expected = recorded.bytes.clone();
        if expected.len() != received.len() {
            return differs("another length");
        }
        let mut learnt = None;
        for (range, field) in masked(recorded) {
            let Some(value) = received.get(range.clone()) else { return differs("too short") };
            if field == Field::Session {
                let number = |bytes: &[u8]| i64::from_be_bytes(bytes.try_into().expect("eight bytes"));
                let (old, new) = (number(&expected[range.clone()]), number(value));
                match self.sessions.get(&old) {
                    Some(known) if *known != new => return differs("another session"),
                    Some(_) => {}
                    None if old >> 56 != new >> 56 => return differs("a session of another server"),
                    None => learnt = Some((old, new)),
                }
            }
            expected[range.clone()].copy_from_slice(value);
        }
        if expected != received {
            return differs("another byte");
        }
        self.sessions.extend(learnt);
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    super::vectors::hex(bytes)
}
