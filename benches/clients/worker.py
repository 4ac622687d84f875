"""A process with one client, which runs what its standard input says: a line `OP STYLE SECONDS`, tabs between.

A process for each client, so that the CPU time measured is that client's and nobody else's.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from clients.pure import connect
from clients.styles import Measured, run_async, run_blocking

DATA = b"d" * 100
Issue = Callable[[], Awaitable[object]]
"""Begins a request."""


def commands() -> list[tuple[str, str, float]]:
    """Blocks until there is one; empty: the end."""
    line = sys.stdin.readline().rstrip("\n")
    if not line:
        return []
    op, style, seconds = line.split("\t")
    return [(op, style, float(seconds))]


def report(measured: Measured) -> None:
    print(json.dumps(asdict(measured)), flush=True)


async def serve(issues: dict[str, Issue]) -> None:
    """Runs commands until there are no more."""
    loop = asyncio.get_running_loop()
    print("ready", flush=True)
    while todo := await loop.run_in_executor(None, commands):
        for op, style, seconds in todo:
            report(await run_async(issues[op], style, seconds))


async def run_pure(port: int, path: str) -> None:
    client = await connect("127.0.0.1", port)
    await client.create(path, DATA)
    await serve({"get": lambda: client.get(path), "set": lambda: client.set(path, DATA)})
    client.close()


async def run_aiozk(port: int, path: str) -> None:
    from aiozk import ZKClient

    client = ZKClient(f"127.0.0.1:{port}")
    await client.start()
    await client.create(path, DATA)
    await serve({"get": lambda: client.get(path), "set": lambda: client.set(path, DATA, -1)})
    await client.close()


async def run_zabkit(port: int, path: str, *, is_nowait: bool) -> None:
    import zabkit

    async with zabkit.Client(f"127.0.0.1:{port}") as client:
        await client.create(path, DATA)
        if is_nowait:
            bare = client.nowait
            await serve({"get": lambda: bare.get(path), "set": lambda: bare.set(path, DATA)})
        else:
            await serve({"get": lambda: client.get(path), "set": lambda: client.set(path, DATA)})


def run_kazoo(port: int, path: str) -> None:
    from kazoo.client import KazooClient

    client = KazooClient(f"127.0.0.1:{port}")
    client.start(timeout=15)
    client.create(path, DATA)
    one = {"get": lambda: client.get(path), "set": lambda: client.set(path, DATA)}
    send = {"get": lambda: client.get_async(path), "set": lambda: client.set_async(path, DATA)}
    print("ready", flush=True)
    while todo := commands():
        for op, style, seconds in todo:
            report(run_blocking(one[op], send[op], style, seconds))
    client.stop()
    client.close()


def main() -> None:
    name, port, loop = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    path = f"/bench-{name.replace('.', '-')}"
    if name == "kazoo":
        return run_kazoo(port, path)
    if loop == "uvloop":
        import uvloop

        uvloop.install()
    runs: dict[str, Callable[[], Awaitable[None]]] = {
        "pure": lambda: run_pure(port, path),
        "aiozk": lambda: run_aiozk(port, path),
        "zabkit": lambda: run_zabkit(port, path, is_nowait=False),
        "zabkit.nowait": lambda: run_zabkit(port, path, is_nowait=True),
    }

    async def run() -> None:
        await runs[name]()

    return asyncio.run(run())


if __name__ == "__main__":
    main()
