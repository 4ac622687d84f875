"""ZooKeeper's coordination service without the JVM: embeddable, testable, compatible.

`Ensemble` and `Server` run real ZooKeeper servers inside this process; any ZooKeeper client connects to their
``hosts``. Both work as ``async with`` and as ``with`` (then with the blocking methods of `zabkit.blocking`).
"""

import atexit as _atexit

from zabkit import _zabkit, blocking
from zabkit._zabkit import __version__
from zabkit.ensemble import Ensemble, Member
from zabkit.errors import ClosedError, EnsembleError, ForkError, NoLeaderError, StartError, ZooKeeperError
from zabkit.server import Server
from zabkit.status import Role, Status

__all__ = [
    "ClosedError",
    "Ensemble",
    "EnsembleError",
    "ForkError",
    "Member",
    "NoLeaderError",
    "Role",
    "Server",
    "StartError",
    "Status",
    "ZooKeeperError",
    "__version__",
    "blocking",
    "log_to_stderr",
]

# What completes an awaitable may still hold Python's objects when the program that awaited it ends.
_atexit.register(_zabkit.end_awaitables)


def log_to_stderr() -> None:
    """Send the log lines of this process's servers to stderr, in Apache's layout; without it they are silent.

    The environment variable ``RUST_LOG`` filters, at the first call; its default is ``info``. Rust writes the lines, so
    they do not pass through `logging`: a server never waits for the interpreter.
    """
    _zabkit.log_to_stderr()
