//! What a client may be told: replies in order and never back in time, each as the committed history has it at the
//! zxid that it names; every watched change exactly once, and before the reply that shows it.

use super::client::Client;
use super::client_calls::{Calls, WatchKind, watch_set};
use super::client_wire::Heard;
use super::ghost::{Ghost, Outcome};
use super::world::Ctx;
use crate::client::CallId;
use crate::jute::Reader;
use crate::records::{
    ErrorCode, EventType, MultiResult, PathReply, PathType, PathWatch, ReplyHeader, Request, Response, SET_WATCHES_XID,
    SetWatchesRequest, Stat, TxnBody, WatcherEvent, Zxid,
};
use crate::tree::ChangeKind;
use std::collections::{BTreeMap, BTreeSet};

/// A request that is not answered yet.
#[derive(Debug)]
pub struct Pending {
    pub xid: i32,
    pub request: Request,
    /// The highest zxid that anybody had been told when it was sent; a sync must reach it.
    pub acknowledged: Zxid,
    /// Whose request it is; `None`: of the session itself.
    pub call: Option<CallId>,
}

impl Pending {
    pub fn is_write(&self) -> bool {
        self.request.is_write()
    }
}

const KINDS: [WatchKind; 3] = [WatchKind::Data, WatchKind::Exist, WatchKind::Child];

/// The watches that the server has of a client, as the wire shows them.
#[derive(Debug, Default)]
pub struct Watches {
    /// By path and whether it is of the child table: the kind, and the zxid as of which it watches.
    set: BTreeMap<(String, bool), (WatchKind, Zxid)>,
    /// The paths of each of [`KINDS`] that must be set again.
    to_restore: [Vec<String>; 3],
    /// Nothing has fired up to here.
    checked: Zxid,
    /// The reply to setWatches has not come yet.
    is_restoring: bool,
    /// Catch-up deletions may come for each table.
    deleted_in_catch_up: BTreeSet<String>,
}

impl Watches {
    /// A new link has the session: its first request must set the watches again that the session's host has by now.
    pub fn on_connected(&mut self, calls: &Calls) {
        self.to_restore = KINDS.map(|kind| calls.watched(kind));
    }

    /// The first request on a new link; `None` if it sets no watches.
    pub fn restore(&mut self, request: Option<&SetWatchesRequest>) -> Result<(), String> {
        let mut kept = BTreeMap::new();
        for (kind, expected) in KINDS.into_iter().zip(std::mem::take(&mut self.to_restore)) {
            let list = request.and_then(|request| match kind {
                WatchKind::Data => request.data.as_deref(),
                WatchKind::Exist => request.exist.as_deref(),
                WatchKind::Child => request.child.as_deref(),
            });
            let list = list.unwrap_or_default();
            if *list != expected[..] {
                return Err(format!("{kind:?} watches on {list:?} are set again, not {expected:?}"));
            }
            for path in list {
                let key = (path.clone(), kind == WatchKind::Child);
                let Some((_, since)) = self.set.remove(&key) else {
                    return Err(format!("a {kind:?} watch on {path} is set again that was not there"));
                };
                kept.insert(key, (kind, since));
            }
        }
        // Whatever else the last server had was forgotten by the host.
        self.set = kept;
        self.is_restoring = request.is_some();
        Ok(())
    }

    pub fn disconnected(&mut self) {
        self.is_restoring = false;
        self.deleted_in_catch_up.clear();
    }

    fn register(&mut self, path: &str, kind: WatchKind, zxid: Zxid) {
        let entry = self.set.entry((path.to_owned(), kind == WatchKind::Child)).or_insert((kind, zxid));
        // Nothing has happened in between, or it would have fired; but it may be known better what it waits for.
        *entry = (kind, zxid);
    }

    pub fn on_event(&mut self, client: usize, zxid: Zxid, event: &WatcherEvent, ctx: &mut Ctx) {
        ctx.counts.events_seen += 1;
        let ghost = &ctx.checkers.ghost;
        let deleted = event.kind == EventType::NodeDeleted as i32;
        let tables: &[bool] = match event.kind {
            kind if kind == EventType::NodeChildrenChanged as i32 => &[true],
            _ if deleted => &[false, true],
            _ => &[false],
        };
        let mut fired = 0;
        for &child in tables {
            let key = (event.path.clone(), child);
            let Some(&(_, since)) = self.set.get(&key) else {
                continue;
            };
            let fits = if self.is_restoring {
                // Catch-up goes by what is there now, not by what happened first; it names no zxid.
                ghost.changed_since(&event.path, child, since).is_some()
            } else {
                ghost.changed_since(&event.path, child, since).is_some_and(|at| {
                    let kind_fits = match child {
                        false => fits(ghost.first_change(&event.path, since, at), event.kind),
                        true => !deleted || ghost.is_deleted_at(&event.path, at),
                    };
                    kind_fits && (zxid.0 <= 0 || zxid == at)
                })
            };
            if fits {
                self.set.remove(&key);
                fired += 1;
            }
        }
        // Catch-up tells of a deletion once for each of the two tables.
        let again = deleted && self.deleted_in_catch_up.remove(&event.path);
        if fired == 0 && !again {
            let watches: Vec<_> = self.set.iter().filter(|((path, _), _)| *path == event.path).collect();
            return ctx.checkers.fail(|| {
                format!("client {client}: {event:?} at {zxid} fits no watch and no change; watches: {watches:?}")
            });
        }
        if self.is_restoring && fired == 2 {
            self.deleted_in_catch_up.insert(event.path.clone());
        }
    }

    /// A reply of `zxid` has come: whatever has changed up to there must have been told.
    fn check(&mut self, client: usize, zxid: Zxid, ctx: &mut Ctx) {
        if zxid <= self.checked || self.is_restoring {
            return;
        }
        self.checked = zxid;
        let ghost = &ctx.checkers.ghost;
        let missed = self.set.iter().find_map(|((path, child), &(_, since))| {
            let at = ghost.changed_since(path, *child, since).filter(|at| *at <= zxid)?;
            Some((path.clone(), at))
        });
        if let Some((path, at)) = missed {
            ctx.checkers
                .fail(|| format!("client {client}: a reply shows {zxid}, but no event has told of {path} at {at}"));
        }
    }

    /// removeWatches is answered.
    fn removed(&mut self, path: &str, err: i32) -> Result<(), String> {
        let before = self.set.len();
        self.set.retain(|(each, _), _| each != path);
        let told = self.set.len() < before;
        let is_right = err == if told { 0 } else { ErrorCode::NoWatcher.code() };
        if is_right { Ok(()) } else { Err(format!("there was a watch: {told}")) }
    }

    /// setWatches is answered: what has not fired watches again.
    fn restored(&mut self, client: usize, zxid: Zxid, ctx: &mut Ctx) {
        self.is_restoring = false;
        self.deleted_in_catch_up.clear();
        for ((path, _), (kind, since)) in &mut self.set {
            if *kind == WatchKind::Exist && ctx.checkers.ghost.state_at(path, zxid).is_none() {
                *since = zxid; // It may have come and gone unseen.
            }
        }
        self.checked = Zxid::ZERO;
        self.check(client, zxid, ctx);
    }
}

fn fits(change: Option<(Zxid, ChangeKind)>, event: i32) -> bool {
    let expected = match change {
        Some((_, ChangeKind::Created)) => EventType::NodeCreated,
        Some((_, ChangeKind::Deleted)) => EventType::NodeDeleted,
        Some((_, ChangeKind::DataChanged)) => EventType::NodeDataChanged,
        None => return false,
    };
    event == expected as i32
}

impl Client {
    pub fn on_reply(&mut self, header: &ReplyHeader, body: &mut Reader<'_>, ctx: &mut Ctx) {
        let index = self.index;
        let Some(pending) = self.wire.pending.pop_front() else {
            return ctx.checkers.fail(|| format!("client {index}: reply {header:?} to nothing"));
        };
        ctx.trace.line(|| format!("client {index}: reply {header:?} to {:?}", pending.request));
        ctx.counts.replies += 1;
        if pending.xid != header.xid {
            return ctx.checkers.fail(|| format!("client {index}: reply {header:?}, but {pending:?} is next"));
        }
        let zxid = header.zxid;
        let (last, committed) = (self.last_zxid, ctx.checkers.ghost.last());
        if zxid < last {
            return ctx.checkers.fail(|| format!("client {index}: reply {header:?} after it has seen {last}"));
        }
        let is_read_only = self.wire.is_read_only;
        if zxid > committed && zxid.counter() > 0 && !is_read_only {
            return ctx
                .checkers
                .fail(|| format!("client {index}: reply {header:?}, but only {committed} is committed"));
        }
        let response = if header.err == 0 { Response::read(pending.request.op(), body) } else { Ok(Response::Empty) };
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                return ctx.checkers.fail(|| format!("client {index}: a reply that cannot be read: {error}"));
            }
        };
        let verdict = if let Request::RemoveWatches(PathType { path: Some(path), .. }) = &pending.request {
            self.watches.removed(path, header.err)
        } else if is_read_only {
            self.check_read_only(&pending, header, ctx)
        } else if pending.request == Request::CloseSession && self.is_local(&ctx.checkers.ghost) {
            if header.err == 0 { Ok(()) } else { Err("the end of a local session cannot fail".into()) }
        } else if pending.is_write() {
            if zxid <= self.last_reply {
                let seen = self.last_reply;
                Err(format!("a reply before it was of {seen}, so it has seen the write too early"))
            } else {
                self.check_write(&pending, header, &response, &ctx.checkers.ghost)
            }
        } else {
            check_read(&pending, header, &response, &ctx.checkers.ghost)
        };
        if let Err(wrong) = verdict {
            return ctx
                .checkers
                .fail(|| format!("client {index}: reply {header:?} {response:?} to {:?}: {wrong}", pending.request));
        }
        if is_read_only {
            ctx.counts.read_only_answers += 1;
        } else if pending.is_write() {
            let is_refused = header.err == ErrorCode::EphemeralOnLocalSession.code();
            ctx.counts.ephemerals_refused += u64::from(is_refused);
            let is_reconfig = matches!(pending.request, Request::Reconfig(_));
            ctx.counts.reconfigs_refused += u64::from(is_reconfig && header.err != 0);
            ctx.counts.writes_acknowledged += 1;
            if let Some(told) = self.told.as_mut().filter(|told| ctx.checkers.ghost.was_created(told.id)) {
                ctx.counts.sessions_upgraded += u64::from(std::mem::take(&mut told.is_local));
            }
            ctx.checkers.acknowledged = ctx.checkers.acknowledged.max(zxid);
        } else if pending.xid > 0 {
            ctx.counts.reads_answered += 1;
        }
        if pending.xid == SET_WATCHES_XID {
            self.watches.restored(index, zxid, ctx);
        }
        if !is_read_only {
            self.watches.check(index, zxid, ctx);
        }
        match &response {
            Response::Path(PathReply { path: Some(path) }) => self.workload.created(path),
            Response::PathStat(told) => self.workload.created(&told.path),
            _ => {}
        }
        if let Some((path, kind)) = watch_set(&pending.request, header.err) {
            self.watches.register(path, kind, zxid);
        }
        self.last_zxid = zxid;
        self.last_reply = zxid;
        if let Some(call) = pending.call {
            let result = if header.err == 0 { Ok(response) } else { Err(header.err) };
            self.wire.heard.push_back(Heard::Answer { call, zxid, result });
        }
        if pending.request == Request::CloseSession {
            self.session_is_over();
        }
    }

    fn is_local(&self, ghost: &Ghost) -> bool {
        self.told.as_ref().is_some_and(|told| told.is_local && !ghost.was_created(told.id))
    }

    /// A server without a quorum refuses writes and syncs, and shows one state, whichever it is: perhaps an old one, or
    /// one that is not committed.
    fn check_read_only(&mut self, pending: &Pending, header: &ReplyHeader, ctx: &mut Ctx) -> Result<(), String> {
        let zxid = *self.wire.read_only.get_or_insert(header.zxid);
        if header.zxid != zxid {
            return Err(format!("it was read at {zxid} before"));
        }
        let is_refused = header.err == ErrorCode::NotReadOnly.code();
        ctx.counts.read_only_refusals += u64::from(is_refused);
        let is_change = pending.is_write() || matches!(pending.request, Request::Sync(_));
        let is_right = is_refused == (is_change && pending.request != Request::CloseSession);
        if is_right { Ok(()) } else { Err("a server without a quorum only reads".into()) }
    }

    /// A write's reply is what its transaction in the history gave.
    fn check_write(
        &self,
        pending: &Pending,
        header: &ReplyHeader,
        response: &Response,
        ghost: &Ghost,
    ) -> Result<(), String> {
        let committed = ghost.get(header.zxid).ok_or("it is not committed")?;
        let session = self.told.as_ref().map(|told| told.id);
        if Some(committed.txn.session) != session || committed.txn.cxid != pending.xid {
            return Err(format!("{:?} is committed there", committed.txn));
        }
        let expected = &committed.outcome;
        let same = match (expected, response) {
            (Outcome::Error(code), _) => {
                // In the words of the server that knows the session.
                let is_refused = header.err == ErrorCode::EphemeralOnLocalSession.code() && self.is_local(ghost);
                header.err == *code || is_refused
            }
            _ if header.err != 0 => false,
            (Outcome::Created { path, .. }, Response::Path(told)) => told.path.as_ref() == Some(path),
            (Outcome::Created { path, stat }, Response::PathStat(told)) => (&told.path, &told.stat) == (path, stat),
            (Outcome::Set(stat), Response::Stat(told)) => told.stat == *stat,
            // The stat of what each server keeps by itself is its own.
            (Outcome::Set(_), Response::DataStat(told)) => {
                matches!(&committed.txn.body, TxnBody::Reconfig(body) if body.data == told.data)
            }
            (Outcome::Multi(outcomes), Response::Multi(told)) => {
                outcomes.len() == told.results.len() && outcomes.iter().zip(&told.results).all(|(o, r)| same(o, r))
            }
            (Outcome::Done, Response::Empty) => true,
            _ => false,
        };
        if same { Ok(()) } else { Err(format!("the history has {expected:?}")) }
    }
}

fn same(outcome: &Outcome, result: &MultiResult) -> bool {
    match (outcome, result) {
        (Outcome::Error(code), MultiResult::Error { code: told }) => code == told,
        (Outcome::Created { path, .. }, MultiResult::Create { path: told }) => path == told,
        (Outcome::Created { path, stat }, MultiResult::Create2 { path: told, stat: seen }) => {
            (path, stat) == (told, seen)
        }
        (Outcome::Set(stat), MultiResult::SetData { stat: told }) => stat == told,
        (Outcome::Done, MultiResult::Delete | MultiResult::Check) => true,
        _ => false,
    }
}

/// A read's reply is the history's state at its zxid.
fn check_read(pending: &Pending, header: &ReplyHeader, response: &Response, ghost: &Ghost) -> Result<(), String> {
    let state = |body: &PathWatch| ghost.state_at(body.path.as_deref().unwrap_or_default(), header.zxid);
    let names = |body: &PathWatch| ghost.children_at(body.path.as_deref().unwrap_or_default(), header.zxid);
    let (body, expected) = match &pending.request {
        Request::Sync(_) => {
            let reached = header.zxid >= pending.acknowledged;
            return if reached { Ok(()) } else { Err(format!("{} was acknowledged before", pending.acknowledged)) };
        }
        Request::Exists(body) | Request::GetData(body) => (body, state(body)),
        Request::GetChildren(body) | Request::GetChildren2(body) => (body, state(body)),
        _ if header.err == 0 => return Ok(()),
        _ => return Err("it cannot fail".into()),
    };
    if header.err == ErrorCode::SessionExpired.code() {
        return Ok(()); // The session is closing; its end is ordered behind.
    }
    let Some(version) = expected else {
        let told = header.err == ErrorCode::NoNode.code();
        return if told { Ok(()) } else { Err("there is no such znode".into()) };
    };
    let same_names = |told: &[String]| {
        let expected = names(body);
        told.len() == expected.len() && told.iter().all(|name| expected.contains(name))
    };
    let same_stat = |told: &Stat| *told == version.stat;
    let same = header.err == 0
        && match response {
            Response::Stat(told) => same_stat(&told.stat),
            Response::DataStat(told) => told.data == version.data && same_stat(&told.stat),
            Response::Children(told) => same_names(&told.children),
            Response::ChildrenStat(told) => same_names(&told.children) && same_stat(&told.stat),
            _ => false,
        };
    if same { Ok(()) } else { Err(format!("the history has {version:?}")) }
}
