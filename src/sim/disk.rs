//! A machine's disk in memory, which takes at a crash whatever the contract of [`Disk`] lets it take.
//!
//! Bytes and names live twice: as programs see them now, and as they are on the platter. Between the two stands what
//! was not synced: the writes of each file, and the creations, renames and removals in each directory, in order. A
//! crash keeps some of them, decided by a seed: all, none, a beginning, or any of them in pieces of 512 bytes; it may
//! end one write at any byte.
//!
//! A failed sync loses what it should have made durable, as Linux does: programs go on seeing it, and no later sync
//! brings it back.

use super::rng::Rng;
use crate::storage::{Disk, DiskFile};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A disk writes sectors of this size whole or not at all; mostly.
const SECTOR: u64 = 512;
/// Linux: the disk is full.
pub const ENOSPC: i32 = 28;
/// Linux: the disk is broken.
pub const EIO: i32 = 5;

/// What a disk has gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Calls that change something, failed ones included.
    pub operations: u64,
    pub syncs: u64,
    pub crashes: u64,
}

/// What a crash took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashReport {
    /// Bytes written, never synced, and gone.
    pub unsynced_bytes_dropped: u64,
    /// Writes of which only a part was kept.
    pub torn_tails: u64,
    /// Creations, renames and removals that were undone.
    pub lost_dir_entries: u64,
}

/// What a disk can be told to do to the server that uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next sync of a file fails, and loses what it was to sync.
    EioOnNextSync,
    /// No file can be created or grow, until [`SimDisk::heal`].
    Full,
}

/// A handle to a simulated disk; clones speak to the same one.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Not synced, in order.
    name_changes: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    /// Open files of before a crash are of no use after it.
    boots: u64,
    faults: Faults,
    counters: DiskCounters,
    durable_changes: u64,
}

#[derive(Debug, Default)]
struct Faults {
    /// From the operation of this number on everything fails, until the crash.
    power_until: Option<u64>,
    power_is_cut: bool,
    /// Operations that fail, once, and with which error.
    fail_at: BTreeMap<u64, i32>,
    eio_on_next_sync: bool,
    full: bool,
}

/// A file's content, which may end in zeros that take no memory.
#[derive(Clone, Debug, Default)]
struct Image {
    bytes: Vec<u8>,
    len: u64,
}

#[derive(Debug, Default)]
struct Inode {
    now: Image,
    durable: Image,
    /// Not synced, in order.
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

#[derive(Clone, Debug)]
struct NameChange {
    dir: PathBuf,
    what: NameOp,
}

#[derive(Clone, Debug)]
enum NameOp {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf, u64),
    Remove(PathBuf),
}

impl SimDisk {
    pub fn new() -> Self {
        SimDisk::default()
    }

    /// The machine stops and comes back: what was not synced is kept in part, as `rng` decides. Files that were open
    /// are of no use any more, locks are free, injected faults forgotten.
    pub fn crash(&self, rng: &mut Rng) -> CrashReport {
        self.lock_state().crash(rng)
    }

    /// The process is gone, the machine is not: all it wrote is still there, synced or not. Its open files are of no
    /// use any more, its locks are free.
    pub fn kill_process(&self) {
        let mut state = self.lock_state();
        state.boots += 1;
        state.locks.clear();
    }

    /// Lets the changing operation `n` from now (0: the next) and all behind it fail, as if the machine stopped
    /// before it; [`crash`](SimDisk::crash) brings it back.
    pub fn cut_power_after(&self, n: u64) {
        let mut state = self.lock_state();
        state.faults.power_until = Some(state.counters.operations + n);
    }

    /// Whether the operation of [`cut_power_after`](SimDisk::cut_power_after) has been reached.
    pub fn power_is_cut(&self) -> bool {
        self.lock_state().faults.power_is_cut
    }

    /// Orders a fault.
    pub fn fail(&self, fault: Fault) {
        let faults = &mut self.lock_state().faults;
        match fault {
            Fault::EioOnNextSync => faults.eio_on_next_sync = true,
            Fault::Full => faults.full = true,
        }
    }

    /// Lets the changing operation `n` from now (0: the next) fail once, with an error number such as [`EIO`].
    pub fn fail_at(&self, n: u64, errno: i32) {
        let mut state = self.lock_state();
        let at = state.counters.operations + n;
        state.faults.fail_at.insert(at, errno);
    }

    /// Takes back all faults that were ordered.
    pub fn heal(&self) {
        self.lock_state().faults = Faults::default();
    }

    /// Moves whenever something becomes durable.
    pub fn durable_changes(&self) -> u64 {
        self.lock_state().durable_changes
    }

    /// The names in `dir` that every crash will leave, sorted.
    pub fn durable_names(&self, dir: &Path) -> Vec<String> {
        names_in(&self.lock_state().durable_names, dir)
    }

    /// Shows the bytes of a file that every crash will leave; zeros at its end may be missing. Not called if the
    /// name is not durable.
    pub fn with_durable(&self, path: &Path, show: impl FnOnce(&[u8])) {
        let state = self.lock_state();
        if let Some(inode) = state.durable_names.get(path).and_then(|inode| state.inodes.get(inode)) {
            show(&inode.durable.bytes);
        }
    }

    pub fn counters(&self) -> DiskCounters {
        self.lock_state().counters
    }

    /// All files and what programs read from them, zeros at the end left out: for comparing and for damaging.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.lock_state();
        let bytes = |inode: &u64| state.inodes.get(inode).map(|inode| inode.now.bytes.clone()).unwrap_or_default();
        state.names.iter().map(|(path, inode)| (path.clone(), bytes(inode))).collect()
    }

    /// What programs read from a file, zeros at the end left out.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock_state();
        state.names.get(path).and_then(|inode| state.inodes.get(inode)).map(|inode| inode.now.bytes.clone())
    }

    /// Takes a file away, for good.
    pub fn take_away(&self, path: &Path) {
        let mut state = self.lock_state();
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    /// Puts a file there, durable, with its directories: to set a scene, or to let bytes rot.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.lock_state();
        let image = Image { bytes: bytes.to_vec(), len: bytes.len() as u64 };
        let inode = state.new_inode();
        state.inodes.insert(inode, Inode { now: image.clone(), durable: image, changes: Vec::new() });
        state.names.insert(path.into(), inode);
        state.durable_names.insert(path.into(), inode);
        let dirs = path.ancestors().skip(1).map(Path::to_path_buf);
        state.dirs.extend(dirs);
        state.durable_changes += 1;
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, inode: u64, state: &State) -> SimFile {
        SimFile { disk: self.clone(), inode, boot: state.boots, writable: true }
    }
}

impl State {
    /// Counts one operation; fails if a fault was ordered for it.
    fn operation(&mut self) -> io::Result<()> {
        let n = self.counters.operations;
        self.counters.operations += 1;
        if self.faults.power_until.is_some_and(|at| n >= at) {
            self.faults.power_is_cut = true;
        }
        self.needs_power()?;
        self.faults.fail_at.remove(&n).map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    fn needs_power(&self) -> io::Result<()> {
        if self.faults.power_is_cut { Err(io::Error::other("the simulated machine has stopped")) } else { Ok(()) }
    }

    fn needs_space(&self) -> io::Result<()> {
        if self.faults.full { Err(io::Error::from_raw_os_error(ENOSPC)) } else { Ok(()) }
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.needs_power()?;
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn new_inode(&mut self) -> u64 {
        self.next_inode += 1;
        self.next_inode
    }

    fn change_name(&mut self, path: &Path, what: NameOp) {
        let dir = path.parent().unwrap_or(Path::new("")).to_path_buf();
        what.apply(&mut self.names);
        self.name_changes.push(NameChange { dir, what });
    }

    fn crash(&mut self, rng: &mut Rng) -> CrashReport {
        let mut report = CrashReport::default();
        self.boots += 1;
        self.counters.crashes += 1;
        self.durable_changes += 1;
        self.locks.clear();
        self.faults = Faults::default();

        let changes = std::mem::take(&mut self.name_changes);
        let before = changes.len();
        let kept = keep_some(changes, rng);
        report.lost_dir_entries += (before - kept.len()) as u64;
        for change in kept {
            change.what.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();

        let reachable: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|inode, _| reachable.contains(inode));
        for inode in self.inodes.values_mut() {
            inode.crash(rng, &mut report);
        }
        report
    }
}

impl NameOp {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameOp::Create(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            NameOp::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            NameOp::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

fn names_in(names: &BTreeMap<PathBuf, u64>, dir: &Path) -> Vec<String> {
    let inside = names.keys().filter(|path| path.parent() == Some(dir));
    inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
}

/// All of `items`, none, a beginning, or any of them; in their order.
fn keep_some<T>(mut items: Vec<T>, rng: &mut Rng) -> Vec<T> {
    match rng.below(4) {
        0 => items,
        1 => Vec::new(),
        2 => {
            items.truncate(rng.below(items.len() as u64 + 1) as usize);
            items
        }
        _ => items.into_iter().filter(|_| rng.percent(50)).collect(),
    }
}

impl Inode {
    fn crash(&mut self, rng: &mut Rng, report: &mut CrashReport) {
        let changes = std::mem::take(&mut self.changes);
        let written: u64 = changes.iter().map(Change::bytes).sum();
        let mut kept_bytes = 0;
        let whole = if rng.percent(50) { keep_some(changes, rng) } else { changes };
        for change in whole {
            // A write reaches the platter in pieces, and not all of them.
            let bytes = change.bytes();
            let mut pieces = keep_some(change.sectors(), rng);
            if rng.percent(30)
                && let Some(Change::Write { bytes, .. }) = pieces.last_mut()
            {
                bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
            }
            let left: u64 = pieces.iter().map(Change::bytes).sum();
            report.torn_tails += u64::from(left > 0 && left < bytes);
            kept_bytes += left;
            for piece in &pieces {
                self.durable.apply(piece);
            }
        }
        report.unsynced_bytes_dropped += written - kept_bytes;
        self.now = self.durable.clone();
    }
}

impl Change {
    fn bytes(&self) -> u64 {
        match self {
            Change::Write { bytes, .. } => bytes.len() as u64,
            Change::SetLen(_) => 0,
        }
    }

    /// A write as one write for each sector it touches.
    fn sectors(self) -> Vec<Change> {
        let Change::Write { mut offset, bytes } = self else { return vec![self] };
        let mut rest = bytes.as_slice();
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let n = ((SECTOR - offset % SECTOR) as usize).min(rest.len());
            let (piece, behind) = rest.split_at(n);
            pieces.push(Change::Write { offset, bytes: piece.to_vec() });
            offset += n as u64;
            rest = behind;
        }
        pieces
    }
}

impl Image {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::SetLen(len) => {
                self.len = *len;
                self.bytes.truncate(usize::try_from(*len).unwrap_or(usize::MAX));
            }
            Change::Write { offset, bytes } => {
                let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                if self.bytes.len() < end {
                    self.bytes.resize(end, 0);
                }
                self.bytes[start..end].copy_from_slice(bytes);
                self.len = self.len.max(end as u64);
            }
        }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let n = buffer.len().min(self.len.saturating_sub(offset) as usize);
        let there = self.bytes.get(offset as usize..).unwrap_or_default();
        let real = there.len().min(n);
        buffer[..real].copy_from_slice(&there[..real]);
        buffer[real..n].fill(0);
        n
    }
}

/// Held as long as it lives, or until the machine crashes.
#[derive(Debug)]
pub struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    boot: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.lock_state();
        if state.boots == self.boot {
            state.locks.remove(&self.path);
        }
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.operation()?;
        // Directories are made once, before anything is in them: not worth losing.
        state.dirs.extend(dir.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock_state();
        state.needs_power()?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(names_in(&state.names, dir))
    }

    fn open(&self, path: &Path) -> io::Result<SimFile> {
        let state = self.lock_state();
        Ok(self.handle(state.find(path)?, &state))
    }

    fn open_read(&self, path: &Path) -> io::Result<SimFile> {
        let state = self.lock_state();
        Ok(SimFile { writable: false, ..self.handle(state.find(path)?, &state) })
    }

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        if let Ok(mut file) = self.open(path) {
            file.set_len(0)?;
            return Ok(file);
        }
        self.create_new(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<SimFile> {
        let mut state = self.lock_state();
        state.operation()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|dir| state.dirs.contains(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.needs_space()?;
        let inode = state.new_inode();
        state.inodes.insert(inode, Inode::default());
        state.change_name(path, NameOp::Create(path.into(), inode));
        Ok(self.handle(inode, &state))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent(), "a rename across directories is not atomic on every disk");
        let mut state = self.lock_state();
        state.operation()?;
        let inode = state.find(from)?;
        state.change_name(to, NameOp::Rename(from.into(), to.into(), inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.find(path)?;
        state.operation()?;
        state.change_name(path, NameOp::Remove(path.into()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.operation()?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (synced, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.name_changes).into_iter().partition(|change| change.dir == dir);
        state.name_changes = rest;
        state.durable_changes += u64::from(!synced.is_empty());
        for change in synced {
            change.what.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<SimLock> {
        let mut state = self.lock_state();
        state.needs_power()?;
        if !state.locks.insert(path.into()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(SimLock { disk: self.clone(), path: path.into(), boot: state.boots })
    }
}

/// An open file of a simulated disk.
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    inode: u64,
    boot: u64,
    writable: bool,
}

impl SimFile {
    /// Counts one operation, and then changes the file.
    fn change(&mut self, change: Change) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        self.check(&state)?;
        assert!(self.writable, "a file opened for reading was written to");
        state.operation()?;
        let len = state.inodes.get(&self.inode).map_or(0, |inode| inode.now.len);
        let end = match &change {
            Change::Write { offset, bytes } => offset + bytes.len() as u64,
            Change::SetLen(len) => *len,
        };
        if end > len {
            state.needs_space()?;
        }
        let inode = state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        inode.now.apply(&change);
        inode.changes.push(change);
        Ok(())
    }

    fn check(&self, state: &State) -> io::Result<()> {
        if state.boots == self.boot { Ok(()) } else { Err(io::Error::other("the file was opened before a crash")) }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.lock_state();
        self.check(&state)?;
        Ok(state.inodes.get(&self.inode).map_or(0, |inode| inode.now.len))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.lock_state();
        self.check(&state)?;
        state.needs_power()?;
        Ok(state.inodes.get(&self.inode).map_or(0, |inode| inode.now.read(offset, buffer)))
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Change::Write { offset, bytes: bytes.to_vec() })
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(len))
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        if self.len()? < len { self.change(Change::SetLen(len)) } else { Ok(()) }
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        self.check(&state)?;
        state.counters.syncs += 1;
        let failed = match state.operation() {
            Ok(()) if std::mem::take(&mut state.faults.eio_on_next_sync) => Some(io::Error::from_raw_os_error(EIO)),
            Ok(()) => None,
            Err(error) if state.faults.power_is_cut => return Err(error),
            Err(error) => Some(error),
        };
        let inode = state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        let changes = std::mem::take(&mut inode.changes);
        if let Some(error) = failed {
            return Err(error); // What was to be synced is forgotten: neither durable nor tried again.
        }
        for change in &changes {
            inode.durable.apply(change);
        }
        state.durable_changes += u64::from(!changes.is_empty());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with(name: &str) -> (SimDisk, SimFile) {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        let file = disk.create_new(Path::new(name)).unwrap();
        (disk, file)
    }

    #[test]
    fn what_was_synced_survives_every_crash() {
        for seed in 0..100 {
            let (disk, mut file) = disk_with("/d/f");
            file.write_at(0, b"synced").unwrap();
            file.sync_data().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            file.write_at(6, b" and not").unwrap();
            disk.crash(&mut Rng::new(seed));
            let bytes = disk.files().remove(Path::new("/d/f")).unwrap();
            assert!(bytes.starts_with(b"synced"), "seed {seed}: {bytes:?}");
        }
    }

    #[test]
    fn a_crash_may_take_unsynced_bytes_and_names_in_whole_or_in_part() {
        let (mut without_name, mut without_bytes, mut torn, mut whole) = (0, 0, 0, 0);
        for seed in 0..400 {
            let (disk, mut file) = disk_with("/d/f");
            file.write_at(0, &[1; 2000]).unwrap();
            disk.crash(&mut Rng::new(seed));
            match disk.files().get(Path::new("/d/f")) {
                None => without_name += 1,
                Some(bytes) => match bytes.iter().filter(|&&b| b == 1).count() {
                    0 => without_bytes += 1,
                    2000 => whole += 1,
                    _ => torn += 1,
                },
            }
        }
        assert!(without_name > 0 && without_bytes > 0 && torn > 0 && whole > 0);
    }

    #[test]
    fn a_failed_sync_loses_what_no_later_sync_brings_back() {
        let (disk, mut file) = disk_with("/d/f");
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_at(0, b"lost").unwrap();
        disk.fail(Fault::EioOnNextSync);
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
        file.sync_data().unwrap();
        assert_eq!(disk.files()[Path::new("/d/f")], b"lost");
        disk.crash(&mut Rng::new(1));
        assert_eq!(disk.files()[Path::new("/d/f")], b"");
    }

    #[test]
    fn cut_power_lets_everything_fail_until_the_machine_is_back() {
        let (disk, mut file) = disk_with("/d/f");
        disk.cut_power_after(1);
        file.write_at(0, b"a").unwrap();
        file.write_at(1, b"b").unwrap_err();
        assert!(disk.power_is_cut());
        disk.list(Path::new("/d")).unwrap_err();
        disk.crash(&mut Rng::new(1));
        disk.list(Path::new("/d")).unwrap();
        file.write_at(0, b"c").unwrap_err();
    }

    #[test]
    fn a_full_disk_takes_no_more_but_lets_files_be_overwritten() {
        let (disk, mut file) = disk_with("/d/f");
        file.write_at(0, b"abc").unwrap();
        disk.fail(Fault::Full);
        assert_eq!(file.write_at(3, b"d").unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.write_at(0, b"x").unwrap();
        disk.create_new(Path::new("/d/g")).unwrap_err();
        disk.heal();
        disk.create_new(Path::new("/d/g")).unwrap();
    }
}
