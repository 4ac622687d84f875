//! Reads beside writes under tokio: what clients rely on must hold over real sockets, with connections on the core's
//! thread and on workers, of one server and of three. Each planted bug ([`Fault`]) must be seen by the same client that
//! finds nothing to say of the server as it is; so these tests can fail.
//!
//! The same promises are tried in every order of the locks by `peer::loom_tests`, and with bare threads by
//! `peer::stress_tests`; here are the turns of the core, the sockets and the ends of roles too.

mod client;
mod ends;
mod watched;

pub use ends::LateForward;

use super::{Config, Ensemble, EnsembleConfig, LimitsConfig, Listeners, Server, Whitelist};
use crate::peer::faults::Fault;
use crate::sync;
use client::{Client, End, Op};
use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use watched::Violation;

const PATIENCE: Duration = Duration::from_secs(30);
/// Batches of a client of the server as it is.
const BATCHES: usize = 60;
/// Batches of a client after which a planted bug must have been seen.
const BATCHES_MAX: usize = 20_000;
/// Batches that may be under way.
const WINDOW: usize = 3;

/// One server, or three; dropping it ends them.
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
enum Servers {
    One(Server, tempfile::TempDir),
    Three(Ensemble),
}

impl Servers {
    fn one(workers: u32) -> Servers {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: dir.path().to_owned(),
            data_log_dir: dir.path().to_owned(),
            client_addr: Some("127.0.0.1:0".parse().unwrap()),
            pre_alloc_kib: 64,
            four_letter_words: Whitelist::All,
            limits: LimitsConfig { max_client_cnxns: 0, ..Default::default() },
            workers,
            ..Config::default()
        };
        let server = Server::start(config, Listeners::default()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut status = server.status();
        while !status.serving {
            assert!(Instant::now() < deadline, "{status:?}");
            status = server.wait_status(status.version, deadline);
        }
        Servers::One(server, dir)
    }

    fn three(workers: u32) -> Servers {
        Servers::Three(ensemble(EnsembleConfig { workers, ..EnsembleConfig::default() }))
    }

    /// Where watchers and pipelines are; with three servers on a follower, and `fault` too.
    fn plant(&self, fault: Option<Fault>) -> SocketAddr {
        match self {
            Servers::One(server, _) => {
                plant(server, fault);
                server.client_addr()
            }
            Servers::Three(ensemble) => {
                let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
                let follower = *ensemble.ids().iter().find(|&&id| id != leader).unwrap();
                plant(&ensemble.member(follower).unwrap(), fault);
                ensemble.client_addr(follower).unwrap()
            }
        }
    }

    /// Where the writers of the shared node are.
    fn writers(&self) -> SocketAddr {
        match self {
            Servers::One(server, _) => server.client_addr(),
            Servers::Three(ensemble) => ensemble.client_addr(ensemble.wait_for_leader(PATIENCE).unwrap()).unwrap(),
        }
    }
}

fn plant(server: &Server, fault: Option<Fault>) {
    if let Some(fault) = fault {
        sync::write(&server.shared.db).plant(fault);
    }
}

/// Three servers, all of them serving.
fn ensemble(config: EnsembleConfig) -> Ensemble {
    let ensemble = Ensemble::start(config).unwrap();
    for id in ensemble.ids() {
        ensemble.wait_until_serving(id, PATIENCE).unwrap();
    }
    ensemble
}

/// What the clients of one test share.
#[derive(Default)]
struct Stress {
    /// What was seen, with the first words about it.
    seen: Mutex<BTreeMap<Violation, String>>,
    /// What the planted bug must show as; without one every violation ends the test.
    expected: Option<Violation>,
    is_over: AtomicBool,
    /// Closed as soon as the planted bug was seen: a server that has it may answer nothing any more.
    sockets: Mutex<Vec<TcpStream>>,
    replies: AtomicU64,
    events: AtomicU64,
}

impl Stress {
    fn expecting(expected: Option<Violation>) -> Stress {
        Stress { expected, ..Stress::default() }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn saw(&self, violation: Violation, text: String) {
        self.seen.lock().unwrap().entry(violation).or_insert(text);
        if self.expected.is_none_or(|expected| expected == violation) {
            self.is_over.store(true, Ordering::SeqCst);
        }
        if self.expected == Some(violation) {
            for socket in &*self.sockets.lock().unwrap() {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
    }

    /// Sends `ops` over and over, a few batches ahead of the replies, until the stress is over or `batches` are done.
    fn run(&self, addr: SocketAddr, ops: &[Op], batches: usize) {
        let mut client = Client::open(addr).unwrap();
        self.sockets.lock().unwrap().push(client.handle().unwrap());
        if let Err(error) = self.run_client(&mut client, ops, batches)
            && !(self.is_over() && self.expected.is_some())
        {
            self.saw(Violation::Nonsense, format!("a connection has ended: {error}"));
        }
        self.replies.fetch_add(client.watched.replies, Ordering::SeqCst);
        self.events.fetch_add(client.watched.events, Ordering::SeqCst);
    }

    fn run_client(&self, client: &mut Client, ops: &[Op], batches: usize) -> io::Result<()> {
        for _ in 0..batches {
            let is_last = self.is_over();
            client.send(ops, false)?;
            self.receive(client, (WINDOW - 1) * ops.len())?;
            if is_last {
                break;
            }
        }
        self.receive(client, 0)
    }

    /// Goes on after a violation: a planted bug may show as others first.
    fn receive(&self, client: &mut Client, waiting: usize) -> io::Result<()> {
        loop {
            match client.receive(waiting) {
                Ok(()) => return Ok(()),
                Err(End::Seen(violation, text)) => self.saw(violation, text),
                Err(End::Gone(error)) => return Err(error),
            }
        }
    }

    /// What there is to say at the end.
    fn judge(self, fault: Option<Fault>) {
        let seen = self.seen.into_inner().unwrap();
        match self.expected {
            None => assert!(seen.is_empty(), "{seen:#?}"),
            Some(expected) => match seen.get(&expected) {
                Some(text) => println!("{fault:?} was seen as {expected:?}: {text}"),
                None => panic!("{fault:?} was not seen as {expected:?}: {seen:#?}"),
            },
        }
    }
}

/// Watchers read a node that others write, and pipelines read and write nodes of their own.
fn reads_beside_writes(servers: &Servers, planted: Option<(Fault, Violation)>) {
    let (fault, expected) = planted.unzip();
    let batches = if planted.is_some() { BATCHES_MAX } else { BATCHES };
    let stress = Stress::expecting(expected);
    let (readers, writers) = (servers.plant(fault), servers.writers());
    thread::scope(|scope| {
        let stress = &stress;
        let busy = [
            scope.spawn(move || stress.run(writers, &[Op::SetShared, Op::SetShared], batches)),
            scope.spawn(move || stress.run(readers, &[Op::SetOwn, Op::GetOwn, Op::SetOwn, Op::GetOwn], batches)),
            scope.spawn(move || stress.run(readers, &[Op::GetShared, Op::SetShared, Op::GetShared], batches)),
        ];
        for _ in 0..2 {
            scope.spawn(move || stress.run(readers, &[Op::GetShared], usize::MAX));
        }
        let ends = busy.map(|thread| thread.join());
        stress.is_over.store(true, Ordering::SeqCst);
        ends.into_iter().for_each(|end| end.expect("a client panicked"));
    });
    let (replies, events) = (stress.replies.load(Ordering::SeqCst), stress.events.load(Ordering::SeqCst));
    assert!(replies > 0 && (events > 0 || planted.is_some()), "{replies} replies, {events} events");
    stress.judge(fault);
}

#[test]
fn reads_beside_writes_keep_their_promises() {
    for workers in [0, 2] {
        reads_beside_writes(&Servers::one(workers), None);
        reads_beside_writes(&Servers::three(workers), None);
    }
}

/// The bug is seen by the client on one thread, on workers, and on a follower.
fn is_seen(fault: Fault, violation: Violation) {
    for servers in [Servers::one(0), Servers::one(2), Servers::three(0), Servers::three(2)] {
        reads_beside_writes(&servers, Some((fault, violation)));
    }
}

#[test]
fn an_event_lost_between_read_and_reply_is_seen() {
    is_seen(Fault::WatchAfterRead, Violation::EventLost);
}

#[test]
fn an_event_after_the_reply_that_shows_its_change_is_seen() {
    is_seen(Fault::EventsAfterCommit, Violation::EventLate);
}

#[test]
fn a_read_that_sees_a_later_pipelined_write_is_seen() {
    is_seen(Fault::ParkedAfterBatch, Violation::LaterWriteSeen);
}
