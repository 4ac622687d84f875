//! The stream of a SNAP: where times stand in it, and how two of the same tree are made the same.

use super::compare::Field;
use std::ops::Range;
use zabkit::jute::{Reader, Record};
use zabkit::records::*;

fn items(stream: &[u8]) -> Vec<SnapshotItem> {
    let (mut decoder, mut from) = (SnapshotDecoder::default(), Reader::new(stream));
    std::iter::from_fn(|| decoder.take(&mut from, TXN_BYTES_MAX).expect("an item")).collect()
}

fn stream(items: &[SnapshotItem]) -> Vec<u8> {
    let mut out = Vec::new();
    items.iter().for_each(|item| item.write(&mut out));
    SNAPSHOT_SIGNATURE.to_owned().write(&mut out);
    out
}

/// Where times stand. A node that is as old as the tree has none.
pub fn times(stream: &[u8]) -> Vec<(Range<usize>, Field)> {
    let (mut times, mut item_bytes, mut at) = (Vec::new(), Vec::new(), 0);
    for item in items(stream) {
        if let SnapshotItem::Node(node) = &item {
            // Behind the path, the data, the key of the ACL, czxid and mzxid.
            let ctime = at + 4 + node.path.len() + 4 + node.data.as_ref().map_or(0, |data| data.len()) + 8 + 16;
            let fields = [ctime..ctime + 8, ctime + 8..ctime + 16];
            let is_time = |field: &Range<usize>| stream[field.clone()] != [0; 8];
            times.extend(fields.into_iter().filter(is_time).map(|field| (field, Field::Time)));
        }
        item_bytes.clear();
        item.write(&mut item_bytes);
        at += item_bytes.len();
    }
    times
}

/// The same sessions, nodes and ACLs in one order: nodes by their paths, and ACLs by the first node that has them.
pub fn in_order(bytes: &[u8]) -> Vec<u8> {
    let (mut sessions, mut acls, mut nodes) = (Vec::new(), vec![(OPEN_ACL_KEY, vec![Acl::open()])], Vec::new());
    for item in items(bytes) {
        match item {
            SnapshotItem::SessionCount(_) | SnapshotItem::Session(_) => sessions.push(item),
            SnapshotItem::Acl(SnapshotAcl { key, acl }) => acls.push((key, acl)),
            SnapshotItem::Node(node) => nodes.push(node),
            SnapshotItem::AclCount(_) | SnapshotItem::End => {}
        }
    }
    nodes.sort_by(|one, other| one.path.cmp(&other.path));
    let mut used: Vec<Vec<Acl>> = Vec::new();
    for node in &mut nodes {
        let (_, acl) = acls.iter().find(|(key, _)| *key == node.acl_key).expect("a node's ACL is there");
        let place = used.iter().position(|known| known == acl).unwrap_or_else(|| {
            used.push(acl.clone());
            used.len() - 1
        });
        node.acl_key = place as i64;
    }
    let mut items = sessions;
    items.push(SnapshotItem::AclCount(used.len() as i32));
    items.extend((0..).zip(used).map(|(key, acl)| SnapshotItem::Acl(SnapshotAcl { key, acl })));
    items.extend(nodes.into_iter().map(SnapshotItem::Node));
    items.push(SnapshotItem::End);
    stream(&items)
}

/// The tree before what came after `zxid`: the nodes that were created below the root since then, as the digests tell.
/// The root's children had last changed at `root`.
pub fn cut_back(bytes: &[u8], zxid: Zxid, root: Zxid) -> Vec<u8> {
    let is_later = |item: &SnapshotItem| matches!(item, SnapshotItem::Node(node) if node.stat.czxid > zxid);
    let (later, mut items): (Vec<_>, Vec<_>) = items(bytes).into_iter().partition(is_later);
    for item in &mut items {
        if let SnapshotItem::Node(node) = item
            && node.path.is_empty()
        {
            node.stat.cversion -= later.len() as i32;
            node.stat.pzxid = root;
        }
    }
    stream(&items)
}
