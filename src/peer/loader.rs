//! From bytes at rest to a database: the items of a snapshot, then the transactions of the log behind it.
//!
//! Transactions are replayed committed or not: what is in the log is history until a leader says otherwise.

use super::io::{Loaded, Proposal};
use crate::records::{SessionId, SnapshotItem, Txn, TxnBody, Zxid};
use crate::tree::{DataTree, LoadError, TreeLoader};
use crate::zab::RECENT_MAX;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Builds what a SNAP stream holds.
pub struct SnapshotLoader {
    tree: TreeLoader,
}

impl std::fmt::Debug for SnapshotLoader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SnapshotLoader")
    }
}

impl SnapshotLoader {
    pub fn new() -> Self {
        SnapshotLoader { tree: TreeLoader::new() }
    }

    pub fn push(&mut self, item: SnapshotItem) -> Result<(), LoadError> {
        self.tree.push(item)
    }

    /// The state at `zxid`, after the end has been pushed.
    pub fn finish(self, zxid: Zxid) -> Result<Loaded, LoadError> {
        let (tree, sessions) = self.tree.finish()?;
        Ok(Loaded { tree, sessions, last_zxid: zxid, recent: Vec::new() })
    }
}

impl Default for SnapshotLoader {
    fn default() -> Self {
        Self::new()
    }
}

/// Builds what a data directory holds: [`begin`](Self::begin) (again for each candidate), items, transactions.
pub struct DirectoryLoader {
    snapshot: Option<TreeLoader>,
    tree: DataTree,
    sessions: BTreeMap<SessionId, i32>,
    recent: VecDeque<Proposal>,
    digest_mismatches: Vec<Zxid>,
}

impl DirectoryLoader {
    /// An empty database.
    pub fn new() -> Self {
        DirectoryLoader {
            snapshot: None,
            tree: DataTree::new(),
            sessions: BTreeMap::new(),
            recent: VecDeque::new(),
            digest_mismatches: Vec::new(),
        }
    }

    /// A snapshot candidate starts: what came before is void.
    pub fn begin(&mut self) {
        *self = Self::new();
        self.snapshot = Some(TreeLoader::new());
    }

    /// The next item of the snapshot.
    pub fn item(&mut self, item: SnapshotItem) -> Result<(), LoadError> {
        let is_end = item == SnapshotItem::End;
        let Some(loader) = &mut self.snapshot else { return Ok(()) };
        loader.push(item)?;
        if is_end && let Some(loader) = self.snapshot.take() {
            (self.tree, self.sessions) = loader.finish()?;
        }
        Ok(())
    }

    /// The next transaction of the log, with its encoded bytes.
    pub fn txn(&mut self, txn: Txn, bytes: Bytes) {
        // Errors are results: the same transaction failed, or was applied already, when it was first replayed.
        let _ = self.tree.apply(txn.session, txn.zxid, txn.time_ms, &txn.body, &mut |_| {});
        match &txn.body {
            TxnBody::CreateSession(create) => {
                self.sessions.insert(txn.session, create.timeout_ms);
            }
            TxnBody::CloseSession { .. } => {
                self.sessions.remove(&txn.session);
            }
            _ => {}
        }
        if txn.digest.as_ref().is_some_and(|digest| digest.digest != self.tree.digest()) {
            self.digest_mismatches.push(txn.zxid);
        }
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Proposal { txn: Arc::new(txn), bytes });
    }

    /// Transactions whose digest is not that of the tree after them; expected behind a fuzzy snapshot only.
    pub fn digest_mismatches(&self) -> &[Zxid] {
        &self.digest_mismatches
    }

    /// What has been loaded; `last_zxid` is that of the directory's last transaction or snapshot.
    pub fn finish(self, last_zxid: Zxid) -> Loaded {
        Loaded { tree: self.tree, sessions: self.sessions, last_zxid, recent: self.recent.into() }
    }
}

impl Default for DirectoryLoader {
    fn default() -> Self {
        Self::new()
    }
}
