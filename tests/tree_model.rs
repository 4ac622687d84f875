//! Random histories against a tree that is too simple to be wrong: one map from path to node, everything else
//! computed by looking at all of it. Transactions come in any order of zxids, as in a replay over a snapshot that is
//! already further on; snapshots are taken in chunks between them, several at a time.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use zabkit::jute::Reader;
use zabkit::records::*;
use zabkit::tree::digest::node_digest;
use zabkit::tree::{Change, ChangeKind, CursorId, DataTree, ResultBody, TreeLoader, TxnResult};

#[derive(Clone, Debug, PartialEq)]
struct Node {
    data: Option<Vec<u8>>,
    acl: Vec<Acl>,
    stat: StatPersisted,
}

/// The naive tree: by path, the root's is `""`.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    nodes: BTreeMap<String, Node>,
    quotas: BTreeSet<String>,
}

type Changes = Vec<(ChangeKind, String)>;

fn zero_stat() -> StatPersisted {
    StatPersisted {
        czxid: Zxid(0),
        mzxid: Zxid(0),
        ctime: 0,
        mtime: 0,
        version: 0,
        cversion: 0,
        aversion: 0,
        ephemeral_owner: 0,
        pzxid: Zxid(0),
    }
}

fn acl_number(n: u8) -> Vec<Acl> {
    let digest = |user: &str, perms| Acl { perms, id: Id::new("digest", user) };
    match n {
        0 => vec![Acl::open()],
        1 => vec![digest("a:x", 1)],
        2 => vec![digest("a:x", 1), digest("b:x", 31)],
        _ => vec![],
    }
}

/// As the tree wants it: parent and name of what may be created or deleted.
fn split(path: &str) -> Option<(&str, &str)> {
    path.rsplit_once('/').filter(|(parent, name)| !name.is_empty() && *parent != "/")
}

fn key(path: &str) -> &str {
    if path == "/" { "" } else { path }
}

impl Model {
    fn new() -> Model {
        let node = |acl, aversion| Node { data: Some(vec![]), acl, stat: StatPersisted { aversion, ..zero_stat() } };
        let read_only = vec![Acl { perms: perms::READ, id: Id::world_anyone() }];
        let mut nodes = BTreeMap::new();
        for path in ["", "/zookeeper", "/zookeeper/quota"] {
            nodes.insert(path.to_string(), node(vec![Acl::open()], 0));
        }
        nodes.insert("/zookeeper/config".into(), node(read_only, -1));
        Model { nodes, quotas: BTreeSet::new() }
    }

    fn below(&self, path: &str) -> Vec<String> {
        let prefix = format!("{path}/");
        self.nodes.keys().filter(|key| key.starts_with(&prefix)).cloned().collect()
    }

    fn child_count(&self, path: &str) -> i32 {
        let is_child = |key: &&String| key.rsplit_once('/').is_some_and(|(parent, _)| parent == path);
        self.nodes.keys().filter(is_child).count() as i32
    }

    fn stat(&self, path: &str) -> Stat {
        let Node { data, stat, .. } = &self.nodes[key(path)];
        let children = self.child_count(key(path));
        Stat {
            czxid: stat.czxid,
            mzxid: stat.mzxid,
            ctime: stat.ctime,
            mtime: stat.mtime,
            version: stat.version,
            cversion: 2 * stat.cversion - children,
            aversion: stat.aversion,
            ephemeral_owner: if (1..100).contains(&stat.ephemeral_owner) { stat.ephemeral_owner } else { 0 },
            data_length: data.as_ref().map_or(0, Vec::len) as i32,
            num_children: children,
            pzxid: stat.pzxid,
        }
    }

    fn digest(&self) -> i64 {
        let digests = self.nodes.iter().map(|(path, node)| node_digest(path, node.data.as_deref(), &node.stat));
        digests.fold(0i64, |sum, digest| sum.wrapping_add(digest.into()))
    }

    fn data_size(&self) -> u64 {
        let size = |(path, node): (&String, &Node)| {
            key_of_root(path).encode_utf16().count() + node.data.as_ref().map_or(0, Vec::len)
        };
        self.nodes.iter().map(size).sum::<usize>() as u64
    }

    fn ephemerals(&self, session: i64) -> Vec<String> {
        self.nodes
            .iter()
            .filter(|(_, node)| node.stat.ephemeral_owner == session)
            .map(|(path, _)| path.clone())
            .collect()
    }

    fn use_quota(&mut self, path: &str, count: i64, bytes: i64) {
        let of = |quota: &&String| path == quota.as_str() || path.starts_with(&format!("{quota}/"));
        let Some(quota) = self.quotas.iter().filter(of).max_by_key(|quota| quota.len()) else { return };
        if let Some(node) = self.nodes.get_mut(&format!("/zookeeper/quota{quota}/zookeeper_stats")) {
            let text = String::from_utf8_lossy(node.data.as_deref().unwrap_or_default()).into_owned();
            let value = |name: &str| {
                let number = text.split_once(&format!("{name}=")).map(|(_, rest)| rest.split(',').next().unwrap());
                number.and_then(|number| number.parse().ok()).unwrap_or(-1)
            };
            let (count, bytes) = (value("count") + count, value("bytes") + bytes);
            node.data = Some(format!("count={count},bytes={bytes}").into_bytes());
        }
    }

    fn create(
        &mut self,
        (zxid, time): (Zxid, i64),
        path: &str,
        (data, acl): (&Option<Vec<u8>>, &[Acl]),
        owner: i64,
        count: i32,
        changes: &mut Changes,
    ) -> Result<(), ErrorCode> {
        if path == "/" {
            return Err(ErrorCode::NodeExists);
        }
        let (parent, name) = split(path).ok_or(ErrorCode::BadArguments)?;
        let parent_stat = &mut self.nodes.get_mut(parent).ok_or(ErrorCode::NoNode)?.stat;
        let count = if count == -1 { parent_stat.cversion + 1 } else { count };
        if count > parent_stat.cversion {
            (parent_stat.cversion, parent_stat.pzxid) = (count, zxid);
        }
        if let Some(node) = self.nodes.get_mut(path) {
            node.acl = acl.to_vec();
            return Err(ErrorCode::NodeExists);
        }
        let stat = StatPersisted {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time,
            mtime: time,
            ephemeral_owner: owner,
            ..zero_stat()
        };
        self.nodes.insert(path.into(), Node { data: data.clone(), acl: acl.to_vec(), stat });
        if let Some(limited) = parent.strip_prefix("/zookeeper/quota").filter(|limited| !limited.is_empty()) {
            if name == "zookeeper_limits" {
                self.quotas.insert(limited.into());
            }
            if name == "zookeeper_stats" {
                let mut all = self.below(limited);
                all.extend(self.nodes.contains_key(limited).then(|| limited.to_string()));
                let bytes: usize = all.iter().map(|path| self.nodes[path].data.as_ref().map_or(0, Vec::len)).sum();
                let text = format!("count={},bytes={bytes}", all.len());
                self.nodes.get_mut(path).unwrap().data = Some(text.into_bytes());
            }
        }
        self.use_quota(path, 1, data.as_ref().map_or(0, Vec::len) as i64);
        changes.push((ChangeKind::Created, path.into()));
        Ok(())
    }

    fn delete(&mut self, zxid: Zxid, path: &str, changes: &mut Changes) -> Result<(), ErrorCode> {
        let (parent, _) = split(path).ok_or(ErrorCode::BadArguments)?;
        let stat = &mut self.nodes.get_mut(parent).ok_or(ErrorCode::NoNode)?.stat;
        stat.pzxid = stat.pzxid.max(zxid);
        if !self.nodes.contains_key(path) {
            return Err(ErrorCode::NoNode);
        }
        let all = std::iter::once(path.to_string()).chain(self.below(path));
        for path in all.collect::<Vec<_>>().into_iter().rev() {
            let node = self.nodes.remove(&path).unwrap();
            let limited = path.strip_prefix("/zookeeper/quota").and_then(|path| path.strip_suffix("/zookeeper_limits"));
            limited.map(|limited| self.quotas.remove(limited));
            self.use_quota(&path, -1, -(node.data.map_or(0, |data| data.len()) as i64));
        }
        changes.push((ChangeKind::Deleted, path.into()));
        Ok(())
    }

    /// The error, or none; the tree's stats are compared node by node.
    fn apply(&mut self, session: i64, at: (Zxid, i64), body: &TxnBody, changes: &mut Changes) -> Result<(), ErrorCode> {
        match body {
            TxnBody::Create(txn) | TxnBody::Create2(txn) => {
                let owner = if txn.ephemeral { session } else { 0 };
                self.create(at, &txn.path, (&txn.data, &txn.acl), owner, txn.parent_cversion, changes)
            }
            TxnBody::CreateContainer(txn) => {
                self.create(at, &txn.path, (&txn.data, &txn.acl), CONTAINER_OWNER, txn.parent_cversion, changes)
            }
            TxnBody::CreateTtl(txn) => {
                let owner = TTL_OWNER_PREFIX | txn.ttl_ms;
                self.create(at, &txn.path, (&txn.data, &txn.acl), owner, txn.parent_cversion, changes)
            }
            TxnBody::Delete(txn) | TxnBody::DeleteContainer(txn) => self.delete(at.0, &txn.path, changes),
            TxnBody::SetData(txn) => {
                let node = self.nodes.get_mut(key(&txn.path)).ok_or(ErrorCode::NoNode)?;
                let old = std::mem::replace(&mut node.data, txn.data.clone());
                (node.stat.version, node.stat.mzxid, node.stat.mtime) = (txn.version, at.0, at.1);
                let length = |data: &Option<Vec<u8>>| data.as_ref().map_or(0, |data| data.len() as i64);
                self.use_quota(&txn.path, 0, length(&txn.data) - length(&old));
                changes.push((ChangeKind::DataChanged, txn.path.clone()));
                Ok(())
            }
            TxnBody::SetAcl(txn) => {
                let node = self.nodes.get_mut(key(&txn.path)).ok_or(ErrorCode::NoNode)?;
                (node.acl, node.stat.aversion) = (txn.acl.clone(), txn.version);
                Ok(())
            }
            TxnBody::CloseSession { paths } => {
                let listed = paths.clone().unwrap_or_default();
                for path in listed {
                    _ = self.delete(at.0, &path, changes);
                }
                for path in self.ephemerals(session) {
                    _ = self.delete(at.0, &path, changes);
                }
                Ok(())
            }
            TxnBody::Multi(subs) => {
                if !subs.iter().any(|sub| matches!(sub, TxnBody::Error(_))) {
                    for sub in subs {
                        _ = self.apply(session, at, sub, changes);
                    }
                }
                Ok(())
            }
            TxnBody::Error(txn) => Err(ErrorCode::from_code(txn.err).unwrap()),
            _ => Ok(()),
        }
    }
}

fn key_of_root(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

/// A step of a history.
#[derive(Clone, Debug)]
enum Step {
    Apply { session: i64, zxid: i64, body: TxnBody },
    Begin,
    Chunk { which: usize, bytes: usize },
    Abandon { which: usize },
}

const PATHS: &[&str] = &[
    "/a",
    "/a/b",
    "/a/b/c",
    "/a/b/d",
    "/a/c",
    "/ab",
    "/b",
    "/b/a",
    "/ä",
    "/zookeeper",
    "/zookeeper/x",
    "/zookeeper/quota/a",
    "/zookeeper/quota/a/zookeeper_limits",
    "/zookeeper/quota/a/zookeeper_stats",
    "/zookeeper/quota/a/b",
    "/zookeeper/quota/a/b/zookeeper_limits",
    "/zookeeper/quota/a/b/zookeeper_stats",
    "/",
    "",
    "//",
    "/a/",
    "x",
];

fn body() -> impl Strategy<Value = TxnBody> {
    let path = || prop_oneof![9 => 0..9usize, 1 => 9..PATHS.len()].prop_map(|n| PATHS[n].to_string());
    let data = || prop_oneof![Just(None), (0..40usize, 0..=255u8).prop_map(|(n, byte)| Some(vec![byte; n]))];
    let acl = || (0..4u8).prop_map(acl_number);
    let count = || -1..6i32;
    let single = prop_oneof![
        8 => (path(), data(), acl(), any::<bool>(), count()).prop_map(|(path, data, acl, ephemeral, parent_cversion)| {
            TxnBody::Create(CreateTxn { path, data, acl, ephemeral, parent_cversion })
        }),
        1 => (path(), data(), acl(), count()).prop_map(|(path, data, acl, parent_cversion)| {
            TxnBody::CreateContainer(CreateContainerTxn { path, data, acl, parent_cversion })
        }),
        1 => (path(), data(), acl(), count(), 1..99i64).prop_map(|(path, data, acl, parent_cversion, ttl_ms)| {
            TxnBody::CreateTtl(CreateTtlTxn { path, data, acl, parent_cversion, ttl_ms })
        }),
        5 => path().prop_map(|path| TxnBody::Delete(DeleteTxn { path })),
        4 => (path(), data(), 0..9i32).prop_map(|(path, data, version)| {
            // Over usage only a usage: what becomes of other texts is the business of a unit test.
            let data = if path.ends_with("stats") { Some(b"count=7,bytes=9".to_vec()) } else { data };
            TxnBody::SetData(SetDataTxn { path, data, version })
        }),
        2 => (path(), acl(), 0..9i32).prop_map(|(path, acl, version)| TxnBody::SetAcl(SetAclTxn { path, acl, version })),
    ];
    let error = Just(TxnBody::Error(ErrorTxn { err: ErrorCode::NoNode.code() }));
    let single = single.boxed();
    let in_multi = prop_oneof![9 => single.clone(), 1 => error.clone()];
    prop_oneof![
        12 => single,
        1 => prop::collection::vec(in_multi, 0..5).prop_map(TxnBody::Multi),
        1 => error,
        1 => prop::option::of(prop::collection::vec(path(), 0..3)).prop_map(|paths| TxnBody::CloseSession { paths }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (1..4i64, 1..60i64, body()).prop_map(|(session, zxid, body)| Step::Apply { session, zxid, body }),
        1 => Just(Step::Begin),
        6 => (0..3usize, 1..300usize).prop_map(|(which, bytes)| Step::Chunk { which, bytes }),
        1 => (0..3usize).prop_map(|which| Step::Abandon { which }),
    ]
}

fn compare(tree: &DataTree, model: &Model) {
    for (path, expected) in &model.nodes {
        let node = tree.get(path).unwrap_or_else(|| panic!("{path:?} is missing"));
        assert_eq!(node.data(), expected.data.as_deref(), "{path:?}");
        assert_eq!(**node.acl(), *expected.acl, "{path:?}");
        assert_eq!(node.persisted(), expected.stat, "{path:?}");
        assert_eq!(node.stat(), model.stat(path), "{path:?}");
        assert_eq!(node.digest(), node_digest(path, expected.data.as_deref(), &expected.stat), "{path:?}");
        assert_eq!(tree.descendant_count(path), Some(model.below(path).len() as i32), "{path:?}");
        let children: BTreeSet<&str> = node.children().collect();
        assert_eq!(children.len() as i32, node.child_count(), "{path:?}");
        assert!(children.iter().all(|name| model.nodes.contains_key(&format!("{path}/{name}"))), "{path:?}");
    }
    assert_eq!(tree.node_count(), model.nodes.len() + 1);
    assert_eq!(tree.digest(), model.digest());
    assert_eq!(tree.approximate_data_size(), model.data_size());
    for session in 1..4 {
        let ephemerals: Vec<String> = tree.ephemerals(SessionId(session)).collect();
        assert_eq!(ephemerals, model.ephemerals(session));
    }
    assert_eq!(tree.ephemeral_count(), (1..4).map(|session| model.ephemerals(session).len()).sum::<usize>());
    for &path in PATHS.iter().filter(|path| !model.nodes.contains_key(key(path))) {
        assert!(tree.get(path).is_none(), "{path:?} is there");
    }
}

/// A snapshot under way: its cursor, its bytes so far, and the tree as it was.
struct Snapshot {
    cursor: CursorId,
    bytes: Vec<u8>,
    at_begin: Model,
}

impl Snapshot {
    /// Loads the body and compares it with the tree as it was.
    fn check(mut self) {
        let mut reader = Reader::new(&self.bytes);
        let (mut decoder, mut loader) = (SnapshotDecoder::default(), TreeLoader::new());
        while let Some(item) = decoder.take(&mut reader, 1 << 20).unwrap() {
            loader.push(item).unwrap();
        }
        assert!(decoder.is_done() && reader.remaining() == 0);
        let (tree, sessions) = loader.finish().unwrap();
        assert_eq!(sessions, sessions_now());
        // Usage is counted again when a snapshot is loaded; what clients wrote over it is gone.
        let all_stats: Vec<String> =
            self.at_begin.quotas.iter().map(|quota| format!("/zookeeper/quota{quota}/zookeeper_stats")).collect();
        for path in all_stats {
            let node = self.at_begin.nodes.get_mut(&path);
            if let Some(node) = node {
                node.data = tree.get(&path).unwrap().data().map(<[u8]>::to_vec);
            }
        }
        compare(&tree, &self.at_begin);
    }
}

fn sessions_now() -> BTreeMap<SessionId, i32> {
    (1..20).map(|n| (SessionId(n), n as i32 * 1000)).collect()
}

fn run(steps: Vec<Step>) {
    let (mut tree, mut model) = (DataTree::new(), Model::new());
    compare(&tree, &model);
    let mut snapshots: Vec<Snapshot> = Vec::new();
    for step in steps {
        match step {
            Step::Apply { session, zxid, body } => {
                let (mut seen, mut expected) = (Changes::new(), Changes::new());
                let at = (Zxid(zxid), 1000 + zxid);
                let result = tree.apply(SessionId(session), at.0, at.1, &body, &mut |change: Change<'_>| {
                    seen.push((change.kind, change.path.to_string()));
                });
                let error = match &result {
                    TxnResult::Ok(_) => Ok(()),
                    TxnResult::Error(code) => Err(*code),
                };
                let stat = match result {
                    TxnResult::Ok(ResultBody::Create { path, stat }) => Some((path, stat)),
                    _ => None,
                };
                assert_eq!(error, model.apply(session, at, &body, &mut expected), "{body:?}");
                assert_eq!(seen, expected, "{body:?}");
                if let Some((path, stat)) = stat {
                    assert_eq!(stat, model.stat(path));
                }
                compare(&tree, &model);
            }
            Step::Begin if snapshots.len() < 3 => {
                let cursor = tree.begin_snapshot(&sessions_now()).unwrap();
                snapshots.push(Snapshot { cursor, bytes: Vec::new(), at_begin: model.clone() });
            }
            Step::Begin => {}
            Step::Chunk { which, bytes } => {
                if let Some(snapshot) = snapshots.get_mut(which)
                    && tree.next_chunk(snapshot.cursor, bytes, &mut snapshot.bytes)
                {
                    let snapshot = snapshots.remove(which);
                    tree.end_snapshot(snapshot.cursor);
                    snapshot.check();
                }
            }
            Step::Abandon { which } => {
                if which < snapshots.len() {
                    tree.end_snapshot(snapshots.remove(which).cursor);
                }
            }
        }
    }
    for mut snapshot in snapshots {
        while !tree.next_chunk(snapshot.cursor, 100, &mut snapshot.bytes) {}
        tree.end_snapshot(snapshot.cursor);
        snapshot.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_gives_the_tree_of_the_model_and_any_snapshot_the_tree_at_its_beginning(
        quotas in 0..3usize,
        steps in prop::collection::vec(step(), 1..120)
    ) {
        run(make_quotas(quotas).chain(steps).collect());
    }
}

/// Steps that put quotas on `/a` and `/a/b`, which a random history would seldom do.
fn make_quotas(count: usize) -> impl Iterator<Item = Step> {
    let paths = ["/zookeeper/quota/a", "/zookeeper/quota/a/b"].into_iter().take(count).flat_map(|parent| {
        [parent.to_string(), format!("{parent}/zookeeper_limits"), format!("{parent}/zookeeper_stats")]
    });
    paths.map(|path| {
        let (data, acl) = (Some(b"count=5,bytes=5".to_vec()), vec![Acl::open()]);
        let body = TxnBody::Create(CreateTxn { path, data, acl, ephemeral: false, parent_cversion: -1 });
        Step::Apply { session: 1, zxid: 1, body }
    })
}
