//! Quotas: the text of limits and usage, and which quota a path is under.
//!
//! The limits of `P` lie in `/zookeeper/quota/P/zookeeper_limits`, the usage beside them in `zookeeper_stats`. The
//! usage is data that no transaction writes: each server keeps it itself, without version or zxid, and counts again
//! when it loads a snapshot.
//!
//! ZooKeeper: `Quotas`, `StatsTrack`, `PathTrie`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Above all quotas.
pub(super) const QUOTA_ROOT: &str = "/zookeeper/quota";
pub(super) const LIMITS: &str = "zookeeper_limits";
pub(super) const STATS: &str = "zookeeper_stats";

/// The path whose quota nodes are the children of `parent`.
pub(super) fn quota_of(parent: &str) -> Option<&str> {
    parent.strip_prefix(QUOTA_ROOT).filter(|path| path.starts_with('/'))
}

/// The usage node of the quota on `path`.
pub(super) fn stats_path(path: &str) -> String {
    format!("{QUOTA_ROOT}{path}/{STATS}")
}

/// The limits node of the quota on `path`.
pub(super) fn limits_path(path: &str) -> String {
    format!("{QUOTA_ROOT}{path}/{LIMITS}")
}

/// The paths that have limits.
#[derive(Default)]
pub(super) struct Quotas {
    paths: BTreeSet<String>,
}

impl Quotas {
    pub fn insert(&mut self, path: &str) {
        self.paths.insert(path.into());
    }

    pub fn remove(&mut self, path: &str) {
        self.paths.remove(path);
    }

    /// The deepest path with a quota that `path` is under, itself included: only that one counts.
    pub fn deepest(&self, path: &str) -> Option<&str> {
        if self.paths.is_empty() {
            return None;
        }
        let prefixes = std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(parent, _)| parent));
        prefixes.filter_map(|prefix| self.paths.get(prefix)).next().map(String::as_str)
    }
}

/// A text of limits or usage: `count=2,bytes=10`, and behind an `=` further keys: `=;byteHardLimit=10`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StatsTrack {
    /// The values by key; -1 is no limit.
    values: BTreeMap<String, i64>,
}

/// One limit of a quota; -1 and less is none.
pub(super) struct Limit {
    value: i64,
    is_hard: bool,
}

impl Limit {
    fn of(hard: i64, soft: i64) -> Limit {
        let is_hard = hard > -1;
        Limit { value: if is_hard { hard } else { soft }, is_hard }
    }

    /// Whether `used` and `diff` more of `what` are too much. Nothing more is never too much; reaching the limit is not.
    pub fn exceeded_by(&self, path: &str, what: &'static str, used: i64, diff: i64) -> Option<ExceededQuota> {
        let (limit, would_be) = (self.value, used.saturating_add(diff));
        let exceeded = ExceededQuota { path: path.into(), what, would_be, limit, is_hard: self.is_hard };
        (diff != 0 && limit > -1 && would_be > limit).then_some(exceeded)
    }
}

/// A limit that a change would go beyond. As text: what Apache's log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceededQuota {
    /// Whose quota it is.
    path: String,
    /// `count` or `bytes`.
    what: &'static str,
    would_be: i64,
    limit: i64,
    /// A change beyond it is refused.
    pub is_hard: bool,
}

impl fmt::Display for ExceededQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExceededQuota { path, what, would_be, limit, is_hard } = self;
        let hardness = if *is_hard { "hard" } else { "soft" };
        let name = if *what == COUNT { "CountLimit" } else { "ByteLimit" };
        write!(f, "Quota exceeded: {path} [current {what}={would_be}, {hardness}{name}={limit}]")
    }
}

const COUNT: &str = "count";
const BYTES: &str = "bytes";

impl StatsTrack {
    pub fn new(count: i64, bytes: i64) -> StatsTrack {
        StatsTrack { values: BTreeMap::from([(COUNT.into(), count), (BYTES.into(), bytes)]) }
    }

    /// Reads a text; what is not a number counts as -1.
    pub fn parse(text: &[u8]) -> StatsTrack {
        let mut track = StatsTrack::new(-1, -1);
        let text = String::from_utf8_lossy(text);
        for part in text.split([',', ';']).filter(|part| !part.is_empty()) {
            let mut pieces = part.split('=');
            let (key, value) = (pieces.next().unwrap_or_default(), pieces.next().unwrap_or_default());
            track.values.insert(key.into(), value.parse().unwrap_or(-1));
        }
        track
    }

    fn get(&self, key: &str) -> i64 {
        self.values.get(key).copied().unwrap_or(-1)
    }

    /// What limits the count: the hard limit if there is one, else the soft one.
    pub fn count_limit(&self) -> Limit {
        Limit::of(self.get("countHardLimit"), self.count())
    }

    pub fn bytes_limit(&self) -> Limit {
        Limit::of(self.get("byteHardLimit"), self.bytes())
    }

    pub fn count(&self) -> i64 {
        self.get(COUNT)
    }

    pub fn bytes(&self) -> i64 {
        self.get(BYTES)
    }

    /// This usage with `count` and `bytes` more.
    pub fn plus(mut self, count: i64, bytes: i64) -> StatsTrack {
        // Wrapping: a client may have written any number here.
        for (key, more) in [(COUNT, count), (BYTES, bytes)] {
            self.values.insert(key.into(), self.get(key).wrapping_add(more));
        }
        self
    }
}

impl fmt::Display for StatsTrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{COUNT}={},{BYTES}={}", self.count(), self.bytes())?;
        let mut further = self.values.iter().filter(|(key, _)| *key != COUNT && *key != BYTES).peekable();
        if further.peek().is_some() {
            f.write_str("=")?; // So that a reader that knows only the two stops here.
        }
        further.try_for_each(|(key, value)| write!(f, ";{key}={value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written_as_zookeeper_does() {
        let text = "count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=3";
        let track = StatsTrack::parse(text.as_bytes());
        assert_eq!((track.count_limit().value, track.bytes_limit().value, track.count()), (3, 10, -1));
        assert_eq!(track.to_string(), text);
        assert_eq!(StatsTrack::parse(b"count=2,bytes=10").plus(1, 5).to_string(), "count=3,bytes=15");
        assert_eq!(StatsTrack::parse(b"count=,,;bytes").to_string(), "count=-1,bytes=-1");
    }

    #[test]
    fn the_deepest_quota_counts_by_whole_elements() {
        let mut quotas = Quotas::default();
        assert_eq!(quotas.deepest("/a/b"), None);
        quotas.insert("/a");
        quotas.insert("/a/b");
        assert_eq!(quotas.deepest("/a/b/c"), Some("/a/b"));
        assert_eq!(quotas.deepest("/a/b"), Some("/a/b"));
        assert_eq!(quotas.deepest("/a/bc"), Some("/a"));
        assert_eq!(quotas.deepest("/ab"), None);
        quotas.remove("/a/b");
        assert_eq!(quotas.deepest("/a/b/c"), Some("/a"));
    }
}
