//! A server with a tree that is not what the transactions say notices it. It gets the right one, where its own is proved to
//! be wrong; else it keeps what it has.

mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wire::{Client, word};
use zabkit::records::ServerId;
use zabkit::server::{Ensemble, EnsembleConfig, Status};

const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes behind the body of a snapshot of 3.8: a seal (a checksum and "/"), the digest section, another seal.
const SEAL: usize = 8 + 5;
const TAIL: usize = SEAL + 20 + SEAL;

/// Changes the ctime of `/zookeeper` in the newest snapshot, so that the tree is another one, and seals it again. The
/// digest in it is the former; with `is_unknown` there is none, as in some of Apache's.
fn bend_snapshot(dir: &Path, is_unknown: bool) {
    let files = fs::read_dir(dir.join("version-2")).unwrap().map(|file| file.unwrap().path());
    let zxid = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        i64::from_str_radix(name.strip_prefix("snapshot.")?, 16).ok()
    };
    let path = files.filter(|path| zxid(path).is_some()).max_by_key(zxid).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let name = b"\0\0\0\x0a/zookeeper";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    let data = i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()).max(0) as usize;
    // Behind the data and the key of the ACL: czxid, mzxid, ctime.
    let ctime = at + 4 + data + 8 + 8 + 8;
    bytes[ctime + 7] ^= 1;
    if is_unknown {
        let end = bytes.len() - SEAL;
        bytes[end - 8..end].fill(0);
    }
    for end in [bytes.len() - TAIL, bytes.len() - SEAL] {
        let sum = i64::from(simd_adler32::adler32(&&bytes[..end]));
        bytes[end..end + 8].copy_from_slice(&sum.to_be_bytes());
    }
    fs::write(path, bytes).unwrap();
}

/// Returns when the digests of all trees are one.
fn wait_for_equal_trees(ensemble: &Ensemble, ids: &[ServerId]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for &id in ids {
            ensemble.wait_until_serving(id, PATIENCE).unwrap();
            // Behind it, what was committed is applied there.
            let synced = Client::connect(ensemble.client_addr(id).unwrap()).and_then(|mut client| client.sync());
            assert!(synced.is_ok() || Instant::now() < deadline, "{synced:?}");
        }
        let all: Vec<_> = ids.iter().map(|id| ensemble.status(*id)).collect();
        let same = |of: &Status| (of.tree_digest, of.last_processed);
        if all.iter().all(|status| same(status) == same(&all[0])) {
            return;
        }
        assert!(Instant::now() < deadline, "{all:#?}");
    }
}

/// An ensemble with such a snapshot on server `bent`; behind it `txns` are in everybody's log. All have been stopped, and
/// are started again in the groups of `starts`, each when the one before has a leader.
fn bent(dir: &Path, txns: usize, bent: ServerId, is_unknown: bool, starts: &[&[i64]]) -> Ensemble {
    let config = EnsembleConfig { dir: Some(dir.to_owned()), ..EnsembleConfig::default() };
    let ensemble = Ensemble::start(config).unwrap();
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    ensemble.ids().iter().for_each(|id| ensemble.wait_until_serving(*id, PATIENCE).unwrap());
    for n in 0..txns {
        let mut client = Client::connect(ensemble.client_addr(leader).unwrap()).unwrap();
        client.create(&format!("/{n}"), b"").unwrap();
    }
    if txns > 0 {
        wait_for_equal_trees(&ensemble, &ensemble.ids());
    }
    ensemble.ids().iter().for_each(|id| ensemble.kill(*id).unwrap());
    bend_snapshot(&ensemble.data_dir(bent), is_unknown);
    for ids in starts {
        ids.iter().for_each(|id| ensemble.restart(ServerId(*id)).unwrap());
        ensemble.wait_for_leader(PATIENCE).unwrap();
    }
    ensemble.ids().iter().for_each(|id| ensemble.wait_until_serving(*id, PATIENCE).unwrap());
    ensemble
}

/// Leaders are killed and started again until `id` is the one: whose disk was the quickest, before, is not known.
fn make_leader(ensemble: &Ensemble, id: ServerId) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        ensemble.ids().iter().for_each(|id| ensemble.wait_until_serving(*id, PATIENCE).unwrap());
        let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
        if leader == id {
            return;
        }
        assert!(Instant::now() < deadline, "{leader} leads");
        ensemble.kill(leader).unwrap();
        let next = || ensemble.leader().filter(|next| *next != leader);
        ensemble.wait_for("another leader", PATIENCE, next).unwrap();
        ensemble.restart(leader).unwrap();
    }
}

fn create(ensemble: &Ensemble, at: ServerId, path: &str) {
    Client::connect(ensemble.client_addr(at).unwrap()).unwrap().create(path, b"").unwrap();
}

fn has_said(ensemble: &Ensemble, id: ServerId, what: &str) -> bool {
    ensemble.logs(Some(id)).into_iter().any(|line| line.text.contains(what))
}

fn wait_until_said(ensemble: &Ensemble, id: ServerId, what: &str) {
    let said = ensemble.wait_for(what, PATIENCE, || has_said(ensemble, id, what).then_some(()));
    said.unwrap_or_else(|error| panic!("{error}: {:#?}", ensemble.logs(Some(id))));
}

/// Files of former trees that a server has kept.
fn kept(ensemble: &Ensemble, id: ServerId) -> Vec<String> {
    let files = fs::read_dir(ensemble.data_dir(id).join("version-2")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("zabkit.diverged.")).collect()
}

#[test]
fn a_snapshot_that_was_changed_is_noticed_at_the_start_and_replaced_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let one = ServerId(1);
    let ensemble = bent(dir.path(), 5, one, false, &[&[1, 2, 3]]);
    wait_for_equal_trees(&ensemble, &ensemble.ids());
    for what in
        ["the snapshot's is not that of its tree", "the tree here has diverged", "Getting a snapshot from leader"]
    {
        assert!(has_said(&ensemble, one, what), "{what}: {:#?}", ensemble.logs(Some(one)));
    }
    let kept = kept(&ensemble, one);
    let has = |what: &str| kept.iter().any(|name| name.contains(what));
    assert!(has(".snapshot.") && has(".log."), "{kept:?}");
}

/// Its snapshot tells no digest, so nobody knows whose tree is wrong before a second leader says so too.
#[test]
fn a_tree_that_a_quorum_of_leaders_contradicts_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, three] = [1, 2, 3].map(ServerId);
    let ensemble = bent(dir.path(), 5, one, true, &[&[2, 3], &[1]]);
    make_leader(&ensemble, three);
    assert_ne!(ensemble.status(one).tree_digest, ensemble.status(three).tree_digest, "the test bends nothing");
    create(&ensemble, three, "/a");
    wait_until_said(&ensemble, one, "the digests of leader 3 are not those of the tree");
    ensemble.wait_until_serving(one, PATIENCE).unwrap();
    let mntr = word(ensemble.client_addr(one).unwrap(), b"mntr");
    assert!(mntr.contains("zk_digest_mismatches_count\t") && !mntr.contains("mismatches_count\t0\n"), "{mntr}");

    make_leader(&ensemble, two);
    create(&ensemble, two, "/b");
    wait_until_said(&ensemble, one, "Getting a snapshot from leader");
    wait_for_equal_trees(&ensemble, &ensemble.ids());
    assert_eq!(ensemble.leader(), Some(two), "it could do without that server");
    assert!(!kept(&ensemble, one).is_empty());
    // From then on it fits, and after a restart too.
    create(&ensemble, two, "/c");
    ensemble.kill(one).unwrap();
    ensemble.restart(one).unwrap();
    wait_for_equal_trees(&ensemble, &ensemble.ids());
}

#[test]
fn the_majority_keeps_its_trees_when_the_leaders_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, three] = [1, 2, 3].map(ServerId);
    let ensemble = bent(dir.path(), 5, three, true, &[&[1, 3], &[2]]);
    make_leader(&ensemble, three);
    let sent = |id: ServerId| {
        let lines = ensemble.logs(Some(id)).into_iter();
        lines.filter(|line| line.text.contains("Getting a snapshot from leader")).count()
    };
    let before = [one, two].map(sent); // When all began, a late one was sent the empty tree.
    create(&ensemble, three, "/a");
    for id in [one, two] {
        wait_until_said(&ensemble, id, "the digests of leader 3 are not those of the tree");
    }
    wait_for_equal_trees(&ensemble, &[one, two]);
    for id in [one, two] {
        ensemble.kill(id).unwrap();
        ensemble.restart(id).unwrap();
        ensemble.wait_until_serving(id, PATIENCE).unwrap();
    }
    create(&ensemble, one, "/b");
    wait_for_equal_trees(&ensemble, &[one, two]);
    make_leader(&ensemble, three);
    assert_ne!(ensemble.status(one).tree_digest, ensemble.status(three).tree_digest);
    for id in [one, two] {
        assert_eq!(kept(&ensemble, id), [""; 0]);
    }
    assert_eq!([one, two].map(sent), before);
}
