//! What a server has logged it can read again. Each write is pushed to the longest that is taken, the server is killed
//! and started again, and everything is there; a byte more is an error, and nothing of it is logged.
//!
//! `jute.maxbuffer` bounds a request, and with its extra size a transaction; the two differ most where an ACL of the
//! scheme `auth` stands for many ids. Apache logs such a transaction and never starts again.

mod wire;

use std::path::Path;
use std::time::{Duration, Instant};
use wire::Client;
use zabkit::jute::Record;
use zabkit::records::*;
use zabkit::server::{Config, LimitsConfig, Listeners, NodesConfig, Server};

const MAX_BUFFER: usize = 4096;
const EXTRA: usize = 1024;
/// Ids of each connection; an ACL with all of them takes some 1,500 bytes, the request that asks for it 26.
const IDS: usize = 30;

fn start(dir: &Path) -> Server {
    let config = Config {
        data_dir: dir.to_owned(),
        data_log_dir: dir.to_owned(),
        client_addr: Some("127.0.0.1:0".parse().unwrap()),
        tick_time_ms: 200,
        pre_alloc_kib: 64,
        snap_count: 40,
        limits: LimitsConfig {
            max_buffer: MAX_BUFFER as u32,
            max_buffer_extra: Some(EXTRA as u32),
            ..LimitsConfig::default()
        },
        nodes: NodesConfig { extended_types: Some(true), ..NodesConfig::default() },
        ..Config::default()
    };
    let server = Server::start(config, Listeners::default()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut status = server.status();
    while !status.serving {
        assert!(Instant::now() < deadline, "{status:?}");
        status = server.wait_status(status.version, deadline);
    }
    server
}

fn connect(server: &Server) -> Client {
    let mut client = Client::connect(server.client_addr()).unwrap();
    for n in 0..IDS {
        let auth = Some(format!("user{n}:password").into_bytes());
        let request = Request::Auth(AuthRequest { kind: 0, scheme: Some("digest".into()), auth });
        assert_eq!(client.ask(&request).unwrap(), 0);
    }
    client
}

/// Everything that the connection is.
fn mine() -> Option<Vec<RequestAcl>> {
    Some(vec![RequestAcl { perms: 31, scheme: Some("auth".into()), id: Some(String::new()) }])
}

fn data(len: usize) -> Option<Vec<u8>> {
    Some(vec![b'x'; len])
}

fn new(path: &str, len: usize, flags: i32) -> CreateRequest {
    CreateRequest { path: Some(path.into()), data: data(len), acl: mine(), flags }
}

fn with_ttl(path: &str, len: usize) -> CreateTtlRequest {
    CreateTtlRequest { path: Some(path.into()), data: data(len), acl: mine(), flags: 5, ttl_ms: TTL_MS_MAX }
}

fn set(path: &str, len: usize) -> SetDataRequest {
    SetDataRequest { path: Some(path.into()), data: data(len), version: -1 }
}

fn at(path: &str) -> PathVersion {
    PathVersion { path: Some(path.into()), version: -1 }
}

fn multi(ops: Vec<MultiOp>) -> Request {
    Request::Multi(MultiRequest { ops })
}

/// A write with `len` bytes in it that may be any, on a path of its own (which `/open` is there for, too).
type Write = fn(path: &str, len: usize) -> Request;

/// Every write, and whether its transaction may be refused although its request is not too long.
const WRITES: [(&str, Write, bool); 13] = [
    ("create", |path, len| Request::Create(new(path, len, 0)), true),
    ("createEphemeral", |path, len| Request::Create(new(path, len, 1)), true),
    ("create2", |path, len| Request::Create2(new(path, len, 0)), true),
    ("createContainer", |path, len| Request::CreateContainer(new(path, len, 4)), true),
    ("createTTL", |path, len| Request::CreateTtl(with_ttl(path, len)), true),
    ("multiCreate", |path, len| multi(vec![MultiOp::Create(new(path, len, 0)), MultiOp::Check(at("/open"))]), true),
    (
        "multiTTL",
        |path, len| multi(vec![MultiOp::CreateTtl(with_ttl(path, len)), MultiOp::SetData(set(path, 1))]),
        true,
    ),
    ("multiSet", |path, len| multi(vec![MultiOp::Create(new(path, 0, 0)), MultiOp::SetData(set(path, len))]), true),
    (
        "setACL",
        |_, len| {
            let long =
                RequestAcl { perms: 1, scheme: Some("digest".into()), id: Some(format!("{}:x", "y".repeat(len))) };
            let acl = mine().into_iter().flatten().chain([long]).collect();
            Request::SetAcl(SetAclRequest { path: Some("/open".into()), acl: Some(acl), version: -1 })
        },
        true,
    ),
    ("setData", |_, len| Request::SetData(set("/open", len)), false),
    (
        "createOpen",
        |path, len| {
            let acl = Some(vec![RequestAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) }]);
            Request::Create(CreateRequest { acl, ..new(path, len, 0) })
        },
        false,
    ),
    // The path itself; nothing is there to be deleted or checked.
    ("delete", |path, len| Request::Delete(at(&format!("{path}{}", "x".repeat(len)))), false),
    ("multiCheck", |path, len| multi(vec![MultiOp::Check(at(&format!("{path}{}", "x".repeat(len))))]), false),
];

fn frame_len(request: &Request) -> usize {
    let mut frame = RequestHeader { xid: 1, op: request.op() }.to_bytes();
    request.write(&mut frame);
    frame.len()
}

#[test]
fn what_is_logged_can_be_read_again_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let mut client = connect(&server);
    client.create("/open", b"").unwrap();
    let mut written: Vec<(String, usize)> = Vec::new();
    let mut refusals = 0;
    for (name, write, may_be_refused) in WRITES {
        let request = |n: usize, len| (format!("/{name}{n:04}"), write(&format!("/{name}{n:04}"), len));
        let longest = (0..MAX_BUFFER).rev().find(|len| frame_len(&request(0, *len).1) <= MAX_BUFFER).unwrap();
        // The first length that is refused, by halving; each try has a path of its own.
        let (mut good, mut bad) = (0, longest + 1);
        let mut tries = 0;
        let mut is_taken = |len: usize, client: &mut Client, written: &mut Vec<(String, usize)>| {
            tries += 1;
            let (path, request) = request(tries, len);
            let err = client.ask(&request).unwrap();
            assert!([0, -8, -101].contains(&err), "{name} of {len}: {err}");
            if err == 0 && !["delete", "multiCheck", "setACL", "createEphemeral"].contains(&name) {
                let len = if name == "multiTTL" { 1 } else { len };
                written.push(if name == "setData" { ("/open".into(), len) } else { (path, len) });
            }
            err != -8
        };
        while bad - good > 1 {
            let middle = if may_be_refused { (good + bad) / 2 } else { bad - 1 };
            *(if is_taken(middle, &mut client, &mut written) { &mut good } else { &mut bad }) = middle;
        }
        assert_eq!(bad <= longest, may_be_refused, "{name}: {good} bytes are taken, and {longest} fit a request");
        refusals += usize::from(may_be_refused);
        // Again, at the very end, so that the server dies with both of them in its log.
        assert!(is_taken(good, &mut client, &mut written), "{name} of {good}");
        if may_be_refused {
            assert!(!is_taken(bad, &mut client, &mut written), "{name} of {bad}");
        } else {
            assert!(
                client.ask(&request(9999, bad).1).is_err(),
                "{name}: a frame beyond jute.maxbuffer ends the connection"
            );
            client = connect(&server);
        }
    }
    assert!(refusals >= 9 && written.len() > 60, "{} written", written.len());
    written.retain(|(path, _)| path != "/open");

    server.kill();
    server.wait();
    for round in 0..2 {
        let server = start(dir.path());
        let mut client = connect(&server);
        for (path, len) in &written {
            assert_eq!(client.get(path).unwrap().len(), *len, "{path} in round {round}");
        }
        server.stop();
    }
}

/// The list of what goes with a session may be longer than a transaction: then it is cut, and the rest goes as well.
#[test]
fn the_end_of_a_session_with_very_many_ephemerals_can_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let mut client = connect(&server);
    let paths: Vec<String> = (0..40).map(|n| format!("/{n:03}{}", "x".repeat(200))).collect();
    for path in &paths {
        assert_eq!(client.ask(&Request::Create(new(path, 1, 1))).unwrap(), 0);
    }
    assert!(paths.iter().map(String::len).sum::<usize>() > MAX_BUFFER + EXTRA);
    assert_eq!(client.ask(&Request::CloseSession).unwrap(), 0);
    server.kill();
    server.wait();
    let server = start(dir.path());
    let mut client = connect(&server);
    for path in &paths {
        assert!(client.get(path).is_err(), "{path} is still there");
    }
}
