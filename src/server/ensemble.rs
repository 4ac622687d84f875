//! Servers of one ensemble in this process, on 127.0.0.1: for tests, Python's `Ensemble` and demonstrations.
//!
//! Each member's ports are reserved for the life of the ensemble, so they are known before anybody is told of them, a
//! member that is down refuses connections, and nobody else takes its port meanwhile.

use super::config::QuorumConfig;
use super::disk_faults::DiskFaults;
use super::injuries::Injuries;
use super::journal::{Journal, LogLine, Transition};
use super::listen::{Listeners, Reserved};
use super::log;
use super::net_faults::{NetFaults, Slow};
use super::status::Signal;
use super::temporary::TemporaryDir;
use super::{Config, Exit, LimitsConfig, NodesConfig, Role, Server, SessionsConfig, StartError, Status, Whitelist};
use crate::peer::{CatchUpRules, RoleRules};
use crate::records::{Epoch, HostPort, PeerType, ServerAddr, ServerId, Zxid};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long members that survive a killed leader may take to notice it before [`Ensemble::kill`] returns all the same.
const NOTICE_LIMIT: Duration = Duration::from_secs(1);
/// How long [`Ensemble::shutdown`] gives the members for a clean end before it kills them.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What an ensemble is to be. The defaults are for tests on a busy machine: quick, but not nervous.
#[derive(Clone, Debug)]
pub struct EnsembleConfig {
    /// How many servers vote; their ids are 1, 2, …
    pub servers: usize,
    /// How many more follow without a vote; their ids come behind.
    pub observers: usize,
    /// One directory for each member below it; `None`: a temporary one, removed at the end. In a temporary one nothing
    /// is synced: no member can lose what is in the kernel's memory, and the machine's end is the end of the folder.
    pub dir: Option<PathBuf>,
    pub tick_time_ms: u32,
    /// Ticks.
    pub init_limit: u32,
    /// Ticks.
    pub sync_limit: u32,
    pub max_session_timeout_ms: u32,
    /// Local sessions, their upgrade, and the read-only mode; all off by default.
    pub sessions: SessionsConfig,
    pub snap_count: u32,
    pub pre_alloc_kib: u32,
    /// See [`Config::workers`].
    pub workers: u32,
    /// How members that were away are brought up to date.
    pub catch_up: CatchUpRules,
    pub roles: RoleRules,
}

impl Default for EnsembleConfig {
    fn default() -> Self {
        EnsembleConfig {
            servers: 3,
            observers: 0,
            dir: None,
            tick_time_ms: 200,
            init_limit: 50,
            sync_limit: 15,
            max_session_timeout_ms: 60_000,
            sessions: SessionsConfig::default(),
            snap_count: 100_000,
            pre_alloc_kib: 1024,
            workers: 0,
            catch_up: CatchUpRules::default(),
            roles: RoleRules::default(),
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
    /// What was asked for makes no sense.
    #[error("{0}")]
    Refused(String),
    #[error("the ensemble was shut down")]
    ShutDown,
    /// What was waited for did not come in time.
    #[error("no {what} within {} s; {status}", .waited.as_secs_f64())]
    TimedOut { what: String, waited: Duration, status: String },
}

/// A running ensemble. Dropping it ends it.
pub struct Ensemble {
    config: EnsembleConfig,
    dir: PathBuf,
    /// `dir`, if it goes at the end.
    temporary: Option<TemporaryDir>,
    ports: BTreeMap<ServerId, MemberPorts>,
    members: Mutex<BTreeMap<ServerId, Arc<Server>>>,
    /// Set by [`Ensemble::shutdown`]; the members are kept for their last status.
    is_shut: Mutex<bool>,
    /// Whoever still waits for something waits in vain.
    is_ending: AtomicBool,
    signal: Arc<Signal>,
    net: Arc<NetFaults>,
    disks: BTreeMap<ServerId, Arc<DiskFaults>>,
    journal: Arc<Journal>,
}

struct MemberPorts {
    client: Reserved,
    quorum: Reserved,
    election: Reserved,
}

impl Ensemble {
    /// Starts all members; the election goes on.
    pub fn start(config: EnsembleConfig) -> Result<Ensemble, StartError> {
        log::install();
        let reserve = |what: &'static str| {
            Reserved::new().map_err(|source| StartError::Bind { what, addr: "127.0.0.1:0".to_owned(), source })
        };
        let mut ports = BTreeMap::new();
        for id in 1..=config.servers.max(1) + config.observers {
            let (client, quorum, election) = (reserve("client")?, reserve("quorum")?, reserve("election")?);
            ports.insert(ServerId(id as i64), MemberPorts { client, quorum, election });
        }
        let temporary = match &config.dir {
            Some(_) => None,
            None => Some(TemporaryDir::new().map_err(StartError::Temporary)?),
        };
        let dir =
            config.dir.as_deref().or(temporary.as_ref().map(TemporaryDir::path)).unwrap_or(Path::new("")).to_owned();
        let disk = || if temporary.is_some() { DiskFaults::of_temporary() } else { DiskFaults::default() };
        let disks = ports.keys().map(|&id| (id, Arc::new(disk()))).collect();
        let (members, is_shut, signal) = Default::default();
        let (net, journal, is_ending) = Default::default();
        let ensemble =
            Ensemble { config, dir, temporary, ports, members, is_shut, is_ending, signal, net, disks, journal };
        ensemble.start_all()?;
        Ok(ensemble)
    }

    /// Starts all members at once. All listen before the first one dials: a refused connect would tell it that the
    /// others are down, and two servers would elect a leader that the third one does not know.
    fn start_all(&self) -> Result<(), StartError> {
        let listeners =
            self.ports.values().map(|ports| ports.listen(self.ports.len())).collect::<Result<Vec<_>, _>>()?;
        std::thread::scope(|scope| {
            let start = |(&id, listeners)| {
                scope.spawn(move || {
                    let server = self.start_member(id, listeners)?;
                    self.lock().insert(id, server);
                    Ok(())
                })
            };
            let starting: Vec<_> = self.ports.keys().zip(listeners).map(start).collect();
            let panicked = |panic| std::panic::resume_unwind(panic);
            let started: Vec<_> = starting.into_iter().map(|start| start.join().unwrap_or_else(panicked)).collect();
            started.into_iter().collect()
        })
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

    /// Lets another member lead; see [`Server::hand_over`].
    pub fn hand_over(&self, timeout: Duration) -> Result<ServerId, EnsembleError> {
        let leader = self.wait_for_leader(timeout)?;
        let server = self.lock().get(&leader).cloned().ok_or(EnsembleError::Unknown(leader))?;
        server.hand_over(timeout).map_err(|error| EnsembleError::Refused(error.to_string()))?;
        self.wait_for_leader(timeout)
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
            read_only: false,
            epoch: Epoch(0),
            leader: None,
            last_processed: Zxid::ZERO,
            tree_digest: 0,
            failure: None,
        })
    }

    /// The member that serves as leader of the newest epoch. One that is paused, or cut off from a majority, does not
    /// count, though it may believe in itself for a while.
    pub fn leader(&self) -> Option<ServerId> {
        let all = self.ids().into_iter().map(|id| (id, self.status(id)));
        let leaders = all.filter(|(id, status)| {
            let leads = status.serving && matches!(status.role, Role::Leading | Role::Standalone);
            leads && !self.is_paused(*id) && self.reaches_majority(*id)
        });
        leaders.max_by_key(|(_, status)| status.epoch).map(|(id, _)| id)
    }

    fn reaches_majority(&self, id: ServerId) -> bool {
        let voters = || self.ids().into_iter().filter(|&other| self.role(other) == PeerType::Participant);
        2 * voters().filter(|&other| other == id || !self.net.is_cut(id, other)).count() > voters().count()
    }

    /// What a member is in the configuration.
    fn role(&self, id: ServerId) -> PeerType {
        if id.0 <= self.config.servers.max(1) as i64 { PeerType::Participant } else { PeerType::Observer }
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
            if self.is_ending.load(Ordering::Acquire) {
                return Err(EnsembleError::ShutDown);
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

    /// As `kill -9`: from the return on it writes, syncs and sends nothing. If it was a leader, the members that can
    /// notice it do not follow it any more, so that their clients find their connections closed (waited for at most
    /// [`NOTICE_LIMIT`]).
    pub fn kill(&self, id: ServerId) -> Result<(), EnsembleError> {
        self.member(id)?.kill();
        let follows = |other: &ServerId| {
            let can_notice = *other != id && !self.is_paused(*other) && !self.net.is_cut(id, *other);
            can_notice && self.status(*other).leader == Some(id)
        };
        let have_noticed = || (!self.ids().iter().any(follows)).then_some(());
        let _ = self.wait_for("notice of a kill", NOTICE_LIMIT, have_noticed);
        Ok(())
    }

    /// As SIGSTOP does to a process: nothing of the member runs, its sockets stay open. Killing, stopping or restarting
    /// it works as ever.
    pub fn pause(&self, id: ServerId) -> Result<(), EnsembleError> {
        if self.member(id)?.pause() {
            self.signal.raise(); // Whoever waits for a leader looks again.
            return Ok(());
        }
        Err(EnsembleError::Refused(format!("server {id} has not come to a stop; it stops when what it does is done")))
    }

    /// As SIGCONT.
    pub fn resume(&self, id: ServerId) -> Result<(), EnsembleError> {
        self.member(id)?.resume();
        self.signal.raise();
        Ok(())
    }

    pub fn is_paused(&self, id: ServerId) -> bool {
        self.member(id).is_ok_and(|server| server.is_paused())
    }

    /// From now on no byte passes between these groups of servers, as behind a broken switch: connections stay open
    /// and silent. A server in no group is cut off from all. It replaces a former partition. Clients reach everybody.
    pub fn partition(&self, groups: &[BTreeSet<ServerId>]) -> Result<(), EnsembleError> {
        let mut seen = BTreeSet::new();
        for &id in groups.iter().flatten() {
            self.known(id)?;
            if !seen.insert(id) {
                return Err(EnsembleError::Refused(format!("server {id} is in two groups of the partition")));
            }
        }
        if groups.iter().all(BTreeSet::is_empty) {
            return Err(EnsembleError::Refused("a partition has at least one group with a server in it".to_owned()));
        }
        self.net.partition(groups);
        self.signal.raise();
        Ok(())
    }

    /// The network is as good as new: no partition, no slow link. What waited flows.
    pub fn heal(&self) {
        self.net.heal();
        self.signal.raise();
    }

    /// Packets from `from` to `to` take `latency` longer from now on, in their order and as many at once as ever; of
    /// each 1448 bytes a share of `loss` is lost at each try, which shows as TCP shows it: what follows is late by a
    /// retransmission (200 ms and a round trip, doubling). Zeros take it back.
    pub fn slow_link(&self, from: ServerId, to: ServerId, latency: Duration, loss: f64) -> Result<(), EnsembleError> {
        self.known(from)?;
        self.known(to)?;
        if from == to {
            return Err(EnsembleError::Refused(format!("server {from} has no link to itself")));
        }
        if !(0.0..1.0).contains(&loss) {
            let reason = format!("loss is a share of the packets from 0 to below 1, not {loss}; partition() loses all");
            return Err(EnsembleError::Refused(reason));
        }
        self.net.slow(from, to, Slow { latency, loss });
        Ok(())
    }

    /// From now on the member's disk takes nothing any more: a server that writes says so and ends by itself.
    pub fn fill_disk(&self, id: ServerId) -> Result<(), EnsembleError> {
        self.disk(id)?.fill(true);
        Ok(())
    }

    /// There is room again; a server that has ended must be restarted.
    pub fn free_disk(&self, id: ServerId) -> Result<(), EnsembleError> {
        self.disk(id)?.fill(false);
        Ok(())
    }

    /// From now on each sync of the member's disk takes so much longer; zero takes it back.
    pub fn slow_disk(&self, id: ServerId, delay: Duration) -> Result<(), EnsembleError> {
        self.disk(id)?.slow(delay);
        Ok(())
    }

    /// The newest lines of the logs of all members, or of one, oldest first.
    pub fn logs(&self, id: Option<ServerId>) -> Vec<LogLine> {
        self.journal.lines(id)
    }

    /// The newest transitions of all members, oldest first.
    pub fn transitions(&self) -> Vec<Transition> {
        self.journal.transitions()
    }

    fn known(&self, id: ServerId) -> Result<(), EnsembleError> {
        self.disk(id).map(|_| ())
    }

    pub(super) fn disk(&self, id: ServerId) -> Result<&DiskFaults, EnsembleError> {
        self.disks.get(&id).map(|disk| &**disk).ok_or(EnsembleError::Unknown(id))
    }

    /// Starts a member again, on the same ports and directory; one that runs is stopped first.
    pub fn restart(&self, id: ServerId) -> Result<(), EnsembleError> {
        let former = self.member(id)?;
        former.stop();
        let is_shut = self.is_shut.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_shut {
            return Err(EnsembleError::ShutDown);
        }
        let ports = self.ports.get(&id).ok_or(EnsembleError::Unknown(id))?;
        let listeners = ports.listen(self.ports.len());
        let server = listeners.and_then(|listeners| self.start_member(id, listeners));
        let server = server.map_err(|source| EnsembleError::Start { id, source })?;
        self.lock().insert(id, server);
        Ok(())
    }

    /// How a member has ended; `None` while it runs.
    pub fn exit(&self, id: ServerId) -> Option<Exit> {
        let server = self.member(id).ok()?;
        (server.status().role == Role::Ended).then(|| server.wait())
    }

    /// Ends all members cleanly, one that does not end within [`STOP_LIMIT`] by killing it, and removes the directory if
    /// it is a temporary one. Whatever was done to them is undone first. A second call does nothing.
    pub fn shutdown(&self) {
        let mut is_shut = self.is_shut.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *is_shut, true) {
            return;
        }
        self.is_ending.store(true, Ordering::Release);
        self.net.heal();
        self.disks.values().for_each(|disk| disk.heal());
        let members: Vec<Arc<Server>> = self.lock().values().cloned().collect();
        members.iter().for_each(|server| server.begin_stop());
        let deadline = Instant::now() + STOP_LIMIT;
        for server in members {
            if !server.wait_end(deadline) {
                server.kill();
            }
        }
        if let Some(dir) = &self.temporary
            && let Err(error) = dir.remove()
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
            let state = match (self.is_paused(id), serving) {
                (true, _) => ", paused",
                (false, true) => ", serving",
                (false, false) => "",
            };
            let failure = failure.map_or_else(String::new, |reason| format!(" ({reason})"));
            format!("server {id} is {role} in epoch {epoch}{state}{failure}")
        };
        self.ids().into_iter().map(one).collect::<Vec<_>>().join("; ")
    }

    fn start_member(&self, id: ServerId, listeners: Listeners) -> Result<Arc<Server>, StartError> {
        let mut config = Config {
            data_dir: self.data_dir(id),
            data_log_dir: self.data_dir(id),
            tick_time_ms: self.config.tick_time_ms,
            init_limit: self.config.init_limit,
            sync_limit: self.config.sync_limit,
            sessions: SessionsConfig {
                max_timeout_ms: Some(self.config.max_session_timeout_ms),
                ..self.config.sessions.clone()
            },
            limits: LimitsConfig { max_client_cnxns: 0, ..Default::default() },
            nodes: NodesConfig { extended_types: Some(true), ..NodesConfig::default() },
            snap_count: self.config.snap_count,
            pre_alloc_kib: self.config.pre_alloc_kib,
            four_letter_words: Whitelist::All,
            workers: self.config.workers,
            quorum: QuorumConfig {
                catch_up: self.config.catch_up,
                roles: self.config.roles,
                ..QuorumConfig::default()
            },
            ..Config::default()
        };
        if self.ports.len() > 1 {
            config.my_id = Some(id);
            let line = |(&id, ports): (&ServerId, &MemberPorts)| (id, ports.line(self.role(id)));
            config.ensemble.servers = self.ports.iter().map(line).collect();
        }
        let (net, journal, disk) = (self.net.clone(), self.journal.clone(), self.disks[&id].clone());
        let injuries = Injuries { id, net, disk, journal };
        Server::start_member(config, listeners, self.signal.clone(), injuries).map(Arc::new)
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl MemberPorts {
    /// Listens on what a member of so many needs.
    fn listen(&self, servers: usize) -> Result<Listeners, StartError> {
        let listen = |what: &'static str, reserved: &Reserved| {
            let addr = || format!("127.0.0.1:{}", reserved.port());
            reserved.listen().map_err(|source| StartError::Bind { what, addr: addr(), source })
        };
        let is_member = servers > 1;
        Ok(Listeners {
            client: Some(listen("client", &self.client)?),
            election: is_member.then(|| listen("election", &self.election)).transpose()?,
            quorum: is_member.then(|| listen("quorum", &self.quorum)).transpose()?,
        })
    }

    fn line(&self, role: PeerType) -> ServerAddr {
        let client = Some(HostPort::new("127.0.0.1", self.client.port()));
        ServerAddr { client, role, ..ServerAddr::at("127.0.0.1", self.quorum.port(), self.election.port()) }
    }
}
