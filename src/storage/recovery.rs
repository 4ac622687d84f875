//! What a directory holds: the newest valid snapshot, and the log behind it, up to where it is whole.
//!
//! Reading changes nothing. What has to be mended (torn tails) is only planned here, and done by
//! [`repair`](super::repair) when all of the directory has been read, so that a directory that is refused is left
//! as it was found.
//!
//! How a damaged end of a log is judged (`docs/storage.md`, "After a crash"):
//!
//! | log | damage | meaning |
//! |---|---|---|
//! | ours | below the synced bound | rot in what was acknowledged: refuse |
//! | ours | at or above it | an unfinished write, whatever it looks like: cut |
//! | ours | none, but the file ends behind a record below it | cut by another server (TRUNC): Apache's rules, there and behind |
//! | Apache's | torn: the file ends, or zeros begin, inside a record | an unfinished write: cut |
//! | Apache's | checksum or length, no whole record behind it | counts as torn: cut |
//! | Apache's | checksum or length, whole records behind it | rot: refuse, as Apache does |
//!
//! ZooKeeper: `FileTxnSnapLog.restore`, `FileSnap.deserialize`.

use super::disk::{Disk, DiskFile};
use super::error::StorageError;
use super::log_file::{Damage, HEADER_LEN, LogEnd, LogFile, Next};
use super::names::{self, Compression, NamedFile, parse_snapshot};
use super::snapshot::{ReadFailure, SnapshotDigest, looks_complete, read_snapshot};
use super::synced_bound::{Covered, SyncedBound};
use crate::jute::Record;
use crate::records::{SnapshotItem, Txn, Zxid};
use bytes::Bytes;
use std::fmt;
use std::path::{Path, PathBuf};

/// How many snapshots are tried before giving up, as in ZooKeeper.
const CANDIDATES_MAX: usize = 100;
/// How many oddities of the log are named one by one.
const NOTES_MAX: usize = 8;

/// Takes what a directory holds and makes a database of it.
pub trait RecoverySink {
    /// Start over with an empty tree: a snapshot (or, after one that proved invalid, another) begins, or there is none.
    fn begin(&mut self);
    /// The next item of the snapshot, [`SnapshotItem::End`] included. An error rules this snapshot out.
    fn item(&mut self, item: SnapshotItem) -> Result<(), String>;
    /// The snapshot's seals fit: it is the state as of `zxid`. `digest`, if known, is the tree's digest as of its
    /// zxid; with zxid 0 it is exactly that of the snapshot. An error rules this snapshot out. Not called for an empty database.
    fn snapshot_done(&mut self, zxid: Zxid, digest: SnapshotDigest) -> Result<(), String>;
    /// The next transaction behind the snapshot, and its bytes. An error refuses the directory.
    fn txn(&mut self, txn: Txn, bytes: Bytes) -> Result<(), String>;
}

/// Takes everything and keeps nothing: for checking files.
pub struct NullSink;

impl RecoverySink for NullSink {
    fn begin(&mut self) {}
    fn item(&mut self, _: SnapshotItem) -> Result<(), String> {
        Ok(())
    }
    fn snapshot_done(&mut self, _: Zxid, _: SnapshotDigest) -> Result<(), String> {
        Ok(())
    }
    fn txn(&mut self, _: Txn, _: Bytes) -> Result<(), String> {
        Ok(())
    }
}

/// One thing that had to be mended at the start. Prints as a sentence for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repair {
    /// Bytes behind the last whole record of a log were copied to `kept` and cut off.
    TornTail { log: PathBuf, offset: u64, bytes: u64, why: String, kept: PathBuf },
    /// A log without a single whole record was removed; what it held is in `kept`, if it held anything.
    EmptyLog { log: PathBuf, kept: Option<PathBuf> },
    /// An unfinished snapshot file, of Apache's, was given another name.
    UnfinishedSnapshot { snapshot: PathBuf, kept: PathBuf },
    /// A file that a crash had left half-written under a temporary name was removed.
    Leftover { path: PathBuf },
    /// A snapshot from the leader that was complete, but not yet in its place, was put there.
    InstallFinished { zxid: Zxid },
    /// A snapshot from the leader was to replace everything, but another server has gone on with the directory: `since`
    /// is a file that it has made or, of an epoch, written. The snapshot was removed, all else is as that server left it.
    InstallGivenUp { zxid: Zxid, since: String },
    /// `currentEpoch` was behind the log and was saved again.
    Epoch(String),
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Repair::TornTail { log, offset, bytes, why, kept } => write!(
                f,
                "{} had an unfinished write of {bytes} bytes at byte {offset} ({why}): cut off, kept in {}",
                log.display(),
                kept.display()
            ),
            Repair::EmptyLog { log, kept: None } => write!(f, "{} held no record: removed", log.display()),
            Repair::EmptyLog { log, kept: Some(kept) } => {
                write!(f, "{} held no whole record: removed, its bytes are in {}", log.display(), kept.display())
            }
            Repair::UnfinishedSnapshot { snapshot, kept } => {
                write!(f, "{} was never finished: renamed to {}", snapshot.display(), kept.display())
            }
            Repair::Leftover { path } => write!(f, "{} was never finished: removed", path.display()),
            Repair::InstallFinished { zxid } => {
                write!(f, "the snapshot of {zxid} from the leader was complete: put in its place")
            }
            Repair::InstallGivenUp { zxid, since } => write!(
                f,
                "the snapshot of {zxid} from the leader was to replace everything when the server ended, but another \
                 server has written {since} since: given up"
            ),
            Repair::Epoch(what) => f.write_str(what),
        }
    }
}

/// A directory, read.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The snapshot used; `None`: an empty tree.
    pub snapshot: Option<Zxid>,
    pub digest: SnapshotDigest,
    /// Of snapshot and log.
    pub last: Zxid,
    /// Whether there is nothing at all, neither snapshot nor record.
    pub empty: bool,
    /// Records handed to the sink.
    pub txns: u64,
    /// The logs read, oldest first, and where their records end.
    pub logs: Vec<ReadLog>,
    /// Another server has written to the directory, or cut a log, since we did.
    pub is_changed_since: bool,
    /// Snapshot files that are no candidates although newer than the one used.
    pub unfinished: Vec<PathBuf>,
    /// For the operator; nothing had to be done about it.
    pub notes: Vec<String>,
}

#[derive(Debug)]
pub(super) struct ReadLog {
    pub file: NamedFile,
    /// Behind the last whole record.
    pub end: u64,
    /// Up to where it was known to be synced.
    pub covered: Covered,
    /// What to cut off at `end`, and up to where bytes stand there.
    pub torn: Option<(Damage, u64)>,
}

/// Where and how to read.
pub(super) struct Source<'a, D: Disk> {
    pub disk: &'a D,
    pub snapshot_dir: &'a Path,
    pub log_dir: &'a Path,
    /// What is promised; `None`: a directory of Apache's.
    pub bound: Option<&'a SyncedBound>,
    pub trust_empty: bool,
    pub txn_bytes_max: usize,
}

/// A snapshot that was tried in vain.
struct Failed {
    path: PathBuf,
    zxid: Zxid,
    why: String,
    /// Whether it was ever complete; else it may be what a crash of Apache left.
    was_complete: bool,
}

impl<D: Disk> Source<'_, D> {
    /// Reads the directory into `sink`.
    pub fn load(&self, sink: &mut dyn RecoverySink) -> Result<Loaded, StorageError> {
        let mut failed = Vec::new();
        let chosen = self.choose_snapshot(&mut failed, sink)?;
        let mut logs = names::logs(&self.list(self.log_dir)?);
        let floor = self.floor();
        logs.retain(|file| file.zxid > floor || floor == Zxid::ZERO); // What was replaced at the floor.
        let logs = logs;
        let mut loaded = Loaded {
            snapshot: None,
            digest: None,
            last: Zxid::ZERO,
            empty: false,
            txns: 0,
            logs: Vec::new(),
            is_changed_since: false,
            unfinished: Vec::new(),
            notes: Vec::new(),
        };
        match &chosen {
            Some((file, digest)) => {
                loaded.snapshot = Some(file.zxid);
                loaded.last = file.zxid;
                loaded.digest = digest.filter(|(zxid, _)| *zxid >= file.zxid);
            }
            None => {
                self.check_no_snapshot(&failed, &logs, &mut loaded)?;
                sink.begin();
            }
        }
        let gap = self.replay(&logs, &mut loaded, sink)?;
        if let Some((used, _)) = &chosen {
            self.check_fallback(&failed, &used.name, gap, &mut loaded)?;
        }
        let not_complete = failed.iter().filter(|failed| !failed.was_complete);
        loaded.unfinished = not_complete.map(|failed| failed.path.clone()).collect();
        Ok(loaded)
    }

    /// Tries the snapshots, newest first, until one is valid.
    fn choose_snapshot(
        &self,
        failed: &mut Vec<Failed>,
        sink: &mut dyn RecoverySink,
    ) -> Result<Option<(NamedFile, SnapshotDigest)>, StorageError> {
        let floor = self.floor();
        let mut tried = 0;
        for file in names::snapshots(&self.list(self.snapshot_dir)?).into_iter().rev() {
            if file.zxid < floor || tried == CANDIDATES_MAX {
                break;
            }
            let path = self.snapshot_dir.join(&file.name);
            let compression = parse_snapshot(&file.name).map_or(Compression::None, |(_, compression)| compression);
            if !looks_complete(self.disk, &path, compression)? {
                let why = "it was never finished".to_owned();
                failed.push(Failed { path, zxid: file.zxid, why, was_complete: false });
                continue;
            }
            tried += 1;
            let read = read_snapshot(self.disk, &path, compression, self.txn_bytes_max, sink).and_then(|told| {
                let digest = told.map(|(zxid, value)| (if zxid == Zxid::ZERO { file.zxid } else { zxid }, value));
                sink.snapshot_done(file.zxid, told).map(|()| digest).map_err(ReadFailure::Invalid)
            });
            match read {
                Ok(digest) => return Ok(Some((file, digest))),
                Err(ReadFailure::Storage(error)) => return Err(error),
                // The end of a packed file cannot be known without reading it.
                Err(ReadFailure::Truncated(why)) => {
                    let was_complete = compression == Compression::None;
                    failed.push(Failed { path, zxid: file.zxid, why, was_complete });
                }
                Err(ReadFailure::Invalid(why)) => {
                    failed.push(Failed { path, zxid: file.zxid, why, was_complete: true });
                }
            }
        }
        Ok(None)
    }

    /// No snapshot is valid: whether an empty tree may stand in for it.
    fn check_no_snapshot(
        &self,
        failed: &[Failed],
        logs: &[NamedFile],
        loaded: &mut Loaded,
    ) -> Result<(), StorageError> {
        // An unfinished snapshot.0 is the crash of a server's first moment; anything else held data.
        if failed.iter().any(|failed| failed.was_complete || failed.zxid > Zxid::ZERO) {
            let tried: Vec<String> =
                failed.iter().map(|failed| format!("{} ({})", file_name(&failed.path), failed.why)).collect();
            return Err(StorageError::NoValidSnapshot { dir: self.snapshot_dir.into(), tried: tried.join(", ") });
        }
        for file in logs {
            let (path, mut log) = self.open_log(file)?;
            if let Next::Record(record) = log.read_next()? {
                // A log that does not begin with the first transaction would replay to a tree with holes.
                if !self.trust_empty || record.zxid.counter() != 1 {
                    return Err(StorageError::NoSnapshot { path, first: record.zxid });
                }
                return Ok(());
            }
        }
        loaded.empty = true;
        Ok(())
    }

    /// Hands out all records behind `loaded.last`. Returns the first gap: the zxid before it.
    fn replay(
        &self,
        logs: &[NamedFile],
        loaded: &mut Loaded,
        sink: &mut dyn RecoverySink,
    ) -> Result<Option<Zxid>, StorageError> {
        let base = loaded.last;
        let first = logs.iter().rposition(|file| file.zxid <= base).unwrap_or(0);
        let files = logs.get(first..).unwrap_or_default();
        let mut gap = None;
        // Behind where another server has cut the history all is another's, though it may lie between ours by name.
        let (mut is_ours, is_end_gone) = (true, self.is_end_gone(logs));
        for (n, file) in files.iter().enumerate() {
            let (path, mut log) = self.open_log(file)?;
            let end = loop {
                let record = match log.read_next()? {
                    Next::End(end) => break end,
                    Next::Record(record) => record,
                };
                if record.zxid <= base {
                    continue;
                }
                let previous = loaded.last;
                if record.zxid <= previous {
                    note(loaded, || format!("{}: {} follows {previous} in the log", path.display(), record.zxid));
                } else if is_gap(previous, record.zxid) {
                    gap = gap.or(Some(previous));
                    note(loaded, || format!("{}: {} follows {previous}: a gap", path.display(), record.zxid));
                }
                loaded.last = previous.max(record.zxid);
                let offset = record.offset;
                let txn = Txn::from_bytes(&record.bytes).map_err(|e| log.bad_transaction(offset, e.to_string()))?;
                sink.txn(txn, record.bytes).map_err(|why| log.bad_transaction(offset, why))?;
                loaded.txns += 1;
            };
            let covers = |zxid, is_ours| if is_ours { self.covers(zxid) } else { Covered::Foreign };
            let covered = covers(file.zxid, is_ours);
            is_ours &= !(is_end_gone && is_cut(&log, &end));
            let next = files.get(n + 1).map(|next| covers(next.zxid, is_ours));
            loaded.logs.push(self.judge(file, &path, &log, end, (covered, next))?);
        }
        let newest = loaded.logs.last();
        loaded.is_changed_since = newest.is_some_and(|log| log.covered == Covered::Foreign);
        Ok(gap)
    }

    fn floor(&self) -> Zxid {
        self.bound.map_or(Zxid::ZERO, |bound| bound.floor)
    }

    fn covers(&self, zxid: Zxid) -> Covered {
        self.bound.map_or(Covered::Foreign, |bound| bound.covers(zxid))
    }

    /// Whether the log in which our history ended is not there any more.
    fn is_end_gone(&self, logs: &[NamedFile]) -> bool {
        let synced = self.bound.and_then(|bound| bound.synced.as_ref());
        synced.is_some_and(|synced| logs.iter().all(|file| file.name != synced.file))
    }

    /// Whether the end of a log is one to accept, to cut, or to refuse. How it lies to the bound, and the log behind it.
    fn judge(
        &self,
        file: &NamedFile,
        path: &Path,
        log: &LogFile<D::File>,
        end: LogEnd,
        (mut covered, next): (Covered, Option<Covered>),
    ) -> Result<ReadLog, StorageError> {
        let is_cut = is_cut(log, &end);
        let LogEnd { offset, damage } = end;
        if let Covered::UpTo(synced) = covered {
            // Behind what Apache's TRUNC has cut no file of ours is left.
            if is_cut && offset < synced && !matches!(next, Some(Covered::UpTo(_))) {
                covered = Covered::Foreign;
            }
        }
        let corrupt = |why: String| StorageError::Corrupt { path: path.into(), offset, why };
        let torn = match (covered, damage) {
            (Covered::UpTo(synced), Some(damage)) if offset < synced => return Err(corrupt(damage.to_string())),
            (Covered::UpTo(synced), None) if synced != u64::MAX && offset < synced => {
                return Err(corrupt(format!("it was synced up to byte {synced}, but its records end here")));
            }
            (Covered::UpTo(u64::MAX), None) if offset <= HEADER_LEN => {
                return Err(corrupt("its records are gone".into()));
            }
            (Covered::Foreign, Some(Damage::Header)) => {
                // A server that crashed just after creating the file: nothing, or nothing but zeros, is in it.
                if next.is_some() || log.end_of_bytes(0)? > 0 && log.file_len() >= HEADER_LEN {
                    return Err(corrupt(Damage::Header.to_string()));
                }
                Some(Damage::Header)
            }
            (Covered::Foreign, Some(damage @ (Damage::Checksum | Damage::Length(_)))) => {
                if let Some(behind) = log.find_record(offset + 1)? {
                    return Err(corrupt(format!("{damage}, and a whole record follows at byte {behind}")));
                }
                Some(damage)
            }
            (_, damage) => damage,
        };
        let torn = match torn {
            Some(damage) => Some((damage, log.end_of_bytes(offset)?)),
            None => None,
        };
        Ok(ReadLog { file: file.clone(), end: offset, covered, torn })
    }

    /// An older snapshot had to do: whether the log makes up for the newer ones.
    fn check_fallback(
        &self,
        failed: &[Failed],
        used: &str,
        gap: Option<Zxid>,
        loaded: &mut Loaded,
    ) -> Result<(), StorageError> {
        for failed in failed {
            note(loaded, || format!("{} was passed over: {}", failed.path.display(), failed.why));
        }
        // What Apache leaves of a snapshot that it did not finish says nothing about the log.
        let is_ours = self.bound.is_some() && !loaded.is_changed_since;
        let Some(newest) = failed.iter().find(|failed| failed.was_complete || is_ours) else {
            return Ok(());
        };
        // A snapshot named `epoch:0` holds no transaction of that epoch, so the log need not reach it.
        let short = loaded.last < newest.zxid && newest.zxid.counter() != 0;
        let gap = gap.filter(|gap| *gap < newest.zxid);
        match gap.or(short.then_some(loaded.last)) {
            None => Ok(()),
            Some(reached) => Err(StorageError::SnapshotDamaged {
                damaged: newest.path.clone(),
                used: self.snapshot_dir.join(used),
                reached,
            }),
        }
    }

    fn open_log(&self, file: &NamedFile) -> Result<(PathBuf, LogFile<D::File>), StorageError> {
        let path = self.log_dir.join(&file.name);
        let opened = self.disk.open_read(&path).map_err(StorageError::io("open", &path))?;
        let log = LogFile::new(opened, &path, None, self.txn_bytes_max)?;
        Ok((path, log))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, StorageError> {
        self.disk.list(dir).map_err(StorageError::io("list", dir))
    }
}

/// Whether another server has cut the log, for a TRUNC: where we leave a file there is padding, and lost writes do not
/// end between two records.
fn is_cut<F: DiskFile>(log: &LogFile<F>, end: &LogEnd) -> bool {
    end.damage.is_none() && end.offset > HEADER_LEN && log.file_len() == end.offset
}

/// Whether records are missing between two that follow each other in a log. Between epochs it cannot be known.
fn is_gap(previous: Zxid, next: Zxid) -> bool {
    next.epoch() == previous.epoch() && next.0 > previous.0 + 1
}

fn note(loaded: &mut Loaded, what: impl FnOnce() -> String) {
    match loaded.notes.len() {
        n if n < NOTES_MAX => loaded.notes.push(what()),
        NOTES_MAX => loaded.notes.push("(and more)".into()),
        _ => {}
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
