//! The nodes of a tree: chunks of nodes with 32-bit ids, their blocks, their family links, and the table that finds
//! a whole path with one probe.
//!
//! Nothing is ever renamed, so a node's path and its hash never change. The hash is the same in every process: a
//! random one would make servers differ in nothing that matters but could not be replayed.
//!
//! The table is many small ones: each grows on its own, for less than a millisecond, while one large table would stop
//! the server for 100 ms on its way to a million nodes.

use super::blocks::Blocks;
use super::node::{NULL_DATA, Node, NodeId, RareId};
use hashbrown::HashTable;
use std::hash::Hasher;

/// Nodes of a chunk.
const CHUNK: usize = 4096;

pub(super) struct Arena {
    chunks: Vec<Vec<Node>>,
    /// Ids of deleted nodes, the last deleted on top.
    free: Vec<NodeId>,
    blocks: Blocks,
    /// All nodes but the root, by [`path_hash`]: its topmost bits choose the table.
    tables: Box<[Table; TABLES]>,
    /// Nodes in all tables.
    found_by_path: usize,
}

/// Some of the nodes, by [`table_hash`]. Never iterated.
type Table = HashTable<NodeId>;

/// Tables that nodes are spread over.
const TABLES: usize = 256;

/// Hash of a whole path.
pub(super) fn path_hash(path: &str) -> u32 {
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(path.as_bytes());
    let hash = hasher.finish();
    (hash ^ (hash >> 32)) as u32
}

/// The table that a path is in.
fn table_of(path_hash: u32) -> usize {
    (path_hash >> 24) as usize % TABLES
}

/// What a table takes: it wants entropy in the low and in the topmost bits.
fn table_hash(path_hash: u32) -> u64 {
    u64::from(path_hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn hash_of(chunks: &[Vec<Node>], NodeId(id): NodeId) -> u64 {
    table_hash(chunks[id as usize / CHUNK][id as usize % CHUNK].path_hash)
}

impl Arena {
    /// An arena with a root without stat, data (empty) or children.
    pub fn new() -> Arena {
        let root = Node {
            czxid: 0,
            mzxid: 0,
            pzxid: 0,
            ctime: 0,
            mtime: 0,
            version: 0,
            created: 0,
            parent: NodeId::NONE,
            first_child: NodeId::NONE,
            next_sibling: NodeId::NONE,
            previous_sibling: NodeId::NONE,
            rare: RareId::default(),
            digest: 0,
            path_hash: 0,
            block: Default::default(),
            name_length: 0,
            data_length: 0,
        };
        let mut arena = Arena {
            chunks: Vec::new(),
            free: Vec::new(),
            blocks: Blocks::default(),
            tables: Box::new([const { Table::new() }; TABLES]),
            found_by_path: 0,
        };
        arena.place(root);
        arena
    }

    /// Nodes, the root included.
    pub fn len(&self) -> usize {
        self.found_by_path + 1
    }

    /// Ids are smaller than this.
    pub fn id_bound(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    pub fn get(&self, id: NodeId) -> &Node {
        &self.chunks[id.0 as usize / CHUNK][id.0 as usize % CHUNK]
    }

    pub fn get_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.chunks[id.0 as usize / CHUNK][id.0 as usize % CHUNK]
    }

    /// The node at `path`; `""` and `/` are the root.
    pub fn find(&self, path: &str) -> Option<NodeId> {
        if path.len() <= 1 {
            return matches!(path, "" | "/").then_some(NodeId::ROOT);
        }
        self.find_hashed(path, path_hash(path))
    }

    fn find_hashed(&self, path: &str, path_hash: u32) -> Option<NodeId> {
        self.tables[table_of(path_hash)].find(table_hash(path_hash), |&id| self.is_at(id, path)).copied()
    }

    /// Whether the path of `id` is `path`: name by name towards the root. Names hold no `/`.
    fn is_at(&self, mut id: NodeId, path: &str) -> bool {
        let mut rest = path.as_bytes();
        while id != NodeId::ROOT {
            let node = self.get(id);
            match rest.strip_suffix(self.name_bytes(node)).and_then(|rest| rest.strip_suffix(b"/")) {
                Some(parent) => (rest, id) = (parent, node.parent),
                None => return false,
            }
        }
        rest.is_empty()
    }

    fn name_bytes(&self, node: &Node) -> &[u8] {
        &self.blocks.get(node.block, node.block_bytes())[..node.name_length as usize]
    }

    /// The last element of the node's path; the root's is empty.
    pub fn name(&self, id: NodeId) -> &str {
        std::str::from_utf8(self.name_bytes(self.get(id))).expect("names were strings")
    }

    /// The node's data; `None` is null.
    pub fn data(&self, id: NodeId) -> Option<&[u8]> {
        let node = self.get(id);
        let bytes = &self.blocks.get(node.block, node.block_bytes())[node.name_length as usize..];
        (node.data_length != NULL_DATA).then_some(bytes)
    }

    /// The node's path; the root's is empty.
    pub fn path(&self, id: NodeId) -> String {
        let line = std::iter::successors(Some(id), |&id| self.get(id).parent.some());
        let mut line: Vec<NodeId> = line.take_while(|&id| id != NodeId::ROOT).collect();
        line.reverse();
        let mut path = String::new();
        for id in line {
            path.push('/');
            path.push_str(self.name(id));
        }
        path
    }

    /// The children, the youngest first.
    pub fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        std::iter::successors(self.get(id).first_child.some(), |&child| self.get(child).next_sibling.some())
    }

    /// The node behind the subtree of `id`, parents first; `None` at the end of the tree.
    pub fn behind_subtree(&self, mut id: NodeId) -> Option<NodeId> {
        while id != NodeId::ROOT {
            let node = self.get(id);
            if let Some(next) = node.next_sibling.some() {
                return Some(next);
            }
            id = node.parent;
        }
        None
    }

    /// The node after `id`, parents first; `None` at the end of the tree.
    pub fn next(&self, id: NodeId) -> Option<NodeId> {
        self.get(id).first_child.some().or_else(|| self.behind_subtree(id))
    }

    /// A new node at `path`, which is the path of `parent` and `/name`: youngest child, stat all 0. `None` if there
    /// is one already.
    pub fn insert(&mut self, path: &str, parent: NodeId, name: &str, data: Option<&[u8]>) -> Option<NodeId> {
        debug_assert!(!name.is_empty() && !name.contains('/'), "{name:?} is no name");
        let path_hash = path_hash(path);
        if self.find_hashed(path, path_hash).is_some() {
            return None;
        }
        let older = self.get(parent).first_child;
        let data_length = data.map_or(NULL_DATA, |data| data.len() as u32);
        let data = data.unwrap_or_default();
        let block = self.blocks.allocate(name.len() + data.len());
        let (name_bytes, data_bytes) = self.blocks.get_mut(block, name.len() + data.len()).split_at_mut(name.len());
        name_bytes.copy_from_slice(name.as_bytes());
        data_bytes.copy_from_slice(data);
        let id = self.place(Node {
            czxid: 0,
            mzxid: 0,
            pzxid: 0,
            ctime: 0,
            mtime: 0,
            version: 0,
            created: 0,
            parent,
            first_child: NodeId::NONE,
            next_sibling: older,
            previous_sibling: NodeId::NONE,
            rare: RareId::default(),
            digest: 0,
            path_hash,
            block,
            name_length: name.len() as u32,
            data_length,
        });
        if let Some(older) = older.some() {
            self.get_mut(older).previous_sibling = id;
        }
        self.get_mut(parent).first_child = id;
        let Arena { tables, chunks, .. } = self;
        tables[table_of(path_hash)].insert_unique(table_hash(path_hash), id, |&id| hash_of(chunks, id));
        self.found_by_path += 1;
        Some(id)
    }

    fn place(&mut self, node: Node) -> NodeId {
        if let Some(id) = self.free.pop() {
            *self.get_mut(id) = node;
            return id;
        }
        let id = NodeId(u32::try_from(self.id_bound()).expect("fewer znodes than 32 bits can name"));
        assert!(!id.is_none(), "fewer znodes than 32 bits can name");
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(node),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(node);
                self.chunks.push(chunk);
            }
        }
        id
    }

    /// Removes a node without children, other than the root.
    pub fn remove(&mut self, id: NodeId) {
        let &Node { parent, first_child, next_sibling, previous_sibling, path_hash, block, .. } = self.get(id);
        assert!(first_child.is_none() && id != NodeId::ROOT, "only leaves are removed");
        match previous_sibling.some() {
            Some(previous) => self.get_mut(previous).next_sibling = next_sibling,
            None => self.get_mut(parent).first_child = next_sibling,
        }
        if let Some(next) = next_sibling.some() {
            self.get_mut(next).previous_sibling = previous_sibling;
        }
        let table = &mut self.tables[table_of(path_hash)];
        let entry = table.find_entry(table_hash(path_hash), |&other| other == id);
        entry.expect("every node but the root is in its table").remove();
        self.found_by_path -= 1;
        let bytes = self.get(id).block_bytes();
        self.blocks.release(block, bytes);
        self.free.push(id);
    }

    /// Replaces the data of a node; in place where the length allows.
    pub fn set_data(&mut self, id: NodeId, data: Option<&[u8]>) {
        let (name_length, old_length, old_block) = {
            let node = self.get(id);
            (node.name_length as usize, node.block_bytes(), node.block)
        };
        let data_length = data.map_or(NULL_DATA, |data| data.len() as u32);
        let data = data.unwrap_or_default();
        let new_length = name_length + data.len();
        let block = if Blocks::can_stay(old_length, new_length) {
            old_block
        } else {
            let block = self.blocks.allocate(new_length);
            let name = self.blocks.get(old_block, old_length)[..name_length].to_vec();
            self.blocks.get_mut(block, new_length)[..name_length].copy_from_slice(&name);
            self.blocks.release(old_block, old_length);
            block
        };
        self.blocks.get_mut(block, new_length)[name_length..].copy_from_slice(data);
        let node = self.get_mut(id);
        (node.block, node.data_length) = (block, data_length);
    }

    /// Makes room for `more` further nodes, so that the table does not grow under way.
    pub fn reserve(&mut self, more: usize) {
        let Arena { tables, chunks, .. } = self;
        // The spread is even, give or take: a little more for each.
        let more_each = (more + more / 16).div_ceil(TABLES);
        for table in tables.iter_mut() {
            table.reserve(more_each, |&id| hash_of(chunks, id));
        }
    }
}
