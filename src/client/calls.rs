//! What a host may ask for, borrowed from the caller; and its bytes on the wire.

use super::events::State;
use crate::jute::{Record, write_buffer, write_string};
use crate::records::{Acl, JUTE_MAX_BUFFER, MultiHeader, PathError, RequestHeader, is_write, op, validate_path};

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
    Create { path: &'a str, data: Option<&'a [u8]>, acl: &'a [Acl], mode: CreateMode, stat: bool },
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
    Ttl {
        ttl_ms: i64,
    },
    SequentialTtl {
        ttl_ms: i64,
    },
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
    Path {
        path: String,
        #[source]
        source: PathError,
    },
    #[error("the request takes {length} bytes, more than the {limit} that servers accept (jute.maxbuffer)")]
    TooLong { length: usize, limit: usize },
    /// Too many calls wait for their answers: await some of them first.
    #[error("{calls} calls with {bytes} bytes are not answered yet: too many to take another")]
    Full { calls: usize, bytes: usize },
    /// The session is closed, is being closed, or has been refused for its `add_auth`.
    #[error("the session is over ({0:?})")]
    Over(State),
}

impl Call<'_> {
    /// The operation's code.
    pub fn op(&self) -> i32 {
        match self {
            Call::Create { mode, stat, .. } => mode.op(*stat),
            Call::Delete { .. } => op::DELETE,
            Call::Exists { .. } => op::EXISTS,
            Call::Get { .. } => op::GET_DATA,
            Call::Set { .. } => op::SET_DATA,
            Call::GetAcl { .. } => op::GET_ACL,
            Call::SetAcl { .. } => op::SET_ACL,
            Call::Children { stat: false, .. } => op::GET_CHILDREN,
            Call::Children { stat: true, .. } => op::GET_CHILDREN2,
            Call::Sync { .. } => op::SYNC,
            Call::Multi { .. } => op::MULTI,
            Call::MultiRead { .. } => op::MULTI_READ,
            Call::AddWatch { .. } => op::ADD_WATCH,
            Call::Ephemerals { .. } => op::GET_EPHEMERALS,
            Call::ChildrenNumber { .. } => op::GET_ALL_CHILDREN_NUMBER,
            Call::WhoAmI => op::WHO_AM_I,
            Call::Reconfig { .. } => op::RECONFIG,
        }
    }

    /// Whether its outcome is unknown when the link breaks. All others are sent again.
    pub fn is_write(&self) -> bool {
        is_write(self.op())
    }

    /// The watch that the answer sets.
    pub fn watch(&self) -> Option<WatchId> {
        match self {
            Call::Exists { watch, .. } | Call::Get { watch, .. } | Call::Children { watch, .. } => *watch,
            Call::AddWatch { watch, .. } => Some(*watch),
            _ => None,
        }
    }

    /// Appends the whole frame to `out`; nothing if it is refused.
    pub(super) fn write_frame(&self, chroot: &str, xid: i32, out: &mut Vec<u8>) -> Result<(), CallError> {
        let start = out.len();
        let mut frame = Frame { out, chroot, skipped: 0 };
        frame.out.extend_from_slice(&[0; 4]);
        RequestHeader { xid, op: self.op() }.write(frame.out);
        let body = frame.body(self);
        let length = frame.out.len() - start - 4 + frame.skipped;
        let written = match body {
            Ok(()) if length > JUTE_MAX_BUFFER => Err(CallError::TooLong { length, limit: JUTE_MAX_BUFFER }),
            written => written,
        };
        match written {
            Ok(()) => out[start..start + 4].copy_from_slice(&(length as i32).to_be_bytes()),
            Err(_) => out.truncate(start),
        }
        written
    }
}

impl CreateMode {
    fn op(self, stat: bool) -> i32 {
        match self {
            CreateMode::Container => op::CREATE_CONTAINER,
            CreateMode::Ttl { .. } | CreateMode::SequentialTtl { .. } => op::CREATE_TTL,
            _ if stat => op::CREATE2,
            _ => op::CREATE,
        }
    }

    fn flags(self) -> i32 {
        match self {
            CreateMode::Persistent => 0,
            CreateMode::Ephemeral => 1,
            CreateMode::PersistentSequential => 2,
            CreateMode::EphemeralSequential => 3,
            CreateMode::Container => 4,
            CreateMode::Ttl { .. } => 5,
            CreateMode::SequentialTtl { .. } => 6,
        }
    }

    fn ttl_ms(self) -> Option<i64> {
        match self {
            CreateMode::Ttl { ttl_ms } | CreateMode::SequentialTtl { ttl_ms } => Some(ttl_ms),
            _ => None,
        }
    }

    fn is_sequential(self) -> bool {
        matches!(
            self,
            CreateMode::PersistentSequential | CreateMode::EphemeralSequential | CreateMode::SequentialTtl { .. }
        )
    }
}

/// The longest data that is copied before the size of the whole is known.
const COPY_MAX: usize = JUTE_MAX_BUFFER;

/// A frame as it is written.
struct Frame<'o> {
    out: &'o mut Vec<u8>,
    chroot: &'o str,
    /// Bytes that were not even copied: the frame is too long.
    skipped: usize,
}

impl Frame<'_> {
    fn body(&mut self, call: &Call<'_>) -> Result<(), CallError> {
        match *call {
            Call::Create { path, data, acl, mode, stat: _ } => self.create(path, data, acl, mode)?,
            Call::Delete { path, version } => self.path_version(path, version)?,
            Call::Exists { path, watch } | Call::Get { path, watch } | Call::Children { path, watch, .. } => {
                self.path(path)?;
                watch.is_some().write(self.out);
            }
            Call::Set { path, data, version } => self.set(path, data, version)?,
            Call::SetAcl { path, acl, version } => {
                self.path(path)?;
                self.acl(acl);
                version.write(self.out);
            }
            Call::GetAcl { path } | Call::Sync { path } | Call::ChildrenNumber { path } => self.path(path)?,
            Call::Ephemerals { prefix } => self.path(prefix)?,
            Call::Multi { ops } => {
                for each in ops {
                    self.write_op(each)?;
                }
                MULTI_END.write(self.out);
            }
            Call::MultiRead { ops } => {
                for each in ops {
                    let (kind, path) = match *each {
                        ReadOp::Get { path } => (op::GET_DATA, path),
                        ReadOp::Children { path } => (op::GET_CHILDREN, path),
                    };
                    MultiHeader { kind, done: false, err: -1 }.write(self.out);
                    self.path(path)?;
                    false.write(self.out);
                }
                MULTI_END.write(self.out);
            }
            Call::AddWatch { path, recursive, watch: _ } => {
                self.path(path)?;
                i32::from(recursive).write(self.out);
            }
            Call::WhoAmI => {}
            Call::Reconfig { joining, leaving, new_members, current_config } => {
                for text in [joining, leaving, new_members] {
                    self.buffer(text.map(str::as_bytes));
                }
                current_config.write(self.out);
            }
        }
        Ok(())
    }

    fn write_op(&mut self, each: &WriteOp<'_>) -> Result<(), CallError> {
        let kind = match each {
            WriteOp::Create { mode, stat, .. } => mode.op(*stat),
            WriteOp::Delete { .. } => op::DELETE,
            WriteOp::Set { .. } => op::SET_DATA,
            WriteOp::Check { .. } => op::CHECK,
        };
        MultiHeader { kind, done: false, err: -1 }.write(self.out);
        match *each {
            WriteOp::Create { path, data, acl, mode, stat: _ } => self.create(path, data, acl, mode),
            WriteOp::Delete { path, version } | WriteOp::Check { path, version } => self.path_version(path, version),
            WriteOp::Set { path, data, version } => self.set(path, data, version),
        }
    }

    fn create(&mut self, path: &str, data: Option<&[u8]>, acl: &[Acl], mode: CreateMode) -> Result<(), CallError> {
        if mode.is_sequential() && path.ends_with(['/', '.']) {
            // Only the number makes it a path; `/` stays, or the number would be added to the chroot's own name.
            check(&format!("{path}1"))?;
            self.raw_path(path);
        } else {
            self.path(path)?;
        }
        self.buffer(data);
        self.acl(acl);
        mode.flags().write(self.out);
        if let Some(ttl_ms) = mode.ttl_ms() {
            ttl_ms.write(self.out);
        }
        Ok(())
    }

    fn set(&mut self, path: &str, data: Option<&[u8]>, version: i32) -> Result<(), CallError> {
        self.path(path)?;
        self.buffer(data);
        version.write(self.out);
        Ok(())
    }

    fn path_version(&mut self, path: &str, version: i32) -> Result<(), CallError> {
        self.path(path)?;
        version.write(self.out);
        Ok(())
    }

    /// The path with the chroot before it; the root below a chroot is the chroot itself.
    fn path(&mut self, path: &str) -> Result<(), CallError> {
        check(path)?;
        let is_chroot = path.len() == 1 && !self.chroot.is_empty();
        self.raw_path(if is_chroot { "" } else { path });
        Ok(())
    }

    fn raw_path(&mut self, path: &str) {
        ((self.chroot.len() + path.len()) as i32).write(self.out);
        self.out.extend_from_slice(self.chroot.as_bytes());
        self.out.extend_from_slice(path.as_bytes());
    }

    fn buffer(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) if bytes.len() > COPY_MAX => self.skipped += 4 + bytes.len(),
            bytes => write_buffer(bytes, self.out),
        }
    }

    fn acl(&mut self, acl: &[Acl]) {
        (acl.len() as i32).write(self.out);
        for entry in acl {
            entry.perms.write(self.out);
            write_string(&entry.id.scheme, self.out);
            write_string(&entry.id.id, self.out);
        }
    }
}

const MULTI_END: MultiHeader = MultiHeader { kind: -1, done: true, err: -1 };

fn check(path: &str) -> Result<(), CallError> {
    validate_path(path).map_err(|source| CallError::Path { path: path.to_owned(), source })
}
