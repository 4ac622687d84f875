#!/usr/bin/env python3
"""Kills the leader again and again while clients write, and counts acknowledged writes that are missing.

    python tests/process/chaos.py --kills 50                   # SIGKILL of real processes
    python tests/process/chaos.py --kills 50 --mode embedded   # zabkit.Ensemble: kills of servers in this process
    python tests/process/chaos.py --kills 50 --json            # one JSON object, for scripts

Each of 3 clients creates znodes of its own, ``/chaos/<client>/<bucket>/<number>``, with its number as data: every
write is unique and leaves its own trace. A client that loses its connection tries the next server at once and waits
at most 2 ms between tries; a write whose reply never came counts for nothing and is not repeated. After each kill the
old leader is started again, and the next kill waits until every server serves and every client writes.

At the end, after `sync` on each server: every acknowledged write is there with its data, and all trees are equal.
Exit code 0 only then. The gap of a kill is the time from the last write that any client had acknowledged under the
old leader to the first one under the new (told apart by the epoch in the zxid of the reply).

`test_chaos.py` has the short form, for `make test`, and the full one, for `make chaos`.
"""

import argparse
import contextlib
import json
import math
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from harness import wire
from harness.ensemble import Ensemble
from harness.tree import differences, epoch_of, read_tree
from harness.until import wait_until

#: Seconds between two tries to connect; the issue allows 2 ms.
RETRY_S = 0.001
#: Children of one znode, so that no reply grows large.
BUCKET = 1000


class Writer(threading.Thread):
    """One client: writes until told to stop, and remembers what was acknowledged.

    `first_ack` and `last_ack` hold, for each epoch, when (seconds of `time.monotonic`) its first and newest
    acknowledgement came; `epoch` is the newest of them, 0 before the first.
    """

    def __init__(self, name, addresses, outstanding):
        super().__init__(daemon=True)
        self.name, self._addresses, self._outstanding = name, addresses, outstanding
        self.acked_numbers, self.first_ack, self.last_ack = [], {}, {}
        self.epoch = self.sent = self.sessions_lost = 0
        self.session, self.failure = wire.Session(20_000), None
        self._server, self._stop_asked = 0, threading.Event()

    def run(self):
        try:
            while not self._stop_asked.is_set():
                link = self._connect()
                if link is None:
                    return
                with link:
                    self._write_until_lost(link)
        except BaseException as error:  # Told by the main thread.
            self.failure = error

    def ask_to_stop(self):
        self._stop_asked.set()

    def stop(self):
        """Wait for the replies still due and end; raises what went wrong."""
        self.ask_to_stop()
        self.join(30)
        if self.failure:
            raise self.failure

    def _connect(self):
        """A connection to the first server that takes the session; None when told to stop."""
        while not self._stop_asked.is_set():
            address = self._addresses[self._server % len(self._addresses)]
            self._server += 1
            try:
                return wire.Connection(address, self.session, timeout_s=5.0)
            except wire.Expired:
                self.session = wire.Session(20_000)
                self.sessions_lost += 1
            except OSError:
                time.sleep(RETRY_S)
        return None

    def _write_until_lost(self, link):
        waiting = []
        try:
            self._prepare(link)
            while not self._stop_asked.is_set() or waiting:
                while len(waiting) < self._outstanding and not self._stop_asked.is_set():
                    number = self.sent
                    self.sent += 1
                    if number % BUCKET == 0:
                        self._ensure(link, f"/chaos/{self.name}/{number // BUCKET}", waiting)
                    link.send(wire.CREATE, wire.create_body(self.path(number), b"%d" % number))
                    waiting.append(number)
                self._take(link.recv(), waiting)
        except OSError:
            pass  # What was waiting may have happened or not: nobody was told.

    def _take(self, reply, waiting):
        now = time.monotonic()
        number = waiting.pop(0)
        if reply.err:
            raise wire.ZkError(reply.err, self.path(number))
        epoch = epoch_of(reply.zxid)
        self.first_ack.setdefault(epoch, now)
        self.last_ack[epoch] = now
        self.epoch = epoch
        self.acked_numbers.append(number)

    def _ensure(self, link, path, waiting):
        while waiting:
            self._take(link.recv(), waiting)
        with contextlib.suppress(wire.ZkError):  # It is there when a reply was lost before.
            link.create(path)

    def _prepare(self, link):
        """The znodes above the next write; after a loss they may be there or not."""
        for path in ("/chaos", f"/chaos/{self.name}", f"/chaos/{self.name}/{self.sent // BUCKET}"):
            try:
                link.create(path)
            except wire.ZkError as error:
                if error.code != wire.NODE_EXISTS:
                    raise

    def path(self, number):
        return f"/chaos/{self.name}/{number // BUCKET}/{number}"


class Processes:
    """Three processes of the server under test."""

    def __init__(self, size):
        self.servers = Ensemble(size)

    def __enter__(self):
        self.servers.start()
        return self

    def __exit__(self, *_):
        self.servers.close()

    @property
    def addresses(self):
        return [member.address for member in self.servers]

    def leader(self):
        return self.servers.wait_leader()

    def kill(self, member):
        member.kill()

    def restart(self, member):
        member.start()

    def wait_all_serve(self):
        self.servers.wait_serving()

    def logs(self):
        return self.servers.logs()


class Embedded:
    """`zabkit.blocking.Ensemble`: three servers in this process, killed without the process."""

    def __init__(self, size):
        from zabkit import blocking

        self.servers = blocking.Ensemble(size)

    def __enter__(self):
        self.servers.start()
        self.wait_all_serve()
        return self

    def __exit__(self, *_):
        self.servers.stop()

    @property
    def addresses(self):
        pairs = (host.rsplit(":", 1) for host in self.servers.hosts.split(","))
        return [(host, int(port)) for host, port in pairs]

    def leader(self):
        return self.servers.wait_for_leader(timeout=60)

    def kill(self, member):
        member.kill()

    def restart(self, member):
        member.restart()

    def wait_all_serve(self):
        for member in self.servers:
            member.wait_until_serving(timeout=60)

    def logs(self):
        return "\n".join(str(member.status) for member in self.servers)


def quantile(values, share):
    """The smallest value that ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def one_kill(world, writers):
    """Kill the leader under load and bring it back; returns the gap in ms."""
    leader = world.leader()
    epoch = max(writer.epoch for writer in writers)
    world.kill(leader)
    wait_until(lambda: newest(writers) > epoch, "a write is acknowledged under a new leader", 60, world.logs)
    world.restart(leader)
    world.wait_all_serve()
    wait_until(lambda: all_write(writers, epoch), "every client writes under the new leader", 60, world.logs)
    last = max(writer.last_ack.get(epoch, 0) for writer in writers)
    first = min(at for writer in writers for number, at in dict(writer.first_ack).items() if number > epoch)
    return (first - last) * 1000


def newest(writers):
    """The newest epoch under which any client had a write acknowledged."""
    for writer in writers:
        if writer.failure:
            raise writer.failure
    return max(writer.epoch for writer in writers)


def all_write(writers, old_epoch):
    """Whether every client had a write acknowledged after this epoch."""
    return newest(writers) and all(writer.epoch > old_epoch for writer in writers)


def count_missing(world, writers):
    """Acknowledged writes that some server does not have, and lines on how the servers' trees differ."""
    missing, different, first = 0, [], None
    for address in world.addresses:
        with wire.Connection(address, wire.Session(30_000), timeout_s=60) as link:
            tree = read_tree(link, "/chaos", acls=False)
            link.close_session()
        for writer in writers:
            for number in writer.acked_numbers:
                node = tree.get(writer.path(number))
                if node is None or node.data != b"%d" % number:
                    missing += 1
        if first is None:
            first = tree
        else:
            different += differences(first, tree)
    return missing, different, len(first)


def run(kills, mode="process", clients=3, outstanding=1, size=3, say=lambda line: None):
    """The whole run; returns its figures."""
    sys.setswitchinterval(0.0005)  # A reply is seen when it comes, not 5 ms later.
    gaps = []
    started = time.monotonic()
    with (Processes if mode == "process" else Embedded)(size) as world:
        addresses = world.addresses
        writers = [
            Writer(f"c{number}", addresses[number % size :] + addresses[: number % size], outstanding)
            for number in range(clients)
        ]
        for writer in writers:
            writer.start()
        try:
            wait_until(lambda: all_write(writers, 0), "every client writes")
            for number in range(1, kills + 1):
                gaps.append(one_kill(world, writers))
                say(f"kill {number}/{kills}: gap {gaps[-1]:.1f} ms")
        finally:
            for writer in writers:
                writer.ask_to_stop()
        for writer in writers:
            writer.stop()
        world.wait_all_serve()
        missing, different, nodes = count_missing(world, writers)
    return {
        "mode": mode,
        "servers": size,
        "clients": clients,
        "outstanding": outstanding,
        "kills": kills,
        "acknowledged": sum(len(writer.acked_numbers) for writer in writers),
        "unknown": sum(writer.sent - len(writer.acked_numbers) for writer in writers),
        "missing": missing,
        "trees_differ": different,
        "nodes": nodes,
        "sessions_lost": sum(writer.sessions_lost for writer in writers),
        "gap_p50_ms": round(quantile(gaps, 0.5), 1),
        "gap_p99_ms": round(quantile(gaps, 0.99), 1),
        "gap_max_ms": round(max(gaps), 1),
        "seconds": round(time.monotonic() - started, 1),
        "gaps_ms": [round(gap, 1) for gap in gaps],
    }


def summary(result):
    """The figures in one line."""
    return (
        "{kills} leader kills ({mode}), {clients} clients: {acknowledged} writes acknowledged, {missing} missing, "
        "{unknown} of unknown outcome; sessions lost: {sessions_lost}; gap p50 {gap_p50_ms} ms, p99 {gap_p99_ms} ms, "
        "max {gap_max_ms} ms; {seconds} s".format(**result)
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--mode", choices=("process", "embedded"), default="process")
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--outstanding", type=int, default=1, help="writes in flight for each client")
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args()
    say = (lambda line: None) if options.json else (lambda line: print(line, flush=True))
    result = run(options.kills, options.mode, options.clients, options.outstanding, options.servers, say)
    if options.json:
        print(json.dumps(result))
    else:
        print(summary(result))
        for line in result["trees_differ"]:
            print("trees differ:", line)
    return 1 if result["missing"] or result["trees_differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
