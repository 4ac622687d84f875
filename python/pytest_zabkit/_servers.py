"""Starts the servers that a test asks for, lends them in the form that fits it, and ends or mends them.

The fixtures are synchronous, so that they fit an event loop of any scope: servers are always started in the blocking
form, and an asynchronous test is lent the asyncio form of the same servers.
"""

from __future__ import annotations

import contextlib
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import pytest

import zabkit
from pytest_zabkit._report import describe
from pytest_zabkit._settings import Settings, is_asynchronous
from zabkit import Role, blocking

__all__ = ["ENSEMBLE", "SERVER", "Kind", "lend"]

_Blocking = TypeVar("_Blocking", blocking.Ensemble, blocking.Server)
_Asyncio = TypeVar("_Asyncio", zabkit.Ensemble, zabkit.Server)

# The servers of a scope wider than one test, by kind and settings.
_shared = pytest.StashKey[dict[tuple[str, Settings], Any]]()


class Kind(ABC, Generic[_Blocking, _Asyncio]):
    """A kind of servers that tests are lent."""

    name: str

    @abstractmethod
    def make(self, settings: Settings) -> _Blocking:
        """Some that are not started yet."""

    @abstractmethod
    def asyncio_form(self, servers: _Blocking) -> _Asyncio:
        """The asyncio form of servers that run."""

    @abstractmethod
    def take_back(self, servers: _Blocking, lent: _Asyncio) -> None:
        """Makes `servers` stand for what a test has made of their asyncio form: it may have stopped or started them."""

    @abstractmethod
    def mend(self, servers: _Blocking) -> None:
        """Brings all of them back to service, whatever a test has done to them."""


class _Ensembles(Kind[blocking.Ensemble, zabkit.Ensemble]):
    name = "ensemble"

    def make(self, settings: Settings) -> blocking.Ensemble:
        return blocking.Ensemble(settings.servers, tick_time_ms=settings.tick_time_ms, timeout=settings.timeout)

    def asyncio_form(self, servers: blocking.Ensemble) -> zabkit.Ensemble:
        form = zabkit.Ensemble(len(servers), tick_time_ms=servers._tick_time_ms, timeout=servers._timeout)
        form._started(servers._running())
        return form

    def take_back(self, servers: blocking.Ensemble, lent: zabkit.Ensemble) -> None:
        if lent._core is None:
            servers._closed()
        elif lent._core is not servers._core:
            servers._started(lent._core)
        else:
            servers._changed()

    def mend(self, servers: blocking.Ensemble) -> None:
        servers.start()  # Nothing if it runs.
        servers.heal()
        for member in servers:
            member.free_disk()
            member.slow_disk(0)
            member.resume()
            if member.status.role is Role.ENDED:
                member.restart()
        for member in servers:
            member.wait_until_serving()
        # As many as the next test asks for, all of them with a vote.
        for member in servers.observers:
            servers.remove(member)
        for member in servers.members[servers._servers :]:
            servers.remove(member)
        while len(servers) < servers._servers:
            servers.add()


class _Servers(Kind[blocking.Server, zabkit.Server]):
    name = "server"

    def make(self, settings: Settings) -> blocking.Server:
        return blocking.Server(tick_time_ms=settings.tick_time_ms, timeout=settings.timeout)

    def asyncio_form(self, servers: blocking.Server) -> zabkit.Server:
        form = zabkit.Server._with(servers._settings)
        form._started(servers._running())
        return form

    def take_back(self, servers: blocking.Server, lent: zabkit.Server) -> None:
        servers._started(lent._running())

    def mend(self, servers: blocking.Server) -> None:
        if servers.status.role is Role.ENDED:
            servers.start()


ENSEMBLE = _Ensembles()
SERVER = _Servers()


@contextlib.contextmanager
def lend(
    kind: Kind[_Blocking, _Asyncio], request: pytest.FixtureRequest, reports: dict[str, Callable[[], str]]
) -> Iterator[_Blocking | _Asyncio]:
    """What a fixture gives to a test. Adds to `reports` what tells how it stands, or after its end, how it stood."""
    asynchronous = is_asynchronous(request)
    with _running(kind, request.node, Settings.of(request.node)) as servers:
        form = kind.asyncio_form(servers) if asynchronous else None
        lent = servers if form is None else form
        reports[kind.name] = functools.partial(describe, lent)
        try:
            yield lent
        finally:
            # A fixture of the user's own may yet fail, when the servers are gone.
            reports[kind.name] = functools.partial(str, describe(lent))
            if form is not None:
                kind.take_back(servers, form)


@contextlib.contextmanager
def _running(kind: Kind[_Blocking, _Asyncio], item: pytest.Item, settings: Settings) -> Iterator[_Blocking]:
    """Servers that serve: fresh ones that end with the test, or those of its class, module or session."""
    if settings.scope == "function":
        with kind.make(settings) as servers:
            yield servers
        return
    holder = _holder(item, settings.scope)
    shared = holder.stash.setdefault(_shared, {})
    key = (kind.name, settings)
    if key in shared:
        kind.mend(shared[key])
    else:
        with contextlib.ExitStack() as stack:
            shared[key] = stack.enter_context(kind.make(settings))
            holder.addfinalizer(stack.pop_all().close)
            holder.addfinalizer(lambda: shared.pop(key))
    yield shared[key]


def _holder(item: pytest.Item, scope: str) -> pytest.Item | pytest.Collector:
    """The node with which shared servers end."""
    if scope == "session":
        return item.session
    if scope == "class":  # As in pytest, a function that is in no class is a class of its own.
        return item.getparent(pytest.Class) or item
    return item.getparent(pytest.Module) or item
