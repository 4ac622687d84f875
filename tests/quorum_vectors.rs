//! Every message that servers of Apache ZooKeeper 3.8.0 were recorded to send each other is decoded to fields and
//! rebuilt from the fields alone to the same bytes; the fields are compared with the recorded ones, by name.

mod vectors;

use serde_json::{Value, json};
use vectors::{hex, json_files, list, text, unhex};
use zabkit::jute::{Reader, Record};
use zabkit::records::*;

/// A message as (name, value) in the order of its bytes; lengths are left out, as they are no fields of ours.
type Fields = Vec<(String, Value)>;

#[derive(Debug, Default, PartialEq)]
struct Counts {
    initials: usize,
    notifications: usize,
    sasl: usize,
    packets: usize,
    txns: usize,
    snapshot_streams: usize,
    snapshot_items: usize,
    compared_by_name: usize,
}

impl Counts {
    fn messages(&self) -> usize {
        self.initials + self.notifications + self.sasl + self.packets + self.snapshot_streams
    }
}

#[test]
fn every_recorded_message_is_rebuilt_from_its_fields() {
    let mut counts = Counts::default();
    let mut messages = 0;
    for (name, file) in json_files("quorum") {
        let singles = list(&file, "messages").iter().chain(list(&file, "packets"));
        let sasl = list(&file, "connections").iter().flat_map(|connection| list(connection, "messages"));
        let sequences = list(&file, "sequences").iter().flat_map(|sequence| list(sequence, "packets"));
        for message in singles.chain(sasl).chain(sequences) {
            messages += 1;
            check(&name, message, &mut counts);
        }
    }
    println!("quorum messages: {counts:?}, {} in all", counts.messages());
    assert_eq!(counts.messages(), messages, "a message was skipped");
    assert!(counts.initials >= 3 && counts.notifications >= 11 && counts.sasl == 8, "{counts:?}");
    assert!(counts.packets > 400 && counts.txns > 50, "{counts:?}");
    assert!(counts.snapshot_streams == 5 && counts.snapshot_items > 5 * 8, "{counts:?}");
    assert!(counts.compared_by_name > 80, "{counts:?}");
}

/// A learner's connection is two streams without frames: each is taken apart from pieces that end anywhere.
#[test]
fn whole_conversations_are_taken_off_the_stream_as_they_arrive() {
    let file = json_files("quorum").into_iter().find(|(name, _)| name == "sequences").expect("recorded sequences").1;
    let mut taken = 0;
    for sequence in list(&file, "sequences") {
        for side in ["leader", "learner"] {
            let recorded: Vec<_> = list(sequence, "packets").iter().filter(|each| each["from"] == side).collect();
            let bytes: Vec<u8> = recorded.iter().flat_map(|packet| unhex(&packet["hex"])).collect();
            let names: Vec<_> = recorded.iter().map(|packet| name_of(text(packet, "kind"))).collect();
            for piece in [1, 7, bytes.len()] {
                let heard = take_conversation(&bytes, piece, side == "leader");
                assert_eq!(heard, names, "{side} of {} {}", text(sequence, "run"), text(sequence, "mode"));
                taken += heard.len();
            }
        }
    }
    println!("{taken} packets taken off streams in pieces");
    assert!(taken > 3 * 300);
}

/// The names of the packets in `bytes`, which arrive `piece` bytes at a time.
fn take_conversation(bytes: &[u8], piece: usize, from_leader: bool) -> Vec<String> {
    let (mut arrived, mut names, mut snapshot) = (Vec::new(), Vec::new(), None::<SnapshotDecoder>);
    for piece in bytes.chunks(piece) {
        arrived.extend_from_slice(piece);
        let mut from = Reader::new(&arrived);
        loop {
            if let Some(decoder) = &mut snapshot {
                while decoder.take(&mut from, TXN_BYTES_MAX).expect("an item of a snapshot").is_some() {}
                let mut signature = from.clone();
                match decoder.is_done().then(|| String::read(&mut signature)) {
                    Some(Ok(text)) => assert_eq!(text, SNAPSHOT_SIGNATURE),
                    _ => break, // The rest of the stream has not arrived.
                }
                names.push("SNAP-STREAM".to_owned());
                (from, snapshot) = (signature, None);
            }
            let Some(packet) = QuorumPacket::take(&mut from, from_leader).expect("a packet") else {
                break;
            };
            names.push(packet.name().to_owned());
            snapshot = matches!(packet, QuorumPacket::Snap { .. }).then(SnapshotDecoder::default);
        }
        arrived = from.rest().to_vec();
    }
    assert!(arrived.is_empty(), "{} bytes are left", arrived.len());
    names
}

/// `PROPOSAL:create` is a kind of PROPOSAL.
fn name_of(kind: &str) -> String {
    kind.split(':').next().expect("a name").to_owned()
}

fn check(file: &str, message: &Value, counts: &mut Counts) {
    let kind = text(message, "kind");
    let bytes = unhex(&message["hex"]);
    let what = format!("{file}: {kind} {}", hex(&bytes));
    let (rebuilt, fields) = match name_of(kind).as_str() {
        "INITIAL" => initial(&bytes, counts),
        "NOTIFICATION" => notification(&bytes, counts),
        "AUTH" => sasl(&bytes, counts),
        "SNAP-STREAM" => (snapshot_stream(&bytes, counts), Fields::new()),
        name => {
            // `direction` is there in single packets, `from` in sequences.
            let from_leader = message["from"] == "leader" || message["direction"] == "leader -> learner";
            let from = &mut Reader::new(&bytes);
            let packet = QuorumPacket::take(from, from_leader).expect(&what).expect(&what);
            assert_eq!(from.remaining(), 0, "{what}: bytes behind the packet");
            assert_eq!(packet.name(), name, "{what}");
            let mut out = Vec::new();
            packet.write(&mut out);
            let fields = packet_fields(&packet, counts);
            counts.packets += 1;
            if let Some(zxid) = message["zxid"].as_str() {
                let zxid = u64::from_str_radix(zxid.trim_start_matches("0x"), 16).expect("a zxid") as i64;
                assert_eq!(fields[1], ("zxid".into(), json!(zxid)), "{what}");
            }
            (out, fields)
        }
    };
    assert_eq!(hex(&rebuilt), hex(&bytes), "{what}");

    let recorded: Fields = list(message, "fields")
        .iter()
        .map(|field| (text(field, "name").to_owned(), field["value"].clone()))
        .filter(|(name, _)| !name.ends_with(".len") && name != "length")
        .collect();
    if !recorded.is_empty() {
        assert_eq!(fields, recorded, "{what}");
        counts.compared_by_name += 1;
    }
}

fn initial(bytes: &[u8], counts: &mut Counts) -> (Vec<u8>, Fields) {
    counts.initials += 1;
    let from = &mut Reader::new(bytes);
    let initial = Initial::take(from).expect("an INITIAL message").expect("all of it");
    assert_eq!(from.remaining(), 0);
    let mut out = Vec::new();
    initial.write(&mut out);
    let version = match initial.addresses {
        InitialAddresses::One(_) => -65536,
        InitialAddresses::Several(_) => -65535,
        InitialAddresses::None => panic!("no address"),
    };
    let addresses = initial.addresses.texts();
    let mut fields = Fields::new();
    put(&mut fields, "protocolVersion", version);
    put(&mut fields, "sid", initial.server.0);
    put(&mut fields, "addr", addresses.join("|"));
    (out, fields)
}

fn notification(bytes: &[u8], counts: &mut Counts) -> (Vec<u8>, Fields) {
    counts.notifications += 1;
    let notification = Notification::decode(&bytes[4..]).expect("a notification");
    let mut out = Vec::new();
    notification.write(&mut out);
    let NotificationForm::V2 { version, config } = &notification.form else {
        panic!("3.8.0 sends version 2, not {notification:?}");
    };
    let mut fields = Fields::new();
    put(&mut fields, "state", notification.state as i32);
    put(&mut fields, "vote.leader", notification.leader.0);
    put(&mut fields, "vote.zxid", notification.zxid.0);
    put(&mut fields, "vote.electionEpoch", notification.election_epoch);
    put(&mut fields, "vote.peerEpoch", notification.peer_epoch);
    put(&mut fields, "version", *version);
    put(&mut fields, "config", config.clone());
    (out, fields)
}

fn sasl(bytes: &[u8], counts: &mut Counts) -> (Vec<u8>, Fields) {
    counts.sasl += 1;
    let from = &mut Reader::new(bytes);
    let packet = QuorumAuthPacket::take(from).expect("a SASL packet").expect("all of it");
    assert_eq!(from.remaining(), 0);
    let mut fields = Fields::new();
    put(&mut fields, "magic", QUORUM_AUTH_MAGIC);
    put(&mut fields, "status", packet.status as i32);
    put(&mut fields, "token", packet.token.as_deref().map(hex));
    (packet.to_bytes(), fields)
}

fn snapshot_stream(bytes: &[u8], counts: &mut Counts) -> Vec<u8> {
    counts.snapshot_streams += 1;
    let (mut decoder, mut from, mut out) = (SnapshotDecoder::default(), Reader::new(bytes), Vec::new());
    let mut paths = Vec::new();
    while let Some(item) = decoder.take(&mut from, TXN_BYTES_MAX).expect("an item") {
        item.write(&mut out);
        counts.snapshot_items += 1;
        if let SnapshotItem::Node(node) = item {
            paths.push(node.path);
        }
    }
    assert!(decoder.is_done());
    let built_in = ["", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"];
    assert!(built_in.iter().all(|path| paths.iter().any(|each| each == path)), "{paths:?}");
    let signature = String::read(&mut from).expect("the signature");
    assert_eq!((signature.as_str(), from.remaining()), (SNAPSHOT_SIGNATURE, 0));
    signature.write(&mut out);
    out
}

fn put(fields: &mut Fields, name: impl Into<String>, value: impl Into<Value>) {
    fields.push((name.into(), value.into()));
}

fn packet_fields(packet: &QuorumPacket, counts: &mut Counts) -> Fields {
    use QuorumPacket::*;
    let mut fields = Fields::new();
    let head = |fields: &mut Fields, kind: i32, zxid: Zxid| {
        put(fields, "type", kind);
        put(fields, "zxid", zxid.0);
    };
    let mut auth: &[Id] = &[];
    match packet {
        Request(request) => {
            head(&mut fields, packet::REQUEST, Zxid::NONE);
            put(&mut fields, "sessionId", request.session.0);
            put(&mut fields, "cxid", request.cxid);
            put(&mut fields, "opType", request.body.op());
            let ForwardedBody::Request(body) = &request.body else {
                panic!("a recorded request is not malformed: {request:?}");
            };
            let mut bytes = Vec::new();
            body.write(&mut bytes);
            put(&mut fields, "requestBody", hex(&bytes));
            auth = &request.auth;
        }
        Proposal { zxid, txn } => {
            head(&mut fields, packet::PROPOSAL, *zxid);
            txn_fields(&mut fields, *zxid, txn, counts);
        }
        Inform { zxid, txn } => {
            head(&mut fields, packet::INFORM, *zxid);
            txn_fields(&mut fields, *zxid, txn, counts);
        }
        InformAndActivate { zxid, designated_leader, txn } => {
            head(&mut fields, packet::INFORM_AND_ACTIVATE, *zxid);
            put(&mut fields, "designatedLeader", designated_leader.0);
            txn_fields(&mut fields, *zxid, txn, counts);
        }
        CommitAndActivate { zxid, designated_leader } => {
            head(&mut fields, packet::COMMIT_AND_ACTIVATE, *zxid);
            put(&mut fields, "designatedLeader", designated_leader.0);
        }
        Ack { zxid } => head(&mut fields, packet::ACK, *zxid),
        Commit { zxid } => head(&mut fields, packet::COMMIT, *zxid),
        Sync { zxid } => head(&mut fields, packet::SYNC, *zxid),
        Diff { zxid } => head(&mut fields, packet::DIFF, *zxid),
        Trunc { zxid } => head(&mut fields, packet::TRUNC, *zxid),
        Snap { zxid } => head(&mut fields, packet::SNAP, *zxid),
        UpToDate => head(&mut fields, packet::UP_TO_DATE, Zxid::NONE),
        Ping { zxid, touched } => {
            head(&mut fields, packet::PING, *zxid);
            for (i, each) in touched.iter().flatten().enumerate() {
                put(&mut fields, format!("touch[{i}].session"), each.session.0);
                put(&mut fields, format!("touch[{i}].timeout"), each.timeout_ms);
            }
        }
        Revalidate { session, timeout_ms } => {
            head(&mut fields, packet::REVALIDATE, Zxid::NONE);
            put(&mut fields, "sessionId", session.0);
            put(&mut fields, "timeout", *timeout_ms);
        }
        Revalidated { session, valid } => {
            head(&mut fields, packet::REVALIDATE, Zxid::NONE);
            put(&mut fields, "sessionId", session.0);
            put(&mut fields, "valid", *valid);
        }
        NewLeader { zxid, config } => {
            head(&mut fields, packet::NEW_LEADER, *zxid);
            put(&mut fields, "configText", config.clone());
        }
        FollowerInfo { accepted_epoch, info } => {
            head(&mut fields, packet::FOLLOWER_INFO, Zxid::new(*accepted_epoch, 0));
            learner_info_fields(&mut fields, info);
        }
        ObserverInfo { accepted_epoch, info } => {
            head(&mut fields, packet::OBSERVER_INFO, Zxid::new(*accepted_epoch, 0));
            learner_info_fields(&mut fields, info);
        }
        LeaderInfo { epoch, protocol_version } => {
            head(&mut fields, packet::LEADER_INFO, Zxid::new(*epoch, 0));
            put(&mut fields, "protocolVersion", *protocol_version);
        }
        AckEpoch { last_logged, current_epoch } => {
            head(&mut fields, packet::ACK_EPOCH, *last_logged);
            put(&mut fields, "currentEpoch", current_epoch.map_or(-1, |epoch| epoch.0));
        }
    }
    put(&mut fields, "authinfo.count", if auth.is_empty() { -1 } else { auth.len() as i64 });
    for (i, id) in auth.iter().enumerate() {
        put(&mut fields, format!("authinfo[{i}].scheme"), id.scheme.clone());
        put(&mut fields, format!("authinfo[{i}].id"), id.id.clone());
    }
    fields
}

fn learner_info_fields(fields: &mut Fields, info: &LearnerInfo) {
    put(fields, "serverid", info.server.0);
    put(fields, "protocolVersion", info.protocol_version);
    put(fields, "configVersion", info.config_version);
}

/// The fields of a transaction's bytes, which are also rebuilt on their own.
fn txn_fields(fields: &mut Fields, zxid: Zxid, bytes: &[u8], counts: &mut Counts) {
    counts.txns += 1;
    let from = &mut Reader::new(bytes);
    let txn = Txn::read(from).expect("a transaction");
    assert_eq!(from.remaining(), 0, "bytes behind {txn:?}");
    assert_eq!(hex(&txn.to_bytes()), hex(bytes), "{txn:?}");
    assert_eq!(txn.zxid, zxid, "zxid of the packet and of the transaction");
    assert_eq!(txn_zxid(bytes), Ok(zxid));

    put(fields, "hdr.clientId", txn.session.0);
    put(fields, "hdr.cxid", txn.cxid);
    put(fields, "hdr.zxid", txn.zxid.0);
    put(fields, "hdr.time", txn.time_ms);
    put(fields, "hdr.type", txn.body.op());
    body_fields(fields, "", &txn.body);
    if let Some(digest) = txn.digest {
        put(fields, "digest.version", digest.version);
        put(fields, "digest.treeDigest", digest.digest);
    }
}

fn body_fields(fields: &mut Fields, at: &str, body: &TxnBody) {
    let data = |data: &Option<Vec<u8>>| json!(data.as_deref().map(hex));
    match body {
        TxnBody::CreateSession(txn) => put(fields, format!("{at}timeOut"), txn.timeout_ms),
        TxnBody::CloseSession { paths } => {
            let paths = paths.as_ref().expect("3.8.0 lists the paths");
            put(fields, format!("{at}paths2Delete.count"), paths.len());
            for (i, path) in paths.iter().enumerate() {
                put(fields, format!("{at}paths2Delete[{i}]"), path.clone());
            }
        }
        TxnBody::Create(txn) | TxnBody::Create2(txn) => {
            put(fields, format!("{at}txn.path"), txn.path.clone());
            put(fields, format!("{at}txn.data"), data(&txn.data));
            acl_fields(fields, at, &txn.acl);
            put(fields, format!("{at}txn.ephemeral"), txn.ephemeral);
            put(fields, format!("{at}txn.parentCVersion"), txn.parent_cversion);
        }
        TxnBody::CreateTtl(txn) => {
            put(fields, format!("{at}txn.path"), txn.path.clone());
            put(fields, format!("{at}txn.data"), data(&txn.data));
            acl_fields(fields, at, &txn.acl);
            put(fields, format!("{at}txn.parentCVersion"), txn.parent_cversion);
            put(fields, format!("{at}txn.ttl"), txn.ttl_ms);
        }
        TxnBody::CreateContainer(txn) => {
            put(fields, format!("{at}txn.path"), txn.path.clone());
            put(fields, format!("{at}txn.data"), data(&txn.data));
            acl_fields(fields, at, &txn.acl);
            put(fields, format!("{at}txn.parentCVersion"), txn.parent_cversion);
        }
        TxnBody::Delete(txn) | TxnBody::DeleteContainer(txn) => put(fields, format!("{at}txn.path"), txn.path.clone()),
        TxnBody::SetData(txn) | TxnBody::Reconfig(txn) => {
            put(fields, format!("{at}txn.path"), txn.path.clone());
            put(fields, format!("{at}txn.data"), data(&txn.data));
            put(fields, format!("{at}txn.version"), txn.version);
        }
        TxnBody::SetAcl(txn) => {
            put(fields, format!("{at}txn.path"), txn.path.clone());
            acl_fields(fields, at, &txn.acl);
            put(fields, format!("{at}txn.version"), txn.version);
        }
        TxnBody::Check(txn) => {
            put(fields, format!("{at}txn.path"), txn.path.clone());
            put(fields, format!("{at}txn.version"), txn.version);
        }
        TxnBody::Error(txn) => put(fields, format!("{at}txn.err"), txn.err),
        TxnBody::Multi(txns) => {
            put(fields, format!("{at}txns.count"), txns.len());
            for (i, txn) in txns.iter().enumerate() {
                put(fields, format!("txns[{i}].type"), txn.op());
                body_fields(fields, &format!("txns[{i}]."), txn);
            }
        }
    }
}

fn acl_fields(fields: &mut Fields, at: &str, acl: &[Acl]) {
    put(fields, format!("{at}txn.acl.count"), acl.len());
    for (i, each) in acl.iter().enumerate() {
        put(fields, format!("{at}txn.acl[{i}].perms"), each.perms);
        put(fields, format!("{at}txn.acl[{i}].scheme"), each.id.scheme.clone());
        put(fields, format!("{at}txn.acl[{i}].id"), each.id.id.clone());
    }
}
