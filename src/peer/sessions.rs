//! Which sessions live, until when, and which server owns them. Leader (and standalone server) only.
//!
//! Only the leader's clock ends a session. A new leader grants every session a full timeout: it cannot know when the
//! clients were last heard. ZooKeeper: `LeaderSessionTracker`, `ExpiryQueue`.

use crate::records::{ErrorCode, ServerId, SessionId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many sessions one step ends; the next one goes on. All clients of an ensemble may end in one bucket, a full timeout
/// after a change of leader: in a single step their ends would keep PINGs and commits waiting.
pub const EXPIRED_PER_STEP_MAX: usize = 500;

#[derive(Clone, Copy, Debug)]
struct Tracked {
    timeout_ms: i32,
    /// The server that its connection is on; unknown after a change of leader until the first request.
    owner: Option<ServerId>,
    /// When it expires, in microseconds; a multiple of the tick.
    expires: u64,
    /// Its close is proposed: no new request of it is accepted.
    closing: bool,
}

/// The leader's table of sessions.
#[derive(Clone, Debug)]
pub struct SessionTracker {
    tick_micros: u64,
    sessions: BTreeMap<SessionId, Tracked>,
    by_expiry: BTreeSet<(u64, SessionId)>,
    /// Sessions that have ended of late: those of whom some server may still send what it took before it knew.
    ended: BTreeSet<SessionId>,
    /// The same, and until when each is remembered, in microseconds.
    ended_until: VecDeque<(u64, SessionId)>,
}

impl SessionTracker {
    pub fn new(tick_ms: u32) -> Self {
        let tick_micros = u64::from(tick_ms.max(1)) * 1000;
        SessionTracker {
            tick_micros,
            sessions: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            ended: BTreeSet::new(),
            ended_until: VecDeque::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Whether it knows of no session, not even of one that has ended.
    pub fn is_blank(&self) -> bool {
        self.is_empty() && self.ended.is_empty()
    }

    /// Time is cut into buckets of a tick: a session dies between its timeout and a tick more after its last touch.
    fn expiry(&self, now: u64, timeout_ms: i32) -> u64 {
        let deadline = now + timeout_ms.max(0) as u64 * 1000;
        (deadline / self.tick_micros + 1) * self.tick_micros
    }

    /// Begins to track a session, or changes its timeout; a full timeout from now.
    pub fn track(&mut self, now: u64, session: SessionId, timeout_ms: i32, owner: Option<ServerId>) {
        let expires = self.expiry(now, timeout_ms);
        let tracked = Tracked { timeout_ms, owner, expires, closing: false };
        if let Some(old) = self.sessions.insert(session, tracked) {
            self.by_expiry.remove(&(old.expires, session));
        }
        self.by_expiry.insert((expires, session));
    }

    /// The client was heard. Unknown and closing sessions stay as they are.
    pub fn touch(&mut self, now: u64, session: SessionId, timeout_ms: i32) -> bool {
        let expires = self.expiry(now, timeout_ms);
        let Some(tracked) = self.sessions.get_mut(&session).filter(|tracked| !tracked.closing) else { return false };
        tracked.timeout_ms = timeout_ms;
        if expires > tracked.expires {
            self.by_expiry.remove(&(tracked.expires, session));
            tracked.expires = expires;
            self.by_expiry.insert((expires, session));
        }
        true
    }

    /// A renewal by way of `owner`: touches the session and moves it there, if it lives.
    pub fn renew(&mut self, now: u64, session: SessionId, timeout_ms: i32, owner: ServerId) -> bool {
        let lives = self.touch(now, session, timeout_ms);
        if lives && let Some(tracked) = self.sessions.get_mut(&session) {
            tracked.owner = Some(owner);
        }
        lives
    }

    /// Whether a request of this session that came by way of `from` may be ordered.
    pub fn check(&mut self, session: SessionId, from: ServerId) -> Result<(), ErrorCode> {
        match self.sessions.get_mut(&session) {
            None => Err(ErrorCode::SessionExpired),
            Some(tracked) if tracked.closing => Err(ErrorCode::SessionExpired),
            Some(tracked) => match *tracked.owner.get_or_insert(from) == from {
                true => Ok(()),
                false => Err(ErrorCode::SessionMoved),
            },
        }
    }

    /// Whether the session is known and its close has not been asked for.
    pub fn lives(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|tracked| !tracked.closing)
    }

    /// A close has been asked for: nothing more of the session is accepted.
    pub fn close(&mut self, session: SessionId) {
        if let Some(tracked) = self.sessions.get_mut(&session) {
            tracked.closing = true;
            self.by_expiry.remove(&(tracked.expires, session));
        }
    }

    /// The close is committed. Returns the session's timeout in ms.
    pub fn forget(&mut self, session: SessionId) -> Option<i32> {
        let tracked = self.sessions.remove(&session)?;
        self.by_expiry.remove(&(tracked.expires, session));
        Some(tracked.timeout_ms)
    }

    /// For who has to tell a session that has just ended from one that was never known here: until `until`.
    pub fn remember_end(&mut self, now: u64, session: SessionId, until: u64) {
        while let Some((_, former)) = self.ended_until.front().filter(|(until, _)| *until <= now) {
            self.ended.remove(former);
            self.ended_until.pop_front();
        }
        if self.ended.insert(session) {
            self.ended_until.push_back((until, session));
        }
    }

    /// Whether the end of the session is remembered.
    pub fn has_ended(&self, session: SessionId) -> bool {
        self.ended.contains(&session)
    }

    /// Whether nothing is known of the session, not even that it has ended.
    pub fn is_unheard_of(&self, session: SessionId) -> bool {
        !self.sessions.contains_key(&session) && !self.ended.contains(&session)
    }

    /// This server did not run for `micros`: what clients sent meanwhile has not been read yet, so the time does not
    /// count against them.
    pub fn postpone(&mut self, micros: u64) {
        let ticks = micros.div_ceil(self.tick_micros) * self.tick_micros;
        self.sessions.values_mut().for_each(|tracked| tracked.expires += ticks);
        self.by_expiry = std::mem::take(&mut self.by_expiry).into_iter().map(|(at, id)| (at + ticks, id)).collect();
    }

    /// When the next session may expire, in microseconds.
    pub fn next_expiry(&self) -> Option<u64> {
        self.by_expiry.first().map(|(at, _)| *at)
    }

    /// Takes sessions whose time is over, with their timeouts, and marks them as closing: at most
    /// [`EXPIRED_PER_STEP_MAX`], and then [`next_expiry`](Self::next_expiry) is due already.
    pub fn expire(&mut self, now: u64) -> Vec<(SessionId, i32)> {
        let mut expired = Vec::new();
        while expired.len() < EXPIRED_PER_STEP_MAX
            && let Some((at, session)) = self.by_expiry.first().copied().filter(|(at, _)| *at <= now)
        {
            self.by_expiry.remove(&(at, session));
            if let Some(tracked) = self.sessions.get_mut(&session) {
                tracked.closing = true;
                expired.push((session, tracked.timeout_ms));
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId(7);
    const MS: u64 = 1000;

    fn tracker() -> SessionTracker {
        let mut tracker = SessionTracker::new(100);
        tracker.track(0, SESSION, 1000, Some(ServerId(1)));
        tracker
    }

    #[test]
    fn a_session_dies_between_its_timeout_and_a_tick_more() {
        let mut tracker = tracker();
        assert_eq!(tracker.expire(1000 * MS), vec![]);
        assert_eq!(tracker.expire(1100 * MS), vec![(SESSION, 1000)]);
        assert_eq!(tracker.check(SESSION, ServerId(1)), Err(ErrorCode::SessionExpired));
    }

    #[test]
    fn a_touch_gives_a_full_timeout_and_never_takes_time_away() {
        let mut tracker = tracker();
        assert!(tracker.touch(900 * MS, SESSION, 1000));
        assert_eq!(tracker.expire(1900 * MS), vec![]);
        assert_eq!(tracker.expire(2000 * MS), vec![(SESSION, 1000)]);
        assert!(!tracker.touch(2000 * MS, SESSION, 1000), "an expired session cannot be touched back to life");
    }

    #[test]
    fn a_renewal_moves_the_session_and_the_old_server_is_refused() {
        let mut tracker = tracker();
        assert!(tracker.renew(0, SESSION, 1000, ServerId(2)));
        assert_eq!(tracker.check(SESSION, ServerId(1)), Err(ErrorCode::SessionMoved));
        assert_eq!(tracker.check(SESSION, ServerId(2)), Ok(()));
    }

    #[test]
    fn time_in_which_the_server_did_not_run_does_not_count() {
        let mut tracker = tracker();
        tracker.postpone(5000 * MS);
        assert_eq!(tracker.expire(6000 * MS), vec![]);
        assert_eq!(tracker.expire(6100 * MS), vec![(SESSION, 1000)]);
    }

    #[test]
    fn the_end_of_a_session_is_remembered_for_a_while() {
        let mut tracker = tracker();
        assert_eq!(tracker.forget(SESSION), Some(1000));
        tracker.remember_end(0, SESSION, 500 * MS);
        assert!(!tracker.is_unheard_of(SESSION));
        tracker.remember_end(499 * MS, SessionId(8), 900 * MS);
        assert!(!tracker.is_unheard_of(SESSION) && tracker.is_unheard_of(SessionId(9)));
        tracker.remember_end(500 * MS, SessionId(9), 900 * MS);
        assert!(tracker.is_unheard_of(SESSION) && !tracker.is_unheard_of(SessionId(8)));
    }

    #[test]
    fn after_a_change_of_leader_the_first_server_to_speak_for_a_session_owns_it() {
        let mut tracker = SessionTracker::new(100);
        tracker.track(0, SESSION, 1000, None);
        assert_eq!(tracker.check(SESSION, ServerId(3)), Ok(()));
        assert_eq!(tracker.check(SESSION, ServerId(1)), Err(ErrorCode::SessionMoved));
    }
}
