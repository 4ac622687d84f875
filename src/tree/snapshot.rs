//! Skeleton.

use super::DataTree;
use crate::records::{SessionId, SnapshotItem};
use std::collections::BTreeMap;

/// Names a snapshot under way. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CursorId(pub u64);

/// Why the items of a snapshot are not a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A znode comes before its parent.
    #[error("the snapshot has {path:?} before its parent")]
    NoParent { path: String },
    /// A znode comes twice.
    #[error("the snapshot has {path:?} twice")]
    Duplicate { path: String },
    /// The snapshot has ended without the end mark, or goes on behind it.
    #[error("the snapshot has no end where it should")]
    NotEnded,
    /// There is not even a root.
    #[error("the snapshot has no root znode")]
    NoRoot,
}

/// Builds a tree from the items of a snapshot.
#[derive(Default)]
pub struct TreeLoader {}

impl TreeLoader {
    pub fn new() -> TreeLoader {
        TreeLoader {}
    }
    /// Takes the next item of the body.
    pub fn push(&mut self, item: SnapshotItem) -> Result<(), LoadError> {
        todo!()
    }
    /// The tree and the sessions (timeouts in ms), once the end has been pushed.
    pub fn finish(self) -> Result<(DataTree, BTreeMap<SessionId, i32>), LoadError> {
        todo!()
    }
}
