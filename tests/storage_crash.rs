//! Crashes at every step of everything that storage does, on a disk that loses what was not synced. Whatever is left
//! must open; what was promised must be there; what was forgotten must not come back.

mod storage_support;

use storage_support::{
    Collected, file, fresh, last_of_others, log_of_others, open_sim, snapshot, txn_of, txns, write_body,
};
use zabkit::records::{Epoch, Zxid};
use zabkit::sim::disk::{EIO, ENOSPC, SimDisk};
use zabkit::sim::rng::Rng;
use zabkit::storage::{NullSink, Recovered, Repair, Storage, StorageError, Truncated};

type Server = Storage<SimDisk>;

/// Different losses tried for each step.
const SEEDS: u64 = 12;

/// Runs `act` with the power cut before each of its changing operations in turn, and `check` on what then opens.
/// `act` returns how far it got; the last run is one without a cut. Returns how many steps there were.
fn crash_at_every_step<S, P>(
    setup: impl Fn(&SimDisk) -> S,
    act: impl Fn(S) -> P,
    check: impl Fn(&P, &Recovered, &Collected, &SimDisk),
) -> u64 {
    for step in 0.. {
        let mut reached = false;
        for seed in 0..SEEDS {
            let disk = SimDisk::new();
            let state = setup(&disk);
            let mut rng = Rng::new(seed * 1000 + step);
            disk.cut_power_after(step);
            let progress = act(state);
            reached = disk.power_is_cut();
            disk.crash(&mut rng);

            // The start after it may be cut short as well.
            disk.cut_power_after(rng.below(12));
            drop(open_sim(&disk));
            disk.crash(&mut rng);

            let (storage, recovered, found) =
                open_sim(&disk).unwrap_or_else(|error| panic!("step {step}, seed {seed}: {error}"));
            check(&progress, &recovered, &found, &disk);
            drop(storage);
            let (_storage, again, found_again) = open_sim(&disk).unwrap();
            assert_eq!((again.repaired, &found_again), (vec![], &found), "step {step}, seed {seed}: the second start");
        }
        if !reached {
            return step;
        }
    }
    unreachable!()
}

/// Whether the history found is all of `1..=n` for some `n`, seen from whichever snapshot; `n`.
fn whole_history(found: &Collected) -> i64 {
    let first = found.snapshot.expect("there is a snapshot").0;
    let n = first + found.txns.len() as i64;
    assert_eq!(found.zxids(), (first + 1..=n).collect::<Vec<_>>());
    n
}

#[test]
fn what_was_synced_is_there_after_a_crash_at_any_step_of_appending() {
    let setup = |disk: &SimDisk| fresh(disk);
    let act = |mut storage: Server| {
        let mut acked = 0;
        let batches = || {
            for (first, count, len) in [(1, 1, 40), (2, 5, 300), (7, 3, 3000), (10, 40, 100), (50, 2, 0)] {
                let batch: Vec<_> = (first..first + count).map(|zxid| txn_of(zxid, len)).collect();
                storage.append(&batch)?;
                if first == 7 {
                    storage.roll()?; // Syncs too.
                }
                storage.sync()?;
                acked = first + count - 1;
            }
            storage.close()
        };
        let _: Result<(), StorageError> = batches();
        acked
    };
    let steps = crash_at_every_step(setup, act, |acked, recovered, found, _| {
        let last = whole_history(found);
        assert!(last >= *acked && last <= 51, "{acked} was acknowledged, {last} found");
        assert_eq!(recovered.last_zxid, Zxid(last));
    });
    assert!(steps > 20, "only {steps} steps");
}

#[test]
fn an_epoch_is_the_old_or_the_new_one_and_the_new_one_once_saved() {
    let setup = |disk: &SimDisk| {
        let mut storage = fresh(disk);
        storage.save_accepted_epoch(Epoch(1)).unwrap();
        storage.save_current_epoch(Epoch(1)).unwrap();
        storage
    };
    let act = |mut storage: Server| {
        let mut saved = (1, 1);
        if storage.save_accepted_epoch(Epoch(7)).is_ok() {
            saved.0 = 7;
            if storage.save_current_epoch(Epoch(7)).is_ok() {
                saved.1 = 7;
            }
        }
        saved
    };
    let steps = crash_at_every_step(setup, act, |saved, recovered, _, _| {
        let (accepted, current) = (recovered.accepted_epoch.0, recovered.current_epoch.0);
        assert!([1, 7].contains(&accepted) && [1, 7].contains(&current));
        assert!(accepted >= saved.0 && current >= saved.1 && accepted >= current, "{saved:?} {accepted} {current}");
    });
    assert!(steps >= 8, "only {steps} steps");
}

#[test]
fn a_snapshot_is_there_whole_or_not_at_all() {
    let setup = |disk: &SimDisk| {
        let mut storage = fresh(disk);
        storage.append(&txns(1..=10)).unwrap();
        storage.sync().unwrap();
        storage
    };
    let act = |mut storage: Server| {
        let mut take = || {
            storage.roll()?;
            snapshot(&storage, Zxid(10))?;
            storage.append(&txns(11..=12))?;
            storage.sync()?;
            storage.purge()?.failed.pop().map_or(Ok(()), Err)
        };
        take().is_ok()
    };
    crash_at_every_step(setup, act, |done, recovered, found, disk| {
        assert!(whole_history(found) >= if *done { 12 } else { 10 });
        assert!([Some(Zxid(0)), Some(Zxid(10))].contains(&recovered.snapshot_zxid));
        assert!(!done || recovered.snapshot_zxid == Some(Zxid(10)));
        assert!(disk.files().keys().all(|path| !path.to_str().unwrap().contains("tmp")));
    });
}

/// Five logs of four records each, and snapshots at 0, 6 and 15.
fn long_history(disk: &SimDisk) -> Server {
    let mut storage = fresh(disk);
    for first in [1, 5, 9, 13, 17] {
        storage.append(&txns(first..first + 4)).unwrap();
        storage.sync().unwrap();
        storage.roll().unwrap();
        for zxid in [6, 15].into_iter().filter(|zxid| (first..first + 4).contains(zxid)) {
            snapshot(&storage, Zxid(zxid)).unwrap();
        }
    }
    storage
}

#[test]
fn a_truncation_leaves_a_history_that_ends_at_or_behind_the_cut() {
    for to in [4, 6, 10, 12, 16, 19, 20] {
        let act =
            |mut storage: Server| storage.truncate(Zxid(to)).map(|result| (result, storage.reload(&mut NullSink)));
        let check = |done: &Result<_, StorageError>, recovered: &Recovered, found: &Collected, _: &SimDisk| {
            let last = whole_history(found);
            assert_eq!(recovered.last_zxid, Zxid(last));
            match done {
                Ok((result, _)) => {
                    assert_eq!(*result, Truncated::To { last: Zxid(to) });
                    assert_eq!(last, to, "cut at {to}");
                }
                Err(_) => assert!((to..=20).contains(&last), "{last} is left of a cut at {to}"),
            }
        };
        crash_at_every_step(long_history, act, check);
    }
}

#[test]
fn a_snapshot_from_the_leader_replaces_everything_or_nothing() {
    for to in [Zxid(3), Zxid(10), Zxid(0x2_0000_0005)] {
        let act = |mut storage: Server| {
            let mut install = || {
                let writer = write_body(&storage, to, "leader")?;
                storage.install_snapshot(writer, Some((to, 99)))?;
                Ok::<_, StorageError>(())
            };
            let installed = install().is_ok();
            let next = [txn_of(to.0 + 1, 10)];
            (installed, installed && storage.append(&next).and_then(|()| storage.sync()).is_ok())
        };
        let (mut old, mut new) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        crash_at_every_step(long_history, act, |(installed, appended), recovered, found, disk| {
            let is_new = found.nodes.iter().any(|path| path.starts_with("/leader"));
            if is_new {
                new.set(new.get() + 1);
                assert_eq!((recovered.snapshot_zxid, recovered.digest), (Some(to), Some((to, 99))));
                assert!(found.txns.len() <= 1 && found.txns.iter().all(|(zxid, _)| zxid.0 == to.0 + 1));
                assert!(!appended || found.txns.len() == 1);
                let others = disk.files().into_keys().filter(|path| {
                    let name = path.file_name().unwrap().to_str().unwrap();
                    name.starts_with("snapshot.") && *path != file(&format!("snapshot.{:x}", to.0))
                });
                // A crash between the last rename and the last removals may leave old ones; they are not used.
                assert!(!installed || others.count() == 0);
            } else {
                old.set(old.get() + 1);
                assert!(!installed, "an installed snapshot is gone");
                assert_eq!(whole_history(found), 20);
            }
        });
        assert!(*old.get_mut() > 0 && *new.get_mut() > 0, "both outcomes were seen");
    }
}

/// Whose tree is the right one may be asked later.
#[test]
fn what_a_snapshot_of_the_leader_replaces_is_kept_if_it_was_to_be_whenever_that_is_cut_short() {
    let count = |disk: &SimDisk, prefix: &str| {
        let files = disk.files().into_keys();
        files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).count()
    };
    let before = SimDisk::new();
    drop(long_history(&before));
    let (logs, snapshots) = (count(&before, "log."), count(&before, "snapshot."));
    assert!(logs > 2 && snapshots > 2);
    for to in [Zxid(3), Zxid(10), Zxid(20), Zxid(0x2_0000_0005)] {
        let act = |mut storage: Server| {
            let installed = write_body(&storage, to, "leader").and_then(|w| storage.install_snapshot_and_keep(w, None));
            installed.is_ok()
        };
        let (mut old, mut new) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        crash_at_every_step(long_history, act, |installed, _, found, disk| {
            let kept = |kind: &str| count(disk, &format!("zabkit.diverged.{:x}.{kind}", to.0));
            if found.nodes.iter().any(|path| path.starts_with("/leader")) {
                new.set(new.get() + 1);
                assert_eq!((kept("log."), kept("snapshot.")), (logs, snapshots), "{to}");
            } else {
                old.set(old.get() + 1);
                assert!(!installed, "an installed snapshot is gone");
                assert_eq!((whole_history(found), kept("")), (20, 0));
            }
        });
        assert!(*old.get_mut() > 0 && *new.get_mut() > 0, "both outcomes were seen");
    }
}

/// The installation of a leader's snapshot is cut short, Apache's server runs on what is there, and then zabkit again.
#[test]
fn what_another_server_wrote_behind_an_interrupted_installation_is_kept() {
    for to in [Zxid(3), Zxid(10), Zxid(20), Zxid(0x2_0000_0005)] {
        let mut given_up = 0;
        for step in 0.. {
            let mut reached = false;
            for seed in 0..SEEDS {
                let disk = SimDisk::new();
                let mut storage = long_history(&disk);
                disk.cut_power_after(step);
                let installed = write_body(&storage, to, "leader").and_then(|w| storage.install_snapshot(w, None));
                drop(storage);
                reached = disk.power_is_cut();
                disk.crash(&mut Rng::new(seed * 1000 + step));
                let was_decided = disk.files().contains_key(&file(&format!("zabkit.install.snapshot.{:x}", to.0)));
                let last = last_of_others(&disk);
                let theirs: Vec<_> = (last.0 + 1..=last.0 + 3).map(|zxid| txn_of(zxid, 10)).collect();
                disk.put(&file(&format!("log.{:x}", last.0 + 1)), &log_of_others(&theirs));
                let (_storage, recovered, found) =
                    open_sim(&disk).unwrap_or_else(|error| panic!("{to}, step {step}, seed {seed}: {error}"));
                let missing: Vec<_> =
                    theirs.iter().filter(|txn| !found.txns.contains(txn)).map(|(zxid, _)| zxid).collect();
                assert!(missing.is_empty(), "{to}, step {step}, seed {seed}: {missing:?} is lost: {recovered:?}");
                assert_eq!(recovered.last_zxid, Zxid(last.0 + 3), "{to}, step {step}, seed {seed}");
                given_up += usize::from(installed.is_err() && was_decided);
            }
            if !reached {
                break;
            }
        }
        assert!(given_up > 0, "{to}: never in the middle");
    }
}

/// A directory that is about to be replaced by a leader's snapshot of zxid 30, and has been left like that.
fn in_the_middle_of_an_installation() -> SimDisk {
    for step in 0.. {
        let disk = SimDisk::new();
        let mut storage = long_history(&disk);
        storage.save_accepted_epoch(Epoch(2)).unwrap();
        disk.cut_power_after(step);
        let writer = write_body(&storage, Zxid(30), "leader");
        writer.and_then(|writer| storage.install_snapshot(writer, None)).expect_err("cut short");
        drop(storage);
        disk.crash(&mut Rng::new(step));
        let copy = SimDisk::new();
        disk.files().iter().for_each(|(path, bytes)| copy.put(path, bytes));
        let (_storage, recovered, _) = open_sim(&copy).unwrap();
        if recovered.repaired.contains(&Repair::InstallFinished { zxid: Zxid(30) }) {
            return disk;
        }
    }
    unreachable!()
}

#[test]
fn a_leaders_snapshot_is_given_up_once_another_server_has_accepted_an_epoch() {
    let disk = in_the_middle_of_an_installation();
    disk.put(&file("acceptedEpoch"), b"3");
    let (_storage, recovered, found) = open_sim(&disk).unwrap();
    let given_up = Repair::InstallGivenUp { zxid: Zxid(30), since: "acceptedEpoch".into() };
    assert_eq!(recovered.repaired.first(), Some(&given_up));
    assert_eq!((whole_history(&found), recovered.accepted_epoch), (20, Epoch(3)));
    assert!(!disk.files().keys().any(|path| path.to_str().unwrap().contains("install")));
}

#[test]
fn a_leaders_snapshot_that_does_not_say_what_it_replaces_is_refused() {
    let disk = in_the_middle_of_an_installation();
    disk.take_away(&file("zabkit.install.files"));
    let before = disk.files();
    match open_sim(&disk).err() {
        Some(StorageError::Corrupt { path, .. }) => assert_eq!(path, file("zabkit.install.files")),
        other => panic!("{other:?}"),
    }
    assert_eq!(disk.files(), before, "nothing was changed");
}

/// After an interrupted installation old snapshots may lie there; if the new one rots, none of them is fallen back to.
#[test]
fn a_snapshot_below_the_floor_is_never_used() {
    let disk = SimDisk::new();
    let mut storage = long_history(&disk);
    let old = disk.files()[&file("snapshot.6")].clone();
    let writer = write_body(&storage, Zxid(0x2_0000_0005), "leader").unwrap();
    storage.install_snapshot(writer, None).unwrap();
    storage.append(&[txn_of(0x2_0000_0006, 10)]).unwrap();
    storage.close().unwrap();
    disk.put(&file("snapshot.6"), &old);
    let mut rotten = disk.files()[&file("snapshot.200000005")].clone();
    rotten[100] ^= 1;
    disk.put(&file("snapshot.200000005"), &rotten);
    assert!(matches!(open_sim(&disk).err(), Some(StorageError::NoValidSnapshot { .. })));
}

/// A history as it should be: what each zxid and each snapshot must hold, and what has been promised.
#[derive(Debug, Default)]
struct Model {
    /// Zxids in order, with the bytes last logged for each; `base` stands for all before.
    history: Vec<(Zxid, bytes::Bytes)>,
    base: Zxid,
    snapshots: std::collections::BTreeMap<Zxid, String>,
    /// Promised to be there.
    acked: Zxid,
    /// Allowed to be gone although promised: a truncation to here was under way.
    cut_to: Option<Zxid>,
    /// Allowed to be all there is: an installation was under way.
    installing: Option<(Zxid, String)>,
    epochs: (i64, i64),
    tags: u64,
}

impl Model {
    fn last(&self) -> Zxid {
        self.history.last().map_or(self.base, |(zxid, _)| *zxid)
    }

    fn tag(&mut self) -> String {
        self.tags += 1;
        format!("tag{}", self.tags)
    }

    fn install(&mut self, zxid: Zxid, tag: String) {
        (self.history, self.base, self.acked) = (Vec::new(), zxid, zxid);
        self.snapshots = [(zxid, tag)].into();
    }

    fn cut(&mut self, to: Zxid) {
        self.history.retain(|(zxid, _)| *zxid <= to);
        self.snapshots.retain(|zxid, _| *zxid <= to);
        self.acked = self.acked.min(to);
    }

    /// Holds what was found against what must be there, and goes on from it.
    fn accept(&mut self, recovered: &Recovered, found: &Collected) {
        let snapshot = found.snapshot.expect("there is a snapshot");
        let is = |tag: &String| found.nodes.contains(&format!("/{tag}-{snapshot}"));
        if let Some((zxid, tag)) = self.installing.take()
            && snapshot == zxid
            && is(&tag)
        {
            self.install(zxid, tag);
        }
        assert!(is(&self.snapshots[&snapshot]), "a former snapshot of {snapshot}: {:?}", found.nodes);
        let last = recovered.last_zxid;
        let promised = self.cut_to.take().map_or(self.acked, |to| to.min(self.acked));
        assert!(last >= promised, "{promised} was promised, {last} found");
        let expected: Vec<_> = self
            .history
            .iter()
            .filter(|(zxid, _)| (snapshot..=last).contains(zxid) && *zxid > snapshot)
            .cloned()
            .collect();
        let seen = |txns: &[(Zxid, bytes::Bytes)]| txns.iter().map(|(z, b)| (z.0, b.len())).collect::<Vec<_>>();
        assert_eq!(seen(&found.txns), seen(&expected), "from {snapshot} to {last}");
        assert!(found.txns == expected, "from {snapshot} to {last}");
        assert!(recovered.notes.is_empty(), "{:?}", recovered.notes);
        self.cut(last);
        self.acked = last;
        let (accepted, current) = (recovered.accepted_epoch.0, recovered.current_epoch.0);
        assert!(accepted >= self.epochs.0 && current >= self.epochs.1 && accepted <= self.epochs.0 + 1);
        self.epochs = (accepted, current);
    }
}

/// One random operation; an error ends this life of the server.
fn random_step(storage: &mut Server, model: &mut Model, rng: &mut Rng) -> Result<(), StorageError> {
    match rng.below(20) {
        0..8 => {
            let count = if rng.one_in(4) { rng.range(1..40) } else { rng.range(1..4) };
            let mut next = model.last().0;
            // The length tells the incarnation, so that a former record of the same zxid would be noticed.
            model.tags += 1;
            let len = (model.tags * 7 % 1500) as usize;
            let batch: Vec<_> = (0..count).map(|_| (next, next += 1).0 + 1).map(|zxid| txn_of(zxid, len)).collect();
            model.history.extend(batch.iter().cloned());
            storage.append(&batch)?;
        }
        8..12 => {
            storage.sync()?;
            model.acked = model.last();
            storage.idle()?;
        }
        12..14 => {
            storage.roll()?;
            model.acked = model.last();
            let (zxid, tag) = (model.last(), model.tag());
            if model.snapshots.contains_key(&zxid) {
                return Ok(()); // After a crash nobody could say which of the two it is.
            }
            let writer = write_body(storage, zxid, &tag)?;
            if rng.one_in(3) {
                writer.abort();
            } else {
                model.snapshots.insert(zxid, tag);
                writer.finish(None)?;
            }
        }
        14 => drop(storage.purge()?),
        15..17 => {
            let behind = rng.below(30) as i64;
            let to = Zxid((model.last().0 - behind).max(model.base.0));
            model.cut_to = Some(to);
            let result = storage.truncate(to)?;
            model.cut_to = None;
            if result != Truncated::NoBase {
                assert_eq!(result, Truncated::To { last: to });
                model.cut(to);
                model.acked = to;
                let mut found = Collected::default();
                let recovered = storage.reload(&mut found)?;
                model.accept(&recovered, &found);
            }
        }
        17 => {
            let behind = rng.below(20) as i64 - 10;
            let (zxid, tag) = (Zxid((model.last().0 - behind).max(1)), model.tag());
            let writer = write_body(storage, zxid, &tag)?;
            model.installing = Some((zxid, tag.clone()));
            storage.install_snapshot(writer, None)?;
            model.installing = None;
            model.install(zxid, tag);
        }
        18 => {
            let epoch = model.epochs.0 + 1;
            storage.save_accepted_epoch(Epoch(epoch))?;
            model.epochs.0 = epoch;
        }
        _ => {
            storage.save_current_epoch(Epoch(model.epochs.0))?;
            model.epochs.1 = model.epochs.0;
        }
    }
    Ok(())
}

/// Many lives of one directory: random work, a crash or a failure at a random operation (the start included), and
/// again.
#[test]
fn a_directory_survives_random_work_and_random_crashes() {
    let (mut dropped, mut torn, mut names_lost, mut starts, mut failures) = (0, 0, 0, 0, 0);
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let disk = SimDisk::new();
        drop(fresh(&disk));
        let mut model = Model { snapshots: [(Zxid(0), "own".into())].into(), ..Model::default() };
        for life in 0..12 {
            let broken = rng.one_in(4);
            match broken {
                true => disk.fail_at(rng.below(60), if rng.one_in(3) { ENOSPC } else { EIO }),
                false if rng.percent(80) => disk.cut_power_after(rng.below(60)),
                false => {}
            }
            let mut run = || -> Result<(), StorageError> {
                let (mut storage, recovered, found) = open_sim(&disk)?;
                starts += 1;
                model.accept(&recovered, &found);
                for _ in 0..rng.range(1..40) {
                    random_step(&mut storage, &mut model, &mut rng)?;
                }
                if rng.one_in(3) { storage.close().map(|()| model.acked = model.last()) } else { Ok(()) }
            };
            let ended = run();
            if let Err(error) = &ended {
                assert!(disk.power_is_cut() || broken, "seed {seed}, life {life}: {error}");
                failures += u64::from(broken);
            }
            // Without a power cut it is the process that ends: the machine keeps what was written.
            if disk.power_is_cut() || rng.one_in(3) {
                let report = disk.crash(&mut rng);
                dropped += report.unsynced_bytes_dropped;
                torn += report.torn_tails;
                names_lost += report.lost_dir_entries;
            } else {
                disk.kill_process();
                disk.heal();
            }
        }
        let (_, recovered, found) = open_sim(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        model.accept(&recovered, &found);
    }
    assert!(failures > 100, "only {failures} lives ended by a broken disk");
    assert!(dropped > 0 && torn > 0 && names_lost > 0 && starts > 1000, "{dropped} {torn} {names_lost} {starts}");
}
