"""Bare `ClientCore`s for the tests of the bridge itself; everybody else uses `zabkit.Client`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

from zabkit._zabkit import ClientCore

_seeds = itertools.count(1)


class Told:
    """What a core has told its host, and a way to wait for more of it."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self._came = asyncio.Event()

    def __call__(self, *event: Any) -> None:
        self.events.append(event)
        self._came.set()

    @property
    def states(self) -> list[str]:
        return [event[1] for event in self.events if event[0] == "state"]

    @property
    def watches(self) -> list[tuple[Any, ...]]:
        """Ids, type, state, path and zxid of each event of a watch."""
        return [event[1:] for event in self.events if event[0] == "watch"]

    async def until(self, *beginning: Any) -> None:
        """Returns once an event has come that begins so, and forgets it and those before it."""
        while True:
            for index, event in enumerate(self.events):
                if event[: len(beginning)] == beginning:
                    del self.events[: index + 1]
                    return
            self._came.clear()
            await asyncio.wait_for(self._came.wait(), 30)


def addresses(hosts: str) -> list[tuple[str, int]]:
    """``host:port,host:port`` as a core takes it."""
    return [(host, int(port)) for host, _, port in (each.rpartition(":") for each in hosts.split(","))]


def begin(hosts: str, told: Any, *, fallback: bool = False, timeout_ms: int = 10_000, chroot: str = "") -> ClientCore:
    """A core that has begun to connect, on the running loop."""
    loop = asyncio.get_running_loop()
    core = ClientCore(loop, addresses(hosts), chroot, timeout_ms, False, None, [], next(_seeds), told, fallback)
    core.start()
    return core


@contextlib.asynccontextmanager
async def connected(
    hosts: str, *, fallback: bool = False, timeout_ms: int = 10_000
) -> AsyncIterator[tuple[ClientCore, Told]]:
    """A core that is connected, and closed in the end."""
    told = Told()
    core = begin(hosts, told, fallback=fallback, timeout_ms=timeout_ms)
    await told.until("state", "CONNECTED")
    try:
        yield core, told
    finally:
        await core.close()


async def eventually(condition: Callable[[], bool]) -> None:
    """Returns once `condition` holds; the loop goes on meanwhile."""

    async def wait() -> None:
        while not condition():  # noqa: ASYNC110 - for what has no event to wait for.
            await asyncio.sleep(0)

    await asyncio.wait_for(wait(), 30)
