//! Reading the log for a learner that is older than what is in memory: to find where it stands, and to send what it
//! lacks. Each on a thread of its own, so that neither the disk thread's appends nor the core wait for the disk.
//!
//! What is read and not sent yet is bounded: [`CHUNKS_MAX`] chunks, and the reader's own buffer.
//!
//! ZooKeeper: `LearnerHandler.syncFollower`, which holds the whole of it in memory.

use super::disk_faults::HostDisk;
use super::links::{Chunk, ChunkSource, Wake};
use super::shared::Shared;
use crate::peer::io::LogPlace;
use crate::records::{QuorumPacket, Zxid};
use crate::storage::{LogFiles, StorageError};
use crate::zab::LogWalk;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// Chunks that wait for the socket.
const CHUNKS_MAX: usize = 2;
/// Bytes of a chunk, unless one transaction is longer.
const CHUNK_BYTES: usize = 64 << 10;
/// Between two looks whether the server has been killed.
const RECORDS_AT_A_TIME: u32 = 1024;

/// Where a learner at `peer` stands in the log; `None`: the server is killed.
pub fn search(
    shared: &Shared,
    files: &LogFiles<HostDisk>,
    peer: Zxid,
    up_to: Zxid,
    size_factor: f64,
) -> Result<Option<LogPlace>, StorageError> {
    if !files.is_small(peer, size_factor)? {
        return Ok(Some(LogPlace::Unknown("it is too large beside the newest snapshot")));
    }
    let mut walk = LogWalk::new(peer, up_to);
    let mut count = 0u32;
    files.visit(peer, |zxid, is_replayed| {
        count = count.wrapping_add(1);
        let is_killed = count.is_multiple_of(RECORDS_AT_A_TIME) && shared.gate.is_shut();
        walk.step(zxid, is_replayed) && !is_killed
    })?;
    Ok((!shared.gate.is_shut()).then(|| walk.finish()))
}

/// PROPOSAL and COMMIT of a part of the log, as a thread reads it.
pub struct LogChunks {
    chunks: Receiver<Read>,
}

enum Read {
    Chunk(Vec<u8>),
    /// All has been read.
    End,
}

impl LogChunks {
    /// Begins to read what is after `after` and not beyond `up_to`.
    pub fn begin(shared: &Arc<Shared>, after: Zxid, up_to: Zxid, wake: Wake) -> LogChunks {
        let (sender, chunks) = sync_channel(CHUNKS_MAX);
        let reading = Reading { shared: shared.clone(), sender, wake };
        let thread = std::thread::Builder::new().name("Log Reader".to_owned()).spawn(move || {
            let shared = reading.shared.clone();
            let _entered = shared.enter();
            // Without an end, the link ends.
            if let Err(error) = reading.read(after, up_to) {
                tracing::warn!("a learner cannot be sent the log from {after} to {up_to}: {error}");
            }
            let Reading { sender, wake, .. } = reading;
            drop(sender);
            wake.wake();
        });
        if let Err(error) = thread {
            tracing::warn!("a thread to read the log cannot be made: {error}");
        }
        LogChunks { chunks }
    }
}

struct Reading {
    shared: Arc<Shared>,
    sender: SyncSender<Read>,
    wake: Wake,
}

impl Reading {
    /// Also done when nobody listens any more: the link is gone, or the server killed.
    fn read(&self, after: Zxid, up_to: Zxid) -> Result<(), StorageError> {
        let mut reader = self.shared.log_files.read_from(Zxid(after.0 + 1))?;
        let (mut chunk, mut last) = (Vec::with_capacity(CHUNK_BYTES), after);
        while last < up_to {
            let Some((record, _)) = reader.next_record()? else {
                tracing::warn!("the log ends at {last}, where a learner is to be sent it up to {up_to}");
                return Ok(());
            };
            if record.zxid <= last {
                continue; // It comes again.
            }
            last = record.zxid;
            write_pair(last, record.bytes, &mut chunk);
            if chunk.len() >= CHUNK_BYTES && !self.hand_over(Read::Chunk(std::mem::take(&mut chunk))) {
                return Ok(());
            }
        }
        if self.hand_over(Read::Chunk(chunk)) {
            self.hand_over(Read::End);
        }
        Ok(())
    }

    /// False: nobody wants it any more.
    fn hand_over(&self, read: Read) -> bool {
        let is_wanted = !self.shared.gate.is_shut() && self.sender.send(read).is_ok();
        self.wake.wake();
        is_wanted
    }
}

fn write_pair(zxid: Zxid, txn: Bytes, out: &mut Vec<u8>) {
    QuorumPacket::Proposal { zxid, txn }.write(out);
    QuorumPacket::Commit { zxid }.write(out);
}

impl ChunkSource for LogChunks {
    fn next_chunk(&mut self, _: usize, out: &mut Vec<u8>) -> Chunk {
        match self.chunks.try_recv() {
            Ok(Read::Chunk(bytes)) => {
                out.extend_from_slice(&bytes);
                Chunk::More
            }
            Ok(Read::End) => Chunk::Last,
            Err(TryRecvError::Empty) => Chunk::Later,
            Err(TryRecvError::Disconnected) => Chunk::Gone,
        }
    }
}
