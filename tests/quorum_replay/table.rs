//! The table "Recorded conversations between servers" of `docs/compatibility.md`: a line is the only way to make a
//! difference right.

use super::differences;
use std::collections::BTreeMap;

const HEADING: &str = "## Recorded conversations between servers";

/// What is different, as the third column says it in code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// `no ACK of a DIFF`: the ACK of NEWLEADER stands for all that came before it.
    NoAcksOfDiff,
    /// `round 2`: of a notification.
    Round(i64),
    /// `as they came`: the ids of a client.
    IdsAsTheyCame,
    /// `sorted`: the paths of a session's ephemerals.
    PathsInOrder,
    /// `the same nodes`: a snapshot's.
    SameNodes,
}

pub struct Table(BTreeMap<String, Instead>);

impl Table {
    pub fn load() -> Table {
        let mut table = BTreeMap::new();
        for (names, instead) in differences::lines(&differences::page(), HEADING) {
            let instead = match instead.split('`').nth(1) {
                Some("no ACK of a DIFF") => Instead::NoAcksOfDiff,
                Some(round) if round.starts_with("round ") => Instead::Round(round[6..].parse().expect("a number")),
                Some("as they came") => Instead::IdsAsTheyCame,
                Some("sorted") => Instead::PathsInOrder,
                Some("the same nodes") => Instead::SameNodes,
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
