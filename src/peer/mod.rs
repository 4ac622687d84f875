//! Layer 3: a whole server without I/O. `QuorumPeer` decides, `Database` holds; a host performs the effects.

pub mod io;
