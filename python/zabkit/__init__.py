"""ZooKeeper's coordination service without the JVM: embeddable, testable, compatible.

`Client` is a session with any ZooKeeper service, for asyncio. `Ensemble` and `Server` run real ZooKeeper servers inside
this process; any ZooKeeper client connects to their ``hosts``. Both work as ``async with`` and as ``with`` (then with
the blocking methods of `zabkit.blocking`).
"""

import atexit as _atexit

from zabkit import _zabkit, blocking
from zabkit._logging import log_to_logging
from zabkit._zabkit import Stat, __version__
from zabkit.client import Client
from zabkit.ensemble import Ensemble, Member
from zabkit.errors import (
    APIError,
    AuthFailedError,
    BadArgumentsError,
    BadVersionError,
    ClosedError,
    ConnectionClosedError,
    ConnectionLossError,
    DataInconsistencyError,
    EnsembleError,
    EphemeralOnLocalSessionError,
    ForkError,
    InvalidACLError,
    InvalidCallbackError,
    InvalidPathError,
    MarshallingError,
    NewConfigNoQuorumError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoLeaderError,
    NoNodeError,
    NotEmptyError,
    NotReadOnlyCallError,
    NoWatcherError,
    OperationTimeoutError,
    QueueFullError,
    QuotaExceededError,
    ReconfigDisabledError,
    ReconfigInProcessError,
    RequestTimeoutError,
    RequestTooLargeError,
    RolledBackError,
    RuntimeInconsistencyError,
    SessionClosedRequireSaslError,
    SessionExpiredError,
    SessionMovedError,
    StartError,
    SystemZooKeeperError,
    ThrottledOpError,
    UnimplementedError,
    UnknownCodeError,
    UnknownSessionError,
    ZooKeeperError,
)
from zabkit.events import EventType, State, WatchedEvent
from zabkit.security import (
    ACL,
    ANYONE_ID_UNSAFE,
    AUTH_IDS,
    CREATOR_ALL_ACL,
    OPEN_ACL_UNSAFE,
    READ_ACL_UNSAFE,
    Id,
    Permissions,
    make_acl,
    make_digest_acl,
    make_digest_acl_credential,
)
from zabkit.server import Server
from zabkit.status import LogLine, Role, Status, Transition
from zabkit.transaction import Transaction
from zabkit.watching import Watch

__all__ = [
    "ACL",
    "ANYONE_ID_UNSAFE",
    "AUTH_IDS",
    "CREATOR_ALL_ACL",
    "OPEN_ACL_UNSAFE",
    "READ_ACL_UNSAFE",
    "APIError",
    "AuthFailedError",
    "BadArgumentsError",
    "BadVersionError",
    "Client",
    "ClosedError",
    "ConnectionClosedError",
    "ConnectionLossError",
    "DataInconsistencyError",
    "Ensemble",
    "EnsembleError",
    "EphemeralOnLocalSessionError",
    "EventType",
    "ForkError",
    "Id",
    "InvalidACLError",
    "InvalidCallbackError",
    "InvalidPathError",
    "LogLine",
    "MarshallingError",
    "Member",
    "NewConfigNoQuorumError",
    "NoAuthError",
    "NoChildrenForEphemeralsError",
    "NoLeaderError",
    "NoNodeError",
    "NoWatcherError",
    "NodeExistsError",
    "NotEmptyError",
    "NotReadOnlyCallError",
    "OperationTimeoutError",
    "Permissions",
    "QueueFullError",
    "QuotaExceededError",
    "ReconfigDisabledError",
    "ReconfigInProcessError",
    "RequestTimeoutError",
    "RequestTooLargeError",
    "Role",
    "RolledBackError",
    "RuntimeInconsistencyError",
    "Server",
    "SessionClosedRequireSaslError",
    "SessionExpiredError",
    "SessionMovedError",
    "StartError",
    "Stat",
    "State",
    "Status",
    "SystemZooKeeperError",
    "ThrottledOpError",
    "Transaction",
    "Transition",
    "UnimplementedError",
    "UnknownCodeError",
    "UnknownSessionError",
    "Watch",
    "WatchedEvent",
    "ZooKeeperError",
    "__version__",
    "blocking",
    "log_to_logging",
    "log_to_stderr",
    "make_acl",
    "make_digest_acl",
    "make_digest_acl_credential",
]

# What completes an awaitable may still hold Python's objects when the program that awaited it ends.
_atexit.register(_zabkit.end_awaitables)


def log_to_stderr() -> None:
    """Send the log lines of this process's servers to stderr, in Apache's layout; without it they are silent.

    The environment variable ``RUST_LOG`` filters, at the first call; its default is ``info``. Rust writes the lines, so
    they do not pass through `logging`: a server never waits for the interpreter.
    """
    _zabkit.log_to_stderr()
