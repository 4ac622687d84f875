"""One function for each kind of row: rounds in which the peers take turns, and the floors in the same rounds."""

from __future__ import annotations

import datetime
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .processes import Cluster, Echo
from .results import Results, Sample
from .rows import BY_KEY, Load, Row
from .tools import Tools, WrongAnswers

FILLED = "/zkfill/d000000/n000000000"
WRITERS = 3
"""Logs that sync at the same time: those of three servers."""


@dataclass(frozen=True)
class Plan:
    """How much of each to do."""

    rounds: int
    seconds: float
    kills: int
    starts: int
    znodes: int


@dataclass
class Bench:
    """What every row needs."""

    tools: Tools
    commands: dict[str, str]
    """Peer to the command that starts one server of it."""
    work: Path
    results: Results
    plan: Plan

    def cluster(self, peer: str, row: str) -> Cluster:
        root = self.work / f"{peer}-{row}"
        shutil.rmtree(root, ignore_errors=True)
        return Cluster(peer, self.commands[peer], root)

    def add(self, row: str, peer: str, values: dict[str, float], others: float = 0.0) -> None:
        at = datetime.datetime.now().isoformat(" ", "minutes")
        self.results.add(Sample(row, peer, values, at, others))

    def turns(self, round_number: int) -> list[str]:
        """The peers, another one first each round."""
        peers = list(self.commands)
        return peers[round_number % len(peers) :] + peers[: round_number % len(peers)]


def _start(bench: Bench, cluster: Cluster) -> None:
    """Returns when every server has acknowledged a write."""
    began = cluster.start()
    bench.tools.probe(cluster.hosts, began, everywhere=True)


def measure_loads(bench: Bench, rows: Sequence[Row]) -> None:
    """Requests at ensembles that run all the time; each row's floors are measured between the peers' turns."""
    clusters = {peer: bench.cluster(peer, "load") for peer in bench.commands}
    echo = Echo(bench.tools.floor)
    try:
        for cluster in clusters.values():
            _start(bench, cluster)
        for cluster in clusters.values():  # Just-in-time compilers settle; not recorded.
            for op in ("get", "set"):
                bench.tools.load(cluster.hosts, cluster.pids, op, 30, 100, min(4.0, 2 * bench.plan.seconds), 0)
        for n in range(bench.plan.rounds):
            for row in rows:
                load = row.load
                assert load is not None
                for peer in bench.turns(n):
                    values, others = _load_peer(bench, clusters[peer], row.key, load)
                    bench.add(row.key, peer, values, others)
                bench.add(row.key, "floor", _load_floor(bench, echo, load))
    finally:
        echo.stop()
        for cluster in clusters.values():
            cluster.wipe()


def _load_peer(bench: Bench, cluster: Cluster, row: str, load: Load) -> tuple[dict[str, float], float]:
    """A run of zabkit's with a wrong answer ends the bench. One of another peer is told, and tried again."""
    try:
        return _load(bench, cluster.hosts, cluster.pids, load, bench.plan.seconds)
    except WrongAnswers as error:
        if cluster.name == "zabkit":
            raise
        print(f"{cluster.name}: {error}; once more", flush=True)
        bench.add(row, cluster.name, {"wrong": 1})
        return _load(bench, cluster.hosts, cluster.pids, load, bench.plan.seconds)


def _load(bench: Bench, hosts: str, pids: list[int], load: Load, seconds: float) -> tuple[dict[str, float], float]:
    answer = bench.tools.load(hosts, pids, load.op, load.sessions, load.outstanding, seconds, load.warmup)
    values = {
        "cpu": float(answer["procs_cpu_s_per_100k"]),
        "ops": float(answer["ops_per_s"]),
        "p50": float(answer["lat_us"]["p50"]),
        "p99": float(answer["lat_us"]["p99"]),
    }
    return values, float(answer["others_cores"])


def _load_floor(bench: Bench, echo: Echo, load: Load) -> dict[str, float]:
    """The client's echo and, for writes, three logs that sync what is outstanding at once; no hop between servers."""
    seconds = bench.plan.seconds / 2
    reading = Load("get", load.sessions, load.outstanding, warmup=0.2)
    values, _ = _load(bench, echo.hosts, echo.pids, reading, seconds)
    op, _, share_of_reads = load.op.partition(":")
    if op == "get":
        return values
    batch = load.sessions * load.outstanding
    synced = bench.tools.log_floor(bench.work / "floor", WRITERS, batch, seconds)
    writes = 1 - float(share_of_reads or 0)
    floor = {"cpu": values["cpu"] + writes * float(synced["cpu_s_per_100k"])}
    if writes == 1:
        floor["p50"] = values["p50"] + float(synced["p50"])
    return floor


def measure_failover(bench: Bench) -> None:
    """SIGKILL for the leader under ten writers, and again when it is back; the peers take turns."""
    clusters = {peer: bench.cluster(peer, "failover") for peer in bench.commands}
    try:
        for cluster in clusters.values():
            _start(bench, cluster)
        for n in range(bench.plan.kills):
            for peer in bench.turns(n):
                cluster = clusters[peer]
                leader = cluster.leader()
                bench.add("failover", peer, _failover(bench, cluster, leader))
                cluster.processes[leader].wait()
                cluster.start_one(leader)
                bench.tools.probe(cluster.hosts, 0, everywhere=True)
    finally:
        for cluster in clusters.values():
            cluster.wipe()


def _failover(bench: Bench, cluster: Cluster, leader: int) -> dict[str, float]:
    """One kill. A write of zabkit's that is lost ends the bench; one of another peer's is told."""
    try:
        answer = bench.tools.failover(cluster.hosts, cluster.processes[leader].pid, 0.8, 2.5)
    except WrongAnswers:
        if cluster.name == "zabkit":
            raise
        return {"wrong": 1}
    # zkload takes the longest pause behind the kill for the kill's; where a later hiccup was longer, its length still
    # bounds the kill's from above.
    return {"ms": min(float(answer["kill_to_first_ack_ms"]), float(answer["gap_ms"]))}


def measure_starts(bench: Bench) -> None:
    """First starts on empty directories, and what each server then holds in memory."""
    for n in range(bench.plan.starts):
        for peer in bench.turns(n):
            cluster = bench.cluster(peer, "start")
            try:
                began = cluster.start()
                bench.add("start", peer, {"ms": bench.tools.probe(cluster.hosts, began)})
                bench.tools.probe(cluster.hosts, began, everywhere=True)
                time.sleep(1)  # What the start has used for a moment has been given back.
                bench.add("idle", peer, {"mb": statistics.median(cluster.memory_mb())})
            finally:
                cluster.wipe()


def measure_million(bench: Bench) -> None:
    """A large tree: what it takes in memory, right after it was written and after each restart."""
    clusters = {peer: bench.cluster(peer, "million") for peer in bench.commands}
    try:
        for peer, cluster in clusters.items():
            _start(bench, cluster)
            answer = bench.tools.fill(cluster.hosts, cluster.pids, bench.plan.znodes)
            if answer["errors"]:
                raise RuntimeError(f"filling {peer}: {answer['errors']} errors")
            for mb in cluster.memory_mb():
                bench.add("million", peer, {"mb": mb})
            cluster.stop()
        for n in range(bench.plan.rounds):
            for peer in bench.turns(n):
                cluster = clusters[peer]
                began = cluster.start()
                values = {"ms": bench.tools.probe(cluster.hosts, began, "read", FILLED)}
                cluster.leader()
                values["mb"] = statistics.median(cluster.memory_mb())
                bench.add("restart", peer, values)
                cluster.stop()
    finally:
        for cluster in clusters.values():
            cluster.wipe()


def measure(bench: Bench, keys: Sequence[str]) -> None:
    """Measures these rows; their former samples are forgotten."""
    bench.results.forget(keys)
    loads = [BY_KEY[key] for key in keys if key in BY_KEY and BY_KEY[key].load]
    if loads:
        measure_loads(bench, loads)
    if "start" in keys or "idle" in keys:
        measure_starts(bench)
    if "million" in keys or "restart" in keys:
        measure_million(bench)
    if "failover" in keys:
        measure_failover(bench)
