//! The names of the files in `version-2`: Apache's, and zabkit's own, which Apache does not take for its own.

use crate::records::Zxid;

/// The directory below dataDir and dataLogDir. Its name is the version of all formats in it.
pub const VERSION_DIR: &str = "version-2";
/// zabkit's lock on a data directory.
pub const LOCK: &str = "zabkit.lock";
/// What is known to be synced: see [`synced_bound`](super::synced_bound).
pub const SYNCED_BOUND: &str = "zabkit.synced";
/// Before the name of a file while it is being written. Apache takes `snapshot.5.tmp` for a snapshot; not this.
pub const TMP_PREFIX: &str = "zabkit.tmp.";
/// Before the name of a snapshot that is about to replace everything: see [`install`](super::install).
pub const INSTALL_PREFIX: &str = "zabkit.install.";
/// What was here when it was decided for: see [`inventory`](super::inventory).
pub const INVENTORY: &str = "zabkit.install.files";
/// Before the name of a log or a snapshot that it replaces, while it has not got its own name.
pub const SET_ASIDE_PREFIX: &str = "zabkit.install.old.";
/// Before the name of a log or a snapshot of a tree that was not the ensemble's, and before that the zxid of the snapshot
/// that has replaced it: `zabkit.diverged.300000005.log.200000001`.
pub const DIVERGED_PREFIX: &str = "zabkit.diverged.";
/// Before the name of a log whose torn tail was kept.
pub const TORN_PREFIX: &str = "zabkit.torn.";
/// The marker that lets an empty server trust its emptiness.
pub const INITIALIZE: &str = "initialize";

/// How a snapshot file is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    #[default]
    None,
    Gz,
    Snappy,
}

/// A file of `version-2` that holds the state as of, or from, `zxid`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedFile {
    pub zxid: Zxid,
    pub name: String,
}

impl Compression {
    /// The value of `snapshot.compression.method`; `None`: there is no such method.
    pub fn parse(method: &str) -> Option<Compression> {
        match method {
            "" => Some(Compression::None),
            "gz" => Some(Compression::Gz),
            "snappy" => Some(Compression::Snappy),
            _ => None,
        }
    }
}

pub fn log_name(zxid: Zxid) -> String {
    format!("log.{:x}", zxid.0)
}

pub fn snapshot_name(zxid: Zxid, compression: Compression) -> String {
    let suffix = match compression {
        Compression::None => "",
        Compression::Gz => ".gz",
        Compression::Snappy => ".snappy",
    };
    format!("snapshot.{:x}{suffix}", zxid.0)
}

/// The zxid in `log.<hex>`. Stricter than Apache, which also takes `log.5.bak` for a log.
pub fn parse_log(name: &str) -> Option<Zxid> {
    parse_hex(name.strip_prefix("log.")?)
}

/// The zxid and packing of `snapshot.<hex>[.gz|.snappy]`.
pub fn parse_snapshot(name: &str) -> Option<(Zxid, Compression)> {
    let rest = name.strip_prefix("snapshot.")?;
    let (hex, compression) = match rest.split_once('.') {
        None => (rest, Compression::None),
        Some((hex, "gz")) => (hex, Compression::Gz),
        Some((hex, "snappy")) => (hex, Compression::Snappy),
        Some(_) => return None,
    };
    Some((parse_hex(hex)?, compression))
}

/// Hexadecimal in either case, leading zeros allowed, no sign, not beyond the largest zxid.
fn parse_hex(hex: &str) -> Option<Zxid> {
    if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    i64::from_str_radix(hex, 16).ok().map(Zxid)
}

/// The logs among `names`, oldest first.
pub fn logs(names: &[String]) -> Vec<NamedFile> {
    sorted(names, parse_log)
}

/// The snapshots among `names`, oldest first.
pub fn snapshots(names: &[String]) -> Vec<NamedFile> {
    sorted(names, |name| parse_snapshot(name).map(|(zxid, _)| zxid))
}

fn sorted(names: &[String], parse: impl Fn(&str) -> Option<Zxid>) -> Vec<NamedFile> {
    let mut files: Vec<NamedFile> =
        names.iter().filter_map(|name| Some(NamedFile { zxid: parse(name)?, name: name.clone() })).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_either_case_and_with_leading_zeros() {
        assert_eq!(parse_log("log.100000001"), Some(Zxid(0x1_0000_0001)));
        assert_eq!(parse_log("log.00A"), Some(Zxid(10)));
        assert_eq!(parse_snapshot("snapshot.bB"), Some((Zxid(0xbb), Compression::None)));
        assert_eq!(parse_snapshot("snapshot.0.gz"), Some((Zxid(0), Compression::Gz)));
        assert_eq!(parse_snapshot("snapshot.53.snappy"), Some((Zxid(0x53), Compression::Snappy)));
        for compression in [Compression::None, Compression::Gz, Compression::Snappy] {
            assert_eq!(parse_snapshot(&snapshot_name(Zxid(0xbb), compression)), Some((Zxid(0xbb), compression)));
        }
    }

    #[test]
    fn other_names_are_nobodys() {
        for name in ["log.", "log.g", "log.-1", "log.+1", "log.5.bak", "log", "snapshot.5", "log.ffffffffffffffff"] {
            assert_eq!(parse_log(name), None, "{name}");
        }
        for name in ["snapshot.5.tmp", "snapshot", "log.5", "zabkit.tmp.snapshot.5", "snapshot.5.gz.gz"] {
            assert_eq!(parse_snapshot(name), None, "{name}");
        }
    }
}
