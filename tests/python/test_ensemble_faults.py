"""What an `Ensemble` does to its members, and what a client of them sees of it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aids import contents, until
from kazoo.client import KazooClient

import zabkit
from zabkit import Role
from zabkit.blocking import Ensemble, Member

Connect = Callable[[str], KazooClient]

#: Short enough that a test may wait for `syncLimit`.
fast = pytest.mark.zabkit(tick_time_ms=50)


def followers(ensemble: Ensemble) -> list[Member]:
    leader = ensemble.leader
    return [member for member in ensemble if member is not leader]


def agree(ensemble: Ensemble) -> bool:
    """Whether all serve and have the same tree."""
    statuses = [member.status for member in ensemble]
    return all(s.serving for s in statuses) and len({(s.last_processed, s.tree_digest) for s in statuses}) == 1


# ----- partition ------------------------------------------------------------------------------------------------------


@fast
def test_a_leader_that_is_cut_off_stops_serving_and_the_others_elect(zk_ensemble: Ensemble, connect: Connect) -> None:
    old, others = zk_ensemble.leader, followers(zk_ensemble)
    connect(zk_ensemble.hosts).create("/before", b"1")
    zk_ensemble.partition({old}, others)
    new = zk_ensemble.wait_for_leader()
    assert new in others
    until(lambda: not old.status.serving)
    assert old.status.role is not Role.ENDED
    connect(",".join(m.hosts for m in others)).create("/meanwhile", b"2")

    zk_ensemble.heal()
    old.wait_until_serving()
    assert old.status.role is Role.FOLLOWING
    until(lambda: agree(zk_ensemble))
    back = connect(old.hosts)
    assert (back.get("/before")[0], back.get("/meanwhile")[0]) == (b"1", b"2")


@fast
def test_a_follower_that_is_cut_off_stops_serving_and_comes_back(zk_ensemble: Ensemble, connect: Connect) -> None:
    cut = followers(zk_ensemble)[0]
    leader, epoch = zk_ensemble.leader, zk_ensemble.leader.status.epoch
    zk_ensemble.partition({m.id for m in zk_ensemble if m is not cut})  # In no group: cut off from all.
    until(lambda: not cut.status.serving)
    connect(leader.hosts).create("/meanwhile", b"1")
    assert leader.status.serving
    zk_ensemble.heal()
    cut.wait_until_serving()
    until(lambda: agree(zk_ensemble))
    assert zk_ensemble.leader.status.epoch >= epoch


@fast
def test_without_a_majority_nobody_serves_until_it_is_healed(zk_ensemble: Ensemble, connect: Connect) -> None:
    client = connect(zk_ensemble.hosts)
    client.create("/kept", b"1")
    zk_ensemble.partition({1}, {2}, {3})
    with pytest.raises(zabkit.NoLeaderError, match="no member serves as leader"):
        _ = zk_ensemble.leader
    until(lambda: not any(member.status.serving for member in zk_ensemble))
    with pytest.raises(zabkit.NoLeaderError, match=r"within 0\.05 s; server 1 is looking in epoch") as refused:
        zk_ensemble.wait_for_leader(timeout=0.05)
    assert not re.search(r"Looking|Some\(|\d+ms", str(refused.value)), "Rust's words"
    zk_ensemble.heal()
    zk_ensemble.wait_for_leader()
    assert client.retry(client.get, "/kept")[0] == b"1"


def test_a_partition_that_cannot_be_is_a_value_error(zk_ensemble: Ensemble) -> None:
    leader = zk_ensemble.leader
    for groups, message in [
        (({1}, {1, 2}), "server 1 is in two groups"),
        (({1}, {4}), "no server 4 in this ensemble"),
        (([1, 1],), "twice in one group"),
        ((), "at least one group"),
        (({"1"},), "str"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            zk_ensemble.partition(*groups)
    with zabkit.blocking.Ensemble(1) as other:
        with pytest.raises(ValueError, match="a member of another ensemble"):
            zk_ensemble.partition({1, 2}, {other[1]})
        with pytest.raises(ValueError, match="a member of another ensemble"):
            zk_ensemble.slow_link(other[1], 2, 0.1)
    assert zk_ensemble.leader is leader


# ----- slow links -----------------------------------------------------------------------------------------------------


def test_a_slow_link_is_seen_by_a_sync_and_not_by_a_read(zk_ensemble: Ensemble, connect: Connect) -> None:
    leader, slow = zk_ensemble.leader, followers(zk_ensemble)[0]
    client = connect(slow.hosts)
    client.create("/a", b"1")
    zk_ensemble.slow_link(leader, slow, 0.3)
    took = timed(lambda: client.sync("/a"))
    assert took >= 0.6
    assert timed(lambda: client.get("/a")) < took
    zk_ensemble.slow_link(leader.id, slow.id, latency=0, loss=0)
    until(lambda: timed(lambda: client.sync("/a")) < 0.3)

    zk_ensemble.slow_link(leader, slow, 0.3, both_ways=False)
    assert timed(lambda: client.sync("/a")) >= 0.3
    zk_ensemble.heal()
    until(lambda: timed(lambda: client.sync("/a")) < 0.3)


def test_a_lossy_link_loses_nothing_but_time(zk_ensemble: Ensemble, connect: Connect) -> None:
    leader, lossy = zk_ensemble.leader, followers(zk_ensemble)[0]
    client = connect(lossy.hosts)
    zk_ensemble.slow_link(leader, lossy, latency=0, loss=0.05)
    paths = [client.create("/n-", str(i).encode(), sequence=True) for i in range(10)]
    zk_ensemble.heal()
    assert [client.get(path)[0] for path in paths] == [str(i).encode() for i in range(10)]
    assert leader.status.serving


def test_a_link_that_cannot_be_is_a_value_error(zk_ensemble: Ensemble) -> None:
    for arguments, message in [
        ((1, 1, 0.1), "no link to itself"),
        ((1, 9, 0.1), "no server 9"),
        ((1, 2, -0.1), "latency is in seconds"),
        ((1, 2, float("nan")), "latency is in seconds"),
        ((1, 2, 0.1, 1.0), "from 0 to below 1"),
        ((1, 2, 0.1, -0.5), "from 0 to below 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            zk_ensemble.slow_link(*arguments)


def timed(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


# ----- pause ----------------------------------------------------------------------------------------------------------


@fast
def test_a_paused_leader_is_replaced_and_follows_when_it_wakes_up(zk_ensemble: Ensemble, connect: Connect) -> None:
    old = zk_ensemble.leader
    stale = connect(old.hosts)
    stale.create("/a", b"old")
    old.pause()
    assert old.is_paused
    new = zk_ensemble.wait_for_leader()
    assert new is not old
    connect(new.hosts).set("/a", b"new")
    # Its socket is open: the read is taken, and answered by a server that has slept over its lease, or not at all.
    asked = stale.get_async("/a")
    old.resume()
    assert not old.is_paused
    asked.wait(timeout=30)
    assert asked.exception is not None or asked.value[0] == b"new"
    old.wait_until_serving()
    assert old.status.role is Role.FOLLOWING
    until(lambda: agree(zk_ensemble))


def test_a_paused_member_answers_nothing_and_all_of_it_when_it_goes_on(zk_ensemble: Ensemble, connect: Connect) -> None:
    member = followers(zk_ensemble)[0]
    client = connect(member.hosts)
    client.create("/a", b"1")
    member.pause()
    before = member.status
    asked = [client.get_async("/a") for _ in range(10)]
    assert not asked[0].wait(0.1)
    assert member.status == before
    member.resume()
    assert [each.get(timeout=30)[0] for each in asked] == [b"1"] * 10


@pytest.mark.parametrize("end", ["kill", "stop", "restart"])
def test_a_paused_member_ends_as_any_other(zk_ensemble: Ensemble, end: str) -> None:
    member = followers(zk_ensemble)[0]
    member.pause()
    getattr(member, end)()
    assert not member.is_paused
    if end == "restart":
        member.wait_until_serving()
    else:
        assert member.status.role is Role.ENDED
        member.resume()  # Nothing.


def test_an_ensemble_with_a_paused_member_stops() -> None:
    with zabkit.Ensemble(3) as ensemble:
        for member in ensemble:
            member.pause()


# ----- disk -----------------------------------------------------------------------------------------------------------


def test_a_full_disk_ends_its_server_with_a_reason_that_names_the_file(zk_ensemble: Ensemble, connect: Connect) -> None:
    full, leader = followers(zk_ensemble)[0], zk_ensemble.leader
    client = connect(leader.hosts)
    full.fill_disk()
    client.create("/a", b"1")
    until(lambda: full.status.role is Role.ENDED)
    failure = full.status.failure
    assert failure is not None
    assert re.search(r"cannot .+/version-2/log\.\S+.*No space left on device", failure), failure
    assert any("No space left on device" in line.text for line in full.log if line.level == "ERROR")
    assert leader.status.serving

    with pytest.raises(zabkit.EnsembleError, match="No space left on device"):
        full.restart()
    full.free_disk()
    full.restart()
    full.wait_until_serving()
    assert connect(full.hosts).get("/a")[0] == b"1"


def test_a_slow_disk_delays_what_needs_it_and_no_heartbeat(zk_ensemble: Ensemble, connect: Connect) -> None:
    epoch = zk_ensemble.leader.status.epoch
    client = connect(zk_ensemble.hosts)
    for member in zk_ensemble:
        member.slow_disk(0.2)
    assert timed(lambda: client.create("/a", b"1")) >= 0.2
    assert timed(lambda: client.get("/a")) < 0.2
    for member in zk_ensemble:
        member.slow_disk(0)
    until(lambda: timed(lambda: client.set("/a", b"2")) < 0.2)
    assert zk_ensemble.leader.status.epoch == epoch
    with pytest.raises(ValueError, match="delay is in seconds"):
        zk_ensemble[1].slow_disk(-1)


def test_a_kill_and_the_end_do_not_wait_for_a_slow_disk(connect: Connect) -> None:
    with zabkit.Ensemble(3) as ensemble:
        victim, leader = followers(ensemble)[0], ensemble.leader
        client = connect(leader.hosts)
        for member in ensemble:
            member.slow_disk(3600)
        pending = client.create_async("/a", b"1")
        victim.kill()
        assert victim.status.role is Role.ENDED
        assert not pending.ready()
    assert not Path(ensemble._hosts).exists()


# ----- kill, logs, transitions ----------------------------------------------------------------------------------------


def test_when_a_leaders_kill_returns_the_survivors_follow_it_no_more(zk_ensemble: Ensemble) -> None:
    for _ in range(5):
        old = zk_ensemble.leader
        old.kill()
        assert all(member.status.leader != old.id for member in zk_ensemble)
        zk_ensemble.wait_for_leader()
        old.restart()
        for member in zk_ensemble:
            member.wait_until_serving()


def test_logs_and_transitions_tell_who_did_what(zk_ensemble: Ensemble) -> None:
    old = zk_ensemble.leader
    old.kill()
    new = zk_ensemble.wait_for_leader()
    until(lambda: any(t.server == new.id and t.after is Role.LEADING and t.serving for t in zk_ensemble.transitions))
    seen = [(t.server, t.before, t.after) for t in zk_ensemble.transitions]
    assert seen.index((old.id, Role.LEADING, Role.ENDED)) < seen.index((new.id, Role.LOOKING, Role.LEADING))
    killed = next(t for t in zk_ensemble.transitions if (t.server, t.after) == (old.id, Role.ENDED))
    assert killed.reason == "killed"
    assert re.fullmatch(rf"\d\d:\d\d:\d\d\.\d+ \[{old.id}\] leading -> ended, epoch \d+: killed", str(killed))
    assert abs(killed.time - time.time()) < 3600

    log = new.log
    assert {line.server for line in log} == {new.id}
    assert any("LEADER ELECTION TOOK" in line.text for line in log)
    assert {line.server for line in zk_ensemble.logs} == {1, 2, 3}
    assert str(log[0]).startswith(time.strftime("%H:", time.gmtime(log[0].time)))


# ----- what is left behind --------------------------------------------------------------------------------------------

STARTS = """
import os, signal, sys, tempfile, zabkit
tempfile.tempdir = sys.argv[1]
ensemble = zabkit.blocking.Ensemble(3)
ensemble.start()
print("up", flush=True)
{end}
"""


def run(end: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", STARTS.format(end=end), str(directory)],
        env={"PATH": "", "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_folders_of_a_process_that_was_killed_are_swept_by_the_next(tmp_path: Path) -> None:
    done = run("os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    assert (done.returncode, done.stdout) == (-9, "up\n"), done.stderr
    assert contents(tmp_path), "a killed process cleans nothing up"
    done = run("", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "up\n", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "end",
    [
        "",
        "sys.exit()",
        "os.kill(os.getpid(), signal.SIGINT)",
        "ensemble.leader.pause()",
        "raise ValueError",
        "os.kill(os.getpid(), signal.SIGINT); ensemble.wait_for_leader()",
        # Ctrl-C while something waits in Rust.
        "ensemble.kill(); signal.setitimer(signal.ITIMER_REAL, 0.1); "
        "signal.signal(signal.SIGALRM, signal.default_int_handler); ensemble.wait_for_leader(600)",
    ],
)
def test_nothing_is_left_after_ctrl_c_or_an_exit(tmp_path: Path, end: str) -> None:
    done = run(end, tmp_path)
    assert done.stdout == "up\n", done.stderr
    assert done.returncode in (0, 1, -2, 130)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_live_process_is_not_swept() -> None:
    with zabkit.Ensemble(3) as ensemble:
        with zabkit.Ensemble(1):
            pass
        locks = list(Path(tempfile.gettempdir()).glob("zabkit-*.lock"))
        assert locks
        ensemble.leader.restart()
        ensemble.wait_for_leader()


def test_arguments_that_make_no_sense_are_named() -> None:
    with pytest.raises(TypeError, match="servers is a whole number, not 'x'"):
        zabkit.Ensemble("x")
    with pytest.raises(TypeError, match="tick_time_ms is a whole number"):
        zabkit.Ensemble(3, tick_time_ms=0.5)
    with pytest.raises(ValueError, match="servers is at least one, not -1"):
        zabkit.Ensemble(-1)
    with pytest.raises(TypeError):
        zabkit.Ensemble(3, dir=7)
