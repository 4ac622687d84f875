//! What a host may ask for, borrowed from the caller; and its bytes on the wire.

use super::events::State;
use crate::jute::{Record, write_buffer, write_string};
use crate::records::{
    Acl, JUTE_MAX_BUFFER, MultiHeader, PathError, RequestHeader, is_write, op, validate_path,
};

/// A call's number: ascending in the order of the calls of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A watch's number, given by the host: a new one for each call that asks for a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// One call. Paths are below the chroot. `data: None` is null, which reads as no bytes.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// Answered with `Path`, or `PathStat` if `stat` is wanted or the mode is a container or has a TTL.
    Create {
        path: &'a str,
        data: Option<&'a [u8]>,
        acl: &'a [Acl],
        mode: CreateMode,
        stat: bool,
    },
    /// `version: -1` for any. Answered with `Empty`.
    Delete { path: &'a str, version: i32 },
    /// Answered with `Stat`, or `NoNode`, which sets the watch too.
    Exists { path: &'a str, watch: Option<WatchId> },
    /// Answered with `DataStat`.
    Get { path: &'a str, watch: Option<WatchId> },
    /// Answered with `Stat`.
    Set { path: &'a str, data: Option<&'a [u8]>, version: i32 },
    /// Answered with `AclStat`.
    GetAcl { path: &'a str },
    /// Answered with `Stat`. `version` is the `aversion`, -1 for any.
    SetAcl { path: &'a str, acl: &'a [Acl], version: i32 },
    /// Answered with `Children`, or `ChildrenStat` if `stat` is wanted.
    Children { path: &'a str, watch: Option<WatchId>, stat: bool },
    /// Answered with `Path`.
    Sync { path: &'a str },
    /// Answered with `Multi`, also if an operation failed.
    Multi { ops: &'a [WriteOp<'a>] },
    /// Answered with `Multi`.
    MultiRead { ops: &'a [ReadOp<'a>] },
    /// A watch that stays until it is forgotten or the session ends. Answered with `AddWatch`.
    AddWatch { path: &'a str, recursive: bool, watch: WatchId },
    /// The session's own ephemeral znodes whose paths begin so. Answered with `Ephemerals`.
    Ephemerals { prefix: &'a str },
    /// The number of all znodes below. Answered with `TotalNumber`.
    ChildrenNumber { path: &'a str },
    /// Answered with `WhoAmI`.
    WhoAmI,
    /// Answered with `DataStat`.
    Reconfig {
        joining: Option<&'a str>,
        leaving: Option<&'a str>,
        new_members: Option<&'a str>,
        /// Version of the configuration to be replaced, -1 for any.
        current_config: i64,
    },
}

/// What kind of znode a create makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CreateMode {
    #[default]
    Persistent,
    Ephemeral,
    PersistentSequential,
    EphemeralSequential,
    Container,
    /// Removed `ttl_ms` after its last change if it has no children.
    Ttl { ttl_ms: i64 },
    SequentialTtl { ttl_ms: i64 },
}

/// One operation of a multi.
#[derive(Clone, Copy, Debug)]
pub enum WriteOp<'a> {
    Create { path: &'a str, data: Option<&'a [u8]>, acl: &'a [Acl], mode: CreateMode, stat: bool },
    Delete { path: &'a str, version: i32 },
    Set { path: &'a str, data: Option<&'a [u8]>, version: i32 },
    Check { path: &'a str, version: i32 },
}

/// One operation of a multiRead.
#[derive(Clone, Copy, Debug)]
pub enum ReadOp<'a> {
    Get { path: &'a str },
    Children { path: &'a str },
}

/// Why a call is not even queued: it has not happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    #[error("{path:?} is not a path: {source}")]
    Path { path: String, #[source] source: PathError },
    #[error("the request takes {length} bytes, more than the {limit} that servers accept (jute.maxbuffer)")]
    TooLong { length: usize, limit: usize },
    /// Too many calls wait for their answers: await some of them first.
    #[error("{calls} calls with {bytes} bytes are not answered yet: too many to take another")]
    Full { calls: usize, bytes: usize },
    /// The session is closed, is being closed, or has been refused for its `add_auth`.
    #[error("the session is over ({0:?})")]
    Over(State),
}
