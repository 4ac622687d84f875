//! A server whose tree is not what the transactions say: whose tree is wrong, and what it does about it.
//!
//! Each transaction tells the digest of its leader's tree behind it. Where the tree here is another, one of the two is
//! wrong, or one of the servers computes digests otherwise, as Apache's do in another charset. A server that took the
//! leader's tree at once would, with all others, replace the good trees of a majority by the bad one of a leader. So:
//!
//! 1. It ends its role and makes its tree anew, of its snapshot and log. If that is what the transactions say, its memory
//!    was wrong, and is not any more. It happens one server after the other, by their ids, and the next time not before a
//!    minute has passed, then two, and so on: a false alarm takes no quorum away.
//! 2. It takes its own tree for wrong only with proof: its snapshot is not what it once wrote (the digest in it), or the
//!    digests of so many leaders, one after the other, have differed that they are a quorum of the voters, and none has
//!    fitted in between. Of a quorum one at least has a good tree, if most have. Then it votes as one that has lost its
//!    data, and tells a leader that it has nothing, upon which it gets a snapshot. Its log stays until that is here, and is
//!    kept under another name.
//! 3. Else the leader's tree is the suspect: this server says so, keeps its own tree and goes on, as ZooKeeper does. A
//!    server that has just read such a tree lets others elect a leader, if they can.
//!
//! Without it there may be no quorum, and then nobody can send a tree. So it waits only a little for a leader that others
//! follow, and then goes on with the tree that it has.

use super::QuorumPeer;
use super::core::Leave;
use super::database::Database;
use super::digests::Digests;
use super::io::{Effects, Loaded, Note, Now};
use super::quorum_peer::Role;
use crate::records::{Epoch, ServerId};
use std::collections::BTreeSet;

/// How long a leader that others follow is waited for, at least (or two ticks, if that is longer), in microseconds.
const WAIT_MIN_MICROS: u64 = 1_000_000;
/// Between the leaving of two servers, at least (or a tick, if that is longer), in microseconds: in that time one is back.
const STAGGER_MIN_MICROS: u64 = 1_000_000;
/// Between two attempts; it doubles.
const PAUSE_MIN_MICROS: u64 = 60_000_000;
const PAUSE_MAX_MICROS: u64 = 3_600_000_000;

/// What a server knows of its own tree.
#[derive(Clone, Debug, Default)]
pub struct Divergence {
    /// It is not the ensemble's, and a leader is to send another.
    pub is_known: bool,
    /// It may be so: others are to elect a leader, if they can.
    is_in_doubt: bool,
    /// When the search for a leader is given up, in microseconds.
    wait_until: u64,
    /// The role has ended so that the tree is made anew of snapshot and log.
    pub is_rebuilding: bool,
    /// The tree is what snapshot and log make, and not what the transactions say.
    is_rebuilt: bool,
    /// The leaders whose digests differed since the last one that fitted.
    against: BTreeSet<ServerId>,
    /// The leader whose digests were the reason for `is_rebuilding`.
    teller: Option<ServerId>,
    /// The role ends then, in microseconds: it is this server's turn.
    act_at: Option<u64>,
    rebuilds: Attempts,
    requests: Attempts,
}

/// When something may be tried again.
#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    /// Not before, in microseconds.
    again_at: u64,
    pause: u64,
}

impl Attempts {
    fn begin(&mut self, now: Now) {
        self.pause = (2 * self.pause).clamp(PAUSE_MIN_MICROS, PAUSE_MAX_MICROS);
        self.again_at = now.micros + self.pause;
    }
}

impl Divergence {
    /// Whether it casts no vote as long as others may elect a leader.
    pub fn casts_no_vote(&self) -> bool {
        self.is_known || self.is_in_doubt
    }

    /// While it looks for a leader: when it votes in spite of all, in microseconds.
    pub fn wait_until(&self) -> Option<u64> {
        self.casts_no_vote().then_some(self.wait_until)
    }

    /// While it has a role: when its turn to leave comes, in microseconds.
    pub fn act_at(&self) -> Option<u64> {
        self.act_at
    }

    /// Whether what is here is kept if a leader's snapshot replaces it.
    pub fn keeps_files(&self) -> bool {
        self.is_rebuilt || self.act_at.is_some()
    }

    /// Another tree has taken the place of the former.
    pub fn on_installed(&mut self, digests: &Digests) {
        self.is_known = false;
        if digests.misfits().is_none() {
            self.settle();
        }
    }

    /// It has got a leader.
    pub fn on_role(&mut self) {
        self.is_in_doubt = false;
    }

    fn is_in_question(&self) -> bool {
        self.is_rebuilt || self.act_at.is_some() || !self.against.is_empty()
    }

    /// The tree is what a leader says, or a leader's.
    fn settle(&mut self) {
        (self.is_in_doubt, self.is_rebuilt, self.act_at) = (false, false, None);
        self.against.clear();
    }
}

impl QuorumPeer {
    /// At the start, the tree being what snapshot and log make.
    pub(super) fn judge_at_start(&mut self, now: Now, db: &Database, out: &mut Effects) {
        if !self.core.is_standalone() {
            self.judge(now, db.digests(), None, out);
        }
    }

    /// Before each input: whether the tree has shown itself to be another than the leader's.
    pub(super) fn notice_divergence(&mut self, now: Now, db: &Database, out: &mut Effects) {
        let Some((leader, epoch)) = self.leads_now() else { return };
        let is_own = leader == self.core.my_id();
        let digests = db.digests();
        let divergence = &mut self.core.divergence;
        let Some(misfits) = digests.misfits() else {
            let has_fitted = digests.fitted_at().is_some_and(|zxid| zxid.epoch() == epoch);
            if has_fitted && divergence.is_in_question() {
                divergence.settle();
            }
            return;
        };
        if divergence.is_known || divergence.is_rebuilding {
            return;
        }
        let differs = misfits.last.epoch() == epoch;
        if !divergence.is_rebuilt && differs && self.core.unlogged {
            divergence.is_rebuilt = true; // There are no files that it could be made of.
        }
        if divergence.is_rebuilt && differs && !is_own && divergence.against.insert(leader) {
            out.notes.push(Note::TreesDiffer { leader: Some(leader), zxid: misfits.first });
        }
        let may_act_at = match self.core.divergence.is_rebuilt {
            false if differs => self.core.divergence.rebuilds.again_at,
            true if self.is_proved(digests) => self.core.divergence.requests.again_at,
            _ => return self.core.divergence.act_at = None,
        };
        let turn = now.micros.max(may_act_at) + self.stagger(leader);
        if now.micros < *self.core.divergence.act_at.get_or_insert(turn) {
            return;
        }
        let divergence = &mut self.core.divergence;
        divergence.act_at = None;
        if divergence.is_rebuilt {
            divergence.requests.begin(now);
            divergence.is_known = true;
            out.notes.push(Note::Diverged { zxid: misfits.first });
            self.leave(Leave::because(format!("the tree here is not the ensemble's since {}", misfits.first)), out);
        } else {
            divergence.rebuilds.begin(now);
            (divergence.is_rebuilding, divergence.teller) = (true, (!is_own).then_some(leader));
            let what = "the tree is made anew of snapshot and log";
            self.leave(Leave::because(format!("digests differ since {}: {what}", misfits.first)), out);
        }
    }

    /// Snapshot and log have been read anew.
    pub(super) fn on_rebuilt(&mut self, now: Now, loaded: Box<Loaded>, out: &mut Effects) {
        let digests = loaded.digests.clone();
        self.core.install_loaded(loaded, out);
        self.core.divergence.is_rebuilding = false;
        let teller = self.core.divergence.teller.take();
        if digests.misfits().is_none() {
            let text = "made anew of snapshot and log, the tree is what the transactions say: the memory of this server \
                        was wrong";
            out.notes.push(Note::Warning(text.to_owned()));
        }
        self.judge(now, &digests, teller, out);
    }

    /// The tree was just made of snapshot and log; `teller`'s digests, if somebody's, were the reason.
    fn judge(&mut self, now: Now, digests: &Digests, teller: Option<ServerId>, out: &mut Effects) {
        let Some(misfits) = digests.misfits() else { return };
        let divergence = &mut self.core.divergence;
        divergence.is_rebuilt = true;
        divergence.against.extend(teller);
        let is_alone = self.core.quorums.is_reached([self.core.my_id()]);
        if self.is_proved(digests) {
            self.core.divergence.is_known = !is_alone;
            self.core.divergence.requests.begin(now);
            out.notes.push(Note::Diverged { zxid: misfits.first });
        } else {
            self.core.divergence.is_in_doubt = !is_alone;
            out.notes.push(Note::TreesDiffer { leader: teller, zxid: misfits.first });
        }
    }

    /// Whether the tree here, which is what snapshot and log make, is wrong beyond doubt.
    fn is_proved(&self, digests: &Digests) -> bool {
        digests.is_file_wrong() || self.core.quorums.is_reached(self.core.divergence.against.iter().copied())
    }

    /// Who leads, and in which epoch.
    fn leads_now(&self) -> Option<(ServerId, Epoch)> {
        match &self.role {
            _ if self.core.is_standalone() => None,
            Role::Following(learner) => Some((learner.leader(), learner.epoch())),
            Role::Leading(leader) => Some((self.core.my_id(), leader.epoch())),
            Role::Looking { .. } | Role::Draining { .. } | Role::Pausing { .. } => None,
        }
    }

    /// How long this server lets others go first: who has seen the same may be all the followers, at once.
    fn stagger(&self, leader: ServerId) -> u64 {
        let me = self.core.my_id();
        let before = self.core.committed.servers.keys().filter(|id| **id < me && **id != leader).count();
        before as u64 * self.core.tick_micros().max(STAGGER_MIN_MICROS)
    }

    /// An election begins that only others can decide.
    pub(super) fn begin_waiting_for_a_tree(&mut self, now: Now) {
        let wait = (2 * self.core.tick_micros()).max(WAIT_MIN_MICROS);
        self.core.divergence.wait_until = now.micros + wait;
    }

    /// Whether nobody has come in time who could lead without this server; then it votes with what it has.
    pub(super) fn gives_up_waiting(&mut self, now: Now, out: &mut Effects) -> bool {
        let divergence = &mut self.core.divergence;
        let is_over = divergence.wait_until().is_some_and(|until| until <= now.micros);
        if is_over {
            (divergence.is_known, divergence.is_in_doubt) = (false, false);
            let text = "no leader is there that others follow: going on with a tree that is not what transactions say";
            out.notes.push(Note::Warning(text.to_owned()));
        }
        is_over
    }
}
