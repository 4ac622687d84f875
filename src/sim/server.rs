//! One simulated server: the real `QuorumPeer`, `Database` and `Storage`, and a host around them that performs the
//! effects in the stated order, on simulated links and a simulated disk.
//!
//! The core takes one input an event, from one queue, as the core thread of the tokio host does. Connections answer
//! reads between two inputs.

use super::checkers::Seen;
use super::config_files;
use super::disk_queue::DiskQueue;
use super::disk_queue::Recovery;
use super::election_links::ElectionLinks;
use super::ensemble::Shape;
use super::forged_acks::ForgedAcks;
use super::links::{Links, LogStream};
use super::network::{Delivery, Host, Port, Socket};
use super::planted::Planted;
use super::steps::Step;
use super::world::{Ctx, Event, Machine};
use crate::jute::Reader;
use crate::peer::io::{ClientRequest, ConnId, DbOp, Effects, Input, LinkId, LinkOp, Members, Note, Proposal};
use crate::peer::{Boot, ConnPhase, Database, NodeSettings, Outbox, PeerConfig, QuorumPeer, Settings};
use crate::records::{ForwardedBody, PeerState, PeerType, QuorumPacket, Request, ServerId, Zxid};
use crate::storage::StorageConfig;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Something that a process has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// The core takes its next input.
    Core,
    Wakeup,
    /// The disk's current piece of work is done.
    Disk,
    /// The next chunk of the periodic snapshot.
    Snapshot,
    /// The next chunk of a SNAP stream.
    Stream(LinkId),
    /// Try to reach this server's election port again.
    Dial(ServerId),
    /// What arrived while the process was stopped.
    Resume,
}

/// How all servers of a run are set up.
#[derive(Clone, Debug)]
pub struct ServerSetup {
    pub shape: Shape,
    pub peer: PeerConfig,
    pub storage: StorageConfig,
    /// A deliberate bug of the host.
    pub planted: Option<Planted>,
    /// Mean time of a sync, in microseconds.
    pub sync_micros: u64,
    /// Bytes of a snapshot between two events.
    pub chunk_bytes: usize,
    /// Mean time between two chunks, in microseconds.
    pub chunk_micros: u64,
}

/// How a process came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// By its own decision, for this reason.
    Ended(String),
    /// `kill -9`: the kernel keeps the pages, and closes the sockets.
    Killed,
    /// The machine is gone: pages that were not synced too, and nobody is told.
    PowerCut,
}

/// A running server.
pub struct Process {
    pub id: ServerId,
    host: Host,
    incarnation: u64,
    peer: QuorumPeer,
    db: Database,
    disk: DiskQueue,
    links: Links,
    election: ElectionLinks,
    clients: BTreeMap<Socket, ClientConn>,
    by_conn: BTreeMap<ConnId, Socket>,
    last_conn: u64,
    inbox: VecDeque<Input>,
    planted: Option<Planted>,
    /// The version of the list that the files have.
    written: Zxid,
    forged: ForgedAcks,
    core_asked: bool,
    wakeup_asked: Option<u64>,
    backlog: VecDeque<(Socket, Delivery)>,
    /// By how much the machine's wall clock is wrong.
    pub wall_offset_ms: i64,
    /// Set when the process must end.
    pub down: Option<Down>,
}

struct ClientConn {
    outbox: Arc<Outbox>,
    /// Bytes of frames not handled yet.
    received: Vec<u8>,
    frames: VecDeque<Vec<u8>>,
    asked: bool,
}

impl Process {
    /// Recovers from the disk and begins.
    pub fn start(machine: &Machine, host: Host, setup: &ServerSetup, ctx: &mut Ctx) -> Result<Process, String> {
        let Recovery { queue: disk, mut loaded, recovered } = DiskQueue::open(machine, setup, ctx)?;
        let mut config = setup.peer.clone();
        config.my_id = Some(machine.id);
        config.ensemble = match setup.shape.reconfigures {
            true => config_files::committed(&machine.disk).ok_or("its list is gone")?,
            false => setup.shape.as_known_by(machine.id),
        };
        ctx.checkers.on_configuration(machine.id, config.ensemble.version);
        config.peer_type = config.ensemble.servers.get(&machine.id).map_or(PeerType::Participant, |me| me.role);
        config.seed ^= (machine.id.0 as u64) << 32 | machine.incarnation;
        let boot = Boot {
            accepted_epoch: recovered.accepted_epoch,
            current_epoch: recovered.current_epoch,
            last_logged: recovered.last_zxid,
            recent: std::mem::take(&mut loaded.recent),
            replayed: if recovered.needs_snapshot { 0 } else { recovered.txns.try_into().unwrap_or(u32::MAX) },
        };
        let mut db = Database::new(loaded);
        let nodes = NodeSettings { extended_types: true, ..NodeSettings::default() };
        let nodes = NodeSettings { reconfig: setup.shape.reconfigures, ..nodes };
        let mut settings = Settings { nodes, ..Settings::default() };
        // The list may be changed by whoever asks.
        settings.auth.acl.skip = setup.shape.reconfigures;
        db.set_settings(settings);
        if setup.shape.reconfigures {
            config.last_seen = config_files::proposed(&machine.disk, &config.ensemble);
        }
        let members = Members { committed: config.ensemble.clone(), last_seen: config.last_seen.clone() };
        let mut process = Process {
            id: machine.id,
            host,
            incarnation: machine.incarnation,
            peer: QuorumPeer::new(config, boot),
            db,
            disk,
            links: Links::default(),
            election: ElectionLinks::new(machine.id, setup.shape.servers()),
            clients: BTreeMap::new(),
            by_conn: BTreeMap::new(),
            last_conn: 0,
            inbox: VecDeque::new(),
            planted: setup.planted,
            written: Zxid(members.committed.version),
            forged: ForgedAcks::new(setup.planted, machine.id, members),
            core_asked: false,
            wakeup_asked: None,
            backlog: VecDeque::new(),
            wall_offset_ms: machine.wall_offset_ms,
            down: None,
        };
        process.disk.first_snapshot(&mut process.db, recovered.needs_snapshot)?;
        let mut out = Effects::default();
        process.peer.start(ctx.clock(machine.wall_offset_ms), &process.db, &mut out);
        process.perform(out, ctx);
        Ok(process)
    }

    /// Snapshots and SNAP streams that are being written.
    pub fn under_way(&self) -> (u64, u64) {
        (self.disk.snapshots_under_way(), self.links.streams_under_way())
    }

    pub fn db(&self) -> &Database {
        &self.db
    }

    pub fn on_event(&mut self, event: ServerEvent, ctx: &mut Ctx) {
        match event {
            ServerEvent::Core => {
                self.core_asked = false;
                if let Some(input) = self.inbox.pop_front() {
                    self.step(input, ctx);
                }
                self.ask_core(ctx);
            }
            ServerEvent::Wakeup => {
                if self.wakeup_asked.is_some_and(|at| at <= ctx.now()) {
                    self.wakeup_asked = None;
                }
                if self.peer.next_wakeup().is_some_and(|at| at <= ctx.now()) {
                    self.step(Input::Wakeup, ctx);
                }
                self.ask_wakeup(ctx);
            }
            ServerEvent::Disk => {
                let result = self.disk.on_done(&mut self.db, self.id, &mut self.inbox, ctx);
                self.disk_result(result, ServerEvent::Disk, ctx);
            }
            ServerEvent::Snapshot => {
                let result = self.disk.on_snapshot_chunk(&mut self.db, &mut self.inbox, ctx);
                self.disk_result(result, ServerEvent::Snapshot, ctx);
            }
            ServerEvent::Stream(link) => {
                match self.links.on_stream_chunk(link, &mut self.db, self.disk.chunk_bytes(), ctx) {
                    Ok(true) => {
                        let after = 1 + self.disk.chunk_time(ctx);
                        self.ask(after, ServerEvent::Stream(link), ctx);
                    }
                    Ok(false) => {}
                    // What it needed has been purged: the learner comes again, and gets a snapshot.
                    Err(_) => {
                        self.links.close(link, &mut self.db, ctx);
                        self.push(Input::LinkDown { link, reason: "its part of the log is gone".into() }, ctx);
                    }
                }
            }
            ServerEvent::Dial(server) => self.election.dial(self.host, server, ctx),
            ServerEvent::Resume => {
                while let Some((socket, delivery)) = self.backlog.pop_front() {
                    self.on_net(socket, delivery, ctx);
                }
            }
        }
    }

    /// Keeps what arrives while the process is stopped.
    pub fn keep_for_later(&mut self, socket: Socket, delivery: Delivery) {
        self.backlog.push_back((socket, delivery));
    }

    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    fn disk_result(&mut self, result: Result<Option<u64>, String>, event: ServerEvent, ctx: &mut Ctx) {
        match result {
            Ok(None) => {}
            Ok(Some(after)) => self.ask(after, event, ctx),
            Err(reason) => self.disk_failed(reason),
        }
        self.run_disk(ctx);
        self.ask_core(ctx);
    }

    fn disk_failed(&mut self, reason: String) {
        self.down = Some(if self.disk.is_power_cut() { Down::PowerCut } else { Down::Ended(reason) });
    }

    fn ask(&self, after: u64, event: ServerEvent, ctx: &mut Ctx) {
        let (host, incarnation) = (self.host, self.incarnation);
        ctx.sched.after(after, Event::Server { host, incarnation, event });
    }

    fn push(&mut self, input: Input, ctx: &mut Ctx) {
        self.inbox.push_back(input);
        self.ask_core(ctx);
    }

    fn ask_core(&mut self, ctx: &mut Ctx) {
        if !self.core_asked && !self.inbox.is_empty() {
            self.core_asked = true;
            let after = if ctx.rng.one_in(50) { ctx.rng.below(500) } else { 1 + ctx.rng.below(20) };
            self.ask(after, ServerEvent::Core, ctx);
        }
    }

    fn ask_wakeup(&mut self, ctx: &mut Ctx) {
        let Some(at) = self.peer.next_wakeup() else {
            return;
        };
        if self.wakeup_asked.is_none_or(|asked| at < asked) {
            self.wakeup_asked = Some(at);
            self.ask(at.saturating_sub(ctx.now()), ServerEvent::Wakeup, ctx);
        }
    }

    /// The operator wants another leader.
    pub fn hand_over(&mut self, ctx: &mut Ctx) {
        self.push(Input::HandOver, ctx);
    }

    // ----- The core and its effects -----

    fn step(&mut self, input: Input, ctx: &mut Ctx) {
        ctx.trace.line(|| format!("server {}: {}", self.id, brief(&input)));
        let input = match self.planted {
            Some(Planted::SyncWithoutQuorum) if self.peer.status().state == PeerState::Leading => {
                self.answer_syncs(input, ctx)
            }
            _ => input,
        };
        self.step_of_input(&input, ctx);
        if self.down.is_some() {
            return;
        }
        for forged in self.forged.before(&input) {
            self.give(forged, ctx);
        }
        self.give(input, ctx);
    }

    fn give(&mut self, input: Input, ctx: &mut Ctx) {
        if self.down.is_some() {
            return;
        }
        let mut out = Effects::default();
        self.peer.step(ctx.clock(self.wall_offset_ms), input, &self.db, &mut out);
        self.perform(out, ctx);
        self.ask_wakeup(ctx);
    }

    /// A planted bug: syncs for the leader never reach it, and are answered at once. What is left of the input.
    fn answer_syncs(&mut self, mut input: Input, ctx: &mut Ctx) -> Input {
        let is_sync = |body: &ForwardedBody| matches!(body, ForwardedBody::Request(Request::Sync(_)));
        let mut out = Effects::default();
        match &mut input {
            Input::Requests(requests) => requests.retain(|request| {
                if is_sync(&request.body) {
                    out.db.push(DbOp::SyncDone { conn: request.conn, xid: request.xid });
                }
                !is_sync(&request.body)
            }),
            Input::Packets { link, packets } => packets.retain(|packet| match packet {
                QuorumPacket::Request(request) if is_sync(&request.body) => {
                    out.send(*link, QuorumPacket::Sync { zxid: Zxid::ZERO });
                    false
                }
                _ => true,
            }),
            _ => {}
        }
        self.perform(out, ctx);
        input
    }

    /// First the database, then disk, links and election; all of it before the next input.
    fn perform(&mut self, out: Effects, ctx: &mut Ctx) {
        let Effects { db, disk, links, election, notes, end, members } = out;
        notes.iter().for_each(|note| self.on_note(note, ctx));
        if self.down.is_some() {
            return;
        }
        if let Some(members) = members.as_ref().filter(|members| members.is_kept_first()) {
            self.keep_list(members, ctx);
            if self.down.is_some() {
                return;
            }
        }
        let (mut dirty, mut said) = (Vec::new(), Vec::new());
        for op in db {
            let seen = Seen::from(&op);
            if matches!(op, DbOp::Install(_)) {
                self.abort_cursors(ctx);
            }
            self.db.perform(ctx.clock(self.wall_offset_ms), [op], &mut dirty, &mut said);
            ctx.checkers.on_db_op(self.id, &seen, &self.db);
        }
        said.iter().for_each(|note| self.on_note(note, ctx));
        for outbox in dirty {
            self.flush(outbox.conn(), ctx);
        }
        for op in disk {
            if let Err(reason) = self.disk.enqueue(op, &mut self.db, &mut self.inbox, ctx) {
                self.disk_failed(reason);
            }
        }
        self.run_disk(ctx);
        if self.down.is_some() {
            return; // Nobody hears of what is not on its disk.
        }
        if let Some(members) = &members {
            self.election.set_members(members);
            self.forged.on_members(members);
        }
        for op in links {
            self.perform_link(op, ctx);
            if self.down.is_some() {
                return;
            }
        }
        for (to, notification) in election {
            self.election.send(self.host, to, notification, ctx);
        }
        if let Some(members) = members.filter(|members| !members.is_kept_first()) {
            self.keep_list(&members, ctx);
            if self.down.is_some() {
                return;
            }
        }
        if let Some(end) = end {
            self.down = Some(Down::Ended(format!("exit code {}: {}", end.code, end.reason)));
        }
        self.ask_wakeup(ctx);
        self.ask_core(ctx);
    }

    fn keep_list(&mut self, members: &Members, ctx: &mut Ctx) {
        ctx.checkers.on_list(self.id, members);
        if let Err(reason) = self.disk.keep_list(members, ctx) {
            return self.disk_failed(reason);
        }
        let written = Zxid(members.committed.version);
        if self.written != written {
            self.written = written;
            self.at_step(Step::Written, written, ctx);
        }
    }

    fn on_note(&mut self, note: &Note, ctx: &mut Ctx) {
        ctx.trace.line(|| format!("server {}: * {note}", self.id));
        ctx.counts.on_note(note);
        ctx.checkers.on_note(self.id, note);
        let leads = self.peer.is_leading();
        match note {
            Note::ConfigurationProposed { version } if leads => self.at_step(Step::Made, Zxid(*version), ctx),
            Note::ConfigurationActivated { configuration } => {
                let step = if leads { Step::Committed } else { Step::Activated };
                self.at_step(step, Zxid(configuration.version), ctx);
            }
            _ => {}
        }
    }

    /// A step of a reconfiguration: perhaps the server's last.
    fn at_step(&mut self, step: Step, zxid: Zxid, ctx: &mut Ctx) {
        if self.down.is_none() {
            self.down = ctx.at_step(step, self.id, zxid);
            if self.down.is_some() {
                ctx.checkers.on_interrupted(self.id);
            }
        }
    }

    /// The input may be a step of the reconfiguration that is watched.
    fn step_of_input(&mut self, input: &Input, ctx: &mut Ctx) {
        let Some(zxid) = ctx.trap.as_ref().and_then(|trap| trap.zxid) else { return };
        match input {
            Input::Flushed { up_to, .. } if *up_to >= zxid => self.at_step(Step::Logged, zxid, ctx),
            Input::Packets { packets, .. } => {
                let is_ack =
                    |packet: &QuorumPacket| matches!(packet, QuorumPacket::Ack { zxid: acked } if *acked >= zxid);
                if packets.iter().any(is_ack) {
                    self.at_step(Step::Acknowledged, zxid, ctx);
                }
            }
            _ => {}
        }
    }

    /// The tree is about to be replaced: what walks it cannot go on.
    fn abort_cursors(&mut self, ctx: &mut Ctx) {
        self.disk.abort_snapshot(&mut self.db, &mut self.inbox, ctx);
        for (link, socket) in self.links.abort_streams(&mut self.db, ctx) {
            ctx.close(socket);
            self.push(Input::LinkDown { link, reason: "its snapshot is gone".into() }, ctx);
        }
    }

    fn run_disk(&mut self, ctx: &mut Ctx) {
        if self.down.is_some() {
            return;
        }
        match self.disk.run(self.id, &mut self.inbox, ctx) {
            Ok(asked) => asked.into_iter().for_each(|(after, event)| self.ask(after, event, ctx)),
            Err(reason) => self.disk_failed(reason),
        }
    }

    fn perform_link(&mut self, op: LinkOp, ctx: &mut Ctx) {
        ctx.checkers.on_link_op(self.id, &op);
        match op {
            LinkOp::Connect { leader } => {
                let to = (leader.0 - 1) as Host;
                let socket = ctx.connect(self.host, to, Port::Quorum);
                self.links.dialed(socket, leader);
            }
            LinkOp::ConnectMaster { server } => {
                let to = (server.0 - 1) as Host;
                let socket = ctx.connect(self.host, to, Port::ObserverMaster);
                self.links.dialed(socket, server);
            }
            LinkOp::Send { link, packet } => {
                let step = match &packet {
                    QuorumPacket::Proposal { zxid, .. } => Some((Step::Proposing, *zxid)),
                    QuorumPacket::CommitAndActivate { zxid, .. } | QuorumPacket::InformAndActivate { zxid, .. } => {
                        Some((Step::Telling, *zxid))
                    }
                    _ => None,
                };
                if let Some((step, zxid)) = step {
                    self.at_step(step, zxid, ctx); // Before it is sent.
                }
                if self.down.is_some() {
                    return;
                }
                if is_of_synchronisation(&packet)
                    && let Some(socket) = self.links.socket(link)
                {
                    ctx.packet_kill_point(socket);
                }
                self.links.send(link, packet, ctx);
            }
            LinkOp::StreamSnapshot { link, .. } => {
                let cursor = self.db.begin_snapshot();
                if self.links.stream(link, cursor, &mut self.db) {
                    self.ask(1, ServerEvent::Stream(link), ctx);
                }
            }
            LinkOp::StreamLog { link, after, up_to } => match LogStream::new(&self.disk.log_files(), after, up_to) {
                Ok(stream) => {
                    if self.links.stream_log(link, stream) {
                        self.ask(1, ServerEvent::Stream(link), ctx);
                    }
                }
                Err(reason) => self.disk_failed(reason),
            },
            LinkOp::StreamProposals { link, proposals } => {
                for packet in proposals.iter().flat_map(Proposal::packets) {
                    self.perform_link(LinkOp::Send { link, packet }, ctx);
                }
            }
            LinkOp::Close { link } => self.links.close(link, &mut self.db, ctx),
        }
    }

    // ----- The network -----

    pub fn on_net(&mut self, socket: Socket, delivery: Delivery, ctx: &mut Ctx) {
        match delivery {
            Delivery::Accepted { port: Port::Client, .. } => self.accept_client(socket),
            Delivery::Accepted { port: Port::Quorum, .. } => {
                let link = self.links.accepted(socket);
                self.push(Input::LearnerLinkUp { link }, ctx);
            }
            Delivery::Accepted { port: Port::ObserverMaster, .. } => {
                let link = self.links.accepted(socket);
                ctx.counts.links_to_masters += 1;
                self.push(Input::ObserverLinkUp { link }, ctx);
            }
            Delivery::Accepted { port: Port::Election, .. } => self.election.accepted(socket),
            delivery if self.clients.contains_key(&socket) => self.on_client(socket, delivery, ctx),
            delivery if self.links.knows(socket) => {
                for input in self.links.on_net(socket, delivery, &mut self.db, ctx) {
                    self.push(input, ctx);
                }
            }
            delivery => {
                let (inputs, retry) = self.election.on_net(self.host, socket, delivery, ctx);
                inputs.into_iter().for_each(|input| self.push(input, ctx));
                if let Some((server, after)) = retry {
                    self.ask(after, ServerEvent::Dial(server), ctx);
                }
            }
        }
    }

    fn accept_client(&mut self, socket: Socket) {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        let outbox = Outbox::new(conn, IpAddr::V4(Ipv4Addr::LOCALHOST));
        self.db.attach(outbox.clone());
        self.by_conn.insert(conn, socket);
        self.clients.insert(socket, ClientConn { outbox, received: vec![], frames: VecDeque::new(), asked: false });
    }

    fn on_client(&mut self, socket: Socket, delivery: Delivery, ctx: &mut Ctx) {
        match delivery {
            Delivery::Bytes(bytes) => {
                let client = self.clients.get_mut(&socket).expect("looked up by the caller");
                client.received.extend_from_slice(&bytes);
                let mut from = Reader::new(&client.received);
                loop {
                    let mut ahead = from.clone();
                    let Ok(Some(frame)) = ahead.buffer() else {
                        break;
                    };
                    client.frames.push_back(frame.to_vec());
                    from = ahead;
                }
                client.received = from.rest().to_vec();
                self.read_client(socket, ctx);
            }
            _ => self.drop_client(socket),
        }
    }

    fn drop_client(&mut self, socket: Socket) {
        if let Some(client) = self.clients.remove(&socket) {
            self.by_conn.remove(&client.outbox.conn());
            self.db.detach(client.outbox.conn());
        }
    }

    /// Hands the client's frames to the database; what it forwards goes to the core.
    fn read_client(&mut self, socket: Socket, ctx: &mut Ctx) {
        let Some(client) = self.clients.get_mut(&socket) else {
            return;
        };
        let outbox = client.outbox.clone();
        let conn = outbox.conn();
        if !client.asked {
            let Some(frame) = client.frames.pop_front() else {
                return;
            };
            client.asked = true;
            if let Some(request) = self.db.connect(&outbox, &frame, ctx.clock(self.wall_offset_ms)) {
                self.push(Input::Connect { conn, request }, ctx);
            }
            return self.flush(conn, ctx);
        }
        if (client.frames.is_empty() && !outbox.has_due()) || outbox.phase() == ConnPhase::Connecting {
            return;
        }
        let is_read_only = self.peer.status().read_only;
        if self.db.may_serve(ctx.clock(self.wall_offset_ms)) && !is_read_only {
            ctx.checkers.on_reads(self.id, &self.db);
            let is_behind = self.db.last_processed() < ctx.checkers.acknowledged;
            ctx.counts.served_behind_a_cut += u64::from(is_behind && ctx.is_cut_off(self.host));
        }
        let frames: Vec<&[u8]> = client.frames.iter().map(Vec::as_slice).collect();
        let mut forward: Vec<ClientRequest> = Vec::new();
        let taken = self.db.submit(&outbox, &frames, ctx.clock(self.wall_offset_ms), &mut forward);
        client.frames.drain(..taken);
        let waiting = outbox.info().waiting as u64;
        ctx.counts.parked_reads += (taken as u64).saturating_sub(forward.len() as u64).min(waiting);
        if !forward.is_empty() {
            self.push(Input::Requests(forward), ctx);
        }
        self.send_outbox(socket, ctx);
        if outbox.has_due() {
            self.read_client(socket, ctx);
        }
    }

    /// Sends what is in the outbox, closes it if it is to be closed, and reads on if it can.
    fn flush(&mut self, conn: ConnId, ctx: &mut Ctx) {
        if let Some(&socket) = self.by_conn.get(&conn) {
            self.send_outbox(socket, ctx);
            self.read_client(socket, ctx);
        }
    }

    fn send_outbox(&mut self, socket: Socket, ctx: &mut Ctx) {
        let Some(client) = self.clients.get(&socket) else {
            return;
        };
        let mut bytes = Vec::new();
        let closing = client.outbox.take(&mut bytes);
        ctx.send(socket, bytes);
        if closing {
            ctx.close(socket);
            self.drop_client(socket);
        }
    }
}

/// A step of discovery or synchronisation.
fn is_of_synchronisation(packet: &QuorumPacket) -> bool {
    use QuorumPacket::*;
    match packet {
        Ack { zxid } => zxid.counter() == 0,
        FollowerInfo { .. } | LeaderInfo { .. } | AckEpoch { .. } | NewLeader { .. } | UpToDate => true,
        Diff { .. } | Trunc { .. } | Snap { .. } => true,
        _ => false,
    }
}

/// An input in a few words.
fn brief(input: &Input) -> String {
    match input {
        Input::Packets { link, packets } => {
            let packets: Vec<String> = packets.iter().map(|packet| format!("{packet:?}")).collect();
            let short = packets.iter().map(|packet| packet.chars().take(90).collect::<String>());
            format!("link {}: {}", link.0, short.collect::<Vec<_>>().join("; "))
        }
        Input::Truncated { loaded, .. } => format!("Truncated, now at {}", loaded.last_zxid),
        Input::SnapshotItems { items, end, .. } => format!("{} snapshot items, end {end}", items.len()),
        other => format!("{other:?}").chars().take(160).collect(),
    }
}
