//! A snapshot is the tree at exactly its zxid, though writes go on while it is written: each is read by itself, without
//! a log to repair it, and has the digest that the log tells for that zxid.

mod storage_support;
mod wire;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use storage_support::{Collected, Tree};
use wire::Client;
use zabkit::jute::Record;
use zabkit::records::{PathVersion, Request, SetDataRequest, Txn, Zxid};
use zabkit::server::{Config, Exit, FilesConfig, Listeners, Server};
use zabkit::storage::{Compression, RealDisk, Storage, StorageConfig};

/// Znodes of each writer, large enough that a snapshot takes many chunks.
const ZNODES: usize = 150;
const WRITERS: usize = 3;

fn work(server: &Server, compression: Compression) {
    let writers = (0..WRITERS).map(|writer| {
        let mut client = Client::connect(server.client_addr()).unwrap();
        std::thread::spawn(move || {
            let path = |n: usize| format!("/w{writer}-{:03}", n % ZNODES);
            for n in 0..ZNODES {
                client.create(&path(n), &[n as u8; 2000]).unwrap();
            }
            for n in 0..3 * ZNODES {
                let data = Some(vec![n as u8; 2000 + n]);
                let set = Request::SetData(SetDataRequest { path: Some(path(n * 7)), data, version: -1 });
                assert_eq!(client.ask(&set).unwrap(), 0);
                if n % 5 == 0 {
                    let at = PathVersion { path: Some(path(n)), version: -1 };
                    assert_eq!(client.ask(&Request::Delete(at)).unwrap(), 0);
                    client.create(&path(n), b"again").unwrap();
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap_or_else(|_| panic!("a writer, {compression:?}")));
}

/// A directory with those files of `from` for which `keep` is true, read.
fn read<S: zabkit::storage::RecoverySink>(from: &Path, keep: impl Fn(&str) -> bool, sink: &mut S) -> u64 {
    let copy = tempfile::tempdir().unwrap();
    let to = copy.path().join("version-2");
    std::fs::create_dir(&to).unwrap();
    for name in names(from).into_iter().filter(|name| keep(name)) {
        std::fs::copy(from.join("version-2").join(&name), to.join(&name)).unwrap();
    }
    Storage::open(RealDisk, StorageConfig::new(copy.path()), sink).unwrap().1.txns
}

fn names(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir.join("version-2")).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_snapshot_that_is_written_under_writes_is_the_tree_at_its_zxid() {
    for compression in [Compression::None, Compression::Gz, Compression::Snappy] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: dir.path().to_owned(),
            data_log_dir: dir.path().to_owned(),
            client_addr: Some("127.0.0.1:0".parse().unwrap()),
            snap_count: 100,
            retain_snapshots: 0,
            files: FilesConfig { compression, ..FilesConfig::default() },
            ..Config::default()
        };
        let server = Server::start(config, Listeners::default()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut status = server.status();
        while !status.serving {
            assert!(Instant::now() < deadline, "{status:?}");
            status = server.wait_status(status.version, deadline);
        }
        work(&server, compression);
        assert_eq!(server.stop(), Exit::Stopped);

        let mut log = Collected::default();
        read(dir.path(), |name| name.starts_with("log.") || name.starts_with("snapshot.0"), &mut log);
        let digests: BTreeMap<Zxid, i64> = log
            .txns
            .iter()
            .map(|(zxid, bytes)| (*zxid, Txn::from_bytes(bytes).unwrap().digest.unwrap().digest))
            .collect();
        assert!(digests.len() > WRITERS * ZNODES * 4, "{} transactions", digests.len());

        let (mut compared, mut packed) = (0, 0);
        for name in names(dir.path()).into_iter().filter(|name| name.starts_with("snapshot.")) {
            let mut parts = name.split('.').skip(1);
            let zxid = Zxid(i64::from_str_radix(parts.next().unwrap(), 16).unwrap());
            packed += usize::from(parts.next().is_some());
            if let Some(digest) = digests.get(&zxid) {
                let mut tree = Tree::default();
                assert_eq!(read(dir.path(), |other| other == name, &mut tree), 0, "nothing is replayed");
                assert_eq!(tree.tree.digest(), *digest, "{name}");
                compared += 1;
            }
        }
        assert!(compared >= 10, "only {compared} snapshots, {compression:?}");
        assert_eq!(packed > 0, compression != Compression::None);
    }
}
