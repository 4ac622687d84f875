//! A disk that can be hurt: what an [`Ensemble`](super::Ensemble) does to the disk of a member, and the [`Disk`] that
//! suffers it. A production server's has none, and costs a look at an `Option`.
//!
//! The faults belong to the member, not to one life of its server: a full disk is full after a restart too.

use crate::storage::{Disk, DiskFile, RealDisk};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What is wrong with one member's disk.
#[derive(Debug, Default)]
pub struct DiskFaults {
    /// The files go with the process, so nothing is synced: whatever happens to a server, the kernel still has them.
    is_temporary: bool,
    /// False: nothing is, and nothing else is looked at.
    is_set: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_full: bool,
    /// What each sync takes beyond what it takes.
    sync_delay: Duration,
    /// How often a server on it was killed: who waits for it then waits no more.
    kills: u64,
    /// Syncs hang, and not even a kill ends them.
    #[cfg(test)]
    hangs: bool,
    /// How many do.
    #[cfg(test)]
    hanging: usize,
}

impl DiskFaults {
    /// Of a disk that need not outlive the process; syncs cost nothing there unless they are made slow.
    pub fn of_temporary() -> DiskFaults {
        DiskFaults { is_temporary: true, ..DiskFaults::default() }
    }

    /// From now on nothing can be written; `false` takes it back.
    pub fn fill(&self, is_full: bool) {
        self.change(|state| state.is_full = is_full);
    }

    /// From now on each sync takes `delay` longer; one that waits already ends when the new time is over.
    pub fn slow(&self, delay: Duration) {
        self.change(|state| state.sync_delay = delay);
    }

    /// Ends what waits: the server is being killed.
    pub fn interrupt(&self) {
        self.change(|state| state.kills += 1);
    }

    /// The disk is as good as new.
    pub fn heal(&self) {
        self.change(|state| (state.is_full, state.sync_delay) = (false, Duration::ZERO));
    }

    #[cfg(test)]
    pub fn hang(&self, hangs: bool) {
        self.change(|state| state.hangs = hangs);
    }

    /// Returns when a sync hangs.
    #[cfg(test)]
    pub fn wait_hanging(&self) {
        drop(self.changed.wait_while(self.lock(), |state| state.hanging == 0).unwrap());
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        #[cfg(not(test))]
        let is_set = state.is_full || !state.sync_delay.is_zero();
        #[cfg(test)]
        let is_set = state.is_full || !state.sync_delay.is_zero() || state.hangs;
        self.is_set.store(is_set, Ordering::Relaxed);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn before_write(&self) -> io::Result<()> {
        if self.is_set.load(Ordering::Relaxed) && self.lock().is_full {
            return Err(rustix::io::Errno::NOSPC.into());
        }
        Ok(())
    }

    /// Whether there is something to sync.
    fn before_sync(&self) -> io::Result<bool> {
        if !self.is_set.load(Ordering::Relaxed) {
            return Ok(!self.is_temporary);
        }
        let began = Instant::now();
        let mut state = self.lock();
        let kills = state.kills;
        loop {
            #[cfg(test)]
            if state.hangs {
                state.hanging += 1;
                self.changed.notify_all();
                state = self.changed.wait_while(state, |state| state.hangs).unwrap();
                state.hanging -= 1;
            }
            if state.kills != kills {
                return Err(io::Error::other("the server was killed while its disk was slow"));
            }
            let left = state.sync_delay.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(!self.is_temporary);
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }
}

/// The operating system's files, hurt as long as something is wrong.
#[derive(Clone, Debug, Default)]
pub struct HostDisk {
    faults: Option<Arc<DiskFaults>>,
}

impl HostDisk {
    pub fn new(faults: Option<Arc<DiskFaults>>) -> HostDisk {
        HostDisk { faults }
    }

    fn before_write(&self) -> io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |faults| faults.before_write())
    }

    fn before_sync(&self) -> io::Result<bool> {
        self.faults.as_ref().map_or(Ok(true), |faults| faults.before_sync())
    }

    fn file(&self, file: io::Result<File>) -> io::Result<HostFile> {
        Ok(HostFile { file: file?, disk: self.clone() })
    }
}

impl Disk for HostDisk {
    type File = HostFile;
    type Lock = <RealDisk as Disk>::Lock;

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if !dir.is_dir() {
            self.before_write()?;
        }
        RealDisk.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn open(&self, path: &Path) -> io::Result<HostFile> {
        self.file(RealDisk.open(path))
    }

    fn open_read(&self, path: &Path) -> io::Result<HostFile> {
        self.file(RealDisk.open_read(path))
    }

    fn create(&self, path: &Path) -> io::Result<HostFile> {
        self.before_write()?;
        self.file(RealDisk.create(path))
    }

    fn create_new(&self, path: &Path) -> io::Result<HostFile> {
        self.before_write()?;
        self.file(RealDisk.create_new(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.before_sync()? { RealDisk.sync_dir(dir) } else { Ok(()) }
    }

    fn lock(&self, path: &Path) -> io::Result<Self::Lock> {
        RealDisk.lock(path)
    }
}

/// A file of a [`HostDisk`].
#[derive(Debug)]
pub struct HostFile {
    file: File,
    disk: HostDisk,
}

impl DiskFile for HostFile {
    fn len(&self) -> io::Result<u64> {
        DiskFile::len(&self.file)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        DiskFile::read_at(&self.file, offset, buffer)
    }

    /// Also where space was reserved before: a test that fills a disk means that the next write fails.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.before_write()?;
        DiskFile::write_at(&mut self.file, offset, bytes)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        DiskFile::set_len(&mut self.file, len)
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        self.disk.before_write()?;
        self.file.allocate(len)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        if self.disk.before_sync()? { self.file.sync_data() } else { Ok(()) }
    }

    fn begin_write_back(&mut self, offset: u64, len: u64) {
        self.file.begin_write_back(offset, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_takes_nothing_and_goes_on_where_it_was_when_there_is_room() {
        let (dir, faults) = (tempfile::tempdir().unwrap(), Arc::new(DiskFaults::default()));
        let disk = HostDisk::new(Some(faults.clone()));
        let path = dir.path().join("file");
        let mut file = disk.create_new(&path).unwrap();
        file.write_at(0, b"before").unwrap();
        faults.fill(true);
        for refused in [
            file.write_at(0, b"full"),
            file.allocate(1 << 20),
            disk.create(&path).map(drop),
            disk.create_new(&dir.path().join("new")).map(drop),
        ] {
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
        faults.fill(false);
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
        file.write_at(6, b" and after").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"before and after");
    }

    #[test]
    fn a_slow_sync_ends_when_the_disk_is_healed_or_its_server_killed() {
        let (dir, faults) = (tempfile::tempdir().unwrap(), Arc::new(DiskFaults::default()));
        let disk = HostDisk::new(Some(faults.clone()));
        faults.slow(Duration::from_millis(1));
        disk.sync_dir(dir.path()).unwrap();
        for (end, is_done) in [(DiskFaults::heal as fn(&DiskFaults), true), (DiskFaults::interrupt, false)] {
            faults.slow(Duration::from_secs(3600));
            let mut file = disk.create(&dir.path().join("file")).unwrap();
            let syncing = std::thread::spawn(move || file.sync_data());
            while !syncing.is_finished() {
                end(&faults); // Again, if it had not begun to wait.
                std::thread::yield_now();
            }
            assert_eq!(syncing.join().unwrap().is_ok(), is_done);
        }
    }
}
