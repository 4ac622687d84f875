//! The table "Recorded conversations between servers" of `docs/compatibility.md`: a line is the only way to make a
//! difference right.

use std::collections::BTreeMap;
use std::path::Path;

const HEADING: &str = "## Recorded conversations between servers";

/// What is different, as the third column says it in code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// `no ACK of a DIFF`: the ACK of NEWLEADER stands for all that came before it.
    NoAcksOfDiff,
}

pub struct Table(BTreeMap<String, Instead>);

impl Table {
    pub fn load() -> Table {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/compatibility.md");
        Table::parse(&std::fs::read_to_string(path).expect("docs/compatibility.md is there"))
    }

    fn parse(text: &str) -> Table {
        let section = text.split_once(HEADING).expect("the section is there").1;
        let section = section.split("\n## ").next().unwrap_or_default();
        let mut table = BTreeMap::new();
        for line in section.lines().filter(|line| line.starts_with('|')).skip(2) {
            let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [names, recorded, instead, why] = columns[..] else { panic!("four columns are needed: {line}") };
            assert!(!recorded.is_empty() && !why.is_empty(), "without a reason it is no rightful difference: {line}");
            let instead = match instead.split('`').nth(1) {
                Some("no ACK of a DIFF") => Instead::NoAcksOfDiff,
                other => panic!("the replay cannot check {other:?}"),
            };
            for name in names.split('`').skip(1).step_by(2) {
                assert!(table.insert(name.to_owned(), instead).is_none(), "{name} comes twice");
            }
        }
        Table(table)
    }

    pub fn get(&self, name: &str) -> Option<&Instead> {
        self.0.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
