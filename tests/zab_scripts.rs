//! Conversations between servers as scripts: `tests/testdata/zab/*.txt`. Commands above the line, what is shown below.
//!
//! Links are instant and in order, disks answer at once unless they are held. `show` prints each server that runs.

mod zab_world;

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
