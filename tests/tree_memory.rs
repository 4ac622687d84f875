//! What a million znodes of 100 bytes cost: `cargo test --release --test tree_memory -- --ignored --nocapture`.
//!
//! The memory is asserted, for it is the same on every machine; the times are only printed.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};
use zabkit::jute::Reader;
use zabkit::records::{Acl, CreateTxn, SessionId, SetDataTxn, SnapshotDecoder, TxnBody, Zxid};
use zabkit::tree::{DataTree, TreeLoader};

const NODES: usize = 1_000_000;
const DIRECTORIES: usize = 1000;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn path(n: usize) -> String {
    format!("/bench/d{:04}/node{:08}", n % DIRECTORIES, n)
}

fn create(path: String, bytes: usize) -> TxnBody {
    let (data, acl) = (Some(vec![b'x'; bytes]), vec![Acl::open()]);
    TxnBody::Create(CreateTxn { path, data, acl, ephemeral: false, parent_cversion: -1 })
}

fn apply(tree: &mut DataTree, zxid: usize, body: &TxnBody) {
    black_box(tree.apply(SessionId(0), Zxid(zxid as i64), 1, body, &mut |_| {}));
}

/// Runs `step` for all of `items` and prints the mean time.
fn time<T>(what: &str, items: &[T], mut step: impl FnMut(usize, &T)) {
    let begin = Instant::now();
    for (at, item) in items.iter().enumerate() {
        step(at, item);
    }
    println!("{what}: {} ns each", begin.elapsed().as_nanos() / items.len() as u128);
}

#[test]
#[ignore = "takes a few seconds and a few hundred MB in a release build"]
fn tree_memory() {
    let mut tree = DataTree::new();
    apply(&mut tree, 1, &create("/bench".into(), 0));
    for n in 0..DIRECTORIES {
        apply(&mut tree, 2, &create(format!("/bench/d{n:04}"), 0));
    }
    // The transactions are made in batches, so that the process stays about as large as the tree.
    let before = resident_bytes();
    let (mut spent, mut longest) = (Duration::ZERO, Duration::ZERO);
    for batch in 0..NODES / 1000 {
        let bodies: Vec<TxnBody> = (batch * 1000..(batch + 1) * 1000).map(|n| create(path(n), 100)).collect();
        for body in &bodies {
            let begin = Instant::now();
            apply(&mut tree, 3 + batch, body);
            longest = longest.max(begin.elapsed());
            spent += begin.elapsed();
        }
    }
    println!("create: {} ns each, longest {longest:?}", spent.as_nanos() / NODES as u128);
    let bytes = (resident_bytes() - before) as f64 / NODES as f64;
    println!("memory: {bytes:.1} bytes a znode");

    let scattered: Vec<String> = (0..NODES).map(|n| path(n * 7919 % NODES)).collect();
    time("get, all over the tree", &scattered, |_, path| {
        black_box(tree.get(path).unwrap().stat());
    });
    let few: Vec<String> = (0..NODES).map(|n| path(n % 1000)).collect();
    time("get, of 1000", &few, |_, path| {
        let node = tree.get(path).unwrap();
        black_box((node.data(), node.stat()));
    });
    let sets: Vec<TxnBody> = few[..100_000]
        .iter()
        .map(|path| TxnBody::SetData(SetDataTxn { path: path.clone(), data: Some(vec![b'y'; 100]), version: 1 }))
        .collect();
    time("set, of 1000", &sets, |at, body| apply(&mut tree, 5000 + at, body));

    let begin = Instant::now();
    let cursor = tree.begin_snapshot(&BTreeMap::new()).unwrap();
    println!("begin of a snapshot: {:?}", begin.elapsed());
    let (begin, mut snapshot, mut longest) = (Instant::now(), Vec::with_capacity(300 << 20), Duration::ZERO);
    loop {
        let begin = Instant::now();
        let done = tree.next_chunk(cursor, 64 << 10, &mut snapshot);
        longest = longest.max(begin.elapsed());
        if done {
            break;
        }
    }
    println!("snapshot: {:?} for {} bytes, longest chunk {longest:?}", begin.elapsed(), snapshot.len());
    tree.end_snapshot(cursor);
    let digest = tree.digest();
    let begin = Instant::now();
    drop(tree);
    println!("drop: {:?}", begin.elapsed());

    let begin = Instant::now();
    let mut reader = Reader::new(&snapshot);
    let (mut decoder, mut loader) = (SnapshotDecoder::default(), TreeLoader::new());
    while let Some(item) = decoder.take(&mut reader, 1 << 20).unwrap() {
        loader.push(item).unwrap();
    }
    let (tree, _) = loader.finish().unwrap();
    println!("load: {:?}", begin.elapsed());
    assert_eq!(tree.digest(), digest);
    assert!(bytes <= 240.0, "{bytes} bytes a znode");
}
