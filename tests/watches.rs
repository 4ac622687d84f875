//! One change that hundreds of connections watch: the core writes to them in several goes, and none is left out.

mod wire;

use std::time::{Duration, Instant};
use wire::Client;
use zabkit::records::EventType;
use zabkit::server::{Config, Listeners, Server};

const WATCHERS: usize = 200;

#[test]
fn a_change_that_hundreds_watch_is_told_to_each_once_before_what_it_reads_next() {
    for workers in [0, 2] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: dir.path().to_owned(),
            data_log_dir: dir.path().to_owned(),
            client_addr: Some("127.0.0.1:0".parse().unwrap()),
            pre_alloc_kib: 64,
            workers,
            limits: zabkit::server::LimitsConfig { max_client_cnxns: 0, ..Default::default() },
            ..Config::default()
        };
        let server = Server::start(config, Listeners::default()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut status = server.status();
        while !status.serving {
            assert!(Instant::now() < deadline, "{status:?}");
            status = server.wait_status(status.version, deadline);
        }
        let mut writer = Client::connect(server.client_addr()).unwrap();
        let mut watchers: Vec<Client> = (0..WATCHERS).map(|_| Client::connect(server.client_addr()).unwrap()).collect();
        for round in 0..3 {
            writer.create("/n", b"").unwrap();
            for watcher in &mut watchers {
                watcher.watch("/n").unwrap();
                watcher.watch_children("/").unwrap();
            }
            writer.delete("/n").unwrap();
            let mut zxids = Vec::new();
            for watcher in &mut watchers {
                for (kind, path) in [(EventType::NodeDeleted, "/n"), (EventType::NodeChildrenChanged, "/")] {
                    let (zxid, event) = watcher.event().unwrap();
                    assert_eq!((event.kind, event.path.as_str()), (kind as i32, path), "round {round}");
                    zxids.push(zxid);
                }
                // Nothing else comes before the next answer.
                watcher.get("/zookeeper").unwrap();
            }
            assert!(zxids.iter().all(|zxid| *zxid == zxids[0]), "all are told of one transaction");
        }
        server.stop();
    }
}
