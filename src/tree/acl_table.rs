//! The ACLs of a tree, each distinct list once; nodes hold its number, which is also its key in snapshots.
//!
//! ZooKeeper: `ReferenceCountedACLCache`.

use crate::records::{Acl, OPEN_ACL_KEY};
use hashbrown::HashTable;
use std::hash::Hasher;
use std::sync::Arc;

/// Names a list of the table while it is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AclId(u32);

impl AclId {
    /// `world:anyone` with all permissions, which is always there and never counted.
    pub const OPEN: AclId = AclId(0);

    /// The key in snapshots.
    pub fn key(self) -> i64 {
        if self == AclId::OPEN { OPEN_ACL_KEY } else { i64::from(self.0) }
    }
}

pub(super) struct AclTable {
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// The entries in use, by [`hash`].
    by_list: HashTable<u32>,
}

struct Entry {
    acl: Arc<[Acl]>,
    uses: usize,
}

fn hash(acl: &[Acl]) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    for Acl { perms, id } in acl {
        hasher.write_i32(*perms);
        hasher.write(id.scheme.as_bytes());
        hasher.write(id.id.as_bytes());
    }
    hasher.finish()
}

fn is_open(acl: &[Acl]) -> bool {
    matches!(acl, [Acl { perms: crate::records::perms::ALL, id }] if id.scheme == "world" && id.id == "anyone")
}

impl AclTable {
    pub fn new() -> AclTable {
        let open = Entry { acl: Arc::new([Acl::open()]), uses: 1 };
        AclTable { entries: vec![open], free: Vec::new(), by_list: HashTable::new() }
    }

    /// The number of `acl`, used once more from now on.
    pub fn acquire(&mut self, acl: &[Acl]) -> AclId {
        if is_open(acl) {
            return AclId::OPEN;
        }
        let hash_of_acl = hash(acl);
        if let Some(&id) = self.by_list.find(hash_of_acl, |&id| *self.entries[id as usize].acl == *acl) {
            self.entries[id as usize].uses += 1;
            return AclId(id);
        }
        let entry = Entry { acl: acl.into(), uses: 1 };
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = entry;
                id
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).expect("fewer ACLs than 32 bits can name")
            }
        };
        let entries = &self.entries;
        self.by_list.insert_unique(hash_of_acl, id, |&id| hash(&entries[id as usize].acl));
        AclId(id)
    }

    /// Uses `id` once more.
    pub fn acquire_again(&mut self, id: AclId) {
        if id != AclId::OPEN {
            self.entries[id.0 as usize].uses += 1;
        }
    }

    /// Gives one use of `id` back.
    pub fn release(&mut self, id: AclId) {
        if id == AclId::OPEN {
            return;
        }
        let entry = &mut self.entries[id.0 as usize];
        entry.uses -= 1;
        if entry.uses == 0 {
            let hash = hash(&entry.acl);
            let found = self.by_list.find_entry(hash, |&other| other == id.0);
            found.expect("a list in use is in the table").remove();
            self.entries[id.0 as usize].acl = Arc::new([]);
            self.free.push(id.0);
        }
    }

    pub fn get(&self, id: AclId) -> &Arc<[Acl]> {
        &self.entries[id.0 as usize].acl
    }

    /// The lists in use, other than the open one, by ascending key.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Arc<[Acl]>)> {
        let in_use = self.entries.iter().enumerate().skip(1).filter(|(_, entry)| entry.uses > 0);
        in_use.map(|(id, entry)| (id as i64, &entry.acl))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Id, perms};

    fn digest_acl(user: &str) -> Vec<Acl> {
        vec![Acl { perms: perms::READ, id: Id::new("digest", user) }]
    }

    #[test]
    fn equal_lists_have_one_entry_until_the_last_use_ends() {
        let mut table = AclTable::new();
        let first = table.acquire(&digest_acl("a:x"));
        assert_eq!(table.acquire(&digest_acl("a:x")), first);
        assert_ne!(table.acquire(&digest_acl("b:x")), first);
        table.release(first);
        assert_eq!(**table.get(first), digest_acl("a:x"));
        table.release(first);
        assert_eq!(table.iter().map(|(_, acl)| acl.to_vec()).collect::<Vec<_>>(), [digest_acl("b:x")]);
        assert_eq!(table.acquire(&digest_acl("c:x")), first, "the number is free again");
    }

    #[test]
    fn the_open_list_has_key_minus_one_and_no_entry() {
        let mut table = AclTable::new();
        assert_eq!(table.acquire(&[Acl::open()]).key(), -1);
        assert_eq!(table.iter().count(), 0);
    }
}
