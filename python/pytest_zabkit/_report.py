"""How the servers of a failed test stood, for its report."""

from __future__ import annotations

from typing import Any

from zabkit import ClosedError
from zabkit._base import EnsembleBase, ServerBase

__all__ = ["describe"]


def describe(servers: EnsembleBase[Any] | ServerBase) -> str:
    """Roles as they are now."""
    try:
        if isinstance(servers, ServerBase):
            return f"{servers.hosts}: {servers.status}"
        return "\n".join(f"{member.id} at {member.hosts}: {member.status}" for member in servers)
    except ClosedError:
        return "stopped by the test"
