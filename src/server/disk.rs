//! The disk thread: the log, the epochs, the snapshots of one server.
//!
//! It takes everything that is waiting, appends it all with one write and one `fdatasync` (group commit), and hands
//! all completions back in one message. Periodic snapshots are written by a thread of their own from chunks of the
//! database, so that appends never wait for them; a snapshot from the leader is installed in its turn. Any error ends
//! the server: nothing is tried again, since a second `fdatasync` may "succeed" without the pages that the first lost.
//!
//! ZooKeeper: `SyncRequestProcessor`, `PurgeTxnLog`.

use super::disk_faults::HostDisk;
use super::links::{Chunk, ChunkSource};
use super::loading::Loading;
use super::log_reading;
use super::log_searches::Searches;
use super::shared::{DatabaseChunks, Event, Shared};
use crate::peer::io::{DiskOp, Generation, Input, LinkId, LogPlace};
use crate::records::Zxid;
use crate::storage::{Purged, SnapshotWriter, Storage, StorageError, Truncated};
use bytes::Bytes;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Exit code of a disk error, and of everything unexpected.
pub const EXIT_UNEXPECTED: i32 = 1;
/// Exit code of a failed snapshot.
const EXIT_SNAPSHOT: i32 = 10;
/// Bytes of a snapshot made in one hold of the database's lock.
const CHUNK_BYTES: usize = 64 << 10;
/// A periodic snapshot is in no hurry: after each chunk its thread rests so many times as long as that took, so that
/// processor, lock and disk are the writes' most of the time.
const PAUSES: u32 = 6;
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// Work for the disk thread.
pub enum Job {
    /// Anything but a snapshot.
    Op(DiskOp),
    /// The database at `zxid`, to be written; with `install` in its turn, else beside later work. `keeps`: what it replaces.
    Snapshot { generation: Generation, zxid: Zxid, install: bool, keeps: bool, chunks: DatabaseChunks },
    /// A periodic snapshot is on disk: remove what it makes superfluous.
    Purge,
    /// Finish: all is synced, the directory is closed.
    Close,
}

/// The queue of the disk thread.
#[derive(Clone)]
pub struct DiskQueue {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    jobs: Mutex<VecDeque<Job>>,
    filled: Condvar,
}

impl DiskQueue {
    pub fn new() -> DiskQueue {
        DiskQueue { inner: Arc::default() }
    }

    /// Hands over all of `jobs`, with one wake-up.
    pub fn push(&self, jobs: &mut Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        self.lock().extend(jobs.drain(..));
        self.inner.filled.notify_one();
    }

    /// Wakes the thread so that it sees that the gate is shut.
    pub fn wake(&self) {
        let _jobs = self.lock();
        self.inner.filled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.inner.jobs.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits for work and takes all of it. `None`: the gate is shut.
    fn take(&self, shared: &Shared) -> Option<VecDeque<Job>> {
        let mut jobs = self.lock();
        loop {
            if shared.gate.is_shut() {
                return None;
            }
            if !jobs.is_empty() {
                return Some(std::mem::take(&mut *jobs));
            }
            jobs = self.inner.filled.wait(jobs).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

/// Starts the disk thread. It ends at [`Job::Close`], when the gate is shut, or at the first error.
/// Then it returns the exit code and the reason, which the core has been told too.
pub fn start(
    shared: Arc<Shared>,
    queue: DiskQueue,
    storage: Storage<HostDisk>,
) -> std::io::Result<JoinHandle<Option<(i32, String)>>> {
    std::thread::Builder::new().name("SyncThread".to_owned()).spawn(move || {
        let _entered = shared.enter();
        let _ended = Ended(shared.clone());
        let mut thread = DiskThread {
            shared: &shared,
            queue: &queue,
            storage: Some(storage),
            unsynced: Vec::new(),
            unsynced_in: Generation(0),
            completions: Vec::new(),
            beside: Vec::new(),
            searches: Searches::default(),
            is_ending: Arc::default(),
        };
        let end = catch_unwind(AssertUnwindSafe(|| thread.run()));
        let failure = match end {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(panic) => Some(Failure {
                code: EXIT_UNEXPECTED,
                reason: format!("the disk thread has panicked: {}", panic_text(&*panic)),
            }),
        };
        if let Some(Failure { code, reason }) = &failure {
            let _ = shared.events.send(Event::Fail { code: *code, reason: reason.clone() });
            // Snapshots under way end at the next chunk, with the server.
            shared.gate.shut();
        }
        let DiskThread { beside, searches, .. } = thread;
        searches.end();
        for thread in beside {
            let _ = thread.join();
        }
        failure.map(|Failure { code, reason }| (code, reason))
    })
}

/// Dropped when the thread has let go of everything, whichever way it ends.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.gate.disk_has_ended();
    }
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// Why the server ends.
struct Failure {
    code: i32,
    reason: String,
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Failure { code: EXIT_UNEXPECTED, reason: error.to_string() }
    }
}

struct DiskThread<'a> {
    shared: &'a Arc<Shared>,
    queue: &'a DiskQueue,
    /// `None` once closed.
    storage: Option<Storage<HostDisk>>,
    /// To be appended, and of which role.
    unsynced: Vec<(Zxid, Bytes)>,
    unsynced_in: Generation,
    /// For the core, handed over at the end of the turn.
    completions: Vec<Input>,
    /// Threads that write snapshots.
    beside: Vec<JoinHandle<()>>,
    searches: Searches,
    /// Those threads are waited for.
    is_ending: Arc<AtomicBool>,
}

impl DiskThread<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        while let Some(jobs) = self.queue.take(self.shared) {
            for job in jobs {
                if self.do_job(job)?.is_none() {
                    return Ok(());
                }
            }
            if self.sync()?.is_none() {
                return Ok(());
            }
            self.hand_over();
            if self.queue.is_empty() && self.pass(Storage::idle)?.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Does `operation` unless the gate is shut, which is `None`.
    fn pass<T>(
        &mut self,
        operation: impl FnOnce(&mut Storage<HostDisk>) -> Result<T, StorageError>,
    ) -> Result<Option<T>, Failure> {
        let Some(storage) = &mut self.storage else {
            return Ok(None);
        };
        Ok(self.shared.pass_disk(|| operation(storage)).transpose()?)
    }

    /// `None`: the thread ends.
    fn do_job(&mut self, job: Job) -> Result<Option<()>, Failure> {
        match job {
            Job::Op(DiskOp::Append { generation, proposals }) => {
                if generation != self.unsynced_in && self.sync()?.is_none() {
                    return Ok(None);
                }
                self.unsynced_in = generation;
                self.unsynced.extend(proposals.into_iter().map(|proposal| (proposal.zxid(), proposal.bytes)));
                return Ok(Some(()));
            }
            _ if self.sync()?.is_none() => return Ok(None),
            Job::Op(DiskOp::Drain { generation }) => self.completions.push(Input::Drained { generation }),
            Job::Op(DiskOp::SaveAcceptedEpoch { generation, epoch }) => {
                let saved = self.pass(|storage| storage.save_accepted_epoch(epoch))?;
                self.complete(saved, Input::AcceptedEpochSaved { generation, epoch });
            }
            Job::Op(DiskOp::SaveCurrentEpoch { generation, epoch }) => {
                let saved = self.pass(|storage| storage.save_current_epoch(epoch))?;
                self.complete(saved, Input::CurrentEpochSaved { generation, epoch });
            }
            Job::Op(DiskOp::Truncate { generation, to }) => return self.truncate(generation, to),
            Job::Op(DiskOp::Reload { generation }) => return self.reload(generation),
            Job::Op(DiskOp::SearchLog { generation, link, peer, up_to, size_factor }) => {
                return self.search_log(generation, link, peer, up_to, size_factor);
            }
            Job::Op(DiskOp::TakeSnapshot { .. }) => unreachable!("the core makes a Job::Snapshot of it"),
            Job::Snapshot { generation, zxid, install: true, keeps, chunks } => {
                return self.install(generation, zxid, keeps, chunks);
            }
            Job::Snapshot { generation, zxid, install: false, chunks, .. } => {
                return self.begin_snapshot(generation, zxid, chunks);
            }
            Job::Purge => {
                let Some(Purged { removed, failed }) = self.pass(Storage::purge)? else { return Ok(None) };
                removed.iter().for_each(|path| tracing::info!("Removing file: {}", path.display()));
                failed.iter().for_each(|error| tracing::warn!("{error}; it is tried again after the next snapshot"));
            }
            Job::Close => {
                self.is_ending.store(true, Ordering::Relaxed);
                if let Some(storage) = self.storage.take() {
                    self.shared.pass_disk(|| storage.close()).transpose()?;
                }
                return Ok(None);
            }
        }
        Ok((!self.shared.gate.is_shut()).then_some(()))
    }

    fn complete(&mut self, done: Option<()>, input: Input) {
        if done.is_some() {
            self.completions.push(input);
        }
    }

    /// Appends and syncs what was collected, whatever it is: one write, one sync, one completion.
    fn sync(&mut self) -> Result<Option<()>, Failure> {
        let Some(&(up_to, _)) = self.unsynced.last() else {
            return Ok(Some(()));
        };
        let txns = std::mem::take(&mut self.unsynced);
        if self.pass(|storage| storage.append(&txns))?.is_none() {
            return Ok(None);
        }
        let began = Instant::now();
        if self.pass(Storage::sync)?.is_none() {
            return Ok(None);
        }
        let took_ms = began.elapsed().as_millis() as u64;
        self.shared.metrics.fsync.add(took_ms);
        self.shared.metrics.batch.add(txns.len() as u64);
        if took_ms > u64::from(self.shared.config.fsync_warning_ms) {
            let bytes = self.storage.as_ref().map_or(0, |storage| storage.since_roll().1);
            tracing::warn!(
                "fsync-ing the write ahead log in SyncThread took {took_ms}ms which will adversely effect operation \
                 latency. File size is {bytes} bytes. See the ZooKeeper troubleshooting guide"
            );
        }
        self.unsynced = txns;
        self.unsynced.clear();
        self.completions.push(Input::Flushed { generation: self.unsynced_in, up_to });
        Ok(Some(()))
    }

    fn hand_over(&mut self) {
        if !self.completions.is_empty() {
            let _ = self.shared.events.send(Event::Inputs(std::mem::take(&mut self.completions)));
        }
    }

    fn truncate(&mut self, generation: Generation, to: Zxid) -> Result<Option<()>, Failure> {
        match self.pass(|storage| storage.truncate(to))? {
            None => return Ok(None),
            Some(Truncated::To { .. }) => {}
            Some(Truncated::NoBase) => {
                // As a server that has nothing: it casts no vote, and the leader sends it a snapshot.
                tracing::warn!("no snapshot here is as old as {to}: asking the leader for its whole tree");
                let loaded = Box::new(self.loading().finish(Zxid::NONE));
                self.completions.push(Input::Truncated { generation, loaded });
                return Ok(Some(()));
            }
        }
        self.reload(generation)
    }

    /// What snapshot and log make now.
    fn reload(&mut self, generation: Generation) -> Result<Option<()>, Failure> {
        let mut loading = self.loading();
        let Some(recovered) = self.pass(|storage| storage.reload(&mut loading))? else {
            return Ok(None);
        };
        let loaded = Box::new(loading.finish(recovered.last_zxid));
        self.completions.push(Input::Truncated { generation, loaded });
        Ok(Some(()))
    }

    fn loading(&self) -> Loading {
        Loading::new(self.shared.config.quorum.catch_up.recent_max)
    }

    /// The leader's snapshot replaces all that is here.
    fn install(
        &mut self,
        generation: Generation,
        zxid: Zxid,
        keeps: bool,
        mut chunks: DatabaseChunks,
    ) -> Result<Option<()>, Failure> {
        let Some(mut writer) = self.pass(|storage| storage.begin_snapshot(zxid))? else {
            return Ok(None);
        };
        writer.hurry();
        let digest = chunks.digest;
        match write_body(self.shared, &mut writer, &mut chunks, None)? {
            Body::Written => {}
            // The role that asked has ended, and another history is being installed.
            Body::Gone => {
                writer.abort();
                return Ok(Some(()));
            }
            Body::Killed => return Ok(None),
        }
        drop(chunks);
        let installed = match keeps {
            true => self.pass(|storage| storage.install_snapshot_and_keep(writer, digest))?,
            false => self.pass(|storage| storage.install_snapshot(writer, digest))?,
        };
        if keeps && installed.is_some() {
            tracing::warn!(
                "the snapshots and logs that the leader's snapshot {zxid} replaces are kept: zabkit.diverged.*"
            );
        }
        self.complete(installed, Input::SnapshotSaved { generation, zxid, install: true });
        Ok(installed)
    }

    /// Lets another thread look for a learner in the log.
    fn search_log(
        &mut self,
        generation: Generation,
        link: LinkId,
        peer: Zxid,
        up_to: Zxid,
        size_factor: f64,
    ) -> Result<Option<()>, Failure> {
        let Some(storage) = &self.storage else { return Ok(None) };
        let (shared, files) = (self.shared.clone(), storage.log_files());
        let search = move || {
            let _entered = shared.enter();
            let place = log_reading::search(&shared, &files, peer, up_to, size_factor);
            let place = place.unwrap_or_else(|error| {
                tracing::warn!("the log cannot be read for a learner at {peer}: {error}");
                Some(LogPlace::Unknown("it cannot be read"))
            });
            if let Some(place) = place {
                shared.input(Input::LogSearched { generation, link, place });
            }
        };
        match self.searches.add(Box::new(search)) {
            Ok(true) => {}
            Ok(false) => {
                let place = LogPlace::Unknown("too many learners are being looked for in it");
                self.completions.push(Input::LogSearched { generation, link, place });
            }
            Err(error) => {
                let reason = format!("a thread to read the log cannot be made: {error}");
                return Err(Failure { code: EXIT_UNEXPECTED, reason });
            }
        }
        Ok(Some(()))
    }

    /// Rolls the log and lets another thread write the snapshot.
    fn begin_snapshot(
        &mut self,
        generation: Generation,
        zxid: Zxid,
        mut chunks: DatabaseChunks,
    ) -> Result<Option<()>, Failure> {
        self.beside.retain(|thread| !thread.is_finished());
        let begun = self.pass(|storage| {
            storage.roll()?;
            Ok(storage.begin_snapshot(zxid))
        })?;
        let writer = match begun {
            None => return Ok(None),
            Some(Ok(writer)) => writer,
            Some(Err(error)) => {
                give_up(&error);
                finished(self.shared, self.queue, generation, zxid, false);
                return Ok(Some(()));
            }
        };
        let (shared, queue, is_ending) = (self.shared.clone(), self.queue.clone(), self.is_ending.clone());
        let thread = std::thread::Builder::new().name("Snapshot Thread".to_owned()).spawn(move || {
            let _entered = shared.enter();
            let end = catch_unwind(AssertUnwindSafe(|| write_snapshot(&shared, writer, &mut chunks, &is_ending)));
            drop(chunks);
            let failure = match end {
                Ok(Ok(true)) => return finished(&shared, &queue, generation, zxid, true),
                Ok(Ok(false)) => return finished(&shared, &queue, generation, zxid, false),
                Ok(Err(error)) => {
                    give_up(&error);
                    return finished(&shared, &queue, generation, zxid, false);
                }
                Err(panic) => format!("the snapshot thread has panicked: {}", panic_text(&*panic)),
            };
            let _ = shared.events.send(Event::Fail { code: EXIT_SNAPSHOT, reason: failure });
        });
        let thread = thread.map_err(|error| Failure {
            code: EXIT_SNAPSHOT,
            reason: format!("a thread for the snapshot cannot be made: {error}"),
        })?;
        self.beside.push(thread);
        Ok(Some(()))
    }
}

/// A periodic snapshot that cannot be written costs nothing but a longer replay: the log has it all.
fn give_up(error: &StorageError) {
    tracing::error!("no snapshot was taken, the next one is tried after as many transactions again: {error}");
}

/// Tells the core that the snapshot is there or given up; if it is there, others may be superfluous.
fn finished(shared: &Shared, queue: &DiskQueue, generation: Generation, zxid: Zxid, is_saved: bool) {
    if is_saved && shared.config.retain_snapshots > 0 {
        queue.push(&mut vec![Job::Purge]);
    }
    shared.input(Input::SnapshotSaved { generation, zxid, install: false });
}

/// Writes a periodic snapshot; false: given up, because the history was replaced or the server is killed.
fn write_snapshot(
    shared: &Shared,
    mut writer: SnapshotWriter<HostDisk>,
    chunks: &mut DatabaseChunks,
    is_ending: &AtomicBool,
) -> Result<bool, StorageError> {
    let began = Instant::now();
    let zxid = writer.zxid();
    match write_body(shared, &mut writer, chunks, Some(is_ending)) {
        Ok(Body::Written) => {}
        Ok(Body::Killed) => return Ok(false),
        Ok(Body::Gone) => {
            writer.abort();
            return Ok(false);
        }
        Err(error) => {
            writer.abort();
            return Err(error);
        }
    }
    match shared.pass_disk(|| writer.finish(chunks.digest)) {
        None | Some(Err(StorageError::Superseded { .. })) => Ok(false),
        Some(Err(error)) => Err(error),
        Some(Ok(path)) => {
            let took_ms = began.elapsed().as_millis() as u64;
            shared.metrics.snapshot.add(took_ms);
            tracing::info!("Snapshotting: {zxid} to {}", path.display());
            tracing::info!("Snapshot taken in {took_ms} ms");
            Ok(true)
        }
    }
}

enum Body {
    Written,
    /// The tree was replaced.
    Gone,
    Killed,
}

/// Writes the database's chunks, each in a short hold of its lock. Paced unless the server `is_ending`, or a role waits
/// for it (`None`).
fn write_body(
    shared: &Shared,
    writer: &mut SnapshotWriter<HostDisk>,
    chunks: &mut DatabaseChunks,
    is_ending: Option<&AtomicBool>,
) -> Result<Body, StorageError> {
    let mut bytes = Vec::with_capacity(CHUNK_BYTES + (CHUNK_BYTES >> 2));
    loop {
        bytes.clear();
        let began = Instant::now();
        let chunk = chunks.next_chunk(CHUNK_BYTES, &mut bytes);
        if chunk == Chunk::Gone {
            return Ok(Body::Gone);
        }
        match shared.pass_disk(|| writer.write(&bytes)) {
            None => return Ok(Body::Killed),
            Some(result) => result?,
        }
        if chunk == Chunk::Last {
            return Ok(Body::Written);
        }
        if is_ending.is_some_and(|is_ending| !is_ending.load(Ordering::Relaxed)) {
            std::thread::sleep((began.elapsed() * PAUSES).min(PAUSE_MAX));
        }
    }
}

/// Writes the first snapshot of a directory that needs one before its log; at the start, without threads.
pub fn write_first_snapshot(
    storage: &Storage<HostDisk>,
    db: &mut crate::peer::Database,
    zxid: Zxid,
) -> Result<(), StorageError> {
    let mut writer = storage.begin_snapshot(zxid)?;
    let digest = Some((Zxid::ZERO, db.tree().digest()));
    let cursor = db.begin_snapshot().expect("no other snapshot is under way at the start");
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let is_last = db.next_chunk(cursor, CHUNK_BYTES, &mut bytes);
        if let Err(error) = writer.write(&bytes) {
            writer.abort();
            return Err(error);
        }
        if is_last {
            break;
        }
    }
    db.end_snapshot(cursor);
    writer.finish(digest).map(|_| ())
}
