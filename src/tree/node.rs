//! One znode in memory: 88 bytes, a block for name and data, and what few znodes have in a side table.

use super::blocks::BlockId;

/// Names a znode of a tree while it exists; ids of deleted znodes are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(pub u32);

impl NodeId {
    /// The root: the first, and never deleted.
    pub const ROOT: NodeId = NodeId(0);
    /// No node: the end of a list.
    pub const NONE: NodeId = NodeId(u32::MAX);

    pub fn is_none(self) -> bool {
        self == NodeId::NONE
    }

    /// `None` for [`NodeId::NONE`].
    pub fn some(self) -> Option<NodeId> {
        (!self.is_none()).then_some(self)
    }
}

/// An index into the side table; 0: all fields there have their usual values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RareId(pub u32);

/// A znode. ZooKeeper: `DataNode`.
#[derive(Debug)]
pub(super) struct Node {
    pub czxid: i64,
    pub mzxid: i64,
    pub pzxid: i64,
    /// Milliseconds since 1970 UTC.
    pub ctime: i64,
    /// Milliseconds since 1970 UTC.
    pub mtime: i64,
    pub version: i32,
    /// The children ever created: the persisted cversion.
    pub created: i32,
    pub parent: NodeId,
    /// The youngest child.
    pub first_child: NodeId,
    /// The next older child of the same parent.
    pub next_sibling: NodeId,
    pub previous_sibling: NodeId,
    pub rare: RareId,
    /// The node's share of the tree digest.
    pub digest: u32,
    /// Of the whole path.
    pub path_hash: u32,
    /// The name, then the data.
    pub block: BlockId,
    pub name_length: u32,
    /// Bytes of data; [`NULL_DATA`]: null.
    pub data_length: u32,
}

/// The data length of null, which is not the same as empty.
pub(super) const NULL_DATA: u32 = u32::MAX;

impl Node {
    pub fn data_bytes(&self) -> usize {
        if self.data_length == NULL_DATA { 0 } else { self.data_length as usize }
    }

    pub fn block_bytes(&self) -> usize {
        self.name_length as usize + self.data_bytes()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_node_is_88_bytes() {
        assert_eq!(size_of::<super::Node>(), 88);
    }
}
