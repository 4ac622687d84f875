//! Why storage cannot go on, with the place and what to do about it.

use crate::records::{Epoch, Zxid};
use std::io;
use std::path::{Path, PathBuf};

/// What went wrong with a data directory. A torn tail is not an error: see [`Repair`](super::Repair).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused. After a failed write or sync of the log nothing more is accepted.
    #[error("cannot {op} {}: {source}", .path.display())]
    Io { op: &'static str, path: PathBuf, source: io::Error },
    /// An earlier write or sync failed: what is on disk is unknown until the directory is opened again.
    #[error("{} takes no more writes since this failure: {cause}; restart the server once the disk is well", .path.display())]
    Poisoned { path: PathBuf, cause: String },
    /// Another process (or another server of this one) uses the directory.
    #[error("{} is locked by another server; stop it first, or use another directory", .path.display())]
    Locked { path: PathBuf },
    /// A directory is missing and may not be created (`datadir.autocreate=false`).
    #[error("{} is missing; create it, or set zookeeper.datadir.autocreate=true", .path.display())]
    MissingDirectory { path: PathBuf },
    /// Snapshots in the log directory, or logs in the snapshot directory.
    #[error("{} holds {name}, which belongs into the other directory; check dataDir and dataLogDir", .dir.display())]
    MisplacedFile { dir: PathBuf, name: String },
    /// A synced part of a log does not read back, so acknowledged writes may be lost.
    #[error("{} is corrupt at byte {offset}: {why}; nothing was changed. To rebuild this server from the others, move version-2 (of dataDir and dataLogDir) away and start it again", .path.display())]
    Corrupt { path: PathBuf, offset: u64, why: String },
    /// A whole record that the limits of this server do not allow.
    #[error("{} has a record of {length} bytes at byte {offset}, more than the limit of {limit}; raise jute.maxbuffer to what it was", .path.display())]
    RecordTooLong { path: PathBuf, offset: u64, length: u64, limit: usize },
    /// A record with a good checksum that is no transaction we know, or that the database refused.
    #[error("{} has a transaction at byte {offset} that cannot be used: {why}; a newer server may have written it: use that version, or move version-2 away to rebuild this server from the others", .path.display())]
    BadTransaction { path: PathBuf, offset: u64, why: String },
    /// What was synced is gone: the log ends before it.
    #[error("the log in {} ends at {found}, but was synced up to {synced}; a file is missing. If another server has worked on this directory since, remove {bound}", .dir.display())]
    LogTooShort { dir: PathBuf, found: Zxid, synced: Zxid, bound: &'static str },
    /// An older snapshot had to be taken, and the log does not reach from it to the newer ones.
    #[error("{} is damaged, and from the older {} the log leads only to {reached}; move version-2 away to rebuild this server from the others", .damaged.display(), .used.display())]
    SnapshotDamaged { damaged: PathBuf, used: PathBuf, reached: Zxid },
    /// Snapshot files, none of which can be read.
    #[error("not able to find valid snapshots in {}: {tried}; restore one from a backup, or move version-2 away to rebuild this server from the others", .dir.display())]
    NoValidSnapshot { dir: PathBuf, tried: String },
    /// Log records, but no snapshot to apply them to.
    #[error("No snapshot found, but there are log entries. Something is broken! {} begins at {first}; if it is the complete log of a server older than 3.6, set zookeeper.snapshot.trust.empty=true once", .path.display())]
    NoSnapshot { path: PathBuf, first: Zxid },
    /// A log was to be written where no snapshot exists that it could be applied to.
    #[error("{} has no snapshot yet; one must be written before the log", .dir.display())]
    SnapshotFirst { dir: PathBuf },
    /// A standalone server's directory is empty where it should not be. Bring the files back, or, if they are not
    /// wanted, put an empty file `initialize` into dataLogDir.
    #[error(
        "{} is empty, but was a server's (or db.autocreate=false): bring its files back, or put an empty file named \
         initialize into dataLogDir to begin anew",
        .dir.display()
    )]
    NotTrusted { dir: PathBuf },
    /// The log was truncated, or another snapshot installed, while this one was being written.
    #[error("{} was given up: the history it belongs to was replaced while it was written", .path.display())]
    Superseded { path: PathBuf },
    /// A log of that name exists and holds records.
    #[error("{} exists already; a record of that zxid has been logged before", .path.display())]
    LogExists { path: PathBuf },
    /// An epoch file is not a number.
    #[error("{} is not an epoch: {found:?}; write the number that the other servers have accepted, as decimal text", .path.display())]
    BadEpochFile { path: PathBuf, found: String },
    /// The log is of an epoch that this server never accepted.
    #[error(
        "The current epoch, {current}, is older than the last zxid, {last}, and the accepted epoch, {accepted}, does not cover it; move version-2 away to rebuild this server from the others"
    )]
    EpochBehindLog { accepted: Epoch, current: Epoch, last: Zxid },
    /// A server accepts an epoch before it makes it its current one.
    #[error(
        "The accepted epoch, {accepted} is less than the current epoch, {current}; write {current} into acceptedEpoch if the file was restored from a backup"
    )]
    EpochsCrossed { accepted: Epoch, current: Epoch },
}

impl StorageError {
    /// For `map_err`: an I/O error with the operation and the path.
    pub(super) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
        let path = path.to_path_buf();
        move |source| StorageError::Io { op, path, source }
    }

    /// Whether the disk is full: the one failure that an operator cures without replacing anything.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, StorageError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}
