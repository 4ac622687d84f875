//! A session moves between all members of an ensemble, again and again, under writes, with ephemerals and watches.
//!
//! It keeps its id. Each event of its one-shot watches comes exactly once, over any number of moves; those of a
//! persistent watch come exactly once and in order for as long as a connection lasts. Its ephemerals are there until it
//! ends, and then die once, all in one transaction. What it sends on a connection that it has left behind is refused.
//!
//! `ZABKIT_MOVES` says how often it moves (`make moves-soak`: 1000).

mod link;
mod watches;

use link::{Event, Identity, Link, create, delete, set, sync, watch};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use watches::OneShots;
use zabkit::records::*;
use zabkit::server::{Ensemble, EnsembleConfig};

const PATIENCE: Duration = Duration::from_secs(60);
const NODES: usize = 10;

/// A small generator with a fixed seed: the moves are the same in every run, though not what the writers do meanwhile.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// What the persistent recursive watch on `/q` must tell, by zxid. The one-shot watches are below `/p`: a connection is
/// told of a change once, whichever of its watches match.
type Expected = Mutex<BTreeMap<Zxid, Event>>;

/// One connection's part of the persistent watch: everything after `from`, up to `to`, and what came.
struct Stay {
    from: Zxid,
    to: Zxid,
    events: Vec<Event>,
}

#[test]
fn a_session_that_moves_keeps_its_id_its_watches_and_its_ephemerals() {
    let moves = std::env::var("ZABKIT_MOVES").map_or(60, |moves| moves.parse().expect("ZABKIT_MOVES is a number"));
    let config = EnsembleConfig { tick_time_ms: 500, ..EnsembleConfig::default() };
    let ensemble = Ensemble::start(config).unwrap();
    ensemble.wait_for_leader(PATIENCE).unwrap();
    let addrs: Vec<SocketAddr> = ensemble
        .ids()
        .into_iter()
        .map(|id| {
            ensemble.wait_until_serving(id, PATIENCE).unwrap();
            ensemble.client_addr(id).unwrap()
        })
        .collect();

    let mut setup = Link::open(addrs[0], Identity::NEW).unwrap();
    let tops = ["/p", "/q", "/e", "/w"].map(str::to_owned);
    for path in tops.into_iter().chain((0..NODES).flat_map(|n| [format!("/p/{n}"), format!("/q/{n}")])) {
        setup.ask(create(&path, 0)).unwrap().1.unwrap();
    }
    let mut observers: Vec<Link> = addrs.iter().map(|&addr| observe(addr)).collect();
    let (stop, expected) = (Arc::new(AtomicBool::new(false)), Arc::new(Expected::default()));
    let writers: Vec<_> = (0..2)
        .map(|n| {
            let (stop, expected, addr) = (stop.clone(), expected.clone(), addrs[n]);
            std::thread::spawn(move || write_on(n, addr, &stop, &expected))
        })
        .collect();

    let began = Instant::now();
    let mut mover = Mover::new(&addrs);
    for n in 0..moves {
        mover.stay(n);
        mover.go(n);
        // Their sessions want to be heard of.
        let at = n % observers.len();
        observers[at].ask(sync()).unwrap().1.unwrap();
    }
    mover.stay(moves);
    stop.store(true, Ordering::Relaxed);
    let writes: usize = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    mover.last_look();
    let seconds = began.elapsed().as_secs_f64();

    let session = mover.link.identity.session;
    let Mover { shots, stays, visits, refused, behind, ephemerals, .. } = &mut mover;
    let (mut persistent, mut wrong) = (0, 0);
    let expected = expected.lock().unwrap();
    for Stay { from, to, events } in stays.iter() {
        let due: Vec<&Event> = expected
            .range((std::ops::Bound::Excluded(from), std::ops::Bound::Included(to)))
            .map(|(_, event)| event)
            .collect();
        persistent += due.len();
        if due != events.iter().collect::<Vec<_>>() {
            wrong += 1;
            eprintln!("from {from} to {to}: {} events were due, {} came", due.len(), events.len());
        }
    }
    println!(
        "{moves} moves in {seconds:.1} s between {} members ({visits:?} arrivals), the session {session} throughout; \
         {writes} writes of others meanwhile",
        addrs.len()
    );
    println!(
        "one-shot watches: {} events ({} of them when the next server was told), {} lost, {} twice",
        shots.events, shots.caught_up, shots.lost, shots.twice
    );
    println!(
        "persistent watch: {persistent} events in {} stays, {wrong} stays with another number or order",
        stays.len()
    );
    println!(
        "connections left behind: {refused}, all ended at their next write; members behind what the session had seen: {behind}"
    );
    assert_eq!((shots.lost, shots.twice, wrong), (0, 0, 0));
    assert!(shots.events > moves && shots.caught_up > moves / 10 && persistent > moves, "nothing was tested");
    assert!(visits.iter().all(|&visits| visits > moves / 10), "{visits:?}");

    let ephemerals = std::mem::take(ephemerals);
    let close = mover.close(&ephemerals);
    observers.iter_mut().for_each(|observer| assert_died(observer, close, &ephemerals));
    println!(
        "ephemerals: {} made, all there until the end, each gone once, with {close}, on {} members",
        ephemerals.len(),
        addrs.len()
    );
}

/// Watches the ephemerals from one member.
fn observe(addr: SocketAddr) -> Link {
    let mut link = Link::open(addr, Identity::NEW).unwrap();
    let mode = 1; // Persistent recursive.
    link.ask(Request::AddWatch(AddWatchRequest { path: Some("/e".into()), mode })).unwrap().1.unwrap();
    link
}

/// Each ephemeral came once and went once, with the end of the session; of those without an answer too nothing is left.
fn assert_died(observer: &mut Link, close: Zxid, ephemerals: &[String]) {
    observer.ask(sync()).unwrap().1.unwrap();
    let mut told: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for event in &observer.events {
        let (created, deleted) = told.entry(&event.path).or_default();
        if event.kind == EventType::NodeCreated as i32 {
            *created += 1;
        } else {
            assert_eq!((event.kind, event.zxid), (EventType::NodeDeleted as i32, close), "{event:?}");
            *deleted += 1;
        }
    }
    assert!(told.values().all(|counts| *counts == (1, 1)), "{told:?}");
    assert!(ephemerals.iter().all(|path| told.contains_key(path.as_str())));
}

/// Changes what is watched, one write at a time, and writes down what each must tell. Returns how many there were.
fn write_on(n: usize, addr: SocketAddr, stop: &AtomicBool, expected: &Expected) -> usize {
    let mut link = Link::open(addr, Identity::NEW).unwrap();
    let mut random = Random(n as u64 + 1);
    let mut exists = [[false; NODES]; 2];
    let mut writes = 0;
    while !stop.load(Ordering::Relaxed) {
        let (area, node) = (random.below(2), random.below(NODES));
        let top = ["/p", "/q"][area];
        // Each writer has temporary nodes of its own; the others are everybody's.
        let own = format!("{top}/{n}-{node}");
        let (request, path, kind) = match (random.below(2), exists[area][node]) {
            (0, _) => (set(&format!("{top}/{node}")), format!("{top}/{node}"), EventType::NodeDataChanged),
            (_, false) => (create(&own, 0), own, EventType::NodeCreated),
            (_, true) => (delete(&own), own, EventType::NodeDeleted),
        };
        exists[area][node] ^= kind != EventType::NodeDataChanged;
        let (zxid, answer) = link.ask(request).unwrap();
        answer.unwrap_or_else(|err| panic!("{path}: {err}"));
        if top == "/q" {
            expected.lock().unwrap().insert(zxid, Event { zxid, kind: kind as i32, path });
        }
        writes += 1;
    }
    writes
}

struct Mover<'a> {
    addrs: &'a [SocketAddr],
    at: usize,
    link: Link,
    random: Random,
    shots: OneShots,
    stays: Vec<Stay>,
    stay: Stay,
    visits: Vec<usize>,
    refused: usize,
    /// How often a member was behind.
    behind: usize,
    /// Acknowledged ones.
    ephemerals: Vec<String>,
    /// Sent on connections that were left behind: they must not be there.
    late: Vec<String>,
}

impl<'a> Mover<'a> {
    fn new(addrs: &'a [SocketAddr]) -> Self {
        let mut link = Link::open(addrs[0], Identity::NEW).unwrap();
        let mut shots = OneShots::default();
        for n in 0..NODES {
            shots.add_data(&format!("/p/{n}"));
            shots.add_data(&format!("/p/0-{n}"));
        }
        shots.add_children("/p");
        let mode = 1;
        let request = Request::AddWatch(AddWatchRequest { path: Some("/q".into()), mode });
        link.ask(request).unwrap().1.unwrap();
        let from = link.identity.last_zxid;
        let mut mover = Mover {
            addrs,
            at: 0,
            link,
            random: Random(7),
            shots,
            stays: Vec::new(),
            stay: Stay { from, to: from, events: Vec::new() },
            visits: vec![0; addrs.len()],
            refused: 0,
            behind: 0,
            ephemerals: Vec::new(),
            late: Vec::new(),
        };
        mover.shots.arm(&mut mover.link).unwrap();
        mover
    }

    /// What has come: of the persistent watch to its place, the others to theirs.
    fn take_events(&mut self, is_catch_up: bool) {
        let events = std::mem::take(&mut self.link.events);
        let (persistent, one_shots): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|event| event.path.starts_with("/q"));
        self.stay.events.extend(persistent);
        self.shots.take(&one_shots, is_catch_up);
    }

    /// Works for a while on the member where it is: its own writes, and watches set again whenever they have fired.
    fn stay(&mut self, n: usize) {
        let path = format!("/e/{n}");
        self.link.ask(create(&path, 1)).unwrap().1.unwrap();
        self.ephemerals.push(path);
        for _ in 0..=self.random.below(3) {
            self.link.ask(set("/w")).unwrap().1.unwrap();
            self.take_events(false);
            self.shots.arm(&mut self.link).unwrap();
            self.take_events(false);
        }
        self.look();
    }

    /// Everything up to the sync's answer has been told, and is as it was told.
    fn look(&mut self) {
        self.link.ask(sync()).unwrap().1.unwrap();
        self.take_events(false);
        for key in self.shots.armed() {
            let state = watches::read(&mut self.link, &key, false).unwrap();
            self.take_events(false);
            self.shots.compare(&key, state);
        }
        self.stay.to = self.link.identity.last_zxid;
    }

    fn last_look(&mut self) {
        self.look();
        let empty = Stay { from: Zxid::ZERO, to: Zxid::ZERO, events: Vec::new() };
        self.stays.push(std::mem::replace(&mut self.stay, empty));
    }

    /// Goes to another member, or comes back to the same one.
    fn go(&mut self, n: usize) {
        let relative = self.link.identity.last_zxid;
        let leaves = self.random.below(3);
        if leaves == 1 {
            // Whether these happen nobody will know.
            self.link.send(&[create(&format!("/e/unanswered-{n}"), 1), set("/w")]).unwrap();
        }
        let mut identity = self.link.identity;
        if self.random.below(2) == 0 {
            identity.xid = 0; // As a client that was started again with its session.
        }
        self.at = self.random.below(self.addrs.len());
        self.visits[self.at] += 1;
        if leaves < 2 {
            self.link.shut();
        }
        let link = self.open(identity);
        let mut former = std::mem::replace(&mut self.link, link);
        if leaves == 2 {
            let path = format!("/late-{n}");
            // It may know already that it has ended.
            let _ = former.send(&[create(&path, 0)]);
            assert!(former.ends(), "a write on a connection that was left behind was answered");
            self.late.push(path);
            self.refused += 1;
        }
        let request = self.shots.set_watches(relative, "/q");
        let (from, answer) = self.link.ask(request).unwrap();
        answer.unwrap();
        let next = Stay { from, to: from, events: Vec::new() };
        self.stays.push(std::mem::replace(&mut self.stay, next));
        self.take_events(true);
        // Before anything is armed again: what a new server did not tell shows here.
        self.look();
    }

    /// A member that is behind what the session has seen closes the connection: the client asks again.
    fn open(&mut self, identity: Identity) -> Link {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Link::open(self.addrs[self.at], identity) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof && Instant::now() < deadline => self.behind += 1,
                link => return link.unwrap(),
            }
        }
    }

    /// Ends the session; the zxid of its end.
    fn close(&mut self, ephemerals: &[String]) -> Zxid {
        let session = self.link.identity.session;
        for path in ephemerals {
            match self.link.ask(Request::Exists(watch(path, false))).unwrap().1 {
                Ok(Response::Stat(reply)) => assert_eq!(reply.stat.ephemeral_owner, session.0, "{path}"),
                other => panic!("{path}: {other:?}"),
            }
        }
        for path in &self.late {
            let answer = self.link.ask(Request::Exists(watch(path, false))).unwrap().1;
            assert_eq!(answer, Err(ErrorCode::NoNode.code()), "{path} was made");
        }
        let (zxid, answer) = self.link.ask(Request::CloseSession).unwrap();
        answer.unwrap();
        assert!(self.link.ends());
        zxid
    }
}
