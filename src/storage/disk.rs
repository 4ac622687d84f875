//! The file system as storage needs it: a trait small enough to simulate, and the real one.
//!
//! The one thing that is easy to get wrong is what a crash takes. Bytes are safe after [`DiskFile::sync_data`], a
//! *name* (a file created, renamed or removed) only after [`Disk::sync_dir`] of its directory; one does not imply the
//! other. `sim::SimDisk` takes whatever this contract lets it take.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// One machine's file system. A cheap handle: clones speak to the same files.
pub trait Disk: Clone + Send + 'static {
    type File: DiskFile;
    /// Held as long as the value lives.
    type Lock: Send + 'static;

    /// Creates the directory and those above it; no error if it is there.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// The names of the files in `dir`, sorted. Names that are not UTF-8 are not ours and are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens an existing file for reading only.
    fn open_read(&self, path: &Path) -> io::Result<Self::File>;
    /// Creates the file, or empties the one of that name.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Creates the file; `AlreadyExists` if the name is taken.
    fn create_new(&self, path: &Path) -> io::Result<Self::File>;
    /// Gives `from` the name `to` in the same directory, replacing what had that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes an exclusive lock on the file `path`, made if missing; `WouldBlock` if somebody else holds it.
    fn lock(&self, path: &Path) -> io::Result<Self::Lock>;
}

/// An open file. Offsets and lengths are in bytes.
pub trait DiskFile: Send + 'static {
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads at most `buffer.len()` bytes; 0 only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes`, as one system call where the kernel takes them so.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file, or lengthens it with zeros.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// Makes the file `len` bytes long with space reserved, so that writes below do not grow it.
    fn allocate(&mut self, len: u64) -> io::Result<()>;
    /// Makes the file's bytes and length durable (`fdatasync`).
    fn sync_data(&mut self) -> io::Result<()>;

    /// Lets the operating system begin to write these bytes to the disk, and waits for nothing. A hint: it promises nothing
    /// either.
    fn begin_write_back(&mut self, _offset: u64, _len: u64) {}

    /// Reads until `buffer` is full or the file ends; how many bytes there were.
    fn read_full_at(&self, mut offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest @ [_, ..]) = buffer.get_mut(filled..) {
            let n = self.read_at(offset, rest)?;
            if n == 0 {
                break;
            }
            filled += n;
            offset += n as u64;
        }
        Ok(filled)
    }
}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// An exclusive `flock`, given back when dropped.
#[derive(Debug)]
pub struct RealLock(File);

impl Drop for RealLock {
    fn drop(&mut self) {
        // Said in words, because a forked child may have inherited the descriptor and would keep the lock.
        let _ = rustix::fs::flock(&self.0, rustix::fs::FlockOperation::Unlock);
    }
}

impl Disk for RealDisk {
    type File = File;
    type Lock = RealLock;

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                continue;
            }
            names.extend(entry.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<File> {
        File::open(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<RealLock> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(RealLock(file))
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match FileExt::read_at(self, buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&*self, rustix::fs::FallocateFlags::empty(), 0, len) {
            // A file system without reservations: a hole of zeros, as Apache makes it.
            Err(rustix::io::Errno::OPNOTSUPP) if DiskFile::len(self)? < len => File::set_len(self, len),
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            result => Ok(result?),
        }
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&*self)?)
    }

    fn begin_write_back(&mut self, offset: u64, len: u64) {
        // Linux writes what is dirty before it would drop it. Not a sync: that would have the file system commit its
        // journal, behind which the log's syncs wait.
        let _ = rustix::fs::fadvise(&*self, offset, std::num::NonZeroU64::new(len), rustix::fs::Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_refused_while_held_and_granted_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = RealDisk.lock(&path).unwrap();
        assert_eq!(RealDisk.lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        RealDisk.lock(&path).unwrap();
    }

    #[test]
    fn allocated_space_reads_as_zeros_and_keeps_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = RealDisk.create_new(&dir.path().join("f")).unwrap();
        DiskFile::write_at(&mut file, 0, b"abc").unwrap();
        file.allocate(8192).unwrap();
        assert_eq!(DiskFile::len(&file).unwrap(), 8192);
        let mut bytes = [9; 5];
        assert_eq!(file.read_full_at(0, &mut bytes).unwrap(), 5);
        assert_eq!(&bytes, b"abc\0\0");
        assert_eq!(file.read_full_at(8190, &mut bytes).unwrap(), 2);
    }
}
