//! From a data directory to a database: what [`Storage`](crate::storage::Storage) reads goes into the peer's loader.

use crate::peer::DirectoryLoader;
use crate::peer::io::Loaded;
use crate::records::{SnapshotItem, Txn, Zxid};
use crate::storage::{RecoverySink, SnapshotDigest};
use bytes::Bytes;

/// Builds a database from what a directory holds.
pub struct Loading {
    loader: DirectoryLoader,
}

impl Loading {
    /// Keeps so many transactions for learners.
    pub fn new(recent_max: usize) -> Loading {
        Loading { loader: DirectoryLoader::keeping(recent_max) }
    }

    pub fn finish(self, last_zxid: Zxid) -> Loaded {
        if let [first, ..] = self.loader.digest_mismatches() {
            let count = self.loader.digest_mismatches().len();
            tracing::warn!(
                "Digests are not matching. Value is Zxid. {first} (and {} more) while the log was replayed",
                count - 1
            );
        }
        if let Some(zxid) = self.loader.snapshot_differs_at() {
            tracing::warn!("Digests are not matching. Value is Zxid. {zxid}: the snapshot's is not that of its tree");
        }
        self.loader.finish(last_zxid)
    }
}

impl RecoverySink for Loading {
    fn begin(&mut self) {
        self.loader.begin();
    }

    fn item(&mut self, item: SnapshotItem) -> Result<(), String> {
        self.loader.item(item).map_err(|error| error.to_string())
    }

    fn snapshot_done(&mut self, zxid: Zxid, digest: SnapshotDigest) -> Result<(), String> {
        self.loader.snapshot_digest(zxid, digest);
        Ok(())
    }

    fn txn(&mut self, txn: Txn, bytes: Bytes) -> Result<(), String> {
        self.loader.txn(txn, bytes);
        Ok(())
    }
}
