//! One transaction log file as records: its framing, and where and how it ends.
//!
//! ```text
//! "ZKLG" | int version 2 | long dbid 0
//! then: long adler32 of the bytes | int length | the transaction's bytes | 'B'
//! then: zeros (space allocated ahead) or the end of the file
//! ```
//!
//! The reader only *says* how a file ends ([`LogEnd`]); whether a damaged end is an unfinished write to cut off or
//! rot to refuse depends on what was synced, and is decided in [`recovery`](super::recovery). A read error is never
//! taken for the end of a file.
//!
//! ZooKeeper: `FileTxnLog`, `FileTxnIterator`.

use super::disk::DiskFile;
use super::error::StorageError;
use crate::jute::{Reader, Record};
use crate::records::{Zxid, txn_zxid};
use bytes::{Bytes, BytesMut};
use std::path::{Path, PathBuf};

/// Bytes of the header of logs and snapshots: magic, version, dbid.
pub const HEADER_LEN: u64 = 16;
/// "ZKLG".
const LOG_MAGIC: i32 = 0x5a4b_4c47;
/// Version of both formats.
pub(super) const FORMAT_VERSION: i32 = 2;
/// Bytes before a record's transaction: checksum and length.
const PREFIX_LEN: usize = 12;
/// Bytes of a record beside its transaction: [`PREFIX_LEN`] and the end mark.
pub(super) const FRAMING_LEN: usize = PREFIX_LEN + 1;
/// The end mark of a record.
const END_MARK: u8 = b'B';
/// The shortest transaction: a header without a body.
const TXN_LEN_MIN: usize = 32;
/// Zeros that we leave behind the last record when reserved space is given back: a prefix that says "no record here".
/// A file without them was cut by another server.
pub(super) const PADDING_LEN: u64 = PREFIX_LEN as u64;
/// How much is read at once.
const CHUNK: usize = 1 << 20;

/// Appends a log's header.
pub(super) fn write_header(out: &mut Vec<u8>) {
    LOG_MAGIC.write(out);
    FORMAT_VERSION.write(out);
    0i64.write(out);
}

/// Appends one framed record.
pub(super) fn write_record(txn: &[u8], out: &mut Vec<u8>) {
    i64::from(simd_adler32::adler32(&txn)).write(out);
    (txn.len() as i32).write(out);
    out.extend_from_slice(txn);
    out.push(END_MARK);
}

/// A whole record with a good checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Where its framing begins in the file.
    pub offset: u64,
    pub zxid: Zxid,
    /// The transaction's bytes.
    pub bytes: Bytes,
}

impl LogRecord {
    /// Where the next record begins.
    pub fn end(&self) -> u64 {
        self.offset + (self.bytes.len() + FRAMING_LEN) as u64
    }
}

/// Where the records of a file end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// Behind the last whole record.
    pub offset: u64,
    /// What stands there if it is neither the end of the file nor nothing but zeros.
    pub damage: Option<Damage>,
}

/// What follows the last whole record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// What Apache takes for the end of a file: the file ends inside a record, a record lacks its end mark, or zeros
    /// stand where a record would begin.
    #[error("{0}")]
    Torn(&'static str),
    /// A complete record with another checksum. Apache refuses to start.
    #[error("a record's checksum does not fit")]
    Checksum,
    /// A length that no record has. Apache refuses to start.
    #[error("a record's length is {0}")]
    Length(i32),
    /// The file does not begin as a log. Apache refuses to start.
    #[error("the file does not begin with the header of a log")]
    Header,
}

/// What [`LogFile::read_next`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Record(LogRecord),
    End(LogEnd),
}

/// Reads one log from its beginning.
pub struct LogFile<F> {
    file: F,
    path: PathBuf,
    /// Bytes of the file that may be read.
    len: u64,
    /// Where in the file `buffer` begins.
    offset: u64,
    buffer: BytesMut,
    /// The longest transaction allowed.
    txn_bytes_max: usize,
}

impl<F: DiskFile> LogFile<F> {
    /// Reads `file` up to `end`, or to its end if that is `None`.
    pub fn new(file: F, path: &Path, end: Option<u64>, txn_bytes_max: usize) -> Result<Self, StorageError> {
        let file_len = file.len().map_err(StorageError::io("read", path))?;
        let len = end.map_or(file_len, |end| end.min(file_len));
        Ok(LogFile { file, path: path.into(), len, offset: 0, buffer: BytesMut::new(), txn_bytes_max })
    }

    /// Bytes of the file that may be read.
    pub fn file_len(&self) -> u64 {
        self.len
    }

    /// The next record, or how the file ends; after an end, the same end again.
    pub fn read_next(&mut self) -> Result<Next, StorageError> {
        if self.offset == 0 {
            self.fill(HEADER_LEN as usize)?;
            let mut header = Reader::new(&self.buffer);
            if !matches!((header.int(), header.int(), header.long()), (Ok(LOG_MAGIC), Ok(_), Ok(_))) {
                return Ok(self.end(Damage::Header));
            }
            self.advance(HEADER_LEN as usize);
        }
        self.fill(PREFIX_LEN)?;
        let mut prefix = Reader::new(&self.buffer);
        let (Ok(checksum), Ok(length)) = (prefix.long(), prefix.int()) else {
            return self.end_unless_zeros("the file ends inside a record");
        };
        let Ok(txn_len) = usize::try_from(length) else {
            return Ok(self.end(Damage::Length(length)));
        };
        if txn_len == 0 {
            return self.end_unless_zeros("bytes behind the zeros where a record would begin");
        }
        let fits = (txn_len + FRAMING_LEN) as u64 <= self.len - self.offset;
        if !fits {
            let too_long = txn_len > self.txn_bytes_max;
            return Ok(self.end(if too_long {
                Damage::Length(length)
            } else {
                Damage::Torn("the file ends inside a record")
            }));
        }
        self.fill(txn_len + FRAMING_LEN)?;
        let (Some(txn), mark) =
            (self.buffer.get(PREFIX_LEN..PREFIX_LEN + txn_len), self.buffer.get(PREFIX_LEN + txn_len))
        else {
            return Ok(self.end(Damage::Torn("the file ends inside a record"))); // It became shorter while read.
        };
        let marked = mark == Some(&END_MARK);
        let good = marked && i64::from(simd_adler32::adler32(&txn)) == checksum;
        if txn_len > self.txn_bytes_max {
            if good {
                let (path, offset) = (self.path.clone(), self.offset);
                return Err(StorageError::RecordTooLong {
                    path,
                    offset,
                    length: txn_len as u64,
                    limit: self.txn_bytes_max,
                });
            }
            return Ok(self.end(Damage::Length(length)));
        }
        if !marked {
            return Ok(self.end(Damage::Torn("a record lacks its end mark")));
        }
        if !good {
            return Ok(self.end(Damage::Checksum));
        }
        let offset = self.offset;
        let zxid = txn_zxid(txn).map_err(|error| self.bad_transaction(offset, error.to_string()))?;
        let record = self.advance(txn_len + FRAMING_LEN);
        Ok(Next::Record(LogRecord { offset, zxid, bytes: record.slice(PREFIX_LEN..PREFIX_LEN + txn_len) }))
    }

    /// The error for a record that has a good checksum and yet cannot be used.
    pub fn bad_transaction(&self, offset: u64, why: String) -> StorageError {
        StorageError::BadTransaction { path: self.path.clone(), offset, why }
    }

    /// Where the first whole record behind `from` begins, searched byte by byte. Only for damaged files.
    pub fn find_record(&self, from: u64) -> Result<Option<u64>, StorageError> {
        let mut window = vec![0; CHUNK];
        let mut start = from;
        while start + ((TXN_LEN_MIN + FRAMING_LEN) as u64) <= self.len {
            let n = self.read(start, &mut window)?;
            let bytes = window.get(..n).unwrap_or_default();
            for (at, prefix) in bytes.windows(PREFIX_LEN).enumerate() {
                let mut prefix = Reader::new(prefix);
                let (Ok(checksum), Ok(length)) = (prefix.long(), prefix.int()) else { continue };
                let length = length.max(0) as usize;
                if checksum <= 0 || checksum > i64::from(u32::MAX) || length < TXN_LEN_MIN {
                    continue;
                }
                let offset = start + at as u64;
                if length <= self.txn_bytes_max && self.is_record(offset, checksum, length)? {
                    return Ok(Some(offset));
                }
            }
            if n < window.len() {
                break;
            }
            start += (n - PREFIX_LEN) as u64 + 1;
        }
        Ok(None)
    }

    /// Where the bytes that are not zero end, at or behind `from`.
    pub fn end_of_bytes(&self, from: u64) -> Result<u64, StorageError> {
        let mut window = vec![0; CHUNK];
        let (mut at, mut end) = (from, from);
        while at < self.len {
            let n = self.read(at, &mut window)?;
            if n == 0 {
                break;
            }
            let bytes = window.get(..n).unwrap_or_default();
            if let Some(last) = bytes.iter().rposition(|&b| b != 0) {
                end = at + last as u64 + 1;
            }
            at += n as u64;
        }
        Ok(end)
    }

    fn is_record(&self, offset: u64, checksum: i64, length: usize) -> Result<bool, StorageError> {
        // The end mark first: one byte read instead of a megabyte for each false start.
        let mut mark = [0];
        let txn_at = offset + PREFIX_LEN as u64;
        if self.read(txn_at + length as u64, &mut mark)? == 0 || mark != [END_MARK] {
            return Ok(false);
        }
        let mut txn = vec![0; length];
        let n = self.read(txn_at, &mut txn)?;
        Ok(n == length && i64::from(simd_adler32::adler32(&txn.as_slice())) == checksum && txn_zxid(&txn).is_ok())
    }

    fn end(&self, damage: Damage) -> Next {
        Next::End(LogEnd { offset: self.offset, damage: Some(damage) })
    }

    fn end_unless_zeros(&self, why: &'static str) -> Result<Next, StorageError> {
        let damage = (self.end_of_bytes(self.offset)? > self.offset).then_some(Damage::Torn(why));
        Ok(Next::End(LogEnd { offset: self.offset, damage }))
    }

    /// Has at least `n` bytes in the buffer, or all that are left.
    fn fill(&mut self, n: usize) -> Result<(), StorageError> {
        if self.buffer.len() >= n {
            return Ok(());
        }
        let at = self.offset + self.buffer.len() as u64;
        let have = self.buffer.len();
        let want = (n - have).max(CHUNK).min(usize::try_from(self.len - at).unwrap_or(usize::MAX));
        self.buffer.resize(have + want, 0);
        let read = self.file.read_full_at(at, self.buffer.get_mut(have..).unwrap_or_default());
        let read = read.map_err(StorageError::io("read", &self.path))?;
        self.buffer.truncate(have + read);
        Ok(())
    }

    fn advance(&mut self, n: usize) -> Bytes {
        self.offset += n as u64;
        self.buffer.split_to(n).freeze()
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let most = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        self.file.read_full_at(at, buffer).map_err(StorageError::io("read", &self.path))
    }
}
