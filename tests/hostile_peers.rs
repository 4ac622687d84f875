//! Peers and clients that say anything at any time: a leader, a follower and a server that looks for a leader get
//! packets, notifications, snapshots and client frames that decode well and mean nonsense. They may drop a link or end
//! a role; they may not panic, overflow, or stop being able to lead and follow.

mod vectors;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use vectors::{Dice, json_files, list, mutated, take_frame, unhex};
use zabkit::jute::{Reader, Record};
use zabkit::peer::io::*;
use zabkit::peer::{Boot, Database, DirectoryLoader, Outbox, PeerConfig, QuorumPeer, RoleRules};
use zabkit::records::*;

/// One real server with a disk that answers at once; the test is everybody else.
struct Host {
    peer: QuorumPeer,
    db: Database,
    micros: u64,
    log: Vec<Proposal>,
    snapshot: Option<(Zxid, Vec<u8>)>,
    next_id: u64,
    /// Links to us, and the one to a leader.
    learners: Vec<LinkId>,
    leader: Option<LinkId>,
    connecting: Option<ServerId>,
    clients: Vec<Arc<Outbox>>,
    ended: bool,
}

impl Host {
    /// Server 4 is an observer; server 1 takes observers where it follows.
    fn start(id: i64) -> Host {
        let mut ensemble = Configuration::of_voters([1, 2, 3, 4].map(ServerId));
        ensemble.servers.get_mut(&ServerId(4)).expect("it is there").role = PeerType::Observer;
        let config = PeerConfig {
            roles: RoleRules { observer_masters: id == 1, ..RoleRules::default() },
            snap_count: 8,
            seed: 7,
            ..PeerConfig::new(Some(ServerId(id)), ensemble, 100)
        };
        let (accepted_epoch, current_epoch) = (Epoch(0), Epoch(0));
        let last_logged = Zxid::ZERO;
        let boot = Boot { accepted_epoch, current_epoch, last_logged, recent: Vec::new(), replayed: 0 };
        let mut host = Host {
            peer: QuorumPeer::new(config, boot),
            db: Database::new(DirectoryLoader::new().finish(Zxid::ZERO)),
            micros: 1,
            log: Vec::new(),
            snapshot: None,
            next_id: 0,
            learners: Vec::new(),
            leader: None,
            connecting: None,
            clients: Vec::new(),
            ended: false,
        };
        let mut out = Effects::default();
        host.peer.start(host.now(), &host.db, &mut out);
        host.perform(out);
        host
    }

    fn now(&self) -> Now {
        Now { micros: self.micros, wall_ms: 1_700_000_000_000 + (self.micros / 1000) as i64 }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn step(&mut self, input: Input) {
        if self.ended {
            return;
        }
        let (now, mut out) = (self.now(), Effects::default());
        self.peer.step(now, input, &self.db, &mut out);
        self.perform(out);
    }

    fn perform(&mut self, out: Effects) {
        let (mut dirty, mut notes) = (Vec::new(), Vec::new());
        self.db.perform(self.now(), out.db, &mut dirty, &mut notes);
        for outbox in dirty {
            if outbox.take(&mut Vec::new()) {
                self.clients.retain(|client| client.conn() != outbox.conn());
                self.db.detach(outbox.conn());
            }
        }
        self.ended |= out.end.is_some();
        for op in out.links {
            match op {
                LinkOp::Connect { leader } | LinkOp::ConnectMaster { server: leader } => self.connecting = Some(leader),
                LinkOp::Send { packet, .. } => packet.write(&mut Vec::new()),
                LinkOp::StreamSnapshot { zxid, .. } => drop(self.body_at(zxid)),
                LinkOp::StreamLog { .. } | LinkOp::StreamProposals { .. } => {}
                LinkOp::Close { link } => {
                    self.learners.retain(|each| *each != link);
                    self.leader = self.leader.filter(|each| *each != link);
                }
            }
        }
        // The disk's answers come after everything else of the step, in order.
        let answers: Vec<Input> = out.disk.into_iter().map(|op| self.disk(op)).collect();
        answers.into_iter().for_each(|answer| self.step(answer));
    }

    fn body_at(&mut self, zxid: Zxid) -> Vec<u8> {
        assert_eq!(self.db.last_processed(), zxid, "a snapshot of another zxid was asked for");
        let cursor = self.db.begin_snapshot().expect("a free cursor");
        let mut body = Vec::new();
        while !self.db.next_chunk(cursor, 1 << 16, &mut body) {}
        self.db.end_snapshot(cursor);
        body
    }

    fn disk(&mut self, op: DiskOp) -> Input {
        match op {
            DiskOp::Append { generation, proposals } => {
                let up_to = proposals.last().expect("an append holds something").zxid();
                self.log.extend(proposals);
                Input::Flushed { generation, up_to }
            }
            DiskOp::Drain { generation } => Input::Drained { generation },
            DiskOp::SaveAcceptedEpoch { generation, epoch } => Input::AcceptedEpochSaved { generation, epoch },
            DiskOp::SaveCurrentEpoch { generation, epoch } => Input::CurrentEpochSaved { generation, epoch },
            DiskOp::Truncate { generation, to } => {
                self.log.retain(|proposal| proposal.zxid() <= to);
                Input::Truncated { generation, loaded: Box::new(self.load()) }
            }
            DiskOp::Reload { generation } => Input::Truncated { generation, loaded: Box::new(self.load()) },
            DiskOp::SearchLog { generation, link, .. } => {
                Input::LogSearched { generation, link, place: LogPlace::Unknown("it is not looked into") }
            }
            DiskOp::TakeSnapshot { generation, zxid, install, .. } => {
                let body = self.body_at(zxid);
                if install {
                    self.log.clear();
                    self.snapshot = Some((zxid, body));
                }
                Input::SnapshotSaved { generation, zxid, install }
            }
        }
    }

    fn load(&self) -> Loaded {
        let (mut loader, mut last) = (DirectoryLoader::new(), Zxid::ZERO);
        if let Some((zxid, body)) = &self.snapshot {
            last = *zxid;
            loader.begin();
            for item in items_of(body) {
                loader.item(item).expect("what was written can be read");
            }
        }
        for proposal in self.log.iter().filter(|proposal| proposal.zxid() > last) {
            loader.txn((*proposal.txn).clone(), proposal.bytes.clone());
        }
        let last = self.log.last().map_or(last, Proposal::zxid).max(last);
        loader.finish(last)
    }

    fn wait(&mut self, micros: u64) {
        let until = self.micros + micros;
        while let Some(at) = self.peer.next_wakeup().filter(|at| *at <= until && !self.ended) {
            self.micros = self.micros.max(at);
            let before = self.peer.next_wakeup();
            self.step(Input::Wakeup);
            assert!(self.peer.next_wakeup() != before || self.ended, "a wake-up at {at} leads nowhere");
        }
        self.micros = until;
    }

    fn packet(&mut self, link: Option<LinkId>, packet: QuorumPacket) {
        if let Some(link) = link {
            self.step(Input::Packets { link, packets: vec![packet] });
        }
    }

    // ----- Honest beginnings -----

    /// The others vote for `leader`, and go on doing so until the election is over.
    fn elect(&mut self, leader: i64) {
        for _ in 0..40 {
            if self.ended || self.peer.status().state != PeerState::Looking {
                return;
            }
            let zxid = if leader == 3 { self.peer.status().last_logged } else { Zxid(1 << 40) };
            for from in [2, 3].map(ServerId) {
                let notification = Notification {
                    state: PeerState::Looking,
                    leader: ServerId(leader),
                    zxid,
                    election_epoch: self.my_round(),
                    peer_epoch: self.peer.epochs().1.0,
                    form: NotificationForm::V2 { version: 2, config: "version=0".into() },
                };
                self.step(Input::Notification { from, notification });
            }
            self.wait(300_000);
        }
    }

    /// The round that the server is in, as its own notifications tell it.
    fn my_round(&mut self) -> i64 {
        let question = Notification {
            state: PeerState::Looking,
            leader: ServerId(2),
            zxid: Zxid::ZERO,
            election_epoch: 0,
            peer_epoch: 0,
            form: NotificationForm::V2 { version: 2, config: String::new() },
        };
        let (now, mut out) = (self.now(), Effects::default());
        self.peer.step(now, Input::Notification { from: ServerId(2), notification: question }, &self.db, &mut out);
        let round = out.election.last().map_or(1, |(_, answer)| answer.election_epoch);
        self.perform(out);
        round
    }

    fn observer_link(&mut self) -> LinkId {
        let link = LinkId(self.new_id());
        self.learners.push(link);
        self.step(Input::ObserverLinkUp { link });
        link
    }

    /// Server 4 connects as an observer and goes along with everything.
    fn honest_observer(&mut self) {
        let link = self.observer_link();
        let info = LearnerInfo { server: ServerId(4), protocol_version: PROTOCOL_VERSION, config_version: 0 };
        let accepted_epoch = Epoch(0);
        self.packet(Some(link), QuorumPacket::ObserverInfo { accepted_epoch, info });
        let last_logged = self.peer.status().last_committed;
        self.packet(Some(link), QuorumPacket::AckEpoch { last_logged, current_epoch: None });
        let zxid = Zxid::new(self.peer.status().epoch, 0);
        self.packet(Some(link), QuorumPacket::Ack { zxid });
    }

    fn learner_link(&mut self) -> LinkId {
        let link = LinkId(self.new_id());
        self.learners.push(link);
        self.step(Input::LearnerLinkUp { link });
        link
    }

    /// Server 1 connects as a follower and goes along with everything.
    fn honest_follower(&mut self) {
        let link = self.learner_link();
        let info = LearnerInfo { server: ServerId(1), protocol_version: PROTOCOL_VERSION, config_version: 0 };
        let accepted_epoch = Epoch(0);
        self.packet(Some(link), QuorumPacket::FollowerInfo { accepted_epoch, info });
        let last_logged = self.peer.status().last_logged;
        self.packet(Some(link), QuorumPacket::AckEpoch { last_logged, current_epoch: Some(Epoch(0)) });
        let zxid = Zxid::new(self.peer.status().epoch, 0);
        self.packet(Some(link), QuorumPacket::Ack { zxid });
    }

    fn leader_link(&mut self) {
        if let Some(leader) = self.connecting.take() {
            let link = LinkId(self.new_id());
            self.leader = Some(link);
            self.step(Input::LeaderLinkUp { link, leader });
        }
    }

    /// The leader synchronises us, by SNAP if there are items, and says UPTODATE.
    fn honest_leader(&mut self, snapshot: Option<Vec<SnapshotItem>>) {
        self.leader_link();
        let epoch = Epoch(self.peer.epochs().0.0.saturating_add(1).min(1 << 30));
        self.packet(self.leader, QuorumPacket::LeaderInfo { epoch, protocol_version: PROTOCOL_VERSION });
        let zxid = self.peer.status().last_logged;
        match (snapshot, self.leader) {
            (Some(items), Some(link)) => {
                self.packet(Some(link), QuorumPacket::Snap { zxid: Zxid::new(epoch, 0) });
                self.step(Input::SnapshotItems { link, items, end: true });
            }
            _ => self.packet(self.leader, QuorumPacket::Diff { zxid }),
        }
        self.packet(self.leader, QuorumPacket::NewLeader { zxid: Zxid::new(epoch, 0), config: None });
        self.packet(self.leader, QuorumPacket::UpToDate);
    }

    fn client(&mut self) {
        let outbox = Outbox::new(ConnId(self.new_id()), IpAddr::V4(Ipv4Addr::LOCALHOST));
        self.db.attach(outbox.clone());
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: 1000,
            session: SessionId(0),
            password: None,
            read_only: Some(false),
        };
        if let Some(request) = self.db.connect(&outbox, &request.to_bytes(), self.now()) {
            self.clients.push(outbox.clone());
            self.step(Input::Connect { conn: outbox.conn(), request });
        }
    }
}

fn items_of(body: &[u8]) -> Vec<SnapshotItem> {
    let (mut decoder, mut from, mut items) = (SnapshotDecoder::default(), Reader::new(body), Vec::new());
    while let Some(item) = decoder.take(&mut from, TXN_BYTES_MAX).expect("a good body") {
        items.push(item);
    }
    items
}

/// What real servers and clients have said, to be twisted.
struct Corpus {
    from_leader: Vec<QuorumPacket>,
    from_learner: Vec<QuorumPacket>,
    requests: Vec<Vec<u8>>,
    bodies: Vec<Request>,
    txns: Vec<Txn>,
    items: Vec<SnapshotItem>,
}

impl Corpus {
    fn load() -> Corpus {
        let (mut from_leader, mut from_learner, mut items) = (Vec::new(), Vec::new(), Vec::new());
        for (_, file) in json_files("quorum") {
            let sequences = list(&file, "sequences").iter().flat_map(|sequence| list(sequence, "packets"));
            for message in list(&file, "packets").iter().chain(sequences) {
                let bytes = unhex(&message["hex"]);
                if message["kind"] == "SNAP-STREAM" {
                    items.extend(items_of(&bytes));
                    continue;
                }
                let is_from_leader = message["from"] == "leader" || message["direction"] == "leader -> learner";
                let packet = QuorumPacket::take(&mut Reader::new(&bytes), is_from_leader);
                let packets = if is_from_leader { &mut from_leader } else { &mut from_learner };
                packets.extend(packet.expect("a packet"));
            }
        }
        let (mut requests, mut bodies) = (Vec::new(), Vec::new());
        for (_, file) in json_files("client") {
            for step in list(&file, "steps") {
                let mut bytes = unhex(&step["send"]);
                while let Some(frame) = take_frame(&mut bytes) {
                    let from = &mut Reader::new(&frame);
                    if let Ok(RequestHeader { op, .. }) = RequestHeader::read(from) {
                        bodies.extend(Request::read(op, from).and_then(Result::ok));
                    }
                    requests.push(frame);
                }
            }
        }
        let txn = |packet: &QuorumPacket| match packet {
            QuorumPacket::Proposal { txn, .. } => Txn::from_bytes(txn).ok(),
            _ => None,
        };
        let txns = from_leader.iter().filter_map(txn).collect();
        Corpus { from_leader, from_learner, requests, bodies, txns, items }
    }
}

/// A number that is near `near`, at an end of something, or any.
fn number(dice: &mut Dice, near: i64) -> i64 {
    match dice.below(12) {
        0..=3 => near.wrapping_add(dice.below(5) as i64 - 2),
        4 => (near >> 32).wrapping_add(dice.below(3) as i64) << 32,
        5 => near | 0xffff_ffff,
        6 => *dice.pick(&[i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1]),
        7 => *dice.pick(&[0, -1, 1, -2]),
        8 => *dice.pick(&[i64::from(i32::MAX), i64::from(i32::MIN), i64::from(u32::MAX), 1 << 62]),
        _ => dice.below(usize::MAX) as i64 >> dice.below(64),
    }
}

fn small(dice: &mut Dice, near: i32) -> i32 {
    let near = number(dice, near.into());
    near.clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

fn odd_path(dice: &mut Dice) -> String {
    let odd = ["", "/", "a", "//", "/a/", "/a//b", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "/a", "/a/b"];
    let limits = ["/zookeeper/quota/a/zookeeper_limits", "/zookeeper/quota/a/zookeeper_stats", "/\0", "/é/\u{fffd}"];
    let any: Vec<&str> = odd.into_iter().chain(limits).collect();
    dice.pick(&any).to_string()
}

fn twisted_txn(corpus: &Corpus, dice: &mut Dice, zxid: Zxid) -> Txn {
    let mut txn = dice.pick(&corpus.txns).clone();
    txn.zxid = zxid;
    txn.session = SessionId(number(dice, txn.session.0));
    txn.time_ms = number(dice, txn.time_ms);
    twist_body(&mut txn.body, dice);
    txn
}

fn twist_body(body: &mut TxnBody, dice: &mut Dice) {
    if dice.one_in(3) {
        return;
    }
    match body {
        TxnBody::Create(txn) | TxnBody::Create2(txn) => {
            txn.path = odd_path(dice);
            txn.ephemeral = dice.one_in(2);
            txn.parent_cversion = small(dice, txn.parent_cversion);
        }
        TxnBody::CreateTtl(txn) => (txn.path, txn.ttl_ms) = (odd_path(dice), number(dice, txn.ttl_ms)),
        TxnBody::CreateContainer(txn) => txn.path = odd_path(dice),
        TxnBody::Delete(txn) | TxnBody::DeleteContainer(txn) => txn.path = odd_path(dice),
        TxnBody::SetData(txn) | TxnBody::Reconfig(txn) => {
            (txn.path, txn.version) = (odd_path(dice), small(dice, txn.version));
            txn.data = Some(dice.pick(&[&b"count=9,bytes=-9"[..], b"", b"=,=", b"count=1"]).to_vec());
        }
        TxnBody::SetAcl(txn) => (txn.path, txn.version) = (odd_path(dice), small(dice, txn.version)),
        TxnBody::Check(txn) => (txn.path, txn.version) = (odd_path(dice), small(dice, txn.version)),
        TxnBody::CreateSession(txn) => txn.timeout_ms = small(dice, txn.timeout_ms),
        TxnBody::CloseSession { paths } => *paths = Some(vec![odd_path(dice), odd_path(dice)]),
        TxnBody::Error(txn) => txn.err = small(dice, txn.err),
        TxnBody::Multi(subs) => subs.iter_mut().for_each(|sub| twist_body(sub, dice)),
    }
}

/// A packet of the corpus with other numbers in it, as its bytes would carry them.
fn twisted_packet(corpus: &Corpus, dice: &mut Dice, from_leader: bool, host: &Host) -> QuorumPacket {
    let near = host.peer.status().last_logged.0;
    let corpus_packets = if from_leader { &corpus.from_leader } else { &corpus.from_learner };
    let mut packet = dice.pick(corpus_packets).clone();
    match &mut packet {
        QuorumPacket::Proposal { zxid, txn } | QuorumPacket::Inform { zxid, txn } => {
            *zxid = Zxid(if dice.one_in(2) { near.wrapping_add(1) } else { number(dice, near) });
            let inside = if dice.one_in(8) { Zxid(number(dice, near)) } else { *zxid };
            *txn = twisted_txn(corpus, dice, inside).to_bytes().into();
            if dice.one_in(8) {
                *txn = mutated(txn, txn, dice).into();
            }
        }
        QuorumPacket::Ack { zxid }
        | QuorumPacket::Commit { zxid }
        | QuorumPacket::Sync { zxid }
        | QuorumPacket::NewLeader { zxid, .. }
        | QuorumPacket::Diff { zxid }
        | QuorumPacket::Trunc { zxid }
        | QuorumPacket::Snap { zxid } => *zxid = Zxid(number(dice, near)),
        QuorumPacket::Ping { zxid, touched } => {
            *zxid = Zxid(number(dice, near));
            for each in touched.iter_mut().flatten() {
                each.session = some_session(dice, host);
                each.timeout_ms = small(dice, each.timeout_ms);
            }
        }
        QuorumPacket::FollowerInfo { accepted_epoch, info } | QuorumPacket::ObserverInfo { accepted_epoch, info } => {
            *accepted_epoch = Epoch(small(dice, 1).into());
            info.server = ServerId(if dice.one_in(2) { 1 + dice.below(3) as i64 } else { number(dice, 1) });
            info.config_version = if dice.one_in(2) { 0 } else { number(dice, 0) };
        }
        QuorumPacket::LeaderInfo { epoch, .. } => *epoch = Epoch(small(dice, host.peer.epochs().0.0 as i32).into()),
        QuorumPacket::AckEpoch { last_logged, current_epoch } => {
            *last_logged = Zxid(number(dice, near));
            *current_epoch = Some(Epoch(small(dice, 0).into())).filter(|epoch| epoch.0 != -1);
        }
        QuorumPacket::Revalidate { session, timeout_ms } => {
            (*session, *timeout_ms) = (some_session(dice, host), small(dice, *timeout_ms));
        }
        QuorumPacket::Revalidated { session, .. } => *session = some_session(dice, host),
        QuorumPacket::Request(request) => {
            (request.session, request.cxid) = (some_session(dice, host), small(dice, request.cxid));
            request.body = match dice.below(4) {
                0 => ForwardedBody::Malformed { op: small(dice, 14), bytes: vec![0; dice.below(9)] },
                _ => ForwardedBody::Request(dice.pick(&corpus.bodies).clone()),
            };
        }
        _ => {}
    }
    let mut bytes = Vec::new();
    packet.write(&mut bytes);
    QuorumPacket::take(&mut Reader::new(&bytes), from_leader).expect("a packet").expect("all of it")
}

fn some_session(dice: &mut Dice, host: &Host) -> SessionId {
    let known: Vec<SessionId> = host.db.sessions().keys().copied().collect();
    if known.is_empty() || dice.one_in(4) { SessionId(number(dice, 0x0100_0000_0000_0000)) } else { *dice.pick(&known) }
}

fn twisted_items(corpus: &Corpus, dice: &mut Dice) -> Vec<SnapshotItem> {
    let mut items = vec![SnapshotItem::SessionCount(0), SnapshotItem::AclCount(0)];
    for _ in 0..dice.below(12) {
        let mut item = dice.pick(&corpus.items).clone();
        match &mut item {
            SnapshotItem::Node(node) if dice.one_in(2) => {
                node.path = odd_path(dice);
                node.acl_key = number(dice, node.acl_key);
                node.stat.ephemeral_owner = number(dice, 0);
                node.stat.cversion = small(dice, 0);
                node.stat.pzxid = Zxid(number(dice, 0));
            }
            SnapshotItem::Session(session) => session.timeout_ms = small(dice, 0),
            SnapshotItem::Acl(acl) => acl.key = number(dice, acl.key),
            _ => {}
        }
        items.push(item);
    }
    items.retain(|item| *item != SnapshotItem::End);
    items.push(SnapshotItem::End);
    items
}

/// A snapshot that loads, with stats, owners, ACL keys and quotas that no server would write.
fn odd_tree(corpus: &Corpus, dice: &mut Dice) -> Vec<SnapshotItem> {
    let built_in = |item: &&SnapshotItem| matches!(item, SnapshotItem::Node(node) if ["", "/zookeeper", "/zookeeper/quota"].contains(&node.path.as_str()));
    let mut items = vec![SnapshotItem::SessionCount(1)];
    let session = SessionId(number(dice, 0x0100_0000_0000_0000));
    items.push(SnapshotItem::Session(SnapshotSession { session, timeout_ms: small(dice, 1000) }));
    items.push(SnapshotItem::AclCount(0));
    items.extend(corpus.items.iter().filter(built_in).take(3).cloned());
    let like = items.last().expect("a node").clone();
    for path in [
        "/a",
        "/a/b",
        "/zookeeper/quota/a",
        "/zookeeper/quota/a/zookeeper_limits",
        "/zookeeper/quota/a/zookeeper_stats",
    ] {
        let SnapshotItem::Node(mut node) = like.clone() else { continue };
        node.path = path.into();
        node.data = Some(dice.pick(&[&b"count=1,bytes=-9"[..], b"", b"=,=", b"bytes=9223372036854775807"]).to_vec());
        node.acl_key = *dice.pick(&[-1, -1, 0, 7, i64::MIN]);
        node.stat.ephemeral_owner = number(dice, session.0);
        node.stat.cversion = small(dice, 0);
        node.stat.version = small(dice, 0);
        node.stat.pzxid = Zxid(number(dice, 0));
        items.push(SnapshotItem::Node(node));
    }
    items.push(SnapshotItem::End);
    items
}

/// Anything that anybody can say at this moment.
fn hostile_step(host: &mut Host, leader: i64, corpus: &Corpus, dice: &mut Dice) {
    match dice.below(26) {
        // A proposal that follows, with an odd transaction in it; most are committed.
        20..=23 if host.leader.is_some() && host.peer.status().serving => {
            let status = host.peer.status();
            let zxid = Zxid(status.last_logged.max(Zxid::new(status.epoch, 0)).0.wrapping_add(1));
            let txn = twisted_txn(corpus, dice, zxid).to_bytes().into();
            if status.state == PeerState::Observing {
                return host.packet(host.leader, QuorumPacket::Inform { zxid, txn });
            }
            host.packet(host.leader, QuorumPacket::Proposal { zxid, txn });
            if !dice.one_in(6) {
                host.packet(host.leader, QuorumPacket::Commit { zxid });
            }
        }
        24 | 25 if host.peer.status().state == PeerState::Looking => {
            host.elect(leader);
            begin_honestly(host, leader, corpus, dice);
        }
        0 if dice.one_in(2) => host.honest_observer(),
        1 if dice.one_in(4) => drop(host.observer_link()),
        0..=5 => {
            let link = if host.learners.is_empty() { host.learner_link() } else { *dice.pick(&host.learners) };
            let packet = twisted_packet(corpus, dice, false, host);
            host.packet(Some(link), packet);
        }
        6..=8 => {
            host.leader_link();
            let packet = twisted_packet(corpus, dice, true, host);
            let is_snap = matches!(packet, QuorumPacket::Snap { .. });
            host.packet(host.leader, packet);
            if let Some(link) = host.leader
                && (is_snap || dice.one_in(8))
            {
                let (items, end) = (twisted_items(corpus, dice), dice.one_in(2));
                host.step(Input::SnapshotItems { link, items, end });
            }
        }
        12 | 13 => {
            let vote = host.peer.status().last_logged.0;
            let form = NotificationForm::V2 { version: small(dice, 2).max(2), config: String::new() };
            let notification = Notification {
                state: *dice.pick(&[
                    PeerState::Looking,
                    PeerState::Following,
                    PeerState::Leading,
                    PeerState::Observing,
                ]),
                leader: ServerId(if dice.one_in(3) { number(dice, 0) } else { 1 + dice.below(3) as i64 }),
                zxid: Zxid(number(dice, vote)),
                election_epoch: number(dice, 1),
                peer_epoch: number(dice, vote >> 32),
                form,
            };
            let from = ServerId(if dice.one_in(8) { number(dice, 0) } else { 1 + dice.below(3) as i64 });
            host.step(Input::Notification { from, notification });
        }
        14..=16 => {
            if host.clients.is_empty() || dice.one_in(4) {
                host.client();
            }
            if host.clients.is_empty() {
                return;
            }
            let outbox = dice.pick(&host.clients).clone();
            let (frame, other) = (dice.pick(&corpus.requests), dice.pick(&corpus.requests));
            let frame = if dice.one_in(2) { frame.clone() } else { mutated(frame, other, dice) };
            let mut forward = Vec::new();
            host.db.submit(&outbox, &[&frame], host.now(), &mut forward);
            host.step(Input::Requests(forward));
        }
        17 => {
            let up = dice.one_in(2);
            host.step(Input::ElectionLink { server: ServerId(2 + dice.below(2) as i64), up });
        }
        18 => {
            let links: Vec<LinkId> = host.learners.iter().copied().chain(host.leader).collect();
            if !links.is_empty() {
                let link = *dice.pick(&links);
                host.learners.retain(|each| *each != link);
                host.leader = host.leader.filter(|each| *each != link);
                host.step(Input::LinkDown { link, reason: "gone".into() });
            }
        }
        _ => {
            let micros = [0, 1_000, 60_000, 400_000];
            host.wait(*dice.pick(&micros));
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    established: usize,
    after: usize,
    committed: usize,
    installed: usize,
    /// With an observer of its own that is up to date, at some time.
    masters: usize,
    steps: usize,
}

/// Many short lives: an honest beginning, then nonsense; then honesty again, which must be enough to serve.
fn lives(id: i64, leader: i64, count: u64) -> Counts {
    let corpus = Corpus::load();
    let mut counts = Counts::default();
    for seed in 0..count {
        let mut dice = Dice(seed);
        let mut host = Host::start(id);
        if seed % 4 != 3 {
            host.elect(leader); // The fourth is told nonsense from the beginning.
            begin_honestly(&mut host, leader, &corpus, &mut dice);
            counts.established += usize::from(host.peer.status().serving);
            host.client();
        }
        let mut is_master = false;
        for _ in 0..40 {
            hostile_step(&mut host, leader, &corpus, &mut dice);
            counts.steps += 1;
            is_master |= host.peer.status().master_of > Some(0);
        }
        counts.masters += usize::from(is_master);
        counts.committed += usize::from(host.peer.status().last_committed.counter() > 0);
        counts.installed += usize::from(host.snapshot.is_some());
        counts.after += usize::from(host.peer.status().serving && !host.ended);
    }
    counts
}

fn begin_honestly(host: &mut Host, leader: i64, corpus: &Corpus, dice: &mut Dice) {
    if leader == 3 && host.peer.status().state == PeerState::Leading {
        host.honest_follower();
    } else {
        // The tree of a snapshot may be odd, too.
        let snapshot = dice.one_in(3).then(|| odd_tree(corpus, dice));
        host.honest_leader(snapshot);
    }
}

#[test]
fn a_leader_survives_whatever_it_is_told() {
    let counts = lives(3, 3, 600);
    println!("leader: {counts:?}");
    assert!(counts.established > 400 && counts.committed > 200 && counts.after > 50, "{counts:?}");
}

#[test]
fn a_follower_survives_whatever_it_is_told() {
    let counts = lives(1, 2, 600);
    println!("follower: {counts:?}");
    assert!(counts.established > 300 && counts.committed > 200 && counts.installed > 50, "{counts:?}");
    assert!(counts.masters > 100, "{counts:?}");
}

#[test]
fn an_observer_survives_whatever_it_is_told() {
    let counts = lives(4, 2, 600);
    println!("observer: {counts:?}");
    assert!(counts.established > 300 && counts.committed > 200 && counts.installed > 50, "{counts:?}");
}

/// A later accepted epoch ends a leader's epoch only where it can be true.
#[test]
fn forged_epochs_end_no_epoch() {
    let mut host = Host::start(3);
    host.elect(3);
    host.honest_follower();
    let epoch = host.peer.status().epoch;
    assert!(host.peer.status().serving);
    let claims = [(1, epoch.0 + 1), (2, epoch.0 + 2_000_000), (2, i64::from(i32::MAX) - 1), (9, epoch.0 + 1)];
    for (server, accepted) in claims {
        let link = host.learner_link();
        let info = LearnerInfo { server: ServerId(server), protocol_version: PROTOCOL_VERSION, config_version: 0 };
        host.packet(Some(link), QuorumPacket::FollowerInfo { accepted_epoch: Epoch(accepted), info });
        assert!(host.peer.status().serving, "server {server} with epoch {accepted}");
        assert_eq!(host.peer.status().epoch, epoch);
    }
}

/// A port to which anybody may connect: who says nothing, or nothing that a learner says, takes no room, and no time of
/// those who do.
#[test]
fn strangers_at_the_quorum_port_are_bounded_and_let_learners_in() {
    let mut host = Host::start(3);
    for _ in 0..200 {
        let link = host.learner_link();
        let info = LearnerInfo { server: ServerId(2), protocol_version: PROTOCOL_VERSION, config_version: 0 };
        let request = QuorumPacket::FollowerInfo { accepted_epoch: Epoch(0), info };
        host.step(Input::Packets { link, packets: vec![request.clone(), request] });
        host.learner_link();
    }
    assert!(host.learners.len() <= 64, "{} strangers before it leads", host.learners.len());
    host.elect(3);
    host.honest_follower();
    assert_eq!(host.peer.status().state, PeerState::Leading);
    assert!(host.peer.status().serving);
    let follower = *host.learners.last().expect("it is linked");

    for _ in 0..200 {
        host.learner_link();
    }
    assert!(host.learners.len() <= 65, "{} strangers while it leads", host.learners.len());
    // A session's touch that no learner can send yet does not keep a link.
    let request = QuorumPacket::Revalidate { session: SessionId(1), timeout_ms: 1000 };
    for _ in 0..100 {
        for link in host.learners.clone() {
            let zxid = host.peer.status().last_logged;
            let packet = match link == follower {
                true => QuorumPacket::Ping { zxid, touched: None },
                false => request.clone(),
            };
            host.packet(Some(link), packet);
        }
        host.wait(50_000);
    }
    assert_eq!(host.learners, [follower], "who does not say who he is is sent away in the end");
    assert!(host.peer.status().serving);
}
