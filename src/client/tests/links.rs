//! What a broken or silent link means for each call.

use super::*;
use crate::records::{PathOnly, PathWatch, Request, SetDataRequest};

fn read(path: &str) -> Request {
    Request::GetData(PathWatch { path: Some(path.into()), watch: false })
}

fn sync() -> Request {
    Request::Sync(PathOnly { path: Some("/".into()) })
}

fn write(path: &str) -> Request {
    Request::SetData(SetDataRequest { path: Some(path.into()), data: Some(b"new".to_vec()), version: -1 })
}

const LOSS_UNSENT: Result<Response, Failure> = Err(Failure::ConnectionLoss { sent: false });
const LOSS_SENT: Result<Response, Failure> = Err(Failure::ConnectionLoss { sent: true });

#[test]
fn reads_and_syncs_are_sent_again_in_order_and_writes_fail_with_their_outcome_unknown() {
    let mut host = Host::connected();
    let calls = [
        host.get("/a"),
        host.set("/b"),
        host.call(Call::Sync { path: "/" }),
        host.get("/c"),
        host.set("/d"),
        host.get("/e"),
    ];
    host.take_sent();
    host.give(1, 1, &data(b"a"));
    assert_eq!(host.replies().len(), 1);
    host.break_link();
    let events = host.events();
    assert_eq!(events[0], Event::State(State::Suspended));
    let lost = |call| Event::Reply { call, zxid: Zxid::NONE, result: LOSS_SENT };
    assert_eq!(events[1..3], [lost(calls[1]), lost(calls[4])]);
    assert!(matches!(events[3..], [Event::Connect { .. }]), "{events:?}");
    let later = host.set("/f");
    host.link_up();
    host.accept();
    assert_eq!(host.sent_requests(), [sync(), read("/c"), read("/e"), write("/f")]);
    host.give(3, 2, &path_reply("/"));
    host.give(4, 2, &data(b"c"));
    host.give(6, 2, &data(b"e"));
    host.give(7, 3, &stat_reply());
    let answered: Vec<_> = host.replies().into_iter().map(|(call, result)| (call, result.is_ok())).collect();
    assert_eq!(answered, [(calls[2], true), (calls[3], true), (calls[5], true), (later, true)]);
}

#[test]
fn a_write_of_which_the_link_took_only_a_part_has_not_happened_and_is_sent_again() {
    let mut host = Host::connected();
    host.get("/a");
    host.set("/b");
    let whole = host.session.output().len();
    host.session.sent(whole - 1);
    host.break_link();
    assert_eq!(host.replies(), []);
    host.link_up();
    host.accept();
    assert_eq!(host.sent_requests(), [read("/a"), write("/b")]);
}

#[test]
fn calls_without_a_connection_wait_and_are_sent_when_there_is_one() {
    let mut host = Host::new(SessionConfig::new(1, TIMEOUT_MS));
    host.set("/a");
    host.get("/a");
    host.open();
    assert!(matches!(host.take_sent()[..], [Sent::Connect(_)]), "nothing before the session is there");
    host.accept();
    assert_eq!(host.sent_requests(), [write("/a"), read("/a")]);
}

#[test]
fn a_call_waits_for_a_connection_no_longer_than_the_session_timeout_and_was_never_sent() {
    let mut host = Host::connected();
    host.break_link();
    host.events();
    let first = host.set("/a");
    host.now += 4_000;
    let second = host.get("/b");
    let ms = TIMEOUT_MS as u64;
    host.pass(ms - 4_001);
    assert_eq!(host.replies(), []);
    host.pass(1);
    assert_eq!(host.replies(), [(first, LOSS_UNSENT)]);
    host.pass(3_999);
    assert_eq!(host.replies(), []);
    host.pass(1);
    assert_eq!(host.replies(), [(second, LOSS_UNSENT)]);
    assert_eq!(host.session.in_flight(), 0);
}

#[test]
fn a_call_that_was_sent_waits_once_more_and_then_no_longer() {
    let mut host = Host::connected();
    let call = host.get("/a");
    host.now += 5_000;
    host.take_sent();
    host.break_link();
    host.pass(8_000);
    assert_eq!(host.replies(), [], "the wait begins with the broken link");
    host.link_up();
    host.accept();
    assert_eq!(host.sent_requests(), [read("/a")]);
    host.break_link();
    host.pass(999);
    assert_eq!(host.replies(), []);
    host.pass(1);
    assert_eq!(host.replies(), [(call, LOSS_SENT)]);
}

#[test]
fn a_sync_that_has_waited_too_long_takes_the_reads_behind_it_along() {
    let mut host = Host::connected();
    host.break_link();
    let sync_call = host.call(Call::Sync { path: "/" });
    host.now += 1_000;
    let (behind, later_write) = (host.get("/a"), host.set("/b"));
    host.pass(8_000);
    assert_eq!(host.replies(), [(sync_call, LOSS_UNSENT), (behind, LOSS_UNSENT)]);
    host.open();
    host.accept();
    assert_eq!(host.sent_requests(), [write("/b")]);
    host.give(3, 1, &stat_reply());
    assert_eq!(host.replies(), [(later_write, Ok(stat_reply()))]);
}

#[test]
fn an_add_auth_without_a_connection_waits_no_longer_than_other_calls() {
    let mut host = Host::new(SessionConfig::new(1, TIMEOUT_MS));
    let added = host.session.add_auth(0, "digest", b"me:secret").unwrap();
    host.pass(TIMEOUT_MS as u64);
    assert!(matches!(host.replies()[..], [(call, Err(Failure::ConnectionLoss { .. }))] if call == added));
}

#[test]
fn an_idle_session_pings_after_a_third_of_the_timeout() {
    let mut host = Host::connected();
    assert_eq!(host.session.next_wakeup(), Some(3_000));
    host.now = 2_000;
    host.get("/a");
    host.take_sent();
    host.give(1, 1, &data(b""));
    host.session.wakeup(3_000);
    assert_eq!(host.take_sent(), [], "2 s ago there was a request");
    assert_eq!(host.session.next_wakeup(), Some(5_000));
    host.wake();
    assert_eq!(host.take_sent(), [Sent::Request(-2, Request::Ping)]);
    host.give(-2, 9, &Response::Empty);
    host.events();
    assert_eq!(host.session.last_zxid(), Zxid(9));
    assert_eq!(host.session.next_wakeup(), Some(8_000));
}

#[test]
fn calls_that_are_refused_do_not_stand_for_pings() {
    let mut host = Host::connected();
    assert!(host.session.call(2_900, &Call::Get { path: "none", watch: None }).is_err());
    host.wake();
    assert_eq!(host.take_sent(), [Sent::Request(-2, Request::Ping)]);
}

#[test]
fn a_link_is_given_up_after_two_thirds_of_the_timeout_without_a_word() {
    let mut host = Host::connected();
    let old = host.session.server();
    host.pass(5_999);
    assert_eq!(host.session.state(), State::Connected);
    host.pass(1);
    let events = host.events();
    assert!(matches!(events[0], Event::Disconnect { .. }), "{events:?}");
    assert_eq!(events[1], Event::State(State::Suspended));
    assert!(matches!(events[2..], [Event::Connect { server }] if server != old), "{events:?}");
}

#[test]
fn any_word_from_the_server_keeps_the_link() {
    let mut host = Host::connected();
    // The beginning of a frame is enough.
    for byte in [0, 0, 4, 0, 1, 2] {
        host.pass(5_000);
        host.take_sent();
        host.session.receive(host.now, &[byte]);
    }
    assert_eq!(host.session.state(), State::Connected);
}

#[test]
fn what_comes_of_a_link_that_was_given_up_is_not_looked_at() {
    let mut host = Host::connected();
    let call = host.get("/a");
    host.take_sent();
    host.break_link();
    host.give(1, 1, &data(b""));
    assert_eq!(host.replies(), []);
    host.link_up();
    host.session.link_up(host.now);
    host.accept();
    host.take_sent();
    host.give(1, 1, &data(b""));
    assert_eq!(host.replies(), [(call, Ok(data(b"")))]);
}
