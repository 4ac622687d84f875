//! What each change fires, for each kind of watch.

use super::*;
use crate::records::{Acl, SessionId, TxnBody};
use EventType::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
use WatchMode::{Persistent, PersistentRecursive, Standard};
use WatchTable::{Child, Data};
use std::sync::Arc;

const A: WatcherId = WatcherId(1);
const B: WatcherId = WatcherId(2);

fn fire(watches: &mut WatchManager, kind: ChangeKind, path: &str) -> Vec<(WatcherId, EventType, String)> {
    let acl: Arc<[Acl]> = Arc::new([Acl::open()]);
    let mut events = Vec::new();
    let change = Change { kind, path, zxid: Zxid(1), acl: &acl, parent_acl: &acl };
    watches.fire(&change, &mut |watchers, event, path| {
        assert!(watchers.is_sorted_by(|a, b| a < b) && !watchers.is_empty(), "{watchers:?}");
        events.extend(watchers.iter().map(|&watcher| (watcher, event, path.to_string())));
    });
    events
}

fn event(watcher: WatcherId, event: EventType, path: &str) -> (WatcherId, EventType, String) {
    (watcher, event, path.into())
}

#[test]
fn a_data_watch_fires_once_for_each_kind_of_change() {
    for (kind, expected) in [
        (ChangeKind::Created, NodeCreated),
        (ChangeKind::Deleted, NodeDeleted),
        (ChangeKind::DataChanged, NodeDataChanged),
    ] {
        let mut watches = WatchManager::new();
        watches.register(Data, "/a", A, Standard);
        watches.register(Data, "/a", A, Standard);
        assert_eq!(fire(&mut watches, kind, "/b"), []);
        assert_eq!(fire(&mut watches, kind, "/a"), [event(A, expected, "/a")]);
        assert_eq!(fire(&mut watches, kind, "/a"), []);
        assert_eq!(watches.counts(), WatchCounts::default());
    }
}

#[test]
fn a_child_watch_fires_for_children_and_for_the_end_of_its_own_node() {
    let mut watches = WatchManager::new();
    watches.register(Child, "/a", A, Standard);
    assert_eq!(fire(&mut watches, ChangeKind::DataChanged, "/a"), []);
    assert_eq!(fire(&mut watches, ChangeKind::DataChanged, "/a/b"), []);
    assert_eq!(fire(&mut watches, ChangeKind::Created, "/a/b"), [event(A, NodeChildrenChanged, "/a")]);
    watches.register(Child, "/a", A, Standard);
    assert_eq!(fire(&mut watches, ChangeKind::Deleted, "/a/b"), [event(A, NodeChildrenChanged, "/a")]);
    watches.register(Child, "/a", A, Standard);
    assert_eq!(fire(&mut watches, ChangeKind::Deleted, "/a"), [event(A, NodeDeleted, "/a")]);
    assert_eq!(watches.counts(), WatchCounts::default());
}

#[test]
fn a_delete_tells_a_connection_with_watches_in_both_tables_once() {
    let mut watches = WatchManager::new();
    for (table, watcher) in [(Child, A), (Data, A), (Child, B)] {
        watches.register(table, "/a", watcher, Standard);
    }
    watches.register(Child, "/", B, Standard);
    assert_eq!(
        fire(&mut watches, ChangeKind::Deleted, "/a"),
        [event(A, NodeDeleted, "/a"), event(B, NodeDeleted, "/a"), event(B, NodeChildrenChanged, "/")]
    );
    assert_eq!(watches.counts(), WatchCounts::default(), "the watch that was skipped is used up too");
}

#[test]
fn events_come_in_the_order_of_the_watchers() {
    let mut watches = WatchManager::new();
    for watcher in [B, WatcherId(9), A] {
        watches.register(Data, "/a", watcher, Standard);
    }
    let order: Vec<_> =
        fire(&mut watches, ChangeKind::Created, "/a").into_iter().map(|(watcher, ..)| watcher).collect();
    assert_eq!(order, [A, B, WatcherId(9)]);
}

#[test]
fn a_persistent_watch_stays_and_sees_its_node_and_the_list_of_children() {
    let mut watches = WatchManager::new();
    watches.add_watch("/a", A, Persistent);
    for _ in 0..2 {
        assert_eq!(fire(&mut watches, ChangeKind::Created, "/a"), [event(A, NodeCreated, "/a")]);
        assert_eq!(fire(&mut watches, ChangeKind::DataChanged, "/a"), [event(A, NodeDataChanged, "/a")]);
        assert_eq!(fire(&mut watches, ChangeKind::Created, "/a/b"), [event(A, NodeChildrenChanged, "/a")]);
        assert_eq!(fire(&mut watches, ChangeKind::DataChanged, "/a/b"), []);
        assert_eq!(fire(&mut watches, ChangeKind::Deleted, "/a/b"), [event(A, NodeChildrenChanged, "/a")]);
        assert_eq!(fire(&mut watches, ChangeKind::Deleted, "/a"), [event(A, NodeDeleted, "/a")]);
    }
}

#[test]
fn a_recursive_watch_sees_all_below_but_never_lists_of_children() {
    let mut watches = WatchManager::new();
    watches.add_watch("/a", A, PersistentRecursive);
    watches.add_watch("/", B, PersistentRecursive);
    watches.add_watch("/a/b", A, PersistentRecursive);
    for path in ["/a", "/a/b", "/a/b/c"] {
        assert_eq!(
            fire(&mut watches, ChangeKind::Created, path),
            [event(A, NodeCreated, path), event(B, NodeCreated, path)]
        );
    }
    assert_eq!(fire(&mut watches, ChangeKind::DataChanged, "/ab"), [event(B, NodeDataChanged, "/ab")]);
    assert_eq!(fire(&mut watches, ChangeKind::DataChanged, "/"), [event(B, NodeDataChanged, "/")]);
    assert_eq!(
        fire(&mut watches, ChangeKind::Deleted, "/a/b"),
        [event(A, NodeDeleted, "/a/b"), event(B, NodeDeleted, "/a/b")]
    );
}

#[test]
fn firing_takes_only_the_one_shot_of_several_modes() {
    let mut watches = WatchManager::new();
    watches.register(Data, "/a", A, Standard);
    watches.add_watch("/a", A, Persistent);
    watches.add_watch("/a", A, PersistentRecursive);
    assert_eq!(
        fire(&mut watches, ChangeKind::DataChanged, "/a"),
        [event(A, NodeDataChanged, "/a")],
        "once for all modes"
    );
    assert!(!watches.contains(WatcherType::Data, "/a", A));
    assert!(watches.contains(WatcherType::Persistent, "/a", A));
    assert!(watches.contains(WatcherType::PersistentRecursive, "/a", A));
}

#[test]
fn check_and_remove_look_at_the_table_and_mode_of_their_type() {
    let all = [
        WatcherType::Children,
        WatcherType::Data,
        WatcherType::Any,
        WatcherType::Persistent,
        WatcherType::PersistentRecursive,
    ];
    let set = |watches: &WatchManager, n| match n {
        0 => watches.register(Child, "/a", A, Standard),
        1 => watches.register(Data, "/a", A, Standard),
        2 => watches.add_watch("/a", A, Persistent),
        _ => watches.add_watch("/a", A, PersistentRecursive),
    };
    for (n, found) in [
        (0, [true, false, true, false, false]),
        (1, [false, true, true, false, false]),
        (2, [false, false, true, true, false]),
        (3, [false, false, true, false, true]),
    ] {
        for (kind, found) in all.into_iter().zip(found) {
            let watches = WatchManager::new();
            set(&watches, n);
            assert!(!watches.contains(kind, "/a", B) && !watches.contains(kind, "/b", A));
            assert_eq!(watches.contains(kind, "/a", A), found, "{n} {kind:?}");
            assert_eq!(watches.remove(kind, "/a", A), found, "{n} {kind:?}");
            assert!(!watches.contains(kind, "/a", A));
            assert_eq!(watches.contains(WatcherType::Any, "/a", A), !found, "{n} {kind:?}: the others stay");
        }
    }
}

#[test]
fn a_connection_that_ends_takes_its_watches_with_it() {
    let mut watches = WatchManager::new();
    watches.register(Data, "/a", A, Standard);
    watches.register(Child, "/b", A, Standard);
    watches.add_watch("/", A, PersistentRecursive);
    watches.register(Data, "/a", B, Standard);
    watches.remove_watcher(A);
    assert_eq!(watches.counts(), WatchCounts { data: 1, child: 0, data_paths: 1 });
    assert_eq!(watches.data_watchers(), 1);
    assert_eq!(fire(&mut watches, ChangeKind::Created, "/a"), [event(B, NodeCreated, "/a")]);
    assert!(watches.store.is_empty() && !watches.store.has_recursive());
}

#[test]
fn set_watches_catches_up_on_what_has_changed_and_watches_the_rest() {
    let mut tree = DataTree::new();
    for (zxid, path) in [(5, "/old"), (6, "/changed"), (7, "/parent"), (20, "/parent/child"), (21, "/new")] {
        let body = TxnBody::Create(crate::records::CreateTxn {
            path: path.into(),
            data: None,
            acl: vec![Acl::open()],
            ephemeral: false,
            parent_cversion: -1,
        });
        tree.apply(SessionId(0), Zxid(zxid), 0, &body, &mut |_| {});
    }
    let set = TxnBody::SetData(crate::records::SetDataTxn { path: "/changed".into(), data: None, version: 1 });
    tree.apply(SessionId(0), Zxid(22), 0, &set, &mut |_| {});

    let paths = |paths: &[&str]| paths.iter().map(|path| path.to_string()).collect::<Vec<_>>();
    let watches = WatchManager::new();
    let mut events = Vec::new();
    watches.set_watches(
        &tree,
        A,
        Zxid(10),
        &WatchLists {
            data: &paths(&["/old", "/changed", "/gone"]),
            exist: &paths(&["/new", "/gone"]),
            child: &paths(&["/old", "/parent", "/gone2"]),
            persistent: &paths(&["/p"]),
            persistent_recursive: &paths(&["/r"]),
        },
        &mut |event, path| events.push((event, path.to_string())),
    );
    let expected = [
        (NodeDataChanged, "/changed"),
        (NodeDeleted, "/gone"),
        (NodeCreated, "/new"),
        (NodeChildrenChanged, "/parent"),
        (NodeDeleted, "/gone2"),
    ];
    assert_eq!(events, expected.map(|(event, path)| (event, path.to_string())));
    for (kind, path, set) in [
        (WatcherType::Data, "/old", true),
        (WatcherType::Data, "/changed", false),
        (WatcherType::Data, "/gone", true), // From the exist list.
        (WatcherType::Data, "/new", false),
        (WatcherType::Children, "/old", true),
        (WatcherType::Children, "/parent", false),
        (WatcherType::Any, "/gone2", false),
        (WatcherType::Persistent, "/p", true),
        (WatcherType::PersistentRecursive, "/r", true),
    ] {
        assert_eq!(watches.contains(kind, path, A), set, "{kind:?} {path}");
    }
}

/// What a watcher has left is found out when its list is full; until then the list may name paths that others have.
#[test]
fn a_watcher_that_leaves_after_thousands_of_watches_have_fired_takes_only_its_own() {
    let mut watches = WatchManager::new();
    let mut expected = 0;
    for n in 0..3000 {
        let path = format!("/{}", n % 700);
        watches.register(Data, &path, A, Standard);
        if n % 3 > 0 {
            assert_eq!(fire(&mut watches, ChangeKind::DataChanged, &path), [event(A, NodeDataChanged, &path)]);
        } else {
            // The number of a path that A has left may go to this one.
            watches.register(Child, &format!("/b/{n}"), B, Standard);
            expected += 1;
        }
    }
    let left = watches.counts().data;
    assert_eq!(watches.data_watchers(), 1);
    assert!(left > 0);
    watches.remove_watcher(A);
    assert_eq!(watches.counts(), WatchCounts { data: 0, child: expected, data_paths: 0 });
    watches.remove_watcher(B);
    assert!(watches.store.is_empty());
}

/// Twenty bytes for each of a million watches: beside what the allocator holds this is what a server grows by.
#[test]
fn a_watch_on_a_path_with_others_takes_some_bytes_and_no_block_of_its_own() {
    let watches = WatchManager::new();
    let paths: Vec<String> = (0..1000).map(|n| format!("/services/instance-{n:010}")).collect();
    for watcher in 0..100 {
        paths.iter().for_each(|path| watches.register(Data, path, WatcherId(watcher), Standard));
    }
    assert_eq!(watches.counts().data, 100_000);
    let bytes = watches.store.bytes();
    assert!(bytes < 100_000 * 20, "{bytes}");
}
