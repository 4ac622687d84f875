//! The recorded conversations of `tests/testdata/client`, as their README describes them.

use serde::Deserialize;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

#[derive(Deserialize)]
pub struct Scenario {
    #[serde(rename = "scenario")]
    pub name: String,
    pub steps: Vec<Step>,
}

#[derive(Deserialize)]
pub struct Step {
    pub id: String,
    pub description: String,
    pub conn: String,
    #[serde(deserialize_with = "from_hex")]
    pub send: Vec<u8>,
    #[serde(default)]
    pub substitute: Vec<Field>,
    #[serde(default)]
    pub wait_ms: u64,
    pub expect: Vec<Expected>,
    #[serde(default)]
    pub then_closed: BTreeSet<String>,
    #[serde(default)]
    pub unordered: bool,
    #[serde(default)]
    pub ignore_body: bool,
}

#[derive(Deserialize)]
pub struct Expected {
    pub conn: String,
    #[serde(rename = "hex", deserialize_with = "from_hex")]
    pub frame: Vec<u8>,
    #[serde(default)]
    pub mask: Vec<Field>,
    pub decoded: serde_json::Value,
}

impl Expected {
    /// Whether it has the header of a reply; a connect response has none.
    pub fn is_reply(&self) -> bool {
        self.decoded.get("kind").is_none_or(|kind| kind != "connect_response")
    }

    pub fn is_event(&self) -> bool {
        self.is_reply() && self.frame.get(4..8) == Some(&[0xff; 4])
    }
}

#[derive(Deserialize)]
pub struct Field {
    pub offset: usize,
    pub length: usize,
    pub field: String,
    pub rel: Option<i64>,
    pub of: Option<String>,
}

impl Field {
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.length
    }
}

/// All scenarios, by name.
pub fn load() -> Vec<Scenario> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/client");
    let mut scenarios: Vec<Scenario> = std::fs::read_dir(&dir)
        .expect("the recorded conversations are there")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect();
    scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    scenarios
}

fn from_hex<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    let digits = |at| u8::from_str_radix(text.get(at..at + 2).unwrap_or("?"), 16);
    (0..text.len()).step_by(2).map(digits).collect::<Result<_, _>>().map_err(serde::de::Error::custom)
}
