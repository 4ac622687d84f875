//! A server with a tree that is not the ensemble's notices it, and has itself sent the right one.

mod wire;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use wire::{Client, word};
use zabkit::records::ServerId;
use zabkit::server::{Ensemble, EnsembleConfig, Status};

const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes behind the body of a snapshot of 3.8: a seal (a checksum and "/"), the digest section, another seal.
const SEAL: usize = 8 + 5;
const TAIL: usize = SEAL + 20 + SEAL;

/// Changes the ctime of `/zookeeper` in the only snapshot, so that the tree is another one, and seals it again.
fn bend_snapshot(dir: &Path) {
    let path = dir.join("version-2/snapshot.0");
    let mut bytes = fs::read(&path).unwrap();
    let name = b"\0\0\0\x0a/zookeeper";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    let data = i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()).max(0) as usize;
    // Behind the data and the key of the ACL: czxid, mzxid, ctime.
    let ctime = at + 4 + data + 8 + 8 + 8;
    bytes[ctime + 7] ^= 1;
    for end in [bytes.len() - TAIL, bytes.len() - SEAL] {
        let sum = i64::from(simd_adler32::adler32(&&bytes[..end]));
        bytes[end..end + 8].copy_from_slice(&sum.to_be_bytes());
    }
    fs::write(path, bytes).unwrap();
}

/// Returns when the digests of all trees are one.
fn wait_for_equal_trees(ensemble: &Ensemble) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for id in ensemble.ids() {
            ensemble.wait_until_serving(id, PATIENCE).unwrap();
            // Behind it, what was committed is applied there.
            let synced = Client::connect(ensemble.client_addr(id).unwrap()).and_then(|mut client| client.sync());
            assert!(synced.is_ok() || Instant::now() < deadline, "{synced:?}");
        }
        let all: Vec<_> = ensemble.ids().into_iter().map(|id| ensemble.status(id)).collect();
        let same = |of: &Status| (of.tree_digest, of.last_processed);
        if all.iter().all(|status| same(status) == same(&all[0])) {
            return;
        }
        assert!(Instant::now() < deadline, "{all:#?}");
    }
}

/// An ensemble with such a snapshot on its first server; behind it `txns` are in everybody's log. All have been
/// stopped and started again, the bent one among the first two, who elect a leader.
fn bent(dir: &Path, txns: usize) -> (Ensemble, ServerId) {
    let config = EnsembleConfig { dir: Some(dir.to_owned()), ..EnsembleConfig::default() };
    let ensemble = Ensemble::start(config).unwrap();
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    ensemble.ids().iter().for_each(|id| ensemble.wait_until_serving(*id, PATIENCE).unwrap());
    for n in 0..txns {
        let mut client = Client::connect(ensemble.client_addr(leader).unwrap()).unwrap();
        client.create(&format!("/{n}"), b"").unwrap();
    }
    if txns > 0 {
        wait_for_equal_trees(&ensemble);
    }
    ensemble.ids().iter().for_each(|id| ensemble.kill(*id).unwrap());
    // One of the first two of before: who came too late for them was sent a snapshot, which is a newer one.
    let snapshots = |id: ServerId| {
        let files = fs::read_dir(ensemble.data_dir(id).join("version-2")).unwrap();
        files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with("snapshot.")).count()
    };
    let has_first = |id: &ServerId| snapshots(*id) == 1 && ensemble.data_dir(*id).join("version-2/snapshot.0").exists();
    let bent = ensemble.ids().into_iter().find(has_first).unwrap();
    bend_snapshot(&ensemble.data_dir(bent));
    // A server with a higher id comes next, and leads.
    let others = ensemble.ids().into_iter().rev().filter(|id| *id != bent);
    std::iter::once(bent).chain(others).for_each(|id| ensemble.restart(id).unwrap());
    (ensemble, bent)
}

#[test]
fn a_tree_that_is_found_to_be_another_at_a_commit_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (ensemble, bent) = bent(dir.path(), 0);
    // All, so that the leader can do without it.
    ensemble.ids().iter().for_each(|id| ensemble.wait_until_serving(*id, PATIENCE).unwrap());
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    assert_ne!(ensemble.status(bent).tree_digest, ensemble.status(leader).tree_digest, "the test bends nothing");

    let mut client = Client::connect(ensemble.client_addr(leader).unwrap()).unwrap();
    client.create("/a", b"").unwrap();
    let addr = ensemble.client_addr(bent).unwrap();
    let said = || ensemble.logs(Some(bent)).into_iter().any(|line| line.text.contains("the tree here has diverged"));
    ensemble.wait_for("the divergence", PATIENCE, || said().then_some(())).unwrap();
    wait_for_equal_trees(&ensemble);
    assert_eq!(ensemble.leader(), Some(leader));
    let mntr = word(addr, b"mntr");
    assert!(mntr.contains("zk_digest_mismatches_count\t") && !mntr.contains("mismatches_count\t0\n"), "{mntr}");
    // From then on it fits, and after a restart too.
    client.create("/b", b"").unwrap();
    ensemble.kill(bent).unwrap();
    ensemble.restart(bent).unwrap();
    wait_for_equal_trees(&ensemble);
}

#[test]
fn a_tree_that_is_found_to_be_another_at_the_start_is_replaced_before_it_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let (ensemble, bent) = bent(dir.path(), 5);
    ensemble.wait_until_serving(bent, PATIENCE).unwrap();
    wait_for_equal_trees(&ensemble);
    let lines: Vec<String> = ensemble.logs(Some(bent)).into_iter().map(|line| line.text).collect();
    let said = |what: &str| lines.iter().any(|line| line.contains(what));
    assert!(said("the tree here has diverged") && said("Getting a snapshot from leader"), "{lines:#?}");
}
