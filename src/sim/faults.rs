//! What goes wrong in a run. Each seed draws its own mix: which faults, how often, how long.
//!
//! Some runs know one fault only and have it often; some know most of them. In the second half of a run everything is
//! healed.

use super::disk::{EIO, ENOSPC, Fault};
use super::network::{Host, Port, Socket};
use super::rng::Rng;
use super::server::Down;
use super::world::{Ctx, Event, World};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Power cut of any server.
    Crash,
    /// Power cut of the leader.
    CrashLeader,
    /// Power cut of all servers at once.
    CrashAll,
    /// Power cut in the middle of a step of the storage.
    CrashInside,
    /// `kill -9` of any server.
    Kill,
    KillLeader,
    /// SIGSTOP for a while.
    Pause,
    /// Both directions between two groups.
    Partition,
    /// One direction between two servers.
    OneWay,
    /// Everything between one server and the others.
    Isolate,
    /// Everything between the leader and the other servers; its clients stay, so its log grows alone.
    IsolateLeader,
    /// The followers lose their connections to the leader, which is told nothing: it leads on, alone.
    DesertLeader,
    /// The leader and so many followers that they are still a minority, with the clients that they serve, are cut off
    /// from the others, whose connections to the leader end: these elect another while that one leads on.
    CutOffLeader,
    /// A connection is reset.
    ResetQuorum,
    ResetElection,
    ResetClient,
    /// A quorum connection ends inside a packet.
    CutQuorum,
    /// Syncs take much longer, on all disks.
    SlowDisk,
    /// An operation of a disk fails.
    DiskError,
    /// A disk is full.
    DiskFull,
    /// A server's wall clock jumps.
    WallJump,
}

const KINDS: [Kind; 21] = [
    Kind::Crash,
    Kind::CrashLeader,
    Kind::CrashAll,
    Kind::CrashInside,
    Kind::Kill,
    Kind::KillLeader,
    Kind::Pause,
    Kind::Partition,
    Kind::OneWay,
    Kind::Isolate,
    Kind::IsolateLeader,
    Kind::DesertLeader,
    Kind::CutOffLeader,
    Kind::ResetQuorum,
    Kind::ResetElection,
    Kind::ResetClient,
    Kind::CutQuorum,
    Kind::SlowDisk,
    Kind::DiskError,
    Kind::DiskFull,
    Kind::WallJump,
];

/// A fault is due, or what one has done is undone.
#[derive(Clone, Copy, Debug)]
pub enum FaultEvent {
    Strike(Kind),
    HealLink(Host, Host),
    /// The minority of [`Kind::CutOffLeader`] begins to come back.
    CutEnds,
    HealDisks,
    /// A connection ends inside a packet.
    Cut(Socket),
    /// A server ends: with its machine (`true`), or as by `kill -9`.
    End(Host, bool),
}

/// How often a run strikes at the steps where servers are easiest to hurt; 0: never.
#[derive(Clone, Copy, Debug, Default)]
pub struct KillPoints {
    /// At one in so many packets of discovery and synchronisation.
    pub packet_one_in: u64,
    /// At one in so many epochs, truncations and installations of a disk.
    pub disk_one_in: u64,
}

impl KillPoints {
    pub fn draw(rng: &mut Rng) -> KillPoints {
        KillPoints { packet_one_in: *rng.pick(&[0, 0, 200, 40, 10]), disk_one_in: *rng.pick(&[0, 0, 30, 8]) }
    }
}

impl Ctx {
    /// A packet of discovery or synchronisation is sent: something may happen just about now.
    pub fn packet_kill_point(&mut self, socket: Socket) {
        if self.kill_points.packet_one_in == 0 || !self.rng.one_in(self.kill_points.packet_one_in) {
            return;
        }
        let Some(hosts) = self.net.hosts(socket.conn) else {
            return;
        };
        let event = match self.rng.below(4) {
            0 => FaultEvent::End(hosts[self.rng.below(2) as usize], true),
            1 => FaultEvent::End(hosts[self.rng.below(2) as usize], false),
            _ => FaultEvent::Cut(Socket { conn: socket.conn, side: self.rng.below(2) as u8 }),
        };
        self.counts.packet_kill_points += 1;
        let after = self.rng.about(500);
        self.sched.after(after, Event::Fault(event));
    }

    /// A step of the disk begins that must not be done by halves; after how many operations the power goes, if it does.
    pub fn disk_kill_point(&mut self) -> Option<u64> {
        let strikes = self.kill_points.disk_one_in > 0 && self.rng.one_in(self.kill_points.disk_one_in);
        strikes.then(|| self.rng.below(16))
    }
}

/// The mix of a run.
pub struct Faults {
    rng: Rng,
    /// Which, and the mean time between two of a kind, in microseconds.
    mix: Vec<(Kind, u64)>,
    /// Mean time for which a fault lasts, in microseconds.
    lasts: u64,
    healed: bool,
}

impl Faults {
    /// `only`: this kind and no other, once in about `every` microseconds if that is given.
    pub fn draw(mut rng: Rng, only: Option<Kind>, every: Option<u64>) -> Faults {
        let mean = *rng.pick(&[300_000, 1_000_000, 3_000_000]);
        // One kind alone and often, or a few of them, or most of them: what two faults hide, one may show.
        let mut mix = Vec::new();
        match rng.below(3) {
            0 => mix.push((*rng.pick(&KINDS), mean / 2)),
            many => {
                for kind in KINDS {
                    if rng.percent(if many == 1 { 15 } else { 60 }) {
                        mix.push((kind, mean * (1 + rng.below(4)) * if many == 1 { 1 } else { 3 }));
                    }
                }
            }
        }
        if let Some(kind) = only {
            mix = vec![(kind, every.unwrap_or(mean))];
        }
        let lasts = *rng.pick(&[50_000, 300_000, 1_500_000]);
        Faults { rng, mix, lasts, healed: false }
    }

    /// Nothing goes wrong by chance.
    pub fn none(rng: Rng) -> Faults {
        Faults { rng, mix: Vec::new(), lasts: 300_000, healed: false }
    }

    /// The kinds in the mix, for the trace.
    pub fn kinds(&self) -> Vec<Kind> {
        self.mix.iter().map(|(kind, _)| *kind).collect()
    }

    /// When to start a server again that went down; healed, at once.
    pub fn restart_after(&mut self) -> u64 {
        if self.healed { 10_000 } else { 5_000 + self.rng.about(self.lasts) }
    }
}

impl World {
    /// Asks for the first fault of each kind.
    pub fn begin_faults(&mut self) {
        for (kind, mean) in self.faults.mix.clone() {
            let after = self.faults.rng.about(mean);
            self.ctx.sched.after(after, Event::Fault(FaultEvent::Strike(kind)));
        }
    }

    pub fn on_fault(&mut self, event: FaultEvent) {
        match event {
            FaultEvent::Strike(_) if self.faults.healed => {}
            FaultEvent::Strike(kind) => {
                self.ctx.trace.line(|| format!("fault: {kind:?}"));
                self.strike(kind);
                if let Some((_, mean)) = self.faults.mix.iter().find(|(each, _)| *each == kind).copied() {
                    let after = self.faults.rng.about(mean);
                    self.ctx.sched.after(after, Event::Fault(event));
                }
            }
            FaultEvent::HealLink(from, to) => {
                self.ctx.trace.line(|| format!("heal: {from} to {to}"));
                self.ctx.net.set_blocked(&mut self.ctx.sched, from, to, false);
            }
            FaultEvent::CutEnds => self.ctx.cut_off.clear(),
            FaultEvent::HealDisks => self.ctx.slow_disk = 1,
            FaultEvent::Cut(socket) => self.ctx.net.cut(&mut self.ctx.sched, socket),
            FaultEvent::End(host, power) => self.end(host, if power { Down::PowerCut } else { Down::Killed }),
        }
    }

    /// No fault from here on; what is broken is mended, who is down comes up.
    pub fn heal(&mut self) {
        self.ctx.trace.line(|| "everything is healed".into());
        self.faults.healed = true;
        self.ctx.healed = true;
        self.ctx.kill_points = KillPoints::default();
        self.ctx.net.heal(&mut self.ctx.sched);
        self.ctx.net.latency.spike_one_in = 0;
        self.ctx.slow_disk = 1;
        self.ctx.cut_off.clear();
        for host in 0..self.machines.len() {
            let machine = &mut self.machines[host];
            machine.paused_until = machine.paused_until.min(self.ctx.sched.now());
            self.start(host);
        }
        if self.setup.shape.reconfigures {
            self.mend_members();
        }
    }

    fn strike(&mut self, kind: Kind) {
        let servers = self.machines.len() as u64;
        let any = self.faults.rng.below(servers) as Host;
        let lasts = 1_000 + self.faults.rng.about(self.faults.lasts);
        match kind {
            Kind::Crash => self.end(any, Down::PowerCut),
            Kind::Kill => self.end(any, Down::Killed),
            Kind::CrashLeader | Kind::KillLeader => {
                if let Some(leader) = self.leader() {
                    self.ctx.counts.leader_crashes += 1;
                    self.end(leader, if kind == Kind::KillLeader { Down::Killed } else { Down::PowerCut });
                }
            }
            Kind::CrashAll => (0..self.machines.len()).for_each(|host| self.end(host, Down::PowerCut)),
            Kind::CrashInside => {
                let n = self.faults.rng.below(30);
                self.machines[any].disk.cut_power_after(n);
            }
            Kind::Pause => {
                self.ctx.counts.pauses += 1;
                self.machines[any].paused_until = self.ctx.now() + lasts;
            }
            Kind::Partition => {
                self.ctx.counts.partitions += 1;
                let side = self.faults.rng.next_u64();
                let apart = |a: Host, b: Host| (side >> a) & 1 != (side >> b) & 1;
                self.block(lasts, |a, b, _| apart(a, b));
            }
            Kind::Isolate => {
                self.ctx.counts.partitions += 1;
                let clients_too = self.faults.rng.one_in(2);
                self.block(lasts, |a, b, servers| (a == any) != (b == any) && (clients_too || a.max(b) < servers));
            }
            Kind::IsolateLeader => {
                if let Some(leader) = self.leader() {
                    self.ctx.counts.partitions += 1;
                    self.block(lasts, |a, b, servers| (a == leader) != (b == leader) && a.max(b) < servers);
                }
            }
            Kind::DesertLeader => {
                if let Some(leader) = self.leader() {
                    self.ctx.counts.partitions += 1;
                    self.block(lasts, |a, b, servers| (a == leader) != (b == leader) && a.max(b) < servers);
                    self.ctx.net.desert(&mut self.ctx.sched, leader, Port::Quorum, |_| true);
                    self.ctx.net.desert(&mut self.ctx.sched, leader, Port::Election, |_| true);
                }
            }
            Kind::CutOffLeader => self.cut_off_leader(),
            Kind::WallJump => {
                let hour = 3_600_000;
                self.machines[any].wall_offset_ms += self.faults.rng.below(2 * hour) as i64 - hour as i64;
            }
            Kind::OneWay => {
                self.ctx.counts.asymmetric_partitions += 1;
                let other = self.faults.rng.below(servers) as Host;
                self.block(lasts, |a, b, _| (a, b) == (any, other) && a != b);
            }
            Kind::ResetQuorum => self.reset(Port::Quorum),
            Kind::ResetElection => self.reset(Port::Election),
            Kind::ResetClient => self.reset(Port::Client),
            Kind::CutQuorum => {
                let conns = self.ctx.net.open_conns(Port::Quorum);
                if !conns.is_empty() {
                    let conn = *self.faults.rng.pick(&conns);
                    let side = self.faults.rng.below(2) as u8;
                    self.ctx.net.cut(&mut self.ctx.sched, Socket { conn, side });
                }
            }
            Kind::SlowDisk => {
                self.ctx.slow_disk = 1 + self.faults.rng.below(100);
                self.ctx.sched.after(lasts, Event::Fault(FaultEvent::HealDisks));
            }
            Kind::DiskError => {
                let n = self.faults.rng.below(20);
                let machine = &mut self.machines[any];
                machine.faulted = true;
                if self.faults.rng.one_in(2) {
                    machine.disk.fail(Fault::EioOnNextSync)
                } else {
                    machine.disk.fail_at(n, EIO)
                }
            }
            Kind::DiskFull => {
                let machine = &mut self.machines[any];
                machine.faulted = true;
                if self.faults.rng.one_in(2) {
                    machine.disk.fail(Fault::Full);
                } else {
                    machine.disk.fail_at(self.faults.rng.below(20), ENOSPC);
                }
            }
        }
    }

    fn cut_off_leader(&mut self) {
        let Some(leader) = self.leader().filter(|_| self.ctx.cut_off.is_empty()) else {
            return;
        };
        let voters = self.setup.shape.configuration.voters().len();
        let servers = self.machines.len();
        let mut minority = vec![leader];
        while minority.len() < voters.div_ceil(2) - 1 {
            let other = self.faults.rng.below(servers as u64) as Host;
            if !minority.contains(&other) {
                minority.push(other);
            }
        }
        self.ctx.counts.leaders_cut_off += 1;
        self.ctx.trace.line(|| format!("cut off: {minority:?}"));
        let clients = self.clients.iter().map(|client| match client.connected_to() {
            Some(server) => minority.contains(&server),
            None => self.faults.rng.one_in(2),
        });
        let is_inside: Vec<bool> = (0..servers).map(|host| minority.contains(&host)).chain(clients).collect();
        // About as long as the leader takes to notice that it is alone, which is when it may do harm.
        let limit = u64::from(self.setup.peer.tick_ms) * u64::from(self.setup.peer.sync_limit) * 1_000;
        let lasts = limit / 2 + self.faults.rng.about(limit);
        self.block(lasts, |a, b, _| is_inside[a] != is_inside[b]);
        for port in [Port::Quorum, Port::Election] {
            self.ctx.net.desert(&mut self.ctx.sched, leader, port, |by| !is_inside[by]);
        }
        self.ctx.cut_off = minority;
        self.ctx.sched.after(lasts, Event::Fault(FaultEvent::CutEnds));
    }

    fn end(&mut self, host: Host, down: Down) {
        if self.machines[host].process.is_some() {
            self.take_down(host, down);
        }
    }

    /// Blocks every direction between two hosts that `blocks` says, for a while each.
    fn block(&mut self, lasts: u64, blocks: impl Fn(Host, Host, usize) -> bool) {
        let servers = self.machines.len();
        let hosts = servers + self.clients.len();
        for from in 0..hosts {
            for to in 0..hosts {
                if blocks(from, to, servers) && (from < servers || to < servers) {
                    self.ctx.net.set_blocked(&mut self.ctx.sched, from, to, true);
                    // Not all at the same moment: links heal one by one.
                    let after = lasts + self.faults.rng.below(lasts / 4 + 1);
                    self.ctx.sched.after(after, Event::Fault(FaultEvent::HealLink(from, to)));
                }
            }
        }
    }

    fn reset(&mut self, port: Port) {
        let conns = self.ctx.net.open_conns(port);
        if !conns.is_empty() {
            let conn = *self.faults.rng.pick(&conns);
            self.ctx.counts.resets += 1;
            self.ctx.net.reset(&mut self.ctx.sched, conn);
        }
    }
}
