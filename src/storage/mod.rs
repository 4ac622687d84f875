//! Layer 2: what a server keeps on its disk, in Apache's formats, over a small [`Disk`] trait.
//!
//! A [`Storage`] is owned by whoever performs a server's disk effects (the disk thread, or the simulator), one at a
//! time. Nothing is durable, and no message may speak of it, before the call that promises it has returned:
//! [`sync`](Storage::sync) for the log, the `save_*` calls for the epochs,
//! [`finish`](SnapshotWriter::finish) for a snapshot. After an error of the log, an epoch or a truncation nothing is
//! retried: the storage is poisoned, and only opening the directory again tells what is there. A failed snapshot
//! harms nothing.
//!
//! ```text
//! dataDir/     zabkit.lock  initialize
//!   version-2/   snapshot.<hex>[.gz|.snappy]  acceptedEpoch  currentEpoch   zabkit.tmp.*  zabkit.install.*
//! dataLogDir/  zabkit.lock
//!   version-2/   log.<hex>  zabkit.synced  zabkit.torn.*
//! ```
//!
//! ZooKeeper: `FileTxnSnapLog`.

mod compression;
pub mod disk;
mod epochs;
mod error;
pub mod install;
mod inventory;
mod log_file;
mod log_files;
pub mod names;
mod purge;
pub mod recovery;
mod repair;
mod snapshot;
mod snapshot_writer;
pub mod synced_bound;
mod truncate;
mod txn_log;

pub use disk::{Disk, DiskFile, RealDisk};
pub use epochs::{ACCEPTED_EPOCH, CURRENT_EPOCH};
pub use error::StorageError;
pub use log_file::{Damage, LogEnd, LogFile, LogRecord, Next};
pub use log_files::{LogFiles, LogReader};
pub use names::Compression;
pub use purge::Purged;
pub use recovery::{NullSink, RecoverySink, Repair};
pub use snapshot::SnapshotDigest;
pub use snapshot_writer::SnapshotWriter;
pub use truncate::Truncated;

use crate::records::{Epoch, TXN_BYTES_MAX, Zxid};
use crate::sync::lock;
use bytes::Bytes;
use inventory::Inventory;
use names::{INITIALIZE, INSTALL_PREFIX, LOCK, NamedFile, TMP_PREFIX, VERSION_DIR};
use recovery::{Loaded, Source};
use snapshot_writer::Era;
use std::io;
use std::path::{Path, PathBuf};
use synced_bound::SyncedBound;
use txn_log::TxnLog;

/// Where the files are, and how they are treated. The names in the comments are zoo.cfg's.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// `dataDir`
    pub data_dir: PathBuf,
    /// `dataLogDir`
    pub data_log_dir: PathBuf,
    /// `datadir.autocreate`: missing directories are made.
    pub create_dirs: bool,
    /// `db.autocreate`: an empty directory counts as a fresh server's.
    pub create_db: bool,
    /// `snapshot.trust.empty`: a complete log without a snapshot is replayed from an empty tree.
    pub trust_empty: bool,
    /// `forceSync`: false trusts the operating system to write the log some time. For tests.
    pub force_sync: bool,
    /// `preAllocSize`, in bytes: the largest step by which space is reserved for the log; 0: none is.
    pub pre_alloc_bytes: u64,
    /// `txnLogSizeLimitInKb`, in bytes: a log file larger than this is followed by another one; 0: of any size.
    pub log_bytes_max: u64,
    /// `snapshot.compression.method`
    pub compression: Compression,
    /// `autopurge.snapRetainCount`
    pub retain_snapshots: usize,
    /// The longest transaction, and the longest string or buffer of a snapshot, in bytes.
    pub txn_bytes_max: usize,
}

impl StorageConfig {
    /// ZooKeeper's defaults, with everything in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        StorageConfig {
            data_log_dir: data_dir.clone(),
            data_dir,
            create_dirs: true,
            create_db: true,
            trust_empty: false,
            force_sync: true,
            pre_alloc_bytes: 64 << 20,
            log_bytes_max: 0,
            compression: Compression::None,
            retain_snapshots: 3,
            txn_bytes_max: TXN_BYTES_MAX,
        }
    }
}

/// What a directory held when it was opened (or read again).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub accepted_epoch: Epoch,
    pub current_epoch: Epoch,
    /// The last transaction of snapshot and log. [`Zxid::NONE`]: empty where it should not be; such a server may
    /// neither vote nor be counted before a leader has sent it a snapshot.
    pub last_zxid: Zxid,
    /// The snapshot used; `None`: an empty tree.
    pub snapshot_zxid: Option<Zxid>,
    /// The tree's digest as the snapshot tells it, and the transaction as of which it can be compared.
    pub digest: SnapshotDigest,
    /// Transactions replayed from the log.
    pub txns: u64,
    /// Whether there was nothing, neither snapshot nor log.
    pub was_empty: bool,
    /// Whether a snapshot must be written before the log is appended to.
    pub needs_snapshot: bool,
    /// What was mended; to be said in the log.
    pub repaired: Vec<Repair>,
    /// Oddities about which nothing had to be done; to be said in the log.
    pub notes: Vec<String>,
}

/// One server's files.
pub struct Storage<D: Disk> {
    disk: D,
    config: StorageConfig,
    /// `version-2` of dataDir: snapshots and epochs.
    snapshot_dir: PathBuf,
    /// `version-2` of dataLogDir: logs.
    log_dir: PathBuf,
    log: TxnLog<D>,
    /// The epochs as they are on the disk.
    epochs: (Epoch, Epoch),
    /// The snapshot that was read last, or installed: all records behind it are in the state.
    base: Zxid,
    /// The log and the snapshots have no epoch beyond this one, or beyond the current one: see [`epochs::announce`].
    announced: Epoch,
    era: Era,
    _locks: Vec<D::Lock>,
}

impl<D: Disk> Storage<D> {
    /// Locks the directory, reads it into `sink`, mends what a crash has left torn, and makes what it read durable.
    /// A directory that is refused is left as it was found.
    pub fn open(
        disk: D,
        config: StorageConfig,
        sink: &mut dyn RecoverySink,
    ) -> Result<(Storage<D>, Recovered), StorageError> {
        let snapshot_dir = config.data_dir.join(VERSION_DIR);
        let log_dir = config.data_log_dir.join(VERSION_DIR);
        let locks = prepare_dirs(&disk, &config, &snapshot_dir, &log_dir)?;
        let mut repaired = Vec::new();

        let mut bound = SyncedBound::load(&disk, &log_dir)?;
        for file in install::pending(&list(&disk, &snapshot_dir)?) {
            // One that was not decided for is not needed, and Apache's server may have gone on without it.
            if bound == Some(SyncedBound { floor: file.zxid, synced: None }) {
                let limit = config.txn_bytes_max;
                bound = install::resume(&disk, &snapshot_dir, &log_dir, &file, limit, &mut repaired)?;
            }
        }
        let source = Source {
            disk: &disk,
            snapshot_dir: &snapshot_dir,
            log_dir: &log_dir,
            bound: bound.as_ref(),
            trust_empty: config.trust_empty,
            txn_bytes_max: config.txn_bytes_max,
        };
        let loaded = source.load(sink)?;
        check_promise(bound.as_ref(), &loaded, &log_dir)?;
        let trusted = !loaded.empty || is_trusted(&disk, &config, &snapshot_dir)?;
        let last_zxid = if trusted { loaded.last } else { Zxid::NONE };
        let epochs = epochs::load(&disk, &snapshot_dir, last_zxid)?;

        // Nothing was changed so far, and nothing is refused from here on.
        if let Some(SyncedBound { floor, .. }) = &bound {
            install::keep_replaced(&disk, &snapshot_dir, &log_dir, *floor, loaded.snapshot)?;
        }
        remove_leftovers(&disk, &snapshot_dir, &log_dir, &mut repaired)?;
        if let Some(SyncedBound { floor, .. }) = &bound {
            install::remove_replaced(&disk, &snapshot_dir, &log_dir, *floor, loaded.snapshot, &mut repaired)?;
        }
        let bound = repair::repair(&disk, &snapshot_dir, &log_dir, bound.as_ref(), &loaded, &mut repaired)?;
        if let Some(adopted) = &epochs.adopted {
            epochs::save_announced(&disk, &snapshot_dir, epochs.current)?;
            repaired.push(Repair::Epoch(adopted.clone()));
        }
        if loaded.snapshot.is_some() {
            remove_if_there(&disk, &config.data_log_dir.join(INITIALIZE))?;
        }
        let log = TxnLog::new(disk.clone(), log_dir.clone(), &config, bound, loaded.last);
        let recovered = recovered(loaded, (epochs.accepted, epochs.current), last_zxid, repaired);
        let storage = Storage {
            disk,
            config,
            snapshot_dir,
            log_dir,
            log,
            epochs: (epochs.accepted, epochs.current),
            base: recovered.snapshot_zxid.unwrap_or(Zxid::ZERO),
            announced: epochs.current,
            era: Era::default(),
            _locks: locks,
        };
        Ok((storage, recovered))
    }

    /// Appends encoded transactions, in ascending order of zxids; nothing is promised before [`sync`](Self::sync).
    pub fn append(&mut self, txns: &[(Zxid, Bytes)]) -> Result<(), StorageError> {
        if self.log.current().is_none() && !txns.is_empty() {
            self.log.check()?;
            // A log without a snapshot is refused at the next start.
            if names::snapshots(&list(&self.disk, &self.snapshot_dir)?).is_empty() {
                return Err(StorageError::SnapshotFirst { dir: self.snapshot_dir.clone() });
            }
        }
        for of_one_epoch in txns.chunk_by(|(one, _), (next, _)| one.epoch() == next.epoch()) {
            if let Some((first, _)) = of_one_epoch.first().filter(|(first, _)| first.epoch() > self.announced) {
                // Whoever takes the announced epoch for the current one has what that epoch began with.
                self.log.sync()?;
                self.announce_epoch(first.epoch())?;
            }
            self.log.append(of_one_epoch)?;
        }
        Ok(())
    }

    /// Makes all that was appended durable. After an error every later call fails.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.log.sync()?;
        let limit = self.config.log_bytes_max;
        if limit > 0 && self.log.since_roll().1 > limit { self.log.roll() } else { Ok(()) }
    }

    /// Rewrites the bound of what is synced, if it has fallen far behind. To be called when nobody waits for the
    /// disk: after the completions of a sync have been handed over.
    pub fn idle(&mut self) -> Result<(), StorageError> {
        self.log.maybe_save_bound()
    }

    /// Syncs, and lets the next append open a new file. When a snapshot begins.
    pub fn roll(&mut self) -> Result<(), StorageError> {
        self.log.roll()
    }

    /// A clean end: all is synced, reserved space given back, the bound exact, so that the next start is quick.
    pub fn close(mut self) -> Result<(), StorageError> {
        self.log.roll()?;
        self.log.save_bound_now()
    }

    /// The last transaction appended or found.
    pub fn last_zxid(&self) -> Zxid {
        self.log.last()
    }

    /// Records and bytes in the log file being written: when to roll and take a snapshot.
    pub fn since_roll(&self) -> (u64, u64) {
        self.log.since_roll()
    }

    /// The accepted and the current epoch, as on the disk.
    pub fn epochs(&self) -> (Epoch, Epoch) {
        self.epochs
    }

    /// Saves `acceptedEpoch`; durable when it returns.
    pub fn save_accepted_epoch(&mut self, epoch: Epoch) -> Result<(), StorageError> {
        assert!(epoch >= self.epochs.0, "accepted epoch {} would go back to {epoch}", self.epochs.0);
        self.log.check()?;
        let saved = epochs::save(&self.disk, &self.snapshot_dir, ACCEPTED_EPOCH, epoch);
        saved.map_err(|error| self.log.poison(error))?;
        self.epochs.0 = epoch;
        Ok(())
    }

    /// Saves `currentEpoch`; durable when it returns. Only after the history it stands for has been synced.
    pub fn save_current_epoch(&mut self, epoch: Epoch) -> Result<(), StorageError> {
        let (accepted, current) = self.epochs;
        assert!(epoch >= current, "current epoch {current} would go back to {epoch}");
        assert!(epoch <= accepted, "current epoch {epoch} was never accepted; {accepted} was");
        self.log.check()?;
        let saved = match self.announced > current {
            true => epochs::save_announced(&self.disk, &self.snapshot_dir, epoch),
            false => epochs::save(&self.disk, &self.snapshot_dir, CURRENT_EPOCH, epoch),
        };
        saved.map_err(|error| self.log.poison(error))?;
        self.epochs.1 = epoch;
        Ok(())
    }

    /// Begins a snapshot of the state as of `zxid`. Its body is written by the caller, on any thread.
    pub fn begin_snapshot(&self, zxid: Zxid) -> Result<SnapshotWriter<D>, StorageError> {
        let initialize = self.config.data_log_dir.join(INITIALIZE);
        let what = (zxid, self.config.compression);
        SnapshotWriter::new(self.disk.clone(), self.snapshot_dir.clone(), what, self.era.clone(), initialize)
    }

    /// Seals `writer`'s snapshot, which came from the leader, and lets it replace all that was here: snapshots and
    /// log. Afterwards the history ends at its zxid.
    pub fn install_snapshot(&mut self, writer: SnapshotWriter<D>, digest: SnapshotDigest) -> Result<(), StorageError> {
        self.install(writer, digest, false)
    }

    /// The same, and what is replaced stays, as `zabkit.diverged.*`.
    pub fn install_snapshot_and_keep(
        &mut self,
        writer: SnapshotWriter<D>,
        digest: SnapshotDigest,
    ) -> Result<(), StorageError> {
        self.install(writer, digest, true)
    }

    fn install(
        &mut self,
        mut writer: SnapshotWriter<D>,
        digest: SnapshotDigest,
        is_kept: bool,
    ) -> Result<(), StorageError> {
        self.log.check()?;
        if let Err(error) = writer.seal(digest) {
            writer.abort();
            return Err(error);
        }
        let is_newest = self.log.last() <= writer.zxid();
        if is_newest {
            self.catch_up_with_log()?;
            self.announce_epoch(writer.zxid().epoch())?;
        } else {
            self.announce_earlier(writer.zxid().epoch())?;
        }
        let mut era = lock(&self.era);
        era.histories += 1; // A snapshot of the old history, if one is being written, is not to get its name any more.
        self.log.abandon();
        let file = NamedFile { zxid: writer.zxid(), name: writer.name().to_owned() };
        let dirs = (self.snapshot_dir.as_path(), self.log_dir.as_path());
        let bound = Inventory::take(&self.disk, dirs, &file.name, (is_newest, is_kept))
            .and_then(|inventory| {
                install::prepare(&self.disk, &self.snapshot_dir, writer.tmp(), &inventory)?;
                install::finish(&self.disk, &self.snapshot_dir, &self.log_dir, &file, &inventory)
            })
            .map_err(|error| self.log.poison(error))?;
        self.base = writer.zxid();
        self.log.set_bound(bound, writer.zxid())
    }

    /// Forgets all beyond `to`; durable when it returns. The database must be [reloaded](Self::reload) then.
    pub fn truncate(&mut self, to: Zxid) -> Result<Truncated, StorageError> {
        self.log.roll()?;
        let mut era = lock(&self.era);
        let (floor, max) = (self.log.bound().floor, self.config.txn_bytes_max);
        let Some(plan) = truncate::plan(&self.disk, &self.snapshot_dir, &self.log_dir, floor, to, max)? else {
            return Ok(Truncated::NoBase);
        };
        era.histories += 1;
        drop(era);
        self.announce_earlier(plan.last().epoch())?;
        self.log.set_bound(plan.bound(self.log.bound()), plan.last())?;
        plan.perform(&self.disk, &self.snapshot_dir, &self.log_dir).map_err(|error| self.log.poison(error))?;
        Ok(Truncated::To { last: plan.last() })
    }

    /// Reads everything again, from the newest snapshot on. The next append opens a new file.
    pub fn reload(&mut self, sink: &mut dyn RecoverySink) -> Result<Recovered, StorageError> {
        self.log.roll()?;
        let source = Source {
            disk: &self.disk,
            snapshot_dir: &self.snapshot_dir,
            log_dir: &self.log_dir,
            bound: Some(self.log.bound()),
            trust_empty: self.config.trust_empty,
            txn_bytes_max: self.config.txn_bytes_max,
        };
        let loaded = source.load(sink)?;
        self.base = loaded.snapshot.unwrap_or(Zxid::ZERO);
        let last_zxid = if loaded.empty { Zxid::NONE } else { loaded.last };
        Ok(recovered(loaded, self.epochs, last_zxid, Vec::new()))
    }

    /// The files, for whoever reads them beside this one.
    pub fn log_files(&self) -> LogFiles<D> {
        LogFiles {
            disk: self.disk.clone(),
            snapshot_dir: self.snapshot_dir.clone(),
            log_dir: self.log_dir.clone(),
            base: self.base,
            txn_bytes_max: self.config.txn_bytes_max,
        }
    }

    /// Removes the snapshots and logs that the newest `retain_snapshots` make superfluous.
    pub fn purge(&mut self) -> Result<Purged, StorageError> {
        self.log.check()?;
        let _era = lock(&self.era);
        let floor = self.log.bound().floor;
        let retain = self.config.retain_snapshots;
        let plan = purge::plan(&self.disk, &self.snapshot_dir, &self.log_dir, floor, retain)?;
        Ok(purge::perform(&self.disk, &self.snapshot_dir, &self.log_dir, &plan))
    }

    /// Before the history reaches into `epoch`, which is not the current one yet.
    fn announce_epoch(&mut self, epoch: Epoch) -> Result<(), StorageError> {
        if epoch > self.announced.max(self.epochs.1) {
            self.log.check()?;
            epochs::announce(&self.disk, &self.snapshot_dir, epoch).map_err(|error| self.log.poison(error))?;
            self.announced = epoch;
        }
        Ok(())
    }

    /// Before the history is cut back into `epoch`. If others start before it is, they go by an epoch that is too low for
    /// what they find, and elect somebody else.
    fn announce_earlier(&mut self, epoch: Epoch) -> Result<(), StorageError> {
        let epoch = epoch.max(self.epochs.1);
        if epoch < self.announced {
            epochs::announce(&self.disk, &self.snapshot_dir, epoch).map_err(|error| self.log.poison(error))?;
            self.announced = epoch;
        }
        Ok(())
    }

    /// Saves as the current epoch that of the log, if the log is ahead of it: what a start would do, and what is to be
    /// announced next says nothing any more of a history that ends here.
    fn catch_up_with_log(&mut self) -> Result<(), StorageError> {
        let epoch = self.log.last().epoch();
        let (accepted, current) = self.epochs;
        if current < epoch && epoch <= accepted { self.save_current_epoch(epoch) } else { Ok(()) }
    }
}

fn recovered(loaded: Loaded, epochs: (Epoch, Epoch), last_zxid: Zxid, repaired: Vec<Repair>) -> Recovered {
    Recovered {
        accepted_epoch: epochs.0,
        current_epoch: epochs.1,
        last_zxid,
        snapshot_zxid: loaded.snapshot,
        digest: loaded.digest,
        txns: loaded.txns,
        was_empty: loaded.empty,
        // Untrusted, it waits for a leader's snapshot instead.
        needs_snapshot: loaded.snapshot.is_none() && last_zxid != Zxid::NONE,
        repaired,
        notes: loaded.notes,
    }
}

/// Makes or demands the directories, locks them, and looks for files in the wrong one.
fn prepare_dirs<D: Disk>(
    disk: &D,
    config: &StorageConfig,
    snapshot_dir: &Path,
    log_dir: &Path,
) -> Result<Vec<D::Lock>, StorageError> {
    let mut dirs = vec![(&config.data_dir, snapshot_dir)];
    let apart = config.data_dir != config.data_log_dir;
    if apart {
        dirs.push((&config.data_log_dir, log_dir));
    }
    let mut locks = Vec::new();
    for (parent, dir) in dirs {
        match disk.list(dir) {
            Ok(_) => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StorageError::io("list", dir)(error)),
            Err(_) if !config.create_dirs => return Err(StorageError::MissingDirectory { path: dir.into() }),
            Err(_) => {
                disk.create_dir_all(dir).map_err(StorageError::io("create", dir))?;
                disk.sync_dir(parent).map_err(StorageError::io("sync", parent))?;
            }
        }
        let path = parent.join(LOCK);
        locks.push(disk.lock(&path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => StorageError::Locked { path: parent.clone() },
            _ => StorageError::io("lock", &path)(error),
        })?);
    }
    if apart {
        for (dir, prefix) in [(snapshot_dir, "log."), (log_dir, "snapshot.")] {
            if let Some(name) = list(disk, dir)?.into_iter().find(|name| name.starts_with(prefix)) {
                return Err(StorageError::MisplacedFile { dir: dir.into(), name });
            }
        }
    }
    Ok(locks)
}

/// Whether what was promised to be there has been read.
fn check_promise(bound: Option<&SyncedBound>, loaded: &Loaded, log_dir: &Path) -> Result<(), StorageError> {
    match bound.and_then(|bound| bound.synced.as_ref()) {
        // What another server has forgotten since, because its leader did not have it, was no promise of ours to keep.
        Some(synced) if loaded.last < synced.zxid && !loaded.is_changed_since => Err(StorageError::LogTooShort {
            dir: log_dir.into(),
            found: loaded.last,
            synced: synced.zxid,
            bound: names::SYNCED_BOUND,
        }),
        _ => Ok(()),
    }
}

/// Whether an empty directory is a fresh server's, and not one that has lost its files.
fn is_trusted<D: Disk>(disk: &D, config: &StorageConfig, snapshot_dir: &Path) -> Result<bool, StorageError> {
    if list(disk, &config.data_log_dir)?.iter().any(|name| name == INITIALIZE) {
        return Ok(true);
    }
    Ok(config.create_db && !epochs::were_used(disk, snapshot_dir)?)
}

/// Removes files of ours that a crash has left under temporary names.
fn remove_leftovers<D: Disk>(
    disk: &D,
    snapshot_dir: &Path,
    log_dir: &Path,
    repaired: &mut Vec<Repair>,
) -> Result<(), StorageError> {
    for dir in [snapshot_dir, log_dir] {
        let is_ours = |name: &String| name.starts_with(TMP_PREFIX) || name.starts_with(INSTALL_PREFIX);
        for name in list(disk, dir)?.into_iter().filter(is_ours) {
            let path = dir.join(name);
            disk.remove(&path).map_err(StorageError::io("remove", &path))?;
            repaired.push(Repair::Leftover { path });
        }
    }
    Ok(())
}

fn remove_if_there<D: Disk>(disk: &D, path: &Path) -> Result<(), StorageError> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn list<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<String>, StorageError> {
    disk.list(dir).map_err(StorageError::io("list", dir))
}
