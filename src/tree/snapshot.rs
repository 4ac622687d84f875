//! A snapshot of the tree at one zxid, written in chunks while the tree goes on changing.
//!
//! A cursor walks the nodes, parents first. What it has passed may change; a node that it has not come to is copied
//! before it changes ([`Cursors::before_change`]) and the copy is written in its place. A node that is deleted before
//! the cursor came by is written at the end, in path order, so still behind its parent. Nodes that are born under
//! way are marked as passed. So the body holds the tree exactly as it was at the beginning; Apache's "fuzzy" snapshots
//! hold some of what came later, and readers accept both.
//!
//! The marks are bits of the cursor, one for each node id: abandoning a snapshot is dropping it, and a tree without
//! snapshots under way pays one test for each change. Chunks are written under a read lock of the tree, hence the
//! cursor's own lock.

use super::DataTree;
use super::node::NodeId;
use super::nodes::Nodes;
use crate::jute::Record;
use crate::records::{SessionId, SnapshotItem, StatPersisted, write_snapshot_node};
use crate::sync::{self, Mutex};
use std::collections::BTreeMap;

/// Snapshots that may be under way at once: one for the disk, the others for learners. Each may hold a copy of what
/// has changed since it began.
const CURSORS_MAX: usize = 8;

/// Names a snapshot under way. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CursorId(u64);

/// The snapshots under way.
#[derive(Default)]
pub(super) struct Cursors {
    open: BTreeMap<CursorId, Mutex<Cursor>>,
    last: u64,
}

struct Cursor {
    /// Sessions and ACL table, encoded; as far as they have been sent.
    head: Vec<u8>,
    head_sent: usize,
    /// Bit by node id: already written, or born since.
    passed: Vec<u64>,
    /// The next node to come to; `None` at the end of the walk.
    next: Option<NodeId>,
    /// Nodes that changed before the walk came to them, as they were.
    changed: BTreeMap<NodeId, Image>,
    /// Nodes that were deleted before the walk came to them, as they were at the beginning.
    deleted: BTreeMap<String, Image>,
    done: bool,
}

/// A node as it was when the snapshot began.
struct Image {
    data: Option<Box<[u8]>>,
    acl_key: i64,
    stat: StatPersisted,
}

impl Image {
    fn of(nodes: &Nodes, id: NodeId) -> Image {
        Image {
            data: nodes.arena.data(id).map(Box::from),
            acl_key: nodes.rare(id).acl.key(),
            stat: nodes.persisted(id),
        }
    }

    fn write(&self, path: &str, out: &mut Vec<u8>) {
        write_snapshot_node(path, self.data.as_deref(), self.acl_key, &self.stat, out);
    }
}

impl Cursors {
    /// Keeps `id` as it is for every snapshot that has not come to it.
    pub fn before_change(&mut self, nodes: &Nodes, id: NodeId) {
        for cursor in self.open.values_mut() {
            let cursor = sync::get_mut(cursor);
            if !cursor.has_passed(id) {
                cursor.changed.entry(id).or_insert_with(|| Image::of(nodes, id));
            }
        }
    }

    /// The node is newer than every snapshot under way.
    pub fn born(&mut self, id: NodeId) {
        for cursor in self.open.values_mut() {
            sync::get_mut(cursor).pass(id);
        }
    }

    /// The node, which has no children, is about to be deleted.
    pub fn dying(&mut self, nodes: &Nodes, id: NodeId, path: &str) {
        for cursor in self.open.values_mut() {
            let cursor = sync::get_mut(cursor);
            if !cursor.has_passed(id) {
                let image = cursor.changed.remove(&id).unwrap_or_else(|| Image::of(nodes, id));
                cursor.deleted.insert(path.into(), image);
            }
            if cursor.next == Some(id) {
                cursor.next = nodes.arena.behind_subtree(id);
            }
        }
    }
}

impl Cursor {
    fn has_passed(&self, id: NodeId) -> bool {
        let (word, bit) = (id.0 as usize / 64, id.0 % 64);
        self.passed.get(word).is_some_and(|word| word >> bit & 1 == 1)
    }

    fn pass(&mut self, id: NodeId) {
        let (word, bit) = (id.0 as usize / 64, id.0 % 64);
        if word >= self.passed.len() {
            self.passed.resize(word + 1, 0);
        }
        self.passed[word] |= 1 << bit;
    }

    /// Appends to `out` until it has `end` bytes or more, or the snapshot is done.
    fn write(&mut self, nodes: &Nodes, end: usize, out: &mut Vec<u8>) {
        if self.head_sent < self.head.len() {
            let left = &self.head[self.head_sent..];
            let sent = left.len().min(end - out.len());
            out.extend_from_slice(&left[..sent]);
            self.head_sent += sent;
        }
        let (mut path, mut parent, mut parent_bytes) = (String::new(), NodeId::NONE, 0);
        while out.len() < end
            && let Some(id) = self.next
        {
            if self.has_passed(id) {
                self.next = nodes.arena.behind_subtree(id); // Born since, and all below it too.
                continue;
            }
            // Mostly a sibling of the last one: only the name is new.
            let node = nodes.arena.get(id);
            if node.parent != parent {
                parent = node.parent;
                path = parent.some().map_or_else(String::new, |parent| nodes.arena.path(parent));
                parent_bytes = path.len();
            }
            path.truncate(parent_bytes);
            if id != NodeId::ROOT {
                path.push('/');
                path.push_str(nodes.arena.name(id));
            }
            match self.changed.remove(&id) {
                Some(image) => image.write(&path, out),
                None => {
                    let (data, acl_key) = (nodes.arena.data(id), nodes.rare(id).acl.key());
                    write_snapshot_node(&path, data, acl_key, &nodes.persisted(id), out);
                }
            }
            self.pass(id);
            self.next = nodes.arena.next(id);
        }
        if self.next.is_some() {
            return;
        }
        while out.len() < end {
            match self.deleted.pop_first() {
                Some((path, image)) => image.write(&path, out),
                None => {
                    SnapshotItem::End.write(out);
                    self.done = true;
                    return;
                }
            }
        }
    }
}

impl DataTree {
    /// Begins a snapshot of the tree as it is now, and of `sessions` (timeouts in ms). `None`: 8 are under way.
    pub fn begin_snapshot(&mut self, sessions: &BTreeMap<SessionId, i32>) -> Option<CursorId> {
        if self.cursors.open.len() >= CURSORS_MAX {
            return None;
        }
        let mut head = Vec::new();
        (sessions.len() as i32).write(&mut head);
        for (session, timeout_ms) in sessions {
            session.write(&mut head);
            timeout_ms.write(&mut head);
        }
        (self.nodes.acls.iter().count() as i32).write(&mut head);
        for (key, acl) in self.nodes.acls.iter() {
            key.write(&mut head);
            (acl.len() as i32).write(&mut head);
            acl.iter().for_each(|entry| entry.write(&mut head));
        }
        let cursor = Cursor {
            head,
            head_sent: 0,
            passed: vec![0; self.nodes.arena.id_bound().div_ceil(64)],
            next: Some(NodeId::ROOT),
            changed: BTreeMap::new(),
            deleted: BTreeMap::new(),
            done: false,
        };
        self.cursors.last += 1;
        let id = CursorId(self.cursors.last);
        self.cursors.open.insert(id, Mutex::new(cursor));
        Some(id)
    }

    /// Appends about `max_bytes` of the snapshot's body to `out`; true when that was the end of it. Only znodes are
    /// kept whole between chunks, and a single large one may make a chunk longer.
    pub fn next_chunk(&self, cursor: CursorId, max_bytes: usize, out: &mut Vec<u8>) -> bool {
        let cursor = self.cursors.open.get(&cursor).expect("the snapshot is under way");
        let mut cursor = sync::lock(cursor);
        if !cursor.done {
            let end = out.len() + max_bytes.max(1);
            cursor.write(&self.nodes, end, out);
        }
        cursor.done
    }

    /// Ends a snapshot, done or not.
    pub fn end_snapshot(&mut self, cursor: CursorId) {
        self.cursors.open.remove(&cursor);
    }
}
