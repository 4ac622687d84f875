"""`zabkit.Ensemble` in `async with`: the same, and the event loop goes on."""

from __future__ import annotations

import asyncio
import gc
import inspect

import pytest
from aids import is_refused, until

import zabkit
from zabkit import Role


async def test_the_leader_is_killed_and_another_takes_over() -> None:
    async with zabkit.Ensemble(3) as ensemble:
        assert isinstance(ensemble, zabkit.Ensemble)
        old = ensemble.leader
        await old.kill()
        new = await ensemble.wait_for_leader()
        assert new.id != old.id
        await old.restart()
        await old.wait_until_serving()
        assert old.status.role is Role.FOLLOWING
    with pytest.raises(zabkit.ClosedError):
        await ensemble.wait_for_leader()


async def test_start_stop_and_restart_are_awaitable_without_with() -> None:
    ensemble = zabkit.Ensemble(3)
    await ensemble.start()
    await ensemble.kill()
    assert {m.status.role for m in ensemble} == {Role.ENDED}
    await ensemble.restart()
    assert (await ensemble.wait_for_leader()).status.serving
    await ensemble.stop()
    await ensemble.stop()


async def test_the_loop_turns_while_it_starts() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    async with zabkit.Ensemble(3):
        while_starting = turns
    counting.cancel()
    assert while_starting > 1


async def test_members_are_restarted_in_a_task_group(zk_ensemble: zabkit.Ensemble) -> None:
    for member in zk_ensemble:
        await member.stop()
    await asyncio.gather(*(asyncio.create_task(member.restart()) for member in zk_ensemble))
    await asyncio.gather(*(member.wait_until_serving() for member in zk_ensemble))


async def test_waiting_in_vain_can_be_cancelled(zk_ensemble: zabkit.Ensemble) -> None:
    await zk_ensemble.kill()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(zk_ensemble.wait_for_leader(timeout=1.0), 0.01)
    with pytest.raises(zabkit.NoLeaderError):
        await zk_ensemble.wait_for_leader(timeout=0.01)


async def test_a_start_that_is_cancelled_leaves_nothing_running() -> None:
    ensemble = zabkit.Ensemble(3)
    starting = asyncio.create_task(ensemble.start())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    with pytest.raises(zabkit.ClosedError):
        _ = ensemble.hosts
    await ensemble.start()
    await ensemble.stop()


async def test_an_error_has_its_reason_in_the_asynchronous_form_too() -> None:
    with pytest.raises(zabkit.StartError, match="/dev/null"):
        await zabkit.Ensemble(3, dir="/dev/null").start()


def test_two_loops_one_after_the_other() -> None:
    async def once() -> int:
        async with zabkit.Ensemble(1) as ensemble:
            return ensemble.leader.id

    assert [asyncio.run(once()) for _ in range(2)] == [1, 1]


def test_what_may_wait_is_a_coroutine_function_and_has_a_blocking_twin() -> None:
    for name in ("Ensemble", "Member", "Server"):
        face, twin = getattr(zabkit, name), getattr(zabkit.blocking, name)
        waits = {key for key, value in vars(face).items() if inspect.iscoroutinefunction(value) and key[0] != "_"}
        assert {"kill", "stop", "restart"} <= waits
        for key in waits:
            assert callable(getattr(twin, key)), f"{name}.{key} has no blocking twin"
            assert not inspect.iscoroutinefunction(getattr(twin, key))
            face_parameters = inspect.signature(getattr(face, key)).parameters
            assert face_parameters == inspect.signature(getattr(twin, key)).parameters


def test_a_loop_that_ends_without_stopping_leaves_no_server() -> None:
    async def forget() -> str:
        ensemble = zabkit.Ensemble(1)
        await ensemble.start()
        return ensemble.hosts

    hosts = asyncio.run(forget())
    gc.collect()
    until(lambda: is_refused(hosts))


async def test_a_client_of_a_survivor_calls_into_no_broken_link_after_a_kill(zk_ensemble: zabkit.Ensemble) -> None:
    """When `kill` returns, the survivors have closed their clients, and the next write is sent on a new link."""
    async with zabkit.Client(zk_ensemble.hosts) as anywhere:
        await anywhere.create("/n", b"")
    for number in range(10):
        old = zk_ensemble.leader
        survivors = [member.hosts for member in zk_ensemble.followers]
        async with zabkit.Client(survivors) as zk:
            await old.kill()
            await zk.set("/n", b"%d" % number)  # ConnectionLossError would say that nobody knows whether it happened.
            assert (await zk.get("/n"))[0] == b"%d" % number
        await old.restart()
        await old.wait_until_serving()


async def test_faults_are_coroutines_here(zk_ensemble: zabkit.Ensemble) -> None:
    first, second, _ = zk_ensemble
    await zk_ensemble.slow_link(first, second.id, 0.001, loss=0.01)
    await zk_ensemble.partition({first}, {2, 3})
    await zk_ensemble.heal()
    await first.pause()
    assert first.is_paused
    await first.resume()
    await first.slow_disk(0.001)
    await first.slow_disk(0)
    await second.fill_disk()
    await second.free_disk()
    with pytest.raises(ValueError, match="no server 9"):
        await zk_ensemble.partition({9})
    await zk_ensemble.wait_for_leader()
    assert {t.server for t in zk_ensemble.transitions} == {1, 2, 3}
    assert first.log
