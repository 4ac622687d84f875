//! A reconfiguration on a learner: proposed, committed, or offered by a new leader.
//!
//! Its commit names the leader of the new configuration. If that is another one, or this server has another part in it,
//! the role ends and the next one begins without an election.
//!
//! ZooKeeper: COMMITANDACTIVATE in `Follower.processPacket`; NEWLEADER and UPTODATE in `Learner.syncWithLeader`.

use super::super::core::{Core, Leave};
use super::super::io::{Effects, Now, Proposal};
use super::super::membership::list;
use super::Learner;
use crate::records::{Configuration, ServerId};

impl Learner {
    /// A proposal came: if it is a reconfiguration, it counts before it is in the log.
    pub(super) fn on_proposed(&mut self, core: &mut Core, proposal: &Proposal, out: &mut Effects) -> Result<(), Leave> {
        match core.reconfiguration(proposal) {
            Some(configuration) => self.see(core, configuration?, out),
            None => Ok(()),
        }
    }

    /// `configuration` is proposed in the history of the leader.
    fn see(&mut self, core: &mut Core, configuration: Configuration, out: &mut Effects) -> Result<(), Leave> {
        let is_proven = self.shares_proposed && core.prove_proposed(configuration.version, out);
        core.see(configuration, out);
        self.shares_proposed = true;
        // Before NEWLEADER there is more to come.
        if is_proven && self.is_history_requested() { self.check_role(core) } else { Ok(()) }
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

    /// What the leader goes by, and is about to complete if it was only proposed. Who cannot read it must not acknowledge
    /// NEWLEADER: its ACK says that it counts by this configuration too.
    pub(super) fn on_offered(&mut self, core: &mut Core, text: Option<&str>, out: &mut Effects) -> Result<(), Leave> {
        let Some(text) = text.filter(|text| !text.is_empty() && core.config.reconfig_enabled) else { return Ok(()) };
        let malformed =
            |error| Leave::because(format!("the configuration of leader {} is malformed: {error}", self.leader));
        let configuration = list(text).map_err(malformed)?;
        if configuration.version > core.committed.version {
            self.see(core, configuration.clone(), out)?;
            self.offered = Some(configuration);
        } else {
            core.forget_proposed(out); // What we had seen is not part of the leader's history.
        }
        Ok(())
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
