//! What a session owes its host: one answer for each call, in the order and with the contents of the wire; the outcome
//! of a call told right when its link breaks; each watch fired once, by the event that is its; reads behind a sync never
//! older than what anybody had been told before the sync was called.

use super::client::Client;
use super::client_wire::Heard;
use super::rng::Rng;
use super::world::Ctx;
use crate::client::{CallId, Failure, Lost, WatchEvent, WatchId};
use crate::records::{ErrorCode, EventType, PathWatch, Request, Response, Zxid};
use std::collections::BTreeMap;

/// The kinds of one-shot watches, as clients keep them for setWatches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchKind {
    /// On a znode that was there.
    Data,
    /// On one that was not.
    Exist,
    Child,
}

/// The kind of watch that a request sets whose answer has this error.
pub fn watch_set(request: &Request, err: i32) -> Option<(&str, WatchKind)> {
    let (body, kind) = match request {
        Request::Exists(body) if err == ErrorCode::NoNode.code() => (body, WatchKind::Exist),
        Request::Exists(body) | Request::GetData(body) if err == 0 => (body, WatchKind::Data),
        Request::GetChildren(body) | Request::GetChildren2(body) if err == 0 => (body, WatchKind::Child),
        _ => return None,
    };
    match body {
        PathWatch { path: Some(path), watch: true } => Some((path, kind)),
        _ => None,
    }
}

/// A call that is not answered.
#[derive(Debug)]
struct Made {
    request: Request,
    watch: Option<WatchId>,
    /// All of it has been given to a link, under this xid.
    xid: Option<i32>,
    /// The newest zxid that its answer must show, because of a sync before it or that it is.
    owed: Zxid,
    /// It was called in a minority with the leader.
    is_cut_off: bool,
}

/// The calls and watches of one session.
#[derive(Debug, Default)]
pub struct Calls {
    made: BTreeMap<CallId, Made>,
    by_xid: BTreeMap<i32, CallId>,
    watches: BTreeMap<WatchId, (String, WatchKind)>,
    last_watch: u64,
    /// What the syncs owe that have not failed: calls made from now on owe it too.
    synced: Zxid,
    /// Of those, the syncs that are answered.
    answered: Zxid,
}

impl Calls {
    pub fn len(&self) -> usize {
        self.made.len()
    }

    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// Another session owes nothing of what this one did.
    pub fn session_is_over(&mut self) {
        (self.synced, self.answered) = (Zxid::ZERO, Zxid::ZERO);
    }

    pub fn next_watch(&mut self) -> WatchId {
        self.last_watch += 1;
        WatchId(self.last_watch)
    }

    /// `acknowledged`: the highest zxid that anybody has been told.
    pub fn made(
        &mut self,
        call: CallId,
        request: Request,
        watch: Option<WatchId>,
        acknowledged: Zxid,
        is_cut_off: bool,
    ) {
        if let Request::Sync(_) = request {
            self.synced = self.synced.max(acknowledged);
        }
        self.made.insert(call, Made { request, watch, xid: None, owed: self.synced, is_cut_off });
    }

    /// A request goes out: the next call that has not yet, or one again whose link broke.
    pub fn sent(&mut self, xid: i32, request: &Request, ctx: &mut Ctx) -> Result<CallId, String> {
        if let Some(call) = self.by_xid.get(&xid) {
            let made = self.made.get(call).ok_or_else(|| format!("{request:?} is sent after it is answered"))?;
            if made.request != *request || request.is_write() {
                return Err(format!("{request:?} is sent again, of {made:?}"));
            }
            ctx.counts.reads_sent_again += 1;
            return Ok(*call);
        }
        let next = self.made.iter_mut().find(|(_, made)| made.xid.is_none());
        let Some((call, made)) = next.filter(|(_, made)| made.request == *request) else {
            return Err(format!("{request:?} is sent, but it is not the next call"));
        };
        made.xid = Some(xid);
        self.by_xid.insert(xid, *call);
        Ok(*call)
    }

    /// Any watch, set or asked for.
    pub fn pick_watch(&self, rng: &mut Rng) -> Option<WatchId> {
        let ids: Vec<_> =
            self.watches.keys().copied().chain(self.made.values().filter_map(|made| made.watch)).collect();
        (!ids.is_empty()).then(|| *rng.pick(&ids))
    }

    pub fn forget(&mut self, id: WatchId) {
        self.watches.remove(&id);
        for made in self.made.values_mut().filter(|made| made.watch == Some(id)) {
            made.watch = None;
        }
    }

    /// The paths that are watched so.
    pub fn watched(&self, kind: WatchKind) -> Vec<String> {
        let mut paths: Vec<_> =
            self.watches.values().filter(|(_, each)| *each == kind).map(|(path, _)| path.clone()).collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

impl Client {
    pub fn on_call_answered(&mut self, call: CallId, zxid: Zxid, result: Result<Response, Failure>, ctx: &mut Ctx) {
        let Some(made) = self.calls.made.remove(&call) else {
            return ctx.checkers.fail(|| format!("client {}: {call:?} is answered again: {result:?}", self.index));
        };
        if let Err(wrong) = self.check_answer(call, &made, zxid, &result, ctx) {
            return ctx.checkers.fail(|| {
                format!("client {}: {call:?} {made:?} is answered {result:?} at {zxid}: {wrong}", self.index)
            });
        }
        if let Err(Failure::ConnectionLoss { sent, .. }) = result {
            ctx.counts.unknown_outcomes += u64::from(sent && made.request.is_write());
            ctx.counts.calls_never_sent += u64::from(!sent);
        }
        let is_read = !made.request.is_write() && !matches!(made.request, Request::Sync(_));
        if made.is_cut_off && made.owed > Zxid::ZERO && is_read {
            let is_answered = matches!(result, Ok(_) | Err(Failure::Server(_)));
            ctx.counts.fresh_behind_a_cut += u64::from(is_answered);
            ctx.counts.failed_behind_a_cut += u64::from(!is_answered);
        }
        let err = match &result {
            Ok(_) => Some(0),
            Err(Failure::Server(code)) => Some(*code),
            Err(_) => None,
        };
        if let (Some(id), Some((path, kind))) = (made.watch, err.and_then(|err| watch_set(&made.request, err))) {
            self.calls.watches.insert(id, (path.to_owned(), kind));
        }
        let is_refused = err == Some(ErrorCode::NotReadOnly.code());
        if let Request::Sync(_) = made.request {
            let calls = &mut self.calls;
            if err.is_some() && !is_refused {
                calls.answered = calls.answered.max(made.owed);
            } else {
                // From now on it is owed no more; what was called behind it still owes it.
                let syncs = calls.made.values().filter(|made| matches!(made.request, Request::Sync(_)));
                calls.synced = syncs.map(|made| made.owed).fold(calls.answered, Zxid::max);
            }
        }
        self.on_done(&made.request, err.is_some() && !is_refused);
    }

    fn check_answer(
        &mut self,
        call: CallId,
        made: &Made,
        zxid: Zxid,
        result: &Result<Response, Failure>,
        ctx: &mut Ctx,
    ) -> Result<(), String> {
        let was_sent = made.xid.is_some();
        let of_server = match result {
            Ok(response) => Ok(response.clone()),
            Err(Failure::Server(code)) => Err(*code),
            Err(Failure::ConnectionLoss { sent } | Failure::SessionExpired { sent } | Failure::Closed { sent }) => {
                return if *sent == was_sent { Ok(()) } else { Err(format!("it was sent: {was_sent}")) };
            }
            Err(_) => return Err("servers do not answer so".into()),
        };
        let answer = Heard::Answer { call, zxid, result: of_server };
        match self.wire.heard.pop_front() {
            Some(heard) if heard == answer => {}
            other => return Err(format!("but the server said {other:?}")),
        }
        if self.wire.is_read_only {
            return Ok(()); // Whoever reads there wants to read the past.
        }
        if zxid < made.owed {
            return Err(format!("{} was acknowledged before a sync that was called before it", made.owed));
        }
        if made.owed > Zxid::ZERO && !made.request.is_write() {
            ctx.counts.reads_behind_a_sync += 1;
        }
        Ok(())
    }

    pub fn on_watch_fired(&mut self, ids: &[WatchId], event: &WatchEvent, ctx: &mut Ctx) {
        let (kind, zxid) = (event.kind as i32, event.zxid);
        let heard = self.wire.heard.pop_front();
        let kinds: &[WatchKind] = match event.kind {
            EventType::NodeCreated | EventType::NodeDataChanged => &[WatchKind::Data, WatchKind::Exist],
            EventType::NodeDeleted => &[WatchKind::Data, WatchKind::Exist, WatchKind::Child],
            EventType::NodeChildrenChanged => &[WatchKind::Child],
        };
        let mut told = ids.to_vec();
        told.sort_unstable();
        let fits = |(path, kind): &(String, WatchKind)| *path == event.path && kinds.contains(kind);
        let expected: Vec<_> = self.calls.watches.iter().filter(|(_, watch)| fits(watch)).map(|(id, _)| *id).collect();
        if told != expected || heard != Some(Heard::Event { kind, path: event.path.clone(), zxid }) {
            return ctx.checkers.fail(|| {
                let index = self.index;
                format!("client {index}: {event:?} fires {told:?}, not {expected:?}; the server said {heard:?}")
            });
        }
        ctx.counts.watches_fired += ids.len() as u64;
        for id in expected {
            self.calls.watches.remove(&id);
        }
    }

    pub fn on_watches_lost(&mut self, ids: &[WatchId], reason: Lost, ctx: &mut Ctx) {
        let watches = std::mem::take(&mut self.calls.watches);
        let is_end = matches!(reason, Lost::SessionExpired | Lost::Closed);
        if !is_end || !ids.iter().eq(watches.keys()) {
            ctx.checkers.fail(|| format!("client {}: {reason:?} ends {ids:?}, of {watches:?}", self.index));
        }
    }

    /// The session is over, in one way or another: nothing may be left of it.
    pub fn check_nothing_left(&mut self, ctx: &mut Ctx) {
        if !self.calls.is_empty() || !self.calls.watches.is_empty() {
            ctx.checkers.fail(|| format!("client {}: the session is over, but {:?} is left", self.index, self.calls));
        }
    }
}
