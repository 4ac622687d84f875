"""Clients whose calls are cancelled, links cut, sessions ended and loops closed, at random from a seed.

One *life* is one event loop with a few clients. Workers call, watchers watch, and chaos does harm; then either the
clients are stopped, or the loop is closed under them. After each life: nobody has hung, each watch has told of a change
exactly once, no acknowledged write is lost and none happened twice, and nothing is left: no object, file or thread.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import importlib.util
import os
import random
import subprocess
import sys
import warnings
import weakref
from pathlib import Path
from typing import Any

import zabkit
from zabkit import Client, EventType, State, ZooKeeperError

# Bounds a wait that a fault could turn into a hang, in seconds; generous, as the machine may be busy.
PATIENCE_S = 60.0


# asyncio's with the core's own socket, the same with the core behind a protocol, and uvloop.
LOOPS = ["asyncio", "fallback"] + ["uvloop"] * (importlib.util.find_spec("uvloop") is not None)


class Servers:
    """The process of `soak_servers`."""

    def __init__(self) -> None:
        program = Path(__file__).with_name("soak_servers.py")
        self._process = subprocess.Popen(
            [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.hosts = self._process.stdout.readline().strip()
        assert self.hosts, "the servers did not start"

    def tell(self, command: str) -> None:
        """Has the command done, which blocks this process's loop for a moment, as programs do."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n", command

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Registration:
    """One `get` with a watch. It may be told at most once, and must be if the get succeeded and the znode changed."""

    def __init__(self) -> None:
        self.events: list[zabkit.WatchedEvent] = []
        self.told = asyncio.Event()

    def __call__(self, event: zabkit.WatchedEvent) -> None:
        self.events.append(event)
        self.told.set()


class Slot:
    """The place of a client; chaos puts a new one there when it ends the old one."""

    def __init__(self, client: Client) -> None:
        self.client = client


class Life:
    """One event loop's worth of work and harm."""

    def __init__(self, soak: Soak, name: str, faults: int, fallback: bool) -> None:
        self.soak, self.name, self.faults, self.fallback = soak, name, faults, fallback
        self.rng = random.Random(f"{soak.seed}/{name}")
        self.slots: list[Slot] = []
        self.registrations: list[Registration] = []
        self.is_over = False
        # The znode that all watch: zxids of acknowledged writes of it.
        self.written: list[int] = []
        # Of each worker's own znode: acknowledged, unknown and all writes.
        self.acknowledged: collections.Counter[str] = collections.Counter()
        self.unknown: collections.Counter[str] = collections.Counter()
        self.left_in_flight: list[asyncio.Future[Any]] = []

    @property
    def path(self) -> str:
        return f"/{self.name}"

    def count(self, fault: str) -> None:
        self.soak.tally[fault] += 1

    # --- clients ------------------------------------------------------------------------------------------------------

    async def new_client(self) -> Client:
        client = Client(self.soak.servers.hosts, timeout=4.0)
        client._fallback = self.fallback
        await client.start(PATIENCE_S)
        assert client._core is not None
        self.soak.cores.append(weakref.ref(client._core))
        return client

    async def run(self, ends_in_flight: bool) -> None:
        """The whole life. Ending in flight, it leaves open clients and calls to a loop that is about to be closed."""
        setter = await self.new_client()
        await setter.create(self.path, b"")
        self.slots = [Slot(await self.new_client()) for _ in range(3)]
        work = [self.watch_once(slot) for slot in self.slots]
        work += [self.watch_stream(self.slots[0]), self.write(setter)]
        for number in range(6):
            await setter.create(f"{self.path}/{number}", b"")
            work.append(self.call(self.slots[number % 3], f"{self.path}/{number}"))
        tasks = [asyncio.ensure_future(each) for each in work]
        await self.harm(tasks)
        self.is_over = True
        done, hanging = await asyncio.wait(tasks, timeout=PATIENCE_S)
        assert not hanging, f"these hang: {hanging}"
        for each in done:
            await each
        await self.check_writes(setter)
        assert all(len(each.events) <= 1 for each in self.registrations), "a watch was told twice"
        if ends_in_flight:
            for slot in [*self.slots, Slot(setter)]:
                assert slot.client._core is not None
                self.left_in_flight += [slot.client.nowait.get(self.path, Registration()) for _ in range(20)]
                if self.rng.random() < 0.5:
                    await asyncio.sleep(0)
            return
        await asyncio.gather(setter.stop(), *(slot.client.stop() for slot in self.slots))
        for each in self.registrations:
            assert len(each.events) <= 1, each.events

    # --- work ---------------------------------------------------------------------------------------------------------

    async def turns(self, most: int) -> None:
        for _ in range(self.rng.randrange(most)):
            await asyncio.sleep(0)

    async def maybe_cancelled(self, call: Any) -> Any:
        """Awaits it, or gives it up at some moment."""
        how = self.rng.random()
        if how > 0.4:
            return await call
        self.count("cancelled")
        if how < 0.1:
            return await asyncio.wait_for(call, self.rng.choice([0.0, 0.0001, 0.001]))
        task = asyncio.ensure_future(call)
        await self.turns(8)
        task.cancel()
        return await task

    async def write(self, setter: Client) -> None:
        """Changes what all watch, until the life is over."""
        while not self.is_over:
            with contextlib.suppress(ZooKeeperError):
                self.written.append((await setter.set(self.path, b"%d" % len(self.written))).mzxid)
            await self.turns(20)

    async def call(self, slot: Slot, path: str) -> None:
        """One worker: writes a znode of its own, and everything else that there is."""
        while not self.is_over:
            client = slot.client
            choice = self.rng.randrange(6)
            if choice < 2:
                await self.count_write(client, path)
                continue
            calls = {
                2: lambda client=client: client.get(path),
                3: lambda client=client: client.get_children(self.path),
                4: lambda client=client: client.sync(path),
                5: lambda client=client: client.exists(f"{path}/nothing"),
            }
            with contextlib.suppress(ZooKeeperError, asyncio.CancelledError, asyncio.TimeoutError):
                await self.maybe_cancelled(calls[choice]())

    async def count_write(self, client: Client, path: str) -> None:
        try:
            await self.maybe_cancelled(client.set(path, b"x" * self.rng.choice([0, 10, 5000])))
            self.acknowledged[path] += 1
        except (asyncio.CancelledError, asyncio.TimeoutError):
            self.unknown[path] += 1
        except ZooKeeperError as error:
            self.unknown[path] += error.outcome_unknown

    async def check_writes(self, setter: Client) -> None:
        """No acknowledged write is lost, and none of which it was said that it did not happen has happened."""
        await setter.sync(self.path)
        for path in [f"{self.path}/{number}" for number in range(6)]:
            _, stat = await setter.get(path)
            known = self.acknowledged[path]
            assert known <= stat.version <= known + self.unknown[path], (path, known, stat, self.unknown[path])

    async def watch_once(self, slot: Slot) -> None:
        """Sets a watch, waits for its event, and so on."""
        while not self.is_over:
            client, registration = slot.client, Registration()
            self.registrations.append(registration)
            try:
                _, stat = await self.maybe_cancelled(client.get(self.path, registration))
            except (ZooKeeperError, asyncio.CancelledError, asyncio.TimeoutError):
                continue
            self.soak.watches += 1
            while not registration.events and not self.is_over:
                try:
                    _, now = await client.get(self.path)
                except ZooKeeperError:
                    await self.turns(3)
                    continue
                if registration.events and registration.events[0].type is EventType.NONE:
                    break  # Its session has ended, which was told.
                assert now.version == stat.version or registration.events, "a change was read before it was told"
            if registration.events and registration.events[0].type is EventType.CHANGED:
                self.soak.events += 1

    async def watch_stream(self, slot: Slot) -> None:
        """Follows the changes by a persistent watch: each once and in order, or a sign that some may be missing."""
        while not self.is_over:
            client, begin, end = slot.client, 0, 0
            told: list[int | None] = []  # Zxids; None for the sign.
            with contextlib.suppress(ZooKeeperError):
                async with client.watch(self.path, limit=100_000) as events:
                    begin = client.last_zxid
                    while not self.is_over:
                        await self.take(events, told)
                        await self.turns(5)
                    # A sync is behind all that was acknowledged before it.
                    last = self.written[-1] if self.written else begin
                    await client.sync(self.path)
                    await self.take(events, told)
                    end = last
            self.check_stream(begin, told, end)

    async def take(self, events: zabkit.Watch, told: list[int | None]) -> None:
        """Takes the events that wait."""
        while events._events.qsize():
            event = await events.__anext__()
            if event.type is EventType.CHANGED and event.zxid < 0:
                # Told by a server that a one-shot watch was set on anew, of a change while the link was lost.
                assert told[-1:] == [None], told
            else:
                told.append(event.zxid if event.type is EventType.CHANGED else None)

    def check_stream(self, begin: int, told: list[int | None], end: int) -> None:
        """``end``: the last change that must have been told, 0 if the stream was ended before."""
        zxids = [zxid for zxid in told if zxid is not None]
        assert zxids == sorted(set(zxids)), f"told twice or out of order: {told}"
        previous, is_whole = begin, True
        for zxid in [*told, end + 1]:
            if zxid is None:
                is_whole = False  # What lies before the next event may be missing.
                continue
            missing = [each for each in self.written if previous < each < zxid]
            assert not (is_whole and missing), f"{missing} were not told, between {previous} and {zxid}"
            previous, is_whole = zxid, True
        self.soak.events += len(zxids)

    # --- harm ---------------------------------------------------------------------------------------------------------

    async def harm(self, tasks: list[asyncio.Future[None]]) -> None:
        """Does so many faults, cancellations counted."""
        before = self.soak.faults
        servers, rng = self.soak.servers, self.rng
        while self.soak.faults - before < self.faults:
            for each in tasks:
                if each.done():
                    await each  # An assertion of one of them.
            await self.turns(60)
            kind = rng.choices(
                ["cut", "cutall", "trip", "refuse", "freeze", "kill", "stop", "drop", "expire"],
                [30, 5, 30, 5, 1, 0.3, 8, 8, 4],
            )[0]
            if kind == "cut":
                servers.tell(f"cut {rng.randrange(100)} {rng.choice(['fin', 'rst'])}")
            elif kind == "cutall":
                servers.tell(f"cutall {rng.choice(['fin', 'rst'])}")
            elif kind == "trip":
                servers.tell(f"trip {rng.randrange(100)} {rng.randrange(1, 3000)}")
            elif kind == "refuse":
                servers.tell(f"refuse {rng.randrange(1, 5)}")
            elif kind == "freeze":
                servers.tell(f"freeze {rng.randrange(100)}")
            elif kind == "kill":
                member = rng.randrange(1, 4)
                servers.tell(f"kill {member}")
                await self.turns(60)
                servers.tell(f"restart {member}")
            else:
                await self.end_a_client(kind)
            self.count(kind)

    async def end_a_client(self, kind: str) -> None:
        slot = self.rng.choice(self.slots)
        if kind == "expire":
            # As when the servers end it: another client takes the session over, and closes it.
            thief = Client(self.soak.servers.hosts, timeout=4.0, client_id=slot.client.client_id)
            with contextlib.suppress(ZooKeeperError):
                await thief.start(PATIENCE_S)
            await thief.stop()
            return
        old, slot.client = slot.client, await self.new_client()
        if kind == "stop":
            await old.stop()
            assert old.state is State.CLOSED
        else:
            old._abort()  # What a client does that is dropped; workers still hold this one.


class Soak:
    """Lives, one after the other, and what must hold between them."""

    def __init__(self, servers: Servers, seed: int) -> None:
        self.servers, self.seed = servers, seed
        self.tally: collections.Counter[str] = collections.Counter()
        self.cores: list[weakref.ref[Any]] = []
        self.watches = self.events = self.lives = 0
        self.loops: collections.Counter[str] = collections.Counter()
        self.resident_mb: list[int] = []

    @property
    def faults(self) -> int:
        return self.tally.total()

    def run(self, faults: int) -> None:
        for kind in LOOPS:  # Whatever is made once, and kept, is there after this.
            self.live(kind)
        files, threads = _files(), len(os.listdir("/proc/self/task"))
        while self.faults < faults:
            kind = self.live()
            if self.faults >= faults / 10:
                self.resident_mb.append(_resident_mb())
            assert [core for core in self.cores if core() is not None] == [], "a client's core is kept"
            assert (now := _files()) == files, f"open before: {files}, now: {now}; last loop: {kind}"
            # Fewer is well: idle threads that earlier tests' ensembles have left end by themselves.
            alive = len(os.listdir("/proc/self/task"))
            assert alive <= threads, f"threads before: {threads}, now: {alive}"
            threads = alive

    def live(self, kind: str | None = None) -> str:
        self.lives += 1
        rng = random.Random(f"{self.seed}/life {self.lives}")
        kind = kind or rng.choice(LOOPS)
        loop = _new_loop(kind)
        ends_in_flight = rng.random() < 0.4
        life = Life(self, f"life-{self.seed}-{self.lives}", rng.randrange(10, 100), kind == "fallback")
        complaints: list[str] = []
        loop.set_exception_handler(lambda _, context: complaints.append(str(context)))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # Clients that are not stopped, on purpose.
                # asyncio's word for a task whose loop was closed before its first step: the fallback's connect.
                warnings.filterwarnings("ignore", "coroutine 'Link._open' was never awaited", RuntimeWarning)
                loop.run_until_complete(life.run(ends_in_flight))
                loop.close()
                self.loops[kind] += 1
                self.tally["loop closed in flight" if ends_in_flight else "loop closed"] += 1
                for call in life.left_in_flight:
                    if call.done():
                        call.exception()  # Looked at; that it failed is as good as that it is not done.
                del life
                gc.collect()
        finally:
            if not loop.is_closed():
                loop.close()
        assert complaints == []
        self.cores = [core for core in self.cores if core() is not None]
        return kind

    def report(self) -> str:
        faults = ", ".join(f"{count} {kind}" for kind, count in self.tally.most_common())
        return (
            f"{self.faults} faults in {self.lives} loops ({dict(self.loops)}): {faults}; {self.watches} watches set, "
            f"{self.events} events told; nothing lost, doubled, hung or left; resident {self.resident_mb[0]} MB after "
            f"a tenth of it, {self.resident_mb[-1]} MB at the end"
        )


def _new_loop(kind: str) -> asyncio.AbstractEventLoop:
    if kind == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def _files() -> list[str]:
    """What this process has open; sockets have names of their own."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # The folder that is being listed.
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(found)


def _resident_mb() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
