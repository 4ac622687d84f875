//! Layer 3: a whole server without I/O. [`QuorumPeer`] decides, [`Database`] holds; a host performs the effects.

mod apply;
mod auth;
mod core;
mod database;
#[cfg(any(test, loom))]
mod faults;
mod follower;
mod in_flight;
pub mod io;
mod leader;
mod loader;
mod outbox;
mod prepare;
mod quorum_peer;
mod read;
mod sessions;
mod submit;

pub use self::core::PeerConfig;
pub use database::{Database, ServerStats};
pub use in_flight::InFlight;
pub use loader::{DirectoryLoader, SnapshotLoader};
pub use outbox::{
    ConnInfo, ConnPhase, ConnStats, OUTPUT_BYTES_BUSY, OUTPUT_BYTES_MAX, Outbox, WAITING_BYTES_MAX, WAITING_MAX,
};
pub use prepare::PrepareRequest;
pub use quorum_peer::{Boot, PeerStatus, QuorumPeer};
pub use submit::Frame;
