//! The seeded world: whole servers on a simulated network and simulated disks, in virtual time, checked after every
//! event. The same seed gives the same run, to the last event.
//!
//! A run has two halves. In the first, faults happen, and only safety is asked for; in the second everything is
//! healed, and the servers must find together again, answer every client, and end with equal trees.

pub mod checkers;
mod client;
mod client_calls;
mod client_checks;
mod client_wire;
mod config_files;
pub mod counts;
pub mod disk;
mod disk_queue;
mod durable;
mod election_links;
mod ensemble;
pub mod faults;
mod forged_acks;
pub mod ghost;
mod links;
pub mod network;
mod operator;
pub mod planted;
pub mod rng;
mod run;
pub mod scheduler;
mod server;
pub mod steps;
pub mod trace;
mod workload;
mod world;

pub use counts::Counts;
pub use planted::Planted;
pub use run::{Options, Report, Scenario, run_seed};
