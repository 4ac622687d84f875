"""Check: a member of either kind catches up from a leader of either kind, by each of DIFF, TRUNC and SNAP.

Three servers: 3 is the member that falls behind, 2 the one that leads without it, 1 of the kind of 3. How each kind of
synchronisation is brought about (the rules: spec B.4; ZooKeeper: `LearnerHandler.syncFollower`):

TRUNC  3 leads, and what it says no longer reaches the others. It logs writes that nobody acknowledges, and is killed.
       2 leads and commits nothing; 3 comes back with records that are no part of the history.
DIFF   3 is killed, a few writes, 3 comes back.
SNAP   3 is killed and loses its files; or it misses more writes than the leader keeps in memory, and the leader may not
       read them from its log (`snapshotSizeFactor=-1`). Where it may (`=0`), that is a long DIFF.

What the leader sent is read from the wire.
"""

import shutil
from contextlib import suppress

from harness import wire
from harness.until import wait_until
from mixed import MixedEnsemble
from mixtures import ALICE, furnish
from packets import SYNC_KINDS

#: More than the leader keeps in memory (`commitLogCount`).
MANY = 700
FEW = 10


def synchronisation(servers, since):
    """Packets with which 2 brought 3 up to date: from the first DIFF, TRUNC or SNAP to UPTODATE."""
    said = servers.proxy.seen(source=2, target=3, since=since)
    begin = next((index for index, packet in enumerate(said) if packet.kind in SYNC_KINDS), None)
    assert begin is not None, "server 2 brought nothing to server 3"
    end = next((index for index, packet in enumerate(said) if packet.kind == "UPTODATE"), None)
    assert end is not None, "no UPTODATE"
    others = [packet for packet in said if packet.kind in SYNC_KINDS]
    assert len(others) == 1, "more than one synchronisation: " + ", ".join(map(str, others))
    return said[begin : end + 1]


def come_back(servers, line, kind, since):
    """Start 3, see that 2 brings it up to date by ``kind``, that it serves, writes, and holds what the others hold."""
    servers.launch(servers[3])
    servers[3].wait_serving(60.0)
    assert servers.leader() is servers[2], "server 2 should lead all the time"
    said = synchronisation(servers, since)
    line.add(servers.describe())
    counts = {}
    for packet in said:
        counts[packet.kind] = counts.get(packet.kind, 0) + 1
    line.add("2>3 " + " ".join(f"{name}*{count}" for name, count in counts.items()))
    assert said[0].kind == kind, f"{kind} was due, it was {said[0]}"
    assert [packet.kind for packet in said].count("NEWLEADER") == 1
    if kind == "SNAP":
        assert "BenWasHere" in counts, "the snapshot did not come to its end"
    return said


def settle(servers, line):
    servers.write(servers[3], "/through-3")
    line.add(servers.assert_agree())
    servers.assert_wire()


def has_logged(member, path):
    """Whether the record that makes ``path`` is in the member's log files."""
    return any(path.encode() in log.read_bytes() for log in (member.data_dir / "version-2").glob("log.*"))


def trunc(servers, line, turn):
    others = servers[1], servers[2]
    servers.make_lead(servers[3])
    last = None
    paths = [f"/tail-{turn}-{number}" for number in range(3)]
    with suppress(OSError), servers.link(servers[3], timeout_ms=120_000) as link:
        last = servers.wait_equal()
        for other in others:
            servers.proxy.stall(3, other.id)
        link.send_many([(wire.CREATE, wire.create_body(path)) for path in paths])
        wait_until(lambda: has_logged(servers[3], paths[-1]), "the isolated leader logs its writes", 10.0)
        servers[3].kill()
    for other in others:
        servers.proxy.cut(3, other.id)
    wait_until(lambda: servers[2].mode == "leader", "server 2 leads", 60.0, servers.logs)
    servers[1].wait_serving()
    for other in others:
        servers.proxy.heal(3, other.id)
    mark = servers.proxy.mark()
    said = come_back(servers, line, "TRUNC", mark)
    assert said[0].zxid == last, f"TRUNC to {said[0].zxid:#x}, the last committed is {last:#x}"
    for member in servers:
        with servers.link(member) as link:
            link.sync()
            left = [path for path in paths if link.exists(path)]
            link.close_session()
        assert not left, f"server {member.id} has {left}, which nobody else had acknowledged"
    settle(servers, line)


def diff(servers, line, turn, count=FEW):
    servers[3].kill()
    wait_until(lambda: servers.leader() is servers[2], "server 2 leads", 60.0, servers.logs)
    zxids = write_many(servers, servers[1], f"/diff-{turn}", count)
    mark = servers.proxy.mark()
    said = come_back(servers, line, "DIFF", mark)
    brought = [packet.zxid for packet in said if packet.kind == "PROPOSAL"]
    missing = [zxid for zxid in zxids if zxid not in brought]
    assert not missing, f"not in the DIFF: {[hex(zxid) for zxid in missing]}"
    assert brought == sorted(set(brought)), "the DIFF is not in order"
    settle(servers, line)


def snap_lost_files(servers, line, _turn):
    servers[3].kill()
    wait_until(lambda: servers.leader() is servers[2], "server 2 leads", 60.0, servers.logs)
    shutil.rmtree(servers[3].data_dir / "version-2")
    mark = servers.proxy.mark()
    come_back(servers, line, "SNAP", mark)
    settle(servers, line)


def snap_far_behind(servers, line, turn):
    servers[3].kill()
    wait_until(lambda: servers.leader() is servers[2], "server 2 leads", 60.0, servers.logs)
    write_many(servers, servers[1], f"/far-{turn}", MANY)
    mark = servers.proxy.mark()
    come_back(servers, line, "SNAP", mark)
    settle(servers, line)


def diff_from_log(servers, line, turn):
    servers.make_lead(servers[2])
    diff(servers, line, turn, MANY)


def write_many(servers, member, root, count):
    """That many creates through a member, many at a time; returns their zxids."""
    with servers.link(member) as link:
        link.create(root)
        zxids = []
        for start in range(0, count, 100):
            numbers = range(start, min(start + 100, count))
            link.send_many([(wire.CREATE, wire.create_body(f"{root}/{number}", b"x" * 50)) for number in numbers])
            for _ in numbers:
                reply = link.recv()
                assert not reply.err, f"error {reply.err}"
                zxids.append(reply.zxid)
        link.close_session()
    return zxids


STEPS = {
    "TRUNC": trunc,
    "DIFF": diff,
    "SNAP to lost files": snap_lost_files,
    "SNAP to one far behind": snap_far_behind,
}


#: Of an observer, which has nothing of its own to truncate.
OBSERVER_STEPS = {"DIFF": diff, "SNAP to lost files": snap_lost_files}
#: With a leader that reads its log for a learner.
LOG_STEPS = {"DIFF from the log": diff_from_log}


def run(learner, leader, checks, from_log=False):
    """All ways for one pair of kinds (letters as in mixed.py; a small one for an observer)."""
    observes = learner.islower()
    steps = LOG_STEPS if from_log else OBSERVER_STEPS if observes else STEPS
    config = {"snapshotSizeFactor": 0 if from_log else -1}
    with MixedEnsemble(f"{learner.upper()}{leader}{learner}", config=config) as servers, checks.context(servers):
        kind = servers.kind(servers[3]) + (" (observer)" if observes else "")
        name = f"{kind} catches up from {servers.kind(servers[2])}"
        with checks.check(f"{name}: starts") as line:
            servers.start()
            servers.make_lead(servers[2] if observes else servers[3])
            line.add(servers.describe())
            with servers.link(servers[1], ALICE, 120_000) as link:
                furnish(link, "/before")
            line.add(servers.assert_agree())
        if line.failed:
            return
        for turn, step in enumerate(steps):
            with checks.check(f"{name} by {step}") as line:
                steps[step](servers, line, turn)
            if line.failed:
                return
