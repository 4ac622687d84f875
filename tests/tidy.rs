//! Keeps the map of `docs/design.md` true: who may import whom, what the pure layers may not touch, and what no file
//! should be. Each rule is itself tested with a planted violation, so that a rule cannot go blind.

mod source;

use source::{Source, is_word, starts_with};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The layers, and what each may import beside itself. A module at the top of `src` that is not here fails the test.
const LAYERS: [(&str, &[&str]); 13] = [
    ("sync", &[]),
    ("jute", &[]),
    ("records", &["jute"]),
    ("tree", &["sync", "jute", "records"]),
    ("storage", &["sync", "jute", "records"]),
    ("zab", &["sync", "jute", "records"]),
    ("peer", &["sync", "jute", "records", "tree", "zab"]),
    ("client", &["jute", "records"]),
    ("server", &["sync", "jute", "records", "tree", "storage", "zab", "peer"]),
    ("sim", &["sync", "jute", "records", "tree", "storage", "zab", "peer", "client"]),
    ("cli", &["sync", "jute", "records", "tree", "storage", "zab", "peer", "client", "server", "sim"]),
    ("python", &["jute", "records", "client", "server"]),
    ("main", &["cli"]),
];

/// Layers in which the same inputs give the same outputs, wherever and whenever they run.
const PURE: [&str; 7] = ["jute", "records", "tree", "storage", "zab", "peer", "client"];

/// Paths that the pure layers may not name, with what to do instead.
const BANNED_PATHS: [(&str, &str); 21] = [
    ("tokio", "the host has the runtime; leave an effect"),
    ("mio", "the host has the sockets; leave an effect"),
    ("socket2", "the host has the sockets; leave an effect"),
    ("std::net::TcpStream", "the host has the sockets; leave an effect"),
    ("std::net::TcpListener", "the host has the sockets; leave an effect"),
    ("std::net::UdpSocket", "the host has the sockets; leave an effect"),
    ("std::fs", "storage has the `Disk` trait, the others leave effects"),
    ("std::thread", "the host has the threads"),
    ("std::process", "the host ends the process"),
    ("std::env", "settings come in with the configuration"),
    ("std::time::Instant", "time comes in as `now`"),
    ("std::time::SystemTime", "time comes in as `now`"),
    ("rand", "seeds come in with the configuration"),
    ("fastrand", "seeds come in with the configuration"),
    ("tracing", "transitions are `Effect::Note`; hosts print"),
    ("log", "transitions are `Effect::Note`; hosts print"),
    ("std::sync::Mutex", "locks come from `crate::sync`, so that loom can see them"),
    ("std::sync::RwLock", "locks come from `crate::sync`, so that loom can see them"),
    ("std::sync::Condvar", "only hosts wait"),
    ("std::sync::mpsc", "only hosts wait"),
    ("std::sync::atomic", "atomics come from `crate::sync`, so that loom can see them"),
];

/// Macros that the pure layers may not use.
const BANNED_MACROS: [&str; 5] = ["println", "print", "eprintln", "eprint", "dbg"];

/// Files that may break a ban of [`BANNED_PATHS`], with the paths and the reason.
const EXEMPT: [(&str, &[&str], &str); 1] =
    [("src/storage/disk.rs", &["std::fs"], "it is the `Disk` that is made of files")];

/// A file with more lines of code than this has a second concept in it.
const CODE_LINES_MAX: usize = 700;
/// Longer files, with the reason.
const LONG_FILES: [(&str, &str); 0] = [];

#[test]
fn the_source_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for path in rust_files(&root.join("src")) {
        let name = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
        let text = std::fs::read_to_string(&path).expect("a source file can be read");
        files.push((name, text));
    }
    assert!(files.len() > 10, "where is the source?");
    let problems = check(&files);
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// The rules about words and allowances hold for tests and benches too.
#[test]
fn the_tests_are_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut problems = Vec::new();
    for dir in ["tests", "benches", "examples", "fuzz"] {
        for path in rust_files(&root.join(dir)) {
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
            if name == "tests/tidy.rs" {
                continue; // It names what it bans.
            }
            let source = Source::parse(&std::fs::read_to_string(&path).expect("a test can be read"));
            problems.extend(unfinished(&name, &source));
            problems.extend(allowances(&name, &source));
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// A page that links to a file which is gone misleads.
#[test]
fn the_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = files_with(&root.join("docs"), "md");
    pages.extend(["README.md", "CHANGELOG.md"].map(|name| root.join(name)));
    assert!(pages.len() > 8, "where are the pages?");
    let mut problems = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("a page can be read");
        let name = page.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        problems.extend(dead_links(&name, &text, |link| page.with_file_name("").join(link).exists()));
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// Links to files that `exists` does not find.
fn dead_links(name: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut problems = Vec::new();
    for (line, text) in text.lines().enumerate() {
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !target.contains("://") && !exists(file) {
                problems.push(format!("{name}:{}: `{file}` does not exist", line + 1));
            }
        }
    }
    problems
}

#[test]
fn a_planted_dead_link_is_caught() {
    let text = "See [a](a.md#part), [b](../b.rs) and [c](https://example.org/c.md), [d](#here).";
    assert_eq!(dead_links("x.md", text, |_| true), Vec::<String>::new());
    assert_eq!(dead_links("x.md", text, |file| file == "a.md"), ["x.md:1: `../b.rs` does not exist"]);
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    files_with(dir, "rs")
}

fn files_with(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                dirs.push(path);
            } else if path.extension().is_some_and(|each| each == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Everything that is wrong with these files, as `file:line: what`.
fn check(files: &[(String, String)]) -> Vec<String> {
    let sources: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), Source::parse(text))).collect();
    let mut hashed: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (name, source) in &sources {
        hashed.entry(layer_of(name)).or_default().extend(hashed_names(&source.without_tests()));
    }

    let mut problems = Vec::new();
    for (name, source) in &sources {
        let (layer, code) = (layer_of(name), source.without_tests());
        problems.extend(unfinished(name, source));
        problems.extend(allowances(name, source));
        if layer == "lib" {
            continue; // It only declares the layers.
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(each, _)| *each == layer) else {
            problems
                .push(format!("{name}:1: `{layer}` is in no layer: give it a line in LAYERS and in docs/design.md"));
            continue;
        };
        problems.extend(imports(name, layer, allowed, source));
        let is_test = name.ends_with("tests.rs") || name.contains("/tests/");
        if PURE.contains(&layer) && !is_test {
            problems.extend(impurities(name, &code));
            problems.extend(hash_order(name, &code, &hashed[layer]));
        }
        if layer != "main" && !source.comments.get(&1).is_some_and(|comment| comment.starts_with("//!")) {
            problems.push(format!("{name}:1: the first line says which step or decision the file is (`//! ..`)"));
        }
        let lines = code.code_lines();
        if !is_test && lines > CODE_LINES_MAX && !LONG_FILES.iter().any(|(file, _)| file == name) {
            problems
                .push(format!("{name}:1: {lines} lines of code (of {CODE_LINES_MAX}): look for the second concept"));
        }
    }
    problems
}

/// `src/tree/mod.rs` and `src/tree.rs` are in `tree`.
fn layer_of(name: &str) -> &str {
    let inside = name.strip_prefix("src/").unwrap_or(name);
    inside.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// Imports go left only, in tests too.
fn imports(name: &str, layer: &str, allowed: &[&str], source: &Source) -> Vec<String> {
    // How many `super` lead from this file to the top: src/tree/watch.rs is `crate::tree::watch`.
    let depth = name.matches('/').count() - usize::from(name.ends_with("/mod.rs"));
    let mut problems = Vec::new();
    for path in source.paths() {
        let top = match path.parts[0].as_str() {
            "crate" | "zabkit" => path.parts.get(1),
            "super" if depth > 0 => {
                let supers = path.parts.iter().take_while(|part| *part == "super").count();
                // More than that is a module inside the file.
                (supers == depth).then(|| path.parts.get(supers)).flatten()
            }
            _ => None,
        };
        let Some(top) = top else { continue };
        let is_layer = LAYERS.iter().any(|(each, _)| each == top);
        if is_layer && top != layer && !allowed.contains(&top.as_str()) {
            problems.push(format!("{name}:{}: `{layer}` may not import `{top}`", path.line));
        }
    }
    problems.dedup();
    problems
}

/// Clock, randomness, threads, files, sockets, environment, logging.
fn impurities(name: &str, code: &Source) -> Vec<String> {
    let exempt: Vec<&str> =
        EXEMPT.iter().filter(|(file, _, _)| *file == name).flat_map(|(_, paths, _)| paths.iter().copied()).collect();
    let mut problems = Vec::new();
    for path in code.paths() {
        let text = path.parts.join("::");
        for (banned, instead) in BANNED_PATHS {
            let is_under = text == banned || text.strip_prefix(banned).is_some_and(|rest| rest.starts_with("::"));
            // `use std::time;` opens a way to `time::Instant`.
            let opens = banned.strip_prefix(&text).is_some_and(|rest| rest.starts_with("::")) && text != "std";
            if (is_under || opens) && !exempt.contains(&banned) {
                problems.push(format!("{name}:{}: `{text}` in a pure layer: {instead}", path.line));
                break;
            }
        }
    }
    for word in BANNED_MACROS {
        for at in code.find(&[word, "!"]) {
            problems.push(format!("{name}:{}: `{word}!` in a pure layer", code.tokens[at].line));
        }
    }
    problems
}

/// Names declared with a hash map or set as their type or value: `watches: HashMap<..>`, `let seen = HashSet::new()`.
fn hashed_names(code: &Source) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, token) in code.tokens.iter().enumerate() {
        if !matches!(token.text.as_str(), "HashMap" | "HashSet" | "FxHashMap" | "FxHashSet" | "AHashMap") {
            continue;
        }
        // Back over what may stand around it (`Mutex<`, `std::collections::`, `&mut`) to the `:` or `=`, and the name.
        let mut back = at;
        while back > 0
            && (is_word(&code.tokens[back - 1].text) || matches!(code.tokens[back - 1].text.as_str(), "::" | "<" | "&"))
        {
            back -= 1;
        }
        if back >= 2 && matches!(code.tokens[back - 1].text.as_str(), ":" | "=") && is_word(&code.tokens[back - 2].text)
        {
            names.insert(code.tokens[back - 2].text.clone());
        }
    }
    names
}

/// Iteration in hash order, unless a comment on the line or the one above says "any order" and why that is right.
fn hash_order(name: &str, code: &Source, hashed: &BTreeSet<String>) -> Vec<String> {
    const ITERATES: [&str; 9] =
        ["iter", "iter_mut", "keys", "values", "values_mut", "into_iter", "into_keys", "into_values", "drain"];
    let mut problems = Vec::new();
    for (at, token) in code.tokens.iter().enumerate() {
        if !hashed.contains(&token.text) {
            continue;
        }
        let behind = &code.tokens[at + 1..];
        // `.lock().iter()` and `lock(&self.name).iter()` reach into a lock.
        let mut call = if starts_with(behind, &[")"]) { &behind[1..] } else { behind };
        while starts_with(call, &[".", "lock", "(", ")"]) || starts_with(call, &[".", "borrow", "(", ")"]) {
            call = &call[4..];
        }
        let called = ITERATES.iter().any(|method| starts_with(call, &[".", method, "("]));
        let looped = starts_with(behind, &["{"]) && is_loop_head(code, at);
        let says_why = (token.line.saturating_sub(1)..=token.line)
            .any(|line| code.comments.get(&line).is_some_and(|comment| comment.contains("any order")));
        if (called || looped) && !says_why {
            problems.push(format!("{name}:{}: `{}` is iterated in hash order", token.line, token.text));
        }
    }
    problems
}

/// Whether what ends at `at` is the expression of a loop: `for x in &self.name {`.
fn is_loop_head(code: &Source, at: usize) -> bool {
    let mut before = code.tokens[..at].iter().rev().map(|token| token.text.as_str());
    before.find(|text| *text == "in" || !(matches!(*text, "." | "&") || is_word(text))) == Some("in")
}

/// What says that the work is not done.
fn unfinished(name: &str, source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    for word in ["todo", "unimplemented"] {
        for at in source.find(&[word, "!"]) {
            problems.push(format!("{name}:{}: `{word}!`", source.tokens[at].line));
        }
    }
    for (line, comment) in &source.comments {
        if ["TODO", "FIXME", "XXX", "HACK"].iter().any(|word| comment.contains(word)) {
            problems.push(format!("{name}:{line}: an open end in a comment: do it, or write it down as an issue"));
        }
    }
    problems
}

/// `#[allow(..)]` and `#[expect(..)]` say why: in `reason = ".."`, or in a comment on the line or the one above.
fn allowances(name: &str, source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    for word in ["allow", "expect"] {
        for at in source.find(&["[", word, "("]) {
            let line = source.tokens[at].line;
            let end = source.tokens[at..].iter().position(|token| token.text == "]").map_or(at, |length| at + length);
            let reason = source.tokens[at..end].iter().any(|token| token.text == "reason");
            let comment = (line.saturating_sub(1)..=line)
                .any(|line| source.comments.get(&line).is_some_and(|text| text.starts_with("// ")));
            if !reason && !comment {
                problems.push(format!("{name}:{line}: `#[{word}(..)]` without a reason"));
            }
        }
    }
    problems
}

/// The problems of one planted file, without those of its first line.
fn planted(name: &str, body: &str) -> Vec<String> {
    check(&[(name.to_owned(), format!("//! Planted.\n{body}"))])
}

#[test]
fn a_planted_import_to_the_right_is_caught() {
    for (name, body) in [
        ("src/jute.rs", "use crate::records::Zxid;"),
        ("src/records/txn.rs", "use crate::{jute::Record, tree::DataTree};"),
        ("src/tree/mod.rs", "use crate::zab::Election;"),
        ("src/tree/mod.rs", "use super::zab::Election;"),
        ("src/tree/watch.rs", "use super::super::peer::Database;"),
        ("src/zab/quorum.rs", "fn f() { let x = crate::storage::open(); }"),
        ("src/peer/mod.rs", "use crate::storage::Storage;"),
        ("src/peer/io.rs", "use crate::server::{self, Config};"),
        ("src/server/mod.rs", "use crate::sim::World;"),
        ("src/client/mod.rs", "use crate::{records::{Zxid, Acl}, peer::{Effects}};"),
        ("src/zab/mod.rs", "#[cfg(test)] mod tests { use crate::sim::World; }"),
    ] {
        assert_eq!(planted(name, body).len(), 1, "{name}: {body}: {:?}", planted(name, body));
    }
}

#[test]
fn imports_to_the_left_are_fine() {
    for (name, body) in [
        ("src/records/txn.rs", "use super::request::op;\nuse super::{Acl, Zxid};\nuse crate::jute::{Reader, Record};"),
        (
            "src/tree/watch.rs",
            "use crate::sync::Mutex;\n#[cfg(test)] mod tests { use super::*; use super::super::Stat; }",
        ),
        ("src/server/mod.rs", "use crate::{peer::QuorumPeer, storage::Storage};"),
        ("src/main.rs", "fn main() { zabkit::cli::main() }"),
        ("src/peer/io.rs", "//! [`crate::server`] performs them.\nconst A: &str = \"crate::server::x\";"),
    ] {
        assert_eq!(planted(name, body), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_module_outside_the_layers_is_caught() {
    assert_eq!(planted("src/misc.rs", "").len(), 1);
}

#[test]
fn planted_impurities_are_caught() {
    for body in [
        "use tokio::sync::mpsc;",
        "use std::fs::File;",
        "use std::{io, fs};",
        "use std::time::{Duration, Instant};",
        "use std::time;",
        "fn f() -> u64 { std::time::SystemTime::now().elapsed() }",
        "fn f() { std::thread::sleep(d) }",
        "fn f() -> bool { std::env::var(\"DEBUG\").is_ok() }",
        "use std::net::{IpAddr, TcpStream};",
        "use std::sync::Mutex;",
        "use std::{sync::{Arc, RwLock}};",
        "fn f() { tracing::info!(\"x\") }",
        "fn f() { println!(\"x\") }",
        "fn f() { dbg!(1); }",
        "fn f() -> u64 { rand::random() }",
    ] {
        for layer in ["src/zab/election.rs", "src/tree/mod.rs", "src/jute.rs", "src/storage/txn_log.rs"] {
            assert_eq!(planted(layer, body).len(), 1, "{layer}: {body}: {:?}", planted(layer, body));
        }
        assert_eq!(planted("src/server/net.rs", body), Vec::<String>::new(), "hosts may: {body}");
    }
}

#[test]
fn what_only_looks_like_an_impurity_is_fine() {
    for body in [
        "use std::time::Duration;",
        "use std::net::{IpAddr, SocketAddr};",
        "use std::sync::Arc;",
        "/// Not `std::fs::File`; see tokio::net.\nfn f() {}",
        "const TEXT: &str = \"std::thread::sleep println!\";\nconst C: char = '\"';\nconst R: &str = r#\"a \"tokio::x\" b\"#;",
        "fn f(log: &Log) { log.push(log::of(1)) }",
        "#[cfg(test)]\nmod tests { use std::time::Instant; use std::fs; fn f() { println!(\"x\") } }",
        "#[cfg(test)]\nuse std::fs;",
    ] {
        let problems = planted("src/zab/mod.rs", body);
        let named_log = body.contains("log::of");
        assert_eq!(problems.len(), usize::from(named_log), "{body}: {problems:?}");
    }
    assert_eq!(planted("src/storage/disk.rs", "use std::fs::File;"), Vec::<String>::new());
    assert_eq!(planted("src/storage/disk.rs", "use std::thread;").len(), 1);
}

#[test]
fn planted_hash_orders_are_caught() {
    let field = "struct S { seen: HashMap<u32, u32>, set: Mutex<HashSet<u8>>, tree: BTreeMap<u8, u8> }\n";
    for body in [
        "fn f(s: &S) { for x in &s.seen {} }",
        "impl S { fn f(&mut self) { for (k, v) in &mut self.seen { } } }",
        "fn f(s: &S) { s.seen.iter().next(); }",
        "fn f(s: &S) { s.seen\n.values().sum() }",
        "fn f(s: &S) { s.set.lock().iter().next(); }",
        "fn f(s: &S) { lock(&s.set).iter().next(); }",
        "fn f(s: &mut S) { s.seen.drain().for_each(drop); }",
        "fn f() { let local = HashSet::new(); for x in local { } }",
    ] {
        let problems = planted("src/tree/mod.rs", &format!("{field}{body}"));
        assert_eq!(problems.len(), 1, "{body}: {problems:?}");
    }
    for body in [
        "fn f(s: &S) { s.seen.get(&1); s.seen.len(); s.tree.iter(); for x in &s.tree {} }",
        "fn f(s: &S) -> u32 {\n// any order: a sum\ns.seen.values().sum() }",
    ] {
        assert_eq!(planted("src/tree/mod.rs", &format!("{field}{body}")), Vec::<String>::new(), "{body}");
    }
    // A field is known in all files of its layer.
    let files = [("src/tree/a.rs", field), ("src/tree/b.rs", "fn f(s: &S) { s.seen.keys().next(); }")];
    let files: Vec<_> = files.map(|(name, body)| (name.to_owned(), format!("//! Planted.\n{body}"))).into();
    assert_eq!(check(&files).len(), 1);
}

#[test]
fn planted_open_ends_and_bare_allowances_are_caught() {
    for body in [
        "fn f() { todo!() }",
        "fn f() { unimplemented!(\"later\") }",
        "fn f() {} // TODO: more",
        "/* FIXME */",
        "#[allow(dead_code)]\nfn f() {}",
        "#![allow(unused)]",
    ] {
        assert_eq!(planted("src/server/mod.rs", body).len(), 1, "{body}");
    }
    for body in [
        "#[allow(dead_code, reason = \"used by the other host\")]\nfn f() {}",
        "// The trait asks for it.\n#[allow(clippy::result_large_err)]\nfn f() {}",
        "#[expect(dead_code)] // Until the client lands.\nfn f() {}",
    ] {
        assert_eq!(planted("src/server/mod.rs", body), Vec::<String>::new(), "{body}");
    }
}

#[test]
fn a_planted_long_file_and_a_silent_one_are_caught() {
    let lines = |count| "fn f() {}\n".repeat(count);
    assert_eq!(planted("src/server/mod.rs", &lines(CODE_LINES_MAX)), Vec::<String>::new());
    assert_eq!(planted("src/server/mod.rs", &lines(CODE_LINES_MAX + 1)).len(), 1);
    let with_tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(600), lines(600));
    assert_eq!(planted("src/server/mod.rs", &with_tests), Vec::<String>::new(), "tests do not count");
    assert_eq!(check(&[("src/server/mod.rs".into(), "fn f() {}".into())]).len(), 1, "no first line");
}
