//! Step 5 of a write: apply a committed transaction, tell the watchers, answer the owner, release its parked reads.
//!
//! The order within one transaction is what clients rely on: reads that its owner sent before it and that wait for its
//! socket are answered, the tree changes, then the events are in the outboxes,
//! then the owner's answer, then the reads of that session that waited for it, up to its next write. All of it in one
//! hold of the write lock, so no read sees the change before its event.
//!
//! Before: the leader has counted a quorum of ACKs, or said COMMIT. ZooKeeper: `FinalRequestProcessor`.

use super::Database;
use super::digests::Said;
use super::io::{ConnId, Note, Now, Proposal, ServerMode};
use super::outbox::{ConnPhase, Notification, Outbox, OutboxState, Waiting, What};
use crate::jute::{Record, write_string};
use crate::records::{Acl, ErrorCode, EventType, MultiHeader, ReplyHeader, Txn, TxnBody, op, perms};
use crate::sync::get_mut;
use crate::tree::acl::{self, AclRules};
use crate::tree::{ResultBody, TxnResult, WatcherId};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Database {
    pub(super) fn commit(
        &mut self,
        now: Now,
        proposal: &Proposal,
        dirty: &mut Vec<Arc<Outbox>>,
        notes: &mut Vec<Note>,
    ) {
        let txn = &*proposal.txn;
        let owner = self.owner(txn.session);
        if let Some(owner) = &owner {
            self.answer_reads_before(now, txn, owner, dirty);
        }
        let result = self.apply(txn, dirty);
        self.last_processed = self.last_processed.max(txn.zxid);
        match &txn.body {
            TxnBody::CreateSession(body) => {
                self.sessions.insert(txn.session, body.timeout_ms);
                // Every server tells of a new session once, also of another's, as Apache's do.
                self.touch_new(txn.session, body.timeout_ms);
            }
            TxnBody::CloseSession { .. } => {
                self.sessions.remove(&txn.session);
                self.touch_no_more(txn.session);
            }
            _ => {}
        }
        self.compare_digest(txn, notes);
        if let Some(owner) = &owner {
            self.answer_owner(now, txn, &result, owner, dirty);
        }
    }

    fn compare_digest(&mut self, txn: &Txn, notes: &mut Vec<Note>) {
        let actual = self.tree.digest();
        let is_own = self.serving().is_some_and(|serving| serving.mode == ServerMode::Leader);
        match self.digests.compare(txn, actual, is_own) {
            Said::Nothing | Said::Fits => {}
            Said::Differs => {
                let expected = txn.digest.as_ref().map_or(0, |told| told.digest);
                notes.push(Note::DigestMismatch { zxid: txn.zxid, expected, actual });
            }
            Said::NoneHasFitted => notes.push(Note::Warning(format!(
                "since a leader sent its tree no digest has fitted, up to {}: they are computed otherwise, or its tree is \
                 not what it says. What they say is not acted upon until one fits",
                txn.zxid
            ))),
        }
    }

    /// The reads of the owner that wait for its client to take what it was sent: none may see this write.
    fn answer_reads_before(&self, now: Now, txn: &Txn, outbox: &Arc<Outbox>, dirty: &mut Vec<Arc<Outbox>>) {
        let mut state = outbox.lock();
        let is_asked = |first: &Waiting| first.xid == txn.cxid && txn.zxid > state.answers_after;
        if !state.has_due() || !state.first_waiting().is_some_and(is_asked) {
            return;
        }
        self.answer_before_write(outbox.conn(), &mut state, now);
        state.settle(&self.load);
        if state.announce() {
            dirty.push(outbox.clone());
        }
    }

    /// Changes the tree; each change's events are in the outboxes before the next change is made.
    fn apply<'t>(&mut self, txn: &'t Txn, dirty: &mut Vec<Arc<Outbox>>) -> TxnResult<'t> {
        let (watches, rules) = (&mut self.watches, &self.settings.auth.acl);
        let conns = &get_mut(&mut self.conns).all;
        let mut notification = Notification::default();
        #[cfg(any(test, loom))]
        let faults = &self.faults;
        self.tree.apply(txn.session, txn.zxid, txn.time_ms, &txn.body, &mut |change| {
            watches.fire(&change, &mut |watchers, kind, path| {
                notification.set(txn.zxid, kind, path);
                let list = if kind == EventType::NodeChildrenChanged { change.parent_acl } else { change.acl };
                for_each_outbox(conns, watchers, |outbox| {
                    #[cfg(any(test, loom))]
                    if faults.postpone_event(outbox, txn.zxid, kind, path) {
                        return;
                    }
                    deliver(rules, list, &notification, outbox, dirty);
                });
            });
        })
    }

    fn answer_owner(
        &self,
        now: Now,
        txn: &Txn,
        result: &TxnResult<'_>,
        outbox: &Arc<Outbox>,
        dirty: &mut Vec<Arc<Outbox>>,
    ) {
        let mut state = outbox.lock();
        let is_own = txn.zxid > state.answers_after;
        match &txn.body {
            // It was being renewed here while it ended: the client is told so, as the leader's answer would have.
            TxnBody::CloseSession { .. } if state.phase == ConnPhase::Connecting => state.refuse(),
            // Also a local session becomes one of the ensemble so; whoever comes back to it then waits for the leader's word.
            TxnBody::CreateSession(_) if state.is_new => state.open_if_connecting(),
            TxnBody::CreateSession(_) => return,
            TxnBody::CloseSession { .. } => {
                // An expiry has no request to answer: the connection just ends.
                if let Some(Waiting { xid, since_micros, what: What::Write { op: op::CLOSE_SESSION, .. }, .. }) =
                    state.first_waiting()
                    && *xid == txn.cxid
                    && is_own
                {
                    let (header, since) = (ReplyHeader { xid: *xid, zxid: txn.zxid, err: 0 }, *since_micros);
                    state.reply(header, since, now.micros, |_| {});
                }
                state.close();
            }
            _ => {
                let Some(Waiting { xid, what: What::Write { .. }, .. }) = state.first_waiting() else { return };
                if *xid != txn.cxid || !is_own {
                    return; // Of a former connection of this session.
                }
                self.answer_write(now, outbox.conn(), &mut state, txn, result);
            }
        }
        state.settle(&self.load);
        if state.announce() {
            dirty.push(outbox.clone());
        }
    }

    /// Answers the write whose turn it is, then the reads behind it.
    fn answer_write(&self, now: Now, conn: ConnId, state: &mut OutboxState, txn: &Txn, result: &TxnResult<'_>) {
        let Some(Waiting { xid, since_micros, what, .. }) = state.pop_waiting() else { return };
        let What::Write { op, create2, is_ephemeral } = what else { return };
        if is_moved(result) {
            return state.close(); // The session lives elsewhere; this connection is told nothing.
        }
        let err = match result {
            // The leader, which does not know the session, cannot say why.
            TxnResult::Error(_) if is_ephemeral && state.is_local => ErrorCode::EphemeralOnLocalSession.code(),
            TxnResult::Error(error) => error.code(),
            TxnResult::Ok(_) => 0,
        };
        let header = ReplyHeader { xid, zxid: txn.zxid, err };
        state.reply(header, since_micros, now.micros, |out| {
            if let TxnResult::Ok(body) = result {
                write_body(op, &create2, body, &txn.body, out);
            }
        });
        #[cfg(any(test, loom))]
        if self.faults.postpone_parked(conn) {
            return;
        }
        self.answer_parked(conn, state, now);
    }

    /// Everything that was proposed before the sync is applied here: echo its path, answer the reads behind it.
    pub(super) fn finish_sync(&mut self, now: Now, conn: ConnId, xid: i32, dirty: &mut Vec<Arc<Outbox>>) {
        let Some(outbox) = self.conn(conn) else { return };
        let mut state = outbox.lock();
        if !state.sync_done(xid) {
            return;
        }
        self.answer_parked(conn, &mut state, now);
        state.settle(&self.load);
        if state.announce() {
            dirty.push(outbox.clone());
        }
    }
}

/// Calls `see` with the outboxes of these watchers, in their order, which is that of the connections. Many are not
/// looked for one by one.
fn for_each_outbox<'c>(
    conns: &'c BTreeMap<ConnId, Arc<Outbox>>,
    watchers: &[WatcherId],
    mut see: impl FnMut(&'c Arc<Outbox>),
) {
    let conn = |watcher: &WatcherId| ConnId(watcher.0);
    if watchers.len() < conns.len() / 8 {
        return watchers.iter().filter_map(|watcher| conns.get(&conn(watcher))).for_each(see);
    }
    let mut watchers = watchers.iter().map(conn).peekable();
    let Some(&first) = watchers.peek() else { return };
    for (&conn, outbox) in conns.range(first..) {
        while watchers.next_if(|&watcher| watcher < conn).is_some() {}
        match watchers.peek() {
            Some(&watcher) if watcher == conn => see(outbox),
            Some(_) => {}
            None => return,
        }
    }
}

/// An event goes only to those who may read what it is about; a one-shot watch is used up all the same.
fn deliver(
    rules: &AclRules,
    list: &[Acl],
    notification: &Notification,
    outbox: &Arc<Outbox>,
    dirty: &mut Vec<Arc<Outbox>>,
) {
    let mut state = outbox.lock();
    if !acl::allows(rules, list, &state.auth, perms::READ) {
        return;
    }
    state.event(notification);
    if state.announce() {
        dirty.push(outbox.clone());
    }
}

fn is_moved(result: &TxnResult<'_>) -> bool {
    match result {
        TxnResult::Error(error) => *error == ErrorCode::SessionMoved,
        TxnResult::Ok(ResultBody::Multi(results)) => results.iter().any(is_moved),
        TxnResult::Ok(_) => false,
    }
}

/// The body of the answer to a write of operation `code`, which became `txn`.
fn write_body(code: i32, create2: &[bool], result: &ResultBody<'_>, txn: &TxnBody, out: &mut Vec<u8>) {
    match result {
        ResultBody::Create { path, stat } => {
            write_string(path, out);
            if code != op::CREATE {
                stat.write(out);
            }
        }
        ResultBody::SetData { stat } | ResultBody::SetAcl { stat } => stat.write(out),
        ResultBody::Reconfig { stat } => {
            if let TxnBody::Reconfig(body) = txn {
                body.data.write(out);
            }
            stat.write(out);
        }
        ResultBody::Multi(results) => write_multi(create2, results, txn, out),
        ResultBody::Delete
        | ResultBody::Check
        | ResultBody::NotApplied
        | ResultBody::CreateSession { .. }
        | ResultBody::CloseSession => {}
    }
}

/// One element for each operation, then the end marker. The kind is that of the transaction, but a create2's is a
/// create.
fn write_multi(create2: &[bool], results: &[TxnResult<'_>], txn: &TxnBody, out: &mut Vec<u8>) {
    let subs: &[TxnBody] = if let TxnBody::Multi(subs) = txn { subs } else { &[] };
    for (at, (result, sub)) in results.iter().zip(subs).enumerate() {
        let head = |kind, err, out: &mut Vec<u8>| MultiHeader { kind, done: false, err }.write(out);
        match result {
            TxnResult::Ok(ResultBody::NotApplied) => {
                head(op::ERROR, 0, out);
                0i32.write(out);
            }
            TxnResult::Error(error) => {
                head(op::ERROR, error.code(), out);
                error.code().write(out);
            }
            TxnResult::Ok(body) => {
                let kind = match sub {
                    TxnBody::Create(_) if create2.get(at).is_some_and(|is_create2| *is_create2) => op::CREATE2,
                    TxnBody::CreateContainer(_) | TxnBody::CreateTtl(_) => op::CREATE2,
                    sub => sub.op(),
                };
                head(kind, 0, out);
                write_body(kind, &[], body, sub, out);
            }
        }
    }
    MultiHeader { kind: -1, done: true, err: -1 }.write(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Among few connections as among many, and also when some of the watchers have gone.
    #[test]
    fn the_outboxes_of_watchers_are_found_in_order() {
        let conns: BTreeMap<ConnId, Arc<Outbox>> =
            (1..=100).map(|n| (ConnId(2 * n), Outbox::new(ConnId(2 * n), [127, 0, 0, 1].into()))).collect();
        for watchers in [vec![], vec![4], vec![3, 4, 5, 200, 900], (1..=300).collect(), (1..20).collect()] {
            let watchers: Vec<WatcherId> = watchers.into_iter().map(WatcherId).collect();
            let mut seen = Vec::new();
            for_each_outbox(&conns, &watchers, |outbox| seen.push(outbox.conn()));
            let here = watchers.iter().map(|watcher| ConnId(watcher.0)).filter(|conn| conns.contains_key(conn));
            assert_eq!(seen, here.collect::<Vec<_>>());
        }
    }
}
