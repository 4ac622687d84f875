//! A server's disk work: one piece after the other, each taking its time, with one sync for all appends that wait.
//!
//! A piece changes the disk when its time is over (what is appended, when it begins), so that a crash in between finds
//! it not done. The periodic snapshot is written beside, chunk by chunk, while the server goes on.

use super::config_files;
use super::disk::SimDisk;
use super::planted::Planted;
use super::server::{ServerEvent, ServerSetup};
use super::world::{Ctx, Machine};
use crate::peer::io::{DiskOp, Generation, Input, Loaded, LogPlace, Members};
use crate::peer::{Database, DirectoryLoader};
use crate::records::{Epoch, ServerId, SnapshotItem, Txn, Zxid};
use crate::storage::{LogFiles, Recovered, RecoverySink, SnapshotDigest, SnapshotWriter, Storage, Truncated};
use crate::tree::CursorId;
use crate::zab::LogWalk;
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};

/// The disk of a running server.
pub struct DiskQueue {
    disk: SimDisk,
    storage: Storage<SimDisk>,
    queue: VecDeque<Job>,
    running: Option<Running>,
    /// The periodic snapshot under way.
    snapshot: Option<Writing>,
    planted: Option<Planted>,
    sync_micros: u64,
    chunk_bytes: usize,
    chunk_micros: u64,
}

/// A piece of work, with the cursor of the snapshot that it is to write.
struct Job {
    op: DiskOp,
    cursor: Option<(CursorId, i64)>,
}

enum Running {
    /// Appended; the sync is under way. To be answered then.
    Sync(Vec<(Generation, Zxid)>),
    Job(Job),
    /// A leader's snapshot is being written, chunk by chunk.
    Install(Box<Writing>),
}

struct Writing {
    generation: Generation,
    zxid: Zxid,
    digest: i64,
    cursor: CursorId,
    writer: SnapshotWriter<SimDisk>,
    /// Something was appended or applied since it began.
    interleaved: bool,
}

/// A directory, opened.
pub struct Recovery {
    pub queue: DiskQueue,
    pub loaded: Loaded,
    pub recovered: Recovered,
}

type Outcome<T = ()> = Result<T, String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl DiskQueue {
    pub fn open(machine: &Machine, setup: &ServerSetup, ctx: &mut Ctx) -> Outcome<Recovery> {
        let mut sink = Sink::default();
        let opened = Storage::open(machine.disk.clone(), setup.storage.clone(), &mut sink);
        let (storage, recovered) = opened.map_err(text)?;
        for repair in &recovered.repaired {
            ctx.trace.line(|| format!("server {}: {repair:?}", machine.id));
        }
        ctx.counts.on_repairs(&recovered.repaired);
        ctx.checkers.on_recovered(machine.id, recovered.snapshot_zxid.unwrap_or_default(), &sink.logged);
        let loaded = sink.finish(recovered.last_zxid)?;
        let queue = DiskQueue {
            disk: machine.disk.clone(),
            storage,
            queue: VecDeque::new(),
            running: None,
            snapshot: None,
            planted: setup.planted,
            sync_micros: setup.sync_micros,
            chunk_bytes: setup.chunk_bytes,
            chunk_micros: setup.chunk_micros,
        };
        Ok(Recovery { queue, loaded, recovered })
    }

    /// A fresh directory needs a snapshot before its log.
    pub fn first_snapshot(&mut self, db: &mut Database, needed: bool) -> Outcome {
        if !needed {
            return Ok(());
        }
        let zxid = db.last_processed();
        let mut writer = self.storage.begin_snapshot(zxid).map_err(text)?;
        let cursor = db.begin_snapshot().ok_or("no cursor is free")?;
        let mut bytes = Vec::new();
        while !db.next_chunk(cursor, 1 << 20, &mut bytes) {}
        db.end_snapshot(cursor);
        writer.write(&bytes).map_err(text)?;
        writer.finish(None).map(drop).map_err(text)
    }

    pub fn log_files(&self) -> LogFiles<SimDisk> {
        self.storage.log_files()
    }

    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// How long until the next chunk of a snapshot.
    pub fn chunk_time(&self, ctx: &mut Ctx) -> u64 {
        ctx.rng.about(if ctx.healed { 1 } else { self.chunk_micros })
    }

    pub fn snapshots_under_way(&self) -> u64 {
        u64::from(self.snapshot.is_some()) + u64::from(matches!(self.running, Some(Running::Install(_))))
    }

    pub fn is_power_cut(&self) -> bool {
        self.disk.power_is_cut()
    }

    /// Takes work; a snapshot is as of now, so its cursor begins here.
    pub fn enqueue(&mut self, op: DiskOp, db: &mut Database, inbox: &mut VecDeque<Input>, ctx: &mut Ctx) -> Outcome {
        if self.planted == Some(Planted::EpochBeforeHistory) {
            match op {
                // "The history is on disk", while it is on its way; and then the epoch first.
                DiskOp::Drain { generation } => {
                    inbox.push_back(Input::Drained { generation });
                    return Ok(());
                }
                DiskOp::SaveCurrentEpoch { generation, epoch } => {
                    self.save_current(epoch)?;
                    inbox.push_back(Input::CurrentEpochSaved { generation, epoch });
                    return Ok(());
                }
                _ => {}
            }
        }
        let mut cursor = None;
        if let DiskOp::TakeSnapshot { zxid, .. } = op {
            let at = db.last_processed();
            if at != zxid {
                ctx.checkers.fail(|| format!("a snapshot of {zxid} is asked for, but the database is at {at}"));
            }
            let digest = db.tree().digest();
            cursor = db.begin_snapshot().map(|cursor| (cursor, digest));
        }
        self.queue.push_back(Job { op, cursor });
        Ok(())
    }

    /// Begins the next piece, if the disk is idle; what to ask for.
    pub fn run(
        &mut self,
        id: ServerId,
        inbox: &mut VecDeque<Input>,
        ctx: &mut Ctx,
    ) -> Outcome<Vec<(u64, ServerEvent)>> {
        let mut asked = Vec::new();
        while self.running.is_none()
            && let Some(job) = self.queue.pop_front()
        {
            ctx.checkers.on_disk_begins(id, &job.op);
            if !matches!(job.op, DiskOp::Append { .. } | DiskOp::Drain { .. })
                && let Some(operations) = ctx.disk_kill_point()
            {
                self.disk.cut_power_after(operations);
            }
            let after = match job.op {
                DiskOp::Append { generation, proposals } => {
                    let mut covered = Vec::new();
                    self.append(generation, &proposals, &mut covered)?;
                    while let Some(Job { op: DiskOp::Append { .. }, .. }) = self.queue.front() {
                        let Some(job) = self.queue.pop_front() else { break };
                        ctx.checkers.on_disk_begins(id, &job.op);
                        if let DiskOp::Append { generation, proposals } = job.op {
                            self.append(generation, &proposals, &mut covered)?;
                        }
                    }
                    if self.planted == Some(Planted::AckBeforeSync) {
                        answer_flushed(&covered, inbox);
                    }
                    self.running = Some(Running::Sync(covered));
                    self.sync_time(ctx)
                }
                DiskOp::TakeSnapshot { generation, zxid, install: false, .. } => {
                    self.storage.roll().map_err(text)?;
                    if let Some((cursor, digest)) = job.cursor {
                        let writer = self.storage.begin_snapshot(zxid).map_err(text)?;
                        let writing = Writing { generation, zxid, digest, cursor, writer, interleaved: false };
                        self.snapshot = Some(writing);
                        asked.push((1 + self.chunk_time(ctx), ServerEvent::Snapshot));
                    } else {
                        inbox.push_back(Input::SnapshotSaved { generation, zxid, install: false });
                    }
                    continue;
                }
                DiskOp::TakeSnapshot { generation, zxid, install: true, .. } => {
                    let writer = self.storage.begin_snapshot(zxid).map_err(text)?;
                    let (cursor, digest) = job.cursor.ok_or("no cursor for an install")?;
                    let writing = Writing { generation, zxid, digest, cursor, writer, interleaved: false };
                    self.running = Some(Running::Install(Box::new(writing)));
                    self.chunk_time(ctx)
                }
                DiskOp::Drain { .. } => {
                    self.running = Some(Running::Job(job));
                    0
                }
                _ => {
                    self.running = Some(Running::Job(job));
                    self.sync_time(ctx)
                }
            };
            asked.push((1 + after, ServerEvent::Disk));
        }
        Ok(asked)
    }

    fn sync_time(&self, ctx: &mut Ctx) -> u64 {
        ctx.rng.about(self.sync_micros * ctx.slow_disk)
    }

    fn append(
        &mut self,
        generation: Generation,
        proposals: &[crate::peer::io::Proposal],
        covered: &mut Vec<(Generation, Zxid)>,
    ) -> Outcome {
        let txns: Vec<(Zxid, Bytes)> = proposals.iter().map(|each| (each.zxid(), each.bytes.clone())).collect();
        self.storage.append(&txns).map_err(text)?;
        if let Some((zxid, _)) = txns.last() {
            covered.push((generation, *zxid));
        }
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.interleaved = true;
        }
        Ok(())
    }

    /// The running piece is done, or its next part; when to come back for another.
    pub fn on_done(
        &mut self,
        db: &mut Database,
        id: ServerId,
        inbox: &mut VecDeque<Input>,
        ctx: &mut Ctx,
    ) -> Outcome<Option<u64>> {
        match self.running.take() {
            None => {}
            Some(Running::Sync(covered)) => {
                self.storage.sync().map_err(text)?;
                if self.planted != Some(Planted::AckBeforeSync) {
                    answer_flushed(&covered, inbox);
                }
                if self.queue.is_empty() {
                    self.storage.idle().map_err(text)?;
                }
            }
            Some(Running::Job(job)) => self.finish(job.op, id, inbox, ctx)?,
            Some(Running::Install(mut writing)) => {
                if !write_chunk(&mut writing, db, self.chunk_bytes)? {
                    self.running = Some(Running::Install(writing));
                    return Ok(Some(1 + self.chunk_time(ctx)));
                }
                let Writing { generation, zxid, digest, writer, .. } = *writing;
                self.storage.install_snapshot(writer, Some((zxid, digest))).map_err(text)?;
                ctx.checkers.on_installed(id);
                inbox.push_back(Input::SnapshotSaved { generation, zxid, install: true });
            }
        }
        Ok(None)
    }

    fn finish(&mut self, op: DiskOp, id: ServerId, inbox: &mut VecDeque<Input>, ctx: &mut Ctx) -> Outcome {
        match op {
            DiskOp::Drain { generation } => inbox.push_back(Input::Drained { generation }),
            DiskOp::SaveAcceptedEpoch { generation, epoch } => {
                self.storage.save_accepted_epoch(epoch).map_err(text)?;
                inbox.push_back(Input::AcceptedEpochSaved { generation, epoch });
            }
            DiskOp::SaveCurrentEpoch { generation, epoch } => {
                self.save_current(epoch)?;
                inbox.push_back(Input::CurrentEpochSaved { generation, epoch });
            }
            DiskOp::Truncate { generation, to } => {
                let (loaded, cut) = self.truncate(to)?;
                if cut {
                    ctx.checkers.on_truncated(id, to);
                }
                inbox.push_back(Input::Truncated { generation, loaded: Box::new(loaded) });
            }
            DiskOp::Reload { generation } => {
                let mut sink = Sink::default();
                let recovered = self.storage.reload(&mut sink).map_err(text)?;
                let loaded = Box::new(sink.finish(recovered.last_zxid)?);
                inbox.push_back(Input::Truncated { generation, loaded });
            }
            DiskOp::SearchLog { generation, link, peer, up_to, size_factor } => {
                let place = search_log(&self.storage.log_files(), peer, up_to, size_factor)?;
                ctx.counts.on_log_searched(place);
                inbox.push_back(Input::LogSearched { generation, link, place });
            }
            DiskOp::Append { .. } | DiskOp::TakeSnapshot { .. } => unreachable!("these have states of their own"),
        }
        Ok(())
    }

    /// Keeps the ensemble's list, at once.
    pub fn keep_list(&mut self, members: &Members, ctx: &mut Ctx) -> Outcome {
        if let Some(operations) = ctx.disk_kill_point() {
            self.disk.cut_power_after(operations);
        }
        config_files::save(&self.disk, members).map_err(text)
    }

    fn save_current(&mut self, epoch: Epoch) -> Outcome {
        self.storage.save_current_epoch(epoch).map_err(text)
    }

    /// What is left, and whether anything was cut: without a snapshot to go back to, the disk stays as it is.
    fn truncate(&mut self, to: Zxid) -> Outcome<(Loaded, bool)> {
        let mut sink = Sink::default();
        if self.planted == Some(Planted::TruncSkipped) {
            sink.until = Some(to);
            self.storage.reload(&mut sink).map_err(text)?;
            return Ok((sink.finish(to)?, true));
        }
        match self.storage.truncate(to).map_err(text)? {
            Truncated::To { .. } => {
                let recovered = self.storage.reload(&mut sink).map_err(text)?;
                Ok((sink.finish(recovered.last_zxid)?, true))
            }
            // Nothing to go back to: as a server that has nothing.
            Truncated::NoBase => Ok((Sink::default().finish(Zxid::NONE)?, false)),
        }
    }

    /// The next chunk of the periodic snapshot.
    pub fn on_snapshot_chunk(
        &mut self,
        db: &mut Database,
        inbox: &mut VecDeque<Input>,
        ctx: &mut Ctx,
    ) -> Outcome<Option<u64>> {
        let Some(mut writing) = self.snapshot.take() else {
            return Ok(None);
        };
        if !write_chunk(&mut writing, db, self.chunk_bytes)? {
            self.snapshot = Some(writing);
            return Ok(Some(1 + self.chunk_time(ctx)));
        }
        let Writing { generation, zxid, digest, writer, interleaved, .. } = writing;
        match writer.finish(Some((zxid, digest))) {
            Ok(_) => {
                ctx.counts.snapshots += 1;
                ctx.counts.snapshots_interleaved += u64::from(interleaved);
                self.storage.purge().map_err(text)?;
            }
            Err(crate::storage::StorageError::Superseded { .. }) => ctx.counts.snapshots_interrupted += 1,
            Err(error) => return Err(text(error)),
        }
        inbox.push_back(Input::SnapshotSaved { generation, zxid, install: false });
        Ok(None)
    }

    /// Gives up the periodic snapshot: the tree that it walks is about to go.
    pub fn abort_snapshot(&mut self, db: &mut Database, inbox: &mut VecDeque<Input>, ctx: &mut Ctx) {
        if let Some(Writing { generation, zxid, cursor, writer, .. }) = self.snapshot.take() {
            db.end_snapshot(cursor);
            writer.abort();
            ctx.counts.snapshots_interrupted += 1;
            inbox.push_back(Input::SnapshotSaved { generation, zxid, install: false });
        }
        let is_periodic = |job: &Job| matches!(job.op, DiskOp::TakeSnapshot { install: false, .. });
        for job in self.queue.iter_mut().filter(|job| is_periodic(job)) {
            if let Some((cursor, _)) = job.cursor.take() {
                db.end_snapshot(cursor);
            }
        }
        assert!(!matches!(self.running, Some(Running::Install(_))), "the tree is replaced while it is installed");
    }
}

/// Where a learner at `peer` stands in the log.
fn search_log(files: &LogFiles<SimDisk>, peer: Zxid, up_to: Zxid, size_factor: f64) -> Outcome<LogPlace> {
    if !files.is_small(peer, size_factor).map_err(text)? {
        return Ok(LogPlace::Unknown("it is too large"));
    }
    let mut walk = LogWalk::new(peer, up_to);
    files.visit(peer, |zxid, is_replayed| walk.step(zxid, is_replayed)).map_err(text)?;
    Ok(walk.finish())
}

/// Writes the next chunk; whether that was the last.
fn write_chunk(writing: &mut Writing, db: &mut Database, max_bytes: usize) -> Outcome<bool> {
    let mut bytes = Vec::new();
    let done = db.next_chunk(writing.cursor, max_bytes, &mut bytes);
    if done {
        db.end_snapshot(writing.cursor);
    }
    writing.writer.write(&bytes).map_err(text)?;
    Ok(done)
}

/// One answer for each generation.
fn answer_flushed(covered: &[(Generation, Zxid)], inbox: &mut VecDeque<Input>) {
    for (index, &(generation, up_to)) in covered.iter().enumerate() {
        if covered.get(index + 1).is_none_or(|(next, _)| *next != generation) {
            inbox.push_back(Input::Flushed { generation, up_to });
        }
    }
}

/// Loads a directory, and notes what was in its log.
#[derive(Default)]
struct Sink {
    loader: DirectoryLoader,
    logged: BTreeSet<Zxid>,
    /// Forget what is behind (a planted bug).
    until: Option<Zxid>,
}

impl Sink {
    fn finish(self, last: Zxid) -> Outcome<Loaded> {
        if let Some(zxid) = self.loader.digest_mismatches().first() {
            return Err(format!("the digest of {zxid} is not that of the tree that was loaded"));
        }
        Ok(self.loader.finish(last))
    }
}

impl RecoverySink for Sink {
    fn begin(&mut self) {
        self.loader.begin();
        self.logged.clear();
    }

    fn item(&mut self, item: SnapshotItem) -> Result<(), String> {
        self.loader.item(item).map_err(text)
    }

    fn snapshot_done(&mut self, _: Zxid, _: SnapshotDigest) -> Result<(), String> {
        Ok(())
    }

    fn txn(&mut self, txn: Txn, bytes: Bytes) -> Result<(), String> {
        if self.until.is_none_or(|until| txn.zxid <= until) {
            self.logged.insert(txn.zxid);
            self.loader.txn(txn, bytes);
        }
        Ok(())
    }
}
