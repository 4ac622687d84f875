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
use super::ensemble::{Shape, is_quorum};
use super::ghost::Ghost;
use crate::peer::Database;
use crate::peer::io::{DbOp, DiskOp, LinkOp, Members, Note, Proposal, ServerMode, Serving};
use crate::records::{Configuration, Epoch, ServerId, SessionId, Txn, TxnBody, Zxid};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Everything that is held against everything else.
pub struct Checkers {
    pub ghost: Ghost,
    /// Every configuration that was committed, by version; the first one is that of the members' files.
    configurations: BTreeMap<i64, Configuration>,
    /// What servers have activated in this step.
    activated: Vec<(ServerId, Configuration)>,
    /// By version: what servers have kept as proposed.
    proposed: BTreeMap<i64, Configuration>,
    /// The leader of an epoch that has begun in this step, and who supports it.
    established: Option<(ServerId, Vec<ServerId>)>,
    pub reconfigs: Reconfigs,
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
    /// What it is told goes into a log.
    logs: bool,
    /// The version of what it goes by.
    configuration: i64,
    /// The zxids of its history, logged or in a snapshot, durable or not.
    history: BTreeSet<Zxid>,
    accepted_epoch: Epoch,
    current_epoch: Epoch,
    /// The epoch that it leads, once a quorum has acknowledged NEWLEADER.
    leads: Option<Epoch>,
    /// The role has ended in this step.
    has_left: bool,
    /// The leader that it follows, or tries to.
    follows: Option<ServerId>,
    /// A leader's snapshot on its way to the disk: its zxid, and what is in it.
    installing: Option<(Zxid, BTreeSet<Zxid>)>,
    serving: bool,
}

impl Checkers {
    /// `data_dir` is the `version-2` directory on each server's disk.
    pub fn new(shape: &Shape, servers: impl Iterator<Item = (ServerId, SimDisk)>, data_dir: &Path) -> Checkers {
        let first = shape.configuration.clone();
        let watched = |(id, disk)| {
            // Who becomes a voter has a snapshot instead of what it has not logged.
            let logs = shape.roles.observer_logs || !shape.reconfigures && shape.as_known_by(id).is_voter(id);
            (id, Watched::new(Durable::new(disk, data_dir.to_owned()), logs))
        };
        let servers: BTreeMap<_, _> = servers.map(watched).collect();
        Checkers {
            ghost: Ghost::new(),
            configurations: BTreeMap::from([(first.version, first)]),
            activated: Vec::new(),
            proposed: BTreeMap::new(),
            established: None,
            reconfigs: Reconfigs::default(),
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

    /// Whether there is a leader, and a quorum of those that are members serves.
    pub fn is_working(&self) -> bool {
        let serves = |id| self.servers.get(&id).is_some_and(|server| server.serving || server.leads.is_some());
        self.servers.values().any(|server| server.leads.is_some()) && is_quorum(self.current(), serves)
    }

    /// A configuration that some server has kept as proposed, if it is newer.
    pub fn proposed(&self) -> Option<&Configuration> {
        self.proposed.values().next_back().filter(|proposed| proposed.version > self.current().version)
    }

    /// Whether it is under a leader without a vote or a say.
    pub fn is_observer(&self, server: ServerId) -> bool {
        !self.current().is_voter(server)
    }

    /// The newest configuration that is committed.
    pub fn current(&self) -> &Configuration {
        self.configurations.values().next_back().expect("the first one is never forgotten")
    }

    pub fn is_serving(&self, server: ServerId) -> bool {
        self.servers[&server].serving
    }

    fn server(&mut self, id: ServerId) -> &mut Watched {
        self.servers.get_mut(&id).expect("a server of the run")
    }

    /// A server begins with the list of its files.
    pub fn on_configuration(&mut self, id: ServerId, version: i64) {
        self.server(id).configuration = version;
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

    /// A server has ended in the middle of a step: of the rest of it nothing comes to be.
    pub fn on_interrupted(&mut self, id: ServerId) {
        self.activated.retain(|(each, _)| *each != id);
    }

    /// A server's step is done.
    pub fn after_step(&mut self, id: ServerId) {
        self.on_disk(id);
        if std::mem::take(&mut self.server(id).has_left) {
            self.server(id).leads = None;
        }
        for (id, configuration) in std::mem::take(&mut self.activated) {
            self.check_activated(id, configuration);
        }
        self.established = None;
    }

    /// The disk may have changed.
    fn on_disk(&mut self, id: ServerId) {
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
                Some(&(leader, last))
                    if last.counter() > 0 && leader != id && self.servers[&id].logs && !self.holds(id, last) =>
                {
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

    fn check_on_quorum(&mut self, zxid: Zxid, why: &str, rules: &[Configuration]) {
        self.servers.values_mut().for_each(|server| {
            server.durable.refresh();
        });
        let holders: Vec<_> = self.servers.keys().copied().filter(|&id| self.holds(id, zxid)).collect();
        for rule in rules {
            if !is_quorum(rule, |id| holders.contains(&id)) {
                self.fail(|| format!("{zxid} is {why}, but on the disks of {holders:?} only, of {}", members(rule)));
            }
        }
    }

    /// A disk operation begins.
    pub fn on_disk_begins(&mut self, id: ServerId, op: &DiskOp) {
        match op {
            DiskOp::Append { proposals, .. } => proposals.iter().for_each(|proposal| self.on_logged(id, proposal)),
            DiskOp::TakeSnapshot { zxid, install: true, .. } => {
                let leader = self.servers[&id].follows;
                let history = match leader {
                    Some(leader) => self.streamed.get(&(leader, *zxid)).cloned(),
                    // Its own, of an observer without a log that is to be a voter.
                    None => Some(self.ghost.zxids_up_to(*zxid)),
                };
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

    /// The server's list is about to be written.
    pub fn on_list(&mut self, id: ServerId, members: &Members) {
        let Some(told) = &members.last_seen else { return };
        let known = self.proposed.entry(told.version).or_insert_with(|| told.clone());
        if known != told {
            self.fail(|| format!("server {id} has seen another configuration {:#x} proposed", told.version));
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
                let mut history: BTreeSet<Zxid> = self.servers[&id].history.range(..=*zxid).copied().collect();
                // Others may have committed what is still waiting for its own disk.
                let logged = history.last().copied().unwrap_or_default();
                history.extend(self.ghost.zxids_up_to(*zxid).into_iter().filter(|zxid| *zxid > logged));
                self.streamed.insert((id, *zxid), history);
            }
            LinkOp::Connect { leader: server } | LinkOp::ConnectMaster { server } => {
                self.server(id).follows = Some(*server);
            }
            _ => {}
        }
    }

    /// Before the database operations of the step that left the note.
    pub fn on_note(&mut self, id: ServerId, note: &Note) {
        match note {
            Note::Leading { epoch, supporters } => self.on_leading(id, *epoch, supporters),
            Note::RoleEnded { .. } => {
                // What it has committed in its last step counts.
                let server = self.server(id);
                (server.has_left, server.follows) = (true, None);
            }
            Note::ConfigurationActivated { configuration } => {
                self.activated.push((id, configuration.as_ref().clone()));
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
        // What its history has beyond what is known to be committed may change who decides.
        let behind = Zxid(self.ghost.last().0 + 1);
        let unknown = self.servers[&id].history.range(behind..).filter_map(|zxid| self.proposals.get(zxid));
        let proposed = unknown.filter_map(|(txn, _)| reconfiguration(txn)?.ok());
        // Or a file, of which a crash has taken the record.
        let kept = self.activated.iter().map(|(_, told)| told).filter(|told| told.version > self.current().version);
        let proposed = proposed.chain(kept.cloned());
        let rules: Vec<Configuration> = proposed.chain([self.current().clone()]).collect();
        if let Some(rule) = rules.iter().find(|rule| !is_quorum(rule, |id| supporters.contains(&id))) {
            let rule = members(rule);
            return self.fail(|| format!("server {id} leads epoch {epoch} with {supporters:?} only, of {rule}"));
        }
        self.servers.keys().copied().collect::<Vec<_>>().into_iter().for_each(|id| self.on_disk(id));
        // It may have been elected to complete what is committed without its knowing.
        let mut known = rules.iter().chain(self.configurations.values().rev().take(2));
        if !known.any(|rule| rule.is_voter(id) && rule.weight(id) > 0) {
            return self.fail(|| format!("server {id} leads epoch {epoch}, but weighs nothing"));
        }
        let has_epoch = |server: &&Watched| server.current_epoch >= epoch;
        let has = |id| self.servers.get(&id).filter(has_epoch).is_some();
        if rules.iter().any(|rule| !is_quorum(rule, has)) {
            let on_disk = self.servers.values().filter(has_epoch).count();
            return self.fail(|| format!("epoch {epoch} of server {id} is on {on_disk} disks only"));
        }
        let last = self.ghost.last();
        let history = &self.servers[&id].history;
        if !self.ghost.is_empty() && !history.contains(&last) {
            return self.fail(|| format!("server {id} leads epoch {epoch} without the committed {last}"));
        }
        let tail: Vec<Zxid> = history.range(Zxid(last.0 + 1)..).copied().collect();
        let committed = self.reconfigs.committed;
        for zxid in tail {
            self.commit(zxid, "in the history of an established leader");
        }
        self.reconfigs.completed_later += self.reconfigs.committed - committed;
        self.server(id).leads = Some(epoch);
        self.established = Some((id, supporters.to_vec()));
    }

    fn commit(&mut self, zxid: Zxid, why: &str) {
        let Some((txn, _)) = self.proposals.get(&zxid) else {
            return self.fail(|| format!("{zxid} is {why}, but nobody has logged it"));
        };
        let txn = txn.clone();
        if let Err(broken) = self.ghost.commit(txn.clone(), self.now) {
            return self.fail(|| broken);
        }
        let mut rules = vec![self.current().clone()];
        match reconfiguration(&txn) {
            None => {}
            Some(Ok(new)) if new.version == zxid.0 => {
                rules.push(new.clone());
                self.configurations.insert(new.version, new);
                self.reconfigs.committed += 1;
            }
            Some(other) => return self.fail(|| format!("reconfiguration {zxid} says {other:?}")),
        }
        self.check_on_quorum(zxid, why, &rules);
    }

    /// A crash may have taken the record of a reconfiguration, and left the file of what was proposed. Then the leader of
    /// the next epoch may decide that it holds, with quorums of both configurations.
    fn is_completed(&mut self, id: ServerId, told: &Configuration) -> bool {
        let Some((_, supporters)) = self.established.as_ref().filter(|(leader, _)| *leader == id) else { return false };
        let has_quorum = |of: &Configuration| is_quorum(of, |id| supporters.contains(&id));
        let is_newer = told.version > self.current().version;
        if !is_newer || self.proposed.get(&told.version) != Some(told) || !has_quorum(told) {
            return false;
        }
        self.configurations.insert(told.version, told.clone());
        self.reconfigs.committed += 1;
        self.reconfigs.completed_later += 1;
        true
    }

    /// What a server takes for committed is so, and newer than what it took for it before.
    fn check_activated(&mut self, id: ServerId, told: Configuration) {
        self.reconfigs.activated += 1;
        let version = Zxid(told.version);
        let right = match self.configurations.get(&told.version) {
            Some(known) => told == *known,
            // A leader has given the first list a version.
            None => {
                let before = self.configurations.values().rev().find(|known| known.version <= told.version);
                let is_numbered = version.counter() == 0 && before.is_some_and(|known| told.is_same_as(known));
                is_numbered || self.is_completed(id, &told)
            }
        };
        if !right {
            return self.fail(|| format!("server {id} goes by {told}, which is not committed"));
        }
        let before = std::mem::replace(&mut self.server(id).configuration, told.version);
        if told.version <= before {
            self.fail(|| format!("server {id} goes by configuration {:#x} after {before:#x}", told.version));
        }
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

/// Which reconfigurations a run has met.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reconfigs {
    pub committed: u64,
    /// Of them, those that a leader has left behind and another has completed.
    pub completed_later: u64,
    pub activated: u64,
}

/// The configuration that a transaction makes, if it makes one.
fn reconfiguration(txn: &Txn) -> Option<Result<Configuration, String>> {
    let TxnBody::Reconfig(body) = &txn.body else { return None };
    let text = String::from_utf8_lossy(body.data.as_deref().unwrap_or_default());
    Some(Configuration::parse(&text).map_err(|error| error.to_string()))
}

/// Who is in it, in a few words.
fn members(of: &Configuration) -> String {
    let (voters, observers) = (of.voters(), of.observers());
    format!("{voters:?} and {observers:?}, groups {:?}, weights {:?}", of.groups, of.weights)
}

impl Watched {
    fn new(durable: Durable, logs: bool) -> Watched {
        Watched {
            durable,
            logs,
            configuration: 0,
            history: BTreeSet::new(),
            accepted_epoch: Epoch(0),
            current_epoch: Epoch(0),
            leads: None,
            has_left: false,
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
