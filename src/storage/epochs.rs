//! The two numbers a server must never forget: `acceptedEpoch`, what it promised to a would-be leader, and
//! `currentEpoch`, whose history it holds. Decimal text in files of their own; `currentEpoch <= acceptedEpoch`.
//!
//! A file is replaced by writing `NAME.tmp`, syncing it, renaming it and syncing the directory. Only when
//! [`save`] has returned may a message speak of the new number.
//!
//! ZooKeeper: `QuorumPeer.loadDataBase`, `AtomicFileOutputStream`.

use super::disk::{Disk, DiskFile};
use super::error::StorageError;
use super::names::TMP_PREFIX;
use crate::records::{Epoch, Zxid};
use std::io;
use std::path::Path;

pub const ACCEPTED_EPOCH: &str = "acceptedEpoch";
pub const CURRENT_EPOCH: &str = "currentEpoch";
const TMP_SUFFIX: &str = ".tmp";
/// An epoch file longer than this is none.
const FILE_LEN_MAX: usize = 64;

/// The epochs a server starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epochs {
    pub accepted: Epoch,
    pub current: Epoch,
    /// Set if `current` was taken from elsewhere than its file, and must be saved: where from.
    pub adopted: Option<String>,
}

/// Reads both epochs and holds them against the last zxid of snapshot and log (`NONE`: nothing there).
///
/// A missing file counts as the epoch of the last zxid. A log that is ahead of `currentEpoch` is what a crash
/// between "history synced" and "currentEpoch saved" leaves behind (the order that Zab needs at NEWLEADER); where
/// `acceptedEpoch` covers it, the save is made up for. It changes no promise: the records in it are those of the
/// epoch's leader, complete up to their end, just as if the server had crashed one step later.
pub(super) fn load<D: Disk>(disk: &D, dir: &Path, last: Zxid) -> Result<Epochs, StorageError> {
    let of_last = last.max(Zxid::ZERO).epoch();
    let accepted = read_epoch(disk, dir, ACCEPTED_EPOCH)?.unwrap_or(of_last);
    let mut current = read_epoch(disk, dir, CURRENT_EPOCH)?.unwrap_or(of_last);
    let mut adopted = None;
    if of_last > current {
        // Apache's own way out of the same crash: the new value may lie in the file that was not renamed.
        let tmp = read_epoch(disk, dir, &format!("{CURRENT_EPOCH}{TMP_SUFFIX}")).ok().flatten();
        let (source, epoch) = match tmp {
            Some(epoch) if epoch == of_last && epoch <= accepted => ("currentEpoch.tmp", epoch),
            // A later one may have been announced for a history that has not come so far. With it this server could win
            // an election against those that have that history.
            _ if accepted >= of_last => ("the last zxid", of_last),
            _ => return Err(StorageError::EpochBehindLog { accepted, current, last }),
        };
        adopted = Some(format!("currentEpoch {current} was behind the last zxid {last}: {epoch} taken from {source}"));
        current = epoch;
    }
    if accepted < current {
        return Err(StorageError::EpochsCrossed { accepted, current });
    }
    Ok(Epochs { accepted, current, adopted })
}

/// Whether the directory has ever been a member's: an epoch file holds more than 0.
pub(super) fn were_used<D: Disk>(disk: &D, dir: &Path) -> Result<bool, StorageError> {
    let used = |epoch: Option<Epoch>| epoch.is_some_and(|epoch| epoch > Epoch(0));
    Ok(used(read_epoch(disk, dir, ACCEPTED_EPOCH)?) || used(read_epoch(disk, dir, CURRENT_EPOCH)?))
}

/// Replaces one epoch file; durable when it returns.
pub(super) fn save<D: Disk>(disk: &D, dir: &Path, name: &str, epoch: Epoch) -> Result<(), StorageError> {
    let tmp = dir.join(format!("{name}{TMP_SUFFIX}"));
    // No newline, as Apache writes it.
    replace_file(disk, dir, &tmp, &dir.join(name), epoch.to_string().as_bytes())
}

/// Makes the epoch that was announced the current one: what [`save`] does, but at no moment is neither of the two files
/// whole. Durable when it returns.
pub(super) fn save_announced<D: Disk>(disk: &D, dir: &Path, epoch: Epoch) -> Result<(), StorageError> {
    announce(disk, dir, epoch)?;
    let tmp = dir.join(format!("{CURRENT_EPOCH}{TMP_SUFFIX}"));
    disk.rename(&tmp, &dir.join(CURRENT_EPOCH)).map_err(StorageError::io("rename", &tmp))?;
    disk.sync_dir(dir).map_err(StorageError::io("sync", dir))
}

/// Leaves word that the history is about to reach into `epoch`, for a start before [`save`] has made it the current
/// one: Apache's server refuses a directory whose last zxid is of a later epoch than `currentEpoch`, unless it finds
/// that epoch in the file that is to become it. Durable when it returns.
pub(super) fn announce<D: Disk>(disk: &D, dir: &Path, epoch: Epoch) -> Result<(), StorageError> {
    let tmp = dir.join(format!("{CURRENT_EPOCH}{TMP_SUFFIX}"));
    // It may be there already, with an earlier epoch that must not be lost before the new one is there.
    let next = dir.join(format!("{TMP_PREFIX}{CURRENT_EPOCH}"));
    replace_file(disk, dir, &next, &tmp, epoch.to_string().as_bytes())
}

/// Writes `bytes` to `tmp`, syncs it, renames it to `path` and syncs the directory.
pub(super) fn replace_file<D: Disk>(
    disk: &D,
    dir: &Path,
    tmp: &Path,
    path: &Path,
    bytes: &[u8],
) -> Result<(), StorageError> {
    let mut file = disk.create(tmp).map_err(StorageError::io("create", tmp))?;
    file.write_at(0, bytes).map_err(StorageError::io("write", tmp))?;
    file.sync_data().map_err(StorageError::io("sync", tmp))?;
    disk.rename(tmp, path).map_err(StorageError::io("rename", tmp))?;
    disk.sync_dir(dir).map_err(StorageError::io("sync", dir))
}

/// The first line of a small file; `None` if there is no such file.
pub(super) fn read_small<D: Disk>(disk: &D, path: &Path, len_max: usize) -> Result<Option<Vec<u8>>, StorageError> {
    let file = match disk.open_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::io("open", path)(error)),
    };
    let mut bytes = vec![0; len_max];
    let n = file.read_full_at(0, &mut bytes).map_err(StorageError::io("read", path))?;
    bytes.truncate(n);
    Ok(Some(bytes))
}

/// One epoch file; `None` if there is no such file.
pub(super) fn read_epoch<D: Disk>(disk: &D, dir: &Path, name: &str) -> Result<Option<Epoch>, StorageError> {
    let path = dir.join(name);
    let Some(bytes) = read_small(disk, &path, FILE_LEN_MAX)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next().unwrap_or_default().trim();
    match line.parse() {
        Ok(epoch) if epoch >= 0 => Ok(Some(Epoch(epoch))),
        _ => Err(StorageError::BadEpochFile { path, found: line.to_owned() }),
    }
}
