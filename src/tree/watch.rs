//! Skeleton.
use super::{Change, DataTree};
use crate::records::{ErrorCode, EventType, Zxid};

/// One connection, as watches know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatcherId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchTable {
    Data,
    Child,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchMode {
    /// One-shot.
    Standard,
    Persistent,
    PersistentRecursive,
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
        todo!()
    }
}

/// The watches of all connections of this server.
#[derive(Default)]
pub struct WatchManager {}

impl WatchManager {
    pub fn new() -> WatchManager {
        todo!()
    }
    /// Sets a watch; twice is once.
    pub fn register(&self, table: WatchTable, path: &str, watcher: WatcherId, mode: WatchMode) {
        todo!()
    }
    /// addWatch: persistent in both tables, recursive in the data table; other modes (standard) are not for it.
    pub fn add_watch(&self, path: &str, watcher: WatcherId, mode: WatchMode) {
        todo!()
    }
    /// setWatches and setWatches2 after a reconnect: catch-up events for what has changed since `relative_zxid`,
    /// watches for the rest.
    pub fn set_watches(
        &self,
        tree: &DataTree,
        watcher: WatcherId,
        relative_zxid: Zxid,
        lists: &WatchLists<'_>,
        deliver: &mut dyn FnMut(EventType, &str),
    ) {
        todo!()
    }
    /// Fires what `change` fires, in ZooKeeper's order, and in each step by ascending watcher.
    pub fn fire(&self, change: &Change<'_>, deliver: &mut dyn FnMut(WatcherId, EventType, &str)) {
        todo!()
    }
    /// checkWatches: whether `watcher` has such a watch on `path`.
    pub fn contains(&self, kind: WatcherType, path: &str, watcher: WatcherId) -> bool {
        todo!()
    }
    /// removeWatches: whether there was one.
    pub fn remove(&self, kind: WatcherType, path: &str, watcher: WatcherId) -> bool {
        todo!()
    }
    /// Drops all watches of a connection that has ended.
    pub fn remove_watcher(&self, watcher: WatcherId) {
        todo!()
    }
    /// Drops all watches.
    pub fn clear(&self) {
        todo!()
    }
    /// How many there are.
    pub fn counts(&self) -> WatchCounts {
        todo!()
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
