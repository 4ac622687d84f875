//! The operator of a run: has members come, go, and change their parts while everything else goes wrong, and leaders
//! let others lead.
//!
//! Each change is a request of one of the clients. Who joins is started before, with a list that has it; who was removed
//! and ends stays down until it is to join again, as a server does whose own list does not have it.

use super::config_files;
use super::ensemble::{address, admit};
use super::network::Host;
use super::rng::Rng;
use super::server::Down;
use super::steps::{STEPS, Step, Trap, VICTIMS};
use super::world::{Event, World};
use crate::records::{Configuration, PeerType, ReconfigRequest, Request, ServerId};
use std::collections::BTreeMap;

/// How long the ensemble may take to work again, in microseconds.
const RECOVERY_LIMIT: u64 = 20_000_000;

/// How often this operator changes something, and what it draws from.
pub struct Operator {
    rng: Rng,
    /// Microseconds; 0: never.
    every: u64,
    /// Changes are interrupted: by the combination of this number next.
    combination: Option<u64>,
}

impl Operator {
    /// `steps`: each change is interrupted, beginning somewhere in the list of combinations.
    pub fn draw(mut rng: Rng, is_active: bool, steps: Option<u64>) -> Operator {
        let every = *rng.pick(&[100_000, 400_000, 1_500_000]);
        if let Some(seed) = steps {
            return Operator { rng, every: 50_000, combination: Some(seed.wrapping_mul(17)) };
        }
        Operator { rng, every: if is_active { every } else { 0 }, combination: None }
    }
}

/// `server.N=` and the rest of the line.
fn line(id: ServerId, configuration: &Configuration) -> String {
    format!("server.{id}={}", configuration.servers[&id])
}

/// The whole list as `newMembers` has it.
fn whole(configuration: &Configuration) -> String {
    let text = configuration.to_string();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("version=")).collect();
    lines.join(",")
}

/// What leads from one list to the other: members that join or change, and those that leave.
fn difference(old: &Configuration, new: &Configuration) -> (Vec<String>, Vec<String>) {
    let joining = new.servers.iter().filter(|(id, server)| old.servers.get(id) != Some(server));
    let leaving = old.servers.keys().filter(|id| !new.servers.contains_key(id));
    (joining.map(|(id, _)| line(*id, new)).collect(), leaving.map(ServerId::to_string).collect())
}

impl World {
    pub fn begin_operator(&mut self) {
        if self.operator.every > 0 {
            let after = 200_000 + self.operator.rng.about(self.operator.every);
            self.ctx.sched.after(after, Event::Operator);
        }
    }

    pub fn on_operator(&mut self) {
        if self.ctx.healed {
            return;
        }
        let after = 1_000 + self.operator.rng.about(self.operator.every);
        self.ctx.sched.after(after, Event::Operator);
        self.prepare_members();
        if self.operator.combination.is_some() {
            return self.interrupt_next();
        }
        if !self.setup.shape.reconfigures || self.operator.rng.one_in(10) {
            if let Some(process) = self.leader().and_then(|leader| self.machines[leader].process.as_mut()) {
                process.hand_over(&mut self.ctx);
            }
            return;
        }
        let (old, mut new) = (self.ctx.checkers.current().clone(), self.ctx.checkers.current().clone());
        for _ in 0..*self.operator.rng.pick(&[1, 1, 1, 2, 3]) {
            self.draw_change(&mut new);
        }
        self.ask_for(&old, &new);
    }

    /// When all is well again: the next change, and where it is to be interrupted.
    fn interrupt_next(&mut self) {
        let now = self.ctx.now();
        if let Some(trap) = &self.ctx.trap {
            let since = trap.sprung_at.unwrap_or(trap.set_at);
            if !self.ctx.checkers.is_working() {
                if now > since + RECOVERY_LIMIT {
                    let what = format!("{:?} at {:?}: neither ensemble works", trap.victims, trap.step);
                    self.ctx.checkers.fail(|| what);
                }
                return;
            }
            if now < since + 400_000 {
                return; // Some steps never come: nobody joins, or the change was refused.
            }
        }
        self.ctx.trap = None;
        if !self.ctx.checkers.is_working() || self.machines.iter().any(|machine| machine.paused_until > now) {
            return;
        }
        let old = self.ctx.checkers.current().clone();
        let mut new = old.clone();
        for _ in 0..*self.operator.rng.pick(&[1, 1, 2]) {
            self.draw_change(&mut new);
        }
        if new.voters().len() < 2 || new.servers == old.servers && new.groups == old.groups {
            return;
        }
        let mut number = self.operator.combination.unwrap_or_default();
        self.operator.combination = Some(number.wrapping_add(1));
        let mut take = |of: u64| {
            let part = number % of;
            number /= of;
            part as usize
        };
        let (step, victims) = (STEPS[take(STEPS.len() as u64)], VICTIMS[take(VICTIMS.len() as u64)]);
        let nth = if step == Step::Made || step == Step::Committed { 0 } else { self.operator.rng.below(3) };
        let power = self.operator.rng.one_in(2);
        let (zxid, leader, sprung_at) = (None, None, None);
        let trap = Trap {
            step,
            nth,
            victims,
            power,
            old: old.clone(),
            new: new.clone(),
            zxid,
            leader,
            set_at: now,
            sprung_at,
        };
        self.ctx.trap = Some(trap);
        self.ask_for(&old, &new);
    }

    /// Prepares who joins, and asks for the change.
    pub fn ask_for(&mut self, old: &Configuration, new: &Configuration) {
        for id in new.servers.keys().filter(|id| !old.servers.contains_key(id)) {
            self.prepare(*id);
        }
        let asking: Vec<usize> =
            self.clients.iter().filter(|client| client.connected_to().is_some()).map(|client| client.index).collect();
        if asking.is_empty() {
            return;
        }
        let client = *self.operator.rng.pick(&asking);
        // Whoever has groups is changed as a whole.
        let by_list = !new.groups.is_empty() || !old.groups.is_empty() || self.operator.rng.one_in(4);
        let (joining, leaving) = difference(old, new);
        let text = |lines: Vec<String>| (!lines.is_empty()).then(|| lines.join(","));
        let request = ReconfigRequest {
            joining: if by_list { None } else { text(joining) },
            leaving: if by_list { None } else { text(leaving) },
            new_members: by_list.then(|| whole(new)),
            current_config: if self.operator.rng.one_in(4) { old.version } else { -1 },
        };
        self.ctx.trace.line(|| format!("operator: {request:?}"));
        self.ctx.counts.reconfigs_asked += 1;
        self.clients[client].ask(Request::Reconfig(request), &mut self.ctx);
    }

    fn draw_change(&mut self, new: &mut Configuration) {
        let machines = self.machines.len() as u64;
        let any = ServerId(1 + self.operator.rng.below(machines) as i64);
        let role = *self.operator.rng.pick(&[PeerType::Participant, PeerType::Participant, PeerType::Observer]);
        match self.operator.rng.below(8) {
            0..3 if new.servers.contains_key(&any) => remove(new, any),
            0..3 => admit(new, any, role),
            3 | 4 => {
                if let Some(leader) = self.leader() {
                    remove(new, ServerId(1 + leader as i64));
                }
            }
            5 => {
                // Found elsewhere: another leader must take over while it moves.
                if let Some(server) = new.servers.get_mut(&any) {
                    server.addrs[0].quorum.port += 100;
                }
            }
            6 => {
                let voters = new.voters();
                (new.groups, new.weights) = (BTreeMap::new(), BTreeMap::new());
                if self.operator.rng.one_in(2) {
                    for id in voters {
                        new.groups.entry(1 + self.operator.rng.below(3) as i64).or_default().insert(id);
                        new.weights.insert(id, *self.operator.rng.pick(&[1, 1, 1, 2, 0]));
                    }
                    let heavy = new.servers.iter().find(|(_, server)| server.role == PeerType::Participant);
                    if let Some(id) = heavy.map(|(id, _)| *id) {
                        new.weights.insert(id, 1);
                    }
                    new.weights.retain(|_, weight| *weight != 1);
                }
            }
            _ => {
                let was = new.servers.get(&any).map(|server| server.role);
                remove(new, any);
                let other = if was == Some(PeerType::Participant) { PeerType::Observer } else { PeerType::Participant };
                admit(new, any, other);
            }
        }
    }

    /// The server gets a list that has it, if its own has not, and is started.
    pub fn prepare(&mut self, id: ServerId) {
        let host = (id.0 - 1) as Host;
        if self.machines[host].process.is_some() {
            return;
        }
        if !config_files::has(&self.machines[host].disk, id) {
            let mut list = self.ctx.checkers.current().clone();
            // As if there had been none before: whatever the ensemble goes by is newer.
            list.version = 0;
            list.servers.entry(id).or_insert_with(|| address(id, PeerType::Observer));
            config_files::put(&self.machines[host].disk, &list);
        }
        self.start(host);
    }

    /// Whoever is a member, or may become one, runs: it may have been told of a list without it, and ended.
    fn prepare_members(&mut self) {
        if self.setup.shape.reconfigures {
            let checkers = &self.ctx.checkers;
            let members = checkers.proposed().into_iter().chain([checkers.current()]);
            let ids: Vec<ServerId> = members.flat_map(|of| of.servers.keys().copied()).collect();
            let is_out = |id: &ServerId| !config_files::has(&self.machines[(id.0 - 1) as Host].disk, *id);
            let out: Vec<ServerId> = ids.into_iter().filter(is_out).collect();
            out.into_iter().for_each(|id| self.prepare(id));
        }
    }

    /// Everything is healed: all members run, with lists that let them find the others.
    pub fn mend_members(&mut self) {
        self.prepare_members();
        let current = self.ctx.checkers.current().clone();
        for id in current.servers.keys().copied() {
            self.mend_member((id.0 - 1) as Host);
        }
    }

    /// A member whose list finds nobody, or has it in no place, gets the list as it is now.
    fn mend_member(&mut self, host: Host) {
        let (id, current) = (self.machines[host].id, self.ctx.checkers.current().clone());
        let known = config_files::committed(&self.machines[host].disk).unwrap_or_default();
        let finds_one = known.voters().iter().any(|voter| *voter != id && current.is_voter(*voter));
        let needs_none = current.voters().len() == 1 && current.is_voter(id);
        if known.servers.contains_key(&id) && (finds_one || needs_none) {
            return;
        }
        self.ctx.counts.members_mended += 1;
        self.ctx.trace.line(|| format!("server {id} gets the list as it is now"));
        if self.machines[host].process.is_some() {
            self.take_down(host, Down::Killed);
        }
        config_files::put(&self.machines[host].disk, &current);
        self.start(host);
    }

    /// A server that was down starts again. Once everything is healed, with a list that it can start with as soon as it is
    /// a member: the change that makes it one may yet be decided.
    pub fn start_again(&mut self, host: Host) {
        let (id, incarnation) = (self.machines[host].id, self.machines[host].incarnation);
        let may_be_out = self.ctx.healed && self.setup.shape.reconfigures;
        if may_be_out && self.ctx.checkers.current().servers.contains_key(&id) {
            self.mend_member(host);
        }
        self.start(host);
        if may_be_out && self.machines[host].incarnation == incarnation {
            self.ctx.sched.after(100_000, Event::Start { host, incarnation });
        }
    }
}

fn remove(configuration: &mut Configuration, id: ServerId) {
    configuration.servers.remove(&id);
    configuration.weights.remove(&id);
    configuration.groups.values_mut().for_each(|members| {
        members.remove(&id);
    });
    configuration.groups.retain(|_, members| !members.is_empty());
}
