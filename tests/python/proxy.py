"""A proxy between a client and a server: what a network does to a client, at a moment that the test chooses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from zabkit import Client


class Proxy:
    """Passes bytes on; links can be cut, connections refused, and answers held back."""

    def __init__(self, target: str) -> None:
        self._target = target.split(",")[0]
        self._links: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers = asyncio.Event()
        self._answers.set()
        self._requests = 0
        self._more = asyncio.Condition()
        self.refuses = False
        self.accepted = 0

    async def __aenter__(self) -> Proxy:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._listener.sockets[0].getsockname()
        self.hosts = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()
        self._answers.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break all links. What the client has sent and the server has not read may be lost."""
        for link in self._links:
            link.transport.abort()

    def hold_answers(self) -> None:
        """Requests still reach the server, and nothing comes back."""
        self._answers.clear()

    def pass_answers(self) -> None:
        """What was held back, and all that follows, comes."""
        self._answers.set()

    async def wait_for_requests(self, bytes: int) -> None:
        """Return when that many bytes more have come from clients and gone to the server."""
        async with self._more:
            wanted = self._requests + bytes
            await self._more.wait_for(lambda: self._requests >= wanted)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if self.refuses:
            writer.transport.abort()
            return
        host, _, port = self._target.rpartition(":")
        with contextlib.suppress(OSError):
            server_reader, server_writer = await asyncio.open_connection(host, int(port))
            self._links |= {writer, server_writer}
            try:
                await asyncio.gather(self._up(reader, server_writer), self._down(server_reader, writer))
            finally:
                self._links -= {writer, server_writer}
                writer.transport.abort()
                server_writer.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
            async with self._more:
                self._requests += len(data)
                self._more.notify_all()
        raise ConnectionResetError

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._answers.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


@contextlib.asynccontextmanager
async def expired(proxy: Proxy, client_id: tuple[int, bytes], hosts: str) -> AsyncIterator[None]:
    """In the block the session of `client_id`, whose client is behind `proxy`, has been ended by the server."""
    proxy.refuses = True
    proxy.cut()
    async with Client(hosts, client_id=client_id):
        pass  # Takes the session over, and ends it.
    proxy.refuses = False
    yield


async def turns(condition: Callable[[], bool]) -> None:
    """Lets the loop turn until `condition` holds."""
    for _ in range(1_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never became true")


async def until_there(zk: Client, path: str) -> None:
    there = asyncio.Event()
    if await zk.exists(path, watch=lambda event: there.set()) is None:
        await there.wait()
