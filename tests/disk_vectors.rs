//! The data directories of a real Apache ZooKeeper 3.8.0: every good one loads to exactly what that server showed to
//! a client, the corrupt one is refused.

mod storage_support;
mod vectors;

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use storage_support::{Tree, log_of_others};
use tempfile::TempDir;
use vectors::{hex, testdata};
use zabkit::records::Zxid;
use zabkit::server::{Config, Exit, Listeners, Server};
use zabkit::storage::{Disk, LogFile, Next, RealDisk, Recovered, Repair, Storage, StorageConfig, StorageError};
use zabkit::tree::DataTree;

const GOOD: [&str; 10] = [
    "epoch-change-follower",
    "epoch-change-old-leader",
    "log-only",
    "no-digest",
    "rolled-logs",
    "snap-and-log",
    "snap-gz",
    "snap-snappy",
    "torn-tail",
    "torn-tail-zeros",
];

/// A copy of a recorded directory, without the files of `version-2` for which `keep` is false.
fn copy_of(name: &str, keep: impl Fn(&str) -> bool) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let to = copy.path().join("version-2");
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(testdata("disk").join(name).join("version-2")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if keep(name) {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
    copy
}

fn load(dir: &Path) -> Result<(Tree, Recovered), StorageError> {
    let mut tree = Tree::default();
    let (storage, recovered) = Storage::open(RealDisk, StorageConfig::new(dir), &mut tree)?;
    storage.close()?;
    Ok((tree, recovered))
}

fn expected(name: &str) -> Value {
    let text = std::fs::read_to_string(testdata("disk").join(name).join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A node as `expected.json` writes it.
fn shown(tree: &DataTree, path: &str) -> Value {
    let node = tree.get(path).unwrap_or_else(|| panic!("{path} is missing"));
    let stat = node.stat();
    let acl: Vec<Value> = node.acl().iter().map(|acl| json!([acl.perms, acl.id.scheme, acl.id.id])).collect();
    json!({
        "path": path,
        "data": node.data().map(hex),
        "acl": acl,
        "stat": {
            "czxid": stat.czxid.0, "mzxid": stat.mzxid.0, "ctime": stat.ctime, "mtime": stat.mtime,
            "version": stat.version, "cversion": stat.cversion, "aversion": stat.aversion,
            "ephemeralOwner": stat.ephemeral_owner, "dataLength": stat.data_length,
            "numChildren": stat.num_children, "pzxid": stat.pzxid.0,
        },
    })
}

fn paths(tree: &DataTree) -> Vec<String> {
    let (mut found, mut todo) = (Vec::new(), vec!["/".to_owned()]);
    while let Some(path) = todo.pop() {
        let base = path.trim_end_matches('/');
        todo.extend(tree.get(&path).unwrap().children().map(|name| format!("{base}/{name}")));
        found.push(path);
    }
    found.sort();
    found
}

fn assert_is_as_recorded(name: &str, what: &str, tree: &DataTree, recovered: &Recovered) {
    let expected = &expected(name)["expected"];
    assert_eq!(recovered.last_zxid.to_string(), expected["lastZxid"].as_str().unwrap(), "{name} {what}");
    let nodes = expected["nodes"].as_array().unwrap();
    let mut expected_paths: Vec<&str> = nodes.iter().map(|node| node["path"].as_str().unwrap()).collect();
    expected_paths.sort_unstable();
    assert_eq!(paths(tree), expected_paths, "{name} {what}");
    for node in nodes {
        let path = node["path"].as_str().unwrap();
        // There it was read from a standalone server, which has another configuration.
        if !(name.starts_with("epoch-change") && path == "/zookeeper/config") {
            let keys = ["path", "data", "acl", "stat"];
            let node: Value = keys.iter().map(|key| (key.to_string(), node[key].clone())).collect();
            assert_eq!(shown(tree, path), node, "{name} {what}");
        }
    }
}

#[test]
fn every_good_directory_loads_to_what_the_real_server_showed() {
    let mut digests = 0;
    for name in GOOD {
        let dir = copy_of(name, |_| true);
        let (tree, recovered) = load(dir.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_is_as_recorded(name, "", &tree.tree, &recovered);
        assert_eq!(recovered.notes, [""; 0], "{name}");
        digests += tree.digests_compared;
    }
    assert!(digests > 300, "only {digests} digests were compared");
}

#[test]
fn a_directory_opens_the_same_a_second_time_and_without_repairs() {
    for name in GOOD {
        let dir = copy_of(name, |_| true);
        load(dir.path()).unwrap();
        let (tree, recovered) = load(dir.path()).unwrap();
        assert_is_as_recorded(name, "again", &tree.tree, &recovered);
        assert_eq!(recovered.repaired, [], "{name}");
    }
}

/// Fuzzy ones among them: what they hold beyond their names is repaired by the log.
#[test]
fn rolled_logs_load_to_the_same_tree_from_any_snapshot() {
    for snapshot in ["snapshot.0", "snapshot.24", "snapshot.55", "snapshot.8d", "snapshot.af"] {
        let dir = copy_of("rolled-logs", |name| name.starts_with("log.") || name == snapshot);
        let (tree, recovered) = load(dir.path()).unwrap();
        assert_is_as_recorded("rolled-logs", snapshot, &tree.tree, &recovered);
    }
}

#[test]
fn a_broken_snapshot_is_passed_over_for_an_older_one_and_more_of_the_log() {
    for at in [20, 5000, 16290] {
        let dir = copy_of("rolled-logs", |_| true);
        let path = dir.path().join("version-2/snapshot.af");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (tree, recovered) = load(dir.path()).unwrap();
        assert_eq!(recovered.snapshot_zxid, Some(Zxid(0x8d)), "byte {at}");
        assert!(recovered.notes[0].contains("snapshot.af was passed over"), "{:?}", recovered.notes);
        assert_is_as_recorded("rolled-logs", "fallback", &tree.tree, &recovered);
    }
}

#[test]
fn epochs_are_those_of_the_members() {
    for name in ["epoch-change-follower", "epoch-change-old-leader"] {
        let (_, recovered) = load(copy_of(name, |_| true).path()).unwrap();
        assert_eq!((recovered.accepted_epoch.0, recovered.current_epoch.0), (2, 2), "{name}");
    }
    let (_, recovered) = load(copy_of("log-only", |_| true).path()).unwrap();
    assert_eq!((recovered.accepted_epoch.0, recovered.current_epoch.0), (0, 0));
}

#[test]
fn the_corrupt_log_is_refused_with_file_and_offset_and_left_as_it_is() {
    let dir = copy_of("corrupt-record", |_| true);
    let log = dir.path().join("version-2/log.1");
    let before = std::fs::read(&log).unwrap();
    let error = load(dir.path()).err().expect("it must be refused");
    let StorageError::Corrupt { path, offset, .. } = &error else { panic!("{error}") };
    let flipped = expected("corrupt-record")["offset"].as_u64().unwrap();
    assert_eq!(path, &log);
    assert!(*offset <= flipped && flipped < offset + 300, "record at {offset}, byte flipped at {flipped}");
    assert!(error.to_string().contains(&format!("log.1 is corrupt at byte {offset}")), "{error}");
    assert_eq!(std::fs::read(&log).unwrap(), before);
    let names: Vec<PathBuf> = std::fs::read_dir(log.parent().unwrap()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_torn_tail_is_cut_and_kept_aside() {
    for name in ["torn-tail", "torn-tail-zeros"] {
        let dir = copy_of(name, |_| true);
        let original = std::fs::read(dir.path().join("version-2/log.1")).unwrap();
        let (_, recovered) = load(dir.path()).unwrap();
        let [Repair::TornTail { log, offset, bytes, kept, .. }] = recovered.repaired.as_slice() else {
            panic!("{:?}", recovered.repaired)
        };
        assert_eq!(*offset, expected(name)["lastRecordOffset"].as_u64().unwrap(), "{name}");
        let (whole, torn) = original.split_at(*offset as usize);
        let padded = [whole, &[0; 12]].concat();
        assert!(std::fs::read(log).unwrap() == padded, "{name}");
        assert_eq!(std::fs::read(kept).unwrap(), &torn[..*bytes as usize], "{name}");
        assert!(torn[*bytes as usize..].iter().all(|&b| b == 0), "{name}");
    }
}

/// Upgrading from a server older than 3.6, which began without a snapshot.
#[test]
fn a_log_without_a_snapshot_is_refused_unless_it_is_trusted() {
    let dir = copy_of("log-only", |name| name.starts_with("log."));
    let error = load(dir.path()).err().expect("it must be refused").to_string();
    assert!(error.starts_with("No snapshot found, but there are log entries. Something is broken!"), "{error}");

    let mut tree = Tree::default();
    let config = StorageConfig { trust_empty: true, ..StorageConfig::new(dir.path()) };
    let (_storage, recovered) = Storage::open(RealDisk, config, &mut tree).unwrap();
    assert!(recovered.needs_snapshot && !recovered.was_empty);
    assert_is_as_recorded("log-only", "trusted", &tree.tree, &recovered);
}

/// Apache's server starts with it too.
#[test]
fn a_server_starts_though_its_last_transaction_stands_in_the_log_twice() {
    let dir = copy_of("log-only", |_| true);
    let log = dir.path().join("version-2/log.1");
    let mut records = LogFile::new(RealDisk.open_read(&log).unwrap(), &log, None, 1 << 20).unwrap();
    let mut last = None;
    while let Next::Record(record) = records.read_next().unwrap() {
        last = Some((record.zxid, record.bytes));
    }
    let (zxid, bytes) = last.unwrap();
    let again = dir.path().join(format!("version-2/log.{:x}", zxid.0));
    std::fs::write(again, log_of_others(&[(zxid, bytes)])).unwrap();
    let (tree, recovered) = load(dir.path()).unwrap();
    assert_is_as_recorded("log-only", "with one transaction twice", &tree.tree, &recovered);
    assert!(recovered.notes[0].contains("follows"), "{:?}", recovered.notes);

    let config = Config {
        data_dir: dir.path().to_owned(),
        data_log_dir: dir.path().to_owned(),
        client_addr: Some("127.0.0.1:0".parse().unwrap()),
        ..Config::default()
    };
    let server = Server::start(config, Listeners::default()).unwrap();
    assert_eq!(server.status().last_processed, zxid);
    assert_eq!(server.stop(), Exit::Stopped);
}
