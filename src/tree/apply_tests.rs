//! The replay rules, one by one.

use super::*;
use crate::records::{
    CheckTxn, CreateContainerTxn, CreateSessionTxn, CreateTtlTxn, CreateTxn, DeleteTxn, ErrorTxn, Id, SetAclTxn,
    SetDataTxn, perms,
};
use crate::tree::Lifetimes;

const SESSION: SessionId = SessionId(0x77);

fn create(path: &str) -> TxnBody {
    create_with(path, false, -1)
}

fn create_with(path: &str, ephemeral: bool, parent_cversion: i32) -> TxnBody {
    let (data, acl) = (Some(b"data".to_vec()), vec![Acl::open()]);
    TxnBody::Create(CreateTxn { path: path.into(), data, acl, ephemeral, parent_cversion })
}

fn delete(path: &str) -> TxnBody {
    TxnBody::Delete(DeleteTxn { path: path.into() })
}

fn set(path: &str, data: &[u8], version: i32) -> TxnBody {
    TxnBody::SetData(SetDataTxn { path: path.into(), data: Some(data.to_vec()), version })
}

fn error(code: ErrorCode) -> TxnBody {
    TxnBody::Error(ErrorTxn { err: code.code() })
}

/// Applies at zxid and time `n`.
fn apply<'t>(tree: &mut DataTree, n: i64, body: &'t TxnBody) -> TxnResult<'t> {
    tree.apply(SESSION, Zxid(n), 1000 + n, body, &mut |_| {})
}

fn applied(n: i64, bodies: &[TxnBody]) -> DataTree {
    let mut tree = DataTree::new();
    for (at, body) in bodies.iter().enumerate() {
        let result = apply(&mut tree, n + at as i64, body);
        assert!(matches!(result, TxnResult::Ok(_)), "{body:?}: {result:?}");
    }
    tree
}

fn changes(tree: &mut DataTree, n: i64, body: &TxnBody) -> Vec<(ChangeKind, String)> {
    let mut changes = Vec::new();
    tree.apply(SESSION, Zxid(n), 1000 + n, body, &mut |change| changes.push((change.kind, change.path.into())));
    changes
}

#[test]
fn the_empty_tree_is_that_of_a_fresh_server() {
    let tree = DataTree::new();
    let shown = |path: &str| tree.get(path).unwrap().stat();
    assert_eq!((shown("/").cversion, shown("/").num_children), (-1, 1));
    assert_eq!((shown("/zookeeper").cversion, shown("/zookeeper").num_children), (-2, 2));
    assert_eq!((shown("/zookeeper/config").aversion, shown("/zookeeper/config").version), (-1, 0));
    assert_eq!(tree.get("/zookeeper/config").unwrap().acl()[0].perms, perms::READ);
    assert_eq!(tree.get("/").unwrap().data(), Some(&[][..]));
    assert_eq!((tree.node_count(), tree.approximate_data_size(), tree.digest()), (5, 44, 1_371_985_504));
    assert_eq!(tree.descendant_count("/"), Some(3));
}

#[test]
fn the_digest_after_a_create_is_that_of_a_real_server() {
    let mut tree = DataTree::new();
    let (data, acl) = (Some(vec![]), vec![Acl::open()]);
    let kinds = TxnBody::Create(CreateTxn { path: "/kinds".into(), data, acl, ephemeral: false, parent_cversion: 1 });
    tree.apply(SESSION, Zxid(2), 1_795_359_546_140, &kinds, &mut |_| {});
    assert_eq!(tree.digest(), 3_214_076_834);
    apply(&mut tree, 3, &delete("/kinds"));
    assert_ne!(tree.digest(), 1_371_985_504, "the root's stat has changed");
}

#[test]
fn the_root_has_two_names_and_what_is_no_path_is_not_there() {
    let tree = applied(1, &[create("/a")]);
    assert!(tree.get("").is_some() && tree.get("/").is_some());
    for path in ["a", "/a/", "//", "//a", "/b", "x", "/a/b"] {
        assert!(tree.get(path).is_none(), "{path:?}");
    }
}

#[test]
fn a_create_counts_at_the_parent_and_a_delete_only_raises_its_pzxid() {
    let mut tree = applied(1, &[create("/a"), create_with("/a/b", false, 1)]);
    let parent = tree.get("/a").unwrap();
    assert_eq!((parent.persisted().cversion, parent.stat().cversion, parent.persisted().pzxid), (1, 1, Zxid(2)));
    apply(&mut tree, 3, &delete("/a/b"));
    let parent = tree.get("/a").unwrap();
    assert_eq!((parent.persisted().cversion, parent.stat().cversion, parent.persisted().pzxid), (1, 2, Zxid(3)));
    assert_eq!(apply(&mut tree, 2, &delete("/a/b")), TxnResult::Error(ErrorCode::NoNode));
    assert_eq!(tree.get("/a").unwrap().persisted().pzxid, Zxid(3), "an older delete does not lower it");
}

#[test]
fn a_create_never_lowers_the_count_of_the_parent() {
    let mut tree = applied(1, &[create("/a"), create_with("/a/b", false, 9)]);
    apply(&mut tree, 8, &create_with("/a/c", false, 5));
    let parent = tree.get("/a").unwrap().persisted();
    assert_eq!((parent.cversion, parent.pzxid), (9, Zxid(2)));
}

#[test]
fn a_create_of_what_is_there_mends_the_parent_and_the_acl_but_keeps_the_node() {
    let mut tree = applied(1, &[create("/a"), create_with("/a/b", false, 1)]);
    let acl = vec![Acl { perms: 1, id: Id::new("digest", "a:x") }];
    let again = CreateTxn { path: "/a/b".into(), data: None, acl: acl.clone(), ephemeral: true, parent_cversion: 4 };
    assert_eq!(apply(&mut tree, 7, &TxnBody::Create2(again)), TxnResult::Error(ErrorCode::NodeExists));
    let (parent, node) = (tree.get("/a").unwrap(), tree.get("/a/b").unwrap());
    assert_eq!((parent.persisted().cversion, parent.persisted().pzxid), (4, Zxid(7)));
    assert_eq!((node.data(), node.persisted().czxid, node.owner()), (Some(&b"data"[..]), Zxid(2), Owner::Persistent));
    assert_eq!(**node.acl(), acl);
}

#[test]
fn what_cannot_be_done_becomes_the_result() {
    let mut tree = DataTree::new();
    let before = tree.digest();
    for (body, expected) in [
        (create("/no/parent"), ErrorCode::NoNode),
        (create("/"), ErrorCode::NodeExists),
        (create("/zookeeper/"), ErrorCode::BadArguments),
        (create("//a"), ErrorCode::BadArguments),
        (create("a"), ErrorCode::BadArguments),
        (delete("/"), ErrorCode::BadArguments),
        (delete("/no/parent"), ErrorCode::NoNode),
        (set("/no", b"", 1), ErrorCode::NoNode),
        (TxnBody::SetAcl(SetAclTxn { path: "/no".into(), acl: vec![], version: 1 }), ErrorCode::NoNode),
        (error(ErrorCode::BadVersion), ErrorCode::BadVersion),
    ] {
        let result = apply(&mut tree, 1, &body);
        assert!(matches!(result, TxnResult::Error(code) if code == expected), "{body:?}: {result:?}");
        assert_eq!(tree.digest(), before, "{body:?}");
    }
    assert_eq!(tree.node_count(), 5);
}

#[test]
fn a_set_takes_its_version_as_it_comes_forward_or_back() {
    let mut tree = applied(1, &[create("/a"), set("/a", b"nine", 9)]);
    let body = set("/a", b"", 3);
    let TxnResult::Ok(ResultBody::SetData { stat }) = apply(&mut tree, 7, &body) else { panic!() };
    assert_eq!((stat.version, stat.mzxid, stat.mtime, stat.data_length, stat.czxid), (3, Zxid(7), 1007, 0, Zxid(1)));
    let null = TxnBody::SetData(SetDataTxn { path: "/".into(), data: None, version: 1 });
    apply(&mut tree, 8, &null);
    assert_eq!(tree.get("/").unwrap().data(), None);
}

#[test]
fn data_of_any_length_takes_the_place_of_other_data() {
    let mut tree = applied(1, &[create("/a"), create("/b")]);
    for (at, length) in [0, 16, 17, 2000, 100, 70_000, 1, 1021, 1022, 1023, 5000, 5000].into_iter().enumerate() {
        let data = vec![at as u8; length];
        apply(&mut tree, 10 + at as i64, &set("/a", &data, 1));
        assert_eq!(tree.get("/a").unwrap().data(), Some(&data[..]));
        assert_eq!(tree.get("/b").unwrap().data(), Some(&b"data"[..]));
    }
}

#[test]
fn set_acl_changes_only_the_acl_and_its_version_and_fires_nothing() {
    let mut tree = applied(1, &[create("/a")]);
    let acl = vec![Acl { perms: 3, id: Id::new("ip", "1.2.3.4") }];
    let body = TxnBody::SetAcl(SetAclTxn { path: "/a".into(), acl: acl.clone(), version: 1 });
    let before = tree.get("/a").unwrap().persisted();
    assert_eq!(changes(&mut tree, 5, &body), []);
    let node = tree.get("/a").unwrap();
    assert_eq!(node.persisted(), StatPersisted { aversion: 1, ..before });
    assert_eq!(**node.acl(), acl);
}

#[test]
fn the_end_of_a_session_deletes_what_is_listed_and_then_what_it_still_owns() {
    let mut tree = applied(1, &[create("/e"), create("/p")]);
    for path in ["/z", "/e/y", "/e/a", "/b"] {
        apply(&mut tree, 5, &create_with(path, true, -1));
    }
    assert_eq!(tree.ephemerals(SESSION).collect::<Vec<_>>(), ["/b", "/e/a", "/e/y", "/z"]);
    assert_eq!(tree.ephemeral_owners().collect::<Vec<_>>(), [SESSION]);
    assert_eq!(tree.get("/z").unwrap().stat().ephemeral_owner, SESSION.0);
    let paths = ["/z", "/missing", "/p"].map(String::from).to_vec();
    let body = TxnBody::CloseSession { paths: Some(paths) };
    let deleted: Vec<String> = changes(&mut tree, 9, &body).into_iter().map(|(_, path)| path).collect();
    assert_eq!(deleted, ["/z", "/p", "/b", "/e/a", "/e/y"]);
    assert_eq!((tree.ephemeral_count(), tree.ephemerals(SESSION).count()), (0, 0));
    assert_eq!(apply(&mut tree, 10, &TxnBody::CloseSession { paths: None }), TxnResult::Ok(ResultBody::CloseSession));
}

#[test]
fn a_multi_with_an_error_does_nothing_and_tells_which_failed() {
    let mut tree = DataTree::new();
    let before = tree.digest();
    let runtime = ErrorCode::RuntimeInconsistency;
    let body = TxnBody::Multi(vec![create("/a"), error(ErrorCode::NoNode), error(runtime), create("/b")]);
    let results = vec![
        TxnResult::Ok(ResultBody::NotApplied),
        TxnResult::Error(ErrorCode::NoNode),
        TxnResult::Error(runtime),
        TxnResult::Error(runtime),
    ];
    assert_eq!(apply(&mut tree, 1, &body), TxnResult::Ok(ResultBody::Multi(results)));
    assert_eq!(tree.digest(), before);
}

#[test]
fn a_multi_applies_all_in_order_with_one_zxid() {
    let mut tree = DataTree::new();
    let check = TxnBody::Check(CheckTxn { path: "/a".into(), version: 1 });
    let body = TxnBody::Multi(vec![create("/a"), create("/a/b"), check, set("/a", b"x", 1), delete("/a/b")]);
    use ChangeKind::{Created, DataChanged, Deleted};
    let expected = [(Created, "/a"), (Created, "/a/b"), (DataChanged, "/a"), (Deleted, "/a/b")];
    assert_eq!(changes(&mut tree, 4, &body), expected.map(|(kind, path)| (kind, path.to_string())));
    let stat = tree.get("/a").unwrap().stat();
    assert_eq!((stat.czxid, stat.mzxid, stat.pzxid, stat.cversion), (Zxid(4), Zxid(4), Zxid(4), 2));
    let empty = TxnBody::Multi(vec![]);
    assert_eq!(apply(&mut tree, 5, &empty), TxnResult::Ok(ResultBody::Multi(vec![])));
}

#[test]
fn sessions_are_told_of_and_otherwise_the_databases_business() {
    let mut tree = DataTree::new();
    let body = TxnBody::CreateSession(CreateSessionTxn { timeout_ms: 4000 });
    assert_eq!(apply(&mut tree, 1, &body), TxnResult::Ok(ResultBody::CreateSession { timeout_ms: 4000 }));
}

#[test]
fn containers_and_ttl_nodes_show_no_owner_and_are_reaped_when_empty() {
    let (data, acl) = (None, vec![Acl::open()]);
    let container = |path: &str| {
        let (path, data, acl) = (path.into(), data.clone(), acl.clone());
        TxnBody::CreateContainer(CreateContainerTxn { path, data, acl, parent_cversion: -1 })
    };
    let ttl = |path: &str, ttl_ms| {
        let (path, data, acl) = (path.into(), data.clone(), acl.clone());
        TxnBody::CreateTtl(CreateTtlTxn { path, data, acl, parent_cversion: -1, ttl_ms })
    };
    let mut tree = applied(1, &[container("/c"), container("/new"), ttl("/t", 50), create("/c/x"), create("/t/x")]);
    assert_eq!(tree.get("/c").unwrap().stat().ephemeral_owner, 0);
    assert_eq!(tree.get("/c").unwrap().persisted().ephemeral_owner, CONTAINER_OWNER);
    assert_eq!(tree.get("/t").unwrap().owner(), Owner::Ttl { ttl_ms: 50 });
    let reapable = |tree: &DataTree, now_ms, never_used_ms| {
        let mut all = tree.reapable(None, 9, &Lifetimes { now_ms, never_used_ms, with_ttl: true }).0;
        all.sort_unstable();
        all
    };
    assert_eq!(reapable(&tree, i64::MAX, 0), Vec::<String>::new(), "they have children");
    apply(&mut tree, 6, &delete("/c/x"));
    apply(&mut tree, 7, &delete("/t/x"));
    assert_eq!(reapable(&tree, 1053, 0), ["/c"], "the TTL counts from mtime, 1003, and is not over at 1053");
    assert_eq!(reapable(&tree, 1054, 0), ["/c", "/t"]);
    assert_eq!(reapable(&tree, 1052, 50), ["/c"]);
    assert_eq!(reapable(&tree, 1053, 50), ["/c", "/new"], "never used, and older than 50 ms");
    let lifetimes = Lifetimes { now_ms: 1053, never_used_ms: 50, with_ttl: false };
    let (first, mark) = tree.reapable(None, 1, &lifetimes);
    let (second, mark) = tree.reapable(mark, 1, &lifetimes);
    let (third, end) = tree.reapable(mark, 1, &lifetimes);
    let mut all = [first, second, third].concat();
    all.sort_unstable();
    assert_eq!(all, ["/c", "/new"], "one at a time, all of them are looked at; without extended types no TTL node");
    assert!(mark.is_some() && end.is_none());
    apply(&mut tree, 8, &TxnBody::DeleteContainer(DeleteTxn { path: "/c".into() }));
    assert!(tree.get("/c").is_none());
    assert_eq!(apply(&mut tree, 9, &ttl("/bad", 0)), TxnResult::Error(ErrorCode::BadArguments));
    assert_eq!(apply(&mut tree, 9, &ttl("/bad", TTL_MS_MAX + 1)), TxnResult::Error(ErrorCode::BadArguments));
}

#[test]
fn a_change_carries_the_acl_of_the_node_and_of_its_parent() {
    let mut tree = applied(1, &[create("/a")]);
    let acl = vec![Acl { perms: 1, id: Id::new("digest", "a:x") }];
    let (path, data) = ("/a/b".to_string(), None);
    let create = TxnBody::Create(CreateTxn { path, data, acl: acl.clone(), ephemeral: false, parent_cversion: 1 });
    for body in [create, set("/a/b", b"x", 1), delete("/a/b")] {
        let mut seen = 0;
        tree.apply(SESSION, Zxid(5), 0, &body, &mut |change| {
            assert_eq!((&**change.acl, &**change.parent_acl), (&acl[..], &[Acl::open()][..]));
            seen += 1;
        });
        assert_eq!(seen, 1);
    }
}

#[test]
fn usage_follows_the_deepest_quota_without_version_or_zxid() {
    let mut tree = applied(
        1,
        &[
            create("/a"),
            create("/a/b"),
            create("/zookeeper/quota/a"),
            create("/zookeeper/quota/a/zookeeper_limits"),
            create("/zookeeper/quota/a/zookeeper_stats"),
        ],
    );
    let path = "/zookeeper/quota/a/zookeeper_stats";
    let usage = |tree: &DataTree| String::from_utf8(tree.get(path).unwrap().data().unwrap().to_vec()).unwrap();
    assert_eq!(usage(&tree), "count=2,bytes=8");
    apply(&mut tree, 10, &create("/a/b/c"));
    apply(&mut tree, 11, &set("/a/b", b"longer", 1));
    apply(&mut tree, 12, &create("/other"));
    assert_eq!(usage(&tree), "count=3,bytes=14");
    apply(&mut tree, 13, &delete("/a/b/c"));
    assert_eq!(usage(&tree), "count=2,bytes=10");
    let stat = tree.get(path).unwrap().stat();
    assert_eq!((stat.version, stat.mzxid, stat.data_length), (0, Zxid(5), 16));
    apply(&mut tree, 14, &delete("/zookeeper/quota/a/zookeeper_limits"));
    apply(&mut tree, 15, &delete("/a/b"));
    assert_eq!(usage(&tree), "count=2,bytes=10", "no quota, no counting");
}

#[test]
fn a_hard_limit_refuses_a_soft_one_is_told_and_reaching_either_is_allowed() {
    let limits = "/zookeeper/quota/a/zookeeper_limits";
    let mut tree = applied(
        1,
        &[
            create("/a"),
            create("/zookeeper/quota/a"),
            create(limits),
            create("/zookeeper/quota/a/zookeeper_stats"),
            set(limits, b"count=1,bytes=1=;byteHardLimit=10;countHardLimit=2", 1),
        ],
    );
    let exceeded = |tree: &DataTree, path, count, bytes| {
        let exceeded = tree.exceeded_quota(path, count, bytes);
        exceeded.map(|exceeded| (exceeded.is_hard, exceeded.to_string())).unwrap_or_default()
    };
    let none = (false, String::new());
    assert_eq!(exceeded(&tree, "/a/b", 1, 6), none);
    assert_eq!(exceeded(&tree, "/a/b", 0, -9), none);
    let bytes = (true, "Quota exceeded: /a [current bytes=11, hardByteLimit=10]".to_owned());
    assert_eq!(exceeded(&tree, "/a/b", 1, 7), bytes);
    let count = (true, "Quota exceeded: /a [current count=3, hardCountLimit=2]".to_owned());
    assert_eq!(exceeded(&tree, "/a/b", 2, 7), count, "the count comes first");
    assert_eq!(exceeded(&tree, "/b", 9, 99), none);
    apply(&mut tree, 9, &set(limits, b"count=1,bytes=10", 2));
    let count = (false, "Quota exceeded: /a [current count=2, softCountLimit=1]".to_owned());
    assert_eq!(exceeded(&tree, "/a/b", 1, 6), count);
    let bytes = (false, "Quota exceeded: /a [current bytes=11, softByteLimit=10]".to_owned());
    assert_eq!(exceeded(&tree, "/a/b", 0, 7), bytes);
    apply(&mut tree, 10, &delete("/zookeeper/quota/a/zookeeper_stats"));
    assert_eq!(exceeded(&tree, "/a/b", 9, 99), none);
}

#[test]
fn the_configuration_is_set_without_a_transaction() {
    let mut tree = DataTree::new();
    let digest = tree.digest();
    tree.set_config(b"server.1=...", 0x10, 77);
    let node = tree.get("/zookeeper/config").unwrap();
    let stat = node.stat();
    assert_eq!((stat.version, stat.mzxid, stat.mtime, stat.aversion), (-1, Zxid(0x10), 77, -1));
    assert_eq!(node.data(), Some(&b"server.1=..."[..]));
    assert_eq!(tree.digest(), digest);
}

#[test]
fn eight_snapshots_may_be_under_way() {
    let mut tree = DataTree::new();
    let sessions = std::collections::BTreeMap::new();
    let cursors: Vec<_> = (0..8).map(|_| tree.begin_snapshot(&sessions).unwrap()).collect();
    assert_eq!(tree.begin_snapshot(&sessions), None);
    tree.end_snapshot(cursors[3]);
    assert!(tree.begin_snapshot(&sessions).is_some_and(|cursor| !cursors.contains(&cursor)));
}
