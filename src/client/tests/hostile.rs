//! A server that sends what no server sends. The link ends with a reason; nothing panics; every call has an answer.

use super::super::REPLY_BYTES_MAX;
use super::*;

/// A connected session with a read, a write and a sync in flight, and a watch.
fn busy() -> Host {
    let mut host = Host::connected();
    host.call(Call::Get { path: "/w", watch: Some(WatchId(1)) });
    host.take_sent();
    host.give(1, 1, &data(b""));
    host.get("/a");
    host.set("/b");
    host.call(Call::Sync { path: "/" });
    host.take_sent();
    host.events();
    host
}

fn reason(host: &mut Host) -> String {
    match host.events().into_iter().next() {
        Some(Event::Disconnect { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn replies_out_of_order_or_to_nothing_end_the_link() {
    for (xid, expected) in [
        (3, "a reply to 3, but 2 is next"),
        (77, "a reply to 77, but 2 is next"),
        (0, "a reply to 0, but 2 is next"),
        (-2, "a reply to -2, but 2 is next"),
        (-8, "an answer to no setWatches"),
        (-4, "an answer to no add_auth"),
    ] {
        let mut host = busy();
        host.give(xid, 2, &data(b""));
        assert_eq!(reason(&mut host), expected);
        assert_eq!(host.session.state(), State::Suspended);
    }
    let mut host = Host::connected();
    host.get("/a");
    host.give(1, 1, &data(b""));
    assert_eq!(reason(&mut host), "a reply to 1, which nobody has asked", "it was not even sent");
}

#[test]
fn a_reply_that_cannot_be_read_fails_its_call_and_ends_the_link() {
    let mut host = busy();
    host.give_frame(&reply(2, 2, 0, &data(b"abc"))[..20]);
    let events = host.events();
    assert!(matches!(events[0], Event::Reply { result: Err(Failure::Malformed), .. }), "{events:?}");
    assert!(matches!(&events[1], Event::Disconnect { reason } if reason.contains("cannot be read")), "{events:?}");
    host.reconnect();
    assert_eq!(host.session.in_flight(), 1, "only the sync is asked again");
}

#[test]
fn an_answer_that_is_too_long_fails_the_call_that_it_is_of_and_is_not_asked_for_again() {
    let mut host = busy();
    let length = REPLY_BYTES_MAX + 1;
    host.session.receive(0, &(length as u32).to_be_bytes());
    let events = host.events();
    assert!(
        matches!(events[0], Event::Reply { result: Err(Failure::ReplyTooLong { length: told }), .. } if told == length)
    );
    assert!(matches!(&events[1], Event::Disconnect { reason } if reason.contains("4194305 bytes")), "{events:?}");
    host.reconnect();
    assert_eq!(host.session.in_flight(), 1);

    let mut host = busy();
    host.session.receive(0, &(REPLY_BYTES_MAX as u32).to_be_bytes());
    assert_eq!(host.events(), [], "this long is fine");
    host.session.receive(0, &[]);
    host.session.receive(0, &[1; 100]);
    assert_eq!(host.events(), []);
}

#[test]
fn frames_that_are_none_end_the_link() {
    for bytes in [
        &(-1i32).to_be_bytes()[..],
        &i32::MIN.to_be_bytes(),
        &[0, 0, 0, 0],
        &[0, 0, 0, 3, 1, 2, 3],
        // A notification that breaks off, and one of no known type.
        &[0, 0, 0, 16, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0],
        &[0, 0, 0, 28, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 0, 3, 0, 0, 0, 0],
    ] {
        let mut host = busy();
        host.session.receive(0, bytes);
        assert!(!reason(&mut host).is_empty(), "{bytes:?}");
    }
}

#[test]
fn no_connect_response_is_another_attempt() {
    for frame in [&[][..], &[0; 16], &reply(0, 5, -119, &Response::Empty)] {
        let mut host = Host::new(SessionConfig::new(2, TIMEOUT_MS));
        let queued = host.get("/a");
        host.open();
        host.take_sent();
        host.give_frame(frame);
        let events = host.events();
        assert!(matches!(events[..], [Event::Disconnect { .. }, Event::Connect { .. }]), "{events:?}");
        host.link_up();
        host.accept();
        host.take_sent();
        host.give(1, 1, &data(b""));
        assert_eq!(host.replies(), [(queued, Ok(data(b"")))]);
    }
}

#[test]
fn a_new_session_that_is_refused_is_asked_for_again_later() {
    let mut host = Host::new(SessionConfig::new(1, TIMEOUT_MS));
    host.open();
    host.refuse();
    assert!(matches!(host.events()[..], [Event::Disconnect { .. }]), "and no lost session");
    assert_eq!(host.session.state(), State::Connecting);
    host.reconnect();
}

#[test]
fn a_session_that_comes_back_as_another_is_not_taken() {
    let mut host = Host::connected();
    host.break_link();
    host.open();
    host.take_sent();
    let mut response = ConnectResponse::from_bytes(&connect_response(TIMEOUT_MS)).unwrap();
    response.session = SessionId(4);
    host.give_frame(&response.to_bytes());
    assert!(reason(&mut host).contains("is renewed as 0x4"));
    assert_eq!(host.session.session_id(), SESSION);
}

/// Every frame of a busy connection, with one byte changed or cut off anywhere.
#[test]
fn changed_bytes_never_panic_and_lose_no_call() {
    let mut frames = Vec::new();
    for frame in [
        reply(2, 2, 0, &data(b"abc")),
        reply(-1, 3, 0, &Response::Empty),
        reply(3, 3, 0, &stat_reply()),
        reply(4, 3, 0, &path_reply("/")),
    ] {
        write_frame(&mut frames, |out| out.extend_from_slice(&frame));
    }
    for at in 0..frames.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = frames.clone();
            bytes[at] ^= change;
            let mut host = busy();
            host.session.receive(0, &bytes);
            host.break_link();
            let answered = host.replies().len();
            assert_eq!(answered + host.session.in_flight(), 3, "byte {at} ^ {change}");
        }
    }
}
