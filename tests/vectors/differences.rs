//! A table of `docs/compatibility.md` that makes differences right: what was recorded, what zabkit does instead, and why.

use std::path::Path;

/// The page.
pub fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/compatibility.md");
    std::fs::read_to_string(path).expect("docs/compatibility.md is there")
}

/// Of each line of the table under `heading`: what is named, and what stands instead. All else is for readers, and must
/// be there.
pub fn lines<'t>(text: &'t str, heading: &str) -> Vec<(&'t str, &'t str)> {
    let section = text.split_once(heading).expect("the section is there").1;
    let section = section.split("\n## ").next().unwrap_or_default();
    let line = |line: &'t str| {
        let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [named, recorded, instead, why] = columns[..] else { panic!("four columns are needed: {line}") };
        assert!(!recorded.is_empty() && !why.is_empty(), "without a reason it is no rightful difference: {line}");
        (named, instead)
    };
    section.lines().filter(|line| line.starts_with('|')).skip(2).map(line).collect()
}
