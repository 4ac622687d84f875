//! Removing snapshots and logs that nothing will need again.
//!
//! The newest complete snapshots are kept, and every log that any of them needs: all beyond the oldest kept, and the
//! newest one that begins at or before it, since it may hold records beyond it. Snapshots go first, durably, then
//! logs: no crash in between leaves a snapshot whose log is gone. Unknown files stay. So does what cannot be removed:
//! that costs space, and no server its life. An operator may have removed a file already.
//!
//! ZooKeeper: `PurgeTxnLog`, `DatadirCleanupManager`.

use super::disk::Disk;
use super::error::StorageError;
use super::names::{self, NamedFile, parse_snapshot};
use super::snapshot::looks_complete;
use crate::records::Zxid;
use std::io;
use std::path::{Path, PathBuf};

/// What is to be removed, oldest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub snapshots: Vec<NamedFile>,
    pub logs: Vec<NamedFile>,
}

/// Decides what the newest `retain` complete snapshots make superfluous. Snapshots below `floor` always are.
pub(super) fn plan<D: Disk>(
    disk: &D,
    snapshot_dir: &Path,
    log_dir: &Path,
    floor: Zxid,
    retain: usize,
) -> Result<Plan, StorageError> {
    let list = |dir: &Path| disk.list(dir).map_err(StorageError::io("list", dir));
    let snapshots = names::snapshots(&list(snapshot_dir)?);
    let (mut kept, mut oldest) = (0, None);
    for file in snapshots.iter().rev().filter(|file| file.zxid >= floor) {
        let Some((zxid, compression)) = parse_snapshot(&file.name) else { continue };
        if kept < retain && looks_complete(disk, &snapshot_dir.join(&file.name), compression)? {
            kept += 1;
            oldest = Some(zxid);
        }
    }
    let Some(oldest) = oldest else {
        return Ok(Plan::default()); // Without a snapshot nothing is superfluous.
    };
    let mut logs = names::logs(&list(log_dir)?);
    let needed = logs.iter().rposition(|file| file.zxid <= oldest).unwrap_or(0);
    logs.truncate(needed);
    let snapshots = snapshots.into_iter().filter(|file| file.zxid < oldest).collect();
    Ok(Plan { snapshots, logs })
}

/// What a purge has done.
#[derive(Debug, Default)]
pub struct Purged {
    pub removed: Vec<PathBuf>,
    /// What stays until the next purge, and why.
    pub failed: Vec<StorageError>,
}

/// Removes what was planned.
pub(super) fn perform<D: Disk>(disk: &D, snapshot_dir: &Path, log_dir: &Path, plan: &Plan) -> Purged {
    let mut purged = Purged::default();
    for (dir, files) in [(snapshot_dir, &plan.snapshots), (log_dir, &plan.logs)] {
        if !purged.failed.is_empty() {
            break; // A snapshot that stays needs its logs.
        }
        for file in files {
            let path = dir.join(&file.name);
            match disk.remove(&path) {
                Ok(()) => purged.removed.push(path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => purged.failed.push(StorageError::io("remove", &path)(error)),
            }
        }
        if !files.is_empty() {
            let synced = disk.sync_dir(dir).map_err(StorageError::io("sync", dir));
            purged.failed.extend(synced.err());
        }
    }
    purged
}
