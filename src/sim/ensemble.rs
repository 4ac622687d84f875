//! Who is in the ensemble of a run, and by which rule they decide: written down a second time, apart from
//! [`zab::quorum`](crate::zab), so that the checkers do not share its mistakes.

use super::rng::Rng;
use crate::records::{Configuration, ServerId};
use std::collections::{BTreeMap, BTreeSet};

/// Draws of capabilities that came after the first runs were kept have generators of their own, one for each: what a
/// seed draws otherwise stays what it was.
const GROUPS_SALT: u64 = 0x6772_6f75_7073;

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

/// The first configuration of a run.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    pub configuration: Configuration,
}

impl Shape {
    /// Voters of equal weight.
    pub fn plain(servers: usize) -> Shape {
        Shape { configuration: Configuration::of_voters((1..=servers as i64).map(ServerId)) }
    }

    /// Perhaps with groups and weights; `servers`: of the plain ensemble. `is_fixed`: so many, and no more.
    pub fn draw(seed: u64, servers: usize, is_fixed: bool) -> Shape {
        let mut rng = Rng::new(seed ^ GROUPS_SALT);
        let is_hierarchical = rng.one_in(6);
        // Nine take their time, so they are seldom.
        let servers = if is_hierarchical && !is_fixed { *rng.pick(&[3, 4, 5, 5, 6, 7, 9]) } else { servers };
        let mut shape = Shape::plain(servers);
        if is_hierarchical {
            shape.draw_groups(&mut rng);
        }
        shape
    }

    pub fn is_hierarchical(&self) -> bool {
        !self.configuration.groups.is_empty()
    }

    fn draw_groups(&mut self, rng: &mut Rng) {
        let voters: Vec<ServerId> = self.configuration.voters().into_iter().collect();
        let groups = *rng.pick(&[1, 2, 3, 3]);
        let by_group: BTreeMap<i64, BTreeSet<ServerId>> =
            voters.iter().fold(BTreeMap::new(), |mut by_group: BTreeMap<_, BTreeSet<_>>, id| {
                by_group.entry(1 + rng.below(groups) as i64).or_default().insert(*id);
                by_group
            });
        // Mostly 1; the groups of weight 0 and the members of weight 0 count for nothing.
        let mut weights: BTreeMap<ServerId, u64> =
            voters.iter().map(|id| (*id, *rng.pick(&[1, 1, 1, 1, 0, 2, 5]))).collect();
        if weights.values().all(|weight| *weight == 0) {
            weights.insert(voters[0], 1);
        }
        weights.retain(|_, weight| *weight != 1);
        (self.configuration.groups, self.configuration.weights) = (by_group, weights);
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
            let voters = shape.configuration.servers.len();
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
            let voters = shape.configuration.servers.len();
            let reached: Vec<u64> = (0u64..1 << voters)
                .filter(|set| is_quorum(&shape.configuration, |id| set >> (id.0 - 1) & 1 != 0))
                .collect();
            let is_alone = |set: &u64| reached.contains(&(((1 << voters) - 1) & !set));
            assert!(!reached.iter().any(is_alone), "seed {seed}: {}", shape.configuration);
        }
    }
}
