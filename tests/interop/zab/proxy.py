"""Stands between all members on their election and quorum ports, knows who speaks with whom, and writes it down.

Each ordered pair of servers has two ports here: the ones that the first's zoo.cfg names for the second. The listening
side binds its own true port, which nobody else knows: INITIAL carries the sender's own election address, to which the
receiver would connect back, so the proxy puts the receiver's port for the sender in its place.

A connection to a server that does not listen is held for `CONNECT_S` while the proxy tries, and then closed: a learner
may come a moment before its leader listens, and would be refused and try again without a proxy.

Runs in a thread with an event loop of its own; every method may be called from any thread.
"""

import asyncio
import threading
import time
from contextlib import suppress

import packets
from packets import Packet

CONNECT_S = 1.0
CONNECT_PAUSE_S = 0.02
CHUNK = 1 << 16


class Proxy:
    """The wire between the members.

    Args:
        routes: ``{(port, "quorum" or "election"): (source, target, true port)}``.
        reachable: ``{(source, target): port}``: the election port here at which source reaches target.
        tls: ``(server, client)`` contexts where the members speak TLS, which ends here and begins anew.
    """

    def __init__(self, routes, reachable, tls=None):
        self._routes, self._reachable = routes, reachable
        self._server_tls, self._client_tls = tls or (None, None)
        #: Every packet that passed, in the order in which they did.
        self.packets = []
        #: What could not be decoded: lines.
        self.lost = []
        self._cut, self._stalled = set(), {}
        self._open, self._count = {}, 0
        self._tasks, self._servers = set(), []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._call(self._listen())

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _listen(self):
        for (port, kind), (source, target, true_port) in self._routes.items():

            async def accepted(reader, writer, kind=kind, source=source, target=target, true_port=true_port):
                await self._serve(kind, source, target, true_port, reader, writer)

            server = await asyncio.start_server(accepted, "127.0.0.1", port, limit=CHUNK, ssl=self._server_tls)
            self._servers.append(server)

    # --- connections

    async def _serve(self, kind, source, target, true_port, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self._count += 1
        number, other = self._count, None
        try:
            if frozenset((source, target)) in self._cut:
                return
            other_reader, other = await self._connect(true_port, CONNECT_S if kind == "quorum" else 0.0)
            self._open[number] = (source, target, writer, other)
            first = await self._initial(number, source, target, reader, other) if kind == "election" else b""
            grammar = packets.quorum if kind == "quorum" else packets.election
            ways = [
                asyncio.ensure_future(self._pass(number, source, target, grammar, reader, other, first)),
                asyncio.ensure_future(self._pass(number, target, source, grammar, other_reader, writer)),
            ]
            _, pending = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in pending:
                way.cancel()
            await asyncio.wait(ways)
        except OSError:
            pass
        except packets.Lost as reason:
            self.lost.append(f"{source}>{target} #{number}: {reason}")
        finally:
            self._open.pop(number, None)
            for link in (writer, other):
                if link is not None:
                    link.close()
            self._tasks.discard(task)

    async def _connect(self, port, patience_s):
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port, limit=CHUNK, ssl=self._client_tls)
            except OSError:
                if time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(CONNECT_PAUSE_S)

    async def _initial(self, number, source, target, reader, other):
        """Sends INITIAL on, in one write, with an address of ours; returns what came behind it."""
        data = b""
        while (found := packets.initial(data)) is None:
            more = await reader.read(CHUNK)
            if not more:
                raise ConnectionResetError("closed before INITIAL")
            data += more
        taken, version, sid, address = found
        self._note(number, source, target)("INITIAL", 0, taken, f"sid {sid} {address}", None)
        if version is not None:
            address = f"127.0.0.1:{self._reachable[target, source]}"
            other.write(packets.initial_bytes(version, sid, address))
        else:
            other.write(data[:taken])
        await other.drain()
        return data[taken:]

    def _note(self, number, source, target):
        def note(kind, zxid, size, more, digest):
            self.packets.append(Packet(time.monotonic(), source, target, number, kind, zxid, size, more, digest))

        return note

    async def _pass(self, number, source, target, grammar, reader, writer, first=b""):
        """One direction, until it ends."""
        stream = packets.Stream(grammar(self._note(number, source, target)))
        with suppress(OSError):
            data = first or await reader.read(CHUNK)
            while data:
                if (gate := self._stalled.get((source, target))) is not None:
                    await gate.wait()
                stream.feed(data)
                writer.write(data)
                await writer.drain()
                data = await reader.read(CHUNK)
        if stream.lost:
            self.lost.append(f"{source}>{target} #{number}: {stream.lost}")

    # --- faults

    def cut(self, one, other):
        """Ends all connections between two servers, and refuses new ones until `heal`."""

        async def do():
            self._cut.add(frozenset((one, other)))
            for source, target, *links in list(self._open.values()):
                if {source, target} == {one, other}:
                    for link in links:
                        link.transport.abort()

        self._call(do())

    def heal(self, one, other):
        """Allows connections between two servers again; what is stalled between them goes on."""

        async def do():
            self._cut.discard(frozenset((one, other)))
            for way in ((one, other), (other, one)):
                if (gate := self._stalled.pop(way, None)) is not None:
                    gate.set()

        self._call(do())

    def stall(self, source, target):
        """Holds back what source says to target, on connections that stay open, until `heal`."""

        async def do():
            self._stalled[source, target] = asyncio.Event()

        self._call(do())

    def close(self):
        """Ends every connection and the thread."""

        async def do():
            for server in self._servers:
                server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._call(do())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # --- what was seen

    def mark(self):
        """A place in `packets`, for `since`."""
        return len(self.packets)

    def seen(self, kinds=None, source=None, target=None, since=0):
        """The packets of these kinds from and to these servers, from a mark on."""
        wanted = {kinds} if isinstance(kinds, str) else kinds
        return [
            packet
            for packet in self.packets[since:]
            if (wanted is None or packet.kind in wanted)
            and source in (None, packet.source)
            and target in (None, packet.target)
        ]
