//! Watches as clients see them: who is told of what, with which zxid, and who may not know. What fires for which watch is
//! tested beside [`WatchManager`](crate::tree::WatchManager).

use super::Outbox;
use super::io::ClientRequest;
use super::test_host::{Sent, TestHost, create, frame, set};
use crate::records::{
    AddWatchRequest, AuthRequest, ErrorCode, EventType, ForwardedBody, MultiOp, MultiRequest, PathType, PathVersion,
    PathWatch, Request, RequestAcl, SetAclRequest, SetWatches2Request, SetWatchesRequest, Zxid,
};
use EventType::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
use std::sync::Arc;

const PASSWORD: &str = "ann:secret";

fn event(zxid: i64, kind: EventType, path: &str) -> Sent {
    Sent::Event { zxid: Zxid(zxid), kind: kind as i32, path: path.into() }
}

fn exists(path: &str) -> Request {
    Request::Exists(PathWatch { path: Some(path.into()), watch: true })
}

fn children(path: &str) -> Request {
    Request::GetChildren(PathWatch { path: Some(path.into()), watch: true })
}

fn delete(path: &str) -> Request {
    Request::Delete(PathVersion { path: Some(path.into()), version: -1 })
}

fn add_watch(path: &str, mode: i32) -> Request {
    Request::AddWatch(AddWatchRequest { path: Some(path.into()), mode })
}

/// data, exist, child.
fn set_watches(relative_zxid: i64, lists: [&[&str]; 3]) -> Request {
    let [data, exist, child] = lists.map(|list| Some(list.iter().map(|path| path.to_string()).collect()));
    Request::SetWatches(SetWatchesRequest { relative_zxid: Zxid(relative_zxid), data, exist, child })
}

/// Authenticates a connection as the one whom [`PASSWORD`] is of.
fn log_in(host: &TestHost, outbox: &Arc<Outbox>) {
    let auth = AuthRequest { kind: 0, scheme: Some("digest".into()), auth: Some(PASSWORD.into()) };
    host.submit(outbox, &[frame(-4, &Request::Auth(auth))]);
    super::test_host::sent(outbox);
}

/// A node that only that one may do anything to.
fn restrict(path: &str) -> Request {
    let id = crate::tree::acl::digest_id(PASSWORD);
    let acl = Some(vec![RequestAcl { perms: 31, scheme: Some("digest".into()), id: Some(id) }]);
    Request::SetAcl(SetAclRequest { path: Some(path.into()), acl, version: -1 })
}

/// The events that a connection gets of one change, and nothing else.
fn events(outbox: &Outbox) -> Vec<Sent> {
    let all = super::test_host::sent(outbox);
    assert!(all.iter().all(|sent| matches!(sent, Sent::Event { .. })), "{all:?}");
    all
}

/// Asks as who the connection is.
fn ask(host: &TestHost, outbox: &Arc<Outbox>, xid: i32, body: Request) -> Vec<Sent> {
    for ClientRequest { session, xid, body, auth, .. } in host.submit(outbox, &[frame(xid, &body)]) {
        let ForwardedBody::Request(body) = body else { panic!("{body:?} is malformed") };
        let proposal = host.propose_as(&auth, session, xid, body);
        host.commit(vec![proposal]);
    }
    super::test_host::sent(outbox)
}

fn code(answer: &[Sent]) -> i32 {
    answer.last().expect("an answer").header().err
}

#[test]
fn an_event_tells_the_zxid_of_its_transaction_and_a_missed_one_none() {
    let host = TestHost::new();
    let (writer, watcher) = (host.connect(1), host.connect(2));
    ask(&host, &watcher, 1, exists("/n"));
    ask(&host, &writer, 1, create("/n", 0));
    let zxid = crate::sync::read(&host.db).last_processed().0;
    assert_eq!(events(&watcher), [event(zxid, NodeCreated, "/n")]);
    let caught_up = ask(&host, &watcher, -8, set_watches(zxid - 1, [&["/n", "/gone"], &["/n"], &["/n"]]));
    let (reply, missed) = caught_up.split_last().unwrap();
    let expected = [
        event(-1, NodeDataChanged, "/n"),
        event(-1, NodeDeleted, "/gone"),
        event(-1, NodeCreated, "/n"),
        event(-1, NodeChildrenChanged, "/n"),
    ];
    assert_eq!(missed, expected, "in the order of the lists, before the answer");
    assert_eq!((reply.header().xid, reply.header().zxid, reply.header().err), (-8, Zxid(zxid), 0));
    ask(&host, &writer, 2, set("/n", b"x"));
    assert_eq!(events(&watcher), [], "who was told has no watch");
}

#[test]
fn the_parts_of_a_multi_are_told_in_order_and_a_failed_one_tells_nothing() {
    let host = TestHost::new();
    let (writer, watcher) = (host.connect(1), host.connect(2));
    ask(&host, &writer, 1, create("/a", 0));
    ask(&host, &watcher, 1, add_watch("/", 1));
    ask(&host, &watcher, 2, exists("/a"));
    let op = |path: &str| MultiOp::Delete(PathVersion { path: Some(path.into()), version: -1 });
    let write = |data: &[u8]| match set("/a", data) {
        Request::SetData(body) => MultiOp::SetData(body),
        _ => unreachable!(),
    };
    ask(&host, &writer, 2, Request::Multi(MultiRequest { ops: vec![write(b"x"), op("/missing")] }));
    assert_eq!(events(&watcher), []);
    let answer = ask(&host, &writer, 3, Request::Multi(MultiRequest { ops: vec![write(b"x"), write(b"y"), op("/a")] }));
    let zxid = answer[0].header().zxid.0;
    assert_eq!(
        events(&watcher),
        [event(zxid, NodeDataChanged, "/a"), event(zxid, NodeDataChanged, "/a"), event(zxid, NodeDeleted, "/a")],
        "once for all the watches of a connection in each step"
    );
}

/// Of each kind of event: whose list counts, that the others are told nothing, and that their watch is used up.
#[test]
fn an_event_is_for_those_who_may_read_what_it_is_about() {
    let host = TestHost::new();
    let (writer, other, ann) = (host.connect(1), host.connect(2), host.connect(3));
    log_in(&host, &writer);
    log_in(&host, &ann);
    for (xid, path) in [(1, "/open"), (2, "/shut"), (3, "/shut/open"), (4, "/shut/gone")] {
        assert_eq!(code(&ask(&host, &writer, xid, create(path, 0))), 0);
    }
    // What is below has a list of its own.
    assert_eq!(code(&ask(&host, &writer, 5, restrict("/shut"))), 0);
    for outbox in [&other, &ann] {
        // Set without a look at any list.
        ask(&host, outbox, -8, set_watches(i64::MAX, [&["/shut", "/shut/open"], &["/shut/new"], &["/shut", "/open"]]));
    }
    let change = |xid, body| {
        let answer = ask(&host, &writer, xid, body);
        assert_eq!(code(&answer), 0, "{answer:?}");
        answer.last().unwrap().header().zxid.0
    };

    let zxid = change(10, set("/shut", b"x"));
    assert_eq!((events(&other), events(&ann)), (vec![], vec![event(zxid, NodeDataChanged, "/shut")]));
    let zxid = change(11, set("/shut/open", b"x"));
    let told = [event(zxid, NodeDataChanged, "/shut/open")];
    assert_eq!((&events(&other)[..], &events(&ann)[..]), (&told[..], &told[..]), "there is no inheritance");
    // The new node may be read, its parent may not.
    let zxid = change(12, create("/shut/new", 0));
    let told = [event(zxid, NodeCreated, "/shut/new"), event(zxid, NodeChildrenChanged, "/shut")];
    assert_eq!((&events(&other)[..], &events(&ann)[..]), (&told[..1], &told[..]));
    // The other way round.
    for outbox in [&other, &ann] {
        ask(&host, outbox, -8, set_watches(i64::MAX, [&["/open"], &[], &["/open", "/"]]));
    }
    change(13, restrict("/open"));
    let zxid = change(14, delete("/open"));
    let told = [event(zxid, NodeDeleted, "/open"), event(zxid, NodeChildrenChanged, "/")];
    assert_eq!((&events(&other)[..], &events(&ann)[..]), (&told[1..], &told[..]), "the list that it had");

    assert_eq!(crate::sync::read(&host.db).stats().watches, Default::default(), "filtered ones are used up");
    let caught_up = ask(&host, &other, -8, set_watches(1, [&["/shut"], &[], &["/shut"]]));
    assert_eq!(
        caught_up[..2],
        [event(-1, NodeDataChanged, "/shut"), event(-1, NodeChildrenChanged, "/shut")],
        "what was missed is told to all"
    );
}

#[test]
fn a_filtered_persistent_watch_stays() {
    let host = TestHost::new();
    let (writer, other) = (host.connect(1), host.connect(2));
    log_in(&host, &writer);
    ask(&host, &writer, 1, create("/n", 0));
    ask(&host, &other, 1, add_watch("/n", 0));
    ask(&host, &writer, 2, restrict("/n"));
    ask(&host, &writer, 3, set("/n", b"x"));
    assert_eq!(events(&other), []);
    ask(&host, &writer, 4, delete("/n"));
    assert_eq!(events(&other), []);
    let zxid = ask(&host, &writer, 5, create("/n", 0))[0].header().zxid.0;
    assert_eq!(events(&other), [event(zxid, NodeCreated, "/n")]);
}

/// getData and getChildren watch what they have shown, exists also what is not there; nobody what he may not read.
#[test]
fn a_read_that_fails_sets_no_watch_but_that_of_a_node_to_come() {
    let host = TestHost::new();
    let (writer, other) = (host.connect(1), host.connect(2));
    log_in(&host, &writer);
    ask(&host, &writer, 1, create("/n", 0));
    ask(&host, &writer, 2, restrict("/n"));
    let data = |path: &str| Request::GetData(PathWatch { path: Some(path.into()), watch: true });
    for (body, err, watches) in [
        (data("/n"), ErrorCode::NoAuth, 0),
        (children("/n"), ErrorCode::NoAuth, 0),
        (exists("/n"), ErrorCode::NoAuth, 0),
        (data("/new"), ErrorCode::NoNode, 0),
        (children("/new"), ErrorCode::NoNode, 0),
        (exists("/new"), ErrorCode::NoNode, 1),
    ] {
        assert_eq!(code(&ask(&host, &other, 1, body)), err.code());
        let counts = crate::sync::read(&host.db).stats().watches;
        assert_eq!(counts.data + counts.child, watches);
    }
}

#[test]
fn requests_about_watches_that_make_no_sense_are_refused_as_apache_does() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    let kind = |kind| PathType { path: Some("/n".into()), kind };
    let some = || Some(vec!["/n".to_owned()]);
    let lists = |data, exist, child| SetWatchesRequest { relative_zxid: Zxid(0), data, exist, child };
    let lists_2 = |persistent, persistent_recursive| SetWatches2Request {
        relative_zxid: Zxid(0),
        data: some(),
        exist: some(),
        child: some(),
        persistent,
        persistent_recursive,
    };
    let bad = ErrorCode::MarshallingError;
    for (body, expected) in [
        (add_watch("/n", 2), bad),
        (add_watch("/n", -1), bad),
        (Request::AddWatch(AddWatchRequest { path: None, mode: 0 }), bad),
        (Request::CheckWatches(kind(0)), bad),
        (Request::RemoveWatches(kind(6)), bad),
        (Request::CheckWatches(kind(3)), ErrorCode::NoWatcher),
        (Request::RemoveWatches(kind(5)), ErrorCode::NoWatcher),
        (Request::SetWatches(lists(None, some(), some())), bad),
        (Request::SetWatches(lists(some(), None, some())), bad),
        (Request::SetWatches(lists(some(), some(), None)), bad),
        (Request::SetWatches2(lists_2(None, some())), bad),
        (Request::SetWatches2(lists_2(some(), None)), bad),
    ] {
        let answer = ask(&host, &outbox, 1, body.clone());
        assert_eq!((answer.len(), code(&answer)), (1, expected.code()), "{body:?}");
    }
    assert_eq!(crate::sync::read(&host.db).stats().watches, Default::default());
}
