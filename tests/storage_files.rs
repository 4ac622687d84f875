//! What storage makes of logs and directories, whole and damaged: torn tails, rot, epochs, purge, and what it refuses.

mod storage_support;

use proptest::prelude::*;
use std::path::PathBuf;
use storage_support::{
    Collected, DIR, closed, config, file, foreign, fresh, log_of_others, open, open_sim, snapshot, txn, txn_of, txns,
    write_body,
};
use zabkit::records::{Epoch, Zxid};
use zabkit::sim::disk::{EIO, Fault, SimDisk};
use zabkit::storage::{
    LogReader, Purged, RealDisk, Recovered, Repair, SnapshotWriter, Storage, StorageConfig, StorageError, Truncated,
};

/// A server with records 1 to 5 in `log.1`, left as by `kill -9`: the synced bound says nothing of the records.
fn killed() -> SimDisk {
    let disk = SimDisk::new();
    let mut storage = fresh(&disk);
    storage.append(&txns(1..=5)).unwrap();
    storage.sync().unwrap();
    disk
}

/// "No such file or directory".
const ENOENT: i32 = 2;
/// Zeros that a log of ours ends with.
const PADDING: u64 = 12;

fn log_of(disk: &SimDisk) -> Vec<u8> {
    disk.files()[&file("log.1")].clone()
}

/// Where record `n` (1 to 5) begins in `log.1`, and where the last one ends.
fn offset(n: usize) -> usize {
    16 + txns(1..n as i64).iter().map(|(_, bytes)| bytes.len() + 13).sum::<usize>()
}

fn found_after(disk: &SimDisk, log: &[u8]) -> Result<(Recovered, Vec<i64>), StorageError> {
    disk.put(&file("log.1"), log);
    open_sim(disk).map(|(_, recovered, found)| (recovered, found.zxids()))
}

fn assert_corrupt(result: Result<(Recovered, Vec<i64>), StorageError>, at: usize, what: &str) {
    match result {
        Err(StorageError::Corrupt { path, offset, .. }) => {
            assert_eq!((path, offset), (file("log.1"), at as u64), "{what}");
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn a_last_record_torn_at_any_byte_is_cut_and_the_rest_is_kept() {
    let log = log_of(&closed());
    for cut in offset(5)..offset(6) {
        let mut zeroed = log.clone();
        zeroed[cut..].fill(0);
        let mut padded = zeroed.clone();
        padded.resize(log.len() + 4096, 0);
        for (make, torn) in [(killed as fn() -> SimDisk, &log[..cut]), (killed, &zeroed), (killed, &padded)]
            .into_iter()
            .chain([(foreign as fn() -> SimDisk, &log[..cut]), (foreign, &zeroed), (foreign, &padded)])
        {
            let disk = make();
            let (recovered, zxids) = found_after(&disk, torn).unwrap();
            assert_eq!(zxids, [1, 2, 3, 4], "cut at {cut}");
            if torn[offset(5)..].iter().any(|&b| b != 0) {
                let [Repair::TornTail { offset: at, kept, .. }] = recovered.repaired.as_slice() else {
                    panic!("{:?}", recovered.repaired)
                };
                assert_eq!(*at as usize, offset(5));
                let kept = &disk.files()[kept];
                assert!(torn[offset(5)..].starts_with(kept) && !kept.is_empty());
            }
            let (_, again, _) = open_sim(&disk).unwrap();
            assert_eq!((again.last_zxid, again.repaired), (Zxid(4), vec![]));
        }
    }
}

#[test]
fn damage_below_the_bound_is_refused_and_the_files_are_left_alone() {
    let log = log_of(&closed());
    for at in 16..offset(6) {
        let begin = (1..=5).rev().map(offset).find(|&begin| begin <= at).unwrap();
        for mask in [1, 0x80] {
            let disk = closed();
            let mut damaged = log.clone();
            damaged[at] ^= mask;
            assert_corrupt(found_after(&disk, &damaged), begin, &format!("byte {at} ^ {mask:#x}"));
            assert_eq!(log_of(&disk), damaged);
        }
        let mut zeroed = log.clone();
        zeroed[begin..].fill(0);
        assert_corrupt(found_after(&closed(), &zeroed), begin, &format!("zeros from {begin}"));
        if !(2..=5).map(offset).any(|end| end == at) {
            assert_corrupt(found_after(&closed(), &log[..at]), begin, &format!("cut at {at}"));
        }
    }
}

/// Apache's TRUNC ends a log exactly behind a record and removes the later ones; nothing else does: where we leave a
/// log there is padding.
#[test]
fn what_apache_has_forgotten_because_its_leader_did_not_have_it_is_no_damage() {
    for n in 2..=5 {
        let disk = closed();
        let (recovered, zxids) = found_after(&disk, &log_of(&disk)[..offset(n)]).unwrap();
        assert_eq!((zxids, recovered.last_zxid), ((1..n as i64).collect(), Zxid(n as i64 - 1)));
        assert_eq!(recovered.repaired, []);
        // What it logs then is judged as its own, and from here on as ours.
        disk.put(&file(&format!("log.{:x}", n + 10)), &log_of_others(&txns([n as i64 + 10])));
        let (storage, recovered, found) = open_sim(&disk).unwrap();
        assert_eq!((recovered.last_zxid, found.txns.len()), (Zxid(n as i64 + 10), n));
        storage.close().unwrap();
        assert_eq!(open_sim(&disk).unwrap().2, found);
    }
    // A whole log of ours that it has removed.
    let disk = closed();
    let (mut storage, ..) = open_sim(&disk).unwrap();
    storage.append(&txns(6..=9)).unwrap();
    storage.close().unwrap();
    let without = |log: &[u8]| {
        let left = SimDisk::new();
        for (path, bytes) in disk.files() {
            if path == file("log.1") {
                left.put(&path, log);
            } else if path != file("log.6") {
                left.put(&path, &bytes);
            }
        }
        open_sim(&left).map(|(_, recovered, _)| recovered.last_zxid)
    };
    let padded = [log_of(&disk), vec![0; PADDING as usize]].concat(); // The simulated disk does not show holes.
    let refused = without(&padded);
    assert!(matches!(refused, Err(StorageError::LogTooShort { .. })), "nobody has cut it: {refused:?}");
    assert_eq!(without(&log_of(&disk)[..offset(4)]).unwrap(), Zxid(3));
}

/// With their own ends: what it has logged since may have a name between those of ours.
#[test]
fn what_another_server_has_logged_behind_its_cut_is_judged_as_its_own() {
    let disk = closed();
    let (mut storage, ..) = open_sim(&disk).unwrap();
    storage.append(&txns(15..=16)).unwrap();
    storage.close().unwrap();
    let (log, torn) = (log_of(&disk)[..offset(6)].to_vec(), log_of_others(&txns(8..=9)));
    disk.put(&file("log.8"), &torn[..torn.len() - 10]);
    assert!(matches!(open_sim(&disk).err(), Some(StorageError::Corrupt { .. })), "all is there, so it was one of ours");

    disk.take_away(&file("log.f"));
    disk.put(&file("log.1"), &log);
    let (_, recovered, found) = open_sim(&disk).unwrap();
    assert_eq!(found.zxids(), [1, 2, 3, 4, 5, 8]);
    assert!(matches!(recovered.repaired.as_slice(), [Repair::TornTail { .. }]), "{:?}", recovered.repaired);
}

#[test]
fn damage_above_the_bound_is_cut_even_with_whole_records_behind_it() {
    let log = log_of(&closed());
    for at in [offset(3), offset(3) + 8, offset(3) + 20, offset(4) - 1] {
        let mut damaged = log.clone();
        damaged[at] ^= 0x40;
        let disk = killed();
        let (recovered, zxids) = found_after(&disk, &damaged).unwrap();
        assert_eq!(zxids, [1, 2], "byte {at}");
        let [Repair::TornTail { kept, .. }] = recovered.repaired.as_slice() else { panic!("{recovered:?}") };
        assert_eq!(disk.files()[kept], &damaged[offset(3)..]);
    }
}

#[test]
fn in_apaches_log_a_bad_checksum_is_torn_only_with_nothing_whole_behind_it() {
    let log = log_of(&closed());
    for n in 1..=5 {
        let mut damaged = log.clone();
        damaged[offset(n) + 30] ^= 1;
        match n {
            5 => assert_eq!(found_after(&foreign(), &damaged).unwrap().1, [1, 2, 3, 4]),
            _ => assert_corrupt(found_after(&foreign(), &damaged), offset(n), "a bad checksum in the middle"),
        }
    }
}

#[test]
fn a_lost_log_is_noticed() {
    let disk = SimDisk::new();
    for (path, bytes) in closed().files() {
        if path != file("log.1") {
            disk.put(&path, &bytes);
        }
    }
    let Some(StorageError::LogTooShort { found, synced, .. }) = open_sim(&disk).err() else { panic!("it opened") };
    assert_eq!((found, synced), (Zxid(0), Zxid(5)));
}

#[test]
fn a_record_longer_than_the_limit_is_refused_and_not_cut() {
    let disk = SimDisk::new();
    let mut storage = fresh(&disk);
    storage.append(&[txn_of(1, 600)]).unwrap();
    storage.sync().unwrap();
    drop(storage);
    let error = open(&disk, StorageConfig { txn_bytes_max: 400, ..config() }).err().expect("it must be refused");
    assert!(matches!(&error, StorageError::RecordTooLong { offset: 16, limit: 400, .. }), "{error}");
    assert_eq!(open_sim(&disk).unwrap().2.zxids(), [1]);
}

#[test]
fn a_failed_sync_or_write_ends_the_storage_for_good() {
    for fault in [Fault::EioOnNextSync, Fault::Full] {
        let disk = SimDisk::new();
        let mut storage = fresh(&disk);
        storage.append(&txns(1..=2)).unwrap();
        storage.sync().unwrap();
        disk.fail(fault);
        let first = storage.append(&[txn_of(3, 9000)]).and_then(|()| storage.sync()).unwrap_err();
        assert_eq!(first.is_disk_full(), fault == Fault::Full, "{first}");
        disk.heal();
        let poisoned = |result: Result<(), StorageError>| matches!(result, Err(StorageError::Poisoned { .. }));
        assert!(poisoned(storage.sync()));
        assert!(poisoned(storage.append(&[txn(4)])));
        assert!(poisoned(storage.roll()));
        assert!(poisoned(storage.save_accepted_epoch(Epoch(1))));
        assert!(poisoned(storage.truncate(Zxid(1)).map(drop)));
        assert!(poisoned(storage.purge().map(drop)));
        let writer = write_body(&storage, Zxid(9), "leader").unwrap();
        assert!(poisoned(storage.install_snapshot(writer, None)));
        drop(storage);
        let (_, _, found) = open_sim(&disk).unwrap();
        assert!(found.zxids().starts_with(&[1, 2]));
    }
}

/// Apache would keep 4:6, the record behind the missing one.
#[test]
fn a_truncation_to_a_missing_zxid_cuts_behind_the_one_before_it() {
    let disk = SimDisk::new();
    let mut storage = fresh(&disk);
    storage.append(&txns([1, 2, 4, 6, 7])).unwrap();
    assert_eq!(storage.truncate(Zxid(5)).unwrap(), Truncated::To { last: Zxid(4) });
    storage.append(&[txn(8)]).unwrap();
    storage.sync().unwrap();
    let mut found = Collected::default();
    let recovered = storage.reload(&mut found).unwrap();
    assert_eq!(found.zxids(), [1, 2, 4, 8]);
    assert!(recovered.notes.iter().any(|note| note.contains("a gap")), "{:?}", recovered.notes);
}

/// From there on the log is ours, and damage in it is judged by what was synced.
#[test]
fn behind_a_truncation_into_another_servers_log_all_is_ours() {
    let disk = foreign();
    disk.put(&file("log.6"), &log_of_others(&txns(6..=8)));
    let (storage, ..) = open_sim(&disk).unwrap();
    snapshot(&storage, Zxid(7)).unwrap();
    drop(storage);
    disk.take_away(&file("zabkit.synced"));
    let (mut storage, ..) = open_sim(&disk).unwrap();
    storage.append(&[txn(9)]).unwrap();
    assert_eq!(storage.truncate(Zxid(3)).unwrap(), Truncated::To { last: Zxid(3) });
    storage.append(&txns(4..=5)).unwrap();
    storage.sync().unwrap();
    drop(storage);

    let mut unfinished = disk.files()[&file("log.4")].clone();
    unfinished[40] ^= 1; // In the first of two records, both above what is known to be synced.
    disk.put(&file("log.4"), &unfinished);
    let (_, recovered, found) = open_sim(&disk).unwrap();
    assert_eq!(found.zxids(), [1, 2, 3]);
    assert!(matches!(recovered.repaired.as_slice(), [Repair::EmptyLog { .. }]), "{:?}", recovered.repaired);
}

#[test]
fn a_truncation_behind_the_oldest_snapshot_touches_nothing() {
    let disk = SimDisk::new();
    let mut storage = fresh(&disk);
    let writer = write_body(&storage, Zxid(10), "leader").unwrap();
    storage.install_snapshot(writer, None).unwrap();
    storage.append(&txns(11..=12)).unwrap();
    assert_eq!(storage.truncate(Zxid(9)).unwrap(), Truncated::NoBase);
    drop(storage);
    assert_eq!(open_sim(&disk).unwrap().1.last_zxid, Zxid(12));
}

#[test]
fn the_log_is_read_back_from_any_zxid_up_to_what_is_appended() {
    let disk = SimDisk::new();
    let mut storage = fresh(&disk);
    for first in [1, 4, 7] {
        storage.append(&txns(first..first + 3)).unwrap();
        if first < 7 {
            storage.roll().unwrap();
        }
    }
    for from in 1..=10 {
        let mut reader = storage.log_files().read_from(Zxid(from)).unwrap();
        let mut read = Vec::new();
        while let Some((record, is_replayed)) = reader.next_record().unwrap() {
            assert!(is_replayed, "all is behind snapshot.0");
            read.push((record.zxid, record.bytes));
        }
        assert_eq!(read, txns(from..=9), "from {from}");
    }
    let record = (offset(2) - 16) as u64;
    let files = storage.log_files();
    // With what is reserved behind the last one.
    let newest = files.log_bytes_behind(Zxid(6)).unwrap();
    assert!(newest > 16 + 3 * record);
    let rolled = 16 + 3 * record + PADDING;
    assert_eq!(files.log_bytes_behind(Zxid(4)).unwrap(), rolled + newest, "the file before it is begun with");
    assert_eq!(files.log_bytes_behind(Zxid(7)).unwrap(), newest, "here too");
    assert_eq!(files.log_bytes_behind(Zxid(8)).unwrap(), 0);
    assert_eq!(files.read_around(Zxid(7)).unwrap().next_record().unwrap().unwrap().0.zxid, Zxid(4));
    assert_eq!(files.snapshot_bytes().unwrap(), disk.files()[&file("snapshot.0")].len() as u64);
    assert_eq!(storage.since_roll(), (3, 16 + 3 * record));
}

/// Seen on the wire: with one log of 1 MiB and a snapshot of 25 KB a leader of 3.8.0 sends what is in the log.
#[test]
fn the_log_file_with_which_a_learner_begins_is_never_too_large() {
    let disk = SimDisk::new();
    let mut storage = fresh(&disk);
    let snapshot_bytes = storage.log_files().snapshot_bytes().unwrap();
    let is_small = |storage: &Storage<SimDisk>, peer: i64| storage.log_files().is_small(Zxid(peer), 0.33).unwrap();
    storage.append(&txns(1..=100)).unwrap();
    assert!(disk.files()[&file("log.1")].len() as u64 > snapshot_bytes);
    assert!(is_small(&storage, 5));
    storage.roll().unwrap();
    storage.append(&txns(101..=200)).unwrap();
    assert!(!is_small(&storage, 5), "a later file counts");
    assert!(is_small(&storage, 150));
    assert!(storage.log_files().is_small(Zxid(5), 0.0).unwrap(), "without a limit");
}

#[test]
fn purge_keeps_three_snapshots_and_every_log_that_they_need() {
    let disk = SimDisk::new();
    let mut storage = fresh(&disk);
    let mut removed = Vec::new();
    for n in 0..6 {
        storage.append(&txns(n * 10 + 1..=n * 10 + 10)).unwrap();
        storage.roll().unwrap();
        // Records beyond the snapshot are in the log that begins before it.
        snapshot(&storage, Zxid(n * 10 + 5)).unwrap();
        let purged = storage.purge().unwrap();
        assert!(purged.failed.is_empty(), "{:?}", purged.failed);
        removed.extend(purged.removed);
    }
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(
        removed.iter().map(name).eq([
            "snapshot.0",
            "snapshot.5",
            "log.1",
            "snapshot.f",
            "log.b",
            "snapshot.19",
            "log.15"
        ]
        .map(String::from)),
        "{removed:?}"
    );
    let left = disk.files();
    for kept in ["snapshot.23", "snapshot.2d", "snapshot.37", "log.1f", "log.29", "log.33"] {
        assert!(left.contains_key(&file(kept)), "{kept} is gone");
    }
    // The oldest one kept still leads to the end.
    drop(storage);
    for rotten in ["snapshot.2d", "snapshot.37"] {
        let mut bytes = left[&file(rotten)].clone();
        bytes[40] ^= 1;
        disk.put(&file(rotten), &bytes);
    }
    let (_, recovered, _) = open_sim(&disk).unwrap();
    assert_eq!((recovered.snapshot_zxid, recovered.last_zxid), (Some(Zxid(0x23)), Zxid(60)));
}

#[test]
fn what_cannot_be_purged_stays_and_harms_nobody() {
    let disk = SimDisk::new();
    let mut storage = fresh(&disk);
    for n in 0..6 {
        storage.append(&txns(n * 10 + 1..=n * 10 + 10)).unwrap();
        storage.roll().unwrap();
        snapshot(&storage, Zxid(n * 10 + 5)).unwrap();
    }
    let names = |purged: &Purged| -> Vec<String> {
        purged.removed.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    };
    // The first has been removed by an operator as it was looked for, the second is not to be removed.
    disk.fail_at(0, ENOENT);
    disk.fail_at(1, EIO);
    let purged = storage.purge().unwrap();
    assert_eq!((names(&purged), purged.failed.len()), (vec!["snapshot.f".into(), "snapshot.19".into()], 1));
    assert!(purged.failed[0].to_string().contains("snapshot.5"), "{:?}", purged.failed);
    assert!(disk.files().contains_key(&file("log.1")), "its log stays with it");

    disk.fail_at(4, EIO);
    let purged = storage.purge().unwrap();
    assert_eq!(names(&purged), ["snapshot.0", "snapshot.5", "log.1", "log.15"]);
    assert!(purged.failed[0].to_string().contains("log.b"), "{:?}", purged.failed);
    let purged = storage.purge().unwrap();
    assert_eq!((names(&purged), purged.failed.len()), (vec!["log.b".into()], 0));
    drop(storage);
    assert_eq!(open_sim(&disk).unwrap().1.last_zxid, Zxid(60));
}

/// Apache refuses a directory whose log is of a later epoch than `currentEpoch`, unless that epoch lies in the file
/// that is to become it.
#[test]
fn a_history_that_reaches_into_a_later_epoch_is_announced_before_it_does() {
    let announced = |disk: &SimDisk| disk.files().get(&file("currentEpoch.tmp")).cloned();
    let disk = SimDisk::new();
    let mut storage = fresh(&disk);
    storage.save_accepted_epoch(Epoch(4)).unwrap();
    storage.save_current_epoch(Epoch(1)).unwrap();
    storage.append(&[txn(0x1_0000_0001)]).unwrap();
    assert_eq!(announced(&disk), None);
    storage.append(&txns([0x1_0000_0002, 0x3_0000_0001])).unwrap();
    storage.sync().unwrap();
    assert_eq!(announced(&disk).as_deref(), Some(&b"3"[..]));
    drop(storage);
    assert_eq!(open_sim(&disk).unwrap().1.current_epoch, Epoch(3));

    let (mut storage, ..) = open_sim(&disk).unwrap();
    let writer = write_body(&storage, Zxid(0x4_0000_0001), "leader").unwrap();
    storage.install_snapshot(writer, None).unwrap();
    assert_eq!(announced(&disk).as_deref(), Some(&b"4"[..]));
    storage.save_current_epoch(Epoch(4)).unwrap();
    assert_eq!(announced(&disk), None);
}

#[test]
fn a_log_that_has_become_too_large_is_followed_by_another() {
    let disk = SimDisk::new();
    let config = StorageConfig { log_bytes_max: 1000, ..config() };
    let (mut storage, ..) = open(&disk, config.clone()).unwrap();
    snapshot(&storage, Zxid(0)).unwrap();
    for zxid in 1..=60 {
        storage.append(&[txn(zxid)]).unwrap();
        storage.sync().unwrap();
    }
    drop(storage);
    let logs = disk.files().into_iter().filter(|(path, _)| path.to_str().unwrap().contains("/log."));
    let sizes: Vec<usize> = logs.map(|(_, bytes)| bytes.len()).collect();
    assert!(sizes.len() > 3 && sizes.iter().rev().skip(1).all(|&size| (1000..1300).contains(&size)), "{sizes:?}");
    assert_eq!(open(&disk, config).unwrap().2.zxids(), (1..=60).collect::<Vec<_>>());
}

#[test]
fn a_second_server_on_the_directory_is_refused_until_the_first_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, ..) = open(&RealDisk, StorageConfig::new(dir.path())).unwrap();
    let error = open(&RealDisk, StorageConfig::new(dir.path())).err().expect("it must be refused");
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
    drop(storage);
    open(&RealDisk, StorageConfig::new(dir.path())).unwrap();
}

#[test]
fn an_empty_directory_is_trusted_unless_it_was_a_members() {
    let empty = |disk: &SimDisk, create_db| open(disk, StorageConfig { create_db, ..config() }).unwrap().1;
    let fresh = empty(&SimDisk::new(), true);
    assert_eq!((fresh.last_zxid, fresh.needs_snapshot), (Zxid::ZERO, true));
    let unwanted = empty(&SimDisk::new(), false);
    assert_eq!((unwanted.last_zxid, unwanted.needs_snapshot), (Zxid::NONE, false));

    let lost = SimDisk::new();
    lost.put(&file("acceptedEpoch"), b"3");
    lost.put(&file("currentEpoch"), b"3\n");
    assert_eq!(empty(&lost, true).last_zxid, Zxid::NONE);

    let marker = PathBuf::from(DIR).join("initialize");
    lost.put(&marker, b"");
    let (storage, recovered, _) = open(&lost, StorageConfig { create_db: false, ..config() }).unwrap();
    assert_eq!(recovered.last_zxid, Zxid::ZERO);
    assert!(lost.files().contains_key(&marker), "before there is a snapshot it still counts");
    snapshot(&storage, Zxid(0)).unwrap();
    assert!(!lost.files().contains_key(&marker));
}

#[test]
fn a_log_is_not_begun_before_there_is_a_snapshot() {
    let (mut storage, ..) = open_sim(&SimDisk::new()).unwrap();
    assert!(matches!(storage.append(&[txn(1)]), Err(StorageError::SnapshotFirst { .. })));
}

#[test]
fn epoch_files_are_held_against_each_other_and_the_log() {
    let epochs = |accepted: &str, current: &str, tmp: Option<&str>, zxid: i64| {
        let disk = SimDisk::new();
        drop(fresh(&disk));
        let (storage, ..) = open_sim(&disk).unwrap();
        snapshot(&storage, Zxid(zxid)).unwrap();
        drop(storage);
        disk.put(&file("acceptedEpoch"), accepted.as_bytes());
        disk.put(&file("currentEpoch"), current.as_bytes());
        if let Some(tmp) = tmp {
            disk.put(&file("currentEpoch.tmp"), tmp.as_bytes());
        }
        let result = open_sim(&disk).map(|(_, recovered, _)| recovered);
        (result, String::from_utf8(disk.files()[&file("currentEpoch")].clone()).unwrap())
    };
    let (of_two, of_three) = (0x2_0000_0001, 0x3_0000_0001);
    let (recovered, saved) = epochs("2", "2", None, of_two);
    assert_eq!((recovered.unwrap().repaired, saved.as_str()), (vec![], "2"));
    // The history was synced, and the crash came before currentEpoch was saved.
    let (recovered, saved) = epochs("3", "2", None, of_three);
    assert!(matches!(recovered.unwrap().repaired.as_slice(), [Repair::Epoch(_)]));
    assert_eq!(saved, "3");
    let (recovered, saved) = epochs("5", "2", Some("4"), of_three);
    assert_eq!((recovered.unwrap().current_epoch, saved.as_str()), (Epoch(3), "3"), "4 may only have been announced");
    let (recovered, _) = epochs("2", "2", None, of_three);
    assert!(recovered.unwrap_err().to_string().starts_with("The current epoch, 2, is older than the last zxid, 0x3"));
    let (recovered, _) = epochs("2", "3", None, of_two);
    assert!(matches!(recovered, Err(StorageError::EpochsCrossed { .. })));
    let (recovered, _) = epochs("two", "2", None, of_two);
    assert!(matches!(recovered, Err(StorageError::BadEpochFile { .. })));
}

#[test]
fn logs_may_live_apart_but_not_be_mixed_up() {
    let disk = SimDisk::new();
    let apart = StorageConfig { data_log_dir: "/log".into(), ..config() };
    let (mut storage, ..) = open(&disk, apart.clone()).unwrap();
    snapshot(&storage, Zxid(0)).unwrap();
    storage.append(&txns(1..=3)).unwrap();
    storage.close().unwrap();
    assert!(disk.files().contains_key(&PathBuf::from("/log/version-2/log.1")));
    assert_eq!(open(&disk, apart.clone()).unwrap().2.zxids(), [1, 2, 3]);
    disk.put(&file("log.9"), b"");
    assert!(matches!(open(&disk, apart).err(), Some(StorageError::MisplacedFile { .. })));

    let missing = StorageConfig { create_dirs: false, ..StorageConfig::new("/nowhere") };
    assert!(matches!(open(&disk, missing).err(), Some(StorageError::MissingDirectory { .. })));
}

#[test]
fn a_real_disk_keeps_what_was_written_and_gives_reserved_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut storage, ..) = open(&RealDisk, StorageConfig::new(dir.path())).unwrap();
    snapshot(&storage, Zxid(0)).unwrap();
    let long: Vec<_> = (1..=20).map(|zxid| txn_of(zxid, 60_000)).collect();
    for batch in long.chunks(3) {
        storage.append(batch).unwrap();
        storage.sync().unwrap();
    }
    let log = dir.path().join("version-2/log.1");
    let bytes = 16 + long.iter().map(|(_, bytes)| bytes.len() as u64 + 13).sum::<u64>();
    assert!(std::fs::metadata(&log).unwrap().len() > bytes, "space is reserved ahead");
    drop(storage);
    let (storage, recovered, found) = open(&RealDisk, StorageConfig::new(dir.path())).unwrap();
    assert_eq!((found.txns, recovered.repaired), (long, vec![]));
    storage.close().unwrap();

    let (mut storage, ..) = open(&RealDisk, StorageConfig::new(dir.path())).unwrap();
    storage.append(&[txn(21)]).unwrap();
    storage.close().unwrap();
    let last = std::fs::metadata(dir.path().join("version-2/log.15")).unwrap().len();
    assert_eq!(last, 16 + txn(21).1.len() as u64 + 13 + PADDING);
}

/// What was never synced may go, but it is not to be taken for rot.
#[test]
fn without_forced_syncs_a_crash_costs_records_and_never_the_directory() {
    for seed in 0..50 {
        let disk = SimDisk::new();
        drop(fresh(&disk));
        let (mut storage, ..) = open(&disk, StorageConfig { force_sync: false, ..config() }).unwrap();
        for first in [1, 4, 7] {
            storage.append(&txns(first..first + 3)).unwrap();
            storage.sync().unwrap();
            storage.idle().unwrap();
            if first == 4 {
                storage.roll().unwrap();
            }
        }
        disk.crash(&mut zabkit::sim::rng::Rng::new(seed));
        let (_, _, found) = open_sim(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(found.zxids().starts_with(&[1, 2, 3, 4, 5, 6]), "{:?}", found.zxids());
    }
}

/// The disk thread owns the storage, and a snapshot may be written by another.
#[test]
fn storage_and_snapshot_writers_may_move_between_threads() {
    fn may_move<T: Send + 'static>() {}
    may_move::<Storage<RealDisk>>();
    may_move::<SnapshotWriter<RealDisk>>();
    may_move::<LogReader<RealDisk>>();
}

/// A batch is one write: the host counts on it, and so does the figure of records a second.
#[test]
fn a_batch_of_many_records_is_one_operation_of_the_disk() {
    let disk = SimDisk::new();
    let mut storage = fresh(&disk);
    storage.append(&txns(1..=2)).unwrap();
    storage.sync().unwrap();
    let before = disk.counters();
    let batch = txns(3..=12);
    storage.append(&batch).unwrap();
    storage.sync().unwrap();
    let after = disk.counters();
    assert_eq!((after.operations - before.operations, after.syncs - before.syncs), (2, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever bytes a log holds, the start ends with a history that begins as the whole one, or with an error.
    #[test]
    fn no_bytes_in_a_log_make_a_start_panic(
        edits in prop::collection::vec((16usize..600, any::<u8>()), 0..20),
        len in 0usize..700,
        ours in any::<bool>(),
    ) {
        let disk = if ours { killed() } else { foreign() };
        let mut log = log_of(&disk);
        log.resize(700, 0);
        for (at, byte) in edits {
            log[at] = byte;
        }
        log.truncate(len);
        if let Ok((recovered, zxids)) = found_after(&disk, &log) {
            prop_assert!([1, 2, 3, 4, 5].starts_with(&zxids), "{:?}", zxids);
            let again = open_sim(&disk).map(|(_, again, _)| (again.last_zxid, again.repaired));
            prop_assert_eq!(again.unwrap(), (recovered.last_zxid, vec![]));
        }
    }

    #[test]
    fn no_bytes_in_a_snapshot_make_a_start_panic(
        edits in prop::collection::vec((0usize..900, any::<u8>()), 1..20),
        len in 0usize..900,
        suffix in prop::sample::select(vec!["", ".gz", ".snappy"]),
    ) {
        let disk = SimDisk::new();
        drop(fresh(&disk));
        let mut bytes = disk.files()[&file("snapshot.0")].clone();
        bytes.resize(900, 0);
        for (at, byte) in edits {
            bytes[at] = byte;
        }
        bytes.truncate(len);
        match suffix {
            ".gz" => bytes.splice(0..0, [0x1f, 0x8b]).for_each(drop),
            ".snappy" => bytes.splice(0..0, *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01").for_each(drop),
            _ => bytes.extend([0, 0, 0, 1, b'/']),
        }
        disk.put(&file(&format!("snapshot.7{suffix}")), &bytes);
        let _ = open_sim(&disk);
    }

    #[test]
    fn batches_of_any_sizes_come_back_as_they_were(
        sizes in prop::collection::vec(prop::collection::vec(0usize..3000, 1..12), 1..12),
        rolls in any::<u16>(),
    ) {
        let disk = SimDisk::new();
        let mut storage = fresh(&disk);
        let mut all = Vec::new();
        for (n, sizes) in sizes.iter().enumerate() {
            let batch: Vec<_> =
                sizes.iter().enumerate().map(|(i, &len)| txn_of((all.len() + i) as i64 + 1, len)).collect();
            storage.append(&batch).unwrap();
            all.extend(batch);
            if rolls >> n & 1 == 1 {
                storage.roll().unwrap();
            }
        }
        storage.sync().unwrap();
        disk.crash(&mut zabkit::sim::rng::Rng::new(u64::from(rolls)));
        let mut found = Collected::default();
        let (_storage, recovered) = Storage::open(disk, config(), &mut found).unwrap();
        prop_assert_eq!(found.txns, all);
        prop_assert_eq!(recovered.repaired, vec![]);
    }
}
