//! Forgetting what the leader does not have (TRUNC): the log is cut behind the last record that is not beyond `to`.
//!
//! ZooKeeper cuts behind the first record that is not *before* `to`, so that a record beyond it survives where `to`
//! itself is missing, and it keeps newer snapshots; both bring back what was to be forgotten.
//!
//! Each step leaves a directory that opens, with the old history or with a shorter one that ends at or behind `to`:
//!
//! 1. a valid snapshot not beyond `to` is found; without one nothing is touched ([`Truncated::NoBase`]);
//! 2. the synced bound is lowered to the cut;
//! 3. newer snapshots are removed, directory synced: the older one and the log still make the old state;
//! 4. later logs are removed, newest first, the directory synced after each, so that no hole can be left;
//! 5. the log with `to` in it is cut and synced.

use super::disk::{Disk, DiskFile};
use super::error::StorageError;
use super::log_file::{LogEnd, LogFile, Next, PADDING_LEN};
use super::names::{self, NamedFile, parse_log, parse_snapshot};
use super::recovery::NullSink;
use super::snapshot::{ReadFailure, looks_complete, read_snapshot};
use super::synced_bound::{Synced, SyncedBound};
use crate::records::Zxid;
use std::path::Path;

/// How a truncation went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncated {
    /// The history ends at `last`, which is `to`, or before it if `to` was missing. Reload the database.
    To { last: Zxid },
    /// No snapshot at or before `to` is left, so there is no state to go back to. Nothing was changed: ask the
    /// leader for a snapshot, as a server that has nothing ([`Zxid::NONE`]).
    NoBase,
}

/// What is to be done to the files.
pub(super) struct Plan {
    /// The snapshot that the shorter log is for.
    base: Zxid,
    /// To be removed, oldest first.
    snapshots: Vec<NamedFile>,
    /// To be removed, oldest first.
    logs: Vec<NamedFile>,
    /// To be cut at this offset; its last record is `last`.
    cut: Option<(NamedFile, u64, Zxid)>,
}

/// Step 1. `None`: there is no state to go back to.
pub(super) fn plan<D: Disk>(
    disk: &D,
    snapshot_dir: &Path,
    log_dir: &Path,
    floor: Zxid,
    to: Zxid,
    txn_bytes_max: usize,
) -> Result<Option<Plan>, StorageError> {
    let list = |dir: &Path| disk.list(dir).map_err(StorageError::io("list", dir));
    let (keep, snapshots): (Vec<_>, Vec<_>) =
        names::snapshots(&list(snapshot_dir)?).into_iter().partition(|file| file.zxid <= to);
    let Some(base) = newest_valid(disk, snapshot_dir, &keep, floor, txn_bytes_max)? else {
        return Ok(None);
    };
    let (mut keep, logs): (Vec<_>, Vec<_>) = names::logs(&list(log_dir)?).into_iter().partition(|file| file.zxid <= to);
    let cut = match keep.pop() {
        None => None,
        Some(file) => {
            let (offset, last) = find_cut(disk, &log_dir.join(&file.name), to, txn_bytes_max)?;
            Some((file, offset, last))
        }
    };
    Ok(Some(Plan { base, snapshots, logs, cut }))
}

impl Plan {
    /// The last zxid of the shorter history.
    pub fn last(&self) -> Zxid {
        self.cut.as_ref().map_or(self.base, |(_, _, last)| self.base.max(*last))
    }

    /// The bound for step 2. The log that is cut was read up to there, whoever has written it, and is ours from now on.
    pub fn bound(&self, old: &SyncedBound) -> SyncedBound {
        let synced = self.cut.as_ref().map(|(file, offset, _)| {
            let first = old.synced.as_ref().map(|synced| &synced.first);
            let first = first.filter(|first| parse_log(first).is_some_and(|zxid| zxid <= file.zxid));
            Synced {
                first: first.unwrap_or(&file.name).clone(),
                file: file.name.clone(),
                offset: *offset,
                zxid: self.last(),
            }
        });
        SyncedBound { floor: old.floor, synced }
    }

    /// Steps 3 to 5.
    pub fn perform<D: Disk>(&self, disk: &D, snapshot_dir: &Path, log_dir: &Path) -> Result<(), StorageError> {
        let remove = |dir: &Path, file: &NamedFile| {
            let path = dir.join(&file.name);
            disk.remove(&path).map_err(StorageError::io("remove", &path))
        };
        for snapshot in self.snapshots.iter().rev() {
            remove(snapshot_dir, snapshot)?;
        }
        disk.sync_dir(snapshot_dir).map_err(StorageError::io("sync", snapshot_dir))?;
        for log in self.logs.iter().rev() {
            remove(log_dir, log)?;
            disk.sync_dir(log_dir).map_err(StorageError::io("sync", log_dir))?;
        }
        if let Some((file, offset, _)) = &self.cut {
            let path = log_dir.join(&file.name);
            let mut log = disk.open(&path).map_err(StorageError::io("open", &path))?;
            log.set_len(*offset).map_err(StorageError::io("truncate", &path))?;
            log.set_len(*offset + PADDING_LEN).map_err(StorageError::io("truncate", &path))?;
            log.sync_data().map_err(StorageError::io("sync", &path))?;
        }
        Ok(())
    }
}

fn newest_valid<D: Disk>(
    disk: &D,
    dir: &Path,
    candidates: &[NamedFile],
    floor: Zxid,
    limit: usize,
) -> Result<Option<Zxid>, StorageError> {
    for file in candidates.iter().rev().filter(|file| file.zxid >= floor) {
        let path = dir.join(&file.name);
        let Some((zxid, compression)) = parse_snapshot(&file.name) else { continue };
        if !looks_complete(disk, &path, compression)? {
            continue;
        }
        match read_snapshot(disk, &path, compression, limit, &mut NullSink) {
            Ok(_) => return Ok(Some(zxid)),
            Err(ReadFailure::Truncated(_) | ReadFailure::Invalid(_)) => {}
            Err(ReadFailure::Storage(error)) => return Err(error),
        }
    }
    Ok(None)
}

/// Behind the last record before the first that is beyond `to`, and that record's zxid.
fn find_cut<D: Disk>(disk: &D, path: &Path, to: Zxid, txn_bytes_max: usize) -> Result<(u64, Zxid), StorageError> {
    let file = disk.open_read(path).map_err(StorageError::io("open", path))?;
    let mut log = LogFile::new(file, path, None, txn_bytes_max)?;
    let mut last = Zxid::ZERO;
    loop {
        match log.read_next()? {
            Next::Record(record) if record.zxid > to => return Ok((record.offset, last)),
            Next::Record(record) => last = last.max(record.zxid),
            Next::End(LogEnd { offset, damage: None }) => return Ok((offset, last)),
            // The start has cut what was torn; what is damaged now has rotted since.
            Next::End(LogEnd { offset, damage: Some(damage) }) => {
                return Err(StorageError::Corrupt { path: path.into(), offset, why: damage.to_string() });
            }
        }
    }
}
