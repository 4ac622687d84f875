//! Which epoch Apache's server begins with on a directory that zabkit has left, after a power cut at every step: never one
//! with whose history the directory does not begin. With it the server could win an election against those that have more.

mod storage_support;

use storage_support::{file, fresh, last_of_others, open_sim, txns, write_body};
use zabkit::records::{Epoch, Zxid};
use zabkit::sim::disk::SimDisk;
use zabkit::sim::rng::Rng;
use zabkit::storage::{Storage, StorageError};

type Server = Storage<SimDisk>;

/// Different losses tried for each step.
const SEEDS: u64 = 24;
/// Epochs 1 to 4; that of 3 begins behind `0x200000003`, that of 4 behind `0x300000002`.
const HISTORY: [i64; 8] = [
    0x1_0000_0001,
    0x1_0000_0002,
    0x2_0000_0001,
    0x2_0000_0002,
    0x2_0000_0003,
    0x3_0000_0001,
    0x3_0000_0002,
    0x4_0000_0001,
];

/// What `QuorumPeer.loadDataBase` makes of the epoch files; an error: it refuses.
fn apaches_epoch(disk: &SimDisk, last: Zxid) -> Result<Epoch, String> {
    let read = |name: &str| {
        let bytes = disk.files().get(&file(name)).cloned()?;
        Some(Epoch(String::from_utf8(bytes).unwrap().parse().unwrap()))
    };
    let current = read("currentEpoch").unwrap_or(last.epoch());
    if last.epoch() <= current {
        return Ok(current);
    }
    read("currentEpoch.tmp").ok_or_else(|| format!("The current epoch, {current}, is older than the last zxid, {last}"))
}

/// Runs `act` on a server of epoch 1 with the first two transactions, with the power cut before each of its steps in turn.
/// `whole`: what the leader of epoch 5 began with.
fn at_every_step(whole: &[i64], act: impl Fn(&mut Server) -> Result<(), StorageError>) {
    for step in 0.. {
        let mut reached = false;
        for seed in 0..SEEDS {
            let disk = SimDisk::new();
            let mut storage = fresh(&disk);
            storage.save_accepted_epoch(Epoch(9)).unwrap();
            storage.save_current_epoch(Epoch(1)).unwrap();
            storage.append(&txns(HISTORY[..2].iter().copied())).unwrap();
            storage.sync().unwrap();
            disk.cut_power_after(step);
            let done = act(&mut storage);
            drop(storage);
            reached = disk.power_is_cut();
            assert!(reached || done.is_ok(), "{done:?}");
            disk.crash(&mut Rng::new(seed * 1000 + step));

            let last = last_of_others(&disk);
            let epoch = apaches_epoch(&disk, last).unwrap_or_else(|error| panic!("step {step}, seed {seed}: {error}"));
            let began_with = if epoch == Epoch(5) { whole } else { &HISTORY };
            let before = began_with.iter().map(|zxid| Zxid(*zxid)).rfind(|zxid| zxid.epoch() < epoch);
            assert!(
                last.epoch() >= epoch || before <= Some(last),
                "step {step}, seed {seed}: epoch {epoch} with a history that ends at {last}"
            );
            let (storage, recovered, _) = open_sim(&disk).unwrap();
            assert!(storage.epochs().1 >= recovered.last_zxid.epoch());
        }
        if !reached {
            return;
        }
    }
}

fn append(storage: &mut Server, zxids: &[i64]) -> Result<(), StorageError> {
    storage.append(&txns(zxids.iter().copied()))?;
    storage.sync()
}

fn install(storage: &mut Server, zxid: i64) -> Result<(), StorageError> {
    let writer = write_body(storage, Zxid(zxid), "leader")?;
    storage.install_snapshot(writer, None)
}

#[test]
fn transactions_of_several_epochs_at_once() {
    at_every_step(&HISTORY, |storage| append(storage, &HISTORY[2..]));
    at_every_step(&HISTORY, |storage| {
        storage.append(&txns(HISTORY[2..4].iter().copied()))?;
        append(storage, &HISTORY[4..])
    });
}

#[test]
fn a_leaders_snapshot_behind_transactions_whose_epoch_is_not_the_current_one_yet() {
    at_every_step(&HISTORY, |storage| {
        append(storage, &HISTORY[2..4])?;
        install(storage, 0x5_0000_0001)?;
        append(storage, &[0x5_0000_0002])
    });
}

#[test]
fn a_history_that_is_cut_back_to_an_earlier_epoch() {
    at_every_step(&HISTORY[..4], |storage| {
        append(storage, &HISTORY[2..])?;
        storage.truncate(Zxid(HISTORY[3]))?;
        append(storage, &[0x5_0000_0001])
    });
}

#[test]
fn a_leaders_snapshot_that_is_older_than_what_is_here() {
    at_every_step(&HISTORY[..4], |storage| {
        append(storage, &HISTORY[2..])?;
        install(storage, HISTORY[3])?;
        append(storage, &[0x5_0000_0001])
    });
}
