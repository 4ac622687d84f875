//! Layer 4: the host in production. Sockets, files, timers and threads, and no decision of the protocol: what happens
//! goes into the peer as inputs, what must be done comes out as effects.

pub mod config;
mod election_links;
pub mod log;
mod properties;
pub mod server_addr;

pub use config::{Config, ConfigError, Whitelist};
pub use server_addr::{HostPort, PeerType, ServerAddr};
