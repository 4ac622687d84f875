//! The order of each write's checks, as tables: of two rules that a request breaks, the one that comes first answers.
//!
//! ZooKeeper: `PrepRequestProcessor.pRequest2Txn`.

use super::settings::{NodeSettings, Settings};
use super::test_host::{TestHost, create, create_body, create_with};
use super::{InFlight, PrepareRequest};
use crate::records::{
    CreateRequest, CreateTtlRequest, ErrorCode, ForwardedBody, Id, MultiOp, MultiRequest, PathOnly, PathVersion,
    ReconfigRequest, Request, RequestAcl, SessionId, SetAclRequest, SetDataRequest, SetDataTxn, TTL_MS_MAX, TxnBody,
    Zxid,
};
use crate::sync::{read, write};

const NODES: NodeSettings = NodeSettings {
    extended_types: true,
    enforce_quota: true,
    reconfig: true,
    close_session_lists: true,
    txn_bytes_max: 2000,
};

/// `/open` with a child, `/closed` and its child that only super may touch, `/ephemeral`, and `/quota`, which is full.
fn world(nodes: NodeSettings) -> TestHost {
    let host = TestHost::new();
    let closed = |path: &str| {
        let nobody = RequestAcl { perms: 31, scheme: Some("digest".into()), id: Some("nobody:x".into()) };
        let body = CreateRequest { acl: Some(vec![nobody]), ..create_body(path, b"", 0) };
        let as_super = [Id::new("super", "")];
        host.commit(vec![host.propose_as(&as_super, SessionId(1), 1, Request::Create(body))]);
    };
    closed("/closed");
    closed("/closed/child");
    for (path, data, flags) in [
        ("/open", "", 0),
        ("/open/child", "", 0),
        ("/ephemeral", "", 1),
        ("/quota", "12345", 0),
        ("/zookeeper/quota/quota", "", 0),
        ("/zookeeper/quota/quota/zookeeper_limits", "count=-1,bytes=-1=;byteHardLimit=5;countHardLimit=1", 0),
        ("/zookeeper/quota/quota/zookeeper_stats", "", 0),
    ] {
        assert!(host.order(create_with(path, data.as_bytes(), flags)).is_ok(), "{path}");
    }
    write(&host.db).set_settings(Settings { nodes, ..Settings::default() });
    host
}

/// What the request becomes, without being proposed.
fn prepared(host: &TestHost, request: Request, session_check: Result<(), ErrorCode>, auth: &[Id]) -> TxnBody {
    let db = read(&host.db);
    let body = ForwardedBody::Request(request);
    let ephemeral_check = session_check;
    let request =
        PrepareRequest { session_check, ephemeral_check, ..PrepareRequest::new(SessionId(1), 1, &body, auth) };
    InFlight::new(&db).prepare(&db, &request, Zxid(1000), 1).0
}

fn code(body: &TxnBody) -> i32 {
    match body {
        TxnBody::Error(error) => error.err,
        TxnBody::Multi(subs) => subs.iter().map(code).find(|code| *code != 0).unwrap_or_default(),
        _ => 0,
    }
}

/// The request as the only operation of a multi, if it may be one.
fn in_multi(request: &Request) -> Option<Request> {
    let op = match request.clone() {
        Request::Create(body) => MultiOp::Create(body),
        Request::Create2(body) => MultiOp::Create2(body),
        Request::CreateContainer(body) => MultiOp::CreateContainer(body),
        Request::CreateTtl(body) => MultiOp::CreateTtl(body),
        Request::Delete(body) => MultiOp::Delete(body),
        Request::SetData(body) => MultiOp::SetData(body),
        Request::Check(body) => MultiOp::Check(body),
        _ => return None,
    };
    Some(Request::Multi(MultiRequest { ops: vec![op] }))
}

const ENDED: Result<(), ErrorCode> = Err(ErrorCode::SessionExpired);

/// Asks each, alone; and as the only operation of a multi, unless `malformed_in_multi` says that it cannot be one.
fn assert_codes(host: &TestHost, rows: Vec<(&str, Result<(), ErrorCode>, Request, i32)>) {
    let ip = [Id::new("ip", "127.0.0.1")];
    for (rule, session, request, want) in rows {
        if !matches!(request, Request::Check(_)) {
            let got = code(&prepared(host, request.clone(), session, &ip));
            assert_eq!(got, want, "{rule}: {request:?}");
        }
        if let Some(multi) = in_multi(&request) {
            let got = prepared(host, multi, session, &ip);
            let is_malformed = matches!(got, TxnBody::Error(_));
            assert!(is_malformed && code(&got) == -5 || code(&got) == want, "{rule}, in a multi: {got:?}");
        }
    }
}

fn no_acl(path: &str) -> Request {
    Request::Create2(CreateRequest { acl: Some(vec![]), ..create_body(path, b"", 0) })
}

fn ttl(path: &str, flags: i32, ttl_ms: i64) -> Request {
    let CreateRequest { path, data, acl, .. } = create_body(path, b"", 0);
    Request::CreateTtl(CreateTtlRequest { path, data, acl, flags, ttl_ms })
}

fn container(path: &str, flags: i32) -> Request {
    Request::CreateContainer(create_body(path, b"", flags))
}

fn at(path: &str, version: i32) -> PathVersion {
    PathVersion { path: Some(path.into()), version }
}

#[test]
fn create_checks_in_order() {
    let rows = vec![
        ("flags come before the session", ENDED, create("/new", 7), -8),
        ("flags come before the session", ENDED, create("/new", -1), -8),
        ("so does a mode with a TTL where none can be", ENDED, create("/new", 5), -8),
        ("so does a mode with a TTL where none can be", ENDED, container("/new", 6), -8),
        ("so does the TTL", ENDED, ttl("/new", 5, 0), -8),
        ("a TTL has 40 bits", ENDED, ttl("/new", 6, TTL_MS_MAX + 1), -8),
        ("the session comes before the path", ENDED, create("no-path", 0), -112),
        ("a path needs a slash before the ACL is looked at", Ok(()), no_acl("no-path"), -8),
        ("it must not hold NUL", Ok(()), no_acl("/a\0"), -8),
        ("the ACL comes before the parent", Ok(()), no_acl("/missing/a"), -114),
        ("the parent comes before the name", Ok(()), create("/missing/\u{1}", 0), -101),
        ("so what is no path may have no parent", Ok(()), create("/open//a", 0), -101),
        ("the parent's ACL comes before the name", Ok(()), create("/closed/\u{1}", 0), -102),
        ("it comes before what is there", Ok(()), create("/closed/child", 0), -102),
        ("the name comes last of the path", Ok(()), create("/open/..", 0), -8),
        ("the name is judged with its number", Ok(()), create("/open/", 0), -8),
        ("a name of digits alone is one", Ok(()), create("/open/", 2), 0),
        ("the root is there", Ok(()), create("/", 0), -110),
        ("what is there comes before the quota", Ok(()), create("/open/child", 0), -110),
        ("an ephemeral has no children", Ok(()), create("/ephemeral/x", 0), -108),
        ("a quota is full", Ok(()), create("/quota/x", 0), -125),
        ("all is well", Ok(()), create("/open/new", 3), 0),
        ("all is well", Ok(()), container("/open/new", 4), 0),
        ("all is well", Ok(()), ttl("/open/new", 6, TTL_MS_MAX), 0),
    ];
    let host = world(NODES);
    assert_codes(&host, rows);
    for (flags, ttl_ms) in [(0, 5), (0, -1), (1, -1), (4, -1)] {
        let lone = prepared(&host, ttl("/new", flags, ttl_ms), Ok(()), &[]);
        assert_eq!(code(&lone), -8, "a TTL without its mode kills a server of Apache's");
    }
    let multi = in_multi(&ttl("/new", 0, 5)).expect("it may be in one");
    let TxnBody::Multi(subs) = prepared(&host, multi, Ok(()), &[]) else { panic!() };
    assert!(matches!(&subs[..], [TxnBody::Create(_)]), "in a multi the mode decides alone: {subs:?}");
}

#[test]
fn ttl_nodes_need_extended_types_and_that_comes_before_everything_but_the_flags() {
    let rows = vec![
        ("flags that are none", ENDED, ttl("/new", 7, 0), -8),
        ("a mode with a TTL", ENDED, ttl("/new", 5, 0), -6),
        ("a mode with a TTL", ENDED, create("/new", 6), -6),
        ("a mode without", ENDED, create("/new", 0), -112),
    ];
    assert_codes(&world(NodeSettings { extended_types: false, ..NODES }), rows);
}

#[test]
fn delete_checks_in_order() {
    let delete = |path: &str, version| Request::Delete(at(path, version));
    let rows = vec![
        ("the session comes before the path", ENDED, delete("/", -1), -112),
        ("the root stays", Ok(()), delete("/", -1), -8),
        ("so do the nodes of the system", Ok(()), delete("/zookeeper", -1), -8),
        ("so do the nodes of the system", Ok(()), delete("/zookeeper/quota", -1), -8),
        ("so do the nodes of the system", Ok(()), delete("/zookeeper/config", -1), -8),
        ("a path needs a slash", Ok(()), delete("no-path", -1), -8),
        ("a path must not hold NUL", Ok(()), delete("/a\0", -1), -8),
        ("otherwise it is no matter", Ok(()), delete("/open/", -1), -101),
        ("the parent must be there", Ok(()), delete("/missing/a", -1), -101),
        ("the parent's ACL comes before the node", Ok(()), delete("/closed/missing", -1), -102),
        ("the node comes before its version", Ok(()), delete("/open/missing", 7), -101),
        ("the version comes before the children", Ok(()), delete("/open", 7), -103),
        ("-2 is a version like any other", Ok(()), delete("/open", -2), -103),
        ("children keep it", Ok(()), delete("/open", 0), -111),
        ("its own ACL is no matter", Ok(()), delete("/closed", -1), -111),
        ("all is well", Ok(()), delete("/open/child", 0), 0),
        ("all is well", Ok(()), delete("/ephemeral", -1), 0),
    ];
    assert_codes(&world(NODES), rows);
}

#[test]
fn delete_container_asks_neither_session_nor_acl() {
    let reap = |path: &str| Request::DeleteContainer(PathOnly { path: Some(path.into()) });
    let rows = vec![
        ("the root stays", ENDED, reap("/"), -8),
        ("it must be there", ENDED, reap("/closed/missing"), -101),
        ("children keep it", ENDED, reap("/open"), -111),
        ("an ephemeral is its session's", ENDED, reap("/ephemeral"), -103),
        ("all is well", ENDED, reap("/closed/child"), 0),
    ];
    assert_codes(&world(NODES), rows);
}

#[test]
fn set_data_checks_in_order() {
    let set = |path: &str, data: &str, version| {
        Request::SetData(SetDataRequest { path: Some(path.into()), data: Some(data.into()), version })
    };
    let rows = vec![
        ("the session comes before the path", ENDED, set("/open/", "", -1), -112),
        ("the whole path comes before the node", Ok(()), set("/missing/", "", -1), -8),
        ("the node comes before its version", Ok(()), set("/missing", "", 7), -101),
        ("the ACL comes before the version", Ok(()), set("/closed", "", 7), -102),
        ("the quota comes before the version", Ok(()), set("/quota", "123456", 7), -125),
        ("what was there counts", Ok(()), set("/quota", "12345", 7), -103),
        ("-2 is a version like any other", Ok(()), set("/open", "", -2), -103),
        ("the root can be written", Ok(()), set("/", "", 0), 0),
        ("the configuration is super's", Ok(()), set("/zookeeper/config", "", -1), -102),
    ];
    assert_codes(&world(NODES), rows);
}

#[test]
fn set_acl_checks_in_order() {
    let set = |path: &str, scheme: &str, version| {
        let entry = RequestAcl { perms: 1, scheme: Some(scheme.into()), id: Some("anyone".into()) };
        Request::SetAcl(SetAclRequest { path: Some(path.into()), acl: Some(vec![entry]), version })
    };
    let rows = vec![
        ("the session comes before the path", ENDED, set("/open/", "x", -1), -112),
        ("the path comes before the ACL", Ok(()), set("/open/", "x", -1), -8),
        ("the new ACL comes before the node", Ok(()), set("/missing", "x", -1), -114),
        ("the node comes before its version", Ok(()), set("/missing", "world", 7), -101),
        ("its ACL comes before its version", Ok(()), set("/closed", "world", 7), -102),
        ("its version is that of the ACL", Ok(()), set("/open", "world", 7), -103),
        ("all is well", Ok(()), set("/open", "world", 0), 0),
    ];
    assert_codes(&world(NODES), rows);
}

#[test]
fn a_check_in_a_multi_checks_in_order() {
    let check = |path: &str, version| Request::Check(at(path, version));
    let rows = vec![
        ("the session comes before the path", ENDED, check("/open/", -1), -112),
        ("the path comes before the node", Ok(()), check("/missing/", -1), -8),
        ("the node comes before its version", Ok(()), check("/missing", 7), -101),
        ("the ACL comes before the version", Ok(()), check("/closed", 7), -102),
        ("its version", Ok(()), check("/open", 7), -103),
        ("all is well", Ok(()), check("/open", -1), 0),
    ];
    assert_codes(&world(NODES), rows);
}

#[test]
fn a_reconfig_is_checked_before_its_acl_is() {
    let ask = |host: &TestHost, session_check, auth: &[Id], new_config| {
        let db = read(&host.db);
        let asked = ReconfigRequest { joining: None, leaving: None, new_members: None, current_config: -1 };
        let body = ForwardedBody::Request(Request::Reconfig(asked));
        let request = PrepareRequest::new(SessionId(1), 1, &body, auth);
        let request = PrepareRequest { session_check, new_config, ..request };
        InFlight::new(&db).prepare(&db, &request, Zxid(1000), 1).0
    };
    let (off, host) = (world(NodeSettings { reconfig: false, ..NODES }), world(NODES));
    let (fine, wrong): (Result<&str, _>, Result<&str, _>) = (Ok("text"), Err(ErrorCode::NewConfigNoQuorum));
    assert_eq!(code(&ask(&off, ENDED, &[], wrong)), -123, "it is off, before the session");
    assert_eq!(code(&ask(&host, ENDED, &[], wrong)), -112, "the session comes before the change");
    assert_eq!(code(&ask(&host, Ok(()), &[], wrong)), -13, "the change comes before the ACL");
    assert_eq!(code(&ask(&host, Ok(()), &[], fine)), -102, "the list is super's");
    let TxnBody::Reconfig(txn) = ask(&host, Ok(()), &[Id::new("super", "")], fine) else { panic!("no transaction") };
    let path = "/zookeeper/config".to_owned();
    assert_eq!(txn, SetDataTxn { path, data: Some(b"text".to_vec()), version: -1 });
}

/// Every write, at the limit and a byte beyond it: the limit is of the whole transaction as it is logged.
#[test]
fn a_transaction_is_as_long_as_the_limit_or_it_is_none() {
    let host = world(NODES);
    let data = |len| Some(vec![b'x'; len]);
    let name = |len| format!("/open/{}", "x".repeat(len + 1));
    let list = |len: usize| {
        let entry = |id: String| RequestAcl { perms: 1, scheme: Some("digest".into()), id: Some(format!("{id}:")) };
        let filled = RequestAcl { id: Some(format!("{}:x", "y".repeat(len))), ..entry(String::new()) };
        Some(vec![filled])
    };
    let multi = |op| Request::Multi(MultiRequest { ops: vec![MultiOp::Check(at("/open", -1)), op] });
    let new = |len| CreateRequest { data: data(len), ..create_body("/open/new", b"", 0) };
    let with_ttl = |len| {
        let CreateRequest { path, data, acl, .. } = new(len);
        CreateTtlRequest { path, data, acl, flags: 5, ttl_ms: 7 }
    };
    let set = |len| SetDataRequest { path: Some("/open".into()), data: data(len), version: -1 };
    let writes: [(&str, &dyn Fn(usize) -> Request); 13] = [
        ("create", &|len| Request::Create(new(len))),
        ("create, by its path", &|len| create(&name(len), 0)),
        ("create, by its number", &|len| create(&name(len), 2)),
        ("create, by its ACL", &|len| Request::Create(CreateRequest { acl: list(len), ..new(0) })),
        ("create2", &|len| Request::Create2(new(len))),
        ("createContainer", &|len| Request::CreateContainer(CreateRequest { flags: 4, ..new(len) })),
        ("createTTL", &|len| Request::CreateTtl(with_ttl(len))),
        ("setData", &|len| Request::SetData(set(len))),
        ("setACL", &|len| Request::SetAcl(SetAclRequest { path: Some("/open".into()), acl: list(len), version: -1 })),
        ("create in a multi", &|len| multi(MultiOp::Create(new(len)))),
        ("createTTL in a multi", &|len| multi(MultiOp::CreateTtl(with_ttl(len)))),
        ("setData in a multi", &|len| multi(MultiOp::SetData(set(len)))),
        ("check in a multi", &|len| {
            let path = "/open/child".to_owned();
            let checks = (0..len / 8).map(|_| MultiOp::Check(PathVersion { path: Some(path.clone()), version: -1 }));
            Request::Multi(MultiRequest { ops: checks.chain([MultiOp::SetData(set(len % 8))]).collect() })
        }),
    ];
    for (what, write) in writes {
        let mut longest = 0;
        for len in 0..NODES.txn_bytes_max {
            let proposal = host.propose(SessionId(1), 1, write(len));
            let is_refused = matches!(&proposal.txn.body, TxnBody::Error(error) if error.err == -8);
            if is_refused {
                break;
            }
            assert_eq!(code(&proposal.txn.body), 0, "{what} of {len}");
            longest = proposal.bytes.len();
            // Taken back by another life of the leader, so that the next one finds the tree as it was.
            host.forget();
        }
        let step = if what == "check in a multi" { 34 } else { 1 };
        assert!(longest <= NODES.txn_bytes_max && longest > NODES.txn_bytes_max - step, "{what}: {longest}");
    }
}
