//! What quotas have to say goes into the log, a line at a time: a client that goes on writing beyond a limit must not
//! fill it.
//!
//! ZooKeeper: `RateLogger`.

use super::super::io::{Effects, Note, Now};

/// From line to line, microseconds.
const INTERVAL_MICROS: u64 = 15_000_000;

/// When the last line was written, and what has been left out since.
#[derive(Default)]
pub(super) struct QuotaLog {
    /// Microseconds; 0: there was none.
    next: u64,
    left_out: u64,
}

impl QuotaLog {
    pub fn say(&mut self, now: Now, lines: Vec<String>, out: &mut Effects) {
        for line in lines {
            if now.micros < self.next {
                self.left_out += 1;
                continue;
            }
            self.next = now.micros + INTERVAL_MICROS;
            let left_out = std::mem::take(&mut self.left_out);
            out.notes.push(Note::Warning(match left_out {
                0 => line,
                more => format!("{line}; {more} such lines were left out before it"),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_comes_in_fifteen_seconds_and_counts_those_that_did_not() {
        let (mut log, mut out) = (QuotaLog::default(), Effects::default());
        for second in 0..31 {
            let now = Now { micros: second * 1_000_000, wall_ms: 0 };
            log.say(now, vec!["full".into()], &mut out);
        }
        let said: Vec<String> = out.notes.iter().map(Note::to_string).collect();
        let more = "full; 14 such lines were left out before it";
        assert_eq!(said, ["full", more, more]);
    }
}
