//! Planted bugs, for tests alone: each moves one thing that must happen inside a hold of the lock out of it. The
//! stress tests, of threads alone and of whole servers, and the loom test must catch every one of them.

use super::Database;
use super::io::{ConnId, Now};
use super::outbox::{Notification, Outbox};
use crate::records::{EventType, Zxid};
use crate::sync::{Mutex, lock};
use crate::tree::{WatchMode, WatchTable, WatcherId};
use std::mem;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A read sets its watch in a second hold of the lock, after its reply: an event is lost in between.
    WatchAfterRead,
    /// A commit's events are put into the outboxes after its hold of the lock: a reply shows the change first.
    EventsAfterCommit,
    /// Parked reads are answered when the whole batch of commits is applied: they see later writes of their session.
    ParkedAfterBatch,
    /// The end of a role closes connections after its hold of the lock: reads are answered in between.
    StopAfterRole,
    /// The end of the lease is not looked at.
    LeaseIgnored,
}

/// The fault of a database, and what is put off because of it.
#[derive(Default)]
pub(super) struct Faults {
    pub fault: Option<Fault>,
    late: Mutex<Late>,
}

/// What one turn of a faulty host has put off.
#[derive(Default)]
pub(crate) struct Late {
    watches: Vec<(WatchTable, String, WatcherId)>,
    events: Vec<(Arc<Outbox>, Zxid, EventType, String)>,
    parked: Vec<ConnId>,
    stop: bool,
}

impl Faults {
    pub fn answers_without_a_role(&self) -> bool {
        self.fault == Some(Fault::LeaseIgnored)
    }

    pub fn postpone_watch(&self, table: WatchTable, path: &str, watcher: WatcherId) -> bool {
        self.postpone(Fault::WatchAfterRead, |late| late.watches.push((table, path.to_owned(), watcher)))
    }

    pub fn postpone_event(&self, outbox: &Arc<Outbox>, zxid: Zxid, kind: EventType, path: &str) -> bool {
        self.postpone(Fault::EventsAfterCommit, |late| late.events.push((outbox.clone(), zxid, kind, path.to_owned())))
    }

    pub fn postpone_parked(&self, conn: ConnId) -> bool {
        self.postpone(Fault::ParkedAfterBatch, |late| late.parked.push(conn))
    }

    pub fn postpone_stop(&self) -> bool {
        self.postpone(Fault::StopAfterRole, |late| late.stop = true)
    }

    fn postpone(&self, fault: Fault, put: impl FnOnce(&mut Late)) -> bool {
        let is_planted = self.fault == Some(fault);
        if is_planted {
            put(&mut lock(&self.late));
        }
        is_planted
    }
}

impl Database {
    /// At the end of a batch of commits.
    pub(super) fn release_late(&self, now: Now, dirty: &mut Vec<Arc<Outbox>>) {
        if self.faults.fault.is_none() {
            return;
        }
        for conn in mem::take(&mut lock(&self.faults.late).parked) {
            let Some(outbox) = self.conn(conn) else { continue };
            self.answer_parked(conn, &mut outbox.lock(), now);
            dirty.push(outbox);
        }
    }

    /// From now on the database has this fault.
    #[cfg(not(loom))]
    pub(crate) fn plant(&mut self, fault: Fault) {
        self.faults.fault = Some(fault);
    }

    /// What is late by now, but for the end of a role; for [`do_late`](Database::do_late).
    pub(crate) fn take_late(&self) -> Late {
        let mut late = lock(&self.faults.late);
        let stop = late.stop;
        mem::replace(&mut *late, Late { stop, ..Late::default() })
    }

    /// Called by a faulty host in a hold of the read lock after the one that mattered.
    pub(crate) fn do_late(&self, late: Late, dirty: &mut Vec<Arc<Outbox>>) {
        for (table, path, watcher) in late.watches {
            self.watches.register(table, &path, watcher, WatchMode::Standard);
        }
        for (outbox, zxid, kind, path) in late.events {
            let mut state = outbox.lock();
            state.event(&Notification::new(zxid, kind, &path));
            if state.announce() {
                dirty.push(outbox.clone());
            }
        }
    }

    /// Called by a faulty host in a hold of the write lock after the one that mattered.
    pub(crate) fn stop_late(&mut self, dirty: &mut Vec<Arc<Outbox>>) {
        if mem::take(&mut lock(&self.faults.late).stop) {
            self.faults.fault = None;
            self.stop_serving(dirty);
        }
    }
}
