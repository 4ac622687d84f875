//! What decides about connections before they are a session's: how many, how fast, and what is said of those that are
//! refused. Decisions are plain values that are told the time.
//!
//! What bounds requests is the database's: [`RequestLimits`](crate::peer::RequestLimits).

mod giving_back;
mod repeats;
mod throttle;

pub use giving_back::{CONNECTION_BYTES, give_back};
pub use repeats::Repeats;
pub use throttle::{ConnectKind, ConnectionThrottle};

use super::Config;
use crate::peer::TURN_FRAMES_MAX;
use giving_back::GivingBack;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Bytes that may wait in all for clients that do not read, from which on none of them gets more; and beyond which
/// those that wait for most are closed.
const UNSENT_BYTES_MAX: usize = 256 << 20;

/// Frames of all connections that have more than a turn takes, in one turn of each of them.
const ROUND_FRAMES: usize = 512;
/// Frames that a turn takes however many others have more.
const TURN_FRAMES_MIN: usize = 16;

/// The limits of one server, and how near to them it is.
pub struct Limits {
    /// `None`: connect requests are not throttled.
    throttle: Option<Mutex<ConnectionThrottle>>,
    repeats: Mutex<Repeats>,
    /// Bytes that sockets did not take.
    unsent: AtomicUsize,
    /// Bytes that connections have freed.
    freed: AtomicUsize,
    giving_back: Mutex<GivingBack>,
    /// Connections that have frames here which were not taken.
    backlogs: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Limits {
    pub fn new(config: &Config) -> Limits {
        let throttle = &config.limits.connection_throttle;
        let seed = RandomState::new().hash_one(std::process::id());
        Limits {
            throttle: (throttle.tokens > 0).then(|| Mutex::new(ConnectionThrottle::new(throttle, seed))),
            repeats: Mutex::default(),
            unsent: AtomicUsize::new(0),
            freed: AtomicUsize::new(0),
            giving_back: Mutex::default(),
            backlogs: AtomicUsize::new(0),
        }
    }

    /// Whether connect requests have to be asked about at all.
    pub fn throttles_connects(&self) -> bool {
        self.throttle.is_some()
    }

    /// Whether a connect request of this kind is let in at `now_ms`.
    pub fn admits(&self, kind: ConnectKind, now_ms: u64) -> bool {
        self.throttle.as_ref().is_none_or(|throttle| lock(throttle).admits(kind, now_ms))
    }

    /// Says a line about a client that anybody can make this server say again and again: `None` for a repetition that
    /// comes too soon, else how many were left out.
    pub fn repetition(&self, what: &'static str, now_ms: u64) -> Option<u64> {
        lock(&self.repeats).admit(what, now_ms)
    }

    /// A connection's unsent bytes have changed from `before` to `after`.
    pub fn count_unsent(&self, before: usize, after: usize) {
        if after >= before {
            self.unsent.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.unsent.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// A connection has frames that were not taken, or has none any more.
    pub fn count_backlog(&self, has_one: bool) {
        if has_one {
            self.backlogs.fetch_add(1, Ordering::Relaxed);
        } else {
            self.backlogs.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many frames a turn takes. Who asks for little waits until all who ask for much have had theirs, so the more of
    /// those there are, the less each of them gets.
    pub fn turn_frames(&self) -> usize {
        let backlogs = self.backlogs.load(Ordering::Relaxed).max(1);
        (ROUND_FRAMES / backlogs).clamp(TURN_FRAMES_MIN, TURN_FRAMES_MAX)
    }

    /// A connection has freed so much.
    pub fn count_freed(&self, bytes: usize) {
        self.freed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether the system is to have back now what connections have freed.
    pub fn gives_back(&self, now_ms: u64) -> bool {
        let freed = self.freed.load(Ordering::Relaxed);
        let is_due = lock(&self.giving_back).is_due(freed, now_ms);
        if is_due {
            self.freed.fetch_sub(freed, Ordering::Relaxed);
        }
        is_due
    }

    /// By how many bytes all that waits for clients that do not read is too much.
    pub fn unsent_excess(&self) -> usize {
        self.unsent.load(Ordering::Relaxed).saturating_sub(UNSENT_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_connections_ask_for_much_the_less_each_gets_in_a_turn() {
        let limits = Limits::new(&Config::default());
        assert_eq!(limits.turn_frames(), TURN_FRAMES_MAX);
        (0..8).for_each(|_| limits.count_backlog(true));
        assert_eq!(limits.turn_frames(), ROUND_FRAMES / 8);
        (0..1000).for_each(|_| limits.count_backlog(true));
        assert_eq!(limits.turn_frames(), TURN_FRAMES_MIN);
        (0..1007).for_each(|_| limits.count_backlog(false));
        assert_eq!(limits.turn_frames(), TURN_FRAMES_MAX);
    }
}
