"""How the servers of a failed test stand and how it came to that, for its report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zabkit import ClosedError, LogLine, Transition
from zabkit._base import EnsembleBase, ServerBase

__all__ = ["describe"]

TRANSITIONS_MAX = 100
LOG_LINES_MAX = 200


def describe(servers: EnsembleBase[Any] | ServerBase) -> str:
    """Roles as they are now, of an ensemble also its newest transitions and log lines. Never raises."""
    try:
        return _describe(servers)
    except ClosedError:
        return "stopped by the test"
    except Exception as error:  # A report that fails would end the whole run.
        return f"they cannot be described: {error!r}"


def _describe(servers: EnsembleBase[Any] | ServerBase) -> str:
    if isinstance(servers, ServerBase):
        return f"{servers.hosts}: {servers.status}"
    members = (f"{m.id} at {m.hosts}: {m.status}{', paused' if m.is_paused else ''}\n" for m in servers)
    transitions = _newest("transitions", servers.transitions, TRANSITIONS_MAX)
    log = _newest("log", servers.logs, LOG_LINES_MAX)
    return "".join(members) + transitions + log.rstrip()


def _newest(title: str, lines: Sequence[Transition | LogLine], most: int) -> str:
    left_out = f", the newest {most} of {len(lines)}" if len(lines) > most else ""
    return f"{title}{left_out}:\n" + "".join(f"  {line}\n" for line in lines[-most:])
