//! Learners that have no say: observers, and followers that are no voters.
//!
//! An observer is told of a transaction when it is committed (INFORM), and acknowledges nothing but NEWLEADER. A server
//! that follows without being a voter gets proposals as every follower does; its ACKs are not counted.
//!
//! ZooKeeper: `Leader.inform`, `Leader.getNonVotingFollowers`.

use super::super::LearnerCounts;
use super::super::core::Core;
use super::super::io::{Effects, LinkId, Proposal};
use super::super::membership::Commit;
use super::{Leader, Learner, Progress};
use crate::records::ServerId;

impl Leader {
    /// How many learners there are of each kind.
    pub fn learner_counts(&self, core: &Core) -> LearnerCounts {
        let mut counts = LearnerCounts::default();
        for learner in self.learners.values() {
            let Some(server) = learner.server else { continue };
            counts.connected += 1;
            if learner.progress < Progress::UpToDate {
                continue;
            }
            if learner.is_observer {
                counts.observers += 1;
            } else {
                counts.followers += 1;
                counts.non_voting += usize::from(!core.quorums.is_voter(server));
            }
        }
        counts
    }

    /// The connection over which `server` follows; as an observer it is no voter, whatever the configuration says.
    pub(super) fn voter(&self, server: ServerId) -> Option<&Learner> {
        self.learners.values().find(|learner| learner.server == Some(server) && !learner.is_observer)
    }

    /// Tells a learner of a commit.
    pub(super) fn tell_committed(
        link: LinkId,
        learner: &mut Learner,
        proposal: &Proposal,
        designated: Option<ServerId>,
        out: &mut Effects,
    ) {
        let zxid = proposal.zxid();
        let commit = Commit { zxid, designated };
        match learner.progress {
            // PROPOSAL and COMMIT in one: it may come at any time behind the history.
            Progress::Synchronizing | Progress::Synced | Progress::UpToDate if learner.is_observer => {
                learner.last_sent = zxid;
                out.send(link, commit.inform(proposal.bytes.clone()));
            }
            Progress::UpToDate => out.send(link, commit.packet()),
            Progress::Synchronizing | Progress::Synced => learner.held.push(commit),
            _ => {}
        }
    }
}
