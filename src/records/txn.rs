//! Transactions: what the leader proposes, every server logs, and every tree applies.
//!
//! The bytes of a [`Txn`] are the same in a log record, a PROPOSAL and an INFORM: header, body, and in most a digest
//! of the tree after it. A transaction is idempotent: its paths are final (sequence numbers appended), its ACLs
//! expanded, its versions absolute.
//!
//! ZooKeeper: `TxnHeader`, `SerializeUtils.deserializeTxn`.

use super::request::op;
use super::{Acl, SessionId, Zxid};
use crate::jute::{DecodeError, Reader, Record, record};

record! {
    /// First part of every transaction (32 bytes).
    TxnHeader {
        session: SessionId,
        /// The client's xid of the request; 0 for what servers ask for themselves.
        cxid: i32,
        zxid: Zxid,
        /// The leader's wall clock, ms since 1970 UTC.
        time_ms: i64,
        /// An [`op`] code; the body's kind.
        op: i32,
    }

    /// The tree's digest after the transaction.
    TxnDigest {
        /// 2.
        version: i32,
        digest: i64,
    }

    CreateSessionTxn { timeout_ms: i32 }
    CreateTxn { path: String, data: Option<Vec<u8>>, acl: Vec<Acl>, ephemeral: bool, parent_cversion: i32 }
    CreateTtlTxn { path: String, data: Option<Vec<u8>>, acl: Vec<Acl>, parent_cversion: i32, ttl_ms: i64 }
    CreateContainerTxn { path: String, data: Option<Vec<u8>>, acl: Vec<Acl>, parent_cversion: i32 }
    DeleteTxn { path: String }
    /// `version` is the version after the change.
    SetDataTxn { path: String, data: Option<Vec<u8>>, version: i32 }
    /// `version` is the aversion after the change.
    SetAclTxn { path: String, acl: Vec<Acl>, version: i32 }
    CheckTxn { path: String, version: i32 }
    ErrorTxn { err: i32 }
    /// An operation of a multi: its type and its body's bytes in a buffer.
    RawSubTxn { op: i32, body: Option<Vec<u8>> }
}

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnBody {
    CreateSession(CreateSessionTxn),
    /// The ephemerals to delete; `None` in the form of 3.5, which lists none.
    CloseSession {
        paths: Option<Vec<String>>,
    },
    /// `create` (1) or `create2` (15): see [`TxnHeader::op`].
    Create(CreateTxn),
    Create2(CreateTxn),
    CreateTtl(CreateTtlTxn),
    CreateContainer(CreateContainerTxn),
    Delete(DeleteTxn),
    DeleteContainer(DeleteTxn),
    SetData(SetDataTxn),
    Reconfig(SetDataTxn),
    SetAcl(SetAclTxn),
    /// Only inside a multi. A bare one, which a 3.8.0 leader can make, has no effect.
    Check(CheckTxn),
    /// The request failed; the zxid is used up all the same.
    Error(ErrorTxn),
    /// All or nothing: nothing if any of them is an error.
    Multi(Vec<TxnBody>),
}

impl TxnBody {
    /// The [`op`] code that names this body.
    pub fn op(&self) -> i32 {
        match self {
            TxnBody::CreateSession(_) => op::CREATE_SESSION,
            TxnBody::CloseSession { .. } => op::CLOSE_SESSION,
            TxnBody::Create(_) => op::CREATE,
            TxnBody::Create2(_) => op::CREATE2,
            TxnBody::CreateTtl(_) => op::CREATE_TTL,
            TxnBody::CreateContainer(_) => op::CREATE_CONTAINER,
            TxnBody::Delete(_) => op::DELETE,
            TxnBody::DeleteContainer(_) => op::DELETE_CONTAINER,
            TxnBody::SetData(_) => op::SET_DATA,
            TxnBody::Reconfig(_) => op::RECONFIG,
            TxnBody::SetAcl(_) => op::SET_ACL,
            TxnBody::Check(_) => op::CHECK,
            TxnBody::Error(_) => op::ERROR,
            TxnBody::Multi(_) => op::MULTI,
        }
    }

    fn read(code: i32, from: &mut Reader<'_>) -> Result<TxnBody, DecodeError> {
        Ok(match code {
            op::CREATE_SESSION => TxnBody::CreateSession(Record::read(from)?),
            op::CLOSE_SESSION => TxnBody::CloseSession { paths: read_close_session(from)? },
            op::CREATE => TxnBody::Create(read_create(from)?),
            op::CREATE2 => TxnBody::Create2(read_create(from)?),
            op::CREATE_TTL => TxnBody::CreateTtl(Record::read(from)?),
            op::CREATE_CONTAINER => TxnBody::CreateContainer(Record::read(from)?),
            op::DELETE => TxnBody::Delete(Record::read(from)?),
            op::DELETE_CONTAINER => TxnBody::DeleteContainer(Record::read(from)?),
            op::SET_DATA => TxnBody::SetData(Record::read(from)?),
            op::RECONFIG => TxnBody::Reconfig(Record::read(from)?),
            op::SET_ACL => TxnBody::SetAcl(Record::read(from)?),
            op::CHECK => TxnBody::Check(Record::read(from)?),
            op::ERROR => TxnBody::Error(Record::read(from)?),
            op::MULTI => {
                let subs: Vec<RawSubTxn> = Record::read(from)?;
                TxnBody::Multi(subs.into_iter().map(RawSubTxn::decode).collect::<Result<_, _>>()?)
            }
            _ => {
                return Err(DecodeError::Unknown { what: "transaction type", value: code.into() });
            }
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            TxnBody::CreateSession(body) => body.write(out),
            TxnBody::CloseSession { paths: None } => {}
            TxnBody::CloseSession { paths } => paths.write(out),
            TxnBody::Create(body) | TxnBody::Create2(body) => body.write(out),
            TxnBody::CreateTtl(body) => body.write(out),
            TxnBody::CreateContainer(body) => body.write(out),
            TxnBody::Delete(body) | TxnBody::DeleteContainer(body) => body.write(out),
            TxnBody::SetData(body) | TxnBody::Reconfig(body) => body.write(out),
            TxnBody::SetAcl(body) => body.write(out),
            TxnBody::Check(body) => body.write(out),
            TxnBody::Error(body) => body.write(out),
            TxnBody::Multi(subs) => {
                (subs.len() as i32).write(out);
                for sub in subs {
                    let mut body = Vec::new();
                    sub.write(&mut body);
                    RawSubTxn { op: sub.op(), body: Some(body) }.write(out);
                }
            }
        }
    }
}

impl RawSubTxn {
    fn decode(self) -> Result<TxnBody, DecodeError> {
        if self.op == op::MULTI {
            // A multi in a multi is never made; refusing it also bounds the depth.
            return Err(DecodeError::Unknown { what: "operation of a multi", value: self.op.into() });
        }
        let body = self.body.ok_or(DecodeError::Null("transaction"))?;
        TxnBody::read(self.op, &mut Reader::new(&body))
    }
}

/// A create of 3.3 has no parent cversion: that form is taken when the full one runs out of bytes.
fn read_create(from: &mut Reader<'_>) -> Result<CreateTxn, DecodeError> {
    let (path, data, acl, ephemeral) = (Record::read(from)?, Record::read(from)?, Record::read(from)?, from.bool()?);
    let parent_cversion = if from.remaining() < 4 { -1 } else { from.int()? };
    Ok(CreateTxn { path, data, acl, ephemeral, parent_cversion })
}

/// Without a body there may still be a digest, which reads as a list of two strings that runs out.
fn read_close_session(from: &mut Reader<'_>) -> Result<Option<Vec<String>>, DecodeError> {
    if from.remaining() == 0 {
        return Ok(None);
    }
    let mut ahead = from.clone();
    match Vec::<String>::read(&mut ahead) {
        Ok(paths) => {
            *from = ahead;
            Ok(Some(paths))
        }
        Err(_) if from.remaining() == DIGEST_LEN && from.rest().starts_with(&[0, 0, 0, 2]) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Bytes of a [`TxnDigest`].
const DIGEST_LEN: usize = 12;
/// The digest version of 3.6 and later.
pub const DIGEST_VERSION: i32 = 2;

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    pub session: SessionId,
    pub cxid: i32,
    pub zxid: Zxid,
    /// The leader's wall clock, ms since 1970 UTC.
    pub time_ms: i64,
    pub body: TxnBody,
    /// The tree's digest after this transaction; absent in error transactions.
    pub digest: Option<TxnDigest>,
}

impl Record for Txn {
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let TxnHeader { session, cxid, zxid, time_ms, op } = TxnHeader::read(from)?;
        let body = TxnBody::read(op, from)?;
        let digest = if from.remaining() >= DIGEST_LEN { Some(TxnDigest::read(from)?) } else { None };
        Ok(Txn { session, cxid, zxid, time_ms, body, digest })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let Txn { session, cxid, zxid, time_ms, ref body, ref digest } = *self;
        TxnHeader { session, cxid, zxid, time_ms, op: body.op() }.write(out);
        body.write(out);
        if let Some(digest) = digest {
            digest.write(out);
        }
    }
}

/// The zxid of encoded transaction bytes, without decoding them.
pub fn txn_zxid(bytes: &[u8]) -> Result<Zxid, DecodeError> {
    TxnHeader::from_bytes(bytes).map(|header| header.zxid)
}
