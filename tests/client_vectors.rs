//! Every frame of the client protocol that was recorded from Apache ZooKeeper 3.8.0 is decoded to fields and rebuilt
//! from the fields alone to the same bytes; the fields of what the server sent are compared with the recorded ones.

mod vectors;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use vectors::{Connection, hex, json_files, list, take_frame, text, unhex};
use zabkit::jute::{Reader, Record};
use zabkit::records::*;

/// Frames that are no records, by step, with the reason. They must fail to decode.
const MALFORMED: [(&str, &str); 5] = [
    ("connect-bad-01", "negative frame length"),
    ("connect-bad-02", "frame longer than jute.maxbuffer"),
    ("connect-bad-03", "connect request cut short"),
    ("connect-bad-12", "create body cut short"),
    ("connect-bad-14", "getData body cut short"),
];

/// Operations that no request has; only the header is a record.
const NO_SUCH_OPERATION: [(&str, i32); 3] = [("connect-bad-06", 999), ("connect-bad-08", 0), ("connect-bad-10", -1)];

/// Steps whose frame has bytes behind the record, which every reader ignores; by step, with their number.
const TRAILING: [(&str, usize); 1] = [("connect-bad-05", 3)];

/// Multis with operations that a multi cannot hold: refused as a whole, so they must fail to decode.
const NOT_IN_A_MULTI: [&str; 2] = ["multi-16", "multi-19"];

#[derive(Debug, Default, PartialEq)]
struct Counts {
    connect_requests: usize,
    requests: usize,
    malformed: usize,
    connect_responses: usize,
    notifications: usize,
    replies: usize,
    error_replies: usize,
}

impl Counts {
    fn sent(&self) -> usize {
        self.connect_requests + self.requests + self.malformed
    }
    fn received(&self) -> usize {
        self.connect_responses + self.notifications + self.replies + self.error_replies
    }
}

#[test]
fn every_recorded_frame_is_rebuilt_from_its_fields() {
    let mut counts = Counts::default();
    let (mut sends, mut pipelined, mut expects) = (0, 0, 0);
    for (name, scenario) in json_files("client") {
        let mut replay = Replay::default();
        for step in list(&scenario, "steps") {
            sends += usize::from(!text(step, "send").is_empty());
            expects += list(step, "expect").len();
            pipelined += replay.step(step, &mut counts);
        }
        let unanswered: Vec<_> =
            replay.connections.iter().filter(|(_, c)| !c.waiting.is_empty()).map(|c| c.0).collect();
        assert!(unanswered.is_empty(), "{name}: requests without a reply on {unanswered:?}");
    }
    println!("client frames: {counts:?}; sent {} in {sends} steps, received {expects}", counts.sent());
    assert!(counts.connect_requests > 40 && counts.requests > 300 && counts.replies > 200, "{counts:?}");
    assert!(counts.notifications > 40 && counts.error_replies > 80, "{counts:?}");
    assert_eq!(counts.malformed, MALFORMED.len() + NOT_IN_A_MULTI.len());
    assert_eq!(counts.sent(), sends + pipelined, "a sent frame was skipped");
    assert_eq!(counts.received(), expects, "an expected frame was skipped");
}

/// One scenario on its way: its connections, and the first zxid, to which the recorded ones are relative.
#[derive(Default)]
struct Replay {
    connections: BTreeMap<String, Connection>,
    first_zxid: Option<i64>,
}

impl Replay {
    /// Replays one step; returns how many frames it sent beyond the first.
    fn step(&mut self, step: &Value, counts: &mut Counts) -> usize {
        let id = text(step, "id");
        let connection = self.connections.entry(text(step, "conn").into()).or_default();
        connection.sent.extend(unhex(&step["send"]));

        let mut frames = 0;
        if MALFORMED[..2].iter().any(|(step, _)| *step == id) {
            assert_eq!(take_frame(&mut connection.sent), None, "{id}: not a frame");
            let length = i32::from_be_bytes(*connection.sent.first_chunk().expect("a length"));
            assert!(length < 0 || length as usize > JUTE_MAX_BUFFER, "{id}: the length is a good one");
            connection.sent.clear();
            counts.malformed += 1;
        }
        while let Some(frame) = take_frame(&mut connection.sent) {
            frames += 1;
            sent_frame(id, &frame, connection, counts);
        }
        assert!(connection.sent.is_empty(), "{id}: half a frame is left");

        for expect in list(step, "expect") {
            let connection = self.connections.get_mut(text(expect, "conn")).expect("an open connection");
            let mut bytes = unhex(&expect["hex"]);
            let frame = take_frame(&mut bytes).expect("a whole frame");
            let fields = received_frame(id, &frame, connection, counts);
            self.compare(id, "", &expect["decoded"], &fields);
        }
        for closed in list(step, "then_closed") {
            self.connections.remove(closed.as_str().expect("a name"));
        }
        frames.max(1) - 1
    }

    /// Compares decoded fields with the recorded ones, in which what varies from run to run stands as a word.
    fn compare(&mut self, id: &str, at: &str, expected: &Value, actual: &Value) {
        match (expected, actual) {
            (Value::Object(expected), Value::Object(actual)) => {
                let names = |fields: &serde_json::Map<String, Value>| fields.keys().cloned().collect::<Vec<_>>();
                assert_eq!(names(expected), names(actual), "{id}{at}: names of the fields");
                for (name, value) in expected {
                    self.compare(id, &format!("{at}.{name}"), value, &actual[name]);
                }
            }
            (Value::Array(expected), Value::Array(actual)) => {
                assert_eq!(expected.len(), actual.len(), "{id}{at}: number of items");
                for (i, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                    self.compare(id, &format!("{at}[{i}]"), expected, actual);
                }
            }
            (Value::String(word), Value::Number(number)) => {
                let number = number.as_i64().expect("an i64");
                match word.strip_prefix("zxid+").map(str::parse::<i64>) {
                    Some(Ok(rel)) => {
                        let first = *self.first_zxid.get_or_insert(number - rel);
                        assert_eq!(number - first, rel, "{id}{at}: zxid");
                    }
                    _ => assert!(number != 0 && (word == "time" || word == "session"), "{id}{at}: {word} is {number}"),
                }
            }
            (Value::String(word), Value::String(password)) if word == "password" => {
                assert_ne!(*password, "0".repeat(2 * PASSWORD_LEN), "{id}{at}");
            }
            _ => assert_eq!(expected, actual, "{id}{at}"),
        }
    }
}

/// Decodes a frame that the client sent, and rebuilds it.
fn sent_frame(id: &str, frame: &[u8], connection: &mut Connection, counts: &mut Counts) {
    let malformed = MALFORMED.iter().find(|(step, _)| *step == id);
    if !connection.connected {
        connection.connected = true;
        match (ConnectRequest::from_bytes(frame), malformed) {
            (Ok(request), None) => assert_eq!(hex(&request.to_bytes()), hex(frame), "{id}"),
            (Err(_), Some(_)) => {
                counts.malformed += 1;
                return;
            }
            (result, expected) => panic!("{id}: {result:?}, malformed: {expected:?}"),
        }
        counts.connect_requests += 1;
        return;
    }

    let from = &mut Reader::new(frame);
    let header = RequestHeader::read(from).expect("a request header");
    connection.waiting.push((header.xid, header.op));
    let mut out = header.to_bytes();
    match Request::read(header.op, from) {
        None => assert!(NO_SUCH_OPERATION.contains(&(id, header.op)), "{id}: operation {} is unknown", header.op),
        Some(Err(error)) => {
            let refused = malformed.is_some() || NOT_IN_A_MULTI.contains(&id);
            assert!(refused, "{id}: {error}");
            counts.malformed += 1;
            return;
        }
        Some(Ok(request)) => {
            assert!(malformed.is_none() && !NOT_IN_A_MULTI.contains(&id), "{id} decodes to {request:?}");
            assert_eq!(request.op(), header.op, "{id}");
            let trailing = TRAILING.iter().find(|(step, _)| *step == id).map_or(0, |(_, length)| *length);
            assert_eq!(from.remaining(), trailing, "{id}: bytes behind the record");
            request.write(&mut out);
            out.extend_from_slice(from.rest());
        }
    }
    assert_eq!(hex(&out), hex(frame), "{id}");
    counts.requests += 1;
}

/// Decodes a frame that the server sent, rebuilds it, and tells its fields in the words of the recordings.
fn received_frame(id: &str, frame: &[u8], connection: &mut Connection, counts: &mut Counts) -> Value {
    // The connect response is the one frame without a header; nothing else can come before it.
    if connection.waiting.is_empty() && frame.len() > 16 && frame[..4] == [0; 4] {
        let response = ConnectResponse::from_bytes(frame).expect("a connect response");
        assert_eq!(hex(&response.to_bytes()), hex(frame), "{id}");
        counts.connect_responses += 1;
        return connect_fields(&response);
    }

    let from = &mut Reader::new(frame);
    let header = ReplyHeader::read(from).expect("a reply header");
    let mut out = header.to_bytes();
    let mut fields = json!({"xid": header.xid, "zxid": header.zxid.0, "err": header.err});
    if header.xid == NOTIFICATION_XID {
        let event = WatcherEvent::read(from).expect("a notification");
        event.write(&mut out);
        assert_eq!(hex(&out), hex(frame), "{id}");
        assert!(EventType::from_code(event.kind).is_some(), "{id}: event type {}", event.kind);
        counts.notifications += 1;
        fields["kind"] = json!("notification");
        fields["type"] = json!(event.kind);
        fields["state"] = json!(event.state);
        fields["path"] = json!(event.path);
        return fields;
    }

    let op = answered(id, header.xid, connection);
    if header.err != 0 {
        assert!(ErrorCode::from_code(header.err).is_some(), "{id}: error {}", header.err);
        assert_eq!(from.remaining(), 0, "{id}: an error reply is only a header");
        assert_eq!(hex(&out), hex(frame), "{id}");
        counts.error_replies += 1;
        return fields;
    }
    let response = Response::read(op, from).unwrap_or_else(|error| panic!("{id}: {error}"));
    assert_eq!(from.remaining(), 0, "{id}: bytes behind {response:?}");
    response.write(&mut out);
    assert_eq!(hex(&out), hex(frame), "{id}");
    counts.replies += 1;
    let body = response_fields(&response);
    if !body.is_null() {
        fields["body"] = body;
    }
    fields
}

/// The operation of the request that a reply answers: the oldest with this xid. A ping's reply says -2 in any case.
fn answered(id: &str, xid: i32, connection: &mut Connection) -> i32 {
    let is_answer = |&&(sent, op): &&(i32, i32)| sent == xid || (op == op::PING && xid == PING_XID);
    let found = connection.waiting.iter().find(is_answer).copied();
    let request = found.unwrap_or_else(|| panic!("{id}: a reply with xid {xid}, which answers nothing"));
    let at = connection.waiting.iter().position(|each| *each == request).expect("it was just found");
    connection.waiting.remove(at).1
}

fn connect_fields(response: &ConnectResponse) -> Value {
    let mut fields = json!({
        "kind": "connect_response",
        "protocolVersion": response.protocol_version,
        "timeOut": response.timeout_ms,
        "sessionId": response.session.0,
        "passwd": hex(&response.password),
    });
    if let Some(read_only) = response.read_only {
        fields["readOnly"] = json!(read_only);
    }
    if response.session != SessionId(0) {
        assert_eq!(response.password, session_password(response.session), "the password of {}", response.session);
    }
    fields
}

fn response_fields(response: &Response) -> Value {
    match response {
        Response::Empty => Value::Null,
        Response::Path(body) => json!({"path": body.path}),
        Response::PathStat(body) => json!({"path": body.path, "stat": stat_fields(&body.stat)}),
        Response::Stat(body) => json!({"stat": stat_fields(&body.stat)}),
        Response::DataStat(body) => json!({"data": data_field(&body.data), "stat": stat_fields(&body.stat)}),
        Response::AclStat(body) => {
            let acl: Vec<_> = body.acl.iter().map(acl_fields).collect();
            json!({"acl": acl, "stat": stat_fields(&body.stat)})
        }
        Response::Children(body) => json!({"children": body.children}),
        Response::ChildrenStat(body) => json!({"children": body.children, "stat": stat_fields(&body.stat)}),
        Response::Multi(body) => {
            let mut results: Vec<_> = body.results.iter().map(result_fields).collect();
            results.push(json!({"type": -1, "done": true, "err": -1}));
            json!({ "results": results })
        }
        Response::Sasl(body) => json!({"token": body.token.as_deref().map(hex)}),
        Response::Ephemerals(body) => json!({"ephemerals": body.ephemerals}),
        Response::TotalNumber(body) => json!({"totalNumber": body.total}),
        Response::AddWatch(body) => json!({"err": body.err}),
        Response::WhoAmI(body) => {
            let info = |each: &ClientInfo| json!({"authScheme": each.auth_scheme, "user": each.user});
            json!({"clientInfo": body.client_info.iter().map(info).collect::<Vec<_>>()})
        }
    }
}

fn result_fields(result: &MultiResult) -> Value {
    let (kind, err, body) = match result {
        MultiResult::Create { path } => (op::CREATE, 0, json!({"path": path})),
        MultiResult::Create2 { path, stat } => (op::CREATE2, 0, json!({"path": path, "stat": stat_fields(stat)})),
        MultiResult::Delete => (op::DELETE, 0, Value::Null),
        MultiResult::SetData { stat } => (op::SET_DATA, 0, json!({"stat": stat_fields(stat)})),
        MultiResult::Check => (op::CHECK, 0, Value::Null),
        MultiResult::GetData { data, stat } => {
            (op::GET_DATA, 0, json!({"data": data_field(data), "stat": stat_fields(stat)}))
        }
        MultiResult::GetChildren { children } => (op::GET_CHILDREN, 0, json!({"children": children})),
        MultiResult::Error { code } => {
            return json!({"type": -1, "done": false, "err": code, "errorResponse": code});
        }
    };
    let mut fields = json!({"type": kind, "done": false, "err": err});
    if !body.is_null() {
        fields["result"] = body;
    }
    fields
}

fn stat_fields(stat: &Stat) -> Value {
    json!({
        "czxid": stat.czxid.0, "mzxid": stat.mzxid.0, "ctime": stat.ctime, "mtime": stat.mtime,
        "version": stat.version, "cversion": stat.cversion, "aversion": stat.aversion,
        "ephemeralOwner": stat.ephemeral_owner, "dataLength": stat.data_length, "numChildren": stat.num_children,
        "pzxid": stat.pzxid.0,
    })
}

fn acl_fields(acl: &Acl) -> Value {
    json!({"perms": acl.perms, "scheme": acl.id.scheme, "id": acl.id.id})
}

fn data_field(data: &Option<Vec<u8>>) -> Value {
    json!(data.as_deref().map(String::from_utf8_lossy))
}
