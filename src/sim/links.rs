//! The connections on the quorum port: packets to bytes and back, and the SNAP stream in between.

use super::disk::SimDisk;
use super::network::{Delivery, Socket};
use super::world::Ctx;
use crate::jute::{Reader, Record};
use crate::peer::Database;
use crate::peer::io::{Input, LinkId};
use crate::records::{QuorumPacket, SNAPSHOT_SIGNATURE, ServerId, SnapshotDecoder, TXN_BYTES_MAX, Zxid};
use crate::storage::{LogFiles, LogReader};
use crate::tree::CursorId;
use std::collections::{BTreeMap, VecDeque};

/// All links of a process.
#[derive(Default)]
pub struct Links {
    links: BTreeMap<LinkId, Link>,
    by_socket: BTreeMap<Socket, LinkId>,
    /// Connections to a leader that are not open yet.
    opening: BTreeMap<Socket, ServerId>,
    last: u64,
}

struct Link {
    socket: Socket,
    /// We are the learner.
    from_leader: bool,
    received: Vec<u8>,
    reading: Reading,
    /// What waits behind a snapshot stream.
    waiting: VecDeque<Waiting>,
    stream: Option<Stream>,
}

enum Stream {
    Snapshot(CursorId),
    Log(Box<LogStream>),
}

/// A part of the log that is being sent.
pub struct LogStream {
    reader: LogReader<SimDisk>,
    last: Zxid,
    up_to: Zxid,
}

impl LogStream {
    pub fn new(files: &LogFiles<SimDisk>, after: Zxid, up_to: Zxid) -> Result<LogStream, String> {
        let reader = files.read_from(Zxid(after.0 + 1)).map_err(|error| error.to_string())?;
        Ok(LogStream { reader, last: after, up_to })
    }

    /// Adds about `max_bytes`; whether that was all.
    fn next_chunk(&mut self, max_bytes: usize, bytes: &mut Vec<u8>) -> Result<bool, String> {
        while self.last < self.up_to && bytes.len() < max_bytes {
            let record = self.reader.next_record().map_err(|error| error.to_string())?;
            let (record, _) = record.ok_or_else(|| format!("the log ends at {}, before {}", self.last, self.up_to))?;
            if record.zxid > self.last {
                self.last = record.zxid;
                QuorumPacket::Proposal { zxid: self.last, txn: record.bytes }.write(bytes);
                QuorumPacket::Commit { zxid: self.last }.write(bytes);
            }
        }
        Ok(self.last >= self.up_to)
    }
}

enum Reading {
    Packets,
    Snapshot(SnapshotDecoder),
    Signature,
}

enum Waiting {
    Packet(QuorumPacket),
    Close,
}

impl Links {
    fn add(&mut self, socket: Socket, from_leader: bool) -> LinkId {
        self.last += 1;
        let id = LinkId(self.last);
        let (received, waiting) = (Vec::new(), VecDeque::new());
        let link = Link { socket, from_leader, received, reading: Reading::Packets, waiting, stream: None };
        self.links.insert(id, link);
        self.by_socket.insert(socket, id);
        id
    }

    pub fn socket(&self, id: LinkId) -> Option<Socket> {
        self.links.get(&id).map(|link| link.socket)
    }

    pub fn streams_under_way(&self) -> u64 {
        self.links.values().filter(|link| matches!(link.stream, Some(Stream::Snapshot(_)))).count() as u64
    }

    pub fn dialed(&mut self, socket: Socket, leader: ServerId) {
        self.opening.insert(socket, leader);
    }

    pub fn accepted(&mut self, socket: Socket) -> LinkId {
        self.add(socket, false)
    }

    pub fn knows(&self, socket: Socket) -> bool {
        self.by_socket.contains_key(&socket) || self.opening.contains_key(&socket)
    }

    pub fn on_net(&mut self, socket: Socket, delivery: Delivery, db: &mut Database, ctx: &mut Ctx) -> Vec<Input> {
        if let Some(leader) = self.opening.remove(&socket) {
            return vec![match delivery {
                Delivery::Connected => Input::LeaderLinkUp { link: self.add(socket, true), leader },
                _ => Input::LeaderLinkFailed { leader },
            }];
        }
        let id = self.by_socket[&socket];
        match delivery {
            Delivery::Bytes(bytes) => {
                let link = self.links.get_mut(&id).expect("by_socket and links agree");
                link.received.extend_from_slice(&bytes);
                let mut inputs = Vec::new();
                if let Err(reason) = link.decode(id, &mut inputs) {
                    ctx.checkers.fail(|| format!("a link brings what cannot be read: {reason}"));
                }
                inputs
            }
            _ => {
                self.forget(id, db, ctx);
                vec![Input::LinkDown { link: id, reason: "closed by the other side".into() }]
            }
        }
    }

    fn forget(&mut self, id: LinkId, db: &mut Database, ctx: &mut Ctx) {
        if let Some(link) = self.links.remove(&id) {
            self.by_socket.remove(&link.socket);
            if let Some(Stream::Snapshot(cursor)) = link.stream {
                db.end_snapshot(cursor);
                ctx.counts.streams_interrupted += 1;
            }
        }
    }

    pub fn send(&mut self, id: LinkId, packet: QuorumPacket, ctx: &mut Ctx) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.stream.is_some() {
            link.waiting.push_back(Waiting::Packet(packet));
        } else {
            let mut bytes = Vec::new();
            packet.write(&mut bytes);
            ctx.send(link.socket, bytes);
        }
    }

    /// Begins a SNAP stream; whether there is anything to ask chunks for.
    pub fn stream(&mut self, id: LinkId, cursor: Option<CursorId>, db: &mut Database) -> bool {
        match (self.links.get_mut(&id), cursor) {
            (Some(link), Some(cursor)) => {
                link.stream = Some(Stream::Snapshot(cursor));
                true
            }
            (None, Some(cursor)) => {
                db.end_snapshot(cursor);
                false
            }
            (_, None) => panic!("more snapshots at once than a run of so few servers can need"),
        }
    }

    /// Begins to send a part of the log; whether there is anything to ask chunks for.
    pub fn stream_log(&mut self, id: LinkId, stream: LogStream) -> bool {
        let Some(link) = self.links.get_mut(&id) else {
            return false;
        };
        link.stream = Some(Stream::Log(Box::new(stream)));
        true
    }

    /// Sends the next chunk of a stream; whether there is more.
    pub fn on_stream_chunk(
        &mut self,
        id: LinkId,
        db: &mut Database,
        max_bytes: usize,
        ctx: &mut Ctx,
    ) -> Result<bool, String> {
        let Some(link) = self.links.get_mut(&id) else {
            return Ok(false);
        };
        let mut bytes = Vec::new();
        let done = match &mut link.stream {
            None => return Ok(false),
            Some(Stream::Snapshot(cursor)) => {
                let done = db.next_chunk(*cursor, max_bytes, &mut bytes);
                if done {
                    db.end_snapshot(*cursor);
                    SNAPSHOT_SIGNATURE.to_owned().write(&mut bytes);
                    ctx.counts.streams += 1;
                }
                done
            }
            Some(Stream::Log(stream)) => {
                stream.next_chunk(max_bytes, &mut bytes).inspect_err(|_| link.stream = None)?
            }
        };
        if done {
            link.stream = None;
        }
        ctx.send(link.socket, bytes);
        if done {
            for waiting in std::mem::take(&mut link.waiting) {
                match waiting {
                    Waiting::Packet(packet) => self.send(id, packet, ctx),
                    Waiting::Close => self.close(id, db, ctx),
                }
            }
        }
        Ok(!done)
    }

    pub fn close(&mut self, id: LinkId, db: &mut Database, ctx: &mut Ctx) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.stream.is_some() {
            link.waiting.push_back(Waiting::Close);
            return;
        }
        ctx.close(link.socket);
        self.forget(id, db, ctx);
    }

    /// Ends all streams; the links that had one.
    pub fn abort_streams(&mut self, db: &mut Database, ctx: &mut Ctx) -> Vec<(LinkId, Socket)> {
        let is_of_tree = |link: &Link| matches!(link.stream, Some(Stream::Snapshot(_)));
        let streaming: Vec<_> =
            self.links.iter().filter(|(_, link)| is_of_tree(link)).map(|(id, link)| (*id, link.socket)).collect();
        streaming.iter().for_each(|(id, _)| self.forget(*id, db, ctx));
        streaming
    }
}

impl Link {
    /// Takes everything whole off the bytes received.
    fn decode(&mut self, id: LinkId, inputs: &mut Vec<Input>) -> Result<(), String> {
        let received = std::mem::take(&mut self.received);
        let mut from = Reader::new(&received);
        let mut packets = Vec::new();
        loop {
            match &mut self.reading {
                Reading::Packets => {
                    let packet = QuorumPacket::take(&mut from, self.from_leader).map_err(|error| error.to_string())?;
                    let Some(packet) = packet else {
                        break;
                    };
                    let is_snap = matches!(packet, QuorumPacket::Snap { .. });
                    packets.push(packet);
                    if is_snap {
                        self.reading = Reading::Snapshot(SnapshotDecoder::default());
                        inputs.push(Input::Packets { link: id, packets: std::mem::take(&mut packets) });
                    }
                }
                Reading::Snapshot(decoder) => {
                    let mut items = Vec::new();
                    while let Some(item) = decoder.take(&mut from, TXN_BYTES_MAX).map_err(|error| error.to_string())? {
                        items.push(item);
                    }
                    let done = decoder.is_done();
                    if !items.is_empty() {
                        inputs.push(Input::SnapshotItems { link: id, items, end: false });
                    }
                    if !done {
                        break;
                    }
                    self.reading = Reading::Signature;
                }
                Reading::Signature => {
                    let mut ahead = from.clone();
                    let Ok(signature) = String::read(&mut ahead) else {
                        break;
                    };
                    if signature != SNAPSHOT_SIGNATURE {
                        return Err(format!("{signature:?} ends a snapshot"));
                    }
                    from = ahead;
                    inputs.push(Input::SnapshotItems { link: id, items: Vec::new(), end: true });
                    self.reading = Reading::Packets;
                }
            }
        }
        if !packets.is_empty() {
            inputs.push(Input::Packets { link: id, packets });
        }
        self.received = from.rest().to_vec();
        Ok(())
    }
}
