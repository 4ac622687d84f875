//! The items of a snapshot body, in files and in the SNAP stream: sessions, the ACL table, znodes, the end.

use super::{Acl, SessionId, StatPersisted};
use crate::jute::{DecodeError, Reader, Record, record, write_buffer, write_string};

record! {
    /// A session of the session table.
    SnapshotSession { session: SessionId, timeout_ms: i32 }
    /// An entry of the ACL table.
    SnapshotAcl { key: i64, acl: Vec<Acl> }
}

/// The ACL key that stands for `world:anyone` with all permissions and needs no table entry.
pub const OPEN_ACL_KEY: i64 = -1;
/// What follows the terminator of a SNAP stream.
pub const SNAPSHOT_SIGNATURE: &str = "BenWasHere";
/// Bytes of a znode's item beside its path and data: two lengths, the ACL key and the stat.
const ITEM_FIXED_LEN: usize = 4 + 4 + 8 + StatPersisted::MIN_LEN;
/// The terminator: where a path would stand.
const END: &str = "/";

/// A znode of a snapshot; the root's path is the empty string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotNode {
    pub path: String,
    pub data: Option<Vec<u8>>,
    pub acl_key: i64,
    pub stat: StatPersisted,
}

/// One item of a snapshot body, in the order of the stream: `Sessions`, `Acls`, `Node` …, `End`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotItem {
    /// How many [`SnapshotItem::Session`] follow.
    SessionCount(i32),
    Session(SnapshotSession),
    /// How many [`SnapshotItem::Acl`] follow.
    AclCount(i32),
    Acl(SnapshotAcl),
    Node(SnapshotNode),
    End,
}

impl SnapshotItem {
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            SnapshotItem::SessionCount(count) | SnapshotItem::AclCount(count) => count.write(out),
            SnapshotItem::Session(session) => session.write(out),
            SnapshotItem::Acl(acl) => acl.write(out),
            SnapshotItem::Node(node) => {
                write_snapshot_node(&node.path, node.data.as_deref(), node.acl_key, &node.stat, out);
            }
            SnapshotItem::End => write_string(END, out),
        }
    }
}

/// Appends a znode's item without building one.
pub fn write_snapshot_node(path: &str, data: Option<&[u8]>, acl_key: i64, stat: &StatPersisted, out: &mut Vec<u8>) {
    write_string(path, out);
    write_buffer(data, out);
    acl_key.write(out);
    stat.write(out);
}

/// Takes a snapshot body off a stream of bytes, item by item. Pure: it holds only where in the body it is.
#[derive(Clone, Debug, Default)]
pub struct SnapshotDecoder {
    at: At,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    SessionCount,
    Sessions(i32),
    AclCount,
    Acls(i32),
    Nodes,
    End,
}

impl SnapshotDecoder {
    /// The next item; `Ok(None)`: not all of it is here yet (or the end has been taken). No string or buffer may be
    /// longer than `limit` bytes, and no item (a path and data, or an ACL) than twice as many.
    pub fn take(&mut self, from: &mut Reader<'_>, limit: usize) -> Result<Option<SnapshotItem>, DecodeError> {
        if self.at == At::End {
            return Ok(None);
        }
        let mut reader = Reader::with_limit(from.rest(), limit);
        match self.read(&mut reader) {
            Ok((item, next)) => {
                self.at = next;
                *from = reader;
                Ok(Some(item))
            }
            Err(DecodeError::Short { .. }) => match limit.saturating_mul(2).saturating_add(ITEM_FIXED_LEN) {
                // Without this bound a count that lies would make the host collect bytes for ever.
                limit if from.remaining() > limit => Err(DecodeError::TooLong { length: from.remaining(), limit }),
                _ => Ok(None),
            },
            Err(error) => Err(error),
        }
    }

    /// Whether [`SnapshotItem::End`] has been taken.
    pub fn is_done(&self) -> bool {
        self.at == At::End
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<(SnapshotItem, At), DecodeError> {
        Ok(match self.at {
            At::SessionCount => {
                let count = read_count(from)?;
                (SnapshotItem::SessionCount(count), if count == 0 { At::AclCount } else { At::Sessions(count) })
            }
            At::Sessions(left) => {
                let next = if left == 1 { At::AclCount } else { At::Sessions(left - 1) };
                (SnapshotItem::Session(Record::read(from)?), next)
            }
            At::AclCount => {
                let count = read_count(from)?;
                (SnapshotItem::AclCount(count), if count == 0 { At::Nodes } else { At::Acls(count) })
            }
            At::Acls(left) => {
                let next = if left == 1 { At::Nodes } else { At::Acls(left - 1) };
                (SnapshotItem::Acl(Record::read(from)?), next)
            }
            At::Nodes => {
                let path = String::read(from)?;
                if path == END {
                    return Ok((SnapshotItem::End, At::End));
                }
                let (data, acl_key, stat) = (Record::read(from)?, from.long()?, Record::read(from)?);
                (SnapshotItem::Node(SnapshotNode { path, data, acl_key, stat }), At::Nodes)
            }
            At::End => unreachable!("take() stops at the end"),
        })
    }
}

fn read_count(from: &mut Reader<'_>) -> Result<i32, DecodeError> {
    match from.int()? {
        count if count < 0 => Err(DecodeError::NegativeLength(count)),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_lies_is_refused_instead_of_waited_for() {
        let limit = 100;
        let mut bytes = Vec::new();
        for number in [0, 1, 0, 7, i32::MAX] {
            number.write(&mut bytes); // No session, one ACL, its key, its count.
        }
        bytes.resize(bytes.len() + 1000, 0);
        let (mut decoder, mut from) = (SnapshotDecoder::default(), Reader::new(&bytes));
        assert_eq!(decoder.take(&mut from, limit), Ok(Some(SnapshotItem::SessionCount(0))));
        assert_eq!(decoder.take(&mut from, limit), Ok(Some(SnapshotItem::AclCount(1))));
        assert!(matches!(decoder.take(&mut from, limit), Err(DecodeError::TooLong { .. })));
        let mut early = Reader::new(&bytes[8..100]);
        assert_eq!(decoder.take(&mut early, limit), Ok(None));
    }

    #[test]
    fn the_end_is_taken_once_and_what_follows_is_left() {
        let mut bytes = Vec::new();
        for item in [SnapshotItem::SessionCount(0), SnapshotItem::AclCount(0), SnapshotItem::End] {
            item.write(&mut bytes);
        }
        bytes.extend_from_slice(b"behind");
        let (mut decoder, mut from) = (SnapshotDecoder::default(), Reader::new(&bytes));
        let items = std::iter::from_fn(|| decoder.take(&mut from, 100).expect("a good stream")).count();
        assert_eq!((items, from.rest()), (3, &b"behind"[..]));
        assert!(decoder.is_done());
    }
}
