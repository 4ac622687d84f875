//! Zab's decisions, each a small machine or function of its own: who wins an election, what a quorum is, how a learner
//! is brought up to date, when a proposal is committed. [`peer`](crate::peer) composes them into a server.
//!
//! Source: "Zab: High-performance broadcast for primary-backup systems" (Junqueira, Reed, Serafini), the Zab 1.0
//! description, and ZooKeeper's `FastLeaderElection`, `Leader`, `LearnerHandler`, `Learner`.

mod broadcast;
mod committed_log;
mod election;
mod log_walk;
mod quorum;

pub use broadcast::Broadcast;
pub use committed_log::{CommittedLog, RECENT_COUNT, SyncPlan};
pub use election::{Decision, Election, FINALIZE_WAIT_MICROS, SettledVote, Vote};
pub use log_walk::{LogPlace, LogWalk};
pub use quorum::{QuorumVerifier, Quorums};

use crate::records::{QuorumPacket, Txn, Zxid};
use bytes::Bytes;
use std::sync::Arc;

/// Room for an encoded transaction of a small value, so that it does not grow field by field.
const TXN_BYTES_USUAL: usize = 256;

/// An encoded transaction on its way: the same bytes go to learners and to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub txn: Arc<Txn>,
    /// `txn` encoded.
    pub bytes: Bytes,
}

impl Proposal {
    pub fn new(txn: Txn) -> Proposal {
        let mut bytes = Vec::with_capacity(TXN_BYTES_USUAL);
        crate::jute::Record::write(&txn, &mut bytes);
        Proposal { txn: Arc::new(txn), bytes: bytes.into() }
    }

    pub fn zxid(&self) -> Zxid {
        self.txn.zxid
    }

    /// As a learner gets it that lacks it though it is committed.
    pub fn packets(&self) -> [QuorumPacket; 2] {
        let zxid = self.zxid();
        [QuorumPacket::Proposal { zxid, txn: self.bytes.clone() }, QuorumPacket::Commit { zxid }]
    }
}
