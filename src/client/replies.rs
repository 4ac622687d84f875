//! What comes from the server: bytes to frames, frames to answers, events and the order they must have.
//!
//! Nothing of it is trusted. Whatever does not fit closes the link with a reason; a call that it was the answer to
//! fails, so that a server that always answers so is not asked for ever.

use super::calls::WatchId;
use super::events::{Event, Failure, Lost, WatchEvent};
use super::requests::{Entry, Kind};
use super::session::{Link, Session, path_in};
use super::watches::WatchKind;
use crate::jute::{Reader, Record};
use crate::records::{
    AUTH_XID, ErrorCode, EventType, MultiResult, NOTIFICATION_XID, PING_XID, ReplyHeader, Response, SET_WATCHES_XID,
    WatcherEvent, Zxid, op,
};

/// The longest frame that is taken, in bytes.
pub const REPLY_BYTES_MAX: usize = 4 << 20;

impl Session {
    /// Takes bytes of the link, cut anywhere.
    pub fn receive(&mut self, now_ms: u64, bytes: &[u8]) {
        if !matches!(self.link, Link::Handshake { .. } | Link::Authenticating { .. } | Link::Up) {
            return;
        }
        self.heard_ms = now_ms;
        if self.received.is_empty() {
            let taken = self.take_frames(now_ms, bytes);
            if let Some(taken) = taken {
                self.received.extend_from_slice(&bytes[taken..]);
            }
            return;
        }
        let mut received = std::mem::take(&mut self.received);
        received.extend_from_slice(bytes);
        match self.take_frames(now_ms, &received) {
            Some(taken) => drop(received.drain(..taken)),
            None => received.clear(),
        }
        if received.is_empty() {
            received.shrink_to(64 << 10);
        }
        self.received = received;
    }

    /// Handles the whole frames in `bytes` and returns their length; `None` if the link has ended with one of them.
    fn take_frames(&mut self, now_ms: u64, bytes: &[u8]) -> Option<usize> {
        let link_number = self.link_number;
        let mut from = Reader::new(bytes);
        loop {
            let taken = bytes.len() - from.remaining();
            let Ok(length) = from.int() else {
                return Some(taken);
            };
            let length = match usize::try_from(length) {
                Ok(length) if length <= REPLY_BYTES_MAX => length,
                Ok(length) => {
                    self.refuse_length(now_ms, length);
                    return None;
                }
                Err(_) => {
                    self.break_link(now_ms, &format!("a frame of {length} bytes"));
                    return None;
                }
            };
            let Ok(frame) = from.bytes(length) else {
                return Some(taken);
            };
            if let Err(why) = self.on_frame(now_ms, frame) {
                self.break_link(now_ms, &why);
            }
            if self.link_number != link_number {
                return None;
            }
        }
    }

    /// The frame is most likely the answer to the oldest request: asked again it would come again.
    fn refuse_length(&mut self, now_ms: u64, length: usize) {
        if let Some(entry) = self.requests.first_sent().filter(|entry| entry.kind.is_call() && self.link == Link::Up) {
            self.answer(&entry, Zxid::NONE, Err(Failure::ReplyTooLong { length }));
        }
        self.break_link(now_ms, &format!("a frame of {length} bytes, more than the {REPLY_BYTES_MAX} that are taken"));
    }

    fn on_frame(&mut self, now_ms: u64, frame: &[u8]) -> Result<(), String> {
        if let Link::Handshake { .. } = self.link {
            return self.on_connect_response(now_ms, frame);
        }
        let mut body = Reader::new(frame);
        let header = ReplyHeader::read(&mut body).map_err(|error| format!("a frame without a header: {error}"))?;
        match header.xid {
            NOTIFICATION_XID => self.on_notification(&header, &mut body)?,
            AUTH_XID => return self.on_auth_reply(now_ms, header.err),
            SET_WATCHES_XID => self.on_watches_set(&header)?,
            _ => return self.on_reply(now_ms, &header, &mut body),
        }
        self.see(header.zxid);
        Ok(())
    }

    fn see(&mut self, zxid: Zxid) {
        // 0 and -1 stand for "none".
        if zxid.0 > 0 {
            self.last_zxid = self.last_zxid.max(zxid);
        }
    }

    fn on_notification(&mut self, header: &ReplyHeader, body: &mut Reader<'_>) -> Result<(), String> {
        let event = WatcherEvent::read(body).map_err(|error| format!("an event that cannot be read: {error}"))?;
        let Some(kind) = EventType::from_code(event.kind) else {
            return Err(format!("an event of type {}", event.kind));
        };
        let ids = self.watches.fire(kind, &event.path);
        let event = WatchEvent { kind, path: self.without_chroot(event.path), zxid: header.zxid };
        self.events.push_back(Event::Watch { ids, event });
        Ok(())
    }

    fn on_watches_set(&mut self, header: &ReplyHeader) -> Result<(), String> {
        if !self.watches.is_restoring() {
            return Err("an answer to no setWatches".to_owned());
        }
        self.watches.on_restored();
        if header.err != 0 {
            self.note(format!("server {}: setWatches is refused, error {}", self.server(), header.err));
            self.lose_watches(Lost::Refused(header.err));
        }
        Ok(())
    }

    /// The answer to the oldest request.
    fn on_reply(&mut self, now_ms: u64, header: &ReplyHeader, body: &mut Reader<'_>) -> Result<(), String> {
        let entry = match self.requests.first_sent() {
            Some(entry) if self.link == Link::Up => entry,
            _ => return Err(format!("a reply to {}, which nobody has asked", header.xid)),
        };
        if entry.xid != header.xid {
            return Err(format!("a reply to {}, but {} is next", header.xid, entry.xid));
        }
        if self.watches.is_restoring() && header.xid != PING_XID {
            return Err(format!("a reply to {} before the one to setWatches", header.xid));
        }
        self.servers.on_success();
        self.see(header.zxid);
        match entry.kind {
            Kind::Read | Kind::Sync | Kind::Write => self.on_answer(now_ms, &entry, header, body),
            Kind::Close => {
                self.requests.pop();
                self.on_closed();
                Ok(())
            }
            Kind::Ping | Kind::RemoveWatches | Kind::Auth | Kind::Done => {
                self.requests.pop();
                Ok(())
            }
        }
    }

    fn on_answer(
        &mut self,
        now_ms: u64,
        entry: &Entry,
        header: &ReplyHeader,
        body: &mut Reader<'_>,
    ) -> Result<(), String> {
        let result = match header.err {
            0 => Response::read(entry.op, body).map_err(|error| {
                let why = format!("the reply to {} cannot be read: {error}", entry.xid);
                (Failure::Malformed, Some(why))
            }),
            code => Err((Failure::Server(code), None)),
        };
        match result {
            Ok(response) => {
                if let Some(id) = entry.watch {
                    self.register(id, entry.op, 0);
                } else if entry.op == op::ADD_WATCH {
                    self.forget_added_watch(now_ms);
                }
                let response = if self.chroot.is_empty() { response } else { self.strip(response) };
                self.answer(entry, header.zxid, Ok(response));
                Ok(())
            }
            Err((failure, why)) => {
                if let Some(id) = entry.watch {
                    self.register(id, entry.op, header.err);
                }
                self.answer(entry, header.zxid, Err(failure));
                why.map_or(Ok(()), Err)
            }
        }
    }

    /// The oldest request is answered.
    fn answer(&mut self, entry: &Entry, zxid: Zxid, result: Result<Response, Failure>) {
        self.requests.pop();
        self.events.push_back(Event::Reply { call: entry.call, zxid, result });
    }

    /// The watch that the oldest request asked for is set, if its answer says so.
    fn register(&mut self, id: WatchId, operation: i32, err: i32) {
        let frame = self.requests.first_frame();
        let kind = match operation {
            op::EXISTS if err == ErrorCode::NoNode.code() => WatchKind::Exist,
            _ if err != 0 => return,
            op::EXISTS | op::GET_DATA => WatchKind::Data,
            op::GET_CHILDREN | op::GET_CHILDREN2 => WatchKind::Child,
            op::ADD_WATCH if frame.last() == Some(&1) => WatchKind::Recursive,
            op::ADD_WATCH => WatchKind::Persistent,
            _ => return,
        };
        if let Ok(path) = std::str::from_utf8(path_in(frame)) {
            self.watches.add(path, kind, id);
        }
    }

    /// A persistent watch that was forgotten before it was set would fire for ever.
    fn forget_added_watch(&mut self, now_ms: u64) {
        let path = String::from_utf8_lossy(path_in(self.requests.first_frame())).into_owned();
        if !self.watches.is_watched(&path) {
            self.remove_watches(now_ms, path);
        }
    }

    /// A path as the host knows it; one outside of the chroot stays as it is.
    fn without_chroot(&self, mut path: String) -> String {
        if self.chroot.is_empty() {
            return path;
        }
        match path.strip_prefix(self.chroot.as_str()) {
            Some("") => "/".to_owned(),
            Some(rest) if rest.starts_with('/') => path.split_off(self.chroot.len()),
            _ => path,
        }
    }

    /// A response whose paths are below the chroot.
    fn strip(&self, mut response: Response) -> Response {
        let strip = |path: &mut String| *path = self.without_chroot(std::mem::take(path));
        match &mut response {
            Response::Path(body) => body.path.iter_mut().for_each(strip),
            Response::PathStat(body) => strip(&mut body.path),
            Response::Multi(body) => {
                for result in &mut body.results {
                    if let MultiResult::Create { path } | MultiResult::Create2 { path, .. } = result {
                        strip(path);
                    }
                }
            }
            Response::Ephemerals(body) => {
                // The server compares strings: `/app` finds `/apple` too.
                let is_below = |path: &String| {
                    path.strip_prefix(self.chroot.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                body.ephemerals.retain(is_below);
                body.ephemerals.iter_mut().for_each(strip);
            }
            _ => {}
        }
        response
    }
}
