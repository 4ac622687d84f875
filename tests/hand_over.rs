//! A leader lets another server lead: because it is asked to, and before the zxids of its epoch end.

mod wire;

use std::time::{Duration, Instant};
use wire::Client;
use zabkit::peer::RoleRules;
use zabkit::server::{Ensemble, EnsembleConfig, HandOverError, Listeners, Server};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn each_server_leads_in_turn_when_the_leader_is_asked_to_hand_over() {
    let ensemble = Ensemble::start(EnsembleConfig::default()).unwrap();
    let mut leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    for round in 0..4 {
        ensemble.ids().iter().for_each(|id| ensemble.wait_until_serving(*id, PATIENCE).unwrap());
        let mut client = Client::connect(ensemble.client_addr(leader).unwrap()).unwrap();
        client.create(&format!("/{round}"), b"").unwrap();
        let epoch = ensemble.status(leader).epoch;
        let next = ensemble.hand_over(PATIENCE).unwrap();
        assert_ne!(next, leader);
        assert_eq!(ensemble.status(next).epoch.0, epoch.0 + 1);
        leader = next;
    }
    let mut client = Client::connect(ensemble.client_addr(leader).unwrap()).unwrap();
    for round in 0..4 {
        client.get(&format!("/{round}")).unwrap();
    }
}

#[test]
fn only_a_leader_with_followers_hands_over() {
    let dir = tempfile::tempdir().unwrap();
    let config = zabkit::server::Config::standalone(0, dir.path().to_owned());
    let server = Server::start(config, Listeners::default()).unwrap();
    assert!(matches!(server.hand_over(PATIENCE), Err(HandOverError::NotLeading(_))));
}

/// Every write is answered or its connection is lost; those that were answered are there.
#[test]
fn epochs_follow_each_other_while_clients_write() {
    let roles = RoleRules { hand_over_at: 40, ..RoleRules::default() };
    let ensemble = Ensemble::start(EnsembleConfig { roles, ..EnsembleConfig::default() }).unwrap();
    let first = ensemble.wait_for_leader(PATIENCE).unwrap();
    let first = ensemble.status(first).epoch;
    let deadline = Instant::now() + PATIENCE;
    let (mut written, mut epoch) = (Vec::new(), first);
    while epoch.0 < first.0 + 3 {
        assert!(Instant::now() < deadline, "epoch {epoch} after {} writes", written.len());
        let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
        epoch = ensemble.status(leader).epoch;
        let Ok(mut client) = Client::connect(ensemble.client_addr(leader).unwrap()) else { continue };
        for n in 0.. {
            let path = format!("/{epoch}-{}-{n}", written.len());
            match client.create(&path, b"") {
                Ok(_) => written.push(path),
                Err(_) => break,
            }
        }
    }
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    let mut client = Client::connect(ensemble.client_addr(leader).unwrap()).unwrap();
    assert!(written.len() > 60, "{}", written.len());
    written.iter().for_each(|path| drop(client.get(path).unwrap()));
}
