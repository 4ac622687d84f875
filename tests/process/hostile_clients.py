#!/usr/bin/env python3
"""Hostile clients of every kind at once, beside a good one that must not notice.

    python tests/process/hostile_clients.py                         # 60 s, 10,000 connections
    python tests/process/hostile_clients.py --seconds 5 --connections 500

| kind | what it does |
|---|---|
| malformed | recorded frames, bent, as first frames and later ones |
| oversized | lengths beyond the limit, frames up to it that never end, requests of a megabyte |
| slow | a byte a second, of a connect request or of a request |
| silent | connects, and says nothing |
| flooding | so many connections, each with a session and a request now and then, replaced all the time |
| greedy | a session each, with 100,000 reads or writes sent in one go |
| deaf | asks for much, or watches what changes all the time, and never reads |

The server, the good client and each kind are processes of their own. The hostile ones have a lower priority: they
stand for other machines, and must not take the processor from the server that they attack.

The good client reads and writes in turns, on a session of its own. Printed are its latencies, what each kind has done,
and the server's resident memory before, at its peak, and after all of them have gone.

`test_hostile_clients.py` has the short form, for `make test`, and the full one, for `make hostile-soak`.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from harness import mutate, wire
from harness.ensemble import Ensemble
from harness.until import wait_until

#: A node that many want, and one that changes.
BIG, BUSY = "/big", "/busy"
BIG_BYTES = 200_000
#: Requests that a greedy client sends in one go.
GREED = 100_000
FRAME_BYTES_MAX = 0xFFFFF


def connect_request(timeout_ms=6_000):
    return wire.buffer(struct.pack(">iqiq", 0, 0, timeout_ms, 0) + wire.buffer(bytes(16)) + b"\0")


def request(xid, opcode, body=b""):
    return wire.buffer(struct.pack(">ii", xid, opcode) + body)


class Client(asyncio.Protocol):
    """One connection of a hostile client; when it ends, its swarm opens another."""

    #: Seconds after which it closes by itself.
    life_s = None

    def __init__(self, swarm, number):
        self.swarm, self.number, self.rng = swarm, number, swarm.rng
        self.ended = asyncio.get_running_loop().create_future()
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        self.swarm.opened += 1
        if self.life_s:
            self.later(self.life_s * self.rng.uniform(0.5, 1.5), transport.abort)
        self.begin()

    def begin(self):
        """The connection is there."""

    def data_received(self, data):
        self.swarm.received += len(data)

    def connection_lost(self, _):
        self.swarm.closed += 1
        if not self.ended.done():
            self.ended.set_result(None)

    def send(self, data):
        if self.transport and not self.transport.is_closing():
            self.transport.write(data)
            self.swarm.sent += len(data)

    def later(self, seconds, action, *args):
        def act():
            if not self.ended.done():
                action(*args)

        asyncio.get_running_loop().call_later(seconds, act)


class Malformed(Client):
    count, life_s = 20, 0.3
    connects, requests = None, None

    def begin(self):
        if Malformed.requests is None:
            Malformed.connects, Malformed.requests = mutate.client_frames()
        if self.number % 4 == 0:
            return self.send(mutate.mutated_frame(self.rng, self.connects))
        frames = [mutate.mutated_frame(self.rng, self.requests, header_bytes=8) for _ in range(20)]
        return self.send(connect_request() + b"".join(frames))


class Oversized(Client):
    count, life_s = 100, 5.0

    def begin(self):
        kind = self.number % 4
        if kind == 0:
            self.send(struct.pack(">i", self.rng.choice([-1, FRAME_BYTES_MAX + 1, 2**31 - 1])))
        elif kind == 1:
            self.send(connect_request() + struct.pack(">i", FRAME_BYTES_MAX + 1))
        elif kind == 2:
            # Most of a frame as long as one may be, and never its end.
            self.send(connect_request() + struct.pack(">i", FRAME_BYTES_MAX) + bytes(600_000))
        else:
            path = "/" + "x" * (FRAME_BYTES_MAX - 100)
            self.send(connect_request() + request(1, wire.EXISTS, wire.watch_body(path)))


class Slow(Client):
    count = 500

    def begin(self):
        if self.number % 2:
            self.send(connect_request())
            self.drip(request(1, wire.EXISTS, wire.watch_body("/" + "x" * 200)), 0)
        else:
            self.drip(connect_request(), 0)

    def drip(self, frame, at):
        self.send(frame[at : at + 1])
        self.later(1.0, self.drip, frame, (at + 1) % len(frame))


class Silent(Client):
    count = 1_000


class Flooding(Client):
    count, life_s = 10_000, 60.0

    def begin(self):
        self.send(connect_request(30_000))
        self.later(self.rng.uniform(0, 5.0), self.ask)

    def ask(self):
        self.send(request(1, wire.EXISTS, wire.watch_body(BUSY)))
        self.later(5.0, self.ask)


class Greedy(Client):
    count = 20

    def begin(self):
        self.send(connect_request())
        self.answers_left = 1  # That of the connect request, in frames.
        self.partial = b""

    def data_received(self, data):
        super().data_received(data)
        data = self.partial + data
        at = 0
        while len(data) - at >= 4:
            length = struct.unpack_from(">i", data, at)[0]
            if len(data) - at - 4 < length:
                break
            at += 4 + length
            self.answers_left -= 1
        self.partial = data[at:]
        if self.answers_left == 0:
            body = wire.watch_body(BUSY) if self.number % 2 else wire.set_body(BUSY, b"x" * 20)
            opcode = wire.GET_DATA if self.number % 2 else wire.SET_DATA
            self.send(request(1, opcode, body) * GREED)
            self.answers_left = GREED
            self.swarm.rounds += 1


class Deaf(Client):
    count = 60

    def begin(self):
        self.transport.pause_reading()
        if self.number % 2:
            self.send(connect_request() + request(1, wire.GET_DATA, wire.watch_body(BIG)) * 1_000)
        else:
            self.send(connect_request() + request(1, 106, wire.string("/") + struct.pack(">i", 1)))
        self.ping()

    def ping(self):
        # Without it the end of the connection would not be noticed: nobody reads.
        self.send(request(wire.XID_PING, wire.PING))
        self.later(1.0, self.ping)


KINDS = {kind.__name__.lower(): kind for kind in (Malformed, Oversized, Slow, Silent, Flooding, Greedy, Deaf)}


class Swarm:
    """So many connections of one kind, for so long."""

    def __init__(self, kind, address, seconds, count, seed):
        self.kind, self.address, self.count = kind, address, count
        self.end = time.monotonic() + seconds
        self.rng = random.Random(f"{seed} {kind.__name__}")
        self.opened = self.closed = self.refused = self.sent = self.received = self.rounds = self.most = 0

    async def run(self):
        self.opening = asyncio.Semaphore(100)
        keepers = [asyncio.create_task(self.keep(number)) for number in range(self.count)]
        while time.monotonic() < self.end:
            await asyncio.sleep(0.1)  # How often it counts; the attack lasts as long as it is told to.
            self.most = max(self.most, self.opened - self.closed)
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        names = ("opened", "closed", "refused", "most", "sent", "received", "rounds")
        return {name: getattr(self, name) for name in names}

    async def keep(self, number):
        loop = asyncio.get_running_loop()
        # 28,000 ports are enough for one address of this machine, but not always free at once.
        source = (f"127.0.0.{2 + number % 50}", 0)
        client = None
        try:
            while True:
                client = None
                try:
                    async with self.opening:
                        make = lambda: self.kind(self, number)  # noqa: E731
                        _, client = await loop.create_connection(make, *self.address, local_addr=source)
                except OSError:
                    self.refused += 1
                    await asyncio.sleep(0.2)  # An attacker that is refused comes again.
                    continue
                await client.ended
                await asyncio.sleep(0)
        finally:
            if client and client.transport:
                client.transport.abort()


def be_hostile(kind, address, seconds, count, seed):
    os.nice(10)
    asyncio.run(_report(Swarm(KINDS[kind], address, seconds, count, seed)))


async def _report(swarm):
    print(json.dumps(await swarm.run()), flush=True)


def be_good(address, seconds):
    """Reads and writes in turns; prints the latencies."""
    reads_ms, writes_ms = [], []
    with wire.Connection(address, wire.Session(10_000), 30.0) as link:
        path = link.create("/good-", b"", flags=1)
        print("ready", flush=True)
        end = time.monotonic() + seconds
        rounds = 0
        while time.monotonic() < end:
            rounds += 1
            data = b"%d" % rounds
            begin = time.monotonic()
            link.set(path, data)
            written = time.monotonic()
            assert link.get(path)[0] == data
            writes_ms.append((written - begin) * 1e3)
            reads_ms.append((time.monotonic() - written) * 1e3)
            time.sleep(0.002)  # A good client is no load: some hundred requests a second.
        link.close_session()
    figures = {"requests": len(reads_ms + writes_ms), **percentiles(reads_ms + writes_ms)}
    print(json.dumps({**figures, "reads": percentiles(reads_ms), "writes": percentiles(writes_ms)}), flush=True)


def percentiles(values):
    values = sorted(values)
    shares = (("p50", 0.5), ("p99", 0.99), ("longest", 1.0))
    return {name: round(values[int(share * (len(values) - 1))], 1) for name, share in shares}


def rss_mib(member):
    return member.rss_kib() / 1024


class Peak:
    """The server's memory, looked at again and again."""

    def __init__(self, member):
        self.member, self.mib = member, rss_mib(member)

    def look(self):
        self.mib = max(self.mib, rss_mib(self.member))


def _start(*words):
    return subprocess.Popen([sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, text=True)


def attack(member, seconds, connections, seed, say):
    """All kinds at once; returns the good client's figures and those of each kind."""
    host, port = member.address
    common = ("--address", f"{host}:{port}", "--seconds", seconds)
    processes = {}
    try:
        good = _start("--be-good", *common)
        assert good.stdout.readline() == "ready\n"
        for name, kind in KINDS.items():
            count = max(kind.count * connections // Flooding.count, 4)
            processes[name] = _start("--be", name, "--connections", count, "--seed", seed, *common)
        peak = Peak(member)
        while any(process.poll() is None for process in processes.values()):
            peak.look()
            time.sleep(0.1)  # How often memory is looked at, until they end.
        figures = {name: json.loads(process.stdout.read()) for name, process in processes.items()}
        out, _ = good.communicate(timeout=60)
        assert good.returncode == 0, "the good client was disturbed"
        return json.loads(out), figures, peak.mib
    finally:
        for process in [good, *processes.values()]:
            process.kill()
            process.wait()


def run(seconds=60, connections=10_000, seed=1, say=print, workers=0, session_ms=20_000):
    """The whole run, with sessions of at most ``session_ms``; returns the good client's figures, and the memory before,
    at its peak and after, in MiB.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    config = {"maxSessionTimeout": session_ms, "nio.sessionlessCnxnTimeout": 4_000, "workers": workers}
    try:
        with Ensemble(1, config=config) as servers:
            servers.start()
            member = servers[1]
            with member.connect() as link:
                link.create(BIG, bytes(BIG_BYTES))
                link.create(BUSY)
                link.close_session()
            # Warm: what the first sessions and requests leave behind is no part of the attack.
            attack(member, 1, connections // 10, seed, say)
            before = settled_mib(member, 1e9)
            good, figures, peak = attack(member, seconds, connections, seed, say)
            for name, of in figures.items():
                say(
                    f"{name}: {of['most']} at once, {of['opened']} opened, {of['closed']} closed, "
                    f"{of['refused']} not opened, {of['sent'] >> 20} MiB sent, {of['received'] >> 20} MiB received"
                    + (f", {of['rounds']} times {GREED} requests" if of["rounds"] else "")
                )
            form = "p50 {p50} ms, p99 {p99} ms, longest {longest} ms"
            say(f"good client: {good['requests']} requests, {form.format(**good)}")
            say(f"its reads: {form.format(**good['reads'])}; its writes: {form.format(**good['writes'])}")
            after = settled_mib(member, before + 4)
            say(f"resident memory: {before:.0f} MiB before, {peak:.0f} at its peak, {after:.0f} after")
            say(f"log lines of the server: {member.log_text().count(chr(10))}")
            return good, (before, peak, after)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def settled_mib(member, wanted_mib):
    """The memory when no connection is left and the sessions have ended; waits a while for it to come down."""

    def is_quiet():
        mntr = dict(line.split("\t") for line in wire.four_letter(member.address, "mntr").splitlines() if "\t" in line)
        return int(mntr["zk_num_alive_connections"]) <= 1 and int(mntr["zk_global_sessions"]) == 0

    wait_until(is_quiet, "all connections and sessions are gone", 90.0, member.log_tail)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: rss_mib(member) <= wanted_mib, "the memory is back", 15.0)
    return rss_mib(member)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--connections", type=int, default=10_000, help="of the flood; the others in proportion")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--workers", type=int, default=0, help="threads of the server beside the core's")
    parser.add_argument("--be", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--be-good", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.be or options.be_good):
        return run(options.seconds, options.connections, options.seed, workers=options.workers)
    host, _, port = options.address.rpartition(":")
    if options.be_good:
        return be_good((host, int(port)), options.seconds)
    return be_hostile(options.be, (host, int(port)), options.seconds, options.connections, options.seed)


if __name__ == "__main__":
    main()
