//! The single packets of `broadcast.json`, put together to the conversations that they were taken from: of the follower
//! whose client did what was recorded, and of the observer that heard of it, and to which that client came later.
//!
//! One transaction follows another. Those between them that were not recorded are known by what a later snapshot holds,
//! and by the digest of the recorded transaction behind them; from 0x100000013 on they are nothing but zxids.

use super::helper::{self, forwarded};
use super::script::{Packet, Sequence, sequences, singles};
use super::table::{Instead, Table};
use zabkit::jute::Record;
use zabkit::records::*;
use zabkit::tree::DataTree;

const SESSION: SessionId = SessionId(0x0100_0013_f38d_0000);
/// Of a client of the observer.
const SECOND_SESSION: SessionId = SessionId(0x0400_0013_fcbd_0000);
/// It never was.
const UNKNOWN_SESSION: SessionId = SessionId(0x0100_0017_53e6_0000);

/// The two conversations.
pub fn conversations() -> Vec<Sequence> {
    let [follower, observer] = [0, 2].map(|number| sequences().swap_remove(number));
    vec![tell(follower, "broadcast-follower"), tell(observer, "broadcast-observer")]
}

fn tell(mut sequence: Sequence, name: &str) -> Sequence {
    let end = sequence.packets.iter().position(|packet| packet.kind == "UPTODATE").expect("it serves in the end") + 2;
    sequence.packets.truncate(end);
    sequence.name = name.to_owned();
    let mut story = Story {
        singles: recorded(),
        tree: DataTree::new(),
        is_asked_here: !sequence.is_observer,
        ids: vec![("ip", "127.0.0.1")],
        sequence,
    };
    for counter in 1..=0x11 {
        if counter == 0xb {
            story.ids.push(("digest", "bob:fyVmFCwVbTJYrznoSu1koqYEYF0="));
        }
        if counter == 0x11 && story.is_asked_here {
            story.say("REQUEST:sync");
            story.say("SYNC");
        }
        story.happens(counter);
        if counter == 0x6 && story.is_asked_here {
            story.ping(counter, "PING:1 sessions");
        }
    }
    // The client has another connection, without its login; to the observer, if it is not that one's already.
    story.ids.truncate(1);
    story.say("REVALIDATE");
    story.say("REVALIDATE:valid");
    story.is_asked_here = true;
    for counter in 0x12..=0x24 {
        story.happens(counter);
        if counter == 0x1f && story.sequence.is_observer {
            story.ping(counter, "PING:2 sessions");
        }
    }
    story.add(Packet::made(false, &QuorumPacket::Revalidate { session: UNKNOWN_SESSION, timeout_ms: 8000 }));
    story.say("REVALIDATE:invalid");
    story.sequence
}

/// The recorded packets, with the differences of the table.
fn recorded() -> Vec<Packet> {
    let table = Table::load();
    let mut singles = singles("broadcast");
    for (index, packet) in singles.iter_mut().enumerate() {
        let changed = match (table.get(&format!("broadcast-{index:02}")), packet.decoded()) {
            (None, _) => continue,
            (Some(Instead::IdsAsTheyCame), QuorumPacket::Request(mut request)) => {
                request.auth.reverse();
                QuorumPacket::Request(request)
            }
            (Some(Instead::PathsInOrder), QuorumPacket::Proposal { zxid, txn }) => {
                QuorumPacket::Proposal { zxid, txn: in_order(&txn).into() }
            }
            (Some(Instead::PathsInOrder), QuorumPacket::Inform { zxid, txn }) => {
                QuorumPacket::Inform { zxid, txn: in_order(&txn).into() }
            }
            other => panic!("the replay cannot check {other:?}"),
        };
        packet.replace(&changed);
    }
    singles
}

fn in_order(txn: &[u8]) -> Vec<u8> {
    let mut txn = Txn::from_bytes(txn).expect("a transaction");
    let TxnBody::CloseSession { paths: Some(paths) } = &mut txn.body else { panic!("{txn:?}") };
    paths.sort();
    txn.to_bytes()
}

struct Story {
    singles: Vec<Packet>,
    sequence: Sequence,
    /// As it was when all this happened.
    tree: DataTree,
    /// Whether it is the learner's clients who ask, or others'.
    is_asked_here: bool,
    /// Who the client is.
    ids: Vec<(&'static str, &'static str)>,
}

impl Story {
    fn add(&mut self, packet: Packet) {
        self.sequence.packets.push(packet);
    }

    /// A recorded packet comes now.
    fn say(&mut self, kind: &str) {
        let packet = self.singles.iter().find(|packet| packet.kind == kind).expect("it was recorded");
        self.sequence.packets.push(packet.clone());
    }

    fn ping(&mut self, counter: u32, answer: &str) {
        self.add(Packet::made(true, &QuorumPacket::Ping { zxid: zxid(counter), touched: None }));
        self.say(answer);
    }

    /// A transaction: somebody asks for it, and it is proposed and committed.
    fn happens(&mut self, counter: u32) {
        let is_observer = self.sequence.is_observer;
        let (packet, txn) = self.txn(counter);
        let request = self.request(&txn);
        let QuorumPacket::Request(asked) = request.decoded() else { panic!("{request:?}") };
        if self.is_asked_here {
            self.add(request);
        } else {
            self.sequence.asked.insert((asked.session, asked.cxid), asked);
        }
        self.add(packet);
        if !is_observer {
            self.add(Packet::made(false, &QuorumPacket::Ack { zxid: txn.zxid }));
            self.add(Packet::made(true, &QuorumPacket::Commit { zxid: txn.zxid }));
        }
    }

    /// The packet of a transaction, as it was recorded, or as it must have been.
    fn txn(&mut self, counter: u32) -> (Packet, Txn) {
        let name = if self.sequence.is_observer { "INFORM" } else { "PROPOSAL" };
        let observed = sequences().swap_remove(2).packets;
        let has_zxid = |packet: &&Packet| packet.bytes[4..12] == zxid(counter).0.to_be_bytes();
        let is_txn = |packet: &&Packet| matches!(packet.name(), "INFORM" | "PROPOSAL") && has_zxid(packet);
        let known: Vec<&Packet> = self.singles.iter().chain(&observed).filter(is_txn).collect();
        let best = known.iter().find(|packet| packet.name() == name).or(known.first());
        let recorded = best.map(|packet| match packet.decoded() {
            QuorumPacket::Proposal { txn, .. } | QuorumPacket::Inform { txn, .. } => Txn::from_bytes(&txn).unwrap(),
            other => panic!("{other:?}"),
        });
        let mut txn = recorded.clone().unwrap_or_else(|| self.lost(counter));
        self.tree.apply(txn.session, txn.zxid, txn.time_ms, &txn.body, &mut |_| {});
        if !matches!(txn.body, TxnBody::Error(_)) {
            let digest = TxnDigest { version: 2, digest: self.tree.digest() };
            // What was not recorded from there on has no nodes here.
            if counter > 0x13 || txn.digest.is_none() {
                txn.digest = Some(digest.clone());
            }
            assert_eq!(txn.digest, Some(digest), "{name} {}", txn.zxid);
        }
        let bytes = txn.to_bytes().into();
        let packet = match self.sequence.is_observer {
            true => QuorumPacket::Inform { zxid: txn.zxid, txn: bytes },
            false => QuorumPacket::Proposal { zxid: txn.zxid, txn: bytes },
        };
        let mut made = Packet::made(true, &packet);
        if let Some(best) = best.filter(|best| best.name() == name) {
            (made.kind, made.recorded, made.is_listed) = (best.kind.clone(), best.recorded.clone(), best.is_listed);
        }
        (made, txn)
    }

    /// A transaction that was not recorded.
    fn lost(&self, counter: u32) -> Txn {
        let acl = vec![Acl::open()];
        let create = |path: &str, data: &[u8], parent_cversion| {
            let (path, data) = (path.to_owned(), Some(data.to_vec()));
            TxnBody::Create(CreateTxn { path, data, acl, ephemeral: false, parent_cversion })
        };
        let error = |err| TxnBody::Error(ErrorTxn { err });
        let (cxid, time_ms, body) = match counter {
            0x9 => {
                let txn = SetDataTxn { path: "/f".to_owned(), data: None, version: 2 };
                (8, 0x1a2_03c3_8868, TxnBody::SetData(txn))
            }
            0xa => (9, 0x1a2_03c3_886f, create("/f/acl", b"a", 6)),
            0xf => (14, 0, error(-101)),
            0x10 => (15, 0, error(-110)),
            0x12 => (1, 0x1a2_03c3_8e6b, create("/moved", b"x", 2)),
            0x13 if self.sequence.is_observer => {
                (0, 0, TxnBody::CreateSession(CreateSessionTxn { timeout_ms: 10_000 }))
            }
            _ => (counter as i32, 0, error(-110)),
        };
        let is_second = counter >= 0x13 && self.sequence.is_observer;
        let session = if is_second { SECOND_SESSION } else { SESSION };
        Txn { session, cxid, zxid: zxid(counter), time_ms, body, digest: None }
    }

    /// What was asked for, as a learner forwards it.
    fn request(&self, txn: &Txn) -> Packet {
        let is_it = |packet: &&Packet| {
            let QuorumPacket::Request(request) = packet.decoded() else { return false };
            let op = if txn.zxid == zxid(0xf) { op::DELETE } else { txn.body.op() };
            // The client's second connection has counted anew.
            let is_before = txn.zxid < zxid(0x12);
            (request.session, request.cxid, request.body.op()) == (txn.session, txn.cxid, op)
                && (is_before || op == op::CLOSE_SESSION)
        };
        if let Some(recorded) = self.singles.iter().filter(|packet| packet.name() == "REQUEST").find(is_it) {
            return recorded.clone();
        }
        let path = Some("/f".to_owned());
        let mut request = match txn.zxid.counter() {
            0x5 => {
                let mut request = helper::request_of_txn(txn);
                if let ForwardedBody::Request(Request::Create(create)) = &mut request.body {
                    (create.path, create.flags) = (Some("/f/seq-".to_owned()), 2);
                }
                request
            }
            0x9 => {
                let request = Request::SetData(SetDataRequest { path, data: None, version: -1 });
                forwarded(txn.session, txn.cxid, request)
            }
            0xd => {
                let create = helper::create_request("/f/m3", b"1");
                let stale = MultiOp::SetData(SetDataRequest { path, data: None, version: 99 });
                let ops = vec![MultiOp::Create(create), stale.clone(), stale];
                forwarded(txn.session, txn.cxid, Request::Multi(MultiRequest { ops }))
            }
            _ => helper::request_of_txn(txn),
        };
        if !matches!(txn.body, TxnBody::CreateSession(_)) {
            let id = |(scheme, id): &(&str, &str)| Id { scheme: (*scheme).to_owned(), id: (*id).to_owned() };
            request.auth = self.ids.iter().map(id).collect();
        }
        Packet::made(false, &QuorumPacket::Request(request))
    }
}

fn zxid(counter: u32) -> Zxid {
    Zxid::new(Epoch(1), counter)
}
