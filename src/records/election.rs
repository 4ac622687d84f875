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
    pub addresses: InitialAddresses,
}

/// The sender's election addresses, each as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitialAddresses {
    /// A server before 3.5 does not tell any.
    None,
    /// Version 1.
    One(String),
    /// Version 2, with `multiAddress.enabled`: at least one.
    Several(Vec<String>),
}

impl InitialAddresses {
    /// All of them. Apache takes version 1 apart as version 2.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            InitialAddresses::None => Vec::new(),
            InitialAddresses::One(text) => text.split('|').collect(),
            InitialAddresses::Several(texts) => texts.iter().map(String::as_str).collect(),
        }
    }
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
            return Ok(Initial { server: ServerId(first), addresses: InitialAddresses::None });
        }
        if first != INITIAL_V1 && first != INITIAL_V2 {
            return Err(DecodeError::Unknown { what: "version of an INITIAL message", value: first });
        }
        let server = ServerId::read(from)?;
        let length = from.int()?;
        if !(1..=ADDRESS_BYTES_MAX).contains(&length) {
            return Err(DecodeError::Unknown { what: "length of an election address", value: length.into() });
        }
        let Ok(text) = std::str::from_utf8(from.bytes(length as usize)?) else {
            return Err(DecodeError::Unknown {
                what: "election address in UTF-8 of this length",
                value: length.into(),
            });
        };
        let addresses = match first {
            INITIAL_V1 => InitialAddresses::One(text.to_owned()),
            _ => InitialAddresses::Several(text.split('|').map(str::to_owned).collect()),
        };
        Ok(Initial { server, addresses })
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        let (version, text) = match &self.addresses {
            InitialAddresses::None => return self.server.write(out),
            InitialAddresses::One(text) => (INITIAL_V1, text.clone()),
            InitialAddresses::Several(texts) => (INITIAL_V2, texts.join("|")),
        };
        version.write(out);
        self.server.write(out);
        crate::jute::write_string(&text, out);
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
    /// Version 1 or less, read from more than 40 bytes, of which the surplus is ignored. Nothing known sends it.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(form: NotificationForm) -> Notification {
        let (leader, zxid) = (ServerId(2), Zxid(0x3_0000_0005));
        Notification { state: PeerState::Leading, leader, zxid, election_epoch: 4, peer_epoch: 3, form }
    }

    /// Sizes as measured with a real 3.8.0 server.
    #[test]
    fn the_size_of_a_notification_tells_its_form() {
        let v2 = NotificationForm::V2 { version: 2, config: "version=0".into() };
        for (length, form) in [(28, NotificationForm::Old28), (40, NotificationForm::Old40 { last: 1 }), (53, v2)] {
            let (sent, mut bytes) = (notification(form), Vec::new());
            sent.write(&mut bytes);
            assert_eq!(bytes.len(), 4 + length);
            assert_eq!(Notification::decode(&bytes[4..]), Ok(sent));
        }
    }

    #[test]
    fn a_notification_of_forty_bytes_has_version_0_whatever_its_last_number() {
        let mut bytes = Vec::new();
        notification(NotificationForm::Old40 { last: 2 }).write(&mut bytes);
        assert_eq!(Notification::decode(&bytes[4..]).map(|each| each.version()), Ok(0));
    }

    #[test]
    fn version_1_ignores_the_bytes_behind_it() {
        let mut bytes = Vec::new();
        notification(NotificationForm::V1 { version: 1 }).write(&mut bytes);
        bytes.extend_from_slice(&[0xff; 9]);
        let form = Notification::decode(&bytes[4..]).map(|each| each.form);
        assert_eq!(form, Ok(NotificationForm::V1 { version: 1 }));
    }

    #[test]
    fn notifications_of_other_sizes_and_states_are_refused() {
        let mut bytes = Vec::new();
        notification(NotificationForm::Old40 { last: 0 }).write(&mut bytes);
        for length in [0, 27, 29, 36, 39] {
            let result = Notification::decode(&bytes[4..4 + length]);
            assert!(matches!(result, Err(DecodeError::Short { .. })), "{length}: {result:?}");
        }
        bytes[7] = 4;
        assert!(Notification::decode(&bytes[4..]).is_err(), "there is no state 4");
    }

    #[test]
    fn an_initial_message_of_before_3_5_is_only_the_server() {
        let initial = Initial { server: ServerId(7), addresses: InitialAddresses::None };
        let mut bytes = Vec::new();
        initial.write(&mut bytes);
        assert_eq!(bytes, 7i64.to_be_bytes());
        assert_eq!(Initial::take(&mut Reader::new(&bytes)), Ok(Some(initial)));
    }

    #[test]
    fn an_initial_message_with_a_bad_length_is_refused_before_its_text_is_here() {
        for length in [-1, 0, 2049, i32::MAX] {
            let mut bytes = Vec::new();
            INITIAL_V1.write(&mut bytes);
            ServerId(1).write(&mut bytes);
            length.write(&mut bytes);
            assert!(Initial::take(&mut Reader::new(&bytes)).is_err(), "{length}");
        }
    }
}
