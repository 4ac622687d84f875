//! The quorum port: packets between a learner and its leader, on a plain stream without frames.

use super::request::{self, op};
use super::{Epoch, Id, Request, ServerId, SessionId, TXN_BYTES_MAX, Zxid};
use crate::jute::{DecodeError, Reader, Record, record};
use bytes::Bytes;

/// Packet types. ZooKeeper: constants of `Leader`.
pub mod packet {
    pub const REQUEST: i32 = 1;
    pub const PROPOSAL: i32 = 2;
    pub const ACK: i32 = 3;
    pub const COMMIT: i32 = 4;
    pub const PING: i32 = 5;
    pub const REVALIDATE: i32 = 6;
    pub const SYNC: i32 = 7;
    pub const INFORM: i32 = 8;
    pub const COMMIT_AND_ACTIVATE: i32 = 9;
    pub const NEW_LEADER: i32 = 10;
    pub const FOLLOWER_INFO: i32 = 11;
    pub const UP_TO_DATE: i32 = 12;
    pub const DIFF: i32 = 13;
    pub const TRUNC: i32 = 14;
    pub const SNAP: i32 = 15;
    pub const OBSERVER_INFO: i32 = 16;
    pub const LEADER_INFO: i32 = 17;
    pub const ACK_EPOCH: i32 = 18;
    pub const INFORM_AND_ACTIVATE: i32 = 19;
}

/// The protocol version in LearnerInfo and LEADERINFO.
pub const PROTOCOL_VERSION: i32 = 0x10000;

record! {
    /// Data of FOLLOWERINFO and OBSERVERINFO.
    LearnerInfo { server: ServerId, protocol_version: i32, config_version: i64 }

    /// One session of a PING answer: touched since the last one.
    TouchedSession { session: SessionId, timeout_ms: i32 }
}

/// A client's request on its way to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedRequest {
    pub session: SessionId,
    pub cxid: i32,
    pub body: ForwardedBody,
    /// Who the client is; empty is sent as null.
    pub auth: Vec<Id>,
}

/// The body of a forwarded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardedBody {
    Request(Request),
    /// The client's bytes are not a request of this operation: the leader makes an error transaction of it.
    Malformed {
        op: i32,
        bytes: Vec<u8>,
    },
}

impl ForwardedBody {
    pub fn op(&self) -> i32 {
        match self {
            ForwardedBody::Request(request) => request.op(),
            ForwardedBody::Malformed { op, .. } => *op,
        }
    }
}

/// A packet between a learner and its leader ("learner master").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuorumPacket {
    /// Learner: order this.
    Request(ForwardedRequest),
    /// Leader: log this transaction ([`Txn`](super::Txn) bytes, as they go to the log) and acknowledge it.
    Proposal {
        zxid: Zxid,
        txn: Bytes,
    },
    /// Learner: everything up to this proposal is on my disk.
    Ack {
        zxid: Zxid,
    },
    /// Leader: apply.
    Commit {
        zxid: Zxid,
    },
    /// Leader: null data; learner: the sessions touched since its last answer.
    Ping {
        zxid: Zxid,
        touched: Option<Vec<TouchedSession>>,
    },
    /// Learner: does this session live? (And I own it now.)
    Revalidate {
        session: SessionId,
        timeout_ms: i32,
    },
    /// Leader's answer.
    Revalidated {
        session: SessionId,
        valid: bool,
    },
    /// Leader: all that was proposed before your sync is committed.
    Sync {
        zxid: Zxid,
    },
    /// Leader to an observer: proposal and commit in one.
    Inform {
        zxid: Zxid,
        txn: Bytes,
    },
    CommitAndActivate {
        zxid: Zxid,
        designated_leader: ServerId,
    },
    InformAndActivate {
        zxid: Zxid,
        designated_leader: ServerId,
        txn: Bytes,
    },
    /// Leader: that was the history; with the text of its newest configuration.
    NewLeader {
        zxid: Zxid,
        config: Option<String>,
    },
    FollowerInfo {
        accepted_epoch: Epoch,
        info: LearnerInfo,
    },
    ObserverInfo {
        accepted_epoch: Epoch,
        info: LearnerInfo,
    },
    LeaderInfo {
        epoch: Epoch,
        protocol_version: i32,
    },
    /// Learner: epoch accepted; `current_epoch` is `None` (-1) if it had accepted the very same epoch before.
    AckEpoch {
        last_logged: Zxid,
        current_epoch: Option<Epoch>,
    },
    /// Leader: the learner may serve.
    UpToDate,
    Diff {
        zxid: Zxid,
    },
    Trunc {
        zxid: Zxid,
    },
    /// A raw snapshot body follows on the stream, ended by [`SNAPSHOT_SIGNATURE`](super::SNAPSHOT_SIGNATURE).
    Snap {
        zxid: Zxid,
    },
}

/// Type, zxid, length of the data.
const FIXED_LEN: usize = 4 + 8 + 4;
/// How many identities a packet may carry.
const IDS_MAX: usize = 4096;

impl QuorumPacket {
    /// Takes the first packet off a stream's bytes. `Ok(None)`: not all of it is here yet. An error means that the
    /// stream cannot be understood any more and the connection must be closed, but for [`DecodeError::Unknown`]: a
    /// packet of an unknown type has been taken off, and ZooKeeper ignores such packets once broadcast has begun.
    ///
    /// `from_leader` tells the two forms of REVALIDATE apart.
    pub fn take(from: &mut Reader<'_>, from_leader: bool) -> Result<Option<QuorumPacket>, DecodeError> {
        QuorumPacket::take_within(from, from_leader, TXN_BYTES_MAX)
    }

    /// As [`take`](QuorumPacket::take), where transactions may be as long as `txn_bytes_max`.
    pub fn take_within(
        from: &mut Reader<'_>,
        from_leader: bool,
        txn_bytes_max: usize,
    ) -> Result<Option<QuorumPacket>, DecodeError> {
        // Its data and as much again for identities. A longer one would never be whole.
        let limit = FIXED_LEN + 2 * txn_bytes_max;
        let mut reader = Reader::with_limit(from.rest(), txn_bytes_max);
        match Self::read(&mut reader, from_leader) {
            Ok(packet) => {
                *from = reader;
                Ok(Some(packet))
            }
            Err(DecodeError::Short { .. }) if from.remaining() <= limit => Ok(None),
            Err(DecodeError::Short { .. }) => Err(DecodeError::TooLong { length: from.remaining(), limit }),
            Err(error @ DecodeError::Unknown { .. }) => {
                *from = reader;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    fn read(from: &mut Reader<'_>, from_leader: bool) -> Result<QuorumPacket, DecodeError> {
        let kind = from.int()?;
        let zxid = Zxid::read(from)?;
        let data = from.buffer()?;
        let auth = read_ids(from)?;
        // From here on the packet is whole: a record that runs out of bytes inside it is malformed, not late.
        Self::decode(kind, zxid, data, auth, from_leader).map_err(|error| match error {
            DecodeError::Short { missing } => DecodeError::Truncated { missing },
            other => other,
        })
    }

    fn decode(
        kind: i32,
        zxid: Zxid,
        data: Option<&[u8]>,
        auth: Vec<Id>,
        from_leader: bool,
    ) -> Result<QuorumPacket, DecodeError> {
        let bytes = || data.ok_or(DecodeError::Null("packet data"));
        let reader = || bytes().map(Reader::new);
        Ok(match kind {
            packet::REQUEST => QuorumPacket::Request(read_request(&mut reader()?, auth)?),
            packet::PROPOSAL => QuorumPacket::Proposal { zxid, txn: Bytes::copy_from_slice(bytes()?) },
            packet::ACK => QuorumPacket::Ack { zxid },
            packet::COMMIT => QuorumPacket::Commit { zxid },
            packet::PING => QuorumPacket::Ping { zxid, touched: data.map(read_touched).transpose()? },
            packet::REVALIDATE if from_leader => {
                let mut from = reader()?;
                QuorumPacket::Revalidated { session: SessionId::read(&mut from)?, valid: from.bool()? }
            }
            packet::REVALIDATE => {
                let mut from = reader()?;
                QuorumPacket::Revalidate { session: SessionId::read(&mut from)?, timeout_ms: from.int()? }
            }
            packet::SYNC => QuorumPacket::Sync { zxid },
            packet::INFORM => QuorumPacket::Inform { zxid, txn: Bytes::copy_from_slice(bytes()?) },
            packet::COMMIT_AND_ACTIVATE => {
                QuorumPacket::CommitAndActivate { zxid, designated_leader: ServerId::read(&mut reader()?)? }
            }
            packet::INFORM_AND_ACTIVATE => {
                let mut from = reader()?;
                let designated_leader = ServerId::read(&mut from)?;
                QuorumPacket::InformAndActivate { zxid, designated_leader, txn: Bytes::copy_from_slice(from.rest()) }
            }
            packet::NEW_LEADER => {
                QuorumPacket::NewLeader { zxid, config: data.map(|bytes| String::from_utf8_lossy(bytes).into_owned()) }
            }
            packet::FOLLOWER_INFO => {
                QuorumPacket::FollowerInfo { accepted_epoch: zxid.epoch(), info: Record::read(&mut reader()?)? }
            }
            packet::OBSERVER_INFO => {
                QuorumPacket::ObserverInfo { accepted_epoch: zxid.epoch(), info: Record::read(&mut reader()?)? }
            }
            packet::LEADER_INFO => QuorumPacket::LeaderInfo { epoch: zxid.epoch(), protocol_version: reader()?.int()? },
            packet::ACK_EPOCH => {
                let epoch = reader()?.int()?;
                let current_epoch = (epoch != -1).then_some(Epoch(epoch.into()));
                QuorumPacket::AckEpoch { last_logged: zxid, current_epoch }
            }
            packet::UP_TO_DATE => QuorumPacket::UpToDate,
            packet::DIFF => QuorumPacket::Diff { zxid },
            packet::TRUNC => QuorumPacket::Trunc { zxid },
            packet::SNAP => QuorumPacket::Snap { zxid },
            _ => {
                return Err(DecodeError::Unknown { what: "quorum packet type", value: kind.into() });
            }
        })
    }

    /// Appends the packet's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        use QuorumPacket::*;
        match self {
            Request(request) => put(packet::REQUEST, Zxid::NONE, &request.auth, out, |out| {
                request.session.write(out);
                request.cxid.write(out);
                request.body.op().write(out);
                match &request.body {
                    ForwardedBody::Request(request) => request.write(out),
                    ForwardedBody::Malformed { bytes, .. } => out.extend_from_slice(bytes),
                }
            }),
            Proposal { zxid, txn } => put_data(packet::PROPOSAL, *zxid, Some(txn), out),
            Ack { zxid } => put_data(packet::ACK, *zxid, None, out),
            Commit { zxid } => put_data(packet::COMMIT, *zxid, None, out),
            Ping { zxid, touched: None } => put_data(packet::PING, *zxid, None, out),
            Ping { zxid, touched: Some(touched) } => {
                put(packet::PING, *zxid, &[], out, |out| touched.iter().for_each(|each| each.write(out)));
            }
            Revalidate { session, timeout_ms } => put(packet::REVALIDATE, Zxid::NONE, &[], out, |out| {
                session.write(out);
                timeout_ms.write(out);
            }),
            Revalidated { session, valid } => put(packet::REVALIDATE, Zxid::NONE, &[], out, |out| {
                session.write(out);
                valid.write(out);
            }),
            Sync { zxid } => put_data(packet::SYNC, *zxid, None, out),
            Inform { zxid, txn } => put_data(packet::INFORM, *zxid, Some(txn), out),
            CommitAndActivate { zxid, designated_leader } => {
                put(packet::COMMIT_AND_ACTIVATE, *zxid, &[], out, |out| designated_leader.write(out));
            }
            InformAndActivate { zxid, designated_leader, txn } => {
                put(packet::INFORM_AND_ACTIVATE, *zxid, &[], out, |out| {
                    designated_leader.write(out);
                    out.extend_from_slice(txn);
                });
            }
            NewLeader { zxid, config } => {
                put_data(packet::NEW_LEADER, *zxid, config.as_deref().map(str::as_bytes), out);
            }
            FollowerInfo { accepted_epoch, info } => {
                put(packet::FOLLOWER_INFO, Zxid::new(*accepted_epoch, 0), &[], out, |out| info.write(out));
            }
            ObserverInfo { accepted_epoch, info } => {
                put(packet::OBSERVER_INFO, Zxid::new(*accepted_epoch, 0), &[], out, |out| info.write(out));
            }
            LeaderInfo { epoch, protocol_version } => {
                put(packet::LEADER_INFO, Zxid::new(*epoch, 0), &[], out, |out| protocol_version.write(out));
            }
            AckEpoch { last_logged, current_epoch } => {
                let epoch = current_epoch.map_or(-1, |epoch| epoch.0 as i32);
                put(packet::ACK_EPOCH, *last_logged, &[], out, |out| epoch.write(out));
            }
            UpToDate => put_data(packet::UP_TO_DATE, Zxid::NONE, None, out),
            Diff { zxid } => put_data(packet::DIFF, *zxid, None, out),
            Trunc { zxid } => put_data(packet::TRUNC, *zxid, None, out),
            Snap { zxid } => put_data(packet::SNAP, *zxid, None, out),
        }
    }

    /// The packet's name, for logs and traces.
    pub fn name(&self) -> &'static str {
        use QuorumPacket::*;
        match self {
            Request(_) => "REQUEST",
            Proposal { .. } => "PROPOSAL",
            Ack { .. } => "ACK",
            Commit { .. } => "COMMIT",
            Ping { .. } => "PING",
            Revalidate { .. } | Revalidated { .. } => "REVALIDATE",
            Sync { .. } => "SYNC",
            Inform { .. } => "INFORM",
            CommitAndActivate { .. } => "COMMITANDACTIVATE",
            InformAndActivate { .. } => "INFORMANDACTIVATE",
            NewLeader { .. } => "NEWLEADER",
            FollowerInfo { .. } => "FOLLOWERINFO",
            ObserverInfo { .. } => "OBSERVERINFO",
            LeaderInfo { .. } => "LEADERINFO",
            AckEpoch { .. } => "ACKEPOCH",
            UpToDate => "UPTODATE",
            Diff { .. } => "DIFF",
            Trunc { .. } => "TRUNC",
            Snap { .. } => "SNAP",
        }
    }
}

fn read_ids(from: &mut Reader<'_>) -> Result<Vec<Id>, DecodeError> {
    let Some(count) = from.count(Id::MIN_LEN)? else {
        return Ok(Vec::new());
    };
    if count > IDS_MAX {
        return Err(DecodeError::TooLong { length: count, limit: IDS_MAX });
    }
    (0..count).map(|_| Id::read(from)).collect()
}

fn read_request(from: &mut Reader<'_>, auth: Vec<Id>) -> Result<ForwardedRequest, DecodeError> {
    let (session, cxid, op) = (SessionId::read(from)?, from.int()?, from.int()?);
    let bytes = from.rest();
    let body = match Request::read(op, from) {
        Some(Ok(request)) => ForwardedBody::Request(request),
        _ => ForwardedBody::Malformed { op, bytes: bytes.to_vec() },
    };
    Ok(ForwardedRequest { session, cxid, body, auth })
}

fn read_touched(bytes: &[u8]) -> Result<Vec<TouchedSession>, DecodeError> {
    let mut from = Reader::new(bytes);
    let mut touched = Vec::with_capacity(bytes.len() / TouchedSession::MIN_LEN);
    while from.remaining() > 0 {
        touched.push(TouchedSession::read(&mut from)?);
    }
    Ok(touched)
}

fn put_data(kind: i32, zxid: Zxid, data: Option<&[u8]>, out: &mut Vec<u8>) {
    out.reserve(FIXED_LEN + data.map_or(0, <[u8]>::len) + 4);
    kind.write(out);
    zxid.write(out);
    crate::jute::write_buffer(data, out);
    (-1i32).write(out);
}

fn put(kind: i32, zxid: Zxid, auth: &[Id], out: &mut Vec<u8>, data: impl FnOnce(&mut Vec<u8>)) {
    kind.write(out);
    zxid.write(out);
    super::write_frame(out, data);
    if auth.is_empty() {
        (-1i32).write(out);
    } else {
        (auth.len() as i32).write(out);
        auth.iter().for_each(|id| id.write(out));
    }
}

/// Whether a learner hands operation `code` on to the leader.
pub fn is_forwarded(code: i32) -> bool {
    request::is_write(code) && code != op::CHECK || code == op::SYNC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_of_an_unknown_type_is_taken_off_so_that_the_next_can_be_read() {
        let mut bytes = Vec::new();
        put_data(77, Zxid(1), Some(b"later"), &mut bytes);
        QuorumPacket::UpToDate.write(&mut bytes);
        let from = &mut Reader::new(&bytes);
        assert!(matches!(QuorumPacket::take(from, true), Err(DecodeError::Unknown { value: 77, .. })));
        assert_eq!(QuorumPacket::take(from, true), Ok(Some(QuorumPacket::UpToDate)));
        assert_eq!(QuorumPacket::take(from, true), Ok(None));
    }

    #[test]
    fn a_packet_that_can_never_be_whole_is_refused_instead_of_collected() {
        let mut bytes = Vec::new();
        put_data(packet::ACK, Zxid(1), None, &mut bytes);
        bytes.truncate(FIXED_LEN);
        2i32.write(&mut bytes); // Two identities …
        let name = vec![b'x'; TXN_BYTES_MAX];
        for _ in 0..3 {
            crate::jute::write_buffer(Some(&name), &mut bytes); // … of which three of four strings are here.
        }
        assert!(matches!(QuorumPacket::take(&mut Reader::new(&bytes), false), Err(DecodeError::TooLong { .. })));
        let early = Reader::new(&bytes[..FIXED_LEN + 4 + TXN_BYTES_MAX]);
        assert_eq!(QuorumPacket::take(&mut early.clone(), false), Ok(None));
    }

    #[test]
    fn data_longer_than_a_transaction_is_refused_at_its_length() {
        let mut bytes = Vec::new();
        packet::PROPOSAL.write(&mut bytes);
        Zxid(1).write(&mut bytes);
        (TXN_BYTES_MAX as i32 + 1).write(&mut bytes);
        assert!(matches!(QuorumPacket::take(&mut Reader::new(&bytes), true), Err(DecodeError::TooLong { .. })));
    }

    #[test]
    fn a_record_cut_short_inside_a_whole_packet_is_an_error_and_not_a_wait() {
        let mut bytes = Vec::new();
        put_data(packet::FOLLOWER_INFO, Zxid(0), Some(&[0; 12]), &mut bytes);
        let result = QuorumPacket::take(&mut Reader::new(&bytes), false);
        assert_eq!(result, Err(DecodeError::Truncated { missing: 8 }));
    }

    /// The leader makes an error transaction of it, so the client gets its answer.
    #[test]
    fn a_forwarded_request_that_is_no_request_is_kept_as_its_bytes() {
        for (op, body) in [(op::CREATE, &[0, 0, 0, 9, b'/'][..]), (999, b"what")] {
            let body = ForwardedBody::Malformed { op, bytes: body.to_vec() };
            let request = ForwardedRequest { session: SessionId(5), cxid: 3, body, auth: vec![Id::new("ip", "::1")] };
            let (packet, mut bytes) = (QuorumPacket::Request(request), Vec::new());
            packet.write(&mut bytes);
            assert_eq!(QuorumPacket::take(&mut Reader::new(&bytes), false), Ok(Some(packet)));
        }
    }

    #[test]
    fn revalidate_is_a_question_from_a_learner_and_an_answer_from_the_leader() {
        let mut bytes = Vec::new();
        let question = QuorumPacket::Revalidate { session: SessionId(9), timeout_ms: 0x0100_0000 };
        question.write(&mut bytes);
        assert_eq!(QuorumPacket::take(&mut Reader::new(&bytes), false), Ok(Some(question)));
        let answer = QuorumPacket::Revalidated { session: SessionId(9), valid: true };
        assert_eq!(QuorumPacket::take(&mut Reader::new(&bytes), true), Ok(Some(answer)));
    }
}
