//! SASL on the election and the quorum port: the packets around its tokens, before the first packet of the protocol.

use crate::jute::{DecodeError, Reader, Record};

/// How far an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum QuorumAuthStatus {
    InProgress = 0,
    Success = 1,
    Error = -1,
}

/// One step of an exchange. The client sends first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumAuthPacket {
    pub status: QuorumAuthStatus,
    /// The mechanism's bytes; empty in the first packet of DIGEST-MD5.
    pub token: Option<Vec<u8>>,
}

/// The first long of every packet: tells a peer that does not know of SASL from one that does. (ZooKeeper writes it as
/// the negative of 0xa0dbcafecafe1234.)
pub const QUORUM_AUTH_MAGIC: i64 = 0x5f24_3501_3501_edcc;
/// Bytes of a token at most: no mechanism needs as much.
pub const QUORUM_AUTH_TOKEN_BYTES_MAX: usize = 64 * 1024;

impl QuorumAuthPacket {
    /// Takes a packet off a stream's bytes; `Ok(None)`: not all of it is here yet. Any error: close the connection.
    pub fn take(from: &mut Reader<'_>) -> Result<Option<QuorumAuthPacket>, DecodeError> {
        let mut reader = Reader::with_limit(from.rest(), QUORUM_AUTH_TOKEN_BYTES_MAX);
        match Self::read(&mut reader) {
            Ok(packet) => {
                *from = reader;
                Ok(Some(packet))
            }
            Err(DecodeError::Short { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Record for QuorumAuthPacket {
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let magic = from.long()?;
        if magic != QUORUM_AUTH_MAGIC {
            return Err(DecodeError::Unknown { what: "magic of a SASL packet", value: magic });
        }
        let status = match from.int()? {
            0 => QuorumAuthStatus::InProgress,
            1 => QuorumAuthStatus::Success,
            -1 => QuorumAuthStatus::Error,
            status => return Err(DecodeError::Unknown { what: "status of a SASL exchange", value: status.into() }),
        };
        Ok(QuorumAuthPacket { status, token: Record::read(from)? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        QUORUM_AUTH_MAGIC.write(out);
        (self.status as i32).write(out);
        self.token.write(out);
    }
}
