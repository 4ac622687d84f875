"""`sync()` on a real ensemble: what a read behind it may never show, where one without it shows the past.

A few rounds in `make test`; `make sync-soak` runs the long form.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from aids import until_async

import zabkit
from zabkit import Client, Ensemble

LATENCY_S = 0.3
#: Rounds that are under way together, each with a znode of its own.
AT_ONCE = 50

#: What a call to a server without a quorum may end with.
GONE = (zabkit.ConnectionLossError, zabkit.SessionExpiredError, asyncio.TimeoutError)

#: One way of reading behind a sync, in one session.
SyncedRead = Callable[[Client, str], Awaitable[bytes]]


async def awaited(zk: Client, path: str) -> bytes:
    await zk.sync(path)
    return (await zk.get(path))[0]


async def only_sent(zk: Client, path: str) -> bytes:
    """The sync's Future is not awaited; the order in the session does it."""
    zk.nowait.sync(path)
    return (await zk.nowait.get(path))[0]


@pytest.mark.parametrize("read", [awaited, only_sent])
async def test_a_slowed_follower_serves_the_past_without_sync_and_never_with_it(
    zk_ensemble: Ensemble, read: SyncedRead
) -> None:
    await behind_a_slow_link(zk_ensemble, read, AT_ONCE)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("read", [awaited, only_sent])
async def test_a_slowed_follower_a_thousand_times(zk_ensemble: Ensemble, read: SyncedRead) -> None:
    await behind_a_slow_link(zk_ensemble, read, 1000)


async def behind_a_slow_link(ensemble: Ensemble, read: SyncedRead, rounds: int) -> None:
    leader, slow = ensemble.leader, ensemble.followers[0]
    async with Client(leader.hosts) as writer, Client(slow.hosts) as reader:
        paths = [f"/n{i}" for i in range(AT_ONCE)]
        await asyncio.gather(*(writer.create(path, b"0") for path in paths))
        await reader.sync("/")
        await ensemble.slow_link(leader, slow, LATENCY_S)

        old = fresh = batch = 0
        while old < rounds or fresh < rounds:
            batch += 1
            past, now = b"%d" % (batch - 1), b"%d" % batch
            began = time.monotonic()
            await asyncio.gather(*(writer.set(path, now) for path in paths))
            unsynced = await asyncio.gather(*(reader.get(path) for path in paths))
            # On a machine that stood still meanwhile the follower may have heard of it: then nothing was shown.
            if time.monotonic() - began < LATENCY_S / 2:
                assert {data for data, _ in unsynced} == {past}, "the link is not slow"
                old += AT_ONCE
            synced = await asyncio.gather(*(read(reader, path) for path in paths))
            assert set(synced) == {now}, f"a read behind a sync has shown the past in batch {batch}"
            fresh += AT_ONCE
        print(f"{old} reads without sync showed the past, {fresh} with it did not")


@pytest.mark.zabkit(servers=5)
async def test_a_deserted_leader_answers_no_sync_with_the_past(zk_ensemble: Ensemble) -> None:
    await desert(zk_ensemble, 2)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.zabkit(servers=5)
async def test_a_deserted_leader_twenty_times(zk_ensemble: Ensemble) -> None:
    await desert(zk_ensemble, 20)


async def desert(ensemble: Ensemble, rounds: int) -> None:
    """The leader and a follower are cut off from three that elect another at once, before its lease is over."""
    async with Client(ensemble.hosts) as zk:
        await zk.create("/n", b"0")
    seen: Counter[str] = Counter()
    for number in range(1, rounds + 1):
        leader, follower = ensemble.leader, ensemble.followers[0]
        majority = [member for member in ensemble if member not in (leader, follower)]
        old, new = b"%d" % (number - 1), b"%d" % number
        async with Client(leader.hosts, timeout=4.0) as deserted, Client(follower.hosts, timeout=4.0) as along:
            for zk in (deserted, along):
                assert await awaited(zk, "/n") == old
            await ensemble.partition({leader, follower}, majority)
            await asyncio.gather(*(member.restart() for member in majority))
            async with Client([member.hosts for member in majority]) as zk:
                await zk.set("/n", new)

            # From here on whoever reads behind a sync reads `new`, or nothing.
            while leader.status.serving:
                await asyncio.gather(*(try_all(zk, old, new, seen) for zk in (deserted, along)))
            await ensemble.heal()
            await asyncio.gather(*(member.wait_until_serving() for member in ensemble))
            await asyncio.gather(*(try_all(zk, old, new, seen) for zk in (deserted, along)))
        await until_async(lambda: len(ensemble.followers) == 4)
    past, fresh, failed = seen["past"], seen["fresh"], seen["failed"]
    print(f"without sync {past} reads showed the past; with it {fresh} were fresh, {failed} failed")
    assert seen["past"] >= rounds, "the deserted leader was never seen to serve: nothing is shown"
    assert seen["fresh"] >= rounds
    assert seen["failed"] >= rounds


async def try_all(zk: Client, old: bytes, new: bytes, seen: Counter[str]) -> None:
    """Reads without a sync and in both ways with one, each with half a second to be answered."""
    with contextlib.suppress(*GONE):
        data, _ = await asyncio.wait_for(zk.get("/n"), 0.5)
        seen["past"] += data == old
    for read in (awaited, only_sent):
        try:
            data = await asyncio.wait_for(read(zk, "/n"), 0.5)
        except GONE:
            seen["failed"] += 1
        else:
            assert data == new, f"a read behind a sync has shown the past: {old!r} for {new!r}"
            seen["fresh"] += 1
