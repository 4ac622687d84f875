//! Containers that have lost their children, and TTL nodes whose time is over, are removed: by the leader, or a
//! standalone server, as transactions of their own.
//!
//! A check looks at all of them, some at a time, and never removes faster than is allowed. What it has found is judged
//! again, with all that is in flight, right before it goes: a node that was written to meanwhile stays.
//!
//! ZooKeeper: `ContainerManager`.

use super::super::Database;
use super::super::core::{Core, Leave};
use super::super::io::{Effects, Now};
use super::super::prepare::PrepareRequest;
use super::Leader;
use crate::records::{ForwardedBody, PathOnly, Request, SessionId};
use crate::tree::{DataTree, Lifetimes, ReapMark};
use std::collections::VecDeque;

/// Nodes that one wake-up looks at.
const LOOKED_AT_MAX: usize = 1000;
/// Nodes that one wake-up removes, however many are allowed in a minute.
const REMOVED_MAX: usize = 100;

/// When containers and TTL nodes are removed; the default is Apache's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaperConfig {
    /// From check to check, ms; 0: never. ZooKeeper: `znode.container.checkIntervalMs`.
    pub check_interval_ms: u32,
    /// At most so many are removed, one by one. ZooKeeper: `znode.container.maxPerMinute`.
    pub max_per_minute: u32,
    /// Containers that never had a child go after this, ms; 0: never. ZooKeeper:
    /// `znode.container.maxNeverUsedIntervalMs`.
    pub max_never_used_ms: u32,
}

impl Default for ReaperConfig {
    fn default() -> Self {
        ReaperConfig { check_interval_ms: 60_000, max_per_minute: 10_000, max_never_used_ms: 0 }
    }
}

/// How far the removal has come. Times in microseconds.
pub(super) struct Reaper {
    config: ReaperConfig,
    next_check: u64,
    next_removal: u64,
    /// Where the check goes on; `None`: it has seen all.
    mark: Option<ReapMark>,
    is_checking: bool,
    /// Found by the check; at most [`LOOKED_AT_MAX`].
    found: VecDeque<String>,
}

impl Reaper {
    pub fn new(config: ReaperConfig, now: Now) -> Reaper {
        let next_check = now.micros + u64::from(config.check_interval_ms) * 1000;
        let (mark, found) = Default::default();
        Reaper { config, next_check, next_removal: 0, mark, is_checking: false, found }
    }

    pub fn next_wakeup(&self) -> Option<u64> {
        match self.is_checking {
            _ if self.config.check_interval_ms == 0 => None,
            true => Some(self.next_removal),
            false => Some(self.next_check),
        }
    }

    /// Who may go, by the node's kind, at `now`.
    fn lifetimes(&self, db: &Database, now: Now) -> Lifetimes {
        Lifetimes {
            now_ms: now.wall_ms,
            never_used_ms: self.config.max_never_used_ms.into(),
            with_ttl: db.settings().nodes.extended_types,
        }
    }

    /// The next one that was found, if one may be removed now.
    fn next(&mut self, tree: &DataTree, now: Now, lifetimes: &Lifetimes) -> Option<String> {
        if self.next_check <= now.micros && !self.is_checking {
            self.next_check = now.micros + u64::from(self.config.check_interval_ms) * 1000;
            (self.is_checking, self.mark) = (true, None);
            self.look(tree, lifetimes);
        } else if self.is_checking && self.found.is_empty() && self.next_removal <= now.micros {
            self.look(tree, lifetimes);
        }
        if !self.is_checking || self.next_removal > now.micros {
            return None;
        }
        let next = self.found.pop_front();
        // An interval of removals paces the looking as well.
        self.next_removal = now.micros + 60_000_000 / u64::from(self.config.max_per_minute.max(1));
        self.is_checking = !self.found.is_empty() || self.mark.is_some();
        next
    }

    fn look(&mut self, tree: &DataTree, lifetimes: &Lifetimes) {
        let (found, mark) = tree.reapable(self.mark, LOOKED_AT_MAX, lifetimes);
        self.found.extend(found);
        self.mark = mark;
    }
}

impl Leader {
    /// Removes what may be removed by now.
    pub(super) fn reap(&mut self, core: &mut Core, now: Now, db: &Database, out: &mut Effects) -> Result<(), Leave> {
        if self.reaper.next_wakeup().is_none_or(|at| at > now.micros) {
            return Ok(());
        }
        let lifetimes = self.reaper.lifetimes(db, now);
        for _ in 0..REMOVED_MAX {
            let Some(path) = self.reaper.next(db.tree(), now, &lifetimes) else { return Ok(()) };
            let is_over = |in_flight: &super::InFlight| {
                let node = in_flight.node(db.tree(), &path);
                node.is_some_and(|node| lifetimes.are_over(&node.stat, node.child_count))
            };
            if !self.in_flight.as_ref().is_some_and(is_over) {
                continue;
            }
            let body = ForwardedBody::Request(Request::DeleteContainer(PathOnly { path: Some(path) }));
            let request = PrepareRequest::new(SessionId(0), 0, &body, &[]);
            self.propose(core, now, &request, db, out)?;
        }
        Ok(())
    }
}
