//! Everything of one run: servers, clients, network, disks, time. Takes the next event and gives it to whom it is for.

use super::checkers::Checkers;
use super::client::Client;
use super::config_files;
use super::counts::Counts;
use super::disk::SimDisk;
use super::faults::{Faults, KillPoints};
use super::network::{Delivery, Host, NetEvent, Network, Port, Socket};
use super::operator::Operator;
use super::rng::Rng;
use super::scheduler::Scheduler;
use super::server::{Down, Process, ServerEvent, ServerSetup};
use super::steps::{Step, Trap, Victims};
use super::trace::Trace;
use crate::peer::SessionRules;
use crate::peer::io::Now;
use crate::records::ServerId;
use std::collections::BTreeSet;

/// Something that happens at a time.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    Net(NetEvent),
    /// For the process of that incarnation only.
    Server {
        host: Host,
        incarnation: u64,
        event: ServerEvent,
    },
    Client {
        client: usize,
        event: ClientEvent,
    },
    Start {
        host: Host,
        incarnation: u64,
    },
    Fault(super::faults::FaultEvent),
    /// Somebody changes the ensemble.
    Operator,
}

impl From<NetEvent> for Event {
    fn from(event: NetEvent) -> Event {
        Event::Net(event)
    }
}

/// A client's own doings.
#[derive(Clone, Copy, Debug)]
pub enum ClientEvent {
    /// It opens a session if it has none.
    Begin,
    /// It makes the next calls.
    Act,
    /// Its session wants to be woken.
    Wake,
    /// Its link takes bytes again.
    Flush,
}

/// What everybody in a run has a hand on.
pub struct Ctx {
    pub sched: Scheduler<Event>,
    pub net: Network,
    pub trace: Trace,
    pub checkers: Checkers,
    pub counts: Counts,
    pub rng: Rng,
    /// By how much syncs take longer than usual.
    pub slow_disk: u64,
    /// Snapshots are not slowed down any more.
    pub healed: bool,
    /// It has been so for long enough that no server that is asked may be silent.
    pub settled: bool,
    pub kill_points: KillPoints,
    /// The servers of a minority that has the leader and nobody else.
    pub cut_off: Vec<Host>,
    /// The next interruption of a reconfiguration, and all that there were.
    pub trap: Option<Trap>,
    pub interrupted: BTreeSet<(Step, Victims)>,
    /// Which sessions servers make.
    pub sessions: SessionRules,
    /// Wall clock at the beginning, ms since 1970.
    wall_ms: i64,
}

impl Ctx {
    pub fn new(net: Network, checkers: Checkers, trace: Trace, rng: Rng) -> Ctx {
        let (sched, counts) = (Scheduler::default(), Counts::default());
        Ctx {
            sched,
            net,
            trace,
            checkers,
            counts,
            rng,
            slow_disk: 1,
            healed: false,
            settled: false,
            kill_points: KillPoints::default(),
            cut_off: Vec::new(),
            trap: None,
            interrupted: BTreeSet::new(),
            sessions: SessionRules::default(),
            wall_ms: 1_700_000_000_000,
        }
    }

    /// Microseconds of the run.
    pub fn now(&self) -> u64 {
        self.sched.now()
    }

    /// The clocks of a machine whose wall clock is wrong by so much.
    pub fn clock(&self, wall_offset_ms: i64) -> Now {
        let micros = self.now();
        Now { micros, wall_ms: self.wall_ms + wall_offset_ms + (micros / 1_000) as i64 }
    }

    /// Whether the server is in a minority with the leader.
    pub fn is_cut_off(&self, server: Host) -> bool {
        self.cut_off.contains(&server)
    }

    pub fn connect(&mut self, from: Host, to: Host, port: Port) -> Socket {
        self.net.connect(&mut self.sched, from, to, port)
    }

    pub fn send(&mut self, socket: Socket, bytes: Vec<u8>) {
        self.net.send(&mut self.sched, socket, bytes);
    }

    pub fn close(&mut self, socket: Socket) {
        self.net.close(&mut self.sched, socket);
    }
}

/// A server's machine: its disk, and the process if one runs.
pub struct Machine {
    pub id: ServerId,
    pub disk: SimDisk,
    pub incarnation: u64,
    pub process: Option<Box<Process>>,
    /// A failure of the disk has been ordered: the server may end by itself.
    pub faulted: bool,
    /// By how much its wall clock is wrong.
    pub wall_offset_ms: i64,
    /// Stopped as by SIGSTOP until then; its events wait.
    pub paused_until: u64,
}

impl Machine {
    pub fn new(id: ServerId, disk: SimDisk) -> Machine {
        Machine { id, disk, incarnation: 0, process: None, faulted: false, wall_offset_ms: 0, paused_until: 0 }
    }
}

/// One run.
pub struct World {
    pub ctx: Ctx,
    pub machines: Vec<Machine>,
    pub clients: Vec<Client>,
    pub faults: Faults,
    pub operator: Operator,
    /// Everything has been healed for a while: no session may be lost any more.
    pub calm: bool,
    pub setup: ServerSetup,
}

impl World {
    /// Handles the next event; `false` when there is none.
    pub fn turn(&mut self) -> bool {
        let Some(event) = self.ctx.sched.next_event() else {
            return false;
        };
        let now = self.ctx.now();
        self.ctx.trace.event(now);
        self.ctx.checkers.now = now;
        match event {
            Event::Net(event) => {
                if let Some((host, socket, delivery)) = self.ctx.net.arrive(&mut self.ctx.sched, event) {
                    self.deliver(host, socket, delivery);
                }
            }
            Event::Server { host, incarnation, event } => {
                let machine = &mut self.machines[host];
                if machine.incarnation != incarnation {
                    return true;
                }
                if machine.paused_until > now {
                    let again = Event::Server { host, incarnation, event };
                    self.ctx.sched.at(machine.paused_until, again);
                    return true;
                }
                if let Some(process) = &mut machine.process {
                    process.wall_offset_ms = machine.wall_offset_ms;
                    process.on_event(event, &mut self.ctx);
                }
                self.after_server(host);
            }
            Event::Client { client, event } => self.clients[client].on_event(event, &mut self.ctx),
            Event::Start { host, incarnation } => {
                if self.machines[host].incarnation == incarnation {
                    self.start_again(host);
                }
            }
            Event::Fault(event) => self.on_fault(event),
            Event::Operator => self.on_operator(),
        }
        true
    }

    fn deliver(&mut self, host: Host, socket: Socket, delivery: Delivery) {
        self.ctx.trace.word(host as u64 ^ (socket.conn << 8));
        if let Delivery::Bytes(bytes) = &delivery {
            self.ctx.trace.bytes(bytes);
        }
        if let Some(client) = host.checked_sub(self.machines.len()) {
            return self.clients[client].on_net(socket, delivery, &mut self.ctx);
        }
        let machine = &mut self.machines[host];
        let incarnation = machine.incarnation;
        if let Some(process) = &mut machine.process {
            if machine.paused_until > self.ctx.now() || process.has_backlog() {
                // What arrives at a stopped process waits in its sockets.
                process.keep_for_later(socket, delivery);
                let event = Event::Server { host, incarnation, event: ServerEvent::Resume };
                self.ctx.sched.at(machine.paused_until, event);
                return;
            }
            process.on_net(socket, delivery, &mut self.ctx);
        }
        self.after_server(host);
    }

    /// Looks at what the server's step has left behind: its disk, or its end.
    fn after_server(&mut self, host: Host) {
        let machine = &mut self.machines[host];
        self.ctx.checkers.after_step(machine.id);
        for session in std::mem::take(&mut self.ctx.checkers.expired) {
            let is_alive = |client: &&Client| client.is_alive(session, &self.ctx);
            if self.calm
                && let Some(client) = self.clients.iter().find(is_alive)
            {
                let index = client.index;
                self.ctx.checkers.fail(|| format!("session {session} expires, but client {index} is connected"));
            }
        }
        let down = machine.process.as_ref().and_then(|process| process.down.clone());
        if let Some(down) = down {
            self.take_down(host, down);
        }
    }

    /// Starts the server on what its disk holds.
    pub fn start(&mut self, host: Host) {
        let machine = &mut self.machines[host];
        if machine.process.is_some() {
            return;
        }
        if self.setup.shape.reconfigures && !config_files::has(&machine.disk, machine.id) {
            return; // "My id not in the peer list": until it is to join again.
        }
        machine.incarnation += 1;
        machine.paused_until = 0;
        self.ctx.net.host_up(host);
        let id = machine.id;
        self.ctx.trace.line(|| format!("server {id}: starts"));
        match Process::start(machine, host, &self.setup, &mut self.ctx) {
            Ok(process) => machine.process = Some(Box::new(process)),
            Err(reason) => {
                let down = if machine.disk.power_is_cut() { Down::PowerCut } else { Down::Ended(reason) };
                self.take_down(host, down);
            }
        }
        self.after_server(host);
    }

    /// The process ends now; what was not synced may be lost with the machine.
    pub fn take_down(&mut self, host: Host, down: Down) {
        let machine = &mut self.machines[host];
        if let Some(process) = machine.process.take() {
            let (snapshots, streams) = process.under_way();
            self.ctx.counts.snapshots_interrupted += snapshots;
            self.ctx.counts.streams_interrupted += streams;
        }
        let id = machine.id;
        self.ctx.trace.line(|| format!("server {id}: down, {down:?}"));
        machine.incarnation += 1;
        match &down {
            Down::Ended(reason) if machine.faulted => {
                self.ctx.counts.ended_by_disk += 1;
                self.ctx.trace.line(|| format!("server {id}: {reason}"));
            }
            Down::Ended(reason) => {
                self.ctx.checkers.fail(|| format!("server {id} has ended by itself: {reason}"));
            }
            Down::Killed => self.ctx.counts.kills += 1,
            Down::PowerCut => self.ctx.counts.power_cuts_inside_a_step += u64::from(machine.disk.power_is_cut()),
        }
        let silent = down == Down::PowerCut;
        // A process that ends leaves its pages to the kernel; a machine that stops loses them. After a failure of the
        // disk what the kernel shows cannot be trusted: the machine is started anew.
        if silent || machine.faulted {
            let report = machine.disk.crash(&mut self.ctx.rng);
            self.ctx.counts.on_crash(&report);
        } else {
            machine.disk.kill_process();
        }
        machine.disk.heal();
        machine.faulted = false;
        self.ctx.checkers.on_down(id);
        self.ctx.net.host_down(&mut self.ctx.sched, host, silent);
        let (after, incarnation) = (self.faults.restart_after(), machine.incarnation);
        self.ctx.sched.after(after, Event::Start { host, incarnation });
    }

    /// The server that leads, as the checkers know it: the newest epoch.
    pub fn leader(&self) -> Option<Host> {
        let epoch = |machine: &Machine| self.ctx.checkers.leads(machine.id);
        self.machines
            .iter()
            .enumerate()
            .filter(|(_, machine)| epoch(machine).is_some())
            .max_by_key(|(_, machine)| epoch(machine))
            .map(|(host, _)| host)
    }
}
