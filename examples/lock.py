"""A lock: whoever has the ephemeral znode with the lowest number holds it, each other waits for the one before it.
Three workers share a counter that is not safe without the lock, while the leader of the ensemble is killed.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from zabkit import Client, ConnectionLossError, Ensemble


@asynccontextmanager
async def lock(zk: Client, path: str) -> AsyncIterator[None]:
    mine = await join_queue(zk, path)
    try:
        while (queue := await queue_at(zk, path))[0] != mine:
            async with zk.watch(before := queue[queue.index(mine) - 1]) as events:
                if await zk.exists(before):
                    await anext(events)
        yield
    finally:
        await zk.delete(mine, recursive=True)  # No error if it has gone with the session.


async def join_queue(zk: Client, path: str) -> str:
    """Create a znode of mine. After a broken link it may be there or not: that is what the uuid is for."""
    me = uuid.uuid4().hex
    while True:
        try:
            return await zk.create(f"{path}/{me}-", ephemeral=True, sequence=True, makepath=True)
        except ConnectionLossError:
            await zk.sync(path)
            if mine := [node for node in await queue_at(zk, path) if me in node]:
                return mine[0]


async def queue_at(zk: Client, path: str) -> list[str]:
    return sorted((f"{path}/{name}" for name in await zk.get_children(path)), key=lambda node: node[-10:])


async def work(name: str, ensemble: Ensemble) -> None:
    async with Client(ensemble.hosts) as zk:
        for _ in range(3):
            async with lock(zk, "/lock"):
                count = int((await zk.get("/count"))[0]) + 1
                if count == 5:
                    await ensemble.leader.kill()
                await zk.set("/count", str(count).encode())
                print(f"{name} counts {count}")


async def main() -> None:
    async with Ensemble(3) as ensemble, Client(ensemble.hosts) as zk:
        await zk.create("/count", b"0")
        await asyncio.gather(*(work(name, ensemble) for name in ("Ada", "Grace", "Barbara")))


asyncio.run(main())
