"""Apache's servers and tools on zabkit's files, and the other way round.

run.py            `tests/process/test_disk_interop.py`, then 50 hand-overs of a directory (`hand_over.py`)
run.py --quick    6 hand-overs; `make test` runs the same tests
run.py --rounds N --seed N
"""

import argparse
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "tests" / "interop"), str(ROOT / "tests" / "process")]

from harness.command import ApacheMissing, apache_command  # noqa: E402
from harness.ensemble import LIVE  # noqa: E402
from pytest_part import finish, run_pytest  # noqa: E402


def end(*_):
    """SIGTERM: the servers and their directories go."""
    for ensemble in list(LIVE):
        ensemble.close()
    os._exit(143)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the form for CI")
    parser.add_argument("--rounds", type=int, help="hand-overs, and nothing else")
    parser.add_argument("--seed", type=int, help="of a run that is to be repeated")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, end)
    try:
        apache_command()
    except ApacheMissing as error:
        print(f"disk: {error}")
        print("disk: 0 passed, 0 failed, 1 skipped")
        sys.exit(2)
    import hand_over  # Needs kazoo.

    passed = failed = skipped = 0
    if not options.quick and options.rounds is None:
        report = Path(os.environ["INTEROP_DIR"]) / "report.xml"
        arguments = ["tests/process", "-k", "interop"]
        passed, failed, skipped = run_pytest(sys.executable, arguments, report, cwd=ROOT)
    more, fewer = hand_over.run(options.rounds or (6 if options.quick else 50), options.seed)
    finish("disk", passed + more, failed + fewer, skipped)


if __name__ == "__main__":
    main()
