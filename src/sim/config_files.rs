//! The files with the list of servers on a simulated disk, kept in the order of writes and syncs in which real servers
//! keep theirs: what was not synced may be lost, and a file is replaced as a whole or not at all.
//!
//! `zoo.cfg` names the file of the committed configuration; `zoo.cfg.dynamic.next` has the proposed one.

use super::disk::SimDisk;
use crate::peer::io::Members;
use crate::records::{Configuration, ServerId};
use crate::storage::{Disk, DiskFile};
use std::io;
use std::path::{Path, PathBuf};

const DIR: &str = "/conf";
const STATIC: &str = "/conf/zoo.cfg";
const NEXT: &str = "/conf/zoo.cfg.dynamic.next";

fn dynamic(version: i64) -> PathBuf {
    PathBuf::from(format!("/conf/zoo.cfg.dynamic.{version:x}"))
}

/// The operator's own doing: the server is to begin with this list.
pub fn put(disk: &SimDisk, configuration: &Configuration) {
    let path = dynamic(configuration.version);
    disk.put(&path, configuration.to_string().as_bytes());
    disk.put(Path::new(STATIC), path.display().to_string().as_bytes());
    disk.take_away(Path::new(NEXT));
}

/// Keeps what the server goes by, the committed configuration first.
pub fn save(disk: &SimDisk, members: &Members) -> io::Result<()> {
    let Members { committed, last_seen } = members;
    if self::committed(disk).is_none_or(|kept| kept.version != committed.version) {
        let path = dynamic(committed.version);
        replace(disk, &path, &committed.to_string())?;
        replace(disk, Path::new(STATIC), &path.display().to_string())?;
    }
    match last_seen {
        Some(proposed) => replace(disk, Path::new(NEXT), &proposed.to_string()),
        None => remove(disk, Path::new(NEXT)),
    }
}

/// The configuration that the server starts with.
pub fn committed(disk: &SimDisk) -> Option<Configuration> {
    let path = read(disk, Path::new(STATIC))?;
    Configuration::parse(&read(disk, Path::new(&path))?).ok()
}

/// The one that was proposed behind it.
pub fn proposed(disk: &SimDisk, committed: &Configuration) -> Option<Configuration> {
    let proposed = Configuration::parse(&read(disk, Path::new(NEXT))?).ok()?;
    (proposed.version > committed.version).then_some(proposed)
}

/// Whether the server would start: it must be in its own list.
pub fn has(disk: &SimDisk, id: ServerId) -> bool {
    committed(disk).is_some_and(|committed| committed.servers.contains_key(&id))
}

fn read(disk: &SimDisk, path: &Path) -> Option<String> {
    disk.read(path).and_then(|bytes| String::from_utf8(bytes).ok())
}

fn replace(disk: &SimDisk, path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    remove(disk, &temporary)?;
    let mut file = disk.create_new(&temporary)?;
    file.write_at(0, text.as_bytes())?;
    file.sync_data()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(Path::new(DIR))
}

fn remove(disk: &SimDisk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Ok(()) => disk.sync_dir(Path::new(DIR)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rng::Rng;
    use super::*;

    fn of(voters: i64, version: i64) -> Configuration {
        Configuration { version, ..Configuration::of_voters((1..=voters).map(ServerId)) }
    }

    #[test]
    fn a_crash_at_each_step_leaves_the_old_list_or_the_new_one() {
        let (mut old, mut new) = (0, 0);
        for seed in 0..200 {
            let disk = SimDisk::new();
            put(&disk, &of(3, 0));
            save(&disk, &Members { committed: of(3, 0), last_seen: Some(of(4, 7)) }).unwrap();
            disk.cut_power_after(seed % 20);
            let whole = save(&disk, &Members { committed: of(4, 7), last_seen: None }).is_ok();
            disk.crash(&mut Rng::new(seed));
            let committed = committed(&disk).unwrap();
            let proposed = proposed(&disk, &committed);
            match committed.version {
                7 => new += 1,
                _ => old += 1,
            }
            assert!(committed == of(3, 0) && proposed == Some(of(4, 7)) || committed == of(4, 7), "seed {seed}");
            assert!(!whole || (committed == of(4, 7) && proposed.is_none()), "seed {seed}");
        }
        assert!(old > 0 && new > 0);
    }
}
