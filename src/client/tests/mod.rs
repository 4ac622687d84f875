//! A session with a host and a server of a few lines, for scripts: what goes out is read, what comes in is written.

mod calls;
mod connecting;
mod hostile;
mod links;
mod random;
mod watches;

use super::{Call, CallId, Event, Failure, Lost, Session, SessionConfig, State, WatchId};
use crate::jute::{Reader, Record};
use crate::records::{
    AUTH_XID, Acl, ConnectRequest, ConnectResponse, DataStat, ErrorCode, EventType, NOTIFICATION_XID, PathReply,
    ReplyHeader, Request, RequestHeader, Response, SET_WATCHES_XID, SYNC_CONNECTED, SessionId, Stat, StatReply,
    WatcherEvent, Zxid, write_frame,
};

/// The session, its clock, and the end of the link that a server has.
struct Host {
    session: Session,
    now: u64,
    /// The next frame out is the first of its link.
    is_new_link: bool,
    /// Bytes out that are not a whole frame.
    out: Vec<u8>,
}

/// A frame from the client.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    Connect(ConnectRequest),
    Request(i32, Request),
}

const SESSION: SessionId = SessionId(0x1_0000);
const PASSWORD: [u8; 16] = *b"sixteen  letters";
const TIMEOUT_MS: i32 = 9_000;

impl Host {
    fn new(config: SessionConfig) -> Host {
        Host { session: Session::new(config, 0), now: 0, is_new_link: true, out: Vec::new() }
    }

    /// Three servers, connected, nothing left to look at.
    fn connected() -> Host {
        Host::connected_with(SessionConfig::new(3, TIMEOUT_MS))
    }

    fn connected_with(config: SessionConfig) -> Host {
        let mut host = Host::new(config);
        host.reconnect();
        host
    }

    /// Opens the link that is asked for and answers the handshake.
    fn reconnect(&mut self) {
        self.open();
        self.accept();
        let auths = self.take_sent().iter().filter(|sent| matches!(sent, Sent::Request(AUTH_XID, _))).count();
        for _ in 0..auths {
            self.give(AUTH_XID, 0, &Response::Empty);
        }
        assert!(self.session.state().is_connected());
        self.events();
    }

    /// Opens the link that is asked for; waits for the pause before it.
    fn open(&mut self) {
        while !self.events().iter().any(|event| matches!(event, Event::Connect { .. })) {
            self.wake();
        }
        self.link_up();
    }

    fn link_up(&mut self) {
        self.is_new_link = true;
        self.out.clear();
        self.session.link_up(self.now);
    }

    fn break_link(&mut self) {
        self.session.link_down(self.now, "connection reset");
    }

    /// Goes to the time at which the session wants to be woken.
    fn wake(&mut self) {
        self.now = self.session.next_wakeup().expect("the session waits for something").max(self.now);
        self.session.wakeup(self.now);
    }

    /// Lets so much time pass, waking the session whenever it wants.
    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.session.next_wakeup().is_some_and(|at| at <= end) {
            self.wake();
        }
        self.now = end;
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).filter(|event| !matches!(event, Event::Note(_))).collect()
    }

    fn replies(&mut self) -> Vec<(CallId, Result<Response, Failure>)> {
        let replies = self.events().into_iter().filter_map(|event| match event {
            Event::Reply { call, result, .. } => Some((call, result)),
            _ => None,
        });
        replies.collect()
    }

    fn fired(&mut self) -> Vec<(Vec<u64>, EventType, String)> {
        let fired = self.events().into_iter().filter_map(|event| match event {
            Event::Watch { ids, event } => Some((ids.iter().map(|id| id.0).collect(), event.kind, event.path)),
            _ => None,
        });
        fired.collect()
    }

    /// Takes what the session wants to send.
    fn take_sent(&mut self) -> Vec<Sent> {
        loop {
            let bytes = self.session.output();
            if bytes.is_empty() {
                break;
            }
            let count = bytes.len();
            self.out.extend_from_slice(bytes);
            self.session.sent(count);
        }
        let mut sent = Vec::new();
        let out = std::mem::take(&mut self.out);
        let mut from = Reader::new(&out);
        while let Ok(Some(frame)) = from.buffer() {
            sent.push(if std::mem::take(&mut self.is_new_link) {
                Sent::Connect(ConnectRequest::from_bytes(frame).unwrap())
            } else {
                let mut body = Reader::new(frame);
                let header = RequestHeader::read(&mut body).unwrap();
                let request = Request::read(header.op, &mut body).expect("a known operation").unwrap();
                assert_eq!(body.remaining(), 0, "bytes behind {request:?}");
                Sent::Request(header.xid, request)
            });
        }
        assert_eq!(from.remaining(), 0, "half a frame");
        sent
    }

    fn sent_requests(&mut self) -> Vec<Request> {
        let requests = self.take_sent().into_iter().filter_map(|sent| match sent {
            Sent::Request(_, request) => Some(request),
            Sent::Connect(_) => None,
        });
        requests.collect()
    }

    fn accept(&mut self) {
        self.take_sent();
        self.give_frame(&connect_response(TIMEOUT_MS));
    }

    fn refuse(&mut self) {
        self.take_sent();
        self.give_frame(&ConnectResponse::refused(Some(false)).to_bytes());
    }

    fn give_frame(&mut self, frame: &[u8]) {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, |out| out.extend_from_slice(frame));
        self.session.receive(self.now, &bytes);
    }

    fn give(&mut self, xid: i32, zxid: i64, response: &Response) {
        self.give_frame(&reply(xid, zxid, 0, response));
    }

    fn give_error(&mut self, xid: i32, zxid: i64, code: i32) {
        self.give_frame(&reply(xid, zxid, code, &Response::Empty));
    }

    fn give_event(&mut self, kind: EventType, path: &str, zxid: i64) {
        let mut frame = Vec::new();
        ReplyHeader { xid: NOTIFICATION_XID, zxid: Zxid(zxid), err: 0 }.write(&mut frame);
        WatcherEvent { kind: kind as i32, state: SYNC_CONNECTED, path: path.into() }.write(&mut frame);
        self.give_frame(&frame);
    }

    fn call(&mut self, call: Call<'_>) -> CallId {
        self.session.call(self.now, &call).expect("the call is taken")
    }

    fn get(&mut self, path: &str) -> CallId {
        self.call(Call::Get { path, watch: None })
    }

    fn set(&mut self, path: &str) -> CallId {
        self.call(Call::Set { path, data: Some(b"new"), version: -1 })
    }
}

fn connect_response(timeout_ms: i32) -> Vec<u8> {
    ConnectResponse {
        protocol_version: 0,
        timeout_ms,
        session: SESSION,
        password: PASSWORD.to_vec(),
        read_only: Some(false),
    }
    .to_bytes()
}

fn reply(xid: i32, zxid: i64, err: i32, response: &Response) -> Vec<u8> {
    let mut frame = Vec::new();
    ReplyHeader { xid, zxid: Zxid(zxid), err }.write(&mut frame);
    response.write(&mut frame);
    frame
}

fn stat() -> Stat {
    let (zxid, zero) = (Zxid(1), Zxid::ZERO);
    Stat {
        czxid: zxid,
        mzxid: zxid,
        ctime: 2,
        mtime: 3,
        version: 4,
        cversion: 5,
        aversion: 6,
        ephemeral_owner: 0,
        data_length: 7,
        num_children: 8,
        pzxid: zero,
    }
}

fn data(bytes: &[u8]) -> Response {
    Response::DataStat(DataStat { data: Some(bytes.to_vec()), stat: stat() })
}

fn stat_reply() -> Response {
    Response::Stat(StatReply { stat: stat() })
}

fn path_reply(path: &str) -> Response {
    Response::Path(PathReply { path: Some(path.into()) })
}

fn ids(of: &[u64]) -> Vec<WatchId> {
    of.iter().map(|id| WatchId(*id)).collect()
}
