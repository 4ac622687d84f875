//! Reads beside writes with real threads: what clients rely on must hold however the threads meet. Each planted bug
//! ([`Fault`]) breaks it, and must be seen to; so these tests can fail.

use super::Outbox;
use super::faults::Fault;
use super::io::ClientRequest;
use super::test_host::{Sent, TestHost, Violation, WatchedNode, create, frame, get, sent, set};
use crate::jute::{Reader, Record};
use crate::records::{DataStat, SessionId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// Rounds after which a planted bug must have been seen.
const ROUNDS_MAX: usize = 2_000;
/// Rounds of the server as it is.
const ROUNDS: usize = 60;

/// Runs `round` until the planted bug shows; without one, it must hold every time.
fn stress(fault: Option<Fault>, round: fn(Option<Fault>) -> Violation) {
    let rounds = if fault.is_some() { ROUNDS_MAX } else { ROUNDS };
    let seen = (0..rounds).find_map(|at| round(fault).err().map(|violation| (at, violation)));
    match (fault, seen) {
        (None, Some((_, violation))) => panic!("{violation}"),
        (Some(fault), None) => panic!("{fault:?} was not seen in {rounds} rounds"),
        (Some(fault), Some((at, violation))) => println!("{fault:?} was seen in round {at}: {violation}"),
        (None, None) => {}
    }
}

/// Two connections watch and read a node all the time while it is written.
fn watches_beside_writes(fault: Option<Fault>) -> Violation {
    const WRITES: i32 = 40;
    let host = TestHost::with_fault(fault, thread::yield_now);
    let watchers = [host.connect(1), host.connect(2)];
    host.commit(vec![host.propose(SessionId(1), 0, create("/n", 0))]);
    let is_done = AtomicBool::new(false);
    let watch = |outbox: Arc<Outbox>| {
        let mut node = WatchedNode::default();
        let mut xid = 0;
        loop {
            let is_last = is_done.load(Ordering::SeqCst);
            xid += 1;
            host.submit(&outbox, &[frame(xid, &get("/n", true))]);
            sent(&outbox).iter().try_for_each(|each| node.see(each))?;
            if is_last {
                return Ok(());
            }
        }
    };
    thread::scope(|scope| {
        let watchers = watchers.map(|outbox| scope.spawn(|| watch(outbox)));
        for cxid in 0..WRITES {
            host.commit(vec![host.propose(SessionId(99), cxid, set("/n", &cxid.to_be_bytes()))]);
            thread::yield_now();
        }
        is_done.store(true, Ordering::SeqCst);
        watchers.into_iter().try_for_each(|watcher| watcher.join().expect("a watcher panicked"))
    })
}

/// Sessions pipeline sets and gets of a node of their own; the core commits whatever has queued in one batch.
fn pipelined_reads_and_writes(fault: Option<Fault>) -> Violation {
    const WRITES: i32 = 30;
    let host = TestHost::with_fault(fault, thread::yield_now);
    let clients = [host.connect(1), host.connect(2)];
    for session in [1, 2] {
        host.commit(vec![host.propose(SessionId(session), 0, create(&format!("/{session}"), 0))]);
    }
    let (requests, queue) = channel::<Vec<ClientRequest>>();
    let core = |queue: Receiver<Vec<ClientRequest>>| {
        while let Ok(first) = queue.recv() {
            let batch = first.into_iter().chain(queue.try_iter().flatten());
            host.commit(batch.map(|request| host.prepare(&request)).collect());
        }
    };
    let client = |outbox: Arc<Outbox>, requests: std::sync::mpsc::Sender<Vec<ClientRequest>>| {
        let path = format!("/{}", outbox.conn().0);
        // The even xids read: after `xid / 2` sets the version must be just that.
        for pair in 0..WRITES {
            let frames = [frame(2 * pair + 1, &set(&path, b"x")), frame(2 * pair + 2, &get(&path, false))];
            requests.send(host.submit(&outbox, &frames)).expect("the core runs");
        }
        drop(requests);
        let mut expected = 1;
        while expected <= 2 * WRITES {
            for reply in sent(&outbox) {
                let Sent::Reply { header, body } = &reply else { return Err(format!("{reply:?} is no reply")) };
                if header.xid != expected {
                    return Err(format!("the reply to {} came instead of that to {expected}", header.xid));
                }
                expected += 1;
                if header.xid % 2 == 0 {
                    let data = DataStat::read(&mut Reader::new(body)).map_err(|error| error.to_string())?;
                    if data.stat.version != header.xid / 2 {
                        return Err(format!("after {} sets the version was {}", header.xid / 2, data.stat.version));
                    }
                }
            }
            thread::yield_now();
        }
        Ok(())
    };
    thread::scope(|scope| {
        scope.spawn(|| core(queue));
        let clients = clients.map(|outbox| {
            let requests = requests.clone();
            scope.spawn(|| client(outbox, requests))
        });
        drop(requests);
        clients.into_iter().try_for_each(|client| client.join().expect("a client panicked"))
    })
}

/// A connection reads all the time while the role ends.
fn reads_beside_the_end_of_a_role(fault: Option<Fault>) -> Violation {
    let host = TestHost::with_fault(fault, thread::yield_now);
    let outbox = host.connect(1);
    let (has_ended, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let reader = || {
        while !outbox.is_closing() {
            // Whatever is answered after this was answered in the ended role.
            let ended = has_ended.load(Ordering::SeqCst);
            host.submit(&outbox, &[frame(1, &get("/", false))]);
            if ended && !sent(&outbox).is_empty() {
                return Err("a read was answered after the role had ended".to_owned());
            }
            sent(&outbox);
            reads.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let reader = scope.spawn(reader);
        while reads.load(Ordering::SeqCst) < 3 {
            thread::yield_now();
        }
        host.stop(|| has_ended.store(true, Ordering::SeqCst));
        reader.join().expect("the reader panicked")
    })
}

/// A connection reads all the time while the lease runs out.
fn reads_beside_the_end_of_a_lease(fault: Option<Fault>) -> Violation {
    let host = TestHost::with_fault(fault, thread::yield_now);
    let outbox = host.connect(1);
    let reader = || {
        for _ in 0..10_000 {
            let is_over = host.now().micros >= 1_000_000;
            host.submit(&outbox, &[frame(1, &get("/", false))]);
            let answers = sent(&outbox).len();
            if is_over && answers > 0 {
                return Err("a read was answered after the lease had ended".to_owned());
            }
            if outbox.is_closing() {
                return Ok(());
            }
        }
        Err("the lease has no end".to_owned())
    };
    thread::scope(|scope| {
        let reader = scope.spawn(reader);
        host.clock.store(1_000_000, Ordering::SeqCst);
        reader.join().expect("the reader panicked")
    })
}

#[test]
fn no_event_is_lost_or_late_beside_writes() {
    stress(None, watches_beside_writes);
}

#[test]
fn an_event_lost_between_read_and_reply_is_seen() {
    stress(Some(Fault::WatchAfterRead), watches_beside_writes);
}

#[test]
fn an_event_after_the_reply_that_shows_its_change_is_seen() {
    stress(Some(Fault::EventsAfterCommit), watches_beside_writes);
}

#[test]
fn a_read_sees_its_sessions_earlier_writes_and_no_later_ones() {
    stress(None, pipelined_reads_and_writes);
}

#[test]
fn a_read_that_sees_a_later_pipelined_write_is_seen() {
    stress(Some(Fault::ParkedAfterBatch), pipelined_reads_and_writes);
}

#[test]
fn no_read_is_answered_after_the_role_has_ended() {
    stress(None, reads_beside_the_end_of_a_role);
    stress(None, reads_beside_the_end_of_a_lease);
}

#[test]
fn a_read_after_the_role_has_ended_is_seen() {
    stress(Some(Fault::StopAfterRole), reads_beside_the_end_of_a_role);
    stress(Some(Fault::LeaseIgnored), reads_beside_the_end_of_a_lease);
}
