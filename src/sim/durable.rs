//! What is really on a server's disk: read from the durable image, by a reader of its own that trusts nothing the
//! server says. "On the disk" means: there after a power cut at this moment, whatever the cut takes.

use super::disk::SimDisk;
use crate::jute::Reader;
use crate::records::{Epoch, Zxid, txn_zxid};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Bytes before the first record of a log.
const LOG_HEADER: usize = 16;
/// The byte behind each record.
const RECORD_END: u8 = 0x42;

/// The durable state of one server, read again where the disk has changed.
pub struct Durable {
    disk: SimDisk,
    dir: PathBuf,
    seen_change: Option<u64>,
    /// By file name: how far it has been read, and the zxids in it.
    logs: BTreeMap<String, (usize, BTreeSet<Zxid>)>,
    newest_snapshot: Option<Zxid>,
    pub accepted_epoch: Option<Epoch>,
    pub current_epoch: Option<Epoch>,
}

impl Durable {
    /// `dir` is the `version-2` directory.
    pub fn new(disk: SimDisk, dir: PathBuf) -> Durable {
        Durable {
            disk,
            dir,
            seen_change: None,
            logs: BTreeMap::new(),
            newest_snapshot: None,
            accepted_epoch: None,
            current_epoch: None,
        }
    }

    /// Forgets what was read: files may have become shorter.
    pub fn forget(&mut self) {
        self.seen_change = None;
        self.logs.clear();
    }

    /// Whether a transaction is in a durable log record, or under a durable snapshot.
    pub fn holds(&self, zxid: Zxid) -> bool {
        self.newest_snapshot.is_some_and(|snapshot| snapshot >= zxid)
            || self.logs.values().any(|(_, zxids)| zxids.contains(&zxid))
    }

    /// Reads what has changed; whether anything has.
    pub fn refresh(&mut self) -> bool {
        let disk = self.disk.clone();
        if self.seen_change == Some(disk.durable_changes()) {
            return false;
        }
        self.seen_change = Some(disk.durable_changes());
        let names = disk.durable_names(&self.dir);
        self.logs.retain(|name, _| names.contains(name));
        self.newest_snapshot = names.iter().filter_map(|name| snapshot_of(name)).max();
        for name in names.iter().filter(|name| number_behind(name, "log.").is_some()) {
            let (offset, zxids) = self.logs.entry(name.clone()).or_insert((LOG_HEADER, BTreeSet::new()));
            disk.with_durable(&self.dir.join(name), |bytes| {
                if bytes.len() < *offset {
                    (*offset, *zxids) = (LOG_HEADER, BTreeSet::new());
                }
                while let Some((zxid, next)) = record_at(bytes, *offset) {
                    zxids.insert(zxid);
                    *offset = next;
                }
            });
        }
        self.accepted_epoch = self.epoch(&disk, "acceptedEpoch");
        self.current_epoch = self.epoch(&disk, "currentEpoch");
        true
    }

    fn epoch(&self, disk: &SimDisk, name: &str) -> Option<Epoch> {
        let mut epoch = None;
        disk.with_durable(&self.dir.join(name), |bytes| {
            epoch = std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok()).map(Epoch);
        });
        epoch
    }
}

/// Of a snapshot, also of one that is being installed and will be finished at the next start.
fn snapshot_of(name: &str) -> Option<Zxid> {
    number_behind(name.strip_prefix("zabkit.install.").unwrap_or(name), "snapshot.")
}

fn number_behind(name: &str, prefix: &str) -> Option<Zxid> {
    i64::from_str_radix(name.strip_prefix(prefix)?, 16).ok().map(Zxid)
}

/// The whole record at `offset`, if there is one: its zxid and the offset behind it.
fn record_at(bytes: &[u8], offset: usize) -> Option<(Zxid, usize)> {
    let mut from = Reader::new(bytes.get(offset..)?);
    let checksum = from.long().ok()?;
    let txn = from.buffer().ok()??;
    let end = from.byte().ok()?;
    if txn.is_empty() || end != RECORD_END || checksum != i64::from(adler32(txn)) {
        return None;
    }
    Some((txn_zxid(txn).ok()?, bytes.len() - from.remaining()))
}

fn adler32(bytes: &[u8]) -> u32 {
    let mut adler = simd_adler32::Adler32::new();
    adler.write(bytes);
    adler.finish()
}
