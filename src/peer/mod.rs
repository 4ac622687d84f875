//! Layer 3: a whole server without I/O. `QuorumPeer` decides, `Database` holds; a host performs the effects.

mod apply;
mod auth;
mod database;
#[cfg(any(test, loom))]
mod faults;
mod in_flight;
pub mod io;
mod outbox;
mod prepare;
mod read;
mod submit;

pub use database::{Database, ServerStats};
pub use in_flight::InFlight;
pub use outbox::{
    ConnInfo, ConnPhase, ConnStats, OUTPUT_BYTES_BUSY, OUTPUT_BYTES_MAX, Outbox, WAITING_BYTES_MAX, WAITING_MAX,
};
pub use prepare::PrepareRequest;
pub use submit::Frame;
