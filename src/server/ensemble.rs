//! Servers of one ensemble in this process, on 127.0.0.1: for tests, Python's `Ensemble` and demonstrations.
//!
//! Each member's ports are reserved for the life of the ensemble, so they are known before anybody is told of them, a
//! member that is down refuses connections, and nobody else takes its port meanwhile.

use super::listen::{Listeners, Reserved};
use super::server_addr::{HostPort, PeerType, ServerAddr};
use super::status::Signal;
use super::{Config, Exit, Role, Server, StartError, Status, Whitelist};
use crate::records::{Epoch, ServerId, Zxid};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What an ensemble is to be. The defaults are for tests on a busy machine: quick, but not nervous.
#[derive(Clone, Debug)]
pub struct EnsembleConfig {
    /// How many servers, all of them voters; their ids are 1, 2, …
    pub servers: usize,
    /// One directory for each member below it; `None`: a temporary one, removed at the end.
    pub dir: Option<PathBuf>,
    pub tick_time_ms: u32,
    /// Ticks.
    pub init_limit: u32,
    /// Ticks.
    pub sync_limit: u32,
    pub max_session_timeout_ms: u32,
    pub snap_count: u32,
    pub pre_alloc_kib: u32,
    /// See [`Config::workers`].
    pub workers: u32,
}

impl Default for EnsembleConfig {
    fn default() -> Self {
        EnsembleConfig {
            servers: 3,
            dir: None,
            tick_time_ms: 200,
            init_limit: 50,
            sync_limit: 15,
            max_session_timeout_ms: 60_000,
            snap_count: 100_000,
            pre_alloc_kib: 1024,
            workers: 0,
        }
    }
}

/// Why something could not be done with an ensemble.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnsembleError {
    #[error("there is no server {0} in this ensemble")]
    Unknown(ServerId),
    #[error("server {id} cannot be started: {source}")]
    Start { id: ServerId, source: StartError },
    #[error("the ensemble was shut down")]
    ShutDown,
    /// What was waited for did not come in time.
    #[error("no {what} after {waited:?}; {status}")]
    TimedOut { what: String, waited: Duration, status: String },
}

/// A running ensemble. Dropping it ends it.
pub struct Ensemble {
    config: EnsembleConfig,
    dir: PathBuf,
    ports: BTreeMap<ServerId, MemberPorts>,
    members: Mutex<BTreeMap<ServerId, Arc<Server>>>,
    /// Set by [`Ensemble::shutdown`]; the members are kept for their last status.
    is_shut: Mutex<bool>,
    signal: Arc<Signal>,
}

struct MemberPorts {
    client: Reserved,
    quorum: Reserved,
    election: Reserved,
}

impl Ensemble {
    /// Starts all members; the election goes on.
    pub fn start(config: EnsembleConfig) -> Result<Ensemble, StartError> {
        let reserve = |what: &'static str| {
            Reserved::new().map_err(|source| StartError::Bind { what, addr: "127.0.0.1:0".to_owned(), source })
        };
        let mut ports = BTreeMap::new();
        for id in 1..=config.servers.max(1) {
            let (client, quorum, election) = (reserve("client")?, reserve("quorum")?, reserve("election")?);
            ports.insert(ServerId(id as i64), MemberPorts { client, quorum, election });
        }
        let dir = match &config.dir {
            Some(dir) => dir.clone(),
            None => std::env::temp_dir().join(format!("zabkit-{:016x}", RandomState::new().hash_one(0))),
        };
        let (members, is_shut, signal) = Default::default();
        let ensemble = Ensemble { config, dir, ports, members, is_shut, signal };
        for &id in ensemble.ports.keys() {
            let server = ensemble.start_member(id)?;
            ensemble.lock().insert(id, server);
        }
        Ok(ensemble)
    }

    /// `127.0.0.1:p1,127.0.0.1:p2,…`
    pub fn hosts(&self) -> String {
        let hosts = self.ports.values().map(|ports| format!("127.0.0.1:{}", ports.client.port()));
        hosts.collect::<Vec<_>>().join(",")
    }

    pub fn ids(&self) -> Vec<ServerId> {
        self.ports.keys().copied().collect()
    }

    /// Where clients of one member connect.
    pub fn client_addr(&self, id: ServerId) -> Result<SocketAddr, EnsembleError> {
        let ports = self.ports.get(&id).ok_or(EnsembleError::Unknown(id))?;
        Ok(SocketAddr::from(([127, 0, 0, 1], ports.client.port())))
    }

    /// The directory of one member.
    pub fn data_dir(&self, id: ServerId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    /// What a member is doing; [`Role::Ended`] for one that was never there.
    pub fn status(&self, id: ServerId) -> Status {
        self.member(id).map(|server| server.status()).unwrap_or(Status {
            version: 0,
            role: Role::Ended,
            serving: false,
            epoch: Epoch(0),
            leader: None,
            last_processed: Zxid::ZERO,
            tree_digest: 0,
            failure: None,
        })
    }

    /// The member that serves as leader of the newest epoch.
    pub fn leader(&self) -> Option<ServerId> {
        let all = self.ids().into_iter().map(|id| (id, self.status(id)));
        let leaders =
            all.filter(|(_, status)| status.serving && matches!(status.role, Role::Leading | Role::Standalone));
        leaders.max_by_key(|(_, status)| status.epoch).map(|(id, _)| id)
    }

    /// Blocks until there is a leader that serves.
    pub fn wait_for_leader(&self, timeout: Duration) -> Result<ServerId, EnsembleError> {
        self.wait_for("leader", timeout, || self.leader())
    }

    /// Blocks until a member serves clients.
    pub fn wait_until_serving(&self, id: ServerId, timeout: Duration) -> Result<(), EnsembleError> {
        self.member(id)?;
        self.wait_for(&format!("service of server {id}"), timeout, || self.status(id).serving.then_some(()))
    }

    /// Blocks until `condition` holds; it is looked at again at each transition of any member.
    pub fn wait_for<T>(
        &self,
        what: &str,
        timeout: Duration,
        condition: impl Fn() -> Option<T>,
    ) -> Result<T, EnsembleError> {
        let deadline = Instant::now() + timeout;
        loop {
            let seen = self.signal.count();
            if let Some(value) = condition() {
                return Ok(value);
            }
            if !self.signal.wait(seen, deadline) {
                let status = self.describe();
                return Err(EnsembleError::TimedOut { what: what.to_owned(), waited: timeout, status });
            }
        }
    }

    /// Ends a member cleanly; one that has ended already is left alone.
    pub fn stop(&self, id: ServerId) -> Result<(), EnsembleError> {
        self.member(id)?.stop();
        Ok(())
    }

    /// As `kill -9`: from the return on it writes, syncs and sends nothing.
    pub fn kill(&self, id: ServerId) -> Result<(), EnsembleError> {
        self.member(id)?.kill();
        Ok(())
    }

    /// Starts a member again, on the same ports and directory; one that runs is stopped first.
    pub fn restart(&self, id: ServerId) -> Result<(), EnsembleError> {
        let former = self.member(id)?;
        former.stop();
        let is_shut = self.is_shut.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_shut {
            return Err(EnsembleError::ShutDown);
        }
        let server = self.start_member(id).map_err(|source| EnsembleError::Start { id, source })?;
        self.lock().insert(id, server);
        Ok(())
    }

    /// How a member has ended; `None` while it runs.
    pub fn exit(&self, id: ServerId) -> Option<Exit> {
        let server = self.member(id).ok()?;
        (server.status().role == Role::Ended).then(|| server.wait())
    }

    /// Ends all members, and removes the directory if it is a temporary one. A second call does nothing.
    pub fn shutdown(&self) {
        let mut is_shut = self.is_shut.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *is_shut, true) {
            return;
        }
        let members: Vec<Arc<Server>> = self.lock().values().cloned().collect();
        for server in members {
            server.kill();
        }
        if self.config.dir.is_none()
            && let Err(error) = std::fs::remove_dir_all(&self.dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{} cannot be removed: {error}", self.dir.display());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServerId, Arc<Server>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn member(&self, id: ServerId) -> Result<Arc<Server>, EnsembleError> {
        self.lock().get(&id).cloned().ok_or(EnsembleError::Unknown(id))
    }

    fn describe(&self) -> String {
        let one = |id| {
            let Status { role, serving, epoch, failure, .. } = self.status(id);
            let failure = failure.map_or_else(String::new, |reason| format!(" ({reason})"));
            let serving = if serving { ", serving" } else { "" };
            format!("server {id} is {role:?} in epoch {epoch}{serving}{failure}")
        };
        self.ids().into_iter().map(one).collect::<Vec<_>>().join("; ")
    }

    fn start_member(&self, id: ServerId) -> Result<Arc<Server>, StartError> {
        let ports = &self.ports[&id];
        let listen = |what: &'static str, reserved: &Reserved| {
            let addr = || format!("127.0.0.1:{}", reserved.port());
            reserved.listen().map_err(|source| StartError::Bind { what, addr: addr(), source })
        };
        let mut listeners = Listeners { client: Some(listen("client", &ports.client)?), ..Listeners::default() };
        let mut config = Config {
            data_dir: self.data_dir(id),
            data_log_dir: self.data_dir(id),
            tick_time_ms: self.config.tick_time_ms,
            init_limit: self.config.init_limit,
            sync_limit: self.config.sync_limit,
            max_session_timeout_ms: Some(self.config.max_session_timeout_ms),
            max_client_cnxns: 0,
            snap_count: self.config.snap_count,
            pre_alloc_kib: self.config.pre_alloc_kib,
            four_letter_words: Whitelist::All,
            workers: self.config.workers,
            ..Config::default()
        };
        if self.ports.len() > 1 {
            config.my_id = Some(id);
            config.servers = self.ports.iter().map(|(&id, ports)| (id, ports.line())).collect();
            listeners.election = Some(listen("election", &ports.election)?);
            listeners.quorum = Some(listen("quorum", &ports.quorum)?);
        }
        Server::start_with_signal(config, listeners, self.signal.clone()).map(Arc::new)
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl MemberPorts {
    fn line(&self) -> ServerAddr {
        let local = |reserved: &Reserved| HostPort::new("127.0.0.1", reserved.port());
        ServerAddr {
            quorum: local(&self.quorum),
            election: local(&self.election),
            role: PeerType::Participant,
            client: Some(local(&self.client)),
        }
    }
}
