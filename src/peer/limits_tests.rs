//! How much of the requests of all clients is taken at a time.

use super::io::{ClientRequest, Now};
use super::test_host::{Sent, TestHost, create, create_with, frame, get, sent};
use super::{ConnEnd, Outbox, RequestLimits, Rest, Settings, TURN_FRAMES_MAX, Taken};
use crate::records::{ErrorCode, Request};
use crate::sync::{read, write};
use std::sync::Arc;

fn host_with(limits: RequestLimits) -> TestHost {
    let host = TestHost::new();
    write(&host.db).set_settings(Settings { requests: limits, ..Settings::default() });
    host
}

/// Offers frames that have waited for `waited_ms`.
fn offer(host: &TestHost, outbox: &Arc<Outbox>, frames: &[Vec<u8>], waited_ms: u64) -> (Taken, Vec<ClientRequest>) {
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let mut forward = Vec::new();
    let now = Now { micros: 2, wall_ms: 1 };
    (read(&host.db).offer(outbox, &frames, waited_ms * 1000, now, &mut forward), forward)
}

fn writes(count: i32) -> Vec<Vec<u8>> {
    (1..=count).map(|xid| frame(xid, &create(&format!("/n{xid}"), 0))).collect()
}

fn taken(frames: usize, rest: Rest) -> Taken {
    Taken { frames, rest }
}

fn errors(sent: &[Sent]) -> Vec<(i32, i32)> {
    sent.iter().map(|sent| (sent.header().xid, sent.header().err)).collect()
}

#[test]
fn a_connections_turn_ends_after_so_many_requests_so_many_bytes_or_a_walk_over_the_tree() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    host.ask(&outbox, 1, create_with("/big", &vec![0; 300 << 10], 0));
    let reads = vec![frame(1, &get("/none", false)); TURN_FRAMES_MAX + 1];
    assert_eq!(offer(&host, &outbox, &reads, 0).0, taken(TURN_FRAMES_MAX, Rest::NextTurn));
    assert_eq!(sent(&outbox).len(), TURN_FRAMES_MAX);

    let big = vec![frame(1, &get("/big", false)); 3];
    assert_eq!(offer(&host, &outbox, &big, 0).0, taken(1, Rest::NextTurn));
    sent(&outbox);
    let path = Some("/".to_owned());
    let walk = Request::GetAllChildrenNumber(crate::records::PathOnly { path });
    assert_eq!(offer(&host, &outbox, &vec![frame(1, &walk); 3], 0).0, taken(1, Rest::NextTurn));
    let long = vec![frame(1, &create_with("/x", &vec![0; TURN_FRAMES_MAX << 10], 0)); 2];
    assert_eq!(offer(&host, &outbox, &long, 0).0, taken(1, Rest::NextTurn));
}

/// ZooKeeper: `ZooKeeperServer.shouldThrottle`.
#[test]
fn beyond_the_limit_only_who_waits_for_no_answer_is_read_from() {
    let host = host_with(RequestLimits { outstanding_max: 4, ..RequestLimits::default() });
    let (one, two) = (host.connect(1), host.connect(2));
    let (first, forward) = offer(&host, &one, &writes(9), 0);
    assert_eq!(first, taken(5, Rest::Answers));
    let (second, _) = offer(&host, &two, &writes(9), 0);
    assert_eq!(second, taken(1, Rest::Answers), "a session with nothing under way always gets one in");
    assert_eq!(read(&host.db).stats().outstanding, 6);

    host.commit(forward.iter().take(2).map(|request| host.prepare(request)).collect());
    assert_eq!(offer(&host, &two, &writes(1), 0).0, taken(1, Rest::Nothing), "4 are not more than 4");
    assert_eq!(offer(&host, &two, &writes(1), 0).0, taken(0, Rest::Answers));
    read(&host.db).detach(one.conn());
    assert_eq!(offer(&host, &two, &writes(9), 0).0, taken(3, Rest::Answers), "what a lost connection had is free");
}

/// ZooKeeper: `RequestThrottler`.
#[test]
fn throttled_requests_wait_and_those_that_have_waited_too_long_are_refused_in_their_turn() {
    let limits = RequestLimits { throttle_at: 2, throttled_wait_micros: 50_000, ..RequestLimits::default() };
    let host = host_with(limits);
    let outbox = host.connect(1);
    let (first, forward) = offer(&host, &outbox, &writes(3), 0);
    assert_eq!(first, taken(2, Rest::Throttled));
    let other = host.connect(2);
    assert_eq!(offer(&host, &other, &writes(1), 10).0, taken(0, Rest::Throttled), "reads and sessions too");

    host.commit(forward.iter().take(1).map(|request| host.prepare(request)).collect());
    let late = [frame(7, &create("/late", 0)), frame(-2, &Request::Ping)];
    assert_eq!(offer(&host, &outbox, &late, 51).0, taken(1, Rest::Throttled));
    host.commit(forward.iter().skip(1).map(|request| host.prepare(request)).collect());
    assert_eq!(offer(&host, &outbox, &late[1..], 51).0, taken(1, Rest::Nothing));
    let refused = ErrorCode::ThrottledOp.code();
    assert_eq!(errors(&sent(&outbox)), [(1, 0), (2, 0), (7, refused), (-2, 0)]);
    assert!(read(&host.db).tree().get("/late").is_none());
}

#[test]
fn a_connection_whose_requests_are_stale_ends() {
    let host = host_with(RequestLimits { ends_stale: true, ..RequestLimits::default() });
    let outbox = host.connect(1);
    offer(&host, &outbox, &[frame(1, &Request::Ping)], 10_000);
    assert_eq!((outbox.end(), sent(&outbox).len()), (None, 1));
    offer(&host, &outbox, &[frame(2, &Request::Ping)], 10_001);
    assert_eq!((outbox.end(), outbox.is_closing(), sent(&outbox).len()), (Some(ConnEnd::Stale), true, 0));
}

#[test]
fn large_requests_beyond_their_bytes_end_the_connection_and_small_ones_do_not_count() {
    let host = host_with(RequestLimits { large_above: 1000, large_bytes_max: 5000, ..RequestLimits::default() });
    let (one, two) = (host.connect(1), host.connect(2));
    let large = frame(1, &create_with("/large", &[0; 2000], 0));
    let (_, forward) = offer(&host, &one, &[large.clone(), large.clone()], 0);
    assert_eq!((forward.len(), one.end()), (2, None));
    assert!(!read(&host.db).has_room_for_large(large.len()) && read(&host.db).has_room_for_large(500));
    assert_eq!(offer(&host, &two, &writes(20), 0).0, taken(20, Rest::Nothing));
    offer(&host, &two, std::slice::from_ref(&large), 0);
    assert_eq!(two.end(), Some(ConnEnd::LargeRequests));

    host.commit(vec![host.prepare(&forward[0])]);
    assert!(read(&host.db).has_room_for_large(large.len()));
}
