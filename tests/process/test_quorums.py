"""Which servers may acknowledge writes, and what becomes of a write that too few of them had.

A majority serves: three of five, four of six. What only a minority has logged is not acknowledged, and the server that
has it forgets it when it meets the majority again.
"""

import re

import pytest
from harness import wire
from harness.command import is_zabkit
from harness.tree import assert_same_trees, epoch_of, read_tree_of
from harness.until import wait_until

#: How often a write is tried on a server without a quorum: each try must fail, however often.
TRIES = 20


def write_through_each(members, name):
    for member in members:
        path = f"/{name}-{member.id}"
        with member.connect() as link:
            assert link.create(path, b"served") == path
    for member in members:
        with member.connect() as link:
            link.sync()
            assert {f"{name}-{other.id}" for other in members} <= set(link.children("/"))


def acknowledges(member, path):
    """Whether one try of a write on this server is acknowledged."""
    try:
        with member.connect(timeout_s=0.5) as link:
            link.create(path)
            return True
    except (OSError, wire.Expired):
        return False


def assert_refuses_writes(members):
    """The role ends when the quorum is gone; from then on no try is acknowledged, and no client is kept."""
    for member in members:
        wait_until(lambda member=member: member.mode is None, f"server {member.id} leaves its role")
    for member in members:
        for number in range(TRIES // len(members)):
            assert not acknowledges(member, f"/refused-{member.id}-{number}"), f"server {member.id} took a write"


@pytest.mark.parametrize(("size", "may_be_down"), [(5, 2), (6, 2)])
def test_a_majority_serves_and_half_does_not(ensemble, size, may_be_down):
    servers = ensemble(size).start()
    write_through_each(servers.members, "all")

    # The leader is among the dead: the harder half of the promise.
    leader = servers.wait_leader()
    victims = [leader, *(member for member in servers if member is not leader)][: may_be_down + 1]
    for victim in victims[:may_be_down]:
        victim.kill()
    # Those alive may still name the dead leader: wait until one of them leads.
    servers.wait_leader()
    servers.wait_serving()
    alive = servers.running
    assert len(alive) == size - may_be_down
    write_through_each(alive, "majority")

    # One more, and it is not the leader: the others must notice that too few follow.
    last = servers.followers()[0]
    last.kill()
    alive = servers.running
    assert_refuses_writes(alive)

    for member in servers:
        if not member.runs:
            member.start()
    servers.wait_serving()
    write_through_each(servers.members, "again")
    trees = {f"server {member.id}": read_tree_of(member) for member in servers}
    assert_same_trees(trees)
    names = set(trees["server 1"])
    assert {f"/majority-{member.id}" for member in servers if member not in victims[:may_be_down]} <= names
    assert not [path for path in names if path.startswith("/refused")], "a refused write has happened after all"


def logged(member, needle):
    """Whether a transaction log of this server holds these bytes."""
    return any(needle in path.read_bytes() for path in (member.data_dir / "version-2").glob("log.*"))


def make_tail(servers, count):
    """Leave ``count`` writes in the leader's log alone, kill it, and return it.

    The followers sleep, so what the leader sends them stays in their sockets' buffers.
    """
    leader = servers.wait_leader()
    followers = [member for member in servers if member is not leader]
    with leader.connect() as link:
        link.create("/tail", b"committed")
        link.create("/before", b"committed")
        for follower in followers:
            follower.freeze()
        link.send_many(
            [(wire.CREATE, wire.create_body(f"/tail/{number:04}", b"never acknowledged")) for number in range(count)]
        )
        wait_until(
            lambda: logged(leader, f"/tail/{count - 1:04}".encode()),
            "the tail is in the leader's log",
            detail=servers.logs,
        )
        leader.kill()
        try:
            link.socket.settimeout(5)
            reply = link.recv()
            raise AssertionError(f"an uncommitted write was acknowledged: {reply}")
        except (TimeoutError, ConnectionError):
            pass
    return leader, followers


def come_back(servers, old):
    """Start the old leader again and wait until it follows; returns what it logged since."""
    said = len(old.log_text())
    old.start()
    assert old.wait_serving() == "follower", "the others have a leader already"
    return old.log_text()[said:]


def test_the_old_leaders_uncommitted_tail_is_removed_when_it_comes_back(ensemble):
    servers = ensemble(3).start()
    old, followers = make_tail(servers, 50)
    # Killed in their sleep they never read the proposals; a thawed one would, and rightly keep them.
    for follower in followers:
        follower.kill()
        follower.start()
    leader = servers.wait_serving()
    with leader.connect() as link:
        for number in range(10):
            link.create(f"/after-{number}", b"committed")

    said = come_back(servers, old)
    trees = {f"server {member.id}": read_tree_of(member) for member in servers}
    assert_same_trees(trees)
    tree = trees[f"server {old.id}"]
    assert not [path for path in tree if path.startswith("/tail/")]
    assert {"/tail", "/before", *(f"/after-{number}" for number in range(10))} <= set(tree)
    if is_zabkit():
        assert re.search(r"(?i)\btrunc|snapshot from leader|\bsnap\b", said), f"neither TRUNC nor SNAP:\n{said}"

    # What was removed from memory is removed from disk too: it does not come back with a restart.
    old.kill()
    old.start()
    old.wait_serving()
    assert_same_trees({"before the restart": tree, "after it": read_tree_of(old)})


def test_a_tail_that_reached_the_followers_is_kept_by_all_or_by_none(ensemble):
    """Thawed followers read the proposals of the dead leader: any prefix of them may live, on every server alike."""
    servers = ensemble(3).start()
    old, followers = make_tail(servers, 50)
    for follower in followers:
        follower.thaw()
    leader = servers.wait_serving()
    with leader.connect() as link:
        link.create("/after", b"committed")
    come_back(servers, old)
    trees = {f"server {member.id}": read_tree_of(member) for member in servers}
    assert_same_trees(trees)
    tree = trees[f"server {old.id}"]
    kept = sorted(path for path in tree if path.startswith("/tail/"))
    assert kept == [f"/tail/{number:04}" for number in range(len(kept))], "the tail has a hole"
    assert {"/tail", "/before", "/after"} <= set(tree)


def test_a_leader_that_slept_through_an_election_serves_nobody(ensemble):
    """SIGSTOP of the leader until another leads: it wakes up as nobody's leader and takes no write of its own."""
    servers = ensemble(3, config={"syncLimit": 4}).start()
    old = servers.wait_leader()
    session = wire.Session(20_000)
    link = old.connect(session)
    link.create("/sleeper", b"1")
    epoch = epoch_of(session.last_zxid)
    old.freeze()
    others = [member for member in servers if member is not old]
    leader = wait_until(
        lambda: next((member for member in others if member.mode == "leader"), None),
        "the others elect a leader",
        detail=servers.logs,
    )
    with leader.connect() as writer:
        writer.set("/sleeper", b"2")
        assert epoch_of(writer.session.last_zxid) > epoch
    old.thaw()
    # The old connection may end, or the read behind a sync may be answered with the new state; never with the old one.
    # Apache's sync asks no quorum, so a former leader that has just woken answers it from the past.
    try:
        link.sync("/sleeper")
        assert link.get("/sleeper")[0] == b"2" or not is_zabkit(), "a former leader answers with the past"
    except OSError:
        pass
    wait_until(lambda: old.mode == "follower", "the old leader follows", detail=servers.logs)
    assert_same_trees({f"server {member.id}": read_tree_of(member) for member in servers})
