//! Replays the client traffic that was recorded from Apache ZooKeeper 3.8.0, and compares every frame byte by byte:
//! against [`Database`](zabkit::peer::Database) and [`InFlight`](zabkit::peer::InFlight) alone, and against whole
//! servers over sockets. What rightly differs stands in `docs/compatibility.md`, which is read here.

#![allow(clippy::needless_update, reason = "settings and configurations grow")]

#[path = "../vectors/differences.rs"]
mod differences;
mod host;
mod mutated;
mod replay;
mod socket;
mod table;
mod vectors;

use host::Host;
use replay::{Counts, Replay, World};
use socket::Socket;
use std::collections::BTreeSet;
use table::{Instead, Table};
use vectors::{Scenario, Step};

#[test]
fn recorded_conversations_are_answered_with_the_same_frames() {
    replay_all("database", false, |scenario| is_alone(scenario).then(Host::new));
}

/// The comparison above can fail: one byte of one answer is enough, unless it belongs to a time.
#[test]
fn an_answer_with_one_byte_altered_is_noticed() {
    let mut counts = replay_all("altered", true, |scenario| is_alone(scenario).then(Host::new));
    counts += replay_all("altered", true, |scenario| (!is_alone(scenario)).then(|| Socket::of(&scenario.name)));
    assert_eq!(counts.altered, 3 * (counts.bytes - counts.times), "every byte that is no time was altered");
    assert_eq!(counts.frames, recorded(|step| step.expect.len()));
}

#[test]
fn whole_servers_answer_them_over_sockets() {
    let counts = replay_all("sockets", false, |scenario| Some(Socket::of(&scenario.name)));
    assert_eq!(counts.same + counts.listed, recorded(|_| 1), "steps");
    assert_eq!(counts.frames, recorded(|step| step.expect.len()), "frames");
}

#[test]
fn each_line_of_the_table_is_about_something_that_was_recorded() {
    let (table, scenarios) = (Table::load(), vectors::load());
    let steps = scenarios.iter().flat_map(|scenario| &scenario.steps).map(|step| step.id.as_str());
    let known: BTreeSet<&str> =
        steps.chain(scenarios.iter().map(|scenario| scenario.name.as_str())).chain(["events"]).collect();
    let unknown: Vec<&str> = table.names().filter(|name| !known.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// Whether it was recorded from a standalone server, which a database alone is too.
fn is_alone(scenario: &Scenario) -> bool {
    !["local-session", "read-only"].contains(&scenario.name.as_str())
}

/// The sum over all recorded steps.
fn recorded(count: impl Fn(&Step) -> usize) -> usize {
    vectors::load().iter().flat_map(|scenario| &scenario.steps).map(count).sum()
}

/// Replays every scenario in a world of its own and prints what was compared. `None`: no such world can play it.
fn replay_all<W: World>(name: &str, alter: bool, new: impl Fn(&Scenario) -> Option<W>) -> Counts {
    let (table, scenarios) = (Table::load(), vectors::load());
    let (mut total, mut failures) = (Counts::default(), Vec::new());
    for scenario in &scenarios {
        if table.get(&scenario.name) == Some(&Instead::NotReplayed) {
            println!("{name}: {:20} not replayed: {} steps", scenario.name, scenario.steps.len());
            continue;
        }
        let Some(world) = new(scenario) else { continue };
        let mut replay = Replay::new(world, scenario, &table);
        replay.alter = alter;
        replay.run(&mut failures);
        print(name, &scenario.name, replay.counts);
        total += replay.counts;
    }
    print(name, "all", total);
    assert!(failures.is_empty(), "{} steps differ:\n{}", failures.len(), failures.join("\n"));
    total
}

fn print(world: &str, scenario: &str, counts: Counts) {
    let Counts { same, listed, frames, bytes, masked, times, altered } = counts;
    println!(
        "{world}: {scenario:20} {same:3} steps the same, {listed} listed; {frames:3} frames of {bytes:5} bytes, {masked} \
         of them masked, {times} of these times; {altered} altered"
    );
}
