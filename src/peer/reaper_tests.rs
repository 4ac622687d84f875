//! A standalone server in virtual time: what is reaped and when, what quotas have to say, and how many sessions end.

use super::io::{ClientRequest, ConnId, DiskOp, Effects, Input, Loaded, Note, Now};
use super::sessions::EXPIRED_PER_STEP_MAX;
use super::settings::{NodeSettings, Settings};
use super::test_host::{create, create_body, create_with};
use super::{Boot, Database, PeerConfig, QuorumPeer, ReaperConfig};
use crate::records::{
    Configuration, CreateRequest, CreateSessionRequest, CreateTtlRequest, Epoch, ForwardedBody, Id, PathVersion,
    Request, SessionId, SetDataRequest, Zxid,
};
use crate::tree::DataTree;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The session that asks: it is there from the start.
const SESSION: SessionId = SessionId(1);

struct Standalone {
    peer: QuorumPeer,
    db: Database,
    micros: u64,
    notes: Vec<Note>,
}

impl Standalone {
    fn new(reaper: ReaperConfig, nodes: NodeSettings) -> Standalone {
        let config = PeerConfig {
            max_session_timeout_ms: i32::MAX,
            reaper,
            ..PeerConfig::new(None, Configuration::default(), 1000)
        };
        let boot = Boot {
            accepted_epoch: Epoch(0),
            current_epoch: Epoch(0),
            last_logged: Zxid::ZERO,
            recent: Vec::new(),
            replayed: 0,
        };
        let (tree, sessions) = (DataTree::new(), BTreeMap::from([(SESSION, i32::MAX)]));
        let mut db = Database::new(Loaded {
            tree,
            sessions,
            last_zxid: Zxid::ZERO,
            recent: Vec::new(),
            digests: Default::default(),
        });
        db.set_settings(Settings { nodes, ..Settings::default() });
        let peer = QuorumPeer::new(config, boot);
        let mut server = Standalone { peer, db, micros: 0, notes: Vec::new() };
        let mut out = Effects::default();
        server.peer.start(server.now(), &server.db, &mut out);
        server.perform(out);
        server
    }

    fn now(&self) -> Now {
        Now { micros: self.micros, wall_ms: (self.micros / 1000) as i64 }
    }

    fn step(&mut self, input: Input) {
        let mut out = Effects::default();
        self.peer.step(self.now(), input, &self.db, &mut out);
        self.perform(out);
    }

    /// The disk is done at once.
    fn perform(&mut self, mut out: Effects) {
        let now = self.now();
        self.notes.append(&mut out.notes);
        self.db.perform(now, out.db, &mut Vec::new(), &mut self.notes);
        for op in out.disk {
            if let DiskOp::Append { generation, proposals } = op
                && let Some(last) = proposals.last()
            {
                self.step(Input::Flushed { generation, up_to: last.zxid() });
            }
        }
    }

    fn ask(&mut self, body: Request) {
        self.ask_as(SESSION, body);
    }

    fn ask_as(&mut self, session: SessionId, body: Request) {
        let auth: Arc<[Id]> = Arc::from([Id::new("ip", "127.0.0.1")]);
        let body = ForwardedBody::Request(body);
        self.step(Input::Requests(vec![ClientRequest { conn: ConnId(1), session, xid: 1, body, auth }]));
    }

    fn run_until(&mut self, ms: u64) {
        while let Some(at) = self.peer.next_wakeup().filter(|at| *at <= ms * 1000) {
            self.micros = self.micros.max(at);
            self.step(Input::Wakeup);
        }
        self.micros = ms * 1000;
    }

    fn has(&self, path: &str) -> bool {
        self.db.tree().get(path).is_some()
    }

    fn there<'p>(&self, paths: &[&'p str]) -> Vec<&'p str> {
        paths.iter().copied().filter(|path| self.has(path)).collect()
    }

    fn container(&mut self, path: &str) {
        self.ask(Request::CreateContainer(create_body(path, b"", 4)));
        assert!(self.has(path));
    }

    fn ttl(&mut self, path: &str, ttl_ms: i64) {
        let CreateRequest { path: at, data, acl, .. } = create_body(path, b"", 5);
        self.ask(Request::CreateTtl(CreateTtlRequest { path: at, data, acl, flags: 5, ttl_ms }));
        assert!(self.has(path));
    }

    fn delete(&mut self, path: &str) {
        self.ask(Request::Delete(PathVersion { path: Some(path.into()), version: -1 }));
    }

    fn set(&mut self, path: &str, data: &[u8]) {
        self.ask(Request::SetData(SetDataRequest { path: Some(path.into()), data: Some(data.into()), version: -1 }));
    }
}

fn with_ttl() -> NodeSettings {
    NodeSettings { extended_types: true, ..NodeSettings::default() }
}

#[test]
fn containers_go_when_they_are_empty_again_and_ttl_nodes_when_their_time_is_over() {
    let mut server = Standalone::new(ReaperConfig::default(), with_ttl());
    for path in ["/new", "/used", "/full"] {
        server.container(path);
    }
    for path in ["/short", "/written", "/parent"] {
        server.ttl(path, 50_000);
    }
    server.ttl("/long", 90_000);
    for path in ["/used/x", "/full/x", "/parent/x"] {
        server.ask(create(path, 0));
    }
    server.delete("/used/x");
    server.run_until(30_000);
    server.set("/written", b"again");
    let all = ["/new", "/used", "/full", "/short", "/written", "/parent", "/long"];
    server.run_until(59_999);
    assert_eq!(server.there(&all), all, "nothing before the first check");
    server.run_until(61_000);
    assert_eq!(server.there(&all), ["/new", "/full", "/written", "/parent", "/long"]);
    server.delete("/full/x");
    server.run_until(121_000);
    assert_eq!(server.there(&all), ["/new", "/parent"], "a check a minute; one with children stays");
    server.delete("/parent/x");
    server.run_until(181_000);
    assert_eq!(server.there(&all), ["/new"], "and a container that was never used, for ever");
    assert_eq!(server.notes.iter().filter(|note| matches!(note, Note::DigestMismatch { .. })).count(), 0);
}

#[test]
fn containers_that_were_never_used_go_where_they_are_given_a_time() {
    let reaper = ReaperConfig { check_interval_ms: 1000, max_never_used_ms: 2500, ..ReaperConfig::default() };
    let mut server = Standalone::new(reaper, with_ttl());
    server.container("/new");
    server.run_until(2900);
    assert!(server.has("/new"));
    server.run_until(3000);
    assert!(!server.has("/new"));
}

#[test]
fn so_many_in_a_minute_and_what_is_written_to_meanwhile_stays() {
    let reaper = ReaperConfig { check_interval_ms: 1000, max_per_minute: 60, ..ReaperConfig::default() };
    let mut server = Standalone::new(reaper, with_ttl());
    let paths = ["/1", "/2", "/3", "/4"];
    for path in paths {
        server.ttl(path, 500);
    }
    for (ms, left) in [(1000, 3), (1999, 3), (2000, 2), (2999, 2)] {
        server.run_until(ms);
        assert_eq!(server.there(&paths).len(), left, "at {ms} ms");
    }
    let kept = server.there(&paths);
    for path in &kept {
        server.set(path, b"kept");
    }
    server.run_until(3400);
    assert_eq!(server.there(&paths), kept, "found before it was written to, and not removed");
    server.run_until(10_000);
    assert_eq!(server.there(&paths), Vec::<&str>::new());
}

#[test]
fn many_are_looked_at_some_at_a_time_and_all_that_is_due_goes() {
    let reaper = ReaperConfig { check_interval_ms: 1000, max_per_minute: u32::MAX, ..ReaperConfig::default() };
    let mut server = Standalone::new(reaper, with_ttl());
    for n in 0..3000 {
        server.ttl(&format!("/{n:04}"), if n % 3 == 0 { 500 } else { 1 << 30 });
    }
    let before = server.db.last_processed();
    server.micros = 1_000_000;
    server.step(Input::Wakeup);
    assert!(server.db.last_processed().0 - before.0 <= 100, "not all in one step");
    server.run_until(1500);
    assert_eq!(server.db.last_processed().0 - before.0, 1000);
    assert!(!server.has("/2997") && server.has("/2998"));
}

#[test]
fn ttl_nodes_stay_where_nobody_knows_them_and_everything_where_nobody_looks() {
    let mut server = Standalone::new(ReaperConfig::default(), with_ttl());
    server.ttl("/t", 1);
    server.db.set_settings(Settings::default());
    server.run_until(200_000);
    assert!(server.has("/t"));

    let off = ReaperConfig { check_interval_ms: 0, ..ReaperConfig::default() };
    let mut server = Standalone::new(off, with_ttl());
    server.ttl("/t", 1);
    server.run_until(200_000);
    assert!(server.has("/t"));
}

#[test]
fn a_soft_limit_is_told_and_a_hard_one_refuses_only_if_quotas_are_enforced() {
    for enforce_quota in [true, false] {
        let nodes = NodeSettings { enforce_quota, ..NodeSettings::default() };
        let mut server = Standalone::new(ReaperConfig::default(), nodes);
        server.ask(create("/a", 0));
        for (path, data) in [
            ("/zookeeper/quota/a", ""),
            ("/zookeeper/quota/a/zookeeper_limits", "count=2,bytes=-1=;byteHardLimit=3"),
            ("/zookeeper/quota/a/zookeeper_stats", ""),
        ] {
            server.ask(create_with(path, data.as_bytes(), 0));
        }
        for path in ["/a/1", "/a/2", "/a/3"] {
            server.ask(create(path, 0));
            assert!(server.has(path), "a soft limit refuses nothing");
        }
        server.set("/a", b"1234");
        let is_there = server.db.tree().get("/a").unwrap().data() == Some(b"1234");
        assert_eq!(is_there, !enforce_quota);
        let told: Vec<String> =
            server.notes.iter().map(Note::to_string).filter(|note| note.contains("Quota")).collect();
        let soft = "Quota exceeded: /a [current count=3, softCountLimit=2]";
        assert_eq!(told, if enforce_quota { vec![soft] } else { vec![] }, "one line in fifteen seconds");
        server.run_until(15_000);
        server.set("/a", b"1234");
        let told = server.notes.last().map(Note::to_string).unwrap_or_default();
        let hard = "Quota exceeded: /a [current bytes=4, hardByteLimit=3]; 2 such lines were left out before it";
        assert_eq!(told == hard, enforce_quota, "{told}");
    }
}

/// All of them at once would keep everything else waiting; ZooKeeper's leader ends them on a thread of its own.
#[test]
fn sessions_that_end_together_end_in_parts() {
    let mut server = Standalone::new(ReaperConfig::default(), NodeSettings::default());
    let many = 2 * EXPIRED_PER_STEP_MAX + 1;
    for session in (2..).map(SessionId).take(many) {
        server.ask_as(session, Request::CreateSession(CreateSessionRequest { timeout_ms: 4000 }));
        server.ask_as(session, create(&format!("/{session}"), 1));
    }
    server.run_until(4999);
    assert_eq!(server.db.tree().ephemeral_count(), many);
    server.micros = 5_000_000;
    let mut parts = Vec::new();
    while server.peer.next_wakeup().is_some_and(|at| at <= server.micros) {
        server.notes.clear();
        server.step(Input::Wakeup);
        parts.push(server.notes.iter().filter(|note| matches!(note, Note::SessionExpired { .. })).count());
    }
    parts.retain(|part| *part > 0);
    assert_eq!(parts, [EXPIRED_PER_STEP_MAX, EXPIRED_PER_STEP_MAX, 1]);
    assert_eq!(server.db.tree().ephemeral_count(), 0);
}
