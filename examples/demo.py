"""Three servers in this Python process, asyncio clients, the leader killed under load: `make demo`.

Exits 0 only if every acknowledged write is still there and the old leader came back with an equal tree.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from dataclasses import dataclass, field

from zabkit import Client, ConnectionLossError, Ensemble, Member, NodeExistsError, Role, State

WRITERS = 3
WRITES_BEFORE_KILL = 600
WRITES_AFTER_KILL = 1200


async def main() -> int:
    """Runs the demo; the exit code."""
    began = time.perf_counter()
    async with Ensemble(3) as ensemble:
        took = (time.perf_counter() - began) * 1000
        title(f"Three ZooKeeper servers in this Python process (pid {os.getpid()}), up in {took:.0f} ms")
        show_roles(ensemble)

        title("A write through a follower, read on the other one")
        await write_through_follower(ensemble)

        title(f"{WRITERS} clients write, all on one thread; the leader is killed, as kill -9 would")
        load = Load(ensemble.hosts)
        old, gap_ms = await kill_leader_under_load(ensemble, load)
        show_roles(ensemble)

        title(f"Server {old.id} is started again")
        await old.restart()
        await old.wait_until_serving()
        equal = await wait_for_equal_digests(ensemble)
        show_roles(ensemble, digests=True)
        came_back = old.status.role is Role.FOLLOWING
        say(f"server {old.id} is {old.status.role} again, trees {'equal' if equal else 'NOT EQUAL'}", ok=equal)

        title(f"Every acknowledged write, read back from server {old.id}")
        lost = await load.lost(old.hosts)
        for path in lost[:10]:
            say(f"lost: {path}", ok=False)

    good = not lost and equal and came_back and load.sessions_lost == 0
    print()
    say(f"acknowledged writes   {len(load.acknowledged)}")
    say(f"lost                  {len(lost)}", ok=not lost)
    say(f"sessions lost         {load.sessions_lost}; each client went on by itself, with the session it had")
    say(f"gap                   {gap_ms:.0f} ms without an acknowledged write, from the kill of the leader on", ok=good)
    return 0 if good else 1


@dataclass
class Load:
    """Writers, each with a client of its own, and what was acknowledged to them."""

    hosts: str
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    unknown: int = 0
    sessions_lost: int = 0
    _stop: bool = False
    _writers: list[asyncio.Task[None]] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        async with Client(self.hosts) as zk:
            await zk.create("/load")
        self._writers = [asyncio.create_task(self._write(number)) for number in range(WRITERS)]

    async def stop(self) -> None:
        self._stop = True
        await asyncio.gather(*self._writers)

    async def wait_for(self, writes: int) -> None:
        """Returns once so many are acknowledged; raises what a writer raised."""

        async def enough() -> None:
            while len(self.times) < writes:
                self._more.clear()
                await self._more.wait()

        waiting = asyncio.create_task(enough())
        done, _ = await asyncio.wait({waiting, *self._writers}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if waiting not in done:
            waiting.cancel()
            raise TimeoutError(f"{len(self.times)} writes acknowledged, {writes} expected: the service stands still")

    async def lost(self, hosts: str) -> list[str]:
        """What was acknowledged and is not there, or not as it was written, after a sync."""
        async with Client(hosts) as zk:
            # All sent at once, in this order: the reads are answered behind the sync.
            synced = zk.nowait.sync("/load")
            reads = {path: zk.nowait.get(path) for path in self.acknowledged}
            await synced
            await asyncio.wait(reads.values())
            return [
                path
                for path, data in self.acknowledged.items()
                if reads[path].exception() or reads[path].result()[0] != data
            ]

    async def _write(self, number: int) -> None:
        async with Client(self.hosts) as zk:
            zk.add_listener(self._on_state)
            for count in itertools.count():
                if self._stop:
                    return
                path, data = f"/load/{number}-{count}", f"writer {number}, write {count}".encode()
                await self._create(zk, path, data)
                self.acknowledged[path] = data
                self.times.append(time.perf_counter())
                self._more.set()

    async def _create(self, zk: Client, path: str, data: bytes) -> None:
        """Creates, again if the link broke before the answer; then it may be there already."""
        was_sent = False
        while True:
            try:
                await zk.create(path, data)
                return
            except ConnectionLossError as error:
                was_sent |= error.outcome_unknown
                self.unknown += error.outcome_unknown
            except NodeExistsError:
                if not was_sent:
                    raise
                return

    def _on_state(self, state: State) -> None:
        self.sessions_lost += state is State.LOST


async def kill_leader_under_load(ensemble: Ensemble, load: Load) -> tuple[Member, float]:
    """The killed leader, and the longest time without an acknowledged write that the kill caused, in ms."""
    await load.start()
    try:
        await load.wait_for(WRITES_BEFORE_KILL)
        old, before = ensemble.leader, len(load.times)
        killed = time.perf_counter()
        await old.kill()
        say(f"{before} writes acknowledged, server {old.id} killed")
        new = await ensemble.wait_for_leader()
        elected = (time.perf_counter() - killed) * 1000
        say(f"server {new.id} leads epoch {new.status.epoch} after {elected:.0f} ms")
        await load.wait_for(before + WRITES_AFTER_KILL)
    finally:
        await load.stop()
    # Followers may still pass on answers that the old leader had committed, so look at every pause after the kill.
    after = [killed, *(t for t in load.times if t > killed)]
    gap_ms = max(b - a for a, b in itertools.pairwise(after)) * 1000
    say(f"{load.unknown} writes were on their way when the links broke: the clients were told, and asked again")
    say(f"{len(load.times) - before} more writes acknowledged")
    return old, gap_ms


async def write_through_follower(ensemble: Ensemble) -> None:
    writer, reader = ensemble.followers
    async with Client(writer.hosts) as one, Client(reader.hosts) as other:
        _, stat = await one.create("/greeting", b"hello", include_data=True)
        say(f"server {writer.id}: created /greeting, zxid {stat.czxid:#x}")
        await other.sync("/greeting")
        data, stat = await other.get("/greeting")
        say(f"server {reader.id}: /greeting is {data.decode()!r}, zxid {stat.czxid:#x}")


async def wait_for_equal_digests(ensemble: Ensemble) -> bool:
    """Whether all members come to the same zxid with the same digest; nobody writes meanwhile."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        statuses = [member.status for member in ensemble]
        if len({s.last_processed for s in statuses}) == 1:
            return len({s.tree_digest for s in statuses}) == 1
        await asyncio.sleep(0.005)
    return False


def show_roles(ensemble: Ensemble, *, digests: bool = False) -> None:
    for member in ensemble:
        status = member.status
        line = f"server {member.id}   {member.hosts:<16}  {status.role:<10}"
        if status.role is not Role.ENDED:
            line += f"  epoch {status.epoch}  zxid {status.last_processed:#x}"
            if digests:
                line += f"  digest {status.tree_digest:016x}"
        say(line, strong=status.role is Role.LEADING)


COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def title(text: str) -> None:
    print(f"\n{paint('1', text)}", flush=True)


def say(text: str, *, ok: bool = True, strong: bool = False) -> None:
    print("  " + (paint("31", text) if not ok else paint("32", text) if strong else text), flush=True)


def paint(code: str, text: str) -> str:
    return f"\033[{code}m{text}\033[0m" if COLOURS else text


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
