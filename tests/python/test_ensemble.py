"""`zabkit.Ensemble` in `with`: roles, failures of members, and what happens after the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from aids import contents, is_refused, threads, until
from kazoo.client import KazooClient

import zabkit
from zabkit import Role
from zabkit.blocking import Ensemble, Member

Connect = Callable[[str], KazooClient]


def test_three_members_have_one_leader_and_two_followers(zk_ensemble: Ensemble) -> None:
    assert zk_ensemble.leader.status.role is Role.LEADING
    assert [m.status.role for m in zk_ensemble.followers] == [Role.FOLLOWING] * 2
    assert {m.status.leader for m in zk_ensemble} == {zk_ensemble.leader.id}
    assert [m.id for m in zk_ensemble.members] == [1, 2, 3]
    assert zk_ensemble[2] is zk_ensemble.members[1]
    assert zk_ensemble.hosts == ",".join(m.hosts for m in zk_ensemble)
    assert len(zk_ensemble) == 3


def test_observers_follow_without_a_vote(connect: Connect) -> None:
    with zabkit.Ensemble(1, observers=2) as ensemble:
        assert len(ensemble) == 3
        assert [m.status.role for m in ensemble] == [Role.LEADING, Role.OBSERVING, Role.OBSERVING]
        assert [m.id for m in ensemble.observers] == [2, 3]
        connect(ensemble[3].hosts).create("/app", b"v1")
        reader = connect(ensemble[2].hosts)
        reader.sync("/app")
        assert reader.get("/app")[0] == b"v1"
        ensemble[1].kill()
        until(lambda: not ensemble.observers)
        ensemble[1].restart()
        until(lambda: len(ensemble.observers) == 2)


def test_with_gives_the_blocking_class() -> None:
    with zabkit.Ensemble(1) as ensemble:
        assert isinstance(ensemble, Ensemble)
        assert isinstance(ensemble.leader, Member)


def test_an_unknown_id_is_a_key_error(zk_ensemble: Ensemble) -> None:
    with pytest.raises(KeyError):
        zk_ensemble[4]


def test_a_write_through_a_follower_is_read_everywhere(zk_ensemble: Ensemble, connect: Connect) -> None:
    connect(zk_ensemble.followers[0].hosts).create("/app", b"v1")
    for member in zk_ensemble:
        client = connect(member.hosts)
        client.sync("/app")
        assert client.get("/app")[0] == b"v1"


def test_a_killed_leader_is_replaced_and_comes_back_as_follower(zk_ensemble: Ensemble, connect: Connect) -> None:
    client = connect(zk_ensemble.hosts)
    client.create("/before", b"1")
    old = zk_ensemble.leader
    epoch = old.status.epoch

    old.kill()
    assert old.status.role is Role.ENDED
    assert not old.status.serving
    new = zk_ensemble.wait_for_leader()
    assert new.id != old.id
    assert new.status.epoch > epoch
    client.retry(client.create, "/after", b"2")

    old.restart()
    old.wait_until_serving()
    assert old.status.role is Role.FOLLOWING
    back = connect(old.hosts)
    back.sync("/")
    assert back.get("/before")[0] == b"1"
    assert back.get("/after")[0] == b"2"


def test_a_member_comes_back_on_its_own_port(zk_ensemble: Ensemble, connect: Connect) -> None:
    member = zk_ensemble.followers[0]
    before = member.hosts
    member.stop()
    assert member.status.role is Role.ENDED
    assert is_refused(before)
    member.restart()
    member.wait_until_serving()
    assert member.hosts == before
    connect(before)


def test_a_leader_without_a_majority_stops_serving(zk_ensemble: Ensemble) -> None:
    last, others = zk_ensemble.leader, zk_ensemble.followers
    for member in others:
        member.kill()
    until(lambda: not last.status.serving)
    with pytest.raises(zabkit.NoLeaderError):
        _ = zk_ensemble.leader
    with pytest.raises(zabkit.EnsembleError):
        last.wait_until_serving(timeout=0.05)
    others[0].restart()
    last.wait_until_serving()


def test_all_members_killed_at_once_come_back_with_every_write(zk_ensemble: Ensemble, connect: Connect) -> None:
    client = connect(zk_ensemble.hosts)
    paths = [client.create("/n-", str(i).encode(), sequence=True) for i in range(50)]
    zk_ensemble.kill()
    assert {m.status.role for m in zk_ensemble} == {Role.ENDED}
    with pytest.raises(zabkit.NoLeaderError, match="no member serves"):
        _ = zk_ensemble.leader
    zk_ensemble.restart()
    again = connect(zk_ensemble.hosts)
    assert [again.get(path)[0] for path in paths] == [str(i).encode() for i in range(50)]


def test_waiting_for_a_leader_that_cannot_come_ends_with_a_reason(zk_ensemble: Ensemble) -> None:
    zk_ensemble.kill()
    with pytest.raises(zabkit.NoLeaderError):
        zk_ensemble.wait_for_leader(timeout=0.05)


def test_equal_trees_have_equal_digests(zk_ensemble: Ensemble, connect: Connect) -> None:
    client = connect(zk_ensemble.hosts)
    for i in range(20):
        client.create(f"/n{i}", b"x" * i)
    for member in zk_ensemble:
        connect(member.hosts).sync("/")
    statuses = {(m.status.last_processed, m.status.tree_digest) for m in zk_ensemble}
    # Sessions opened above are transactions too, so a member may be a zxid behind; its digest then is the same.
    assert len({digest for _, digest in statuses}) == 1


def test_a_killed_member_writes_nothing_any_more(tmp_path: Path, connect: Connect) -> None:
    with zabkit.Ensemble(3, dir=tmp_path) as ensemble:
        client = connect(",".join(m.hosts for m in ensemble))
        victim = ensemble.leader
        directory = tmp_path / str(victim.id)
        assert contents(directory), f"no files in {directory}"
        client.create("/load", b"")
        pending = [client.set_async("/load", str(i).encode()) for i in range(300)]

        victim.kill()
        after_kill = contents(directory)

        ensemble.wait_for_leader()
        for reply in pending:
            reply.wait()  # Some fail with the connection; none of them may reach the dead member's disk.
        for i in range(200):
            client.retry(client.set, "/load", b"after %d" % i)
        assert contents(directory) == after_kill


def test_the_threads_are_gone_after_the_end() -> None:
    before = threads()
    with zabkit.Ensemble(3) as ensemble:
        assert len(threads()) > len(before)
        ensemble.leader.kill()
    assert threads() == before


def test_a_given_directory_stays_and_is_used_again(tmp_path: Path, connect: Connect) -> None:
    with zabkit.Ensemble(3, dir=tmp_path) as ensemble:
        connect(ensemble.hosts).create("/kept", b"1")
    with zabkit.Ensemble(3, dir=tmp_path) as ensemble:
        assert connect(ensemble.hosts).get("/kept")[0] == b"1"


def test_after_the_end_everything_says_that_it_does_not_run() -> None:
    handle = zabkit.Ensemble(3)
    with pytest.raises(zabkit.ClosedError, match="does not run"):
        _ = handle.hosts
    with handle as ensemble:
        member, hosts = ensemble.leader, ensemble.hosts
    for use in (
        lambda: ensemble.hosts,
        lambda: ensemble.leader,
        lambda: ensemble.members,
        lambda: ensemble.wait_for_leader(),
        lambda: ensemble.kill(),
        lambda: member.status,
        lambda: member.kill(),
        lambda: member.restart(),
    ):
        with pytest.raises(zabkit.ClosedError, match="does not run"):
            use()
    ensemble.stop()  # A second time is nothing.
    for address in hosts.split(","):
        assert is_refused(address)


def test_it_can_be_started_again_after_the_end() -> None:
    ensemble = Ensemble(1)
    for _ in range(2):
        ensemble.start()
        assert ensemble.leader.id == 1
        ensemble.stop()


def test_a_directory_that_is_a_file_is_a_start_error_with_the_path(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory")
    with pytest.raises(zabkit.StartError, match=str(file)):
        Ensemble(3, dir=file).start()


def test_an_ensemble_of_no_servers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        zabkit.Ensemble(0)


def test_an_exception_in_the_block_stops_the_ensemble() -> None:
    with pytest.raises(RuntimeError, match="mine"), zabkit.Ensemble(1) as ensemble:
        raise RuntimeError("mine")
    with pytest.raises(zabkit.ClosedError):
        _ = ensemble.hosts
