"""What a server says of itself."""

from __future__ import annotations

import time as _time
from enum import Enum
from typing import NamedTuple

__all__ = ["LogLine", "Role", "Status", "Transition"]


class Role(str, Enum):
    """What a server is at the moment, in ZooKeeper's words."""

    LOOKING = "looking"
    """It takes part in an election, or waits for a quorum."""
    LEADING = "leading"
    FOLLOWING = "following"
    OBSERVING = "observing"
    """It follows without a vote."""
    STANDALONE = "standalone"
    ENDED = "ended"
    """It was stopped or killed, or ended by itself; then `Status.failure` says why."""

    def __str__(self) -> str:
        return self.value


class Status(NamedTuple):
    """One server at one moment. It may have changed by the time you read it."""

    role: Role
    serving: bool
    """Whether it answers clients: its history is that of a quorum."""
    epoch: int
    """The leadership it takes part in; one more with each new leader."""
    leader: int | None
    """Id of the leader it leads with or follows."""
    last_processed: int
    """Zxid of the last transaction applied: epoch in the upper 32 bits, counter in the lower."""
    tree_digest: int
    """Digest of all znodes; equal on two servers with equal `last_processed` exactly if their trees are equal."""
    failure: str | None
    """Why it ended by itself."""

    def __str__(self) -> str:
        state = "" if self.serving or self.role is Role.ENDED else ", not serving"
        reason = f", {self.failure}" if self.failure else ""
        return f"{self.role}{state}, zxid {self.last_processed:#x}, digest {self.tree_digest:#018x}{reason}"


class LogLine(NamedTuple):
    """One line of a server's log."""

    time: float
    """Seconds since 1970 UTC."""
    server: int
    """Id of the member that said it."""
    level: str
    """``"INFO"``, ``"WARN"`` or ``"ERROR"``."""
    text: str

    def __str__(self) -> str:
        return f"{_clock(self.time)} [{self.server}] {self.level} {self.text}"


class Transition(NamedTuple):
    """A member became something else: its role, leader or epoch changed, or whether it serves."""

    time: float
    """Seconds since 1970 UTC."""
    server: int
    before: Role
    after: Role
    serving: bool
    """Whether it serves clients from then on."""
    epoch: int
    leader: int | None
    reason: str
    """Why the former role ended, or what was done to it; empty where the new role says it all."""

    def __str__(self) -> str:
        serving = ", serving" if self.serving else ""
        leader = "" if self.leader is None else f" leader {self.leader}"
        reason = f": {self.reason}" if self.reason else ""
        change = f"{self.before} -> {self.after}" if self.before != self.after else f"{self.after}"
        return f"{_clock(self.time)} [{self.server}] {change}{serving}, epoch {self.epoch}{leader}{reason}"


def _clock(time: float) -> str:
    """Time of day, UTC, with milliseconds."""
    return f"{_time.strftime('%H:%M:%S', _time.gmtime(time))}.{int(time % 1 * 1000):03}"
