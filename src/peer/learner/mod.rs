//! A server's life under a leader: connect, discovery, synchronisation, broadcast. Zab phases 1 to 3, learner's side.
//!
//! The order that must never change: the whole history on disk, then currentEpoch on disk, then the ACK of NEWLEADER,
//! then ACKs of single proposals. ZooKeeper let threads race here (ZOOKEEPER-3023, 4643, 4646, 4685, 4712); this is
//! one machine with a state for each wait, and each wait ends with the disk's answer.
//!
//! An observer lives the same life, but is told of transactions when they are committed, and acknowledges none.
//!
//! ZooKeeper: `Learner.syncWithLeader`, `Follower.followLeader`, `Observer.observeLeader`.

mod clients;
mod reconfig;
mod synchronization;

use super::Database;
use super::core::{Core, Leave};
use super::io::{DbOp, DiskOp, Effects, Input, LinkId, LinkOp, Loaded, Note, Now, Proposal};
use super::loader::SnapshotLoader;
use super::membership::Commit;
use super::observer_master::ObserverMaster;
use crate::records::{Configuration, Epoch, LearnerInfo, PROTOCOL_VERSION, QuorumPacket, ServerId, SessionId, Zxid};
use clients::{RenewalWaiter, SyncWaiter};
use std::collections::VecDeque;

/// First pause before another attempt to connect to the leader, in microseconds; it doubles up to [`RETRY_MAX_MICROS`].
const RETRY_MIN_MICROS: u64 = 2_000;
const RETRY_MAX_MICROS: u64 = 100_000;

/// Where in the conversation with the leader we are.
#[derive(Debug)]
enum Phase {
    /// Waiting for [`Input::LeaderLinkUp`]; between attempts `retry_at` is set.
    Connecting { retry_at: Option<u64>, pause: u64, deadline: u64 },
    /// FOLLOWERINFO or OBSERVERINFO is sent.
    Discovery,
    /// LEADERINFO came; acceptedEpoch is on its way to the disk. Nothing arrives before our ACKEPOCH.
    AcceptingEpoch,
    /// ACKEPOCH is sent; the first packet says DIFF, TRUNC or SNAP.
    AwaitingSync,
    /// SNAP: items are read into a tree beside the one in use.
    ReceivingSnapshot { zxid: Zxid, loader: Box<SnapshotLoader> },
    /// TRUNC: the disk is cutting the log; packets wait in `deferred`.
    Truncating,
    /// Proposals and commits of the history arrive, until NEWLEADER.
    CollectingHistory,
    /// NEWLEADER came; the history is on its way to the disk.
    PersistingHistory,
    /// The history is on disk; currentEpoch is on its way there.
    SavingEpoch,
    /// NEWLEADER is acknowledged.
    AwaitingUpToDate,
    /// Serving.
    Broadcast,
}

/// The learner's role.
#[derive(Debug)]
pub struct Learner {
    leader: ServerId,
    /// The server we are connected to: the leader, or a follower that is an observer's master.
    master: ServerId,
    /// It gets what is committed, and acknowledges nothing but NEWLEADER.
    is_observer: bool,
    link: Option<LinkId>,
    phase: Phase,
    epoch: Epoch,
    /// When the leader was last heard, in microseconds.
    last_heard: u64,
    lease_until: u64,
    /// Packets that wait for the disk to finish a truncation.
    deferred: VecDeque<QuorumPacket>,
    /// A received tree (SNAP), installed at NEWLEADER.
    staged: Option<(Zxid, Box<Loaded>)>,
    /// Proposals of the history, not handed to the log yet.
    not_logged: VecDeque<Proposal>,
    /// Commits that came before UPTODATE, in order.
    committed: VecDeque<Commit>,
    /// The leader's history has the configuration that is proposed here.
    shares_proposed: bool,
    /// The configuration that came with NEWLEADER: UPTODATE says that it holds.
    offered: Option<Configuration>,
    last_received: Zxid,
    /// Everything up to here is on our disk.
    flushed: Zxid,
    /// Logged proposals that are not acknowledged one by one yet, in order.
    to_ack: VecDeque<Zxid>,
    /// Syncs on their way; SYNC answers come in this order.
    syncs: VecDeque<SyncWaiter>,
    /// Renewals on their way; answers come in this order.
    renewals: VecDeque<(RenewalWaiter, SessionId)>,
    /// Our own observers.
    observers: ObserverMaster,
}

impl Learner {
    pub fn start(core: &mut Core, leader: ServerId, now: Now, out: &mut Effects) -> Learner {
        let limit = core.connect_limit_micros();
        let learner = Learner {
            leader,
            master: core.next_master(leader),
            is_observer: core.is_observer(),
            link: None,
            phase: Phase::Connecting { retry_at: None, pause: RETRY_MIN_MICROS, deadline: now.micros + limit },
            epoch: Epoch(0),
            last_heard: now.micros,
            lease_until: 0,
            deferred: VecDeque::new(),
            staged: None,
            not_logged: VecDeque::new(),
            committed: VecDeque::new(),
            shares_proposed: false,
            offered: None,
            last_received: core.last_logged,
            flushed: core.last_logged,
            to_ack: VecDeque::new(),
            syncs: VecDeque::new(),
            renewals: VecDeque::new(),
            observers: ObserverMaster::default(),
        };
        learner.connect(out);
        learner
    }

    fn connect(&self, out: &mut Effects) {
        out.links.push(match self.master == self.leader {
            true => LinkOp::Connect { leader: self.leader },
            false => LinkOp::ConnectMaster { server: self.master },
        });
    }

    pub fn leader(&self) -> ServerId {
        self.leader
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub fn is_observer(&self) -> bool {
        self.is_observer
    }

    /// The server that an observer gets everything from.
    pub fn master(&self) -> ServerId {
        self.master
    }

    /// Our own observers that are up to date; `None`: we take none.
    pub fn synced_observers(&self, core: &Core) -> Option<usize> {
        self.takes_observers(core).then(|| self.observers.synced())
    }

    fn takes_observers(&self, core: &Core) -> bool {
        core.config.roles.observer_masters && !self.is_observer
    }

    /// Whether UPTODATE has come.
    pub fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Broadcast)
    }

    pub fn next_wakeup(&self, core: &Core) -> u64 {
        match self.phase {
            Phase::Connecting { retry_at, deadline, .. } => retry_at.unwrap_or(deadline),
            _ => self.last_heard + self.patience(core),
        }
    }

    /// How long the leader may be silent.
    fn patience(&self, core: &Core) -> u64 {
        if self.is_established() { core.sync_limit_micros() } else { core.init_limit_micros() }
    }

    /// Handles one input. An error ends the role.
    pub fn step(
        &mut self,
        core: &mut Core,
        now: Now,
        input: Input,
        db: &Database,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        match input {
            Input::LeaderLinkUp { link, leader } => self.on_link_up(core, now, link, leader, out),
            Input::LeaderLinkFailed { leader } => self.on_link_failed(core, now, leader),
            Input::LinkDown { link, reason } if self.link == Some(link) => {
                self.link = None;
                Err(Leave::because(format!("the link to leader {} is down: {reason}", self.leader)))
            }
            Input::Packets { link, packets } if self.link == Some(link) => {
                // After a stop of this process, what waits in the socket is no sign of a leader: it has dropped us.
                self.check_silence(core, now)?;
                self.last_heard = now.micros;
                for packet in packets {
                    self.on_packet(core, now, packet, db, out)?;
                }
                if self.is_established() {
                    self.observers.synchronize_waiting(core, self.epoch, out);
                }
                self.extend_lease(core, out);
                Ok(())
            }
            Input::ObserverLinkUp { link } if self.takes_observers(core) => {
                self.observers.on_link_up(now, link);
                Ok(())
            }
            Input::ObserverLinkUp { link } => {
                out.links.push(LinkOp::Close { link });
                Ok(())
            }
            Input::Packets { link, packets } if self.observers.has(link) => {
                let epoch = self.is_established().then_some(self.epoch);
                for packet in packets {
                    let asked = self.observers.on_packet(core, now, epoch, link, packet, out);
                    self.ask_for_observer(link, asked, out);
                }
                Ok(())
            }
            Input::LogSearched { link, place, .. } => {
                self.observers.on_log_searched(core, self.epoch, link, place, self.flushed, out);
                Ok(())
            }
            Input::LinkDown { link, reason } if self.observers.has(link) => {
                self.observers.on_link_down(link, reason, out);
                Ok(())
            }
            Input::SnapshotItems { link, items, end } if self.link == Some(link) => {
                self.last_heard = now.micros;
                self.on_snapshot_items(items, end)
            }
            Input::Flushed { up_to, .. } => {
                self.flushed = self.flushed.max(up_to);
                self.ack_flushed(out);
                Ok(())
            }
            Input::AcceptedEpochSaved { epoch, .. } => self.on_accepted_epoch_saved(core, epoch, out),
            Input::Truncated { loaded, .. } => self.on_truncated(core, now, loaded, db, out),
            Input::Drained { .. } => self.on_history_durable(core, out),
            Input::CurrentEpochSaved { epoch, .. } => self.on_current_epoch_saved(epoch, out),
            Input::Requests(requests) => {
                self.forward(requests, out);
                Ok(())
            }
            Input::Wakeup => self.on_wakeup(core, now, out),
            _ => Ok(()),
        }
    }

    // ----- Connecting -----

    fn on_link_up(
        &mut self,
        core: &Core,
        now: Now,
        link: LinkId,
        leader: ServerId,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        if leader != self.master || !matches!(self.phase, Phase::Connecting { .. }) {
            out.links.push(LinkOp::Close { link }); // Asked for by a former role.
            return Ok(());
        }
        self.link = Some(link);
        self.last_heard = now.micros;
        self.phase = Phase::Discovery;
        let info = LearnerInfo {
            server: core.config.my_id.unwrap_or_default(),
            protocol_version: PROTOCOL_VERSION,
            config_version: core.committed.version,
        };
        let accepted_epoch = core.accepted_epoch;
        out.send(
            link,
            match self.is_observer {
                true => QuorumPacket::ObserverInfo { accepted_epoch, info },
                false => QuorumPacket::FollowerInfo { accepted_epoch, info },
            },
        );
        Ok(())
    }

    fn on_link_failed(&mut self, core: &Core, now: Now, leader: ServerId) -> Result<(), Leave> {
        let Phase::Connecting { retry_at, pause, .. } = &mut self.phase else { return Ok(()) };
        if leader != self.master {
            return Ok(());
        }
        if core.election.is_down(leader) {
            return Err(Leave::because(format!("server {leader} refuses connections and its election link is down")));
        }
        *retry_at = Some(now.micros + *pause);
        *pause = (2 * *pause).min(RETRY_MAX_MICROS);
        Ok(())
    }

    fn on_wakeup(&mut self, core: &Core, now: Now, out: &mut Effects) -> Result<(), Leave> {
        let master = self.master;
        if let Phase::Connecting { retry_at, deadline, .. } = &mut self.phase {
            if *deadline <= now.micros {
                return Err(Leave::because(format!("cannot connect to server {master}")));
            }
            if retry_at.is_some_and(|at| at <= now.micros) {
                *retry_at = None;
                self.connect(out);
            }
            return Ok(());
        }
        self.check_silence(core, now)
    }

    fn check_silence(&self, core: &Core, now: Now) -> Result<(), Leave> {
        if self.last_heard + self.patience(core) <= now.micros {
            let (leader, silence_ms) = (self.leader, (now.micros - self.last_heard) / 1000);
            return Err(Leave::because(format!("leader {leader} has been silent for {silence_ms} ms")));
        }
        Ok(())
    }

    // ----- Packets -----

    fn on_packet(
        &mut self,
        core: &mut Core,
        now: Now,
        packet: QuorumPacket,
        db: &Database,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        if matches!(self.phase, Phase::Truncating) {
            self.deferred.push_back(packet);
            return Ok(());
        }
        match packet {
            QuorumPacket::LeaderInfo { epoch, .. } => self.on_leader_info(core, epoch, out),
            QuorumPacket::Diff { zxid } => {
                self.shares_proposed = core.holds_proposed(core.last_logged);
                self.on_sync_start("DIFF", zxid, Phase::CollectingHistory, out)
            }
            QuorumPacket::Trunc { zxid } => {
                self.on_sync_start("TRUNC", zxid, Phase::Truncating, out)?;
                self.shares_proposed = core.holds_proposed(zxid);
                core.last_logged = zxid;
                core.truncating = true;
                out.disk.push(DiskOp::Truncate { generation: core.generation, to: zxid });
                Ok(())
            }
            QuorumPacket::Snap { zxid } => {
                let loader = Box::new(SnapshotLoader::new());
                self.on_sync_start("SNAP", zxid, Phase::ReceivingSnapshot { zxid, loader }, out)
            }
            QuorumPacket::Proposal { zxid, txn } => self.on_proposal(core, zxid, txn, out),
            QuorumPacket::Commit { zxid } => self.on_commit(core, Commit { zxid, designated: None }, out),
            QuorumPacket::CommitAndActivate { zxid, designated_leader } => {
                self.on_commit(core, Commit { zxid, designated: Some(designated_leader) }, out)
            }
            QuorumPacket::Inform { zxid, txn } => self.on_inform(core, Commit { zxid, designated: None }, txn, out),
            QuorumPacket::InformAndActivate { zxid, designated_leader, txn } => {
                self.on_inform(core, Commit { zxid, designated: Some(designated_leader) }, txn, out)
            }
            QuorumPacket::NewLeader { zxid, config } => self.on_new_leader(core, now, zxid, config.as_deref(), out),
            QuorumPacket::UpToDate => self.on_up_to_date(core, now, out),
            QuorumPacket::Ping { zxid, .. } => {
                // Unanswered before UPTODATE, as ZooKeeper's learner leaves it.
                if let (Phase::Broadcast, Some(link)) = (&self.phase, self.link) {
                    let touched = db.touched().into_iter().chain(self.observers.take_touched()).collect();
                    out.send(link, QuorumPacket::Ping { zxid, touched: Some(touched) });
                    self.observers.on_ping(core, now, zxid, out);
                }
                Ok(())
            }
            QuorumPacket::Sync { .. } => {
                self.on_synced(core, out);
                Ok(())
            }
            QuorumPacket::Revalidated { session, valid } => self.on_revalidated(session, valid, out),
            other => {
                out.notes.push(Note::Warning(format!("a learner has no use for a {} packet", other.name())));
                Ok(())
            }
        }
    }

    fn on_leader_info(&mut self, core: &mut Core, epoch: Epoch, out: &mut Effects) -> Result<(), Leave> {
        if !matches!(self.phase, Phase::Discovery) {
            return Err(self.unexpected("LEADERINFO"));
        }
        if epoch.0 >= i64::from(i32::MAX) {
            return Err(Leave::because(format!(
                "leader {} proposes epoch {epoch}, after which none can come",
                self.leader
            )));
        }
        if epoch < core.accepted_epoch {
            return Err(Leave::because(format!(
                "leader {} proposes epoch {epoch}, but epoch {} is accepted here",
                self.leader, core.accepted_epoch
            )));
        }
        self.epoch = epoch;
        if epoch == core.accepted_epoch {
            // Accepted before, perhaps from this very leader: it must not count twice.
            self.send_ack_epoch(core, None, out);
            return Ok(());
        }
        self.phase = Phase::AcceptingEpoch;
        core.accepted_epoch = epoch;
        out.disk.push(DiskOp::SaveAcceptedEpoch { generation: core.generation, epoch });
        Ok(())
    }

    fn on_accepted_epoch_saved(&mut self, core: &Core, epoch: Epoch, out: &mut Effects) -> Result<(), Leave> {
        if matches!(self.phase, Phase::AcceptingEpoch) && epoch == self.epoch {
            out.notes.push(Note::EpochAccepted { epoch });
            self.send_ack_epoch(core, Some(core.current_epoch), out);
        }
        Ok(())
    }

    fn send_ack_epoch(&mut self, core: &Core, current_epoch: Option<Epoch>, out: &mut Effects) {
        self.phase = Phase::AwaitingSync;
        if let Some(link) = self.link {
            out.send(link, QuorumPacket::AckEpoch { last_logged: core.last_trusted(), current_epoch });
        }
    }

    /// We may answer reads as long as the leader would still count us as synced.
    fn extend_lease(&mut self, core: &Core, out: &mut Effects) {
        let until_micros = self.last_heard + core.sync_limit_micros();
        if self.is_established() && until_micros > self.lease_until + core.tick_micros() / 4 {
            self.lease_until = until_micros;
            out.db.push(DbOp::ExtendLease { until_micros });
        }
    }

    /// NEWLEADER has said which configurations count. Who observes and votes in one of them comes again as a follower: an
    /// observer may not have on its disk what its ACK would promise. Who follows and votes in neither, as an observer.
    fn check_role(&self, core: &Core) -> Result<(), Leave> {
        if self.is_observer == core.is_observer() {
            return Ok(());
        }
        let reason = "what it is has changed with the leader's configuration";
        Err(Leave { next: Some(self.leader), ..Leave::because(reason) })
    }

    fn unexpected(&self, what: &str) -> Leave {
        Leave::because(format!("leader {} sent {what} out of turn", self.leader))
    }

    /// Ends the role: closes the link.
    pub fn end(self, out: &mut Effects) {
        if let Some(link) = self.link {
            out.links.push(LinkOp::Close { link });
        }
        self.observers.end(out);
    }
}
