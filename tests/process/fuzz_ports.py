#!/usr/bin/env python3
"""Throws mutated frames at the client, election and quorum ports of three running servers.

    python tests/process/fuzz_ports.py                          # 100,000 at each port
    python tests/process/fuzz_ports.py --frames 2000 --seed 7 --ports quorum

Recorded frames (`tests/testdata`) are bent by bit flips, cuts, lies about lengths, repeated pieces and splices
(`harness/mutate.py`). Those that keep the stream in step go many to a connection, each followed by a marker that the
server answers: what is counted as thrown was read, and when a frame ends the connection, the ones behind it are thrown
again on the next. A frame that breaks the step goes last, and then the server must close.

All the while clients of each server read and write, and must not lose their connections; the leader must lead on; at
the end all three trees are equal. The servers' memory is printed before, after a tenth, and at the end.

`test_fuzz_ports.py` has the short form, for `make test`, and the full one, for `make fuzz`.
"""

import argparse
import contextlib
import random
import socket
import struct
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from harness import mutate, wire
from harness.ensemble import SUPER_AUTH, Ensemble
from harness.tree import assert_same_trees, epoch_of, read_tree_of

PORTS = ("client", "election", "quorum")
#: Frames of one connection, at most.
BURST = 50
BURST_BYTES = 131_072
#: How long a server may take to answer a marker or to close a connection that is out of step.
PATIENCE_S = 10.0
#: Ids of servers that are not in the ensemble: so many for each attacking thread.
STRANGERS = 16


#: Where a frame goes: among others on a connection ready for frames; alone on one; or as its first bytes.
IN_STEP, ALONE, FIRST, HALFWAY = "in step", "alone", "first", "halfway"


class Stuck(AssertionError):
    """The server neither answered nor closed."""


class Attack:
    """One thread that throws frames at one port; what is counted belongs to it alone."""

    #: Frames sent before their answers are read. A server that closes may drop answers that it has not sent yet.
    window = BURST

    def __init__(self, servers, number, rng):
        self.servers, self.number, self.rng = servers, number, rng
        self.thrown = self.connections = self.ended = 0

    # What a port adds.

    def address(self):
        raise NotImplementedError

    def preface(self, link, place):
        """Bring the connection to where a frame for this place is read."""
        raise NotImplementedError

    def next_frame(self):
        """``(place, frame)``."""
        raise NotImplementedError

    def marker(self, number):
        """A request that fits behind a frame, and bytes that only its answer contains."""
        raise NotImplementedError

    # The same for all ports.

    def stranger(self):
        """The id of a server that nobody knows, and of no other connection at this time."""
        return 200 + self.number * STRANGERS + self.connections % STRANGERS

    def run(self, count):
        """Throw ``count`` frames."""
        waiting, made = [], 0
        while made < count or waiting:
            if made == count or len(waiting) == BURST or sum(map(len, waiting)) > BURST_BYTES:
                waiting = self.throw_many(waiting)
                continue
            made += 1
            place, frame = self.next_frame()
            if place == IN_STEP:
                waiting.append(frame)
            else:
                self.throw_alone(place, frame)

    def connect(self):
        self.connections += 1
        link = socket.create_connection(self.address(), PATIENCE_S)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link

    def throw_alone(self, place, frame):
        """A frame behind which nothing can be read any more; the server must close, at the latest when we do."""
        # A close that comes before we have sent all is as good.
        with self.connect() as link, contextlib.suppress(ConnectionError):
            self.preface(link, place)
            link.sendall(frame)
            shut_down(link)
            try:
                while link.recv(262_144):
                    pass
            except TimeoutError:
                raise Stuck(f"the server keeps a connection that we have closed behind {frame.hex()}") from None
        self.thrown += 1

    def throw_many(self, frames):
        """Frames with markers between, on one connection; returns those behind the one that ended it."""
        for _ in range(50):
            with self.connect() as link:
                try:
                    self.preface(link, IN_STEP)
                except ConnectionError:
                    continue  # A frame may have ended the session that is renewed here.
                read = self.count_read(link, frames)
            if read < len(frames):
                self.ended += 1
                read += 1
            self.thrown += read
            return frames[read:]
        raise Stuck(f"the server has closed 50 connections to {self.address()} in their handshakes")

    def count_read(self, link, frames):
        """Send the frames; how many were answered for before the server closed."""
        read = 0
        with contextlib.suppress(ConnectionError):
            while read < len(frames):
                window = frames[read : read + self.window]
                markers = [self.marker(read + number) for number in range(len(window))]
                with contextlib.suppress(ConnectionError):  # There may be answers to read all the same.
                    link.sendall(b"".join(frame + ask for frame, (ask, _) in zip(window, markers, strict=True)))
                received, at = bytearray(), 0
                for _, answer in markers:
                    while (found := received.find(answer, at)) < 0:
                        try:
                            part = link.recv(262_144)
                        except TimeoutError:
                            raise Stuck(f"no answer behind {frames[read].hex()}") from None
                        if not part:
                            return read
                        received += part
                    at, read = found, read + 1
        return read


class ClientAttack(Attack):
    """Requests over sessions that are renewed for each connection: a renewal needs no transaction."""

    def __init__(self, servers, number, rng):
        super().__init__(servers, number, rng)
        self.connects, self.requests = mutate.client_frames()
        self.session = wire.Session(30_000)

    def address(self):
        return self.rng.choice(self.servers.members).address

    def next_frame(self):
        if self.rng.randrange(20) == 0:
            return FIRST, mutate.mutated_frame(self.rng, self.connects)
        frame = mutate.mutated_frame(self.rng, self.requests, header_bytes=8)
        return (IN_STEP if mutate.is_framed(frame, 8) else ALONE), frame

    def preface(self, link, place):
        if place == FIRST:
            return
        session = self.session
        # What this client has seen is no condition: it goes from server to server without waiting.
        body = struct.pack(">iqiq", 0, 0, session.timeout_ms, session.id) + wire.buffer(session.password)
        link.sendall(wire.buffer(body + b"\0"))
        answer = wire.Reader(read_exactly(link, 41)[4:])
        _, timeout_ms, session_id = answer.take(">iiq")
        if timeout_ms <= 0:
            self.session = wire.Session(30_000)
            raise ConnectionResetError("a frame has ended the session")
        session.id, session.password = session_id, answer.buffer()

    def marker(self, number):
        xid = 0x4000_0000 + number
        ask = struct.pack(">ii", xid, wire.EXISTS) + wire.watch_body("/absent")
        return wire.buffer(ask), struct.pack(">ii", 16, xid)


class ElectionAttack(Attack):
    """Notifications from servers that nobody knows: each is answered with a vote."""

    def __init__(self, servers, number, rng):
        super().__init__(servers, number, rng)
        self.initials, self.notifications = mutate.election_frames()

    def address(self):
        return ("127.0.0.1", self.rng.choice(self.servers.members).election_port)

    def next_frame(self):
        if self.rng.randrange(5):
            frame = mutate.mutated_frame(self.rng, self.notifications)
            return (IN_STEP if mutate.is_framed(frame, 1) else ALONE), frame
        while True:
            frame = mutate.mutate(self.rng, self.rng.choice(self.initials), self.initials)
            if not mutate.names_a_stranger(frame):
                return FIRST, frame

    def preface(self, link, place):
        if place != FIRST:
            text = b"127.0.0.1:9"
            link.sendall(struct.pack(">qqi", -65536, self.stranger(), len(text)) + text)

    def count_read(self, link, frames):
        # Of several votes only the newest is sent, so one question stands for the whole burst. A notification may be
        # lost where they come too fast for the server: then it is asked again.
        question = self.notifications[0]
        link.settimeout(PATIENCE_S / 10)
        with contextlib.suppress(ConnectionError):
            link.sendall(b"".join(frames))
            for _ in range(10):
                link.sendall(question)
                with contextlib.suppress(TimeoutError):
                    return len(frames) if link.recv(65_536) else 0
            raise Stuck(f"no vote behind {frames[-1].hex()}")
        return 0


class QuorumAttack(Attack):
    """Packets of a learner that is in no configuration, to the leader. Most bent ones end its connection."""

    window = 1

    def __init__(self, servers, number, rng):
        super().__init__(servers, number, rng)
        self.packets, self.wanted = mutate.quorum_frames()
        self.leader = servers.wait_leader()
        self.epoch = epoch_of(int(self.leader.srvr()["Zxid"], 16))
        self.members = {member.id for member in servers}

    def address(self):
        return ("127.0.0.1", self.leader.quorum_port)

    def next_frame(self):
        while self.is_a_member(frame := mutate.mutated_packet(self.rng, self.packets, self.wanted)):
            pass
        if self.rng.randrange(10) == 0:
            return self.rng.choice((FIRST, HALFWAY)), frame
        return (IN_STEP if mutate.split_packet(frame) else ALONE), frame

    def is_a_member(self, frame):
        """Whether it introduces itself as a server of the ensemble: what follows would be forged, not broken."""
        kinds = struct.pack(">i", 11), struct.pack(">i", 16)
        return frame[:4] in kinds and len(frame) >= 24 and struct.unpack_from(">q", frame, 16)[0] in self.members

    def preface(self, link, place):
        info = struct.pack(">qiq", self.stranger(), 0x10000, 0)
        steps = [packet(11, 0, info), packet(18, 0, struct.pack(">i", 0)), packet(3, self.epoch << 32, None)]
        link.sendall(b"".join(steps[: {FIRST: 0, HALFWAY: 1}.get(place, 3)]))

    def marker(self, number):
        session = struct.pack(">q", 0x7F00_0000_0000_0000 + number)
        return packet(6, -1, session + struct.pack(">i", 10_000)), struct.pack(">iqi", 6, -1, 9) + session


def shut_down(link):
    """Send no more; `ConnectionError` when the other side has closed already."""
    try:
        link.shutdown(socket.SHUT_WR)
    except OSError as error:
        raise ConnectionResetError("closed by the server") from error


def packet(kind, zxid, data):
    """A quorum packet without identities."""
    return struct.pack(">iq", kind, zxid) + wire.buffer(data) + b"\xff\xff\xff\xff"


def read_exactly(link, size):
    data = b""
    while len(data) < size:
        part = link.recv(size - len(data))
        if not part:
            raise ConnectionResetError("closed")
        data += part
    return data


class GoodClient(threading.Thread):
    """Reads and writes on one server, and remembers the first thing that goes wrong."""

    def __init__(self, member):
        super().__init__(daemon=True)
        self.member, self.rounds, self.failure, self.slowest_s = member, 0, None, 0.0
        self._stop_asked = threading.Event()

    def run(self):
        try:
            with self.member.connect(wire.Session(10_000), timeout_s=20.0) as link:
                path = link.create("/good-", b"", flags=3)
                while not self._stop_asked.wait(0.01):
                    data = b"%d" % self.rounds
                    begin = time.monotonic()
                    link.set(path, data)
                    assert link.get(path)[0] == data
                    self.slowest_s = max(self.slowest_s, time.monotonic() - begin)
                    self.rounds += 1
                link.close_session()
        except BaseException as error:  # Told by `stop`.
            self.failure = error

    def stop(self):
        self._stop_asked.set()
        self.join(30)
        assert not self.failure, f"the client of server {self.member.id} failed: {self.failure!r}"
        assert self.rounds, f"the client of server {self.member.id} did nothing"


ATTACKS = {"client": ClientAttack, "election": ElectionAttack, "quorum": QuorumAttack}


def attack(servers, port, frames, seed, threads=3):
    """Throw ``frames`` at one port; returns its figures."""
    attackers = [ATTACKS[port](servers, number, random.Random(f"{seed} {port} {number}")) for number in range(threads)]
    failures = []

    def work(attacker):
        try:
            attacker.run(-(-frames // threads))
        except BaseException as error:  # Raised again below.
            failures.append(error)

    begin = time.monotonic()
    workers = [threading.Thread(target=work, args=(attacker,), daemon=True) for attacker in attackers]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    total = {name: sum(getattr(one, name) for one in attackers) for name in ("thrown", "connections", "ended")}
    return {"port": port, **total, "seconds": round(time.monotonic() - begin, 1)}


def run(frames=100_000, seed=1, ports=PORTS, say=print):
    """The whole run against three servers of the one under test; returns ``{port: [RSS in KiB by server, ...]}``."""
    memory = {}
    with Ensemble(3, config={"maxSessionTimeout": 30_000}) as servers:
        servers.start()
        epoch = epoch_of(int(servers.wait_leader().srvr()["Zxid"], 16))
        clients = [GoodClient(member) for member in servers]
        for client in clients:
            client.start()
        try:
            for port in ports:
                marks = [[member.rss_kib() for member in servers]]
                for share in (frames // 10, frames - frames // 10):
                    figures = attack(servers, port, share, f"{seed} {share}")
                    marks.append([member.rss_kib() for member in servers])
                    say(
                        "{port} port: {thrown} frames thrown on {connections} connections, {ended} of which a frame "
                        "ended; {seconds} s".format(**figures)
                    )
                say(
                    f"{port} port: RSS in KiB of servers 1, 2, 3: before {marks[0]}, after a tenth {marks[1]}, "
                    f"at the end {marks[2]}"
                )
                memory[port] = marks
        except BaseException:
            say(servers.logs())
            raise
        for client in clients:
            client.stop()
        say("clients beside: " + ", ".join(f"{one.rounds} rounds, slowest {one.slowest_s:.3f} s" for one in clients))
        now = epoch_of(int(servers.wait_leader().srvr()["Zxid"], 16))
        assert now == epoch, f"the frames have cost {now - epoch} elections"
        assert_same_trees({f"server {member.id}": read_tree_of(member, auth=SUPER_AUTH) for member in servers})
    return memory


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--frames", type=int, default=100_000, help="frames for each port")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--ports", nargs="+", choices=PORTS, default=PORTS)
    options = parser.parse_args()
    run(options.frames, options.seed, options.ports)


if __name__ == "__main__":
    main()
