"""What the tests of the Python face look at and wait for."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import warnings
from collections.abc import Callable
from pathlib import Path


def threads() -> set[int]:
    """Ids of this process's threads, Rust's and Python's."""
    return {int(name) for name in os.listdir("/proc/self/task")}


def contents(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file below `directory`: size, time of last change in ns, bytes."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            stat = path.stat()
            found[str(path.relative_to(directory))] = (stat.st_size, stat.st_mtime_ns, path.read_bytes())
    return found


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Returns once `condition` holds; for what has no event to wait for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.001)


async def until_async(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """As `until`, while the loop goes on."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        await asyncio.sleep(0.001)


def forked(act: Callable[[], object]) -> str:
    """Runs `act` in a forked child; the name and message of the exception that it raised."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork with threads, which is the point.
        pid = os.fork()
    if pid == 0:
        try:
            act()
            os.write(writer, b"nothing raised")
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    assert os.waitpid(pid, 0)[1] == 0
    return said


def is_refused(address: str) -> bool:
    """Whether nobody listens at ``host:port``."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False
