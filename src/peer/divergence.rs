//! A server whose tree is not the ensemble's: it says so, leaves, and has itself sent the leader's tree.
//!
//! Each transaction tells the digest of the tree after it. Where ours is another one, the log is right and the tree is
//! not, so the server has nothing to say until it has a tree from a leader: it votes as one that has lost its data, and
//! tells a leader that it has nothing, upon which it gets a snapshot. Its log stays until that is here.
//!
//! Without it there may be no quorum, and then nobody can send a tree. So it waits only a little for a leader that others
//! follow, and then goes on with the tree that it has, as ZooKeeper does, which only counts and logs. It tries again
//! after a minute, and after twice as long each time: a tree that diverges again and again is no reason to serve nobody.
//!
//! A leader whose tree is not what its own proposals say leaves in the same way.

use super::QuorumPeer;
use super::core::Leave;
use super::database::Database;
use super::io::{Effects, Note, Now};
use super::quorum_peer::Role;

/// How long a leader that others follow is waited for, at least (or two ticks, if that is longer), in microseconds.
const WAIT_MIN_MICROS: u64 = 1_000_000;
/// Between two attempts; it doubles.
const PAUSE_MIN_MICROS: u64 = 60_000_000;
const PAUSE_MAX_MICROS: u64 = 3_600_000_000;

/// What a server knows of its own tree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Divergence {
    /// It is not the ensemble's, and a leader is to send another.
    pub is_known: bool,
    /// When the search for a leader is given up, in microseconds.
    pub wait_until: u64,
    /// Before, no other attempt is made, in microseconds.
    again_at: u64,
    pause: u64,
}

impl QuorumPeer {
    /// Before each input: whether the tree has shown itself to be another than the ensemble's.
    pub(super) fn notice_divergence(&mut self, now: Now, db: &Database, out: &mut Effects) {
        let Some(zxid) = db.diverged_at() else { return };
        let divergence = &mut self.core.divergence;
        if divergence.is_known || now.micros < divergence.again_at || self.core.config.my_id.is_none() {
            return;
        }
        divergence.is_known = true;
        divergence.pause = (2 * divergence.pause).clamp(PAUSE_MIN_MICROS, PAUSE_MAX_MICROS);
        divergence.again_at = now.micros + divergence.pause;
        out.notes.push(Note::Diverged { zxid });
        match &self.role {
            Role::Following(_) | Role::Leading(_) => {
                self.leave(Leave::because(format!("the tree here is not the ensemble's since {zxid}")), out);
            }
            Role::Looking { .. } => self.look(now, db, out),
            Role::Draining { .. } | Role::Pausing { .. } => {}
        }
    }

    /// An election begins that only others can decide.
    pub(super) fn begin_waiting_for_a_tree(&mut self, now: Now) {
        let wait = (2 * self.core.tick_micros()).max(WAIT_MIN_MICROS);
        self.core.divergence.wait_until = now.micros + wait;
    }

    /// Whether nobody has come in time who could send a tree; then this server votes with what it has.
    pub(super) fn gives_up_waiting(&mut self, now: Now, out: &mut Effects) -> bool {
        let is_over = self.core.divergence.is_known && self.core.divergence.wait_until <= now.micros;
        if is_over {
            self.core.divergence.is_known = false;
            let text = "no leader is there that could send its tree: going on with one that is not the ensemble's";
            out.notes.push(Note::Warning(text.to_owned()));
        }
        is_over
    }
}
