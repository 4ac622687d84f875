"""Observers: servers that follow, serve and forward without a vote, under leaders of either kind.

The ensembles have three voters and one or two observers; with `apache` the observer is of the other kind than the
voters.
"""

import time

import pytest
from harness import wire
from harness.command import server_command
from harness.ports import PortBlock
from harness.tree import assert_same_trees, read_tree_of
from harness.until import wait_until


def start(ensemble, voters=None, observers=None):
    """Start the voters, then the observers, each with its command."""
    for member in ensemble:
        member.start(template=observers if member.id > 3 else voters)
    ensemble.wait_serving()
    assert [member.mode for member in ensemble][3:] == ["observer"] * (len(ensemble.members) - 3)
    return ensemble.wait_leader()


def mntr(member):
    """The lines of `mntr` as a dictionary."""
    lines = (wire.four_letter(member.address, "mntr") or "").splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


def write_read_and_compare(ensemble, name):
    """Clients of every member write; each member shows what all have written, and their trees are equal."""
    for member in ensemble.running:
        with member.connect() as link:
            link.create(f"/{name}-{member.id}", b"by %d" % member.id)
    trees = {}
    for member in ensemble.running:
        with member.connect() as link:
            link.sync("/")
            for writer in ensemble.running:
                assert link.get(f"/{name}-{writer.id}")[0] == b"by %d" % writer.id
        trees[member.id] = read_tree_of(member)
    assert_same_trees(trees)


def test_an_observer_follows_serves_and_outlives_its_leader(ensemble):
    servers = ensemble(3, observers=2)
    leader = start(servers)
    watcher = servers[4].connect()
    watcher.create("/watched")
    watcher.exists("/watched", watch=True)
    write_read_and_compare(servers, "first")
    said = mntr(leader)
    assert (said["zk_learners"], said["zk_synced_followers"], said["zk_synced_observers"]) == ("4", "2", "2")
    assert mntr(servers[4])["zk_peer_state"] == "observing - broadcast"
    assert "peerType=1" in wire.four_letter(servers[4].address, "conf")

    with servers[1].connect() as link:
        link.set("/watched", b"changed")
    assert watcher.wait_event(20)
    leader.kill()
    servers.wait_leader()
    for observer in (servers[4], servers[5]):
        wait_until(lambda observer=observer: observer.mode == "observer", "the observer follows the next leader")
    write_read_and_compare(servers, "second")
    leader.start().wait_serving()
    write_read_and_compare(servers, "third")

    # Its log holds what it was told.
    servers[4].kill()
    with servers[5].connect() as link:
        link.create("/while-down")
    servers[4].start().wait_serving()
    assert servers[4].mode == "observer"
    write_read_and_compare(servers, "fourth")


def test_observers_alone_keep_nothing_going(ensemble):
    servers = ensemble(3, observers=2)
    leader = start(servers)
    for follower in servers.followers():
        follower.kill()
    for member in (leader, servers[4], servers[5]):
        wait_until(lambda member=member: member.mode is None, f"server {member.id} does not serve")


@pytest.mark.parametrize("kind", ["one-kind", "apache-votes", "apache-observes"])
def test_observers_of_followers(ensemble, request, kind):
    mine = server_command()
    voters = request.getfixturevalue("apache") if kind == "apache-votes" else mine
    observer = request.getfixturevalue("apache") if kind == "apache-observes" else mine
    ports = PortBlock()
    config = {"observerMasterPort": ports.take()}
    servers = ensemble(3, observers=1, spread=True, config=config)
    leader = start(servers, voters, observer)
    write_read_and_compare(servers, "first")

    def master():
        return next((one for one in servers.followers() if mntr(one).get("zk_synced_observers") == "1"), None)

    former = wait_until(master, "a follower has the observer")
    assert mntr(leader)["zk_synced_observers"] == "0"
    assert mntr(servers[4])["zk_observer_master_id"] == str(former.id)
    # A session that only the observer's connection keeps alive.
    session = wire.Session(4_000)
    link = servers[4].connect(session)
    link.create("/mine", flags=1)
    for number in range(8):
        time.sleep(0.5)  # Longer than the session's timeout in all.
        assert link.exists("/mine"), number
    link.close()

    former.kill()
    wait_until(lambda: servers[4].mode == "observer" and master(), "the observer has another master")
    link = servers[4].connect(session)  # The leader is asked whether it lives.
    assert link.exists("/mine")
    link.close_session()
    former.start(template=voters).wait_serving()
    write_read_and_compare(servers, "second")
    ports.close()


@pytest.mark.parametrize("kind", ["apache-leads", "apache-observes"])
def test_an_observer_and_a_leader_of_the_other_kind(ensemble, apache, kind):
    servers = ensemble(3, observers=1)
    mine = server_command()
    voters, observer = (apache, mine) if kind == "apache-leads" else (mine, apache)
    leader = start(servers, voters, observer)
    write_read_and_compare(servers, "first")
    assert mntr(leader)["zk_synced_observers"] == "1"
    # By DIFF: PROPOSAL and COMMIT in the history, INFORM behind it.
    servers[4].kill()
    with servers[1].connect() as link:
        link.create("/while-down")
    servers[4].start(template=observer).wait_serving()
    write_read_and_compare(servers, "second")
    # By the next leader.
    leader.kill()
    servers.wait_leader()
    wait_until(lambda: servers[4].mode == "observer", "the observer follows the next leader")
    write_read_and_compare(servers, "third")


def test_a_leader_that_does_not_serve_has_no_clients(ensemble):
    servers = ensemble(3, config={"leaderServes": "no"})
    for member in servers:
        member.start()
    wait_until(lambda: len(servers.followers()) == 2, "two followers serve")
    (leader,) = (member for member in servers if member.mode is None)
    assert "not currently serving" in wire.four_letter(leader.address, "srvr")
    with pytest.raises(wire.Refused):
        leader.connect()
    with servers.followers()[0].connect() as link:
        link.create("/one")


def test_the_servers_without_weight_never_lead_and_most_of_the_weight_commits(ensemble):
    groups = {"group.1": "1:2:3", "weight.3": 0, "weight.2": 0}
    servers = ensemble(3, config=groups)
    servers.start()
    assert servers.leader().id == 1
    conf = wire.four_letter(servers[2].address, "conf")
    assert "group.1=1:2:3" in conf, conf
    assert "weight.2=0" in conf, conf
    servers[2].kill()
    servers[3].kill()
    with servers[1].connect() as link:
        link.create("/alone")
