//! The simulated world that a seed decides: what a server's disk (and later its network, clock and clients) may do
//! to it.

pub mod disk;
pub mod rng;
