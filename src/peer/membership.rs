//! Which configuration a server goes by, in every role: one is committed, and a newer one may be proposed.
//!
//! Once a reconfiguration is in a server's log, that server counts by both configurations, in elections too, until it
//! knows which of them holds; so both are in its files before the record is in its log, and before anybody is told.
//! It holds when its commit comes, when a leader that was elected by both says so with UPTODATE, when a server that
//! knows it to be committed tells of it in a notification, or when another one follows it in the history: nobody
//! proposes a second one before the first is committed. It is given up when a leader says in NEWLEADER that it knows
//! of none, or begins to lead without its record: then the reconfiguration is not part of the history.
//!
//! The files may be ahead of the log. A committed configuration stays committed; and a proposed one whose record a crash
//! has taken only makes a server ask for more agreement than it needs.
//!
//! All of this only with `reconfigEnabled`: without it what the servers' files say holds for ever.
//!
//! ZooKeeper: `QuorumPeer.setQuorumVerifier`, `setLastSeenQuorumVerifier`, `processReconfig`.

use super::core::{Core, Leave};
use super::io::{Effects, Members, Note, Now, Proposal};
use crate::records::{Configuration, Notification, NotificationForm, PeerType, QuorumPacket, ServerId, TxnBody, Zxid};
use crate::zab::QuorumVerifier;
use bytes::Bytes;

/// A commit, and who leads from then on if it is that of a reconfiguration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commit {
    pub zxid: Zxid,
    pub designated: Option<ServerId>,
}

impl Commit {
    /// What a follower is told: COMMIT or COMMITANDACTIVATE.
    pub fn packet(self) -> QuorumPacket {
        match self {
            Commit { zxid, designated: None } => QuorumPacket::Commit { zxid },
            Commit { zxid, designated: Some(designated_leader) } => {
                QuorumPacket::CommitAndActivate { zxid, designated_leader }
            }
        }
    }

    /// What an observer is told: INFORM or INFORMANDACTIVATE.
    pub fn inform(self, txn: Bytes) -> QuorumPacket {
        match self {
            Commit { zxid, designated: None } => QuorumPacket::Inform { zxid, txn },
            Commit { zxid, designated: Some(designated_leader) } => {
                QuorumPacket::InformAndActivate { zxid, designated_leader, txn }
            }
        }
    }
}

/// What a new configuration means for the role of the server that activates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// The role goes on.
    None,
    /// It ends; this server leads, or is to be followed, without an election.
    Follow(ServerId),
    /// It ends, and who leads must be found out.
    Elect,
}

impl Consequence {
    /// Ends the role, if it must end.
    pub(super) fn into_result(self) -> Result<(), Leave> {
        let reason = "changes proposed in reconfig";
        match self {
            Consequence::None => Ok(()),
            Consequence::Follow(leader) => Err(Leave { next: Some(leader), ..Leave::because(reason) }),
            Consequence::Elect => Err(Leave::because(reason)),
        }
    }
}

impl Core {
    /// The configuration that `proposal` makes, if it is a reconfiguration that counts here.
    pub(super) fn reconfiguration(&self, proposal: &Proposal) -> Option<Result<Configuration, Leave>> {
        let TxnBody::Reconfig(txn) = &proposal.txn.body else { return None };
        if !self.config.reconfig_enabled {
            return None;
        }
        let text = String::from_utf8_lossy(txn.data.as_deref().unwrap_or_default());
        let zxid = proposal.zxid();
        let configuration = list(&text).and_then(|configuration| match configuration.version == zxid.0 {
            true => Ok(configuration),
            false => Err(format!("it has version {:x}", configuration.version)),
        });
        let malformed = |error| Leave::because(format!("reconfiguration {zxid} of the leader is malformed: {error}"));
        Some(configuration.map_err(malformed))
    }

    /// A configuration is proposed: from now on it counts beside the committed one. One that was proposed before is not
    /// part of the history, or see [`Core::prove_proposed`].
    pub(super) fn see(&mut self, configuration: Configuration, out: &mut Effects) {
        if !self.config.reconfig_enabled || configuration.version <= self.committed.version {
            return;
        }
        if self.last_seen.as_ref().is_some_and(|known| known.version == configuration.version) {
            return; // A version says all.
        }
        out.notes.push(Note::ConfigurationProposed { version: configuration.version });
        self.set_configurations(self.committed.clone(), Some(configuration));
        self.tell_members(out);
    }

    /// Another configuration, `next`, is proposed behind what was proposed before: that one is committed, then. Else a
    /// server that does not know it would count by the one before, which others have left. Only for a history that
    /// [holds it](Core::holds_proposed). Returns whether there was one.
    pub(super) fn prove_proposed(&mut self, next: i64, out: &mut Effects) -> bool {
        let proven = self.last_seen.clone().filter(|last_seen| last_seen.version < next);
        let is_proven = proven.is_some();
        if let Some(proven) = proven {
            self.activate(proven, out);
        }
        is_proven
    }

    /// Whether a history that ends at `last`, and is this server's own, holds the record of what was proposed. The first
    /// list's version has no record, and changes nothing.
    pub(super) fn holds_proposed(&self, last: Zxid) -> bool {
        let is_in = |proposed: &Configuration| proposed.version <= last.0 || proposed.is_same_as(&self.committed);
        self.last_seen.as_ref().is_some_and(is_in)
    }

    /// Who leads completes what is in its log. The record of what was proposed may have been lost in a crash.
    pub(super) fn forget_unlogged(&mut self, out: &mut Effects) {
        if !self.holds_proposed(self.last_logged) {
            self.forget_proposed(out);
        }
    }

    /// What was proposed is not part of the history.
    pub(super) fn forget_proposed(&mut self, out: &mut Effects) {
        if self.last_seen.is_some() {
            self.set_configurations(self.committed.clone(), None);
            self.tell_members(out);
        }
    }

    /// `configuration` is committed. Its members count from now on, and those of the former one do not.
    pub(super) fn activate(&mut self, configuration: Configuration, out: &mut Effects) {
        if !self.config.reconfig_enabled || configuration.version <= self.committed.version {
            return; // Known already: from a notification, or from NEWLEADER.
        }
        let last_seen = self.last_seen.take().filter(|last_seen| last_seen.version > configuration.version);
        self.config.peer_type = self.peer_type_in(&configuration);
        self.set_configurations(configuration.clone(), last_seen);
        self.tell_members(out);
        out.notes.push(Note::ConfigurationActivated { configuration: Box::new(configuration) });
    }

    fn tell_members(&self, out: &mut Effects) {
        let (committed, last_seen) = (self.committed.clone(), self.last_seen.clone());
        out.members = Some(Box::new(Members { committed, last_seen }));
    }

    /// What this server is in a configuration. One that is not in it follows without a vote.
    fn peer_type_in(&self, configuration: &Configuration) -> PeerType {
        configuration.servers.get(&self.my_id()).map_or(PeerType::Participant, |me| me.role)
    }

    /// Activates `configuration` on a learner of `leader`, which observes or follows. `designated`: who leads from now on,
    /// where the commit said so.
    pub(super) fn activate_under(
        &mut self,
        configuration: Configuration,
        leader: ServerId,
        designated: Option<ServerId>,
        observes: bool,
        out: &mut Effects,
    ) -> Consequence {
        let former = self.committed.clone();
        self.activate(configuration, out);
        if self.committed.version == former.version || self.committed.is_same_as(&former) {
            return Consequence::None;
        }
        let is_new_role = self.is_observer() != observes;
        match designated {
            Some(designated) if designated != leader => {
                out.notes.push(Note::LeaderDesignated { leader: designated });
                Consequence::Follow(designated)
            }
            Some(_) if is_new_role => Consequence::Follow(leader),
            Some(_) => Consequence::None,
            None if !stays_leader(leader, &former, &self.committed) => Consequence::Elect,
            None if is_new_role => Consequence::Follow(leader),
            None => Consequence::None,
        }
    }

    /// A server tells of the configuration that it knows to be committed. Adopts it if it is newer than ours; `true`:
    /// the members are others now, so who leads must be asked anew. Only a server that looks for a leader may do so: in
    /// a role it hears of it in the order of the history.
    pub(super) fn adopt(&mut self, now: Now, notification: &Notification, out: &mut Effects) -> bool {
        let NotificationForm::V2 { config, .. } = &notification.form else { return false };
        if !self.config.reconfig_enabled || self.is_standalone() {
            return false;
        }
        let Ok(configuration) = list(config) else { return false };
        if configuration.version <= self.committed.version {
            return false;
        }
        let former = self.committed.clone();
        self.activate(configuration, out);
        self.set_config(now, out);
        !self.committed.is_same_as(&former)
    }
}

/// An ensemble's list, as a server tells of it: somebody must vote.
pub(super) fn list(text: &str) -> Result<Configuration, String> {
    let configuration = Configuration::parse(text).map_err(|error| error.to_string())?;
    if configuration.voters().is_empty() {
        return Err("nobody in it votes".to_owned());
    }
    Ok(configuration)
}

/// Whether the server can lead: it votes, and its vote weighs something.
pub(super) fn may_lead(server: ServerId, configuration: &Configuration) -> bool {
    configuration.is_voter(server) && !QuorumVerifier::of(configuration).is_weightless(server)
}

/// Whether the leader of `former` may go on to lead `new`: it votes there too, and learners find it where it was.
pub(super) fn stays_leader(leader: ServerId, former: &Configuration, new: &Configuration) -> bool {
    let quorum_addrs = |of: &Configuration| {
        let server = of.servers.get(&leader).filter(|_| of.is_voter(leader))?;
        Some(server.addrs.iter().map(|addr| addr.quorum.clone()).collect::<Vec<_>>())
    };
    may_lead(leader, new) && quorum_addrs(new).is_some_and(|addrs| quorum_addrs(former) == Some(addrs))
}
