//! A reconfiguration on a learner: proposed, committed, or offered by a new leader.
//!
//! Its commit names the leader of the new configuration. If that is another one, or this server has another part in it,
//! the role ends and the next one begins without an election.
//!
//! ZooKeeper: COMMITANDACTIVATE in `Follower.processPacket`; NEWLEADER and UPTODATE in `Learner.syncWithLeader`.

use super::super::core::{Core, Leave};
use super::super::io::{Effects, Note, Now, Proposal};
use super::Learner;
use crate::records::{Configuration, ServerId};

impl Learner {
    /// A proposal came: if it is a reconfiguration, it counts before it is in the log.
    pub(super) fn on_proposed(&mut self, core: &mut Core, proposal: &Proposal, out: &mut Effects) -> Result<(), Leave> {
        if let Some(configuration) = core.reconfiguration(proposal) {
            core.see(configuration?, out);
        }
        Ok(())
    }

    /// `proposal` is committed. A plain COMMIT of a reconfiguration is one of the history: NEWLEADER says what holds.
    pub(super) fn on_committed(
        &mut self,
        core: &mut Core,
        proposal: &Proposal,
        designated: Option<ServerId>,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        let (Some(_), Some(configuration)) = (designated, core.reconfiguration(proposal)) else { return Ok(()) };
        core.activate_under(configuration?, self.leader, designated, self.is_observer, out).into_result()
    }

    /// What the leader goes by, and is about to complete if it was only proposed.
    pub(super) fn on_offered(&mut self, core: &mut Core, text: Option<&str>, out: &mut Effects) {
        let Some(text) = text.filter(|text| !text.is_empty() && core.config.reconfig_enabled) else { return };
        let configuration = match Configuration::parse(text) {
            Ok(configuration) => configuration,
            Err(error) => {
                return out.notes.push(Note::Warning(format!("the leader's configuration is malformed: {error}")));
            }
        };
        if configuration.version > core.committed.version {
            core.see(configuration.clone(), out);
            self.offered = Some(configuration);
        } else {
            core.forget_proposed(out); // What we had seen is not part of the leader's history.
        }
    }

    /// UPTODATE: what the leader offered holds, unless it is a reconfiguration that is still on its way.
    pub(super) fn on_confirmed(&mut self, core: &mut Core, now: Now, out: &mut Effects) -> Result<(), Leave> {
        let Some(configuration) = self.offered.take() else { return Ok(()) };
        if core.uncommitted.iter().any(|proposal| proposal.zxid().0 == configuration.version) {
            return Ok(());
        }
        let before = core.committed.version;
        let consequence = core.activate_under(configuration, self.leader, None, self.is_observer, out);
        if core.committed.version != before {
            core.set_config(now, out);
        }
        consequence.into_result()
    }
}
