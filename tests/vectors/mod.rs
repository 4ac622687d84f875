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
