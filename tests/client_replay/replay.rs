//! One recorded conversation against one server, step by step, with every byte accounted for.
//!
//! What a recording masks is not ignored: a zxid must have the recorded distance to the scenario's first, a session id
//! must be that of its connection, a password that of its session. Only times are free, and must be there.

use super::table::{Instead, Table};
use super::vectors::{Expected, Field, Scenario, Step};
use std::collections::{BTreeMap, BTreeSet};
use zabkit::jute::{Reader, Record};
use zabkit::records::{MultiHeader, ReplyHeader, RequestHeader, Response, SessionId, Stat, Zxid, op, session_password};

/// A server with its connections, by their names in the recording.
pub trait World {
    fn has(&self, name: &str) -> bool;
    fn open(&mut self, name: &str);
    /// What one segment brings.
    fn send(&mut self, name: &str, bytes: &[u8]);
    fn pass(&mut self, ms: u64);
    /// The frames since the last call, by connection. Where they take time, so many as are wanted are waited for, and
    /// those connections that are to be closed.
    fn take(&mut self, wanted: &BTreeMap<String, usize>, closing: &BTreeSet<String>) -> BTreeMap<String, Vec<Vec<u8>>>;
    /// The zxid of the last transaction, if it can be known without being told by a reply.
    fn last_zxid(&self) -> Option<i64>;
    /// All that the server has closed so far.
    fn closed(&self) -> BTreeSet<String>;
    /// After the last step: the frames that nobody expected.
    fn finish(&mut self) -> BTreeMap<String, Vec<Vec<u8>>>;
}

/// What was compared.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// Steps of which every frame is the recorded one.
    pub same: usize,
    /// Steps that stand in the table, and are answered as it says.
    pub listed: usize,
    pub frames: usize,
    pub bytes: usize,
    /// Bytes that the recording masks, and that are checked by what they stand for.
    pub masked: usize,
    /// Those of them that hold a time: any will do.
    pub times: usize,
    /// How often an answer with one byte altered was compared.
    pub altered: usize,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.same += other.same;
        self.listed += other.listed;
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.masked += other.masked;
        self.times += other.times;
        self.altered += other.altered;
    }
}

/// What the replay has learnt of the server from its answers.
#[derive(Clone, Default)]
struct Learnt {
    /// The session of each connection, by its name in the file.
    sessions: BTreeMap<String, SessionId>,
    /// The zxid that stands for `rel` 0.
    base: Option<i64>,
}

pub struct Replay<'a, W> {
    pub world: W,
    scenario: &'a Scenario,
    table: &'a Table,
    learnt: Learnt,
    /// The operation of each request, by connection and xid: replies do not say.
    ops: BTreeMap<(String, i32), i32>,
    closed: BTreeSet<String>,
    /// The highest zxid in a header so far.
    seen: i64,
    /// Alters each byte of each answer, one at a time, and lets it be compared again.
    pub alter: bool,
    pub counts: Counts,
}

impl<'a, W: World> Replay<'a, W> {
    pub fn new(world: W, scenario: &'a Scenario, table: &'a Table) -> Self {
        let (learnt, ops, closed, counts) = Default::default();
        Replay { world, scenario, table, learnt, ops, closed, seen: 0, alter: false, counts }
    }

    pub fn run(&mut self, failures: &mut Vec<String>) {
        for step in &self.scenario.steps {
            match self.step(step) {
                Ok(()) if self.table.get(&step.id).is_some() => self.counts.listed += 1,
                Ok(()) => self.counts.same += 1,
                Err(why) => failures.push(format!("{} ({}): {why}", step.id, step.description)),
            }
        }
        for (conn, frames) in self.world.finish() {
            failures.extend(frames.iter().map(|frame| format!("{conn}: one too many at the end: {}", hex(frame))));
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let mut bytes = step.send.clone();
        for field in &step.substitute {
            let session = self.learnt.sessions[field.of.as_deref().expect("a substitute has its connection")];
            let value = match field.field.as_str() {
                "session_id" => session.to_bytes(),
                "password" => session_password(session).to_vec(),
                other => panic!("{}: cannot substitute {other}", step.id),
            };
            bytes[field.range()].copy_from_slice(&value);
        }
        let mut sets_watches = false;
        if !self.world.has(&step.conn) {
            self.world.open(&step.conn);
        } else if let Some(frames) = super::host::frames(&bytes) {
            for frame in frames {
                if let Ok(header) = RequestHeader::from_bytes(frame) {
                    self.ops.insert((step.conn.clone(), header.xid), header.op);
                    sets_watches |= matches!(header.op, op::SET_WATCHES | op::SET_WATCHES2);
                }
            }
        }
        self.world.send(&step.conn, &bytes);
        self.world.pass(step.wait_ms);

        let mut wanted = BTreeMap::new();
        for expected in &step.expect {
            *wanted.entry(expected.conn.clone()).or_default() += 1;
        }
        let mut arrived = self.world.take(&wanted, &step.then_closed);
        let event_zxid = if sets_watches { EventZxid::None } else { self.event_zxid(step) };
        let mut problems = Vec::new();
        for expected in &step.expect {
            let frames = arrived.entry(expected.conn.clone()).or_default();
            if frames.is_empty() {
                problems.push(format!("{}: nothing instead of {}", expected.conn, expected.decoded));
                continue;
            }
            let actual = frames.remove(0);
            match self.compare(step, expected, &actual, event_zxid) {
                Err(why) => problems.push(format!(
                    "{}: {why}; expected {}; got {}",
                    expected.conn,
                    expected.decoded,
                    hex(&actual)
                )),
                Ok(learnt) => {
                    self.learnt = learnt;
                    self.count(step, expected, &actual);
                    if self.alter
                        && let Err(why) = self.compare_altered(step, expected, &actual, event_zxid)
                    {
                        problems.push(why);
                    }
                }
            }
            if let Some(zxid) = long(&actual, 8).filter(|_| expected.is_reply()) {
                self.seen = self.seen.max(zxid);
            }
        }
        for (conn, frames) in arrived {
            problems.extend(frames.iter().map(|frame| format!("{conn}: one too many: {}", hex(frame))));
        }
        let closed = self.world.closed();
        let newly: BTreeSet<String> = closed.difference(&self.closed).cloned().collect();
        if newly != step.then_closed {
            problems.push(format!("closed {newly:?} instead of {:?}", step.then_closed));
        }
        self.closed = closed;
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    /// The zxid of this step's events: that of the reply to the write, if it has one.
    fn event_zxid(&self, step: &Step) -> EventZxid {
        let rel = |expected: &Expected| {
            expected.mask.iter().find(|field| field.offset == 8 && field.field == "zxid").and_then(|field| field.rel)
        };
        let replies = step.expect.iter().filter(|expected| expected.is_reply() && !expected.is_event());
        let of_reply = replies.filter_map(rel).next().and_then(|rel| Some(self.learnt.base? + self.distance(rel)));
        match of_reply.or(self.world.last_zxid()) {
            Some(zxid) => EventZxid::Exactly(zxid),
            None => EventZxid::Above(self.seen),
        }
    }

    /// How far the recorded `rel` is from the first zxid here: those that 3.8.0 used up for what it could not decode
    /// do not count.
    fn distance(&self, rel: i64) -> i64 {
        let unused = |step: &&Step| self.table.get(&step.id) == Some(&Instead::NoZxid);
        let rel_of = |step: &Step| step.expect.iter().flat_map(|expected| &expected.mask).find_map(|field| field.rel);
        let unused = self.scenario.steps.iter().filter(unused).filter_map(rel_of).filter(|unused| *unused <= rel);
        rel - unused.count() as i64
    }

    fn count(&mut self, step: &Step, expected: &Expected, actual: &[u8]) {
        let len_of = |field: &Field| if field.range().end <= actual.len() { field.length } else { 0 };
        self.counts.frames += 1;
        self.counts.bytes += actual.len();
        self.counts.masked += expected.mask.iter().map(len_of).sum::<usize>();
        self.counts.times += (0..actual.len()).filter(|at| self.is_time(step, expected, *at)).count();
    }

    fn compare_altered(
        &mut self,
        step: &Step,
        expected: &Expected,
        actual: &[u8],
        event_zxid: EventZxid,
    ) -> Result<(), String> {
        for at in 0..actual.len() {
            if self.is_time(step, expected, at) {
                continue;
            }
            for change in [0x01, 0x80, 0xff] {
                let mut altered = actual.to_vec();
                altered[at] ^= change;
                self.counts.altered += 1;
                if self.compare(step, expected, &altered, event_zxid).is_ok() {
                    return Err(format!("byte {at} was altered by {change:#x}, and nobody saw it"));
                }
            }
        }
        Ok(())
    }

    /// Whether the byte belongs to a time: the mask's, or those of the Stat in an answer from the table.
    fn is_time(&self, step: &Step, expected: &Expected, at: usize) -> bool {
        match self.table.get(&step.id) {
            Some(Instead::Create2(path)) => {
                let stat = 4 + 16 + 9 + 4 + path.len();
                (stat + 16..stat + 32).contains(&at)
            }
            Some(Instead::Error(_)) => false,
            _ => expected.mask.iter().any(|field| field.field == "time" && field.range().contains(&at)),
        }
    }

    /// Compares an answer with the recorded one, or with that of the table. What was learnt from it on success.
    fn compare(
        &self,
        step: &Step,
        expected: &Expected,
        actual: &[u8],
        event_zxid: EventZxid,
    ) -> Result<Learnt, String> {
        let mut learnt = self.learnt.clone();
        let (mut want, mut got) = (expected.frame.clone(), actual.to_vec());
        if expected.is_event() && self.table.get("events") == Some(&Instead::ChangeZxid) {
            let is_right = match (event_zxid, long(&got, 8).unwrap_or_default()) {
                (EventZxid::None, zxid) => zxid == -1,
                (EventZxid::Exactly(wanted), zxid) => zxid == wanted,
                (EventZxid::Above(seen), zxid) => zxid > seen,
            };
            if !is_right {
                return Err(format!("the event's zxid is not {event_zxid:?}"));
            }
            want[8..16].copy_from_slice(&got[8..16]);
        }
        match self.table.get(&step.id) {
            Some(Instead::Error(code)) => {
                want.truncate(20);
                want[..4].copy_from_slice(&16i32.to_be_bytes());
                want[16..].copy_from_slice(&code.to_be_bytes());
            }
            Some(Instead::Create2(path)) => want = create2_reply(&want, path, &got),
            _ => {}
        }
        if want.len() != got.len() {
            return Err(format!("{} bytes instead of {}", got.len(), want.len()));
        }
        let len = want.len();
        for field in expected.mask.iter().filter(|field| field.range().end <= len) {
            let found = &got[field.range()];
            let number = found.try_into().map(i64::from_be_bytes).unwrap_or_default();
            let is_right = match field.field.as_str() {
                "zxid" => {
                    let rel = field.rel.expect("a zxid is relative");
                    let distance = self.distance(rel);
                    number == *learnt.base.get_or_insert(number - distance) + distance
                }
                "time" => number > 0,
                "password" => true, // Checked with the session id, below.
                "session_id" => {
                    let of = field.of.clone().expect("a session has a connection");
                    *learnt.sessions.entry(of).or_insert(SessionId(number)) == SessionId(number)
                }
                other => panic!("{}: unknown field {other}", step.id),
            };
            if !is_right {
                return Err(format!("{} at {} is {number:#x}", field.field, field.offset));
            }
            want[field.range()].copy_from_slice(found);
        }
        for field in expected.mask.iter().filter(|field| field.field == "password") {
            if got[field.range()] != session_password(learnt.sessions[&expected.conn]) {
                return Err("the password is not that of the session".into());
            }
        }
        if step.unordered || step.ignore_body {
            (want, got) = (self.sorted(expected, &want)?, self.sorted(expected, &got)?);
        }
        if want == got { Ok(learnt) } else { Err("other bytes".into()) }
    }

    /// A reply whose lists have no defined order, rebuilt with sorted lists.
    fn sorted(&self, expected: &Expected, frame: &[u8]) -> Result<Vec<u8>, String> {
        let (length, body) = frame.split_at(4);
        let mut body = Reader::new(body);
        let header = ReplyHeader::read(&mut body).map_err(|error| error.to_string())?;
        let Some(op) = self.ops.get(&(expected.conn.clone(), header.xid)) else { return Err("another xid".into()) };
        let mut response = Response::read(*op, &mut body).map_err(|error| error.to_string())?;
        match &mut response {
            Response::Children(body) => body.children.sort(),
            Response::ChildrenStat(body) => body.children.sort(),
            Response::Ephemerals(body) => body.ephemerals.sort(),
            Response::AclStat(body) => body.acl.sort_by_key(Record::to_bytes),
            Response::WhoAmI(body) => body.client_info.sort_by_key(Record::to_bytes),
            _ => {}
        }
        let mut out = length.to_vec();
        header.write(&mut out);
        response.write(&mut out);
        out.extend_from_slice(body.rest());
        Ok(out)
    }
}

/// Which zxid the header of an event must have.
#[derive(Clone, Copy, Debug)]
enum EventZxid {
    /// -1: it tells of no transaction, but of what a client has missed.
    None,
    Exactly(i64),
    /// Nothing tells it: an expiry has no reply.
    Above(i64),
}

/// The reply to a multi with one create2, whose node is new; its zxid is the header's, its times are those of `got`.
fn create2_reply(recorded: &[u8], path: &str, got: &[u8]) -> Vec<u8> {
    let zxid = Zxid(long(got, 8).unwrap_or_default());
    let times = 20 + 9 + 4 + path.len() + 16;
    let time = |at| long(got, at).unwrap_or_default();
    let stat = Stat {
        czxid: zxid,
        mzxid: zxid,
        ctime: time(times),
        mtime: time(times + 8),
        version: 0,
        cversion: 0,
        aversion: 0,
        ephemeral_owner: 0,
        data_length: 0,
        num_children: 0,
        pzxid: zxid,
    };
    let mut reply = recorded[..20].to_vec();
    MultiHeader { kind: op::CREATE2, done: false, err: 0 }.write(&mut reply);
    path.to_owned().write(&mut reply);
    stat.write(&mut reply);
    MultiHeader { kind: -1, done: true, err: -1 }.write(&mut reply);
    let length = reply.len() as i32 - 4;
    reply[..4].copy_from_slice(&length.to_be_bytes());
    reply
}

fn long(frame: &[u8], at: usize) -> Option<i64> {
    frame.get(at..at + 8)?.try_into().ok().map(i64::from_be_bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
