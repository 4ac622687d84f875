//! What a run did: a hash of every event, and on demand a text of it.
//!
//! Two runs of one seed must have the same hash; a difference means that something outside the seed took part.

/// A running hash (FNV-1a over words) and, if asked for, lines of text.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    events: u64,
    /// Print lines to stderr from this time on, in microseconds.
    pub text_from: Option<u64>,
    now: u64,
}

impl Trace {
    pub fn new(text_from: Option<u64>) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, events: 0, text_from, now: 0 }
    }

    /// The next event begins.
    pub fn event(&mut self, now: u64) {
        self.now = now;
        self.events += 1;
        self.word(now);
    }

    pub fn word(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x100_0000_01b3).rotate_left(23);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    pub fn is_text(&self) -> bool {
        self.text_from.is_some_and(|from| self.now >= from)
    }

    /// A line of text; the closure runs only if somebody reads it.
    pub fn line(&self, line: impl FnOnce() -> String) {
        if self.is_text() {
            eprintln!("{:>12.6} {}", self.now as f64 / 1e6, line());
        }
    }
}
