//! The history as it must be: every committed transaction, in order, applied to a tree of its own.
//!
//! A server that serves, a reply that a client gets and an event that it sees are all held against it. It remembers
//! each znode as it was after each change, so a read can be checked at the zxid that its reply names.

use crate::records::{ErrorCode, SessionId, Stat, Txn, TxnBody, Zxid};
use crate::tree::{ChangeKind, DataTree, Lifetimes, NodeRef, ResultBody, TxnResult};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the client of a write must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Created { path: String, stat: Stat },
    Set(Stat),
    Multi(Vec<Outcome>),
    Error(i32),
}

/// A znode after some zxid; `None`: there is none.
pub type State = Option<Arc<Version>>;

/// A znode's data and stat.
#[derive(Debug, PartialEq, Eq)]
pub struct Version {
    pub data: Option<Vec<u8>>,
    pub stat: Stat,
}

/// One transaction of the history.
#[derive(Debug)]
pub struct Committed {
    pub txn: Arc<Txn>,
    pub outcome: Outcome,
    /// When it was committed, in microseconds.
    pub at: u64,
    /// The tree's digest after it.
    pub digest: i64,
}

/// The committed history.
pub struct Ghost {
    log: BTreeMap<Zxid, Committed>,
    last: Zxid,
    tree: DataTree,
    /// Of the empty tree.
    first_digest: i64,
    sessions: BTreeMap<SessionId, i32>,
    /// When each session was created, in microseconds.
    created: BTreeMap<SessionId, u64>,
    /// When each session was closed.
    closed: BTreeMap<SessionId, Zxid>,
    /// The highest cxid of each session.
    cxids: BTreeMap<SessionId, i32>,
    states: BTreeMap<String, Vec<(Zxid, State)>>,
    /// By parent: which child came (`true`) or went.
    children: BTreeMap<String, Vec<(Zxid, String, bool)>>,
    /// By path, for watches: what happened when.
    changes: BTreeMap<String, Vec<(Zxid, ChangeKind)>>,
    /// Containers and TTL nodes that were reaped, each after its time.
    pub reaped: u64,
}

impl Default for Ghost {
    fn default() -> Ghost {
        Ghost::new()
    }
}

impl Ghost {
    pub fn new() -> Ghost {
        let tree = DataTree::new();
        Ghost {
            log: BTreeMap::new(),
            last: Zxid::ZERO,
            first_digest: tree.digest(),
            tree,
            sessions: BTreeMap::new(),
            created: BTreeMap::new(),
            closed: BTreeMap::new(),
            cxids: BTreeMap::new(),
            states: BTreeMap::new(),
            children: BTreeMap::new(),
            changes: BTreeMap::new(),
            reaped: 0,
        }
    }

    /// The zxid of the last committed transaction.
    pub fn last(&self) -> Zxid {
        self.last
    }

    pub fn len(&self) -> usize {
        self.log.len()
    }

    pub fn is_empty(&self) -> bool {
        self.log.is_empty()
    }

    pub fn get(&self, zxid: Zxid) -> Option<&Committed> {
        self.log.get(&zxid)
    }

    /// The whole history up to there.
    pub fn zxids_up_to(&self, zxid: Zxid) -> BTreeSet<Zxid> {
        self.log.range(..=zxid).map(|(zxid, _)| *zxid).collect()
    }

    /// The first committed transaction behind `zxid`.
    pub fn first_after(&self, zxid: Zxid) -> Option<Zxid> {
        self.log.range(Zxid(zxid.0 + 1)..).next().map(|(at, _)| *at)
    }

    /// The digest of the tree after everything up to `zxid`.
    pub fn digest_at(&self, zxid: Zxid) -> i64 {
        self.log.range(..=zxid).next_back().map_or(self.first_digest, |(_, committed)| committed.digest)
    }

    pub fn tree(&self) -> &DataTree {
        &self.tree
    }

    pub fn sessions(&self) -> &BTreeMap<SessionId, i32> {
        &self.sessions
    }

    /// Whether a transaction has closed the session.
    pub fn is_closed(&self, session: SessionId) -> bool {
        self.closed.contains_key(&session)
    }

    /// Whether a createSession of it is committed.
    pub fn was_created(&self, session: SessionId) -> bool {
        self.created.contains_key(&session)
    }

    /// When a createSession of it was committed, in microseconds.
    pub fn created_at(&self, session: SessionId) -> Option<u64> {
        self.created.get(&session).copied()
    }

    /// Whether the transaction at `zxid` deleted `path`.
    pub fn is_deleted_at(&self, path: &str, zxid: Zxid) -> bool {
        let changes = self.changes.get(path).map_or(&[][..], Vec::as_slice);
        changes.iter().any(|(at, kind)| *at == zxid && *kind == ChangeKind::Deleted)
    }

    /// Adds the next committed transaction; an error says which rule of the order it breaks.
    pub fn commit(&mut self, txn: Arc<Txn>, at: u64) -> Result<(), String> {
        let zxid = txn.zxid;
        let follows = if zxid.epoch() == self.last.epoch() {
            i64::from(zxid.counter()) == i64::from(self.last.counter()) + 1
        } else {
            zxid.epoch() > self.last.epoch() && zxid.counter() == 1
        };
        if !follows {
            return Err(format!("{zxid} is committed after {}", self.last));
        }
        // A request that came by way of a server which the session had left, or after its end, is ordered late, to fail.
        let too_late = [ErrorCode::SessionMoved, ErrorCode::SessionExpired].map(ErrorCode::code);
        let late_error = |body: &TxnBody| matches!(body, TxnBody::Error(error) if too_late.contains(&error.err));
        let is_late = match &txn.body {
            TxnBody::Multi(parts) => parts.iter().any(late_error),
            // A client's close counts by whichever way it comes.
            TxnBody::CloseSession { .. } => true,
            body => late_error(body),
        };
        let cxid = self.cxids.entry(txn.session).or_insert(0);
        if txn.cxid > 0 && txn.cxid <= *cxid && !is_late {
            return Err(format!("session {}: cxid {} is committed after {cxid}", txn.session, txn.cxid));
        }
        *cxid = txn.cxid.max(*cxid);

        if let TxnBody::DeleteContainer(body) = &txn.body {
            let lifetimes = Lifetimes { now_ms: txn.time_ms, never_used_ms: 0, with_ttl: true };
            let is_over = |node: NodeRef<'_>| lifetimes.are_over(&node.persisted(), node.child_count());
            if !self.tree.get(&body.path).is_some_and(is_over) {
                return Err(format!("{} is reaped before its time", body.path));
            }
            self.reaped += 1;
        }
        let mut changed: Vec<(String, ChangeKind)> = Vec::new();
        let result = self.tree.apply(txn.session, zxid, txn.time_ms, &txn.body, &mut |change| {
            changed.push((change.path.to_owned(), change.kind));
        });
        let outcome = outcome(&result);
        match &txn.body {
            TxnBody::CreateSession(body) => {
                self.sessions.insert(txn.session, body.timeout_ms);
                self.created.insert(txn.session, at);
            }
            TxnBody::CloseSession { .. } => {
                self.sessions.remove(&txn.session);
                self.closed.insert(txn.session, zxid);
                if let Some(path) = self.tree.ephemerals(txn.session).next() {
                    return Err(format!("{path} is still there after its session {} was closed", txn.session));
                }
            }
            TxnBody::SetAcl(body) => self.remember(zxid, &body.path),
            _ => {}
        }
        for (path, kind) in changed {
            self.remember(zxid, &path);
            if kind != ChangeKind::DataChanged
                && let Some((parent, name)) = split(&path)
            {
                self.remember(zxid, parent);
                let entry = (zxid, name.to_owned(), kind == ChangeKind::Created);
                self.children.entry(parent.to_owned()).or_default().push(entry);
            }
            self.changes.entry(path).or_default().push((zxid, kind));
        }
        let digest = self.tree.digest();
        if let Some(told) = &txn.digest
            && told.digest != digest
        {
            return Err(format!("{zxid} says digest {:#x}, the history has {digest:#x}", told.digest));
        }
        self.last = zxid;
        self.log.insert(zxid, Committed { txn, outcome, at, digest });
        Ok(())
    }

    fn remember(&mut self, zxid: Zxid, path: &str) {
        let state = self
            .tree
            .get(path)
            .map(|node| Arc::new(Version { data: node.data().map(<[u8]>::to_vec), stat: node.stat() }));
        self.states.entry(path.to_owned()).or_default().push((zxid, state));
    }

    /// The znode at `path` after everything up to `zxid`.
    pub fn state_at(&self, path: &str, zxid: Zxid) -> State {
        let states = self.states.get(path)?;
        let count = states.partition_point(|(at, _)| *at <= zxid);
        states.get(count.checked_sub(1)?)?.1.clone()
    }

    /// The names of the children of `path` after everything up to `zxid`.
    pub fn children_at(&self, path: &str, zxid: Zxid) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (at, name, came) in self.children.get(path).map_or(&[][..], Vec::as_slice) {
            if *at > zxid {
                break;
            }
            if *came {
                names.insert(name.clone());
            } else {
                names.remove(name);
            }
        }
        names
    }

    /// The first change of `path` itself behind `after`, up to `until`.
    pub fn first_change(&self, path: &str, after: Zxid, until: Zxid) -> Option<(Zxid, ChangeKind)> {
        let changes = self.changes.get(path)?;
        let from = changes.partition_point(|(at, _)| *at <= after);
        changes.get(from).copied().filter(|(at, _)| *at <= until)
    }

    /// The first change behind `after` that fires a watch on `path`: of the child table, or of the data table.
    pub fn changed_since(&self, path: &str, child: bool, after: Zxid) -> Option<Zxid> {
        if child {
            self.first_child_change(path, after, self.last)
        } else {
            self.first_change(path, after, self.last).map(|(at, _)| at)
        }
    }

    /// The first change of the list of children of `path` (or its deletion) behind `after`, up to `until`.
    pub fn first_child_change(&self, path: &str, after: Zxid, until: Zxid) -> Option<Zxid> {
        let list = self.children.get(path).map_or(&[][..], Vec::as_slice);
        let from = list.partition_point(|(at, ..)| *at <= after);
        let child = list.get(from).map(|(at, ..)| *at);
        let own = self.changes.get(path).map_or(&[][..], Vec::as_slice);
        let own = own.iter().find(|(at, kind)| *at > after && *kind == ChangeKind::Deleted).map(|(at, _)| *at);
        [child, own].into_iter().flatten().min().filter(|at| *at <= until)
    }
}

/// Parent and name; the parent of a top-level znode is `/`.
fn split(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    (!name.is_empty()).then_some((if parent.is_empty() { "/" } else { parent }, name))
}

fn outcome(result: &TxnResult<'_>) -> Outcome {
    match result {
        TxnResult::Error(code) => Outcome::Error(code.code()),
        TxnResult::Ok(ResultBody::Create { path, stat }) => {
            Outcome::Created { path: (*path).to_owned(), stat: stat.clone() }
        }
        TxnResult::Ok(ResultBody::SetData { stat } | ResultBody::SetAcl { stat } | ResultBody::Reconfig { stat }) => {
            Outcome::Set(stat.clone())
        }
        TxnResult::Ok(ResultBody::Multi(results)) => Outcome::Multi(results.iter().map(outcome).collect()),
        TxnResult::Ok(ResultBody::NotApplied) => Outcome::Error(0),
        TxnResult::Ok(_) => Outcome::Done,
    }
}
