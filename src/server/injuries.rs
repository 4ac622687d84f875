//! What an [`Ensemble`](super::Ensemble) can do to a member from outside, and what it writes down of it. It outlives
//! each life of the member's server; a production server has none.

use super::disk_faults::DiskFaults;
use super::journal::{Journal, Transition};
use super::net_faults::{NetFaults, Network};
use super::status::{Exit, Role};
use crate::peer::PeerStatus;
use crate::records::ServerId;
use std::sync::Arc;
use std::time::SystemTime;

/// One member's.
#[derive(Clone, Debug)]
pub struct Injuries {
    pub id: ServerId,
    /// All members' network.
    pub net: Arc<NetFaults>,
    /// This member's disk.
    pub disk: Arc<DiskFaults>,
    /// All members' log lines and transitions.
    pub journal: Arc<Journal>,
}

impl Injuries {
    pub fn network(&self) -> Network {
        Network::new(self.net.clone(), self.id)
    }

    /// Writes down that the server is something else now.
    pub fn transition(&self, before: Role, after: Role, status: &PeerStatus, reason: String) {
        self.journal.transition(Transition {
            time: SystemTime::now(),
            server: self.id,
            before,
            after,
            serving: status.serving && after != Role::Ended,
            epoch: status.epoch,
            leader: status.leader.filter(|_| after != Role::Ended),
            reason,
        });
    }

    /// Writes down how the server has ended.
    pub fn end(&self, before: Role, status: &PeerStatus, exit: &Exit) {
        let reason = match exit {
            Exit::Stopped => "stopped".to_owned(),
            Exit::Killed => "killed".to_owned(),
            Exit::Failed { reason, .. } => reason.clone(),
        };
        self.transition(before, Role::Ended, status, reason);
    }
}
