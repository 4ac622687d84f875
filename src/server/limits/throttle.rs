//! The token bucket that connect requests pass, and the random refusals of a bucket that has long been empty.
//!
//! A session that is to be made costs the whole ensemble a transaction; one that is renewed costs its leader a look; a
//! local one costs nobody else anything. With weights on they take as many tokens as that. Without tokens the
//! connection is closed, and the client comes again.
//!
//! ZooKeeper: `BlueThrottle`.

use super::super::config::ConnectionThrottleConfig;
use crate::records::SessionId;

/// What a connect request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectKind {
    /// A new session, known to all servers.
    Global,
    /// A new session, known to this one.
    Local,
    /// A session that there is already.
    Renewal,
}

impl ConnectKind {
    /// What a request for `session` asks for, where new sessions are local or not.
    pub fn of(session: SessionId, are_local: bool) -> ConnectKind {
        match session {
            SessionId(0) if are_local => ConnectKind::Local,
            SessionId(0) => ConnectKind::Global,
            _ => ConnectKind::Renewal,
        }
    }
}

/// The bucket.
#[derive(Debug)]
pub struct ConnectionThrottle {
    config: ConnectionThrottleConfig,
    max: u64,
    fill: u64,
    tokens: u64,
    /// When tokens were last added.
    filled_ms: u64,
    /// When `drop` last changed, or could have.
    frozen_ms: u64,
    /// The probability of a refusal.
    drop: f64,
    /// State of the random numbers.
    random: u64,
}

impl ConnectionThrottle {
    /// A full bucket.
    pub fn new(config: &ConnectionThrottleConfig, seed: u64) -> ConnectionThrottle {
        let mut config = config.clone();
        // As Apache mends weights that make no sense: none is 0, and a local session is the cheapest.
        let or = |weight: u32, default: u32| if weight == 0 { default } else { weight };
        config.local_weight = or(config.local_weight, 1);
        config.global_weight = or(config.global_weight, 3).max(config.local_weight);
        config.renew_weight = or(config.renew_weight, 2).max(config.local_weight);
        // The numbers of the configuration are meant for global sessions.
        let unit = if config.is_weighted { u64::from(config.global_weight) } else { 1 };
        let max = u64::from(config.tokens) * unit;
        let fill = u64::from(config.fill_count) * unit;
        ConnectionThrottle { config, max, fill, tokens: max, filled_ms: 0, frozen_ms: 0, drop: 0.0, random: seed | 1 }
    }

    /// Takes the tokens that a connect request needs; false: it is refused.
    pub fn admits(&mut self, kind: ConnectKind, now_ms: u64) -> bool {
        self.refill(now_ms);
        if !self.passes_by_chance(now_ms) {
            return false;
        }
        let need = u64::from(match kind {
            _ if !self.config.is_weighted => 1,
            ConnectKind::Global => self.config.global_weight,
            ConnectKind::Local => self.config.local_weight,
            ConnectKind::Renewal => self.config.renew_weight,
        });
        let Some(left) = self.tokens.checked_sub(need) else {
            return false;
        };
        self.tokens = left;
        true
    }

    fn refill(&mut self, now_ms: u64) {
        let fill_time = u64::from(self.config.fill_time_ms.max(1));
        let periods = now_ms.saturating_sub(self.filled_ms) / fill_time;
        if periods > 0 {
            self.tokens = self.tokens.saturating_add(periods.saturating_mul(self.fill)).min(self.max);
            // What is left of the time counts for the next token; Apache forgets it.
            self.filled_ms += periods * fill_time;
        }
    }

    /// Raises the probability of a refusal while the bucket is empty, and lowers it while it is full enough.
    fn passes_by_chance(&mut self, now_ms: u64) -> bool {
        let Some(freeze_time) = self.config.freeze_time_ms else {
            return true;
        };
        if now_ms.saturating_sub(self.frozen_ms) > u64::from(freeze_time) {
            let missing = (self.max - self.tokens) as f64;
            if self.tokens == 0 {
                self.drop = (self.drop + self.config.drop_increase).min(1.0);
            } else if missing <= (self.max as f64 * self.config.decrease_ratio).round() {
                self.drop = (self.drop - self.config.drop_decrease).max(0.0);
            }
            self.frozen_ms = now_ms;
        }
        self.drop == 0.0 || self.next_random() >= self.drop
    }

    /// From 0 up to 1. Marsaglia's xorshift: nobody gains by guessing it.
    fn next_random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ConnectKind::{Global, Local, Renewal};

    fn config(tokens: u32) -> ConnectionThrottleConfig {
        ConnectionThrottleConfig { tokens, fill_time_ms: 10, fill_count: 2, ..Default::default() }
    }

    fn admitted(throttle: &mut ConnectionThrottle, kind: ConnectKind, now_ms: u64) -> usize {
        (0..1000).take_while(|_| throttle.admits(kind, now_ms)).count()
    }

    #[test]
    fn as_many_are_let_in_as_there_are_tokens_and_later_as_many_as_came_in() {
        let mut throttle = ConnectionThrottle::new(&config(5), 1);
        assert_eq!(admitted(&mut throttle, Global, 0), 5);
        assert_eq!(admitted(&mut throttle, Renewal, 9), 0);
        assert_eq!(admitted(&mut throttle, Renewal, 10), 2);
        assert_eq!(admitted(&mut throttle, Renewal, 19), 0);
        assert_eq!(admitted(&mut throttle, Renewal, 25), 2, "the 5 ms over are not lost");
        assert_eq!(admitted(&mut throttle, Renewal, 30), 2);
        assert_eq!(admitted(&mut throttle, Global, 1_000_000), 5, "a bucket is never more than full");
    }

    #[test]
    fn with_weights_a_global_session_takes_three_tokens_and_the_bucket_holds_three_times_as_many() {
        let weighted = ConnectionThrottleConfig { is_weighted: true, ..config(4) };
        let of = |kind| admitted(&mut ConnectionThrottle::new(&weighted, 1), kind, 0);
        assert_eq!((of(Global), of(Renewal), of(Local)), (4, 6, 12));
        let mut throttle = ConnectionThrottle::new(&weighted, 1);
        admitted(&mut throttle, Local, 0);
        assert_eq!(admitted(&mut throttle, Local, 10), 6);
    }

    #[test]
    fn weights_that_make_no_sense_are_mended_as_apache_does() {
        let odd = ConnectionThrottleConfig { global_weight: 1, local_weight: 4, renew_weight: 0, ..config(3) };
        let odd = ConnectionThrottleConfig { is_weighted: true, ..odd };
        let of = |kind| admitted(&mut ConnectionThrottle::new(&odd, 1), kind, 0);
        assert_eq!((of(Global), of(Renewal), of(Local)), (3, 3, 3));
    }

    #[test]
    fn a_bucket_that_stays_empty_refuses_more_and_more_at_random_and_a_full_one_less_and_less() {
        let config = ConnectionThrottleConfig {
            freeze_time_ms: Some(0),
            drop_increase: 0.5,
            drop_decrease: 0.25,
            fill_count: 0,
            ..config(4)
        };
        let mut throttle = ConnectionThrottle::new(&config, 7);
        assert_eq!(admitted(&mut throttle, Global, 0), 4);
        for now_ms in 1..=2 {
            assert!(!throttle.admits(Global, now_ms));
        }
        assert_eq!(throttle.drop, 1.0);
        throttle.tokens = 4;
        assert!((3..6).any(|now_ms| throttle.admits(Renewal, now_ms)), "it comes down again");
        let mut throttle = ConnectionThrottle::new(&config, 7);
        (throttle.drop, throttle.frozen_ms) = (0.5, u64::MAX);
        throttle.max = u64::MAX;
        throttle.tokens = u64::MAX / 2;
        let admitted = (0..10_000).filter(|_| throttle.admits(Global, 0)).count();
        assert!((4_700..5_300).contains(&admitted), "{admitted} of 10,000 at a half");
    }
}
