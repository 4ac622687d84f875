//! A host for scripts: whole servers in one thread, with nothing simulated but the order of events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use zabkit::jute::{Reader, Record};
use zabkit::peer::io::*;
use zabkit::peer::{
    Boot, CatchUpRules, Database, DirectoryLoader, Outbox, PeerConfig, PeerStatus, QuorumPeer, RoleRules, SessionRules,
    Settings,
};
use zabkit::records::*;
use zabkit::zab::LogWalk;

struct Server {
    peer: QuorumPeer,
    db: Database,
    /// Work that the disk has not done yet.
    disk: VecDeque<DiskOp>,
}

/// What survives a crash.
#[derive(Default)]
struct Directory {
    snapshot: Option<(Zxid, Vec<u8>)>,
    /// The digest that the snapshot tells.
    digest: Option<i64>,
    log: Vec<Proposal>,
    /// How often what a leader's snapshot replaced was to be kept.
    kept: usize,
    accepted: Epoch,
    current: Epoch,
    /// `zoo.cfg.dynamic.<version>` and `zoo.cfg.dynamic.next`.
    committed: Option<Configuration>,
    proposed: Option<Configuration>,
}

struct Client {
    server: ServerId,
    outbox: Arc<Outbox>,
    session: SessionId,
    last_zxid: Zxid,
    xid: i32,
    /// Content with a server in read-only mode.
    reads_only: bool,
    /// The connect request is answered.
    is_open: bool,
    closed: bool,
}

#[derive(Default)]
pub struct World {
    ids: Vec<ServerId>,
    observers: Vec<ServerId>,
    /// Lines of groups and weights, as in a configuration.
    quorum_lines: String,
    /// A single server is a member too, and not standalone.
    ensemble_of_one: bool,
    /// A tree was changed by hand.
    is_tampered: bool,
    /// Configurations can be changed, by anybody, down to one voter.
    reconfig: bool,
    rules: SessionRules,
    roles: RoleRules,
    catch_up: CatchUpRules,
    servers: BTreeMap<ServerId, Server>,
    directories: BTreeMap<ServerId, Directory>,
    held: BTreeSet<ServerId>,
    /// Servers that do not run (SIGSTOP), with what waits in their sockets.
    paused: BTreeMap<ServerId, VecDeque<Input>>,
    cut: BTreeSet<(ServerId, ServerId)>,
    /// Packets from one server to another that wait, to arrive all at once.
    held_links: BTreeMap<(ServerId, ServerId), Vec<(LinkId, QuorumPacket)>>,
    /// Both ends of a quorum link have the same id; learner, leader.
    links: BTreeMap<LinkId, (ServerId, ServerId)>,
    queue: VecDeque<(ServerId, Input)>,
    clients: BTreeMap<String, Client>,
    next_id: u64,
    micros: u64,
    shown: String,
    packets: Vec<String>,
}

impl World {
    /// Runs a script; returns what its `show` commands printed.
    pub fn run(script: &str) -> String {
        let mut world = World::default();
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            world.command(line);
        }
        world.shown
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let server = |word: &str| ServerId(word.parse().unwrap_or_else(|_| panic!("no server in {line:?}")));
        match *words.as_slice() {
            ["servers", ref ids @ ..] => self.ids = ids.iter().map(|id| server(id)).collect(),
            ["observers", ref ids @ ..] => self.observers = ids.iter().map(|id| server(id)).collect(),
            // As in a file: `group.1=1:2:3`, `weight.3=0`.
            ["quorum", text] => self.quorum_lines += &format!("{text}\n"),
            ["rule", "observer-masters"] => self.roles.observer_masters = true,
            ["rule", "leader-serves-not"] => self.roles.leader_serves = false,
            ["rule", "observers-log-not"] => self.roles.observer_logs = false,
            ["ensemble", "of", "one"] => self.ensemble_of_one = true,
            ["rule", "local"] => self.rules.local = true,
            ["rule", "upgrade"] => self.rules.upgrade = true,
            ["rule", "read-only"] => self.rules.read_only_after_ms = Some(2000),
            ["rule", "memory", count] => self.catch_up.recent_max = count.parse().unwrap(),
            ["rule", "hand", "over", "at", counter] => self.roles.hand_over_at = counter.parse().unwrap(),
            ["hand", "over", id] => self.queue.push_back((server(id), Input::HandOver)),
            ["tamper", id, path] => self.tamper(server(id), path),
            ["bend", id] => self.bend(server(id), false),
            ["bend", id, "sealed"] => self.bend(server(id), true),
            ["kept", id] => {
                let kept = self.directories[&server(id)].kept;
                self.shown += &format!("{id}: {kept} kept\n");
            }
            ["trees"] => self.compare_trees(),
            ["rule", "no", "log"] => self.catch_up.log_size_factor = None,
            ["rule", "snapshots", "only"] => self.catch_up.snapshots_only = true,
            ["start", "all"] => self
                .ids
                .iter()
                .chain(&self.observers)
                .copied()
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|id| self.start(id)),
            ["start", id] => self.start(server(id)),
            ["rule", "reconfig"] => (self.reconfig, self.ensemble_of_one) = (true, true),
            ["reconfig", name, ref changes @ ..] => self.reconfig(name, changes),
            ["config"] => self.show_configurations(),
            // Delivers so many inputs, or lets disks do so many things.
            ["run", n] => (0..n.parse::<u32>().unwrap()).for_each(|_| _ = self.deliver_one()),
            // One leads, all members of its configuration follow it in that configuration, and a write succeeds.
            ["agree"] => self.agree(),
            // Delivers until a packet of this kind has been sent.
            ["run", "until", packet] => self.run_until(packet),
            ["crash", id] => self.crash(server(id)),
            ["hold", "disk", id] => {
                self.held.insert(server(id));
            }
            ["release", "disk", id] => {
                self.held.remove(&server(id));
            }
            ["hold", "link", from, to] => _ = self.held_links.insert((server(from), server(to)), Vec::new()),
            ["release", "link", from, to] => self.release_link(server(from), server(to)),
            ["pause", id] => _ = self.paused.insert(server(id), VecDeque::new()),
            // Lets it handle only the first `n` of what waits for it; the rest comes at the next `run`.
            ["resume", id, n] => self.resume(server(id), n.parse().unwrap()),
            ["cut", a, b] => self.cut(server(a), server(b)),
            ["heal"] => self.cut.clear(),
            ["run"] => self.deliver(),
            ["wait", ms] => self.wait(ms.parse::<u64>().unwrap() * 1000),
            ["client", name, id] => self.connect(name, server(id), false),
            ["reader", name, id] => self.connect(name, server(id), true),
            ["move", name, id] => self.reconnect(name, name, server(id)),
            // Another connection for the session of `former`, which keeps its own.
            ["join", name, former, id] => self.reconnect(name, former, server(id)),
            ["guess", name, former, id] => self.guess(name, former, server(id)),
            ["create", name, path] => self.create(name, path, 0),
            ["ephemeral", name, path] => self.create(name, path, 1),
            ["close", name] => self.request(name, &Request::CloseSession),
            ["sync", name] => self.request(name, &Request::Sync(PathOnly { path: Some("/".into()) })),
            ["exists", name, path] => {
                self.request(name, &Request::Exists(PathWatch { path: Some(path.into()), watch: false }));
            }
            ["replies", name] => self.replies(name),
            ["packets", ref kinds @ ..] => {
                let wanted: Vec<String> =
                    self.packets.drain(..).filter(|packet| kinds.iter().any(|kind| packet.contains(kind))).collect();
                wanted.iter().for_each(|packet| self.shown += &format!("{packet}\n"));
            }
            ["ping", name] => self.request(name, &Request::Ping),
            ["show"] => self.show(),
            ["sessions"] => self.show_sessions(),
            ["say", ref text @ ..] => self.shown += &format!("# {}\n", text.join(" ")),
            _ => panic!("no command {line:?}"),
        }
    }

    /// Changes a node as no transaction has.
    fn tamper(&mut self, id: ServerId, path: &str) {
        self.is_tampered = true;
        let now = self.now();
        let db = &mut self.servers.get_mut(&id).unwrap().db;
        let body = TxnBody::SetData(SetDataTxn { path: path.into(), data: Some(b"bent".to_vec()), version: 77 });
        let (session, zxid) = (SessionId(0), db.last_processed());
        let proposal = Proposal::new(Txn { session, cxid: 0, zxid, time_ms: 0, body, digest: None });
        db.perform(now, [DbOp::Commit(proposal)], &mut Vec::new(), &mut Vec::new());
    }

    /// Changes the snapshot of a server that does not run; with `is_sealed` so that it tells the digest that it has.
    fn bend(&mut self, id: ServerId, is_sealed: bool) {
        self.is_tampered = true;
        let now = self.now();
        let directory = self.directories.get_mut(&id).unwrap();
        let (zxid, items) = match directory.snapshot.take() {
            Some((zxid, body)) => (zxid, body),
            None => (Zxid::ZERO, snapshot(&mut Database::new(DirectoryLoader::new().finish(Zxid::ZERO)), Zxid::ZERO)),
        };
        let log = std::mem::take(&mut directory.log);
        directory.snapshot = Some((zxid, items));
        let mut db = Database::new(self.load(id));
        let good = db.tree().digest();
        let body = TxnBody::SetData(SetDataTxn { path: "/".into(), data: Some(b"bent".to_vec()), version: 77 });
        let proposal = Proposal::new(Txn { session: SessionId(0), cxid: 0, zxid, time_ms: 0, body, digest: None });
        db.perform(now, [DbOp::Commit(proposal)], &mut Vec::new(), &mut Vec::new());
        let told = if is_sealed { db.tree().digest() } else { good };
        let directory = self.directories.get_mut(&id).unwrap();
        directory.snapshot = Some((zxid, snapshot(&mut db, zxid)));
        (directory.digest, directory.log) = (Some(told), log);
    }

    /// Whose tree is that of most servers.
    fn compare_trees(&mut self) {
        let digests: BTreeMap<ServerId, i64> =
            self.servers.iter().map(|(id, server)| (*id, server.db.tree().digest())).collect();
        let count = |digest: &i64| digests.values().filter(|other| *other == digest).count();
        for (id, digest) in &digests {
            let is_common = 2 * count(digest) > digests.len();
            self.shown += &format!("{id}: {}\n", if is_common { "the tree of most" } else { "another tree" });
        }
    }

    fn now(&self) -> Now {
        Now { micros: self.micros, wall_ms: 1_700_000_000_000 + (self.micros / 1000) as i64 }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn load(&self, id: ServerId) -> Loaded {
        let mut loader = DirectoryLoader::new();
        let mut last = Zxid::ZERO;
        let Some(directory) = self.directories.get(&id) else { return loader.finish(last) };
        if let Some((zxid, body)) = &directory.snapshot {
            last = *zxid;
            loader.begin();
            let (mut decoder, mut reader) = (SnapshotDecoder::default(), Reader::new(body));
            while let Some(item) = decoder.take(&mut reader, body.len()).unwrap() {
                loader.item(item).unwrap();
            }
            if let Some(digest) = directory.digest {
                loader.snapshot_digest(last, Some((Zxid::ZERO, digest)));
            }
        }
        for proposal in directory.log.iter().filter(|proposal| proposal.zxid() > last) {
            loader.txn((*proposal.txn).clone(), proposal.bytes.clone());
        }
        assert!(self.is_tampered || loader.digest_mismatches().is_empty(), "server {id}");
        let last = directory.log.last().map_or(last, Proposal::zxid).max(last);
        loader.finish(last)
    }

    /// As the file of `id` says. One that is in nobody else's is about to join.
    fn configuration(&self, id: ServerId) -> Configuration {
        let joins = !self.ids.contains(&id) && !self.observers.contains(&id);
        let mut configuration =
            Configuration::of_voters(self.ids.iter().chain(&self.observers).copied().chain(joins.then_some(id)));
        for observer in &self.observers {
            configuration.servers.get_mut(observer).unwrap().role = PeerType::Observer;
        }
        for line in self.quorum_lines.lines() {
            let (key, value) = line.split_once('=').unwrap();
            configuration.take(key, value).unwrap();
        }
        configuration.check().unwrap();
        configuration
    }

    fn start(&mut self, id: ServerId) {
        let (mut loaded, first) = (self.load(id), self.configuration(id));
        let directory = self.directories.entry(id).or_default();
        let boot = Boot {
            accepted_epoch: directory.accepted,
            current_epoch: directory.current,
            last_logged: loaded.last_zxid,
            recent: std::mem::take(&mut loaded.recent),
            replayed: 0,
        };
        let ensemble = directory.committed.clone().unwrap_or(first);
        let peer_type = ensemble.servers.get(&id).map_or(PeerType::Participant, |me| me.role);
        let my_id = (self.ids.len() > 1 || self.ensemble_of_one).then_some(id);
        let config = PeerConfig {
            last_seen: directory.proposed.clone(),
            reconfig_enabled: self.reconfig,
            peer_type,
            standalone_enabled: !self.reconfig,
            roles: self.roles,
            sessions: self.rules,
            snap_count: 1000,
            catch_up: self.catch_up,
            seed: id.0 as u64,
            ..PeerConfig::new(my_id, ensemble, 100)
        };
        let mut db = Database::new(loaded);
        if self.reconfig {
            let mut settings = Settings::default();
            (settings.nodes.reconfig, settings.auth.acl.skip) = (true, true);
            db.set_settings(settings);
        }
        let server = Server { peer: QuorumPeer::new(config, boot), db, disk: VecDeque::new() };
        self.servers.insert(id, server);
        let mut out = Effects::default();
        let server = self.servers.get_mut(&id).unwrap();
        server.peer.start(Now { micros: self.micros, wall_ms: 0 }, &server.db, &mut out);
        self.perform(id, out);
        // The election links of those who run are open now.
        let is_linked = |other: &ServerId| *other != id && !self.is_cut(id, *other);
        for other in self.servers.keys().copied().filter(is_linked).collect::<Vec<_>>() {
            self.queue.push_back((id, Input::ElectionLink { server: other, up: true }));
            self.queue.push_back((other, Input::ElectionLink { server: id, up: true }));
        }
    }

    fn crash(&mut self, id: ServerId) {
        self.servers.remove(&id);
        self.queue.retain(|(to, _)| *to != id);
        self.clients.values_mut().filter(|client| client.server == id).for_each(|client| client.closed = true);
        for other in self.servers.keys().copied().collect::<Vec<_>>() {
            self.queue.push_back((other, Input::ElectionLink { server: id, up: false }));
        }
        self.drop_links(|learner, leader| learner == id || leader == id);
    }

    fn resume(&mut self, id: ServerId, n: usize) {
        let waiting = self.paused.remove(&id).unwrap_or_default();
        for (at, input) in waiting.into_iter().enumerate() {
            if at < n {
                self.step(id, input);
            } else {
                self.queue.push_back((id, input));
            }
        }
    }

    fn release_link(&mut self, from: ServerId, to: ServerId) {
        let mut batches: BTreeMap<LinkId, Vec<QuorumPacket>> = BTreeMap::new();
        for (link, packet) in self.held_links.remove(&(from, to)).unwrap_or_default() {
            batches.entry(link).or_default().push(packet);
        }
        self.queue.extend(batches.into_iter().map(|(link, packets)| (to, Input::Packets { link, packets })));
    }

    /// Messages between the two are lost from now on, and neither is told.
    fn cut(&mut self, a: ServerId, b: ServerId) {
        self.cut.insert((a, b));
        self.cut.insert((b, a));
    }

    fn is_cut(&self, a: ServerId, b: ServerId) -> bool {
        self.cut.contains(&(a, b))
    }

    fn drop_links(&mut self, which: impl Fn(ServerId, ServerId) -> bool) {
        let gone: Vec<LinkId> = self.links.iter().filter(|(_, (a, b))| which(*a, *b)).map(|(link, _)| *link).collect();
        for link in gone {
            let Some((learner, leader)) = self.links.remove(&link) else { continue };
            for end in [learner, leader] {
                if self.servers.contains_key(&end) && !self.is_cut(learner, leader) {
                    self.queue.push_back((end, Input::LinkDown { link, reason: "closed".into() }));
                }
            }
        }
    }

    /// Delivers until nothing is left, at this instant.
    fn deliver(&mut self) {
        while self.deliver_one() {}
    }

    fn deliver_one(&mut self) -> bool {
        match self.queue.pop_front() {
            Some((to, input)) => self.step(to, input),
            None => return self.work_disks(),
        }
        true
    }

    /// Lets time pass, with all wake-ups.
    fn wait(&mut self, micros: u64) {
        let until = self.micros + micros;
        loop {
            self.deliver();
            let running = self.servers.iter().filter(|(id, _)| !self.paused.contains_key(id));
            let Some(at) = running.filter_map(|(_, server)| server.peer.next_wakeup()).min().filter(|at| *at <= until)
            else {
                break;
            };
            self.micros = self.micros.max(at);
            for id in self.servers.keys().copied().collect::<Vec<_>>() {
                self.step(id, Input::Wakeup);
            }
        }
        self.micros = until;
    }

    fn step(&mut self, id: ServerId, input: Input) {
        let now = self.now();
        if let Some(waiting) = self.paused.get_mut(&id) {
            if !matches!(input, Input::Wakeup) {
                waiting.push_back(input);
            }
            return;
        }
        let Some(server) = self.servers.get_mut(&id) else { return };
        let mut out = Effects::default();
        server.peer.step(now, input, &server.db, &mut out);
        self.perform(id, out);
    }

    fn perform(&mut self, id: ServerId, out: Effects) {
        let now = self.now();
        if let Some(members) = out.members {
            let directory = self.directories.get_mut(&id).unwrap();
            (directory.committed, directory.proposed) = (Some(members.committed), members.last_seen);
        }
        let server = self.servers.get_mut(&id).unwrap();
        let (mut dirty, mut notes) = (Vec::new(), Vec::new());
        server.db.perform(now, out.db, &mut dirty, &mut notes);
        let is_known = |note: &Note| matches!(note, Note::DigestMismatch { .. });
        assert!(self.is_tampered || !notes.iter().any(is_known), "server {id}: {notes:?}");
        for mut op in out.disk {
            if let DiskOp::TakeSnapshot { zxid, install: true, .. } = &mut op {
                let body = snapshot(&mut server.db, *zxid);
                self.directories.get_mut(&id).unwrap().snapshot = Some((*zxid, body));
            }
            server.disk.push_back(op);
        }
        // ZABKIT_TRACE=1 tells what happens, for a script that does not do what it should.
        if std::env::var_os("ZABKIT_TRACE").is_some() {
            out.notes.iter().for_each(|note| eprintln!("{} {id}: {note}", self.micros));
        }
        for op in out.links {
            self.link_op(id, op);
        }
        for (to, notification) in out.election {
            if self.servers.contains_key(&to) && !self.is_cut(id, to) {
                self.queue.push_back((to, Input::Notification { from: id, notification }));
            }
        }
        assert_eq!(out.end, None, "server {id}");
    }

    fn link_op(&mut self, id: ServerId, op: LinkOp) {
        match op {
            LinkOp::Connect { leader } => self.dial(id, leader, |link| Input::LearnerLinkUp { link }),
            LinkOp::ConnectMaster { server } => self.dial(id, server, |link| Input::ObserverLinkUp { link }),
            LinkOp::Send { link, packet } => {
                let Some(to) = self.other_end(id, link) else { return };
                let mut bytes = Vec::new();
                packet.write(&mut bytes);
                let from_leader = self.links[&link].1 == id;
                let packet = QuorumPacket::take(&mut Reader::new(&bytes), from_leader).unwrap().unwrap();
                self.packets.push(format!("{id}->{to} {}", packet.name()));
                match self.held_links.get_mut(&(id, to)) {
                    Some(held) => held.push((link, packet)),
                    None => self.queue.push_back((to, Input::Packets { link, packets: vec![packet] })),
                }
            }
            LinkOp::StreamSnapshot { link, zxid } => {
                let body = snapshot(&mut self.servers.get_mut(&id).unwrap().db, zxid);
                let Some(to) = self.other_end(id, link) else { return };
                let (mut decoder, mut reader, mut items) = (SnapshotDecoder::default(), Reader::new(&body), Vec::new());
                while let Some(item) = decoder.take(&mut reader, body.len()).unwrap() {
                    items.push(item);
                }
                self.queue.push_back((to, Input::SnapshotItems { link, items, end: true }));
            }
            LinkOp::StreamLog { link, after, up_to } => {
                let log = self.directories[&id].log.clone();
                for proposal in log.into_iter().filter(|of| after < of.zxid() && of.zxid() <= up_to) {
                    self.packets.push(format!("{id} reads {} from its log", proposal.zxid()));
                    self.link_op(id, LinkOp::StreamProposals { link, proposals: vec![proposal] });
                }
            }
            LinkOp::StreamProposals { link, proposals } => {
                for packet in proposals.iter().flat_map(Proposal::packets) {
                    self.link_op(id, LinkOp::Send { link, packet });
                }
            }
            LinkOp::Close { link } => self.drop_links_of(id, link),
        }
    }

    fn dial(&mut self, id: ServerId, leader: ServerId, up: fn(LinkId) -> Input) {
        if self.servers.contains_key(&leader) && !self.is_cut(id, leader) {
            let link = LinkId(self.new_id());
            self.links.insert(link, (id, leader));
            self.queue.push_back((leader, up(link)));
            self.queue.push_back((id, Input::LeaderLinkUp { link, leader }));
        } else {
            self.queue.push_back((id, Input::LeaderLinkFailed { leader }));
        }
    }

    fn drop_links_of(&mut self, id: ServerId, link: LinkId) {
        let to = self.other_end(id, link);
        self.links.remove(&link);
        if let Some(to) = to {
            self.queue.push_back((to, Input::LinkDown { link, reason: "closed by the other side".into() }));
        }
    }

    fn other_end(&self, id: ServerId, link: LinkId) -> Option<ServerId> {
        let (learner, leader) = *self.links.get(&link)?;
        let to = if learner == id { leader } else { learner };
        (self.servers.contains_key(&to) && !self.is_cut(id, to)).then_some(to)
    }

    /// Each disk that is not held does one thing; whether any did.
    fn work_disks(&mut self) -> bool {
        let ready: Vec<ServerId> = self
            .servers
            .iter()
            .filter(|(id, server)| !self.held.contains(id) && !server.disk.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for id in &ready {
            let op = self.servers.get_mut(id).unwrap().disk.pop_front().unwrap();
            let answer = self.disk_op(*id, op);
            self.queue.extend(answer.map(|answer| (*id, answer)));
        }
        !ready.is_empty()
    }

    fn disk_op(&mut self, id: ServerId, op: DiskOp) -> Option<Input> {
        let directory = self.directories.get_mut(&id).unwrap();
        Some(match op {
            DiskOp::Append { generation, proposals } => {
                directory.log.extend(proposals);
                Input::Flushed { generation, up_to: directory.log.last().unwrap().zxid() }
            }
            DiskOp::Drain { generation } => Input::Drained { generation },
            DiskOp::SaveAcceptedEpoch { generation, epoch } => {
                directory.accepted = epoch;
                Input::AcceptedEpochSaved { generation, epoch }
            }
            DiskOp::SaveCurrentEpoch { generation, epoch } => {
                directory.current = epoch;
                Input::CurrentEpochSaved { generation, epoch }
            }
            DiskOp::Truncate { generation, to } => {
                directory.log.retain(|proposal| proposal.zxid() <= to);
                Input::Truncated { generation, loaded: Box::new(self.load(id)) }
            }
            DiskOp::Reload { generation } => Input::Truncated { generation, loaded: Box::new(self.load(id)) },
            DiskOp::SearchLog { generation, link, peer, up_to, .. } => {
                let mut walk = LogWalk::new(peer, up_to);
                directory.log.iter().take_while(|proposal| walk.step(proposal.zxid(), true)).count();
                Input::LogSearched { generation, link, place: walk.finish() }
            }
            DiskOp::TakeSnapshot { generation, zxid, install, keeps } => {
                if install {
                    directory.digest = None;
                    directory.kept += usize::from(keeps);
                    directory.log.clear();
                }
                Input::SnapshotSaved { generation, zxid, install }
            }
        })
    }

    // ----- Clients -----

    fn connect(&mut self, name: &str, server: ServerId, reads_only: bool) {
        self.open(name, server, SessionId(0), vec![0; 16], Zxid::ZERO, reads_only);
    }

    fn reconnect(&mut self, name: &str, former: &str, server: ServerId) {
        let &Client { session, last_zxid, reads_only, .. } = &self.clients[former];
        self.open(name, server, session, session_password(session).to_vec(), last_zxid, reads_only);
    }

    /// Asks for the session of `former` with a password that is not its own.
    fn guess(&mut self, name: &str, former: &str, server: ServerId) {
        let session = self.clients[former].session;
        self.open(name, server, session, vec![1; 16], Zxid::ZERO, false);
    }

    fn open(
        &mut self,
        name: &str,
        server: ServerId,
        session: SessionId,
        password: Vec<u8>,
        last_zxid_seen: Zxid,
        reads_only: bool,
    ) {
        let conn = ConnId(self.new_id());
        let outbox = Outbox::new(conn, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen,
            timeout_ms: 1000,
            session,
            password: Some(password),
            read_only: Some(reads_only),
        };
        let now = self.now();
        let db = &self.servers[&server].db;
        db.attach(outbox.clone());
        let asked = db.connect(&outbox, &request.to_bytes(), now);
        let (last_zxid, closed) = (last_zxid_seen, asked.is_none());
        let client = Client { server, outbox, session, last_zxid, xid: 0, reads_only, is_open: false, closed };
        self.clients.insert(name.into(), client);
        if let Some(request) = asked {
            self.step(server, Input::Connect { conn, request });
        }
        self.deliver();
        let mut bytes = Vec::new();
        let client = self.clients.get_mut(name).unwrap();
        client.closed |= client.outbox.take(&mut bytes);
        match bytes.get(4..) {
            Some(answer) => self.on_connect_response(name, answer),
            None if self.clients[name].closed => self.shown += &format!("{name}: closed without an answer\n"),
            None => self.shown += &format!("{name}: no answer yet\n"),
        }
    }

    fn on_connect_response(&mut self, name: &str, frame: &[u8]) {
        let client = self.clients.get_mut(name).unwrap();
        client.is_open = true;
        match ConnectResponse::from_bytes(frame).unwrap() {
            ConnectResponse { timeout_ms: 0, .. } => self.shown += &format!("{name}: session refused\n"),
            answer => {
                client.session = answer.session;
                if answer.read_only == Some(true) {
                    self.shown += &format!("{name}: may read only\n");
                }
            }
        }
    }

    fn create(&mut self, name: &str, path: &str, flags: i32) {
        let acl = Some(vec![RequestAcl::from(&Acl::open())]);
        let body = CreateRequest { path: Some(path.into()), data: Some(b"data".to_vec()), acl, flags };
        self.request(name, &Request::Create(body));
    }

    /// `+4` joins and votes, `+4:observer` joins and does not, `-1` leaves.
    fn reconfig(&mut self, name: &str, changes: &[&str]) {
        let (mut joining, mut leaving) = (Vec::new(), Vec::new());
        for change in changes {
            if let Some(id) = change.strip_prefix('-') {
                leaving.push(id);
                continue;
            }
            let change = change.trim_start_matches('+');
            let (id, role) = change.split_once(':').unwrap_or((change, "participant"));
            let n: u16 = id.parse().unwrap();
            joining.push(format!("server.{id}=127.0.0.1:{}:{}:{role};{}", 20_000 + n, 30_000 + n, 40_000 + n));
        }
        let (joining, leaving) = (Some(joining.join(",")), Some(leaving.join(",")));
        let request = ReconfigRequest { joining, leaving, new_members: None, current_config: -1 };
        self.request(name, &Request::Reconfig(request));
    }

    fn show_configurations(&mut self) {
        let ids = |ids: BTreeSet<ServerId>| ids.iter().map(ServerId::to_string).collect::<Vec<_>>().join(",");
        for (id, directory) in &self.directories {
            let Some(committed) = &directory.committed else { continue };
            self.shown += &format!("{id} version={:x} voters={}", committed.version, ids(committed.voters()));
            if !committed.observers().is_empty() {
                self.shown += &format!(" observers={}", ids(committed.observers()));
            }
            if let Some(proposed) = &directory.proposed {
                self.shown += &format!(" next={:x}", proposed.version);
            }
            let server = self.servers.get(id);
            let node = server.and_then(|server| server.db.tree().get("/zookeeper/config")?.data().map(<[u8]>::to_vec));
            if node.is_some_and(|data| data != committed.to_string().as_bytes()) {
                self.shown += " (its znode says another)";
            }
            self.shown += "\n";
        }
    }

    fn agree(&mut self) {
        let is_leading = |server: &Server| server.peer.status().state == PeerState::Leading;
        let leaders: Vec<ServerId> =
            self.servers.iter().filter(|(_, server)| is_leading(server)).map(|(id, _)| *id).collect();
        let &[leader] = &leaders[..] else { return self.shown += &format!("led by {leaders:?}\n") };
        let configuration = self.directories[&leader].committed.clone().unwrap();
        let ids: Vec<String> = configuration.voters().iter().map(ServerId::to_string).collect();
        for id in configuration.servers.keys() {
            let Some(server) = self.servers.get(id) else { continue };
            let status = server.peer.status();
            if !status.serving || status.leader != Some(leader) {
                self.shown += &format!("{id} is apart: {status:?}\n");
            }
            let known = self.directories[id].committed.as_ref().unwrap();
            if *known != configuration || self.directories[id].proposed.is_some() {
                self.shown += &format!("{id} goes by version {:x}\n", known.version);
            }
        }
        self.connect("agreed", leader, false);
        self.create("agreed", "/agreed", 0);
        self.deliver();
        let shown = std::mem::take(&mut self.shown);
        self.replies("agreed");
        let answer = std::mem::replace(&mut self.shown, shown);
        let is_fine = answer.ends_with(" ok\n") || answer.ends_with(" NodeExists\n");
        self.shown += &format!("voters={} {}\n", ids.join(","), if is_fine { "writes" } else { &answer });
    }

    fn run_until(&mut self, packet: &str) {
        self.packets.clear();
        while !self.packets.iter().any(|sent| sent.contains(packet)) {
            assert!(self.deliver_one(), "no {packet} is sent");
        }
    }

    fn request(&mut self, name: &str, request: &Request) {
        let now = self.now();
        let client = self.clients.get_mut(name).unwrap();
        client.xid += 1;
        let mut frame = RequestHeader { xid: client.xid, op: request.op() }.to_bytes();
        request.write(&mut frame);
        let (server, outbox) = (client.server, client.outbox.clone());
        let Some(host) = self.servers.get(&server).filter(|_| !client.closed) else {
            self.shown += &format!("{name}: not connected\n");
            return;
        };
        let mut forward = Vec::new();
        host.db.submit(&outbox, &[&frame], now, &mut forward);
        if !forward.is_empty() {
            self.step(server, Input::Requests(forward));
        }
    }

    fn replies(&mut self, name: &str) {
        let client = self.clients.get_mut(name).unwrap();
        let mut bytes = Vec::new();
        let closing = client.outbox.take(&mut bytes);
        let mut reader = Reader::new(&bytes);
        while let Ok(Some(frame)) = reader.buffer() {
            if !self.clients[name].is_open {
                self.on_connect_response(name, frame);
                continue;
            }
            let header = ReplyHeader::from_bytes(frame).unwrap();
            let client = self.clients.get_mut(name).unwrap();
            client.last_zxid = client.last_zxid.max(header.zxid);
            let error = ErrorCode::from_code(header.err).map_or("ok".into(), |error| format!("{error:?}"));
            self.shown += &format!("{name}: {} {} {error}\n", header.xid, header.zxid);
        }
        let client = self.clients.get_mut(name).unwrap();
        client.closed |= closing;
        if client.closed {
            self.shown += &format!("{name}: closed\n");
        }
    }

    fn show_sessions(&mut self) {
        for (id, server) in &self.servers {
            let (of_all, local) = (server.db.sessions().len(), server.db.local_sessions().len());
            self.shown += &format!("{id} sessions={of_all} local={local}\n");
        }
    }

    fn show(&mut self) {
        for (id, server) in &self.servers {
            let status = server.peer.status();
            let leader = status.leader.map_or("-".into(), |leader| leader.to_string());
            let children: Vec<String> = server.db.tree().get("/").unwrap().children().map(str::to_owned).collect();
            let mut children: Vec<&str> =
                children.iter().map(String::as_str).filter(|name| *name != "zookeeper").collect();
            children.sort_unstable();
            let state = format!("{:?}", status.state).to_uppercase();
            let serving = match status {
                PeerStatus { serving: true, .. } => "serving",
                PeerStatus { read_only: true, .. } => "read-only",
                _ => "-",
            };
            self.shown += &format!(
                "{id} {state} leader={leader} epoch={} {serving} last={} tree={}\n",
                status.epoch,
                server.db.last_processed(),
                children.join(","),
            );
        }
    }
}

fn snapshot(db: &mut Database, zxid: Zxid) -> Vec<u8> {
    assert_eq!(db.last_processed(), zxid, "a snapshot of another zxid was asked for");
    let cursor = db.begin_snapshot().expect("a free cursor");
    let mut body = Vec::new();
    while !db.next_chunk(cursor, 1 << 16, &mut body) {}
    db.end_snapshot(cursor);
    body
}
