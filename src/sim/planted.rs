//! Deliberate bugs of the simulated host, to prove that the checkers see. The core has no switches: the host performs
//! an effect in the wrong order, says that it did what it did not do, or [forges](super::forged_acks) what others say.

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Planted {
    /// Says that the log is flushed when it is only written.
    AckBeforeSync,
    /// Saves currentEpoch before the history that was handed to the disk earlier.
    EpochBeforeHistory,
    /// Says that the log is truncated, and truncates only in memory.
    TruncSkipped,
    /// Answers a leader's syncs without asking a quorum whether it still leads.
    SyncWithoutQuorum,
    /// An observer's ACK counts as a voter's: the history of a new leader is thought to be on the disks of a quorum.
    ObserverAcks,
    /// While a reconfiguration is on its way, a quorum of the old configuration decides alone.
    OldQuorumAlone,
}
