//! What the tests of the storage layer share: sinks, transactions, and directories on disks of both kinds.

#![allow(dead_code, reason = "each test binary uses its own part")]

use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use zabkit::jute::Record;
use zabkit::records::{CreateTxn, SessionId, SnapshotItem, SnapshotNode, StatPersisted, Txn, TxnBody, Zxid};
use zabkit::sim::disk::SimDisk;
use zabkit::storage::{
    Disk, Recovered, RecoverySink, SnapshotDigest, SnapshotWriter, Storage, StorageConfig, StorageError,
};
use zabkit::tree::{DataTree, TreeLoader};

/// The directory of the simulated server.
pub const DIR: &str = "/data";

pub fn config() -> StorageConfig {
    StorageConfig { pre_alloc_bytes: 4 << 10, ..StorageConfig::new(DIR) }
}

/// A file in `version-2` of the simulated server.
pub fn file(name: &str) -> PathBuf {
    Path::new(DIR).join("version-2").join(name)
}

/// Remembers what a directory holds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Collected {
    /// Paths of the snapshot's znodes, and the zxid it is for.
    pub nodes: Vec<String>,
    pub snapshot: Option<Zxid>,
    pub txns: Vec<(Zxid, Bytes)>,
}

impl Collected {
    pub fn zxids(&self) -> Vec<i64> {
        self.txns.iter().map(|(zxid, _)| zxid.0).collect()
    }

    /// The history as a set of zxids: the snapshot stands for all up to its own.
    pub fn holds(&self, zxid: Zxid) -> bool {
        self.snapshot.is_some_and(|snapshot| snapshot >= zxid) || self.txns.iter().any(|(z, _)| *z == zxid)
    }
}

impl RecoverySink for Collected {
    fn begin(&mut self) {
        *self = Collected::default();
    }
    fn item(&mut self, item: SnapshotItem) -> Result<(), String> {
        if let SnapshotItem::Node(node) = item {
            self.nodes.push(node.path);
        }
        Ok(())
    }
    fn snapshot_done(&mut self, zxid: Zxid, _: SnapshotDigest) -> Result<(), String> {
        self.snapshot = Some(zxid);
        Ok(())
    }
    fn txn(&mut self, txn: Txn, bytes: Bytes) -> Result<(), String> {
        assert_eq!(txn.to_bytes(), bytes, "a transaction and its bytes differ");
        self.txns.push((txn.zxid, bytes));
        Ok(())
    }
}

/// Makes a tree of what a directory holds.
#[derive(Default)]
pub struct Tree {
    loader: TreeLoader,
    pub tree: DataTree,
    pub sessions: BTreeMap<SessionId, i32>,
    /// Transactions whose digest was there and was that of the tree.
    pub digests_compared: usize,
    /// From this zxid on the digests must fit.
    pub compare_from: Zxid,
}

impl RecoverySink for Tree {
    fn begin(&mut self) {
        (self.loader, self.tree) = (TreeLoader::new(), DataTree::new());
    }
    fn item(&mut self, item: SnapshotItem) -> Result<(), String> {
        self.loader.push(item).map_err(|error| error.to_string())
    }
    fn snapshot_done(&mut self, zxid: Zxid, digest: SnapshotDigest) -> Result<(), String> {
        let loaded = std::mem::take(&mut self.loader).finish().map_err(|error| error.to_string())?;
        (self.tree, self.sessions) = loaded;
        self.compare_from = digest.map_or(zxid, |(zxid, _)| zxid);
        Ok(())
    }
    fn txn(&mut self, txn: Txn, _: Bytes) -> Result<(), String> {
        self.tree.apply(txn.session, txn.zxid, txn.time_ms, &txn.body, &mut |_| {});
        if let Some(digest) = txn.digest.filter(|_| txn.zxid > self.compare_from) {
            if self.tree.digest() != digest.digest {
                return Err(format!("digest {:#x} after {}", self.tree.digest(), txn.zxid));
            }
            self.digests_compared += 1;
        }
        Ok(())
    }
}

/// A transaction whose bytes are long enough to be torn in interesting ways.
pub fn txn(zxid: i64) -> (Zxid, Bytes) {
    txn_of(zxid, 40)
}

pub fn txn_of(zxid: i64, data_len: usize) -> (Zxid, Bytes) {
    let data = Some(vec![0xA0 | (zxid as u8 & 0xf); data_len]);
    let create = CreateTxn { path: format!("/n{zxid}"), data, acl: vec![], ephemeral: false, parent_cversion: 1 };
    let txn = Txn {
        session: SessionId(1),
        cxid: 1,
        zxid: Zxid(zxid),
        time_ms: 1_700_000_000_000,
        body: TxnBody::Create(create),
        digest: None,
    };
    (Zxid(zxid), Bytes::from(txn.to_bytes()))
}

pub fn txns(zxids: impl IntoIterator<Item = i64>) -> Vec<(Zxid, Bytes)> {
    zxids.into_iter().map(txn).collect()
}

/// The body of a small snapshot: the root and one node that tells which it is.
pub fn body(zxid: Zxid, tag: &str) -> Vec<u8> {
    let node = |path: &str| {
        let stat = StatPersisted {
            czxid: Zxid(0),
            mzxid: Zxid(0),
            ctime: 0,
            mtime: 0,
            version: 0,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: 0,
            pzxid: Zxid(0),
        };
        SnapshotItem::Node(SnapshotNode { path: path.into(), data: Some(vec![7; 300]), acl_key: -1, stat })
    };
    let items = [
        SnapshotItem::SessionCount(0),
        SnapshotItem::AclCount(0),
        node(""),
        node(&format!("/{tag}-{zxid}")),
        SnapshotItem::End,
    ];
    let mut out = Vec::new();
    items.iter().for_each(|item| item.write(&mut out));
    out
}

pub fn open<D: Disk>(disk: &D, config: StorageConfig) -> Result<(Storage<D>, Recovered, Collected), StorageError> {
    let mut sink = Collected::default();
    Storage::open(disk.clone(), config, &mut sink).map(|(storage, recovered)| (storage, recovered, sink))
}

pub fn open_sim(disk: &SimDisk) -> Result<(Storage<SimDisk>, Recovered, Collected), StorageError> {
    open(disk, config())
}

pub fn write_body<D: Disk>(storage: &Storage<D>, zxid: Zxid, tag: &str) -> Result<SnapshotWriter<D>, StorageError> {
    let mut writer = storage.begin_snapshot(zxid)?;
    writer.write(&body(zxid, tag))?;
    Ok(writer)
}

pub fn snapshot<D: Disk>(storage: &Storage<D>, zxid: Zxid) -> Result<PathBuf, StorageError> {
    write_body(storage, zxid, "own")?.finish(None)
}

/// A server that has just been made, with its snapshot of the empty tree.
pub fn fresh(disk: &SimDisk) -> Storage<SimDisk> {
    let (storage, recovered, _) = open_sim(disk).expect("an empty directory opens");
    assert!(recovered.was_empty && recovered.needs_snapshot);
    snapshot(&storage, Zxid::ZERO).expect("the first snapshot can be written");
    storage
}

/// A server with records 1 to 5 in `log.1`, after a clean end: the synced bound covers all of it.
pub fn closed() -> SimDisk {
    let disk = SimDisk::new();
    let mut storage = fresh(&disk);
    storage.append(&txns(1..=5)).unwrap();
    storage.close().unwrap();
    disk
}

/// As [`closed`], as Apache would leave it: without a bound.
pub fn foreign() -> SimDisk {
    let disk = SimDisk::new();
    for (path, bytes) in closed().files() {
        if !path.ends_with("zabkit.synced") {
            disk.put(&path, &bytes);
        }
    }
    disk
}

/// A log as another server writes it.
pub fn log_of_others(txns: &[(Zxid, bytes::Bytes)]) -> Vec<u8> {
    let mut log = Vec::new();
    0x5a4b_4c47_i32.write(&mut log);
    2i32.write(&mut log);
    0i64.write(&mut log);
    for (_, txn) in txns {
        i64::from(simd_adler32::adler32(&txn.as_ref())).write(&mut log);
        (txn.len() as i32).write(&mut log);
        log.extend_from_slice(txn);
        log.push(b'B');
    }
    log
}

/// The last zxid that another server finds: zabkit's own files are nothing to it, nor are its epochs looked at here.
pub fn last_of_others(disk: &SimDisk) -> Zxid {
    let copy = SimDisk::new();
    for (path, bytes) in disk.files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.starts_with("zabkit.") && !name.contains("Epoch") {
            copy.put(&path, &bytes);
        }
    }
    open_sim(&copy).expect("others open the directory too").1.last_zxid
}
