"""Three servers in this Python process, kazoo as client, the leader killed under load: `make demo`.

Exits 0 only if every acknowledged write is still there and the old leader came back with an equal tree.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass, field

from kazoo.client import KazooClient
from kazoo.exceptions import NodeExistsError

import zabkit
from zabkit import Role
from zabkit.blocking import Ensemble

WRITERS = 3
WRITES_BEFORE_KILL = 600
WRITES_AFTER_KILL = 1200

# kazoo waits before it connects again; a client that comes back at once shows the servers' gap, not its own.
QUICKLY = {"max_tries": -1, "delay": 0.002, "backoff": 1, "max_jitter": 0, "max_delay": 0.002}


def main() -> int:
    """Runs the demo; the exit code."""
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # Its warnings about the killed leader are the point.
    began = time.perf_counter()
    with zabkit.Ensemble(3) as ensemble:
        took = (time.perf_counter() - began) * 1000
        title(f"Three ZooKeeper servers in this Python process (pid {os.getpid()}), up in {took:.0f} ms")
        show_roles(ensemble)

        title("A write through a follower, read on the other one")
        write_through_follower(ensemble)

        title(f"{WRITERS} kazoo clients write; the leader is killed, as kill -9 would")
        load = Load(ensemble.hosts)
        old, gap_ms = kill_leader_under_load(ensemble, load)
        show_roles(ensemble)

        title(f"Server {old.id} is started again")
        old.restart()
        old.wait_until_serving()
        equal = wait_for_equal_digests(ensemble)
        show_roles(ensemble, digests=True)
        came_back = old.status.role is Role.FOLLOWING
        say(f"server {old.id} is {old.status.role} again, trees {'equal' if equal else 'NOT EQUAL'}", ok=equal)

        title(f"Every acknowledged write, read back from server {old.id}")
        lost = load.lost(old.hosts)
        for path in lost[:10]:
            say(f"lost: {path}", ok=False)

    good = not lost and equal and came_back
    print()
    say(f"acknowledged writes   {len(load.acknowledged)}")
    say(f"lost                  {len(lost)}", ok=not lost)
    say(f"gap                   {gap_ms:.0f} ms without an acknowledged write, from the kill of the leader on", ok=good)
    return 0 if good else 1


@dataclass
class Load:
    """Writers, each with a client of its own, and what was acknowledged to them."""

    hosts: str
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _failures: list[BaseException] = field(default_factory=list)

    def start(self) -> None:
        with client(self.hosts) as zk:
            zk.create("/load")
        for number in range(WRITERS):
            self._threads.append(threading.Thread(target=self._write, args=(number,), daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, writes: int) -> None:
        """Returns once so many are acknowledged; raises what a writer raised."""
        with self._changed:
            enough = self._changed.wait_for(lambda: self._failures or len(self.times) >= writes, timeout=60)
        if self._failures:
            raise self._failures[0]
        if not enough:
            raise TimeoutError(f"{len(self.times)} writes acknowledged, {writes} expected: the service stands still")

    def lost(self, hosts: str) -> list[str]:
        """What was acknowledged and is not there, or not as it was written, after a sync."""
        with client(hosts) as zk:
            zk.sync("/load")
            present = set(zk.get_children("/load"))
            reads = {path: zk.get_async(path) for path in self.acknowledged if path[len("/load/") :] in present}
            return [
                path
                for path, data in self.acknowledged.items()
                if path not in reads or reads[path].get(timeout=30)[0] != data
            ]

    def _write(self, number: int) -> None:
        try:
            with client(self.hosts) as zk:
                count = 0
                while not self._stop.is_set():
                    path, data = f"/load/{number}-{count}", f"writer {number}, write {count}".encode()
                    create(zk, path, data)
                    count += 1
                    with self._changed:
                        self.acknowledged[path] = data
                        self.times.append(time.perf_counter())
                        self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._failures.append(error)
                self._changed.notify_all()


def create(zk: KazooClient, path: str, data: bytes) -> None:
    """Creates, again if the connection broke before the answer; then it may be there already."""
    tries = 0

    def attempt() -> None:
        nonlocal tries
        tries += 1
        try:
            zk.create(path, data)
        except NodeExistsError:
            if tries == 1:
                raise

    zk.retry(attempt)


def kill_leader_under_load(ensemble: Ensemble, load: Load) -> tuple[zabkit.blocking.Member, float]:
    """The killed leader, and the longest time without an acknowledged write that the kill caused, in ms."""
    load.start()
    try:
        load.wait_for(WRITES_BEFORE_KILL)
        old, before = ensemble.leader, len(load.times)
        killed = time.perf_counter()
        old.kill()
        say(f"{before} writes acknowledged, server {old.id} killed")
        new = ensemble.wait_for_leader()
        elected = (time.perf_counter() - killed) * 1000
        say(f"server {new.id} leads epoch {new.status.epoch} after {elected:.0f} ms")
        load.wait_for(before + WRITES_AFTER_KILL)
    finally:
        load.stop()
    # Followers may still pass on answers that the old leader had committed, so look at every pause after the kill.
    after = [killed, *(t for t in sorted(load.times) if t > killed)]
    gap_ms = max(b - a for a, b in itertools.pairwise(after)) * 1000
    say(f"{len(load.times) - before} more writes acknowledged")
    return old, gap_ms


def write_through_follower(ensemble: Ensemble) -> None:
    writer, reader = ensemble.followers
    with client(writer.hosts) as zk:
        zk.create("/greeting", b"hello")
        say(f"server {writer.id}: created /greeting, zxid {zk.exists('/greeting').czxid:#x}")
    with client(reader.hosts) as zk:
        zk.sync("/greeting")
        data, stat = zk.get("/greeting")
        say(f"server {reader.id}: /greeting is {data.decode()!r}, zxid {stat.czxid:#x}")


def wait_for_equal_digests(ensemble: Ensemble) -> bool:
    """Whether all members come to the same zxid with the same digest; nobody writes meanwhile."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        statuses = [member.status for member in ensemble]
        if len({s.last_processed for s in statuses}) == 1:
            return len({s.tree_digest for s in statuses}) == 1
        time.sleep(0.005)
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


class client:
    """A started kazoo client, for `with`."""

    def __init__(self, hosts: str) -> None:
        self._client = KazooClient(hosts, timeout=10.0, connection_retry=QUICKLY, command_retry=QUICKLY)

    def __enter__(self) -> KazooClient:
        self._client.start(timeout=30)
        return self._client

    def __exit__(self, *_: object) -> None:
        self._client.stop()
        self._client.close()


COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def title(text: str) -> None:
    print(f"\n{paint('1', text)}", flush=True)


def say(text: str, *, ok: bool = True, strong: bool = False) -> None:
    print("  " + (paint("31", text) if not ok else paint("32", text) if strong else text), flush=True)


def paint(code: str, text: str) -> str:
    return f"\033[{code}m{text}\033[0m" if COLOURS else text


if __name__ == "__main__":
    sys.exit(main())
