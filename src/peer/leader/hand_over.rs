//! A leader gives up its role while all is well: before the zxids of its epoch are used up, so that another epoch begins,
//! or because it was asked to, so that another server leads.
//!
//! From then on nothing is proposed: requests wait, no session expires, nothing is reaped. When what is outstanding is
//! committed, and the other voters have it, the role ends, and with it the links: behind every COMMIT, so no client loses
//! an answer. Whoever has asked for more loses only its connection. In the election that follows this server votes for
//! the successor instead of itself; all have the same history, so the vote decides nothing but who leads.
//!
//! One that was asked for is given up if nobody comes so far: then what has waited is proposed.
//!
//! ZooKeeper knows no such packet: it ends a role in the middle of everything when the last zxid of the epoch is reached.

use super::super::Database;
use super::super::core::{Core, Leave};
use super::super::io::{Effects, Note, Now};
use super::{Leader, Learner, Progress};
use crate::records::ServerId;

/// A hand-over under way.
#[derive(Debug)]
pub(super) struct HandOver {
    reason: String,
    /// Somebody has asked for it: without a successor we go on.
    is_asked: bool,
    /// When nothing is waited for any more, in microseconds.
    until: u64,
}

impl Leader {
    /// Whether nothing is proposed: for good, or until a hand-over is given up.
    pub(super) fn is_on_hold(&self) -> bool {
        self.hand_over.is_some() || self.successor.is_some()
    }

    /// Asked to let another server lead.
    pub(super) fn on_hand_over(&mut self, core: &Core, now: Now, out: &mut Effects) {
        if self.learners.values().any(|learner| may_succeed(core, learner)) {
            self.begin_hand_over(core, now, "it was asked to hand over".to_owned(), true, out);
        } else {
            out.notes.push(Note::Warning("there is nobody to hand over to".to_owned()));
        }
    }

    /// Called behind each proposal: the next epoch begins before the counter of this one ends.
    pub(super) fn hand_over_if_due(&mut self, core: &Core, now: Now, out: &mut Effects) {
        if self.broadcast.last_proposed().counter() >= core.config.roles.hand_over_at {
            let reason = format!("the zxids of epoch {} are nearly used up", self.epoch);
            self.begin_hand_over(core, now, reason, false, out);
        }
    }

    fn begin_hand_over(&mut self, core: &Core, now: Now, reason: String, is_asked: bool, out: &mut Effects) {
        if self.is_established() && !self.is_on_hold() {
            out.notes.push(Note::HandingOver { reason: reason.clone() });
            self.hand_over = Some(HandOver { reason, is_asked, until: now.micros + core.sync_limit_micros() });
        }
    }

    /// At the end of each step: whether the time has come.
    pub(super) fn end_hand_over(
        &mut self,
        core: &mut Core,
        now: Now,
        db: &Database,
        out: &mut Effects,
    ) -> Result<(), Leave> {
        let Some(HandOver { reason, is_asked, until }) = &self.hand_over else { return Ok(()) };
        if self.successor.is_some() {
            return Ok(()); // What was outstanding was a reconfiguration: it has named the next leader.
        }
        let lags = |learner: &Learner| may_succeed(core, learner) && !has_all(learner);
        if now.micros < *until && (!self.broadcast.is_idle() || self.learners.values().any(lags)) {
            return Ok(());
        }
        let successor = self.successor(core);
        if successor.is_none() && *is_asked {
            out.notes.push(Note::Warning("nobody has come so far that it could lead: this server goes on".to_owned()));
            self.hand_over = None;
            return self.order_waiting(core, now, db, out);
        }
        core.successor = successor;
        Err(Leave::because(reason.clone()))
    }

    /// The voter that would win without us: the one with the highest id of those who have everything.
    fn successor(&self, core: &Core) -> Option<ServerId> {
        let ready = self.learners.values().filter(|learner| may_succeed(core, learner) && has_all(learner));
        ready.filter_map(|learner| learner.server).max()
    }
}

/// Whether everything proposed is on its disk, if it is up to date: it has acknowledged the history with NEWLEADER, and
/// what came behind it one by one.
fn has_all(learner: &Learner) -> bool {
    learner.awaited.is_none()
}

/// Whether it could be elected as far as the configuration goes, and follows us.
fn may_succeed(core: &Core, learner: &Learner) -> bool {
    let is_candidate = |server| core.quorums.is_voter(server) && !core.quorums.is_weightless(server);
    learner.progress == Progress::UpToDate && !learner.is_observer && learner.server.is_some_and(is_candidate)
}
