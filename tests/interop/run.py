"""`make interop`: unmodified clients and Apache's own servers beside zabkit, part by part.

A part is a directory here with a `run.py` or an executable `run`. It starts its own servers, says what failed while it
runs, and ends with the line ``name: N passed, N failed, N skipped`` and exit code 0, 1 (something failed) or 2 (it
could not run). What it can rely on, and what it must do, is in README.md. This driver calls one part after the other,
believes none of them blindly (see `judge`), and prints the table and the total.

    run.py [--quick] [--only PART]... [--list]

Exit code: 0, 1 when a part failed, 2 when one could not run.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

#: In this order, the quick ones first. A part that is named here and is not there has failed.
PARTS = ("zkcli", "c", "curator", "aiozk", "migration", "growth", "security", "java", "zab", "disk", "kazoo")
#: Not in the quick form, and why.
NOT_QUICK = {}
#: Seconds that a part may take; a part that hangs must not hang the others.
LIMIT_S = 1200

COUNTS = re.compile(r"(?P<name>[\w-]+): (?P<passed>\d+) passed, (?P<failed>\d+) failed, (?P<skipped>\d+) skipped")


@dataclass
class Result:
    """How one part went; `problem` says what is wrong beside the counts."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    problem: str = ""
    could_not_run: bool = False

    @property
    def well(self):
        return not self.failed and not self.problem


def judge(name, last_line, code):
    """The result of a part, from its last line and its exit code; what does not agree is a problem."""
    if code == 2:
        return Result(name, problem="could not run", could_not_run=True)
    match = COUNTS.fullmatch(last_line.strip())
    if not match or match["name"] != name:
        return Result(name, problem=f"ended with code {code} and without its counts")
    result = Result(name, *(int(match[count]) for count in ("passed", "failed", "skipped")))
    if code not in (0, 1):
        result.problem = f"ended with code {code}"
    elif (code == 1) != (result.failed > 0):
        result.problem = f"{result.failed} failed, but it ended with code {code}"
    elif result.passed == 0:
        result.problem = "not one test passed"
    return result


def command_of(name, python):
    """How a part is started, or None when it is not there."""
    if (HERE / name / "run.py").is_file():
        return [python, str(HERE / name / "run.py")]
    if os.access(HERE / name / "run", os.X_OK):
        return [str(HERE / name / "run")]
    return None


def end(process):
    """SIGTERM, so that a part can end its servers, then SIGKILL to whatever is left of its group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(30)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def run(name, options, environment):
    """Run one part, showing and keeping its output."""
    command = command_of(name, environment["PYTHON"])
    if command is None:
        return Result(name, problem=f"tests/interop/{name} has no run", could_not_run=True)
    folder = ROOT / "build" / "interop" / name
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    last_line, late = "", threading.Event()
    with open(folder / "output.txt", "w", encoding="utf-8") as kept:
        process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env={**environment, "INTEROP_DIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )

        def too_late():
            late.set()
            end(process)

        clock = threading.Timer(LIMIT_S, too_late)
        clock.start()
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                kept.write(line)
                last_line = line if line.strip() else last_line
            process.wait()
        except BaseException:
            end(process)
            raise
        finally:
            clock.cancel()
    result = judge(name, last_line, process.returncode)
    result.seconds = time.monotonic() - begun
    if late.is_set():
        result.problem = f"not done within {LIMIT_S} s"
    return result


def report(results, left_out):
    """The table, the problems, and the line that counts."""
    print("\n=== interop")
    print(f"{'part':10} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8}")
    for result in results:
        numbers = f"{result.passed:7} {result.failed:7} {result.skipped:8} {result.seconds:8.0f}"
        print(f"{result.name:10} {numbers}" + (f"  {result.problem}" if result.problem else ""))
    for name, reason in left_out.items():
        print(f"{name:10} left out: {reason}")
    for result in results:
        if not result.well:
            print(f"FAILED: {result.name} (build/interop/{result.name}/output.txt)")
    # A part with a problem of its own counts as one failure more: the total may not look well when it is not.
    failed = sum(result.failed + bool(result.problem) for result in results)
    passed, skipped = sum(result.passed for result in results), sum(result.skipped for result in results)
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the form for CI: shorter where a part can be shorter")
    parser.add_argument("--only", action="append", choices=PARTS, help="only this part; may be repeated")
    parser.add_argument("--list", action="store_true", help="the parts")
    args = parser.parse_args()
    if args.list:
        print("\n".join(PARTS))
        return 0

    environment = dict(os.environ)
    environment.setdefault("PYTHON", sys.executable)
    if "ZABKIT_BIN" not in environment:
        environment["ZABKIT_BIN"] = str(ROOT / ".venv" / "bin" / "zabkit")
    if not os.access(environment["ZABKIT_BIN"], os.X_OK):
        print(f"interop: no zabkit at {environment['ZABKIT_BIN']}: run `make build` or set ZABKIT_BIN", file=sys.stderr)
        return 2

    left_out = {name: why for name, why in NOT_QUICK.items() if args.quick and not args.only}
    results = []
    for name in args.only or PARTS:
        if name not in left_out:
            print(f"\n=== interop: {name}", flush=True)
            results.append(run(name, ["--quick"] if args.quick else [], environment))
    report(results, left_out)
    if all(result.well for result in results):
        return 0
    return 2 if any(result.could_not_run for result in results) else 1


if __name__ == "__main__":
    # SIGTERM ends the part that runs, and its servers, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
