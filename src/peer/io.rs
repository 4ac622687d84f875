//! What goes into a [`QuorumPeer`](super::QuorumPeer) and what comes out of it.
//!
//! The peer decides; its host (tokio, the simulator, a test) does. After each `step` the host performs the effects:
//! first all of [`Effects::db`] (so that a snapshot taken by a later effect is at the zxid the peer thinks of), then
//! `disk`, `members`, `links`, `election`; each list in order. It does so before it feeds the next input.

use super::digests::Digests;
use crate::records::{
    Acl, Configuration, ConnectRequest, Epoch, ForwardedBody, Id, Notification, QuorumPacket, ServerId, SessionId,
    SnapshotItem, Zxid,
};
use crate::tree::DataTree;
pub use crate::zab::{LogPlace, Proposal};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The time of an input, as the host sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Microseconds of a monotonic clock. Everything that waits is measured by it.
    pub micros: u64,
    /// Wall clock, ms since 1970 UTC. Only ctime, mtime and session ids show it.
    pub wall_ms: i64,
}

/// A client's connection; never used again in the life of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// A connection on the quorum port, of either direction; never used again in the life of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Counts the roles of a peer. Disk completions carry it: one from a former role is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// What a client asks of the leader: a write or a sync. Reads never come here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRequest {
    pub conn: ConnId,
    pub session: SessionId,
    pub xid: i32,
    pub body: ForwardedBody,
    /// Who the connection was when the request was read.
    pub auth: Arc<[Id]>,
}

/// What a data directory holds: the newest snapshot with the log replayed, committed or not.
pub struct Loaded {
    pub tree: DataTree,
    /// Session timeouts in ms.
    pub sessions: BTreeMap<SessionId, i32>,
    /// Of the last logged transaction; [`Zxid::NONE`] for an empty database that is not trusted.
    pub last_zxid: Zxid,
    /// The newest logged transactions, as many as are kept in memory, without a gap up to `last_zxid`.
    pub recent: Vec<Proposal>,
    /// What the transactions have said of the tree.
    pub digests: Digests,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loaded({} nodes at {})", self.tree.node_count(), self.last_zxid)
    }
}

/// An event for the peer.
#[derive(Debug)]
pub enum Input {
    /// A connection sent its connect request.
    Connect { conn: ConnId, request: ConnectRequest },
    /// Writes and syncs, in the order in which each connection sent them. The host has put each in its connection's
    /// outbox already (as waiting for its answer).
    Requests(Vec<ClientRequest>),

    /// An election message arrived on the connection with `from`.
    Notification { from: ServerId, notification: Notification },
    /// The election connection with `server` is open (`true`), or is known to be closed or refused (`false`).
    ElectionLink { server: ServerId, up: bool },

    /// The connection to the leader that [`LinkOp::Connect`] asked for is open.
    LeaderLinkUp { link: LinkId, leader: ServerId },
    /// It could not be opened.
    LeaderLinkFailed { leader: ServerId },
    /// A learner connected to our quorum port.
    LearnerLinkUp { link: LinkId },
    /// An observer connected to our observer master port.
    ObserverLinkUp { link: LinkId },
    /// Packets from a link, in order.
    Packets { link: LinkId, packets: Vec<QuorumPacket> },
    /// Items of the SNAP stream that follows a SNAP packet, in order. With `end`: [`SnapshotItem::End`] and the
    /// signature have been read.
    SnapshotItems { link: LinkId, items: Vec<SnapshotItem>, end: bool },
    /// The link is closed, by the other side, an error, or bytes that cannot be understood.
    LinkDown { link: LinkId, reason: String },

    /// Everything appended up to `up_to` is synced to disk.
    Flushed { generation: Generation, up_to: Zxid },
    /// All disk work that was asked for before [`DiskOp::Drain`] is done and synced.
    Drained { generation: Generation },
    /// acceptedEpoch is on disk.
    AcceptedEpochSaved { generation: Generation, epoch: Epoch },
    /// currentEpoch is on disk.
    CurrentEpochSaved { generation: Generation, epoch: Epoch },
    /// The log is cut, or was only to be read ([`DiskOp::Reload`]); this is what the directory holds now.
    Truncated { generation: Generation, loaded: Box<Loaded> },
    /// The snapshot that an install or a periodic [`DiskOp::TakeSnapshot`] asked for is on disk under its final name.
    SnapshotSaved { generation: Generation, zxid: Zxid, install: bool },

    /// The operator asks for another leader; nothing to one who does not lead.
    HandOver,
    /// Where the learner of `link` stands in the log.
    LogSearched { generation: Generation, link: LinkId, place: LogPlace },

    /// [`next_wakeup`](super::QuorumPeer::next_wakeup) has come.
    Wakeup,
}

/// Something to be done to the [`Database`](super::Database), under its write lock.
#[derive(Debug)]
pub enum DbOp {
    /// Apply the transaction, deliver its events, answer its owner if it is connected here, then the owner's parked
    /// reads up to its next write.
    Commit(Proposal),
    /// The sync at the head of this connection's outbox is done.
    SyncDone { conn: ConnId, xid: i32 },
    /// This connection is opening `session` (a createSession or a REVALIDATE is under way); another connection of the
    /// same session on this server is closed.
    BindSession { conn: ConnId, session: SessionId, timeout_ms: i32 },
    /// The renewal of the session that was bound is decided: the connect response, or the refusal and the end.
    /// Transactions up to `after` were asked for by a former connection, even where their xids come again: they
    /// answer nothing on this one.
    SessionRenewed { conn: ConnId, session: SessionId, valid: bool, after: Zxid },
    /// The connection that was bound has `session`, which only this server knows: the connect response. `after` as in
    /// [`DbOp::SessionRenewed`].
    OpenLocalSession { conn: ConnId, session: SessionId, timeout_ms: i32, after: Zxid },
    /// A session that only this server knew is becoming one of the whole ensemble.
    UpgradeSession { session: SessionId },
    /// A session that only this server knew has ended. `asked`: by this connection's request of this xid, which is
    /// answered in its turn; without, its connection just ends.
    EndLocalSession { session: SessionId, asked: Option<(ConnId, i32)> },
    /// The session has moved to another server: the connection that it had on this one, the leader, may still end the
    /// session; anything else it asks for ends the connection.
    SessionMoved { session: SessionId },
    /// Refuse the connect request with the zero response ("expired"), then close.
    RefuseSession { conn: ConnId },
    /// Close the connection, after what is in its outbox, without another frame.
    CloseConn { conn: ConnId },
    /// Close whatever connection of this session is here (it expired, or lives elsewhere).
    CloseSessionConn { session: SessionId },
    /// From now on, and until the lease ends, reads are answered.
    Serve(Serving),
    /// The lease is longer now.
    ExtendLease { until_micros: u64 },
    /// The role has ended: no read is answered from now on, all client connections are closed, what is parked dropped.
    StopServing,
    /// Replace tree, sessions and last processed zxid.
    Install(Box<Loaded>),
    /// The epoch has begun: with nothing applied, the last processed zxid is its beginning.
    SetLastProcessed(Zxid),
    /// Write the configuration's text into `/zookeeper/config`; not a transaction.
    SetConfig { text: String, version: i64, wall_ms: i64 },
}

/// In which role a server answers reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    pub generation: Generation,
    pub mode: ServerMode,
    /// Reads are answered before this monotonic time: so long we may be sure that the quorum has not moved on. A
    /// server that was stopped and woke up is past it. `u64::MAX` for a standalone server.
    pub until_micros: u64,
}

/// What `srvr` says behind `Mode:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerMode {
    Standalone,
    Leader,
    Follower,
    Observer,
    /// Without a quorum, for clients that allow it, until an election ends.
    ReadOnly,
}

impl fmt::Display for ServerMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServerMode::Standalone => "standalone",
            ServerMode::Leader => "leader",
            ServerMode::Follower => "follower",
            ServerMode::Observer => "observer",
            ServerMode::ReadOnly => "read-only",
        })
    }
}

/// Work for the disk, done in this order; all of it belongs to `generation`.
#[derive(Debug)]
pub enum DiskOp {
    /// Append to the log, sync, answer [`Input::Flushed`]. Several may be covered by one sync and one answer.
    Append {
        generation: Generation,
        proposals: Vec<Proposal>,
    },
    /// Answer [`Input::Drained`] when everything before is done.
    Drain {
        generation: Generation,
    },
    SaveAcceptedEpoch {
        generation: Generation,
        epoch: Epoch,
    },
    SaveCurrentEpoch {
        generation: Generation,
        epoch: Epoch,
    },
    /// Forget every logged transaction after `to` (and snapshots that hold them), then load what is left.
    Truncate {
        generation: Generation,
        to: Zxid,
    },
    /// Load snapshot and log again, and answer [`Input::Truncated`].
    Reload {
        generation: Generation,
    },
    /// Write a snapshot of the database as it is after this step's `db` effects (its last processed zxid is `zxid`).
    /// With `install` it replaces the history (SNAP from a leader): it is done in its turn, before later appends, and
    /// logged transactions after `zxid` are forgotten. Without, the log rolls here and the snapshot is written beside
    /// later work.
    TakeSnapshot {
        generation: Generation,
        zxid: Zxid,
        install: bool,
        /// What `install` replaces stays under other names.
        keeps: bool,
    },
    /// Find out, beside later work, where the learner of `link` stands in the log: its last zxid is `peer`, and what is
    /// from `up_to` on is in memory. A log that it needs and that is larger than `size_factor` times the newest
    /// snapshot (0: of any size) is no use. Answer [`Input::LogSearched`].
    SearchLog {
        generation: Generation,
        link: LinkId,
        peer: Zxid,
        up_to: Zxid,
        size_factor: f64,
    },
}

/// Work for the quorum port; in order for each link.
#[derive(Debug)]
pub enum LinkOp {
    /// Open a connection to this server's quorum port; answer with `LeaderLinkUp` or `LeaderLinkFailed`.
    Connect {
        leader: ServerId,
    },
    /// Open a connection to this server's observer master port; answer as to `Connect`, with it as `leader`.
    ConnectMaster {
        server: ServerId,
    },
    Send {
        link: LinkId,
        packet: QuorumPacket,
    },
    /// Stream a snapshot body of the database as it is after this step's `db` effects, then the signature. Later
    /// packets of this link wait behind it.
    StreamSnapshot {
        link: LinkId,
        zxid: Zxid,
    },
    /// Stream PROPOSAL and COMMIT of each transaction of the log that is after `after` and not beyond `up_to`, which is
    /// synced. Later packets of this link wait behind it.
    StreamLog {
        link: LinkId,
        after: Zxid,
        up_to: Zxid,
    },
    /// Stream PROPOSAL and COMMIT of each. Later packets of this link wait behind them.
    StreamProposals {
        link: LinkId,
        proposals: Vec<Proposal>,
    },
    /// Close, after what was sent before.
    Close {
        link: LinkId,
    },
}

/// The ensemble's list: whom this server counts and talks with, and where it listens itself, at its addresses in
/// `committed`. It is kept in files. ZooKeeper: `zoo.cfg.dynamic.<version>`, `zoo.cfg.dynamic.next`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    pub committed: Configuration,
    /// Proposed: its members are talked with as well.
    pub last_seen: Option<Configuration>,
}

impl Members {
    /// Whether the files must have it before anything else of the step is done: with something proposed. Else the log might
    /// hold a record by which others count; or those who were told of a new member would look for a leader with its
    /// vote, while the server that has proposed it, and was stopped, knows nothing of it. What is committed is kept when it
    /// has been told: a leader that leaves the ensemble and is stopped in between would not start again, by its own list,
    /// and the others may need it to find out.
    pub fn is_kept_first(&self) -> bool {
        self.last_seen.is_some()
    }
}

/// What the host must do after a step.
#[derive(Debug, Default)]
pub struct Effects {
    pub db: Vec<DbOp>,
    pub disk: Vec<DiskOp>,
    pub links: Vec<LinkOp>,
    /// The ensemble's list from now on; gone by before `links` and `election`, and kept in files before everything or behind
    /// it: [`Members::is_kept_first`].
    pub members: Option<Box<Members>>,
    /// Election messages; only the newest for a server need be kept while it cannot be sent.
    pub election: Vec<(ServerId, Notification)>,
    /// What happened, for logs and checkers.
    pub notes: Vec<Note>,
    /// The server must end now, with this exit code and reason; nothing more of it counts.
    pub end: Option<End>,
}

impl Effects {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.db.is_empty()
            && self.disk.is_empty()
            && self.links.is_empty()
            && self.members.is_none()
            && self.election.is_empty()
            && self.notes.is_empty()
            && self.end.is_none()
    }

    pub(crate) fn send(&mut self, link: LinkId, packet: QuorumPacket) {
        self.links.push(LinkOp::Send { link, packet });
    }
}

/// Why a server cannot go on; `code` is a process exit code of ZooKeeper's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub code: i32,
    pub reason: String,
}

/// A transition worth a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    StateChanged {
        state: &'static str,
    },
    ElectionStarted {
        round: i64,
        zxid: Zxid,
    },
    ElectionWon {
        leader: ServerId,
        took_ms: u64,
    },
    EpochAccepted {
        epoch: Epoch,
    },
    /// This server leads, and a quorum has acknowledged NEWLEADER.
    Leading {
        epoch: Epoch,
        supporters: Vec<ServerId>,
    },
    Following {
        epoch: Epoch,
        leader: ServerId,
    },
    Observing {
        epoch: Epoch,
        leader: ServerId,
    },
    SyncSent {
        learner: ServerId,
        how: &'static str,
        peer_last: Zxid,
        from: Zxid,
    },
    /// A learner that is too old for our memory cannot be given what it lacks from the log either.
    LogOfNoUse {
        learner: Option<ServerId>,
        why: String,
    },
    SyncReceived {
        how: &'static str,
        zxid: Zxid,
    },
    /// This leader takes no more writes, and lets another server lead.
    HandingOver {
        reason: String,
    },
    RoleEnded {
        reason: String,
    },
    /// A configuration was proposed to the ensemble.
    ConfigurationProposed {
        version: i64,
    },
    /// A configuration is the committed one, as far as this server knows.
    ConfigurationActivated {
        configuration: Box<Configuration>,
    },
    /// A reconfiguration names the next leader.
    LeaderDesignated {
        leader: ServerId,
    },
    SessionExpired {
        session: SessionId,
        timeout_ms: i32,
    },
    /// Without a quorum, read-only clients are served.
    ServingReadOnly,
    /// The digest in a transaction is not that of our tree after it.
    DigestMismatch {
        zxid: Zxid,
        expected: i64,
        actual: i64,
    },
    /// From this transaction on, the tree here is not the ensemble's.
    Diverged {
        zxid: Zxid,
    },
    /// The tree here, which is what snapshot and log make, is not what transactions of this leader say (`None`: what those
    /// in the log say).
    TreesDiffer {
        leader: Option<ServerId>,
        zxid: Zxid,
    },
    LearnerDropped {
        learner: Option<ServerId>,
        reason: String,
    },
    Warning(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::StateChanged { state } => write!(f, "Peer state changed: {state}"),
            Note::ElectionStarted { round, zxid } => {
                write!(f, "New election. round = {round}, proposed zxid={zxid}")
            }
            Note::ElectionWon { leader, took_ms } => {
                write!(f, "LEADER ELECTION TOOK - {took_ms} MS, leader is {leader}")
            }
            Note::EpochAccepted { epoch } => write!(f, "accepted epoch {epoch}"),
            Note::Leading { epoch, supporters } => write!(
                f,
                "Have quorum of supporters, sids: [{}]; starting up and setting last processed zxid: {}",
                supporters.iter().map(ServerId::to_string).collect::<Vec<_>>().join(", "),
                Zxid::new(*epoch, 0)
            ),
            Note::Following { epoch, leader } => write!(f, "following {leader} in epoch {epoch}"),
            Note::Observing { epoch, leader } => write!(f, "observing {leader} in epoch {epoch}"),
            Note::SyncSent { learner, how, peer_last, from } => {
                write!(f, "Sending {how} to learner {learner}, last zxid of peer is {peer_last}, ours {from}")
            }
            Note::LogOfNoUse { learner, why } => {
                write!(f, "learner {} cannot be synchronised from the log: {why}", learner.unwrap_or_default())
            }
            Note::SyncReceived { how: "TRUNC", zxid } => {
                write!(f, "Truncating log to get in sync with the leader {zxid}")
            }
            Note::SyncReceived { how: "SNAP", zxid } => write!(f, "Getting a snapshot from leader {zxid}"),
            Note::SyncReceived { zxid, .. } => write!(f, "Getting a diff from the leader {zxid}"),
            Note::HandingOver { reason } => write!(f, "handing over: {reason}"),
            Note::RoleEnded { reason } => write!(f, "Shutdown called. For the reason {reason}"),
            Note::ConfigurationProposed { version } => write!(f, "configuration {version:x} is proposed"),
            Note::ConfigurationActivated { configuration } => {
                write!(f, "configuration is activated: {}", configuration.to_string().replace('\n', ", "))
            }
            Note::LeaderDesignated { leader } => write!(f, "Suggested leader: {leader}"),
            Note::SessionExpired { session, timeout_ms } => {
                write!(f, "Expiring session {session}, timeout of {timeout_ms}ms exceeded")
            }
            Note::ServingReadOnly => f.write_str("Read-only server started"),
            Note::DigestMismatch { zxid, expected, actual } => write!(
                f,
                "Digests are not matching. Value is Zxid. {zxid}: the leader's is {expected:x}, ours is {actual:x}"
            ),
            Note::Diverged { zxid } => {
                write!(f, "the tree here has diverged at {zxid}: this server leaves, to be sent the leader's tree")
            }
            Note::TreesDiffer { leader: Some(leader), zxid } => write!(
                f,
                "the digests of leader {leader} are not those of the tree that snapshot and log make here, since {zxid}: its \
                 tree is wrong, or its digests are computed otherwise. This server keeps its own tree and goes on"
            ),
            Note::TreesDiffer { leader: None, zxid } => write!(
                f,
                "the tree that snapshot and log make is not what transactions of the log say, since {zxid}: this server lets \
                 others elect a leader, if they can"
            ),
            Note::LearnerDropped { learner: Some(learner), reason } => {
                write!(f, "closing the connection of learner {learner}: {reason}")
            }
            Note::LearnerDropped { learner: None, reason } => write!(f, "closing a learner's connection: {reason}"),
            Note::Warning(text) => f.write_str(text),
        }
    }
}

/// The access list of a node, shared.
pub type AclList = Arc<[Acl]>;
