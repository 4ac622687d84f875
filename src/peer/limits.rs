//! How much of the requests of all clients is taken at a time: what one connection may have per turn, and what all of
//! them together may have without an answer.
//!
//! Nothing is refused here for being too much: what is not taken stays with its connection, which is not read from
//! meanwhile. Only an operator's own limits refuse: a request that waited longer than `throttledOpWaitTime`, and large
//! requests beyond `largeRequestMaxBytes`.
//!
//! ZooKeeper: `ZooKeeperServer.shouldThrottle`, `RequestThrottler`.

use super::outbox::OutboxState;
use crate::records::op;
use crate::sync::Figure;

/// Requests of one connection that are taken in a turn; then it is the next one's. Longer frames count for more.
pub const TURN_FRAMES_MAX: usize = 256;
/// Bytes of a frame that count for as much as a frame.
const TURN_FRAME_BYTES: usize = 1 << 10;
/// Bytes of answers after which a connection's turn is over.
pub const TURN_OUTPUT_MAX: usize = 256 << 10;
/// Bytes of requests without an answer, of all connections: beyond it those that wait for one are not read from.
const OUTSTANDING_BYTES_MAX: usize = 64 << 20;

/// What an operator lets clients have at a time; the default is Apache's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// `globalOutstandingLimit`, this server's share: beyond it a connection that waits for an answer is not read from.
    pub outstanding_max: usize,
    /// `requestThrottleLimit`: from it on no request is taken from anybody. `usize::MAX`: off.
    pub throttle_at: usize,
    /// `throttledOpWaitTime`: what has waited longer is refused. `u64::MAX`: off.
    pub throttled_wait_micros: u64,
    /// `requestStaleLatencyCheck`: a connection whose requests waited longer than its session's timeout ends.
    pub ends_stale: bool,
    /// `largeRequestThreshold`: longer frames are large. `usize::MAX`: none is.
    pub large_above: usize,
    /// `largeRequestMaxBytes`: bytes of large requests without an answer.
    pub large_bytes_max: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        RequestLimits {
            outstanding_max: 1000,
            throttle_at: usize::MAX,
            throttled_wait_micros: u64::MAX,
            ends_stale: false,
            large_above: usize::MAX,
            large_bytes_max: 100 << 20,
        }
    }
}

/// How many of the frames that a connection offered were taken, and what is to be done with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub frames: usize,
    pub rest: Rest,
}

/// What a connection does with the frames that were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// There are none, and all that was taken is answered or waits for the leader.
    Nothing,
    /// Its turn is over: it offers them again when others have had theirs.
    NextTurn,
    /// They wait until something of this connection is sent or answered.
    Answers,
    /// They wait for others' answers too: it offers them again after a while.
    Throttled,
}

/// What all connections of a server have without an answer.
#[derive(Debug, Default)]
pub(super) struct Load {
    requests: Figure,
    bytes: Figure,
    large_bytes: Figure,
}

/// One connection's part of the [`Load`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub requests: usize,
    pub bytes: usize,
    pub large_bytes: usize,
}

impl Load {
    /// Replaces what is counted for a connection.
    pub fn replace(&self, counted: &mut Share, now: Share) {
        if counted.requests != now.requests {
            self.requests.change(counted.requests, now.requests);
            self.bytes.change(counted.bytes, now.bytes);
        }
        if counted.large_bytes != now.large_bytes {
            self.large_bytes.change(counted.large_bytes, now.large_bytes);
        }
        *counted = now;
    }

    /// What others than a connection, of which `counted` is counted, have.
    pub fn of_others(&self, counted: Share) -> Share {
        Share {
            requests: self.requests.get().saturating_sub(counted.requests),
            bytes: self.bytes.get().saturating_sub(counted.bytes),
            large_bytes: self.large_bytes.get().saturating_sub(counted.large_bytes),
        }
    }
}

/// A connection's turn.
pub(super) struct Turn<'a> {
    limits: &'a RequestLimits,
    others: Share,
    /// What it may still take.
    left: usize,
    /// Bytes of output when it began.
    output: usize,
    /// The frames have waited longer than `throttledOpWaitTime`.
    pub is_late: bool,
}

impl<'a> Turn<'a> {
    pub fn new(limits: &'a RequestLimits, load: &Load, state: &OutboxState, waited_micros: u64) -> Turn<'a> {
        let others = load.of_others(state.counted);
        let is_late = waited_micros > limits.throttled_wait_micros;
        Turn { limits, others, left: TURN_FRAMES_MAX, output: state.output_len(), is_late }
    }

    /// Why the next frame is not taken now.
    pub fn stops(&self, state: &OutboxState) -> Option<Rest> {
        if state.is_busy() {
            return Some(Rest::Answers);
        }
        let own = state.share();
        let requests = self.others.requests + own.requests;
        let is_much = requests > self.limits.outstanding_max || self.others.bytes + own.bytes > OUTSTANDING_BYTES_MAX;
        if is_much && state.waits_for_an_answer() {
            return Some(Rest::Answers);
        }
        if requests >= self.limits.throttle_at {
            return Some(Rest::Throttled);
        }
        let is_over = self.left == 0 || state.output_len() - self.output.min(state.output_len()) >= TURN_OUTPUT_MAX;
        is_over.then_some(Rest::NextTurn)
    }

    /// Counts a frame that is taken.
    pub fn count(&mut self, opcode: i32, len: usize) {
        // These walk as many nodes as there are, however short the request is.
        let is_walk = matches!(opcode, op::GET_ALL_CHILDREN_NUMBER | op::GET_EPHEMERALS);
        self.left = if is_walk { 0 } else { self.left.saturating_sub(1 + len / TURN_FRAME_BYTES) };
    }

    /// Whether a frame of this length is one large request too many.
    pub fn is_too_large(&self, state: &OutboxState, len: usize) -> bool {
        len > self.limits.large_above
            && self.others.large_bytes + state.share().large_bytes + len > self.limits.large_bytes_max
    }
}
