//! What a quorum is: more than half of the voters. ZooKeeper: `QuorumMaj`.

use crate::records::ServerId;
use std::collections::BTreeSet;

/// Counts servers against the voters of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumVerifier {
    voters: BTreeSet<ServerId>,
}

impl QuorumVerifier {
    pub fn majority_of(voters: BTreeSet<ServerId>) -> Self {
        assert!(!voters.is_empty(), "a configuration has voters");
        QuorumVerifier { voters }
    }

    pub fn voters(&self) -> &BTreeSet<ServerId> {
        &self.voters
    }

    pub fn is_voter(&self, server: ServerId) -> bool {
        self.voters.contains(&server)
    }

    /// Whether these servers (voters or not, in any number of mentions) hold a quorum of the voters.
    pub fn is_reached(&self, servers: impl IntoIterator<Item = ServerId>) -> bool {
        let counted: BTreeSet<ServerId> = servers.into_iter().filter(|server| self.is_voter(*server)).collect();
        counted.len() > self.voters.len() / 2
    }

    /// The largest value that a quorum has reached, where `value_of` tells each voter's. `None`: no quorum has any.
    pub fn reached_by_quorum<T: Ord + Copy>(&self, value_of: impl Fn(ServerId) -> Option<T>) -> Option<T> {
        let mut values: Vec<T> = self.voters.iter().filter_map(|voter| value_of(*voter)).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.get(self.voters.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(n: i64) -> QuorumVerifier {
        QuorumVerifier::majority_of((1..=n).map(ServerId).collect())
    }

    #[test]
    fn a_quorum_is_more_than_half_of_the_voters_and_only_voters_count() {
        let reached = |n, servers: &[i64]| of(n).is_reached(servers.iter().map(|id| ServerId(*id)));
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
}
