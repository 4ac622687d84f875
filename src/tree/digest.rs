//! The tree digest, version 2: a number that is equal for equal trees, kept up to date change by change.
//!
//! It is the wrapping sum of a CRC-32 of each node: path, data, and the stat in an order of its own (pzxid is third,
//! unlike in a snapshot). Nodes below `/zookeeper/` count 0, `/zookeeper` itself counts; ACLs do not, but their
//! version does. Each node keeps its own share, so that a change costs one CRC and not two.
//!
//! ZooKeeper: `DigestCalculator`, `AdHash`.

use crate::records::StatPersisted;

/// The digest of the znode at `path` (the root's is `""`): 0 below `/zookeeper/`.
pub fn node_digest(path: &str, data: Option<&[u8]>, stat: &StatPersisted) -> u32 {
    if path.starts_with("/zookeeper/") {
        return 0;
    }
    let mut fields = [0; 60];
    let longs = [stat.czxid.0, stat.mzxid.0, stat.pzxid.0, stat.ctime, stat.mtime];
    for (field, long) in fields.chunks_exact_mut(8).zip(longs) {
        field.copy_from_slice(&long.to_be_bytes());
    }
    for (field, int) in fields[40..].chunks_exact_mut(4).zip([stat.version, stat.cversion, stat.aversion]) {
        field.copy_from_slice(&int.to_be_bytes());
    }
    fields[52..].copy_from_slice(&stat.ephemeral_owner.to_be_bytes());

    let mut crc = crc32fast::Hasher::new();
    crc.update(path.as_bytes());
    crc.update(data.unwrap_or_default());
    crc.update(&fields);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Zxid;

    fn zeros() -> StatPersisted {
        StatPersisted {
            czxid: Zxid(0),
            mzxid: Zxid(0),
            ctime: 0,
            mtime: 0,
            version: 0,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: 0,
            pzxid: Zxid(0),
        }
    }

    /// The figures of a real server's log: an empty tree, then `/kinds` created as zxid 2.
    #[test]
    fn the_digests_of_single_nodes_are_those_of_a_real_server() {
        assert_eq!(node_digest("", None, &zeros()), 68_323_592);
        assert_eq!(node_digest("/zookeeper", Some(&[]), &zeros()), 1_303_661_912);
        assert_eq!(node_digest("", None, &StatPersisted { pzxid: Zxid(2), cversion: 1, ..zeros() }), 51_738_866);
        let (zxid, time) = (Zxid(2), 1_795_359_546_140);
        let kinds = StatPersisted { czxid: zxid, mzxid: zxid, pzxid: zxid, ctime: time, mtime: time, ..zeros() };
        assert_eq!(node_digest("/kinds", Some(&[]), &kinds), 1_858_676_056);
    }

    #[test]
    fn nodes_below_zookeeper_do_not_count_but_others_with_such_a_beginning_do() {
        assert_eq!(node_digest("/zookeeper/quota", Some(b"x"), &zeros()), 0);
        assert_ne!(node_digest("/zookeepers", Some(b"x"), &zeros()), 0);
    }
}
