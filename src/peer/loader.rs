//! From bytes at rest to a database: the items of a snapshot, then the transactions of the log behind it.
//!
//! Transactions are replayed committed or not: what is in the log is history until a leader says otherwise.

use super::io::{Loaded, Proposal};
use crate::records::{DIGEST_VERSION, SessionId, SnapshotItem, Txn, TxnBody, Zxid};
use crate::tree::{DataTree, LoadError, TreeLoader};
use crate::zab::RECENT_COUNT;
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
    /// How many transactions are kept.
    recent_max: usize,
    /// The snapshot may hold effects of transactions up to the one behind this, so no earlier digest need fit. `None`:
    /// it does not say; from the first digest that fits on all must.
    exact_behind: Option<Zxid>,
    digest_mismatches: Vec<Zxid>,
    /// The last transaction that told a digest, if it was not that of the tree.
    diverged_at: Option<Zxid>,
}

impl DirectoryLoader {
    /// An empty database.
    pub fn new() -> Self {
        DirectoryLoader {
            snapshot: None,
            tree: DataTree::new(),
            sessions: BTreeMap::new(),
            recent: VecDeque::new(),
            recent_max: RECENT_COUNT,
            exact_behind: Some(Zxid(i64::MIN)),
            digest_mismatches: Vec::new(),
            diverged_at: None,
        }
    }

    /// An empty database that will keep `recent_max` transactions in memory.
    pub fn keeping(recent_max: usize) -> Self {
        DirectoryLoader { recent_max, ..Self::new() }
    }

    /// A snapshot candidate starts: what came before is void.
    pub fn begin(&mut self) {
        *self = Self::keeping(self.recent_max);
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

    /// The snapshot was taken while transactions went on, up to `zxid` and perhaps into the next one, which Apache
    /// counts when its changes are made: behind `zxid` the tree is exact again. `None`: the snapshot does not say how far.
    ///
    /// ZooKeeper: `DataTree.digestFromLoadedSnapshot`.
    pub fn exact_behind(&mut self, zxid: Option<Zxid>) {
        self.exact_behind = zxid;
    }

    /// The next transaction of the log, with its encoded bytes. One that comes again is replayed again, as by Apache's
    /// server, and makes no difference; it is no part of the history for learners.
    pub fn txn(&mut self, txn: Txn, bytes: Bytes) {
        let is_again = self.recent.back().is_some_and(|last| txn.zxid <= last.zxid());
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
        if is_again {
            return;
        }
        if let Some(told) = txn.digest.as_ref().filter(|told| told.version == DIGEST_VERSION) {
            let fits = told.digest == self.tree.digest();
            match self.exact_behind {
                None if fits => self.exact_behind = Some(txn.zxid),
                Some(exact) if txn.zxid > exact => {
                    self.diverged_at = (!fits).then_some(txn.zxid);
                    self.digest_mismatches.extend(self.diverged_at);
                }
                _ => {}
            }
        }
        if self.recent.len() >= self.recent_max.max(1) {
            self.recent.pop_front();
        }
        self.recent.push_back(Proposal { txn: Arc::new(txn), bytes });
    }

    /// Transactions whose digest is not that of the tree after them, where it should be: the tree has diverged.
    pub fn digest_mismatches(&self) -> &[Zxid] {
        &self.digest_mismatches
    }

    /// The last transaction with a digest, if the tree was another after it.
    pub fn diverged_at(&self) -> Option<Zxid> {
        self.diverged_at
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Epoch, ErrorTxn, TxnDigest};

    /// A transaction that changes nothing and tells a digest that does not fit.
    fn txn(counter: u32, version: i32) -> Txn {
        let digest = Some(TxnDigest { version, digest: 4711 });
        let body = TxnBody::Error(ErrorTxn { err: -101 });
        Txn { session: SessionId(1), cxid: 0, zxid: Zxid::new(Epoch(1), counter), time_ms: 0, body, digest }
    }

    #[test]
    fn a_digest_must_fit_only_behind_what_the_snapshot_may_hold_already() {
        let mut loader = DirectoryLoader::new();
        loader.exact_behind(Some(Zxid::new(Epoch(1), 2)));
        for counter in 1..=3 {
            loader.txn(txn(counter, DIGEST_VERSION), Bytes::new());
        }
        loader.txn(txn(4, 1), Bytes::new()); // Of a version that is computed otherwise.
        assert_eq!(loader.digest_mismatches(), [Zxid::new(Epoch(1), 3)]);
    }

    #[test]
    fn where_the_snapshot_does_not_say_digests_must_fit_from_the_first_that_does() {
        let mut loader = DirectoryLoader::new();
        loader.exact_behind(None);
        loader.txn(txn(1, DIGEST_VERSION), Bytes::new());
        let mut fits = txn(2, DIGEST_VERSION);
        fits.digest = Some(TxnDigest { version: DIGEST_VERSION, digest: loader.tree.digest() });
        loader.txn(fits, Bytes::new());
        loader.txn(txn(3, DIGEST_VERSION), Bytes::new());
        assert_eq!(loader.digest_mismatches(), [Zxid::new(Epoch(1), 3)]);
    }

    #[test]
    fn a_transaction_that_stands_in_the_log_again_is_none_of_those_kept_for_learners() {
        let mut loader = DirectoryLoader::new();
        for counter in [1, 2, 2, 1, 3] {
            loader.txn(txn(counter, 1), Bytes::new());
        }
        let kept: Vec<u32> = loader.finish(Zxid::ZERO).recent.iter().map(|kept| kept.zxid().counter()).collect();
        assert_eq!(kept, [1, 2, 3]);
    }
}
