"""The client's link on loops without ``add_reader`` (Windows' proactor): an asyncio protocol in front of the core."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

__all__ = ["Link", "open_link"]


class Core(Protocol):
    """What a link tells the core; all with the link's number."""

    def _transport_up(self, number: int) -> None: ...
    def _transport_down(self, number: int, why: str) -> None: ...
    def _transport_full(self, number: int, is_full: bool) -> None: ...
    def _transport_received(self, number: int, data: bytes) -> None: ...


class Link(asyncio.Protocol):
    """One connection; the core knows it by its number and takes nothing from one that it has left."""

    def __init__(self, loop: asyncio.AbstractEventLoop, core: Core, number: int, host: str, port: int) -> None:
        self._core = core
        self._number = number
        self._transport: asyncio.Transport | None = None
        self._opening = loop.create_task(self._open(loop, host, port))
        # A loop that is closed under a client is silent about it, as it is where the core has the socket.
        self._opening._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own name, not public

    async def _open(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> None:
        try:
            await loop.create_connection(lambda: self, host, port)
        except OSError as error:
            self._core._transport_down(self._number, str(error))

    def write(self, data: bytes) -> None:
        """Called by the core only between `connection_made` and `connection_lost`."""
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """The core has left this link."""
        self._opening.cancel()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._core._transport_up(self._number)

    def data_received(self, data: bytes) -> None:
        self._core._transport_received(self._number, data)

    def pause_writing(self) -> None:
        self._core._transport_full(self._number, True)

    def resume_writing(self) -> None:
        self._core._transport_full(self._number, False)

    def connection_lost(self, exc: Exception | None) -> None:
        why = "the server closed the connection" if exc is None else str(exc)
        self._core._transport_down(self._number, why)


def open_link(loop: asyncio.AbstractEventLoop, core: Core, number: int, host: str, port: int) -> Link:
    """Begin to connect; called by the core."""
    return Link(loop, core, number, host, port)
