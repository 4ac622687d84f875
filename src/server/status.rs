//! What others may know of a running server, and a way to wait for it to change.

use super::core::CoreEnd;
use crate::records::{Epoch, PeerState, ServerId, Zxid};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Looking,
    Leading,
    Following,
    /// Under a leader, without a vote.
    Observing,
    Standalone,
    /// It has stopped, was killed or has failed.
    Ended,
}

impl Role {
    /// Of a server that runs; `my_id` is `None` for a standalone one.
    pub fn of(state: PeerState, my_id: Option<ServerId>) -> Role {
        match (my_id, state) {
            (None, _) => Role::Standalone,
            (_, PeerState::Looking) => Role::Looking,
            (_, PeerState::Leading) => Role::Leading,
            (_, PeerState::Following) => Role::Following,
            (_, PeerState::Observing) => Role::Observing,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Looking => "looking",
            Role::Leading => "leading",
            Role::Following => "following",
            Role::Observing => "observing",
            Role::Standalone => "standalone",
            Role::Ended => "ended",
        })
    }
}

/// A server's state at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Changes with each transition: of role, leader, epoch, or of whether clients are served.
    pub version: u64,
    pub role: Role,
    pub serving: bool,
    /// Whether clients that only want to read are served without a quorum.
    pub read_only: bool,
    pub epoch: Epoch,
    pub leader: Option<ServerId>,
    pub last_processed: Zxid,
    /// Equal trees have equal digests.
    pub tree_digest: u64,
    /// Why it ended, unless it was asked to.
    pub failure: Option<String>,
}

/// How a server has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    Stopped,
    Killed,
    /// By itself; `code` is the exit code of a process that is this server.
    Failed {
        code: i32,
        reason: String,
    },
}

impl From<CoreEnd> for Exit {
    fn from(end: CoreEnd) -> Exit {
        match end {
            CoreEnd::Stopped => Exit::Stopped,
            CoreEnd::Killed => Exit::Killed,
            CoreEnd::Failed { code, reason } => Exit::Failed { code, reason },
        }
    }
}

/// Wakes those who wait for any of several servers.
#[derive(Default)]
pub struct Signal {
    count: Mutex<u64>,
    raised: Condvar,
}

impl Signal {
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.count.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn raise(&self) {
        *self.lock() += 1;
        self.raised.notify_all();
    }

    /// How often it was raised.
    pub fn count(&self) -> u64 {
        *self.lock()
    }

    /// Waits until it has been raised more often than `seen`; false: `deadline` came first.
    pub fn wait(&self, seen: u64, deadline: Instant) -> bool {
        let mut count = self.lock();
        while *count == seen {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            count = self.raised.wait_timeout(count, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        true
    }
}

/// Counts transitions and holds the end; those who wait are woken.
#[derive(Default)]
pub struct StatusCell {
    state: Mutex<State>,
    changed: Condvar,
    signal: Option<Arc<Signal>>,
}

#[derive(Default)]
struct State {
    version: u64,
    exit: Option<Exit>,
}

impl StatusCell {
    pub fn new(signal: Option<Arc<Signal>>) -> StatusCell {
        StatusCell { signal, ..StatusCell::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// There was a transition.
    pub fn changed(&self) {
        self.lock().version += 1;
        self.wake();
    }

    fn wake(&self) {
        self.changed.notify_all();
        if let Some(signal) = &self.signal {
            signal.raise();
        }
    }

    /// The server has ended; nothing follows.
    pub fn end(&self, exit: Exit) {
        let mut state = self.lock();
        state.version += 1;
        state.exit.get_or_insert(exit);
        drop(state);
        self.wake();
    }

    /// The number of transitions, and how the server ended if it has.
    pub fn get(&self) -> (u64, Option<Exit>) {
        let state = self.lock();
        (state.version, state.exit.clone())
    }

    /// Waits until the version is not `seen` any more, or `deadline`.
    pub fn wait_changed(&self, seen: u64, deadline: Instant) {
        let mut state = self.lock();
        while state.version == seen {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }

    pub fn wait_end(&self) -> Exit {
        let mut state = self.lock();
        loop {
            if let Some(exit) = &state.exit {
                return exit.clone();
            }
            state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}
