//! Replays the client traffic that was recorded from Apache ZooKeeper 3.8.0 against [`Database`] and [`InFlight`],
//! and compares every frame. What rightly differs is listed in [`exceptions`], with the reason.

mod exceptions;
mod host;
mod mutated;
mod vectors;

use exceptions::{Instead, SKIPPED_SCENARIOS, exception};
use host::Host;
use std::collections::{BTreeMap, BTreeSet};
use vectors::{Expected, Scenario, Step, field_bytes};
use zabkit::jute::{Reader, Record};
use zabkit::records::{MultiResponse, MultiResult, ReplyHeader, RequestHeader, Response, SessionId, session_password};

#[test]
fn recorded_conversations_are_answered_with_the_same_frames() {
    let mut failures = Vec::new();
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let scenarios = vectors::load();
    for scenario in &scenarios {
        let (same, listed) = counts.entry(&scenario.name).or_default();
        if SKIPPED_SCENARIOS.iter().any(|(name, _)| *name == scenario.name) {
            *listed += scenario.steps.len();
            continue;
        }
        let mut replay = Replay::new(scenario);
        for step in &scenario.steps {
            let result = replay.step(step);
            *(if exception(&step.id).is_none() { &mut *same } else { &mut *listed }) += usize::from(result.is_ok());
            if let Err(why) = result {
                failures.push(format!("{} ({}): {why}", step.id, step.description));
            }
        }
    }
    let total = counts.values().fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1));
    for (name, (same, listed)) in &counts {
        println!("{name:20} {same:3} steps the same, {listed:2} listed");
    }
    println!("{:20} {:3} steps the same, {:2} listed", "all", total.0, total.1);
    assert!(failures.is_empty(), "{} steps differ:\n{}", failures.len(), failures.join("\n"));
    assert!(total.0 >= 360, "only {} steps were compared", total.0);
}

struct Replay<'a> {
    host: Host,
    scenario: &'a Scenario,
    /// The session of each connection, by its name in the file.
    sessions: BTreeMap<String, SessionId>,
    /// The operation of each request, by connection and xid: replies do not say.
    ops: BTreeMap<(String, i32), i32>,
    closed: BTreeSet<String>,
    /// The zxid that stands for `rel` 0.
    base: Option<i64>,
}

impl<'a> Replay<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let (sessions, ops, closed) = Default::default();
        Replay { host: Host::new(), scenario, sessions, ops, closed, base: None }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let mut bytes = step.send.clone();
        for field in &step.substitute {
            let session = self.sessions[field.of.as_deref().expect("a substitute has its connection")];
            let value = match field.field.as_str() {
                "session_id" => session.to_bytes(),
                "password" => session_password(session).to_vec(),
                other => panic!("{}: cannot substitute {other}", step.id),
            };
            bytes[field.range()].copy_from_slice(&value);
        }
        if !self.host.has(&step.conn) {
            self.host.open(&step.conn);
        } else if let Some(frames) = host::frames(&bytes) {
            for frame in frames {
                if let Ok(header) = RequestHeader::from_bytes(frame) {
                    self.ops.insert((step.conn.clone(), header.xid), header.op);
                }
            }
        }
        self.host.send(&step.conn, &bytes);
        self.host.pass(step.wait_ms);

        let mut arrived = self.host.take_frames();
        let mut problems = Vec::new();
        for expected in &step.expect {
            let frames = arrived.entry(expected.conn.clone()).or_default();
            if frames.is_empty() {
                problems.push(format!("{}: nothing instead of {}", expected.conn, expected.decoded));
                continue;
            }
            let actual = frames.remove(0);
            if let Some(instead) = exception(&step.id) {
                if !is_instead(instead, &actual) {
                    problems.push(format!("{}: neither the recorded nor the newer answer: {}", step.id, hex(&actual)));
                }
                continue;
            }
            if let Err(why) = self.compare(step, expected, &actual) {
                problems.push(format!("{}: {why}; expected {}; got {}", expected.conn, expected.decoded, hex(&actual)));
            }
        }
        for (conn, frames) in arrived {
            problems.extend(frames.iter().map(|frame| format!("{conn}: one too many: {}", hex(frame))));
        }
        let closed = self.host.closed();
        let newly: BTreeSet<String> = closed.difference(&self.closed).cloned().collect();
        if newly != step.then_closed {
            problems.push(format!("closed {newly:?} instead of {:?}", step.then_closed));
        }
        self.closed = closed;
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    fn compare(&mut self, step: &Step, expected: &Expected, actual: &[u8]) -> Result<(), String> {
        let (mut want, mut got) = (expected.frame.clone(), actual.to_vec());
        // In 3.8 the header of an event has zxid -1; from 3.9 on the zxid of the change.
        let is_event = want.get(4..8) == Some(&[0xff; 4]);
        if is_event && got.len() >= 16 {
            got[8..16].fill(0xff);
        }
        if step.ignore_body {
            want.truncate(20);
            got.truncate(20);
            want[..4].fill(0);
            got[..4].fill(0);
        } else if want.len() != got.len() {
            return Err(format!("{} bytes instead of {}", got.len(), want.len()));
        }
        for field in &expected.mask {
            let Some(found) = field_bytes(&got, field).filter(|_| field.range().end <= want.len()) else { continue };
            let number = found.try_into().map(i64::from_be_bytes).unwrap_or_default();
            let is_right = match field.field.as_str() {
                "zxid" => {
                    let rel = field.rel.expect("a zxid is relative");
                    let unused = exceptions::unused_zxids(&self.scenario.name);
                    let rel = rel - unused.iter().filter(|unused| **unused <= rel).count() as i64;
                    number == *self.base.get_or_insert(number - rel) + rel
                }
                "time" => number > 0,
                "password" => true, // Checked with the session id, below.
                "session_id" => {
                    let of = field.of.clone().expect("a session has a connection");
                    *self.sessions.entry(of).or_insert(SessionId(number)) == SessionId(number)
                }
                other => panic!("{}: unknown field {other}", step.id),
            };
            if !is_right {
                return Err(format!("{} at {} is {number:#x}", field.field, field.offset));
            }
            if field.field == "password" && found != session_password(self.sessions[&expected.conn]) {
                return Err("the password is not that of the session".into());
            }
            want[field.range()].copy_from_slice(found);
        }
        if step.unordered {
            (want, got) = (self.sorted(expected, &want)?, self.sorted(expected, &got)?);
        }
        if want == got { Ok(()) } else { Err("other bytes".into()) }
    }

    /// A reply whose lists have no defined order, rebuilt with sorted lists.
    fn sorted(&self, expected: &Expected, frame: &[u8]) -> Result<Vec<u8>, String> {
        let mut body = Reader::new(&frame[4..]);
        let header = ReplyHeader::read(&mut body).map_err(|error| error.to_string())?;
        let op = self.ops[&(expected.conn.clone(), header.xid)];
        let mut response = Response::read(op, &mut body).map_err(|error| error.to_string())?;
        match &mut response {
            Response::Children(body) => body.children.sort(),
            Response::ChildrenStat(body) => body.children.sort(),
            Response::Ephemerals(body) => body.ephemerals.sort(),
            Response::AclStat(body) => body.acl.sort_by_key(Record::to_bytes),
            Response::WhoAmI(body) => body.client_info.sort_by_key(Record::to_bytes),
            _ => {}
        }
        let mut out = header.to_bytes();
        response.write(&mut out);
        Ok(out)
    }
}

/// Whether a reply is the one that is listed as an exception.
fn is_instead(instead: Instead, frame: &[u8]) -> bool {
    let mut body = Reader::new(&frame[4..]);
    let header = ReplyHeader::read(&mut body).expect("a reply has a header");
    match instead {
        Instead::Error(err) => header.err == err && body.remaining() == 0,
        Instead::Create2(wanted) => {
            let results = MultiResponse::read(&mut body).map(|response| response.results).unwrap_or_default();
            matches!(results.as_slice(), [MultiResult::Create2 { path, stat }]
                if path == wanted && stat.czxid == header.zxid)
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
