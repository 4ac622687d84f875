"""The yardstick: as little as a pure-Python asyncio client can be, an `asyncio.Protocol` with `struct`.

Requests of one turn of the loop leave with one write; answers come in order, so a deque of Futures is all the state
there is. No watches, no reconnect, no chroot, no pings (a run is shorter than the session's timeout), and `get` and
`set` only: a client that can be used does more for each request, never less.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import NamedTuple, cast

_INT = struct.Struct(">i")
_REQUEST = struct.Struct(">iiii")
_REPLY = struct.Struct(">iqi")
_STAT = struct.Struct(">qqqqiiiqiiq")
_CONNECT = struct.Struct(">iiqiqi16sb")
_GET, _SET, _CREATE, _CLOSE = 4, 5, 1, -11
_OPEN_ACL = struct.pack(">iii5si6s", 1, 31, 5, b"world", 6, b"anyone")


class Stat(NamedTuple):
    """ZooKeeper's, field by field."""

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    data_length: int
    num_children: int
    pzxid: int


Got = tuple[bytes, Stat]


class PureClient(asyncio.Protocol):
    """One session on one server; `connect` makes one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._xid = 0
        self._input = b""
        self._output: list[bytes] = []
        self._waiting: deque[tuple[int, asyncio.Future[object]]] = deque()
        self.connected: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(_CONNECT.pack(44 + 1, 0, 0, 30_000, 0, 16, bytes(16), 0))

    def connection_lost(self, exc: Exception | None) -> None:
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(ConnectionError("the link is closed"))

    def data_received(self, data: bytes) -> None:
        if self._input:
            data = self._input + data
        at, end = 0, len(data)
        while at + 4 <= end:
            (length,) = _INT.unpack_from(data, at)
            begin = at + 4
            if begin + length > end:
                break
            at = begin + length
            if self.connected.done():
                self._answer(data, begin, at)
            else:
                self.connected.set_result(None)
        self._input = data[at:]

    def _answer(self, data: bytes, begin: int, end: int) -> None:
        xid, _, error = _REPLY.unpack_from(data, begin)
        op, future = self._waiting.popleft()
        if future.done():
            return
        if error:
            future.set_exception(RuntimeError(f"request {xid} failed with {error}"))
            return
        begin += 16
        if op == _GET:
            (length,) = _INT.unpack_from(data, begin)
            body = begin + 4 + length
            future.set_result((data[begin + 4 : body], Stat._make(_STAT.unpack_from(data, body))))
        elif op == _SET:
            future.set_result(Stat._make(_STAT.unpack_from(data, begin)))
        else:
            future.set_result(data[begin:end])

    def _flush(self) -> None:
        assert self._transport is not None
        self._transport.write(b"".join(self._output))
        self._output.clear()

    def _send(self, op: int, path: bytes, rest: bytes) -> asyncio.Future[object]:
        self._xid += 1
        if not self._output:
            self._loop.call_soon(self._flush)
        self._output.append(_REQUEST.pack(12 + len(path) + len(rest), self._xid, op, len(path)) + path + rest)
        future: asyncio.Future[object] = self._loop.create_future()
        self._waiting.append((op, future))
        return future

    def get(self, path: str) -> asyncio.Future[Got]:
        return cast("asyncio.Future[Got]", self._send(_GET, path.encode(), b"\0"))

    def set(self, path: str, data: bytes) -> asyncio.Future[Stat]:
        rest = _INT.pack(len(data)) + data + _INT.pack(-1)
        return cast("asyncio.Future[Stat]", self._send(_SET, path.encode(), rest))

    def create(self, path: str, data: bytes) -> asyncio.Future[object]:
        return self._send(_CREATE, path.encode(), _INT.pack(len(data)) + data + _OPEN_ACL + _INT.pack(0))

    def close(self) -> None:
        """The session ends with its timeout."""
        assert self._transport is not None
        self._transport.close()


async def connect(host: str, port: int) -> PureClient:
    """A client whose session is open."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: PureClient(loop), host, port)
    await client.connected
    return client
