//! `dump`, `wchc` and `wchp`: who is here, with what.
//!
//! ZooKeeper: `DumpCommand`, `WatchCommand`.

use super::Shared;
use crate::peer::io::{ConnId, ServerMode};
use crate::records::SessionId;
use crate::server::log::java_date;
use crate::sync;
use std::collections::BTreeMap;
use std::fmt::Write;

pub fn text(shared: &Shared) -> String {
    let now_ms = shared.now().wall_ms.max(0) as u64;
    let tick_ms = u64::from(shared.config.tick_time_ms.max(1));
    let mut out = "SessionTracker dump:\n".to_owned();
    let db = sync::read(&shared.db);
    let mode = db.serving().map(|serving| serving.mode);
    let has_local = shared.config.sessions.local;
    if has_local {
        sets("Local Session", db.local_sessions(), now_ms, tick_ms, &mut out);
    }
    match mode {
        Some(ServerMode::Standalone | ServerMode::Leader) => {
            let what = if has_local { "Global Session" } else { "Session" };
            sets(what, db.sessions(), now_ms, tick_ms, &mut out);
        }
        _ => {
            let _ = writeln!(out, "Global Sessions({}):", db.sessions().len());
            for (session, timeout_ms) in db.sessions() {
                let _ = writeln!(out, "{session}\t{timeout_ms}ms");
            }
        }
    }
    let owners: Vec<SessionId> = db.tree().ephemeral_owners().collect();
    let _ = writeln!(out, "ephemeral nodes dump:\nSessions with Ephemerals ({}):", owners.len());
    for owner in owners {
        let _ = writeln!(out, "{owner}:");
        for path in db.tree().ephemerals(owner) {
            let _ = writeln!(out, "\t{path}");
        }
    }
    drop(db);
    let conns = shared.connections.all();
    let _ = writeln!(out, "Connections dump:\nConnections Sets ({})/({}):", conns.len().min(1), conns.len());
    if !conns.is_empty() {
        let _ = writeln!(out, "{} expire at {}:", conns.len(), java_date(now_ms + 10_000));
    }
    for conn in conns {
        let _ = writeln!(out, "\tip: /{} sessionId: {}", conn.peer, conn.outbox.info().session);
    }
    out
}

/// Sessions by the end of the tick in which each expires at the latest: a full timeout from now. When exactly each
/// does is the tracker's.
fn sets(what: &str, sessions: &BTreeMap<SessionId, i32>, now_ms: u64, tick_ms: u64, out: &mut String) {
    let mut buckets = BTreeMap::<u64, Vec<SessionId>>::new();
    for (&session, timeout_ms) in sessions {
        let expiry = ((now_ms + u64::from(timeout_ms.unsigned_abs())) / tick_ms + 1) * tick_ms;
        buckets.entry(expiry).or_default().push(session);
    }
    let _ = writeln!(out, "{what} Sets ({})/({}):", buckets.len(), sessions.len());
    for (expiry, sessions) in buckets {
        let _ = writeln!(out, "{} expire at {}:", sessions.len(), java_date(expiry));
        for session in sessions {
            let _ = writeln!(out, "\t{session}");
        }
    }
}

/// The sessions of connections that are open here.
fn sessions(shared: &Shared) -> BTreeMap<ConnId, SessionId> {
    sync::read(&shared.db).connections().into_iter().map(|info| (info.conn, info.session)).collect()
}

/// The data watches as (path, sessions), sorted; those that are set meanwhile, or not. A part at a time, so that the
/// lock is never held for long.
fn watches(shared: &Shared) -> BTreeMap<String, Vec<SessionId>> {
    let sessions = sessions(shared);
    let mut by_path = BTreeMap::new();
    let mut part = 0;
    while let Some(watches) = sync::read(&shared.db).data_watches(part) {
        for (path, watchers) in watches {
            let mut watchers: Vec<SessionId> =
                watchers.iter().filter_map(|watcher| sessions.get(&ConnId(watcher.0)).copied()).collect();
            watchers.sort_unstable();
            by_path.insert(path, watchers);
        }
        part += 1;
    }
    by_path
}

pub fn watches_by_path(shared: &Shared) -> String {
    let mut out = String::new();
    for (path, sessions) in watches(shared) {
        let _ = writeln!(out, "{path}");
        sessions.iter().for_each(|session| _ = writeln!(out, "\t{session}"));
    }
    out + "\n"
}

pub fn watches_by_session(shared: &Shared) -> String {
    let by_path = watches(shared);
    let mut by_session = BTreeMap::<SessionId, Vec<&str>>::new();
    for (path, sessions) in &by_path {
        sessions.iter().for_each(|&session| by_session.entry(session).or_default().push(path));
    }
    let mut out = String::new();
    for (session, paths) in by_session {
        let _ = writeln!(out, "{session}");
        paths.iter().for_each(|path| _ = writeln!(out, "\t{path}"));
    }
    out + "\n"
}
