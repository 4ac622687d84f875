//! The bytes of a link to what they mean: packets, and behind a SNAP the items of a snapshot, as far as they have come.

use super::BUFFER_KEPT_MAX;
use crate::jute::{DecodeError, Reader};
use crate::peer::io::{Input, LinkId};
use crate::records::{QuorumPacket, SNAPSHOT_SIGNATURE, SnapshotDecoder, SnapshotItem};

/// Between an ACK (20 bytes) and a proposal (some 200), which is what comes in crowds.
const PACKET_BYTES_USUAL: usize = 64;

/// A stream's bytes to inputs: packets, and after a SNAP the snapshot's items.
pub struct Decoder {
    from_leader: bool,
    pub bytes: Vec<u8>,
    snapshot: Option<SnapshotDecoder>,
    txn_bytes_max: usize,
}

impl Decoder {
    pub fn new(from_leader: bool, txn_bytes_max: usize) -> Decoder {
        Decoder { from_leader, bytes: Vec::new(), snapshot: None, txn_bytes_max }
    }

    /// Hands on everything that is whole; keeps the rest.
    pub fn decode(&mut self, link: LinkId, sink: &mut dyn FnMut(Input)) -> Result<(), DecodeError> {
        let bytes = std::mem::take(&mut self.bytes);
        let mut from = Reader::new(&bytes);
        loop {
            let before = from.remaining();
            match self.snapshot {
                None => self.packets(link, &mut from, sink)?,
                Some(_) => self.items(link, &mut from, sink)?,
            }
            if from.remaining() == before {
                break;
            }
        }
        let consumed = bytes.len() - from.remaining();
        // The longest packet: its data, and the identities of a client.
        let limit = 4 * self.txn_bytes_max;
        if bytes.len() - consumed > limit {
            return Err(DecodeError::TooLong { length: bytes.len() - consumed, limit });
        }
        self.bytes = bytes;
        self.bytes.drain(..consumed);
        if self.bytes.is_empty() && self.bytes.capacity() > BUFFER_KEPT_MAX {
            self.bytes = Vec::new();
        }
        Ok(())
    }

    /// Packets up to the end, or up to a SNAP.
    fn packets(&mut self, link: LinkId, from: &mut Reader<'_>, sink: &mut dyn FnMut(Input)) -> Result<(), DecodeError> {
        // Nearly no growing on the way: a crowd brings thousands in one read.
        let mut packets = Vec::with_capacity(from.remaining() / PACKET_BYTES_USUAL + 1);
        let end = loop {
            match QuorumPacket::take_within(from, self.from_leader, self.txn_bytes_max) {
                Ok(Some(packet)) => {
                    let is_snap = matches!(packet, QuorumPacket::Snap { .. });
                    packets.push(packet);
                    if is_snap && self.from_leader {
                        self.snapshot = Some(SnapshotDecoder::default());
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                // Taken off the stream, and of a release that knows more than we do.
                Err(error @ DecodeError::Unknown { .. }) => tracing::warn!("a packet of {link:?} is ignored: {error}"),
                Err(error) => break Err(error),
            }
        };
        if !packets.is_empty() {
            sink(Input::Packets { link, packets });
        }
        end
    }

    /// Items of a snapshot up to the end of what is here, or to the signature.
    fn items(&mut self, link: LinkId, from: &mut Reader<'_>, sink: &mut dyn FnMut(Input)) -> Result<(), DecodeError> {
        let Some(decoder) = &mut self.snapshot else {
            return Ok(());
        };
        let mut items: Vec<SnapshotItem> = Vec::new();
        while let Some(item) = decoder.take(from, self.txn_bytes_max)? {
            items.push(item);
        }
        let end = decoder.is_done() && take_signature(from)?;
        if end {
            self.snapshot = None;
        }
        if end || !items.is_empty() {
            sink(Input::SnapshotItems { link, items, end });
        }
        Ok(())
    }
}

/// Takes the signature behind a snapshot; false: not all of it is here.
fn take_signature(from: &mut Reader<'_>) -> Result<bool, DecodeError> {
    let mut ahead = Reader::with_limit(from.rest(), SNAPSHOT_SIGNATURE.len());
    match ahead.buffer() {
        Ok(Some(bytes)) if bytes == SNAPSHOT_SIGNATURE.as_bytes() => {
            from.bytes(4 + bytes.len())?;
            Ok(true)
        }
        Ok(_) => Err(DecodeError::Unknown { what: "signature of a snapshot", value: 0 }),
        Err(DecodeError::Short { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
