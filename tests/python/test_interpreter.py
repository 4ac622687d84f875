"""The servers and the interpreter leave each other alone: GIL, fork, exit."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap

import pytest
from aids import forked

import zabkit
from zabkit.blocking import Ensemble

# Connects with kazoo, kills nothing, writes once; then says so on the descriptor it was given.
WRITER = """
import os, sys
from kazoo.client import KazooClient
answer = b"0"
try:
    client = KazooClient(sys.argv[1], timeout=10.0)
    client.start(timeout=20)
    client.create("/written", b"while the GIL was held")
    client.stop()
    answer = b"1"
finally:
    os.write(int(sys.argv[2]), answer)
"""


def test_an_ensemble_serves_while_python_holds_the_gil(zk_ensemble: Ensemble) -> None:
    """One C call keeps the GIL until another process has connected, written and been answered."""
    reader, writer = os.pipe()
    child = subprocess.Popen([sys.executable, "-c", WRITER, zk_ensemble.hosts, str(writer)], pass_fds=[writer])
    os.close(writer)
    # PyDLL, unlike CDLL, calls without letting go of the GIL.
    answer = ctypes.create_string_buffer(1)
    ctypes.PyDLL(None).read(reader, answer, 1)
    child.wait(timeout=30)
    os.close(reader)
    assert answer.raw == b"1"


def test_a_forked_child_that_touches_the_ensemble_gets_a_clear_error(zk_ensemble: Ensemble) -> None:
    leader = zk_ensemble.leader
    for act in (
        lambda: zk_ensemble.leader,
        lambda: leader.status,
        lambda: leader.kill(),
        lambda: zk_ensemble.wait_for_leader(),
        lambda: zk_ensemble.partition({1}, {2, 3}),
        lambda: zk_ensemble.slow_link(1, 2, 0.1),
        lambda: zk_ensemble.heal(),
        lambda: leader.pause(),
        lambda: leader.fill_disk(),
        lambda: leader.slow_disk(60),
        lambda: leader.log,
        lambda: zk_ensemble.logs,
        lambda: zk_ensemble.transitions,
        lambda: zk_ensemble.stop(),
    ):
        said = forked(act)
        assert said.startswith("ForkError: "), said
        assert f"process {os.getpid()}" in said
    assert leader.status.serving


def equal(one: object, other: object) -> None:
    assert one == other


def test_a_forked_child_may_read_where_the_servers_are(zk_ensemble: Ensemble) -> None:
    hosts = zk_ensemble.hosts
    assert forked(lambda: equal(zk_ensemble.hosts, hosts)) == "nothing raised"


def test_a_forked_child_that_drops_the_ensemble_harms_nothing() -> None:
    holder = [Ensemble(3)]
    holder[0].start()
    try:
        assert forked(holder.clear) == "nothing raised"
        assert all(member.status.serving for member in holder[0])
    finally:
        holder[0].stop()


def test_a_forked_child_that_ends_as_programs_do_leaves_its_parents_ensemble_alone() -> None:
    """Its `atexit` and its garbage collection run; the parent's servers, folders and clients go on."""
    program = """
import os, sys, zabkit

with zabkit.Ensemble(3) as ensemble:
    pid = os.fork()
    if pid == 0:
        with zabkit.Ensemble(1):  # It sweeps the folders of the dead, and its parent is not dead.
            pass
        raise SystemExit("no bed of roses")
    os.waitpid(pid, 0)
    for member in ensemble:
        assert member.status.serving
        member.restart()
        member.wait_until_serving()
print("unharmed")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout) == (0, "unharmed\n"), done.stderr
    assert "ForkError" in done.stderr, "the child stopped what is its parent's without a word"


def test_a_forked_child_may_have_an_ensemble_of_its_own(zk_ensemble: Ensemble) -> None:
    def own() -> None:
        with zabkit.Ensemble(1) as mine:
            assert mine.leader.status.serving

    assert forked(own) == "nothing raised"
    assert zk_ensemble.leader.status.serving


@pytest.mark.parametrize(
    "body",
    [
        "ensemble = zabkit.blocking.Ensemble(3); ensemble.start()",
        "ensemble = zabkit.blocking.Ensemble(3); ensemble.start(); ensemble.leader.kill()",
        "ensemble = zabkit.Ensemble(3); asyncio.run(ensemble.start())",
        "server = zabkit.Server(); server.__enter__()",
    ],
)
def test_an_interpreter_that_ends_with_servers_running_ends_cleanly(body: str) -> None:
    code = textwrap.dedent(f"import asyncio, zabkit\n{body}\nprint('up', flush=True)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "up\n", "")


@pytest.mark.parametrize("asked", [True, False])
def test_the_servers_log_to_stderr_only_when_asked(asked: bool) -> None:
    code = f"import zabkit\nif {asked}: zabkit.log_to_stderr()\nwith zabkit.Ensemble(3): pass"
    environment = {name: value for name, value in os.environ.items() if name != "RUST_LOG"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert ("[myid:2] - INFO" in done.stderr) == asked
    assert (done.stderr != "") == asked


def test_a_closed_stderr_ends_no_server() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = "import zabkit\nzabkit.log_to_stderr()\nwith zabkit.Ensemble(3) as e: e.leader.kill(); e.wait_for_leader()"
    done = subprocess.run(
        [sys.executable, "-c", code + "\nprint('ended')"],
        stdout=subprocess.PIPE,
        stderr=writer,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert done.stdout == b"ended\n"


def test_a_program_may_end_with_an_awaited_stop() -> None:
    """What completes the last awaitable must let go of Python before the interpreter is gone."""
    program = """
import asyncio, zabkit

async def main():
    async with zabkit.Ensemble(3) as ensemble:
        await ensemble.leader.kill()
        await ensemble.wait_for_leader()

asyncio.run(main())
"""
    for _ in range(12):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
