"""zabkit beside Apache ZooKeeper 3.8.0, with the floors in the same run: `make bench`.

Needs ../shared/tools (the load generator) and Debian's packages `zookeeper libzookeeper-java`; without Apache it
measures zabkit alone and says so. Samples go to build/bench/figures.jsonl, the table to docs/performance.md.

    side_by_side.py                       the whole table, about 16 minutes on a quiet machine
    side_by_side.py --rows set-alone,start    some rows; the others stay as they are in the file
    QUICK=1 side_by_side.py               everything once and briefly, into a file of its own: does it work?
    side_by_side.py --render              the table again from the samples
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from ensemble_starts import measure_ensemble
from figures import report
from figures.measure import Bench, Plan, measure
from figures.results import Results, spread
from figures.rows import PYTHON_ROWS, ROWS
from figures.tools import ROOT, WORK, apache_command, build, zabkit_command

PAGE = ROOT / "docs" / "performance.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    keys = [*(row.key for row in ROWS), *PYTHON_ROWS]
    parser.add_argument("--rows", default=",".join(keys), help=f"of {', '.join(keys)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of load in each round")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--znodes", type=int, default=1_000_000)
    parser.add_argument("--ensembles", type=int, default=50)
    parser.add_argument("--results", type=Path, default=WORK / "figures.jsonl")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    options = parser.parse_args()
    rows = options.rows.split(",")
    if unknown := set(rows) - set(keys):
        parser.error(f"no such rows: {', '.join(sorted(unknown))}")
    plan = Plan(options.rounds, options.seconds, options.kills, options.starts, options.znodes)
    ensembles, results_path = options.ensembles, options.results
    is_quick = bool(os.environ.get("QUICK"))
    if is_quick:
        plan, ensembles = Plan(1, 0.5, 1, 1, 10_000), 3
        results_path = WORK / "quick.jsonl"
        results_path.unlink(missing_ok=True)

    results = Results(results_path)
    if not options.render:
        run(results, plan, rows, ensembles)
    parts = [report.when(results, set(keys)), report.table(results), ensemble_line(results), report.repeated(results)]
    text = "\n\n".join(part for part in parts if part)
    if is_quick:
        print(text)
    else:
        report.write_part(PAGE, "figures", text)
        print(f"{PAGE.relative_to(ROOT)} has the table; samples: {results_path}")


def run(results: Results, plan: Plan, rows: list[str], ensembles: int) -> None:
    tools = build()
    commands = {"apache": apache_command() or "", "zabkit": zabkit_command()}
    if not commands["apache"]:
        del commands["apache"]
        print("Apache ZooKeeper is not installed (zookeeper libzookeeper-java): zabkit alone", file=sys.stderr)
    work = Path(tempfile.mkdtemp(prefix="zabkit-bench-"))
    try:
        measure(Bench(tools, commands, work, results, plan), rows)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if "ensemble" in rows:
        measure_ensemble(results, ensembles)


def ensemble_line(results: Results) -> str:
    times = sorted(results.of("ensemble", "zabkit", "ms"))
    if not times:
        return "`Ensemble(3)` in a Python process: not measured."
    whole = spread(times)
    p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
    return (
        f"`Ensemble(3)` in a Python process, from the call to the first acknowledged write, {len(times)} starts: "
        f"p50 {whole.median:.0f} ms, p99 {p99:.0f} ms, fastest {whole.low:.0f} ms."
    )


if __name__ == "__main__":
    main()
