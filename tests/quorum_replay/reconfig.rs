//! The run in which the members change: what a server has gone through before its recorded connection begins.
//!
//! Servers 1, 2 and 3 begin, and 3 leads. Server 4 learns from them that it is no member, and follows all the same; then
//! it is taken in as an observer (0x100000002), and as a voter (0x100000004); then 3 is no member any more
//! (0x100000007), and 2 leads without an election. What else happened was not recorded, and is nothing here but zxids.

use super::client::Client;
use super::compare::Comparer;
use super::election::{self, DESIGNATED, JOINER, MEMBER, STRANGER};
use super::helper::{self, Helper};
use super::puppets::Policy;
use super::script::{Packet, Sequence, sequences, single};
use super::table::Table;
use super::world::{Link, PATIENCE, World, decode};
use super::{leader, learner};
use std::time::Instant;
use zabkit::jute::Record;
use zabkit::records::*;
use zabkit::server::Role;

/// Who leads before it is removed, and who afterwards.
pub const FIRST: ServerId = ServerId(3);
const SECOND: ServerId = ServerId(2);
const THE_JOINER: ServerId = ServerId(4);
const SESSION: SessionId = SessionId(0x0100_0014_c293_0000);

fn zxid(counter: u32) -> Zxid {
    Zxid::new(Epoch(1), counter)
}

/// The number of a sequence before which the members have changed, or a server has learnt that it is none.
pub fn number(sequence: &Sequence) -> Option<usize> {
    let number = sequence.name.strip_prefix("sequence-")?.parse().ok()?;
    (13..=16).contains(&number).then_some(number)
}

/// As a learner: server 4, but 1 at last.
pub fn replay_learner(sequence: &Sequence, number: usize, table: &Table) -> Result<Comparer, String> {
    let policy = Policy::Settled { leader: FIRST, zxid: Zxid::ZERO, peer_epoch: 1 };
    let world = World::start(sequence, sequence.learner, policy);
    let mut comparer = Comparer::default();
    let link = match number {
        16 => {
            let mut link = world.accept(FIRST);
            follow(&world, &mut link, 11)?;
            let session = ask_for_a_change(&world, &mut link, &mut comparer)?;
            for counter in 2..=7 {
                tell(&world, &mut link, session, counter)?;
            }
            world.accept(SECOND)
        }
        _ => {
            if number == 13 {
                compare_first_words(&world, &mut comparer)?;
            }
            let mut link = world.accept(FIRST);
            if number > 13 {
                follow(&world, &mut link, 13)?;
                tell(&world, &mut link, SESSION, 2)?;
                link = world.accept(FIRST);
            }
            if number > 14 {
                follow(&world, &mut link, 14)?;
                for counter in [3, 4] {
                    link.send_packet(&inform(&world, counter));
                }
                link = world.accept(FIRST);
            }
            link
        }
    };
    let mut replay = learner::Replay::new(world, link, comparer);
    replay.run(table)?;
    let (mut world, mut link, mut comparer) = replay.into_parts();
    if number == 15 {
        for counter in 5..=7 {
            tell(&world, &mut link, SESSION, counter)?;
        }
        let link = world.accept(SECOND);
        world.puppets.set(Policy::Elect);
        world.restart();
        drop(link);
        let is_newest = |said: &[u8]| said.ends_with(b"\nversion=100000007");
        let said = std::iter::repeat_with(|| world.puppets.next_notification()).find(|said| is_newest(said));
        election::compare(&world.ports, MEMBER, &said.expect("it waits for it"), &mut comparer)?;
    }
    Ok(comparer)
}

/// A client of the learner has a session, and asks for the first change. Returns the session.
fn ask_for_a_change(world: &World, link: &mut Link, comparer: &mut Comparer) -> Result<SessionId, String> {
    let mut client = Client::connect(&world.server, 10_000, SessionId(0));
    let request = Request::CreateSession(CreateSessionRequest { timeout_ms: 10_000 });
    let request = QuorumPacket::Request(helper::forwarded(SESSION, 0, request));
    comparer.compare(&Packet::made(false, &request), &link.next()?)?;
    let session = SessionId(comparer.sessions[&SESSION.0]);
    tell(world, link, session, 1)?;
    let asked = single("reconfig", "REQUEST:reconfig").at(&world.ports);
    let QuorumPacket::Request(request) = asked.decoded() else { panic!("{asked:?}") };
    client.send(&request);
    comparer.compare(&asked, &link.next()?)?;
    Ok(session)
}

/// Server 4 begins with a list in which it observes; then it hears of one in which it is not.
fn compare_first_words(world: &World, comparer: &mut Comparer) -> Result<(), String> {
    let first = world.puppets.next_notification();
    election::compare(&world.ports, JOINER, &first, comparer)?;
    let next = std::iter::repeat_with(|| world.puppets.next_notification()).find(|said| *said != first);
    election::compare(&world.ports, STRANGER, &next.expect("it waits for it"), comparer)
}

/// Says as the leader what the recorded one said until the learner served.
fn follow(world: &World, link: &mut Link, number: usize) -> Result<(), String> {
    let mut comparer = Comparer::default();
    for packet in handshake(world, number) {
        if packet.from_leader {
            link.send(&packet.bytes);
        } else {
            comparer.compare(&packet, &link.next()?)?;
        }
    }
    Ok(())
}

/// Says as a learner what the recorded one said until it served.
fn lead(world: &World, link: &mut Link, number: usize) -> Result<(), String> {
    let mut comparer = Comparer::default();
    for packet in handshake(world, number) {
        if packet.from_leader {
            comparer.compare(&packet, &next_but_pings(link)?)?;
        } else {
            link.send(&packet.bytes);
        }
    }
    Ok(())
}

/// Up to the second ACK of NEWLEADER, without PINGs.
fn handshake(world: &World, number: usize) -> Vec<Packet> {
    let packets = sequences().swap_remove(number).at(&world.ports).packets;
    let end = packets.iter().position(|packet| packet.kind == "UPTODATE").expect("it serves in the end") + 2;
    packets.into_iter().take(end).filter(|packet| packet.name() != "PING").collect()
}

fn next_but_pings(link: &mut Link) -> Result<Vec<u8>, String> {
    loop {
        let bytes = link.next()?;
        if bytes[..4] != packet::PING.to_be_bytes() {
            return Ok(bytes);
        }
    }
}

/// What the transaction with this number was; it makes nothing of the tree but its zxid, and the members.
fn txn(world: &World, session: SessionId, counter: u32) -> Vec<u8> {
    let mut txn = known_txn(counter);
    txn.session = session;
    world.ports.replace(&txn.to_bytes())
}

fn known_txn(counter: u32) -> Txn {
    let (session, cxid, zxid) = (SESSION, counter as i32, zxid(counter));
    let body = match counter {
        1 => TxnBody::CreateSession(CreateSessionTxn { timeout_ms: 10_000 }),
        2 => {
            let QuorumPacket::Proposal { txn, .. } = single("reconfig", "PROPOSAL:reconfig").decoded() else {
                panic!()
            };
            return Txn::from_bytes(&txn).expect("a transaction");
        }
        4 => {
            let packet = single("reconfig", "INFORMANDACTIVATE").decoded();
            let QuorumPacket::InformAndActivate { txn, .. } = packet else { panic!("{packet:?}") };
            let mut txn = Txn::from_bytes(&txn).expect("a transaction");
            // Of a tree that has something of 0x100000003.
            txn.digest = None;
            return txn;
        }
        7 => {
            let QuorumPacket::NewLeader { config: Some(text), .. } =
                sequences()[16].find("NEWLEADER").expect("each has one").decoded()
            else {
                panic!("no text")
            };
            let data = Some(text.into_bytes());
            TxnBody::Reconfig(SetDataTxn { path: "/zookeeper/config".into(), data, version: -1 })
        }
        _ => TxnBody::Error(ErrorTxn { err: -110 }),
    };
    Txn { session, cxid, zxid, time_ms: 0, body, digest: None }
}

/// Who leads from this transaction on, if it changes the members.
fn designated(counter: u32) -> Option<ServerId> {
    match counter {
        2 | 4 => Some(FIRST),
        7 => Some(SECOND),
        _ => None,
    }
}

/// Proposes a transaction to a follower, which acknowledges it, and commits it.
fn tell(world: &World, link: &mut Link, session: SessionId, counter: u32) -> Result<(), String> {
    let zxid = zxid(counter);
    link.send_packet(&QuorumPacket::Proposal { zxid, txn: txn(world, session, counter).into() });
    let answer = decode(&link.next()?, false);
    if answer != (QuorumPacket::Ack { zxid }) {
        return Err(format!("{answer:?} in the place of an ACK of {zxid}"));
    }
    link.send_packet(&match designated(counter) {
        Some(designated_leader) => QuorumPacket::CommitAndActivate { zxid, designated_leader },
        None => QuorumPacket::Commit { zxid },
    });
    Ok(())
}

/// The same to an observer.
fn inform(world: &World, counter: u32) -> QuorumPacket {
    let (zxid, txn) = (zxid(counter), txn(world, SESSION, counter).into());
    match designated(counter) {
        Some(designated_leader) => QuorumPacket::InformAndActivate { zxid, designated_leader, txn },
        None => QuorumPacket::Inform { zxid, txn },
    }
}

/// As a leader: server 3, but 2 at last.
pub fn replay_leader(sequence: &Sequence, number: usize) -> Result<Comparer, String> {
    let mut comparer = Comparer::default();
    if number == 16 {
        let policy = Policy::Settled { leader: FIRST, zxid: Zxid::ZERO, peer_epoch: 1 };
        let world = World::start(sequence, SECOND, policy);
        let mut link = world.accept(FIRST);
        follow(&world, &mut link, 12)?;
        for counter in 1..=7 {
            tell(&world, &mut link, SESSION, counter)?;
        }
        wait_until_it_leads(&world);
        let said = world.puppets.ask(THE_JOINER);
        election::compare(&world.ports, DESIGNATED, &said, &mut comparer)?;
        let helper = Helper::new(THE_JOINER, Epoch(2), zxid(7));
        let link = world.connect();
        let mut replay = leader::Replay::new(world, link, helper, comparer);
        replay.run()?;
        return Ok(replay.comparer);
    }
    let world = World::start(sequence, FIRST, Policy::Elect);
    let mut others = [1, 2].map(|id| Helper::new(ServerId(id), Epoch(1), Zxid::ZERO));
    others.iter_mut().try_for_each(|other| other.join(&world))?;
    let [mut helper, _other] = others;
    helper.ask(helper::forwarded(SESSION, 0, Request::CreateSession(CreateSessionRequest { timeout_ms: 10_000 })))?;
    let mut link = world.connect();
    if number > 13 {
        lead(&world, &mut link, 13)?;
        let asked = single("reconfig", "REQUEST:reconfig").at(&world.ports);
        let QuorumPacket::Request(request) = asked.decoded() else { panic!("{asked:?}") };
        helper.begin(request)?;
        for kind in ["PROPOSAL:reconfig", "COMMITANDACTIVATE"] {
            let bytes = next_but_pings(&mut link)?;
            comparer.compare(&single("reconfig", kind).at(&world.ports), &bytes)?;
            if kind.starts_with("PROPOSAL") {
                link.send_packet(&QuorumPacket::Ack { zxid: zxid(2) });
            }
        }
        link = world.connect();
    }
    if number > 14 {
        lead(&world, &mut link, 14)?;
        helper.ask(helper::refused(SESSION, 3))?;
        next_but_pings(&mut link)?;
        let joining = "server.4=127.0.0.1:31104:31204:participant;127.0.0.1:31304";
        let joining = Some(world.ports.replace_text(joining));
        let change = ReconfigRequest { joining, leaving: None, new_members: None, current_config: -1 };
        helper.begin(helper::forwarded(SESSION, 4, Request::Reconfig(change)))?;
        let bytes = next_but_pings(&mut link)?;
        comparer.compare(&single("reconfig", "INFORMANDACTIVATE").at(&world.ports), &bytes)?;
        link = world.connect();
    }
    let mut replay = leader::Replay::new(world, link, helper, comparer);
    replay.run()?;
    Ok(replay.comparer)
}

fn wait_until_it_leads(world: &World) {
    let deadline = Instant::now() + PATIENCE;
    let mut status = world.server.status();
    while status.role != Role::Leading {
        assert!(Instant::now() < deadline, "{status:?}");
        status = world.server.wait_status(status.version, deadline);
    }
}
