//! What a follower of server 3 counts by, from what its leader says: one server against a script of packets.

use super::PeerConfig;
use super::io::Members;
use super::window_tests::{LINK, Member, follower_with, proposal, zxid};
use crate::records::{Configuration, Epoch, QuorumPacket, ServerId, SetDataTxn, TxnBody, Zxid};

fn voters(ids: &[i64], version: Zxid) -> Configuration {
    Configuration { version: version.0, ..Configuration::of_voters(ids.iter().copied().map(ServerId)) }
}

/// The list as its files have it: versions, of the committed one and of the proposed one.
fn versions(member: &Member) -> (Zxid, Option<Zxid>) {
    let Members { committed, last_seen } = member.list.as_ref().expect("a list was kept");
    (Zxid(committed.version), last_seen.as_ref().map(|last_seen| Zxid(last_seen.version)))
}

/// Server 1 of three, up to its ACKEPOCH in epoch 1; `proposed` is what its files say beside.
fn follower(proposed: Option<Configuration>) -> Member {
    let mut config = PeerConfig::new(Some(ServerId(1)), voters(&[1, 2, 3], Zxid::ZERO), 1000);
    (config.reconfig_enabled, config.last_seen) = (true, proposed);
    follower_with(config)
}

fn reconfig(counter: u32, list: &str) -> QuorumPacket {
    let (path, data) = ("/zookeeper/config".to_owned(), Some(list.as_bytes().to_vec()));
    proposal(counter, TxnBody::Reconfig(SetDataTxn { path, data, version: -1 }))
}

fn new_leader(list: Option<&str>) -> QuorumPacket {
    QuorumPacket::NewLeader { zxid: zxid(0), config: list.map(Into::into) }
}

const DIFF: QuorumPacket = QuorumPacket::Diff { zxid: Zxid::ZERO };

/// A leader that had completed a change proposed the next one, and its UPTODATE had not come: the server counted by the
/// list of before the first change and by the second one, and with another that knew no more it made a second leader.
#[test]
fn what_is_followed_by_another_proposal_of_its_leader_is_committed() {
    let (first, second) = (voters(&[1, 3, 4, 5], Zxid::new(Epoch(0), 9)), voters(&[1, 2, 3], zxid(1)));
    let mut member = follower(None);
    member.packets(LINK, vec![DIFF, new_leader(Some(&first.to_string()))]);
    member.work();
    assert_eq!(versions(&member), (Zxid::ZERO, Some(Zxid(first.version))));
    member.packets(LINK, vec![reconfig(1, &second.to_string())]);
    assert_eq!(versions(&member), (Zxid(first.version), Some(zxid(1))));
}

#[test]
fn both_of_two_changes_in_the_history_count_in_turn() {
    let (first, second) = (voters(&[1, 2, 3, 4], zxid(1)), voters(&[1, 2, 3], zxid(2)));
    let mut member = follower(None);
    member.packets(LINK, vec![DIFF, reconfig(1, &first.to_string()), reconfig(2, &second.to_string())]);
    assert_eq!(versions(&member), (zxid(1), Some(zxid(2))));
    member.packets(LINK, vec![new_leader(Some(&second.to_string()))]);
    member.work();
    assert_eq!(versions(&member), (zxid(1), Some(zxid(2))));
}

/// It was in the file, but a crash has taken its record: others went on without it.
#[test]
fn a_change_that_the_leaders_history_has_not_is_not_committed_by_the_next() {
    let (lost, next) = (voters(&[1, 7, 8], Zxid::new(Epoch(0), 9)), voters(&[1, 2, 3, 4], zxid(1)));
    let mut member = follower(Some(lost));
    member.packets(LINK, vec![DIFF, reconfig(1, &next.to_string())]);
    assert_eq!(versions(&member), (Zxid::ZERO, Some(zxid(1))));
}

#[test]
fn what_the_leader_does_not_go_by_is_given_up_when_newleader_is_of_this_epoch() {
    let lost = || follower(Some(voters(&[1, 7, 8], Zxid::new(Epoch(0), 9))));
    let known = voters(&[1, 2, 3], Zxid::ZERO).to_string();
    let mut member = lost();
    let old = QuorumPacket::NewLeader { zxid: Zxid::new(Epoch(7), 0), config: Some(known.as_str().into()) };
    member.packets(LINK, vec![DIFF, old]);
    assert!(member.list.is_none(), "NEWLEADER of another epoch says nothing");
    assert_eq!(member.sent(LINK), ["(closed)"]);

    let mut member = lost();
    member.packets(LINK, vec![DIFF, new_leader(Some(&known))]);
    assert_eq!(versions(&member), (Zxid::ZERO, None));
}

/// Its ACK would be counted as that of a server which knows the list.
#[test]
fn a_list_that_says_nothing_is_not_acknowledged() {
    for text in ["server.x", "version=7fffffff00000000", "server.1=a:1:2:observer\nversion=900000000"] {
        let mut member = follower(None);
        member.packets(LINK, vec![DIFF, new_leader(Some(text))]);
        member.work();
        assert_eq!(member.sent(LINK), ["(closed)"], "{text}");
    }
    for text in ["version=100000001", "server.1=a:1:2\nversion=100000002"] {
        let mut member = follower(None);
        member.packets(LINK, vec![DIFF, new_leader(None), reconfig(1, text)]);
        assert_eq!(member.sent(LINK), ["(closed)"], "{text}");
    }
}
