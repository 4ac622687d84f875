//! What a znode is made of on the wire: `Stat`, ACLs, and the persisted stat of logs and snapshots.

use super::{SessionId, Zxid};
use crate::jute::record;

record! {
    /// Who: a scheme and an id in it, such as `ip`, `127.0.0.1`.
    Id { scheme: String, id: String }

    /// One entry of an access control list.
    Acl {
        /// Bits of [`perms`].
        perms: i32,
        id: Id,
    }

    /// A znode's stat as clients see it (68 bytes).
    Stat {
        czxid: Zxid,
        mzxid: Zxid,
        /// Milliseconds since 1970 UTC, by the leader's clock.
        ctime: i64,
        /// Milliseconds since 1970 UTC, by the leader's clock.
        mtime: i64,
        version: i32,
        /// Creates and deletes of children: `2 * persisted - num_children`.
        cversion: i32,
        aversion: i32,
        /// The owner's session, 0 for persistent, container and TTL nodes.
        ephemeral_owner: i64,
        /// Bytes; 0 for null data.
        data_length: i32,
        num_children: i32,
        pzxid: Zxid,
    }

    /// A znode's stat as logs' snapshots hold it (60 bytes).
    StatPersisted {
        czxid: Zxid,
        mzxid: Zxid,
        ctime: i64,
        mtime: i64,
        version: i32,
        /// The number of children ever created; deletes do not touch it.
        cversion: i32,
        aversion: i32,
        /// Session id, [`CONTAINER_OWNER`], or [`TTL_OWNER_PREFIX`] `| ttl`.
        ephemeral_owner: i64,
        pzxid: Zxid,
    }
}

/// Permission bits of an ACL entry.
pub mod perms {
    pub const READ: i32 = 1;
    pub const WRITE: i32 = 2;
    pub const CREATE: i32 = 4;
    pub const DELETE: i32 = 8;
    pub const ADMIN: i32 = 16;
    pub const ALL: i32 = 31;
}

/// The stored owner of a container node.
pub const CONTAINER_OWNER: i64 = i64::MIN;
/// The top byte of a TTL node's stored owner; the low 40 bits are the TTL in ms.
pub const TTL_OWNER_PREFIX: i64 = 0xff00_0000_0000_0000_u64 as i64;
/// The largest TTL, in ms.
pub const TTL_MS_MAX: i64 = (1 << 40) - 1;

/// What kind of znode a stored owner stands for. ZooKeeper: `EphemeralType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Persistent,
    Ephemeral(SessionId),
    Container,
    /// Removed some time after `ttl_ms` without a change and without children.
    Ttl {
        ttl_ms: i64,
    },
}

impl Owner {
    /// Reads the stored owner; the TTL form counts only where extended types are on.
    pub fn from_stored(stored: i64, extended_types: bool) -> Owner {
        match stored {
            0 => Owner::Persistent,
            CONTAINER_OWNER => Owner::Container,
            ttl if extended_types && ttl & TTL_OWNER_PREFIX == TTL_OWNER_PREFIX => {
                Owner::Ttl { ttl_ms: ttl & TTL_MS_MAX }
            }
            session => Owner::Ephemeral(SessionId(session)),
        }
    }

    /// The number in logs, snapshots and the tree digest.
    pub fn stored(self) -> i64 {
        match self {
            Owner::Persistent => 0,
            Owner::Ephemeral(session) => session.0,
            Owner::Container => CONTAINER_OWNER,
            Owner::Ttl { ttl_ms } => TTL_OWNER_PREFIX | ttl_ms,
        }
    }

    /// The number that clients see.
    pub fn shown(self) -> i64 {
        match self {
            Owner::Ephemeral(session) => session.0,
            _ => 0,
        }
    }
}

impl Id {
    pub fn new(scheme: &str, id: &str) -> Id {
        Id { scheme: scheme.into(), id: id.into() }
    }
    pub fn world_anyone() -> Id {
        Id::new("world", "anyone")
    }
}

impl Acl {
    /// `world:anyone` with every permission.
    pub fn open() -> Acl {
        Acl { perms: perms::ALL, id: Id::world_anyone() }
    }
}
