//! The bytes of a snapshot file, packed and unpacked: plain, gzip, or the block stream of Java's snappy library.
//!
//! A read error of the disk is kept apart from bytes that do not unpack: the first must stop the server, the second
//! only rules out this file.

use super::disk::DiskFile;
use super::names::Compression;
use std::cell::RefCell;
use std::io::{self, BufReader, Read, Write};
use std::rc::Rc;

/// First bytes of a snappy file; two version numbers follow.
pub(super) const SNAPPY_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// First bytes of a gzip file.
pub(super) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Bytes before the first snappy block: magic, version, compatible version.
const SNAPPY_HEADER_LEN: usize = 16;
/// What we write into one snappy block, unpacked; what Java writes.
const SNAPPY_BLOCK_LEN: usize = 32 << 10;
/// Version and lowest version that can read it, behind the magic.
const SNAPPY_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// No writer makes larger snappy blocks (Java's are 32 KiB), so a larger length is damage.
const SNAPPY_BLOCK_LEN_MAX: usize = 16 << 20;
const READ_BUFFER_LEN: usize = 256 << 10;

/// Packs a snapshot as it is written.
pub(super) enum Packer {
    Plain,
    Gz(flate2::write::GzEncoder<Vec<u8>>),
    /// Bytes that do not fill a block yet.
    Snappy(Vec<u8>),
}

impl Packer {
    /// Begins a stream; what it begins with goes to `out`.
    pub fn new(compression: Compression, out: &mut Vec<u8>) -> Packer {
        match compression {
            Compression::None => Packer::Plain,
            // The quickest level: a snapshot is written beside everything else that the server does.
            Compression::Gz => Packer::Gz(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast())),
            Compression::Snappy => {
                out.extend_from_slice(&SNAPPY_MAGIC);
                out.extend_from_slice(&SNAPPY_VERSIONS);
                Packer::Snappy(Vec::new())
            }
        }
    }

    /// Packs `bytes`; what is ready goes to `out`.
    pub fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Packer::Plain => out.extend_from_slice(bytes),
            Packer::Gz(encoder) => {
                encoder.write_all(bytes)?;
                out.append(encoder.get_mut());
            }
            Packer::Snappy(pending) => {
                pending.extend_from_slice(bytes);
                let whole = pending.len() - pending.len() % SNAPPY_BLOCK_LEN;
                for block in pending.drain(..whole).as_slice().chunks(SNAPPY_BLOCK_LEN) {
                    write_snappy_block(block, out)?;
                }
            }
        }
        Ok(())
    }

    /// Ends the stream.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Packer::Plain => {}
            Packer::Gz(encoder) => {
                encoder.try_finish()?;
                out.append(encoder.get_mut());
            }
            Packer::Snappy(pending) => {
                if !pending.is_empty() {
                    write_snappy_block(pending, out)?;
                    pending.clear();
                }
            }
        }
        Ok(())
    }
}

/// `int length | snappy block`.
fn write_snappy_block(block: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let packed = snap::raw::Encoder::new().compress_vec(block).map_err(io::Error::other)?;
    out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
    out.extend_from_slice(&packed);
    Ok(())
}

/// What a disk said while a decoder stood in between.
pub(super) type DiskError = Rc<RefCell<Option<io::Error>>>;

/// A file as a stream of its unpacked bytes, and where a read error of the disk is left.
pub(super) fn unpack<F: DiskFile>(file: F, compression: Compression) -> (Box<dyn Read>, DiskError) {
    let failed = DiskError::default();
    let source = FileReader { file, offset: 0, failed: failed.clone() };
    let unpacked: Box<dyn Read> = match compression {
        Compression::None => Box::new(source),
        Compression::Gz => {
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(READ_BUFFER_LEN, source)))
        }
        Compression::Snappy => Box::new(SnappyReader {
            source: BufReader::with_capacity(READ_BUFFER_LEN, source),
            started: false,
            block: Vec::new(),
            taken: 0,
        }),
    };
    (unpacked, failed)
}

/// A file read from its beginning.
struct FileReader<F> {
    file: F,
    offset: u64,
    failed: DiskError,
}

impl<F: DiskFile> Read for FileReader<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.read_at(self.offset, buffer) {
            Ok(n) => {
                self.offset += n as u64;
                Ok(n)
            }
            Err(error) => {
                let kind = error.kind();
                *self.failed.borrow_mut() = Some(error);
                Err(kind.into())
            }
        }
    }
}

/// Java's `SnappyInputStream`: a header, then blocks of `int length | snappy block`.
struct SnappyReader<R> {
    source: R,
    started: bool,
    block: Vec<u8>,
    taken: usize,
}

impl<R: Read> Read for SnappyReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let rest = self.block.get(self.taken..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        self.taken += n;
        Ok(n)
    }
}

impl<R: Read> SnappyReader<R> {
    /// Unpacks the next block; false at the end of the stream.
    fn next_block(&mut self) -> io::Result<bool> {
        if !self.started {
            let mut header = [0; SNAPPY_HEADER_LEN];
            self.source.read_exact(&mut header)?;
            if !header.starts_with(&SNAPPY_MAGIC) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not a snappy stream"));
            }
            self.started = true;
        }
        let mut length = [0; 4];
        let n = read_full(&mut self.source, &mut length)?;
        if n == 0 {
            return Ok(false);
        }
        let length = u32::from_be_bytes(length) as usize;
        if n < 4 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if length > SNAPPY_BLOCK_LEN_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a snappy block"));
        }
        let mut packed = vec![0; length];
        self.source.read_exact(&mut packed)?;
        if snap::raw::decompress_len(&packed).map_err(io::Error::other)? > SNAPPY_BLOCK_LEN_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a snappy block unpacks to too much"));
        }
        self.block = snap::raw::Decoder::new().decompress_vec(&packed).map_err(io::Error::other)?;
        self.taken = 0;
        Ok(true)
    }
}

/// Reads until `buffer` is full or the stream ends.
pub(super) fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest @ [_, ..]) = buffer.get_mut(filled..) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
