//! Whole servers over real sockets and files: what a client of one, and of three, must see.

mod wire;

use std::time::{Duration, Instant};
use wire::{Client, word};
use zabkit::peer::ReaperConfig;
use zabkit::records::{
    CreateRequest, CreateTtlRequest, PathOnly, PathVersion, Request, RequestAcl, ServerId, SetDataRequest,
};
use zabkit::server::{Config, Ensemble, EnsembleConfig, Exit, Listeners, NodesConfig, Role, Server, Whitelist};

const PATIENCE: Duration = Duration::from_secs(30);

fn standalone(dir: &std::path::Path) -> Config {
    Config {
        data_dir: dir.to_owned(),
        data_log_dir: dir.to_owned(),
        client_addr: Some("127.0.0.1:0".parse().unwrap()),
        tick_time_ms: 200,
        pre_alloc_kib: 64,
        four_letter_words: Whitelist::All,
        ..Config::default()
    }
}

fn wait_serving(server: &Server) {
    let deadline = Instant::now() + PATIENCE;
    let mut status = server.status();
    while !status.serving {
        assert!(Instant::now() < deadline, "{status:?}");
        status = server.wait_status(status.version, deadline);
    }
}

#[test]
fn a_standalone_server_keeps_what_it_acknowledged_over_a_kill_and_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let server = Server::start(standalone(dir.path()), Listeners::default()).unwrap();
        wait_serving(&server);
        let mut client = Client::connect(server.client_addr()).unwrap();
        for former in 0..round {
            assert_eq!(client.get(&format!("/round-{former}")).unwrap(), format!("data {former}").into_bytes());
        }
        let path = format!("/round-{round}");
        assert_eq!(client.create(&path, format!("data {round}").as_bytes()).unwrap(), path);
        client.create(&path, b"").unwrap_err();
        assert_eq!(server.status().role, Role::Standalone);
        if round == 1 {
            assert_eq!(server.stop(), Exit::Stopped);
        } else {
            server.kill();
            assert_eq!(server.wait(), Exit::Killed);
        }
        assert_eq!(server.status().role, Role::Ended);
        assert!(client.get("/").is_err(), "a server that has ended answers");
    }
}

#[test]
fn the_directory_is_locked_while_the_server_runs_and_free_once_it_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(standalone(dir.path()), Listeners::default()).unwrap();
    let error = Server::start(standalone(dir.path()), Listeners::default()).map(|_| ()).unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    server.kill();
    Server::start(standalone(dir.path()), Listeners::default()).unwrap().stop();
}

#[test]
fn a_taken_port_is_an_error_with_its_address() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config { client_addr: taken.local_addr().ok(), ..standalone(dir.path()) };
    let error = Server::start(config, Listeners::default()).map(|_| ()).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains(&taken.local_addr().unwrap().to_string()), "{error}");
}

#[test]
fn four_letter_words_are_answered_under_the_whitelist() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { four_letter_words: Whitelist::parse("ruok, mntr"), ..standalone(dir.path()) };
    let server = Server::start(config, Listeners::default()).unwrap();
    wait_serving(&server);
    let addr = server.client_addr();
    let mut client = Client::connect(addr).unwrap();
    client.create("/a", b"1").unwrap();
    assert_eq!(word(addr, b"ruok"), "imok");
    assert_eq!(word(addr, b"ruok\r\n"), "imok");
    let srvr = word(addr, b"srvr");
    assert!(srvr.starts_with("Zookeeper version: 3.") && srvr.contains("\nZxid: 0x2\nMode: standalone\n"), "{srvr}");
    let mntr = word(addr, b"mntr");
    assert!(mntr.contains("\nzk_server_state\tstandalone\n") && mntr.contains("\nzk_znode_count\t6\n"), "{mntr}");
    assert_eq!(word(addr, b"stat"), "stat is not executed because it is not in the whitelist.\n");
    assert_eq!(word(addr, b"zzzz"), "");
}

/// Whether or not it begins to read before all of them have been asked for.
#[test]
fn large_reads_pipelined_behind_a_sync_and_a_write_are_all_answered() {
    for workers in [0, 2] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(Config { workers, ..standalone(dir.path()) }, Listeners::default()).unwrap();
        wait_serving(&server);
        let mut client = Client::connect(server.client_addr()).unwrap();
        client.create("/big", &vec![7; 1_000_000]).unwrap();
        let sync = Request::Sync(PathOnly { path: Some("/".into()) });
        let write = Request::SetData(SetDataRequest { path: Some("/".into()), data: None, version: -1 });
        for (first, n) in [(sync, 60), (write, 60), (Request::Ping, 60)] {
            let first = client.send_request(&first);
            let xids = client.send_gets("/big", n);
            // Also behind it, and with frames of its own left.
            let last = client.send_request(&Request::Sync(PathOnly { path: Some("/".into()) }));
            let more = client.send_gets("/big", n);
            for expected in [vec![first], xids, vec![last], more].concat() {
                let (xid, err, body) = client.reply().unwrap();
                assert!((xid == expected || xid == -2) && err == 0, "{xid} {err}, not {expected}");
                assert!([first, last, -2].contains(&xid) || body.len() > 1_000_000, "{}", body.len());
            }
        }
        assert_eq!(client.get("/big").unwrap().len(), 1_000_000);
        server.stop();
    }
}

#[test]
fn a_ttl_node_and_an_empty_container_go_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let reaper = ReaperConfig { check_interval_ms: 50, ..ReaperConfig::default() };
    let nodes = NodesConfig { extended_types: Some(true), reaper, ..NodesConfig::default() };
    let server = Server::start(Config { nodes, ..standalone(dir.path()) }, Listeners::default()).unwrap();
    wait_serving(&server);
    let mut client = Client::connect(server.client_addr()).unwrap();
    let acl = Some(vec![RequestAcl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) }]);
    let new = |path: &str, flags| CreateRequest { path: Some(path.into()), data: None, acl: acl.clone(), flags };
    let CreateRequest { path, data, acl, flags } = new("/ttl", 5);
    let requests = [
        Request::CreateTtl(CreateTtlRequest { path, data, acl, flags, ttl_ms: 1 }),
        Request::CreateContainer(new("/container", 4)),
        Request::Create(new("/container/x", 0)),
        Request::Delete(PathVersion { path: Some("/container/x".into()), version: -1 }),
    ];
    for request in requests {
        assert_eq!(client.ask(&request).unwrap(), 0, "{request:?}");
    }
    let deadline = Instant::now() + PATIENCE;
    while client.get("/ttl").is_ok() || client.get("/container").is_ok() {
        assert!(Instant::now() < deadline, "they are still there");
    }
    client.get("/").unwrap();
}

#[test]
fn frames_that_are_too_long_close_the_connection_and_many_in_one_write_are_all_answered() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(standalone(dir.path()), Listeners::default()).unwrap();
    wait_serving(&server);
    for length in [-1, 1_048_576, i32::MAX] {
        let mut client = Client::connect(server.client_addr()).unwrap();
        client.send_raw(&i32::to_be_bytes(length));
        assert!(client.is_closed(), "a frame of {length} bytes was accepted");
    }
    let mut client = Client::connect(server.client_addr()).unwrap();
    let xids = client.send_gets("/zookeeper", 5000);
    for xid in xids {
        assert_eq!(client.reply().unwrap().0, xid);
    }
}

#[test]
fn three_servers_take_writes_through_a_follower_and_go_on_without_their_leader() {
    let ensemble = Ensemble::start(EnsembleConfig::default()).unwrap();
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    let follower = *ensemble.ids().iter().find(|&&id| id != leader).unwrap();
    ensemble.wait_until_serving(follower, PATIENCE).unwrap();
    let mut client = Client::connect(ensemble.client_addr(follower).unwrap()).unwrap();
    client.create("/a", b"through a follower").unwrap();
    assert_eq!(ensemble.status(leader).epoch, ensemble.status(follower).epoch);

    ensemble.kill(leader).unwrap();
    let next = ensemble.wait_for_leader(PATIENCE).unwrap();
    assert_ne!(next, leader);
    let mut client = Client::connect(ensemble.client_addr(next).unwrap()).unwrap();
    assert_eq!(client.get("/a").unwrap(), b"through a follower");
    client.create("/b", b"without the first leader").unwrap();

    ensemble.restart(leader).unwrap();
    ensemble.wait_until_serving(leader, PATIENCE).unwrap();
    let mut client = Client::connect(ensemble.client_addr(leader).unwrap()).unwrap();
    client.sync().unwrap();
    assert_eq!(client.get("/b").unwrap(), b"without the first leader");
    ensemble.shutdown();
    assert!(ensemble.ids().into_iter().all(|id| ensemble.status(id).role == Role::Ended));
    let digests: Vec<u64> = [leader, next].iter().map(|&id| ensemble.status(id).tree_digest).collect();
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn a_server_without_a_quorum_closes_its_clients_and_serves_again_with_one() {
    let ensemble = Ensemble::start(EnsembleConfig { tick_time_ms: 50, ..EnsembleConfig::default() }).unwrap();
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    let mut client = Client::connect(ensemble.client_addr(leader).unwrap()).unwrap();
    client.create("/a", b"").unwrap();
    let followers: Vec<ServerId> = ensemble.ids().into_iter().filter(|&id| id != leader).collect();
    for &id in &followers {
        ensemble.kill(id).unwrap();
    }
    assert!(client.is_closed());
    ensemble.wait_for("end of service", PATIENCE, || (!ensemble.status(leader).serving).then_some(())).unwrap();
    assert!(Client::connect(ensemble.client_addr(leader).unwrap()).is_err());
    let said = word(ensemble.client_addr(leader).unwrap(), b"srvr");
    assert_eq!(said, "This ZooKeeper instance is not currently serving requests\n");
    ensemble.restart(followers[0]).unwrap();
    ensemble.wait_for_leader(PATIENCE).unwrap();
}

#[test]
fn connections_on_workers_are_served_as_well() {
    let ensemble = Ensemble::start(EnsembleConfig { workers: 2, ..EnsembleConfig::default() }).unwrap();
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    let mut clients: Vec<Client> =
        (0..4).map(|_| Client::connect(ensemble.client_addr(leader).unwrap()).unwrap()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.create(&format!("/{n}"), b"x").unwrap();
        assert_eq!(client.get(&format!("/{n}")).unwrap(), b"x");
    }
    ensemble.shutdown();
}

/// Names, lengths and bytes of all files below `dir`.
fn files(dir: &std::path::Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files(&entry));
        } else {
            found.insert(entry.clone(), std::fs::read(&entry).unwrap());
        }
    }
    found
}

#[test]
fn a_killed_server_writes_and_sends_nothing_any_more() {
    let ensemble = Ensemble::start(EnsembleConfig { snap_count: 50, ..EnsembleConfig::default() }).unwrap();
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    let mut client = Client::connect(ensemble.client_addr(leader).unwrap()).unwrap();
    client.create("/a", b"").unwrap();
    // So many that the disk and the snapshots are at work when the end comes.
    let xids = client.send_sets("/a", 20_000);
    client.reply().unwrap();
    ensemble.kill(leader).unwrap();

    let at_the_end = files(&ensemble.data_dir(leader));
    let answered = client.replies_until_closed() + 1;
    assert!(answered < xids.len(), "the kill came too late to show anything");
    let next = ensemble.wait_for_leader(PATIENCE).unwrap();
    let mut client = Client::connect(ensemble.client_addr(next).unwrap()).unwrap();
    for n in 0..100 {
        client.create(&format!("/after-{n}"), b"").unwrap();
    }
    assert!(files(&ensemble.data_dir(leader)) == at_the_end, "a killed server has written");
    ensemble.shutdown();
}

#[test]
fn an_ensemble_removes_its_temporary_directory_and_names_what_did_not_come() {
    let ensemble = Ensemble::start(EnsembleConfig { servers: 2, ..EnsembleConfig::default() }).unwrap();
    ensemble.wait_for_leader(PATIENCE).unwrap();
    let dir = ensemble.data_dir(ServerId(1));
    assert!(dir.join("version-2").is_dir());
    ensemble.kill(ServerId(1)).unwrap();
    ensemble.kill(ServerId(2)).unwrap();
    let error = ensemble.wait_for_leader(Duration::from_millis(1)).unwrap_err().to_string();
    assert!(error.contains("no leader") && error.contains("server 2 is ended"), "{error}");
    ensemble.kill(ServerId(1)).unwrap();
    assert!(ensemble.stop(ServerId(9)).is_err());
    ensemble.shutdown();
    ensemble.shutdown();
    assert!(ensemble.restart(ServerId(1)).is_err());
    assert!(!dir.exists());
}

#[test]
fn snapshots_are_taken_under_writes_purged_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { snap_count: 20, ..standalone(dir.path()) };
    let server = Server::start(config.clone(), Listeners::default()).unwrap();
    wait_serving(&server);
    let mut client = Client::connect(server.client_addr()).unwrap();
    for n in 0..400 {
        client.create(&format!("/n{n}"), &[n as u8; 100]).unwrap();
    }
    assert_eq!(server.stop(), Exit::Stopped);
    let snapshots = files(dir.path()).into_keys().filter(|path| path.to_string_lossy().contains("/snapshot."));
    // Three are kept; while one is purged the next may be there already.
    let snapshots = snapshots.count();
    assert!((2..=5).contains(&snapshots), "{snapshots} snapshots");

    let server = Server::start(config, Listeners::default()).unwrap();
    wait_serving(&server);
    let mut client = Client::connect(server.client_addr()).unwrap();
    for n in 0..400 {
        assert_eq!(client.get(&format!("/n{n}")).unwrap(), [n as u8; 100]);
    }
}

#[test]
fn a_long_log_that_was_replayed_is_followed_by_a_snapshot_which_no_client_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = || {
        let files = std::fs::read_dir(dir.path().join("version-2")).unwrap();
        files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with("snapshot.")).count()
    };
    let many = Config { snap_count: 1000, ..standalone(dir.path()) };
    let server = Server::start(many, Listeners::default()).unwrap();
    wait_serving(&server);
    let mut client = Client::connect(server.client_addr()).unwrap();
    for i in 0..30 {
        client.create(&format!("/n{i}"), b"").unwrap();
    }
    server.kill();
    assert_eq!(snapshots(), 1, "the empty one");
    let few = Config { snap_count: 20, ..standalone(dir.path()) };
    let server = Server::start(few, Listeners::default()).unwrap();
    wait_serving(&server);
    // The session's creation is the first that is committed behind what was replayed.
    let mut client = Client::connect(server.client_addr()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while snapshots() < 2 {
        assert!(Instant::now() < deadline);
        client.get("/n0").unwrap();
    }
}
