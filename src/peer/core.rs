//! What a server knows in every role: its configuration, its epochs, and how far its log and its tree have come.

use super::divergence::Divergence;
use super::io::{DbOp, DiskOp, Effects, Generation, Loaded, Now, Proposal};
use super::local_sessions::LocalSessions;
use super::{CatchUpRules, ReaperConfig};
use crate::records::{Configuration, Epoch, PeerState, PeerType, ServerId, Zxid};
use crate::zab::{CommittedLog, Election, QuorumVerifier, Quorums};
use std::collections::{BTreeSet, VecDeque};

/// What a peer needs to know of its server's configuration.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// `myid`; `None`: standalone.
    pub my_id: Option<ServerId>,
    /// The members, as the committed configuration that this server knows says; empty when standalone.
    pub ensemble: Configuration,
    /// A newer configuration that was proposed and, as far as this server knows, not committed.
    pub last_seen: Option<Configuration>,
    /// `reconfigEnabled`: configurations have versions, and can be changed.
    pub reconfig_enabled: bool,
    /// What this server is under a leader; changes with the configuration.
    pub peer_type: PeerType,
    pub roles: RoleRules,
    /// `standaloneEnabled`: a reconfiguration must leave two voters; else one is enough.
    pub standalone_enabled: bool,
    /// `tickTime`, ms.
    pub tick_ms: u32,
    /// `initLimit`, ticks.
    pub init_limit: u32,
    /// `syncLimit`, ticks.
    pub sync_limit: u32,
    /// ms
    pub min_session_timeout_ms: i32,
    /// ms
    pub max_session_timeout_ms: i32,
    pub sessions: SessionRules,
    /// `snapCount`: a snapshot is taken after about half of this to this many transactions.
    pub snap_count: u32,
    /// `snapSizeLimitInKb`, in bytes: or after half of this to this much log; 0: whatever its size.
    pub snap_log_bytes: u64,
    /// When containers and TTL nodes are removed.
    pub reaper: ReaperConfig,
    /// How learners are brought up to date.
    pub catch_up: CatchUpRules,
    /// For the random part of `snap_count`.
    pub seed: u64,
}

impl PeerConfig {
    /// A server with Apache's defaults for everything else, in the ensemble's own role there; `None`: standalone.
    /// `tick_ms`: what limits and sessions are measured by.
    pub fn new(my_id: Option<ServerId>, ensemble: Configuration, tick_ms: u32) -> PeerConfig {
        let tick = i32::try_from(tick_ms).unwrap_or(i32::MAX);
        PeerConfig {
            my_id,
            peer_type: my_id.and_then(|id| ensemble.servers.get(&id)).map(|me| me.role).unwrap_or_default(),
            ensemble,
            last_seen: None,
            reconfig_enabled: false,
            roles: RoleRules::default(),
            standalone_enabled: true,
            tick_ms,
            init_limit: 10,
            sync_limit: 5,
            min_session_timeout_ms: tick.saturating_mul(2),
            max_session_timeout_ms: tick.saturating_mul(20),
            sessions: SessionRules::default(),
            snap_count: 100_000,
            snap_log_bytes: 0,
            reaper: ReaperConfig::default(),
            catch_up: CatchUpRules::default(),
            seed: 1,
        }
    }
}

/// Which sessions a member of an ensemble makes, and when it serves without the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionRules {
    /// `localSessionsEnabled`: new sessions are known to this server alone.
    pub local: bool,
    /// `localSessionsUpgradingEnabled`: one becomes a session of the whole ensemble with its first ephemeral.
    pub upgrade: bool,
    /// `readonlymode.enabled`: without a quorum for so long (or a tick, if that is longer), in ms, clients that allow it
    /// may read here. `None`: never.
    pub read_only_after_ms: Option<u32>,
}

/// What is particular to leading and to observing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleRules {
    /// `leaderServes`: clients are served while it leads.
    pub leader_serves: bool,
    /// `observer.syncEnabled`: an observer logs what it is told, and need not be told again after a restart.
    pub observer_logs: bool,
    /// `observer.election.DelayMs`: observers that have lost their leader wait less than this, each for another time,
    /// before they look for the next one.
    pub observer_delay_ms: u32,
    /// `observer.reconnectDelayMs`: and less than this on top.
    pub observer_reconnect_delay_ms: u32,
    /// `observerMasterPort` is set: followers take observers, and observers go to followers.
    pub observer_masters: bool,
    /// When the low half of a zxid has come so far, the leader hands over, so that the next epoch begins; at most
    /// [`HAND_OVER_AT`], which is the default.
    pub hand_over_at: u32,
    /// `connectToLearnerMasterLimit`, ticks: how long connecting to the leader may take; `None`: [`CONNECT_LIMIT_MICROS`].
    pub connect_limit: Option<u32>,
}

/// Unless it is configured (or initLimit, if that is less), in microseconds. Apache waits for all of initLimit; who can be
/// elected can be reached as a rule, and another election takes less.
const CONNECT_LIMIT_MICROS: u64 = 2_000_000;

/// What may still be proposed behind it is less by far than what is left of the counter.
pub const HAND_OVER_AT: u32 = u32::MAX - (1 << 20);

impl Default for RoleRules {
    fn default() -> Self {
        RoleRules {
            leader_serves: true,
            observer_logs: true,
            observer_delay_ms: 200,
            observer_reconnect_delay_ms: 0,
            observer_masters: false,
            hand_over_at: HAND_OVER_AT,
            connect_limit: None,
        }
    }
}

/// Why a role ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    pub reason: String,
    /// Who leads next, where a reconfiguration has said so: then there is no election.
    pub next: Option<ServerId>,
}

impl Leave {
    pub fn because(reason: impl Into<String>) -> Leave {
        Leave { reason: reason.into(), next: None }
    }
}

/// The part of a peer that outlives its roles.
///
/// Invariants: `last_committed` <= `last_logged` (or the beginning of an epoch); `uncommitted` ascends and ends at
/// `last_logged`, or is empty.
pub struct Core {
    pub config: PeerConfig,
    /// The sessions that only this server knows.
    pub locals: LocalSessions,
    /// The members. Changed by [`Core::set_configurations`] alone.
    pub committed: Configuration,
    /// Proposed, and newer than `committed`.
    pub last_seen: Option<Configuration>,
    /// Who counts, by both of them.
    pub quorums: Quorums,
    pub generation: Generation,
    /// As asked of the disk; each message that depends on it waits for the disk's answer.
    pub accepted_epoch: Epoch,
    pub current_epoch: Epoch,
    /// The largest epoch that another server was known to have accepted when we stepped down for it.
    pub epoch_promised: Epoch,
    /// Whom to vote for first in the next election: the last one ended our role by a hand-over.
    pub successor: Option<ServerId>,
    /// Whether the tree here is that of the ensemble.
    pub divergence: Divergence,
    /// The last transaction handed to the log, committed or not.
    pub last_logged: Zxid,
    /// What the database has applied once this step's effects are performed.
    pub last_committed: Zxid,
    pub recent: CommittedLog,
    /// Handed to the log, not committed.
    pub uncommitted: VecDeque<Proposal>,
    /// The disk is cutting the log: until it answers, the database holds more than the log.
    pub truncating: bool,
    /// An observer without a log has applied more than there is on its disk.
    pub unlogged: bool,
    pub election: Election,
    /// Observer masters that this observer has been with, or has tried, since it last had tried all.
    tried_masters: BTreeSet<ServerId>,
    /// Transactions logged since the last snapshot began, also those that were replayed at the start: a server that
    /// is restarted often would never come to a snapshot by what it logs in one life.
    since_snapshot: u32,
    /// Bytes logged since the last snapshot began.
    bytes_since_snapshot: u64,
    /// The end of what was replayed. Until something behind it is committed, it may yet be truncated, and a snapshot
    /// of it must not come to be.
    replayed_to: Zxid,
    snapshot_after: u32,
    snapshot_after_bytes: u64,
    is_snapshot_running: bool,
    random: u64,
}

impl Core {
    pub fn new(config: PeerConfig, boot: super::Boot) -> Core {
        let my_id = config.my_id.unwrap_or(STANDALONE_ID);
        let (committed, last_seen) = (config.ensemble.clone(), config.last_seen.clone());
        let quorums = match config.my_id {
            None => Quorums::majority_of([my_id].into()),
            Some(_) => quorums_of(&committed, last_seen.as_ref()),
        };
        let config_text = if config.my_id.is_none() { String::new() } else { committed.to_string() };
        // A standalone server has no others that would have to know a session.
        let rules = if config.my_id.is_none() { SessionRules::default() } else { config.sessions };
        // A write that waits longer than that costs its server the role.
        let ends_kept = 2 * u64::from(config.tick_ms.max(1)) * 1000 * u64::from(config.sync_limit.max(1));
        let mut core = Core {
            locals: LocalSessions::new(rules, config.tick_ms, ends_kept),
            election: Election::new(my_id, config.peer_type, quorums.clone(), String::new()),
            committed,
            last_seen,
            quorums,
            generation: Generation(0),
            accepted_epoch: boot.accepted_epoch,
            current_epoch: boot.current_epoch,
            epoch_promised: Epoch(0),
            successor: None,
            divergence: Divergence::default(),
            last_logged: boot.last_logged,
            last_committed: boot.last_logged,
            recent: CommittedLog::new(boot.recent, config.catch_up.recent_max),
            uncommitted: VecDeque::new(),
            truncating: false,
            unlogged: false,
            tried_masters: BTreeSet::new(),
            since_snapshot: boot.replayed,
            bytes_since_snapshot: 0,
            replayed_to: boot.last_logged,
            snapshot_after: 0,
            snapshot_after_bytes: 0,
            is_snapshot_running: false,
            random: config.seed,
            config,
        };
        core.election.set_configuration(core.peer_type(), core.quorums.clone(), config_text);
        core.draw_snapshot_threshold();
        core
    }

    pub fn my_id(&self) -> ServerId {
        self.config.my_id.unwrap_or(STANDALONE_ID)
    }

    pub fn is_standalone(&self) -> bool {
        self.config.my_id.is_none()
    }

    /// Whether it neither votes nor counts under a leader. One that votes in a proposed configuration does: without it
    /// there may be no quorum that could complete the change. By the committed one its ACKs count for nothing.
    pub fn is_observer(&self) -> bool {
        self.config.peer_type == PeerType::Observer && !self.quorums.is_voter(self.my_id())
    }

    fn peer_type(&self) -> PeerType {
        if self.is_observer() { PeerType::Observer } else { PeerType::Participant }
    }

    /// Whether a leader of an ensemble has clients of its own. A standalone server is no such leader.
    pub fn serves_as_leader(&self) -> bool {
        self.config.roles.leader_serves || self.is_standalone()
    }

    /// The zxid that it votes with: none, if others are to elect a leader.
    pub fn last_voted(&self) -> Zxid {
        if self.divergence.casts_no_vote() { Zxid::NONE } else { self.last_logged }
    }

    /// What this server says that it has: nothing, if its tree is not the ensemble's.
    pub fn last_trusted(&self) -> Zxid {
        if self.divergence.is_known { Zxid::NONE } else { self.last_logged }
    }

    pub fn tick_micros(&self) -> u64 {
        u64::from(self.config.tick_ms.max(1)) * 1000
    }

    pub fn init_limit_micros(&self) -> u64 {
        self.tick_micros() * u64::from(self.config.init_limit.max(1))
    }

    /// How long connecting to the leader may take.
    pub fn connect_limit_micros(&self) -> u64 {
        match self.config.roles.connect_limit {
            Some(ticks) => self.tick_micros() * u64::from(ticks),
            None => CONNECT_LIMIT_MICROS.min(self.init_limit_micros()),
        }
    }

    pub fn sync_limit_micros(&self) -> u64 {
        self.tick_micros() * u64::from(self.config.sync_limit.max(1))
    }

    /// Hands a proposal to the log.
    pub fn log(&mut self, proposal: Proposal, out: &mut Effects) {
        assert!(proposal.zxid() > self.last_logged, "{} was logged after {}", proposal.zxid(), self.last_logged);
        self.last_logged = proposal.zxid();
        self.since_snapshot += 1;
        self.bytes_since_snapshot += proposal.bytes.len() as u64;
        self.uncommitted.push_back(proposal.clone());
        if self.unlogged || self.is_observer() && !self.config.roles.observer_logs {
            self.unlogged = true; // Until all of it is on the disk: a log has no gaps.
            return;
        }
        if let Some(DiskOp::Append { generation, proposals }) = out.disk.last_mut()
            && *generation == self.generation
        {
            proposals.push(proposal);
        } else {
            out.disk.push(DiskOp::Append { generation: self.generation, proposals: vec![proposal] });
        }
    }

    /// Whether it was an observer without a log, and is none any more.
    pub fn must_log(&self) -> bool {
        self.unlogged && !self.is_observer()
    }

    /// An observer without a log that is to vote from now on: what it says it has must be on its disk. What is not known
    /// to be committed is nowhere.
    pub fn log_what_was_not(&mut self, out: &mut Effects) {
        if self.must_log() {
            self.unlogged = false;
            if !self.uncommitted.is_empty() {
                self.uncommitted.clear();
                self.last_logged = self.last_committed;
            }
            let (generation, zxid) = (self.generation, self.last_committed);
            out.disk.push(DiskOp::TakeSnapshot { generation, zxid, install: true, keeps: false });
        }
    }

    /// Commits the oldest proposal in the log.
    pub fn commit_first(&mut self, out: &mut Effects) {
        if let Some(proposal) = self.uncommitted.pop_front() {
            self.last_committed = proposal.zxid();
            self.recent.push(proposal.clone());
            out.db.push(DbOp::Commit(proposal));
        }
    }

    /// The log is the truth: what a role left uncommitted in it is history until a leader says otherwise.
    pub fn commit_all(&mut self, out: &mut Effects) {
        while !self.uncommitted.is_empty() {
            self.commit_first(out);
        }
    }

    /// Replaces the history by another: after TRUNC or SNAP.
    pub fn install_loaded(&mut self, mut loaded: Box<Loaded>, out: &mut Effects) {
        let recent = std::mem::take(&mut loaded.recent);
        self.recent = CommittedLog::new(recent, self.config.catch_up.recent_max);
        self.last_logged = loaded.last_zxid;
        self.last_committed = loaded.last_zxid;
        self.uncommitted.clear();
        self.divergence.on_installed(&loaded.digests);
        (self.truncating, self.unlogged) = (false, false);
        self.is_snapshot_running = false; // One of the replaced tree is given up without an answer.
        out.db.push(DbOp::Install(loaded));
    }

    /// Puts the configuration into `/zookeeper/config`, which is not part of the history.
    pub fn set_config(&self, now: Now, out: &mut Effects) {
        let (text, version) = (self.committed.to_string(), self.committed.version);
        out.db.push(DbOp::SetConfig { text, version, wall_ms: now.wall_ms });
    }

    /// Which configuration is committed, and which is proposed: whatever counts servers counts by them from now on.
    pub fn set_configurations(&mut self, committed: Configuration, last_seen: Option<Configuration>) {
        self.quorums = quorums_of(&committed, last_seen.as_ref());
        self.election.set_configuration(self.peer_type(), self.quorums.clone(), committed.to_string());
        (self.committed, self.last_seen) = (committed, last_seen);
    }

    /// From now on those who look for a leader are told of ours, and of its epoch.
    pub fn settle_as_learner(&mut self, epoch: Epoch) {
        let state = if self.is_observer() { PeerState::Observing } else { PeerState::Following };
        self.election.settle(state, Some(epoch.0));
    }

    pub fn settle_as_leader(&mut self, epoch: Epoch) {
        self.election.settle(PeerState::Leading, Some(epoch.0));
    }

    /// Asks for a snapshot when enough has been logged since the last one. Called at the end of a step, when
    /// `last_committed` is what the database will show.
    pub fn snapshot_if_due(&mut self, out: &mut Effects) {
        let is_settled = self.last_committed > self.replayed_to;
        let is_much = self.since_snapshot > self.snapshot_after
            || self.config.snap_log_bytes > 0 && self.bytes_since_snapshot > self.snapshot_after_bytes;
        if !is_much || self.is_snapshot_running || !is_settled || self.unlogged {
            return;
        }
        (self.since_snapshot, self.bytes_since_snapshot) = (0, 0);
        self.is_snapshot_running = true;
        self.draw_snapshot_threshold();
        let (generation, zxid) = (self.generation, self.last_committed);
        out.disk.push(DiskOp::TakeSnapshot { generation, zxid, install: false, keeps: false });
    }

    /// The running snapshot is on disk, or given up.
    pub fn on_snapshot_ended(&mut self) {
        self.is_snapshot_running = false;
    }

    /// Which server an observer follows `leader` through: any voter that it has not tried yet, at random; when all have
    /// been tried, the leader itself, and then all again. ZooKeeper: `QuorumPeer.nextObserverMaster`, which knows
    /// nothing of the leader: it tries it in vain, or never gets to it.
    pub fn next_master(&mut self, leader: ServerId) -> ServerId {
        if !self.is_observer() || !self.config.roles.observer_masters {
            return leader;
        }
        let tried = &self.tried_masters;
        let left = |voter: &ServerId| *voter != leader && *voter != self.my_id() && !tried.contains(voter);
        let left: Vec<ServerId> = self.committed.voters().into_iter().filter(left).collect();
        if left.is_empty() {
            self.tried_masters.clear();
            return leader;
        }
        let master = left[(self.draw() % left.len() as u64) as usize];
        self.tried_masters.insert(master);
        master
    }

    /// This observer is with `master`: all others may be tried again when it is lost.
    pub fn keep_master(&mut self, master: ServerId) {
        self.tried_masters = [master].into();
    }

    /// How long an observer waits before it looks for a leader again, in microseconds: not all of them at once.
    pub fn draw_observer_delay(&mut self) -> u64 {
        let RoleRules { observer_delay_ms, observer_reconnect_delay_ms, .. } = self.config.roles;
        let mut below = |ms: u32| if ms == 0 { 0 } else { self.draw() % (1000 * u64::from(ms)) };
        below(observer_delay_ms) + below(observer_reconnect_delay_ms)
    }

    /// Between half of `snapCount` and all of it, so that servers do not all write at the same time.
    fn draw_snapshot_threshold(&mut self) {
        let half = u64::from(self.config.snap_count.max(2)) / 2;
        self.snapshot_after = (half + self.draw() % half) as u32;
        if self.config.snap_log_bytes > 0 {
            let half = self.config.snap_log_bytes.div_ceil(2);
            self.snapshot_after_bytes = half + self.draw() % half;
        }
    }

    /// SplitMix64: one step of a well-mixed sequence.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn quorums_of(committed: &Configuration, last_seen: Option<&Configuration>) -> Quorums {
    let newer = last_seen.filter(|last_seen| last_seen.version > committed.version);
    Quorums::new(QuorumVerifier::of(committed), newer.map(QuorumVerifier::of))
}

/// The id of a standalone server, as ZooKeeper has it.
const STANDALONE_ID: ServerId = ServerId(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{ErrorTxn, SessionId, Txn, TxnBody};
    use bytes::Bytes;
    use std::sync::Arc;

    fn proposal(counter: u32) -> Proposal {
        let (session, zxid) = (SessionId(1), Zxid::new(Epoch(1), counter));
        let body = TxnBody::Error(ErrorTxn { err: -101 });
        let txn = Txn { session, cxid: 0, zxid, time_ms: 0, body, digest: None };
        Proposal { txn: Arc::new(txn), bytes: Bytes::new() }
    }

    fn config() -> PeerConfig {
        let ensemble = Configuration::of_voters((1..=3).map(ServerId));
        PeerConfig { snap_count: 20, seed: 7, ..PeerConfig::new(Some(ServerId(1)), ensemble, 100) }
    }

    fn boot(replayed: u32) -> super::super::Boot {
        super::super::Boot {
            accepted_epoch: Epoch(1),
            current_epoch: Epoch(1),
            last_logged: Zxid::new(Epoch(1), replayed),
            recent: (1..=replayed).map(proposal).collect(),
            replayed,
        }
    }

    #[test]
    fn connecting_may_take_what_is_configured_and_else_never_longer_than_an_election_costs() {
        let limit = |tick_ms, connect_limit| {
            let roles = RoleRules { connect_limit, ..RoleRules::default() };
            Core::new(PeerConfig { tick_ms, init_limit: 10, roles, ..config() }, boot(0)).connect_limit_micros()
        };
        assert_eq!((limit(2000, None), limit(100, None)), (2_000_000, 1_000_000));
        assert_eq!((limit(2000, Some(15)), limit(100, Some(15))), (30_000_000, 1_500_000));
    }

    #[test]
    fn a_snapshot_is_due_after_so_many_bytes_of_log_too() {
        for (snap_log_bytes, expected) in [(0, 0..=0), (1000, 5..=10)] {
            let mut core = Core::new(PeerConfig { snap_count: 1_000_000, snap_log_bytes, ..config() }, boot(0));
            let mut out = Effects::default();
            for counter in 1..=100 {
                core.log(Proposal { bytes: Bytes::from(vec![7; 100]), ..proposal(counter) }, &mut out);
                core.commit_first(&mut out);
                core.snapshot_if_due(&mut out);
                core.on_snapshot_ended();
            }
            let taken = out.disk.iter().filter(|op| matches!(op, DiskOp::TakeSnapshot { .. })).count();
            let (least, most) = (*expected.start(), *expected.end());
            assert!((least * 2..=most * 2).contains(&taken), "{taken} with {snap_log_bytes}");
        }
    }

    #[test]
    fn what_was_replayed_counts_towards_a_snapshot_but_only_once_it_cannot_be_truncated_any_more() {
        let mut core = Core::new(config(), boot(30));
        let mut out = Effects::default();
        core.snapshot_if_due(&mut out);
        assert!(out.disk.is_empty(), "30 that a leader may yet take back");

        core.log(proposal(31), &mut out);
        core.commit_first(&mut out);
        out.disk.clear();
        core.snapshot_if_due(&mut out);
        let [DiskOp::TakeSnapshot { zxid, install: false, .. }] = out.disk[..] else { panic!("{:?}", out.disk) };
        assert_eq!(zxid, Zxid::new(Epoch(1), 31));
    }
}
