//! Temporary folders that a dead process does not leave behind for ever.
//!
//! Beside each folder lies a lock file that its owner holds an `flock` on; the kernel lets go of it however the process
//! ends. Who makes a folder first removes those whose lock nobody holds. What is easy to get wrong: between making a
//! lock file and locking it another process may sweep it away, and a lock on a file without a name guards nothing.

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const PREFIX: &str = "zabkit-";
const LOCK_SUFFIX: &str = ".lock";

/// A folder of this process.
#[derive(Debug)]
pub struct TemporaryDir {
    path: PathBuf,
    lock: File,
}

impl TemporaryDir {
    /// Makes one in the system's temporary directory, and removes those of dead processes there.
    pub fn new() -> io::Result<TemporaryDir> {
        TemporaryDir::new_in(&std::env::temp_dir())
    }

    fn new_in(parent: &Path) -> io::Result<TemporaryDir> {
        sweep(parent);
        loop {
            let name = format!("{PREFIX}{:016x}", RandomState::new().hash_one(std::process::id()));
            let path = parent.join(name);
            let Some(lock) = lock(&lock_path(&path), true)? else { continue };
            match fs::create_dir(&path) {
                Ok(()) => return Ok(TemporaryDir { path, lock }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let _ = fs::remove_file(lock_path(&path));
                    return Err(error);
                }
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with all that is in it.
    pub fn remove(&self) -> io::Result<()> {
        let removed = match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => fs::remove_file(lock_path(&self.path)),
        };
        // Said in words, because a forked child may have inherited the descriptor and would keep the lock.
        let _ = flock(&self.lock, FlockOperation::Unlock);
        removed
    }
}

fn lock_path(dir: &Path) -> PathBuf {
    let mut path = dir.as_os_str().to_owned();
    path.push(LOCK_SUFFIX);
    path.into()
}

/// Locks the file; `None`: somebody else holds it, or has removed it meanwhile.
fn lock(path: &Path, create: bool) -> io::Result<Option<File>> {
    let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    let is_named =
        fs::symlink_metadata(path).is_ok_and(|named| file.metadata().is_ok_and(|own| own.ino() == named.ino()));
    Ok(is_named.then_some(file))
}

/// Removes the folders whose owner is dead. Whatever is not ours, or cannot be removed, is left alone.
fn sweep(parent: &Path) {
    let me = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let Some(dir) = name.to_str().and_then(|name| name.strip_suffix(LOCK_SUFFIX)) else { continue };
        if !dir.starts_with(PREFIX) || !entry.metadata().is_ok_and(|of| of.is_file() && of.uid() == me) {
            continue;
        }
        let Ok(Some(_lock)) = lock(&path, false) else { continue };
        let dir = parent.join(dir);
        let is_gone = match fs::symlink_metadata(&dir) {
            Ok(found) => found.uid() == me && fs::remove_dir_all(&dir).is_ok(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if is_gone {
            tracing::debug!("{} was left by a process that is dead: removed", dir.display());
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_whose_owner_is_dead_is_swept_and_no_other() {
        let parent = tempfile::tempdir().unwrap();
        let stranger = parent.path().join("zabkit-tests");
        fs::create_dir(&stranger).unwrap();
        let alive = TemporaryDir::new_in(parent.path()).unwrap();
        fs::write(alive.path().join("file"), "kept").unwrap();

        let TemporaryDir { path: dead, lock } = TemporaryDir::new_in(parent.path()).unwrap();
        fs::create_dir(dead.join("1")).unwrap();
        drop(lock); // As the kernel does at a process' end.

        let next = TemporaryDir::new_in(parent.path()).unwrap();
        assert!(!dead.exists() && !lock_path(&dead).exists());
        assert!(stranger.exists() && alive.path().join("file").exists());
        for dir in [next, alive] {
            dir.remove().unwrap();
            assert!(!dir.path().exists() && !lock_path(dir.path()).exists());
        }
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "only the stranger is left");
    }
}
