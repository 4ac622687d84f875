//! One-shot watches of a session that moves: between two reads that differ there is exactly one event.

use super::link::{Event, Link, watch};
use std::collections::BTreeMap;
use std::io;
use zabkit::records::*;

/// What a read told of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Missing,
    /// What changes with the watched part of it.
    At(Zxid),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// getData's and exists': of the data, and of being there.
    Data,
    Children,
}

pub type Key = (Kind, String);

#[derive(Debug)]
struct Watched {
    state: State,
    armed: bool,
}

/// The watches, and what came of them.
#[derive(Default)]
pub struct OneShots {
    all: BTreeMap<Key, Watched>,
    pub events: usize,
    /// Of them, those that a new server told while the watches were set again.
    pub caught_up: usize,
    pub lost: usize,
    pub twice: usize,
}

impl OneShots {
    pub fn add_data(&mut self, path: &str) {
        self.all.insert((Kind::Data, path.into()), Watched { state: State::Missing, armed: false });
    }

    pub fn add_children(&mut self, path: &str) {
        self.all.insert((Kind::Children, path.into()), Watched { state: State::Missing, armed: false });
    }

    /// Sets what has been used up, by a read; a change in between shows as another state.
    pub fn arm(&mut self, link: &mut Link) -> io::Result<()> {
        for (key, watched) in &mut self.all {
            if !watched.armed {
                (watched.state, watched.armed) = (read(link, key, true)?, true);
            }
        }
        Ok(())
    }

    /// Takes the events that have come. Those of `is_catch_up` came with the answer to setWatches.
    pub fn take(&mut self, events: &[Event], is_catch_up: bool) {
        for event in events {
            // A node's end tells both who watches its data and who watches its children; here nobody does both.
            let kind = if event.kind == EventType::NodeChildrenChanged as i32 { Kind::Children } else { Kind::Data };
            let Some(watched) = self.all.get_mut(&(kind, event.path.clone())) else {
                self.twice += 1;
                continue;
            };
            self.events += 1;
            self.caught_up += usize::from(is_catch_up);
            if !std::mem::take(&mut watched.armed) {
                self.twice += 1;
            }
        }
    }

    /// Those that have not fired since they were set.
    pub fn armed(&self) -> Vec<Key> {
        self.all.iter().filter(|(_, watched)| watched.armed).map(|(key, _)| key.clone()).collect()
    }

    /// What is armed must still be as it was read: the event of a change comes before a reply that shows it.
    pub fn compare(&mut self, key: &Key, state: State) {
        let watched = &self.all[key];
        if watched.armed && watched.state != state {
            eprintln!("{key:?}: {:?} became {state:?} without an event", watched.state);
            self.lost += 1;
        }
    }

    /// The request that tells a new server of them, beside the persistent recursive watch of `recursive`.
    pub fn set_watches(&self, relative_zxid: Zxid, recursive: &str) -> Request {
        let list = |wanted: fn(Kind, State) -> bool| {
            let armed = self.all.iter().filter(|(_, watched)| watched.armed);
            Some(
                armed
                    .filter(|((kind, _), watched)| wanted(*kind, watched.state))
                    .map(|((_, path), _)| path.clone())
                    .collect(),
            )
        };
        Request::SetWatches2(SetWatches2Request {
            relative_zxid,
            data: list(|kind, state| kind == Kind::Data && state != State::Missing),
            exist: list(|kind, state| kind == Kind::Data && state == State::Missing),
            child: list(|kind, _| kind == Kind::Children),
            persistent: Some(Vec::new()),
            persistent_recursive: Some(vec![recursive.into()]),
        })
    }
}

/// Asks for the watched part of a node.
pub fn read(link: &mut Link, (kind, path): &Key, is_watched: bool) -> io::Result<State> {
    let body = watch(path, is_watched);
    let request = if *kind == Kind::Data { Request::Exists(body) } else { Request::GetChildren2(body) };
    Ok(match link.ask(request)?.1 {
        Ok(Response::Stat(reply)) => State::At(reply.stat.mzxid),
        Ok(Response::ChildrenStat(reply)) => State::At(reply.stat.pzxid),
        Err(err) if err == ErrorCode::NoNode.code() && *kind == Kind::Data => State::Missing,
        other => panic!("{path}: {other:?}"),
    })
}
