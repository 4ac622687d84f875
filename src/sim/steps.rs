//! A reconfiguration that is interrupted at each of its steps: who is hit ends right there, before anything that comes
//! behind the step. Afterwards there must be a working ensemble, the old one or the new one.

use super::ensemble::is_quorum;
use super::faults::FaultEvent;
use super::network::Host;
use super::server::Down;
use super::world::{Ctx, Event};
use crate::records::{Configuration, ServerId, Zxid};

/// Where it is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The leader has made it, and nobody knows; not even its disk.
    Made,
    /// It is in the leader's file of what is proposed, and PROPOSAL is sent to none, to one, to two.
    Proposing,
    /// In a server's log, and not acknowledged.
    Logged,
    /// The ACK of a server has come, and is not counted yet.
    Acknowledged,
    /// The leader knows that it is committed, and nobody else does; its files do not say so.
    Committed,
    /// COMMITANDACTIVATE is sent to none, to one, to two.
    Telling,
    /// A server goes by it, and its files do not say so.
    Activated,
    /// A server's files say so.
    Written,
}

pub const STEPS: [Step; 8] = [
    Step::Made,
    Step::Proposing,
    Step::Logged,
    Step::Acknowledged,
    Step::Committed,
    Step::Telling,
    Step::Activated,
    Step::Written,
];

/// Who is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victims {
    Leader,
    /// The server at which the step was taken.
    Witness,
    /// One that joins.
    Joiner,
    /// The voter that is next in line if the leader leaves.
    Heir,
    /// As many as leave the old configuration without a quorum.
    OldMajority,
    NewMajority,
    Everybody,
}

pub const VICTIMS: [Victims; 7] = [
    Victims::Leader,
    Victims::Witness,
    Victims::Joiner,
    Victims::Heir,
    Victims::OldMajority,
    Victims::NewMajority,
    Victims::Everybody,
];

/// An interruption that is to come.
#[derive(Clone, Debug)]
pub struct Trap {
    pub step: Step,
    /// At which occurrence of the step, from 0 on.
    pub nth: u64,
    pub victims: Victims,
    /// With their machines, or as by `kill -9`.
    pub power: bool,
    pub old: Configuration,
    pub new: Configuration,
    /// The change's, once it is made.
    pub zxid: Option<Zxid>,
    pub leader: Option<ServerId>,
    /// When it was set, in microseconds.
    pub set_at: u64,
    pub sprung_at: Option<u64>,
}

impl Trap {
    fn ids(&self, witness: ServerId) -> Vec<ServerId> {
        let leader = self.leader.unwrap_or(witness);
        let voters = self.new.voters();
        let majority = |of: &Configuration| {
            let mut hit: Vec<ServerId> = Vec::new();
            for id in [leader].into_iter().chain(of.voters()).filter(|id| of.is_voter(*id)) {
                if is_quorum(of, |id| !hit.contains(&id)) {
                    hit.push(id);
                }
            }
            hit
        };
        match self.victims {
            Victims::Leader => vec![leader],
            Victims::Witness => vec![witness],
            Victims::Joiner => {
                let joins = |id: &&ServerId| !self.old.servers.contains_key(id);
                self.new.servers.keys().find(joins).or(voters.first()).copied().into_iter().collect()
            }
            Victims::Heir => voters.iter().rev().find(|id| **id != leader).copied().into_iter().collect(),
            Victims::OldMajority => majority(&self.old),
            Victims::NewMajority => majority(&self.new),
            Victims::Everybody => self.old.servers.keys().chain(self.new.servers.keys()).copied().collect(),
        }
    }
}

impl Ctx {
    /// `server` takes a step of the reconfiguration at `zxid`; whether it ends here, and how.
    pub fn at_step(&mut self, step: Step, server: ServerId, zxid: Zxid) -> Option<Down> {
        let now = self.now();
        let trap = self.trap.as_mut().filter(|trap| trap.sprung_at.is_none())?;
        if step == Step::Made && trap.zxid.is_none() {
            (trap.zxid, trap.leader) = (Some(zxid), Some(server));
        }
        if trap.step != step || trap.zxid != Some(zxid) {
            return None;
        }
        if trap.nth > 0 {
            trap.nth -= 1;
            return None;
        }
        trap.sprung_at = Some(now);
        let (ids, power, victims) = (trap.ids(server), trap.power, trap.victims);
        self.interrupted.insert((step, victims));
        self.counts.reconfigs_interrupted += 1;
        self.trace.line(|| format!("interrupted at {step:?} of server {server}: {ids:?}, power {power}"));
        for id in ids.iter().filter(|id| **id != server) {
            let host = (id.0 - 1) as Host;
            self.sched.after(0, Event::Fault(FaultEvent::End(host, power)));
        }
        ids.contains(&server).then_some(if power { Down::PowerCut } else { Down::Killed })
    }
}
