"""Snapshots of a million znodes under 1,000 writes a second: a new member that gets one, and one for the disk.

    make bench-snapshots                about 4 minutes; writes its part of docs/performance.md
    QUICK=1 make bench-snapshots        a tenth of the tree, printed only

Three servers on one machine. Two of them are filled and serve; ten connections to the leader each write every 10 ms by
the clock, so that a server that stands still is charged with every write that was due (`benches/watchers.rs`). Then

- the third starts on an empty directory, gets the tree by SNAP and serves; again and again. Its time, the latencies of
  the writes meanwhile and before, and the leader's memory, looked at every 5 ms;
- all three take a snapshot every 10 s or so. The latencies of the writes that were due while a snapshot of any of the
  three was being written are held against those of the others.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from figures import tools
from figures.processes import Cluster, resident_mb
from figures.report import write_part
from figures.tools import ROOT, WORK, zabkit_command

PAGE = ROOT / "docs" / "performance.md"
WRITERS, PERIOD_MICROS = 10, 10_000
MARK_MB, MARK_RISE = 64, 1.5
#: Transactions between snapshots in the second half: every ten seconds or so, at random.
SNAP_COUNT = 15_000


@dataclass
class Joined:
    """A new member; times in s, memory in MB."""

    took_s: float
    #: p99 of the writes, in ms, in as long a time before, and until it served.
    before_ms: float
    during_ms: float
    worst_ms: float
    extra_mb: float
    member_mb: float
    member_most_mb: float


@dataclass
class Taken:
    """Snapshots for the disk: p99 of writes in ms, beside them and without."""

    count: int
    took_s: float
    with_ms: float
    without_ms: float
    writes_with: int


class Writers:
    """`watchers write`: its samples are known when it has ended."""

    def __init__(self, program: str, server: str) -> None:
        command = [program, "write", server, str(WRITERS), str(PERIOD_MICROS)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def end(self) -> list[tuple[float, float]]:
        """When each write was due, in s since 1970, and its latency in ms."""
        said, _ = self.process.communicate(timeout=120)
        if self.process.returncode:
            raise RuntimeError(f"watchers ended with {self.process.returncode}")
        pairs = (line.split() for line in said.splitlines())
        return sorted((int(due) / 1e6, int(latency) / 1e3) for due, latency in pairs)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class MostMemory(threading.Thread):
    """The most that a process has, looked at every 5 ms."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.most, self.stopped = pid, 0.0, threading.Event()

    def run(self) -> None:
        with suppress(OSError):  # It has ended.
            while not self.stopped.wait(0.005):
                self.most = max(self.most, resident_mb(self.pid))


def p99(latencies: list[float]) -> float:
    return sorted(latencies)[int(len(latencies) * 0.99)] if latencies else float("nan")


def build() -> str:
    WORK.mkdir(parents=True, exist_ok=True)
    source, program = ROOT / "benches" / "watchers.rs", WORK / "watchers"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["rustc", "--edition", "2024", "-O", "-o", str(program), str(source)], check=True)
    return str(program)


def mode_of(port: int) -> str:
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as link:
            link.sendall(b"srvr")
            text = b"".join(iter(lambda: link.recv(4096), b""))
    except OSError:
        return ""
    found = re.search(rb"Mode: (\w+)", text)
    return found[1].decode() if found else ""


def snaps_sent(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), 5) as link:
        link.sendall(b"mntr")
        text = b"".join(iter(lambda: link.recv(65536), b"")).decode()
    return sum(int(float(count)) for count in re.findall(r"^zk_(?:sum_)?snap_count\s+([\d.]+)$", text, re.MULTILINE))


class Bench:
    def __init__(self, znodes: int, watchers: str, zkload: tools.Tools, root: Path) -> None:
        self.znodes, self.watchers, self.zkload = znodes, watchers, zkload
        command = os.environ.get("SERVER_CMD", zabkit_command())
        settings = ("snapCount=100000000", "maxSessionTimeout=600000")
        self.cluster = Cluster("zabkit", command, root / "zabkit", settings=settings)

    def fill(self) -> None:
        """The first two serve, with the tree on the disk."""
        cluster = self.cluster
        cluster._configure()
        for server in (1, 2):
            cluster.start_one(server)
        cluster.leader()
        hosts = ",".join(f"127.0.0.1:{cluster.client_port(server)}" for server in (1, 2))
        self.zkload.fill(hosts, cluster.pids, self.znodes)

    def join(self, rounds: int, calm_s: float) -> list[Joined]:
        """The third comes with nothing, again and again."""
        cluster, joined = self.cluster, []
        leader = cluster.leader()
        pid = cluster.processes[leader].pid
        for _ in range(rounds):
            data = cluster._dir(3) / "data"
            shutil.rmtree(data)
            data.mkdir()
            (data / "myid").write_text("3")
            sent = snaps_sent(cluster.client_port(leader))
            writers = Writers(self.watchers, f"127.0.0.1:{cluster.client_port(leader)}")
            try:
                time.sleep(1 + calm_s)  # These writes are the figures from before.
                had, memory = resident_mb(pid), MostMemory(pid)
                memory.start()
                began = time.time()
                cluster.start_one(3)
                member = MostMemory(cluster.processes[3].pid)
                member.start()
                while not mode_of(cluster.client_port(3)):
                    if cluster.processes[3].poll() is not None:
                        raise RuntimeError("the new member has ended: its log is below")
                    if time.time() > began + 120:
                        raise TimeoutError("the new member does not serve")
                    time.sleep(0.01)  # How exactly the end is known, without a load of its own.
                ended = time.time()
                for thread in (memory, member):
                    thread.stopped.set()
                    thread.join()
                time.sleep(2)  # What was due by then is answered, and what is not needed given back.
                samples = writers.end()
                settled = resident_mb(cluster.processes[3].pid)
            finally:
                writers.kill()
            if snaps_sent(cluster.client_port(leader)) <= sent:
                raise RuntimeError("the leader says nothing of a SNAP")
            process = cluster.processes.pop(3)
            process.terminate()
            process.wait(30)
            before = [latency for due, latency in samples if began - calm_s <= due < began]
            during = [latency for due, latency in samples if began <= due < ended]
            joined.append(
                Joined(ended - began, p99(before), p99(during), max(during), memory.most - had, settled, member.most)
            )
            print(joined[-1], flush=True)
        return joined

    def take(self, seconds: float) -> Taken:
        """All three serve, and write snapshots beside the writes."""
        cluster = self.cluster
        cluster.stop()
        for server in cluster.ids:
            config = cluster._dir(server) / "zoo.cfg"
            config.write_text(config.read_text().replace("snapCount=100000000", f"snapCount={SNAP_COUNT}"))
            (cluster._dir(server) / "server.log").unlink(missing_ok=True)
            cluster.start_one(server)
        leader = cluster.leader(120)
        while not all(mode_of(cluster.client_port(server)) for server in cluster.ids):
            time.sleep(0.05)  # Asks again, not in a circle.
        writers = Writers(self.watchers, f"127.0.0.1:{cluster.client_port(leader)}")
        try:
            began = time.time()
            time.sleep(seconds)  # The measurement.
            samples = [(due, latency) for due, latency in writers.end() if due > began + 2]
        finally:
            writers.kill()
        time.sleep(3)  # Those that are being written become known by their ends.
        spans = [span for server in cluster.ids for span in self._snapshots(server)]
        spans = [(start, end) for start, end in spans if end > samples[0][0] and start < samples[-1][0]]
        beside: list[float] = []
        alone: list[float] = []
        for due, latency in samples:
            (beside if any(start <= due <= end for start, end in spans) else alone).append(latency)
        took = statistics.median(end - start for start, end in spans) if spans else float("nan")
        return Taken(len(spans), took, p99(beside), p99(alone), len(beside))

    def _snapshots(self, server: int) -> list[tuple[float, float]]:
        """From when to when this server has written a snapshot, by its log."""
        found = re.findall(
            r"^([\d-]+ [\d:]+),(\d+) .*Snapshot taken in (\d+) ms",
            (self.cluster._dir(server) / "server.log").read_text(),
            re.MULTILINE,
        )
        spans = []
        for at, ms, took in found:
            end = datetime.strptime(at, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc).timestamp() + int(ms) / 1000
            spans.append((end - int(took) / 1000, end))
        return spans


def table(znodes: int, joined: list[Joined], taken: Taken) -> str:
    def over(name: str) -> list[float]:
        return [float(getattr(one, name)) for one in joined]

    def spread(name: str, unit: str) -> str:
        values = over(name)
        return f"**{statistics.median(values):.3g} {unit}** ({min(values):.3g} to {max(values):.3g})"

    def verdict(met: bool) -> str:
        return "met" if met else "**not met**"

    extra, rise = max(over("extra_mb")), taken.with_ms / taken.without_ms
    lines = [
        f"A new member gets {znodes:,} znodes by SNAP, {len(joined)} times:",
        "",
        "| | median (range) | mark |",
        "| --- | --- | --- |",
        f"| process start to serving | {spread('took_s', 's')} | |",
        f"| leader's p99 of writes before | {spread('before_ms', 'ms')} | |",
        f"| leader's p99 of writes until it serves | {spread('during_ms', 'ms')} | |",
        f"| the longest write | {spread('worst_ms', 'ms')} | |",
        f"| leader's extra memory | {spread('extra_mb', 'MB')} | ≤ {MARK_MB} MB: {verdict(extra <= MARK_MB)} |",
        f"| the member's memory when it serves | {spread('member_mb', 'MB')} | |",
        f"| the most that the member had | {spread('member_most_mb', 'MB')} | |",
        "",
        f"{taken.count} snapshots for the disk, of {taken.took_s:.2g} s each: p99 of {taken.writes_with:,} writes",
        f"beside them **{taken.with_ms:.3g} ms**, of the others {taken.without_ms:.3g} ms, {rise:.2f} times as much"
        f" (mark: less than {MARK_RISE:g}: {verdict(rise < MARK_RISE)}).",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--znodes", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5, help="new members")
    parser.add_argument("--seconds", type=float, default=60, help="of snapshots for the disk")
    parser.add_argument("--dir", help="where the servers have their files")
    parser.add_argument("--print", action="store_true", help="do not write docs/performance.md")
    options = parser.parse_args()
    is_quick = bool(os.environ.get("QUICK"))
    znodes, rounds, seconds = options.znodes, options.rounds, options.seconds
    if is_quick:
        znodes, rounds, seconds = 100_000, 2, 30
    root = Path(tempfile.mkdtemp(prefix="zabkit-snapshots-", dir=options.dir))
    bench = Bench(znodes, build(), tools.build(), root)
    try:
        bench.fill()
        joined = bench.join(rounds, 5)
        taken = bench.take(seconds)
        print(taken, flush=True)
    except BaseException:
        for log in sorted(root.glob("zabkit/*/server.log")):
            print(f"--- {log}", *log.read_text(errors="replace").splitlines()[-15:], sep="\n", file=sys.stderr)
        raise
    finally:
        bench.cluster.wipe()
        shutil.rmtree(root, ignore_errors=True)
    text = table(znodes, joined, taken)
    print(text, flush=True)
    if not (is_quick or options.print):
        write_part(PAGE, "snapshots", text)


if __name__ == "__main__":
    main()
