"""An embedded ensemble while one C call after the other holds the GIL: nobody outside may notice.

`make gil-soak` holds it for 3 s at a time and judges latencies; the short form counts and judges what must not happen.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys

import pytest

from zabkit.blocking import Ensemble

# Sets one znode over and over, one at a time, for so many seconds; prints when it begins, and the latencies in ms.
PROBER = """
import asyncio, json, sys, time, zabkit

async def main():
    async with zabkit.Client(sys.argv[1]) as zk:
        await zk.create("/probe", b"")
        print("begun", flush=True)
        end, took = time.monotonic() + float(sys.argv[2]), []
        while (began := time.monotonic()) < end:
            await zk.set("/probe", b"x" * 100)
            took.append((time.monotonic() - began) * 1000)
        print(json.dumps(took))

asyncio.run(main())
"""


def hold_the_gil(ensemble: Ensemble, seconds: float, times: int) -> list[float]:
    """Latencies in ms, ascending, of a prober in another process while the GIL is held here."""
    child = subprocess.Popen(
        [sys.executable, "-c", PROBER, ensemble.hosts, str(seconds * times)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    before = ensemble.transitions
    # PyDLL, unlike CDLL, calls without letting go of the GIL.
    library = ctypes.PyDLL(None)
    for _ in range(times):
        library.usleep(int(seconds * 1_000_000))
    took = json.loads(child.stdout.readline())
    assert child.wait(timeout=30) == 0
    assert ensemble.transitions == before, "\n".join(map(str, ensemble.transitions))
    return sorted(took)


def test_no_election_and_no_pause_outside_while_the_gil_is_held(zk_ensemble: Ensemble) -> None:
    took = hold_the_gil(zk_ensemble, 1.0, 1)
    assert len(took) > 10
    assert took[-1] < 1000, "a write waited for the GIL"


@pytest.mark.soak
def test_latencies_outside_while_the_gil_is_held_for_long(zk_ensemble: Ensemble) -> None:
    took = hold_the_gil(zk_ensemble, 3.0, 10)
    p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
    print(f"{len(took)} sets from outside in 30 s: p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {took[-1]:.2f} ms")
    assert p99 < 50
