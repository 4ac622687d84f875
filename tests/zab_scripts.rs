//! Conversations between servers as scripts: `tests/testdata/zab/*.txt`. Commands above the line, what is shown below.
//!
//! Links are instant and in order, disks answer at once unless they are held. `show` prints each server that runs.

mod zab_world;

use std::collections::BTreeSet;
use std::fs;
use zab_world::World;

#[test]
fn scripts_show_what_they_say() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testdata/zab");
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    // ZABKIT_BLESS=1 writes what is shown into the scripts: read the difference before you commit it.
    let bless = std::env::var_os("ZABKIT_BLESS").is_some();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let (script, expected) = text.split_once("\n----").expect("a script has a line of dashes");
        let shown = World::run(script);
        if bless {
            fs::write(&path, format!("{script}\n----\n{shown}")).unwrap();
            continue;
        }
        assert_eq!(shown.trim(), expected.trim(), "\n{}:\n{shown}", path.display());
    }
}

/// A reconfiguration is interrupted behind each input and each piece of disk work of its life: some servers crash, and
/// come back or stay away. Whenever it is, the servers go on as the old ensemble or as the new one, all of them.
#[test]
fn an_interrupted_reconfiguration_leaves_the_old_ensemble_or_the_new_one() {
    for (before, change, joiners, crashes, [old, new]) in [
        ("servers 1", "+2 +3", "2 3", &["1", "2", "2 3", "1 2", "1 2 3", "3 stays"][..], ["1", "1,2,3"]),
        ("servers 1 2 3", "+4", "4", &["3", "1 2", "3 4", "1 2 3 4", "3 stays", "4 stays"], ["1,2,3", "1,2,3,4"]),
        ("servers 1 2 3", "-3", "", &["3", "2", "1 2", "1 2 3", "3 stays"], ["1,2,3", "1,2"]),
        ("servers 1 2 3", "+3:observer", "", &["3", "2", "1 2 3"], ["1,2,3", "1,2"]),
        ("servers 1 2", "-2", "", &["1", "2", "1 2"], ["1,2", "1"]),
        ("servers 1 2 3", "-1 -3 +4 +5", "4 5", &["3", "4 5", "1 2", "1 2 3 4 5", "1 stays"], ["1,2,3", "2,4,5"]),
        // Two observers are to vote: while 2 or 3 stays away, they must, or neither ensemble is whole.
        (
            "observers 4 5\nservers 1 2 3",
            "+4 +5",
            "",
            &["3", "4 5", "1 2 3", "3 stays", "2 stays"],
            ["1,2,3", "1,2,3,4,5"],
        ),
    ] {
        let lines = |command: &str, ids: &str| -> String {
            ids.split_whitespace().map(|id| format!("{command} {id}\n")).collect()
        };
        let leader = before.split(' ').next_back().unwrap();
        let joining = lines("start", joiners);
        let setup = format!(
            "rule reconfig\n{before}\nstart all\nwait 500\n{joining}wait 500\nclient c {leader}\nrun\nreconfig c {change}\n"
        );
        let mut ends = BTreeSet::new();
        for crashes in crashes {
            let (crashed, stays) = crashes.strip_suffix(" stays").map_or((*crashes, false), |crashed| (crashed, true));
            let (crash, restart) = (lines("crash", crashed), lines("start", if stays { "" } else { crashed }));
            for after in 0..60 {
                let script = format!("{setup}run {after}\n{crash}wait 3000\n{restart}wait 5000\nagree\n");
                let end = World::run(&script);
                let is_fine = [old, new].iter().any(|voters| end == format!("voters={voters} writes\n"));
                assert!(is_fine, "{before}: {change}: {crashes}, after {after}:\n{script}\n{end}");
                ends.insert(end);
            }
        }
        assert_eq!(ends.len(), 2, "{before}: {change}: no crash was early enough, or late enough: {ends:?}");
    }
}
