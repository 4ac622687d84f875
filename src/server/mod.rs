//! Layer 4: the host in production. Sockets, files, timers and threads, and no decision of the protocol: what happens
//! goes into the peer as inputs, what must be done comes out as effects.
//!
//! One server is three kinds of threads: the core's (peer, links between servers and, by default, the clients), the
//! disk's, and one for a periodic snapshot while it is written. A panic in any of them ends that server alone.

mod acceptor;
mod channel;
pub mod config;
mod connection;
mod connections;
mod core;
mod dial;
mod disk;
mod disk_faults;
mod dynamic;
mod election_links;
pub mod ensemble;
mod gate;
mod growth;
mod injuries;
#[cfg(test)]
mod injury_tests;
mod jaas;
pub mod journal;
mod limits;
mod links;
pub mod listen;
mod loading;
pub mod log;
mod log_reading;
mod log_searches;
mod members;
mod mntr;
mod net_faults;
mod operator;
mod pause;
mod places;
mod properties;
mod secure;
mod shared;
mod start;
mod status;
#[cfg(test)]
mod stress_tests;
mod task;
mod temporary;
mod tls;
mod words;

pub use crate::records::{Configuration, HostPort, PeerType, ServerAddr};
pub use config::{
    AuthConfig, Config, ConfigError, FilesConfig, LimitsConfig, NodesConfig, SessionsConfig, TlsConfig, Whitelist,
};
pub use ensemble::{Ensemble, EnsembleConfig, EnsembleError};
pub use journal::{LogLine, Transition};
pub use listen::Listeners;
pub use start::StartError;
pub use status::{Exit, Role, Status};

use crate::peer::io::Input;
use disk::DiskQueue;
use injuries::Injuries;
use shared::{Event, Shared};
use status::{Signal, StatusCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What `srvr`, `stat`, `mntr` and `envi` call the version: the release whose behaviour this is, then our own. Apache's
/// goes on with `, built on <date>`; a date is left out rather than invented.
pub const VERSION_LINE: &str = concat!("3.9.4-zabkit-", env!("CARGO_PKG_VERSION"));

/// How long a killed server's disk may take to end its last operation before its thread is left behind.
const DISK_LIMIT: Duration = Duration::from_secs(1);
/// How long a server that is to be paused may take to come to a stop.
const PAUSE_LIMIT: Duration = Duration::from_secs(5);

/// Why a server has not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandOverError {
    #[error("only a leader can hand over, this server is {_0}{}", not_yet(*_0))]
    NotLeading(Role),
    /// Wait until another voter is there.
    #[error("there is no follower that could lead")]
    Alone,
    /// It still leads: others are not up to date, or its disk does not answer.
    #[error("it still leads after {} s", .0.as_secs_f64())]
    TimedOut(Duration),
}

/// A leader may refuse too, in its first moments.
fn not_yet(role: Role) -> &'static str {
    if role == Role::Leading { ", and does not serve yet" } else { "" }
}

/// A running server. Dropping it kills it.
pub struct Server {
    shared: Arc<Shared>,
    status: Arc<StatusCell>,
    disk: DiskQueue,
    core: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// Loads the data, binds the ports and starts the threads. Returns at once when bound; the election goes on.
    pub fn start(config: Config, listeners: Listeners) -> Result<Server, StartError> {
        start::start(config, listeners, None)
    }

    /// As [`Server::start`]; `signal` is raised at each transition, and the server can be hurt.
    fn start_member(
        config: Config,
        listeners: Listeners,
        signal: Arc<Signal>,
        injuries: Injuries,
    ) -> Result<Server, StartError> {
        start::start(config, listeners, Some((signal, injuries)))
    }

    /// Where clients connect; port 0 of 0.0.0.0 if the server takes none.
    pub fn client_addr(&self) -> SocketAddr {
        self.shared.config.client_addr.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
    }

    /// What it is doing now.
    pub fn status(&self) -> Status {
        let (version, exit) = self.status.get();
        let peer = self.shared.peer_status();
        let role = if exit.is_some() { Role::Ended } else { Role::of(peer.state, self.shared.config.my_id) };
        // Also after a panic in the core: the tree is still there to be looked at.
        let db = self.shared.db.read().unwrap_or_else(PoisonError::into_inner);
        Status {
            version,
            role,
            serving: exit.is_none() && peer.serving && db.serving().is_some(),
            read_only: exit.is_none() && peer.read_only && db.serving().is_some(),
            epoch: peer.epoch,
            leader: peer.leader.filter(|_| exit.is_none()),
            last_processed: db.last_processed(),
            tree_digest: db.tree().digest() as u64,
            failure: exit.and_then(|exit| match exit {
                Exit::Failed { reason, .. } => Some(reason),
                Exit::Stopped | Exit::Killed => None,
            }),
        }
    }

    /// Lets another server lead: this one takes no more writes, waits until the others have all there is, and votes for
    /// one of them. Clients keep their sessions; those of this ensemble lose their connections, as at each change of
    /// leader. Blocks until the role has ended or for `timeout`.
    pub fn hand_over(&self, timeout: Duration) -> Result<(), HandOverError> {
        let deadline = Instant::now() + timeout;
        let mut status = self.status();
        if status.role != Role::Leading || !status.serving {
            return Err(HandOverError::NotLeading(status.role));
        }
        let learners = self.shared.peer_status().learners;
        if learners.followers <= learners.non_voting {
            return Err(HandOverError::Alone);
        }
        let epoch = status.epoch;
        self.shared.input(Input::HandOver);
        while status.role == Role::Leading && status.epoch == epoch {
            if Instant::now() >= deadline {
                return Err(HandOverError::TimedOut(timeout));
            }
            status = self.wait_status(status.version, deadline);
        }
        Ok(())
    }

    /// The list that its tree shows, in `/zookeeper/config`; `None`: it shows none yet.
    fn shown_list(&self) -> Option<Configuration> {
        let db = self.shared.db.read().unwrap_or_else(PoisonError::into_inner);
        let node = db.tree().get("/zookeeper/config")?;
        Configuration::parse(&String::from_utf8_lossy(node.data()?)).ok()
    }

    /// Clean end: no more clients, their connections closed, the log flushed, all threads joined. A paused one goes on
    /// first. Takes as long as the disk does.
    pub fn stop(&self) -> Exit {
        self.begin_stop();
        self.wait()
    }

    /// Asks for a clean end.
    fn begin_stop(&self) {
        let _ = self.shared.events.send(Event::Stop);
        self.shared.pause.end();
    }

    /// Blocks until the server has ended or `deadline`; whether it has.
    fn wait_end(&self, deadline: Instant) -> bool {
        loop {
            let (version, exit) = self.status.get();
            if exit.is_some() {
                self.wait();
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            self.status.wait_changed(version, deadline);
        }
    }

    /// As `kill -9` would: from the return on nothing of it writes, syncs or sends. Only what is in the kernel already
    /// may still end there: a disk that does not answer within [`DISK_LIMIT`] keeps its thread and its directory's lock.
    pub fn kill(&self) {
        self.shared.gate.shut();
        if self.status.get().1.is_none() {
            // Now, before others notice it, and not when its threads have ended.
            self.shared.write_down_end(&Exit::Killed);
        }
        let _ = self.shared.events.send(Event::Kill);
        self.shared.pause.end();
        if let Some(injuries) = &self.shared.injuries {
            injuries.disk.interrupt();
        }
        self.disk.wake();
        self.wait();
    }

    /// As SIGSTOP does to a process: when this returns nothing of it runs, and its sockets stay open. False: it is
    /// within something that takes long, and stops behind it. One that has ended is left alone.
    fn pause(&self) -> bool {
        if self.status.get().1.is_some() {
            return true;
        }
        let threads = 1 + self.shared.config.workers as usize;
        self.shared.pause.pause(threads, PAUSE_LIMIT, || {
            let _ = self.shared.events.send(Event::Wake);
        })
    }

    /// As SIGCONT does.
    fn resume(&self) {
        self.shared.pause.resume();
    }

    fn is_paused(&self) -> bool {
        self.shared.pause.is_paused()
    }

    /// Blocks until the server has ended; how.
    pub fn wait(&self) -> Exit {
        let exit = self.status.wait_end();
        let core = self.core.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(core) = core {
            let _ = core.join();
        }
        exit
    }

    /// Blocks until there was a transition since the status with version `seen`, or until `deadline`.
    pub fn wait_status(&self, seen: u64, deadline: Instant) -> Status {
        self.status.wait_changed(seen, deadline);
        self.status()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standalone(dir: &std::path::Path) -> Server {
        let mut config = Config::standalone(0, dir.to_owned());
        config.client_addr = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Server::start(config, Listeners::default()).unwrap()
    }

    #[test]
    fn a_panic_in_one_server_ends_it_alone_with_its_reason() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [first, second] = dirs.each_ref().map(|dir| standalone(dir.path()));
        let shared = first.shared.clone();
        // As if a connection's thread had panicked in the middle of a change: the core must not go on with it.
        let panicked = std::thread::spawn(move || {
            let _db = shared.db.write().unwrap();
            panic!("on purpose");
        });
        panicked.join().unwrap_err();
        first.shared.input(Input::Wakeup);

        let Exit::Failed { code, reason } = first.wait() else { panic!("it did not fail") };
        assert_eq!(code, 1);
        assert!(reason.contains("another thread panicked"), "{reason}");
        let status = first.status();
        assert_eq!((status.role, status.serving, status.failure), (Role::Ended, false, Some(reason)));
        first.kill();
        // Its directory is free, and the other server is as well as before.
        standalone(dirs[0].path()).kill();
        assert_eq!(second.stop(), Exit::Stopped);
    }
}
