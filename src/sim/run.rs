//! One seed from beginning to end: faults and work, then healing, then what must hold at the end.

use super::checkers::{Checkers, Reconfigs};
use super::client::Client;
use super::config_files;
use super::counts::Counts;
use super::disk::SimDisk;
use super::ensemble::Shape;
use super::faults::{Faults, KillPoints, Kind};
use super::network::{Latency, Network};
use super::operator::Operator;
use super::planted::Planted;
use super::rng::Rng;
use super::server::{Down, Process, ServerSetup};
use super::steps::{Step, Victims};
use super::trace::Trace;
use super::world::{ClientEvent, Ctx, Event, Machine, World};
use crate::peer::{PeerConfig, ReaperConfig, SessionRules};
use crate::records::{Owner, ServerId};
use crate::storage::StorageConfig;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// What a run is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Everything that the seed draws.
    #[default]
    Mixed,
    /// Five servers; again and again the leader and one follower are cut off with some of the clients, while the others
    /// elect another leader and write on. Everybody reads behind syncs: such a read fails, or shows whatever anybody had
    /// been told before the sync was called.
    CutOffLeader,
    /// Reconfigurations, each interrupted at one of its steps: the leader ends, or a joiner, or the leader's heir, or a
    /// majority, or everybody. Then the old ensemble works, or the new one.
    ReconfigSteps,
}

/// What to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// 3 or 5; `None`: the seed decides.
    pub servers: Option<usize>,
    pub scenario: Scenario,
    /// Only voters of equal weight that stay what they are, with counters that do not end.
    pub plain: bool,
    pub planted: Option<Planted>,
    /// The only kind of fault, instead of those that the seed draws.
    pub only: Option<Kind>,
    /// Print what happens from this time on, in microseconds.
    pub trace_from: Option<u64>,
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    pub servers: usize,
    /// What did not hold, and when, in microseconds.
    pub violation: Option<(u64, String)>,
    /// Of all events: equal for equal seeds.
    pub trace_hash: u64,
    pub counts: Counts,
    /// Where reconfigurations were interrupted, and whom it hit.
    pub interrupted: BTreeSet<(Step, Victims)>,
}

/// How long everything may take to find together once it is healed, in microseconds.
const RECOVERY_LIMIT: u64 = 20_000_000;
/// How long after that the last silence of before has been noticed, and how long the clients work on, in microseconds.
const SETTLED_AFTER: u64 = 3_000_000;
const SETTLED_WORK: u64 = 3_000_000;
const DATA_DIR: &str = "/data";

/// Runs one seed.
pub fn run_seed(seed: u64, options: Options) -> Report {
    let mut rng = Rng::new(seed);
    let mut world = build(seed, &mut rng, options);
    let servers = world.machines.len();
    let work = world.setup_work(&mut rng);
    // A panic is an assertion of the core: a violation like any other.
    let panicked = catch_unwind(AssertUnwindSafe(|| run(&mut world, work))).err().map(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        format!("panic: {}", text.unwrap_or("?"))
    });
    let told = world.ctx.checkers.violation().map(str::to_owned).or(panicked);
    let mut counts = world.ctx.counts.clone();
    counts.events = world.ctx.trace.events();
    counts.simulated_ms = world.ctx.now() / 1_000;
    counts.reaped = world.ctx.checkers.ghost.reaped;
    let Reconfigs { committed, completed_later, activated } = world.ctx.checkers.reconfigs;
    (counts.reconfigs_committed, counts.reconfigs_completed_later) = (committed, completed_later);
    counts.configurations_activated = activated;
    counts.cut_with_bytes_under_way = world.ctx.net.cut_with_bytes_under_way;
    let violation = told.map(|what| (world.ctx.now(), what));
    let interrupted = std::mem::take(&mut world.ctx.interrupted);
    Report { seed, servers, violation, trace_hash: world.ctx.trace.hash(), counts, interrupted }
}

/// Draws the world of a seed.
fn build(seed: u64, rng: &mut Rng, options: Options) -> World {
    let is_cut_off = options.scenario == Scenario::CutOffLeader;
    let drawn = if rng.one_in(4) || is_cut_off { 5 } else { 3 };
    let servers = options.servers.unwrap_or(drawn);
    let shape = match options.scenario {
        Scenario::Mixed if !options.plain => Shape::draw(seed, servers, options.servers.is_some()),
        Scenario::ReconfigSteps => Shape::for_steps(seed),
        _ => Shape::plain(servers),
    };
    let servers = shape.servers();
    // Enough of them that both sides of a cut have some.
    let clients = 1 + rng.below(5) as usize + if is_cut_off { 5 } else { 0 };
    let latency = Latency {
        base: *rng.pick(&[20, 100, 500]),
        jitter: *rng.pick(&[20, 200, 1_000]),
        spike_one_in: *rng.pick(&[0, 0, 200, 30]),
        spike: *rng.pick(&[5_000, 100_000]),
    };
    let mut net = Network::new(servers + clients, latency, *rng.pick(&[3, 20, 0]), rng.fork());
    if !shape.is_plain() {
        // Nobody would ever dial a server back that has no vote, and whose first connections went to nobody.
        (0..servers).for_each(|host| net.not_up_yet(host));
    }
    let ids: Vec<ServerId> = (1..=servers as i64).map(ServerId).collect();
    let disks: Vec<SimDisk> = ids.iter().map(|_| SimDisk::new()).collect();
    let on_disks = ids.iter().copied().zip(disks.iter().cloned());
    let checkers = Checkers::new(&shape, on_disks, &Path::new(DATA_DIR).join("version-2"));
    let mut ctx = Ctx::new(net, checkers, Trace::new(options.trace_from), rng.fork());
    // A lease lasts syncLimit from the last packet, which may itself have been so long under way.
    let spikes = latency.spike + 100_000;
    ctx.kill_points = KillPoints::draw(rng);
    ctx.counts.on_shape(&shape);
    let mut setup = draw_setup(rng, shape, options.planted);
    if options.scenario == Scenario::Mixed {
        // Of a generator of their own: kept seeds stay what they were, but for these.
        let mut rules = Rng::new(setup.peer.seed);
        let (local, upgrade) = (rules.one_in(3), !rules.one_in(4));
        // Few losses of a quorum last as long as the 2 s of a server.
        let read_only_after_ms = rules.one_in(3).then(|| *rules.pick(&[50, 200, 1_000]));
        setup.peer.sessions = SessionRules { local, upgrade, read_only_after_ms };
    }
    ctx.sessions = setup.peer.sessions;
    let (mut only, mut every) = (options.only, None);
    let is_steps = options.scenario == Scenario::ReconfigSteps;
    if is_steps {
        ctx.kill_points = KillPoints::default();
        setup.peer.tick_ms = setup.peer.tick_ms.min(50);
    }
    if is_cut_off {
        ctx.kill_points = KillPoints::default();
        // The others need time to elect before the old leader notices that it is alone.
        setup.peer.tick_ms = setup.peer.tick_ms.max(100);
        setup.peer.min_session_timeout_ms = 2 * setup.peer.tick_ms as i32;
        setup.peer.max_session_timeout_ms = 20 * setup.peer.tick_ms as i32;
        (only, every) = (Some(Kind::CutOffLeader), Some(u64::from(setup.peer.tick_ms) * 10_000));
    }
    let sync_limit = u64::from(setup.peer.tick_ms) * u64::from(setup.peer.sync_limit) * 1_000;
    ctx.checkers.staleness_max = 2 * sync_limit + spikes;
    if setup.shape.reconfigures {
        for (id, disk) in ids.iter().zip(&disks) {
            config_files::put(disk, &setup.shape.as_known_by(*id));
        }
    }
    let operator = Operator::draw(setup.shape.operator(seed), setup.shape.has_operator(), is_steps.then_some(seed));
    World {
        ctx,
        operator,
        machines: ids.iter().zip(disks).map(|(id, disk)| Machine::new(*id, disk)).collect(),
        clients: (0..clients).map(|index| Client::new(index, servers, options.scenario, rng.fork())).collect(),
        faults: if is_steps { Faults::none(rng.fork()) } else { Faults::draw(rng.fork(), only, every) },
        calm: false,
        setup,
    }
}

fn draw_setup(rng: &mut Rng, shape: Shape, planted: Option<Planted>) -> ServerSetup {
    let tick_ms = *rng.pick(&[20, 50, 100, 500]);
    let peer = PeerConfig {
        reconfig_enabled: shape.reconfigures,
        roles: shape.roles,
        snap_count: *rng.pick(&[10, 60, 400]),
        reaper: ReaperConfig { check_interval_ms: *rng.pick(&[50, 500, 5_000]), ..ReaperConfig::default() },
        catch_up: shape.catch_up,
        seed: rng.next_u64(),
        ..PeerConfig::new(None, shape.configuration.clone(), tick_ms)
    };
    let mut storage = StorageConfig::new(DATA_DIR);
    storage.pre_alloc_bytes = *rng.pick(&[0, 4_096, 65_536]);
    ServerSetup {
        shape,
        peer,
        storage,
        planted,
        sync_micros: *rng.pick(&[100, 1_000, 5_000]),
        chunk_bytes: *rng.pick(&[64, 512, 8_192]),
        chunk_micros: *rng.pick(&[20, 200, 2_000]),
    }
}

impl World {
    /// Starts everybody; how long the first half lasts, in microseconds.
    fn setup_work(&mut self, rng: &mut Rng) -> u64 {
        for host in 0..self.machines.len() {
            let incarnation = self.machines[host].incarnation;
            self.ctx.sched.after(rng.below(50_000), Event::Start { host, incarnation });
        }
        for client in 0..self.clients.len() {
            for event in [ClientEvent::Begin, ClientEvent::Act] {
                self.ctx.sched.after(rng.below(300_000), Event::Client { client, event });
            }
        }
        self.begin_faults();
        self.begin_operator();
        *rng.pick(&[3_000_000, 8_000_000, 20_000_000])
    }

    /// Takes events until `done`, a violation, or `until`; whether it was done.
    fn turn_until(&mut self, until: u64, mut done: impl FnMut(&World) -> bool) -> bool {
        let mut next_look = 0;
        while self.ctx.checkers.violation().is_none() {
            if self.ctx.now() >= next_look {
                if done(self) {
                    return true;
                }
                next_look = self.ctx.now() + 5_000;
            }
            if self.ctx.sched.next_time().is_none_or(|at| at > until) {
                return false;
            }
            self.turn();
        }
        false
    }
}

fn run(world: &mut World, work: u64) {
    let kinds = world.faults.kinds();
    world.ctx.trace.line(|| format!("{} servers, {} clients, {kinds:?}", world.machines.len(), world.clients.len()));
    world.turn_until(work, |_| false);
    world.heal();
    let limit = world.ctx.now() + RECOVERY_LIMIT;
    if !world.turn_until(limit, all_serve) {
        let silent = silent(world);
        return world.ctx.checkers.fail(|| format!("healed, but {silent:?} do not serve in time"));
    }
    // Whoever was silent too long has been told by now, and who asks a server that serves hears of it.
    world.turn_until(world.ctx.now() + SETTLED_AFTER, |_| false);
    world.ctx.settled = true;
    world.turn_until(world.ctx.now() + SETTLED_WORK, |_| false);
    world.calm = true;
    world.clients.iter_mut().for_each(Client::finish);
    let limit = world.ctx.now() + RECOVERY_LIMIT;
    if !world.turn_until(limit, |world| world.clients.iter().all(Client::is_done) && all_equal(world)) {
        return world.ctx.checkers.fail(|| "healed, but not every client's last write is answered in time".into());
    }
    check_end(world);
    // The power goes for all at once: everything that was acknowledged must be there again.
    world.ctx.settled = false;
    for host in 0..world.machines.len() {
        world.take_down(host, Down::PowerCut);
    }
    let limit = world.ctx.now() + RECOVERY_LIMIT;
    if !world.turn_until(limit, |world| all_serve(world) && all_equal(world)) {
        return world.ctx.checkers.fail(|| "after a power cut of all, not all servers serve in time".into());
    }
    check_end(world);
}

/// Whether it is a leader that is set up to have no clients.
fn only_leads(world: &World, id: ServerId) -> bool {
    !world.setup.peer.roles.leader_serves && world.ctx.checkers.leads(id).is_some()
}

/// Those who must serve in the end: without reconfigurations all servers, else those that are members now.
fn members(world: &World) -> impl Iterator<Item = &Machine> {
    let current = world.ctx.checkers.current();
    let reconfigures = world.setup.shape.reconfigures;
    world.machines.iter().filter(move |machine| !reconfigures || current.servers.contains_key(&machine.id))
}

/// Those that do not.
fn silent(world: &World) -> Vec<ServerId> {
    let checkers = &world.ctx.checkers;
    members(world).map(|machine| machine.id).filter(|id| !checkers.is_serving(*id)).collect()
}

fn all_serve(world: &World) -> bool {
    let serves = |machine: &Machine| world.ctx.checkers.is_serving(machine.id) || only_leads(world, machine.id);
    members(world).all(serves)
}

/// Everybody has applied the whole history.
fn all_equal(world: &World) -> bool {
    let last = world.ctx.checkers.ghost.last();
    let mut processes = members(world).filter_map(|machine| machine.process.as_deref());
    all_serve(world) && processes.all(|process: &Process| process.db().last_processed() >= last)
}

/// At the end, with everything healed and quiet: equal trees and sessions, and ephemerals exactly while their session.
fn check_end(world: &mut World) {
    let checkers = &mut world.ctx.checkers;
    let ghost = &checkers.ghost;
    let mut wrong = Vec::new();
    let current = checkers.current();
    let reconfigures = world.setup.shape.reconfigures;
    let is_member = |machine: &&Machine| !reconfigures || current.servers.contains_key(&machine.id);
    for process in world.machines.iter().filter(is_member).filter_map(|machine| machine.process.as_deref()) {
        let (id, db) = (process.id, process.db());
        if db.tree().digest() != ghost.tree().digest() {
            wrong.push(format!("server {id} ends with another digest than the history"));
        }
        if db.sessions() != ghost.sessions() {
            wrong.push(format!("server {id} ends with sessions {:?}, not {:?}", db.sessions(), ghost.sessions()));
        }
        if let Some(owner) = db.tree().ephemeral_owners().find(|owner| !db.sessions().contains_key(owner)) {
            wrong.push(format!("server {id} has ephemerals of session {owner}, which is over"));
        }
        wrong.extend(difference(db.tree(), ghost.tree()).map(|path| format!("server {id} differs at {path}")));
    }
    if let Some(first) = wrong.into_iter().next() {
        checkers.fail(|| first);
    }
}

/// The first path at which two trees differ; below `/zookeeper` they may.
fn difference(ours: &crate::tree::DataTree, theirs: &crate::tree::DataTree) -> Option<String> {
    let mut todo = vec!["/".to_owned()];
    while let Some(path) = todo.pop() {
        let (Some(a), Some(b)) = (ours.get(&path), theirs.get(&path)) else {
            return Some(path);
        };
        let names: BTreeSet<&str> = a.children().collect();
        let same = a.data() == b.data()
            && a.stat() == b.stat()
            && a.acl() == b.acl()
            && a.owner() == b.owner()
            && names == b.children().collect();
        if !same || matches!(a.owner(), Owner::Ephemeral(_)) && !names.is_empty() {
            return Some(path);
        }
        let parent = if path == "/" { "" } else { &path };
        todo.extend(names.into_iter().filter(|name| *name != "zookeeper").map(|name| format!("{parent}/{name}")));
    }
    None
}
