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
}

/// Bytes of an operation of a multi at least: its type, the length of its body, and an error code or empty path in it.
const MULTI_SUB_MIN_LEN: usize = 4 + 4 + 4;

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
                let count = from.count(MULTI_SUB_MIN_LEN)?.ok_or(DecodeError::Null("transactions"))?;
                let mut subs = Vec::with_capacity(count);
                for _ in 0..count {
                    subs.push(TxnBody::read_sub(from)?);
                }
                TxnBody::Multi(subs)
            }
            _ => {
                return Err(DecodeError::Unknown { what: "transaction type", value: code.into() });
            }
        })
    }

    /// The bytes that this body takes in a transaction.
    pub fn encoded_len(&self) -> usize {
        let string = |text: &String| 4 + text.len();
        let data = |data: &Option<Vec<u8>>| 4 + data.as_ref().map_or(0, Vec::len);
        let acl =
            |acl: &[Acl]| 4 + acl.iter().map(|each| 4 + string(&each.id.scheme) + string(&each.id.id)).sum::<usize>();
        match self {
            TxnBody::CreateSession(_) | TxnBody::Error(_) => 4,
            TxnBody::CloseSession { paths: None } => 0,
            TxnBody::CloseSession { paths: Some(paths) } => 4 + paths.iter().map(string).sum::<usize>(),
            TxnBody::Create(body) | TxnBody::Create2(body) => {
                string(&body.path) + data(&body.data) + acl(&body.acl) + 1 + 4
            }
            TxnBody::CreateTtl(body) => string(&body.path) + data(&body.data) + acl(&body.acl) + 4 + 8,
            TxnBody::CreateContainer(body) => string(&body.path) + data(&body.data) + acl(&body.acl) + 4,
            TxnBody::Delete(body) | TxnBody::DeleteContainer(body) => string(&body.path),
            TxnBody::SetData(body) | TxnBody::Reconfig(body) => string(&body.path) + data(&body.data) + 4,
            TxnBody::SetAcl(body) => string(&body.path) + acl(&body.acl) + 4,
            TxnBody::Check(body) => string(&body.path) + 4,
            TxnBody::Multi(subs) => 4 + subs.iter().map(|sub| 4 + 4 + sub.encoded_len()).sum::<usize>(),
        }
    }

    /// An operation of a multi: its type, and its body in a buffer of its own.
    fn read_sub(from: &mut Reader<'_>) -> Result<TxnBody, DecodeError> {
        let code = from.int()?;
        let body = from.buffer()?.ok_or(DecodeError::Null("transaction"))?;
        match code {
            op::CREATE | op::CREATE2 | op::CREATE_TTL | op::CREATE_CONTAINER | op::DELETE | op::DELETE_CONTAINER => {}
            op::SET_DATA | op::CHECK | op::ERROR => {}
            // `DataTree.processTxn` knows no other, a multi in a multi least of all: that also bounds the depth.
            _ => return Err(DecodeError::Unknown { what: "operation of a multi", value: code.into() }),
        }
        TxnBody::read(code, &mut Reader::new(body))
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
                    sub.op().write(out);
                    super::write_frame(out, |out| sub.write(out));
                }
            }
        }
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

/// Bytes of a [`TxnHeader`] and a [`TxnDigest`]: what a transaction takes beside its body.
pub const TXN_FRAME_LEN: usize = 32 + DIGEST_LEN;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn txn(body: TxnBody, digest: Option<i64>) -> Txn {
        let digest = digest.map(|digest| TxnDigest { version: DIGEST_VERSION, digest });
        Txn { session: SessionId(7), cxid: 2, zxid: Zxid(0x1_0000_0003), time_ms: 1_700_000_000_000, body, digest }
    }

    fn rebuilt(txn: &Txn) -> Result<Txn, DecodeError> {
        Txn::from_bytes(&txn.to_bytes())
    }

    /// `closeSessionTxn.enabled=false`: twelve bytes of digest stand where a list would.
    #[test]
    fn a_close_session_without_a_list_is_told_from_one_with_a_list() {
        for digest in [None, Some(0x51c6_d660), Some(-1), Some(1 << 62)] {
            for paths in [None, Some(vec![]), Some(vec!["/a".to_owned(), "/b".to_owned()])] {
                let txn = txn(TxnBody::CloseSession { paths }, digest);
                assert_eq!(rebuilt(&txn), Ok(txn));
            }
        }
    }

    /// Logs of 3.3.
    #[test]
    fn a_create_without_a_parent_cversion_is_read() {
        let acl = vec![Acl::open()];
        let create = CreateTxn { path: "/a".into(), data: None, acl, ephemeral: true, parent_cversion: -1 };
        let full = txn(TxnBody::Create(create), None);
        let mut bytes = full.to_bytes();
        bytes.truncate(bytes.len() - 4);
        assert_eq!(Txn::from_bytes(&bytes), Ok(full));
    }

    #[test]
    fn a_multi_holds_only_what_a_tree_can_apply() {
        let inner = TxnBody::Multi(vec![]);
        let session = TxnBody::CloseSession { paths: None };
        let set_acl = TxnBody::SetAcl(SetAclTxn { path: "/a".into(), acl: vec![Acl::open()], version: 1 });
        for sub in [inner, session, set_acl] {
            let multi = txn(TxnBody::Multi(vec![sub]), None);
            assert!(rebuilt(&multi).is_err(), "{multi:?}");
        }
        let delete = TxnBody::Delete(DeleteTxn { path: String::new() });
        let multi = txn(TxnBody::Multi(vec![delete, TxnBody::Error(ErrorTxn { err: -2 })]), Some(1));
        assert_eq!(rebuilt(&multi), Ok(multi));
    }

    #[test]
    fn a_bare_check_of_a_3_8_0_leader_is_read() {
        let check = txn(TxnBody::Check(CheckTxn { path: "/a".into(), version: 4 }), Some(9));
        assert_eq!(rebuilt(&check), Ok(check));
    }

    #[test]
    fn an_unknown_transaction_type_is_an_error() {
        let mut bytes = txn(TxnBody::Error(ErrorTxn { err: -5 }), None).to_bytes();
        bytes[31] = 0x7f;
        assert!(matches!(Txn::from_bytes(&bytes), Err(DecodeError::Unknown { .. })));
    }
}
