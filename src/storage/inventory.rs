//! What a directory holds when a [snapshot of the leader's](super::install) is about to replace it: so that a start
//! which finds that undone can tell whether anybody has gone on with the directory since.
//!
//! Apache knows nothing of it, and goes on from what it finds: with a log of a later name, a snapshot, or another epoch.
//! What it has promised by that must stay, so the snapshot is given up.
//!
//! ```text
//! zabkit install 1
//! snapshot snapshot.300000005    it replaces the others
//! newest                         left out if anything here is beyond it
//! kept                           only if what it replaces is to be kept under other names
//! acceptedEpoch 3
//! currentEpoch 2
//! file log.200000001
//! file snapshot.0
//! crc 8d2fa0c1                   CRC-32 of all bytes before this line
//! ```

use super::disk::Disk;
use super::epochs::{ACCEPTED_EPOCH, CURRENT_EPOCH, read_epoch, read_small, replace_file};
use super::error::StorageError;
use super::names::{self, INVENTORY, SET_ASIDE_PREFIX, TMP_PREFIX};
use super::synced_bound::{with_crc, without_crc};
use crate::records::Epoch;
use std::collections::BTreeSet;
use std::path::Path;

const TITLE: &str = "zabkit install 1";
/// A longer file is none of ours: it would name more than ten thousand others.
const FILE_LEN_MAX: usize = 1 << 20;

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inventory {
    /// The name of the snapshot that is to replace everything.
    pub snapshot: String,
    /// Nothing here is beyond it.
    pub is_newest: bool,
    /// What it replaces is kept under other names.
    pub is_kept: bool,
    accepted: Option<Epoch>,
    current: Option<Epoch>,
    /// Logs and snapshots.
    files: BTreeSet<String>,
}

impl Inventory {
    pub fn take<D: Disk>(
        disk: &D,
        (snapshot_dir, log_dir): (&Path, &Path),
        snapshot: &str,
        (is_newest, is_kept): (bool, bool),
    ) -> Result<Inventory, StorageError> {
        let list = |dir: &Path| disk.list(dir).map_err(StorageError::io("list", dir));
        let (logs, snapshots) = (names::logs(&list(log_dir)?), names::snapshots(&list(snapshot_dir)?));
        Ok(Inventory {
            snapshot: snapshot.to_owned(),
            is_newest,
            is_kept,
            accepted: read_epoch(disk, snapshot_dir, ACCEPTED_EPOCH)?,
            current: read_epoch(disk, snapshot_dir, CURRENT_EPOCH)?,
            files: logs.into_iter().chain(snapshots).map(|file| file.name).collect(),
        })
    }

    /// What has come since; `None`: nothing. A file that was set aside, and is there again, is not the same.
    pub fn difference<D: Disk>(
        &self,
        disk: &D,
        dirs @ (snapshot_dir, log_dir): (&Path, &Path),
    ) -> Result<Option<String>, StorageError> {
        let now = Inventory::take(disk, dirs, &self.snapshot, (self.is_newest, self.is_kept))?;
        let mut all = disk.list(snapshot_dir).map_err(StorageError::io("list", snapshot_dir))?;
        all.extend(disk.list(log_dir).map_err(StorageError::io("list", log_dir))?);
        let is_new = |name: &&String| {
            let aside = format!("{SET_ASIDE_PREFIX}{name}");
            !self.files.contains(*name) || all.contains(&aside)
        };
        let epochs = [(ACCEPTED_EPOCH, self.accepted, now.accepted), (CURRENT_EPOCH, self.current, now.current)];
        let epoch = epochs.into_iter().find(|(_, was, is)| was != is);
        Ok(now.files.iter().find(is_new).cloned().or(epoch.map(|(name, ..)| name.to_owned())))
    }

    /// Reads the file in `dir`; `None` if it is missing or does not check out.
    pub fn load<D: Disk>(disk: &D, dir: &Path) -> Result<Option<Inventory>, StorageError> {
        let bytes = read_small(disk, &dir.join(INVENTORY), FILE_LEN_MAX)?;
        Ok(bytes.as_deref().and_then(Inventory::parse))
    }

    /// Replaces the file in `dir`; durable when it returns.
    pub fn save<D: Disk>(&self, disk: &D, dir: &Path) -> Result<(), StorageError> {
        let tmp = dir.join(format!("{TMP_PREFIX}{INVENTORY}"));
        replace_file(disk, dir, &tmp, &dir.join(INVENTORY), self.to_text().as_bytes())
    }

    fn to_text(&self) -> String {
        let mut text = format!("{TITLE}\nsnapshot {}\n", self.snapshot);
        text += if self.is_newest { "newest\n" } else { "" };
        text += if self.is_kept { "kept\n" } else { "" };
        for (name, epoch) in [(ACCEPTED_EPOCH, self.accepted), (CURRENT_EPOCH, self.current)] {
            if let Some(epoch) = epoch {
                text += &format!("{name} {epoch}\n");
            }
        }
        self.files.iter().for_each(|name| text += &format!("file {name}\n"));
        with_crc(text)
    }

    fn parse(bytes: &[u8]) -> Option<Inventory> {
        let mut lines = without_crc(bytes)?.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let snapshot = lines.next()?.strip_prefix("snapshot ")?.to_owned();
        let (is_newest, is_kept, files) = (false, false, BTreeSet::new());
        let mut read = Inventory { snapshot, is_newest, is_kept, accepted: None, current: None, files };
        for line in lines {
            match line.split_once(' ') {
                None if line == "newest" => read.is_newest = true,
                None if line == "kept" => read.is_kept = true,
                Some((ACCEPTED_EPOCH, epoch)) => read.accepted = Some(Epoch(epoch.parse().ok()?)),
                Some((CURRENT_EPOCH, epoch)) => read.current = Some(Epoch(epoch.parse().ok()?)),
                Some(("file", name)) => {
                    read.files.insert(name.to_owned());
                }
                _ => return None,
            }
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_is_read_as_it_was_written_or_not_at_all() {
        let files = ["log.1", "log.9", "snapshot.0"].map(str::to_owned).into();
        let (accepted, current) = (Some(Epoch(3)), Some(Epoch(2)));
        let (is_newest, is_kept) = (true, true);
        let whole = Inventory { snapshot: "snapshot.5".into(), is_newest, is_kept, accepted, current, files };
        let gone = Inventory { is_kept: false, ..whole.clone() };
        let empty =
            Inventory { is_newest: false, accepted: None, current: None, files: BTreeSet::new(), ..gone.clone() };
        for inventory in [whole, gone, empty] {
            let text = inventory.to_text();
            assert_eq!(Inventory::parse(text.as_bytes()), Some(inventory));
            for at in 0..text.len() {
                assert_eq!(Inventory::parse(&text.as_bytes()[..at]), None, "cut at {at}");
            }
        }
    }
}
