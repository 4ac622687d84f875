//! What the members of an [`Ensemble`](super::Ensemble) did and said, for the report of a test that failed.
//!
//! Two bounded lists for the whole ensemble, oldest first, the oldest dropped: log lines (of level INFO and above, by
//! [`log`](super::log)) and transitions.

use super::status::Role;
use crate::records::{Epoch, ServerId};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

/// The newest lines that are kept.
const LINES_MAX: usize = 10_000;
/// The newest transitions that are kept.
const TRANSITIONS_MAX: usize = 1_000;

/// One line of one server's log.
#[derive(Clone, Debug)]
pub struct LogLine {
    pub time: SystemTime,
    pub server: ServerId,
    pub level: tracing::Level,
    pub text: String,
}

/// A server's change of role, of leader, of epoch, or of whether it serves.
#[derive(Clone, Debug)]
pub struct Transition {
    pub time: SystemTime,
    pub server: ServerId,
    pub before: Role,
    pub after: Role,
    /// Whether it serves clients from now on.
    pub serving: bool,
    pub epoch: Epoch,
    pub leader: Option<ServerId>,
    /// Why the former role has ended, or what the test did; empty where the new role says it all.
    pub reason: String,
}

/// The lists; shared by all members.
#[derive(Debug, Default)]
pub struct Journal {
    lines: Mutex<VecDeque<LogLine>>,
    transitions: Mutex<VecDeque<Transition>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn push<T>(list: &Mutex<VecDeque<T>>, max: usize, item: T) {
    let mut list = lock(list);
    if list.len() == max {
        list.pop_front();
    }
    list.push_back(item);
}

impl Journal {
    pub fn line(&self, line: LogLine) {
        push(&self.lines, LINES_MAX, line);
    }

    pub fn transition(&self, transition: Transition) {
        push(&self.transitions, TRANSITIONS_MAX, transition);
    }

    /// The lines of one server, or of all.
    pub fn lines(&self, server: Option<ServerId>) -> Vec<LogLine> {
        lock(&self.lines).iter().filter(|line| server.is_none_or(|id| id == line.server)).cloned().collect()
    }

    pub fn transitions(&self) -> Vec<Transition> {
        lock(&self.transitions).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_told_by_server() {
        let journal = Journal::default();
        for n in 0..LINES_MAX + 10 {
            let server = ServerId(n as i64 % 2);
            let (time, level) = (SystemTime::UNIX_EPOCH, tracing::Level::INFO);
            journal.line(LogLine { time, server, level, text: n.to_string() });
        }
        let all = journal.lines(None);
        assert_eq!((all.len(), all[0].text.as_str()), (LINES_MAX, "10"));
        let odd = journal.lines(Some(ServerId(1)));
        assert_eq!((odd.len(), odd[0].text.as_str()), (LINES_MAX / 2, "11"));
    }
}
