//! The small locked part under loom, which tries every order in which the threads can take the locks.
//!
//! `make loom`. Each planted bug must fail its model.

use super::faults::Fault;
use super::test_host::{Sent, TestHost, WatchedNode, create, frame, get, sent, set};
use crate::jute::{Reader, Record};
use crate::records::{DataStat, SessionId};
use crate::sync::{Arc, Mutex, atomic, lock, read};
use loom::thread;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Tries every order; with a fault, one of them must fail with `violation`.
fn model(fault: Option<Fault>, violation: &str, check: fn(Option<Fault>)) {
    let run = || loom::model(move || check(fault));
    if fault.is_none() {
        return run();
    }
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("the planted bug was not seen");
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    let text = if text.is_empty() { panic.downcast_ref::<&str>().map_or(text, |text| text.to_string()) } else { text };
    assert!(text.contains(violation), "{text}");
}

fn read_beside_a_write(fault: Option<Fault>) {
    let host = Arc::new(TestHost::with_fault(fault, || {}));
    let outbox = host.connect(1);
    host.commit(vec![host.propose(SessionId(1), 0, create("/n", 0))]);
    let writer = {
        let host = host.clone();
        thread::spawn(move || host.commit(vec![host.propose(SessionId(2), 1, set("/n", b"x"))]))
    };
    let mut node = WatchedNode::default();
    for xid in [1, 2] {
        host.submit(&outbox, &[frame(xid, &get("/n", true))]);
        sent(&outbox).iter().try_for_each(|sent| node.see(sent)).unwrap();
    }
    writer.join().unwrap();
    sent(&outbox).iter().try_for_each(|sent| node.see(sent)).unwrap();
    let mzxid = read(&host.db).tree().get("/n").unwrap().stat().mzxid;
    assert!(node.mzxid == Some(mzxid) || !node.is_armed, "an event is lost");
}

fn pipelined_writes_around_a_read(fault: Option<Fault>) {
    let host = Arc::new(TestHost::with_fault(fault, || {}));
    let outbox = host.connect(1);
    host.commit(vec![host.propose(SessionId(1), 0, create("/n", 0))]);
    let queue = Arc::new(Mutex::new(Vec::new()));
    let core = {
        let (host, queue) = (host.clone(), queue.clone());
        thread::spawn(move || {
            let batch = mem::take(&mut *lock(&queue));
            host.commit(batch.iter().map(|request| host.prepare(request)).collect());
        })
    };
    for frames in [
        [frame(1, &set("/n", b"x")), frame(2, &get("/n", false))],
        [frame(3, &set("/n", b"y")), frame(4, &get("/n", false))],
    ] {
        let forward = host.submit(&outbox, &frames);
        lock(&queue).extend(forward);
    }
    core.join().unwrap();
    let rest = mem::take(&mut *lock(&queue));
    host.commit(rest.iter().map(|request| host.prepare(request)).collect());
    let versions: Vec<i32> = sent(&outbox)
        .iter()
        .filter(|sent| sent.header().xid % 2 == 0)
        .map(|sent| match sent {
            Sent::Reply { body, .. } => DataStat::read(&mut Reader::new(body)).unwrap().stat.version,
            Sent::Event { .. } => unreachable!(),
        })
        .collect();
    assert_eq!(versions, [1, 2], "a read did not see just the writes before it");
}

fn read_beside_the_end_of_a_role(fault: Option<Fault>) {
    let host = Arc::new(TestHost::with_fault(fault, || {}));
    let outbox = host.connect(1);
    let has_ended = Arc::new(atomic::AtomicBool::new(false));
    let core = {
        let (host, has_ended) = (host.clone(), has_ended.clone());
        thread::spawn(move || host.stop(|| has_ended.store(true, atomic::Ordering::SeqCst)))
    };
    let ended = has_ended.load(atomic::Ordering::SeqCst);
    host.submit(&outbox, &[frame(1, &get("/", false))]);
    assert!(!ended || sent(&outbox).is_empty(), "a read was answered after the role had ended");
    core.join().unwrap();
    assert!(outbox.is_closing());
}

#[test]
fn an_event_is_neither_lost_nor_late() {
    model(None, "", read_beside_a_write);
    model(Some(Fault::WatchAfterRead), "without an event", read_beside_a_write);
    model(Some(Fault::EventsAfterCommit), "", read_beside_a_write);
}

#[test]
fn a_parked_read_sees_just_the_writes_before_it() {
    model(None, "", pipelined_writes_around_a_read);
    model(Some(Fault::ParkedAfterBatch), "just the writes before it", pipelined_writes_around_a_read);
}

#[test]
fn no_read_is_answered_after_the_role() {
    model(None, "", read_beside_the_end_of_a_role);
    model(Some(Fault::StopAfterRole), "after the role had ended", read_beside_the_end_of_a_role);
}
