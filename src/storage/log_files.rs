//! The log as others than its writer read it: to find where a learner stands in it, and to send what it lacks.
//!
//! A value of its own, so that threads beside the disk's can read while that one writes. Whoever reads knows up to where
//! the log is synced, and stops there: what stands behind may be half written. Files that are removed meanwhile are an
//! error, and no harm.
//!
//! ZooKeeper: `FileTxnLog.FileTxnIterator`, `ZKDatabase.getProposalsFromTxnLog`.

use super::disk::{Disk, DiskFile};
use super::error::StorageError;
use super::log_file::{Damage, LogEnd, LogFile, LogRecord, Next};
use super::names::{self, NamedFile};
use crate::records::Zxid;
use std::path::{Path, PathBuf};

/// The files of one server, to be read.
#[derive(Clone)]
pub struct LogFiles<D: Disk> {
    pub(super) disk: D,
    pub(super) snapshot_dir: PathBuf,
    pub(super) log_dir: PathBuf,
    /// The snapshot that the state here was made of, with all records behind it.
    pub(super) base: Zxid,
    /// The longest transaction.
    pub(super) txn_bytes_max: usize,
}

impl<D: Disk> LogFiles<D> {
    /// All records from the file on that may hold `zxid`.
    pub fn read_around(&self, zxid: Zxid) -> Result<LogReader<D>, StorageError> {
        self.reader(zxid, Zxid(i64::MIN))
    }

    /// The records that are not before `zxid`. The first may be beyond it: then the log does not reach back so far.
    pub fn read_from(&self, zxid: Zxid) -> Result<LogReader<D>, StorageError> {
        self.reader(zxid, zxid)
    }

    /// Shows the records from the file on that may hold `zxid`, as [`LogReader::next_record`] does, until one is the last
    /// that is wanted.
    pub fn visit(&self, zxid: Zxid, mut see: impl FnMut(Zxid, bool) -> bool) -> Result<(), StorageError> {
        let mut reader = self.read_around(zxid)?;
        while let Some((record, is_replayed)) = reader.next_record()?
            && see(record.zxid, is_replayed)
        {}
        Ok(())
    }

    /// Whether what a learner at `zxid` needs of the log is at most `factor` times the newest snapshot; 0: always. The
    /// file with which it begins does not count: ZooKeeper asks for the size when it has taken that one out already.
    pub fn is_small(&self, zxid: Zxid, factor: f64) -> Result<bool, StorageError> {
        // Apache: a limit that comes out as 0 is none.
        let limit = (self.snapshot_bytes()? as f64 * factor) as u64;
        Ok(limit == 0 || self.log_bytes_behind(zxid)? <= limit)
    }

    /// Bytes of the log files that a learner at `zxid` needs behind the first one, with what is reserved in them. ZooKeeper:
    /// `FileTxnIterator.getStorageSize`.
    pub fn log_bytes_behind(&self, zxid: Zxid) -> Result<u64, StorageError> {
        let logs = self.logs_around(zxid)?;
        logs.iter().skip(1).try_fold(0, |sum, file| Ok(sum + self.file_len(&self.log_dir.join(&file.name))?))
    }

    /// Bytes of the newest snapshot file.
    pub fn snapshot_bytes(&self) -> Result<u64, StorageError> {
        match names::snapshots(&self.list(&self.snapshot_dir)?).last() {
            Some(file) => self.file_len(&self.snapshot_dir.join(&file.name)),
            None => Ok(0),
        }
    }

    fn reader(&self, around: Zxid, from: Zxid) -> Result<LogReader<D>, StorageError> {
        let mut left = self.logs_around(around)?;
        left.reverse();
        Ok(LogReader { files: self.clone(), left, open: None, from })
    }

    /// The logs that begin at `zxid` or later, and the last one that begins before it; oldest first.
    fn logs_around(&self, zxid: Zxid) -> Result<Vec<NamedFile>, StorageError> {
        let mut logs = names::logs(&self.list(&self.log_dir)?);
        let first = logs.iter().rposition(|file| file.zxid < zxid).unwrap_or(0);
        logs.drain(..first);
        Ok(logs)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, StorageError> {
        self.disk.list(dir).map_err(StorageError::io("list", dir))
    }

    fn file_len(&self, path: &Path) -> Result<u64, StorageError> {
        let file = self.disk.open_read(path).map_err(StorageError::io("open", path))?;
        file.len().map_err(StorageError::io("read", path))
    }
}

/// Reads records back, in order, file after file.
pub struct LogReader<D: Disk> {
    files: LogFiles<D>,
    /// The next one last.
    left: Vec<NamedFile>,
    open: Option<Open<D::File>>,
    from: Zxid,
}

struct Open<F> {
    log: LogFile<F>,
    path: PathBuf,
}

impl<D: Disk> LogReader<D> {
    /// The next record, and whether the state here was made of it or ends with it and of all that follows; `None` at
    /// the end of the log.
    pub fn next_record(&mut self) -> Result<Option<(LogRecord, bool)>, StorageError> {
        loop {
            let Some(open) = &mut self.open else {
                let Some(file) = self.left.pop() else { return Ok(None) };
                let LogFiles { disk, log_dir, txn_bytes_max, .. } = &self.files;
                let path = log_dir.join(&file.name);
                let log = disk.open_read(&path).map_err(StorageError::io("open", &path))?;
                let log = LogFile::new(log, &path, None, *txn_bytes_max)?;
                self.open = Some(Open { log, path });
                continue;
            };
            match open.log.read_next()? {
                Next::Record(record) if record.zxid < self.from => {}
                Next::Record(record) => {
                    let is_replayed = record.zxid >= self.files.base;
                    return Ok(Some((record, is_replayed)));
                }
                // An older log of Apache's may end so. What is missing is noticed by who looks at the zxids.
                Next::End(LogEnd { damage: None | Some(Damage::Torn(_)), .. }) => self.open = None,
                Next::End(LogEnd { offset, damage: Some(damage) }) => {
                    return Err(StorageError::Corrupt { path: open.path.clone(), offset, why: damage.to_string() });
                }
            }
        }
    }
}
