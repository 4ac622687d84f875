//! Random watches and changes against the rules of the protocol, spelled out over a plain set of watches.

use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use zabkit::records::{Acl, EventType, Zxid};
use zabkit::tree::{Change, ChangeKind, WatchManager, WatchMode, WatchTable, WatcherId, WatcherType};

/// A watch: table, path, watcher, mode.
type Watch = (bool, &'static str, u64, u8);
const DATA: bool = false;
const CHILD: bool = true;
const MODES: [WatchMode; 3] = [WatchMode::Standard, WatchMode::Persistent, WatchMode::PersistentRecursive];
const PATHS: [&str; 7] = ["/", "/a", "/a/b", "/a/b/c", "/ab", "/b", "/b/a"];

#[derive(Clone, Debug)]
enum Step {
    Register { child: bool, path: &'static str, watcher: u64 },
    Add { path: &'static str, watcher: u64, mode: u8 },
    Remove { kind: i32, path: &'static str, watcher: u64 },
    End { watcher: u64 },
    Fire { kind: ChangeKind, path: &'static str },
}

fn step() -> impl Strategy<Value = Step> {
    let path = || prop::sample::select(&PATHS[..]);
    let watcher = || 1..5u64;
    let kind = prop::sample::select(vec![ChangeKind::Created, ChangeKind::Deleted, ChangeKind::DataChanged]);
    prop_oneof![
        6 => (any::<bool>(), path(), watcher())
            .prop_map(|(child, path, watcher)| Step::Register { child, path, watcher }),
        3 => (path(), watcher(), 1..3u8).prop_map(|(path, watcher, mode)| Step::Add { path, watcher, mode }),
        2 => (1..6i32, path(), watcher()).prop_map(|(kind, path, watcher)| Step::Remove { kind, path, watcher }),
        1 => watcher().prop_map(|watcher| Step::End { watcher }),
        6 => (kind, path()).prop_map(|(kind, path)| Step::Fire { kind, path }),
    ]
}

#[derive(Default)]
struct Model(BTreeSet<Watch>);

impl Model {
    fn add(&mut self, path: &'static str, watcher: u64, mode: u8) {
        self.0.insert((DATA, path, watcher, mode));
        if mode == 1 {
            self.0.insert((CHILD, path, watcher, mode));
        }
    }

    fn meant(kind: i32, (child, _, _, mode): &Watch) -> bool {
        match kind {
            1 => *child && *mode == 0,
            2 => !*child && *mode == 0,
            3 => true,
            4 => *mode == 1,
            _ => *mode == 2,
        }
    }

    fn remove(&mut self, kind: i32, at: &str, by: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|watch| !(watch.1 == at && watch.2 == by && Self::meant(kind, watch)));
        self.0.len() < before
    }

    /// Who hears of an event at `at` in one table, ascending; one-shot watches are used up.
    fn take(&mut self, table: bool, at: &str) -> BTreeSet<u64> {
        let is_above = |path: &str| path == "/" || at.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        let hears = |&&(child, path, _, mode): &&Watch| {
            child == table && (path == at || (mode == 2 && table == DATA && is_above(path)))
        };
        let told = self.0.iter().filter(hears).map(|watch| watch.2).collect();
        self.0.retain(|&(child, path, _, mode)| !(child == table && path == at && mode == 0));
        told
    }

    fn fire(&mut self, kind: ChangeKind, path: &str) -> Vec<(u64, EventType, String)> {
        let event = match kind {
            ChangeKind::Created => EventType::NodeCreated,
            ChangeKind::Deleted => EventType::NodeDeleted,
            ChangeKind::DataChanged => EventType::NodeDataChanged,
        };
        let told = self.take(DATA, path);
        let mut events: Vec<_> = told.iter().map(|&watcher| (watcher, event, path.to_string())).collect();
        if kind == ChangeKind::Deleted {
            let more = self.take(CHILD, path);
            events.extend(more.difference(&told).map(|&watcher| (watcher, event, path.to_string())));
        }
        if kind != ChangeKind::DataChanged && path != "/" {
            let parent = path.rsplit_once('/').unwrap().0;
            let parent = if parent.is_empty() { "/" } else { parent };
            let more = self.take(CHILD, parent);
            events.extend(more.iter().map(|&watcher| (watcher, EventType::NodeChildrenChanged, parent.to_string())));
        }
        events
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn watches_fire_for_whom_the_rules_say_and_as_often(steps in prop::collection::vec(step(), 1..250)) {
        let (mut watches, mut model) = (WatchManager::new(), Model::default());
        let acl: Arc<[Acl]> = Arc::new([Acl::open()]);
        for step in steps {
            match step {
                Step::Register { child, path, watcher } => {
                    let table = if child { WatchTable::Child } else { WatchTable::Data };
                    watches.register(table, path, WatcherId(watcher), WatchMode::Standard);
                    model.0.insert((child, path, watcher, 0));
                }
                Step::Add { path, watcher, mode } => {
                    watches.add_watch(path, WatcherId(watcher), MODES[usize::from(mode)]);
                    model.add(path, watcher, mode);
                }
                Step::Remove { kind, path, watcher } => {
                    let meant = WatcherType::from_code(kind).unwrap();
                    let found = watches.contains(meant, path, WatcherId(watcher));
                    prop_assert_eq!(watches.remove(meant, path, WatcherId(watcher)), found);
                    prop_assert_eq!(model.remove(kind, path, watcher), found);
                }
                Step::End { watcher } => {
                    watches.remove_watcher(WatcherId(watcher));
                    model.0.retain(|watch| watch.2 != watcher);
                }
                Step::Fire { kind, path } => {
                    let mut events = Vec::new();
                    let change = Change { kind, path, zxid: Zxid(1), acl: &acl, parent_acl: &acl };
                    watches.fire(&change, &mut |watchers, event, path| {
                        events.extend(watchers.iter().map(|watcher| (watcher.0, event, path.to_string())));
                    });
                    prop_assert_eq!(events, model.fire(kind, path), "{:?} {}", kind, path);
                }
            }
            let pairs = |table| {
                let pairs: BTreeSet<_> =
                    model.0.iter().filter(|watch| watch.0 == table).map(|watch| (watch.1, watch.2)).collect();
                pairs.len()
            };
            let counts = watches.counts();
            prop_assert_eq!((counts.data, counts.child), (pairs(DATA), pairs(CHILD)));
            let in_data: BTreeSet<_> =
                model.0.iter().filter(|watch| watch.0 == DATA).map(|watch| (watch.1, watch.2)).collect();
            let parts = (0..).map_while(|part| watches.data_watches(part)).flatten();
            let listed: Vec<(String, u64)> = parts
                .flat_map(|(path, watchers)| watchers.into_iter().map(move |watcher| (path.clone(), watcher.0)))
                .collect();
            prop_assert_eq!(listed.len(), in_data.len());
            prop_assert!(listed.iter().all(|(path, watcher)| in_data.contains(&(path.as_str(), *watcher))));
            let distinct = |of: fn(&(&'static str, u64)) -> String| in_data.iter().map(of).collect::<BTreeSet<_>>().len();
            prop_assert_eq!(counts.data_paths, distinct(|pair| pair.0.to_string()));
            prop_assert_eq!(watches.data_watchers(), distinct(|pair| pair.1.to_string()));
        }
    }
}
