//! Watches: which connection wants to know of changes at which path, and what a change fires.
//!
//! A watch belongs to a connection, a path and one of two tables; the modes of one connection at one path are a set,
//! as in ZooKeeper 3.9. One-shot is exact: a watch that fires is gone before the event is delivered.
//!
//! Reads set watches under the read lock of the database, side by side; changes fire them under its write lock. So
//! setting and firing never overlap, and the small locks here only keep readers apart: one for each shard of the
//! paths, held for no longer than a look-up. Without any watch a change costs one load.
//!
//! ZooKeeper: `WatchManager`, `WatcherModeManager`, `DataTree.setWatches`.

use super::arena::path_hash;
use super::{Change, ChangeKind, DataTree};
use crate::records::{ErrorCode, EventType, Zxid};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{self, Mutex};
use rustc_hash::FxBuildHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// One connection, as watches know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatcherId(pub u64);

/// What a watch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchTable {
    /// The znode itself: set by exists, getData and addWatch.
    Data,
    /// Its list of children: set by getChildren and addWatch.
    Child,
}

/// How long a watch lasts, and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WatchMode {
    /// Until it fires.
    Standard = 1,
    /// Until it is removed.
    Persistent = 2,
    /// Until it is removed; for the path and all below it.
    PersistentRecursive = 4,
}

/// The modes of one connection at one path of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Modes(u8);

const ALL_MODES: Modes =
    Modes(WatchMode::Standard as u8 | WatchMode::Persistent as u8 | WatchMode::PersistentRecursive as u8);

impl From<WatchMode> for Modes {
    fn from(mode: WatchMode) -> Modes {
        Modes(mode as u8)
    }
}

impl Modes {
    fn meets(self, other: Modes) -> bool {
        self.0 & other.0 != 0
    }
    fn with(self, other: Modes) -> Modes {
        Modes(self.0 | other.0)
    }
    fn without(self, other: Modes) -> Modes {
        Modes(self.0 & !other.0)
    }
}

/// Which watches checkWatches and removeWatches mean. ZooKeeper: `Watcher.WatcherType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatcherType {
    Children,
    Data,
    Any,
    Persistent,
    PersistentRecursive,
}

impl WatcherType {
    /// The type with this number; other numbers are answered with `MarshallingError`.
    pub fn from_code(code: i32) -> Result<WatcherType, ErrorCode> {
        Ok(match code {
            1 => WatcherType::Children,
            2 => WatcherType::Data,
            3 => WatcherType::Any,
            4 => WatcherType::Persistent,
            5 => WatcherType::PersistentRecursive,
            _ => return Err(ErrorCode::MarshallingError),
        })
    }

    /// The modes that it means in the data and in the child table.
    fn modes(self) -> (Modes, Modes) {
        let none = Modes::default();
        match self {
            WatcherType::Children => (none, WatchMode::Standard.into()),
            WatcherType::Data => (WatchMode::Standard.into(), none),
            WatcherType::Any => (ALL_MODES, ALL_MODES),
            WatcherType::Persistent => (WatchMode::Persistent.into(), WatchMode::Persistent.into()),
            WatcherType::PersistentRecursive => (WatchMode::PersistentRecursive.into(), none),
        }
    }
}

/// The paths of a setWatches2 request.
#[derive(Clone, Copy, Debug, Default)]
pub struct WatchLists<'a> {
    pub data: &'a [String],
    pub exist: &'a [String],
    pub child: &'a [String],
    pub persistent: &'a [String],
    pub persistent_recursive: &'a [String],
}

/// Figures of `wchs` and `mntr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// (connection, path) pairs of the data table.
    pub data: usize,
    /// (connection, path) pairs of the child table.
    pub child: usize,
    /// Paths of the data table.
    pub data_paths: usize,
    /// Connections with watches in the data table.
    pub data_watchers: usize,
}

/// Paths are spread over this many locks.
const SHARDS: usize = 8;

/// The watches of all connections of this server.
pub struct WatchManager {
    shards: [Mutex<Shard>; SHARDS],
    /// (connection, path) pairs of both tables.
    watches: AtomicUsize,
    /// Pairs with a recursive watch: without any, nobody looks at ancestors.
    recursive: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    data: Table,
    child: Table,
}

/// The watches on some of the paths.
#[derive(Default)]
struct Table {
    /// Watchers ascending. Never iterated as a whole.
    by_path: HashMap<Arc<str>, Vec<(WatcherId, Modes)>, FxBuildHasher>,
    by_watcher: BTreeMap<WatcherId, BTreeSet<Arc<str>>>,
}

impl Table {
    fn modes(&self, path: &str, watcher: WatcherId) -> Modes {
        let Some(watchers) = self.by_path.get(path) else {
            return Modes::default();
        };
        match watchers.binary_search_by_key(&watcher, |&(other, _)| other) {
            Ok(at) => watchers[at].1,
            Err(_) => Modes::default(),
        }
    }

    /// Adds modes and returns those that there were.
    fn add(&mut self, path: &str, watcher: WatcherId, modes: Modes) -> Modes {
        let watchers = match self.by_path.get_mut(path) {
            Some(watchers) => watchers,
            None => self.by_path.entry(path.into()).or_default(),
        };
        match watchers.binary_search_by_key(&watcher, |&(other, _)| other) {
            Ok(at) => {
                let old = watchers[at].1;
                watchers[at].1 = old.with(modes);
                old
            }
            Err(at) => {
                watchers.insert(at, (watcher, modes));
                let (path, _) = self.by_path.get_key_value(path).expect("it was inserted above");
                self.by_watcher.entry(watcher).or_default().insert(path.clone());
                Modes::default()
            }
        }
    }

    /// Removes modes and returns those that there were.
    fn remove(&mut self, path: &str, watcher: WatcherId, modes: Modes) -> Modes {
        let Some(watchers) = self.by_path.get_mut(path) else {
            return Modes::default();
        };
        let Ok(at) = watchers.binary_search_by_key(&watcher, |&(other, _)| other) else {
            return Modes::default();
        };
        let old = watchers[at].1;
        watchers[at].1 = old.without(modes);
        if watchers[at].1 == Modes::default() {
            watchers.remove(at);
            if watchers.is_empty() {
                self.by_path.remove(path);
            }
            self.forget(path, watcher);
        }
        old
    }

    /// Takes the (watcher, path) pair out of the index by watcher.
    fn forget(&mut self, path: &str, watcher: WatcherId) {
        if let Some(paths) = self.by_watcher.get_mut(&watcher) {
            paths.remove(path);
            if paths.is_empty() {
                self.by_watcher.remove(&watcher);
            }
        }
    }

    fn len(&self) -> usize {
        self.by_watcher.values().map(BTreeSet::len).sum()
    }
}

impl Shard {
    fn table(&mut self, table: WatchTable) -> &mut Table {
        match table {
            WatchTable::Data => &mut self.data,
            WatchTable::Child => &mut self.child,
        }
    }
}

impl Default for WatchManager {
    fn default() -> Self {
        Self::new()
    }
}

impl WatchManager {
    pub fn new() -> WatchManager {
        WatchManager {
            shards: std::array::from_fn(|_| Mutex::new(Shard::default())),
            watches: AtomicUsize::new(0),
            recursive: AtomicUsize::new(0),
        }
    }

    fn shard(&self, path: &str) -> sync::MutexGuard<'_, Shard> {
        sync::lock(&self.shards[path_hash(path) as usize % SHARDS])
    }

    /// Counts a pair whose modes went from `old` to `new`. Relaxed: who fires holds the database's write lock, which
    /// orders it behind whoever registered.
    fn count(&self, old: Modes, new: Modes) {
        let none = Modes::default();
        if (old == none) != (new == none) {
            change(&self.watches, new != none);
        }
        let recursive = WatchMode::PersistentRecursive.into();
        if old.meets(recursive) != new.meets(recursive) {
            change(&self.recursive, new.meets(recursive));
        }
    }

    /// Sets a watch; twice is once.
    pub fn register(&self, table: WatchTable, path: &str, watcher: WatcherId, mode: WatchMode) {
        let old = self.shard(path).table(table).add(path, watcher, mode.into());
        self.count(old, old.with(mode.into()));
    }

    /// addWatch: persistent in both tables, recursive in the data table, which alone it fires from.
    pub fn add_watch(&self, path: &str, watcher: WatcherId, mode: WatchMode) {
        self.register(WatchTable::Data, path, watcher, mode);
        if mode != WatchMode::PersistentRecursive {
            self.register(WatchTable::Child, path, watcher, mode);
        }
    }

    /// setWatches and setWatches2 after a reconnect: catch-up events for what has changed since `relative_zxid`, the
    /// last that the client has seen; watches for the rest. A path that gives an event gets no watch.
    pub fn set_watches(
        &self,
        tree: &DataTree,
        watcher: WatcherId,
        relative_zxid: Zxid,
        lists: &WatchLists<'_>,
        deliver: &mut dyn FnMut(EventType, &str),
    ) {
        let standard = |table, path: &str| self.register(table, path, watcher, WatchMode::Standard);
        for path in lists.data {
            match tree.get(path).map(|node| node.persisted()) {
                None => deliver(EventType::NodeDeleted, path),
                Some(stat) if stat.mzxid > relative_zxid => deliver(EventType::NodeDataChanged, path),
                Some(_) => standard(WatchTable::Data, path),
            }
        }
        for path in lists.exist {
            match tree.get(path) {
                None => standard(WatchTable::Data, path),
                Some(_) => deliver(EventType::NodeCreated, path),
            }
        }
        for path in lists.child {
            match tree.get(path).map(|node| node.persisted()) {
                None => deliver(EventType::NodeDeleted, path),
                Some(stat) if stat.pzxid > relative_zxid => deliver(EventType::NodeChildrenChanged, path),
                Some(_) => standard(WatchTable::Child, path),
            }
        }
        for path in lists.persistent {
            self.add_watch(path, watcher, WatchMode::Persistent);
        }
        for path in lists.persistent_recursive {
            self.add_watch(path, watcher, WatchMode::PersistentRecursive);
        }
    }

    /// Fires what `change` fires, in ZooKeeper's order, and in each step by ascending watcher.
    pub fn fire(&self, change: &Change<'_>, deliver: &mut dyn FnMut(WatcherId, EventType, &str)) {
        if self.watches.load(Ordering::Relaxed) == 0 {
            return;
        }
        let path = change.path;
        let event = match change.kind {
            ChangeKind::Created => EventType::NodeCreated,
            ChangeKind::Deleted => EventType::NodeDeleted,
            ChangeKind::DataChanged => EventType::NodeDataChanged,
        };
        let told = self.take(WatchTable::Data, path);
        told.iter().for_each(|&watcher| deliver(watcher, event, path));
        if change.kind == ChangeKind::Deleted {
            let mut more = self.take(WatchTable::Child, path);
            more.retain(|watcher| told.binary_search(watcher).is_err());
            more.iter().for_each(|&watcher| deliver(watcher, event, path));
        }
        if change.kind != ChangeKind::DataChanged
            && let Some(parent) = parent(path)
        {
            let watchers = self.take(WatchTable::Child, parent);
            watchers.iter().for_each(|&watcher| deliver(watcher, EventType::NodeChildrenChanged, parent));
        }
    }

    /// The watchers that an event at `path` is for, ascending and each once; their one-shot watches are gone.
    fn take(&self, table: WatchTable, path: &str) -> Vec<WatcherId> {
        let mut taken = Vec::new();
        {
            let mut shard = self.shard(path);
            let table = shard.table(table);
            if let Some(watchers) = table.by_path.get_mut(path) {
                taken.extend(watchers.iter().map(|&(watcher, _)| watcher));
                let mut spent = Vec::new();
                watchers.retain_mut(|(watcher, modes)| {
                    *modes = modes.without(WatchMode::Standard.into());
                    let stays = *modes != Modes::default();
                    if !stays {
                        spent.push(*watcher);
                    }
                    stays
                });
                if watchers.is_empty() {
                    table.by_path.remove(path);
                }
                for &watcher in &spent {
                    table.forget(path, watcher);
                }
                self.watches.fetch_sub(spent.len(), Ordering::Relaxed);
            }
        }
        if table == WatchTable::Data && self.recursive.load(Ordering::Relaxed) > 0 {
            for ancestor in std::iter::successors(parent(path), |&path| parent(path)) {
                if let Some(watchers) = self.shard(ancestor).data.by_path.get(ancestor) {
                    let recursive = Modes::from(WatchMode::PersistentRecursive);
                    let watchers = watchers.iter().filter(|(_, modes)| modes.meets(recursive));
                    taken.extend(watchers.map(|&(watcher, _)| watcher));
                }
            }
            taken.sort_unstable();
            taken.dedup();
        }
        taken
    }

    /// checkWatches: whether `watcher` has such a watch on `path`.
    pub fn contains(&self, kind: WatcherType, path: &str, watcher: WatcherId) -> bool {
        let (data, child) = kind.modes();
        // For persistent ones ZooKeeper looks at the data table only.
        let child = if kind == WatcherType::Persistent { Modes::default() } else { child };
        let shard = self.shard(path);
        shard.data.modes(path, watcher).meets(data) || shard.child.modes(path, watcher).meets(child)
    }

    /// removeWatches: removes such watches of `watcher` on `path`; whether there was one.
    pub fn remove(&self, kind: WatcherType, path: &str, watcher: WatcherId) -> bool {
        let (data, child) = kind.modes();
        let mut shard = self.shard(path);
        let mut removed = false;
        for (table, modes) in [(WatchTable::Data, data), (WatchTable::Child, child)] {
            let old = shard.table(table).remove(path, watcher, modes);
            self.count(old, old.without(modes));
            removed |= old.meets(modes);
        }
        removed
    }

    /// Drops all watches of a connection that has ended.
    pub fn remove_watcher(&self, watcher: WatcherId) {
        for shard in &self.shards {
            let mut shard = sync::lock(shard);
            for table in [WatchTable::Data, WatchTable::Child] {
                let table = shard.table(table);
                for path in table.by_watcher.get(&watcher).cloned().into_iter().flatten() {
                    let old = table.remove(&path, watcher, ALL_MODES);
                    self.count(old, Modes::default());
                }
            }
        }
    }

    /// Drops all watches.
    pub fn clear(&self) {
        for shard in &self.shards {
            *sync::lock(shard) = Shard::default();
        }
        self.watches.store(0, Ordering::Relaxed);
        self.recursive.store(0, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn counts(&self) -> WatchCounts {
        let mut counts = WatchCounts::default();
        let mut watchers = BTreeSet::new();
        for shard in &self.shards {
            let shard = sync::lock(shard);
            counts.data += shard.data.len();
            counts.child += shard.child.len();
            counts.data_paths += shard.data.by_path.len();
            watchers.extend(shard.data.by_watcher.keys().copied());
        }
        counts.data_watchers = watchers.len();
        counts
    }
}

fn change(counter: &AtomicUsize, up: bool) {
    if up {
        counter.fetch_add(1, Ordering::Relaxed);
    } else {
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The parent as events name it: the root is `/`, and has none.
fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/')? {
        ("", "") => None,
        ("", _) => Some("/"),
        (parent, _) => Some(parent),
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
