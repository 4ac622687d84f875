//! What an [`Ensemble`] does to its members, where it needs a look inside; the rest is in `tests/python`.

use super::{Ensemble, EnsembleConfig, EnsembleError, Exit, LogLine, Role, Transition};
use crate::records::ServerId;
use std::collections::BTreeSet;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

fn ensemble() -> Ensemble {
    let ensemble = Ensemble::start(EnsembleConfig { tick_time_ms: 50, ..EnsembleConfig::default() }).unwrap();
    for id in ensemble.ids() {
        ensemble.wait_until_serving(id, PATIENCE).unwrap();
    }
    ensemble
}

fn follower(ensemble: &Ensemble) -> ServerId {
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    *ensemble.ids().iter().find(|&&id| id != leader).unwrap()
}

#[test]
fn a_kill_leaves_a_disk_that_hangs_behind_and_the_directory_with_it() {
    let ensemble = ensemble();
    let victim = follower(&ensemble);
    let disk = ensemble.disk(victim).unwrap();
    disk.hang(true);
    // The next epoch is saved by all of them.
    ensemble.kill(ensemble.wait_for_leader(PATIENCE).unwrap()).unwrap();
    disk.wait_hanging();

    ensemble.kill(victim).unwrap();
    assert_eq!(ensemble.exit(victim), Some(Exit::Killed));
    let error = ensemble.restart(victim).unwrap_err();
    assert!(error.to_string().contains("lock"), "{error}");
    disk.hang(false);
    let again = || ensemble.restart(victim).ok();
    while again().is_none() {
        std::thread::yield_now();
    }
    ensemble.wait_until_serving(victim, PATIENCE).unwrap();
}

#[test]
fn a_paused_member_does_nothing_and_can_be_ended_in_every_way() {
    for end in [Ensemble::kill, Ensemble::restart, Ensemble::stop, |ensemble: &Ensemble, _| {
        ensemble.shutdown();
        Ok(())
    }] {
        let ensemble = ensemble();
        let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
        ensemble.pause(leader).unwrap();
        assert!(ensemble.is_paused(leader));
        assert_ne!(ensemble.wait_for_leader(PATIENCE).unwrap(), leader);
        end(&ensemble, leader).unwrap();
        assert!(!ensemble.is_paused(leader));
    }
}

#[test]
fn workers_stand_still_too_while_their_server_is_paused() {
    let config = EnsembleConfig { servers: 1, workers: 2, ..EnsembleConfig::default() };
    let ensemble = Ensemble::start(config).unwrap();
    let id = ensemble.wait_for_leader(PATIENCE).unwrap();
    // So often that some thread still stands from the last pause when the next one comes.
    for _ in 0..500 {
        ensemble.pause(id).unwrap();
        assert_eq!(ensemble.leader(), None);
        ensemble.resume(id).unwrap();
    }
    assert_eq!(ensemble.leader(), Some(id));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_reason() {
    let ensemble = ensemble();
    let group = |ids: &[i64]| ids.iter().map(|&id| ServerId(id)).collect::<BTreeSet<_>>();
    let refused = |result: Result<(), EnsembleError>| result.unwrap_err().to_string();
    assert_eq!(refused(ensemble.partition(&[group(&[1, 4])])), "there is no server 4 in this ensemble");
    assert!(refused(ensemble.partition(&[group(&[1]), group(&[1, 2])])).contains("server 1 is in two groups"));
    assert!(refused(ensemble.partition(&[])).contains("at least one group"));
    let link = |from, to, loss| ensemble.slow_link(ServerId(from), ServerId(to), Duration::ZERO, loss);
    assert!(refused(link(1, 1, 0.0)).contains("no link to itself"));
    assert!(refused(link(1, 2, 1.0)).contains("from 0 to below 1"));
    assert!(refused(link(1, 2, f64::NAN)).contains("from 0 to below 1"));
    assert!(refused(link(0, 2, 0.0)).contains("no server 0"));
}

#[test]
fn transitions_and_lines_tell_what_happened_to_whom() {
    let ensemble = ensemble();
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    ensemble.kill(leader).unwrap();
    let next = ensemble.wait_for_leader(PATIENCE).unwrap();
    // It is written down a moment after it is so.
    let is_led = |of: &&Transition| of.server == next && of.serving && of.after == Role::Leading;
    let led = ensemble.wait_for("transition", PATIENCE, || ensemble.transitions().iter().rfind(is_led).cloned());
    assert_eq!(led.unwrap().leader, Some(next));
    let all = ensemble.transitions();
    assert!(all.is_sorted_by_key(|transition| transition.time));
    let of = |id| all.iter().filter(move |transition| transition.server == id);
    let roles = of(leader).map(|transition| (transition.before, transition.after)).collect::<Vec<_>>();
    assert_eq!(roles.first(), Some(&(Role::Ended, Role::Looking)));
    assert_eq!(roles.last(), Some(&(Role::Leading, Role::Ended)));
    assert_eq!(of(leader).next_back().unwrap().reason, "killed");
    assert!(of(next).any(|transition| transition.before == Role::Following && !transition.reason.is_empty()));

    let lines = ensemble.logs(Some(next));
    assert!(lines.iter().all(|line| line.server == next));
    assert!(lines.iter().any(|line| line.text.contains("LEADER ELECTION TOOK")), "{lines:?}");
    assert!(ensemble.logs(None).len() > lines.len());
}

#[test]
fn a_server_says_where_it_finds_nobody() {
    let ensemble = ensemble();
    let leader = ensemble.wait_for_leader(PATIENCE).unwrap();
    ensemble.kill(leader).unwrap();
    let said = format!("Cannot open channel to {leader} at election address 127.0.0.1:");
    let is_said = |line: &LogLine| line.text.contains(&said) && line.text.contains("refused");
    while !ensemble.logs(None).iter().any(is_said) {
        std::thread::yield_now();
    }
}
