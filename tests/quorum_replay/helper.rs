//! Another learner of a leader that is replayed: it completes the quorum, and brings the requests of other servers'
//! clients.

use super::world::{Link, PATIENCE, World, decode};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use zabkit::jute::{Reader, Record};
use zabkit::records::*;

pub struct Helper {
    id: ServerId,
    epoch: Epoch,
    last: Zxid,
    joined: Option<Joined>,
    /// It says of these that they live, however long a slow machine takes.
    sessions: Arc<Mutex<BTreeSet<SessionId>>>,
}

struct Joined {
    to_leader: std::net::TcpStream,
    /// Session and cxid of what is committed.
    commits: Receiver<(SessionId, i32)>,
}

impl Helper {
    /// A server whose log ends with `last`, before `epoch`.
    pub fn new(id: ServerId, epoch: Epoch, last: Zxid) -> Helper {
        Helper { id, epoch, last, joined: None, sessions: Arc::default() }
    }

    /// Keeps a session from ending while its client is silent.
    pub fn keep(&self, session: SessionId) {
        self.sessions.lock().unwrap().insert(session);
    }

    /// Follows the leader, and is synchronised when this returns.
    pub fn join(&mut self, world: &World) -> Result<(), String> {
        if self.joined.is_some() {
            return Ok(());
        }
        let mut link = world.connect();
        let accepted_epoch = Epoch(self.epoch.0 - 1);
        let info = LearnerInfo { server: self.id, protocol_version: PROTOCOL_VERSION, config_version: 0 };
        link.send_packet(&QuorumPacket::FollowerInfo { accepted_epoch, info });
        link.next()?;
        link.send_packet(&QuorumPacket::AckEpoch { last_logged: self.last, current_epoch: Some(accepted_epoch) });
        let to_leader = link.stream.try_clone().unwrap();
        let (sender, commits) = channel();
        let (up, is_up) = channel();
        let sessions = self.sessions.clone();
        std::thread::spawn(move || follow(link, &sessions, &up, &sender));
        is_up.recv_timeout(PATIENCE).map_err(|_| "the helper is not synchronised".to_owned())?;
        self.joined = Some(Joined { to_leader, commits });
        Ok(())
    }

    /// Sends a client's request.
    pub fn begin(&mut self, request: ForwardedRequest) -> Result<(), String> {
        self.keep(request.session);
        let joined = self.joined.as_mut().expect("it has joined");
        let mut bytes = Vec::new();
        QuorumPacket::Request(request).write(&mut bytes);
        joined.to_leader.write_all(&bytes).map_err(|error| error.to_string())
    }

    /// Sends a client's request, and waits until it is committed.
    pub fn ask(&mut self, request: ForwardedRequest) -> Result<(), String> {
        let wanted = (request.session, request.cxid);
        self.begin(request)?;
        let joined = self.joined.as_ref().expect("it has joined");
        loop {
            match joined.commits.recv_timeout(PATIENCE) {
                Ok(committed) if committed == wanted => return Ok(()),
                Ok(_) => {}
                Err(_) => return Err(format!("{wanted:?} is not committed")),
            }
        }
    }
}

/// Acknowledges all that comes, until the leader is gone.
fn follow(mut link: Link, sessions: &Mutex<BTreeSet<SessionId>>, up: &Sender<()>, commits: &Sender<(SessionId, i32)>) {
    let mut waiting = Vec::new();
    let mut in_snapshot = false;
    while let Ok(bytes) = link.next() {
        if std::mem::take(&mut in_snapshot) {
            continue;
        }
        let answer = match decode(&bytes, true) {
            QuorumPacket::Snap { .. } => {
                in_snapshot = true;
                continue;
            }
            QuorumPacket::NewLeader { zxid, .. } => QuorumPacket::Ack { zxid },
            QuorumPacket::UpToDate => {
                let _ = up.send(());
                continue;
            }
            QuorumPacket::Proposal { zxid, txn } => {
                let txn = Txn::read(&mut Reader::new(&txn)).expect("a transaction");
                waiting.push((zxid, txn.session, txn.cxid));
                QuorumPacket::Ack { zxid }
            }
            QuorumPacket::Commit { zxid } | QuorumPacket::CommitAndActivate { zxid, .. } => {
                waiting.retain(|(of, session, cxid)| {
                    if *of == zxid {
                        let _ = commits.send((*session, *cxid));
                    }
                    *of != zxid
                });
                continue;
            }
            QuorumPacket::Ping { zxid, .. } => {
                let touched = |session: &SessionId| TouchedSession { session: *session, timeout_ms: 60_000 };
                let touched = sessions.lock().unwrap().iter().map(touched).collect();
                QuorumPacket::Ping { zxid, touched: Some(touched) }
            }
            _ => continue,
        };
        let mut bytes = Vec::new();
        answer.write(&mut bytes);
        if link.stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

pub fn forwarded(session: SessionId, cxid: i32, request: Request) -> ForwardedRequest {
    ForwardedRequest { session, cxid, body: ForwardedBody::Request(request), auth: Vec::new() }
}

/// The request that became this proposal.
pub fn request_of(proposal: &QuorumPacket) -> ForwardedRequest {
    let (QuorumPacket::Proposal { txn, .. } | QuorumPacket::Inform { txn, .. }) = proposal else {
        panic!("{proposal:?}");
    };
    request_of_txn(&Txn::read(&mut Reader::new(txn)).expect("a transaction"))
}

/// The request that became this transaction, where the transaction tells.
pub fn request_of_txn(txn: &Txn) -> ForwardedRequest {
    let request = match txn.body.clone() {
        TxnBody::Delete(body) => Request::Delete(PathVersion { path: Some(body.path), version: -1 }),
        TxnBody::Error(_) => return refused(txn.session, txn.cxid),
        TxnBody::CreateSession(body) => Request::CreateSession(CreateSessionRequest { timeout_ms: body.timeout_ms }),
        TxnBody::CloseSession { .. } => Request::CloseSession,
        TxnBody::Create(body) => create(&body.path, body.data.as_deref().unwrap_or_default(), body.ephemeral),
        TxnBody::Create2(body) => match create(&body.path, body.data.as_deref().unwrap_or_default(), body.ephemeral) {
            Request::Create(create) => Request::Create2(create),
            other => other,
        },
        TxnBody::CreateTtl(body) => {
            let acl = Some(body.acl.iter().map(RequestAcl::from).collect());
            let (path, data, ttl_ms) = (Some(body.path), body.data, body.ttl_ms);
            Request::CreateTtl(CreateTtlRequest { path, data, acl, flags: 5, ttl_ms })
        }
        // Who is told of it says what was asked for.
        _ => return refused(txn.session, txn.cxid),
    };
    forwarded(txn.session, txn.cxid, request)
}

/// The beginning of the session that is behind a proposal.
pub fn session_of(proposal: &QuorumPacket) -> ForwardedRequest {
    let of = request_of(proposal);
    forwarded(of.session, 0, Request::CreateSession(CreateSessionRequest { timeout_ms: 10_000 }))
}

/// As many requests of one session as there are zxids up to `last`, with so many nodes below the root.
pub fn filler(last: Zxid, nodes: i32) -> Vec<ForwardedRequest> {
    let session = SessionId(0x0100_0000_0000_0001);
    let mut requests = vec![forwarded(session, 0, Request::CreateSession(CreateSessionRequest { timeout_ms: 60_000 }))];
    for cxid in 1..last.counter() as i32 {
        let request = match cxid <= nodes {
            true => create(&format!("/p{cxid}"), b"", false),
            false => Request::SetData(SetDataRequest { path: Some("/p1".into()), data: Some(vec![]), version: -1 }),
        };
        requests.push(forwarded(session, cxid, request));
    }
    requests
}

/// A request that becomes an error: what it would create is there.
pub fn refused(session: SessionId, cxid: i32) -> ForwardedRequest {
    forwarded(session, cxid, create("/zookeeper", b"", false))
}

pub fn create_request(path: &str, data: &[u8]) -> CreateRequest {
    let Request::Create(create) = create(path, data, false) else { panic!("create makes a create") };
    create
}

fn create(path: &str, data: &[u8], is_ephemeral: bool) -> Request {
    let acl = vec![RequestAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) }];
    let flags = i32::from(is_ephemeral);
    Request::Create(CreateRequest { path: Some(path.into()), data: Some(data.to_vec()), acl: Some(acl), flags })
}
