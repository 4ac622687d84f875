//! Reading a snapshot file: header, body, seals; in Apache's layouts of 3.5, 3.8 and 3.9.
//!
//! ```text
//! "ZKSN" | int version 2 | long dbid -1
//! body: sessions, ACL table, znodes, "/"
//! long adler32 | "/"                                                    first seal
//! long zxid | int 2 | long digest | long adler32 | "/"                  3.6 and later, unless the digest is off
//! long lastProcessedZxid | long adler32 | "/"                           3.9 and later
//! ```
//!
//! Each checksum covers all unpacked bytes from the beginning of the file to itself. Whether a file is valid is known
//! only at its end, long after its items have been handed out: so [`RecoverySink::begin`] may come again.
//!
//! ZooKeeper: `FileSnap`, `SnapStream`.

use super::compression::{DiskError, GZIP_MAGIC, SNAPPY_MAGIC, read_full, unpack};
use super::disk::{Disk, DiskFile};
use super::error::StorageError;
use super::names::Compression;
use super::recovery::RecoverySink;
use crate::jute::{DecodeError, Reader};
use crate::records::{DIGEST_VERSION, SnapshotDecoder, Zxid};
use std::io::{self, Read};
use std::path::Path;

/// "ZKSN".
pub(super) const SNAPSHOT_MAGIC: i32 = 0x5a4b_534e;
/// The string "/", which ends the body and each seal.
pub(super) const SEAL_END: [u8; 5] = [0, 0, 0, 1, b'/'];
/// Bytes of a seal: checksum and "/".
const SEAL_LEN: usize = 13;
/// Bytes of the zxid section of 3.9 with its seal.
const ZXID_SECTION_LEN: usize = 8 + SEAL_LEN;
/// What follows the first seal is shorter than this.
const TAIL_LEN_MAX: usize = 1024;
const CHUNK: usize = 256 << 10;

/// Why a snapshot was not read.
#[derive(Debug)]
pub(super) enum ReadFailure {
    /// The disk failed: the server must stop.
    Storage(StorageError),
    /// The file ends too early: an older one may do.
    Truncated(String),
    /// The file is no snapshot: an older one may do.
    Invalid(String),
}

impl From<DecodeError> for ReadFailure {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Short { .. } => ReadFailure::Truncated(error.to_string()),
            _ => ReadFailure::Invalid(error.to_string()),
        }
    }
}

/// The tree's digest as the snapshot tells it, and the last transaction it covers. With zxid 0 in a file: the
/// transaction that the file is named by, of which the snapshot is exact.
pub type SnapshotDigest = Option<(Zxid, i64)>;

/// Whether the file may be a complete snapshot: Apache's cheap test of its first or last bytes.
pub(super) fn looks_complete<D: Disk>(disk: &D, path: &Path, compression: Compression) -> Result<bool, StorageError> {
    let file = disk.open_read(path).map_err(StorageError::io("open", path))?;
    let len = file.len().map_err(StorageError::io("read", path))?;
    let (offset, expected): (u64, &[u8]) = match compression {
        Compression::None if len < 10 => return Ok(false),
        Compression::None => (len - SEAL_END.len() as u64, &SEAL_END),
        Compression::Gz => (0, &GZIP_MAGIC),
        Compression::Snappy => (0, &SNAPPY_MAGIC),
    };
    let mut bytes = vec![0; expected.len()];
    let n = file.read_full_at(offset, &mut bytes).map_err(StorageError::io("read", path))?;
    Ok(n == expected.len() && bytes == expected)
}

/// Reads the whole file and hands its items to `sink`. `limit`: the longest string or buffer, in bytes.
pub(super) fn read_snapshot<D: Disk>(
    disk: &D,
    path: &Path,
    compression: Compression,
    limit: usize,
    sink: &mut dyn RecoverySink,
) -> Result<SnapshotDigest, ReadFailure> {
    let io_error = |op| move |error| ReadFailure::Storage(StorageError::io(op, path)(error));
    let file = disk.open_read(path).map_err(io_error("open"))?;
    let (source, disk_error) = unpack(file, compression);
    let mut stream = Stream::new(source, disk_error);
    sink.begin();
    let result = stream.read_all(limit, sink);
    match stream.disk_error.take() {
        Some(error) => Err(io_error("read")(error)),
        None => result,
    }
}

/// The unpacked bytes, with the running checksum of those that were taken.
struct Stream {
    source: Box<dyn Read>,
    disk_error: DiskError,
    /// `buffer[at..end]` waits to be taken; what lies before was taken.
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// How much of what was taken is in `adler`.
    summed: usize,
    adler: simd_adler32::Adler32,
}

impl Stream {
    fn new(source: Box<dyn Read>, disk_error: DiskError) -> Self {
        let adler = simd_adler32::Adler32::new();
        Stream { source, disk_error, buffer: vec![0; CHUNK], at: 0, end: 0, summed: 0, adler }
    }

    fn read_all(&mut self, limit: usize, sink: &mut dyn RecoverySink) -> Result<SnapshotDigest, ReadFailure> {
        self.more()?;
        let mut header = Reader::new(self.rest());
        if header.int()? != SNAPSHOT_MAGIC {
            return Err(ReadFailure::Invalid("it does not begin with the header of a snapshot".into()));
        }
        header.int()?;
        header.long()?;
        self.at = self.end - header.remaining();

        let mut decoder = SnapshotDecoder::default();
        while !decoder.is_done() {
            let mut reader = Reader::new(self.rest());
            match decoder.take(&mut reader, limit)? {
                Some(item) => {
                    self.at = self.end - reader.remaining();
                    sink.item(item).map_err(ReadFailure::Invalid)?;
                }
                None if self.more()? == 0 => return Err(ReadFailure::Truncated("it ends inside its body".into())),
                None => {}
            }
        }
        while self.rest().len() < TAIL_LEN_MAX && self.more()? > 0 {}
        self.sum();
        self.read_seals()
    }

    fn read_seals(&mut self) -> Result<SnapshotDigest, ReadFailure> {
        let tail = self.rest().to_vec();
        let mut reader = Reader::new(&tail);
        self.check_seal(&mut reader, &[], "first")?;
        let mut digest = None;
        // A writer with the digest switched off may still add the zxid section: only the length tells them apart.
        if reader.remaining() > ZXID_SECTION_LEN {
            let section = reader.rest();
            let (zxid, version) = (Zxid(reader.long()?), reader.int()?);
            if version >= DIGEST_VERSION {
                let value = reader.long()?;
                // Apache writes zeros where it knows none; a digest without a zxid is ours: of the file's own.
                digest = ((zxid.0, value) != (0, 0) && version == DIGEST_VERSION).then_some((zxid, value));
            } else {
                reader.string()?;
            }
            let taken = section.len() - reader.remaining();
            self.check_seal(&mut reader, section.get(..taken).unwrap_or_default(), "second")?;
        }
        if reader.remaining() > 0 {
            let section = reader.bytes(ZXID_SECTION_LEN - SEAL_LEN)?;
            self.check_seal(&mut reader, section, "third")?;
        }
        Ok(digest)
    }

    /// Adds `section` to the sum, takes a seal and holds it against the sum.
    fn check_seal(&mut self, reader: &mut Reader<'_>, section: &[u8], which: &str) -> Result<(), ReadFailure> {
        self.adler.write(section);
        let seal = reader.bytes(SEAL_LEN)?;
        let mut fields = Reader::new(seal);
        if fields.long()? != i64::from(self.adler.finish()) || fields.rest() != SEAL_END {
            return Err(ReadFailure::Invalid(format!("its {which} checksum does not fit")));
        }
        self.adler.write(seal);
        Ok(())
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.at..self.end).unwrap_or_default()
    }

    /// Adds what was taken to the sum.
    fn sum(&mut self) {
        self.adler.write(self.buffer.get(self.summed..self.at).unwrap_or_default());
        self.summed = self.at;
    }

    /// Reads more; how much. An item longer than the buffer doubles it, so that it costs no more than its length.
    fn more(&mut self) -> Result<usize, ReadFailure> {
        self.sum();
        self.buffer.copy_within(self.at..self.end, 0);
        self.end -= self.at;
        (self.at, self.summed) = (0, 0);
        if self.end * 2 > self.buffer.len() {
            let mut larger = vec![0; self.buffer.len() * 2];
            larger.split_at_mut(self.end).0.copy_from_slice(self.rest());
            self.buffer = larger;
        }
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        let n = read_full(&mut self.source, free).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ReadFailure::Truncated("it ends before it is unpacked".into()),
            _ => ReadFailure::Invalid(format!("it does not unpack: {error}")),
        })?;
        self.end += n;
        Ok(n)
    }
}
