//! The tree as it will be when every proposal in flight has been applied: change records over the committed tree.
//!
//! The one thing that is easy to get wrong: the digest that a transaction carries is predicted here, so each record
//! must follow the very stat rules of [`DataTree::apply`]. A node's digest is a CRC over path, data and stat; the CRC
//! of the first two is kept, so that no record holds data.
//!
//! ZooKeeper: `ZooKeeperServer.outstandingChanges`, `ChangeRecord`.

use super::Database;
use crate::records::{Acl, DIGEST_VERSION, ErrorCode, Owner, SessionId, StatPersisted, TxnDigest, Zxid};
use crate::tree::DataTree;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Lines about quotas that are kept until the leader takes them.
const EXCEEDED_MAX: usize = 8;

/// The changes of proposals that are not applied yet, and the tree's digest after them. Leader only.
///
/// Bounded by the number of proposals in flight, which the leader bounds.
pub struct InFlight {
    /// The newest record of each path that has one; the root's path is `""`. Only ever looked up.
    newest: HashMap<Arc<str>, ChangeRecord>,
    /// The paths whose newest record is an ephemeral of the session. Its end asks for these alone: with a look at
    /// everything in flight, many sessions that end together would cost the square of their number.
    owned: BTreeMap<SessionId, BTreeSet<Arc<str>>>,
    /// Each record made, oldest first, so that they can be retired.
    made: VecDeque<(Zxid, Arc<str>)>,
    /// What the records of the request at hand replaced, so that they can be taken back.
    undo: Vec<(Arc<str>, Option<ChangeRecord>)>,
    /// The tree's digest after everything in flight.
    digest: i64,
    /// Quotas whose limits a request went beyond, as lines of a log.
    exceeded: Vec<String>,
    open_acl: Arc<[Acl]>,
}

struct ChangeRecord {
    zxid: Zxid,
    /// `None`: deleted.
    node: Option<FutureNode>,
}

impl ChangeRecord {
    /// The session whose ephemeral this is.
    fn session(&self) -> Option<SessionId> {
        match self.node.as_ref()?.owner() {
            Owner::Ephemeral(session) => Some(session),
            _ => None,
        }
    }
}

/// A node as it will be.
#[derive(Clone)]
pub(super) struct FutureNode {
    pub stat: StatPersisted,
    pub child_count: i32,
    /// Of its data, in bytes.
    pub data_len: usize,
    pub acl: Arc<[Acl]>,
    /// CRC of path and data; `None` while nobody needed it.
    crc: Option<u32>,
    digest: u32,
}

impl FutureNode {
    pub fn owner(&self) -> Owner {
        Owner::from_stored(self.stat.ephemeral_owner, true)
    }

    /// A node made by a create: no children, versions 0.
    pub fn created(zxid: Zxid, time_ms: i64, owner: Owner, acl: Arc<[Acl]>) -> FutureNode {
        let stat = StatPersisted {
            czxid: zxid,
            mzxid: zxid,
            ctime: time_ms,
            mtime: time_ms,
            version: 0,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: owner.stored(),
            pzxid: zxid,
        };
        FutureNode { stat, child_count: 0, data_len: 0, acl, crc: None, digest: 0 }
    }
}

/// Whose data a changed node has.
#[derive(Clone, Copy)]
pub(super) enum Data<'a> {
    /// The same as before.
    Same,
    New(Option<&'a [u8]>),
}

/// Where the records stood before a part of a request.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    undo: usize,
    made: usize,
    digest: i64,
}

impl InFlight {
    /// Nothing is in flight: the tree is as `db` has it.
    pub fn new(db: &Database) -> InFlight {
        InFlight {
            newest: HashMap::new(),
            owned: BTreeMap::new(),
            made: VecDeque::new(),
            undo: Vec::new(),
            digest: db.tree().digest(),
            exceeded: Vec::new(),
            open_acl: Arc::new([Acl::open()]),
        }
    }

    /// Judges a change by the quota of its path. What is used already is asked of the committed tree, as ZooKeeper does:
    /// what is in flight does not count there, only in the difference. A limit that is passed is worth a line in the log,
    /// a hard one refuses.
    pub(super) fn check_quota(
        &mut self,
        tree: &DataTree,
        path: &str,
        count_diff: i64,
        bytes_diff: i64,
    ) -> Result<(), ErrorCode> {
        let Some(exceeded) = tree.exceeded_quota(path, count_diff, bytes_diff) else { return Ok(()) };
        if self.exceeded.len() < EXCEEDED_MAX {
            self.exceeded.push(exceeded.to_string());
        }
        if exceeded.is_hard { Err(ErrorCode::QuotaExceeded) } else { Ok(()) }
    }

    /// What quotas have had to say since the last call, at most [`EXCEEDED_MAX`] lines.
    pub(super) fn take_exceeded(&mut self) -> Vec<String> {
        std::mem::take(&mut self.exceeded)
    }

    /// Forgets what the database has applied: everything up to `up_to`.
    pub fn retire(&mut self, up_to: Zxid) {
        while let Some((zxid, _)) = self.made.front()
            && *zxid <= up_to
        {
            let Some((zxid, path)) = self.made.pop_front() else { return };
            if self.newest.get(&path).is_some_and(|record| record.zxid == zxid) {
                self.replace(path, None);
            }
        }
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// A list that records can share; for the open one, which nearly all nodes have, nothing is allocated.
    pub(super) fn share(&self, acl: &[Acl]) -> Arc<[Acl]> {
        if *acl == *self.open_acl { self.open_acl.clone() } else { acl.into() }
    }

    /// The digest after everything in flight, as transactions carry it.
    pub(super) fn digest(&self) -> TxnDigest {
        TxnDigest { version: DIGEST_VERSION, digest: self.digest }
    }

    /// The node at `path` (`""` and `/` are the root) as it will be.
    pub(super) fn node(&self, tree: &DataTree, path: &str) -> Option<FutureNode> {
        if let Some(record) = self.newest.get(key(path)) {
            return record.node.clone();
        }
        tree.get(path).map(|node| FutureNode {
            stat: node.persisted(),
            child_count: node.child_count(),
            data_len: node.data().map_or(0, <[u8]>::len),
            acl: node.acl().clone(),
            crc: None,
            digest: node.digest(),
        })
    }

    pub(super) fn exists(&self, tree: &DataTree, path: &str) -> bool {
        match self.newest.get(key(path)) {
            Some(record) => record.node.is_some(),
            None => tree.get(path).is_some(),
        }
    }

    /// Records that `zxid` makes `path` this `node` (with its old digest still in it); `data` is what it will hold.
    pub(super) fn put(&mut self, tree: &DataTree, zxid: Zxid, path: &str, mut node: FutureNode, data: Data<'_>) {
        let path = key(path);
        if let Data::New(data) = data {
            node.data_len = data.map_or(0, <[u8]>::len);
        }
        let crc = match (data, node.crc) {
            (Data::New(data), _) => path_data_crc(path, data),
            (Data::Same, Some(crc)) => crc,
            // Not in flight yet, so the data is the tree's.
            (Data::Same, None) => path_data_crc(path, tree.get(path).and_then(|node| node.data())),
        };
        let before = node.digest;
        node.crc = Some(crc);
        node.digest = if is_counted(path) { node_digest(crc, &node.stat) } else { 0 };
        self.count(before, node.digest);
        self.record(path, ChangeRecord { zxid, node: Some(node) });
    }

    /// Records that `zxid` deletes `node` at `path`.
    pub(super) fn remove(&mut self, zxid: Zxid, path: &str, node: &FutureNode) {
        self.count(node.digest, 0);
        self.record(key(path), ChangeRecord { zxid, node: None });
    }

    fn count(&mut self, before: u32, after: u32) {
        self.digest = self.digest.wrapping_sub(before.into()).wrapping_add(after.into());
    }

    fn record(&mut self, path: &str, record: ChangeRecord) {
        let zxid = record.zxid;
        let path = match self.newest.get_key_value(path) {
            Some((path, _)) => path.clone(),
            None => Arc::from(path),
        };
        let former = self.replace(path.clone(), Some(record));
        // A second change by the same zxid is retired with the first.
        if former.as_ref().is_none_or(|former| former.zxid != zxid) {
            self.made.push_back((zxid, path.clone()));
        }
        self.undo.push((path, former));
    }

    /// Makes `record` the newest of `path`, or leaves it none; the former one.
    fn replace(&mut self, path: Arc<str>, record: Option<ChangeRecord>) -> Option<ChangeRecord> {
        let owner = record.as_ref().and_then(ChangeRecord::session);
        let former = match record {
            Some(record) => self.newest.insert(path.clone(), record),
            None => self.newest.remove(&path),
        };
        let former_owner = former.as_ref().and_then(ChangeRecord::session);
        if owner == former_owner {
            return former;
        }
        if let Some(session) = former_owner
            && let Some(paths) = self.owned.get_mut(&session)
        {
            paths.remove(&path);
            if paths.is_empty() {
                self.owned.remove(&session);
            }
        }
        if let Some(session) = owner {
            self.owned.entry(session).or_default().insert(path);
        }
        former
    }

    /// The ephemerals that `session` will own, sorted.
    pub(super) fn ephemerals(&self, tree: &DataTree, session: SessionId) -> BTreeSet<String> {
        let is_owned = |path: &String| self.newest.get(path.as_str()).is_none_or(|now| now.session() == Some(session));
        let in_flight = self.owned.get(&session).into_iter().flatten();
        tree.ephemerals(session).filter(is_owned).chain(in_flight.map(|path| path.to_string())).collect()
    }

    /// A request begins: what came before it is not taken back any more.
    pub(super) fn begin(&mut self, tree: &DataTree) -> Mark {
        self.undo.clear();
        if self.made.is_empty() {
            self.digest = tree.digest(); // Where nothing is in flight, the tree itself knows best.
        }
        Mark { undo: 0, made: self.made.len(), digest: self.digest }
    }

    /// Takes back everything that was recorded since `mark`.
    pub(super) fn roll_back(&mut self, mark: Mark) {
        while self.undo.len() > mark.undo
            && let Some((path, former)) = self.undo.pop()
        {
            self.replace(path, former);
        }
        self.made.truncate(mark.made);
        self.digest = mark.digest;
    }
}

/// The root's path in records.
fn key(path: &str) -> &str {
    if path == "/" { "" } else { path }
}

/// Nodes below `/zookeeper` change without transactions and count nothing.
fn is_counted(path: &str) -> bool {
    !path.starts_with("/zookeeper/")
}

fn path_data_crc(path: &str, data: Option<&[u8]>) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(path.as_bytes());
    crc.update(data.unwrap_or_default());
    crc.finalize()
}

/// The node's digest, from the CRC of its path and data. pzxid comes third, other than in logs and snapshots.
fn node_digest(path_data_crc: u32, stat: &StatPersisted) -> u32 {
    let mut bytes = [0; 60];
    let longs = [stat.czxid.0, stat.mzxid.0, stat.pzxid.0, stat.ctime, stat.mtime];
    let ints = [stat.version, stat.cversion, stat.aversion];
    let mut at = 0;
    let mut put = |field: &[u8]| {
        bytes[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    };
    longs.iter().for_each(|long| put(&long.to_be_bytes()));
    ints.iter().for_each(|int| put(&int.to_be_bytes()));
    put(&stat.ephemeral_owner.to_be_bytes());
    let mut crc = crc32fast::Hasher::new_with_initial(path_data_crc);
    crc.update(&bytes);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::digest;

    /// Whatever is made, taken back and retired: the paths of each session are those that its records say.
    #[test]
    fn the_paths_of_each_session_are_those_of_its_records() {
        let tree = DataTree::new();
        let db = Database::new(super::super::io::Loaded {
            tree: DataTree::new(),
            sessions: BTreeMap::new(),
            last_zxid: Zxid::ZERO,
            recent: Vec::new(),
            digests: Default::default(),
        });
        let mut flight = InFlight::new(&db);
        let mut random = 1_u64;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let (mut rolled_back, mut most) = (0, 0);
        for zxid in (1..3000).map(Zxid) {
            let mark = flight.begin(&tree);
            for _ in 0..below(4) {
                let path = format!("/{}", below(20));
                let session = SessionId(1 + below(3) as i64);
                let owner = if below(4) == 0 { Owner::Persistent } else { Owner::Ephemeral(session) };
                match flight.node(&tree, &path) {
                    Some(node) if below(2) == 0 => flight.remove(zxid, &path, &node),
                    _ => {
                        let node = FutureNode::created(zxid, 1, owner, Arc::from([]));
                        flight.put(&tree, zxid, &path, node, Data::New(None));
                    }
                }
            }
            if below(4) == 0 {
                flight.roll_back(mark);
                rolled_back += 1;
            }
            if below(3) == 0 {
                flight.retire(Zxid(zxid.0 - below(10) as i64));
            }
            let mut owned: BTreeMap<SessionId, BTreeSet<Arc<str>>> = BTreeMap::new();
            for (path, record) in &flight.newest {
                if let Some(session) = record.session() {
                    owned.entry(session).or_default().insert(path.clone());
                }
            }
            assert_eq!(flight.owned, owned, "after {zxid}");
            most = most.max(owned.len());
        }
        assert!(rolled_back > 100 && most == 3);
        flight.retire(Zxid(3000));
        assert!(flight.owned.is_empty() && flight.newest.is_empty());
    }

    #[test]
    fn digests_from_a_kept_crc_are_those_of_the_tree() {
        let mut node = FutureNode::created(Zxid(7), 1_795_359_546_140, Owner::Persistent, Arc::from([]));
        node.stat.cversion = 3;
        node.stat.pzxid = Zxid(9);
        for data in [None, Some(&b""[..]), Some(b"data")] {
            let crc = path_data_crc("/a", data);
            assert_eq!(node_digest(crc, &node.stat), digest::node_digest("/a", data, &node.stat));
        }
    }
}
