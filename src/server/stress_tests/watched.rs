//! What one connection may be sent: replies in the order of the requests, a history that only goes on, each change of
//! a watched node told before a reply shows it, and in a pipeline each read between its writes.

use crate::jute::{Reader, Record};
use crate::records::{DataStat, NOTIFICATION_XID, ReplyHeader, StatReply, WatcherEvent, Zxid};
use std::collections::{BTreeMap, VecDeque};

/// What a client may never see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A reply to another request than the oldest one without a reply.
    OutOfOrder,
    /// A reply of an older state than a former one's.
    BackInTime,
    /// A node changed since the read that watched it, and no event came.
    EventLost,
    /// A reply's zxid, or what it shows, covers the change that the event tells.
    EventLate,
    /// An event that no watch asked for.
    EventUnasked,
    /// A read shows a write of its own session that was sent after it.
    LaterWriteSeen,
    /// A read does not show a write of its own session that was sent before it.
    EarlierWriteMissed,
    /// A reply to a read that was sent when the role had ended.
    AfterRole,
    /// An error or bytes that no request here leads to.
    Nonsense,
}

/// What a request without a reply is to be answered by.
#[derive(Clone, Debug)]
pub struct Awaited {
    pub xid: i32,
    pub what: What,
    /// It was sent after the role of its server had ended.
    pub is_after_role: bool,
}

#[derive(Clone, Debug)]
pub enum What {
    /// setData of the session's own node.
    SetOwn,
    /// getData of the session's own node, with a watch, behind so many of its sets.
    GetOwn { path: String, sets: i32 },
    /// setData of a node that all write.
    SetShared,
    /// getData of such a node, with a watch.
    GetShared { path: String },
}

/// The last reply that showed a node, and whether a watch is set.
#[derive(Clone, Copy, Debug)]
struct Node {
    mzxid: Zxid,
    is_armed: bool,
}

/// Everything that a connection was sent so far.
#[derive(Debug, Default)]
pub struct Watched {
    awaited: VecDeque<Awaited>,
    nodes: BTreeMap<String, Node>,
    /// Of the replies.
    pub last_zxid: Zxid,
    /// Sets of the own node that were acknowledged, by its version.
    pub own_version: i32,
    pub replies: u64,
    pub events: u64,
}

type Seen = Result<(), (Violation, String)>;

impl Watched {
    /// A connection of a client that has seen `last_zxid`, whose own node has this version.
    pub fn new(last_zxid: Zxid, own_version: i32) -> Watched {
        Watched { last_zxid, own_version, ..Watched::default() }
    }

    pub fn sent(&mut self, awaited: Awaited) {
        self.awaited.push_back(awaited);
    }

    /// Requests without a reply.
    pub fn waiting(&self) -> usize {
        self.awaited.len()
    }

    /// Judges a frame from the server. After a violation it goes on from what the frame said.
    pub fn see(&mut self, frame: &[u8]) -> Seen {
        let mut body = Reader::new(frame);
        let header = ReplyHeader::read(&mut body).map_err(|error| (Violation::Nonsense, error.to_string()))?;
        if header.xid == NOTIFICATION_XID {
            let event = WatcherEvent::read(&mut body).map_err(|error| (Violation::Nonsense, error.to_string()))?;
            return self.see_event(header.zxid, &event.path);
        }
        self.replies += 1;
        let Some(awaited) = self.awaited.pop_front() else {
            return Err((Violation::OutOfOrder, format!("{header:?} answers nothing")));
        };
        if header.xid != awaited.xid {
            return Err((Violation::OutOfOrder, format!("{header:?} came instead of the reply to {awaited:?}")));
        }
        let before = self.last_zxid;
        self.last_zxid = before.max(header.zxid);
        if header.zxid < before {
            return Err((Violation::BackInTime, format!("{header:?} came after {before}")));
        }
        if awaited.is_after_role {
            return Err((Violation::AfterRole, format!("{header:?} was sent, though the role had ended")));
        }
        if header.err != 0 {
            return Err((Violation::Nonsense, format!("{header:?} answers {awaited:?}")));
        }
        let nonsense = |error: crate::jute::DecodeError| (Violation::Nonsense, error.to_string());
        match awaited.what {
            What::SetShared => Ok(()),
            What::SetOwn => {
                let version = StatReply::read(&mut body).map_err(nonsense)?.stat.version;
                let before = std::mem::replace(&mut self.own_version, version);
                let text = || format!("the set {header:?} made version {version} of {before}");
                if version == before + 1 { Ok(()) } else { Err((Violation::OutOfOrder, text())) }
            }
            What::GetShared { path } => self.see_node(header.zxid, path, &body_of(&mut body)?),
            What::GetOwn { path, sets } => {
                let node = body_of(&mut body)?;
                self.see_node(header.zxid, path, &node)?;
                let text = || format!("after {sets} sets the version was {}", node.stat.version);
                match node.stat.version.cmp(&sets) {
                    std::cmp::Ordering::Less => Err((Violation::EarlierWriteMissed, text())),
                    std::cmp::Ordering::Equal => Ok(()),
                    std::cmp::Ordering::Greater => Err((Violation::LaterWriteSeen, text())),
                }
            }
        }
    }

    fn see_event(&mut self, zxid: Zxid, path: &str) -> Seen {
        self.events += 1;
        let last = self.last_zxid;
        let was_armed = self.nodes.get_mut(path).is_some_and(|node| std::mem::replace(&mut node.is_armed, false));
        if zxid <= last {
            return Err((Violation::EventLate, format!("the event of {zxid} at {path} came after a reply of {last}")));
        }
        if !was_armed {
            return Err((Violation::EventUnasked, format!("the event of {zxid} at {path} came without a watch")));
        }
        Ok(())
    }

    fn see_node(&mut self, zxid: Zxid, path: String, data: &DataStat) -> Seen {
        let mzxid = data.stat.mzxid;
        let text = format!("{path} changed at {mzxid}");
        let former = self.nodes.insert(path, Node { mzxid, is_armed: true });
        if mzxid > zxid {
            return Err((Violation::Nonsense, format!("{text}, says a reply of {zxid}")));
        }
        match former {
            Some(former) if former.mzxid > mzxid => {
                Err((Violation::BackInTime, format!("{text} after {}", former.mzxid)))
            }
            Some(former) if former.is_armed && former.mzxid != mzxid => {
                Err((Violation::EventLost, format!("{text} without an event since {}", former.mzxid)))
            }
            _ => Ok(()),
        }
    }
}

fn body_of(body: &mut Reader<'_>) -> Result<DataStat, (Violation, String)> {
    DataStat::read(body).map_err(|error| (Violation::Nonsense, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Stat;

    fn reply(xid: i32, zxid: i64, mzxid: i64, version: i32) -> Vec<u8> {
        let zero = Stat::from_bytes(&[0; 68]).unwrap();
        let stat = Stat { mzxid: Zxid(mzxid), version, ..zero };
        let mut frame = ReplyHeader { xid, zxid: Zxid(zxid), err: 0 }.to_bytes();
        DataStat { data: None, stat }.write(&mut frame);
        frame
    }

    fn event(zxid: i64) -> Vec<u8> {
        let mut frame = ReplyHeader { xid: NOTIFICATION_XID, zxid: Zxid(zxid), err: 0 }.to_bytes();
        WatcherEvent { kind: 3, state: 3, path: "/n".to_owned() }.write(&mut frame);
        frame
    }

    /// Reads of "/n" with the xids 1, 2, …, behind as many sets, and what comes back.
    fn judged(frames: &[Vec<u8>]) -> Option<Violation> {
        let mut watched = Watched::new(Zxid(10), 0);
        for xid in 1..=frames.len() as i32 {
            let what = What::GetOwn { path: "/n".to_owned(), sets: xid };
            watched.sent(Awaited { xid, what, is_after_role: false });
        }
        frames.iter().find_map(|frame| watched.see(frame).err()).map(|(violation, _)| violation)
    }

    #[test]
    fn each_broken_promise_has_its_name() {
        assert_eq!(judged(&[reply(1, 11, 11, 1), event(12), reply(2, 12, 12, 2)]), None);
        assert_eq!(judged(&[reply(2, 11, 11, 1)]), Some(Violation::OutOfOrder));
        assert_eq!(judged(&[reply(1, 9, 9, 1)]), Some(Violation::BackInTime));
        assert_eq!(judged(&[reply(1, 11, 11, 1), reply(2, 12, 10, 2)]), Some(Violation::BackInTime));
        assert_eq!(judged(&[reply(1, 11, 11, 1), reply(2, 12, 12, 2)]), Some(Violation::EventLost));
        assert_eq!(judged(&[reply(1, 12, 11, 1), event(12)]), Some(Violation::EventLate));
        assert_eq!(judged(&[reply(1, 11, 11, 1), event(12), event(13)]), Some(Violation::EventUnasked));
        assert_eq!(judged(&[reply(1, 11, 11, 2)]), Some(Violation::LaterWriteSeen));
        assert_eq!(judged(&[reply(1, 11, 11, 0)]), Some(Violation::EarlierWriteMissed));
        assert_eq!(judged(&[reply(1, 11, 12, 1)]), Some(Violation::Nonsense));
    }
}
