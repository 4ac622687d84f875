//! SYNC: what a client reads after its sync, it reads at least as new as anything acknowledged before the sync.
//!
//! So a sync is answered only when everything that was proposed before it is committed *and* a quorum has answered a
//! PING that was sent after it came: a leader whose followers have gone over to another, unknown to it, must not
//! answer. PINGs for syncs go out in rounds, one at a time, each for all syncs that came before it; under load a round
//! costs next to nothing, and a lone sync waits for one exchange with the nearest quorum.
//!
//! "Your session has expired" waits in the same way: a leader that is none any more does not know the sessions that
//! have begun since.
//!
//! ZooKeeper answers as soon as nothing is outstanding, and refuses sessions at once, from a leader that may be none
//! any more.

use super::super::core::Core;
use super::super::io::{ConnId, DbOp, Effects, LinkId, Now};
use super::{Leader, Progress};
use crate::records::{QuorumPacket, SessionId, Zxid};
use std::collections::VecDeque;

/// A learner with so many unanswered PINGs gets no more for syncs; it is behind, and others make the quorum.
const UNANSWERED_MAX: usize = 32;

/// Who waits for what.
#[derive(Clone, Copy, Debug)]
pub(super) enum SyncWaiter {
    Client(ConnId, i32),
    Learner(LinkId),
    /// A client of ours, with a session that we do not know (and its timeout, ms).
    ClientRenewal(ConnId, SessionId, i32),
    /// The same, of a learner.
    LearnerRenewal(LinkId, SessionId, i32),
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    waiter: SyncWaiter,
    /// The last proposal when the sync came.
    after: Zxid,
    /// The first round of PINGs that began after it came.
    round: u64,
}

/// The syncs without an answer, and the rounds of PINGs.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    /// In the order in which they came, so `after` and `round` ascend.
    waiting: VecDeque<Waiting>,
    /// The newest round.
    round: u64,
}

impl Syncs {
    /// Another round begins.
    pub fn next_round(&mut self) -> u64 {
        self.round += 1;
        self.round
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The link is gone, with everybody who waits behind it.
    pub fn forget(&mut self, link: LinkId) {
        let is_gone = |waiter| match waiter {
            SyncWaiter::Learner(gone) | SyncWaiter::LearnerRenewal(gone, ..) => gone == link,
            SyncWaiter::Client(..) | SyncWaiter::ClientRenewal(..) => false,
        };
        self.waiting.retain(|waiting| !is_gone(waiting.waiter));
    }
}

impl Leader {
    pub(super) fn on_sync(&mut self, core: &Core, now: Now, waiter: SyncWaiter, out: &mut Effects) {
        let waiting = Waiting { waiter, after: self.broadcast.last_proposed(), round: self.syncs.round + 1 };
        self.syncs.waiting.push_back(waiting);
        self.answer_syncs(core, now, out);
    }

    /// Answers the syncs whose time has come, and begins the next round if somebody waits for it.
    pub(super) fn answer_syncs(&mut self, core: &Core, now: Now, out: &mut Effects) {
        let Some(wanted) = self.syncs.waiting.back().map(|waiting| waiting.round) else { return };
        if wanted > self.syncs.round && self.answered_round(core) >= Some(self.syncs.round) {
            self.begin_round(now, out);
        }
        let answered = self.answered_round(core);
        while let Some(first) = self.syncs.waiting.front()
            && first.after <= core.last_committed
            && Some(first.round) <= answered
        {
            let waiter = first.waiter;
            self.syncs.waiting.pop_front();
            match waiter {
                SyncWaiter::Client(conn, xid) => out.db.push(DbOp::SyncDone { conn, xid }),
                SyncWaiter::Learner(link) => out.send(link, QuorumPacket::Sync { zxid: Zxid::ZERO }),
                SyncWaiter::ClientRenewal(conn, session, timeout_ms) => {
                    let valid = self.sessions.renew(now.micros, session, timeout_ms, core.my_id());
                    self.answer_renewal(conn, session, valid, out);
                }
                SyncWaiter::LearnerRenewal(link, session, timeout_ms) => {
                    let valid = self.renew_by(now, link, session, timeout_ms);
                    out.send(link, QuorumPacket::Revalidated { session, valid });
                }
            }
        }
    }

    /// A client of this server renews its session.
    pub(in super::super) fn renew(
        &mut self,
        core: &Core,
        now: Now,
        conn: ConnId,
        session: SessionId,
        timeout_ms: i32,
        out: &mut Effects,
    ) {
        if self.sessions.renew(now.micros, session, timeout_ms, core.my_id()) {
            self.answer_renewal(conn, session, true, out);
        } else {
            self.on_sync(core, now, SyncWaiter::ClientRenewal(conn, session, timeout_ms), out);
        }
    }

    /// A client of a learner does.
    pub(super) fn on_revalidate(
        &mut self,
        core: &Core,
        now: Now,
        link: LinkId,
        session: SessionId,
        timeout_ms: i32,
        out: &mut Effects,
    ) {
        if self.renew_by(now, link, session, timeout_ms) {
            out.send(link, QuorumPacket::Revalidated { session, valid: true });
        } else {
            self.on_sync(core, now, SyncWaiter::LearnerRenewal(link, session, timeout_ms), out);
        }
    }

    fn renew_by(&mut self, now: Now, link: LinkId, session: SessionId, timeout_ms: i32) -> bool {
        match self.learners.get(&link).and_then(|learner| learner.server) {
            Some(server) => self.sessions.renew(now.micros, session, timeout_ms, server),
            None => false,
        }
    }

    fn answer_renewal(&self, conn: ConnId, session: SessionId, valid: bool, out: &mut Effects) {
        out.db.push(DbOp::SessionRenewed { conn, session, valid, after: self.broadcast.last_proposed() });
    }

    /// The newest round of PINGs that a quorum has answered.
    fn answered_round(&self, core: &Core) -> Option<u64> {
        let me = core.my_id();
        core.verifier.reached_by_quorum(|voter| {
            if voter == me {
                return Some(self.syncs.round);
            }
            self.learners.values().find(|learner| learner.server == Some(voter)).map(|learner| learner.answered_round)
        })
    }

    fn begin_round(&mut self, now: Now, out: &mut Effects) {
        let (round, zxid) = (self.syncs.next_round(), self.broadcast.last_proposed());
        for (link, learner) in &mut self.learners {
            if learner.progress == Progress::UpToDate && learner.pinged.len() < UNANSWERED_MAX {
                learner.pinged.push_back((now.micros, round));
                out.send(*link, QuorumPacket::Ping { zxid, touched: None });
            }
        }
    }
}
