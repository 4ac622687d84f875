//! How a server that was away is brought up to date by the others, over sockets and files.

mod wire;

use std::time::Duration;
use wire::Client;
use zabkit::peer::CatchUpRules;
use zabkit::records::{Request, ServerId, SetDataRequest};
use zabkit::server::{Ensemble, EnsembleConfig};

const PATIENCE: Duration = Duration::from_secs(30);
/// More than memory keeps of the history.
const WRITES: i32 = 1200;

/// Writes that many times 4 KiB, and takes the answers.
fn write(client: &mut Client, count: i32) {
    for _ in 0..count {
        let data = Some(vec![b'x'; 4096]);
        client.send_request(&Request::SetData(SetDataRequest { path: Some("/a".into()), data, version: -1 }));
    }
    for _ in 0..count {
        let (_, err, _) = client.reply().unwrap();
        assert_eq!(err, 0);
    }
}

/// An ensemble of three, one of whose followers was away for [`WRITES`] writes and has come back while more are made;
/// what its leader said of it.
fn after_a_long_absence(config: EnsembleConfig) -> Vec<String> {
    let ensemble = Ensemble::start(config).unwrap();
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    let away = *ensemble.ids().iter().find(|&&id| id != leader).unwrap();
    // All of them: without the one that is killed, the other two are the quorum.
    ensemble.ids().into_iter().for_each(|id| ensemble.wait_until_serving(id, PATIENCE).unwrap());
    let mut client = Client::connect(ensemble.client_addr(leader).unwrap()).unwrap();
    client.create("/a", b"").unwrap();
    let mut follower = Client::connect(ensemble.client_addr(away).unwrap()).unwrap();
    follower.sync().unwrap();

    ensemble.kill(away).unwrap();
    write(&mut client, WRITES);
    std::thread::scope(|scope| {
        scope.spawn(|| write(&mut client, 2 * WRITES));
        ensemble.restart(away).unwrap();
    });
    ensemble.wait_until_serving(away, PATIENCE).unwrap();
    assert_eq!(ensemble.leader(), Some(leader), "the test is about one leader");
    let mut follower = Client::connect(ensemble.client_addr(away).unwrap()).unwrap();
    follower.sync().unwrap();
    let equal = |a: ServerId, b: ServerId| {
        let (a, b) = (ensemble.status(a), ensemble.status(b));
        (a.last_processed == b.last_processed && a.tree_digest == b.tree_digest).then_some(())
    };
    ensemble.wait_for("equal trees", PATIENCE, || equal(leader, away)).unwrap();
    let of_it = format!("learner {away}");
    let lines = ensemble.logs(Some(leader)).into_iter().map(|line| line.text);
    // The first was when the ensemble began.
    lines.filter(|text| text.contains(&of_it)).skip_while(|text| !text.contains("closing the connection")).collect()
}

#[test]
fn what_is_not_in_memory_any_more_comes_from_the_log() {
    let catch_up = CatchUpRules { log_size_factor: Some(0.0), ..CatchUpRules::default() };
    let said = after_a_long_absence(EnsembleConfig { catch_up, ..EnsembleConfig::default() });
    assert!(said.iter().any(|line| line.contains("Sending DIFF")), "{said:#?}");
    assert!(!said.iter().any(|line| line.contains("Sending SNAP")), "{said:#?}");
}

#[test]
fn a_log_that_is_large_beside_the_snapshot_is_not_sent() {
    // The log file with which the follower begins does not count, as in 3.8.0: there must be more of them.
    let said = after_a_long_absence(EnsembleConfig { snap_count: WRITES as u32 / 4, ..EnsembleConfig::default() });
    assert!(said.iter().any(|line| line.contains("it is too large beside the newest snapshot")), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("Sending SNAP")), "{said:#?}");
}
