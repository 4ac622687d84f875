"""Watches beside Apache ZooKeeper 3.8.0: what a million cost in memory, and what others wait while 100,000 fire.

    make bench-watches                both peers in turns, about 3 minutes; writes its part of docs/performance.md
    QUICK=1 make bench-watches        a tenth of it, printed only

A server alone, on an empty directory. `benches/watchers.rs` is the watchers and, as a process of its own, the reader
whose latencies count: ten connections that each read every 5 ms by the clock, so that a server that stands still
is charged with every read that was due. The change is one multi that deletes all the nodes; the latencies counted are
those of reads that were due from its being sent until the last event was read and checked (each once, in order).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures.processes import Cluster, cpu_seconds, resident_mb
from figures.report import write_part
from figures.tools import ROOT, WORK, apache_command, zabkit_command

PAGE = ROOT / "docs" / "performance.md"
# A million watches on 10,000 paths; 100,000 events of one change.
HELD = (100, 10_000)
FIRED = ((1000, 100), (10_000, 10))
READERS, READ_EVERY_MICROS = 10, 5000
MARK_MB, MARK_P99_MS = 120, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="changes of each kind for each peer")
    parser.add_argument("--peers", default="zabkit,apache")
    parser.add_argument("--print", action="store_true", help="do not write docs/performance.md")
    options = parser.parse_args()
    is_quick = bool(os.environ.get("QUICK"))
    watchers = build()
    commands = {"zabkit": zabkit_command(), "apache": apache_command() or ""}
    commands = {peer: commands[peer] for peer in options.peers.split(",")}
    if not commands.get("apache", "-"):
        del commands["apache"]
        print("Apache ZooKeeper is not installed (zookeeper libzookeeper-java): zabkit alone", file=sys.stderr)
    if "apache" in commands:
        commands["apache"] = commands["apache"].replace("-Xmx1g", "-Xmx2g")
    held: tuple[int, int] = HELD
    fired: tuple[tuple[int, int], ...] = FIRED
    rounds: int = options.rounds
    if is_quick:
        held, fired, rounds = (100, 1000), ((1000, 10),), 2
    work = Path(tempfile.mkdtemp(prefix="zabkit-watches-"))
    try:
        peers = {}
        for peer, command in commands.items():
            print(f"{peer} ...", flush=True)
            bench = Bench(peer, command, watchers, work)
            peers[peer] = Figures(bench.memory(*held), [bench.try_fire(*shape, rounds) for shape in fired])
            print(peers[peer], flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    text = table(peers, held, fired, rounds)
    print(text, flush=True)
    if not (is_quick or options.print):
        write_part(PAGE, "watches", text)


def build() -> Path:
    WORK.mkdir(parents=True, exist_ok=True)
    source, program = ROOT / "benches" / "watchers.rs", WORK / "watchers"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["rustc", "--edition", "2024", "-O", "-o", str(program), str(source)], check=True)
    return program


@dataclass
class Memory:
    """Resident memory in MB by which the server's process grew."""

    connections_mb: float
    watches_mb: float
    #: After a full collection, where there is a collector.
    collected_mb: float | None
    seconds: float
    cpu_s: float


@dataclass
class Fire:
    """100,000 events, some times; in ms. p99 and worst are those of the other clients' reads meanwhile."""

    connections: int
    paths: int
    p99: list[float]
    worst: list[float]
    replied: list[float]
    last: list[float]
    #: The server's, for the change, its events and the reads beside them.
    cpu: list[float]
    #: p99 of reads while nothing fires.
    calm: float
    grown_mb: float


@dataclass
class Figures:
    memory: Memory
    #: None where the watchers gave up: an answer or event had not come after a minute.
    fires: list[Fire | None]


class Program:
    """`watchers`, which says a line of JSON at each step and waits for one."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"watchers ended with {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def finish(self) -> str:
        """Ends its input and waits; what it said until then."""
        said, _ = self.process.communicate(timeout=60)
        return said

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Bench:
    def __init__(self, peer: str, command: str, watchers: Path, work: Path) -> None:
        settings = ("maxSessionTimeout=600000",)
        self.cluster = Cluster(peer, command, work / peer, servers=1, settings=settings)
        self.watchers = str(watchers)

    def start(self) -> tuple[str, int]:
        self.cluster.start()
        self.cluster.leader()
        time.sleep(1)  # What the start has used for a moment has been given back.
        return self.cluster.hosts, self.cluster.pids[0]

    def memory(self, connections: int, paths: int) -> Memory:
        server, pid = self.start()
        program = Program([self.watchers, "hold", server, str(connections), str(paths)])
        try:
            program.line()
            before = settled_mb(pid)
            program.go()
            program.line()
            connected = settled_mb(pid)
            cpu = cpu_seconds(pid)
            program.go()
            seconds = float(program.line()["seconds"])
            cpu = cpu_seconds(pid) - cpu
            after = settled_mb(pid)
            collected = None
            if self.cluster.name == "apache" and shutil.which("jcmd"):
                subprocess.run(["jcmd", str(pid), "GC.run"], check=True, stdout=subprocess.DEVNULL)
                collected = settled_mb(pid) - connected
            program.finish()
        finally:
            program.kill()
            self.cluster.wipe()
        return Memory(connected - before, after - connected, collected, seconds, cpu)

    def try_fire(self, connections: int, paths: int, rounds: int) -> Fire | None:
        try:
            return self.fire(connections, paths, rounds)
        except RuntimeError as error:
            if self.cluster.name == "zabkit":
                raise
            print(f"{self.cluster.name}, {connections} connections: {error}", file=sys.stderr)
            return None

    def fire(self, connections: int, paths: int, rounds: int) -> Fire:
        server, pid = self.start()
        reader = Program([self.watchers, "read", server, str(READERS), str(READ_EVERY_MICROS)])
        program = Program([self.watchers, "fire", server, str(connections), str(paths), str(rounds)])
        windows, memory, cpu = [], [], []
        try:
            reader.line()
            for _ in range(rounds):
                program.line()
                time.sleep(1)  # The same of what the change has used.
                memory.append(resident_mb(pid))
                used = cpu_ms(pid)
                program.go()
                windows.append(program.line())
                cpu.append(cpu_ms(pid) - used)
                memory.append(resident_mb(pid))
            samples = [tuple(map(int, line.split())) for line in reader.finish().splitlines()]
            program.finish()
        finally:
            reader.kill()
            program.kill()
            self.cluster.wipe()
        p99, worst = [], []
        for window in windows:
            latencies = sorted(took for due, took in samples if window["sent"] <= due <= window["last"])
            p99.append(percentile(latencies, 0.99) / 1000)
            worst.append(latencies[-1] / 1000)
        calm = sorted(
            took for due, took in samples if any(w["sent"] - 900_000 <= due < w["sent"] - 100_000 for w in windows)
        )
        return Fire(
            *(connections, paths, p99, worst),
            [(window["replied"] - window["sent"]) / 1000 for window in windows],
            [(window["last"] - window["sent"]) / 1000 for window in windows],
            cpu,
            percentile(calm, 0.99) / 1000,
            max(memory) - memory[0],
        )


def cpu_ms(pid: int) -> float:
    """CPU time of all threads, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def settled_mb(pid: int) -> float:
    time.sleep(1)  # Nothing tells when memory has gone back to the system.
    return resident_mb(pid)


def percentile(ordered: list[int], share: float) -> float:
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * share))])


def table(peers: dict[str, Figures], held: tuple[int, int], fired: Sequence[tuple[int, int]], rounds: int) -> str:
    names = {"zabkit": "zabkit", "apache": "Apache 3.8.0 (`-Xmx2g`)"}
    watches = held[0] * held[1]
    rows = [
        ["", *(names[peer] for peer in peers), "mark", ""],
        ["---"] * (len(peers) + 3),
        [
            f"memory, {watches:,} watches: {held[0]} connections on {held[1]:,} paths",
            *(f"**{figures.memory.watches_mb:.0f} MB**" for figures in peers.values()),
            f"≤ {MARK_MB} MB",
            verdict([peers["zabkit"].memory.watches_mb], MARK_MB) if "zabkit" in peers else "",
        ],
        [
            "as much after a full collection",
            *("–" if f.memory.collected_mb is None else f"{f.memory.collected_mb:.0f} MB" for f in peers.values()),
            *("", ""),
        ],
        [
            "time to set them, the server's CPU",
            *(f"{figures.memory.seconds:.2f} s, {figures.memory.cpu_s:.2f} s" for figures in peers.values()),
            *("", ""),
        ],
    ]
    for n, (connections, each) in enumerate(fired):
        fires = {peer: figures.fires[n] for peer, figures in peers.items()}
        what = f"{connections * each:,} events of one change: {connections:,} connections, {each} paths each"
        ours = fires.get("zabkit")

        def row(title: str, show: Callable[[Fire], str], fires: dict[str, Fire | None] = fires) -> list[str]:
            return [title, *("gave up" if fire is None else show(fire) for fire in fires.values()), "", ""]

        rows += [
            [
                *row(f"{what}; p99 of others' reads meanwhile", lambda fire: f"**{spread(fire.p99)}**")[:-2],
                f"≤ {MARK_P99_MS} ms",
                verdict(ours.p99, MARK_P99_MS) if ours else "",
            ],
            row("the slowest of those reads", lambda fire: spread(fire.worst)),
            row("p99 of the same reads while nothing fires", lambda fire: f"{ms(fire.calm)} ms"),
            row("the change is answered after", lambda fire: spread(fire.replied)),
            row("the last event is read after", lambda fire: spread(fire.last)),
            row("the server's CPU for it", lambda fire: spread(fire.cpu)),
            row("memory grows meanwhile by", lambda fire: f"{fire.grown_mb:.0f} MB"),
        ]
    when = time.strftime("%Y-%m-%d %H:%M")
    note = f"Measured at {when}; medians of {rounds} changes, with their range. Every event came, once and in order."
    return note + "\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def spread(values: list[float]) -> str:
    return f"{ms(statistics.median(values))} ms ({ms(min(values))} to {ms(max(values))})"


def ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def verdict(values: list[float], limit: float) -> str:
    return "met" if statistics.median(values) <= limit else "**not met**"


if __name__ == "__main__":
    main()
