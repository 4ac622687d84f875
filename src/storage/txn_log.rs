//! The log as it is written: appended to in batches, durable at `sync`.
//!
//! Before: [`QuorumPeer`'s](crate) effects hand over a proposal's bytes, the same that go to the other servers.
//! After: only when [`TxnLog::sync`] has returned may an ACK, a commit or a reply speak of them.
//!
//! A file is created by the first append after a start, a roll or a truncation, and named by that record's zxid; an
//! old file is never appended to. Before a new one is created the old one is synced, so that only the newest file
//! can ever be torn. Space is reserved ahead (`fallocate`, no zeros written: 20 to 60 µs on ext4, whatever the size),
//! because a sync of a file that grows costs half as much again; it grows by what the file already holds, up to
//! `pre_alloc_bytes`, so that small servers stay small.
//!
//! After a failed write or sync nothing is retried: the kernel may have dropped the pages that it could not write,
//! and the next sync would "succeed" without them. The log is poisoned for good.
//!
//! ZooKeeper: `FileTxnLog`, `SyncRequestProcessor`.

use super::StorageConfig;
use super::disk::{Disk, DiskFile};
use super::error::StorageError;
use super::log_file::{self, HEADER_LEN, PADDING_LEN};
use super::names::log_name;
use super::synced_bound::{Synced, SyncedBound};
use crate::records::Zxid;
use bytes::Bytes;
use std::io;
use std::path::PathBuf;

/// The first reservation of a file; later ones double it.
const ALLOCATE_MIN: u64 = 256 << 10;
/// When less than this is left, more is reserved.
const ALLOCATE_MARGIN: u64 = 4096;
/// How much is synced before the bound is worth rewriting.
const BOUND_STEP: u64 = 4 << 20;
/// A buffer that once held a huge batch is given back.
const BUFFER_KEPT_MAX: usize = 4 << 20;

/// The writing end of the log.
pub(super) struct TxnLog<D: Disk> {
    disk: D,
    dir: PathBuf,
    pre_alloc_bytes: u64,
    force_sync: bool,
    current: Option<Current<D::File>>,
    buffer: Vec<u8>,
    /// The bound as it is on the disk.
    bound: SyncedBound,
    /// The last record appended, or found at the start; what the bound says once all is synced.
    last: Zxid,
    poison: Option<(PathBuf, String)>,
}

/// The file being written.
struct Current<F> {
    file: F,
    name: String,
    path: PathBuf,
    /// Where the next record goes.
    end: u64,
    /// Up to here the disk has it.
    synced: u64,
    /// The length reserved so far.
    allocated: u64,
    /// How many records it holds.
    records: u64,
}

impl<D: Disk> TxnLog<D> {
    /// A log that appends behind `last`; `bound` is what is on the disk.
    pub fn new(disk: D, dir: PathBuf, config: &StorageConfig, bound: SyncedBound, last: Zxid) -> Self {
        TxnLog {
            disk,
            dir,
            pre_alloc_bytes: config.pre_alloc_bytes,
            force_sync: config.force_sync,
            current: None,
            buffer: Vec::new(),
            bound,
            last,
            poison: None,
        }
    }

    /// The last record appended, or found at the start.
    pub fn last(&self) -> Zxid {
        self.last
    }

    pub fn bound(&self) -> &SyncedBound {
        &self.bound
    }

    /// Records and bytes in the file being written; zeros before its first append.
    pub fn since_roll(&self) -> (u64, u64) {
        self.current.as_ref().map_or((0, 0), |current| (current.records, current.end))
    }

    /// The file being written, and up to where it may be read.
    pub fn current(&self) -> Option<(&str, u64)> {
        self.current.as_ref().map(|current| (current.name.as_str(), current.end))
    }

    /// Fails if an earlier failure has poisoned the log.
    pub fn check(&self) -> Result<(), StorageError> {
        match &self.poison {
            None => Ok(()),
            Some((path, cause)) => Err(StorageError::Poisoned { path: path.clone(), cause: cause.clone() }),
        }
    }

    /// Remembers a failure for good, and hands it on.
    pub fn poison(&mut self, error: StorageError) -> StorageError {
        if self.poison.is_none() {
            self.poison = Some((self.dir.clone(), error.to_string()));
        }
        error
    }

    /// Appends transactions; nothing is promised before [`TxnLog::sync`]. One write for all of them.
    pub fn append(&mut self, txns: &[(Zxid, Bytes)]) -> Result<(), StorageError> {
        self.check()?;
        self.try_append(txns).map_err(|error| self.poison(error))
    }

    /// Makes durable all that was appended.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.check()?;
        if !self.force_sync {
            return Ok(());
        }
        self.try_sync().map_err(|error| self.poison(error))
    }

    /// Syncs (also where `force_sync` is off: it is rare, and the bound will speak of the file) and leaves the current file: the next append opens a new one.
    pub fn roll(&mut self) -> Result<(), StorageError> {
        self.check()?;
        self.try_sync().map_err(|error| self.poison(error))?;
        if let Some(mut current) = self.current.take() {
            // The reserved space goes back, but for a little. Whether a crash undoes that does not matter.
            let padded = current.end + PADDING_LEN;
            if current.allocated != padded {
                let cut = current.file.set_len(padded).map_err(StorageError::io("truncate", &current.path));
                cut.map_err(|error| self.poison(error))?;
            }
            self.bound.synced = Some(self.synced(&current.name, current.end));
        }
        Ok(())
    }

    /// Leaves the current file as it is, unsynced: it is about to be removed.
    pub fn abandon(&mut self) {
        self.current = None;
    }

    /// Rewrites the bound if enough has been synced since it was last written. To be called when nobody waits.
    pub fn maybe_save_bound(&mut self) -> Result<(), StorageError> {
        let Some(current) = &self.current else { return Ok(()) };
        let saved = self.bound.synced.as_ref().filter(|synced| synced.file == current.name).map_or(0, |s| s.offset);
        if current.synced >= saved + BOUND_STEP { self.save_bound_now() } else { Ok(()) }
    }

    /// Rewrites the bound with all that is synced.
    pub fn save_bound_now(&mut self) -> Result<(), StorageError> {
        self.check()?;
        if let Some(current) = &self.current {
            if current.synced < current.end {
                return Ok(()); // The zxid of the last synced record is not known here: another time.
            }
            self.bound.synced = Some(self.synced(&current.name, current.synced));
        }
        self.bound.save(&self.disk, &self.dir).map_err(|error| self.poison(error))
    }

    /// Replaces the bound; durable when it returns. Before anything below the old one is cut or removed.
    pub fn set_bound(&mut self, bound: SyncedBound, last: Zxid) -> Result<(), StorageError> {
        self.check()?;
        bound.save(&self.disk, &self.dir).map_err(|error| self.poison(error))?;
        self.bound = bound;
        self.last = last;
        Ok(())
    }

    fn synced(&self, file: &str, offset: u64) -> Synced {
        let first = self.bound.synced.as_ref().map_or(file, |synced| &synced.first).to_owned();
        Synced { first, file: file.to_owned(), offset, zxid: self.last }
    }

    fn try_append(&mut self, txns: &[(Zxid, Bytes)]) -> Result<(), StorageError> {
        let Some(&(first, _)) = txns.first() else { return Ok(()) };
        if self.current.is_none() {
            self.current = Some(self.create(first)?);
        }
        self.buffer.clear();
        for (zxid, txn) in txns {
            log_file::write_record(txn, &mut self.buffer);
            self.last = self.last.max(*zxid);
        }
        let current = self.current.as_mut().expect("created above");
        let end = current.end + self.buffer.len() as u64;
        current.reserve(end, self.pre_alloc_bytes)?;
        current.file.write_at(current.end, &self.buffer).map_err(StorageError::io("write", &current.path))?;
        current.end = end;
        current.records += txns.len() as u64;
        if self.buffer.capacity() > BUFFER_KEPT_MAX {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn try_sync(&mut self) -> Result<(), StorageError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.synced < current.end {
            current.file.sync_data().map_err(StorageError::io("sync", &current.path))?;
            current.synced = current.end;
        }
        Ok(())
    }

    /// Creates the log for a first record `zxid`, and names it in the bound: from here on it is known for ours, so
    /// that damage in it is judged by what was synced.
    fn create(&mut self, zxid: Zxid) -> Result<Current<D::File>, StorageError> {
        let name = log_name(zxid);
        let path = self.dir.join(&name);
        let mut file = self.disk.create_new(&path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StorageError::LogExists { path: path.clone() },
            _ => StorageError::io("create", &path)(error),
        })?;
        let mut header = Vec::new();
        log_file::write_header(&mut header);
        file.write_at(0, &header).map_err(StorageError::io("write", &path))?;
        file.sync_data().map_err(StorageError::io("sync", &path))?;
        self.disk.sync_dir(&self.dir).map_err(StorageError::io("sync", &self.dir))?;
        self.bound.synced = Some(self.synced(&name, HEADER_LEN));
        self.bound.save(&self.disk, &self.dir)?;
        Ok(Current { file, name, path, end: HEADER_LEN, synced: HEADER_LEN, allocated: HEADER_LEN, records: 0 })
    }
}

impl<F: DiskFile> Current<F> {
    /// Reserves space for records up to `end` and more. A disk too full for the reservation may still take the
    /// records, so that alone is no failure.
    fn reserve(&mut self, end: u64, pre_alloc_bytes: u64) -> Result<(), StorageError> {
        if pre_alloc_bytes == 0 || end + ALLOCATE_MARGIN <= self.allocated {
            return Ok(());
        }
        let target = end + ALLOCATE_MARGIN + end.max(ALLOCATE_MIN).min(pre_alloc_bytes);
        match self.file.allocate(target) {
            Ok(()) => self.allocated = target,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            Err(error) => return Err(StorageError::io("allocate", &self.path)(error)),
        }
        Ok(())
    }
}
