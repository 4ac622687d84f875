//! Starting a server: the data first, then the ports, then the threads; and what is left when it ends.

use super::acceptor::Acceptor;
use super::channel::{Judge, QuorumSasl, QuorumTls, Security, Supplicant};
use super::config::{Config, ConfigError, Password, QuorumConfig, QuorumLogins};
use super::connections::Connections;
use super::core::{Core, CoreEnd, election_input};
use super::disk::{self, DiskQueue, panic_text, write_first_snapshot};
use super::disk_faults::HostDisk;
use super::dynamic::{ConfigFiles, List};
use super::election_links::{ElectionConfig, ElectionLinks};
use super::gate::Gate;
use super::injuries::Injuries;
use super::limits::Limits;
use super::links::{AcceptedBy, Access, Links};
use super::listen::{Listeners, listen, listen_at};
use super::loading::Loading;
use super::log::{self, Owner};
use super::pause::Pause;
use super::places::Places;
use super::secure::Speaks;
use super::shared::{Clock, Event, Metrics, Shared};
use super::status::{Role, Signal, StatusCell};
use super::tls::{self, TlsError, TlsPort};
use super::{DISK_LIMIT, Server};
use crate::peer::io::{DbOp, Members};
use crate::peer::{Boot, Database, NodeSettings, PeerConfig, QuorumPeer, RequestLimits, Settings};
use crate::records::{Configuration, HostPort, Zxid};
use crate::storage::{Storage, StorageConfig, StorageError};
use crate::sync::RwLock;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Correct the configuration. Exit code 2.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Correct the settings of TLS or the files that they name. Exit code 2.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The directory cannot be made or used (exit code 3), or what is in it cannot (exit code 1).
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Another program has the port, or the address is not this machine's. Exit code 1; 14 for the election port.
    #[error("cannot listen at the {what} address {addr}: {source}")]
    Bind { what: &'static str, addr: String, source: io::Error },
    /// Make room in the temporary directory, or name another by `TMPDIR`. Exit code 1.
    #[error("cannot make a temporary folder: {0}")]
    Temporary(#[source] io::Error),
    /// The system gives no more threads or descriptors. Exit code 1.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

impl StartError {
    /// The exit code of a process that is this server. ZooKeeper: `ExitCode`.
    pub fn exit_code(&self) -> i32 {
        match self {
            StartError::Config(_) | StartError::Tls(_) => 2,
            StartError::Storage(StorageError::MissingDirectory { .. } | StorageError::Locked { .. }) => 3,
            StartError::Storage(StorageError::Io { op: "create" | "list" | "lock", .. }) => 3,
            StartError::Storage(_) => 1,
            StartError::Bind { what: "election", .. } => 14,
            StartError::Bind { .. } | StartError::Temporary(_) | StartError::Thread(_) => 1,
        }
    }
}

/// Starts a server; a member of an [`Ensemble`](super::Ensemble) has a signal to raise and can be hurt.
pub fn start(
    mut config: Config,
    listeners: Listeners,
    member: Option<(Arc<Signal>, Injuries)>,
) -> Result<Server, StartError> {
    config.validate()?;
    let files = dynamic_files(&mut config);
    let (signal, injuries) = member.unzip();
    let span = tracing::error_span!("server", myid = config.my_id.map_or(0, |id| id.0));
    let entered = span.clone().entered();
    let owner = injuries.as_ref().map(|of| Owner { journal: of.journal.clone(), server: of.id });
    let owned = log::owned_by(owner);
    say_settings(&config);

    let tls = if config.tls.is_used() { Some(Arc::new(TlsPort::new(&config.tls.client)?)) } else { None };
    let disk = HostDisk::new(injuries.as_ref().map(|of| of.disk.clone()));
    let (storage, db, boot) = load(&config, disk)?;
    let security = if config.my_id.is_some() { security(&config)? } else { Security::default() };
    let ports = Ports::open(&mut config, listeners, tls, security)?;
    let (events, queue) = mpsc::unbounded_channel();
    let last_seen = files.as_ref().and_then(|files| files.proposed(&config.ensemble));
    let places = Places::new(&config, last_seen.clone());
    let kept = Members { committed: config.ensemble.clone(), last_seen: last_seen.clone() };
    let list = files.map(|files| List::new(files, kept));
    let peer = QuorumPeer::new(peer_config(&config, last_seen), boot);
    let status_at_first = peer.status();
    let parts = Parts { peer, list, places, ports };
    let shared = Arc::new(Shared {
        db: RwLock::new(db),
        log_files: storage.log_files(),
        clock: Clock::new(),
        gate: Arc::new(Gate::default()),
        events,
        connections: Connections::default(),
        peer: Mutex::new(status_at_first),
        metrics: Metrics::default(),
        span: span.clone(),
        injuries,
        is_end_written: AtomicBool::new(false),
        pause: Pause::default(),
        limits: Limits::new(&config),
        config,
        #[cfg(test)]
        late_forward: Default::default(),
    });
    let status = Arc::new(StatusCell::new(signal));
    let disk_queue = DiskQueue::new();
    let disk = disk::start(shared.clone(), disk_queue.clone(), storage).map_err(StartError::Thread)?;

    if let Some(injuries) = &shared.injuries {
        let now = shared.peer_status();
        injuries.transition(Role::Ended, Role::of(now.state, shared.config.my_id), &now, "started".to_owned());
    }
    drop((entered, owned));
    let thread = CoreThread { shared: shared.clone(), status: status.clone(), disk_queue: disk_queue.clone(), disk };
    let name = format!("QuorumPeer[myid={}]", shared.config.my_id.map_or(0, |id| id.0));
    let core = std::thread::Builder::new().name(name).spawn(move || thread.run(parts, queue));
    let core = core.map_err(|error| {
        shared.gate.shut();
        disk_queue.wake();
        StartError::Thread(error)
    })?;
    Ok(Server { shared, status, disk: disk_queue, core: Mutex::new(Some(core)) })
}

fn say_settings(config: &Config) {
    for (key, value) in &config.unknown {
        tracing::warn!("{key}={value} is ignored: this version does not support it, or it is no setting of ZooKeeper");
    }
    for class in &config.auth.unknown_providers {
        tracing::warn!("Problems loading {class}: there is no such provider of authentication here");
    }
    if config.auth.skip_acl {
        tracing::info!("zookeeper.skipACL==\"yes\", ACL checks will be skipped");
    }
    for (key, dir) in [("dataDir", &config.data_dir), ("dataLogDir", &config.data_log_dir)] {
        if dir.is_relative() {
            tracing::warn!("{key}={} is relative to the directory that the server is started in", dir.display());
        }
    }
    match config.retain_snapshots {
        0 => tracing::info!("Purge task is not scheduled."),
        n => tracing::info!("after each snapshot all but the newest {n} and the logs that they need are removed"),
    }
    if config.nodes.emulate_353_ttl {
        tracing::warn!("emulate353TTLNodes is not supported: TTL nodes of 3.5.3 are taken for ephemerals, and stay");
    }
    if config.nodes.reconfig {
        tracing::info!("reconfigEnabled: the list of servers can be changed, by super or whoever may write its znode");
    }
    if let Some(peer_type) = config.peer_type.filter(|peer_type| *peer_type != config.peer_type())
        && config.my_id.is_some()
    {
        let line = config.peer_type();
        tracing::warn!(
            "Peer type from servers list ({line}) doesn't match peerType ({peer_type}). Defaulting to servers list."
        );
    }
    if !config.force_sync {
        tracing::warn!("forceSync=no: acknowledged writes may be lost when the machine fails");
    }
    match config.ensemble.voters().len() {
        2 => tracing::warn!("No server failure will be tolerated. You need at least 3 servers."),
        n if n > 0 && n % 2 == 0 => tracing::warn!("Non-optimal configuration, consider an odd number of servers."),
        _ => {}
    }
}

/// The database as the directory holds it. Afterwards the directory is locked, whole and ready to be appended to.
fn load(config: &Config, disk: HostDisk) -> Result<(Storage<HostDisk>, Database, Boot), StartError> {
    let began = Instant::now();
    let settings = StorageConfig {
        data_log_dir: config.data_log_dir.clone(),
        create_dirs: config.auto_create,
        create_db: config.files.create_db,
        compression: config.files.compression,
        log_bytes_max: bytes_of(config.files.log_kib_max),
        trust_empty: config.trust_empty,
        force_sync: config.force_sync,
        pre_alloc_bytes: u64::from(config.pre_alloc_kib) << 10,
        retain_snapshots: config.retain_snapshots.max(1) as usize,
        txn_bytes_max: config.limits.txn_bytes_max(),
        ..StorageConfig::new(&config.data_dir)
    };
    let mut loading = Loading::new(config.quorum.catch_up.recent_max);
    let (storage, recovered) = Storage::open(disk, settings, &mut loading)?;
    for repair in &recovered.repaired {
        tracing::warn!("{repair}");
    }
    for note in &recovered.notes {
        tracing::warn!("{note}");
    }
    if recovered.last_zxid == Zxid::NONE && config.my_id.is_none() {
        return Err(StorageError::NotTrusted { dir: config.data_dir.clone() }.into()); // No leader will ever fill it.
    }
    let mut loaded = loading.finish(recovered.last_zxid);
    let boot = Boot {
        accepted_epoch: recovered.accepted_epoch,
        current_epoch: recovered.current_epoch,
        last_logged: recovered.last_zxid,
        recent: std::mem::take(&mut loaded.recent),
        replayed: if recovered.needs_snapshot { 0 } else { recovered.txns.try_into().unwrap_or(u32::MAX) },
    };
    let mut db = Database::new(loaded);
    db.set_settings(database_settings(config)?);
    if recovered.needs_snapshot {
        // As Apache's first snapshot: it holds the list of servers, which a server of Apache's shows as it loads it.
        if config.my_id.is_some() {
            let (text, version, now) = (config.ensemble.to_string(), config.ensemble.version, Clock::new().now());
            let op = DbOp::SetConfig { text, version, wall_ms: now.wall_ms };
            db.perform(now, [op], &mut Vec::new(), &mut Vec::new());
        }
        write_first_snapshot(&storage, &mut db, recovered.last_zxid)?;
    }
    tracing::info!(
        "Snapshot loaded in {} ms, highest zxid is {}, digest is {}; {} txns loaded",
        began.elapsed().as_millis(),
        recovered.snapshot_zxid.unwrap_or(Zxid::ZERO),
        db.tree().digest(),
        recovered.txns
    );
    Ok((storage, db, boot))
}

/// A size in KiB that may be unlimited, as bytes; 0: unlimited.
fn bytes_of(kib: Option<u32>) -> u64 {
    u64::from(kib.unwrap_or(0)) << 10
}

/// What the database reads of the configuration.
fn database_settings(config: &Config) -> Result<Settings, ConfigError> {
    let nodes = &config.nodes;
    let nodes = NodeSettings {
        extended_types: nodes.extended_types.unwrap_or(false),
        enforce_quota: nodes.enforce_quota,
        reconfig: nodes.reconfig,
        close_session_lists: !nodes.close_session_without_list,
        txn_bytes_max: config.limits.txn_bytes_max(),
    };
    let auth = config.auth.settings(config.my_id.is_some())?;
    Ok(Settings { auth, nodes, requests: request_limits(config) })
}

fn request_limits(config: &Config) -> RequestLimits {
    let limits = &config.limits;
    let or_off = |limit: u32| if limit == 0 { usize::MAX } else { limit as usize };
    // Each server's share, so that all together keep to it. The leader, to which all of it comes, does not count.
    let voters = config.ensemble.voters().len();
    let servers = if voters > 2 { voters - 1 } else { 1 };
    RequestLimits {
        // Half of the default would cost a crowd of writers a tenth of what they get.
        outstanding_max: limits.global_outstanding.map_or(1000, |requests| requests as usize / servers),
        throttle_at: or_off(limits.request_throttle),
        throttled_wait_micros: match limits.throttled_op_wait_ms {
            0 => u64::MAX,
            ms => u64::from(ms) * 1000,
        },
        ends_stale: limits.drops_stale && limits.checks_stale_latency,
        large_above: limits.large_request_threshold.map_or(usize::MAX, |bytes| bytes as usize),
        large_bytes_max: limits.large_request_bytes_max.try_into().unwrap_or(usize::MAX),
    }
}

/// The files that hold the ensemble's list, if it can change; what they say counts.
fn dynamic_files(config: &mut Config) -> Option<ConfigFiles> {
    let files = ConfigFiles::of(config)?;
    if let Some(newest) = files.newest().filter(|newest| newest.version > config.ensemble.version) {
        config.ensemble = newest;
    }
    if let Err(error) = files.back_up(config.names_dynamic_file) {
        tracing::warn!("the configuration file cannot be backed up before it is rewritten: {error}");
    }
    Some(files)
}

fn peer_config(config: &Config, last_seen: Option<Configuration>) -> PeerConfig {
    PeerConfig {
        my_id: config.my_id,
        ensemble: config.ensemble.clone(),
        last_seen,
        reconfig_enabled: config.nodes.reconfig,
        peer_type: config.peer_type(),
        roles: config.quorum.role_rules(),
        standalone_enabled: config.standalone_enabled,
        tick_ms: config.tick_time_ms,
        init_limit: config.init_limit,
        sync_limit: config.sync_limit,
        min_session_timeout_ms: config.min_session_timeout_ms().min(i32::MAX as u32) as i32,
        max_session_timeout_ms: config.max_session_timeout_ms().min(i32::MAX as u32) as i32,
        sessions: config.sessions.rules(),
        snap_count: config.snap_count,
        snap_log_bytes: bytes_of(config.files.snapshot_log_kib),
        reaper: config.nodes.reaper,
        catch_up: config.quorum.catch_up,
        seed: RandomState::new().hash_one(std::process::id()),
    }
}

/// Sockets that listen.
struct Ports {
    client: Vec<(std::net::TcpListener, Speaks)>,
    /// What is to be reloaded as its files change.
    tls: Option<Arc<TlsPort>>,
    /// What servers ask of each other on the two ports below.
    security: Arc<Security>,
    /// One for each of this server's addresses.
    election: Vec<std::net::TcpListener>,
    quorum: Vec<std::net::TcpListener>,
    /// For observers of a follower.
    observers: Option<std::net::TcpListener>,
}

impl Ports {
    /// Binds what is not bound yet; the clients' addresses are then known exactly.
    fn open(
        config: &mut Config,
        given: Listeners,
        tls: Option<Arc<TlsPort>>,
        security: Security,
    ) -> Result<Ports, StartError> {
        let security = Arc::new(security);
        let backlog = config.limits.client_backlog;
        let mut client = Vec::new();
        let addr = &mut config.client_addr;
        if let Some(listener) = open_client("client", addr, given.client, backlog)? {
            tracing::info!("binding to port {}", addr.map_or_else(String::new, |addr| addr.to_string()));
            client.push((
                listener,
                match &tls {
                    Some(tls) if config.tls.port_unification => Speaks::Both(tls.clone()),
                    _ => Speaks::Plain,
                },
            ));
        }
        let addr = &mut config.tls.secure_client_addr;
        if let Some(listener) = open_client("secure client", addr, None, backlog)?
            && let Some(tls) = &tls
        {
            tracing::info!("binding to secure port {}", addr.map_or_else(String::new, |addr| addr.to_string()));
            client.push((listener, Speaks::Tls(tls.clone())));
        }
        let Some(me) = config.me() else {
            return Ok(Ports { client, tls, security, election: Vec::new(), quorum: Vec::new(), observers: None });
        };
        let QuorumConfig { bind_retries, listen_on_all_ips, .. } = config.quorum;
        let election = open_each("election", given.election, bind_retries, listen_on_all_ips, || {
            me.addrs.iter().map(|addr| &addr.election)
        })?;
        let quorum =
            open_each("quorum", given.quorum, 1, listen_on_all_ips, || me.addrs.iter().map(|addr| &addr.quorum))?;
        let at_observers = config.quorum.observer_master_port.map(|port| HostPort::new(&*me.quorum().host, port));
        let observers = at_observers.map(|addr| {
            let bind = |source| StartError::Bind { what: "observer master", addr: addr.to_string(), source };
            listen_at(&addr, listen_on_all_ips).map_err(bind)
        });
        Ok(Ports { client, tls, security, election, quorum, observers: observers.transpose()? })
    }
}

/// Listens at each of this server's addresses. One of several that cannot be had is said and left out: the others may
/// still reach it at the rest.
fn open_each<'a, A: Iterator<Item = &'a HostPort>>(
    what: &'static str,
    given: Option<std::net::TcpListener>,
    tries: u32,
    on_all_ips: bool,
    addrs: impl Fn() -> A,
) -> Result<Vec<std::net::TcpListener>, StartError> {
    if let Some(listener) = given {
        return Ok(vec![listener]);
    }
    let (mut listeners, mut failed, mut ports) = (Vec::new(), None, BTreeSet::new());
    for addr in addrs() {
        if !ports.insert(addr.port) && on_all_ips {
            continue; // The same socket.
        }
        match retry(tries, || listen_at(addr, on_all_ips)) {
            Ok(listener) => listeners.push(listener),
            Err(source) => {
                let error = StartError::Bind { what, addr: addr.to_string(), source };
                tracing::warn!("{error}");
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

/// What this server asks of the others of its ensemble, by its settings and the files that they name.
fn security(config: &Config) -> Result<Security, StartError> {
    let QuorumConfig { tls, sasl, .. } = &config.quorum;
    let tls = if tls.is_used() {
        Some(QuorumTls {
            port: Arc::new(TlsPort::between_servers(&tls.keys)?),
            dials: tls.enabled,
            takes_plain: tls.port_unification,
        })
    } else {
        None
    };
    let sasl = if sasl.enabled {
        let QuorumLogins { users, user, password: Password(password) } = config.auth.quorum_logins(sasl)?;
        let judge = Judge { users, is_required: sasl.server_requires };
        Some(QuorumSasl { judge, supplicant: sasl.learner_requires.then_some(Supplicant { user, password }) })
    } else {
        None
    };
    Ok(Security::new(tls, sasl))
}

/// Listens at `addr`, unless `given` does already; `addr` is then what was configured (though the socket may be one of
/// both families), with the port that it really is.
fn open_client(
    what: &'static str,
    addr: &mut Option<SocketAddr>,
    given: Option<std::net::TcpListener>,
    backlog: i32,
) -> Result<Option<std::net::TcpListener>, StartError> {
    let listener = match (given, *addr) {
        (Some(listener), _) => listener,
        (None, Some(addr)) => {
            listen(addr, backlog).map_err(|source| StartError::Bind { what, addr: addr.to_string(), source })?
        }
        (None, None) => return Ok(None),
    };
    let ip = addr.map(|addr| addr.ip());
    *addr = listener.local_addr().ok().map(|addr| SocketAddr::new(ip.unwrap_or(addr.ip()), addr.port()));
    Ok(Some(listener))
}

/// Tries `n` times, a second apart; 0: for ever.
fn retry<T>(n: u32, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tried = 0;
    loop {
        match attempt() {
            Err(error) => {
                tried += 1;
                if tried == n {
                    return Err(error);
                }
                tracing::warn!("Exception while listening to address: {error}");
                std::thread::sleep(Duration::from_secs(1));
            }
            done => return done,
        }
    }
}

/// What only the core's thread has, made before it begins.
struct Parts {
    peer: QuorumPeer,
    list: Option<List>,
    places: Places,
    ports: Ports,
}

/// The core's thread, from its start to the server's end.
struct CoreThread {
    shared: Arc<Shared>,
    status: Arc<StatusCell>,
    disk_queue: DiskQueue,
    disk: JoinHandle<Option<(i32, String)>>,
}

impl CoreThread {
    fn run(self, parts: Parts, queue: mpsc::UnboundedReceiver<Event>) {
        let CoreThread { shared, status, disk_queue, disk } = self;
        // Whatever happens below, those who wait for the end hear of it.
        let mut ending = Ending { shared: shared.clone(), status: status.clone(), end: None };
        let _entered = shared.enter();
        let end = catch_unwind(AssertUnwindSafe(|| {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return unexpected(format!("no runtime: {error}")),
            };
            let end = runtime.block_on(async {
                match build(&shared, &status, &disk_queue, parts) {
                    // A task, because tokio polls for events before it turns to its main future.
                    Ok(core) => match tokio::spawn(core.run(queue)).await {
                        Ok(end) => end,
                        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                        Err(error) => unexpected(format!("the core was cancelled: {error}")),
                    },
                    Err(error) => unexpected(format!("the sockets cannot be used: {error}")),
                }
            });
            // Not waiting for a look-up of another server's name, which may take as long as the resolver likes.
            runtime.shutdown_background();
            end
        }));
        let mut end = end.unwrap_or_else(|panic| unexpected(format!("the core has panicked: {}", panic_text(&*panic))));
        if end != CoreEnd::Stopped {
            shared.gate.shut();
        }
        disk_queue.wake();
        if !shared.gate.wait_disk_end(DISK_LIMIT) {
            tracing::error!(
                "the disk has not answered for {DISK_LIMIT:?}: its thread is left behind, and with it the directory's lock"
            );
            end = if end == CoreEnd::Stopped { CoreEnd::Killed } else { end };
        } else if let Ok(Some((code, reason))) = disk.join()
            && end == CoreEnd::Stopped
        {
            end = CoreEnd::Failed { code, reason };
        }
        ending.end = Some(end.clone());
        if let CoreEnd::Failed { code, reason } = &end {
            tracing::error!("Severe unrecoverable error, the server ends with code {code}: {reason}");
        }
    }
}

/// Dropped when the core's thread ends: nothing leaves the server any more, and the end is told.
struct Ending {
    shared: Arc<Shared>,
    status: Arc<StatusCell>,
    end: Option<CoreEnd>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.shared.gate.shut();
        self.shared.connections.clear();
        let end = self.end.take();
        let end = end.unwrap_or_else(|| unexpected("the core's thread has panicked while it ended".to_owned()));
        let exit = end.into();
        self.shared.write_down_end(&exit);
        self.status.end(exit);
    }
}

fn unexpected(reason: String) -> CoreEnd {
    CoreEnd::Failed { code: 1, reason }
}

/// On the core's runtime: everything that it drives.
fn build(
    shared: &Arc<Shared>,
    status: &Arc<StatusCell>,
    disk: &DiskQueue,
    Parts { peer, list, places, ports }: Parts,
) -> io::Result<Core> {
    let network = shared.injuries.as_ref().map(Injuries::network).unwrap_or_default();
    let txn_bytes_max = shared.config.limits.txn_bytes_max();
    let config = &shared.config;
    let security = ports.security;
    security.set_hosts(places.hosts());
    if let Some(tls) = &security.tls {
        super::task::spawn("the certificates' reloader", &shared.events, tls::reload(tls.port.clone()));
    }
    let reachability_timeout = Duration::from_millis(config.quorum.reachability_timeout_ms.into());
    let init_limit_ms = u64::from(config.tick_time_ms) * u64::from(config.init_limit);
    let setup_timeout = Duration::from_millis(init_limit_ms);
    let access = Access { security: security.clone(), setup_timeout, reachability_timeout };
    let mut links = Links::new(shared.events.clone(), shared.gate.clone(), network.clone(), access, txn_bytes_max);
    for listener in ports.quorum {
        links.listen(listener, AcceptedBy::QuorumPort)?;
    }
    if let Some(listener) = ports.observers {
        links.listen(listener, AcceptedBy::ObserverMasterPort)?;
    }
    let election = match config.my_id {
        Some(my_id) => {
            let sync_limit_ms = u64::from(config.tick_time_ms) * u64::from(config.sync_limit);
            let initial_ms = config.quorum.initial_timeout_ms.map_or(sync_limit_ms, u64::from);
            let settings = ElectionConfig {
                my_id,
                members: places.election_addresses(),
                multi_address: config.quorum.multi_address,
                reachability_timeout,
                connect_timeout: Duration::from_millis(config.quorum.connect_timeout_ms.into()),
                initial_timeout: Duration::from_millis(initial_ms),
                security: security.clone(),
            };
            let events = shared.events.clone();
            let listeners = ports.election.into_iter().map(|listener| {
                listener.set_nonblocking(true)?;
                tokio::net::TcpListener::from_std(listener)
            });
            let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
            Some(ElectionLinks::start(settings, network, listeners, shared.events.clone(), move |event| {
                let _ = events.send(Event::Input(election_input(event)));
            }))
        }
        None => None,
    };
    let acceptor = Acceptor::start(shared, ports.client)?;
    if let Some(tls) = ports.tls {
        super::task::spawn("the certificates' reloader", &shared.events, tls::reload(tls));
    }
    let (shared, disk, status) = (shared.clone(), disk.clone(), status.clone());
    Ok(Core { shared, peer, disk, links, election, acceptor, places, list, security, status, turn: Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_global_limit_that_is_set_is_shared_by_the_servers_and_the_default_is_each_ones() {
        let of = |servers: usize, set: Option<u32>| {
            let mut config = Config::default();
            config.limits.global_outstanding = set;
            for id in 1..=servers {
                config.ensemble.take(&format!("server.{id}"), "127.0.0.1:2000:3000").unwrap();
            }
            request_limits(&config).outstanding_max
        };
        assert_eq!((of(0, None), of(5, None)), (1000, 1000));
        assert_eq!((of(0, Some(600)), of(2, Some(600)), of(3, Some(600)), of(5, Some(600))), (600, 600, 300, 150));
    }
}
