//! Layer 3: a whole server without I/O. [`QuorumPeer`] decides, [`Database`] holds; a host performs the effects.

mod apply;
pub mod auth;
#[cfg(all(test, not(loom)))]
mod auth_tests;
mod core;
mod database;
#[cfg(all(test, not(loom)))]
mod database_tests;
mod digests;
mod divergence;
#[cfg(any(test, loom))]
pub(crate) mod faults;
mod in_flight;
pub mod io;
mod leader;
mod learner;
mod limits;
#[cfg(all(test, not(loom)))]
mod limits_tests;
mod loader;
mod local_sessions;
#[cfg(all(test, loom))]
mod loom_tests;
mod membership;
#[cfg(all(test, not(loom)))]
mod membership_tests;
mod observer_master;
mod outbox;
mod prepare;
#[cfg(all(test, not(loom)))]
mod prepare_tests;
mod quorum_peer;
mod read;
#[cfg(all(test, not(loom)))]
mod reaper_tests;
mod reconfig;
#[cfg(all(test, not(loom)))]
mod rules_tests;
pub mod sasl;
mod sessions;
mod settings;
#[cfg(all(test, not(loom)))]
mod stress_tests;
mod submit;
#[cfg(test)]
mod test_host;
#[cfg(all(test, not(loom)))]
mod watch_tests;
#[cfg(all(test, not(loom)))]
mod window_tests;

pub use self::core::{HAND_OVER_AT, PeerConfig, RoleRules, SessionRules};
pub use auth::AuthNote;
pub use database::{Database, ServerStats};
pub use in_flight::InFlight;
pub use leader::{CatchUpRules, ReaperConfig};
pub use limits::{RequestLimits, Rest, TURN_FRAMES_MAX, TURN_OUTPUT_MAX, Taken};
pub use loader::{DirectoryLoader, SnapshotLoader};
pub use outbox::{
    ConnEnd, ConnInfo, ConnPhase, ConnStats, OUTPUT_BYTES_BUSY, OUTPUT_BYTES_MAX, Outbox, WAITING_BYTES_MAX,
    WAITING_MAX,
};
pub use prepare::PrepareRequest;
pub use quorum_peer::{Boot, LearnerCounts, PeerStatus, QuorumPeer};
pub use sasl::{NONCE_BYTES, SaslUsers};
pub use settings::{NodeSettings, Settings};
pub use submit::Frame;
