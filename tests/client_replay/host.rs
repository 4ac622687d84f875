//! A standalone server without sockets, disk or clock: requests are prepared and committed at once.

use super::replay::World;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use zabkit::jute::Record;
use zabkit::peer::auth::AuthSettings;
use zabkit::peer::io::{ClientRequest, ConnId, DbOp, Generation, Loaded, Now, Proposal, ServerMode, Serving};
use zabkit::peer::{ConnPhase, Database, InFlight, NodeSettings, Outbox, PrepareRequest, Settings};
use zabkit::records::{
    ConnectRequest, CreateSessionRequest, ErrorCode, ForwardedBody, Id, JUTE_MAX_BUFFER, Request, SessionId, Txn, Zxid,
    session_password,
};
use zabkit::tree::DataTree;

const TICK_MS: u64 = 2000;

pub struct Host {
    db: Database,
    in_flight: InFlight,
    last_zxid: Zxid,
    next_session: i64,
    next_conn: u64,
    now_ms: u64,
    conns: BTreeMap<String, Conn>,
    /// When each session ends unless something is heard of it, ms.
    deadlines: BTreeMap<SessionId, u64>,
    dirty: Vec<Arc<Outbox>>,
}

struct Conn {
    outbox: Arc<Outbox>,
    is_closed: bool,
}

impl Host {
    pub fn new() -> Host {
        let loaded = Loaded {
            tree: DataTree::new(),
            sessions: BTreeMap::new(),
            last_zxid: Zxid::ZERO,
            recent: Vec::new(),
            digests: Default::default(),
        };
        let mut db = Database::new(loaded);
        let super_digest = Some(zabkit::tree::acl::digest_id("super:secret"));
        let nodes = NodeSettings { extended_types: true, enforce_quota: true, ..NodeSettings::default() };
        let auth = AuthSettings { super_digest, ..AuthSettings::default() };
        db.set_settings(Settings { auth, nodes, ..Settings::default() });
        let in_flight = InFlight::new(&db);
        let mut host = Host {
            db,
            in_flight,
            last_zxid: Zxid::ZERO,
            next_session: 0x0100_0014_c6a1_0000,
            next_conn: 0,
            now_ms: 1_700_000_000_000,
            conns: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            dirty: Vec::new(),
        };
        host.perform(DbOp::Serve(Serving {
            generation: Generation(1),
            mode: ServerMode::Standalone,
            until_micros: u64::MAX,
        }));
        host
    }

    pub fn open(&mut self, name: &str) {
        self.next_conn += 1;
        let outbox = Outbox::new(ConnId(self.next_conn), [127, 0, 0, 1].into());
        self.db.attach(outbox.clone());
        self.conns.insert(name.to_owned(), Conn { outbox, is_closed: false });
    }

    /// All that has been closed by this server so far.
    pub fn closed(&self) -> BTreeSet<String> {
        self.conns.iter().filter(|(_, conn)| conn.is_closed).map(|(name, _)| name.clone()).collect()
    }

    /// Keeps only what is open; long runs make many connections.
    pub fn forget_closed(&mut self) {
        self.conns.retain(|_, conn| !conn.is_closed);
    }

    /// What one segment brought.
    pub fn send(&mut self, name: &str, bytes: &[u8]) {
        let outbox = self.conns[name].outbox.clone();
        let Some(frames) = frames(bytes) else {
            return self.perform(DbOp::CloseConn { conn: outbox.conn() });
        };
        let mut rest = frames.as_slice();
        if outbox.phase() == ConnPhase::Connecting
            && let Some((connect, later)) = rest.split_first()
        {
            if let Some(request) = self.db.connect(&outbox, connect, self.now()) {
                self.connect(&outbox, &request);
            }
            rest = later;
        }
        let mut forward = Vec::new();
        let taken = self.db.submit(&outbox, rest, self.now(), &mut forward);
        assert_eq!(taken, rest.len(), "the outbox of {name} is busy");
        for touched in self.db.touched() {
            let end = ((self.now_ms + touched.timeout_ms as u64) / TICK_MS + 1) * TICK_MS;
            self.deadlines.entry(touched.session).and_modify(|deadline| *deadline = end);
        }
        for request in forward {
            self.order(request);
        }
    }

    /// Lets time pass: sessions expire.
    pub fn let_pass(&mut self, ms: u64) {
        self.now_ms += ms;
        while let Some((&session, _)) = self.deadlines.iter().find(|(_, deadline)| **deadline <= self.now_ms) {
            self.write(session, 0, &ForwardedBody::Request(Request::CloseSession), &[]);
        }
    }

    /// The frames sent since the last call, by connection.
    pub fn take_frames(&mut self) -> BTreeMap<String, Vec<Vec<u8>>> {
        let mut arrived = BTreeMap::new();
        for (name, conn) in &mut self.conns {
            let mut bytes = Vec::new();
            let is_closing = conn.outbox.take(&mut bytes);
            if is_closing && !conn.is_closed {
                conn.is_closed = true;
                self.db.detach(conn.outbox.conn());
            }
            let mut rest = bytes.as_slice();
            let mut frames = Vec::new();
            while let Some((length, _)) = rest.split_first_chunk::<4>() {
                let (frame, later) = rest.split_at(4 + i32::from_be_bytes(*length) as usize);
                frames.push(frame.to_vec());
                rest = later;
            }
            arrived.insert(name.clone(), frames);
        }
        arrived
    }

    fn now(&self) -> Now {
        Now { micros: self.now_ms * 1000, wall_ms: self.now_ms as i64 }
    }

    fn connect(&mut self, outbox: &Outbox, request: &ConnectRequest) {
        let timeout_ms = request.timeout_ms.clamp(2 * TICK_MS as i32, 20 * TICK_MS as i32);
        let is_new = request.session == SessionId(0);
        let session = if is_new { SessionId(self.next_session) } else { request.session };
        self.perform(DbOp::BindSession { conn: outbox.conn(), session, timeout_ms });
        if is_new {
            self.next_session += 1;
            let create = Request::CreateSession(CreateSessionRequest { timeout_ms });
            self.write(session, 0, &ForwardedBody::Request(create), &[]);
            self.deadlines.insert(session, self.now_ms + timeout_ms as u64);
        } else {
            let valid = request.password.as_deref() == Some(&session_password(session)[..])
                && self.db.sessions().contains_key(&session);
            self.perform(DbOp::SessionRenewed { conn: outbox.conn(), session, valid, after: Zxid::NONE });
        }
    }

    fn order(&mut self, request: ClientRequest) {
        if request.body.op() == zabkit::records::op::SYNC {
            return self.perform(DbOp::SyncDone { conn: request.conn, xid: request.xid });
        }
        self.write(request.session, request.xid, &request.body, &request.auth);
    }

    fn write(&mut self, session: SessionId, cxid: i32, body: &ForwardedBody, auth: &[Id]) {
        let zxid = self.last_zxid.successor();
        self.last_zxid = zxid;
        let is_known = self.db.sessions().contains_key(&session);
        let session_check = if is_known { Ok(()) } else { Err(ErrorCode::SessionExpired) };
        let request = PrepareRequest::new(session, cxid, body, auth);
        let request = PrepareRequest { session_check, ephemeral_check: session_check, ..request };
        let time_ms = self.now_ms as i64;
        let (body, digest) = self.in_flight.prepare(&self.db, &request, zxid, time_ms);
        let txn = Txn { session, cxid, zxid, time_ms, body, digest };
        let bytes = txn.to_bytes().into();
        self.perform(DbOp::Commit(Proposal { txn: Arc::new(txn), bytes }));
        self.in_flight.retire(zxid);
        assert!(self.in_flight.is_empty());
        self.deadlines.retain(|session, _| self.db.sessions().contains_key(session));
    }

    fn perform(&mut self, op: DbOp) {
        let mut notes = Vec::new();
        self.db.perform(self.now(), [op], &mut self.dirty, &mut notes);
        assert!(notes.is_empty(), "{notes:?}");
    }
}

impl World for Host {
    fn has(&self, name: &str) -> bool {
        self.conns.contains_key(name)
    }

    fn open(&mut self, name: &str) {
        Host::open(self, name);
    }

    fn send(&mut self, name: &str, bytes: &[u8]) {
        Host::send(self, name, bytes);
    }

    fn pass(&mut self, ms: u64) {
        self.let_pass(ms);
    }

    fn take(&mut self, _: &BTreeMap<String, usize>, _: &BTreeSet<String>) -> BTreeMap<String, Vec<Vec<u8>>> {
        self.take_frames()
    }

    fn last_zxid(&self) -> Option<i64> {
        Some(self.last_zxid.0)
    }

    fn closed(&self) -> BTreeSet<String> {
        Host::closed(self)
    }

    fn finish(&mut self) -> BTreeMap<String, Vec<Vec<u8>>> {
        self.take_frames()
    }
}

/// The frames in `bytes`, without their lengths; `None`: a length is refused.
pub fn frames(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = bytes;
    let mut frames = Vec::new();
    while let Some((length, body)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).ok().filter(|length| *length <= JUTE_MAX_BUFFER)?;
        let (frame, later) = body.split_at_checked(length)?;
        frames.push(frame);
        rest = later;
    }
    Some(frames)
}
