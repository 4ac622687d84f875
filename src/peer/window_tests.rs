//! What may come between NEWLEADER and UPTODATE, and what may not: one server against a script of packets.

use super::io::{ConnId, DiskOp, Effects, Input, LinkId, LinkOp, Loaded, LogPlace, Members, Now, Proposal};
use super::{Boot, Database, Outbox, PeerConfig, QuorumPeer};
use crate::jute::Record;
use crate::records::{
    CheckTxn, Configuration, ConnectRequest, CreateTxn, Epoch, LearnerInfo, Notification, NotificationForm,
    PROTOCOL_VERSION, PeerState, QuorumPacket, ServerId, SessionId, Txn, TxnBody, Zxid,
};
use crate::tree::DataTree;
use std::collections::{BTreeMap, VecDeque};

pub(super) const LINK: LinkId = LinkId(1);

/// A member of three, whose disk answers when it is told to.
pub(super) struct Member {
    peer: QuorumPeer,
    db: Database,
    disk: VecDeque<DiskOp>,
    /// The list that it has asked to be kept last.
    pub(super) list: Option<Members>,
    /// What it has sent, with the link.
    sent: Vec<(LinkId, String)>,
    round: i64,
}

pub(super) fn zxid(counter: u32) -> Zxid {
    Zxid::new(Epoch(1), counter)
}

impl Member {
    fn new(id: i64) -> Member {
        let ensemble = Configuration::of_voters((1..=3).map(ServerId));
        Member::with(PeerConfig::new(Some(ServerId(id)), ensemble, 1000))
    }

    fn with(config: PeerConfig) -> Member {
        let boot = Boot {
            accepted_epoch: Epoch(0),
            current_epoch: Epoch(0),
            last_logged: Zxid::ZERO,
            recent: Vec::new(),
            replayed: 0,
        };
        let (tree, sessions) = (DataTree::new(), BTreeMap::new());
        let db = Database::new(Loaded {
            tree,
            sessions,
            last_zxid: Zxid::ZERO,
            recent: Vec::new(),
            digests: Default::default(),
        });
        let peer = QuorumPeer::new(config, boot);
        let mut member = Member { peer, db, disk: VecDeque::new(), list: None, sent: Vec::new(), round: 0 };
        let mut out = Effects::default();
        member.peer.start(Now::default(), &member.db, &mut out);
        member.perform(out);
        member
    }

    fn step(&mut self, input: Input) {
        let mut out = Effects::default();
        self.peer.step(Now { micros: 1, wall_ms: 1 }, input, &self.db, &mut out);
        self.perform(out);
    }

    fn perform(&mut self, out: Effects) {
        assert_eq!(out.end, None);
        self.db.perform(Now { micros: 1, wall_ms: 1 }, out.db, &mut Vec::new(), &mut Vec::new());
        self.disk.extend(out.disk);
        if let Some(members) = out.members {
            self.list = Some(*members);
        }
        for (_, notification) in out.election {
            self.round = notification.election_epoch;
        }
        for op in out.links {
            match op {
                LinkOp::Send { link, packet } => self.sent.push((link, name(&packet))),
                LinkOp::StreamProposals { link, proposals } => {
                    self.sent.extend(proposals.iter().flat_map(Proposal::packets).map(|packet| (link, name(&packet))));
                }
                LinkOp::StreamSnapshot { link, .. } => self.sent.push((link, "(a snapshot)".into())),
                LinkOp::Close { link } => self.sent.push((link, "(closed)".into())),
                _ => {}
            }
        }
    }

    /// The disk does all that it was asked for.
    pub(super) fn work(&mut self) {
        while let Some(op) = self.disk.pop_front() {
            let answer = match op {
                DiskOp::Append { generation, proposals } => {
                    Input::Flushed { generation, up_to: proposals.last().unwrap().zxid() }
                }
                DiskOp::Drain { generation } => Input::Drained { generation },
                DiskOp::SaveAcceptedEpoch { generation, epoch } => Input::AcceptedEpochSaved { generation, epoch },
                DiskOp::SaveCurrentEpoch { generation, epoch } => Input::CurrentEpochSaved { generation, epoch },
                DiskOp::SearchLog { generation, link, .. } => {
                    Input::LogSearched { generation, link, place: LogPlace::Unknown("there is none") }
                }
                DiskOp::TakeSnapshot { generation, zxid, install, .. } => {
                    Input::SnapshotSaved { generation, zxid, install }
                }
                other => panic!("{other:?}"),
            };
            self.step(answer);
        }
    }

    fn vote(&mut self, from: i64, state: PeerState) {
        let form = NotificationForm::V2 { version: 2, config: String::new() };
        let (leader, election_epoch) = (ServerId(3), self.round);
        let notification = Notification { state, leader, zxid: Zxid::ZERO, election_epoch, peer_epoch: 0, form };
        self.step(Input::Notification { from: ServerId(from), notification });
    }

    pub(super) fn packets(&mut self, link: LinkId, packets: Vec<QuorumPacket>) {
        self.step(Input::Packets { link, packets });
    }

    /// What it has sent since the last call.
    pub(super) fn sent(&mut self, link: LinkId) -> Vec<String> {
        let (this, others) = std::mem::take(&mut self.sent).into_iter().partition(|(of, _)| *of == link);
        self.sent = others;
        this.into_iter().map(|(_, packet): (LinkId, String)| packet).collect()
    }
}

/// The names below the root.
fn read_tree(db: &Database) -> Vec<String> {
    let root = db.tree().get("/").unwrap();
    let mut names: Vec<String> = root.children().map(str::to_owned).filter(|name| name != "zookeeper").collect();
    names.sort_unstable();
    names
}

fn name(packet: &QuorumPacket) -> String {
    match packet {
        QuorumPacket::Ack { zxid } => format!("ACK {zxid}"),
        QuorumPacket::Commit { zxid } => format!("COMMIT {zxid}"),
        QuorumPacket::Proposal { zxid, .. } => format!("PROPOSAL {zxid}"),
        other => other.name().to_owned(),
    }
}

pub(super) fn proposal(counter: u32, body: TxnBody) -> QuorumPacket {
    let txn = Txn { session: SessionId(7), cxid: 0, zxid: zxid(counter), time_ms: 1, body, digest: None };
    let Proposal { bytes, .. } = Proposal::new(txn);
    QuorumPacket::Proposal { zxid: zxid(counter), txn: bytes }
}

fn create(counter: u32) -> QuorumPacket {
    let path = format!("/{counter}");
    let body = CreateTxn { path, data: None, acl: Vec::new(), ephemeral: false, parent_cversion: counter as i32 };
    proposal(counter, TxnBody::Create(body))
}

fn commit(counter: u32) -> QuorumPacket {
    QuorumPacket::Commit { zxid: zxid(counter) }
}

/// A follower of 3, up to its ACKEPOCH.
fn follower() -> Member {
    following(Member::new(1))
}

/// The same, of a server with that configuration.
pub(super) fn follower_with(config: PeerConfig) -> Member {
    following(Member::with(config))
}

fn following(mut member: Member) -> Member {
    member.vote(2, PeerState::Following);
    member.vote(3, PeerState::Leading);
    member.step(Input::LeaderLinkUp { link: LINK, leader: ServerId(3) });
    let info = QuorumPacket::LeaderInfo { epoch: Epoch(1), protocol_version: PROTOCOL_VERSION };
    member.packets(LINK, vec![info]);
    member.work();
    assert_eq!(member.sent(LINK), ["FOLLOWERINFO", "ACKEPOCH"]);
    member
}

#[test]
fn a_follower_takes_commits_of_earlier_proposals_in_the_window_and_acks_single_proposals_only_behind_it() {
    let mut member = follower();
    let history = vec![
        QuorumPacket::Diff { zxid: zxid(1) },
        create(1),
        commit(1),
        create(2),
        QuorumPacket::NewLeader { zxid: zxid(0), config: None },
    ];
    member.packets(LINK, history);
    // Of a proposal from before NEWLEADER, which kills a follower of 3.8.0 (ZOOKEEPER-4394); then a whole pair, and one
    // that is not committed yet.
    let window = vec![
        commit(2),
        create(3),
        commit(3),
        QuorumPacket::Ping { zxid: zxid(3), touched: None },
        create(4),
        QuorumPacket::Sync { zxid: Zxid::ZERO },
    ];
    member.packets(LINK, window);
    assert_eq!(member.sent(LINK), [""; 0], "nothing before the history and the epoch are on disk");
    member.work();
    assert_eq!(member.sent(LINK), ["ACK 0x100000000"], "NEWLEADER alone, though more is on disk");
    assert_eq!(member.db.last_processed(), Zxid::ZERO);
    member.packets(LINK, vec![QuorumPacket::UpToDate]);
    assert_eq!(member.db.last_processed(), zxid(3), "what was committed meanwhile, in order");
    assert_eq!(member.sent(LINK), ["ACK 0x100000000", "ACK 0x100000004"], "what NEWLEADER covered is not acked again");
    member.packets(LINK, vec![commit(4)]);
    assert_eq!(read_tree(&member.db), ["1", "2", "3", "4"]);
}

#[test]
fn a_bare_check_of_a_3_8_0_leader_is_no_operation() {
    let mut member = follower();
    let check = proposal(1, TxnBody::Check(CheckTxn { path: "/none".into(), version: 1 }));
    let new_leader = QuorumPacket::NewLeader { zxid: zxid(0), config: None };
    member.packets(LINK, vec![QuorumPacket::Diff { zxid: zxid(1) }, check, commit(1), new_leader]);
    member.work();
    let check = proposal(2, TxnBody::Check(CheckTxn { path: "/none".into(), version: 1 }));
    member.packets(LINK, vec![QuorumPacket::UpToDate, check, commit(2), create(3), commit(3)]);
    member.work();
    assert_eq!((member.db.last_processed(), read_tree(&member.db)), (zxid(3), vec!["3".to_owned()]));
    assert_eq!(member.sent(LINK).last().unwrap(), "ACK 0x100000003");
}

/// A learner says who it is, up to its ACKEPOCH.
fn greet(member: &mut Member, link: LinkId, server: i64) {
    member.step(Input::LearnerLinkUp { link });
    let info = LearnerInfo { server: ServerId(server), protocol_version: PROTOCOL_VERSION, config_version: 0 };
    member.packets(link, vec![QuorumPacket::FollowerInfo { accepted_epoch: Epoch(0), info }]);
    member.work();
    let ack = QuorumPacket::AckEpoch { last_logged: Zxid::ZERO, current_epoch: Some(Epoch(0)) };
    member.packets(link, vec![ack]);
    member.work();
}

#[test]
fn a_leader_holds_commits_back_in_the_window_and_reads_on_over_early_acks_of_proposals() {
    let (first, late) = (LinkId(1), LinkId(2));
    let mut member = Member::new(3);
    member.vote(1, PeerState::Looking);
    member.vote(2, PeerState::Looking);
    greet(&mut member, first, 1);
    assert_eq!(member.sent(first), ["LEADERINFO", "DIFF", "NEWLEADER"]);
    member.packets(first, vec![QuorumPacket::Ack { zxid: zxid(0) }]);
    assert_eq!(member.sent(first), ["UPTODATE"]);

    // A session, proposed and not committed while another follower comes.
    let conn = ConnId(1);
    let outbox = Outbox::new(conn, [127, 0, 0, 1].into());
    member.db.attach(outbox.clone());
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 5000,
        session: SessionId(0),
        password: Some(vec![0; 16]),
        read_only: None,
    };
    let request = member.db.connect(&outbox, &request.to_bytes(), Now { micros: 1, wall_ms: 1 }).unwrap();
    member.step(Input::Connect { conn, request });
    assert_eq!(member.sent(first), ["PROPOSAL 0x100000001"]);
    greet(&mut member, late, 2);
    let history = ["LEADERINFO", "SNAP", "(a snapshot)", "PROPOSAL 0x100000001", "NEWLEADER"];
    assert_eq!(member.sent(late), history);
    // As 3.8.0 does: the proposal's ACK before that of NEWLEADER. It does not count yet, and costs nothing.
    member.packets(late, vec![QuorumPacket::Ack { zxid: zxid(1) }]);
    member.packets(first, vec![QuorumPacket::Ack { zxid: zxid(1) }]);
    assert_eq!(member.sent(first), ["COMMIT 0x100000001"]);
    assert_eq!(member.sent(late), [""; 0], "no COMMIT between NEWLEADER and UPTODATE");
    member.packets(late, vec![QuorumPacket::Ack { zxid: zxid(0) }]);
    assert_eq!(member.sent(late), ["UPTODATE", "COMMIT 0x100000001"]);
    // Its second ACK of NEWLEADER, which the leader neither needs nor minds.
    member.packets(late, vec![QuorumPacket::Ack { zxid: zxid(0) }]);
    assert_eq!(member.sent(late), [""; 0]);
}

#[test]
fn a_leader_that_knows_less_than_its_voters_goes_as_soon_as_the_others_are_no_quorum() {
    let mut member = Member::new(3);
    member.vote(1, PeerState::Looking);
    member.vote(2, PeerState::Looking);
    for (link, server) in [(LinkId(1), 1), (LinkId(2), 2)] {
        assert!(member.peer.is_leading(), "server 2 may be enough");
        member.step(Input::LearnerLinkUp { link });
        let info = LearnerInfo { server: ServerId(server), protocol_version: PROTOCOL_VERSION, config_version: 0 };
        member.packets(link, vec![QuorumPacket::FollowerInfo { accepted_epoch: Epoch(0), info }]);
        member.work();
        let ack = QuorumPacket::AckEpoch { last_logged: zxid(1), current_epoch: Some(Epoch(0)) };
        member.packets(link, vec![ack]);
    }
    assert!(!member.peer.is_leading(), "nobody else can come");
}
