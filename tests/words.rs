//! The four-letter words over sockets: whole answers in one write, whoever asks and however; figures that are true.

mod wire;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use wire::{Client, word};
use zabkit::server::{Config, Ensemble, EnsembleConfig, Listeners, Server, Whitelist};

const PATIENCE: Duration = Duration::from_secs(30);

/// A standalone server that serves, in a directory of its own.
fn serving() -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        data_dir: dir.path().to_owned(),
        data_log_dir: dir.path().to_owned(),
        client_addr: Some("127.0.0.1:0".parse().unwrap()),
        pre_alloc_kib: 64,
        four_letter_words: Whitelist::All,
        ..Config::default()
    };
    let server = Server::start(config, Listeners::default()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut status = server.status();
    while !status.serving {
        assert!(Instant::now() < deadline, "{status:?}");
        status = server.wait_status(status.version, deadline);
    }
    (server, dir)
}

/// What the first read brings once there is something to read; and whether there was more.
fn first_read(addr: SocketAddr, word: &str) -> (String, bool) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(word.as_bytes()).unwrap();
    let mut answer = vec![0; 1 << 20];
    let n = stream.read(&mut answer).unwrap();
    answer.truncate(n);
    (String::from_utf8(answer).unwrap(), stream.read(&mut [0]).unwrap() > 0)
}

fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.trim_start_matches([':', '\t', '=']).trim()
}

#[test]
fn every_word_is_answered_in_one_piece() {
    let (server, _dir) = serving();
    let addr = server.client_addr();
    let mut client = Client::connect(addr).unwrap();
    client.create("/n", b"x").unwrap();
    for (word, begin, end) in [
        ("ruok", "imok", "imok"),
        ("isro", "rw", "rw"),
        ("srvr", "Zookeeper version: ", "\nMode: standalone\nNode count: 6\n"),
        ("stat", "Zookeeper version: ", "\nMode: standalone\nNode count: 6\n"),
        ("envi", "Environment:\nzookeeper.version=3.", "MB\n"),
        ("conf", "clientPort=", "\nserverId=0\n"),
        ("mntr", "zk_version\t3.", "\n"),
        ("dirs", "datadir_size: ", "\n"),
        ("cons", " /127.0.0.1:", ")\n\n"),
        ("dump", "SessionTracker dump:\nSession Sets (1)/(1):\n1 expire at ", "\n"),
        ("wchs", "0 connections watching 0 paths\nTotal watches:0\n", "\n"),
        ("gtmk", "306", "306"),
        ("stmk\0\0\0\0\0\0\x01\x7f", "383", "383"),
        ("gtmk", "383", "383"),
        ("hash", "", ""),
    ] {
        let (answer, more) = first_read(addr, word);
        assert!(answer.starts_with(begin) && answer.ends_with(end) && !more, "{word}: {answer:?}, more: {more}");
    }
}

#[test]
fn a_word_in_two_pieces_or_from_one_who_says_no_more_is_answered() {
    let (server, _dir) = serving();
    for words in [["ru", "ok"], ["ruok", "\n"], ["r", "uok\r\n"]] {
        let mut stream = TcpStream::connect(server.client_addr()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(words[0].as_bytes()).unwrap();
        stream.write_all(words[1].as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "imok", "{words:?}");
    }
    // Those that another thread answers.
    assert!(word(server.client_addr(), b"mntr").contains("\nzk_server_state\tstandalone\n"));
    assert!(word(server.client_addr(), b"dirs\n").starts_with("datadir_size: "));
}

#[test]
fn the_server_and_each_connection_count_what_they_got_and_are_set_back_apart() {
    let (server, _dir) = serving();
    let addr = server.client_addr();
    let mut client = Client::connect(addr).unwrap();
    client.create("/n", b"x").unwrap();
    for _ in 0..3 {
        client.get("/n").unwrap();
    }
    let port = |line: &str| line.contains("(queued=0,recved=5,sent=5");
    let stat = word(addr, b"stat");
    // The word itself counts, and its connection is listed.
    assert_eq!((value(&stat, "Received"), value(&stat, "Sent"), value(&stat, "Connections")), ("6", "5", "2"));
    assert!(stat.contains("\nClients:\n") && stat.contains("[0](queued=0,recved=1,sent=0)\n"), "{stat}");
    assert!(stat.lines().any(port), "{stat}");
    assert_eq!(value(&word(addr, b"srvr"), "Received"), "7");

    assert_eq!(word(addr, b"srst"), "Server stats reset.\n");
    let srvr = word(addr, b"srvr");
    assert_eq!((value(&srvr, "Received"), value(&srvr, "Latency min/avg/max")), ("1", "0/0.0/0"));
    assert!(word(addr, b"cons").lines().any(port), "a connection's figures are its own");
    client.get("/n").unwrap();
    assert!(word(addr, b"cons").contains("(queued=0,recved=6,sent=6"));

    let before: u64 = value(&word(addr, b"srvr"), "Received").parse().unwrap();
    assert_eq!(word(addr, b"crst"), "Connection stats reset.\n");
    let cons = word(addr, b"cons");
    assert!(cons.contains("(queued=0,recved=0,sent=0,sid=0x") && cons.contains(",lzxid=0xffffffffffffffff,"), "{cons}");
    assert_eq!(value(&word(addr, b"srvr"), "Received"), (before + 3).to_string(), "the server's are its own");
}

#[test]
fn data_watches_are_told_by_session_and_by_path() {
    let (server, _dir) = serving();
    let addr = server.client_addr();
    let (mut one, mut two) = (Client::connect(addr).unwrap(), Client::connect(addr).unwrap());
    one.create("/b", b"").unwrap();
    one.watch("/b").unwrap();
    one.watch("/a").unwrap_err();
    two.watch("/b").unwrap();
    two.watch_children("/b").unwrap();
    let (first, second) = (one.session, two.session);
    assert_eq!(word(addr, b"wchs"), "2 connections watching 2 paths\nTotal watches:3\n");
    assert_eq!(word(addr, b"wchc"), format!("{first}\n\t/a\n\t/b\n{second}\n\t/b\n\n"));
    assert_eq!(word(addr, b"wchp"), format!("/a\n\t{first}\n/b\n\t{first}\n\t{second}\n\n"));
    assert!(word(addr, b"mntr").contains("\nzk_watch_count\t4\n"));
    drop(two);
    let deadline = Instant::now() + PATIENCE;
    while word(addr, b"wchs") != "1 connections watching 2 paths\nTotal watches:2\n" {
        assert!(Instant::now() < deadline, "the watches of a connection that has gone stay");
    }
}

#[test]
fn a_leader_tells_the_sizes_of_its_proposals() {
    let ensemble = Ensemble::start(EnsembleConfig::default()).unwrap();
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    let addr = ensemble.client_addr(leader).unwrap();
    let mut client = Client::connect(addr).unwrap();
    let sizes = |addr| {
        let srvr = word(addr, b"srvr");
        let sizes = value(&srvr, "Proposal sizes last/min/max").split('/').map(|size| size.parse().unwrap());
        <[i64; 3]>::try_from(sizes.collect::<Vec<_>>()).unwrap()
    };
    client.create("/n", &[b'x'; 500]).unwrap();
    let [last, min, max] = sizes(addr);
    assert!(last > 500 && last == max && (1..500).contains(&min), "{last}/{min}/{max}");
    client.create("/m", b"").unwrap();
    let [last, _, after] = sizes(addr);
    assert!(last < 500 && after == max, "{last}, {after} after {max}");
    let follower = ensemble.ids().into_iter().find(|&id| id != leader).unwrap();
    ensemble.wait_until_serving(follower, PATIENCE).unwrap();
    let srvr = word(ensemble.client_addr(follower).unwrap(), b"srvr");
    assert!(srvr.contains("\nMode: follower\n") && !srvr.contains("Proposal"), "{srvr}");
    ensemble.shutdown();
}
