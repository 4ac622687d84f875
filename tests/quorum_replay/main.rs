//! Replays what servers of Apache ZooKeeper 3.8.0 were recorded to say to each other, and compares every byte: a real
//! server of ours over sockets, whose other side is scripted by the recording, as learner and as leader.

#[path = "../vectors/differences.rs"]
mod differences;
#[path = "../vectors/mod.rs"]
mod vectors;

mod before;
mod broadcast;
mod client;
mod compare;
mod election;
mod helper;
mod leader;
mod learner;
mod puppets;
mod reconfig;
mod sasl;
mod script;
mod snapshot;
mod table;
mod world;

use compare::{Comparer, Counts};
use script::{Packet, Sequence};
use std::collections::BTreeSet;
use table::Table;

/// Each packet of these files must have been said by a server of ours; logins have [a test of their own](sasl).
const FILES: [&str; 5] = ["sequences", "handshake", "broadcast", "reconfig", "election"];

/// What was replayed in one role.
#[derive(Default)]
struct Replayed {
    counts: Counts,
    compared: BTreeSet<(bool, Vec<u8>)>,
    failures: Vec<String>,
}

impl Replayed {
    fn add(&mut self, role: &str, name: &str, of: &str, result: Result<Comparer, String>) {
        match result {
            Ok(Comparer { counts, compared, .. }) => {
                println!("{role}: {name} {of}: {counts:?}");
                self.counts += counts;
                self.compared.extend(compared);
            }
            Err(why) => self.failures.push(format!("{role}: {name}: {why}")),
        }
    }
}

impl std::ops::AddAssign for Replayed {
    fn add_assign(&mut self, other: Replayed) {
        self.counts += other.counts;
        self.compared.extend(other.compared);
        self.failures.extend(other.failures);
    }
}

#[test]
fn whatever_apaches_servers_were_recorded_to_say_ours_says() {
    let learner = std::thread::spawn(|| replay_all("learner", learner::replay));
    let mut all = replay_all("leader", |sequence, _| leader::replay(sequence));
    all += learner.join().unwrap();
    all.add("election", "two addresses", "multi", election::replay_two_addresses());
    println!("all: {:?}", all.counts);

    let mut missing = Vec::new();
    for (file, packets) in FILES.map(|file| (file, script::packets(file))) {
        let is_missing = |packet: &&Packet| !all.compared.contains(&(packet.from_leader, packet.recorded.clone()));
        let absent: Vec<&Packet> = packets.iter().filter(is_missing).collect();
        println!("{file}.json: {} of {} packets", packets.len() - absent.len(), packets.len());
        missing.extend(absent.iter().map(|packet| format!("{file}: {}", packet.kind)));
    }
    assert!(all.failures.is_empty(), "{} differ:\n{}", all.failures.len(), all.failures.join("\n"));
    assert!(missing.is_empty(), "{} packets are not replayed:\n{}", missing.len(), missing.join("\n"));
    assert!(all.counts.packets > 590 && all.counts.altered + all.counts.masked >= all.counts.bytes, "{:?}", all.counts);
}

fn replay_all(role: &str, replay: impl Fn(&Sequence, &Table) -> Result<Comparer, String>) -> Replayed {
    let (table, mut replayed) = (Table::load(), Replayed::default());
    let (sequences, conversations) = (script::sequences(), broadcast::conversations());
    for sequence in sequences.iter().chain(&conversations) {
        let Sequence { name, run, learner, .. } = sequence;
        replayed.add(role, name, &format!("{run} server {learner}"), replay(sequence, &table));
    }
    let all = sequences.len() + conversations.len();
    let done = all - replayed.failures.len();
    println!("{role}: {done} of {all}, {} of them recorded sequences: {:?}", sequences.len(), replayed.counts);
    replayed
}

#[test]
fn each_line_of_the_table_is_about_a_recorded_sequence() {
    let sequences = script::sequences();
    let messages = (0..script::singles("election").len()).map(|index| format!("election-{index:02}"));
    let packets = (0..script::singles("broadcast").len()).map(|index| format!("broadcast-{index:02}"));
    let names = sequences.into_iter().map(|sequence| sequence.name);
    let names: Vec<String> = names.chain(messages).chain(packets).collect();
    let table = Table::load();
    let unknown: Vec<&str> = table.names().filter(|name| !names.iter().any(|known| known == name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
