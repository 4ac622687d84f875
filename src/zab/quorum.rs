//! What a quorum is: more than half of the voters, or of most groups of them; while a reconfiguration is on its way,
//! by the old members and by the new ones. ZooKeeper: `QuorumMaj`, `QuorumHierarchical`, `SyncedLearnerTracker`.

use crate::records::{Configuration, ServerId};
use std::collections::{BTreeMap, BTreeSet};

/// Counts servers against the voters of one configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumVerifier {
    voters: BTreeSet<ServerId>,
    /// Groups decide, not majorities of all.
    is_hierarchical: bool,
    /// The groups that have a weight, each with the weights of its voters. With none there is never a quorum.
    groups: Vec<BTreeMap<ServerId, u64>>,
    /// Voters that can never lead.
    weightless: BTreeSet<ServerId>,
}

impl QuorumVerifier {
    pub fn majority_of(voters: BTreeSet<ServerId>) -> Self {
        assert!(!voters.is_empty(), "a configuration has voters");
        QuorumVerifier { voters, is_hierarchical: false, groups: Vec::new(), weightless: BTreeSet::new() }
    }

    /// The rule of a configuration that has passed its check.
    pub fn of(configuration: &Configuration) -> Self {
        let mut verifier = QuorumVerifier::majority_of(configuration.voters());
        verifier.is_hierarchical = !configuration.groups.is_empty();
        for members in configuration.groups.values() {
            let voters = members.iter().filter(|member| verifier.voters.contains(member));
            let weights: BTreeMap<ServerId, u64> = voters.map(|id| (*id, configuration.weight(*id))).collect();
            verifier.weightless.extend(weights.iter().filter(|(_, weight)| **weight == 0).map(|(id, _)| *id));
            if weights.values().any(|weight| *weight > 0) {
                verifier.groups.push(weights);
            }
        }
        verifier
    }

    pub fn voters(&self) -> &BTreeSet<ServerId> {
        &self.voters
    }

    pub fn is_voter(&self, server: ServerId) -> bool {
        self.voters.contains(&server)
    }

    /// Whether the server may never lead.
    pub fn is_weightless(&self, server: ServerId) -> bool {
        self.weightless.contains(&server)
    }

    /// Whether these servers (voters or not, in any number of mentions) hold a quorum of the voters.
    pub fn is_reached(&self, servers: impl IntoIterator<Item = ServerId>) -> bool {
        let counted: BTreeSet<ServerId> = servers.into_iter().filter(|server| self.is_voter(*server)).collect();
        self.holds(|voter| counted.contains(&voter))
    }

    fn holds(&self, has: impl Fn(ServerId) -> bool) -> bool {
        if !self.is_hierarchical {
            return self.voters.iter().filter(|voter| has(**voter)).count() > self.voters.len() / 2;
        }
        let is_won = |group: &&BTreeMap<ServerId, u64>| {
            let all: u128 = group.values().map(|weight| u128::from(*weight)).sum();
            let held: u128 = group.iter().filter(|(id, _)| has(**id)).map(|(_, weight)| u128::from(*weight)).sum();
            held > all / 2
        };
        self.groups.iter().filter(is_won).count() > self.groups.len() / 2
    }

    /// The largest value that a quorum has reached, where `value_of` tells each voter's. `None`: no quorum has any.
    pub fn reached_by_quorum<T: Ord + Copy>(&self, value_of: impl Fn(ServerId) -> Option<T>) -> Option<T> {
        let mut values: Vec<T> = self.voters.iter().filter_map(|voter| value_of(*voter)).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        if !self.is_hierarchical {
            return values.get(self.voters.len() / 2).copied();
        }
        values.into_iter().find(|value| self.holds(|voter| value_of(voter).is_some_and(|own| own >= *value)))
    }
}

/// The rules that count at a time: that of the committed configuration and, while another is proposed, of that one too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorums {
    committed: QuorumVerifier,
    proposed: Option<QuorumVerifier>,
    /// Of either.
    voters: BTreeSet<ServerId>,
}

impl Quorums {
    pub fn new(committed: QuorumVerifier, proposed: Option<QuorumVerifier>) -> Self {
        let voters = committed.voters.iter().chain(proposed.iter().flat_map(|of| &of.voters)).copied().collect();
        Quorums { committed, proposed, voters }
    }

    /// More than half of `voters`.
    pub fn majority_of(voters: BTreeSet<ServerId>) -> Self {
        Quorums::new(QuorumVerifier::majority_of(voters), None)
    }

    fn each(&self) -> impl Iterator<Item = &QuorumVerifier> {
        std::iter::once(&self.committed).chain(&self.proposed)
    }

    /// The rule of the committed configuration.
    pub fn committed(&self) -> &QuorumVerifier {
        &self.committed
    }

    /// The voters of either configuration.
    pub fn voters(&self) -> &BTreeSet<ServerId> {
        &self.voters
    }

    /// Whether it votes in either configuration.
    pub fn is_voter(&self, server: ServerId) -> bool {
        self.voters.contains(&server)
    }

    /// Whether the server may never lead: its vote weighs nothing in either configuration. ZooKeeper asks the committed
    /// one alone; then a change that gives a server weight cannot be completed by one that has it in its log.
    pub fn is_weightless(&self, server: ServerId) -> bool {
        self.each().all(|verifier| verifier.is_weightless(server) || !verifier.is_voter(server))
    }

    /// Whether a configuration is proposed and not committed.
    pub fn is_changing(&self) -> bool {
        self.proposed.is_some()
    }

    /// Whether these servers hold a quorum in each configuration.
    pub fn is_reached(&self, servers: impl IntoIterator<Item = ServerId>) -> bool {
        let servers: BTreeSet<ServerId> = servers.into_iter().collect();
        self.each().all(|verifier| verifier.is_reached(servers.iter().copied()))
    }

    /// Whether these servers hold a quorum in one of the configurations.
    pub fn is_reached_in_any(&self, servers: impl IntoIterator<Item = ServerId>) -> bool {
        let servers: BTreeSet<ServerId> = servers.into_iter().collect();
        self.each().any(|verifier| verifier.is_reached(servers.iter().copied()))
    }

    /// The largest value that a quorum of each configuration has reached. `None`: no quorum of one of them has any.
    pub fn reached_by_quorum<T: Ord + Copy>(&self, value_of: impl Fn(ServerId) -> Option<T>) -> Option<T> {
        let reached = self.committed.reached_by_quorum(&value_of)?;
        match &self.proposed {
            Some(proposed) => proposed.reached_by_quorum(value_of).map(|other| reached.min(other)),
            None => Some(reached),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(n: i64) -> QuorumVerifier {
        QuorumVerifier::majority_of((1..=n).map(ServerId).collect())
    }

    fn ids(ids: &[i64]) -> impl Iterator<Item = ServerId> {
        ids.iter().copied().map(ServerId)
    }

    /// Three groups of three servers, as in ZooKeeper's documentation; `more` are further lines.
    fn nine(more: &str) -> QuorumVerifier {
        let servers: String = (1..=9).map(|id| format!("server.{id}=h:1:2\n")).collect();
        let text = format!("{servers}group.1=1:2:3\ngroup.2=4:5:6\ngroup.3=7:8:9\n{more}");
        QuorumVerifier::of(&Configuration::parse(&text).unwrap())
    }

    #[test]
    fn a_quorum_is_more_than_half_of_the_voters_and_only_voters_count() {
        let reached = |n, servers: &[i64]| of(n).is_reached(ids(servers));
        assert!(reached(1, &[1]));
        assert!(!reached(2, &[1]) && reached(2, &[1, 2]));
        assert!(!reached(3, &[1, 9, 1]) && reached(3, &[1, 3]));
        assert!(!reached(5, &[1, 2]) && reached(5, &[1, 2, 5]));
        assert!(!reached(6, &[1, 2, 3]) && reached(6, &[1, 2, 3, 4]));
    }

    #[test]
    fn a_value_is_reached_by_a_quorum_when_enough_voters_are_there() {
        let acked = |id: ServerId| [None, Some(7), Some(5), Some(9)][id.0 as usize];
        assert_eq!(of(3).reached_by_quorum(acked), Some(7));
        assert_eq!(of(3).reached_by_quorum(|id| (id.0 == 1).then_some(1)), None);
    }

    #[test]
    fn of_groups_a_quorum_is_most_of_the_weight_in_most_groups() {
        let nine = nine("");
        assert!(nine.is_reached(ids(&[1, 2, 4, 5])), "four of nine are enough");
        assert!(!nine.is_reached(ids(&[1, 2, 3, 4, 7])), "five of nine are not, if they hold one group only");
        let acked = |id: ServerId| Some(id.0);
        assert_eq!(nine.reached_by_quorum(acked), Some(5));
    }

    #[test]
    fn groups_without_weight_do_not_count_and_their_servers_never_lead() {
        let nine = nine("weight.7=0\nweight.8=0\nweight.9=0\nweight.1=3\n");
        assert!(nine.is_weightless(ServerId(7)) && !nine.is_weightless(ServerId(1)));
        assert!(!nine.is_reached(ids(&[1, 2, 3, 4, 7, 8, 9])));
        assert!(nine.is_reached(ids(&[1, 4, 5])), "3 of 5 in one group, 2 of 3 in the other");
        let weights: String = (1..=9).map(|id| format!("weight.{id}=0\n")).collect();
        assert!(!self::tests::nine(&weights).is_reached(ids(&[1, 2, 3, 4, 5, 6, 7, 8, 9])), "nobody decides");
    }

    #[test]
    fn while_a_reconfiguration_is_on_its_way_both_configurations_must_agree() {
        let new = QuorumVerifier::majority_of(ids(&[3, 4, 5]).collect());
        let both = Quorums::new(of(3), Some(new));
        assert!(!both.is_reached(ids(&[1, 2, 3])) && !both.is_reached(ids(&[3, 4, 5])));
        assert!(both.is_reached(ids(&[2, 3, 4])));
        assert!(both.is_reached_in_any(ids(&[4, 5])) && !both.is_reached_in_any(ids(&[2, 4])));
        assert_eq!(both.reached_by_quorum(|id| (id.0 < 5).then_some(id.0)), Some(2));
        assert_eq!(both.reached_by_quorum(|id| (id.0 < 4).then_some(id.0)), None);
        assert_eq!(both.voters().len(), 5);
    }
}
