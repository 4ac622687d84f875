//! What the server says on election connections, beside what a 3.8.0 server was recorded to say.

use super::compare::Comparer;
use super::script::Packet;
use super::vectors::{json_files, list, text, unhex};
use super::world::World;

/// Compares one message with the first recorded one of this kind, run `main`.
pub fn compare(world: &World, kind: &str, received: &[u8], comparer: &mut Comparer) -> Result<(), String> {
    let (_, file) = json_files("quorum").into_iter().find(|(name, _)| name == "election").expect("it is there");
    let message =
        list(&file, "messages").iter().find(|message| text(message, "kind") == kind).expect("it was recorded");
    let bytes = world.ports.replace(&unhex(&message["hex"]));
    let recorded = Packet { from_leader: false, kind: kind.to_owned(), bytes };
    comparer.compare(&recorded, received)
}
