//! The numbers that name things: zxids, epochs, servers, sessions. Newtypes, so that none stands for another.

use crate::jute::{DecodeError, Reader, Record};
use std::fmt;

/// A transaction id: epoch in the high 32 bits, counter in the low 32. Ordered as a signed number, as ZooKeeper does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zxid(pub i64);

impl Zxid {
    /// Before the first transaction.
    pub const ZERO: Zxid = Zxid(0);
    /// "No zxid": an untrusted empty database, packets that carry none.
    pub const NONE: Zxid = Zxid(-1);

    pub const fn new(epoch: Epoch, counter: u32) -> Self {
        Zxid(epoch.0 << 32 | counter as i64)
    }
    pub const fn epoch(self) -> Epoch {
        Epoch(self.0 >> 32)
    }
    pub const fn counter(self) -> u32 {
        self.0 as u32
    }
    /// The next zxid of the same epoch. The counter must not be at its end: a leader hands over before.
    pub fn successor(self) -> Self {
        assert!(self.counter() < u32::MAX, "the counter of epoch {} is used up", self.epoch());
        Zxid(self.0 + 1)
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The number of a leadership; each leader that a quorum accepts has a new, larger one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A server's number in the ensemble (`myid`, ZooKeeper's `sid`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub i64);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A client's session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub i64);

impl SessionId {
    /// The low byte of the id of the server that made it.
    pub const fn server_byte(self) -> u8 {
        (self.0 >> 56) as u8
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

macro_rules! long_record {
    ($($name:ident),*) => {$(
        impl Record for $name {
            const MIN_LEN: usize = 8;

            fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
                from.long().map($name)
            }
            fn write(&self, out: &mut Vec<u8>) {
                self.0.write(out);
            }
        }
    )*};
}
long_record!(Zxid, ServerId, SessionId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zxid_is_epoch_and_counter_and_prints_in_hex() {
        let zxid = Zxid::new(Epoch(1), 5);
        assert_eq!((zxid.epoch(), zxid.counter()), (Epoch(1), 5));
        assert_eq!(zxid.to_string(), "0x100000005");
        assert_eq!(zxid.successor(), Zxid::new(Epoch(1), 6));
    }
}
