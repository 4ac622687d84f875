//! What becomes of each write: the order of the checks is pinned by the recorded conversations
//! (`tests/client_replay`); here is what those cannot show, because there nothing is ever in flight.

use super::io::Proposal;
use super::settings::{NodeSettings, Settings};
use super::test_host::{TestHost, create, create_body, create_with, set};
use crate::jute::Record;
use crate::records::{
    CreateTtlRequest, Id, MultiOp, MultiRequest, PathOnly, PathVersion, ReconfigRequest, Request, RequestAcl,
    SessionId, SetAclRequest, SetDataRequest, TxnBody, op,
};
use crate::sync::{read, write};

fn delete(path: &str, version: i32) -> Request {
    Request::Delete(PathVersion { path: Some(path.into()), version })
}

fn multi(ops: Vec<MultiOp>) -> Request {
    Request::Multi(MultiRequest { ops })
}

/// Proposes without committing, as session 1.
fn propose(host: &TestHost, body: Request) -> Proposal {
    host.propose(SessionId(1), 1, body)
}

fn error_of(proposal: &Proposal) -> Option<i32> {
    match &proposal.txn.body {
        TxnBody::Error(error) => Some(error.err),
        _ => None,
    }
}

fn path_of(proposal: &Proposal) -> &str {
    match &proposal.txn.body {
        TxnBody::Create(body) | TxnBody::Create2(body) => &body.path,
        other => panic!("{other:?} is no create"),
    }
}

#[test]
fn of_two_pipelined_creates_of_a_path_the_second_fails() {
    let host = TestHost::new();
    let both = vec![propose(&host, create("/a", 0)), propose(&host, create("/a", 0))];
    assert_eq!(both.iter().map(error_of).collect::<Vec<_>>(), [None, Some(-110)]);
    assert_eq!(both[1].txn.digest, None, "an error transaction carries no digest");
    host.commit(both);
}

#[test]
fn numbers_of_sequential_nodes_count_what_is_in_flight() {
    let host = TestHost::new();
    host.order(create("/q", 0)).unwrap();
    let proposals: Vec<_> = (0..3).map(|_| propose(&host, create("/q/n-", 2))).collect();
    host.commit(proposals[..1].to_vec());
    let later = propose(&host, create("/q/", 3));
    let paths: Vec<&str> = proposals.iter().chain([&later]).map(path_of).collect();
    assert_eq!(paths, ["/q/n-0000000000", "/q/n-0000000001", "/q/n-0000000002", "/q/0000000003"]);
    host.commit(proposals[1..].iter().cloned().chain([later]).collect());
}

#[test]
fn versions_count_what_is_in_flight() {
    let host = TestHost::new();
    host.order(create("/a", 0)).unwrap();
    let at = |version| {
        let (path, data) = (Some("/a".into()), Some(vec![1]));
        propose(&host, Request::SetData(SetDataRequest { path, data, version }))
    };
    let all = vec![at(0), at(1), at(1), at(-1)];
    assert_eq!(all.iter().map(error_of).collect::<Vec<_>>(), [None, None, Some(-103), None]);
    host.commit(all);
    assert_eq!(read(&host.db).tree().get("/a").unwrap().stat().version, 3);
}

#[test]
fn a_node_whose_child_is_in_flight_cannot_be_deleted_and_one_whose_child_goes_can() {
    let host = TestHost::new();
    host.order(create("/a", 0)).unwrap();
    let all = vec![
        propose(&host, create("/a/b", 0)),
        propose(&host, delete("/a", -1)),
        propose(&host, delete("/a/b", -1)),
        propose(&host, delete("/a", -1)),
        propose(&host, create("/a/b", 0)),
    ];
    assert_eq!(all.iter().map(error_of).collect::<Vec<_>>(), [None, Some(-111), None, None, Some(-101)]);
    host.commit(all);
}

#[test]
fn a_failed_multi_keeps_what_came_before_the_failure_and_changes_nothing() {
    let host = TestHost::new();
    host.order(create("/a", 0)).unwrap();
    let ops = vec![
        MultiOp::Create2(create_body("/a/b", b"", 0)),
        MultiOp::SetData(SetDataRequest { path: Some("/a".into()), data: None, version: -1 }),
        MultiOp::Delete(PathVersion { path: Some("/missing".into()), version: -1 }),
        MultiOp::Check(PathVersion { path: Some("/a".into()), version: -1 }),
    ];
    let failed = propose(&host, multi(ops));
    let TxnBody::Multi(subs) = &failed.txn.body else { panic!("{failed:?}") };
    let ops: Vec<i32> = subs.iter().map(TxnBody::op).collect();
    assert_eq!(ops, [op::CREATE, op::SET_DATA, op::ERROR, op::ERROR], "a create2 is proposed as a create");
    let errors: Vec<i32> =
        subs.iter().filter_map(|sub| if let TxnBody::Error(e) = sub { Some(e.err) } else { None }).collect();
    assert_eq!(errors, [-101, -2]);
    assert!(failed.txn.digest.is_some(), "a failed multi is no error transaction");

    let again = propose(&host, create("/a/b", 0));
    assert_eq!(error_of(&again), None, "the failed multi left nothing behind");
    host.commit(vec![failed, again]);
    assert_eq!(read(&host.db).tree().get("/a").unwrap().stat().version, 0);
}

#[test]
fn a_multi_with_an_operation_that_is_none_is_malformed_as_a_whole() {
    let host = TestHost::new();
    let bad = [
        MultiOp::GetData(crate::records::PathWatch { path: Some("/".into()), watch: false }),
        MultiOp::Create(create_body("/a", b"", 7)),
        MultiOp::Create(create_body("/a", b"", 5)),
        MultiOp::Create(crate::records::CreateRequest { acl: None, ..create_body("/a", b"", 0) }),
    ];
    for op in bad {
        assert_eq!(host.order(multi(vec![MultiOp::Create(create_body("/b", b"", 0)), op])), Err(-5));
    }
}

#[test]
fn closing_a_session_lists_its_ephemerals_of_the_tree_and_in_flight() {
    let host = TestHost::new();
    for path in ["/kept", "/gone"] {
        host.order(create(path, 1)).unwrap();
    }
    let mut all = vec![
        propose(&host, delete("/gone", -1)),
        propose(&host, create("/new", 1)),
        host.propose(SessionId(2), 1, create("/other", 1)),
        propose(&host, Request::CloseSession),
    ];
    let TxnBody::CloseSession { paths } = &all[3].txn.body else { panic!("{:?}", all[3]) };
    assert_eq!(paths.as_deref(), Some(&["/kept".to_owned(), "/new".to_owned()][..]));
    all.push(propose(&host, create("/new", 0)));
    assert_eq!(error_of(&all[4]), None, "the path is free again");
    host.commit(all);
}

/// What is used is asked of the tree, but a setData replaces what is in flight: so in ZooKeeper's `checkQuota`.
#[test]
fn a_quota_takes_the_difference_from_the_data_in_flight() {
    let host = TestHost::new();
    for (path, data) in [
        ("/q", ""),
        ("/q/old", "1234567890"),
        ("/zookeeper/quota/q", ""),
        ("/zookeeper/quota/q/zookeeper_limits", "count=-1,bytes=-1=;byteHardLimit=21"),
        ("/zookeeper/quota/q/zookeeper_stats", ""),
    ] {
        host.order(create_with(path, data.as_bytes(), 0)).unwrap();
    }
    let nodes = NodeSettings { enforce_quota: true, ..NodeSettings::default() };
    write(&host.db).set_settings(Settings { nodes, ..Settings::default() });
    let set_to = |path: &str, len| propose(&host, set(path, &vec![7; len]));
    let all = vec![
        propose(&host, create_with("/q/new", &[7; 10], 0)),
        set_to("/q/new", 12),
        set_to("/q/new", 24),
        set_to("/q/old", 1),
        set_to("/q/old", 13),
        set_to("/q/old", 12),
        propose(
            &host,
            Request::SetAcl(SetAclRequest {
                path: Some("/q/new".into()),
                acl: create_body("", b"", 0).acl,
                version: -1,
            }),
        ),
        set_to("/q/new", 23),
        set_to("/q/new", 35),
    ];
    let errors: Vec<_> = all.iter().map(error_of).collect();
    let too_much = Some(-125);
    assert_eq!(errors, [None, None, too_much, None, too_much, None, None, None, too_much]);
}

#[test]
fn an_acl_in_flight_counts_and_auth_entries_are_expanded() {
    let host = TestHost::new();
    host.order(create("/a", 0)).unwrap();
    let user = [Id::new("digest", "user:hash")];
    let mine = RequestAcl { perms: 31, scheme: Some("auth".into()), id: None };
    let lock = Request::SetAcl(SetAclRequest { path: Some("/a".into()), acl: Some(vec![mine]), version: 0 });
    let locked = host.propose_as(&user, SessionId(1), 1, lock);
    let TxnBody::SetAcl(body) = &locked.txn.body else { panic!("{locked:?}") };
    assert_eq!((body.version, &body.acl[0].id), (1, &user[0]));
    let by_others = [propose(&host, set("/a", b"")), propose(&host, create("/a/b", 0))];
    assert_eq!(by_others.each_ref().map(error_of), [Some(-102), Some(-102)]);
    let by_user = host.propose_as(&user, SessionId(1), 1, set("/a", b""));
    assert_eq!(error_of(&by_user), None);
    host.commit([locked].into_iter().chain(by_others).chain([by_user]).collect());
}

#[test]
fn a_failed_session_check_is_the_answer_at_its_place() {
    use crate::records::{ErrorCode, ForwardedBody, Zxid};
    let host = TestHost::new();
    let db = read(&host.db);
    let mut in_flight = super::InFlight::new(&db);
    let mut ask = |request: Request| {
        let body = ForwardedBody::Request(request);
        let session_check = Err(ErrorCode::SessionMoved);
        let request = super::PrepareRequest::new(SessionId(1), 1, &body, &[]);
        let request = super::PrepareRequest { session_check, ephemeral_check: session_check, ..request };
        in_flight.prepare(&db, &request, Zxid(1), 1).0
    };
    let error = |body: &TxnBody| if let TxnBody::Error(error) = body { error.err } else { 0 };
    assert_eq!(error(&ask(create("/a", 9))), -8, "bad flags come before the session");
    assert_eq!(error(&ask(create("no-path", 0))), -118, "the session comes before the path");
    let TxnBody::Multi(subs) = ask(multi(vec![MultiOp::Create(create_body("/a", b"", 0))])) else { panic!() };
    assert_eq!(error(&subs[0]), -118);
}

#[test]
fn what_no_log_could_take_is_refused_before_it_is_proposed() {
    let host = TestHost::new();
    // Each entry of this list is expanded to every digest id of the connection; all together within the bound of these.
    let ids: Vec<Id> = (0..2000).map(|n| Id::new("digest", &format!("u{n}"))).collect();
    let list = (0..50).map(|perms| RequestAcl { perms, scheme: Some("auth".into()), id: None }).collect();
    let body = crate::records::CreateRequest { acl: Some(list), ..create_body("/a", b"", 0) };
    let refused = host.propose_as(&ids, SessionId(1), 1, Request::Create(body));
    assert_eq!(error_of(&refused), Some(-8));
    assert_eq!(error_of(&propose(&host, create("/a", 0))), None, "nothing of it was left");
}

#[test]
fn a_session_with_very_many_ephemerals_still_fits_into_its_end() {
    let host = TestHost::new();
    let name = "x".repeat(500);
    let all: Vec<_> = (0..3000).map(|n| propose(&host, create(&format!("/{name}{n}"), 1))).collect();
    host.commit(all);
    let end = propose(&host, Request::CloseSession);
    assert!(end.bytes.len() <= crate::records::TXN_BYTES_MAX);
    host.commit(vec![end]);
    assert_eq!(read(&host.db).tree().ephemeral_count(), 0, "those that are not listed go too");
}

#[test]
fn operations_that_are_not_for_clients_become_errors() {
    let host = TestHost::new();
    let check = Request::Check(PathVersion { path: Some("/".into()), version: -1 });
    assert_eq!(host.order(check), Err(-6));
    let empty = ReconfigRequest { joining: None, leaving: None, new_members: None, current_config: -1 };
    assert_eq!(host.order(Request::Reconfig(empty)), Err(-123));
    let reap = |path: &str| host.order(Request::DeleteContainer(PathOnly { path: Some(path.into()) }));
    host.order(create("/ephemeral", 1)).unwrap();
    assert_eq!([reap("/missing"), reap("/ephemeral"), reap("/zookeeper")], [Err(-101), Err(-103), Err(-8)]);
    host.order(Request::CreateContainer(create_body("/container", b"", 4))).unwrap();
    assert!(matches!(reap("/container"), Ok(TxnBody::DeleteContainer(_))));
}

/// A small generator: the tests of the pure layers need no randomness from outside.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn random_request(random: &mut Random) -> Request {
    let names = ["/a", "/b", "/a/c", "/a/d", "/b/e", "/a/c/f", "/zookeeper/g"];
    let path = names[random.below(names.len() as u64) as usize];
    let version = [-1, -1, -1, 0, 1][random.below(5) as usize];
    let data = vec![7; random.below(20) as usize];
    match random.below(12) {
        0..3 => create_with(path, &data, [0, 0, 1, 2, 3][random.below(5) as usize]),
        3 => Request::CreateContainer(create_body(path, &data, 4)),
        4 => {
            let body = create_body(path, &data, 5);
            let (path, data, acl, flags) = (body.path, body.data, body.acl, body.flags);
            Request::CreateTtl(CreateTtlRequest { path, data, acl, flags, ttl_ms: 1000 })
        }
        5 | 6 => delete(path, version),
        7 => set("/", &data),
        8 => Request::SetData(SetDataRequest { path: Some(path.into()), data: None, version }),
        9 => {
            let acl = create_body(path, b"", 0).acl;
            Request::SetAcl(SetAclRequest { path: Some(path.into()), acl, version })
        }
        10 => {
            let sub = |random: &mut Random| match random.below(4) {
                0 => MultiOp::Create(create_body(path, b"multi", [0, 1, 2, 4][random.below(4) as usize])),
                1 => MultiOp::Delete(PathVersion { path: Some(path.into()), version }),
                2 => MultiOp::SetData(SetDataRequest { path: Some(path.into()), data: Some(vec![1]), version }),
                _ => MultiOp::Check(PathVersion { path: Some("/a".into()), version: -1 }),
            };
            multi((0..random.below(4)).map(|_| sub(random)).collect())
        }
        _ => Request::CloseSession,
    }
}

/// Whatever is in flight, the digest in each transaction is that of the tree after it: `commit` compares them.
#[test]
fn predicted_digests_are_those_of_the_tree() {
    let (mut done, mut failed) = (0, 0);
    for seed in 0..40 {
        let mut random = Random(seed);
        let host = TestHost::new();
        let mut waiting = Vec::new();
        for _ in 0..200 {
            let session = SessionId(1 + random.below(3) as i64);
            let proposal = host.propose(session, 1, random_request(&mut random));
            *(if error_of(&proposal).is_some() { &mut failed } else { &mut done }) += 1;
            waiting.push(proposal);
            if random.below(4) == 0 {
                let commit = random.below(waiting.len() as u64 + 1) as usize;
                host.commit(waiting.drain(..commit).collect());
            }
        }
        host.commit(waiting);
    }
    assert!(done > 3000 && failed > 1000, "{done} done, {failed} failed");
}

/// What is proposed is read back as the same transaction.
#[test]
fn proposals_are_read_back_from_their_bytes() {
    let (host, mut random) = (TestHost::new(), Random(1));
    for _ in 0..300 {
        let proposal = propose(&host, random_request(&mut random));
        assert_eq!(crate::records::Txn::from_bytes(&proposal.bytes).as_ref(), Ok(&*proposal.txn));
        host.commit(vec![proposal]);
    }
}
