//! Where watches are kept: each path once, with its watchers in a sorted list of 8 bytes each, and for each watcher the
//! numbers of the paths it may have watches on.
//!
//! A million watches on ten thousand paths take some 20 MB so. The list by watcher is only needed when a connection
//! ends, so nothing is taken out of it when a watch fires: it may name paths that the watcher has left, or even ones
//! whose number has gone to another path, and is cleaned when it is full. So a watch that fires costs a bit.
//!
//! Small locks, because reads set watches side by side: one for each shard of the watchers and, inside, one for each
//! shard of the paths. Changes have the store to themselves and lock nothing.

use super::arena::path_hash;
use super::watch::{WatchMode, WatchTable, WatcherId};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{self, Mutex, get_mut};
use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;
use std::collections::HashMap;
use std::mem;

/// Paths are spread over this many locks, and tables that each grow on their own.
const SHARDS: usize = if cfg!(loom) { 2 } else { 64 };
const SHARD_BITS: u32 = SHARDS.trailing_zeros();
/// Watchers are spread over this many locks.
const WATCHER_SHARDS: usize = if cfg!(loom) { 1 } else { 8 };
/// A watcher's list is not cleaned before it is so long.
const CLEANED_FROM: usize = 16;
/// A shard without watches keeps no room for more paths than these.
const KEPT_MAX: usize = 64;
/// Bits of an [`Entry`] below the watcher.
const MODE_BITS: u32 = 6;

/// The modes of one connection at one path, of both tables: three bits each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Modes(u8);

impl Modes {
    pub const NONE: Modes = Modes(0);
    pub const ALL: Modes = Modes(0b111_111);
    /// The data table, recursive.
    pub const RECURSIVE: Modes = Modes(WatchMode::PersistentRecursive as u8);

    pub const fn of(table: WatchTable, mode: WatchMode) -> Modes {
        match table {
            WatchTable::Data => Modes(mode as u8),
            WatchTable::Child => Modes((mode as u8) << 3),
        }
    }

    /// All modes of a table.
    pub const fn all_of(table: WatchTable) -> Modes {
        match table {
            WatchTable::Data => Modes(0b111),
            WatchTable::Child => Modes(0b111_000),
        }
    }

    pub const fn meets(self, other: Modes) -> bool {
        self.0 & other.0 != 0
    }
    pub const fn with(self, other: Modes) -> Modes {
        Modes(self.0 | other.0)
    }
    pub const fn without(self, other: Modes) -> Modes {
        Modes(self.0 & !other.0)
    }
    fn is_in(self, table: WatchTable) -> bool {
        self.meets(Modes::all_of(table))
    }
}

/// A watcher at a path, with its modes in the lowest bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry(u64);

impl Entry {
    fn new(watcher: WatcherId, modes: Modes) -> Entry {
        assert!(watcher.0 >> (u64::BITS - MODE_BITS) == 0, "fewer connections than 58 bits can name");
        Entry(watcher.0 << MODE_BITS | u64::from(modes.0))
    }
    fn watcher(self) -> WatcherId {
        WatcherId(self.0 >> MODE_BITS)
    }
    fn modes(self) -> Modes {
        Modes(self.0 as u8 & Modes::ALL.0)
    }
}

/// The watchers of a path, ascending. Most paths have one.
#[derive(Debug)]
enum Watchers {
    One(Entry),
    Many(Vec<Entry>),
}

impl Watchers {
    fn entries(&self) -> &[Entry] {
        match self {
            Watchers::One(entry) => std::slice::from_ref(entry),
            Watchers::Many(entries) => entries,
        }
    }

    fn entries_mut(&mut self) -> &mut [Entry] {
        match self {
            Watchers::One(entry) => std::slice::from_mut(entry),
            Watchers::Many(entries) => entries,
        }
    }

    fn find(&self, watcher: WatcherId) -> Result<usize, usize> {
        let entries = self.entries();
        // Whoever came last sets most of the watches.
        match entries.last() {
            Some(last) if last.watcher() < watcher => Err(entries.len()),
            _ => entries.binary_search_by_key(&watcher, |entry| entry.watcher()),
        }
    }

    fn insert(&mut self, at: usize, entry: Entry) {
        match self {
            Watchers::Many(entries) if entries.is_empty() => *self = Watchers::One(entry),
            Watchers::Many(entries) => entries.insert(at, entry),
            Watchers::One(other) => {
                let mut entries = vec![*other];
                entries.insert(at, entry);
                *self = Watchers::Many(entries);
            }
        }
    }

    fn retain(&mut self, keep: impl FnMut(&mut Entry) -> bool) {
        let mut keep = keep;
        match self {
            Watchers::Many(entries) => {
                entries.retain_mut(keep);
                if entries.capacity() > 64 && entries.len() < entries.capacity() / 4 {
                    entries.shrink_to(entries.len() * 2);
                }
            }
            Watchers::One(entry) => {
                if !keep(entry) {
                    *self = Watchers::Many(Vec::new());
                }
            }
        }
    }
}

/// A path with watches.
#[derive(Debug)]
struct Watched {
    path: Box<str>,
    watchers: Watchers,
    /// Watchers in the data table, and of these those with a recursive watch: nobody need look for one in vain.
    data: u32,
    recursive: u32,
}

/// A path of a store: the shard in the lowest bits. Given to another path when this one has no watches any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PathId(u32);

/// (connection, path) pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    data: usize,
    child: usize,
    /// Paths with any in the data table.
    data_paths: usize,
}

/// The paths that some of the watchers may have watches on; each list cleaned when it is full.
type ByWatcher = HashMap<WatcherId, Vec<PathId>, FxBuildHasher>;

#[derive(Default)]
struct Shard {
    /// By the hash of the path. Never iterated.
    found: HashTable<u32>,
    paths: Vec<Watched>,
    free: Vec<u32>,
    tally: Tally,
}

fn table_hash(path_hash: u32) -> u64 {
    u64::from(path_hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Shard {
    fn find(&self, path: &str, hash: u32) -> Option<u32> {
        self.found.find(table_hash(hash), |&at| &*self.paths[at as usize].path == path).copied()
    }

    /// A path without watchers, which the caller gives it.
    fn insert(&mut self, path: &str, hash: u32) -> u32 {
        let watched = Watched { path: path.into(), watchers: Watchers::Many(Vec::new()), data: 0, recursive: 0 };
        let at = match self.free.pop() {
            Some(at) => {
                self.paths[at as usize] = watched;
                at
            }
            None => {
                let at = u32::try_from(self.paths.len()).ok().filter(|at| at >> (u32::BITS - SHARD_BITS) == 0);
                self.paths.push(watched);
                at.expect("fewer watched paths than 32 bits can name")
            }
        };
        let Shard { found, paths, .. } = self;
        found.insert_unique(table_hash(hash), at, |&at| table_hash(path_hash(&paths[at as usize].path)));
        at
    }

    /// Forgets a path that has no watchers any more.
    fn drop_if_empty(&mut self, at: u32, hash: u32) {
        let watched = &mut self.paths[at as usize];
        if !watched.watchers.entries().is_empty() {
            return;
        }
        watched.path = Box::default();
        watched.watchers = Watchers::Many(Vec::new());
        if let Ok(entry) = self.found.find_entry(table_hash(hash), |&other| other == at) {
            entry.remove();
        }
        self.free.push(at);
        if self.free.len() == self.paths.len() && self.paths.len() > KEPT_MAX {
            *self = Shard { tally: self.tally, ..Shard::default() };
        }
    }
}

impl Watched {
    fn modes(&self, watcher: WatcherId) -> Modes {
        self.watchers.find(watcher).map_or(Modes::NONE, |place| self.watchers.entries()[place].modes())
    }

    /// A watcher's modes have changed.
    fn count(&mut self, tally: &mut Tally, old: Modes, new: Modes) {
        let had_data = self.data > 0;
        shift(&mut self.data, old.is_in(WatchTable::Data), new.is_in(WatchTable::Data));
        shift(&mut self.recursive, old.meets(Modes::RECURSIVE), new.meets(Modes::RECURSIVE));
        shift_size(&mut tally.data, old.is_in(WatchTable::Data), new.is_in(WatchTable::Data));
        shift_size(&mut tally.child, old.is_in(WatchTable::Child), new.is_in(WatchTable::Child));
        shift_size(&mut tally.data_paths, had_data, self.data > 0);
    }
}

fn shift(count: &mut u32, was: bool, is: bool) {
    *count = *count + u32::from(is) - u32::from(was);
}

fn shift_size(count: &mut usize, was: bool, is: bool) {
    *count = *count + usize::from(is) - usize::from(was);
}

/// All watches of a server.
pub(super) struct WatchStore {
    shards: [Mutex<Shard>; SHARDS],
    by_watcher: [Mutex<ByWatcher>; WATCHER_SHARDS],
    /// (connection, path) pairs: without any, a change costs one load. Relaxed: who fires has the store to himself,
    /// and the lock that says so orders him behind whoever registered.
    pairs: AtomicUsize,
    /// Pairs with a recursive watch: without any, nobody looks at ancestors.
    recursive: AtomicUsize,
}

impl WatchStore {
    pub fn new() -> WatchStore {
        WatchStore {
            shards: std::array::from_fn(|_| Mutex::new(Shard::default())),
            by_watcher: std::array::from_fn(|_| Mutex::new(HashMap::default())),
            pairs: AtomicUsize::new(0),
            recursive: AtomicUsize::new(0),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.pairs.load(Ordering::Relaxed) == 0
    }

    pub fn has_recursive(&self) -> bool {
        self.recursive.load(Ordering::Relaxed) > 0
    }

    fn count(&self, old: Modes, new: Modes) {
        change(&self.pairs, old != Modes::NONE, new != Modes::NONE);
        change(&self.recursive, old.meets(Modes::RECURSIVE), new.meets(Modes::RECURSIVE));
    }

    /// Adds modes to those of `watcher` at `path`.
    pub fn add(&self, path: &str, watcher: WatcherId, modes: Modes) {
        let hash = path_hash(path);
        let shard_number = hash as usize % SHARDS;
        let (id, old) = {
            let mut shard = sync::lock(&self.shards[shard_number]);
            let at = match shard.find(path, hash) {
                Some(at) => at,
                None => shard.insert(path, hash),
            };
            let Shard { paths, tally, .. } = &mut *shard;
            let watched = &mut paths[at as usize];
            let old = match watched.watchers.find(watcher) {
                Ok(place) => {
                    let entry = &mut watched.watchers.entries_mut()[place];
                    let old = entry.modes();
                    *entry = Entry::new(watcher, old.with(modes));
                    old
                }
                Err(place) => {
                    watched.watchers.insert(place, Entry::new(watcher, modes));
                    Modes::NONE
                }
            };
            if old.with(modes) == old {
                return;
            }
            watched.count(tally, old, old.with(modes));
            (PathId(at << SHARD_BITS | shard_number as u32), old)
        };
        self.count(old, old.with(modes));
        if old == Modes::NONE {
            self.note(watcher, id);
        }
    }

    /// Removes modes from those of `watcher` at `path`; returns what they were.
    pub fn remove(&self, path: &str, watcher: WatcherId, modes: Modes) -> Modes {
        let hash = path_hash(path);
        let mut shard = sync::lock(&self.shards[hash as usize % SHARDS]);
        match shard.find(path, hash) {
            Some(at) => self.remove_at(&mut shard, at, watcher, modes),
            None => Modes::NONE,
        }
    }

    fn remove_at(&self, shard: &mut Shard, at: u32, watcher: WatcherId, modes: Modes) -> Modes {
        let Shard { paths, tally, .. } = shard;
        let watched = &mut paths[at as usize];
        let Ok(place) = watched.watchers.find(watcher) else {
            return Modes::NONE;
        };
        let old = watched.watchers.entries()[place].modes();
        let new = old.without(modes);
        watched.count(tally, old, new);
        self.count(old, new);
        if new != Modes::NONE {
            watched.watchers.entries_mut()[place] = Entry::new(watcher, new);
            return old;
        }
        match &mut watched.watchers {
            Watchers::Many(entries) => _ = entries.remove(place),
            Watchers::One(_) => watched.watchers = Watchers::Many(Vec::new()),
        }
        let hash = path_hash(&watched.path);
        shard.drop_if_empty(at, hash);
        old
    }

    pub fn modes(&self, path: &str, watcher: WatcherId) -> Modes {
        let hash = path_hash(path);
        let shard = sync::lock(&self.shards[hash as usize % SHARDS]);
        shard.find(path, hash).map_or(Modes::NONE, |at| shard.paths[at as usize].modes(watcher))
    }

    /// Adds the watchers in `table` at `path` to `taken`, ascending; their one-shot watches there are gone.
    pub fn take(&mut self, table: WatchTable, path: &str, taken: &mut Vec<WatcherId>) {
        let hash = path_hash(path);
        let shard = get_mut(&mut self.shards[hash as usize % SHARDS]);
        let Some(at) = shard.find(path, hash) else { return };
        let Shard { paths, tally, .. } = shard;
        let watched = &mut paths[at as usize];
        if table == WatchTable::Data && watched.data == 0 {
            return;
        }
        let (one_shot, others) = (Modes::of(table, WatchMode::Standard), Modes::all_of(table));
        let (mut left, mut gone) = (0, 0);
        watched.watchers.retain(|entry| {
            let modes = entry.modes();
            if !modes.is_in(table) {
                return true;
            }
            taken.push(entry.watcher());
            let stays = modes.without(one_shot);
            *entry = Entry::new(entry.watcher(), stays);
            left += u32::from(!stays.meets(others));
            gone += usize::from(stays == Modes::NONE);
            stays != Modes::NONE
        });
        match table {
            WatchTable::Data => {
                watched.data -= left;
                tally.data -= left as usize;
                tally.data_paths -= usize::from(watched.data == 0);
            }
            WatchTable::Child => tally.child -= left as usize,
        }
        self.pairs.fetch_sub(gone, Ordering::Relaxed);
        shard.drop_if_empty(at, hash);
    }

    /// Adds the watchers with a recursive watch at `path` to `taken`.
    pub fn recursive_at(&mut self, path: &str, taken: &mut Vec<WatcherId>) {
        let hash = path_hash(path);
        let shard = get_mut(&mut self.shards[hash as usize % SHARDS]);
        let Some(at) = shard.find(path, hash) else { return };
        let watched = &shard.paths[at as usize];
        if watched.recursive > 0 {
            let recursive = watched.watchers.entries().iter().filter(|entry| entry.modes().meets(Modes::RECURSIVE));
            taken.extend(recursive.map(|entry| entry.watcher()));
        }
    }

    /// Notes that `watcher` may have watches at a path.
    fn note(&self, watcher: WatcherId, id: PathId) {
        let shard = &self.by_watcher[watcher.0 as usize % WATCHER_SHARDS];
        let mut by_watcher = sync::lock(shard);
        let ids = by_watcher.entry(watcher).or_default();
        if ids.len() < CLEANED_FROM || ids.len() < ids.capacity() {
            return ids.push(id);
        }
        let mut cleaned = mem::take(ids);
        drop(by_watcher);
        cleaned.sort_unstable();
        cleaned.dedup();
        cleaned.retain(|&id| self.is_at(watcher, id));
        cleaned.push(id);
        // Room for as many again, so that the next cleaning is far.
        cleaned.reserve(cleaned.len().max(CLEANED_FROM));
        cleaned.shrink_to(cleaned.len() * 4);
        let mut by_watcher = sync::lock(shard);
        let ids = by_watcher.entry(watcher).or_default();
        cleaned.append(ids);
        *ids = cleaned;
    }

    fn is_at(&self, watcher: WatcherId, PathId(id): PathId) -> bool {
        let shard = sync::lock(&self.shards[id as usize % SHARDS]);
        shard.paths.get((id >> SHARD_BITS) as usize).is_some_and(|watched| watched.modes(watcher) != Modes::NONE)
    }

    /// Drops all watches of `watcher`.
    pub fn remove_watcher(&self, watcher: WatcherId) {
        let ids = sync::lock(&self.by_watcher[watcher.0 as usize % WATCHER_SHARDS]).remove(&watcher);
        for PathId(id) in ids.into_iter().flatten() {
            let mut shard = sync::lock(&self.shards[id as usize % SHARDS]);
            let at = id >> SHARD_BITS;
            if (at as usize) < shard.paths.len() {
                self.remove_at(&mut shard, at, watcher, Modes::ALL);
            }
        }
    }

    pub fn clear(&self) {
        self.shards.iter().for_each(|shard| *sync::lock(shard) = Shard::default());
        self.by_watcher.iter().for_each(|shard| *sync::lock(shard) = HashMap::default());
        self.pairs.store(0, Ordering::Relaxed);
        self.recursive.store(0, Ordering::Relaxed);
    }

    /// (connection, path) pairs of the data and of the child table, and paths of the data table.
    pub fn counts(&self) -> (usize, usize, usize) {
        let mut sum = Tally::default();
        for shard in &self.shards {
            let Tally { data, child, data_paths } = sync::lock(shard).tally;
            sum.data += data;
            sum.child += child;
            sum.data_paths += data_paths;
        }
        (sum.data, sum.child, sum.data_paths)
    }

    /// Connections with watches in the data table.
    pub fn data_watchers(&self) -> usize {
        let in_data = |watcher: WatcherId, PathId(id): PathId| {
            let shard = sync::lock(&self.shards[id as usize % SHARDS]);
            let watched = shard.paths.get((id >> SHARD_BITS) as usize);
            watched.is_some_and(|watched| watched.modes(watcher).is_in(WatchTable::Data))
        };
        let shards = self.by_watcher.iter().map(sync::lock);
        let of_shard = |shard: sync::MutexGuard<'_, ByWatcher>| {
            shard.iter().filter(|(watcher, ids)| ids.iter().any(|&id| in_data(**watcher, id))).count()
        };
        shards.map(of_shard).sum()
    }

    /// Bytes that are allocated, but for what the allocator and the tables add.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let of_path = |watched: &Watched| match &watched.watchers {
            Watchers::One(_) => watched.path.len(),
            Watchers::Many(entries) => watched.path.len() + entries.capacity() * size_of::<Entry>(),
        };
        let of_shard = |shard: &Shard| {
            shard.paths.capacity() * size_of::<Watched>()
                + shard.found.capacity() * size_of::<u32>()
                + shard.paths.iter().map(of_path).sum::<usize>()
        };
        let paths: usize = self.shards.iter().map(|shard| of_shard(&sync::lock(shard))).sum();
        let of_watchers =
            |watchers: &ByWatcher| watchers.values().map(|ids| ids.capacity() * size_of::<PathId>()).sum();
        let watchers: usize = self.by_watcher.iter().map(|shard| -> usize { of_watchers(&sync::lock(shard)) }).sum();
        paths + watchers
    }

    /// The watchers in the data table of a shard's paths; `None`: there are fewer shards.
    pub fn data_watches(&self, shard: usize) -> Option<Vec<(String, Vec<WatcherId>)>> {
        let shard = sync::lock(self.shards.get(shard)?);
        let watched = shard.paths.iter().filter(|watched| watched.data > 0);
        let watches = watched.map(|watched| {
            let entries = watched.watchers.entries().iter();
            let in_data = entries.filter(|entry| entry.modes().is_in(WatchTable::Data));
            (watched.path.to_string(), in_data.map(|entry| entry.watcher()).collect())
        });
        Some(watches.collect())
    }
}

fn change(counter: &AtomicUsize, was: bool, is: bool) {
    match (was, is) {
        (false, true) => _ = counter.fetch_add(1, Ordering::Relaxed),
        (true, false) => _ = counter.fetch_sub(1, Ordering::Relaxed),
        _ => {}
    }
}
