//! Virtual time: what happens next is the earliest of what was asked for, and among equals the one asked for first.
//!
//! There is no other source of order in a run, so the same seed gives the same sequence of events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue of events by (time, sequence). Times are microseconds of the run.
#[derive(Debug)]
pub struct Scheduler<E> {
    now: u64,
    sequence: u64,
    heap: BinaryHeap<Reverse<Entry<E>>>,
}

#[derive(Debug)]
struct Entry<E> {
    at: u64,
    sequence: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}
impl<E> Eq for Entry<E> {}
impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl<E> Default for Scheduler<E> {
    fn default() -> Self {
        Scheduler { now: 0, sequence: 0, heap: BinaryHeap::new() }
    }
}

impl<E> Scheduler<E> {
    /// The time of the event that was taken last, in microseconds.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Asks for `event` at `at`, or now if that has passed.
    pub fn at(&mut self, at: u64, event: E) {
        self.sequence += 1;
        self.heap.push(Reverse(Entry { at: at.max(self.now), sequence: self.sequence, event }));
    }

    /// Asks for `event` after `delay` microseconds.
    pub fn after(&mut self, delay: u64, event: E) {
        self.at(self.now + delay, event);
    }

    /// The next event; time moves to it.
    pub fn next_event(&mut self) -> Option<E> {
        let Reverse(entry) = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }

    /// When the next event is due.
    pub fn next_time(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_equal_times_in_the_order_asked() {
        let mut scheduler = Scheduler::default();
        scheduler.at(7, "c");
        scheduler.at(3, "a");
        scheduler.at(3, "b");
        assert_eq!((scheduler.next_event(), scheduler.next_event()), (Some("a"), Some("b")));
        scheduler.at(1, "late");
        assert_eq!((scheduler.next_event(), scheduler.now()), (Some("late"), 3), "time does not go back");
        assert_eq!((scheduler.next_event(), scheduler.next_event()), (Some("c"), None));
    }
}
