"""`Ensemble.add` and `remove`, and `hand_over`: the members change, and who leads, while clients go on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from aids import is_refused, until

import zabkit
from zabkit import Role, blocking


class Writer:
    """An asyncio client that writes all the time; what was acknowledged must stay."""

    def __init__(self, client: zabkit.Client) -> None:
        self.client = client
        self.acknowledged: list[str] = []
        self.progress = asyncio.Event()

    async def run(self) -> None:
        number = 0
        while True:
            number += 1
            with contextlib.suppress(zabkit.ConnectionLossError):  # Nobody knows whether that one happened.
                await self.client.create(f"/load/{number}", b"")
                self.acknowledged.append(str(number))
                self.progress.set()

    async def goes_on(self) -> None:
        """Returns when another write has been acknowledged."""
        self.progress.clear()
        await asyncio.wait_for(self.progress.wait(), 30)


@contextlib.asynccontextmanager
async def writing(hosts: str) -> AsyncIterator[Writer]:
    async with zabkit.Client(hosts) as client:
        await client.create("/load", b"")
        session = client.client_id
        writer = Writer(client)
        running = asyncio.create_task(writer.run())
        try:
            yield writer
        finally:
            running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        assert client.client_id == session


async def listed(client: zabkit.Client) -> dict[int, str]:
    """The members by id, with their roles, as `/zookeeper/config` has them."""
    await client.sync()
    lines = (await client.get_config())[0].decode().splitlines()
    servers = [line.removeprefix("server.").split("=") for line in lines if line.startswith("server.")]
    return {int(id): address.partition(";")[0].rpartition(":")[2] for id, address in servers}


async def is_kept(hosts: str, acknowledged: Sequence[str]) -> None:
    async with zabkit.Client(hosts) as reader:
        await reader.sync()
        missing = set(acknowledged) - set(await reader.get_children("/load"))
        assert not missing, f"{len(missing)} of {len(acknowledged)} acknowledged writes are missing"


async def test_one_becomes_three_five_three_and_one_under_a_writing_client() -> None:
    async with zabkit.Ensemble(1) as ensemble, writing(ensemble.hosts) as writer:
        for size in (2, 3, 4, 5):
            added = await ensemble.add()
            assert (added.id, added.status.role, added.status.serving) == (size, Role.FOLLOWING, True)
            assert ensemble[size] is added
            assert ensemble.hosts.split(",") == [member.hosts for member in ensemble]
            writer.client.set_hosts(ensemble.hosts)
            await writer.goes_on()
        assert len(ensemble) == 5
        assert await listed(writer.client) == dict.fromkeys(range(1, 6), "participant")

        for leaves in (True, False, True, False):  # The leader, then another one.
            leader = ensemble.leader
            member = leader if leaves else next(other for other in ensemble if other is not leader)
            writer.client.set_hosts([other.hosts for other in ensemble if other is not member])
            await ensemble.remove(member)
            assert member not in ensemble.members
            assert member.status.role is Role.ENDED
            assert is_refused(member.hosts)
            await writer.goes_on()
        (last,) = ensemble
        assert last is ensemble.leader
        assert await listed(writer.client) == {last.id: "participant"}

        # What is in its files is the ensemble of one.
        await ensemble.restart()
        await writer.goes_on()
        await is_kept(last.hosts, writer.acknowledged)


async def test_an_observer_joins_gets_every_write_and_leaves() -> None:
    async with zabkit.Ensemble(3, observers=1) as ensemble, writing(ensemble.hosts) as writer:
        observer = await ensemble.add("observer")
        assert observer.status.role is Role.OBSERVING
        assert observer in ensemble.observers
        assert await listed(writer.client) == {**dict.fromkeys((1, 2, 3), "participant"), 4: "observer", 5: "observer"}
        await writer.goes_on()
        await is_kept(observer.hosts, writer.acknowledged)
        await ensemble.remove(4)
        await ensemble.remove(observer)
        assert not ensemble.observers
        assert [member.id for member in ensemble] == [1, 2, 3]
        await writer.goes_on()
        await is_kept(ensemble.hosts, writer.acknowledged)


async def test_a_dead_member_is_replaced_and_a_new_one_comes_back_after_a_kill(zk_ensemble: zabkit.Ensemble) -> None:
    dead = zk_ensemble.leader
    await dead.kill()
    new = await zk_ensemble.add()
    await zk_ensemble.remove(dead)
    assert [member.id for member in zk_ensemble] == sorted({1, 2, 3, 4} - {dead.id})
    await new.kill()
    await new.restart()
    await new.wait_until_serving()
    assert new.status.role in (Role.FOLLOWING, Role.LEADING)
    # It votes: with it and one other, the third is not needed.
    await next(member for member in zk_ensemble if member is not new).kill()
    assert (await zk_ensemble.wait_for_leader()).status.serving
    with pytest.raises(zabkit.EnsembleError, match=rf"no server {dead.id}"):
        await dead.restart()


async def test_an_ensemble_that_changed_in_a_folder_is_started_as_it_was_left(tmp_path: Path) -> None:
    async with zabkit.Ensemble(1, dir=tmp_path) as ensemble:
        await ensemble.add()
        await ensemble.add("observer")
        await ensemble.remove(1)
        async with zabkit.Client(ensemble.hosts) as client:
            await client.create("/kept", b"1")
    async with zabkit.Ensemble(1, dir=tmp_path) as ensemble:
        assert [(member.id, member.status.role) for member in ensemble] == [(2, Role.LEADING), (3, Role.OBSERVING)]
        assert (await ensemble.add()).id == 4  # Folder 1 is another's.
        async with zabkit.Client(ensemble[4].hosts) as client:
            await client.sync()
            assert (await client.get("/kept"))[0] == b"1"
            assert await listed(client) == {2: "participant", 3: "observer", 4: "participant"}


async def test_what_cannot_be_changed_is_said_and_changes_nothing() -> None:
    async with zabkit.Ensemble(1) as ensemble:
        with pytest.raises(zabkit.EnsembleError, match="server 1 is the last one that votes"):
            await ensemble.remove(1)
        with pytest.raises(ValueError, match="no server 7"):
            await ensemble.remove(7)
        with pytest.raises(ValueError, match="'participant' or 'observer'"):
            await ensemble.add("witness")  # type: ignore[arg-type]  # No such role: the test is about the refusal.
        with pytest.raises(ValueError, match="timeout"):
            await ensemble.add(timeout=-1)
        await ensemble[1].kill()
        with pytest.raises(zabkit.EnsembleError, match="no service of server 2"):
            await ensemble.add(timeout=0.05)
        assert [member.id for member in ensemble] == [1]
        await ensemble.restart()
        assert ensemble.leader.id == 1
        assert (await ensemble.add()).status.serving
    with pytest.raises(zabkit.ClosedError):
        await ensemble.add()
    with pytest.raises(zabkit.ClosedError):
        await ensemble.remove(1)


async def test_without_a_majority_nothing_changes_and_asking_again_does_it(zk_ensemble: zabkit.Ensemble) -> None:
    leaving, other = zk_ensemble.followers
    for member in (leaving, other):
        await member.pause()
    with pytest.raises(zabkit.EnsembleError, match=f"no agreement that server {leaving.id} is no member any more"):
        await zk_ensemble.remove(leaving, timeout=0.3)
    with pytest.raises(zabkit.EnsembleError, match=r"server 4.*2 is \w+.*paused"):
        await zk_ensemble.add(timeout=0.3)
    assert [member.id for member in zk_ensemble] == [1, 2, 3]
    for member in (leaving, other):
        await member.resume()
    await zk_ensemble.remove(leaving)
    assert (await zk_ensemble.add()).id == 5
    async with zabkit.Client(zk_ensemble.hosts) as client:
        assert list(await listed(client)) == [member.id for member in zk_ensemble]


async def test_a_client_is_told_of_a_change_and_may_make_none(zk_ensemble: zabkit.Ensemble) -> None:
    async with zabkit.Client(zk_ensemble.hosts) as client:
        with pytest.raises(zabkit.NoAuthError):
            await client.reconfig(None, "1", None)
        async with client.watch("/zookeeper/config") as events:
            before = await listed(client)
            await zk_ensemble.add("observer")
            assert (await asyncio.wait_for(anext(events), 30)).path == "/zookeeper/config"
        assert await listed(client) == before | {4: "observer"}


async def test_changes_asked_for_at_once_are_made_one_after_the_other() -> None:
    async with zabkit.Ensemble(1) as ensemble:
        added = await asyncio.gather(*(ensemble.add() for _ in range(2)))
        assert sorted(member.id for member in added) == [2, 3]
        assert [member.id for member in ensemble] == [1, 2, 3]


async def test_each_member_leads_in_turn_while_a_client_writes(zk_ensemble: zabkit.Ensemble) -> None:
    async with writing(zk_ensemble.hosts) as writer:
        for _ in range(4):
            old = zk_ensemble.leader
            await asyncio.gather(*(member.wait_until_serving() for member in zk_ensemble))
            new = await old.hand_over()
            assert new is not old
            assert new is zk_ensemble.leader
            assert new.status.epoch > 1
            await writer.goes_on()
        await is_kept(zk_ensemble.hosts, writer.acknowledged)


async def test_only_a_leader_with_followers_hands_over(zk_ensemble: zabkit.Ensemble) -> None:
    leader, follower = zk_ensemble.leader, zk_ensemble.followers[0]
    with pytest.raises(zabkit.EnsembleError, match=f"server {follower.id}: only a leader can hand over.*following"):
        await follower.hand_over()
    assert zk_ensemble.leader is leader
    await leader.pause()
    with pytest.raises(zabkit.EnsembleError, match="leads on"):
        await leader.hand_over(timeout=0.05)
    async with zabkit.Ensemble(1) as alone:
        with pytest.raises(zabkit.EnsembleError, match="no follower that could lead"):
            await alone.leader.hand_over()
    with pytest.raises(zabkit.ClosedError):
        await alone[1].hand_over()


async def test_a_server_hands_over_to_another_of_its_ensemble(zk_server: zabkit.Server, tmp_path: Path) -> None:
    with pytest.raises(zabkit.EnsembleError, match="only a leader can hand over, this server is standalone"):
        await zk_server.hand_over()
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(6)]
    addresses = {id: f"127.0.0.1:{ports[id - 1]}:{ports[id + 2]}" for id in (1, 2, 3)}
    async with contextlib.AsyncExitStack() as running:
        servers = {}
        for id in addresses:
            server = zabkit.Server(data_dir=tmp_path / str(id), my_id=id, servers=addresses, tick_time_ms=200)
            servers[id] = await running.enter_async_context(server)
        for server in servers.values():
            await server.wait_until_serving()
        old = next(server for server in servers.values() if server.status.role is Role.LEADING)
        leader = await old.hand_over()
        assert old.status.role is Role.FOLLOWING
        assert servers[leader] is not old
        await servers[leader].wait_until_serving()
        assert servers[leader].status.role is Role.LEADING
        with pytest.raises(zabkit.EnsembleError, match="following"):
            await old.hand_over(timeout=1)


def test_it_all_blocks_as_well(zk_ensemble: blocking.Ensemble) -> None:
    new = zk_ensemble.add(role="observer")
    assert isinstance(new, blocking.Member)
    assert new.status.role is Role.OBSERVING
    old = zk_ensemble.leader
    leader = old.hand_over()
    assert leader is zk_ensemble.leader
    zk_ensemble.remove(leader)
    assert len(zk_ensemble) == 3
    assert zk_ensemble.leader is not leader
    zk_ensemble.remove(new.id, timeout=20)
    assert len(zk_ensemble) == 2
    until(lambda: all(member.status.serving for member in zk_ensemble))
