"""What can go wrong, as exceptions: one root, `ZooKeeperError`, and below it one class for each of ZooKeeper's codes.

The classes of codes have kazoo's names. Every one has ``code``, ``path`` and ``outcome_unknown``, and pickles.
"""

from __future__ import annotations

__all__ = [
    "APIError",
    "AuthFailedError",
    "BadArgumentsError",
    "BadVersionError",
    "ClosedError",
    "ConnectionClosedError",
    "ConnectionLossError",
    "DataInconsistencyError",
    "EnsembleError",
    "EphemeralOnLocalSessionError",
    "ForkError",
    "InvalidACLError",
    "InvalidCallbackError",
    "InvalidPathError",
    "MarshallingError",
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
    "QueueFullError",
    "QuotaExceededError",
    "ReconfigDisabledError",
    "ReconfigInProcessError",
    "RequestTimeoutError",
    "RequestTooLargeError",
    "RolledBackError",
    "RuntimeInconsistencyError",
    "SessionClosedRequireSaslError",
    "SessionExpiredError",
    "SessionMovedError",
    "StartError",
    "SystemZooKeeperError",
    "ThrottledOpError",
    "UnimplementedError",
    "UnknownCodeError",
    "UnknownSessionError",
    "ZooKeeperError",
]


class ZooKeeperError(Exception):
    """Anything that zabkit raises on behalf of ZooKeeper's service.

    Args:
        message: What happened, as `str` gives it.
        path: The znode it is about, as the caller named it (below the client's chroot).
        code: ZooKeeper's number, if it is not the one of the class.
        outcome_unknown: Whether a write may have happened all the same.
    """

    code: int | None = None
    """ZooKeeper's number for it, such as -101; None for what ZooKeeper has no number for."""
    path: str | None = None
    """The znode it is about, as the caller named it (below the client's chroot)."""
    outcome_unknown: bool = False
    """The request was sent and its answer did not come: the write may have happened. Read before writing again."""
    _says: str = ""
    _at: str = " at "

    def __init__(
        self,
        message: str | None = None,
        *,
        path: str | None = None,
        code: int | None = None,
        outcome_unknown: bool | None = None,
    ) -> None:
        super().__init__(*(() if message is None else (message,)))
        if path is not None:
            self.path = path
        if code is not None:
            self.code = code
        if outcome_unknown is not None:
            self.outcome_unknown = outcome_unknown


# --- ZooKeeper's answers ----------------------------------------------------------------------------------------------


class RolledBackError(ZooKeeperError):
    """This part of a transaction was fine, but another part failed, so nothing of it happened."""

    code = 0
    _says = "undone, since another part of the transaction failed"
    _at = ": "


class SystemZooKeeperError(ZooKeeperError):
    """The server failed in a way that has no code of its own."""

    code = -1
    _says = "the server failed"


class RuntimeInconsistencyError(ZooKeeperError):
    """In a transaction: not tried, because a part before it failed."""

    code = -2
    _says = "not tried, since a part before it failed"
    _at = ": "


class DataInconsistencyError(ZooKeeperError):
    """The server found its data inconsistent."""

    code = -3
    _says = "inconsistent data"


class ConnectionLossError(ZooKeeperError, ConnectionError):
    """The link to the server broke before the answer, or there was none for as long as the session timeout.

    ``outcome_unknown`` tells the two apart: True says that the request was sent, so that a write may have happened;
    False that it was never sent, so that nothing happened. The session may be alive; the client reconnects by itself.
    """

    code = -4
    _says = "no connection to a server"
    _at = ", asked for "


class MarshallingError(ZooKeeperError):
    """The server could not read the request."""

    code = -5
    _says = "the server could not read the request"


class UnimplementedError(ZooKeeperError):
    """This server does not know the operation."""

    code = -6
    _says = "this server does not know the operation"


class OperationTimeoutError(ZooKeeperError, TimeoutError):
    """No connection within the time limit that was given; also a builtin `TimeoutError`."""

    code = -7
    _says = "no answer in time"


class BadArgumentsError(ZooKeeperError):
    """The arguments make no valid request: a malformed path, a TTL out of range."""

    code = -8
    _says = "invalid arguments"


class UnknownSessionError(ZooKeeperError):
    """The server does not know the session (between servers only)."""

    code = -12
    _says = "unknown session"


class NewConfigNoQuorumError(ZooKeeperError):
    """No quorum of the new configuration is connected and up to date: try again when the new servers have synced."""

    code = -13
    _says = "no quorum of the new configuration is up to date"


class ReconfigInProcessError(ZooKeeperError):
    """Another reconfiguration is in progress."""

    code = -14
    _says = "another reconfiguration is in progress"


class APIError(ZooKeeperError):
    """The client's use of the interface was wrong, in a way that has no code of its own."""

    code = -100
    _says = "wrong use of the interface"


class NoNodeError(ZooKeeperError):
    """There is no such znode; for `create`, no parent."""

    code = -101
    _says = "no znode"


class NoAuthError(ZooKeeperError):
    """The znode's ACL does not let this session do it."""

    code = -102
    _says = "not allowed by the ACL"


class BadVersionError(ZooKeeperError):
    """The znode has another version than the one asked for: somebody changed it meanwhile."""

    code = -103
    _says = "another version than expected"


class NoChildrenForEphemeralsError(ZooKeeperError):
    """An ephemeral znode cannot have children."""

    code = -108
    _says = "an ephemeral znode cannot have children"


class NodeExistsError(ZooKeeperError):
    """The znode to be created is there already."""

    code = -110
    _says = "there is a znode already"


class NotEmptyError(ZooKeeperError):
    """The znode to be deleted has children."""

    code = -111
    _says = "the znode has children"


class SessionExpiredError(ZooKeeperError):
    """The servers have ended this session: its ephemeral znodes are gone, and its watches will never fire."""

    code = -112
    _says = "the session has expired"
    _at = ", asked for "


class InvalidCallbackError(ZooKeeperError):
    """ZooKeeper's code for an invalid callback; no server sends it."""

    code = -113
    _says = "invalid callback"


class InvalidACLError(ZooKeeperError):
    """The ACL is empty or malformed, or ``auth`` was used without `add_auth`."""

    code = -114
    _says = "invalid ACL"


class AuthFailedError(ZooKeeperError):
    """The servers refused the client's credentials; the client is done and does not reconnect."""

    code = -115
    _says = "the servers refused the credentials"
    _at = ", asked for "


class SessionMovedError(ZooKeeperError):
    """The session has moved to another server."""

    code = -118
    _says = "the session has moved to another server"
    _at = ", asked for "


class NotReadOnlyCallError(ZooKeeperError):
    """A write was asked of a server that is read-only for now."""

    code = -119
    _says = "the server is read-only"
    _at = ", asked for "


class EphemeralOnLocalSessionError(ZooKeeperError):
    """A local session cannot own an ephemeral znode."""

    code = -120
    _says = "a local session cannot own an ephemeral znode"


class NoWatcherError(ZooKeeperError):
    """There is no such watch to remove."""

    code = -121
    _says = "no such watch"


class RequestTimeoutError(ZooKeeperError):
    """The servers did not complete the request in their own time limit."""

    code = -122
    _says = "the servers took too long"


class ReconfigDisabledError(ZooKeeperError):
    """Reconfiguration is switched off in this ensemble."""

    code = -123
    _says = "reconfiguration is switched off"


class SessionClosedRequireSaslError(ZooKeeperError):
    """The server closed the session because it requires an authentication that this client did not do."""

    code = -124
    _says = "the server requires another authentication"


class QuotaExceededError(ZooKeeperError):
    """The write would exceed the quota of its path."""

    code = -125
    _says = "over the quota"


class ThrottledOpError(ZooKeeperError):
    """The server is overloaded and did not do it: try again later."""

    code = -127
    _says = "the server is overloaded and did not do it"
    _at = ", asked for "


class UnknownCodeError(ZooKeeperError):
    """The server answered with a code that this version does not know; it is in ``code``."""

    _says = "the server answered with a code that this version does not know"
    _at = ", asked for "


# --- the client's own -------------------------------------------------------------------------------------------------


class ConnectionClosedError(ZooKeeperError):
    """The `Client` was closed, or never started. With ``outcome_unknown`` a write was sent before it closed."""

    _says = "the client is closed"
    _at = ", asked for "


class InvalidPathError(BadArgumentsError, ValueError):
    """The path is not absolute, or has an empty, ``.`` or ``..`` part, or a character that ZooKeeper refuses."""

    _says = "invalid path"


class RequestTooLargeError(BadArgumentsError, ValueError):
    """The request is larger than the servers accept (``jute.maxbuffer``, 1_048_575 bytes); nothing was sent."""

    _says = "the request is too large"


class QueueFullError(ZooKeeperError):
    """More calls or bytes wait for their answers than a client holds; nothing was sent."""

    _says = "too many calls wait for their answers"
    _at = ", asked for "


# --- servers in this process ------------------------------------------------------------------------------------------


class EnsembleError(ZooKeeperError):
    """A `Server` or an `Ensemble` cannot do what was asked; the message says why."""


class StartError(EnsembleError):
    """It could not start: configuration, data directory, port, or no leader in time."""


class NoLeaderError(EnsembleError):
    """No member serves as leader, now (`leader`) or within the timeout (`wait_for_leader`)."""


class ClosedError(EnsembleError):
    """It was not started, or has been stopped."""


class ForkError(EnsembleError):
    """A forked child touched a server or a client of its parent.

    The child has a copy of the memory but none of the threads, and shares the sockets. Make a client of the child's
    own to `hosts`, which the child may read, or start a server of the child's own with the blocking form.
    """


# --- built by Rust ----------------------------------------------------------------------------------------------------

_KINDS: dict[int | str, type[ZooKeeperError]] = {
    "closed": ConnectionClosedError,
    "too_large": RequestTooLargeError,
    "queue_full": QueueFullError,
    "bad_path": InvalidPathError,
    **{error.code: error for error in ZooKeeperError.__subclasses__() if error.code is not None},
}


def _error(kind: int | str, path: str | None, outcome_unknown: bool, message: str) -> ZooKeeperError:
    """The exception for a code of ZooKeeper's or for a failure of the client's own; Rust calls this, lazily.

    ``message`` is "" when the class knows what to say. The result reads like ``no znode at '/app/x' (NoNode, -101)``.
    """
    error = _KINDS.get(kind, UnknownCodeError)
    name = error.__name__.removesuffix("Error")
    code = kind if isinstance(kind, int) else None
    says = message or error._says
    at = "" if path is None else f"{error._at}{path!r}"
    fate = "; it was sent, and whether it took effect is unknown" if outcome_unknown else ""
    number = f" ({name})" if code is None else f" ({name}, {code})"
    return error(f"{says}{at}{fate}{number}", path=path, code=code, outcome_unknown=outcome_unknown)
