//! What calls look like on the wire, and what comes back.

use super::super::{CallError, CreateMode, ReadOp, WriteOp};
use super::*;
use crate::records::{
    Children, ChildrenStat, CreateRequest, CreateTtlRequest, Ephemerals, MultiOp, MultiRequest, MultiResponse,
    MultiResult, PathOnly, PathStat, PathType, PathVersion, PathWatch, ReconfigRequest, RequestAcl, SetAclRequest,
    SetDataRequest,
};

fn chrooted() -> Host {
    Host::connected_with(SessionConfig { chroot: "/app".into(), ..SessionConfig::new(1, TIMEOUT_MS) })
}

fn some(path: &str) -> Option<String> {
    Some(path.into())
}

#[test]
fn every_call_is_the_request_that_zookeeper_knows() {
    let acl = [Acl::open()];
    let request_acl = || Some(vec![RequestAcl::from(&Acl::open())]);
    let bytes = Some(&b"x"[..]);
    let create =
        |path: &str, flags| CreateRequest { path: some(path), data: Some(b"x".to_vec()), acl: request_acl(), flags };
    let watch = Some(WatchId(1));
    let path = "/a";
    let asked = |watch| PathWatch { path: some("/app/a"), watch };
    let only = || PathOnly { path: some("/app/a") };
    let version = |version| PathVersion { path: some("/app/a"), version };
    let writes = [
        WriteOp::Check { path, version: 1 },
        WriteOp::Create { path, data: bytes, acl: &acl, mode: CreateMode::Ephemeral, stat: true },
        WriteOp::Set { path, data: bytes, version: 2 },
        WriteOp::Delete { path, version: -1 },
    ];
    let reads = [ReadOp::Get { path }, ReadOp::Children { path: "/" }];
    let cases: Vec<(Call<'_>, Request)> = vec![
        (
            Call::Create { path, data: bytes, acl: &acl, mode: CreateMode::Persistent, stat: false },
            Request::Create(create("/app/a", 0)),
        ),
        (
            Call::Create { path, data: bytes, acl: &acl, mode: CreateMode::EphemeralSequential, stat: true },
            Request::Create2(create("/app/a", 3)),
        ),
        (
            Call::Create { path, data: bytes, acl: &acl, mode: CreateMode::Container, stat: false },
            Request::CreateContainer(create("/app/a", 4)),
        ),
        (
            Call::Create { path, data: None, acl: &acl, mode: CreateMode::SequentialTtl { ttl_ms: 70 }, stat: false },
            Request::CreateTtl(CreateTtlRequest {
                path: some("/app/a"),
                data: None,
                acl: request_acl(),
                flags: 6,
                ttl_ms: 70,
            }),
        ),
        (Call::Delete { path, version: 3 }, Request::Delete(version(3))),
        (Call::Exists { path, watch: None }, Request::Exists(asked(false))),
        (Call::Get { path, watch }, Request::GetData(asked(true))),
        (Call::Children { path, watch, stat: false }, Request::GetChildren(asked(true))),
        (Call::Children { path, watch: None, stat: true }, Request::GetChildren2(asked(false))),
        (
            Call::Set { path, data: None, version: -1 },
            Request::SetData(SetDataRequest { path: some("/app/a"), data: None, version: -1 }),
        ),
        (Call::GetAcl { path }, Request::GetAcl(only())),
        (
            Call::SetAcl { path, acl: &acl, version: 2 },
            Request::SetAcl(SetAclRequest { path: some("/app/a"), acl: request_acl(), version: 2 }),
        ),
        (Call::Sync { path }, Request::Sync(only())),
        (
            Call::Multi { ops: &writes },
            Request::Multi(MultiRequest {
                ops: vec![
                    MultiOp::Check(version(1)),
                    MultiOp::Create2(create("/app/a", 1)),
                    MultiOp::SetData(SetDataRequest { path: some("/app/a"), data: Some(b"x".to_vec()), version: 2 }),
                    MultiOp::Delete(version(-1)),
                ],
            }),
        ),
        (
            Call::MultiRead { ops: &reads },
            Request::MultiRead(MultiRequest {
                ops: vec![
                    MultiOp::GetData(asked(false)),
                    MultiOp::GetChildren(PathWatch { path: some("/app"), watch: false }),
                ],
            }),
        ),
        (Call::Ephemerals { prefix: "/" }, Request::GetEphemerals(PathOnly { path: some("/app") })),
        (Call::ChildrenNumber { path }, Request::GetAllChildrenNumber(only())),
        (Call::WhoAmI, Request::WhoAmI),
        (
            Call::Reconfig { joining: None, leaving: Some("3"), new_members: None, current_config: -1 },
            Request::Reconfig(ReconfigRequest {
                joining: None,
                leaving: some("3"),
                new_members: None,
                current_config: -1,
            }),
        ),
    ];
    let mut host = chrooted();
    for (call, expected) in cases {
        host.call(call);
        assert_eq!(host.sent_requests(), [expected], "{call:?}");
    }
}

#[test]
fn a_sequential_znode_of_the_root_is_made_below_the_chroot_and_not_beside_it() {
    let mut host = chrooted();
    let mode = CreateMode::PersistentSequential;
    let call = host.call(Call::Create { path: "/", data: None, acl: &[], mode, stat: false });
    let [Request::Create(body)] = &host.sent_requests()[..] else { panic!("one create") };
    assert_eq!(body.path, some("/app/"));
    host.give(1, 1, &path_reply("/app/0000000000"));
    assert_eq!(host.replies(), [(call, Ok(path_reply("/0000000000")))]);
}

#[test]
fn a_path_that_is_none_is_refused_at_the_call_and_nothing_is_sent() {
    let mut host = Host::connected();
    let mode = CreateMode::Persistent;
    for path in ["", "a", "/a/", "//", "/a/../b", "/a\0"] {
        for call in [
            Call::Get { path, watch: None },
            Call::Sync { path },
            Call::Create { path, data: None, acl: &[], mode, stat: false },
            Call::Multi { ops: &[WriteOp::Check { path: "/a", version: 0 }, WriteOp::Delete { path, version: 0 }] },
        ] {
            let error = host.session.call(0, &call).expect_err(path);
            assert!(matches!(&error, CallError::Path { path: told, .. } if told == path), "{error}");
        }
    }
    assert_eq!(host.take_sent(), []);
    assert_eq!(host.session.in_flight(), 0);
}

#[test]
fn a_request_over_the_limit_is_refused_at_the_call_with_its_size() {
    let mut host = Host::connected();
    let mut set = |length: usize| {
        let data = vec![0; length];
        host.session.call(0, &Call::Set { path: "/a", data: Some(&data), version: -1 })
    };
    // xid, operation, path, length of the data, version.
    let around = 4 + 4 + (4 + 2) + 4 + 4;
    assert!(set(0xf_ffff - around).is_ok());
    let limit = 0xf_ffff;
    assert_eq!(set(limit - around + 1), Err(CallError::TooLong { length: limit + 1, limit }));
    assert_eq!(set(3 << 20), Err(CallError::TooLong { length: (3 << 20) + around, limit }));
    assert_eq!(host.sent_requests().len(), 1);
}

#[test]
fn paths_in_answers_are_below_the_chroot() {
    let mut host = chrooted();
    let mode = CreateMode::Persistent;
    host.call(Call::Create { path: "/a", data: None, acl: &[], mode, stat: true });
    host.call(Call::Sync { path: "/" });
    host.call(Call::Multi { ops: &[] });
    host.call(Call::Ephemerals { prefix: "/" });
    host.call(Call::Children { path: "/", watch: None, stat: true });
    host.take_sent();
    let multi = |path: &str| {
        let results = vec![MultiResult::Create { path: path.into() }, MultiResult::Error { code: -2 }];
        Response::Multi(MultiResponse { results })
    };
    host.give(1, 1, &Response::PathStat(PathStat { path: "/app/a".into(), stat: stat() }));
    host.give(2, 1, &path_reply("/app"));
    host.give(3, 2, &multi("/app/b"));
    let ephemerals = vec!["/app/x".into(), "/apple".into(), "/app".into()];
    host.give(4, 2, &Response::Ephemerals(Ephemerals { ephemerals }));
    let children = Response::ChildrenStat(ChildrenStat { children: vec!["/app".into()], stat: stat() });
    host.give(5, 2, &children);
    let results: Vec<_> = host.replies().into_iter().map(|(_, result)| result.unwrap()).collect();
    assert_eq!(
        results,
        [
            Response::PathStat(PathStat { path: "/a".into(), stat: stat() }),
            path_reply("/"),
            multi("/b"),
            Response::Ephemerals(Ephemerals { ephemerals: vec!["/x".into(), "/".into()] }),
            children,
        ]
    );
}

#[test]
fn calls_are_pipelined_and_answered_in_order() {
    let mut host = Host::connected();
    let calls = [host.get("/a"), host.set("/a"), host.call(Call::Children { path: "/", watch: None, stat: false })];
    let xids: Vec<_> =
        host.take_sent().into_iter().map(|sent| matches!(sent, Sent::Request(xid, _) if xid > 0)).collect();
    assert_eq!(xids, [true; 3]);
    host.give(1, 7, &data(b"old"));
    host.give_error(2, 8, ErrorCode::BadVersion.code());
    let children = Response::Children(Children { children: vec!["a".into()] });
    host.give(3, 8, &children);
    let bad_version = Err(Failure::Server(ErrorCode::BadVersion.code()));
    assert_eq!(host.replies(), [(calls[0], Ok(data(b"old"))), (calls[1], bad_version), (calls[2], Ok(children))]);
    assert_eq!((host.session.last_zxid(), host.session.in_flight()), (Zxid(8), 0));
}

#[test]
fn xids_stay_positive_when_they_are_used_up() {
    let mut host = Host::connected();
    host.session.next_xid = i32::MAX;
    let calls = [host.get("/a"), host.get("/b"), host.get("/c")];
    let xids: Vec<_> =
        host.take_sent().into_iter().map(|sent| if let Sent::Request(xid, _) = sent { xid } else { 0 }).collect();
    assert_eq!(xids, [i32::MAX, 1, 2]);
    for xid in xids {
        host.give(xid, 1, &data(b""));
    }
    assert_eq!(host.replies(), calls.map(|call| (call, Ok(data(b"")))));
}

#[test]
fn a_session_takes_only_so_many_calls_at_once() {
    let mut host = Host::connected();
    let big = vec![0; 1 << 20];
    let error = loop {
        match host.session.call(0, &Call::Set { path: "/a", data: Some(&big[100..]), version: -1 }) {
            Ok(_) => assert!(host.session.in_flight() < 70, "there is a bound"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, CallError::Full { calls: 65, bytes } if bytes > 64 << 20), "{error}");
    // What is sent counts until it is answered, up to a bound of its own.
    host.take_sent();
    host.set("/a");
    let mut host = Host::connected();
    for _ in 0..100_000 {
        host.get("/a");
    }
    assert!(matches!(host.session.call(0, &Call::WhoAmI), Err(CallError::Full { calls: 100_000, .. })));
    host.take_sent();
    host.give(1, 1, &data(b""));
    host.get("/a");
}

#[test]
fn forgetting_the_last_watch_of_a_path_tells_the_server() {
    let mut host = chrooted();
    host.call(Call::Get { path: "/a", watch: Some(WatchId(1)) });
    host.call(Call::Get { path: "/a", watch: Some(WatchId(2)) });
    host.take_sent();
    host.give(1, 1, &data(b""));
    host.give(2, 1, &data(b""));
    host.session.forget_watch(0, WatchId(1));
    assert_eq!(host.sent_requests(), [], "the other one still needs it");
    host.session.forget_watch(0, WatchId(2));
    assert_eq!(host.sent_requests(), [Request::RemoveWatches(PathType { path: some("/app/a"), kind: 3 })]);
    host.give_error(3, 1, ErrorCode::NoWatcher.code());
    host.events();
    host.session.forget_watch(0, WatchId(2));
    assert_eq!((host.sent_requests(), host.events()), (vec![], vec![]));
}
