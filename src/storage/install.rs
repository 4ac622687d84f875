//! A snapshot from the leader replaces everything this server had (SNAP).
//!
//! Afterwards the old log must not be replayed on the new snapshot, nor an old snapshot be fallen back to: what lies
//! between them and the new one was never here. A crash at any step must leave the old state whole, or the new one.
//! So the choice between them is one rename, and what follows is repeated at the next start until it is done:
//!
//! 1. the snapshot is complete and synced under its temporary name: still the old state;
//! 2. it is renamed to `zabkit.install.snapshot.<zxid>`, directory synced: **from here on the new state**;
//! 3. the synced bound promises nothing but the floor: no snapshot below this one is to be used;
//! 4. all logs are removed, directory synced; then the newer snapshots, directory synced;
//! 5. the snapshot gets its final name, directory synced; then the older snapshots are removed.
//!
//! A crash between 3 and 5 leaves nothing that any other server would take for a state with wrong records in it.
//!
//! ZooKeeper: `Learner.syncWithLeader`, case SNAP; it keeps the old files, and can fall back over the gap.

use super::disk::Disk;
use super::error::StorageError;
use super::names::{self, Compression, INSTALL_PREFIX, parse_snapshot};
use super::recovery::NullSink;
use super::snapshot::{ReadFailure, read_snapshot};
use super::synced_bound::SyncedBound;
use crate::records::Zxid;
use std::path::{Path, PathBuf};

/// Step 2: decides for the snapshot in `tmp`.
pub(super) fn decide<D: Disk>(disk: &D, snapshot_dir: &Path, tmp: &Path, zxid: Zxid) -> Result<(), StorageError> {
    let marker = snapshot_dir.join(format!("{INSTALL_PREFIX}{}", names::snapshot_name(zxid)));
    disk.rename(tmp, &marker).map_err(StorageError::io("rename", tmp))?;
    disk.sync_dir(snapshot_dir).map_err(StorageError::io("sync", snapshot_dir))
}

/// The snapshot that was decided for and is not in its place yet, if any.
pub(super) fn pending(names: &[String]) -> Option<Zxid> {
    names.iter().find_map(|name| parse_snapshot(name.strip_prefix(INSTALL_PREFIX)?).map(|(zxid, _)| zxid))
}

/// Steps 3 to 5, from the beginning or from where a crash broke them off. Returns the bound that holds then.
pub(super) fn finish<D: Disk>(
    disk: &D,
    snapshot_dir: &Path,
    log_dir: &Path,
    zxid: Zxid,
) -> Result<SyncedBound, StorageError> {
    let name = names::snapshot_name(zxid);
    let marker = snapshot_dir.join(format!("{INSTALL_PREFIX}{name}"));
    let bound = SyncedBound { floor: zxid, synced: None };
    bound.save(disk, log_dir)?;

    let list = |dir: &Path| disk.list(dir).map_err(StorageError::io("list", dir));
    let remove = |path: PathBuf| disk.remove(&path).map_err(StorageError::io("remove", &path));
    let sync = |dir: &Path| disk.sync_dir(dir).map_err(StorageError::io("sync", dir));
    for log in names::logs(&list(log_dir)?).into_iter().rev() {
        remove(log_dir.join(log.name))?;
    }
    sync(log_dir)?;
    let (older, newer): (Vec<_>, Vec<_>) =
        names::snapshots(&list(snapshot_dir)?).into_iter().partition(|file| file.zxid < zxid);
    for snapshot in newer.into_iter().rev().filter(|file| file.name != name) {
        remove(snapshot_dir.join(snapshot.name))?;
    }
    sync(snapshot_dir)?;
    disk.rename(&marker, &snapshot_dir.join(&name)).map_err(StorageError::io("rename", &marker))?;
    sync(snapshot_dir)?;
    for snapshot in older {
        remove(snapshot_dir.join(snapshot.name))?;
    }
    sync(snapshot_dir)?;
    Ok(bound)
}

/// At a start: finishes what was decided for. The file is read first, since everything else goes for it.
pub(super) fn resume<D: Disk>(
    disk: &D,
    snapshot_dir: &Path,
    log_dir: &Path,
    zxid: Zxid,
    limit: usize,
) -> Result<SyncedBound, StorageError> {
    let path = snapshot_dir.join(format!("{INSTALL_PREFIX}{}", names::snapshot_name(zxid)));
    match read_snapshot(disk, &path, Compression::None, limit, &mut NullSink) {
        Ok(_) => finish(disk, snapshot_dir, log_dir, zxid),
        Err(ReadFailure::Storage(error)) => Err(error),
        Err(ReadFailure::Invalid(why)) => Err(StorageError::Corrupt { path, offset: 0, why }),
    }
}
