//! Log lines that a hostile client causes: each kind once a second, with the number of those left out.
//!
//! Writing a line takes longer than refusing a connection; without this a flood of connections would be one of the log.
//!
//! ZooKeeper: `RateLogger`.

use std::collections::BTreeMap;

/// How long a kind of line is not said again.
const INTERVAL_MS: u64 = 1000;

/// What was said when.
#[derive(Debug, Default)]
pub struct Repeats {
    kinds: BTreeMap<&'static str, Said>,
}

#[derive(Debug)]
struct Said {
    at_ms: u64,
    left_out: u64,
}

impl Repeats {
    /// Whether to say `what` at `now_ms`, and then how many of the kind were not said before it. `what` is a kind of
    /// line, not its text, so that there are few.
    pub fn admit(&mut self, what: &'static str, now_ms: u64) -> Option<u64> {
        let Some(said) = self.kinds.get_mut(what) else {
            self.kinds.insert(what, Said { at_ms: now_ms, left_out: 0 });
            return Some(0);
        };
        if now_ms.saturating_sub(said.at_ms) < INTERVAL_MS {
            said.left_out += 1;
            return None;
        }
        said.at_ms = now_ms;
        Some(std::mem::take(&mut said.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_line_is_said_once_a_second_with_the_number_of_those_left_out() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.admit("too many", 5000), Some(0));
        assert_eq!((repeats.admit("too many", 5001), repeats.admit("too many", 5999)), (None, None));
        assert_eq!(repeats.admit("too long", 5999), Some(0), "another kind");
        assert_eq!((repeats.admit("too many", 6000), repeats.admit("too many", 6001)), (Some(2), None));
    }
}
