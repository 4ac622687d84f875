//! A session against a small server that is right, through links that cut the stream anywhere and break at any byte:
//! every call has exactly one answer, the right one, and every watch fires exactly once for a change.

use super::*;
use crate::records::{SetWatchesRequest, op};
use std::collections::{BTreeMap, BTreeSet};

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A tree of existing znodes with versions; data watches of the one connection.
#[derive(Default)]
struct Server {
    zxid: i64,
    /// The zxid of the last change.
    changed: BTreeMap<String, i64>,
    watches: BTreeSet<String>,
    /// Bytes on their way to the server.
    under_way: Vec<u8>,
    /// Bytes of the client that are not a whole frame.
    received: Vec<u8>,
    /// Bytes for the client.
    out: Vec<u8>,
    is_new_link: bool,
    session: i64,
    /// It is forgotten, as if it had timed out.
    is_expired: bool,
    /// Writes done for each value.
    done: BTreeMap<Vec<u8>, i64>,
}

impl Server {
    fn on_link(&mut self) {
        self.watches.clear();
        self.under_way.clear();
        self.received.clear();
        self.out.clear();
        self.is_new_link = true;
    }

    fn change(&mut self, path: &str) {
        self.zxid += 1;
        self.changed.insert(path.to_owned(), self.zxid);
        if self.watches.remove(path) {
            self.tell(EventType::NodeDataChanged, path, self.zxid);
        }
    }

    fn tell(&mut self, kind: EventType, path: &str, zxid: i64) {
        write_frame(&mut self.out, |out| {
            ReplyHeader { xid: NOTIFICATION_XID, zxid: Zxid(zxid), err: 0 }.write(out);
            WatcherEvent { kind: kind as i32, state: SYNC_CONNECTED, path: path.into() }.write(out);
        });
    }

    fn answer(&mut self, xid: i32, response: &Response) {
        let frame = reply(xid, self.zxid, 0, response);
        write_frame(&mut self.out, |out| out.extend_from_slice(&frame));
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        loop {
            let mut from = Reader::new(&self.received);
            let Ok(Some(frame)) = from.buffer() else { return };
            let (frame, rest) = (frame.to_vec(), from.rest().to_vec());
            self.received = rest;
            self.on_frame(&frame);
        }
    }

    fn on_frame(&mut self, frame: &[u8]) {
        if std::mem::take(&mut self.is_new_link) {
            let request = ConnectRequest::from_bytes(frame).unwrap();
            assert!(request.last_zxid_seen.0 <= self.zxid);
            let is_known = request.session.0 == self.session && !self.is_expired;
            if request.session.0 == 0 {
                (self.session, self.is_expired) = (self.session + 1, false);
            } else if !is_known {
                let refused = ConnectResponse::refused(Some(false)).to_bytes();
                return write_frame(&mut self.out, |out| out.extend_from_slice(&refused));
            }
            let mut response = ConnectResponse::from_bytes(&connect_response(TIMEOUT_MS)).unwrap();
            response.session = SessionId(self.session);
            return write_frame(&mut self.out, |out| response.write(out));
        }
        let mut body = Reader::new(frame);
        let header = RequestHeader::read(&mut body).unwrap();
        match Request::read(header.op, &mut body).unwrap().unwrap() {
            Request::GetData(get) => {
                let path = get.path.unwrap();
                if get.watch {
                    self.watches.insert(path.clone());
                }
                let changed = self.changed.get(&path).copied().unwrap_or_default();
                self.answer(header.xid, &data(&changed.to_be_bytes()));
            }
            Request::SetData(set) => {
                *self.done.entry(set.data.unwrap()).or_default() += 1;
                self.change(&set.path.unwrap());
                self.answer(header.xid, &stat_reply());
            }
            Request::Sync(sync) => self.answer(header.xid, &path_reply(&sync.path.unwrap())),
            Request::SetWatches(SetWatchesRequest { relative_zxid, data, .. }) => {
                for path in data.unwrap() {
                    match self.changed.get(&path) {
                        Some(zxid) if *zxid > relative_zxid.0 => self.tell(EventType::NodeDataChanged, &path, -1),
                        _ => _ = self.watches.insert(path),
                    }
                }
                self.answer(header.xid, &Response::Empty);
            }
            Request::Ping | Request::RemoveWatches(_) | Request::Auth(_) => {
                assert_ne!(header.op, op::REMOVE_WATCHES);
                let (xid, zxid) = (header.xid, if header.xid == AUTH_XID { 0 } else { self.zxid });
                let frame = reply(xid, zxid, 0, &Response::Empty);
                write_frame(&mut self.out, |out| out.extend_from_slice(&frame));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A watch of the test: set as of that zxid on that path.
struct Watched {
    path: String,
    since: i64,
}

#[derive(Default)]
struct Model {
    calls: BTreeMap<CallId, Asked>,
    watched: BTreeMap<u64, Watched>,
    counts: BTreeMap<&'static str, u64>,
}

enum Asked {
    Get { path: String, watch: Option<u64> },
    Set { value: Vec<u8> },
    Other,
}

impl Model {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn on_event(&mut self, event: Event, server: &Server) {
        match event {
            Event::Reply { call, zxid, result } => {
                let asked = self.calls.remove(&call).expect("a call has one answer");
                match (asked, result) {
                    (Asked::Get { path, watch }, Ok(Response::DataStat(told))) => {
                        self.count("reads answered");
                        let seen = i64::from_be_bytes(told.data.unwrap().try_into().unwrap());
                        assert!(seen <= zxid.0);
                        // What this reply shows has been told before.
                        for (id, watched) in &self.watched {
                            assert!(watched.path != path || watched.since >= seen, "watch {id} is lost: {seen}");
                        }
                        if let Some(id) = watch {
                            self.watched.insert(id, Watched { path, since: zxid.0 });
                        }
                    }
                    (Asked::Set { value }, Ok(_)) => {
                        self.count("writes answered");
                        assert_eq!(server.done.get(&value), Some(&1));
                    }
                    (Asked::Other, Ok(_)) => self.count("others answered"),
                    (Asked::Set { value }, Err(failure)) => {
                        let done = server.done.get(&value).copied().unwrap_or_default();
                        if failure.is_outcome_unknown() {
                            self.count(if done == 0 { "unknown, not done" } else { "unknown, done" });
                            assert!(done <= 1);
                        } else {
                            self.count("never sent");
                            assert_eq!(done, 0, "{failure:?}");
                        }
                    }
                    (_, Err(Failure::SessionExpired { .. } | Failure::ConnectionLoss { .. })) => {
                        self.count("reads failed");
                    }
                    (_, other) => panic!("{other:?}"),
                }
            }
            Event::Watch { ids, event } => {
                for id in ids {
                    self.count("watches fired");
                    let watched = self.watched.remove(&id.0).expect("a watch fires once");
                    assert_eq!(watched.path, event.path);
                    assert!(server.changed[&event.path] > watched.since, "nothing has happened");
                }
            }
            Event::WatchesLost { ids, .. } => {
                for id in ids {
                    self.watched.remove(&id.0).expect("it had not fired");
                    self.count("watches lost with the session");
                }
                assert_eq!(self.watched.len(), 0);
            }
            Event::State(State::Lost) => self.count("sessions lost"),
            Event::State(State::Suspended) => self.count("links lost"),
            _ => {}
        }
    }
}

#[test]
fn links_that_break_anywhere_lose_no_call_and_no_watch() {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 1..=300 {
        for (what, count) in run(seed) {
            *counts.entry(what).or_default() += count;
        }
    }
    for what in [
        "reads answered",
        "writes answered",
        "others answered",
        "unknown, not done",
        "unknown, done",
        "never sent",
        "reads failed",
        "watches fired",
        "watches lost with the session",
        "sessions lost",
        "links lost",
    ] {
        assert!(counts.get(what).is_some_and(|count| *count > 10), "{what}: {counts:?}");
    }
}

fn run(seed: u64) -> BTreeMap<&'static str, u64> {
    let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut session = Session::new(SessionConfig { seed, ..SessionConfig::new(2, TIMEOUT_MS) }, 0);
    let (mut server, mut model) = (Server { zxid: 1, ..Server::default() }, Model::default());
    let (mut now, mut next_id, mut is_open, mut is_wanted) = (0, 0, false, false);
    for step in 0..600 {
        let is_calm = step > 500;
        match rng.below(if is_calm { 8 } else { 12 }) {
            0..2 if !is_calm => {
                let path = format!("/{}", rng.below(4));
                let (call, asked) = match rng.below(5) {
                    0 => (Call::Sync { path: "/" }, Asked::Other),
                    1 => {
                        let value = format!("{step}").into_bytes();
                        let call = Call::Set { path: &path, data: Some(&value), version: -1 };
                        let id = session.call(now, &call).unwrap();
                        model.calls.insert(id, Asked::Set { value });
                        continue;
                    }
                    _ => {
                        next_id += 1;
                        let watch = rng.one_in(2).then_some(next_id);
                        (Call::Get { path: &path, watch: watch.map(WatchId) }, Asked::Get { path: path.clone(), watch })
                    }
                };
                let id = session.call(now, &call).unwrap();
                model.calls.insert(id, asked);
            }
            // The client's bytes, cut anywhere.
            0..5 if is_open => {
                let out = session.output();
                let count = rng.below(out.len() as u64 + 1) as usize;
                server.under_way.extend_from_slice(&out[..count]);
                session.sent(count);
                let count = rng.below(server.under_way.len() as u64 + 1) as usize;
                let bytes: Vec<u8> = server.under_way.drain(..count).collect();
                server.receive(&bytes);
            }
            // The server's.
            5..8 if is_open => {
                let count = rng.below(server.out.len() as u64 + 1) as usize;
                let bytes: Vec<u8> = server.out.drain(..count).collect();
                session.receive(now, &bytes);
            }
            8 => {
                let path = format!("/{}", rng.below(4));
                server.change(&path);
            }
            9 if is_open && rng.one_in(3) => {
                is_open = false;
                session.link_down(now, "reset");
            }
            10 if rng.one_in(20) => server.is_expired = true,
            11 if rng.one_in(2) => {
                now += rng.below(700) * if rng.one_in(12) { 15 } else { 1 };
                session.wakeup(now);
            }
            _ => {
                if let Some(at) = session.next_wakeup().filter(|at| *at < now + 100) {
                    now = now.max(at);
                    session.wakeup(now);
                }
            }
        }
        while let Some(event) = session.poll_event() {
            match event {
                Event::Connect { .. } => is_wanted = true,
                Event::Disconnect { .. } => is_open = false,
                other => model.on_event(other, &server),
            }
        }
        if is_wanted && (is_calm || rng.one_in(3)) {
            is_wanted = false;
            is_open = is_calm || !rng.one_in(4);
            if is_open {
                server.on_link();
                session.link_up(now);
            } else {
                session.link_down(now, "refused");
            }
        }
    }
    // What is left: in calm everything is answered, and every change that was watched is told.
    if is_wanted {
        session.link_down(now, "refused");
    }
    for _ in 0..1_000 {
        let out = session.output().to_vec();
        session.sent(out.len());
        server.under_way.extend(out);
        let out = std::mem::take(&mut server.under_way);
        server.receive(&out);
        let bytes = std::mem::take(&mut server.out);
        if is_open {
            session.receive(now, &bytes);
        }
        while let Some(event) = session.poll_event() {
            match event {
                Event::Connect { .. } => {
                    is_open = true;
                    server.on_link();
                    session.link_up(now);
                }
                Event::Disconnect { .. } => is_open = false,
                other => model.on_event(other, &server),
            }
        }
        if session.state().is_connected() && session.in_flight() == 0 {
            break;
        }
        if !is_open {
            now = now.max(session.next_wakeup().unwrap());
            session.wakeup(now);
        }
    }
    assert!(session.state().is_connected(), "seed {seed}: {:?}", session.state());
    assert!(model.calls.is_empty(), "seed {seed}: {} calls without an answer", model.calls.len());
    for (id, watched) in &model.watched {
        let changed = server.changed.get(&watched.path).copied().unwrap_or_default();
        assert!(changed <= watched.since, "seed {seed}: watch {id} on {} has missed {changed}", watched.path);
    }
    model.counts
}
