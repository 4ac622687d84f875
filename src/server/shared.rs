//! What the threads of one server share: the database behind its lock, the clock, the way to the core, the counters.

use super::Config;
use super::connections::Connections;
use super::disk_faults::HostDisk;
use super::gate::Gate;
use super::injuries::Injuries;
use super::limits::Limits;
use super::links::{Chunk, ChunkSource};
use super::log::{self, Owner};
use super::pause::Pause;
use super::places::Resolved;
use super::status::{Exit, Role};
use crate::peer::io::{Input, Now};
use crate::peer::{Database, PeerStatus};
use crate::records::Zxid;
use crate::storage::LogFiles;
use crate::storage::SnapshotDigest;
use crate::sync::{self, RwLock};
use crate::tree::CursorId;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// What the core's queue holds.
#[derive(Debug)]
pub enum Event {
    Input(Input),
    /// What one turn of the disk thread completed.
    Inputs(Vec<Input>),
    /// The server cannot go on.
    Fail {
        code: i32,
        reason: String,
    },
    /// Names of this server's own hosts were looked up.
    Resolved(Resolved),
    /// There is nothing to handle; a pause is asked for.
    Wake,
    /// Clean end: no connection is accepted, the log is flushed.
    Stop,
    /// End without doing anything more.
    Kill,
}

/// Shared by the threads of one server.
pub struct Shared {
    pub config: Config,
    pub db: RwLock<Database>,
    /// For learners that are older than what is in memory.
    pub log_files: LogFiles<HostDisk>,
    pub clock: Clock,
    pub gate: Arc<Gate>,
    pub events: mpsc::UnboundedSender<Event>,
    pub connections: Connections,
    pub limits: Limits,
    pub peer: Mutex<PeerStatus>,
    pub metrics: Metrics,
    /// For log lines: `myid`.
    pub span: tracing::Span,
    /// What an [`Ensemble`](super::Ensemble) can do to this server; `None` in production.
    pub injuries: Option<Injuries>,
    /// See [`Shared::write_down_end`].
    pub is_end_written: AtomicBool,
    /// Likewise only a member of such an ensemble is ever paused.
    pub pause: Pause,
    #[cfg(test)]
    pub late_forward: super::stress_tests::LateForward,
}

impl Shared {
    /// Hands an input to the core. After its end nobody hears it.
    pub fn input(&self, input: Input) {
        let _ = self.events.send(Event::Input(input));
    }

    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// As long as it lives, what this thread logs is said to be this server's.
    pub fn enter(&self) -> (tracing::span::EnteredSpan, log::Owned) {
        (self.span.clone().entered(), log::owned_by(self.owner()))
    }

    /// Writes down how the server has ended, once, if it is a member of such an ensemble.
    pub fn write_down_end(&self, exit: &Exit) {
        if let Some(injuries) = &self.injuries
            && !self.is_end_written.swap(true, Ordering::Relaxed)
        {
            let status = self.peer_status();
            injuries.end(Role::of(status.state, self.config.my_id), &status, exit);
        }
    }

    fn owner(&self) -> Option<Owner> {
        let Injuries { journal, id, .. } = self.injuries.as_ref()?;
        Some(Owner { journal: journal.clone(), server: *id })
    }

    /// Does `operation` of the disk, unless the server is killed, and not while it is paused.
    pub fn pass_disk<T>(&self, operation: impl FnOnce() -> T) -> Option<T> {
        self.pause.point_aside();
        self.gate.pass_disk(operation)
    }

    pub fn peer_status(&self) -> PeerStatus {
        *self.peer.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Begins a snapshot of the database as it is now; `None`: too many are under way.
    pub fn begin_snapshot(self: &Arc<Self>) -> Option<DatabaseChunks> {
        let mut db = sync::write(&self.db);
        let cursor = db.begin_snapshot()?;
        // Apache's server, told the zxid too, would wait for the record that the digest belongs to; behind an exact
        // snapshot that is never replayed, and it would compare none at all.
        let digest = Some((Zxid::ZERO, db.tree().digest()));
        let installs = db.installs();
        drop(db);
        Some(DatabaseChunks { shared: self.clone(), cursor, installs, digest })
    }
}

/// The time since the server's start, and the wall clock's.
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { micros: self.micros(), wall_ms: wall.as_millis() as i64 }
    }

    pub fn micros(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// The instant of a time of this clock, for timers.
    pub fn instant(&self, micros: u64) -> Instant {
        self.start + std::time::Duration::from_micros(micros)
    }
}

/// A snapshot of the database, made in chunks under the read lock.
pub struct DatabaseChunks {
    shared: Arc<Shared>,
    cursor: CursorId,
    /// Which of the database's trees it belongs to: how many had been installed.
    installs: u64,
    /// The tree's digest, for the snapshot file.
    pub digest: SnapshotDigest,
}

impl ChunkSource for DatabaseChunks {
    fn next_chunk(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> Chunk {
        let db = sync::read(&self.shared.db);
        if db.installs() != self.installs {
            return Chunk::Gone;
        }
        if db.next_chunk(self.cursor, bytes_max, out) { Chunk::Last } else { Chunk::More }
    }
}

impl Drop for DatabaseChunks {
    fn drop(&mut self) {
        // After a panic in a thread that held the lock there is no snapshot to end.
        if let Ok(mut db) = self.shared.db.write()
            && db.installs() == self.installs
        {
            db.end_snapshot(self.cursor);
        }
    }
}

/// Counters for `mntr` that are not the database's.
#[derive(Default)]
pub struct Metrics {
    pub bytes_received: AtomicU64,
    pub bytes_sent: AtomicU64,
    pub connection_rejected: AtomicU64,
    pub connection_requests: AtomicU64,
    pub sessionless_expired: AtomicU64,
    pub unsuccessful_handshake: AtomicU64,
    pub tls_handshake_exceeded: AtomicU64,
    pub large_requests_rejected: AtomicU64,
    pub throttled_waits: AtomicU64,
    pub stale_requests: AtomicU64,
    pub commits: AtomicU64,
    pub looking: AtomicU64,
    pub digest_mismatches: AtomicU64,
    pub snap_syncs: AtomicU64,
    pub diff_syncs: AtomicU64,
    pub fsync: Summary,
    pub snapshot: Summary,
    pub election: Summary,
    pub batch: Summary,
    pub proposals: Proposals,
    /// Of `gtmk` and `stmk`.
    pub trace_mask: TraceMask,
}

/// Nothing is traced; the mask is Apache's first one until another is set.
pub struct TraceMask(AtomicU64);

impl Default for TraceMask {
    fn default() -> TraceMask {
        TraceMask(AtomicU64::new(306))
    }
}

impl std::ops::Deref for TraceMask {
    type Target = AtomicU64;

    fn deref(&self) -> &AtomicU64 {
        &self.0
    }
}

/// Bytes of the proposals that this server has made as a leader: the last, the shortest, the longest.
pub struct Proposals {
    sizes: Mutex<ProposalSizes>,
}

/// All -1 before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProposalSizes {
    pub last: i64,
    pub min: i64,
    pub max: i64,
}

impl Default for Proposals {
    fn default() -> Proposals {
        Proposals { sizes: Mutex::new(ProposalSizes { last: -1, min: -1, max: -1 }) }
    }
}

impl Proposals {
    pub fn add(&self, bytes: usize) {
        let last = bytes as i64;
        let mut sizes = self.sizes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let min = if sizes.min < 0 { last } else { sizes.min.min(last) };
        *sizes = ProposalSizes { last, min, max: sizes.max.max(last) };
    }

    pub fn sizes(&self) -> ProposalSizes {
        *self.sizes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn reset(&self) {
        *self.sizes.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Proposals::default().sizes();
    }
}

/// Minimum, maximum, count and sum of something measured, in ms (or a count).
#[derive(Default)]
pub struct Summary {
    values: Mutex<SummaryValues>,
}

#[derive(Clone, Copy, Default)]
pub struct SummaryValues {
    pub min: u64,
    pub max: u64,
    pub count: u64,
    pub sum: u64,
}

impl Summary {
    pub fn add(&self, value: u64) {
        let mut values = self.values.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        values.min = if values.count == 0 { value } else { values.min.min(value) };
        values.max = values.max.max(value);
        values.count += 1;
        values.sum += value;
    }

    pub fn get(&self) -> SummaryValues {
        *self.values.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Adds to a counter.
pub fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
