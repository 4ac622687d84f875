//! The ends of connections, roles, leases and servers, while clients read and write.

use super::client::{Client, End, Op};
use super::watched::Violation;
use super::{PATIENCE, Servers, ensemble, plant};
use crate::jute::{Reader, Record};
use crate::peer::Database;
use crate::peer::faults::Fault;
use crate::records::{DataStat, PathOnly, Request, ServerId};
use crate::server::{Ensemble, EnsembleConfig, Role, Server};
use crate::sync::{self, RwLockReadGuard};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Reads until the connection ends; the violation that was seen, if any. `ended` is asked before each batch: whatever
/// is answered to it then is answered after the role.
fn read_to_the_end(
    mut client: Client,
    answered: &AtomicUsize,
    ended: impl Fn() -> bool,
) -> Option<(Violation, String)> {
    loop {
        let is_after_role = ended();
        let end = client.send(&[Op::GetShared, Op::GetOwn], is_after_role).map_err(End::from);
        match end.and_then(|()| client.receive(0)) {
            Ok(()) => _ = answered.fetch_add(1, Ordering::SeqCst),
            Err(End::Seen(violation, text)) => return Some((violation, text)),
            Err(End::Gone(error)) => {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "a read is neither answered nor refused");
                return None;
            }
        }
    }
}

/// Two clients read from `id` while `end` ends its role: no read that is sent afterwards is answered.
fn reads_beside_the_end_of_a_role(ensemble: &Ensemble, id: ServerId, fault: Option<Fault>, end: impl FnOnce()) {
    let server = ensemble.member(id).unwrap();
    plant(&server, fault);
    let epoch = server.status().epoch;
    let addr = ensemble.client_addr(id).unwrap();
    let (has_ended, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let clients = [Client::open(addr).unwrap(), Client::open(addr).unwrap()];
    let seen: Vec<_> = thread::scope(|scope| {
        let read = |client| read_to_the_end(client, &answered, || has_ended.load(Ordering::SeqCst));
        let readers = clients.map(|client| scope.spawn(move || read(client)));
        while answered.load(Ordering::SeqCst) < 10 && !readers.iter().any(|reader| reader.is_finished()) {
            thread::yield_now();
        }
        end();
        let is_over =
            |status: super::super::Status| status.epoch > epoch || matches!(status.role, Role::Looking | Role::Ended);
        ensemble.wait_for("end of the role", PATIENCE, || is_over(server.status()).then_some(())).unwrap();
        has_ended.store(true, Ordering::SeqCst);
        readers.into_iter().flat_map(|reader| reader.join().expect("a reader panicked")).collect()
    });
    judge(fault, seen);
}

fn judge(fault: Option<Fault>, seen: Vec<(Violation, String)>) {
    match fault {
        None => assert!(seen.is_empty(), "{seen:?}"),
        Some(fault) => {
            let after_role = seen.iter().find(|(violation, _)| *violation == Violation::AfterRole);
            let (_, text) = after_role.unwrap_or_else(|| panic!("{fault:?} was not seen: {seen:?}"));
            println!("{fault:?} was seen: {text}");
        }
    }
}

/// A follower that loses its leader, a leader that loses its quorum.
fn roles_end(workers: u32, fault: Option<Fault>) {
    let ensemble = ensemble(EnsembleConfig { workers, ..EnsembleConfig::default() });
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    let others: Vec<ServerId> = ensemble.ids().into_iter().filter(|&id| id != leader).collect();
    reads_beside_the_end_of_a_role(&ensemble, others[0], fault, || ensemble.kill(leader).unwrap());
    ensemble.restart(leader).unwrap();
    for &id in &others {
        // With a planted bug it may be in no state to go on.
        ensemble.restart(id).unwrap();
    }
    ensemble.ids().into_iter().for_each(|id| ensemble.wait_until_serving(id, PATIENCE).unwrap());
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    reads_beside_the_end_of_a_role(&ensemble, leader, fault, || {
        ensemble.ids().into_iter().filter(|&id| id != leader).for_each(|id| ensemble.kill(id).unwrap());
    });
}

#[test]
fn no_read_is_answered_after_the_role_has_ended() {
    roles_end(0, None);
    roles_end(2, None);
}

#[test]
fn a_read_after_the_role_has_ended_is_seen() {
    roles_end(0, Some(Fault::StopAfterRole));
    roles_end(2, Some(Fault::StopAfterRole));
}

/// The leader's core stands still, as all of the process would under SIGSTOP; the workers do not. Reads are answered
/// until the lease ends, and no longer. `None`: it had ended before the first read.
fn lease_ends(fault: Option<Fault>) -> Option<Vec<(Violation, String)>> {
    let config = EnsembleConfig { workers: 2, tick_time_ms: 50, sync_limit: 8, ..EnsembleConfig::default() };
    let ensemble = ensemble(config);
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    let server = ensemble.member(leader).unwrap();
    plant(&server, fault);
    let mut client = Client::open(ensemble.client_addr(leader).unwrap()).ok()?;
    let until = || sync::read(&server.shared.db).serving().map_or(0, |serving| serving.until_micros);
    // The core waits for this lock at the end of its turn.
    let stalled = server.shared.peer.lock().unwrap();
    let mut answered = 0;
    let seen = loop {
        let before = until();
        let is_over = server.shared.now().micros >= before;
        let end = client.send(&[Op::GetShared], false).map_err(End::from);
        match end.and_then(|()| client.receive(0)) {
            // Unless the core was in the middle of a turn, and made the lease longer.
            Ok(()) if is_over && until() == before => {
                break vec![(Violation::AfterRole, "the lease was over".to_owned())];
            }
            Ok(()) => answered += 1,
            Err(End::Seen(violation, text)) => break vec![(violation, text)],
            Err(End::Gone(_)) => break Vec::new(),
        }
    };
    drop(stalled);
    (answered > 0).then_some(seen)
}

/// On a machine that is busy enough the lease may end before it is looked at.
fn some_lease_ends(fault: Option<Fault>) {
    let seen = (0..10).find_map(|_| lease_ends(fault)).expect("no lease lasts for a read");
    judge(fault, seen);
}

#[test]
fn no_read_is_answered_after_the_lease() {
    some_lease_ends(None);
}

#[test]
fn a_read_after_the_lease_is_seen() {
    some_lease_ends(Some(Fault::LeaseIgnored));
}

/// A killed server answers nothing that is sent later, a stopped one neither.
#[test]
fn no_read_is_answered_by_a_server_that_has_ended() {
    for (workers, kills) in [(0, true), (2, true), (0, false), (2, false)] {
        let Servers::One(server, _dir) = Servers::one(workers) else { unreachable!() };
        let (has_ended, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        let client = Client::open(server.client_addr()).unwrap();
        thread::scope(|scope| {
            let reader = scope.spawn(|| read_to_the_end(client, &answered, || has_ended.load(Ordering::SeqCst)));
            while answered.load(Ordering::SeqCst) < 10 && !reader.is_finished() {
                thread::yield_now();
            }
            if kills {
                server.kill()
            } else {
                _ = server.stop()
            }
            has_ended.store(true, Ordering::SeqCst);
            assert_eq!(reader.join().expect("the reader panicked"), None);
        });
    }
}

/// Sessions pipeline through the kills of two leaders, from server to server: never back in time, no acknowledged
/// write lost, none twice, none late.
#[test]
fn sessions_that_move_with_the_leader_see_one_history() {
    const BATCHES: usize = 40;
    const KILLS: usize = 2;
    for workers in [0, 2] {
        let ensemble = ensemble(EnsembleConfig { workers, ..EnsembleConfig::default() });
        let (done, kills) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let session = |at: usize| -> Result<(), (Violation, String)> {
            let ids = ensemble.ids();
            let mut client = Client::open(ensemble.client_addr(ids[at]).unwrap()).unwrap();
            let mut since_kill = 0;
            while kills.load(Ordering::SeqCst) < KILLS || since_kill < BATCHES {
                let is_killed = kills.load(Ordering::SeqCst) == KILLS;
                let end = client.send(&[Op::SetOwn, Op::GetOwn, Op::GetShared, Op::SetOwn], false).map_err(End::from);
                match end.and_then(|()| client.receive(8)) {
                    Ok(()) => {
                        since_kill += usize::from(is_killed);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(End::Gone(_)) => client = reopen(&ensemble, &client)?,
                    Err(End::Seen(violation, text)) => return Err((violation, text)),
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let sessions = [0, 1, 2].map(|at| scope.spawn(move || session(at)));
            for kill in 1..=KILLS {
                while done.load(Ordering::SeqCst) < kill * 3 * BATCHES
                    && !sessions.iter().any(|each| each.is_finished())
                {
                    thread::yield_now();
                }
                let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
                ensemble.kill(leader).unwrap();
                ensemble.restart(leader).unwrap();
                kills.fetch_add(1, Ordering::SeqCst);
            }
            for session in sessions {
                assert_eq!(session.join().expect("a client panicked"), Ok(()));
            }
        });
    }
}

/// The session on some server that takes it.
fn reopen(ensemble: &Ensemble, client: &Client) -> Result<Client, (Violation, String)> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let serving = || ensemble.ids().into_iter().find(|&id| ensemble.status(id).serving);
        let id = ensemble.wait_for("service", PATIENCE, serving).map_err(|error| nonsense(&error))?;
        match client.reopen(ensemble.client_addr(id).map_err(|error| nonsense(&error))?) {
            Ok(client) => return Ok(client),
            Err(End::Seen(violation, text)) => return Err((violation, text)),
            Err(End::Gone(_)) => thread::yield_now(), // Another role has ended, or it is behind what we have seen.
        }
    }
    Err(nonsense(&"no server takes the session"))
}

fn nonsense(error: &dyn std::fmt::Display) -> (Violation, String) {
    (Violation::Nonsense, error.to_string())
}

/// A planted bug of the host: a connection lets go of the database's lock, and waits, before it hands on its writes.
#[derive(Default)]
pub struct LateForward {
    planted: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

impl LateForward {
    /// The next connection that hands something on says so to `reached`, then waits for `release`.
    fn plant(&self, reached: Sender<()>, release: Receiver<()>) {
        *self.planted.lock().unwrap() = Some((reached, release));
    }

    /// Called in the hold of the lock in which writes are to be handed on.
    pub fn let_go<'a>(&self, db: RwLockReadGuard<'a, Database>) -> Option<RwLockReadGuard<'a, Database>> {
        let Some((reached, release)) = self.planted.lock().unwrap().take() else { return Some(db) };
        drop(db);
        let _ = reached.send(());
        let _ = release.recv();
        None
    }
}

/// A session writes on one connection, moves to another on another thread, and writes again: whether its node is in
/// the end what it wrote last.
fn last_write_of_a_moving_session_wins(is_planted: bool) -> bool {
    let Servers::One(server, _dir) = Servers::one(2) else { unreachable!() };
    let server: &Server = &server;
    let mut former = Client::open(server.client_addr()).unwrap();
    let (reached, wait_reached) = channel();
    let (release, wait_release) = channel();
    if is_planted {
        server.shared.late_forward.plant(reached, wait_release);
    }
    former.send(&[Op::SetOwn], false).unwrap();
    if is_planted {
        wait_reached.recv().unwrap();
    }
    let Ok(mut next) = former.reopen(server.client_addr()) else { panic!("the session cannot move") };
    let last = next.request(Op::SetOwn);
    next.ask(last.clone()).unwrap();
    drop(release);
    former.wait_closed().unwrap();
    let Request::SetData(last) = last else { unreachable!() };
    // What was let go comes when its thread has its turn.
    let deadline = Instant::now() + if is_planted { PATIENCE } else { Duration::ZERO };
    loop {
        next.ask(Request::Sync(PathOnly { path: Some("/".to_owned()) })).unwrap();
        let (_, body) = next.ask(next.request(Op::GetOwn)).unwrap();
        let is_last = DataStat::read(&mut Reader::new(&body)).unwrap().data == last.data;
        if !is_last || Instant::now() >= deadline {
            return is_last;
        }
    }
}

#[test]
fn the_last_write_of_a_session_that_moves_is_the_last() {
    assert!(last_write_of_a_moving_session_wins(false));
}

#[test]
fn a_write_handed_on_after_the_hold_of_the_lock_is_seen() {
    assert!(!last_write_of_a_moving_session_wins(true));
}
