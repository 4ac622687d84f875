"""Two builds of zabkit under the same load, in turns: has a change made anything slower? `make bench-before REV=...`.

Three servers of each build run all the time; each round loads first one, then the other, and the next round the other
way round. Needs ../shared/tools (the load generator). Printed are medians, and what `after` is of `before`.

    before_and_after.py --before REV            that commit, built in build/before, and the build in .venv
    before_and_after.py --before PATH [--after PATH]    two binaries
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from figures.measure import Bench, Plan, measure
from figures.results import Results, spread
from figures.rows import ROWS
from figures.tools import ROOT, WORK, build, zabkit_command

LOADS = {row.key: row for row in ROWS if row.load}


def binary_of(before: str) -> Path:
    """The binary that `before` names, or the release build of the commit that it names."""
    if Path(before).is_file():
        return Path(before).resolve()
    tree = ROOT / "build" / "before"
    if not tree.exists():
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--detach", tree, before], check=True)
    subprocess.run(["git", "-C", tree, "checkout", "--quiet", "--detach", before], check=True)
    # The tree is a clone of the same repository, so its dependencies are those that cargo has fetched.
    environment = {**os.environ, "CARGO_TARGET_DIR": str(ROOT / "build" / "before-target")}
    command = ["cargo", "build", "--release", "--locked", "--bin", "zabkit"]
    subprocess.run(command, cwd=tree, env=environment, check=True)
    return ROOT / "build" / "before-target" / "release" / "zabkit"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="a commit, or a binary")
    parser.add_argument("--after", type=Path, help="a binary; else the one in .venv")
    parser.add_argument("--rows", default=",".join(LOADS), help=f"of {', '.join(LOADS)}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of load in each round")
    options = parser.parse_args()
    rows = options.rows.split(",")
    if unknown := set(rows) - set(LOADS):
        parser.error(f"no such rows: {', '.join(sorted(unknown))}")

    before = f"{binary_of(options.before)} server {{cfg}}"
    after = f"{options.after.resolve()} server {{cfg}}" if options.after else zabkit_command()
    results = Results(WORK / "before_and_after.jsonl")
    work = Path(tempfile.mkdtemp(prefix="zabkit-bench-"))
    try:
        plan = Plan(options.rounds, options.seconds, 0, 0, 0)
        measure(Bench(build(), {"before": before, "after": after}, work, results, plan), rows)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"\n{'row':14} {'figure':12} {'before':>10} {'after':>10}  after/before")
    for row in rows:
        for metric in LOADS[row].metrics:
            was, now = (spread(results.of(row, peer, metric.name)).median for peer in ("before", "after"))
            print(f"{row:14} {metric.title:12} {was:10.3f} {now:10.3f}  {now / was:.3f}")


if __name__ == "__main__":
    main()
