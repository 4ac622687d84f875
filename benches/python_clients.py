"""zabkit's Python client beside kazoo, aiozk and a minimal pure-Python one, taking turns: `make bench-python`.

One zabkit server as a process of its own, one process for each client, all open all the time; each round runs every
operation in every style on every client, in another order each round. Client CPU is that of the client's whole
process. Samples go to build/bench/clients.jsonl, the tables to docs/performance.md.

    python_clients.py                     everything, about 5 minutes
    python_clients.py --clients kazoo,pure --rounds 1 --seconds 0.3
    python_clients.py --loop uvloop       into a file of its own, printed only
    QUICK=1 python_clients.py             does it work?
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from clients.report import TITLES, row_key, tables
from clients.styles import OPS, STYLES
from figures import report
from figures.processes import Cluster
from figures.results import Results, Sample
from figures.tools import ROOT, WORK, zabkit_command

PAGE = ROOT / "docs" / "performance.md"


class Worker:
    """The process of one client."""

    def __init__(self, name: str, port: int, loop: str) -> None:
        script = Path(__file__).parent / "clients" / "worker.py"
        self.process = subprocess.Popen(
            [sys.executable, str(script), name, str(port), loop],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._to, self._from = self.process.stdin, self.process.stdout
        if self._from.readline().strip() != "ready":
            raise RuntimeError(f"the client {name} does not work here")

    def run(self, op: str, style: str, seconds: float) -> dict[str, float]:
        """CPU in µs for one request, and requests a second."""
        self._to.write(f"{op}\t{style}\t{seconds}\n")
        self._to.flush()
        answer = json.loads(self._from.readline())
        return {"cpu_us": answer["cpu_s"] / answer["ops"] * 1e6, "ops": answer["ops"] / answer["wall_s"]}

    def close(self) -> None:
        self._to.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._from.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default=",".join(TITLES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each run")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    options = parser.parse_args()
    is_quick = bool(os.environ.get("QUICK"))
    if is_quick:
        options.rounds, options.seconds = 1, 0.2
    is_page = not is_quick and options.loop == "asyncio"
    results = Results(WORK / ("clients.jsonl" if is_page else f"clients-{options.loop}.jsonl"))
    keys = [row_key(op, style) for op in OPS for style in STYLES]
    if not options.render:
        results.forget(keys)
        run(results, options.clients.split(","), options.rounds, options.seconds, options.loop)
    text = f"{report.when(results, set(keys))}\n\n{tables(results)}"
    if is_page:
        report.write_part(PAGE, "clients", text)
        print(f"{PAGE.relative_to(ROOT)} has the tables")
    else:
        print(text)


def run(results: Results, names: list[str], rounds: int, seconds: float, loop: str) -> None:
    work = Path(tempfile.mkdtemp(prefix="zabkit-bench-"))
    server = Cluster("zabkit", zabkit_command(), work / "server", servers=1)
    workers: dict[str, Worker] = {}
    try:
        server.start()
        server.leader()
        for name in names:
            workers[name] = Worker(name, server.client_port(1), loop)
        for worker in workers.values():  # Caches and buffers find their sizes; not recorded.
            for op in OPS:
                worker.run(op, STYLES[0], min(seconds, 0.3))
        for n in range(rounds):
            turns = names[n % len(names) :] + names[: n % len(names)]
            for op in OPS:
                for style in STYLES:
                    for name in turns:
                        values = workers[name].run(op, style, seconds)
                        at = datetime.datetime.now().isoformat(" ", "minutes")
                        results.add(Sample(row_key(op, style), name, values, at))
    finally:
        for worker in workers.values():
            worker.close()
        server.wipe()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
