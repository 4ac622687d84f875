//! Watches: which connection wants to know of changes at which path, and what a change fires.
//!
//! A watch belongs to a connection, a path and one of two tables; the modes of one connection at one path are a set,
//! as in ZooKeeper 3.9. One-shot is exact: a watch that fires is gone before the event is delivered.
//!
//! Reads set watches under the read lock of the database, side by side; changes fire them under its write lock. So
//! setting and firing never overlap. Without any watch a change costs one load.
//!
//! ZooKeeper: `WatchManager`, `WatcherModeManager`, `DataTree.setWatches`.

use super::watch_store::{Modes, WatchStore};
use super::{Change, ChangeKind, DataTree};
use crate::records::{ErrorCode, EventType, Zxid};

/// Room that is kept for the watchers of one step.
const TOLD_KEPT_MAX: usize = 1 << 16;

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

    /// The modes that it means.
    fn modes(self) -> Modes {
        let data = |mode| Modes::of(WatchTable::Data, mode);
        let child = |mode| Modes::of(WatchTable::Child, mode);
        match self {
            WatcherType::Children => child(WatchMode::Standard),
            WatcherType::Data => data(WatchMode::Standard),
            WatcherType::Any => Modes::ALL,
            WatcherType::Persistent => data(WatchMode::Persistent).with(child(WatchMode::Persistent)),
            WatcherType::PersistentRecursive => Modes::RECURSIVE,
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

/// How many watches there are, for `mntr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// (connection, path) pairs of the data table.
    pub data: usize,
    /// (connection, path) pairs of the child table.
    pub child: usize,
    /// Paths of the data table.
    pub data_paths: usize,
}

/// The watches of all connections of this server.
pub struct WatchManager {
    store: WatchStore,
    /// The watchers of one step.
    told: Vec<WatcherId>,
    also: Vec<WatcherId>,
}

/// Told whom an event is for, ascending and each once; what happened; and the path.
pub type Deliver<'d> = dyn FnMut(&[WatcherId], EventType, &str) + 'd;

impl Default for WatchManager {
    fn default() -> Self {
        Self::new()
    }
}

impl WatchManager {
    pub fn new() -> WatchManager {
        WatchManager { store: WatchStore::new(), told: Vec::new(), also: Vec::new() }
    }

    /// Sets a watch; twice is once.
    pub fn register(&self, table: WatchTable, path: &str, watcher: WatcherId, mode: WatchMode) {
        self.store.add(path, watcher, Modes::of(table, mode));
    }

    /// addWatch: persistent in both tables, recursive in the data table, which alone it fires from.
    pub fn add_watch(&self, path: &str, watcher: WatcherId, mode: WatchMode) {
        let data = Modes::of(WatchTable::Data, mode);
        let both = data.with(Modes::of(WatchTable::Child, mode));
        self.store.add(path, watcher, if mode == WatchMode::PersistentRecursive { data } else { both });
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

    /// Fires what `change` fires, in ZooKeeper's order.
    pub fn fire(&mut self, change: &Change<'_>, deliver: &mut Deliver<'_>) {
        if self.store.is_empty() {
            return;
        }
        let path = change.path;
        let event = match change.kind {
            ChangeKind::Created => EventType::NodeCreated,
            ChangeKind::Deleted => EventType::NodeDeleted,
            ChangeKind::DataChanged => EventType::NodeDataChanged,
        };
        let WatchManager { store, told, also } = self;
        told.clear();
        store.take(WatchTable::Data, path, told);
        if store.has_recursive() {
            let ancestors = std::iter::successors(parent(path), |&path| parent(path));
            ancestors.for_each(|ancestor| store.recursive_at(ancestor, told));
            told.sort_unstable();
            told.dedup();
        }
        tell(told, event, path, deliver);
        if change.kind == ChangeKind::Deleted {
            also.clear();
            store.take(WatchTable::Child, path, also);
            also.retain(|watcher| told.binary_search(watcher).is_err());
            tell(also, event, path, deliver);
        }
        if change.kind != ChangeKind::DataChanged
            && let Some(parent) = parent(path)
        {
            also.clear();
            store.take(WatchTable::Child, parent, also);
            tell(also, EventType::NodeChildrenChanged, parent, deliver);
        }
        told.shrink_to(TOLD_KEPT_MAX);
        also.shrink_to(TOLD_KEPT_MAX);
    }

    /// checkWatches: whether `watcher` has such a watch on `path`.
    pub fn contains(&self, kind: WatcherType, path: &str, watcher: WatcherId) -> bool {
        // For persistent ones ZooKeeper looks at the data table only.
        let modes = match kind {
            WatcherType::Persistent => Modes::of(WatchTable::Data, WatchMode::Persistent),
            kind => kind.modes(),
        };
        self.store.modes(path, watcher).meets(modes)
    }

    /// removeWatches: removes such watches of `watcher` on `path`; whether there was one.
    pub fn remove(&self, kind: WatcherType, path: &str, watcher: WatcherId) -> bool {
        self.store.remove(path, watcher, kind.modes()).meets(kind.modes())
    }

    /// Drops all watches of a connection that has ended.
    pub fn remove_watcher(&self, watcher: WatcherId) {
        self.store.remove_watcher(watcher);
    }

    /// Drops all watches.
    pub fn clear(&self) {
        self.store.clear();
    }

    /// How many there are.
    pub fn counts(&self) -> WatchCounts {
        let (data, child, data_paths) = self.store.counts();
        WatchCounts { data, child, data_paths }
    }

    /// Connections with watches in the data table; looked for, so not for every probe.
    pub fn data_watchers(&self) -> usize {
        self.store.data_watchers()
    }

    /// Some of the watches of the data table, by path: part 0, 1, and so on until there is none.
    pub fn data_watches(&self, part: usize) -> Option<Vec<(String, Vec<WatcherId>)>> {
        self.store.data_watches(part)
    }
}

fn tell(watchers: &[WatcherId], event: EventType, path: &str, deliver: &mut Deliver<'_>) {
    if !watchers.is_empty() {
        deliver(watchers, event, path);
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
