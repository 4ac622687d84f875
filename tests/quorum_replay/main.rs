//! Replays what servers of Apache ZooKeeper 3.8.0 were recorded to say to each other, and compares every byte: a real
//! server of ours over sockets, whose other side is scripted by the recording, as learner and as leader.

#[path = "../vectors/differences.rs"]
mod differences;
#[path = "../vectors/mod.rs"]
mod vectors;

mod compare;
mod election;
mod helper;
mod leader;
mod learner;
mod puppets;
mod sasl;
mod script;
mod table;
mod world;

use compare::Counts;
use script::Sequence;
use table::Table;

/// Not replayed yet: learners that had seen the members change before they connected.
fn is_pending(sequence: &Sequence) -> bool {
    sequence.run == "reconfig" && !["sequence-11", "sequence-12"].contains(&&*sequence.name)
}

#[test]
fn as_a_learner_our_server_says_what_apaches_said() {
    replay_all("learner", learner::replay);
}

#[test]
fn as_a_leader_our_server_says_what_apaches_said() {
    replay_all("leader", |sequence, _| leader::replay(sequence));
}

fn replay_all(role: &str, replay: impl Fn(&Sequence, &Table) -> Result<Counts, String>) {
    let (table, mut total, mut failures) = (Table::load(), Counts::default(), Vec::new());
    for sequence in script::sequences() {
        let Sequence { name, run, learner, .. } = &sequence;
        if is_pending(&sequence) {
            println!("{role}: {name} {run} server {learner}: not replayed yet");
            continue;
        }
        match replay(&sequence, &table) {
            Ok(counts) => {
                println!("{role}: {name} {run} server {learner}: {counts:?}");
                total += counts;
            }
            Err(why) => failures.push(format!("{name}: {why}")),
        }
    }
    println!("{role}: all: {total:?}");
    assert!(failures.is_empty(), "{} sequences differ:\n{}", failures.len(), failures.join("\n"));
    assert!(total.packets > 60 && total.altered + total.masked >= total.bytes, "{total:?}");
}

/// Each single packet stands in a sequence, and is replayed with it.
#[test]
fn the_packets_of_the_handshake_are_those_of_the_sequences() {
    let sequences = script::sequences();
    let sent: Vec<&[u8]> = sequences.iter().flat_map(|each| &each.packets).map(|packet| &*packet.bytes).collect();
    let (_, file) = vectors::json_files("quorum").into_iter().find(|(name, _)| name == "handshake").unwrap();
    for packet in vectors::list(&file, "packets") {
        let bytes = vectors::unhex(&packet["hex"]);
        assert!(sent.contains(&&*bytes), "{} stands alone", vectors::text(packet, "kind"));
    }
}

#[test]
fn each_line_of_the_table_is_about_a_recorded_sequence() {
    let sequences = script::sequences();
    let names: Vec<&str> = sequences.iter().map(|sequence| sequence.name.as_str()).collect();
    let table = Table::load();
    let unknown: Vec<&str> = table.names().filter(|name| !names.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
