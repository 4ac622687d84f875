//! What must hold after every event, for all servers together.
//!
//! The checkers see what the hosts see (notes, database operations, disk operations) and the disks themselves, never
//! the inside of the core. The first thing that does not hold ends the run.
//!
//! - One leader for an epoch; a proposal's zxid means one content.
//! - The committed history ([`Ghost`]) is decided by leaders alone: at [`Note::Leading`] it is the leader's whole
//!   history, later each commit. It never loses or changes anything, and each part of it is then on the disks of a
//!   quorum.
//! - A server that serves has exactly the history's tree at its last processed zxid.
//! - Epochs on disk never go back, and no server has an epoch on its disk without the history that it began with.

use super::disk::SimDisk;
use super::durable::Durable;
use super::ensemble::is_quorum;
use super::ghost::Ghost;
use crate::peer::Database;
use crate::peer::io::{DbOp, DiskOp, LinkOp, Note, Proposal, ServerMode, Serving};
use crate::records::{Configuration, Epoch, ServerId, SessionId, Txn, Zxid};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Everything that is held against everything else.
pub struct Checkers {
    pub ghost: Ghost,
    ensemble: Configuration,
    /// Every transaction that was ever proposed.
    proposals: BTreeMap<Zxid, (Arc<Txn>, Bytes)>,
    /// Who was ever accepted as leader of an epoch.
    leaders: BTreeMap<Epoch, ServerId>,
    /// The last zxid of the history with which the leader of an epoch began.
    beginnings: BTreeMap<Epoch, (ServerId, Zxid)>,
    /// What was in the snapshots that leaders have streamed.
    streamed: BTreeMap<(ServerId, Zxid), BTreeSet<Zxid>>,
    servers: BTreeMap<ServerId, Watched>,
    /// Microseconds of the run.
    pub now: u64,
    /// How far behind the history a server may be that answers reads, in microseconds.
    pub staleness_max: u64,
    /// Sessions whose time a leader has found to be over, not looked at yet.
    pub expired: Vec<SessionId>,
    /// The highest zxid that any client was told as done.
    pub acknowledged: Zxid,
    /// Sessions that a leader has decided to end; the transaction may follow, or get lost with the leader.
    expiring: BTreeSet<SessionId>,
    violation: Option<String>,
}

struct Watched {
    durable: Durable,
    /// The zxids of its history, logged or in a snapshot, durable or not.
    history: BTreeSet<Zxid>,
    accepted_epoch: Epoch,
    current_epoch: Epoch,
    /// The epoch that it leads, once a quorum has acknowledged NEWLEADER.
    leads: Option<Epoch>,
    /// The leader that it follows, or tries to.
    follows: Option<ServerId>,
    /// A leader's snapshot on its way to the disk: its zxid, and what is in it.
    installing: Option<(Zxid, BTreeSet<Zxid>)>,
    serving: bool,
}

impl Checkers {
    /// `data_dir` is the `version-2` directory on each server's disk.
    pub fn new(
        ensemble: Configuration,
        servers: impl Iterator<Item = (ServerId, SimDisk)>,
        data_dir: &Path,
    ) -> Checkers {
        let watched = |disk| Watched::new(Durable::new(disk, data_dir.to_owned()));
        let servers: BTreeMap<_, _> = servers.map(|(id, disk)| (id, watched(disk))).collect();
        Checkers {
            ghost: Ghost::new(),
            ensemble,
            proposals: BTreeMap::new(),
            leaders: BTreeMap::new(),
            beginnings: BTreeMap::new(),
            streamed: BTreeMap::new(),
            servers,
            now: 0,
            staleness_max: u64::MAX,
            expired: Vec::new(),
            acknowledged: Zxid::ZERO,
            expiring: BTreeSet::new(),
            violation: None,
        }
    }

    /// Notes what does not hold; the first is kept.
    pub fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    /// Whether a client may be told that the session is over.
    pub fn is_over(&self, session: SessionId) -> bool {
        self.ghost.is_closed(session) || self.expiring.contains(&session)
    }

    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    pub fn leads(&self, server: ServerId) -> Option<Epoch> {
        self.servers[&server].leads
    }

    pub fn is_serving(&self, server: ServerId) -> bool {
        self.servers[&server].serving
    }

    fn server(&mut self, id: ServerId) -> &mut Watched {
        self.servers.get_mut(&id).expect("a server of the run")
    }

    /// The process has ended, in whatever way.
    pub fn on_down(&mut self, id: ServerId) {
        let server = self.server(id);
        (server.leads, server.follows, server.serving) = (None, None, false);
        server.durable.forget();
    }

    /// A server has come up from its disk: with this snapshot, and these transactions behind it.
    pub fn on_recovered(&mut self, id: ServerId, snapshot: Zxid, logged: &BTreeSet<Zxid>) {
        let server = self.server(id);
        if let Some((zxid, history)) = server.installing.take()
            && zxid == snapshot
        {
            server.history = history; // It was on the disk, only nobody was told.
        }
        server.history.retain(|zxid| *zxid <= snapshot || logged.contains(zxid));
        if let Some(unknown) = logged.iter().find(|zxid| !server.history.contains(zxid)) {
            let unknown = *unknown;
            self.fail(|| format!("server {id} has recovered {unknown}, which it has forgotten before"));
        }
    }

    /// The disk may have changed.
    pub fn on_disk(&mut self, id: ServerId) {
        let server = self.server(id);
        if !server.durable.refresh() {
            return;
        }
        let accepted = server.durable.accepted_epoch.unwrap_or_default();
        let current = server.durable.current_epoch.unwrap_or_default();
        let (was_accepted, was_current) = (server.accepted_epoch, server.current_epoch);
        if accepted < was_accepted || current < was_current {
            self.fail(|| {
                format!("epochs of server {id} went back: ({was_accepted}, {was_current}) to ({accepted}, {current})")
            });
            return;
        }
        if accepted < current {
            self.fail(|| format!("server {id} has acceptedEpoch {accepted} below currentEpoch {current}"));
            return;
        }
        (server.accepted_epoch, server.current_epoch) = (accepted, current);
        if current > was_current {
            match self.beginnings.get(&current) {
                Some(&(leader, last)) if leader != id && last.counter() > 0 && !self.holds(id, last) => {
                    self.fail(|| {
                        format!("server {id} has currentEpoch {current} on disk, but not {last} with which it began")
                    })
                }
                _ => {}
            }
        }
    }

    /// Whether the transaction is on the server's disk for good.
    fn holds(&self, id: ServerId, zxid: Zxid) -> bool {
        let server = &self.servers[&id];
        server.history.contains(&zxid) && server.durable.holds(zxid)
    }

    fn check_on_quorum(&mut self, zxid: Zxid, why: &str) {
        self.servers.values_mut().for_each(|server| {
            server.durable.refresh();
        });
        let holders: Vec<_> = self.servers.keys().copied().filter(|&id| self.holds(id, zxid)).collect();
        if !is_quorum(&self.ensemble, |id| holders.contains(&id)) {
            self.fail(|| format!("{zxid} is {why}, but on the disks of {holders:?} only"));
        }
    }

    /// A disk operation begins.
    pub fn on_disk_begins(&mut self, id: ServerId, op: &DiskOp) {
        match op {
            DiskOp::Append { proposals, .. } => proposals.iter().for_each(|proposal| self.on_logged(id, proposal)),
            DiskOp::TakeSnapshot { zxid, install: true, .. } => {
                let leader = self.servers[&id].follows;
                let history = leader.and_then(|leader| self.streamed.get(&(leader, *zxid))).cloned();
                self.server(id).installing = history.map(|history| (*zxid, history));
            }
            DiskOp::SaveCurrentEpoch { epoch, .. } if self.servers[&id].follows.is_none() => {
                // The leader's own: from here on it is the epoch of the leader's history.
                let last = self.servers[&id].history.last().copied().unwrap_or_default();
                self.beginnings.entry(*epoch).or_insert((id, last));
            }
            _ => {}
        }
    }

    /// The log is cut.
    pub fn on_truncated(&mut self, id: ServerId, to: Zxid) {
        let server = self.server(id);
        server.history.split_off(&Zxid(to.0 + 1));
        server.durable.forget();
    }

    /// The leader's snapshot has replaced the history.
    pub fn on_installed(&mut self, id: ServerId) {
        let server = self.server(id);
        if let Some((_, history)) = server.installing.take() {
            server.history = history;
        }
        server.durable.forget();
    }

    fn on_logged(&mut self, id: ServerId, proposal: &Proposal) {
        let zxid = proposal.zxid();
        let last = self.servers[&id].history.last().copied();
        if last.is_some_and(|last| last >= zxid) {
            self.fail(|| format!("server {id} logs {zxid} behind {}", last.unwrap_or_default()));
        }
        self.server(id).history.insert(zxid);
        let known = self.proposals.entry(zxid).or_insert_with(|| (proposal.txn.clone(), proposal.bytes.clone()));
        if known.1 != proposal.bytes {
            self.fail(|| format!("server {id} logs another {zxid} than was proposed before"));
        }
    }

    pub fn on_link_op(&mut self, id: ServerId, op: &LinkOp) {
        match op {
            LinkOp::StreamSnapshot { zxid, .. } => {
                let history = self.servers[&id].history.range(..=*zxid).copied().collect();
                self.streamed.insert((id, *zxid), history);
            }
            LinkOp::Connect { leader } => self.server(id).follows = Some(*leader),
            _ => {}
        }
    }

    /// Before the database operations of the step that left the note.
    pub fn on_note(&mut self, id: ServerId, note: &Note) {
        match note {
            Note::Leading { epoch, supporters } => self.on_leading(id, *epoch, supporters),
            Note::RoleEnded { .. } => {
                let server = self.server(id);
                (server.leads, server.follows) = (None, None);
            }
            Note::SessionExpired { session, .. } => {
                self.expiring.insert(*session);
                self.expired.push(*session);
            }
            Note::DigestMismatch { zxid, expected, actual } => {
                self.fail(|| format!("server {id}: digest {actual:#x} at {zxid}, the leader's is {expected:#x}"));
            }
            _ => {}
        }
    }

    fn on_leading(&mut self, id: ServerId, epoch: Epoch, supporters: &[ServerId]) {
        if let Some(other) = self.leaders.insert(epoch, id)
            && other != id
        {
            return self.fail(|| format!("epoch {epoch} has two leaders, {other} and {id}"));
        }
        if !is_quorum(&self.ensemble, |id| supporters.contains(&id)) {
            return self.fail(|| format!("server {id} leads epoch {epoch} with {supporters:?} only"));
        }
        self.servers.keys().copied().collect::<Vec<_>>().into_iter().for_each(|id| self.on_disk(id));
        if self.ensemble.weight(id) == 0 {
            return self.fail(|| format!("server {id} leads epoch {epoch}, but weighs nothing"));
        }
        let has_epoch = |server: &&Watched| server.current_epoch >= epoch;
        if !is_quorum(&self.ensemble, |id| self.servers.get(&id).filter(has_epoch).is_some()) {
            let on_disk = self.servers.values().filter(has_epoch).count();
            return self.fail(|| format!("epoch {epoch} of server {id} is on {on_disk} disks only"));
        }
        let last = self.ghost.last();
        let history = &self.servers[&id].history;
        if !self.ghost.is_empty() && !history.contains(&last) {
            return self.fail(|| format!("server {id} leads epoch {epoch} without the committed {last}"));
        }
        let tail: Vec<Zxid> = history.range(Zxid(last.0 + 1)..).copied().collect();
        for zxid in tail {
            self.commit(zxid, "in the history of an established leader");
        }
        self.server(id).leads = Some(epoch);
    }

    fn commit(&mut self, zxid: Zxid, why: &str) {
        let Some((txn, _)) = self.proposals.get(&zxid) else {
            return self.fail(|| format!("{zxid} is {why}, but nobody has logged it"));
        };
        if let Err(broken) = self.ghost.commit(txn.clone(), self.now) {
            return self.fail(|| broken);
        }
        self.check_on_quorum(zxid, why);
    }

    /// After `op` has been performed on the server's database.
    pub fn on_db_op(&mut self, id: ServerId, op: &Seen, db: &Database) {
        match *op {
            Seen::Commit(zxid) => {
                let leads = self.servers[&id].leads.is_some();
                if leads && zxid > self.ghost.last() {
                    if self.servers[&id].leads != Some(zxid.epoch()) {
                        return self.fail(|| format!("server {id} commits {zxid} of another epoch than it leads"));
                    }
                    self.commit(zxid, "committed");
                }
                if self.servers[&id].serving || leads {
                    self.check_tree(id, db);
                }
            }
            Seen::Serve => {
                self.server(id).serving = true;
                self.check_tree(id, db);
            }
            Seen::StopServing => self.server(id).serving = false,
            Seen::Other => {}
        }
    }

    /// A server is about to answer reads: its state may not be of long ago.
    pub fn on_reads(&mut self, id: ServerId, db: &Database) {
        let last = db.last_processed();
        let missed = self.ghost.first_after(last).and_then(|zxid| Some((zxid, self.ghost.get(zxid)?.at)));
        if let Some((zxid, at)) = missed
            && self.now - at > self.staleness_max
        {
            let late_ms = (self.now - at) / 1_000;
            self.fail(|| format!("server {id} answers reads at {last}, {late_ms} ms after {zxid} was committed"));
        }
    }

    /// The tree of a server that serves is the history's at its zxid.
    fn check_tree(&mut self, id: ServerId, db: &Database) {
        let (zxid, digest) = (db.last_processed(), db.tree().digest());
        if zxid.counter() > 0 && self.ghost.get(zxid).is_none() {
            return self.fail(|| format!("server {id} serves {zxid}, which is not committed"));
        }
        let expected = self.ghost.digest_at(zxid);
        if digest != expected {
            self.fail(|| format!("server {id} has digest {digest:#x} at {zxid}, the history {expected:#x}"));
        }
    }
}

impl Watched {
    fn new(durable: Durable) -> Watched {
        Watched {
            durable,
            history: BTreeSet::new(),
            accepted_epoch: Epoch(0),
            current_epoch: Epoch(0),
            leads: None,
            follows: None,
            installing: None,
            serving: false,
        }
    }
}

/// What a checker wants of a database operation, taken before it is performed.
#[derive(Clone, Copy, Debug)]
pub enum Seen {
    Commit(Zxid),
    Serve,
    StopServing,
    Other,
}

impl From<&DbOp> for Seen {
    fn from(op: &DbOp) -> Seen {
        match op {
            DbOp::Commit(proposal) => Seen::Commit(proposal.zxid()),
            // Without a quorum nobody knows what is committed of what is here.
            DbOp::Serve(Serving { mode: ServerMode::ReadOnly, .. }) => Seen::Other,
            DbOp::Serve(_) => Seen::Serve,
            DbOp::StopServing => Seen::StopServing,
            _ => Seen::Other,
        }
    }
}
