//! The core's thread: feeds the peer with all that has happened, and does what it decides.
//!
//! One turn takes everything that waits, steps the peer with each, performs the effects on the database at once, and
//! at the end of the turn writes each socket once and wakes the disk thread once. A wake-up of another thread costs
//! more than all that is done in a turn for one request, so there is never one for each request.

use super::acceptor::Acceptor;
use super::channel::Security;
use super::disk::{DiskQueue, EXIT_UNEXPECTED, Job};
use super::dynamic::List;
use super::election_links::{ElectionEvent, ElectionLinks};
use super::links::{AcceptedBy, Links, Recent};
use super::log_reading::LogChunks;
use super::places::{Moved, NewPorts, Places, Resolved};
use super::shared::{Event, Shared, count};
use super::status::{Role, StatusCell};
use super::task;
use crate::peer::io::{DbOp, DiskOp, Effects, Input, LinkOp, Members, Note, Now};
use crate::peer::{Outbox, PeerStatus, QuorumPeer};
use crate::records::PeerState;
use crate::sync;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

/// Events taken in one turn.
const TURN_MAX: usize = 4096;
/// Changes of the database in one hold of its lock, so that readers on other threads wait little.
const HOLD_MAX: usize = 1000;

/// How the core has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreEnd {
    Stopped,
    Killed,
    Failed { code: i32, reason: String },
}

/// What the core drives.
pub struct Core {
    pub shared: Arc<Shared>,
    pub peer: QuorumPeer,
    pub disk: DiskQueue,
    pub links: Links,
    /// `None`: standalone.
    pub election: Option<ElectionLinks>,
    pub acceptor: Acceptor,
    pub places: Places,
    pub security: Arc<Security>,
    /// The files with the ensemble's list; `None`: it never changes.
    pub list: Option<List>,
    pub status: Arc<StatusCell>,
    pub turn: Turn,
}

/// What a turn collects.
#[derive(Default)]
pub struct Turn {
    effects: Effects,
    jobs: Vec<Job>,
    dirty: Vec<Arc<Outbox>>,
    end: Option<CoreEnd>,
    /// The ensemble's list, to be kept when all has been sent.
    list: Option<Box<Members>>,
    /// Why the last role has ended, until the transition is told.
    reason: Option<String>,
    /// What a planted bug had put off before the turn began.
    #[cfg(test)]
    late: crate::peer::faults::Late,
}

impl Core {
    /// Runs until the server ends.
    pub async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) -> CoreEnd {
        let now = self.shared.now();
        {
            let shared = self.shared.clone();
            let db = sync::read(&shared.db);
            self.peer.start(now, &db, &mut self.turn.effects);
        }
        self.perform(now);
        let mut batch = Vec::new();
        let timer = tokio::time::sleep_until(Instant::now());
        tokio::pin!(timer);
        loop {
            if let Some(end) = self.end_turn() {
                return end;
            }
            if self.shared.pause.is_paused() {
                self.acceptor.wake_workers();
                self.shared.pause.point();
            }
            let wakeup = self.set_timer(timer.as_mut());
            let has_unsent = !self.turn.dirty.is_empty();
            if has_unsent {
                tokio::task::yield_now().await; // So that connections have their turn in between.
            }
            tokio::select! {
                biased;
                n = events.recv_many(&mut batch, TURN_MAX) => assert!(n > 0, "the server holds a sender"),
                () = &mut timer, if wakeup => {}
                () = std::future::ready(()), if has_unsent => {}
            }
            #[cfg(test)]
            self.take_late(batch.is_empty());
            self.step_all(&mut batch);
            // Also when events never end: heartbeats and expiry do not wait for a quiet moment.
            let now = self.shared.now();
            if self.peer.next_wakeup().is_some_and(|at| at <= now.micros) {
                self.step(now, Input::Wakeup);
            }
        }
    }

    /// Sets the timer to the peer's next wake-up; false: there is none.
    fn set_timer(&self, timer: std::pin::Pin<&mut Sleep>) -> bool {
        let Some(wakeup) = self.peer.next_wakeup() else {
            return false;
        };
        let at = Instant::from_std(self.shared.clock.instant(wakeup));
        if timer.deadline() != at {
            timer.reset(at);
        }
        true
    }

    /// Steps with everything that has come in, requests of several connections as one input.
    fn step_all(&mut self, batch: &mut Vec<Event>) {
        let now = self.shared.now();
        let mut requests = Vec::new();
        for event in batch.drain(..) {
            if let Event::Input(Input::Requests(more)) = event {
                if requests.is_empty() {
                    requests = more
                } else {
                    requests.extend(more)
                }
                continue;
            }
            if !requests.is_empty() {
                self.step(now, Input::Requests(std::mem::take(&mut requests)));
            }
            match event {
                Event::Input(input) => self.step(now, input),
                Event::Inputs(inputs) => inputs.into_iter().for_each(|input| self.step(now, input)),
                Event::Fail { code, reason } => self.end(CoreEnd::Failed { code, reason }),
                Event::Resolved(found) => self.listen(&found),
                Event::Wake => {}
                Event::Stop => self.end(CoreEnd::Stopped),
                Event::Kill => self.end(CoreEnd::Killed),
            }
            if self.turn.end.is_some() {
                return;
            }
        }
        if !requests.is_empty() {
            self.step(now, Input::Requests(requests));
        }
    }

    fn end(&mut self, end: CoreEnd) {
        self.turn.end.get_or_insert(end);
    }

    fn step(&mut self, now: Now, input: Input) {
        if self.turn.end.is_some() {
            return;
        }
        {
            let db = sync::read(&self.shared.db);
            self.peer.step(now, input, &db, &mut self.turn.effects);
        }
        self.perform(now);
    }

    /// Does what one step left to do, or puts it where the end of the turn does it.
    fn perform(&mut self, now: Now) {
        if self.turn.effects.is_empty() {
            return;
        }
        let mut effects = std::mem::take(&mut self.turn.effects);
        self.turn.list = effects.members.clone().or(self.turn.list.take());
        if effects.members.as_ref().is_some_and(|members| members.is_kept_first()) && !self.keep_list() {
            return;
        }
        self.change_database(now, &mut effects);
        for op in effects.disk.drain(..) {
            self.queue_disk(op);
        }
        if let Some(members) = effects.members.take() {
            self.move_to(&members);
        }
        for op in effects.links.drain(..) {
            self.do_link(op);
        }
        if let Some(election) = &self.election {
            for (to, notification) in effects.election.drain(..) {
                election.send(to, notification);
            }
        }
        for note in effects.notes.drain(..) {
            self.note(&note);
        }
        if let Some(end) = effects.end.take() {
            self.end(CoreEnd::Failed { code: end.code, reason: end.reason });
        }
        self.turn.effects = effects; // Its vectors are used again.
    }

    /// Writes the newest list, if it is not written yet: small files, and only when the ensemble changes. False: it cannot
    /// be, and the server ends.
    fn keep_list(&mut self) -> bool {
        let (Some(members), Some(list)) = (self.turn.list.take(), &mut self.list) else { return true };
        match self.shared.gate.pass_disk(|| list.keep(&members)) {
            Some(Err(reason)) => {
                self.end(CoreEnd::Failed { code: EXIT_UNEXPECTED, reason });
                false
            }
            _ => true,
        }
    }

    /// Goes by another list of members from now on.
    fn move_to(&mut self, members: &Members) {
        self.places.change(members);
        self.security.set_hosts(self.places.hosts());
        if let Some(links) = &self.election {
            links.set_members(self.places.election_addresses(), None);
        }
        self.listen(&Resolved::new());
        let names = self.places.unresolved();
        if !names.is_empty() {
            let events = self.shared.events.clone();
            task::spawn("a look-up of this server's host", &self.shared.events, async move {
                let mut found = Resolved::new();
                for name in names {
                    let addrs = tokio::net::lookup_host((&*name, 0)).await;
                    let first = addrs.map(|mut addrs| addrs.next().map(|addr| addr.ip()));
                    let ip = first.map_err(|error| error.to_string());
                    let ip = ip.and_then(|ip| ip.ok_or_else(|| format!("{name} has no address")));
                    found.insert(name, ip);
                }
                let _ = events.send(Event::Resolved(found));
            });
        }
    }

    /// Opens its own ports anew, where a change has moved them.
    fn listen(&mut self, found: &Resolved) {
        let Moved { client, quorum, election } = self.places.listen(found);
        if let Some(links) = &self.election
            && election.is_some()
        {
            links.set_members(self.places.election_addresses(), election);
        }
        if let Some(client) = client
            && let Err(error) = self.acceptor.rebind(&self.shared, client)
        {
            tracing::error!("the new client port cannot be used: {error}");
        }
        if let Some(NewPorts { listeners, replace }) = quorum {
            if replace {
                self.links.stop_listening();
            }
            for listener in listeners {
                if let Err(error) = self.links.listen(listener, AcceptedBy::QuorumPort) {
                    tracing::error!("the new quorum port cannot be used: {error}");
                }
            }
        }
    }

    fn change_database(&mut self, now: Now, effects: &mut Effects) {
        let mut ops = effects.db.drain(..);
        let mut commits = 0;
        while ops.len() > 0 {
            let mut db = sync::write(&self.shared.db);
            let part = ops.by_ref().take(HOLD_MAX);
            let part = part.inspect(|op| commits += u64::from(matches!(op, DbOp::Commit(_))));
            db.perform(now, part, &mut self.turn.dirty, &mut effects.notes);
        }
        if commits > 0 {
            count(&self.shared.metrics.commits, commits);
        }
    }

    fn queue_disk(&mut self, op: DiskOp) {
        if let DiskOp::Append { proposals, .. } = &op
            && self.shared.config.my_id.is_some()
            && self.peer.is_leading()
        {
            proposals.iter().for_each(|proposal| self.shared.metrics.proposals.add(proposal.bytes.len()));
        }
        let DiskOp::TakeSnapshot { generation, zxid, install, keeps } = op else {
            return self.turn.jobs.push(Job::Op(op));
        };
        match self.shared.begin_snapshot() {
            Some(chunks) => self.turn.jobs.push(Job::Snapshot { generation, zxid, install, keeps, chunks }),
            None if install => {
                let reason = "too many snapshots are under way to install the leader's".to_owned();
                self.end(CoreEnd::Failed { code: 10, reason });
            }
            None => {
                tracing::warn!("no snapshot at {zxid}: too many are being sent to learners; the next one is due later");
                self.shared.input(Input::SnapshotSaved { generation, zxid, install });
            }
        }
    }

    fn do_link(&mut self, op: LinkOp) {
        match op {
            LinkOp::Connect { leader } => self.links.connect(leader, self.places.quorum_addresses(leader)),
            LinkOp::ConnectMaster { server } => {
                let port = self.shared.config.quorum.observer_master_port.unwrap_or_default();
                let mut addrs = self.places.quorum_addresses(server);
                addrs.iter_mut().for_each(|addr| addr.port = port);
                addrs.dedup();
                self.links.connect(server, addrs);
            }
            LinkOp::Send { link, packet } => self.links.send(link, &packet),
            LinkOp::StreamSnapshot { link, zxid } => match self.shared.begin_snapshot() {
                Some(chunks) => self.links.stream_snapshot(link, Box::new(chunks)),
                None => {
                    tracing::warn!("too many snapshots are under way to send one at {zxid}; the learner tries again");
                    self.links.close(link);
                    self.shared.input(Input::LinkDown { link, reason: "too many snapshots are under way".to_owned() });
                }
            },
            LinkOp::StreamLog { link, after, up_to } => {
                let shared = &self.shared;
                self.links.stream(link, |wake| Box::new(LogChunks::begin(shared, after, up_to, wake)));
            }
            LinkOp::StreamProposals { link, proposals } => {
                self.links.stream(link, |_| Box::new(Recent::new(proposals)));
            }
            LinkOp::Close { link } => self.links.close(link),
        }
    }

    fn note(&mut self, note: &Note) {
        if let Note::RoleEnded { reason } = note {
            self.turn.reason = Some(reason.clone());
        }
        let metrics = &self.shared.metrics;
        match note {
            Note::StateChanged { state } => {
                metrics.proposals.reset();
                count(&metrics.looking, u64::from(*state == "LOOKING"));
                tracing::info!("{note}");
            }
            Note::ElectionWon { took_ms, .. } => {
                metrics.election.add(*took_ms);
                tracing::info!("{note}");
            }
            Note::SyncSent { how, .. } => {
                count(if *how == "SNAP" { &metrics.snap_syncs } else { &metrics.diff_syncs }, 1);
                tracing::info!("{note}");
            }
            Note::DigestMismatch { .. } => {
                count(&metrics.digest_mismatches, 1);
                // From the first on each transaction says so: it is told less and less often.
                if metrics.digest_mismatches.load(Ordering::Relaxed).is_power_of_two() {
                    tracing::error!("{note}");
                }
            }
            Note::Diverged { .. } | Note::TreesDiffer { .. } => tracing::error!("{note}"),
            Note::LearnerDropped { .. } | Note::Warning(_) | Note::SyncReceived { how: "TRUNC", .. } => {
                tracing::warn!("{note}");
            }
            _ => tracing::info!("{note}"),
        }
    }

    /// The sockets first: what other servers have to do takes longer than what our disk has to.
    fn end_turn(&mut self) -> Option<CoreEnd> {
        if let Some(end) = self.turn.end.take() {
            if end == CoreEnd::Stopped {
                self.say_goodbye();
            }
            return Some(end);
        }
        self.links.flush();
        self.disk.push(&mut self.turn.jobs);
        if !self.keep_list() {
            return self.turn.end.take();
        }
        // Whoever hears of a transition finds the connections closed that it closes.
        let (former, status) = (self.shared.peer_status(), self.peer.status());
        let is_transition = transition(&former) != transition(&status);
        self.shared.connections.flush(&self.shared, &mut self.turn.dirty, is_transition);
        #[cfg(test)]
        self.do_late();
        self.publish_status(&former, status, is_transition);
        None
    }

    /// A planted bug is late by a turn, so that it shows on one thread too; the end of a role by a timer.
    #[cfg(test)]
    fn take_late(&mut self, is_timer: bool) {
        self.turn.late = sync::read(&self.shared.db).take_late();
        if is_timer {
            sync::write(&self.shared.db).stop_late(&mut self.turn.dirty);
        }
    }

    #[cfg(test)]
    fn do_late(&mut self) {
        let late = std::mem::take(&mut self.turn.late);
        sync::read(&self.shared.db).do_late(late, &mut self.turn.dirty);
        self.shared.connections.flush(&self.shared, &mut self.turn.dirty, true);
    }

    /// A clean end: clients are closed after their answers, the log is closed after its last append.
    fn say_goodbye(&mut self) {
        self.acceptor.stop();
        let now = self.shared.now();
        sync::write(&self.shared.db).perform(now, [DbOp::StopServing], &mut self.turn.dirty, &mut Vec::new());
        self.shared.connections.flush(&self.shared, &mut self.turn.dirty, true);
        self.links.flush();
        self.turn.jobs.push(Job::Close);
        self.disk.push(&mut self.turn.jobs);
    }

    fn publish_status(&mut self, former: &PeerStatus, status: PeerStatus, is_transition: bool) {
        if is_transition && let Some(injuries) = &self.shared.injuries {
            // First, so that whoever sees the new status finds it written down.
            let reason = self.turn.reason.take().unwrap_or_default();
            let role = |state| Role::of(state, self.shared.config.my_id);
            injuries.transition(role(former.state), role(status.state), &status, reason);
        }
        *self.shared.peer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = status;
        if is_transition {
            if let Some(election) = &self.election {
                election.set_looking(status.state == PeerState::Looking);
            }
            self.status.changed();
        }
    }
}

/// What of a status is a transition.
fn transition(status: &PeerStatus) -> impl PartialEq + use<> {
    (status.state, status.serving, status.read_only, status.leader, status.epoch)
}

/// The inputs that election events are.
pub fn election_input(event: ElectionEvent) -> Input {
    match event {
        ElectionEvent::Message { from, notification } => Input::Notification { from, notification },
        ElectionEvent::Link { server, up } => Input::ElectionLink { server, up },
    }
}
