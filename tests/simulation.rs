//! The simulator as a test: seeds without a violation, the same run for the same seed, and planted bugs that are seen.

use std::collections::BTreeSet;
use std::sync::Mutex;
use zabkit::sim::steps::{STEPS, VICTIMS};
use zabkit::sim::{Counts, Options, Planted, Report, Scenario, run_seed};

/// Runs seeds on two threads: each run is a world of its own.
fn run_all(seeds: &[(u64, Options)]) -> Vec<Report> {
    let next = Mutex::new(seeds.iter());
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(&(seed, options)) = next.lock().unwrap().next() else { return };
                    let report = run_seed(seed, options);
                    reports.lock().unwrap().push(report);
                }
            });
        }
    });
    reports.into_inner().unwrap()
}

fn assert_no_violation(reports: &[Report]) {
    let violations: Vec<String> = reports
        .iter()
        .filter_map(|report| {
            let (at, what) = report.violation.as_ref()?;
            Some(format!("seed {} ({} servers) at {:.6} s: {what}", report.seed, report.servers, *at as f64 / 1e6))
        })
        .collect();
    assert!(violations.is_empty(), "replay with `zabkit simulate --seed N --trace`:\n{}", violations.join("\n"));
}

/// What has happened in the runs at least once, so that they have tested something.
fn assert_everything_has_happened(counts: &Counts) {
    // Others come too seldom for so few seeds; `make sim` runs enough for all.
    let mut never = counts.never(Scenario::Mixed);
    never.retain(|name| !["streams_interrupted", "members_mended"].contains(name) && !name.ends_with("a_cut"));
    assert!(never.is_empty(), "never happened: {never:?}");
}

#[test]
fn seeds_run_without_a_violation_and_meet_every_kind_of_trouble() {
    // With 33 a new leader completes a change of the one before, which is rare.
    let seeds: Vec<_> = (0..24).chain([33]).map(|seed| (seed, Options::default())).collect();
    let reports = run_all(&seeds);
    assert_no_violation(&reports);
    let mut counts = Counts::default();
    reports.iter().for_each(|report| counts.add(&report.counts));
    assert_everything_has_happened(&counts);
}

#[test]
fn seeds_that_once_failed_run_without_a_violation() {
    let kept = include_str!("testdata/sim/seeds.txt");
    let seeds: Vec<_> = kept
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            let mut words = line.split_whitespace();
            let seed = words.next().and_then(|word| word.parse().ok()).expect("a seed");
            let servers = words.next().and_then(|word| word.parse().ok());
            let plain = match words.next() {
                Some("plain") => true,
                Some("whole") => false,
                other => panic!("seed {seed}: {other:?} is neither plain nor whole"),
            };
            (seed, Options { servers, plain, ..Options::default() })
        })
        .collect();
    assert_no_violation(&run_all(&seeds));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let seeds: Vec<_> = (100..106).map(|seed| (seed, Options { servers: Some(3), ..Options::default() })).collect();
    let key = |report: &Report| (report.seed, report.trace_hash, report.counts.clone());
    let mut first: Vec<_> = run_all(&seeds).iter().map(key).collect();
    let mut second: Vec<_> = run_all(&seeds).iter().map(key).collect();
    first.sort_by_key(|(seed, ..)| *seed);
    second.sort_by_key(|(seed, ..)| *seed);
    assert_eq!(first, second);
    assert_ne!(first[0].1, first[1].1, "different seeds give different runs");
}

/// A bug that is planted in the host must be caught within a hundred seeds, or the checkers are blind.
fn is_caught(planted: Planted, scenario: Scenario) -> Option<Report> {
    let options = Options { planted: Some(planted), scenario, ..Options::default() };
    (0..100).map(|seed| run_seed(seed, options)).find(|report| report.violation.is_some())
}

#[test]
fn an_ack_before_the_sync_is_caught() {
    let report = is_caught(Planted::AckBeforeSync, Scenario::Mixed).expect("caught");
    assert!(report.violation.unwrap().1.contains("on the disks of"));
}

#[test]
fn an_epoch_saved_before_the_history_is_caught() {
    is_caught(Planted::EpochBeforeHistory, Scenario::Mixed).expect("caught");
}

fn cut_off(seed: u64, planted: Option<Planted>) -> Report {
    run_seed(seed, Options { scenario: Scenario::CutOffLeader, planted, ..Options::default() })
}

#[test]
fn a_read_behind_a_sync_is_fresh_or_fails_on_a_minority_with_the_old_leader() {
    let reports: Vec<_> = (0..8).map(|seed| cut_off(seed, None)).collect();
    assert_no_violation(&reports);
    let mut counts = Counts::default();
    reports.iter().for_each(|report| counts.add(&report.counts));
    assert_eq!(counts.never(Scenario::CutOffLeader), [] as [&str; 0]);
}

#[test]
fn a_reconfiguration_interrupted_at_any_step_leaves_the_old_ensemble_or_the_new_one() {
    let options = Options { scenario: Scenario::ReconfigSteps, ..Options::default() };
    // In the last two, those that knew of the change voted for old members and for new ones out of step.
    let seeds: Vec<_> = (0..12).chain([75, 111]).map(|seed| (seed, options)).collect();
    let reports = run_all(&seeds);
    assert_no_violation(&reports);
    let mut counts = Counts::default();
    reports.iter().for_each(|report| counts.add(&report.counts));
    assert_eq!(counts.never(Scenario::ReconfigSteps), [] as [&str; 0]);
    let hit: BTreeSet<_> = reports.iter().flat_map(|report| &report.interrupted).copied().collect();
    let all = STEPS.iter().flat_map(|step| VICTIMS.iter().map(|who| (*step, *who)));
    let missed: Vec<_> = all.filter(|each| !hit.contains(each)).collect();
    assert!(missed.len() < 12, "never interrupted: {missed:?}");
}

#[test]
fn a_sync_without_a_quorum_is_caught() {
    let mut reports = (0..20).map(|seed| cut_off(seed, Some(Planted::SyncWithoutQuorum)));
    let (_, what) = reports.find_map(|report| report.violation).expect("caught");
    assert!(what.contains("was acknowledged before"), "{what}");
}

#[test]
fn a_truncation_that_is_skipped_is_caught() {
    is_caught(Planted::TruncSkipped, Scenario::Mixed).expect("caught");
}

#[test]
fn an_ack_of_an_observer_that_counts_is_caught() {
    let report = is_caught(Planted::ObserverAcks, Scenario::ReconfigSteps).expect("caught");
    let (_, what) = report.violation.unwrap();
    assert!(what.starts_with("epoch") && what.ends_with("disks only"), "{what}");
}

#[test]
fn a_reconfiguration_that_the_old_quorum_decides_alone_is_caught() {
    let report = is_caught(Planted::OldQuorumAlone, Scenario::ReconfigSteps).expect("caught");
    let (_, what) = report.violation.unwrap();
    assert!(what.contains("is committed, but on the disks of"), "{what}");
}
