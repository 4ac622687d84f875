//! Watches: when one is there, whom an event is for, and what a new server is told.

use super::*;
use crate::records::{Children, SetWatches2Request, SetWatchesRequest};
use EventType::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};

fn watch_data(host: &mut Host, path: &str, id: u64) {
    host.call(Call::Get { path, watch: Some(WatchId(id)) });
    answer(host, &data(b""));
}

fn watch_missing(host: &mut Host, path: &str, id: u64) {
    host.call(Call::Exists { path, watch: Some(WatchId(id)) });
    let Some(Sent::Request(xid, _)) = host.take_sent().pop() else { panic!("a request") };
    host.give_error(xid, 1, ErrorCode::NoNode.code());
    host.events();
}

fn watch_children(host: &mut Host, path: &str, id: u64) {
    host.call(Call::Children { path, watch: Some(WatchId(id)), stat: false });
    answer(host, &Response::Children(Children { children: vec![] }));
}

fn watch_for_good(host: &mut Host, path: &str, recursive: bool, id: u64) {
    host.call(Call::AddWatch { path, recursive, watch: WatchId(id) });
    answer(host, &Response::AddWatch(crate::records::ErrorReply { err: 0 }));
}

/// Answers the last request.
fn answer(host: &mut Host, response: &Response) {
    let Some(Sent::Request(xid, _)) = host.take_sent().pop() else { panic!("a request") };
    host.give(xid, 1, response);
    host.events();
}

fn fired(host: &mut Host, kind: EventType, path: &str) -> Vec<u64> {
    host.give_event(kind, path, 5);
    let fired = host.fired();
    assert_eq!((fired.len(), fired[0].1, fired[0].2.as_str()), (1, kind, path));
    fired[0].0.clone()
}

#[test]
fn a_one_shot_watch_fires_once_for_what_it_watches() {
    let mut host = Host::connected();
    watch_data(&mut host, "/a", 1);
    watch_children(&mut host, "/a", 2);
    watch_data(&mut host, "/a", 3);
    watch_missing(&mut host, "/b", 4);
    assert_eq!(fired(&mut host, NodeChildrenChanged, "/a"), [2]);
    assert_eq!(fired(&mut host, NodeDataChanged, "/a"), [1, 3]);
    assert_eq!(fired(&mut host, NodeDataChanged, "/a"), [] as [u64; 0]);
    assert_eq!(fired(&mut host, NodeCreated, "/b"), [4]);
    watch_data(&mut host, "/a", 5);
    watch_children(&mut host, "/a", 6);
    assert_eq!(fired(&mut host, NodeDeleted, "/a"), [5, 6], "a deletion is told once");
    assert_eq!(fired(&mut host, NodeCreated, "/a"), [] as [u64; 0]);
}

#[test]
fn a_watch_is_there_only_if_the_answer_says_so() {
    let mut host = Host::connected();
    let watch = Some(WatchId(1));
    for call in [Call::Get { path: "/a", watch }, Call::Children { path: "/a", watch, stat: true }] {
        host.call(call);
        let Some(Sent::Request(xid, _)) = host.take_sent().pop() else { panic!("a request") };
        host.give_error(xid, 1, ErrorCode::NoNode.code());
        host.events();
        assert_eq!(fired(&mut host, NodeDeleted, "/a"), [] as [u64; 0]);
    }
    host.call(Call::Exists { path: "/a", watch });
    let Some(Sent::Request(xid, _)) = host.take_sent().pop() else { panic!("a request") };
    host.give_error(xid, 1, ErrorCode::NoAuth.code());
    host.events();
    assert_eq!(fired(&mut host, NodeCreated, "/a"), [] as [u64; 0]);
}

#[test]
fn an_event_comes_before_the_reply_that_shows_the_change() {
    let mut host = Host::connected();
    watch_data(&mut host, "/a", 1);
    host.set("/a");
    host.get("/a");
    host.take_sent();
    let mut bytes = Vec::new();
    let mut event = reply(-1, 9, 0, &Response::Empty);
    WatcherEvent { kind: 3, state: 3, path: "/a".into() }.write(&mut event);
    for frame in [event, reply(2, 9, 0, &stat_reply()), reply(3, 9, 0, &data(b"new"))] {
        write_frame(&mut bytes, |out| out.extend_from_slice(&frame));
    }
    host.session.receive(0, &bytes);
    let events = host.events();
    assert!(
        matches!(&events[..], [Event::Watch { ids, event }, Event::Reply { .. }, Event::Reply { .. }]
            if *ids == [WatchId(1)] && event.zxid == Zxid(9)),
        "{events:?}"
    );
}

#[test]
fn persistent_watches_stay_and_recursive_ones_see_all_below_but_lists_of_children() {
    let mut host = Host::connected();
    watch_for_good(&mut host, "/a", false, 1);
    watch_for_good(&mut host, "/a", true, 2);
    watch_for_good(&mut host, "/", true, 3);
    for _ in 0..2 {
        assert_eq!(fired(&mut host, NodeDataChanged, "/a"), [1, 2, 3]);
        assert_eq!(fired(&mut host, NodeChildrenChanged, "/a"), [1]);
        assert_eq!(fired(&mut host, NodeCreated, "/a/b/c"), [2, 3]);
        assert_eq!(fired(&mut host, NodeDeleted, "/ab"), [3]);
        assert_eq!(fired(&mut host, NodeDataChanged, "/"), [3]);
    }
}

#[test]
fn events_are_below_the_chroot() {
    let mut host = Host::connected_with(SessionConfig { chroot: "/app".into(), ..SessionConfig::new(1, TIMEOUT_MS) });
    watch_data(&mut host, "/", 1);
    watch_data(&mut host, "/a", 2);
    host.give_event(NodeDataChanged, "/app", 5);
    host.give_event(NodeDataChanged, "/app/a", 6);
    assert_eq!(host.fired(), [(vec![1], NodeDataChanged, "/".to_owned()), (vec![2], NodeDataChanged, "/a".to_owned())]);
}

#[test]
fn a_new_server_is_told_the_watches_that_are_left_before_any_request() {
    let mut host = Host::connected_with(SessionConfig { chroot: "/app".into(), ..SessionConfig::new(1, TIMEOUT_MS) });
    watch_data(&mut host, "/a", 1);
    watch_data(&mut host, "/gone", 2);
    watch_missing(&mut host, "/b", 3);
    watch_children(&mut host, "/", 4);
    host.give_event(NodeDeleted, "/app/gone", 0x99);
    host.events();
    let read = host.get("/a");
    host.take_sent();
    host.break_link();
    host.open();
    host.accept();
    let paths = |list: &[&str]| Some(list.iter().map(|path| (*path).to_owned()).collect());
    let sent = host.take_sent();
    assert_eq!(
        sent[0],
        Sent::Request(
            SET_WATCHES_XID,
            Request::SetWatches(SetWatchesRequest {
                relative_zxid: Zxid(0x99),
                data: paths(&["/app/a"]),
                exist: paths(&["/app/b"]),
                child: paths(&["/app"]),
            })
        )
    );
    assert!(matches!(sent[1..], [Sent::Request(5, Request::GetData(_))]), "{sent:?}");
    host.give_event(NodeDataChanged, "/app/a", -1);
    host.give(SET_WATCHES_XID, 0xa0, &Response::Empty);
    assert_eq!(host.fired(), [(vec![1], NodeDataChanged, "/a".to_owned())]);
    host.give(5, 0xa0, &data(b""));
    assert_eq!(host.replies(), [(read, Ok(data(b"")))]);
    assert_eq!(fired_below(&mut host, NodeCreated, "/b"), [3]);
}

fn fired_below(host: &mut Host, kind: EventType, path: &str) -> Vec<u64> {
    host.give_event(kind, &format!("/app{path}"), 0xb0);
    host.fired().remove(0).0
}

#[test]
fn persistent_watches_need_the_newer_request() {
    let mut host = Host::connected();
    watch_data(&mut host, "/a", 1);
    watch_for_good(&mut host, "/p", false, 2);
    watch_for_good(&mut host, "/r", true, 3);
    host.break_link();
    host.open();
    host.accept();
    let paths = |list: &[&str]| Some(list.iter().map(|path| (*path).to_owned()).collect());
    let expected = SetWatches2Request {
        relative_zxid: Zxid(1),
        data: paths(&["/a"]),
        exist: paths(&[]),
        child: paths(&[]),
        persistent: paths(&["/p"]),
        persistent_recursive: paths(&["/r"]),
    };
    assert_eq!(host.take_sent(), [Sent::Request(SET_WATCHES_XID, Request::SetWatches2(expected))]);
}

#[test]
fn many_watches_are_set_again_in_pieces_that_a_server_takes() {
    let mut host = Host::connected();
    let long = "x".repeat(1_000);
    let all: Vec<String> = (0..500).map(|n| format!("/{long}{n:04}")).collect();
    for (n, path) in all.iter().enumerate() {
        watch_data(&mut host, path, n as u64);
    }
    host.break_link();
    host.open();
    host.accept();
    let sent = host.take_sent();
    assert!(sent.len() > 3, "{} pieces", sent.len());
    let mut paths = Vec::new();
    for each in &sent {
        let Sent::Request(SET_WATCHES_XID, Request::SetWatches(body)) = each else { panic!("{each:?}") };
        assert!(body.to_bytes().len() <= (128 << 10) + 100);
        paths.extend(body.data.clone().unwrap());
    }
    assert_eq!(paths, all);
    let read = host.get("/a");
    host.take_sent();
    for _ in &sent {
        host.give(SET_WATCHES_XID, 1, &Response::Empty);
    }
    host.give(501, 1, &data(b""));
    assert_eq!(host.replies(), [(read, Ok(data(b"")))]);
}

#[test]
fn an_answer_before_the_one_to_set_watches_ends_the_link() {
    let mut host = Host::connected();
    watch_data(&mut host, "/a", 1);
    host.get("/a");
    host.take_sent();
    host.break_link();
    host.open();
    host.accept();
    host.take_sent();
    host.give(2, 1, &data(b""));
    assert!(matches!(host.events().last(), Some(Event::Connect { .. })));
}

/// A server that sets watches again tells of a deletion once for each of its two tables.
#[test]
fn a_deletion_that_is_told_after_a_reconnect_fires_each_watch_once() {
    let mut host = Host::connected();
    watch_data(&mut host, "/a", 1);
    watch_children(&mut host, "/a", 2);
    watch_for_good(&mut host, "/a", false, 3);
    host.break_link();
    host.open();
    host.accept();
    host.take_sent();
    host.events();
    host.give_event(NodeDeleted, "/a", -1);
    host.give_event(NodeDeleted, "/a", -1);
    let fired: Vec<_> = host.fired().into_iter().map(|(ids, ..)| ids).collect();
    assert_eq!(fired, [vec![1, 2, 3], vec![]]);
    host.give(SET_WATCHES_XID, 2, &Response::Empty);
    host.give_event(NodeDeleted, "/a", 7);
    assert_eq!(host.fired()[0].0, [3]);
}

#[test]
fn a_call_with_a_watch_whose_link_breaks_has_it_when_it_is_answered() {
    let mut host = Host::connected();
    let call = host.call(Call::Get { path: "/a", watch: Some(WatchId(1)) });
    host.take_sent();
    host.break_link();
    host.open();
    host.accept();
    assert_eq!(host.take_sent().len(), 1, "no watch is set again, for there was none");
    host.give(1, 1, &data(b""));
    assert_eq!(host.replies(), [(call, Ok(data(b"")))]);
    assert_eq!(fired(&mut host, NodeDataChanged, "/a"), [1]);
}

#[test]
fn a_watch_that_is_forgotten_before_it_is_set_does_not_fire() {
    let mut host = Host::connected();
    host.call(Call::Get { path: "/a", watch: Some(WatchId(1)) });
    host.call(Call::AddWatch { path: "/a", recursive: false, watch: WatchId(2) });
    host.take_sent();
    host.session.forget_watch(0, WatchId(1));
    host.session.forget_watch(0, WatchId(2));
    host.give(1, 1, &data(b""));
    assert_eq!(host.take_sent(), []);
    host.give(2, 1, &Response::AddWatch(crate::records::ErrorReply { err: 0 }));
    host.events();
    assert!(matches!(host.sent_requests()[..], [Request::RemoveWatches(_)]), "it would fire for ever");
    assert_eq!(fired(&mut host, NodeDataChanged, "/a"), [] as [u64; 0]);
}

#[test]
fn a_server_keeps_the_watches_of_a_path_that_a_call_in_flight_will_need() {
    let mut host = Host::connected();
    watch_data(&mut host, "/a", 1);
    host.call(Call::Children { path: "/a", watch: Some(WatchId(2)), stat: false });
    host.session.forget_watch(0, WatchId(1));
    assert!(matches!(host.sent_requests()[..], [Request::GetChildren(_)]), "and no removeWatches");
}

#[test]
fn watches_that_a_server_will_not_set_again_are_told_as_lost() {
    let mut host = Host::connected();
    watch_data(&mut host, "/a", 1);
    watch_for_good(&mut host, "/b", true, 2);
    host.break_link();
    host.open();
    host.accept();
    host.take_sent();
    host.events();
    host.give_error(SET_WATCHES_XID, 2, ErrorCode::MarshallingError.code());
    assert_eq!(host.events(), [Event::WatchesLost { ids: ids(&[1, 2]), reason: Lost::Refused(-5) }]);
}
