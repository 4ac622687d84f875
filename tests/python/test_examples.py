"""The programs in `examples/` run as they stand, and do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
SAYS = {
    "first": r"\(b'v2', Stat\(czxid=\d+, .*version=1, .*\)\)",
    "lock": "".join(rf"\w+ counts {count}\n" for count in range(1, 10)),
    "election": r"(?=.*Ada leads)(?=.*Grace leads)(?=.*Barbara leads)(\w+ leads\n){3}",
    "configuration_watch": r"(?=.*server \d is killed\n)service: version 0 .*connected again\n.*'stop': True\}\n",
    "demo": r".*server \d leads epoch 2 after \d+ ms.*trees equal.*acknowledged writes +1[89]\d\d\n +lost +0\n",
    "shared_ensemble": r"second program: connected to 127\.0\.0\.1:\d+\nfirst program: /jobs/2\+3 is 5\n",
}


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs_as_it_stands(name: str) -> None:
    command = [sys.executable, "-W", "default", EXAMPLES / f"{name}.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(SAYS[name], done.stdout, re.DOTALL), done.stdout


def test_the_example_for_pytest_passes() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLES / "test_partition.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 passed" in done.stdout


def test_every_example_is_run_and_short() -> None:
    shown = {path.stem: path.read_text().count("\n") for path in EXAMPLES.glob("*.py")}
    assert set(shown) == {*SAYS, "test_partition"}
    assert all(lines < 60 for name, lines in shown.items() if name != "demo"), shown


def test_the_readme_shows_the_first_example() -> None:
    assert (EXAMPLES / "first.py").read_text() in (ROOT / "README.md").read_text()
