//! The election port: the INITIAL message of a connection, and notifications.

use super::{ServerId, Zxid};
use crate::jute::{DecodeError, Reader, Record};

/// What a server is doing, as notifications tell it. ZooKeeper: `QuorumPeer.ServerState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i32)]
pub enum PeerState {
    Looking = 0,
    Following = 1,
    Leading = 2,
    Observing = 3,
}

impl PeerState {
    fn from_code(code: i32) -> Result<PeerState, DecodeError> {
        Ok(match code {
            0 => PeerState::Looking,
            1 => PeerState::Following,
            2 => PeerState::Leading,
            3 => PeerState::Observing,
            _ => {
                return Err(DecodeError::Unknown { what: "server state", value: code.into() });
            }
        })
    }
}

/// The first bytes of an election connection, from the side that connects. Not length-prefixed; written at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initial {
    pub server: ServerId,
    /// `host:port` of the sender's election address; `|` between several (version 2); `None` from servers before 3.5.
    pub addresses: Option<Vec<String>>,
}

/// Version 1 of INITIAL: one address.
const INITIAL_V1: i64 = -65536;
/// Version 2: several addresses.
const INITIAL_V2: i64 = -65535;
/// Bytes of the address text at most.
const ADDRESS_BYTES_MAX: i32 = 2048;

impl Initial {
    /// Takes an INITIAL message off a stream's bytes; `Ok(None)`: not all of it is here yet.
    pub fn take(from: &mut Reader<'_>) -> Result<Option<Initial>, DecodeError> {
        let mut reader = from.clone();
        match Self::read(&mut reader) {
            Ok(initial) => {
                *from = reader;
                Ok(Some(initial))
            }
            Err(DecodeError::Short { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Initial, DecodeError> {
        let first = from.long()?;
        if first >= 0 {
            return Ok(Initial { server: ServerId(first), addresses: None });
        }
        if first != INITIAL_V1 && first != INITIAL_V2 {
            return Err(DecodeError::Unknown { what: "version of an INITIAL message", value: first });
        }
        let server = ServerId::read(from)?;
        let length = from.int()?;
        if !(1..=ADDRESS_BYTES_MAX).contains(&length) {
            return Err(DecodeError::Unknown { what: "length of an election address", value: length.into() });
        }
        let text = String::from_utf8_lossy(from.bytes(length as usize)?).into_owned();
        let addresses = text.split('|').map(str::to_owned).collect();
        Ok(Initial { server, addresses: Some(addresses) })
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        let Some(addresses) = &self.addresses else {
            return self.server.write(out);
        };
        (if addresses.len() == 1 { INITIAL_V1 } else { INITIAL_V2 }).write(out);
        self.server.write(out);
        crate::jute::write_string(&addresses.join("|"), out);
    }
}

/// A server's vote and state, sent in elections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub state: PeerState,
    /// Voted for.
    pub leader: ServerId,
    /// Of the vote.
    pub zxid: Zxid,
    /// The sender's logical clock: its round of elections.
    pub election_epoch: i64,
    /// The currentEpoch of the server voted for.
    pub peer_epoch: i64,
    /// What the sender's release sends: 0 before 3.4.6, 1, or 2 with its configuration.
    pub form: NotificationForm,
}

/// The forms of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotificationForm {
    /// 28 bytes, without a peer epoch (taken from the zxid).
    Old28,
    /// 40 bytes; the last number is ignored.
    Old40 { last: i32 },
    /// Version 1 or less, with bytes that are ignored.
    V1 { version: i32 },
    /// Version 2 (or later), with the sender's committed configuration.
    V2 { version: i32, config: String },
}

/// Bytes of a notification at most, as Apache's `maxBuffer`.
pub const NOTIFICATION_BYTES_MAX: usize = 512 * 1024;

impl Notification {
    /// The version of the sender's form, which decides how settled votes are compared.
    pub fn version(&self) -> i32 {
        match self.form {
            NotificationForm::Old28 | NotificationForm::Old40 { .. } => 0,
            NotificationForm::V1 { version } | NotificationForm::V2 { version, .. } => version,
        }
    }

    /// Decodes a message (without its length prefix). Any error: skip the message, keep the connection.
    pub fn decode(bytes: &[u8]) -> Result<Notification, DecodeError> {
        let from = &mut Reader::new(bytes);
        let state = PeerState::from_code(from.int()?)?;
        let (leader, zxid, election_epoch) = (ServerId::read(from)?, Zxid::read(from)?, from.long()?);
        if bytes.len() == 28 {
            let form = NotificationForm::Old28;
            return Ok(Notification { state, leader, zxid, election_epoch, peer_epoch: zxid.epoch().0, form });
        }
        let peer_epoch = from.long()?;
        let version = from.int()?;
        let form = if bytes.len() == 40 {
            NotificationForm::Old40 { last: version }
        } else if version <= 1 {
            NotificationForm::V1 { version }
        } else {
            NotificationForm::V2 { version, config: Record::read(from)? }
        };
        Ok(Notification { state, leader, zxid, election_epoch, peer_epoch, form })
    }

    /// Appends the message with its length prefix.
    pub fn write(&self, out: &mut Vec<u8>) {
        super::write_frame(out, |out| {
            (self.state as i32).write(out);
            self.leader.write(out);
            self.zxid.write(out);
            self.election_epoch.write(out);
            if self.form == NotificationForm::Old28 {
                return;
            }
            self.peer_epoch.write(out);
            match &self.form {
                NotificationForm::Old28 => {}
                NotificationForm::Old40 { last } => last.write(out),
                NotificationForm::V1 { version } => version.write(out),
                NotificationForm::V2 { version, config } => {
                    version.write(out);
                    config.write(out);
                }
            }
        });
    }
}
