//! Servers of one ensemble in this process, on 127.0.0.1: for tests, Python's `Ensemble` and demonstrations.
//!
//! Each member's ports are reserved for the life of the ensemble, so they are known before anybody is told of them, a
//! member that is down refuses connections, and nobody else takes its port meanwhile. The list of members can be changed
//! while they run, so all of them are servers of an ensemble, also one on its own: [`growth`](super::growth).

use super::config::QuorumConfig;
use super::disk_faults::DiskFaults;
use super::injuries::Injuries;
use super::journal::{Journal, LogLine, Transition};
use super::log;
use super::members::{First, Member, MemberPorts};
use super::net_faults::{NetFaults, Slow};
use super::operator::Operator;
use super::status::Signal;
use super::temporary::TemporaryDir;
use super::{
    AuthConfig, Config, Exit, LimitsConfig, Listeners, NodesConfig, Role, Server, SessionsConfig, StartError, Status,
    Whitelist,
};
use crate::peer::{CatchUpRules, RoleRules};
use crate::records::{Configuration, Epoch, PeerType, ServerId, Zxid};
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
    /// How many servers vote; their ids are 1, 2, … An ensemble that has grown or shrunk in `dir` is as it was left.
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
    /// A change of the list was asked for and its answer did not come. Asking again does no harm.
    #[error("whether {change} is not known: {reason}")]
    Undecided { change: String, reason: String },
}

/// A running ensemble. Dropping it ends it.
pub struct Ensemble {
    config: EnsembleConfig,
    dir: PathBuf,
    /// `dir`, if it goes at the end.
    temporary: Option<TemporaryDir>,
    members: Mutex<BTreeMap<ServerId, Member>>,
    /// Held by whoever changes the list; the id that the next member gets.
    pub(super) next_id: Mutex<i64>,
    pub(super) operator: Operator,
    /// Set by [`Ensemble::shutdown`]; the members are kept for their last status.
    is_shut: Mutex<bool>,
    /// Whoever still waits for something waits in vain.
    is_ending: AtomicBool,
    pub(super) signal: Arc<Signal>,
    net: Arc<NetFaults>,
    journal: Arc<Journal>,
}

impl Ensemble {
    /// Starts all members; the election goes on.
    pub fn start(config: EnsembleConfig) -> Result<Ensemble, StartError> {
        log::install();
        let temporary = match &config.dir {
            Some(_) => None,
            None => Some(TemporaryDir::new().map_err(StartError::Temporary)?),
        };
        let dir =
            config.dir.as_deref().or(temporary.as_ref().map(TemporaryDir::path)).unwrap_or(Path::new("")).to_owned();
        let First { roles, version, next_id } = First::in_directory(&dir, config.servers.max(1), config.observers);
        let (is_shut, signal, net, journal, is_ending) = Default::default();
        let members = Mutex::default();
        let (next_id, operator) = (Mutex::new(next_id), Operator::new());
        let ensemble =
            Ensemble { config, dir, temporary, members, next_id, operator, is_shut, is_ending, signal, net, journal };
        let mut members = BTreeMap::new();
        for (id, role) in roles {
            members.insert(id, ensemble.new_member(role)?);
        }
        let servers = members.iter().map(|(&id, member)| (id, member.line())).collect();
        let list = Arc::new(Configuration { version, servers, ..Configuration::default() });
        for member in members.values_mut() {
            (member.list, member.is_listed) = (list.clone(), true);
        }
        *ensemble.lock() = members;
        ensemble.start_all()?;
        Ok(ensemble)
    }

    /// Ports and a disk for one more member, which is in no list yet.
    pub(super) fn new_member(&self, role: PeerType) -> Result<Member, StartError> {
        let disk = if self.temporary.is_some() { DiskFaults::of_temporary() } else { DiskFaults::default() };
        Ok(Member {
            ports: Arc::new(MemberPorts::reserve()?),
            disk: Arc::new(disk),
            role,
            is_listed: false,
            list: Arc::default(),
            server: None,
        })
    }

    /// Starts all members at once. All listen before the first one dials: a refused connect would tell it that the
    /// others are down, and two servers would elect a leader that the third one does not know.
    fn start_all(&self) -> Result<(), StartError> {
        let members = self.lock().clone();
        let listeners = members.values().map(|member| member.ports.listen()).collect::<Result<Vec<_>, _>>()?;
        std::thread::scope(|scope| {
            let start = |((&id, member), listeners)| scope.spawn(move || self.start_member(id, member, listeners));
            let starting: Vec<_> = members.iter().zip(listeners).map(start).collect();
            let panicked = |panic| std::panic::resume_unwind(panic);
            let started: Vec<_> = starting.into_iter().map(|start| start.join().unwrap_or_else(panicked)).collect();
            started.into_iter().collect()
        })
    }

    /// `127.0.0.1:p1,127.0.0.1:p2,…`
    pub fn hosts(&self) -> String {
        let hosts = |member: &Member| format!("127.0.0.1:{}", member.ports.client.port());
        self.lock().values().filter(|member| member.is_listed).map(hosts).collect::<Vec<_>>().join(",")
    }

    /// The members of the moment.
    pub fn ids(&self) -> Vec<ServerId> {
        let members = self.lock();
        members.iter().filter(|(_, member)| member.is_listed).map(|(&id, _)| id).collect()
    }

    /// Where clients of one member connect.
    pub fn client_addr(&self, id: ServerId) -> Result<SocketAddr, EnsembleError> {
        let ports = self.known(id)?.ports;
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

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }

    fn reaches_majority(&self, id: ServerId) -> bool {
        let voters = self.voters();
        2 * voters.iter().filter(|&&other| other == id || !self.net.is_cut(id, other)).count() > voters.len()
    }

    /// The members of the moment that vote.
    pub(super) fn voters(&self) -> Vec<ServerId> {
        let members = self.lock();
        let votes = |member: &Member| member.is_listed && member.role == PeerType::Participant;
        members.iter().filter(|(_, member)| votes(member)).map(|(&id, _)| id).collect()
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
            if self.is_ending() {
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

    pub(super) fn known(&self, id: ServerId) -> Result<Member, EnsembleError> {
        self.lock().get(&id).cloned().ok_or(EnsembleError::Unknown(id))
    }

    pub(super) fn disk(&self, id: ServerId) -> Result<Arc<DiskFaults>, EnsembleError> {
        Ok(self.known(id)?.disk)
    }

    /// Starts a member again, on the same ports and directory; one that runs is stopped first.
    pub fn restart(&self, id: ServerId) -> Result<(), EnsembleError> {
        self.member(id)?.stop();
        self.start_one(id)
    }

    /// Starts the server of a member.
    pub(super) fn start_one(&self, id: ServerId) -> Result<(), EnsembleError> {
        let is_shut = self.is_shut.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_shut {
            return Err(EnsembleError::ShutDown);
        }
        let member = self.known(id)?;
        let started = member.ports.listen().and_then(|listeners| self.start_member(id, &member, listeners));
        started.map_err(|source| EnsembleError::Start { id, source })
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
        self.lock().values().for_each(|member| member.disk.heal());
        let members: Vec<Arc<Server>> = self.lock().values().filter_map(|member| member.server.clone()).collect();
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

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<ServerId, Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn member(&self, id: ServerId) -> Result<Arc<Server>, EnsembleError> {
        self.known(id)?.server.ok_or(EnsembleError::Unknown(id))
    }

    pub(super) fn describe(&self) -> String {
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
        let all: Vec<ServerId> = self.lock().keys().copied().collect();
        all.into_iter().map(one).collect::<Vec<_>>().join("; ")
    }

    fn start_member(&self, id: ServerId, member: &Member, listeners: Listeners) -> Result<(), StartError> {
        let config = Config {
            my_id: Some(id),
            ensemble: Configuration::clone(&member.list),
            standalone_enabled: false,
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
            nodes: NodesConfig { extended_types: Some(true), reconfig: true, ..NodesConfig::default() },
            auth: AuthConfig { super_digest: Some(self.operator.digest()), ..AuthConfig::default() },
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
        let (net, journal, disk) = (self.net.clone(), self.journal.clone(), member.disk.clone());
        let injuries = Injuries { id, net, disk, journal };
        let server = Server::start_member(config, listeners, self.signal.clone(), injuries)?;
        if let Some(member) = self.lock().get_mut(&id) {
            member.server = Some(Arc::new(server));
        }
        Ok(())
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        self.shutdown();
    }
}
