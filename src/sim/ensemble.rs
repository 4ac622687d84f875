//! Who is in the ensemble of a run, and by which rule they decide: written down a second time, apart from
//! [`zab::quorum`](crate::zab), so that the checkers do not share its mistakes.

use super::rng::Rng;
use crate::peer::{CatchUpRules, HAND_OVER_AT, RoleRules};
use crate::records::{Configuration, HostPort, PeerType, ServerAddr, ServerId};
use std::collections::{BTreeMap, BTreeSet};

/// Whether `has` holds a quorum of the configuration's voters.
pub fn is_quorum(of: &Configuration, has: impl Fn(ServerId) -> bool) -> bool {
    let voters = of.voters();
    if of.groups.is_empty() {
        return 2 * voters.iter().filter(|id| has(**id)).count() > voters.len();
    }
    let (mut groups, mut won) = (0, 0);
    for members in of.groups.values() {
        let weight = |id: &&ServerId| if voters.contains(id) { of.weight(**id) } else { 0 };
        let all: u64 = members.iter().map(|id| weight(&id)).sum();
        let held: u64 = members.iter().filter(|id| has(**id)).map(|id| weight(&id)).sum();
        groups += u64::from(all > 0);
        won += u64::from(2 * held > all);
    }
    2 * won > groups
}

/// Where the server is, in every configuration that has it.
pub fn address(id: ServerId, role: PeerType) -> ServerAddr {
    let port = |base: i64| (base + id.0) as u16;
    let client = Some(HostPort::new("127.0.0.1", port(10_000)));
    ServerAddr { role, client, ..ServerAddr::at("127.0.0.1", port(20_000), port(30_000)) }
}

/// What a run has beyond voters of equal weight that stay what they are. Each capability is drawn from a generator of
/// its own: what a seed draws otherwise stays what it was.
#[derive(Clone, Debug)]
pub struct Shape {
    /// As the files of its members say at first.
    pub configuration: Configuration,
    /// Servers beside it: their own files have them as members, nobody else's.
    pub strangers: BTreeMap<ServerId, PeerType>,
    pub roles: RoleRules,
    pub catch_up: CatchUpRules,
    /// Members come, go and change while it runs.
    pub reconfigures: bool,
}

#[derive(Clone, Copy, Debug)]
enum Capability {
    Groups,
    Observers,
    Strangers,
    CatchUp,
    Reconfigurations,
    Operator,
    RollOver,
}

fn generator(seed: u64, capability: Capability) -> Rng {
    Rng::new(seed ^ (0x7368_6170_6500 + capability as u64))
}

impl Shape {
    /// Voters of equal weight.
    pub fn plain(servers: usize) -> Shape {
        Shape {
            configuration: Configuration::of_voters((1..=servers as i64).map(ServerId)),
            strangers: BTreeMap::new(),
            roles: RoleRules::default(),
            catch_up: CatchUpRules { log_size_factor: None, ..CatchUpRules::default() },
            reconfigures: false,
        }
    }

    /// `servers`: of the plain ensemble; `is_fixed`: so many voters, and no more.
    pub fn draw(seed: u64, servers: usize, is_fixed: bool) -> Shape {
        let mut rng = generator(seed, Capability::Groups);
        let is_hierarchical = rng.one_in(6);
        // Nine take their time, so they are seldom.
        let servers = if is_hierarchical && !is_fixed { *rng.pick(&[3, 4, 5, 5, 6, 7, 9]) } else { servers };
        let mut shape = Shape::plain(servers);
        if is_hierarchical {
            shape.draw_groups(&mut rng);
        }
        shape.draw_observers(&mut generator(seed, Capability::Observers));
        shape.draw_strangers(&mut generator(seed, Capability::Strangers));
        shape.draw_reconfigurations(&mut generator(seed, Capability::Reconfigurations));
        let mut rng = generator(seed, Capability::RollOver);
        if rng.one_in(5) {
            shape.roles.hand_over_at = *rng.pick(&[20, 100, 400]);
        }
        let mut rng = generator(seed, Capability::CatchUp);
        shape.catch_up.recent_max = *rng.pick(&[5, 500]);
        shape.catch_up.log_size_factor = *rng.pick(&[None, Some(0.0), Some(5.0)]);
        shape
    }

    /// Two or three voters, an observer, and two that may join; some by groups.
    pub fn for_steps(seed: u64) -> Shape {
        let mut rng = generator(seed, Capability::Reconfigurations);
        let mut shape = Shape::plain(2 + rng.below(3) as usize / 2 + rng.below(2) as usize);
        if rng.one_in(6) {
            shape.draw_groups(&mut rng);
        }
        let observer = ServerId(1 + shape.servers() as i64);
        shape.configuration.servers.insert(observer, address(observer, PeerType::Observer));
        for _ in 0..2 {
            shape.strangers.insert(ServerId(1 + shape.servers() as i64), PeerType::Observer);
        }
        for (id, server) in &mut shape.configuration.servers {
            *server = address(*id, server.role);
        }
        shape.reconfigures = true;
        shape
    }

    /// All servers: they have the ids from 1 on.
    pub fn servers(&self) -> usize {
        self.configuration.servers.len() + self.strangers.len()
    }

    /// All are voters.
    pub fn is_plain(&self) -> bool {
        self.servers() == self.configuration.voters().len()
    }

    pub fn is_hierarchical(&self) -> bool {
        !self.configuration.groups.is_empty()
    }

    pub fn has_operator(&self) -> bool {
        self.reconfigures || self.roles.hand_over_at < HAND_OVER_AT
    }

    /// What the operator of the run draws from.
    pub fn operator(&self, seed: u64) -> Rng {
        generator(seed, Capability::Operator)
    }

    /// What the files of `id` say at its first start.
    pub fn as_known_by(&self, id: ServerId) -> Configuration {
        let mut known = self.configuration.clone();
        if let Some(role) = self.strangers.get(&id) {
            admit(&mut known, id, *role);
        }
        known
    }

    fn draw_groups(&mut self, rng: &mut Rng) {
        let voters: Vec<ServerId> = self.configuration.voters().into_iter().collect();
        let groups = *rng.pick(&[1, 2, 3, 3]);
        for id in &voters {
            self.configuration.groups.entry(1 + rng.below(groups) as i64).or_default().insert(*id);
        }
        // Mostly 1; the groups of weight 0 and the members of weight 0 count for nothing.
        let mut weights: BTreeMap<ServerId, u64> =
            voters.iter().map(|id| (*id, *rng.pick(&[1, 1, 1, 1, 0, 2, 5]))).collect();
        if weights.values().all(|weight| *weight == 0) {
            weights.insert(voters[0], 1);
        }
        weights.retain(|_, weight| *weight != 1);
        self.configuration.weights = weights;
    }

    fn draw_observers(&mut self, rng: &mut Rng) {
        self.roles = RoleRules {
            leader_serves: !rng.one_in(10),
            observer_logs: !rng.one_in(3),
            observer_delay_ms: *rng.pick(&[0, 20, 200]),
            observer_masters: rng.one_in(3),
            ..self.roles
        };
        if !rng.one_in(3) {
            return;
        }
        for _ in 0..*rng.pick(&[1, 1, 2, 3]) {
            let id = ServerId(1 + self.servers() as i64);
            self.configuration.servers.insert(id, address(id, PeerType::Observer));
        }
    }

    fn draw_strangers(&mut self, rng: &mut Rng) {
        if rng.one_in(8) {
            let id = ServerId(1 + self.servers() as i64);
            let role = *rng.pick(&[PeerType::Participant, PeerType::Observer]);
            // In a list of its own with groups it may be one without which there is no quorum.
            self.strangers.insert(id, if self.is_hierarchical() { PeerType::Observer } else { role });
        }
    }

    fn draw_reconfigurations(&mut self, rng: &mut Rng) {
        self.reconfigures = rng.one_in(3);
        if !self.reconfigures {
            return;
        }
        for _ in 0..rng.below(4) {
            let id = ServerId(1 + self.servers() as i64);
            self.strangers.insert(id, *rng.pick(&[PeerType::Participant, PeerType::Observer, PeerType::Observer]));
        }
        for (id, server) in &mut self.configuration.servers {
            *server = address(*id, server.role);
        }
    }
}

/// Makes `id` a member; with groups, the only one of another group.
pub fn admit(configuration: &mut Configuration, id: ServerId, role: PeerType) {
    configuration.servers.insert(id, address(id, role));
    if !configuration.groups.is_empty() && role == PeerType::Participant {
        let group = configuration.groups.keys().max().copied().unwrap_or_default() + 1;
        configuration.groups.insert(group, BTreeSet::from([id]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zab::QuorumVerifier;

    #[test]
    fn the_rule_of_the_checkers_is_the_rule_of_the_servers() {
        let mut hierarchical = 0;
        for seed in 0..300 {
            let shape = Shape::draw(seed, 5, false);
            hierarchical += u64::from(shape.is_hierarchical());
            let verifier = QuorumVerifier::of(&shape.configuration);
            let voters = shape.configuration.voters().len();
            let mut reached = 0;
            for set in 0u64..1 << voters {
                let has = |id: ServerId| set >> (id.0 - 1) & 1 != 0;
                let servers = (1..=voters as i64).map(ServerId).filter(|id| has(*id));
                let is_reached = is_quorum(&shape.configuration, has);
                assert_eq!(is_reached, verifier.is_reached(servers), "seed {seed}: {}", shape.configuration);
                reached += u64::from(is_reached);
            }
            assert!(reached > 0, "seed {seed}: {} has no quorum", shape.configuration);
        }
        assert!(hierarchical > 20);
    }

    #[test]
    fn two_quorums_of_one_configuration_have_a_server_in_common() {
        for seed in 0..300 {
            let shape = Shape::draw(seed, 5, false);
            let voters = shape.configuration.voters().len();
            let reached: Vec<u64> = (0u64..1 << voters)
                .filter(|set| is_quorum(&shape.configuration, |id| set >> (id.0 - 1) & 1 != 0))
                .collect();
            let is_alone = |set: &u64| reached.contains(&(((1 << voters) - 1) & !set));
            assert!(!reached.iter().any(is_alone), "seed {seed}: {}", shape.configuration);
        }
    }
}
