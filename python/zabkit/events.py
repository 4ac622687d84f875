"""What a client tells its callbacks: states of the connection and events of znodes, with kazoo's names."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["EventType", "State", "WatchedEvent"]


class State(str, Enum):
    """How a `Client` stands; equal to its name as a string, so that ``state == "CONNECTED"`` holds too."""

    CONNECTING = "CONNECTING"
    """Started, and not connected for the first time yet."""
    CONNECTED = "CONNECTED"
    """A session is open, and all credentials have been accepted: calls are answered."""
    CONNECTED_RO = "CONNECTED_RO"
    """As CONNECTED, to a server that can only read for now; only if ``read_only`` was asked for."""
    SUSPENDED = "SUSPENDED"
    """The link is lost. The session may be alive: be careful with what depends on it until CONNECTED or LOST."""
    LOST = "LOST"
    """The servers have ended the session: ephemeral znodes and watches are gone. A new session is being opened."""
    AUTH_FAILED = "AUTH_FAILED"
    """The servers refused the credentials. The client is done: it does not reconnect."""
    CLOSED = "CLOSED"
    """Not started yet, or stopped."""

    def __str__(self) -> str:
        return self.value


class EventType(str, Enum):
    """What happened to a znode; equal to its name as a string."""

    CREATED = "CREATED"
    """It was created."""
    DELETED = "DELETED"
    """It was deleted."""
    CHANGED = "CHANGED"
    """Its data was written."""
    CHILD = "CHILD"
    """A child was created or deleted below it."""
    RESYNC = "RESYNC"
    """Persistent watches only: there may have been events that nobody saw. Read what you watch anew."""
    NONE = "NONE"
    """Nothing happened to the znode: the watch has ended, and ``state`` says why."""

    def __str__(self) -> str:
        return self.value


class WatchedEvent(NamedTuple):
    """One event of a watch."""

    type: EventType
    state: State
    """CONNECTED for what happened to a znode; with `EventType.NONE` what ended the watch."""
    path: str
    """The znode, below the client's chroot."""
    zxid: int
    """The transaction that it was (epoch in the upper 32 bits, counter in the lower), or -1 if not known."""
