"""What a server says of itself."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["Role", "Status"]


class Role(str, Enum):
    """What a server is at the moment, in ZooKeeper's words."""

    LOOKING = "looking"
    """It takes part in an election, or waits for a quorum."""
    LEADING = "leading"
    FOLLOWING = "following"
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
