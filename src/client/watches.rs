//! The watches of a session, by path: a server forgets them with each link, so the client keeps the list.
//!
//! Paths here have the chroot in front, as on the wire. ZooKeeper: `ZKWatchManager`.

use super::calls::WatchId;
use crate::jute::Record;
use crate::records::{
    EventType, RequestHeader, SET_WATCHES_XID, SetWatches2Request, SetWatchesRequest, Zxid, op, write_frame,
};
use std::collections::{BTreeMap, BTreeSet};

/// The most bytes of paths in one setWatches: a server refuses frames that are too long.
const CHUNK_BYTES: usize = 128 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WatchKind {
    /// On a znode that was there (exists, getData).
    Data,
    /// On one that was not (exists).
    Exist,
    Child,
    Persistent,
    Recursive,
}

const KINDS: usize = 5;

/// The watches on one path.
#[derive(Debug, Default)]
struct OnPath {
    ids: [Vec<WatchId>; KINDS],
}

impl OnPath {
    fn of(&mut self, kind: WatchKind) -> &mut Vec<WatchId> {
        &mut self.ids[kind as usize]
    }

    fn is_empty(&self) -> bool {
        self.ids.iter().all(Vec::is_empty)
    }
}

#[derive(Debug, Default)]
pub(super) struct Watches {
    by_path: BTreeMap<String, OnPath>,
    by_id: BTreeMap<WatchId, (String, WatchKind)>,
    /// Replies to setWatches that have not come yet.
    restoring: usize,
    /// A new server tells of a deletion once for each table: the second one is no news to persistent watches.
    deleted_while_restoring: BTreeSet<String>,
}

impl Watches {
    pub(super) fn add(&mut self, path: &str, kind: WatchKind, id: WatchId) {
        if self.by_id.contains_key(&id) {
            return; // The host's error: the id has a watch.
        }
        self.by_id.insert(id, (path.to_owned(), kind));
        match self.by_path.get_mut(path) {
            Some(on_path) => on_path.of(kind).push(id),
            None => self.by_path.entry(path.to_owned()).or_default().of(kind).push(id),
        }
    }

    /// Forgets `id`. `None` if it is not here, else its path, and whether that was its last watch.
    pub(super) fn forget(&mut self, id: WatchId) -> Option<(String, bool)> {
        let (path, kind) = self.by_id.remove(&id)?;
        let mut is_last = false;
        if let Some(on_path) = self.by_path.get_mut(&path) {
            on_path.of(kind).retain(|each| *each != id);
            if on_path.is_empty() {
                self.by_path.remove(&path);
                is_last = true;
            }
        }
        Some((path, is_last))
    }

    pub(super) fn is_watched(&self, path: &str) -> bool {
        self.by_path.contains_key(path)
    }

    /// The ids that an event is for; one-shot watches are used up.
    pub(super) fn fire(&mut self, kind: EventType, path: &str) -> Vec<WatchId> {
        let one_shot: &[WatchKind] = match kind {
            EventType::NodeCreated | EventType::NodeDataChanged => &[WatchKind::Data, WatchKind::Exist],
            EventType::NodeDeleted => &[WatchKind::Data, WatchKind::Exist, WatchKind::Child],
            EventType::NodeChildrenChanged => &[WatchKind::Child],
        };
        let mut fired = Vec::new();
        let mut tables = 0;
        if let Some(on_path) = self.by_path.get_mut(path) {
            tables = usize::from(!on_path.of(WatchKind::Data).is_empty() || !on_path.of(WatchKind::Exist).is_empty())
                + usize::from(!on_path.of(WatchKind::Child).is_empty());
            for each in one_shot {
                fired.append(on_path.of(*each));
            }
            if on_path.is_empty() {
                self.by_path.remove(path);
            }
        }
        for id in &fired {
            self.by_id.remove(id);
        }
        if self.restoring > 0 && kind == EventType::NodeDeleted {
            if tables == 0 && self.deleted_while_restoring.remove(path) {
                return fired;
            }
            if tables == 2 {
                self.deleted_while_restoring.insert(path.to_owned());
            }
        }
        self.add_persistent(kind, path, &mut fired);
        fired
    }

    /// Those that stay: on the path itself, and the recursive ones on what is above it.
    fn add_persistent(&self, kind: EventType, path: &str, fired: &mut Vec<WatchId>) {
        if let Some(on_path) = self.by_path.get(path) {
            fired.extend_from_slice(&on_path.ids[WatchKind::Persistent as usize]);
        }
        if kind == EventType::NodeChildrenChanged {
            return;
        }
        let mut above = path;
        loop {
            if let Some(on_path) = self.by_path.get(above) {
                fired.extend_from_slice(&on_path.ids[WatchKind::Recursive as usize]);
            }
            above = match above.rfind('/') {
                _ if above.len() <= 1 => return,
                Some(0) => "/",
                Some(slash) => &above[..slash],
                None => return,
            };
        }
    }

    /// Appends the requests that set all watches again on a new server, as of `last_zxid`; their number is what
    /// [`on_restored`](Self::on_restored) is then awaited for.
    pub(super) fn restore(&mut self, last_zxid: Zxid, out: &mut Vec<u8>) {
        self.deleted_while_restoring.clear();
        self.restoring = 0;
        let is_persistent =
            |on_path: &OnPath| on_path.ids[WatchKind::Persistent as usize..].iter().any(|ids| !ids.is_empty());
        // Servers before 3.6 know only the older request.
        let operation = if self.by_path.values().any(is_persistent) { op::SET_WATCHES2 } else { op::SET_WATCHES };
        let mut lists: [Vec<String>; KINDS] = Default::default();
        let mut bytes = 0;
        for (path, on_path) in &self.by_path {
            if bytes > 0 && bytes + KINDS * path.len() > CHUNK_BYTES {
                write_chunk(operation, last_zxid, std::mem::take(&mut lists), out);
                self.restoring += 1;
                bytes = 0;
            }
            for (list, ids) in lists.iter_mut().zip(&on_path.ids) {
                if !ids.is_empty() {
                    list.push(path.clone());
                    bytes += 4 + path.len();
                }
            }
        }
        if bytes > 0 {
            write_chunk(operation, last_zxid, lists, out);
            self.restoring += 1;
        }
    }

    /// Whether replies to setWatches are awaited.
    pub(super) fn is_restoring(&self) -> bool {
        self.restoring > 0
    }

    /// One setWatches is answered.
    pub(super) fn on_restored(&mut self) {
        self.restoring = self.restoring.saturating_sub(1);
        if self.restoring == 0 {
            self.deleted_while_restoring.clear();
        }
    }

    /// The link is gone, and the watches on the server with it.
    pub(super) fn on_link_lost(&mut self) {
        self.restoring = 0;
        self.deleted_while_restoring.clear();
    }

    /// Takes all ids: they are over.
    pub(super) fn take_all(&mut self) -> Vec<WatchId> {
        self.by_path.clear();
        std::mem::take(&mut self.by_id).into_keys().collect()
    }
}

fn write_chunk(operation: i32, last_zxid: Zxid, lists: [Vec<String>; KINDS], out: &mut Vec<u8>) {
    let [data, exist, child, persistent, recursive] = lists.map(Some);
    write_frame(out, |out| {
        RequestHeader { xid: SET_WATCHES_XID, op: operation }.write(out);
        if operation == op::SET_WATCHES2 {
            SetWatches2Request {
                relative_zxid: last_zxid,
                data,
                exist,
                child,
                persistent,
                persistent_recursive: recursive,
            }
            .write(out);
        } else {
            SetWatchesRequest { relative_zxid: last_zxid, data, exist, child }.write(out);
        }
    });
}
