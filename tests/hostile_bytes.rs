//! Bytes that are not what they should be: every recorded frame, bent in every way that a broken or hostile peer can
//! think of, goes through every decoder. None panics, none takes more memory than a small multiple of the bytes, and
//! whatever still decodes is stable: what it is rebuilt to decodes to the same again.

mod vectors;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeSet;
use vectors::{Dice, hex, json_files, list, mutated, unhex};
use zabkit::jute::{DecodeError, Reader, Record};
use zabkit::records::*;

/// Counts what the current thread has allocated, and the most that it was.
struct Counting;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all work is done by `System`, with the arguments as they came; the counters do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LIVE.try_with(|live| {
            live.set(live.get() + layout.size());
            let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
        });
        // SAFETY: the caller keeps `GlobalAlloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _ = LIVE.try_with(|live| live.set(live.get().saturating_sub(layout.size())));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `work` held at once.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get() - before)
}

/// A decoded record takes at most so many times its bytes, and a little.
const GROWTH_MAX: usize = 24;
const LITTLE: usize = 1024;

/// Decodes bytes and rebuilds them from the fields.
type Decoder = fn(&[u8]) -> Result<Vec<u8>, DecodeError>;

/// Each entrance of bytes from a socket or a file, with its name.
const DECODERS: [(&str, Decoder); 12] = [
    ("connect request", rebuilt::<ConnectRequest>),
    ("request", request),
    ("connect response", rebuilt::<ConnectResponse>),
    ("reply", reply),
    ("transaction", rebuilt::<Txn>),
    ("packet from the leader", |bytes| packet(bytes, true)),
    ("packet from a learner", |bytes| packet(bytes, false)),
    ("notification", |bytes| {
        let mut out = Vec::new();
        Notification::decode(bytes.get(4..).unwrap_or_default())?.write(&mut out);
        Ok(out)
    }),
    ("INITIAL", |bytes| {
        let mut out = Vec::new();
        Initial::take(&mut Reader::new(bytes))?.into_iter().for_each(|initial| initial.write(&mut out));
        Ok(out)
    }),
    ("SASL packet", |bytes| {
        let mut out = Vec::new();
        QuorumAuthPacket::take(&mut Reader::new(bytes))?.into_iter().for_each(|packet| packet.write(&mut out));
        Ok(out)
    }),
    ("snapshot", snapshot),
    ("multi response", rebuilt::<MultiResponse>),
];

fn rebuilt<T: Record>(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    T::from_bytes(bytes).map(|record| record.to_bytes())
}

fn request(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let from = &mut Reader::new(bytes);
    let header = RequestHeader::read(from)?;
    let mut out = header.to_bytes();
    if let Some(body) = Request::read(header.op, from) {
        body?.write(&mut out);
    }
    Ok(out)
}

/// The frame as the reply of each operation: only the client knows which it was.
fn reply(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    for code in (0..=22).chain(100..=107) {
        let from = &mut Reader::new(bytes);
        let header = ReplyHeader::read(from)?;
        if let Ok(body) = Response::read(code, from) {
            out = header.to_bytes();
            body.write(&mut out);
        }
    }
    let from = &mut Reader::new(bytes);
    let header = ReplyHeader::read(from)?;
    if let Ok(event) = WatcherEvent::read(from) {
        let mut frame = header.to_bytes();
        event.write(&mut frame);
        let again = WatcherEvent::from_bytes(&frame[header.to_bytes().len()..]);
        assert_eq!(again, Ok(event));
    }
    Ok(out)
}

fn packet(bytes: &[u8], from_leader: bool) -> Result<Vec<u8>, DecodeError> {
    let (from, mut out) = (&mut Reader::new(bytes), Vec::new());
    while let Some(packet) = QuorumPacket::take(from, from_leader)? {
        packet.write(&mut out);
        if let QuorumPacket::Proposal { txn, .. } | QuorumPacket::Inform { txn, .. } = packet {
            let _ = rebuilt::<Txn>(&txn);
        }
    }
    Ok(out)
}

fn snapshot(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let (mut decoder, from, mut out) = (SnapshotDecoder::default(), &mut Reader::new(bytes), Vec::new());
    while let Some(item) = decoder.take(from, TXN_BYTES_MAX)? {
        item.write(&mut out);
    }
    Ok(out)
}

/// Throws `bytes` at one decoder; returns how many times their length it took, and whether they were decoded.
fn throw(name: &str, decoder: Decoder, bytes: &[u8]) -> (usize, bool) {
    let (result, peak) = peak_of(|| decoder(bytes));
    assert!(peak <= GROWTH_MAX * bytes.len() + LITTLE, "{name} took {peak} bytes for {}: {}", bytes.len(), hex(bytes));
    if let Ok(once) = &result {
        // An empty result: nothing was whole.
        let twice = if once.is_empty() { Ok(Vec::new()) } else { decoder(once) };
        assert_eq!(twice.as_ref(), Ok(once), "{name} is not stable on {}", hex(bytes));
    }
    (peak.saturating_sub(LITTLE) / bytes.len().max(1), result.is_ok_and(|bytes| !bytes.is_empty()))
}

/// Every recorded frame and message once, without the length prefix of the client protocol.
fn recorded() -> Vec<Vec<u8>> {
    let mut frames = BTreeSet::new();
    for (_, file) in json_files("client") {
        for step in list(&file, "steps") {
            let received = list(step, "expect").iter().map(|expect| unhex(&expect["hex"]));
            for bytes in received.chain([unhex(&step["send"])]) {
                frames.extend(bytes.get(4..).map(<[u8]>::to_vec));
            }
        }
    }
    for (_, file) in json_files("quorum") {
        let singles = list(&file, "messages").iter().chain(list(&file, "packets"));
        let sasl = list(&file, "connections").iter().flat_map(|connection| list(connection, "messages"));
        let sequences = list(&file, "sequences").iter().flat_map(|sequence| list(sequence, "packets"));
        frames.extend(singles.chain(sasl).chain(sequences).map(|message| unhex(&message["hex"])));
    }
    let frames: Vec<_> = frames.into_iter().filter(|frame| !frame.is_empty()).collect();
    assert!(frames.len() > 600, "only {} different frames", frames.len());
    frames
}

#[test]
fn no_mutated_frame_panics_or_takes_much_memory() {
    let frames = recorded();
    let mut dice = Dice(1);
    let (mut thrown, mut decoded, mut growth) = (0, 0, 0);
    for frame in &frames {
        for _ in 0..24 {
            let bytes = mutated(frame, &frames[dice.below(frames.len())], &mut dice);
            for (name, decoder) in DECODERS {
                let (took, good) = throw(name, decoder, &bytes);
                thrown += 1;
                decoded += usize::from(good);
                growth = growth.max(took);
            }
        }
    }
    println!("{thrown} mutated frames from {} recorded ones, {decoded} still decoded, growth {growth}", frames.len());
    assert!(thrown > 100_000, "{thrown}");
    assert!(decoded > 1_000, "the mutations are too wild to get anywhere: {decoded}");
}

/// Each number in each frame lies once in each way: the place and the value that matter are among them.
#[test]
fn no_lie_about_a_length_panics_or_takes_much_memory() {
    let (mut lies, mut growth) = (0, 0);
    for frame in recorded() {
        // The decoders that understand the frame get its lies; to the others they are noise.
        let understood: Vec<_> =
            DECODERS.into_iter().filter(|(name, decoder)| throw(name, *decoder, &frame).1).collect();
        for at in 0..frame.len().saturating_sub(3) {
            for lie in [-1, -2, 0x10_0000, i32::MAX] {
                let mut bytes = frame.clone();
                bytes[at..at + 4].copy_from_slice(&lie.to_be_bytes());
                for (name, decoder) in &understood {
                    growth = growth.max(throw(name, *decoder, &bytes).0);
                    lies += 1;
                }
            }
        }
    }
    println!("{lies} lies, growth {growth}");
    assert!(lies > 500_000, "{lies}");
}

#[test]
fn every_recorded_message_cut_short_anywhere_is_refused_or_waited_for() {
    for frame in recorded() {
        for (name, decoder) in DECODERS {
            for length in 0..frame.len() {
                throw(name, decoder, &frame[..length]);
            }
        }
    }
}

/// The densest frames: as many of the smallest items as a megabyte holds, so that growth cannot hide in small frames.
#[test]
fn a_megabyte_of_the_smallest_items_stays_a_small_multiple() {
    const BYTES: usize = 1 << 20;
    let repeat = |head: &[i32], item: &[u8], tail: &[u8]| {
        let mut bytes: Vec<u8> = head.iter().flat_map(|number| number.to_be_bytes()).collect();
        let count = (BYTES - bytes.len() - 4 - tail.len()) / item.len();
        bytes.extend_from_slice(&(count as i32).to_be_bytes());
        bytes.extend(std::iter::repeat_n(item, count).flatten());
        bytes.extend_from_slice(tail);
        bytes
    };
    let zeros = [0; 12];
    let delete = [&[0, 0, 0, 2, 0, 255, 255, 255, 255][..], &zeros[..8]].concat();
    let done = [255, 255, 255, 255, 1, 255, 255, 255, 255];
    let mut multi = repeat(&[1], &delete, &done);
    multi.splice(4..8, op::MULTI.to_be_bytes());
    let mut results = repeat(&[], &delete[..9], &done);
    results.drain(..4);
    let error = [&[255, 255, 255, 255, 0, 0, 0, 4][..], &[255, 255, 255, 251]].concat();
    for (what, name, bytes) in [
        ("empty strings", "request", repeat(&[1, op::SET_WATCHES, 0, 0], &zeros[..4], &zeros[..8])),
        ("empty ACLs", "request", repeat(&[1, op::SET_ACL, 0], &zeros, &zeros[..4])),
        ("deletes of a multi", "request", multi),
        ("results of a multi", "multi response", results),
        ("operations of a multi", "transaction", repeat(&[0, 0, 0, 0, 0, 0, 0, op::MULTI], &error, &[])),
        ("touched sessions", "packet from a learner", {
            let mut bytes = repeat(&[packet::PING, 0, 0], &zeros, &[]);
            let length = (bytes.len() - 16) as i32;
            bytes.splice(12..16, length.to_be_bytes());
            bytes.extend_from_slice(&[255; 4]);
            bytes
        }),
    ] {
        let decoder = DECODERS.iter().find(|(each, _)| *each == name).expect("a decoder").1;
        let (growth, decoded) = throw(name, decoder, &bytes);
        println!("{what}: {growth} times the bytes");
        assert!(decoded, "{what}: the frame is not what it should be");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    /// Noise: nothing but its length is known.
    #[test]
    fn noise_is_refused_or_stable(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for (name, decoder) in DECODERS {
            throw(name, decoder, &bytes);
        }
    }

    /// Noise behind a good request header, so that each operation's reader sees it.
    #[test]
    fn noise_as_the_body_of_each_operation_is_refused_or_stable(
        code in -11..=107, bytes in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let frame = [&[0, 0, 0, 1][..], &i32::to_be_bytes(code), &bytes].concat();
        throw("request", request, &frame);
        let packet = [&i32::to_be_bytes(code % 20)[..], &[0; 8], &(bytes.len() as i32).to_be_bytes(), &bytes, &[255; 4]];
        let packet = packet.concat();
        throw("packet from the leader", DECODERS[5].1, &packet);
        throw("packet from a learner", DECODERS[6].1, &packet);
    }
}
