//! Which server is asked next, and when: each in turn, in an order of the session's own, slower after a whole round
//! without success. ZooKeeper: `StaticHostProvider`.

/// The first pause after a round without success, in ms; it doubles.
const PAUSE_FIRST_MS: u64 = 10;
const PAUSE_MAX_MS: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Servers {
    order: Vec<usize>,
    /// Place in `order` of the server that is asked now or was last.
    at: usize,
    /// Attempts since the last success.
    attempts: usize,
    pause_ms: u64,
    is_shuffled: bool,
    random: u64,
}

impl Servers {
    pub(super) fn new(count: usize, seed: u64) -> Servers {
        let mut servers = Servers {
            order: Vec::new(),
            at: 0,
            attempts: 0,
            pause_ms: PAUSE_FIRST_MS,
            is_shuffled: seed != 0,
            random: seed,
        };
        servers.set(count);
        servers
    }

    /// There are `count` servers from now on.
    pub(super) fn set(&mut self, count: usize) {
        assert!(count > 0, "a session needs the address of a server");
        self.order = (0..count).collect();
        if self.is_shuffled {
            for last in (1..count).rev() {
                let other = self.below(last as u64 + 1) as usize;
                self.order.swap(last, other);
            }
        }
        self.at = count - 1; // The first attempt is of the first.
        (self.attempts, self.pause_ms) = (0, PAUSE_FIRST_MS);
    }

    pub(super) fn count(&self) -> usize {
        self.order.len()
    }

    /// The server that is asked now or was last.
    pub(super) fn current(&self) -> usize {
        self.order[self.at]
    }

    /// Goes on to the next server.
    pub(super) fn advance(&mut self) -> usize {
        self.at = (self.at + 1) % self.order.len();
        self.attempts += 1;
        self.current()
    }

    /// How long to wait before the next attempt, in ms.
    pub(super) fn pause(&mut self) -> u64 {
        if self.attempts < self.order.len() {
            return 0;
        }
        self.attempts = 0;
        let pause_ms = self.pause_ms;
        self.pause_ms = (2 * pause_ms).min(PAUSE_MAX_MS);
        // Clients that lost the same server must not come back all at once.
        pause_ms + self.below(pause_ms / 2 + 1)
    }

    /// The server serves: the next attempt is a first one again.
    pub(super) fn on_success(&mut self) {
        (self.attempts, self.pause_ms) = (0, PAUSE_FIRST_MS);
    }

    /// A number below `bound` (SplitMix64).
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
