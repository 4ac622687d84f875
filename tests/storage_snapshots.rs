//! What storage makes of snapshots, whole, unfinished, damaged and packed.

mod storage_support;

use std::io::Write;
use storage_support::{
    body, closed, config, file, foreign, fresh, log_of_others, open, open_sim, snapshot, txns, write_body,
};
use zabkit::jute::Record;
use zabkit::records::Zxid;
use zabkit::sim::disk::{Fault, SimDisk};
use zabkit::storage::{Compression, Repair, StorageConfig, StorageError, Truncated};

/// The body of a snapshot with `nodes` znodes below the root.
fn long_body(nodes: usize) -> Vec<u8> {
    let small = body(Zxid(1), "a");
    let end = small.len() - 5;
    let mut out = small[..8].to_vec();
    let (mut at, mut items) = (8, Vec::new());
    while at < end {
        let mut reader = zabkit::jute::Reader::new(&small[at..end]);
        reader.string().unwrap();
        reader.buffer().unwrap();
        reader.bytes(8 + 60).unwrap();
        let next = end - reader.remaining();
        items.push(&small[at..next]);
        at = next;
    }
    out.extend_from_slice(items[0]);
    for n in 0..nodes {
        format!("/node-{n:06}").write(&mut out);
        out.extend_from_slice(&items[1][4 + "/a-0x1".len()..]);
    }
    out.extend_from_slice(&small[end..]);
    out
}

#[test]
fn a_snapshot_that_fails_harms_nothing() {
    let disk = SimDisk::new();
    let mut storage = fresh(&disk);
    storage.append(&txns(1..=2)).unwrap();
    disk.fail(Fault::Full);
    assert!(snapshot(&storage, Zxid(2)).unwrap_err().is_disk_full());
    disk.heal();
    let writer = write_body(&storage, Zxid(2), "own").unwrap();
    disk.fail(Fault::Full);
    assert!(writer.finish(None).unwrap_err().is_disk_full());
    disk.heal();
    assert_eq!(disk.files().keys().filter(|path| path.to_str().unwrap().contains("tmp")).count(), 0);
    storage.append(&txns(3..=4)).unwrap();
    storage.sync().unwrap();
    snapshot(&storage, Zxid(4)).unwrap();
    drop(storage);
    assert_eq!(open_sim(&disk).unwrap().1.snapshot_zxid, Some(Zxid(4)));
}

#[test]
fn a_snapshot_begun_before_a_truncation_gets_no_name_after_it() {
    let disk = SimDisk::new();
    let mut storage = fresh(&disk);
    storage.append(&txns(1..=4)).unwrap();
    let writer = write_body(&storage, Zxid(4), "own").unwrap();
    assert_eq!(storage.truncate(Zxid(2)).unwrap(), Truncated::To { last: Zxid(2) });
    assert!(matches!(writer.finish(None), Err(StorageError::Superseded { .. })));
    drop(storage);
    assert_eq!(open_sim(&disk).unwrap().1.last_zxid, Zxid(2));
}

/// A follower's own snapshot may still be being written when the leader sends one of the same zxid.
#[test]
fn two_snapshots_of_one_zxid_do_not_write_into_each_other() {
    let disk = SimDisk::new();
    let mut storage = fresh(&disk);
    storage.append(&txns(1..=4)).unwrap();
    storage.sync().unwrap();
    let mut own = write_body(&storage, Zxid(4), "own").unwrap();
    let mut leaders = storage.begin_snapshot(Zxid(4)).unwrap();
    own.write(&vec![0xEE; 300 << 10]).unwrap(); // More than is gathered before a write.
    leaders.write(&body(Zxid(4), "leader")).unwrap();
    storage.install_snapshot(leaders, None).unwrap();
    own.write(&vec![0xEE; 300 << 10]).unwrap();
    assert!(matches!(own.finish(None), Err(StorageError::Superseded { .. })));
    drop(storage);
    let (_, recovered, found) = open_sim(&disk).unwrap();
    assert_eq!((recovered.last_zxid, found.nodes.as_slice()), (Zxid(4), &["".into(), "/leader-0x4".into()][..]));
    assert_eq!(recovered.repaired, []);
}

#[test]
fn an_older_snapshot_does_only_if_the_log_leads_over_the_damaged_one() {
    let disk = SimDisk::new();
    let mut storage = fresh(&disk);
    storage.append(&txns(1..=3)).unwrap();
    storage.close().unwrap();
    let (storage, ..) = open_sim(&disk).unwrap();
    snapshot(&storage, Zxid(9)).unwrap(); // As after an upgrade by hand: the log ends before it.
    drop(storage);
    let mut bytes = disk.files()[&file("snapshot.9")].clone();
    bytes[40] ^= 1;
    disk.put(&file("snapshot.9"), &bytes);
    let Some(StorageError::SnapshotDamaged { reached, damaged, .. }) = open_sim(&disk).err() else {
        panic!("it opened")
    };
    assert_eq!((reached, damaged), (Zxid(3), file("snapshot.9")));
}

#[test]
fn a_directory_with_only_damaged_snapshots_is_refused() {
    for damage in [(0, 1), (60, 1)] {
        let disk = SimDisk::new();
        drop(fresh(&disk));
        let mut bytes = disk.files()[&file("snapshot.0")].clone();
        bytes[damage.0] ^= damage.1;
        disk.put(&file("snapshot.0"), &bytes);
        let error = open_sim(&disk).err().expect("it must be refused").to_string();
        assert!(error.contains("not able to find valid snapshots") && error.contains("snapshot.0"), "{error}");
    }
}

/// A crash of Apache's in its first moment: `snapshot.0` was begun, nothing else is there.
#[test]
fn an_unfinished_first_snapshot_is_an_empty_server() {
    let disk = SimDisk::new();
    disk.put(&file("snapshot.0"), b"ZKSN\0\0\0\x02half");
    let (storage, recovered, _) = open_sim(&disk).unwrap();
    assert!(recovered.was_empty && recovered.needs_snapshot);
    assert!(matches!(recovered.repaired.as_slice(), [Repair::UnfinishedSnapshot { .. }]));
    snapshot(&storage, Zxid(0)).unwrap();
    drop(storage);
    assert!(!open_sim(&disk).unwrap().1.was_empty);
}

/// Apache writes snapshots in place, so one that is not finished is nothing to worry about; ours are finished before
/// they have their name.
#[test]
fn an_unfinished_snapshot_is_passed_over_in_apaches_directory_and_refused_in_ours() {
    let half = b"ZKSN\0\0\0\x02half";
    let apaches = foreign();
    apaches.put(&file("snapshot.7"), half);
    let (_, recovered, _) = open_sim(&apaches).unwrap();
    assert_eq!(recovered.last_zxid, Zxid(5));
    let [Repair::UnfinishedSnapshot { kept, .. }] = recovered.repaired.as_slice() else { panic!("{recovered:?}") };
    assert_eq!(apaches.files()[kept], half);

    let ours = closed();
    ours.put(&file("snapshot.7"), half);
    assert!(matches!(open_sim(&ours).err(), Some(StorageError::SnapshotDamaged { .. })));

    // Apache has gone on in our directory: its log is there, and its snapshot may be ahead of what it has flushed.
    let both = closed();
    both.put(&file("log.6"), &log_of_others(&txns([6])));
    both.put(&file("snapshot.9"), half);
    let (_, recovered, _) = open_sim(&both).unwrap();
    assert_eq!(recovered.last_zxid, Zxid(6));
    assert!(matches!(recovered.repaired.as_slice(), [Repair::UnfinishedSnapshot { .. }]));
}

/// The first bytes of a packed file say nothing of its end.
#[test]
fn a_packed_snapshot_that_apache_was_killed_over_is_passed_over_too() {
    for (compression, suffix) in [(Compression::Gz, ".gz"), (Compression::Snappy, ".snappy")] {
        let disk = SimDisk::new();
        let config = StorageConfig { compression, ..config() };
        let (storage, ..) = open(&disk, config.clone()).unwrap();
        write_body(&storage, Zxid(7), "own").unwrap().finish(None).unwrap();
        drop(storage);
        let name = file(&format!("snapshot.7{suffix}"));
        let whole = disk.files()[&name].clone();
        for end in 16..whole.len() {
            let apaches = foreign();
            apaches.put(&name, &whole[..end]);
            let (_, recovered, found) = open(&apaches, config.clone()).unwrap();
            assert_eq!((found.zxids(), recovered.last_zxid), (vec![1, 2, 3, 4, 5], Zxid(5)), "{suffix} up to {end}");
        }
        let apaches = foreign();
        apaches.put(&name, &whole);
        assert_eq!(open(&apaches, config).unwrap().1.last_zxid, Zxid(7));
    }
}

#[test]
fn snapshots_are_packed_as_asked_and_every_kind_is_read_installed_and_purged() {
    let kinds = [(Compression::None, ""), (Compression::Gz, ".gz"), (Compression::Snappy, ".snappy")];
    for (compression, suffix) in kinds {
        let disk = SimDisk::new();
        let with = |compression| StorageConfig { compression, ..config() };
        let (mut storage, ..) = open(&disk, with(compression)).unwrap();
        snapshot(&storage, Zxid(0)).unwrap();
        storage.append(&txns(1..=3)).unwrap();
        // More than a few blocks of any packing.
        let mut writer = storage.begin_snapshot(Zxid(3)).unwrap();
        let parts = long_body(4000);
        parts.chunks(70_001).for_each(|part| writer.write(part).unwrap());
        let path = writer.finish(Some((Zxid(3), 77))).unwrap();
        assert_eq!(path, file(&format!("snapshot.3{suffix}")));
        let bytes = disk.files()[&path].len();
        assert_eq!(bytes < parts.len(), compression != Compression::None, "{bytes} of {}", parts.len());
        drop(storage);

        // Read by a server that packs otherwise; then the leader's snapshot replaces it.
        for (other, other_suffix) in kinds {
            let (mut storage, recovered, found) = open(&disk, with(other)).unwrap();
            assert_eq!((recovered.snapshot_zxid, recovered.digest), (Some(Zxid(3)), Some((Zxid(3), 77))));
            assert_eq!(found.nodes.len(), 4001, "{suffix}");
            if other_suffix != suffix {
                continue;
            }
            let writer = write_body(&storage, Zxid(9), "leader").unwrap();
            storage.install_snapshot(writer, Some((Zxid(9), 99))).unwrap();
            drop(storage);
            let (_, recovered, found) = open(&disk, config()).unwrap();
            assert_eq!((recovered.snapshot_zxid, found.nodes[1].as_str()), (Some(Zxid(9)), "/leader-0x9"));
            let snapshots = disk.files().into_keys().filter(|path| path.to_str().unwrap().contains("snapshot"));
            assert_eq!(snapshots.collect::<Vec<_>>(), [file(&format!("snapshot.9{suffix}"))]);
            break;
        }
    }
}

/// What Java's decoder asks of a snappy stream: magic, versions, and blocks of at most 32 KiB, unpacked.
#[test]
fn a_snappy_snapshot_is_in_the_framing_of_javas_library() {
    let disk = SimDisk::new();
    let (storage, ..) = open(&disk, StorageConfig { compression: Compression::Snappy, ..config() }).unwrap();
    let mut writer = storage.begin_snapshot(Zxid(3)).unwrap();
    writer.write(&long_body(4000)).unwrap();
    let path = writer.finish(None).unwrap();
    let bytes = disk.files()[&path].clone();
    let (head, mut rest) = bytes.split_at(16);
    assert_eq!(head, b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    let mut unpacked = Vec::new();
    while let Some((length, more)) = rest.split_first_chunk() {
        let (block, behind) = more.split_at(u32::from_be_bytes(*length) as usize);
        let block = snap::raw::Decoder::new().decompress_vec(block).unwrap();
        assert!(block.len() == 32 << 10 || behind.is_empty());
        unpacked.extend(block);
        rest = behind;
    }
    assert_eq!((&unpacked[..4], &unpacked[unpacked.len() - 5..]), (&b"ZKSN"[..], &b"\0\0\0\x01/"[..]));
}

/// A crash between the two, and then Apache's server goes on with the old state: what it does must not be lost.
#[test]
fn a_leaders_snapshot_that_was_not_decided_for_is_given_up() {
    let disk = closed();
    let (storage, ..) = open_sim(&disk).unwrap();
    snapshot(&storage, Zxid(9)).unwrap();
    drop(storage);
    let ready = disk.files()[&file("snapshot.9")].clone();
    let disk = closed();
    disk.put(&file("zabkit.install.snapshot.9"), &ready);
    disk.put(&file("log.6"), &log_of_others(&txns(6..=12)));
    let (_, recovered, _) = open_sim(&disk).unwrap();
    assert_eq!((recovered.snapshot_zxid, recovered.last_zxid), (Some(Zxid(0)), Zxid(12)));
    assert!(!disk.files().keys().any(|path| path.to_str().unwrap().contains("install")));
}

/// Seals in the layouts of 3.5, 3.8 and 3.9, with and without digest.
#[test]
fn every_layout_is_read_and_every_flipped_byte_noticed() {
    let seal = |bytes: &mut Vec<u8>| {
        let sum = simd_adler32::adler32(&bytes.as_slice());
        i64::from(sum).write(bytes);
        "/".to_owned().write(bytes);
    };
    let mut plain = Vec::new();
    (0x5a4b_534e_i32, 2i32, -1i64).0.write(&mut plain);
    2i32.write(&mut plain);
    (-1i64).write(&mut plain);
    plain.extend(body(Zxid(5), "own"));
    seal(&mut plain);
    let with_digest = |zxid: i64| {
        let mut bytes = plain.clone();
        zxid.write(&mut bytes);
        2i32.write(&mut bytes);
        77i64.write(&mut bytes);
        seal(&mut bytes);
        bytes
    };
    let with_zxid = |mut bytes: Vec<u8>| {
        5i64.write(&mut bytes);
        seal(&mut bytes);
        bytes
    };
    let old_digest = {
        let mut bytes = plain.clone();
        5i64.write(&mut bytes);
        1i32.write(&mut bytes);
        "abcdef0123456789".to_owned().write(&mut bytes);
        seal(&mut bytes);
        bytes
    };
    let digest = Some((Zxid(6), 77));
    for (layout, bytes, expected) in [
        ("3.5", plain.clone(), None),
        ("3.6 with a digest of another kind", old_digest, None),
        ("3.8", with_digest(6), digest),
        ("3.8, ours: the digest is of the file's own zxid", with_digest(0), Some((Zxid(5), 77))),
        ("3.8, digest older than the name", with_digest(4), None),
        ("3.9", with_zxid(with_digest(6)), digest),
        ("3.9 without digest", with_zxid(plain.clone()), None),
    ] {
        for at in (0..bytes.len()).filter(|at| !(4..16).contains(at) || layout == "3.9") {
            let disk = SimDisk::new();
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            disk.put(&file("snapshot.5"), &damaged);
            assert!(open_sim(&disk).is_err(), "{layout}: byte {at} of {}", bytes.len());
        }
        let disk = SimDisk::new();
        disk.put(&file("snapshot.5"), &bytes);
        let (_, recovered, found) = open_sim(&disk).unwrap_or_else(|error| panic!("{layout}: {error}"));
        assert_eq!((recovered.snapshot_zxid, recovered.digest), (Some(Zxid(5)), expected), "{layout}");
        assert_eq!(found.nodes, ["", "/own-0x5"], "{layout}");

        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(&bytes).unwrap();
        let gz = gz.finish().unwrap();
        for end in [gz.len(), gz.len() - 9, gz.len() / 2] {
            let disk = SimDisk::new();
            disk.put(&file("snapshot.5.gz"), &gz[..end]);
            assert_eq!(open_sim(&disk).is_ok(), end == gz.len(), "{layout}: gz up to {end}");
        }
    }
}
