//! Reads the recorded exchanges under `tests/testdata`, for the tests that replay them through the records.

#![allow(dead_code, reason = "each test binary uses its own part")]

use serde_json::Value;
use std::path::PathBuf;

/// A directory of `tests/testdata`.
pub fn testdata(dir: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "testdata", dir].iter().collect()
}

/// Every JSON file of a directory, by name.
pub fn json_files(dir: &str) -> Vec<(String, Value)> {
    let mut files: Vec<_> = std::fs::read_dir(testdata(dir))
        .expect("testdata is there")
        .map(|entry| entry.expect("testdata can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no vectors in {dir}");
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a vector file can be read");
            let name = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
            (name, serde_json::from_str(&text).expect("a vector file is JSON"))
        })
        .collect()
}

/// The bytes of a hex string; a missing value is no bytes.
pub fn unhex(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap_or_default();
    assert!(text.len().is_multiple_of(2), "an odd number of hex digits: {text}");
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex digits")).collect()
}

/// Hex digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The array under `key`.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// The string under `key`.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no string `{key}` in {value}"))
}

/// Takes a frame's body off `stream`; `None` while it is not whole, or if its length cannot be one.
pub fn take_frame(stream: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = i32::from_be_bytes(*stream.first_chunk()?);
    let end = 4 + usize::try_from(length).ok()?;
    if stream.len() < end {
        return None;
    }
    let frame = stream[4..end].to_vec();
    stream.drain(..end);
    Some(frame)
}

/// What the client has open on one connection of a recorded scenario.
#[derive(Default)]
pub struct Connection {
    pub sent: Vec<u8>,
    pub connected: bool,
    /// Requests that are not answered yet: xid and operation.
    pub waiting: Vec<(i32, i32)>,
}

/// Numbers that lie as lengths and counts.
pub const LIES: [i32; 8] = [-1, -2, 0, 1, 0xff_fff, 0x10_0000, i32::MAX, i32::MIN];

/// SplitMix64: the same mutations in each run.
pub struct Dice(pub u64);

impl Dice {
    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}

impl Dice {
    /// True once in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of `items`.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// `frame` with a bit, a length, an end or a middle of its own or of `other` that is not what it was.
pub fn mutated(frame: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        match dice.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 => bytes.truncate(at),
            2 if at + 4 <= bytes.len() => {
                let lie = LIES[dice.below(LIES.len())];
                bytes[at..at + 4].copy_from_slice(&lie.to_be_bytes());
            }
            3 => bytes.splice(at..at, (0..dice.below(9)).map(|i| i as u8)).for_each(drop),
            4 => bytes.truncate(bytes.len() - dice.below(bytes.len().min(9))),
            _ => {
                let tail = &other[dice.below(other.len())..];
                bytes.truncate(at);
                bytes.extend_from_slice(tail);
            }
        }
    }
    bytes
}
