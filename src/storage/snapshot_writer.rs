//! Writing a snapshot file, in the layout of 3.8, plain or packed: to a temporary name, synced, then renamed. A file
//! with a final name is complete.
//!
//! The writer is independent of [`Storage`](super::Storage) and may live on another thread, so that a large snapshot
//! never stands in the way of the log. One thing must not happen then: that a snapshot which was begun before a
//! truncation gets its name after it. So names are given under a lock that truncation takes too, and only while the
//! [`Era`] is still the one in which the snapshot was begun.
//!
//! ZooKeeper: `FileSnap.serialize`, `SnapStream.sealStream`.

use super::compression::Packer;
use super::disk::{Disk, DiskFile};
use super::error::StorageError;
use super::log_file::FORMAT_VERSION;
use super::names::{Compression, TMP_PREFIX, snapshot_name};
use super::snapshot::{SEAL_END, SNAPSHOT_MAGIC};
use crate::jute::Record;
use crate::records::{DIGEST_VERSION, Zxid};
use crate::sync::{Arc, Mutex, lock};
use std::io;
use std::path::PathBuf;

/// Bytes gathered before a write.
const BUFFER_LEN: usize = 256 << 10;
/// Bytes written before a sync in between, where this snapshot is waited for.
const SYNC_STEP_HURRIED: u64 = 16 << 20;

/// What the writers of one directory share with its storage; locked while files get or lose their names.
pub(super) type Era = Arc<Mutex<Count>>;

#[derive(Default)]
pub(super) struct Count {
    /// Truncations and installations so far.
    pub histories: u64,
    /// Writers so far. Each has a temporary file of its own, since one that is about to learn that its history was
    /// replaced may still be writing when another begins at the same zxid.
    pub writers: u64,
}

/// A snapshot being written.
pub struct SnapshotWriter<D: Disk> {
    disk: D,
    dir: PathBuf,
    zxid: Zxid,
    /// The name that it gets.
    name: String,
    tmp: PathBuf,
    file: D::File,
    /// Of all bytes so far, those in `buffer` not included.
    adler: simd_adler32::Adler32,
    buffer: Vec<u8>,
    packer: Packer,
    /// Packed, and not written to the file yet.
    packed: Vec<u8>,
    written: u64,
    synced: u64,
    is_hurried: bool,
    era: Era,
    begun_in: u64,
    /// A marker that has done its work when the snapshot is there.
    initialize: PathBuf,
}

impl<D: Disk> SnapshotWriter<D> {
    pub(super) fn new(
        disk: D,
        dir: PathBuf,
        (zxid, compression): (Zxid, Compression),
        era: Era,
        initialize: PathBuf,
    ) -> Result<Self, StorageError> {
        let (begun_in, writer) = {
            let mut count = lock(&era);
            count.writers += 1;
            (count.histories, count.writers)
        };
        let name = snapshot_name(zxid, compression);
        let tmp = dir.join(format!("{TMP_PREFIX}{writer}.{name}"));
        let file = disk.create(&tmp).map_err(StorageError::io("create", &tmp))?;
        let mut buffer = Vec::with_capacity(BUFFER_LEN);
        SNAPSHOT_MAGIC.write(&mut buffer);
        FORMAT_VERSION.write(&mut buffer);
        (-1i64).write(&mut buffer);
        let adler = simd_adler32::Adler32::new();
        let mut packed = Vec::new();
        let packer = Packer::new(compression, &mut packed);
        Ok(SnapshotWriter {
            disk,
            dir,
            zxid,
            name,
            tmp,
            file,
            adler,
            buffer,
            packer,
            packed,
            written: 0,
            synced: 0,
            is_hurried: false,
            era,
            begun_in,
            initialize,
        })
    }

    /// Somebody waits for it, so that the log's syncs may wait for its own.
    pub fn hurry(&mut self) {
        self.is_hurried = true;
    }

    /// The last transaction in it.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// Appends bytes of the body: sessions, ACL table, znodes, and at last the terminator. After an error: [`abort`].
    ///
    /// [`abort`]: SnapshotWriter::abort
    pub fn write(&mut self, body: &[u8]) -> Result<(), StorageError> {
        self.buffer.extend_from_slice(body);
        if self.buffer.len() >= BUFFER_LEN { self.flush() } else { Ok(()) }
    }

    /// Seals the file and gives it its name; durable when it returns. `digest`: the tree's digest and the last
    /// transaction it covers; `None` if unknown, which readers do not compare. After an error the temporary file is gone.
    pub fn finish(mut self, digest: Option<(Zxid, i64)>) -> Result<PathBuf, StorageError> {
        let result = self.seal(digest).and_then(|()| self.publish());
        if result.is_err() {
            self.abort();
        }
        result
    }

    /// Gives the snapshot up and removes what is there of it.
    pub fn abort(self) {
        // What cannot be removed now is removed at the next start.
        let _ = self.disk.remove(&self.tmp);
    }

    /// Writes the seals and syncs the file, still under its temporary name.
    pub(super) fn seal(&mut self, digest: Option<(Zxid, i64)>) -> Result<(), StorageError> {
        self.write_seal()?;
        let (zxid, value) = digest.unwrap_or_default();
        zxid.write(&mut self.buffer);
        DIGEST_VERSION.write(&mut self.buffer);
        value.write(&mut self.buffer);
        self.write_seal()?;
        self.flush()?;
        self.packer.finish(&mut self.packed).map_err(StorageError::io("pack", &self.tmp))?;
        self.write_packed()?;
        self.file.sync_data().map_err(StorageError::io("sync", &self.tmp))
    }

    /// The name that it gets.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn tmp(&self) -> &PathBuf {
        &self.tmp
    }

    fn write_seal(&mut self) -> Result<(), StorageError> {
        self.flush()?; // So that the sum covers everything before the seal.
        i64::from(self.adler.finish()).write(&mut self.buffer);
        self.buffer.extend_from_slice(&SEAL_END);
        Ok(())
    }

    fn publish(&self) -> Result<PathBuf, StorageError> {
        let era = lock(&self.era);
        if era.histories != self.begun_in {
            return Err(StorageError::Superseded { path: self.tmp.clone() });
        }
        let path = self.dir.join(&self.name);
        self.disk.rename(&self.tmp, &path).map_err(StorageError::io("rename", &self.tmp))?;
        self.disk.sync_dir(&self.dir).map_err(StorageError::io("sync", &self.dir))?;
        match self.disk.remove(&self.initialize) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::io("remove", &self.initialize)(error))
            }
            _ => Ok(path),
        }
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.adler.write(&self.buffer);
        self.packer.write(&self.buffer, &mut self.packed).map_err(StorageError::io("pack", &self.tmp))?;
        self.buffer.clear();
        if self.packed.len() >= BUFFER_LEN { self.write_packed() } else { Ok(()) }
    }

    fn write_packed(&mut self) -> Result<(), StorageError> {
        self.file.write_at(self.written, &self.packed).map_err(StorageError::io("write", &self.tmp))?;
        if !self.is_hurried {
            // The sync at the end then finds little to do, and the log's syncs in between wait for little.
            self.file.begin_write_back(self.written, self.packed.len() as u64);
        }
        self.written += self.packed.len() as u64;
        self.packed.clear();
        if self.is_hurried && self.written >= self.synced + SYNC_STEP_HURRIED {
            self.file.sync_data().map_err(StorageError::io("sync", &self.tmp))?;
            self.synced = self.written;
        }
        Ok(())
    }
}
