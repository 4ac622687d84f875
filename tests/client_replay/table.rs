//! The table "Recorded answers that differ" of `docs/compatibility.md`: what of the recorded conversations is answered
//! in another way than 3.8.0 did. A line is the only way to make a difference right.

use super::differences;
use std::collections::BTreeMap;

const HEADING: &str = "## Recorded answers that differ";

/// What zabkit answers, as the third column says it in code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// `error -102`: a header with this code, and nothing else.
    Error(i32),
    /// `multi [create2 /path]`: a multi with one result, that of a create2 of this path, just made.
    Create2(String),
    /// `no zxid`: the same answer, for which no zxid is used up.
    NoZxid,
    /// `the change's zxid`: in the header of an event.
    ChangeZxid,
    /// `not replayed`: a whole scenario.
    NotReplayed,
}

/// The lines, by what the first column has in code: a step, a scenario, or `events`.
pub struct Table(BTreeMap<String, Instead>);

impl Table {
    pub fn load() -> Table {
        Table::parse(&differences::page())
    }

    fn parse(text: &str) -> Table {
        let mut table = BTreeMap::new();
        for (step, instead) in differences::lines(text, HEADING) {
            let former = table.insert(code(step).to_owned(), Instead::parse(code(instead)));
            assert!(former.is_none(), "{step} comes twice");
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

impl Instead {
    fn parse(text: &str) -> Instead {
        match text {
            "no zxid" => return Instead::NoZxid,
            "the change's zxid" => return Instead::ChangeZxid,
            "not replayed" => return Instead::NotReplayed,
            _ => {}
        }
        if let Some(code) = text.strip_prefix("error ") {
            return Instead::Error(code.parse().expect("an error has its code"));
        }
        match text.strip_prefix("multi [create2 ").and_then(|rest| rest.strip_suffix(']')) {
            Some(path) => Instead::Create2(path.to_owned()),
            None => panic!("the replay cannot check {text:?}"),
        }
    }
}

/// What stands between the first two backticks.
fn code(cell: &str) -> &str {
    cell.split('`').nth(1).unwrap_or_else(|| panic!("a word in backticks is needed: {cell}"))
}

#[test]
fn a_line_needs_a_reason_and_an_answer_that_can_be_checked() {
    let text = |line: &str| format!("{HEADING}\n\n| a | b | c | d |\n| - | - | - | - |\n{line}\n\n## Next\n| x |\n");
    let table = Table::parse(&text("| `multi-10` | type 1 | `multi [create2 /a]` | why |"));
    assert_eq!(table.get("multi-10"), Some(&Instead::Create2("/a".into())));
    assert_eq!(table.names().count(), 1);
    for bad in
        ["| `a` | x | `error -5` |  |", "| `a` | x | -5 | y |", "| `a` | x | `else` | y |", "| `a` | x | `no zxid` |"]
    {
        assert!(std::panic::catch_unwind(|| Table::parse(&text(bad))).is_err(), "{bad}");
    }
}
