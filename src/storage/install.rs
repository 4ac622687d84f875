//! A snapshot from the leader replaces everything this server had (SNAP).
//!
//! Afterwards the old log must not be replayed on the new snapshot, nor an old snapshot be fallen back to: what lies
//! between them and the new one was never here. A crash at any step must leave the old state whole, or the new one,
//! also for Apache's server if that opens the directory next. So the choice is one rename:
//!
//! 1. the snapshot is complete and synced under its temporary name;
//! 2. it is renamed to `zabkit.install.snapshot.<zxid>`, directory synced: still the old state;
//! 3. the synced bound promises nothing but the floor: no snapshot below this one is to be used, nor a log that began
//!    before it. **From here on the new state**; the rest is repeated at the next start until it is done;
//! 4. the snapshot gets its final name, directory synced: the new state for Apache too, which skips the old records;
//! 5. all logs are removed, directory synced, then all other snapshots, directory synced.
//!
//! Where the old history reaches beyond the snapshot, 4 comes after the logs and the newer snapshots are gone: Apache
//! would go on from the newest it finds.
//!
//! ZooKeeper: `Learner.syncWithLeader`, case SNAP; it keeps the old files, and can fall back over the gap.

use super::disk::Disk;
use super::error::StorageError;
use super::names::{self, Compression, INSTALL_PREFIX, NamedFile, parse_snapshot};
use super::recovery::{NullSink, Repair};
use super::snapshot::{ReadFailure, read_snapshot};
use super::synced_bound::SyncedBound;
use crate::records::Zxid;
use std::path::{Path, PathBuf};

/// Step 2: makes the snapshot in `tmp` ready to get the name `name`.
pub(super) fn prepare<D: Disk>(disk: &D, snapshot_dir: &Path, tmp: &Path, name: &str) -> Result<(), StorageError> {
    let marker = snapshot_dir.join(format!("{INSTALL_PREFIX}{name}"));
    disk.rename(tmp, &marker).map_err(StorageError::io("rename", tmp))?;
    disk.sync_dir(snapshot_dir).map_err(StorageError::io("sync", snapshot_dir))
}

/// The snapshots that are ready and not in their places yet: at most one, unless a start was given up.
pub(super) fn pending(names: &[String]) -> Vec<NamedFile> {
    let ready = names.iter().filter_map(|name| name.strip_prefix(INSTALL_PREFIX));
    ready.filter_map(|name| Some(NamedFile { zxid: parse_snapshot(name)?.0, name: name.to_owned() })).collect()
}

/// Steps 3 to 5, from the beginning or from where a crash broke them off. `is_newest`: nothing here is beyond the
/// snapshot. Returns the bound that holds then.
pub(super) fn finish<D: Disk>(
    disk: &D,
    snapshot_dir: &Path,
    log_dir: &Path,
    NamedFile { zxid, name }: &NamedFile,
    is_newest: bool,
) -> Result<SyncedBound, StorageError> {
    let zxid = *zxid;
    let marker = snapshot_dir.join(format!("{INSTALL_PREFIX}{name}"));
    let bound = SyncedBound { floor: zxid, synced: None };
    bound.save(disk, log_dir)?;

    let list = |dir: &Path| disk.list(dir).map_err(StorageError::io("list", dir));
    let remove = |path: PathBuf| disk.remove(&path).map_err(StorageError::io("remove", &path));
    let sync = |dir: &Path| disk.sync_dir(dir).map_err(StorageError::io("sync", dir));
    let give_name = || {
        disk.rename(&marker, &snapshot_dir.join(name)).map_err(StorageError::io("rename", &marker))?;
        sync(snapshot_dir)
    };
    if is_newest {
        give_name()?;
    }
    for log in names::logs(&list(log_dir)?).into_iter().rev() {
        remove(log_dir.join(log.name))?;
    }
    sync(log_dir)?;
    let (older, newer): (Vec<_>, Vec<_>) =
        names::snapshots(&list(snapshot_dir)?).into_iter().partition(|file| file.zxid < zxid);
    for snapshot in newer.into_iter().rev().filter(|file| file.name != *name) {
        remove(snapshot_dir.join(snapshot.name))?;
    }
    sync(snapshot_dir)?;
    if !is_newest {
        give_name()?;
    }
    for snapshot in older {
        remove(snapshot_dir.join(snapshot.name))?;
    }
    sync(snapshot_dir)?;
    Ok(bound)
}

/// At a start: removes what a crash has left of a history that was replaced at `floor`; a snapshot at or beyond it
/// must have been read.
pub(super) fn remove_replaced<D: Disk>(
    disk: &D,
    snapshot_dir: &Path,
    log_dir: &Path,
    floor: Zxid,
    snapshot: Option<Zxid>,
    repaired: &mut Vec<Repair>,
) -> Result<(), StorageError> {
    if floor == Zxid::ZERO || snapshot.is_none_or(|snapshot| snapshot < floor) {
        return Ok(());
    }
    let list = |dir: &Path| disk.list(dir).map_err(StorageError::io("list", dir));
    let logs = names::logs(&list(log_dir)?).into_iter().filter(|file| file.zxid <= floor);
    let snapshots = names::snapshots(&list(snapshot_dir)?).into_iter().filter(|file| file.zxid < floor);
    let paths = logs.map(|file| log_dir.join(file.name)).chain(snapshots.map(|file| snapshot_dir.join(file.name)));
    for path in paths {
        disk.remove(&path).map_err(StorageError::io("remove", &path))?;
        repaired.push(Repair::Leftover { path });
    }
    Ok(())
}

/// At a start: finishes what was decided for. The file is read first, since everything else goes for it.
pub(super) fn resume<D: Disk>(
    disk: &D,
    snapshot_dir: &Path,
    log_dir: &Path,
    file: &NamedFile,
    limit: usize,
) -> Result<SyncedBound, StorageError> {
    let path = snapshot_dir.join(format!("{INSTALL_PREFIX}{}", file.name));
    let compression = parse_snapshot(&file.name).map_or(Compression::None, |(_, compression)| compression);
    match read_snapshot(disk, &path, compression, limit, &mut NullSink) {
        Ok(_) => finish(disk, snapshot_dir, log_dir, file, false),
        Err(ReadFailure::Storage(error)) => Err(error),
        Err(ReadFailure::Truncated(why) | ReadFailure::Invalid(why)) => {
            Err(StorageError::Corrupt { path, offset: 0, why })
        }
    }
}
