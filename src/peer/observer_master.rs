//! A follower's observers: what the leader tells us, they are told, so that it has fewer learners of its own.
//!
//! A master decides nothing: the epoch is its leader's, an observer gets what the master has committed, then INFORM for
//! each commit, and PING when the leader pings: who hears of the leader only through us has its lease from there.
//! Requests, revalidations and syncs go up as if they were ours, and their answers come down in the same order.
//!
//! What an observer lacks comes as from a leader: from memory, else from the log on disk, else as a snapshot. Nothing is
//! kept for it: ZooKeeper keeps `observerMaster.sizeLimit` for what is committed and not applied, since what it sends an
//! observer ends with what is applied; here both happen in one step.
//!
//! ZooKeeper: `ObserverMaster`, `LearnerHandler`.

use super::core::Core;
use super::io::{DiskOp, Effects, LinkId, LinkOp, LogPlace, Note, Now, Proposal};
use super::membership::Commit;
use crate::records::{
    Epoch, ForwardedBody, ForwardedRequest, LearnerInfo, PROTOCOL_VERSION, QuorumPacket, Request, ServerId, SessionId,
    TouchedSession, TxnBody, Zxid, is_forwarded,
};
use crate::zab::SyncPlan;
use std::collections::BTreeMap;

/// How far an observer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    /// Nothing received, or only OBSERVERINFO, and we do not serve yet.
    Connected,
    /// LEADERINFO sent.
    EpochSent,
    /// ACKEPOCH received: its last logged zxid, which we may not have committed yet.
    EpochAcked(Zxid),
    /// The same, and the log is being searched for it.
    Searched(Zxid),
    /// The history and NEWLEADER are sent; it gets every commit.
    Synchronizing,
    /// UPTODATE sent.
    UpToDate,
}

#[derive(Debug)]
struct Observer {
    server: Option<ServerId>,
    /// Received before we serve.
    info: Option<LearnerInfo>,
    progress: Progress,
    /// It is, or was, brought up to date by a snapshot.
    gets_snapshot: bool,
    /// Microseconds; at first, when it connected.
    last_heard: u64,
}

/// What an observer is sent before NEWLEADER.
struct History {
    how: &'static str,
    packet: QuorumPacket,
    /// What the log has, behind the first zxid up to the second.
    logged: Option<(Zxid, Zxid)>,
    /// What memory adds.
    recent: Vec<Proposal>,
}

impl History {
    fn diff(zxid: Zxid, recent: Vec<Proposal>) -> History {
        History { how: "DIFF", packet: QuorumPacket::Diff { zxid }, logged: None, recent }
    }

    fn trunc(zxid: Zxid, recent: Vec<Proposal>) -> History {
        History { how: "TRUNC", packet: QuorumPacket::Trunc { zxid }, logged: None, recent }
    }

    fn snapshot(zxid: Zxid) -> History {
        History { how: "SNAP", packet: QuorumPacket::Snap { zxid }, logged: None, recent: Vec::new() }
    }

    fn is_snapshot(&self) -> bool {
        matches!(self.packet, QuorumPacket::Snap { .. })
    }
}

/// The observers of a follower that serves.
#[derive(Debug, Default)]
pub struct ObserverMaster {
    observers: BTreeMap<LinkId, Observer>,
    /// Sessions of their clients that the leader has not been told of, with their timeouts in ms.
    touched: BTreeMap<SessionId, i32>,
    /// By whom a session of their clients was begun or taken over last; `None`: by a client of our own. The leader sees us
    /// behind all of them, so it cannot tell what a former observer had on its way from what the session asks for now.
    owners: BTreeMap<SessionId, Option<LinkId>>,
}

/// What an observer asks the leader for.
#[derive(Debug)]
pub enum Asked {
    Request(ForwardedRequest),
    Revalidate { session: SessionId, timeout_ms: i32 },
}

impl ObserverMaster {
    pub fn has(&self, link: LinkId) -> bool {
        self.observers.contains_key(&link)
    }

    /// Observers that are up to date.
    pub fn synced(&self) -> usize {
        self.observers.values().filter(|observer| observer.progress == Progress::UpToDate).count()
    }

    pub fn on_link_up(&mut self, now: Now, link: LinkId) {
        let (progress, last_heard) = (Progress::Connected, now.micros);
        let observer = Observer { server: None, info: None, progress, gets_snapshot: false, last_heard };
        self.observers.insert(link, observer);
    }

    pub fn on_link_down(&mut self, link: LinkId, reason: String, out: &mut Effects) {
        self.owners.retain(|_, owner| *owner != Some(link));
        if let Some(observer) = self.observers.remove(&link) {
            out.notes.push(Note::LearnerDropped { learner: observer.server, reason });
        }
    }

    fn drop_observer(&mut self, link: LinkId, reason: &str, out: &mut Effects) {
        self.on_link_down(link, reason.to_owned(), out);
        out.links.push(LinkOp::Close { link });
    }

    /// We serve, in this epoch: those who have asked early are answered.
    pub fn begin(&mut self, core: &Core, epoch: Epoch, out: &mut Effects) {
        let asked = self.observers.iter_mut().filter_map(|(link, observer)| Some((*link, observer.info.take()?)));
        for (link, info) in asked.collect::<Vec<_>>() {
            self.on_observer_info(core, epoch, link, &info, out);
        }
    }

    /// Handles a packet of an observer; returns what must be asked of the leader. `epoch`: ours, once we serve.
    pub fn on_packet(
        &mut self,
        core: &Core,
        now: Now,
        epoch: Option<Epoch>,
        link: LinkId,
        packet: QuorumPacket,
        out: &mut Effects,
    ) -> Option<Asked> {
        let observer = self.observers.get_mut(&link)?;
        observer.last_heard = now.micros;
        let Some(epoch) = epoch else {
            match packet {
                QuorumPacket::ObserverInfo { info, .. } => observer.info = Some(info),
                other => self.drop_observer(link, &format!("{} is out of turn", other.name()), out),
            }
            return None;
        };
        match (observer.progress, packet) {
            (Progress::Connected, QuorumPacket::ObserverInfo { info, .. }) => {
                self.on_observer_info(core, epoch, link, &info, out);
            }
            (Progress::EpochSent, QuorumPacket::AckEpoch { last_logged, .. }) => {
                observer.progress = Progress::EpochAcked(last_logged);
                self.synchronize(core, epoch, link, out);
            }
            (Progress::Synchronizing, QuorumPacket::Ack { zxid }) if zxid == Zxid::new(epoch, 0) => {
                observer.progress = Progress::UpToDate;
                out.send(link, QuorumPacket::UpToDate);
            }
            // Of UPTODATE.
            (Progress::UpToDate, QuorumPacket::Ack { zxid }) if zxid.counter() == 0 => {}
            (Progress::UpToDate, QuorumPacket::Ping { touched, .. }) => {
                let touched = touched.unwrap_or_default().into_iter();
                self.touched.extend(touched.map(|touched| (touched.session, touched.timeout_ms)));
            }
            (Progress::UpToDate, QuorumPacket::Request(request)) if is_forwarded(request.body.op()) => {
                return self.is_in_place(link, &request).then_some(Asked::Request(request));
            }
            // The leader would take it for ours; to one of 3.8.0 a lone check is fatal.
            (Progress::UpToDate, QuorumPacket::Request(request)) => {
                let reason = format!("operation {} is none that a learner hands on", request.body.op());
                self.drop_observer(link, &reason, out);
            }
            (Progress::UpToDate, QuorumPacket::Revalidate { session, timeout_ms }) => {
                self.owners.insert(session, Some(link));
                return Some(Asked::Revalidate { session, timeout_ms });
            }
            (_, other) => self.drop_observer(link, &format!("{} is out of turn", other.name()), out),
        }
        None
    }

    /// Whether a request comes from where its session is now. From elsewhere it would be ordered behind what the session
    /// has asked for since, and nobody waits for its answer. Syncs change nothing, and are answered in their order.
    fn is_in_place(&mut self, link: LinkId, request: &ForwardedRequest) -> bool {
        match request.body {
            ForwardedBody::Request(Request::CreateSession(_)) => {
                self.owners.insert(request.session, Some(link));
                true
            }
            ForwardedBody::Request(Request::Sync(_)) => true,
            _ => self.owners.get(&request.session).is_none_or(|owner| *owner == Some(link)),
        }
    }

    /// A client of our own comes back to the session.
    pub fn on_own(&mut self, session: SessionId) {
        if !self.observers.is_empty() {
            self.owners.insert(session, None);
        }
    }

    fn on_observer_info(&mut self, core: &Core, epoch: Epoch, link: LinkId, info: &LearnerInfo, out: &mut Effects) {
        if info.config_version > core.committed.version {
            let reason = format!("its configuration {:#x} is newer than ours", info.config_version);
            return self.drop_observer(link, &reason, out);
        }
        let older = self.observers.iter().find(|(_, observer)| observer.server == Some(info.server));
        if let Some(older) = older.map(|(link, _)| *link) {
            self.drop_observer(older, "it has connected again", out);
        }
        let Some(observer) = self.observers.get_mut(&link) else { return };
        observer.server = Some(info.server);
        observer.progress = Progress::EpochSent;
        out.send(link, QuorumPacket::LeaderInfo { epoch, protocol_version: PROTOCOL_VERSION });
    }

    /// Sends an observer what it lacks, then NEWLEADER. One that another master of this epoch has told more than the
    /// leader has told us waits until we know it too: nothing that was committed is taken back.
    fn synchronize(&mut self, core: &Core, epoch: Epoch, link: LinkId, out: &mut Effects) {
        let Some(observer) = self.observers.get_mut(&link) else { return };
        let Progress::EpochAcked(peer_last) = observer.progress else { return };
        let last = core.last_committed;
        // Likewise while a reconfiguration is on its way: NEWLEADER says which configuration holds.
        if peer_last > last && peer_last.epoch() == epoch || core.last_seen.is_some() {
            return;
        }
        let rules = core.config.catch_up;
        let plan = if rules.snapshots_only { SyncPlan::Snap } else { core.recent.plan_sync(peer_last, last) };
        let history = match plan {
            SyncPlan::Diff { to, missing } => History::diff(to, missing),
            SyncPlan::Trunc { to, missing } => History::trunc(to, missing),
            SyncPlan::Log { from } if let Some(size_factor) = rules.log_size_factor => {
                observer.progress = Progress::Searched(peer_last);
                let (generation, peer) = (core.generation, peer_last);
                return out.disk.push(DiskOp::SearchLog { generation, link, peer, up_to: from, size_factor });
            }
            SyncPlan::Log { .. } | SyncPlan::Snap => History::snapshot(last),
        };
        self.send_history(core, epoch, link, peer_last, history, out);
    }

    /// `flushed`: everything up to there is on our disk.
    pub fn on_log_searched(
        &mut self,
        core: &Core,
        epoch: Epoch,
        link: LinkId,
        place: LogPlace,
        flushed: Zxid,
        out: &mut Effects,
    ) {
        let Some(observer) = self.observers.get_mut(&link) else { return };
        let Progress::Searched(peer_last) = observer.progress else { return };
        observer.progress = Progress::EpochAcked(peer_last);
        if core.last_seen.is_some() {
            return; // It is searched for again when it is known which configuration holds.
        }
        // What the log has to give ends where memory begins now.
        let memory = core.recent.first().zip(core.recent.last());
        let found = match (place, memory.filter(|(first, _)| *first <= flushed)) {
            (LogPlace::Unknown(why), _) => Err(why),
            // Others have committed it without us.
            (_, None) => Err("our own disk is behind"),
            (LogPlace::Prefix, Some((first, last))) => {
                Ok(History { logged: Some((peer_last, first)), ..History::diff(last, core.recent.after(first)) })
            }
        };
        let history = found.unwrap_or_else(|why| {
            out.notes.push(Note::LogOfNoUse { learner: observer.server, why: why.to_owned() });
            History::snapshot(core.last_committed)
        });
        self.send_history(core, epoch, link, peer_last, history, out);
    }

    fn send_history(
        &mut self,
        core: &Core,
        epoch: Epoch,
        link: LinkId,
        peer_last: Zxid,
        history: History,
        out: &mut Effects,
    ) {
        let by_snapshot = history.is_snapshot();
        let rules = core.config.catch_up;
        let max = if by_snapshot { rules.snapshots_max } else { rules.diffs_max };
        let is_under_way = |of: &&Observer| of.progress == Progress::Synchronizing && of.gets_snapshot == by_snapshot;
        let count = self.observers.values().filter(is_under_way).count();
        if count >= max {
            let reason = format!("{count} observers are being synchronised in the same way already");
            return self.drop_observer(link, &reason, out);
        }
        let Some(observer) = self.observers.get_mut(&link) else { return };
        if let Some(learner) = observer.server {
            let (how, from) = (history.how, core.last_committed);
            out.notes.push(Note::SyncSent { learner, how, peer_last, from });
        }
        out.send(link, history.packet);
        if by_snapshot {
            out.links.push(LinkOp::StreamSnapshot { link, zxid: core.last_committed });
        }
        if let Some((after, up_to)) = history.logged {
            out.links.push(LinkOp::StreamLog { link, after, up_to });
        }
        if !history.recent.is_empty() {
            out.links.push(LinkOp::StreamProposals { link, proposals: history.recent });
        }
        let config = Some(core.committed.to_string());
        out.send(link, QuorumPacket::NewLeader { zxid: Zxid::new(epoch, 0), config });
        (observer.progress, observer.gets_snapshot) = (Progress::Synchronizing, by_snapshot);
    }

    /// Tells all observers of a commit; those that wait for it are synchronised at the end of the step.
    /// `designated` leads from then on, if it is a reconfiguration.
    pub fn on_committed(&mut self, proposal: &Proposal, designated: Option<ServerId>, out: &mut Effects) {
        if matches!(proposal.txn.body, TxnBody::CloseSession { .. }) {
            self.owners.remove(&proposal.txn.session);
        }
        let commit = Commit { zxid: proposal.zxid(), designated };
        for (link, observer) in &self.observers {
            if observer.progress >= Progress::Synchronizing {
                out.send(*link, commit.inform(proposal.bytes.clone()));
            }
        }
    }

    /// Behind all commits of a step, since a tree that is sent has them all: what was waited for may be known now.
    pub fn synchronize_waiting(&mut self, core: &Core, epoch: Epoch, out: &mut Effects) {
        let is_waiting = |observer: &Observer| matches!(observer.progress, Progress::EpochAcked(_));
        let waiting = self.observers.iter().filter(|(_, observer)| is_waiting(observer)).map(|(link, _)| *link);
        for link in waiting.collect::<Vec<_>>() {
            self.synchronize(core, epoch, link, out);
        }
    }

    /// The leader pings us: so do we, and drop who has been silent.
    pub fn on_ping(&mut self, core: &Core, now: Now, zxid: Zxid, out: &mut Effects) {
        let mut silent = Vec::new();
        for (link, observer) in &self.observers {
            let limit = match observer.progress {
                Progress::UpToDate => core.sync_limit_micros(),
                // It may be reading a snapshot.
                _ => core.init_limit_micros() + core.sync_limit_micros(),
            };
            let silence = now.micros.saturating_sub(observer.last_heard);
            if silence > limit {
                silent.push((*link, silence / 1000));
            } else if observer.progress >= Progress::Synchronizing {
                out.send(*link, QuorumPacket::Ping { zxid, touched: None });
            }
        }
        for (link, ms) in silent {
            self.drop_observer(link, &format!("it has been silent for {ms} ms"), out);
        }
    }

    /// The sessions that the observers have reported since the last call.
    pub fn take_touched(&mut self) -> impl Iterator<Item = TouchedSession> + use<> {
        std::mem::take(&mut self.touched)
            .into_iter()
            .map(|(session, timeout_ms)| TouchedSession { session, timeout_ms })
    }

    /// The role has ended: closes the links.
    pub fn end(self, out: &mut Effects) {
        out.links.extend(self.observers.into_keys().map(|link| LinkOp::Close { link }));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Boot;
    use super::super::core::{PeerConfig, RoleRules};
    use super::*;
    use crate::records::{Configuration, ErrorTxn, ForwardedBody, ForwardedRequest, Txn, TxnBody, op};
    use crate::zab::CommittedLog;

    const EPOCH: Epoch = Epoch(1);
    const LINK: LinkId = LinkId(9);

    fn zxid(counter: u32) -> Zxid {
        Zxid::new(EPOCH, counter)
    }

    fn proposal(counter: u32) -> Proposal {
        let body = TxnBody::Error(ErrorTxn { err: -101 });
        let (session, zxid) = (SessionId(1), zxid(counter));
        Proposal::new(Txn { session, cxid: 0, zxid, time_ms: 0, body, digest: None })
    }

    /// A follower that has committed 1 to 5.
    fn follower() -> Core {
        let config = PeerConfig {
            roles: RoleRules { observer_masters: true, ..RoleRules::default() },
            ..PeerConfig::new(Some(ServerId(1)), Configuration::of_voters((1..=3).map(ServerId)), 100)
        };
        let recent = (1..=5).map(proposal).collect();
        Core::new(
            config,
            Boot { accepted_epoch: EPOCH, current_epoch: EPOCH, last_logged: zxid(5), recent, replayed: 0 },
        )
    }

    fn sent(out: &mut Effects) -> Vec<&'static str> {
        let names = |op| match op {
            LinkOp::Send { packet, .. } => vec![packet.name()],
            LinkOp::StreamProposals { proposals, .. } => {
                proposals.iter().flat_map(Proposal::packets).map(|packet| packet.name()).collect()
            }
            LinkOp::Close { .. } => vec!["close"],
            LinkOp::StreamLog { .. } => vec!["the log"],
            LinkOp::StreamSnapshot { .. } => vec!["the tree"],
            other => panic!("{other:?}"),
        };
        out.links.drain(..).flat_map(names).collect()
    }

    /// The observer has connected and said what it has.
    fn with_observer(core: &Core, has: Zxid, epoch: Option<Epoch>, out: &mut Effects) -> ObserverMaster {
        let (mut master, now) = (ObserverMaster::default(), Now::default());
        master.on_link_up(now, LINK);
        let info = LearnerInfo { server: ServerId(4), protocol_version: PROTOCOL_VERSION, config_version: 0 };
        let info = QuorumPacket::ObserverInfo { accepted_epoch: EPOCH, info };
        assert!(master.on_packet(core, now, epoch, LINK, info, out).is_none());
        if epoch.is_none() {
            assert_eq!(sent(out), [""; 0], "nobody serves yet");
            master.begin(core, EPOCH, out);
        }
        assert_eq!(sent(out), ["LEADERINFO"]);
        let ack = QuorumPacket::AckEpoch { last_logged: has, current_epoch: None };
        assert!(master.on_packet(core, now, Some(EPOCH), LINK, ack, out).is_none());
        master
    }

    #[test]
    fn an_observer_that_knows_more_waits_until_the_master_knows_it_too() {
        let (mut core, mut out) = (follower(), Effects::default());
        let mut master = with_observer(&core, zxid(6), Some(EPOCH), &mut out);
        assert_eq!(sent(&mut out), [""; 0]);
        core.log(proposal(6), &mut out);
        core.commit_first(&mut out);
        master.on_committed(&proposal(6), None, &mut out);
        assert_eq!(sent(&mut out), [""; 0], "the step may commit more");
        master.synchronize_waiting(&core, EPOCH, &mut out);
        assert_eq!(sent(&mut out), ["DIFF", "NEWLEADER"]);
    }

    #[test]
    fn the_tail_of_an_older_epoch_is_cut_all_the_same() {
        let (core, mut out) = (follower(), Effects::default());
        with_observer(&core, Zxid::new(Epoch(2), 1), Some(EPOCH), &mut out);
        assert_eq!(sent(&mut out), ["TRUNC", "NEWLEADER"]);
    }

    #[test]
    fn who_comes_before_the_master_serves_is_answered_then() {
        let (core, mut out) = (follower(), Effects::default());
        let mut master = with_observer(&core, zxid(4), None, &mut out);
        assert_eq!(sent(&mut out), ["DIFF", "PROPOSAL", "COMMIT", "NEWLEADER"]);
        let now = Now { micros: 10_000_000, wall_ms: 0 };
        master.on_ping(&core, now, zxid(5), &mut out);
        assert_eq!(sent(&mut out), ["close"], "it has been silent for too long");
    }

    /// A lone check ends a leader of 3.8.0, and a read would never be answered.
    #[test]
    fn a_request_that_no_learner_hands_on_ends_the_link_of_the_observer() {
        for (op, is_asked) in [(op::CREATE, true), (op::SYNC, true), (op::CHECK, false), (op::GET_DATA, false)] {
            let (core, mut out) = (follower(), Effects::default());
            let mut master = with_observer(&core, zxid(5), Some(EPOCH), &mut out);
            let mut receive =
                |packet, out: &mut Effects| master.on_packet(&core, Now::default(), Some(EPOCH), LINK, packet, out);
            assert!(receive(QuorumPacket::Ack { zxid: zxid(0) }, &mut out).is_none());
            sent(&mut out);
            let body = ForwardedBody::Malformed { op, bytes: Vec::new() };
            let request = ForwardedRequest { session: SessionId(5), cxid: 1, body, auth: Vec::new() };
            assert_eq!(receive(QuorumPacket::Request(request), &mut out).is_some(), is_asked, "operation {op}");
            assert_eq!(sent(&mut out).len(), usize::from(!is_asked), "operation {op}");
        }
    }

    /// Of a follower with the last two in memory, whose observer has 2 of 5: what it is sent when the log has been searched.
    fn found(place: LogPlace, flushed: Zxid) -> Vec<&'static str> {
        let (mut core, mut out) = (follower(), Effects::default());
        core.recent = CommittedLog::new((1..=5).map(proposal), 2);
        let mut master = with_observer(&core, zxid(2), Some(EPOCH), &mut out);
        assert_eq!(sent(&mut out), [""; 0]);
        let asked = out.disk.pop();
        assert!(
            matches!(asked, Some(DiskOp::SearchLog { link: LINK, peer, up_to, .. }) if (peer, up_to) == (zxid(2), zxid(4))),
            "{asked:?}"
        );
        master.on_committed(&proposal(5), None, &mut out);
        master.synchronize_waiting(&core, EPOCH, &mut out);
        assert_eq!(sent(&mut out), [""; 0], "not before it is known where it stands");
        master.on_log_searched(&core, EPOCH, LINK, place, flushed, &mut out);
        if let Some(LinkOp::StreamLog { after, up_to, .. }) = out.links.get(1) {
            assert_eq!((*after, *up_to), (zxid(2), zxid(4)));
        }
        sent(&mut out)
    }

    #[test]
    fn what_memory_does_not_reach_back_to_comes_from_the_log() {
        let rest = ["the log", "PROPOSAL", "COMMIT", "NEWLEADER"];
        assert_eq!(found(LogPlace::Prefix, zxid(4)), [&["DIFF"][..], &rest].concat());
    }

    #[test]
    fn where_the_log_is_of_no_use_the_tree_is_sent() {
        let tree = ["SNAP", "the tree", "NEWLEADER"];
        assert_eq!(found(LogPlace::Unknown("it is gone"), zxid(5)), tree);
        assert_eq!(found(LogPlace::Prefix, zxid(3)), tree, "our own disk is behind");
    }

    #[test]
    fn one_observer_too_many_that_wants_the_tree_has_to_come_again() {
        let (mut core, mut out) = (follower(), Effects::default());
        core.config.catch_up.snapshots_only = true;
        core.config.catch_up.snapshots_max = 1;
        let mut master = with_observer(&core, zxid(2), Some(EPOCH), &mut out);
        assert_eq!(sent(&mut out), ["SNAP", "the tree", "NEWLEADER"]);
        let other = LinkId(10);
        master.on_link_up(Now::default(), other);
        let info = LearnerInfo { server: ServerId(5), protocol_version: PROTOCOL_VERSION, config_version: 0 };
        let info = QuorumPacket::ObserverInfo { accepted_epoch: EPOCH, info };
        master.on_packet(&core, Now::default(), Some(EPOCH), other, info, &mut out);
        let ack = QuorumPacket::AckEpoch { last_logged: zxid(2), current_epoch: None };
        master.on_packet(&core, Now::default(), Some(EPOCH), other, ack, &mut out);
        assert_eq!(sent(&mut out), ["LEADERINFO", "close"]);
    }

    #[test]
    fn an_ack_of_a_transaction_ends_the_link() {
        let (core, mut out) = (follower(), Effects::default());
        let mut master = with_observer(&core, zxid(5), Some(EPOCH), &mut out);
        sent(&mut out);
        for (ack, answer) in [(zxid(0), vec!["UPTODATE"]), (zxid(0), vec![]), (zxid(5), vec!["close"])] {
            let ack = QuorumPacket::Ack { zxid: ack };
            assert!(master.on_packet(&core, Now::default(), Some(EPOCH), LINK, ack, &mut out).is_none());
            assert_eq!(sent(&mut out), answer);
        }
    }
}
