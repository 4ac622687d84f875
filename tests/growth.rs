//! An ensemble in this process grows from one server to three and shrinks to one; what was written stays.

mod wire;

use std::time::Duration;
use wire::Client;
use zabkit::server::{Ensemble, EnsembleConfig, EnsembleError, PeerType, Role};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn one_becomes_three_with_an_observer_and_one_again() {
    let ensemble = Ensemble::start(EnsembleConfig { servers: 1, ..EnsembleConfig::default() }).unwrap();
    let first = ensemble.wait_for_leader(PATIENCE).unwrap();
    let create = |path: &str| {
        let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
        Client::connect(ensemble.client_addr(leader).unwrap()).unwrap().create(path, b"").unwrap();
    };
    create("/one");
    let second = ensemble.add(PeerType::Participant, PATIENCE).unwrap();
    let third = ensemble.add(PeerType::Participant, PATIENCE).unwrap();
    let observer = ensemble.add(PeerType::Observer, PATIENCE).unwrap();
    assert_eq!(ensemble.ids(), [first, second, third, observer]);
    assert_eq!(ensemble.status(observer).role, Role::Observing);
    create("/three");

    // The leader first: another one leads when it is gone.
    ensemble.remove(first, PATIENCE).unwrap();
    assert_ne!(ensemble.leader(), None);
    create("/two");
    ensemble.remove(observer, PATIENCE).unwrap();
    ensemble.remove(second, PATIENCE).unwrap();
    assert_eq!((ensemble.ids(), ensemble.leader()), (vec![third], Some(third)));
    assert_eq!(ensemble.status(first).role, Role::Ended);
    let last = ensemble.remove(third, PATIENCE);
    assert!(matches!(last, Err(EnsembleError::Refused(_))), "{last:?}");

    let mut client = Client::connect(ensemble.client_addr(third).unwrap()).unwrap();
    ["/one", "/two", "/three"].iter().for_each(|path| drop(client.get(path).unwrap()));
}
