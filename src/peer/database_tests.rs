//! What connections get to see beside the recorded conversations: parked requests, ends of connections, bounds.

use super::digests::Digests;
use super::io::{ConnId, DbOp, Note, Proposal};
use super::test_host::{Sent, TestHost, create, create_with, frame, get, sent, set};
use super::{
    ConnEnd, ConnPhase, OUTPUT_BYTES_BUSY, OUTPUT_BYTES_MAX, Outbox, RequestLimits, Settings, TURN_FRAMES_MAX,
    WAITING_MAX,
};
use crate::jute::{Reader, Record};
use crate::records::{
    AuthRequest, ConnectRequest, ConnectResponse, DataStat, ErrorCode, ForwardedBody, MultiOp, MultiRequest, PathOnly,
    PathWatch, Request, RequestHeader, SessionId, TxnBody, Zxid, op, session_password,
};
use crate::sync::{read, write};
use std::sync::Arc;

fn xids(sent: &[Sent]) -> Vec<i32> {
    sent.iter().map(|sent| sent.header().xid).collect()
}

fn version(sent: &Sent) -> i32 {
    let Sent::Reply { body, .. } = sent else { panic!("{sent:?} is no reply") };
    DataStat::read(&mut Reader::new(body)).unwrap().stat.version
}

fn sync(path: &str) -> Request {
    Request::Sync(PathOnly { path: Some(path.into()) })
}

#[test]
fn reads_wait_behind_their_sessions_writes_only_and_answers_keep_the_order() {
    let host = TestHost::new();
    let (one, two) = (host.connect(1), host.connect(2));
    host.ask(&two, 1, create("/n", 0));
    let batch = [
        frame(1, &get("/n", false)),
        frame(2, &set("/n", b"x")),
        frame(3, &get("/n", false)),
        frame(9, &Request::Ping),
        frame(4, &set("/n", b"y")),
        frame(5, &get("/n", false)),
        frame(6, &sync("/s")),
        frame(7, &get("/n", false)),
    ];
    let forward = host.submit(&one, &batch);
    assert_eq!(forward.iter().map(|request| request.xid).collect::<Vec<_>>(), [2, 4, 6], "writes do not wait");
    assert_eq!(xids(&sent(&one)), [1]);
    assert_eq!(xids(&host.ask(&two, 2, get("/n", false))), [2], "other sessions do not wait");

    let proposals = vec![host.prepare(&forward[0]), host.prepare(&forward[1])];
    host.commit(proposals);
    let answers = sent(&one);
    assert_eq!(xids(&answers), [2, 3, -2, 4, 5]);
    assert_eq!((version(&answers[1]), version(&answers[4])), (1, 2), "each read sees the writes before it");
    host.perform([DbOp::SyncDone { conn: ConnId(1), xid: 6 }]);
    assert_eq!(xids(&sent(&one)), [6, 7]);
}

#[test]
fn an_event_of_the_own_write_comes_before_its_answer() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    host.ask(&outbox, 1, create("/n", 0));
    host.ask(&outbox, 2, get("/n", true));
    let answers = host.ask(&outbox, 3, set("/n", b"x"));
    assert!(
        matches!(&answers[0], Sent::Event { zxid, kind: 3, path } if path == "/n" && *zxid == answers[1].header().zxid)
    );
    assert_eq!(xids(&answers[1..]), [3]);
}

#[test]
fn an_event_is_not_told_to_who_may_not_read_the_node() {
    let host = TestHost::new();
    let (one, two) = (host.connect(1), host.connect(2));
    let exists = Request::Exists(crate::records::PathWatch { path: Some("/secret".into()), watch: true });
    assert_eq!(host.ask(&one, 1, exists)[0].header().err, -101);
    let Request::Create(mut body) = create("/secret", 0) else { unreachable!() };
    body.acl.as_mut().unwrap()[0].perms = 4;
    host.ask(&two, 1, Request::Create(body));
    assert_eq!(sent(&one), []);
}

#[test]
fn operations_that_are_none_are_refused_in_their_turn_and_end_the_connection() {
    for op in [op::CHECK, op::DELETE_CONTAINER, op::CREATE_SESSION, op::NOTIFICATION, op::ERROR, 999] {
        let host = TestHost::new();
        let outbox = host.connect(1);
        let mut bad = RequestHeader { xid: 2, op }.to_bytes();
        bad.extend([0; 64]);
        let forward = host.submit(&outbox, &[frame(1, &create("/a", 0)), bad, frame(3, &get("/", false))]);
        host.commit(vec![host.prepare(&forward[0])]);
        let answers = sent(&outbox);
        assert_eq!(xids(&answers), [1, 2], "operation {op}");
        assert_eq!((answers[1].header().zxid, answers[1].header().err), (Zxid::NONE, -6));
        assert!(outbox.is_closing());
    }
}

#[test]
fn requests_that_cannot_be_decoded_are_answered_and_the_session_goes_on() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    let cut = |op| RequestHeader { xid: 1, op }.to_bytes();
    for op in [op::CREATE, op::SET_DATA, op::MULTI, op::GET_DATA, op::SET_WATCHES2] {
        assert!(host.submit(&outbox, &[cut(op)]).is_empty(), "nothing is proposed");
        assert_eq!(sent(&outbox)[0].header().err, -5);
    }
    assert!(host.submit(&outbox, &[vec![0, 0, 0]]).is_empty());
    assert!(outbox.is_closing(), "without a header there is nothing to answer");
}

#[test]
fn auth_is_answered_at_once_and_counts_for_what_comes_after_it() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    let auth = |scheme: &str| {
        let (scheme, auth) = (Some(scheme.to_owned()), Some(b"user:pass".to_vec()));
        frame(-4, &Request::Auth(AuthRequest { kind: 0, scheme, auth }))
    };
    let forward = host.submit(&outbox, &[frame(1, &create("/a", 0)), auth("digest"), frame(2, &create("/b", 0))]);
    assert_eq!(xids(&sent(&outbox)), [-4], "it overtakes");
    let schemes = |at: usize| forward[at].auth.iter().map(|id| id.scheme.as_str()).collect::<Vec<_>>();
    assert_eq!((schemes(0), schemes(1)), (vec!["ip"], vec!["ip", "digest"]));
    host.submit(&outbox, &[auth("nonsense")]);
    let refusal = sent(&outbox);
    assert_eq!((refusal[0].header().err, refusal[0].header().zxid), (-115, Zxid::ZERO));
    assert!(outbox.is_closing());
}

#[test]
fn a_moved_sessions_write_ends_the_connection_without_an_answer() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    let forward = host.submit(&outbox, &[frame(1, &create("/a", 0)), frame(2, &get("/", false))]);
    let mut proposal = host.prepare(&forward[0]);
    let mut txn = (*proposal.txn).clone();
    (txn.body, txn.digest) = (TxnBody::Error(crate::records::ErrorTxn { err: -118 }), None);
    proposal.txn = Arc::new(txn);
    host.perform([DbOp::Commit(proposal)]);
    assert_eq!((sent(&outbox), outbox.is_closing()), (vec![], true));
}

#[test]
fn an_expired_session_ends_silently_and_a_closed_one_with_an_answer() {
    let host = TestHost::new();
    let (one, two) = (host.connect(1), host.connect(2));
    host.commit(vec![host.propose(SessionId(1), 0, Request::CloseSession)]);
    assert_eq!((sent(&one), one.is_closing()), (vec![], true));
    let answers = host.ask(&two, 0, Request::CloseSession);
    assert_eq!((xids(&answers), two.is_closing()), (vec![0], true));
    assert!(read(&host.db).sessions().is_empty());
}

#[test]
fn a_commit_of_a_former_connection_answers_nothing_of_the_new_one() {
    let host = TestHost::new();
    let former = host.connect(1);
    let lost = host.submit(&former, &[frame(5, &create("/a", 0))]);
    let outbox = Outbox::new(ConnId(7), [127, 0, 0, 1].into());
    read(&host.db).attach(outbox.clone());
    let (conn, session) = (ConnId(7), SessionId(1));
    host.perform([
        DbOp::BindSession { conn, session, timeout_ms: 4000 },
        DbOp::SessionRenewed { conn, session, valid: true, after: Zxid::NONE },
    ]);
    assert!(former.is_closing(), "a session has one connection");
    outbox.take(&mut Vec::new());
    let forward = host.submit(&outbox, &[frame(6, &create("/b", 0)), frame(7, &get("/b", false))]);
    host.commit(vec![host.prepare(&lost[0])]);
    assert_eq!(sent(&outbox), []);
    host.commit(vec![host.prepare(&forward[0])]);
    assert_eq!(xids(&sent(&outbox)), [6, 7]);
}

/// What a client gets for its connect request.
fn connect(host: &TestHost, number: u64, request: &ConnectRequest) -> (Arc<Outbox>, Option<ConnectRequest>) {
    let outbox = Outbox::new(ConnId(number), [127, 0, 0, 1].into());
    let db = read(&host.db);
    db.attach(outbox.clone());
    let request = db.connect(&outbox, &request.to_bytes(), host.now());
    (outbox, request)
}

fn connect_request() -> ConnectRequest {
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid(0),
        timeout_ms: 5000,
        session: SessionId(0),
        password: None,
        read_only: None,
    }
}

fn response(outbox: &Outbox) -> ConnectResponse {
    let mut bytes = Vec::new();
    outbox.take(&mut bytes);
    ConnectResponse::from_bytes(&bytes[4..]).unwrap()
}

#[test]
fn the_connect_response_has_the_read_only_byte_only_if_asked() {
    for read_only in [None, Some(true), Some(false)] {
        let host = TestHost::new();
        let (outbox, request) = connect(&host, 1, &ConnectRequest { read_only, ..connect_request() });
        assert!(request.is_some());
        let (conn, session) = (ConnId(1), SessionId(0x100));
        host.perform([
            DbOp::BindSession { conn, session, timeout_ms: 4000 },
            DbOp::SessionRenewed { conn, session, valid: true, after: Zxid::NONE },
        ]);
        let response = response(&outbox);
        assert_eq!((response.timeout_ms, response.session), (4000, session));
        assert_eq!(response.password, session_password(session));
        assert_eq!(response.read_only, read_only.map(|_| false));
        assert_eq!(outbox.phase(), ConnPhase::Open);
    }
}

#[test]
fn a_refused_session_gets_the_zero_response_and_the_end() {
    let host = TestHost::new();
    let (outbox, _) = connect(&host, 1, &connect_request());
    let (conn, session) = (ConnId(1), SessionId(9));
    host.perform([
        DbOp::BindSession { conn, session, timeout_ms: 4000 },
        DbOp::SessionRenewed { conn, session, valid: false, after: Zxid::NONE },
    ]);
    assert_eq!(response(&outbox), ConnectResponse::refused(None));
    assert!(outbox.is_closing());
}

#[test]
fn a_session_that_ends_while_it_is_being_renewed_is_refused() {
    let host = TestHost::new();
    let (outbox, _) = connect(&host, 1, &connect_request());
    let (conn, session) = (ConnId(1), SessionId(9));
    let body = TxnBody::CloseSession { paths: Some(Vec::new()) };
    let close = Proposal::new(crate::records::Txn { session, cxid: 0, zxid: Zxid(1), time_ms: 0, body, digest: None });
    host.perform([
        DbOp::BindSession { conn, session, timeout_ms: 4000 },
        DbOp::Commit(close),
        DbOp::SessionRenewed { conn, session, valid: false, after: Zxid::NONE },
    ]);
    assert_eq!(response(&outbox), ConnectResponse::refused(None));
    assert!(outbox.is_closing());
}

#[test]
fn who_has_seen_a_newer_state_or_comes_when_nothing_is_served_is_closed_without_a_word() {
    let host = TestHost::new();
    let ahead = ConnectRequest { last_zxid_seen: Zxid(1), ..connect_request() };
    let (outbox, request) = connect(&host, 1, &ahead);
    assert_eq!((request, sent(&outbox), outbox.is_closing()), (None, vec![], true));
    host.perform([DbOp::StopServing]);
    let (outbox, request) = connect(&host, 2, &connect_request());
    assert_eq!((request, sent(&outbox), outbox.is_closing()), (None, vec![], true));
}

#[test]
fn frames_behind_the_connect_request_are_left_for_later() {
    let host = TestHost::new();
    let (outbox, _) = connect(&host, 1, &connect_request());
    let ping = frame(-2, &Request::Ping);
    assert_eq!(read(&host.db).submit(&outbox, &[&ping], host.now(), &mut Vec::new()), 0);
}

#[test]
fn the_end_of_a_role_drops_what_is_parked_and_takes_the_watches() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    host.ask(&outbox, 1, create("/n", 0));
    host.ask(&outbox, 2, get("/n", true));
    let forward = host.submit(&outbox, &[frame(3, &set("/n", b"x")), frame(4, &get("/n", false))]);
    host.perform([DbOp::StopServing]);
    host.commit(vec![host.prepare(&forward[0])]);
    assert_eq!((sent(&outbox), outbox.is_closing()), (vec![], true));
    assert_eq!(read(&host.db).stats().watches.data, 0);
}

#[test]
fn a_parked_read_is_not_answered_after_the_lease() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    let forward = host.submit(&outbox, &[frame(1, &create("/n", 0)), frame(2, &get("/n", false))]);
    host.clock.store(1_000_000, crate::sync::atomic::Ordering::SeqCst);
    host.commit(vec![host.prepare(&forward[0])]);
    assert_eq!((xids(&sent(&outbox)), outbox.is_closing()), (vec![1], true));
    host.perform([DbOp::ExtendLease { until_micros: 2_000_000 }]);
    assert!(read(&host.db).may_serve(host.now()));
}

#[test]
fn no_request_is_taken_from_a_connection_with_too_many_without_an_answer() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    let one = frame(1, &create("/n", 0));
    let frames = vec![one.as_slice(); TURN_FRAMES_MAX];
    let db = read(&host.db);
    let mut forward = Vec::new();
    let mut taken = 0;
    while let frames @ 1.. = db.submit(&outbox, &frames, host.now(), &mut forward) {
        taken += frames;
    }
    assert_eq!((taken, forward.len(), db.stats().outstanding), (WAITING_MAX, WAITING_MAX, WAITING_MAX));
    let big = frame(1, &create_with("/n", &vec![0; 1_000_000], 0));
    let outbox = {
        drop(db);
        host.connect(2)
    };
    write(&host.db).set_settings(Settings {
        requests: RequestLimits { outstanding_max: 2000, ..RequestLimits::default() },
        ..Settings::default()
    });
    let db = read(&host.db);
    let turns = (0..20).take_while(|_| db.submit(&outbox, &[big.as_slice(); 20], host.now(), &mut forward) == 1);
    assert_eq!(turns.count(), 5, "4 MiB and one");
}

#[test]
fn a_client_that_does_not_read_its_answers_is_disconnected_not_robbed_of_one() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    host.ask(&outbox, 1, create_with("/big", &vec![0; 1_000_000], 0));
    let read_big = frame(3, &get("/big", false));
    let db = read(&host.db);
    let turns =
        (0..50).take_while(|_| db.submit(&outbox, &[read_big.as_slice(); 50], host.now(), &mut Vec::new()) == 1);
    assert_eq!(turns.count(), 2, "beyond 1 MiB the others wait");
    drop(db);
    // Reads in front of a write of their session cannot wait when it is done: they must not see it.
    let outbox = host.connect(2);
    let mut batch = vec![frame(2, &create("/n", 0))];
    batch.extend(vec![read_big; 50]);
    batch.push(frame(4, &set("/n", b"x")));
    let forward = host.submit(&outbox, &batch);
    host.commit(forward.iter().map(|request| host.prepare(request)).collect());
    let mut bytes = Vec::new();
    assert!(outbox.take(&mut bytes), "the connection is closed");
    assert!(bytes.len() <= OUTPUT_BYTES_MAX + 1_000_200);
    assert_eq!(outbox.end(), Some(ConnEnd::DoesNotRead));
    assert_eq!(read(&host.db).stats().outstanding, 0);
}

/// Takes what is sent and lets the database go on, until there is nothing more; the xids of the answers.
fn take_all(host: &TestHost, outbox: &Arc<Outbox>) -> Vec<i32> {
    let mut all = Vec::new();
    loop {
        let info = outbox.info();
        let sent = sent(outbox);
        let bytes: usize =
            sent.iter().map(|sent| if let Sent::Reply { body, .. } = sent { body.len() } else { 0 }).sum();
        assert!(bytes < OUTPUT_BYTES_BUSY + 1_000_200, "{bytes} in one hold of the lock");
        if sent.is_empty() {
            assert_eq!((info.phase, info.waiting), (ConnPhase::Open, 0));
            return all;
        }
        all.extend(xids(&sent));
        read(&host.db).submit(outbox, &[], host.now(), &mut Vec::new());
    }
}

#[test]
fn large_reads_behind_a_write_or_a_sync_are_answered_as_fast_as_the_client_takes_the_answers() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    host.ask(&outbox, 1, create_with("/big", &vec![0; 1_000_000], 0));
    for first in [sync("/big"), create("/n", 0)] {
        let mut batch = vec![frame(1, &first)];
        batch.extend((2..=41).map(|xid| frame(xid, &get("/big", false))));
        // Both are done at once.
        batch.push(frame(42, &sync("/")));
        batch.extend((43..=82).map(|xid| frame(xid, &get("/big", false))));
        for request in host.submit(&outbox, &batch) {
            if request.body.op() == op::SYNC {
                host.perform([DbOp::SyncDone { conn: request.conn, xid: request.xid }]);
            } else {
                host.commit(vec![host.prepare(&request)]);
            }
        }
        let outstanding = read(&host.db).stats().outstanding;
        assert_eq!(outstanding, 0, "what only waits for its client is nothing that others have to wait for");
        assert_eq!(take_all(&host, &outbox), (1..=82).collect::<Vec<_>>());
    }
}

#[test]
fn nothing_overtakes_a_read_that_waits_for_its_client() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    host.ask(&outbox, 1, create_with("/n", &vec![0; 1_000_000], 0));
    let mut batch = vec![frame(1, &sync("/"))];
    batch.extend((2..=9).map(|xid| frame(xid, &get("/n", false))));
    host.submit(&outbox, &batch);
    host.perform([DbOp::SyncDone { conn: ConnId(1), xid: 1 }]);
    let write = frame(10, &create("/behind", 0));
    let behind: [&[u8]; 2] = [&write, &frame(11, &Request::Ping)];
    let (db, mut forward) = (read(&host.db), Vec::new());
    assert_eq!(db.submit(&outbox, &behind, host.now(), &mut forward), 0);
    let mut answers = Vec::new();
    while forward.is_empty() {
        let sent = sent(&outbox);
        assert!(!sent.is_empty(), "it goes on");
        answers.extend(xids(&sent));
        db.submit(&outbox, &behind, host.now(), &mut forward);
    }
    drop(db);
    host.commit(vec![host.prepare(&forward[0])]);
    answers.extend(xids(&sent(&outbox)));
    assert_eq!(answers, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, -2]);
}

#[test]
fn a_read_that_waits_for_its_client_does_not_see_the_next_write_of_its_session() {
    for end in [set("/n", b"y"), Request::CloseSession] {
        let host = TestHost::new();
        let outbox = host.connect(1);
        host.ask(&outbox, 1, create_with("/n", &vec![0; 1_000_000], 1));
        let mut batch = vec![frame(1, &create("/first", 0))];
        batch.extend((2..=9).map(|xid| frame(xid, &get("/n", false))));
        batch.push(frame(10, &end));
        let forward = host.submit(&outbox, &batch);
        host.commit(forward.iter().map(|request| host.prepare(request)).collect());
        let answers = sent(&outbox);
        assert_eq!(xids(&answers), (1..=10).collect::<Vec<_>>());
        let seen: Vec<_> = answers[1..9].iter().map(|sent| (sent.header().err, version(sent))).collect();
        assert_eq!(seen, [(0, 0); 8]);
        let zxids: Vec<Zxid> = answers.iter().map(|sent| sent.header().zxid).collect();
        assert!(zxids.is_sorted() && zxids[8] < zxids[9], "{zxids:?}");
        assert_eq!(outbox.is_closing(), end == Request::CloseSession);
    }
}

#[test]
fn what_waits_for_its_client_ends_with_the_role_and_the_lease() {
    for ends in [false, true] {
        let host = TestHost::new();
        let outbox = host.connect(1);
        host.ask(&outbox, 1, create_with("/n", &vec![0; 1_000_000], 0));
        let mut batch = vec![frame(1, &sync("/"))];
        batch.extend((2..=9).map(|xid| frame(xid, &get("/n", false))));
        host.submit(&outbox, &batch);
        host.perform([DbOp::SyncDone { conn: ConnId(1), xid: 1 }]);
        assert_eq!(xids(&sent(&outbox)), [1, 2, 3]);
        if ends {
            host.perform([DbOp::StopServing]);
        } else {
            host.clock.store(1_000_000, crate::sync::atomic::Ordering::SeqCst);
        }
        read(&host.db).submit(&outbox, &[], host.now(), &mut Vec::new());
        assert_eq!((sent(&outbox), outbox.is_closing(), outbox.info().waiting), (vec![], true, 0));
    }
}

#[test]
fn a_multi_read_does_not_make_much_of_little() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    host.ask(&outbox, 1, create_with("/big", &vec![0; 1_000_000], 0));
    let one = MultiOp::GetData(PathWatch { path: Some("/big".into()), watch: false });
    let ask = |xid, n| frame(xid, &Request::MultiRead(MultiRequest { ops: vec![one.clone(); n] }));
    let answer = |xid, n| {
        host.submit(&outbox, &[ask(xid, n)]);
        sent(&outbox).iter().map(|sent| (sent.header().xid, sent.header().err)).collect::<Vec<_>>()
    };
    let headers = [answer(2, 3), answer(3, 1000)].concat();
    assert_eq!(headers, [(2, 0), (3, ErrorCode::MarshallingError.code())]);
}

#[test]
fn a_large_buffer_that_was_sent_does_not_come_back_to_the_outbox() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    host.ask(&outbox, 1, create_with("/big", &vec![0; 1_000_000], 0));
    host.submit(&outbox, &[frame(2, &get("/big", false))]);
    let mut sending = Vec::new();
    outbox.take(&mut sending);
    assert!(sending.len() > 1_000_000);
    sending.clear();
    outbox.take(&mut sending);
    assert!(sending.capacity() > 1_000_000, "whoever sent it can let it go");
}

#[test]
fn a_dirty_outbox_is_told_once_until_it_is_taken_from() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    host.ask(&outbox, 1, create("/n", 0));
    let add = Request::AddWatch(crate::records::AddWatchRequest { path: Some("/n".into()), mode: 0 });
    host.ask(&outbox, 2, add);
    let proposals: Vec<DbOp> = (0..3).map(|_| DbOp::Commit(host.propose(SessionId(5), 0, set("/n", b"")))).collect();
    let mut dirty = Vec::new();
    write(&host.db).perform(host.now(), proposals, &mut dirty, &mut Vec::new());
    assert_eq!(dirty.iter().map(|outbox| outbox.conn()).collect::<Vec<_>>(), [ConnId(1)]);
    assert_eq!(sent(&outbox).len(), 3);
    let proposals = [DbOp::Commit(host.propose(SessionId(5), 0, set("/n", b"")))];
    write(&host.db).perform(host.now(), proposals, &mut dirty, &mut Vec::new());
    assert_eq!(dirty.len(), 2);
}

#[test]
fn a_digest_that_is_not_ours_is_reported() {
    let host = TestHost::new();
    let mut proposal = host.propose(SessionId(1), 1, create("/a", 0));
    let mut txn = (*proposal.txn).clone();
    txn.digest.as_mut().unwrap().digest += 1;
    proposal.txn = Arc::new(txn);
    let mut notes = Vec::new();
    write(&host.db).perform(host.now(), [DbOp::Commit(proposal)], &mut Vec::new(), &mut notes);
    let zxid = Zxid(1);
    assert!(
        matches!(notes[..], [Note::DigestMismatch { zxid: at, expected, actual }] if at == zxid && expected == actual + 1)
    );
}

/// An Apache leader goes on while it sends a snapshot: the transactions behind it are in it in part.
#[test]
fn behind_a_snapshot_digests_are_reported_once_one_has_fitted() {
    let host = TestHost::new();
    write(&host.db).digests = Digests::behind_the_first_that_fits();
    let commit = |wrong: i64, path: &str| {
        let mut proposal = host.propose(SessionId(1), 1, create(path, 0));
        let mut txn = (*proposal.txn).clone();
        txn.digest.as_mut().unwrap().digest += wrong;
        proposal.txn = Arc::new(txn);
        let mut notes = Vec::new();
        write(&host.db).perform(host.now(), [DbOp::Commit(proposal)], &mut Vec::new(), &mut notes);
        notes.len()
    };
    assert_eq!(commit(1, "/in-it-already"), 0);
    assert_eq!(commit(0, "/fits"), 0);
    assert_eq!(commit(1, "/wrong"), 1);
    assert!(read(&host.db).digests().misfits().is_some());
}

#[test]
fn requests_touch_their_session_when_they_arrive_even_if_they_wait() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    host.submit(&outbox, &[frame(1, &create("/n", 0))]);
    read(&host.db).touched();
    host.submit(&outbox, &[frame(-2, &Request::Ping)]);
    assert_eq!(sent(&outbox), [], "the ping waits for its turn");
    let touched = read(&host.db).touched();
    assert_eq!(
        touched.iter().map(|each| (each.session, each.timeout_ms)).collect::<Vec<_>>(),
        [(SessionId(1), 10_000)]
    );
    assert!(read(&host.db).touched().is_empty());
}

#[test]
fn figures_count_frames_latencies_and_what_has_ended() {
    let host = TestHost::new();
    let outbox = host.connect(1);
    let forward = host.submit(&outbox, &[frame(1, &create("/n", 0)), frame(2, &get("/n", false))]);
    host.clock.store(3_001, crate::sync::atomic::Ordering::SeqCst);
    host.commit(vec![host.prepare(&forward[0])]);
    assert!(matches!(&forward[0].body, ForwardedBody::Request(Request::Create(_))));
    let info = outbox.info();
    assert_eq!((info.session, info.waiting, info.stats.last_xid), (SessionId(1), 0, 2));
    read(&host.db).detach(ConnId(1));
    let stats = read(&host.db).stats();
    assert_eq!((stats.connections, stats.total.received, stats.total.answered), (0, 2, 2));
    assert_eq!((stats.total.latency_min_micros, stats.total.latency_max_micros), (3_000, 3_000));
    assert_eq!(stats.last_processed, Zxid(2));
    read(&host.db).reset_stats();
    assert_eq!(read(&host.db).stats().total.answered, 0);
}
