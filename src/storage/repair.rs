//! Mends what [`recovery`](super::recovery) found torn, and makes durable what it found whole. The only code that
//! cuts a log without having been told to by a leader.
//!
//! Bytes that are cut off are first copied to a file of their own (`zabkit.torn.*`), synced.

use super::disk::{Disk, DiskFile};
use super::error::StorageError;
use super::log_file::{HEADER_LEN, PADDING_LEN};
use super::names::{NamedFile, TORN_PREFIX};
use super::recovery::{Loaded, ReadLog, Repair};
use super::synced_bound::{Covered, Synced, SyncedBound};
use std::io;
use std::path::{Path, PathBuf};

const CHUNK: usize = 1 << 20;

/// Mends the directory, so that it reads as `loaded` says also after the next crash, and adds to `repaired` what was
/// done. Returns the bound that holds then; durable.
pub(super) fn repair<D: Disk>(
    disk: &D,
    snapshot_dir: &Path,
    log_dir: &Path,
    bound: Option<&SyncedBound>,
    loaded: &Loaded,
    repaired: &mut Vec<Repair>,
) -> Result<SyncedBound, StorageError> {
    for log in &loaded.logs {
        repair_log(disk, log_dir, log, repaired)?;
    }
    for path in &loaded.unfinished {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kept = free_name(disk, snapshot_dir, &format!("{TORN_PREFIX}{name}"))?;
        disk.rename(path, &kept).map_err(StorageError::io("rename", path))?;
        repaired.push(Repair::UnfinishedSnapshot { snapshot: path.clone(), kept });
    }
    // Names too: a server that was killed may have renamed or created, and not lived to sync the directory.
    disk.sync_dir(snapshot_dir).map_err(StorageError::io("sync", snapshot_dir))?;
    disk.sync_dir(log_dir).map_err(StorageError::io("sync", log_dir))?;

    let new = bound_of(bound, loaded);
    if bound != Some(&new) {
        new.save(disk, log_dir)?;
    }
    Ok(new)
}

/// What may be promised of a directory that has been repaired.
fn bound_of(old: Option<&SyncedBound>, loaded: &Loaded) -> SyncedBound {
    let floor = old.map(|bound| bound.floor).unwrap_or_default();
    let whole = || loaded.logs.iter().filter(|log| log.end > HEADER_LEN);
    let Some(newest) = whole().next_back() else {
        // What was promised of older logs still holds. The log named last may have held nothing yet, and is gone now:
        // of one that gets its name again nothing is promised, not even a header.
        let mut synced = old.and_then(|bound| bound.synced.clone());
        if let Some(synced) = synced.as_mut().filter(|synced| synced.offset <= HEADER_LEN) {
            synced.offset = 0;
        }
        return SyncedBound { floor, synced };
    };
    let known = old.and_then(|bound| bound.synced.as_ref()).filter(|_| newest.covered != Covered::Foreign);
    // Where another server has written since, only what was read just now is known to be whole.
    let first = known.map(|synced| synced.first.clone()).or(whole().next().map(|log| log.file.name.clone()));
    let NamedFile { name, .. } = &newest.file;
    let synced = Synced {
        first: first.unwrap_or_else(|| name.clone()),
        file: name.clone(),
        offset: newest.end,
        zxid: loaded.last,
    };
    SyncedBound { floor, synced: Some(synced) }
}

fn repair_log<D: Disk>(disk: &D, dir: &Path, log: &ReadLog, repaired: &mut Vec<Repair>) -> Result<(), StorageError> {
    let path = dir.join(&log.file.name);
    let open = || disk.open(&path).map_err(StorageError::io("open", &path));
    let kept = match log.torn {
        Some((_, end)) if end > log.end && (log.end > 0 || end > HEADER_LEN) => {
            Some(keep_aside(disk, dir, log, &open()?, end)?)
        }
        _ => None,
    };
    if log.end <= HEADER_LEN {
        // The name of an empty log would pass for the last zxid with Apache, and stand in the way of ours.
        disk.remove(&path).map_err(StorageError::io("remove", &path))?;
        repaired.push(Repair::EmptyLog { log: path, kept });
        return Ok(());
    }
    if let Some((damage, end)) = log.torn {
        cut(&mut open()?, &path, log.end)?;
        repaired.push(Repair::TornTail {
            log: path.clone(),
            offset: log.end,
            bytes: end - log.end,
            why: damage.to_string(),
            kept: kept.unwrap_or_default(),
        });
    }
    match log.covered {
        // A truncation may have come as far as this, and not to its sync.
        Covered::UpTo(synced) if synced == log.end => cut(&mut open()?, &path, log.end),
        Covered::UpTo(synced) if synced > log.end => Ok(()),
        Covered::UpTo(synced) => write_again(&mut open()?, &path, synced, log.end),
        Covered::Foreign => write_again(&mut open()?, &path, HEADER_LEN, log.end),
    }
}

/// Ends the file behind the last record, with the padding that says that it was us; durable.
fn cut<F: DiskFile>(file: &mut F, path: &Path, end: u64) -> Result<(), StorageError> {
    file.set_len(end).map_err(StorageError::io("truncate", path))?;
    file.set_len(end + PADDING_LEN).map_err(StorageError::io("truncate", path))?;
    file.sync_data().map_err(StorageError::io("sync", path))
}

/// Makes what was read durable. Syncing alone would not do: after a failed sync the kernel may hold pages that it
/// believes written and that are not on the disk. Written once more they are dirty, and the sync is a real one.
fn write_again<F: DiskFile>(file: &mut F, path: &Path, from: u64, to: u64) -> Result<(), StorageError> {
    let mut buffer = vec![0; CHUNK];
    let mut at = from;
    while let part @ [_, ..] = read_part(file, path, at, to, &mut buffer)? {
        file.write_at(at, part).map_err(StorageError::io("write", path))?;
        at += part.len() as u64;
    }
    file.sync_data().map_err(StorageError::io("sync", path))
}

/// Copies the bytes behind the whole records to a file of their own.
fn keep_aside<D: Disk>(disk: &D, dir: &Path, log: &ReadLog, torn: &D::File, end: u64) -> Result<PathBuf, StorageError> {
    let path = dir.join(&log.file.name);
    let kept = free_name(disk, dir, &format!("{TORN_PREFIX}{}.{}", log.file.name, log.end))?;
    let mut file = disk.create(&kept).map_err(StorageError::io("create", &kept))?;
    let mut buffer = vec![0; CHUNK];
    let mut at = log.end;
    while let part @ [_, ..] = read_part(torn, &path, at, end, &mut buffer)? {
        file.write_at(at - log.end, part).map_err(StorageError::io("write", &kept))?;
        at += part.len() as u64;
    }
    file.sync_data().map_err(StorageError::io("sync", &kept))?;
    disk.sync_dir(dir).map_err(StorageError::io("sync", dir))?;
    Ok(kept)
}

/// The bytes from `at` to `to`, as many as fit into `buffer`; none at the end of the file.
fn read_part<'b, F: DiskFile>(
    file: &F,
    path: &Path,
    at: u64,
    to: u64,
    buffer: &'b mut [u8],
) -> Result<&'b [u8], StorageError> {
    let want = usize::try_from(to.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
    let part = buffer.get_mut(..want).unwrap_or_default();
    let n = file.read_full_at(at, part).map_err(StorageError::io("read", path))?;
    Ok(part.get(..n).unwrap_or_default())
}

/// `name`, or with a number behind it, whichever is not taken.
fn free_name<D: Disk>(disk: &D, dir: &Path, name: &str) -> Result<PathBuf, StorageError> {
    let mut path = dir.join(name);
    for n in 1.. {
        match disk.open_read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(StorageError::io("open", &path)(error)),
            Ok(_) => path = dir.join(format!("{name}.{n}")),
        }
    }
    Ok(path)
}
