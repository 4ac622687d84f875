//! What is known to be synced: a lower bound, kept in `zabkit.synced` beside the logs.
//!
//! After a crash the end of a log may be damaged in two ways that look the same: by a write that never finished, of
//! which nobody was told, or by rot in records that were acknowledged. This file tells them apart. Everything from
//! the beginning of `first` up to the offset in `synced` was on the disk when the file was written; damage below
//! that is refused, damage above is cut off. A bound that is too low is harmless, so it is rewritten lazily, never
//! on the way of a write (only for a new log, once, before its first record); one that is too high would condemn a healthy log, so it is lowered, durably, *before*
//! anything below it is cut or removed.
//!
//! ```text
//! zabkit synced bound 1
//! floor 0x0                    snapshots below it do not lead to the log and are not used
//! first log.100000001          logs before it (and behind the next) are not ours: Apache's rules
//! synced log.100000009 8208    this file up to this byte, and those between whole
//! zxid 0x10000000c             the last record below the bound
//! crc 8d2fa0c1                 CRC-32 of all bytes before this line
//! ```
//!
//! `first`, `synced` and `zxid` are left out while nothing is promised. Without the file (a directory of Apache's,
//! or after an operator has removed it) Apache's rules hold. A file that does not check out counts as missing.

use super::disk::Disk;
use super::epochs::{read_small, replace_file};
use super::error::StorageError;
use super::names::{SYNCED_BOUND, TMP_PREFIX, parse_log};
use crate::records::Zxid;
use std::path::Path;

const TITLE: &str = "zabkit synced bound 1";
/// A longer file is none of ours.
const FILE_LEN_MAX: usize = 4096;

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncedBound {
    /// Snapshots below this zxid are not to be used: the logs behind them were replaced by an installed snapshot.
    pub floor: Zxid,
    /// What is promised to read back.
    pub synced: Option<Synced>,
}

/// A promise: from the beginning of `first`, all is there up to `offset` of `file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub first: String,
    pub file: String,
    pub offset: u64,
    /// Of the last record below `offset`.
    pub zxid: Zxid,
}

/// How a log lies to the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covered {
    /// Written by others: Apache's rules.
    Foreign,
    /// Ours, and promised up to this offset; the whole file for `u64::MAX`.
    UpTo(u64),
}

impl SyncedBound {
    /// What the bound says of the log that begins at `zxid`.
    pub fn covers(&self, zxid: Zxid) -> Covered {
        let Some(synced) = &self.synced else {
            return Covered::Foreign;
        };
        let (Some(first), Some(last)) = (parse_log(&synced.first), parse_log(&synced.file)) else {
            return Covered::Foreign;
        };
        match zxid {
            zxid if zxid < first => Covered::Foreign,
            zxid if zxid < last => Covered::UpTo(u64::MAX),
            zxid if zxid == last => Covered::UpTo(synced.offset),
            // We name a log here before we write a record to it, so this one is another server's.
            _ => Covered::Foreign,
        }
    }

    /// Reads the file in `dir`; `None` if it is missing or does not check out.
    pub(super) fn load<D: Disk>(disk: &D, dir: &Path) -> Result<Option<SyncedBound>, StorageError> {
        let bytes = read_small(disk, &dir.join(SYNCED_BOUND), FILE_LEN_MAX)?;
        Ok(bytes.as_deref().and_then(SyncedBound::parse))
    }

    /// Replaces the file in `dir`; durable when it returns.
    pub(super) fn save<D: Disk>(&self, disk: &D, dir: &Path) -> Result<(), StorageError> {
        let tmp = dir.join(format!("{TMP_PREFIX}{SYNCED_BOUND}"));
        replace_file(disk, dir, &tmp, &dir.join(SYNCED_BOUND), self.to_text().as_bytes())
    }

    fn to_text(&self) -> String {
        let mut text = format!("{TITLE}\nfloor {}\n", self.floor);
        if let Some(Synced { first, file, offset, zxid }) = &self.synced {
            text += &format!("first {first}\nsynced {file} {offset}\nzxid {zxid}\n");
        }
        with_crc(text)
    }

    fn parse(bytes: &[u8]) -> Option<SyncedBound> {
        let mut lines = without_crc(bytes)?.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let floor = parse_zxid(lines.next()?.strip_prefix("floor ")?)?;
        let Some(first) = lines.next() else {
            return Some(SyncedBound { floor, synced: None });
        };
        let first = first.strip_prefix("first ")?.to_owned();
        let (file, offset) = lines.next()?.strip_prefix("synced ")?.split_once(' ')?;
        let zxid = parse_zxid(lines.next()?.strip_prefix("zxid ")?)?;
        let synced = Synced { first, file: file.to_owned(), offset: offset.parse().ok()?, zxid };
        Some(SyncedBound { floor, synced: Some(synced) })
    }
}

/// The lines of a small file, and their sum.
pub(super) fn with_crc(lines: String) -> String {
    let crc = crc32fast::hash(lines.as_bytes());
    lines + &format!("crc {crc:08x}\n")
}

/// The lines of [`with_crc`]; `None` if the sum does not fit.
pub(super) fn without_crc(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (lines, crc) = text.split_at(text.rfind("crc ")?);
    let crc = crc.strip_prefix("crc ")?.strip_suffix('\n')?;
    (u32::from_str_radix(crc, 16).ok()? == crc32fast::hash(lines.as_bytes())).then_some(lines)
}

fn parse_zxid(text: &str) -> Option<Zxid> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok().map(|zxid| Zxid(zxid as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> SyncedBound {
        let synced = Synced { first: "log.5".into(), file: "log.9".into(), offset: 8208, zxid: Zxid(12) };
        SyncedBound { floor: Zxid(0x2_0000_0000), synced: Some(synced) }
    }

    #[test]
    fn a_bound_is_read_as_it_was_written() {
        for bound in [bound(), SyncedBound::default()] {
            assert_eq!(SyncedBound::parse(bound.to_text().as_bytes()), Some(bound));
        }
    }

    #[test]
    fn any_changed_byte_makes_the_file_void() {
        let text = bound().to_text();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert_eq!(SyncedBound::parse(&bytes), None, "byte {at}");
            assert_eq!(SyncedBound::parse(&bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn logs_before_the_first_and_after_the_last_are_foreign() {
        let bound = bound();
        assert_eq!(bound.covers(Zxid(4)), Covered::Foreign);
        assert_eq!(bound.covers(Zxid(5)), Covered::UpTo(u64::MAX));
        assert_eq!(bound.covers(Zxid(9)), Covered::UpTo(8208));
        assert_eq!(bound.covers(Zxid(10)), Covered::Foreign);
        assert_eq!(SyncedBound::default().covers(Zxid(9)), Covered::Foreign);
    }
}
