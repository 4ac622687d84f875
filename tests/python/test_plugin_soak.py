"""Many tests in a row, each with three fresh servers: no port clash, no thread, descriptor or directory left behind."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

# The tests are blocking and asynchronous by turns, so that both forms begin and end in each other's wake.
PAIR = """
def test_blocking_{turn}(zk_ensemble):
    assert zk_ensemble.leader.status.serving
    assert len(zk_ensemble.followers) == 2

async def test_asyncio_{turn}(zk, zk_ensemble):
    assert (await zk_ensemble.wait_for_leader()).status.serving
    await zk.create("/a", b"1")
    assert (await zk.get("/a"))[0] == b"1"
"""

# Looks after each test, and writes down at the end what it saw.
CONFTEST = """
import json, os, pathlib, tempfile, time

looks = []

def look():
    looks.append({
        "time": time.monotonic(),
        "threads": sorted(path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm")),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "directories": os.listdir(tempfile.gettempdir()),
    })

def pytest_sessionstart():
    look()

def pytest_runtest_logfinish():
    look()

def pytest_sessionfinish():
    pathlib.Path("looks.json").write_text(json.dumps(looks))
"""

# The thread name of the awaitables' pool, and how many may be: a worker, and those that wait for servers.
AWAITABLES = "zabkit-await"
AWAITABLES_MAX = 4

INI = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"


@pytest.mark.parametrize("tests", [10, pytest.param(200, marks=pytest.mark.soak)])
@pytest.mark.timeout(600)
def test_fresh_ensembles_in_a_row_leave_nothing_behind(tmp_path: Path, tests: int) -> None:
    (tmp_path / "temporary").mkdir()
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_fresh.py").write_text("".join(PAIR.format(turn=turn) for turn in range(tests // 2)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path / "temporary"), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{tests} passed" in done.stdout

    start, *looks = json.loads((tmp_path / "looks.json").read_text())
    assert len(looks) == tests
    assert [look["directories"] for look in looks] == [[]] * tests
    # The awaitables have a small pool of their own, made by the first one; nothing else may be new.
    others = [[name for name in look["threads"] if name != AWAITABLES] for look in [start, *looks]]
    assert others == [others[0]] * (tests + 1)
    pool = max(look["threads"].count(AWAITABLES) for look in looks)
    assert pool <= AWAITABLES_MAX
    # From the second test on: the first asynchronous one opens the pool's descriptors.
    assert [look["descriptors"] for look in looks[1:]] == [looks[1]["descriptors"]] * (tests - 1)

    times = [1000 * (look["time"] - before["time"]) for before, look in zip([start, *looks], looks, strict=False)]
    print(
        f"\n{tests} tests, each with three fresh servers: {sum(times) / 1000:.1f} s; a test "
        f"{statistics.median(times):.0f} ms (median), {max(times):.0f} ms (longest); "
        f"after each: no server's thread, at most {pool} of the awaitables, "
        f"{looks[-1]['descriptors']} descriptors, no directory"
    )
