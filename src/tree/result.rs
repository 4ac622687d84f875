//! What applying a transaction gives: a result for the client that asked, and the changes that watches wait for.

use crate::records::{Acl, ErrorCode, Stat, Zxid};
use std::sync::Arc;

/// The outcome of a transaction. An error is an answer for the client, never a failure of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnResult<'t> {
    Ok(ResultBody<'t>),
    Error(ErrorCode),
}

/// What there is to tell of a transaction that was applied; paths are those of the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultBody<'t> {
    CreateSession {
        timeout_ms: i32,
    },
    CloseSession,
    /// All kinds of create.
    Create {
        path: &'t str,
        stat: Stat,
    },
    /// `delete` and `deleteContainer`.
    Delete,
    SetData {
        stat: Stat,
    },
    /// The stat of `/zookeeper/config`, whose data is the new configuration.
    Reconfig {
        stat: Stat,
    },
    SetAcl {
        stat: Stat,
    },
    Check,
    /// One for each operation, in order. Of a failed multi: [`ResultBody::NotApplied`] before the operation that
    /// failed, its error, and `RuntimeInconsistency` behind it.
    Multi(Vec<TxnResult<'t>>),
    /// An operation of a failed multi before the one that failed; the client is told error 0.
    NotApplied,
}

/// What happened to a znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Created,
    Deleted,
    DataChanged,
}

/// A change of one znode, as watches see it; a changed ACL is none.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub kind: ChangeKind,
    /// The root is `/`.
    pub path: &'a str,
    pub zxid: Zxid,
    /// The znode's ACL; of a deleted one, the ACL it had.
    pub acl: &'a Arc<[Acl]>,
    /// The ACL of the parent, whose list of children a create or delete changes; of the root, its own.
    pub parent_acl: &'a Arc<[Acl]>,
}
