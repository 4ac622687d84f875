//! The handshake, add_auth, the end of a session, and which server is asked when.

use super::super::CallError;
use super::*;
use crate::records::AuthRequest;

fn auth(scheme: &str, auth: &[u8]) -> Sent {
    Sent::Request(
        AUTH_XID,
        Request::Auth(AuthRequest { kind: 0, scheme: Some(scheme.into()), auth: Some(auth.into()) }),
    )
}

fn with_auth() -> SessionConfig {
    SessionConfig { auths: vec![("digest".into(), b"me:secret".to_vec())], ..SessionConfig::new(1, TIMEOUT_MS) }
}

#[test]
fn a_new_session_is_asked_for_and_kept() {
    let mut host = Host::new(SessionConfig::new(1, 4_000));
    assert_eq!(host.events(), [Event::Connect { server: 0 }]);
    assert_eq!(host.session.output(), b"");
    host.link_up();
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 4_000,
        session: SessionId(0),
        password: Some(vec![0; 16]),
        read_only: Some(false),
    };
    assert_eq!(host.take_sent(), [Sent::Connect(request.clone())]);
    assert_eq!((host.session.state(), host.session.session_id()), (State::Connecting, SessionId(0)));
    host.accept();
    assert_eq!(host.events(), [Event::State(State::Connected)]);
    assert_eq!((host.session.session_id(), host.session.timeout_ms()), (SESSION, TIMEOUT_MS));
    assert_eq!(host.session.password(), PASSWORD);

    host.get("/a");
    host.take_sent();
    host.give(1, 0x1_0000_0005, &data(b""));
    host.break_link();
    host.open();
    let renewed = ConnectRequest {
        last_zxid_seen: Zxid(0x1_0000_0005),
        session: SESSION,
        password: Some(PASSWORD.to_vec()),
        ..request
    };
    assert_eq!(host.take_sent(), [Sent::Connect(renewed)]);
}

#[test]
fn a_session_of_before_is_resumed() {
    let resume = Some((SESSION, PASSWORD.to_vec()));
    let mut host = Host::new(SessionConfig { resume, ..SessionConfig::new(1, 4_000) });
    host.open();
    let [Sent::Connect(request)] = &host.take_sent()[..] else { panic!("a connect request") };
    assert_eq!((request.session, request.password.as_deref()), (SESSION, Some(&PASSWORD[..])));
    host.refuse();
    let events = host.events();
    assert!(events.contains(&Event::State(State::Lost)), "{events:?}");
}

#[test]
fn a_server_without_a_quorum_says_so() {
    let mut host = Host::new(SessionConfig { read_only: true, ..SessionConfig::new(1, 4_000) });
    host.open();
    let [Sent::Connect(request)] = &host.take_sent()[..] else { panic!("a connect request") };
    assert_eq!(request.read_only, Some(true));
    let mut response = connect_response(4_000);
    *response.last_mut().unwrap() = 1;
    host.give_frame(&response);
    assert_eq!(host.events(), [Event::State(State::ConnectedReadOnly)]);
}

#[test]
fn connected_means_that_every_add_auth_is_accepted() {
    let mut host = Host::new(with_auth());
    let added = host.session.add_auth(0, "digest", b"other:secret").unwrap();
    let get = host.get("/a");
    host.open();
    host.accept();
    assert_eq!(host.take_sent(), [auth("digest", b"me:secret"), auth("digest", b"other:secret")]);
    host.give(AUTH_XID, 0, &Response::Empty);
    assert_eq!((host.events(), host.take_sent()), (vec![], vec![]), "one answer is still missing");
    host.give(AUTH_XID, 0, &Response::Empty);
    let events = host.events();
    assert!(matches!(events[0], Event::Reply { call, result: Ok(Response::Empty), .. } if call == added), "{events:?}");
    assert_eq!(events[1..], [Event::State(State::Connected)]);
    assert_eq!(host.sent_requests().len(), 1);
    host.give(1, 1, &data(b""));
    assert_eq!(host.replies(), [(get, Ok(data(b"")))]);
}

#[test]
fn a_refused_add_auth_is_the_end() {
    for is_connected in [false, true] {
        let mut host = Host::connected_with(with_auth());
        let read = host.call(Call::Get { path: "/a", watch: None });
        host.take_sent();
        if !is_connected {
            host.break_link();
            host.open();
            host.accept();
        }
        host.events();
        let write = host.set("/a");
        let added = host.session.add_auth(0, "digest", b"wrong").unwrap();
        host.take_sent();
        if !is_connected {
            host.give(AUTH_XID, 0, &Response::Empty);
        }
        host.give_error(AUTH_XID, 0, ErrorCode::AuthFailed.code());
        let events = host.events();
        assert!(matches!(events[0], Event::Disconnect { .. }), "{events:?}");
        assert_eq!(events[1], Event::State(State::AuthFailed));
        let failed: Vec<_> = events[2..]
            .iter()
            .map(|event| match event {
                Event::Reply { call, result: Err(Failure::AuthFailed { .. }), .. } => *call,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(failed, [read, write, added]);
        assert_eq!(host.session.next_wakeup(), None, "nothing is tried again");
        assert_eq!(host.session.call(0, &Call::WhoAmI), Err(CallError::Over(State::AuthFailed)));
    }
}

#[test]
fn an_add_auth_while_connected_is_sent_at_once_and_again_on_each_new_link() {
    let mut host = Host::connected();
    host.get("/a");
    let added = host.session.add_auth(0, "digest", b"me:secret").unwrap();
    host.get("/b");
    assert_eq!(host.take_sent()[1], auth("digest", b"me:secret"));
    // The server handles it when it reads it: the answer may overtake the read before it.
    host.give(AUTH_XID, 0, &Response::Empty);
    assert_eq!(host.replies(), [(added, Ok(Response::Empty))]);
    host.give(1, 1, &data(b"a"));
    host.give(2, 1, &data(b"b"));
    assert_eq!(host.replies().len(), 2);
    host.break_link();
    host.open();
    host.accept();
    assert_eq!(host.take_sent(), [auth("digest", b"me:secret")]);
    assert_eq!(host.session.state(), State::Suspended);
}

#[test]
fn an_add_auth_whose_link_breaks_is_answered_on_the_next() {
    let mut host = Host::connected();
    let added = host.session.add_auth(0, "digest", b"me:secret").unwrap();
    host.take_sent();
    host.break_link();
    assert_eq!(host.replies(), []);
    host.session.link_up(host.now);
    host.is_new_link = true;
    host.accept();
    host.take_sent();
    host.give(AUTH_XID, 0, &Response::Empty);
    assert_eq!(host.replies(), [(added, Ok(Response::Empty))]);
    assert_eq!(host.session.state(), State::Connected);
}

#[test]
fn a_session_that_is_refused_is_lost_and_a_new_one_is_opened() {
    let mut host = Host::connected();
    host.call(Call::Get { path: "/a", watch: Some(WatchId(5)) });
    host.take_sent();
    host.give(1, 0x77, &data(b""));
    let read = host.get("/a");
    host.take_sent();
    host.break_link();
    let queued = host.set("/a");
    host.events();
    host.link_up();
    host.refuse();
    let events = host.events();
    assert!(matches!(events[0], Event::Disconnect { .. }), "{events:?}");
    assert_eq!(events[1], Event::State(State::Lost));
    let expired = |call, sent| Event::Reply { call, zxid: Zxid::NONE, result: Err(Failure::SessionExpired { sent }) };
    assert_eq!(events[2..4], [expired(read, true), expired(queued, false)]);
    assert_eq!(events[4], Event::WatchesLost { ids: ids(&[5]), reason: Lost::SessionExpired });
    assert!(matches!(events[5..], [Event::Connect { .. }]), "{events:?}");
    host.link_up();
    let [Sent::Connect(request)] = &host.take_sent()[..] else { panic!("a connect request") };
    assert_eq!((request.session, request.last_zxid_seen), (SessionId(0), Zxid::ZERO));
    host.accept();
    assert_eq!(host.events(), [Event::State(State::Connected)]);
    assert_eq!(host.take_sent(), [], "no watches are left to set");
}

#[test]
fn a_closed_session_has_sent_and_answered_what_was_called_before() {
    let mut host = Host::connected();
    host.call(Call::Get { path: "/a", watch: Some(WatchId(1)) });
    host.take_sent();
    host.give(1, 1, &data(b""));
    let write = host.set("/a");
    host.events();
    host.session.close(0);
    assert_eq!(host.session.call(0, &Call::WhoAmI), Err(CallError::Over(State::Closed)));
    assert_eq!(host.sent_requests()[1], Request::CloseSession);
    host.give(2, 2, &stat_reply());
    assert_eq!(host.replies(), [(write, Ok(stat_reply()))]);
    host.give(3, 3, &Response::Empty);
    let events = host.events();
    assert!(matches!(events[0], Event::Disconnect { .. }), "{events:?}");
    assert_eq!(events[1..], [Event::State(State::Closed), Event::WatchesLost { ids: ids(&[1]), reason: Lost::Closed }]);
    host.session.close(0);
    host.break_link();
    assert_eq!((host.events(), host.session.next_wakeup()), (vec![], None));
}

#[test]
fn a_link_that_breaks_while_the_session_is_closed_closes_it() {
    let mut host = Host::connected();
    let (read, write) = (host.get("/a"), host.set("/a"));
    host.session.close(0);
    host.take_sent();
    host.events();
    host.break_link();
    let closed = Err(Failure::Closed { sent: true });
    assert_eq!(host.replies(), [(read, closed.clone()), (write, closed)]);
    assert_eq!((host.session.state(), host.session.output()), (State::Closed, &b""[..]));
}

#[test]
fn a_server_that_does_not_answer_the_close_is_not_waited_for_longer_than_five_seconds() {
    let mut host = Host::connected();
    host.session.close(0);
    host.take_sent();
    host.pass(4_999);
    assert_eq!(host.session.state(), State::Connected);
    host.pass(1);
    assert_eq!(host.session.state(), State::Closed);
    assert!(matches!(host.events()[0], Event::Disconnect { .. }));
}

#[test]
fn a_session_that_is_closed_without_a_link_fails_what_waits_and_tries_once_to_tell_the_server() {
    let mut host = Host::connected();
    host.break_link();
    let queued = host.set("/a");
    host.session.close(0);
    assert_eq!(host.replies(), [(queued, Err(Failure::Closed { sent: false }))]);
    assert_eq!(host.session.state(), State::Suspended);
    host.link_up();
    host.accept();
    assert_eq!(host.sent_requests(), [Request::CloseSession]);
    host.give(3, 3, &Response::Empty);
    assert_eq!(host.session.state(), State::Closed);

    let mut host = Host::connected();
    host.break_link();
    host.session.close(0);
    host.break_link();
    assert_eq!(host.session.state(), State::Closed, "one try");

    let mut host = Host::new(SessionConfig::new(1, TIMEOUT_MS));
    host.session.close(0);
    assert_eq!(host.session.state(), State::Closed, "there is nothing to close");
}

/// The servers asked until the session waits, and for how long it does.
fn round(host: &mut Host) -> (Vec<usize>, u64) {
    let mut asked = Vec::new();
    loop {
        let connects = host.events().into_iter().filter_map(|event| match event {
            Event::Connect { server } => Some(server),
            _ => None,
        });
        let before = asked.len();
        asked.extend(connects);
        if asked.len() == before {
            return (asked, host.session.next_wakeup().unwrap() - host.now);
        }
        host.break_link();
    }
}

#[test]
fn every_server_is_asked_at_once_then_there_is_a_pause_that_doubles_up_to_a_second() {
    let mut host = Host::new(SessionConfig { seed: 3, ..SessionConfig::new(5, TIMEOUT_MS) });
    let (first, pause) = round(&mut host);
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [0, 1, 2, 3, 4]);
    assert!((10..=15).contains(&pause), "{pause}");
    let mut least = 10;
    for _ in 0..10 {
        host.wake();
        least = (2 * least).min(1_000);
        let (again, pause) = round(&mut host);
        assert_eq!(again, first, "always in the same order");
        assert!((least..=least + least / 2).contains(&pause), "{pause} after {least}");
    }
    host.open();
    host.accept();
    host.get("/a");
    host.take_sent();
    host.give(1, 1, &data(b""));
    host.events();
    host.break_link();
    let (after, pause) = round(&mut host);
    assert_eq!(after.len(), 5);
    assert!((10..=15).contains(&pause), "an answer begins it all anew, not {pause}");
}

#[test]
fn the_order_of_servers_depends_on_the_seed() {
    let orders: std::collections::BTreeSet<_> = (0..40)
        .map(|seed| round(&mut Host::new(SessionConfig { seed, ..SessionConfig::new(3, TIMEOUT_MS) })).0)
        .collect();
    assert_eq!(orders.len(), 6);
}

#[test]
fn a_server_that_accepts_and_breaks_at_once_is_not_asked_without_a_pause() {
    let mut host = Host::new(SessionConfig::new(1, TIMEOUT_MS));
    for _ in 0..3 {
        assert!(matches!(host.events()[..], [Event::Connect { .. }, ..]));
        host.link_up();
        host.accept();
        host.break_link();
        let pause = host.session.next_wakeup().unwrap() - host.now;
        assert!(pause >= 10, "{pause}");
        host.events();
        host.wake();
    }
}

#[test]
fn an_attempt_has_its_share_of_the_timeout() {
    for (servers, timeout_ms, expected) in [(3, 9_000, 3_000), (1, 30_000, 5_000), (5, 400, 100)] {
        let mut host = Host::new(SessionConfig::new(servers, timeout_ms));
        let [Event::Connect { server }] = host.events()[..] else { panic!("an attempt") };
        assert_eq!(host.session.next_wakeup(), Some(expected));
        host.now = expected / 2;
        host.link_up();
        host.take_sent();
        assert_eq!(host.session.next_wakeup(), Some(expected), "the handshake is part of it");
        host.wake();
        let events = host.events();
        assert!(matches!(events[0], Event::Disconnect { .. }), "{events:?}");
        if servers > 1 {
            assert!(matches!(events[1], Event::Connect { server: next } if next != server), "{events:?}");
        }
    }
}

#[test]
fn new_addresses_are_used_from_the_next_attempt_on() {
    let mut host = Host::connected();
    host.session.set_servers(6);
    assert_eq!((host.events(), host.session.state()), (vec![], State::Connected));
    host.break_link();
    let (mut asked, _) = round(&mut host);
    asked.sort_unstable();
    assert_eq!(asked, [0, 1, 2, 3, 4, 5]);
}
