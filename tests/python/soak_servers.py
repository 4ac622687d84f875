"""The servers of the client soak, in a process of their own: three members, each behind a proxy that does harm.

Prints the proxies' hosts; then reads commands, one a line, and answers each with a line: ``cut N fin|rst`` (connection
N of those that are open), ``cutall fin|rst``, ``trip N BYTES`` (cut it after so many bytes more, be it inside a frame),
``refuse N`` (the next N connects), ``freeze N`` (nothing passes it any more), ``kill N`` and ``restart N`` (member).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
import sys
from typing import ClassVar

import zabkit


class Link:
    """One connection of a client, and the proxy's to its server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._ends = (client, server)
        self._trip: int | None = None
        self._frozen = False

    def cut(self, how: str) -> None:
        for end in self._ends:
            if how == "rst":
                connection = end.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.transport.abort() if how == "rst" else end.close()

    def trip(self, count: int) -> None:
        self._trip = count

    def freeze(self) -> None:
        self._frozen = True

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self._frozen:
                    continue
                if self._trip is not None:
                    data = data[: self._trip]
                    self._trip -= len(data)
                writer.write(data)
                await writer.drain()
                if self._trip == 0:
                    break
        self.cut("fin")


class Proxy:
    """In front of one member."""

    links: ClassVar[dict[int, Link]] = {}
    refusals = 0
    _numbers = itertools.count()

    def __init__(self, hosts: str) -> None:
        host, _, port = hosts.rpartition(":")
        self._server = host, int(port)

    async def listen(self) -> str:
        listening = await asyncio.start_server(self._on_client, "127.0.0.1", 0)
        self._listening = listening
        return f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if Proxy.refusals > 0:
            Proxy.refusals -= 1
            return writer.transport.abort()
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._server)
        except OSError:
            return writer.transport.abort()
        number, link = next(Proxy._numbers), Link(writer, server_writer)
        Proxy.links[number] = link
        try:
            await asyncio.gather(link.carry(reader, server_writer), link.carry(server_reader, writer))
        finally:
            del Proxy.links[number]


async def obey(ensemble: zabkit.Ensemble, command: str) -> None:
    """Does what the line says."""
    name, *arguments = command.split()
    links = list(Proxy.links.values())
    if name == "refuse":
        Proxy.refusals += int(arguments[0])
    elif name == "kill":
        await ensemble[int(arguments[0])].kill()
    elif name == "restart":
        await ensemble[int(arguments[0])].restart()
        await ensemble[int(arguments[0])].wait_until_serving()
    elif name == "cutall":
        for link in links:
            link.cut(arguments[0])
    elif links:
        link = links[int(arguments[0]) % len(links)]
        if name == "cut":
            link.cut(arguments[1])
        elif name == "trip":
            link.trip(int(arguments[1]))
        elif name == "freeze":
            link.freeze()


async def main() -> None:
    async with zabkit.Ensemble(3) as ensemble:
        proxies = [Proxy(member.hosts) for member in ensemble]
        print(",".join([await proxy.listen() for proxy in proxies]), flush=True)
        commands = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        while command := (await commands.readline()).decode():
            await obey(ensemble, command)
            print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
