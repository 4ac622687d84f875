"""Ports that nobody else takes while a test uses them.

They lie below the range from which the kernel picks ports for outgoing connections, in blocks of 32, and a block
belongs to whoever holds the lock on its file in the temp directory: two test runs on one machine never get the same
block, and a dead server's port stays ours until it comes back.
"""

import fcntl
import os
import random
import socket
import tempfile

BLOCK = 32
FIRST = 10240


def _last():
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
            lowest = int(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        lowest = 32768
    return lowest if lowest > FIRST + 64 * BLOCK else 32768


def can_bind(port):
    """Whether a server could listen on 127.0.0.1:port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _locks(file):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class PortBlock:
    """32 ports of loopback, ours until `close`."""

    def __init__(self):
        folder = os.path.join(tempfile.gettempdir(), f"zabkit-test-ports-{os.getuid()}")
        os.makedirs(folder, exist_ok=True)
        blocks = list(range(FIRST, _last() - BLOCK, BLOCK))
        random.shuffle(blocks)
        for base in blocks:
            lock = os.open(os.path.join(folder, str(base)), os.O_CREAT | os.O_WRONLY)
            if _locks(lock) and all(can_bind(port) for port in range(base, base + BLOCK)):
                self._lock, self._next, self._end = lock, base, base + BLOCK
                return
            os.close(lock)
        raise RuntimeError("no free block of ports")

    @property
    def left(self):
        """How many it can still give."""
        return self._end - self._next

    def take(self):
        """The next unused port of the block."""
        assert self._next < self._end, "a test needs more than 32 ports"
        self._next += 1
        return self._next - 1

    def close(self):
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
