"""Watches on the Python side: which callback an event of the compiled half belongs to, and streams of events.

The compiled half knows watches by numbers given here, sets them again after a reconnect, and says when they end. What
is easy to get wrong: a one-shot watch is used up by its event, but the same callback may have been asked for again by
a call whose reply is still to come. A reply that came before the event has its future done when the event is told, so
the futures of the calls say which of the two it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from zabkit.errors import (
    AuthFailedError,
    ConnectionClosedError,
    NoWatcherError,
    SessionExpiredError,
    ZooKeeperError,
)
from zabkit.events import EventType, State, WatchedEvent

if TYPE_CHECKING:
    from typing_extensions import Self

    from zabkit._zabkit import ClientCore

__all__ = ["Watch", "WatchCallback"]

WatchCallback: TypeAlias = "Callable[[WatchedEvent], object]"

_TYPES = {1: EventType.CREATED, 2: EventType.DELETED, 3: EventType.CHANGED, 4: EventType.CHILD}


@dataclass(eq=False)
class _Entry:
    """One number of the compiled half: one callback on one path."""

    key: tuple[str, str, object]
    path: str
    callback: WatchCallback
    persistent: bool = False
    registered: bool = False
    """A server holds it (or will again, after a reconnect)."""
    calls: list[asyncio.Future[Any]] = field(default_factory=list)
    """Calls that register it and whose outcome has not been looked at."""


class WatchTable:
    """The callbacks of one client, by number."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._ids: dict[tuple[str, str, object], int] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._entries)

    def id_for(self, kind: str, path: str, callback: WatchCallback, *, persistent: bool = False) -> int:
        """A number for `callback` on `path`; the same callback twice in one kind is one watch, as in ZooKeeper."""
        if not callable(callback):
            raise TypeError(f"a watch is a function of one WatchedEvent, not {callback!r}")
        if asyncio.iscoroutinefunction(callback):
            raise TypeError("a watch is a plain function; for coroutines there is `async with client.watch(path)`")
        key = (kind, path, callback)
        id = self._ids.get(key)
        if id is None:
            id, self._next = self._next, self._next + 1
            self._ids[key] = id
            self._entries[id] = _Entry(key, path, callback, persistent)
        return id

    def settle(self, id: int, call: asyncio.Future[Any], core: ClientCore) -> None:
        """Follows `call`, which registers `id` if it succeeds; one that fails or is cancelled leaves no watch."""
        self._entries[id].calls.append(call)

        def done(call: asyncio.Future[Any]) -> None:
            entry = self._entries.get(id)
            if entry is None or call not in entry.calls:
                return  # The event has been told already, or the watch was removed.
            entry.calls.remove(call)
            if not call.cancelled() and call.exception() is None:
                entry.registered = True
            elif not entry.registered and not entry.calls:
                self.forget(id, core)

        call.add_done_callback(done)

    def withdraw(self, id: int) -> None:
        """The call that was to register `id` could not be made."""
        entry = self._entries[id]
        if not entry.registered and not entry.calls:
            self.forget(id, None)

    def forget(self, id: int, core: ClientCore | None) -> None:
        """No event for this number any more."""
        entry = self._entries.pop(id, None)
        if entry is not None:
            self._ids.pop(entry.key, None)
            if core is not None:
                core.forget_watch(id)

    def on_path(self, path: str, callback: WatchCallback | None) -> list[int]:
        """The numbers of what watches `path`; with `callback` only its own."""
        return [
            id
            for id, entry in self._entries.items()
            if entry.path == path and (callback is None or entry.callback == callback)
        ]

    def fire(self, ids: list[int], type: int, path: str, zxid: int) -> None:
        """An event for these numbers. Each callback is called once, however many of its watches it used up."""
        event = WatchedEvent(_TYPES.get(type, EventType.NONE), State.CONNECTED, path, zxid)
        self._tell(event, [entry for id in ids if (entry := self._used_up(id)) is not None])

    def resync(self) -> None:
        """The link was lost and is back: persistent watches may have missed something."""
        for entry in [entry for entry in self._entries.values() if entry.persistent and entry.registered]:
            self._tell(WatchedEvent(EventType.RESYNC, State.CONNECTED, entry.path, -1), [entry])

    def end(self, ids: list[int], state: State) -> None:
        """These will never fire again."""
        for id in ids:
            entry = self._entries.pop(id, None)
            if entry is not None:
                self._ids.pop(entry.key, None)
                self._tell(WatchedEvent(EventType.NONE, state, entry.path, -1), [entry])

    def end_all(self, state: State) -> None:
        """None of them will ever fire again."""
        self.end(list(self._entries), state)

    def _used_up(self, id: int) -> _Entry | None:
        entry = self._entries.get(id)
        if entry is not None and not entry.persistent:
            entry.registered = False
            entry.calls = [call for call in entry.calls if not call.done()]
            if not entry.calls:
                del self._entries[id], self._ids[entry.key]
        return entry

    def _tell(self, event: WatchedEvent, entries: list[_Entry]) -> None:
        told: list[WatchCallback] = []
        for entry in entries:
            if entry.callback in told:
                continue
            told.append(entry.callback)
            try:
                entry.callback(event)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": f"a watch of {entry.path!r} failed on {event}", "exception": error}
                )


class Watch:
    """A stream of events: ``async with client.watch(path) as events: async for event in events: ...``.

    Made by `Client.watch`. At most ``limit`` events wait to be read; one more, and all that wait are replaced by one
    `EventType.RESYNC`.
    """

    def __init__(
        self,
        path: str,
        limit: int,
        begin: Callable[[WatchCallback], asyncio.Future[None]],
        forget: Callable[[WatchCallback], None],
    ) -> None:
        self._path = path
        self._limit = limit
        self._begin = begin
        self._forget = forget
        self._events: asyncio.Queue[WatchedEvent | None] = asyncio.Queue()
        self._ended_by: ZooKeeperError | None = None

    async def __aenter__(self) -> Self:
        """Set the watch; what happens after this returns will be told.

        Raises:
            ConnectionLossError: No connection within the session timeout, or it broke before the reply.
            SessionExpiredError: The session ended meanwhile.
        """
        await self._begin(self._put)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget(self._put)
        self._events.put_nowait(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchedEvent:
        """The next event; after ``async with`` has ended there is none.

        Raises:
            SessionExpiredError: The session has ended and the watch with it; set a new one.
            AuthFailedError: The servers refused the client's credentials.
            NoWatcherError: After a reconnect the server refused to set it again.
            ConnectionClosedError: The client was closed.
        """
        event = await self._events.get()
        if event is not None:
            return event
        self._events.put_nowait(None)  # For whoever else reads this stream, now or later.
        if self._ended_by is not None:
            raise self._ended_by.with_traceback(None)
        raise StopAsyncIteration

    def __repr__(self) -> str:
        return f"<Watch of {self._path!r}, {self._events.qsize()} events wait>"

    def _put(self, event: WatchedEvent) -> None:
        if event.type is EventType.NONE:
            self._ended_by = _ended(event)
            self._events.put_nowait(None)
            return
        if self._events.qsize() >= self._limit:
            while not self._events.empty():
                self._events.get_nowait()
            event = WatchedEvent(EventType.RESYNC, event.state, self._path, event.zxid)
        self._events.put_nowait(event)


def _ended(event: WatchedEvent) -> ZooKeeperError:
    if event.state is State.LOST:
        return SessionExpiredError(f"the session has expired, and its watch of {event.path!r} with it", path=event.path)
    if event.state is State.AUTH_FAILED:
        return AuthFailedError(f"the servers refused the credentials; no watch of {event.path!r}", path=event.path)
    if event.state is not State.CLOSED:
        return NoWatcherError(f"the server has refused to watch {event.path!r} again", path=event.path)
    return ConnectionClosedError(f"the client was closed, and its watch of {event.path!r} with it", path=event.path)
