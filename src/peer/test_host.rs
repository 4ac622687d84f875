//! A host for tests: one standalone server whose log is instant. Under `cfg(loom)` its locks are loom's.

use super::faults::Fault;
use super::io::{ClientRequest, ConnId, DbOp, Generation, Loaded, Note, Now, Proposal, ServerMode, Serving};
use super::settings::{NodeSettings, Settings};
use super::{Database, InFlight, Outbox, PrepareRequest};
use crate::jute::{Reader, Record};
use crate::records::{
    CreateRequest, CreateSessionRequest, DataStat, ForwardedBody, Id, NOTIFICATION_XID, PathWatch, ReplyHeader,
    Request, RequestAcl, RequestHeader, SessionId, SetDataRequest, Txn, WatcherEvent, Zxid,
};
#[cfg(not(loom))]
use crate::records::{TxnBody, op};
use crate::sync::{Mutex, RwLock, atomic, lock, read, write};
use crate::tree::DataTree;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) struct TestHost {
    pub db: RwLock<Database>,
    leader: Mutex<Leader>,
    /// Microseconds.
    pub clock: atomic::AtomicU64,
    /// What a faulty server does between two holds of the lock.
    pause: fn(),
}

struct Leader {
    in_flight: InFlight,
    last_zxid: Zxid,
}

/// A frame to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Event { zxid: Zxid, kind: i32, path: String },
    Reply { header: ReplyHeader, body: Vec<u8> },
}

impl Sent {
    /// The header of a reply.
    pub fn header(&self) -> &ReplyHeader {
        match self {
            Sent::Reply { header, .. } => header,
            Sent::Event { .. } => panic!("{self:?} is no reply"),
        }
    }
}

impl TestHost {
    pub fn with_fault(fault: Option<Fault>, pause: fn()) -> TestHost {
        let (tree, sessions) = (DataTree::new(), BTreeMap::new());
        let mut db = Database::new(Loaded {
            tree,
            sessions,
            last_zxid: Zxid::ZERO,
            recent: Vec::new(),
            digests: Default::default(),
        });
        db.faults.fault = fault;
        let nodes = NodeSettings { extended_types: true, ..NodeSettings::default() };
        db.set_settings(Settings { nodes, ..Settings::default() });
        let serving = Serving { generation: Generation(1), mode: ServerMode::Standalone, until_micros: 1_000_000 };
        let now = Now { micros: 0, wall_ms: 1 };
        db.perform(now, [DbOp::Serve(serving)], &mut Vec::new(), &mut Vec::new());
        let leader = Leader { in_flight: InFlight::new(&db), last_zxid: Zxid::ZERO };
        TestHost { db: RwLock::new(db), leader: Mutex::new(leader), clock: atomic::AtomicU64::new(1), pause }
    }

    pub fn now(&self) -> Now {
        Now { micros: self.clock.load(atomic::Ordering::SeqCst), wall_ms: 1_000 }
    }

    /// Connection `number` with session `number`, open.
    pub fn connect(&self, number: u64) -> Arc<Outbox> {
        let outbox = Outbox::new(ConnId(number), [127, 0, 0, 1].into());
        let session = SessionId(number as i64);
        read(&self.db).attach(outbox.clone());
        self.perform([DbOp::BindSession { conn: outbox.conn(), session, timeout_ms: 10_000 }]);
        let create = Request::CreateSession(CreateSessionRequest { timeout_ms: 10_000 });
        self.commit(vec![self.propose(session, 0, create)]);
        outbox.take(&mut Vec::new());
        outbox
    }

    /// One hold of the read lock, and what a faulty server does after it.
    pub fn submit(&self, outbox: &Arc<Outbox>, frames: &[Vec<u8>]) -> Vec<ClientRequest> {
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let mut forward = Vec::new();
        let db = read(&self.db);
        assert_eq!(db.submit(outbox, &frames, self.now(), &mut forward), frames.len());
        let is_faulty = db.faults.fault.is_some();
        drop(db);
        self.do_late(is_faulty);
        forward
    }

    fn do_late(&self, is_faulty: bool) {
        if is_faulty {
            (self.pause)();
            let db = read(&self.db);
            db.do_late(db.take_late(), &mut Vec::new());
        }
    }

    pub fn prepare(&self, request: &ClientRequest) -> Proposal {
        let ForwardedBody::Request(body) = &request.body else { panic!("{request:?} is malformed") };
        self.propose_as(&request.auth, request.session, request.xid, body.clone())
    }

    pub fn propose(&self, session: SessionId, cxid: i32, body: Request) -> Proposal {
        let auth = [Id::new("ip", "127.0.0.1")];
        self.propose_as(&auth, session, cxid, body)
    }

    pub fn propose_as(&self, auth: &[Id], session: SessionId, cxid: i32, body: Request) -> Proposal {
        let db = read(&self.db);
        let leader = &mut *lock(&self.leader);
        let body = ForwardedBody::Request(body);
        let request = PrepareRequest::new(session, cxid, &body, auth);
        let zxid = Zxid(leader.last_zxid.0 + 1);
        leader.last_zxid = zxid;
        let (body, digest) = leader.in_flight.prepare(&db, &request, zxid, zxid.0 * 1000);
        let txn = Txn { session, cxid, zxid, time_ms: zxid.0 * 1000, body, digest };
        Proposal { bytes: txn.to_bytes().into(), txn: Arc::new(txn) }
    }

    /// What was proposed and not committed never was.
    #[cfg(not(loom))]
    pub fn forget(&self) {
        lock(&self.leader).in_flight = InFlight::new(&read(&self.db));
    }

    /// One hold of the write lock for all of them.
    pub fn commit(&self, proposals: Vec<Proposal>) {
        self.perform(proposals.into_iter().map(DbOp::Commit));
    }

    pub fn perform(&self, ops: impl IntoIterator<Item = DbOp>) -> Vec<Note> {
        let mut notes = Vec::new();
        let mut db = write(&self.db);
        db.perform(self.now(), ops, &mut Vec::new(), &mut notes);
        let is_faulty = db.faults.fault.is_some();
        lock(&self.leader).in_flight.retire(db.last_processed());
        drop(db);
        self.do_late(is_faulty);
        assert_eq!(notes, [], "the digest that prepare predicted is not that of the tree");
        notes
    }

    /// Ends the role; `under_lock` is called before the lock is let go.
    pub fn stop(&self, under_lock: impl FnOnce()) {
        let mut db = write(&self.db);
        db.perform(self.now(), [DbOp::StopServing], &mut Vec::new(), &mut Vec::new());
        under_lock();
        let is_faulty = db.faults.fault.is_some();
        drop(db);
        if is_faulty {
            (self.pause)();
            write(&self.db).stop_late(&mut Vec::new());
        }
    }
}

#[cfg(not(loom))]
impl TestHost {
    pub fn new() -> TestHost {
        TestHost::with_fault(None, || {})
    }

    /// Prepares, commits, and answers `body` as a client's request, alone.
    pub fn ask(&self, outbox: &Arc<Outbox>, xid: i32, body: Request) -> Vec<Sent> {
        for request in self.submit(outbox, &[frame(xid, &body)]) {
            if request.body.op() == op::SYNC {
                self.perform([DbOp::SyncDone { conn: request.conn, xid: request.xid }]);
            } else {
                self.commit(vec![self.prepare(&request)]);
            }
        }
        sent(outbox)
    }

    /// Prepares and commits `body` for session 1; the error, if it becomes one.
    pub fn order(&self, body: Request) -> Result<TxnBody, i32> {
        let proposal = self.propose(SessionId(1), 1, body);
        let body = proposal.txn.body.clone();
        self.commit(vec![proposal]);
        match body {
            TxnBody::Error(error) => Err(error.err),
            body => Ok(body),
        }
    }
}

/// What a client may never see, in words.
pub(super) type Violation = Result<(), String>;

/// What one connection was sent that keeps a one-shot watch on one node: between two replies that differ there is an
/// event, and it comes before the reply that shows its change.
#[derive(Default)]
pub(super) struct WatchedNode {
    /// Of the last reply.
    pub mzxid: Option<Zxid>,
    pub is_armed: bool,
}

impl WatchedNode {
    pub fn see(&mut self, sent: &Sent) -> Violation {
        match sent {
            Sent::Event { zxid, .. } => {
                if self.mzxid.is_some_and(|seen| seen >= *zxid) {
                    return Err(format!("the event of {zxid} came after the reply that shows its change"));
                }
                if !self.is_armed {
                    return Err(format!("the event of {zxid} came without a watch"));
                }
                self.is_armed = false;
            }
            Sent::Reply { body, .. } => {
                let mzxid = DataStat::read(&mut Reader::new(body)).map_err(|error| error.to_string())?.stat.mzxid;
                if self.is_armed && self.mzxid != Some(mzxid) {
                    return Err(format!("from {:?} to {mzxid} without an event", self.mzxid));
                }
                (self.mzxid, self.is_armed) = (Some(mzxid), true);
            }
        }
        Ok(())
    }
}

/// A request's frame, without its length.
pub(super) fn frame(xid: i32, request: &Request) -> Vec<u8> {
    let mut bytes = RequestHeader { xid, op: request.op() }.to_bytes();
    request.write(&mut bytes);
    bytes
}

/// What the connection was sent since the last call.
pub(super) fn sent(outbox: &Outbox) -> Vec<Sent> {
    let mut bytes = Vec::new();
    outbox.take(&mut bytes);
    let mut rest = bytes.as_slice();
    let mut all = Vec::new();
    while let Some((length, later)) = rest.split_first_chunk::<4>() {
        let (frame, later) = later.split_at(u32::from_be_bytes(*length) as usize);
        rest = later;
        let mut body = Reader::new(frame);
        let header = ReplyHeader::read(&mut body).unwrap();
        all.push(if header.xid == NOTIFICATION_XID {
            let event = WatcherEvent::read(&mut body).unwrap();
            Sent::Event { zxid: header.zxid, kind: event.kind, path: event.path }
        } else {
            Sent::Reply { header, body: body.rest().to_vec() }
        });
    }
    all
}

pub(super) fn create(path: &str, flags: i32) -> Request {
    create_with(path, b"", flags)
}

pub(super) fn create_with(path: &str, data: &[u8], flags: i32) -> Request {
    Request::Create(create_body(path, data, flags))
}

pub(super) fn create_body(path: &str, data: &[u8], flags: i32) -> CreateRequest {
    let open = RequestAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) };
    CreateRequest { path: Some(path.into()), data: Some(data.to_vec()), acl: Some(vec![open]), flags }
}

pub(super) fn set(path: &str, data: &[u8]) -> Request {
    Request::SetData(SetDataRequest { path: Some(path.into()), data: Some(data.to_vec()), version: -1 })
}

pub(super) fn get(path: &str, watch: bool) -> Request {
    Request::GetData(PathWatch { path: Some(path.into()), watch })
}
