//! What the server says on election connections, beside what a 3.8.0 server was recorded to say.

use super::compare::Comparer;
use super::puppets::{Heard, Policy};
use super::script::{self, Packet, Ports};
use super::table::{Instead, Table};
use super::world::{PATIENCE, World};
use std::io::{Read, Write};
use std::net::TcpStream;
use zabkit::records::{Notification, ServerId};

/// Where a message stands in `election.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message(pub usize);

/// Run `main`: what server 2 says when it begins to look for a leader, and what is answered to who looks.
pub const INITIAL: Message = Message(0);
pub const LOOKING: Message = Message(1);
pub const FOLLOWING: Message = Message(2);
pub const LEADING: Message = Message(3);
/// An observer has no vote.
pub const OBSERVER: Message = Message(4);
/// Run `multi`: server 3 has two addresses.
pub const TWO_ADDRESSES: Message = Message(5);
/// Run `reconfig`: server 3 begins to look for a leader; server 4 does, with a list that the others have not.
pub const FOUNDER: Message = Message(6);
pub const JOINER: Message = Message(7);
pub const FOLLOWING_AGREED: Message = Message(8);
pub const LEADING_AGREED: Message = Message(9);
/// Server 4 has learnt what the others go by, where it is no member.
pub const STRANGER: Message = Message(10);
/// Server 4 looks for a leader as a member; server 2, which a reconfiguration has named, says that it leads.
pub const MEMBER: Message = Message(11);
pub const DESIGNATED: Message = Message(12);

/// Compares one message with the recorded one.
pub fn compare(ports: &Ports, message: Message, received: &[u8], comparer: &mut Comparer) -> Result<(), String> {
    let mut recorded = script::message(message.0).at(ports);
    let Message(index) = message;
    if let Some(Instead::Round(round)) = Table::load().get(&format!("election-{index:02}")) {
        with_round(&mut recorded, *round);
    }
    comparer.compare(&recorded, received)
}

/// The message of another round of elections.
fn with_round(recorded: &mut Packet, round: i64) {
    let mut notification = Notification::decode(&recorded.bytes[4..]).expect("a notification");
    assert_ne!(notification.election_epoch, round, "there is no difference");
    notification.election_epoch = round;
    recorded.bytes.clear();
    notification.write(&mut recorded.bytes);
    recorded.is_listed = true;
}

/// The run in which servers have two addresses: what server 3 connects with, and whether it is taken.
pub fn replay_two_addresses() -> Result<Comparer, String> {
    let three = script::sequences().into_iter().find(|each| each.run == "trunc").expect("three voters");
    let mut sequence = three.clone();
    for (id, line) in &mut sequence.founders {
        *line = format!("127.0.0.1:3110{id}:3120{id}|127.0.0.2:3110{id}:3120{id}:participant");
    }
    let settings = "multiAddress.enabled=true\n";
    let mut comparer = Comparer::default();
    let world = World::start_with(&sequence, ServerId(3), Policy::Elect, settings, None);
    let initial = std::iter::repeat_with(|| world.puppets.next()).find_map(|(_, heard)| match heard {
        Heard::Initial(bytes) => Some(bytes),
        Heard::Notification(_) => None,
    });
    compare(&world.ports, TWO_ADDRESSES, &initial.expect("it waits for it"), &mut comparer)?;

    // One that has a single address takes the connection all the same, and answers on it.
    let world = World::start(&three, ServerId(1), Policy::Elect);
    let mut stream = TcpStream::connect(world.election_addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&script::message(TWO_ADDRESSES.0).at(&world.ports).bytes).unwrap();
    let mut question = Vec::new();
    world.puppets.question(ServerId(3)).write(&mut question);
    stream.write_all(&question).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(|error| format!("the connection is not taken: {error}"))?;
    let mut said = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut said).unwrap();
    Notification::decode(&said).map_err(|error| error.to_string())?;
    Ok(comparer)
}
