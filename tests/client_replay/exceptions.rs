//! What is answered in another way than 3.8.0 did, or belongs to a server that does not exist yet; each with a reason.

/// Scenarios that are not replayed at all.
pub const SKIPPED_SCENARIOS: &[(&str, &str)] =
    &[("local-session", "local sessions are not there yet"), ("read-only", "the read-only mode is not there yet")];

/// What is answered instead.
#[derive(Clone, Copy)]
pub enum Instead {
    /// A header with this code.
    Error(i32),
    /// A multi with one result, that of a create2 of this path.
    Create2(&'static str),
}

struct Differing {
    step: &'static str,
    instead: Instead,
    #[allow(dead_code, reason = "for the reader")]
    reason: &'static str,
}

const DIFFERING: &[Differing] = &[
    Differing {
        step: "acl-auth-05",
        instead: Instead::Error(-102),
        reason: "exists needs READ from 3.8.4 and 3.9.2 on",
    },
    Differing { step: "multi-10", instead: Instead::Create2("/multi/c2"), reason: "type 15 from 3.8.2 and 3.9.0 on" },
    Differing {
        step: "watches-mixed-14",
        instead: Instead::Error(-121),
        reason: "from 3.9.0 on type 2 means one-shot watches alone",
    },
    Differing {
        step: "watches-mixed-15",
        instead: Instead::Error(-121),
        reason: "from 3.9.0 on recursive watches are not in the child table",
    },
];

/// What is answered instead of the recorded reply of this step.
pub fn exception(step: &str) -> Option<Instead> {
    DIFFERING.iter().find(|differing| differing.step == step).map(|differing| differing.instead)
}

/// Zxids (relative, as in the file) that 3.8.0 used up for requests it could not decode; from 3.9 on they cost none.
pub fn unused_zxids(scenario: &str) -> &'static [i64] {
    match scenario {
        "connect-bad" => &[4],
        "multi" => &[12, 13],
        _ => &[],
    }
}
