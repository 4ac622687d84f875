//! The value that a server holds: tree, watches, sessions, connections, and whether reads may be answered.
//!
//! The host keeps it in one read-write lock. The core alone changes it ([`Database::perform`], the write lock);
//! connections read ([`Database::submit`], the read lock), many at once. Whatever could race happens in one hold of
//! that lock: a read sets its watch, takes the zxid of its header and is in the outbox before the lock is let go, so
//! no change comes in between.
//!
//! ZooKeeper: `ZKDatabase`, `FinalRequestProcessor`, `ServerCnxnFactory`.

use super::digests::Digests;
use super::io::{ConnId, DbOp, Loaded, Note, Now, ServerMode, Serving};
use super::limits::{Load, Share};
use super::outbox::{ConnInfo, ConnPhase, ConnStats, Outbox, OutboxState};
use super::settings::Settings;
use crate::jute::Record;
use crate::records::{ConnectRequest, SessionId, TouchedSession, Zxid};
use crate::sync::{Mutex, get_mut, lock};
use crate::tree::{CursorId, DataTree, WatchCounts, WatchManager, WatcherId};
use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

/// Tree, sessions and connections of one server.
pub struct Database {
    pub(super) tree: DataTree,
    pub(super) watches: WatchManager,
    /// Timeouts in ms of all sessions of the ensemble.
    pub(super) sessions: BTreeMap<SessionId, i32>,
    /// Timeouts in ms of the sessions that only this server knows.
    local_sessions: BTreeMap<SessionId, i32>,
    pub(super) last_processed: Zxid,
    serving: Option<Serving>,
    pub(super) settings: Settings,
    installs: u64,
    /// What transactions have said of the tree.
    pub(super) digests: Digests,
    pub(super) conns: Mutex<Conns>,
    touched: Mutex<Touched>,
    /// Requests without an answer.
    pub(super) load: Load,
    #[cfg(any(test, loom))]
    pub(super) faults: super::faults::Faults,
}

/// The connections of this server.
#[derive(Default)]
pub(super) struct Conns {
    pub all: BTreeMap<ConnId, Arc<Outbox>>,
    /// The connection that has, or is opening, a session.
    by_session: BTreeMap<SessionId, Arc<Outbox>>,
    /// Figures of connections that have ended.
    ended: ConnStats,
}

/// The sessions of which something was heard, with their timeouts in ms.
#[derive(Default)]
struct Touched {
    global: BTreeMap<SessionId, i32>,
    local: BTreeMap<SessionId, i32>,
}

/// Figures of a server, for `srvr`, `stat` and `mntr`.
#[derive(Clone, Debug)]
pub struct ServerStats {
    /// Of all connections since the start or the last reset, those that have ended too.
    pub total: ConnStats,
    /// Connections now.
    pub connections: usize,
    /// Requests without an answer.
    pub outstanding: usize,
    pub last_processed: Zxid,
    pub serving: Option<Serving>,
    pub node_count: usize,
    pub ephemeral_count: usize,
    /// Bytes of paths and data.
    pub approximate_data_size: u64,
    pub session_count: usize,
    /// Sessions that only this server knows.
    pub local_session_count: usize,
    pub watches: WatchCounts,
}

impl Database {
    /// What a data directory held. Nothing is served until [`DbOp::Serve`].
    pub fn new(loaded: Loaded) -> Database {
        Database {
            tree: loaded.tree,
            watches: WatchManager::new(),
            sessions: loaded.sessions,
            local_sessions: BTreeMap::new(),
            last_processed: loaded.last_zxid,
            serving: None,
            settings: Settings::default(),
            installs: 0,
            digests: loaded.digests,
            conns: Mutex::new(Conns::default()),
            touched: Mutex::new(Touched::default()),
            load: Load::default(),
            #[cfg(any(test, loom))]
            faults: super::faults::Faults::default(),
        }
    }

    /// Once, before anything is served.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The zxid of the last transaction in the tree.
    pub fn last_processed(&self) -> Zxid {
        self.last_processed
    }

    pub fn tree(&self) -> &DataTree {
        &self.tree
    }

    /// All sessions of the ensemble, with their timeouts in ms.
    pub fn sessions(&self) -> &BTreeMap<SessionId, i32> {
        &self.sessions
    }

    /// The sessions that only this server knows, with their timeouts in ms.
    pub fn local_sessions(&self) -> &BTreeMap<SessionId, i32> {
        &self.local_sessions
    }

    pub fn serving(&self) -> Option<Serving> {
        self.serving
    }

    /// Whether reads are answered now: in a role that serves, and so long as the quorum cannot have moved on.
    pub fn may_serve(&self, now: Now) -> bool {
        self.serving.is_some_and(|serving| now.micros < serving.until_micros)
    }

    /// Does what the core asks for, op by op, in order. Outboxes that the host must look at (bytes to send, or a
    /// connection to close) are added to `dirty`, each once until it is taken from.
    pub fn perform(
        &mut self,
        now: Now,
        ops: impl IntoIterator<Item = DbOp>,
        dirty: &mut Vec<Arc<Outbox>>,
        notes: &mut Vec<Note>,
    ) {
        for op in ops {
            match op {
                DbOp::Commit(proposal) => self.commit(now, &proposal, dirty, notes),
                DbOp::SyncDone { conn, xid } => self.finish_sync(now, conn, xid, dirty),
                DbOp::BindSession { conn, session, timeout_ms } => self.bind_session(conn, session, timeout_ms, dirty),
                DbOp::SessionRenewed { conn, session, valid, after } => self.with_conn(conn, dirty, |state| {
                    if state.session != session || !valid {
                        state.refuse();
                    } else {
                        (state.answers_after, state.is_moved) = (after, false);
                        state.open_if_connecting();
                    }
                }),
                DbOp::OpenLocalSession { conn, session, timeout_ms, after } => {
                    self.local_sessions.insert(session, timeout_ms);
                    self.with_conn(conn, dirty, |state| {
                        (state.is_local, state.answers_after) = (true, after);
                        state.open_if_connecting();
                    });
                }
                DbOp::UpgradeSession { session } => {
                    self.local_sessions.remove(&session);
                    if let Some(outbox) = self.owner(session) {
                        outbox.lock().is_local = false;
                    }
                }
                DbOp::EndLocalSession { session, asked } => self.end_local_session(now, session, asked, dirty),
                DbOp::SessionMoved { session } => {
                    if let Some(outbox) = self.owner(session) {
                        outbox.lock().is_moved = true;
                    }
                }
                DbOp::RefuseSession { conn } => self.with_conn(conn, dirty, |state| state.refuse()),
                DbOp::CloseConn { conn } => self.with_conn(conn, dirty, |state| state.close()),
                DbOp::CloseSessionConn { session } => {
                    if let Some(outbox) = self.owner(session) {
                        close(&outbox, dirty);
                    }
                }
                DbOp::Serve(serving) => self.serving = Some(serving),
                DbOp::ExtendLease { until_micros } => {
                    if let Some(serving) = &mut self.serving {
                        serving.until_micros = serving.until_micros.max(until_micros);
                    }
                }
                DbOp::StopServing => self.stop_serving(dirty),
                DbOp::Install(loaded) => self.install(*loaded),
                DbOp::SetLastProcessed(zxid) => self.last_processed = zxid,
                DbOp::SetConfig { text, version, wall_ms } => {
                    self.tree.set_config(text.as_bytes(), version, wall_ms);
                }
            }
        }
        #[cfg(any(test, loom))]
        self.release_late(now, dirty);
    }

    /// A connection was opened.
    pub fn attach(&self, outbox: Arc<Outbox>) {
        lock(&self.conns).all.insert(outbox.conn(), outbox);
    }

    /// A connection has ended: its watches go, and what it waited for is answered to nobody.
    pub fn detach(&self, conn: ConnId) {
        let mut conns = lock(&self.conns);
        let Some(outbox) = conns.all.remove(&conn) else { return };
        let mut state = outbox.lock();
        state.close();
        state.settle(&self.load);
        conns.ended.add(&state.stats);
        if conns.by_session.get(&state.session).is_some_and(|bound| bound.conn() == conn) {
            conns.by_session.remove(&state.session);
        }
        drop((state, conns));
        self.watches.remove_watcher(WatcherId(conn.0));
    }

    /// Takes the connect request of a connection: what the core is to be asked. `None`: the connection is closed
    /// without an answer, because this server does not serve (or for reading only, which the client does not want),
    /// the bytes are no connect request, or the client has seen a newer state than ours.
    pub fn connect(&self, outbox: &Arc<Outbox>, frame: &[u8], now: Now) -> Option<ConnectRequest> {
        let request = ConnectRequest::from_bytes(frame).ok();
        let request = request.filter(|request| {
            let is_mode_fine = !self.is_read_only() || request.read_only == Some(true);
            self.may_serve(now) && is_mode_fine && request.last_zxid_seen <= self.last_processed
        });
        let mut state = outbox.lock();
        state.stats.received += 1;
        match &request {
            Some(request) => {
                state.is_new = request.session == SessionId(0);
                state.read_only = request.read_only.map(|_| self.is_read_only());
            }
            None => state.close(),
        }
        request
    }

    /// Whether a large request of `len` bytes, which is still coming, will be taken.
    pub fn has_room_for_large(&self, len: usize) -> bool {
        self.load.of_others(Share::default()).large_bytes + len <= self.settings.requests.large_bytes_max
    }

    /// The sessions of the ensemble of which something was heard since the last call, with their timeouts in ms.
    pub fn touched(&self) -> Vec<TouchedSession> {
        touched(mem::take(&mut lock(&self.touched).global))
    }

    /// The same of the sessions that only this server knows.
    pub fn touched_local(&self) -> Vec<TouchedSession> {
        touched(mem::take(&mut lock(&self.touched).local))
    }

    pub(super) fn touch(&self, state: &OutboxState) {
        let mut touched = lock(&self.touched);
        let sessions = if state.is_local { &mut touched.local } else { &mut touched.global };
        sessions.insert(state.session, state.timeout_ms);
    }

    /// A session of the ensemble has begun.
    pub(super) fn touch_new(&mut self, session: SessionId, timeout_ms: i32) {
        get_mut(&mut self.touched).global.insert(session, timeout_ms);
    }

    /// A session of the ensemble has ended.
    pub(super) fn touch_no_more(&mut self, session: SessionId) {
        get_mut(&mut self.touched).global.remove(&session);
    }

    /// Whether this server, without a quorum, answers reads.
    pub(super) fn is_read_only(&self) -> bool {
        self.serving.is_some_and(|serving| serving.mode == ServerMode::ReadOnly)
    }

    /// How often the tree was replaced ([`DbOp::Install`]): a snapshot begun before has no tree any more.
    pub fn installs(&self) -> u64 {
        self.installs
    }

    /// Whether the tree is what the transactions say.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// Begins a snapshot at [`last_processed`](Database::last_processed). `None`: too many are under way.
    pub fn begin_snapshot(&mut self) -> Option<CursorId> {
        self.tree.begin_snapshot(&self.sessions)
    }

    /// Appends about `max_bytes` of the snapshot's body; true when that was the end of it.
    pub fn next_chunk(&self, cursor: CursorId, max_bytes: usize, out: &mut Vec<u8>) -> bool {
        self.tree.next_chunk(cursor, max_bytes, out)
    }

    /// Ends a snapshot, done or not.
    pub fn end_snapshot(&mut self, cursor: CursorId) {
        self.tree.end_snapshot(cursor);
    }

    /// What `srvr`, `stat` and `mntr` tell.
    pub fn stats(&self) -> ServerStats {
        let conns = lock(&self.conns);
        let (mut total, mut outstanding) = (conns.ended, 0);
        for (stats, waiting) in conns.all.values().map(|outbox| outbox.server_stats()) {
            total.add(&stats);
            outstanding += waiting;
        }
        ServerStats {
            total,
            connections: conns.all.len(),
            outstanding,
            last_processed: self.last_processed,
            serving: self.serving,
            node_count: self.tree.node_count(),
            ephemeral_count: self.tree.ephemeral_count(),
            approximate_data_size: self.tree.approximate_data_size(),
            session_count: self.sessions.len(),
            local_session_count: self.local_sessions.len(),
            watches: self.watches.counts(),
        }
    }

    pub fn watch_counts(&self) -> WatchCounts {
        self.watches.counts()
    }

    /// Some of the data watches, by path: part 0, 1, and so on until there is none.
    pub fn data_watches(&self, part: usize) -> Option<Vec<(String, Vec<WatcherId>)>> {
        self.watches.data_watches(part)
    }

    /// Connections with data watches, for `wchs`.
    pub fn data_watchers(&self) -> usize {
        self.watches.data_watchers()
    }

    /// What `cons` tells, by connection.
    pub fn connections(&self) -> Vec<ConnInfo> {
        lock(&self.conns).all.values().map(|outbox| outbox.info()).collect()
    }

    /// Sets the server's figures back, not those of each connection. ZooKeeper: `srst`.
    pub fn reset_stats(&self) {
        let mut conns = lock(&self.conns);
        conns.ended = ConnStats::default();
        conns.all.values().for_each(|outbox| outbox.reset_server_stats());
    }

    /// Sets the figures of each connection back, not the server's. ZooKeeper: `crst`.
    pub fn reset_connection_stats(&self) {
        let conns = &mut *lock(&self.conns);
        conns.all.values().for_each(|outbox| conns.ended.add(&outbox.reset_stats()));
    }

    /// Whether `session` has a connection here.
    pub fn is_here(&self, session: SessionId) -> bool {
        lock(&self.conns).by_session.contains_key(&session)
    }

    /// The connection that has, or is opening, `session`.
    pub(super) fn owner(&self, session: SessionId) -> Option<Arc<Outbox>> {
        lock(&self.conns).by_session.get(&session).cloned()
    }

    pub(super) fn conn(&self, conn: ConnId) -> Option<Arc<Outbox>> {
        lock(&self.conns).all.get(&conn).cloned()
    }

    /// Another connection of the session on this server ends; ZooKeeper does so before it looks at the password.
    fn bind_session(&mut self, conn: ConnId, session: SessionId, timeout_ms: i32, dirty: &mut Vec<Arc<Outbox>>) {
        let Some(outbox) = self.conn(conn) else { return };
        {
            let mut state = outbox.lock();
            if state.phase != ConnPhase::Connecting {
                return;
            }
            (state.session, state.timeout_ms) = (session, timeout_ms);
        }
        let former = get_mut(&mut self.conns).by_session.insert(session, outbox);
        if let Some(former) = former.filter(|former| former.conn() != conn) {
            close(&former, dirty);
        }
    }

    fn with_conn(&self, conn: ConnId, dirty: &mut Vec<Arc<Outbox>>, change: impl FnOnce(&mut OutboxState)) {
        let Some(outbox) = self.conn(conn) else { return };
        let mut state = outbox.lock();
        change(&mut state);
        if state.announce() {
            dirty.push(outbox.clone());
        }
    }

    /// Its table forgets it; what its connection has asked for is answered first, where it asked for the end.
    fn end_local_session(
        &mut self,
        now: Now,
        session: SessionId,
        asked: Option<(ConnId, i32)>,
        dirty: &mut Vec<Arc<Outbox>>,
    ) {
        self.local_sessions.remove(&session);
        if let Some((conn, xid)) = asked {
            self.with_conn(conn, dirty, |state| {
                state.end_session_at(xid);
                self.answer_parked(conn, state, now);
            });
        }
        if let Some(outbox) = self.owner(session).filter(|outbox| asked.is_none_or(|(conn, _)| conn != outbox.conn())) {
            close(&outbox, dirty);
        }
    }

    /// First of all no read is answered any more; then every client has to look for another server.
    pub(super) fn stop_serving(&mut self, dirty: &mut Vec<Arc<Outbox>>) {
        #[cfg(any(test, loom))]
        if self.faults.postpone_stop() {
            return;
        }
        self.serving = None;
        let conns = get_mut(&mut self.conns);
        conns.by_session.clear();
        conns.all.values().for_each(|outbox| close(outbox, dirty));
        self.watches.clear();
        self.local_sessions.clear();
        *get_mut(&mut self.touched) = Touched::default();
    }

    fn install(&mut self, loaded: Loaded) {
        assert!(self.serving.is_none(), "the tree is replaced while it is served");
        self.installs += 1;
        self.digests = loaded.digests;
        self.tree = loaded.tree;
        self.sessions = loaded.sessions;
        self.last_processed = loaded.last_zxid;
    }
}

fn touched(sessions: BTreeMap<SessionId, i32>) -> Vec<TouchedSession> {
    sessions.into_iter().map(|(session, timeout_ms)| TouchedSession { session, timeout_ms }).collect()
}

fn close(outbox: &Arc<Outbox>, dirty: &mut Vec<Arc<Outbox>>) {
    let mut state = outbox.lock();
    state.close();
    if state.announce() {
        dirty.push(outbox.clone());
    }
}
