//! From bytes at rest to a database: the items of a snapshot, then the transactions of the log behind it.
//!
//! Transactions are replayed committed or not: what is in the log is history until a leader says otherwise.

use super::digests::{Digests, Said};
use super::io::{Loaded, Proposal};
use crate::records::{SessionId, SnapshotItem, Txn, TxnBody, Zxid};
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
        let digests = Digests::behind_the_first_that_fits();
        Ok(Loaded { tree, sessions, last_zxid: zxid, recent: Vec::new(), digests })
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
    digests: Digests,
    digest_mismatches: Vec<Zxid>,
    /// The digest that the snapshot tells, of the tree behind this transaction.
    of_snapshot: Option<(Zxid, i64)>,
    snapshot_differs_at: Option<Zxid>,
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
            digests: Digests::exact(),
            digest_mismatches: Vec::new(),
            of_snapshot: None,
            snapshot_differs_at: None,
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

    /// The snapshot as of `file` is complete, and tells this digest (`None`: none that can be compared). Without a zxid
    /// it is one of ours: of the tree as it was written. Else transactions went on meanwhile, up to that one and perhaps
    /// into the next, which Apache counts when its changes are made: behind that the tree is exact again.
    ///
    /// ZooKeeper: `DataTree.deserializeZxidDigest`.
    pub fn snapshot_digest(&mut self, file: Zxid, told: Option<(Zxid, i64)>) {
        self.digests = match told {
            None => Digests::behind_the_first_that_fits(),
            Some((Zxid::ZERO, digest)) => {
                let mut digests = Digests::exact();
                if digest != self.tree.digest() {
                    digests.set_file_wrong(file);
                    self.snapshot_differs_at = Some(file);
                }
                digests
            }
            Some((zxid, _)) if zxid < file => Digests::behind_the_first_that_fits(),
            Some((zxid, _)) => {
                self.of_snapshot = told;
                self.compare_with_snapshot(file);
                Digests::behind(zxid)
            }
        };
    }

    /// As Apache does. Its next transaction may be in the snapshot in part, so that this proves nothing.
    fn compare_with_snapshot(&mut self, zxid: Zxid) {
        if let Some((at, digest)) = self.of_snapshot.filter(|(at, _)| *at <= zxid) {
            self.of_snapshot = None;
            self.snapshot_differs_at = (at == zxid && digest != self.tree.digest()).then_some(at);
        }
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
        self.compare_with_snapshot(txn.zxid);
        if self.digests.compare(&txn, self.tree.digest(), false) == Said::Differs {
            self.digest_mismatches.push(txn.zxid);
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

    /// Behind which transaction the tree is not what the snapshot tells: as of that one it was written otherwise.
    pub fn snapshot_differs_at(&self) -> Option<Zxid> {
        self.snapshot_differs_at
    }

    /// What has been loaded; `last_zxid` is that of the directory's last transaction or snapshot.
    pub fn finish(mut self, last_zxid: Zxid) -> Loaded {
        self.digests.set_replayed();
        Loaded {
            tree: self.tree,
            sessions: self.sessions,
            last_zxid,
            recent: self.recent.into(),
            digests: self.digests,
        }
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
    use crate::records::{DIGEST_VERSION, Epoch, ErrorTxn, TxnDigest};

    /// A transaction that changes nothing and tells a digest that does not fit.
    fn txn(counter: u32, version: i32) -> Txn {
        let digest = Some(TxnDigest { version, digest: 4711 });
        let body = TxnBody::Error(ErrorTxn { err: -101 });
        Txn { session: SessionId(1), cxid: 0, zxid: Zxid::new(Epoch(1), counter), time_ms: 0, body, digest }
    }

    #[test]
    fn a_digest_must_fit_only_behind_what_the_snapshot_may_hold_already() {
        let mut loader = DirectoryLoader::new();
        loader.snapshot_digest(Zxid(0), Some((Zxid::new(Epoch(1), 2), 0)));
        for counter in 1..=3 {
            loader.txn(txn(counter, DIGEST_VERSION), Bytes::new());
        }
        loader.txn(txn(4, 1), Bytes::new()); // Of a version that is computed otherwise.
        assert_eq!(loader.digest_mismatches(), [Zxid::new(Epoch(1), 3)]);
    }

    #[test]
    fn where_the_snapshot_does_not_say_digests_must_fit_from_the_first_that_does() {
        let mut loader = DirectoryLoader::new();
        loader.snapshot_digest(Zxid(0), None);
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

    /// Its seals fit: whoever wrote them, it was not the server that has written the digest.
    #[test]
    fn a_snapshot_of_ours_that_has_changed_is_told_from_a_good_one() {
        let good = DataTree::new().digest();
        for (told, differs) in [(good, false), (good + 1, true)] {
            let mut loader = DirectoryLoader::new();
            loader.snapshot_digest(Zxid(7), Some((Zxid::ZERO, told)));
            assert_eq!(loader.snapshot_differs_at(), differs.then_some(Zxid(7)));
            let mut fits = txn(9, DIGEST_VERSION);
            fits.digest = Some(TxnDigest { version: DIGEST_VERSION, digest: good });
            assert_eq!(loader.digests.is_file_wrong(), differs);
            loader.txn(fits, Bytes::new());
            let digests = loader.finish(Zxid(9)).digests;
            assert_eq!((digests.is_file_wrong(), digests.misfits()), (false, None), "a transaction says it is right");
        }
    }

    /// ZooKeeper: `DataTree.compareSnapshotDigests`.
    #[test]
    fn a_snapshot_of_apaches_is_compared_where_it_ended() {
        let good = DataTree::new().digest();
        let at = Zxid::new(Epoch(1), 2);
        for (told, differs) in [(good, None), (good + 1, Some(at))] {
            let mut loader = DirectoryLoader::new();
            loader.snapshot_digest(Zxid(0), Some((at, told)));
            for counter in 1..=3 {
                assert_eq!(loader.snapshot_differs_at(), differs.filter(|_| counter > 2));
                loader.txn(txn(counter, 1), Bytes::new());
            }
            let digests = loader.finish(at).digests;
            assert_eq!((digests.is_file_wrong(), digests.misfits()), (false, None), "it may hold more than it says");
        }
    }
}
