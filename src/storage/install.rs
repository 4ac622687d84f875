//! A snapshot from the leader replaces everything this server had (SNAP).
//!
//! Afterwards the old log must not be replayed on the new snapshot, nor an old snapshot be fallen back to: what lies
//! between them and the new one was never here. A crash at any step must leave the old state whole, or the new one,
//! also for Apache's server if that opens the directory next. So the choice is one rename:
//!
//! 1. the snapshot is complete and synced under its temporary name; what it replaces is [noted](super::inventory);
//! 2. it is renamed to `zabkit.install.snapshot.<zxid>`, directory synced: still the old state;
//! 3. the synced bound promises nothing but the floor: no snapshot below this one is to be used, nor a log that began
//!    before it. **From here on the new state**; the rest is repeated at the next start until it is done, unless another
//!    server has gone on with the old state meanwhile: what that one has written is kept, and the snapshot given up;
//! 4. the snapshot gets its final name, directory synced: the new state for Apache too, which skips the old records;
//! 5. all logs are removed, directory synced, then all other snapshots, directory synced. Where the tree was not what the
//!    transactions say they are renamed to `zabkit.diverged.*` instead: which tree is the right one may be asked later.
//!
//! Where the old history reaches beyond the snapshot, the logs and the newer snapshots are out of the way before 4, or
//! Apache would go on from the newest it finds: they are renamed to `zabkit.install.old.*`, newest first, and removed in 5.
//!
//! ZooKeeper: `Learner.syncWithLeader`, case SNAP; it keeps the old files, and can fall back over the gap.

use super::disk::Disk;
use super::error::StorageError;
use super::inventory::Inventory;
use super::names::{
    self, Compression, DIVERGED_PREFIX, INSTALL_PREFIX, INVENTORY, NamedFile, SET_ASIDE_PREFIX, SYNCED_BOUND,
    parse_snapshot,
};
use super::recovery::{NullSink, Repair};
use super::snapshot::{ReadFailure, read_snapshot};
use super::synced_bound::SyncedBound;
use crate::records::Zxid;
use std::path::{Path, PathBuf};

/// Steps 1 and 2: makes the snapshot in `tmp` ready to get its name.
pub(super) fn prepare<D: Disk>(
    disk: &D,
    snapshot_dir: &Path,
    tmp: &Path,
    inventory: &Inventory,
) -> Result<(), StorageError> {
    inventory.save(disk, snapshot_dir)?;
    let marker = snapshot_dir.join(format!("{INSTALL_PREFIX}{}", inventory.snapshot));
    disk.rename(tmp, &marker).map_err(StorageError::io("rename", tmp))?;
    disk.sync_dir(snapshot_dir).map_err(StorageError::io("sync", snapshot_dir))
}

/// The snapshots that are ready and not in their places yet: at most one, unless a start was given up.
pub(super) fn pending(names: &[String]) -> Vec<NamedFile> {
    let ready = names.iter().filter_map(|name| name.strip_prefix(INSTALL_PREFIX));
    ready.filter_map(|name| Some(NamedFile { zxid: parse_snapshot(name)?.0, name: name.to_owned() })).collect()
}

/// Steps 3 to 5, from the beginning or from where a crash broke them off. Returns the bound that holds then.
pub(super) fn finish<D: Disk>(
    disk: &D,
    snapshot_dir: &Path,
    log_dir: &Path,
    NamedFile { zxid, name }: &NamedFile,
    inventory: &Inventory,
) -> Result<SyncedBound, StorageError> {
    let marker = snapshot_dir.join(format!("{INSTALL_PREFIX}{name}"));
    let bound = SyncedBound { floor: *zxid, synced: None };
    bound.save(disk, log_dir)?;

    let list = |dir: &Path| disk.list(dir).map_err(StorageError::io("list", dir));
    let sync = |dir: &Path| disk.sync_dir(dir).map_err(StorageError::io("sync", dir));
    if !inventory.is_newest {
        let set_aside = |dir: &Path, files: Vec<NamedFile>| {
            files.into_iter().rev().try_for_each(|file| {
                let path = dir.join(&file.name);
                let aside = dir.join(format!("{SET_ASIDE_PREFIX}{}", file.name));
                disk.rename(&path, &aside).map_err(StorageError::io("rename", &path))?;
                sync(dir)
            })
        };
        set_aside(log_dir, names::logs(&list(log_dir)?))?;
        let beyond = |file: &NamedFile| file.zxid >= *zxid && file.name != *name;
        set_aside(snapshot_dir, names::snapshots(&list(snapshot_dir)?).into_iter().filter(beyond).collect())?;
    }
    disk.rename(&marker, &snapshot_dir.join(name)).map_err(StorageError::io("rename", &marker))?;
    sync(snapshot_dir)?;

    let remove = |dir: &Path, is_over: &dyn Fn(&NamedFile) -> bool, all: Vec<NamedFile>| {
        let set_aside = list(dir)?.into_iter().filter(|name| name.starts_with(SET_ASIDE_PREFIX));
        let mut files = all.into_iter().rev().filter(is_over).map(|file| file.name).chain(set_aside);
        files.try_for_each(|name| retire(disk, dir, &name, inventory.is_kept.then_some(*zxid)))?;
        sync(dir)
    };
    remove(log_dir, &|_| true, names::logs(&list(log_dir)?))?;
    remove(snapshot_dir, &|file| file.name != *name, names::snapshots(&list(snapshot_dir)?))?;
    let inventory = snapshot_dir.join(INVENTORY);
    disk.remove(&inventory).map_err(StorageError::io("remove", &inventory))?;
    sync(snapshot_dir)?;
    Ok(bound)
}

/// Removes what was replaced, or lets it have another name, by the zxid of the snapshot that has replaced it.
fn retire<D: Disk>(disk: &D, dir: &Path, name: &str, kept: Option<Zxid>) -> Result<(), StorageError> {
    let path = dir.join(name);
    match kept {
        None => disk.remove(&path).map_err(StorageError::io("remove", &path)),
        Some(zxid) => {
            let name = name.strip_prefix(SET_ASIDE_PREFIX).unwrap_or(name);
            let other = dir.join(format!("{DIVERGED_PREFIX}{:x}.{name}", zxid.0));
            disk.rename(&path, &other).map_err(StorageError::io("rename", &path))
        }
    }
}

/// At a start, before anything is removed: what a crash has left of a history that was to be kept when it was replaced
/// at `floor`, of which the snapshot must have been read, gets its other name.
pub(super) fn keep_replaced<D: Disk>(
    disk: &D,
    snapshot_dir: &Path,
    log_dir: &Path,
    floor: Zxid,
    snapshot: Option<Zxid>,
) -> Result<(), StorageError> {
    let Some(inventory) = Inventory::load(disk, snapshot_dir)?.filter(|inventory| inventory.is_kept) else {
        return Ok(());
    };
    if snapshot != Some(floor) || parse_snapshot(&inventory.snapshot).is_none_or(|(zxid, _)| zxid != floor) {
        return Ok(()); // It was never decided for.
    }
    for dir in [log_dir, snapshot_dir] {
        let all = disk.list(dir).map_err(StorageError::io("list", dir))?;
        let logs = names::logs(&all).into_iter().filter(|file| file.zxid <= floor);
        let snapshots = names::snapshots(&all).into_iter().filter(|file| file.zxid < floor);
        let set_aside = all.iter().filter(|name| name.starts_with(SET_ASIDE_PREFIX)).cloned();
        let mut names = logs.chain(snapshots).map(|file| file.name).chain(set_aside);
        names.try_for_each(|name| retire(disk, dir, &name, Some(floor)))?;
        disk.sync_dir(dir).map_err(StorageError::io("sync", dir))?;
    }
    Ok(())
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

/// At a start: finishes what was decided for, or gives it up because others have gone on. The file is read first, since
/// everything else goes for it. Returns the bound that holds then.
pub(super) fn resume<D: Disk>(
    disk: &D,
    snapshot_dir: &Path,
    log_dir: &Path,
    file: &NamedFile,
    limit: usize,
    repaired: &mut Vec<Repair>,
) -> Result<Option<SyncedBound>, StorageError> {
    let path = snapshot_dir.join(format!("{INSTALL_PREFIX}{}", file.name));
    let corrupt = |path: PathBuf, why: String| StorageError::Corrupt { path, offset: 0, why };
    let Some(inventory) = Inventory::load(disk, snapshot_dir)?.filter(|inventory| inventory.snapshot == file.name)
    else {
        let why = format!("it does not say what {} was to replace", path.display());
        return Err(corrupt(snapshot_dir.join(INVENTORY), why));
    };
    if let Some(since) = inventory.difference(disk, (snapshot_dir, log_dir))? {
        let bound = log_dir.join(SYNCED_BOUND);
        disk.remove(&bound).map_err(StorageError::io("remove", &bound))?;
        disk.sync_dir(log_dir).map_err(StorageError::io("sync", log_dir))?;
        repaired.push(Repair::InstallGivenUp { zxid: file.zxid, since });
        return Ok(None);
    }
    let compression = parse_snapshot(&file.name).map_or(Compression::None, |(_, compression)| compression);
    match read_snapshot(disk, &path, compression, limit, &mut NullSink) {
        Ok(_) => {
            let bound = finish(disk, snapshot_dir, log_dir, file, &inventory)?;
            repaired.push(Repair::InstallFinished { zxid: file.zxid });
            Ok(Some(bound))
        }
        Err(ReadFailure::Storage(error)) => Err(error),
        Err(ReadFailure::Truncated(why) | ReadFailure::Invalid(why)) => Err(corrupt(path, why)),
    }
}
