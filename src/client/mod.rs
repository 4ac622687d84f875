//! Layer 5: the client's side of a session, without sockets, clock or threads.
//!
//! [`Session`] decides which server to ask, what to send and when, what a broken link means for each call, and which
//! watches a new server must be told. A host opens and closes links, carries bytes, and passes the time on:
//!
//! ```text
//!    call, add_auth, close          ┌─────────┐  output / sent        bytes for the link
//!    link_up, link_down, receive ──▶│ Session │
//!    wakeup (at next_wakeup)        └─────────┘  poll_event           Connect, Disconnect, Reply, Watch, State
//! ```
//!
//! After each input the host takes all events and the output. Times are milliseconds of any clock that never goes back.
//!
//! The one thing that is easy to get wrong: a link that breaks says nothing about a write that was sent. Reads and
//! `sync` are sent again, in their order, so that a read never overtakes the `sync` before it.
//!
//! ZooKeeper: `ClientCnxn`.

mod calls;
mod connect;
mod events;
mod replies;
mod requests;
mod servers;
mod session;
#[cfg(test)]
mod tests;
mod watches;

pub use calls::{Call, CallError, CallId, CreateMode, ReadOp, WatchId, WriteOp};
pub use events::{Event, Failure, Lost, State, WatchEvent};
pub use replies::REPLY_BYTES_MAX;
pub use session::{Session, SessionConfig};
