"""A lock: whoever has the ephemeral znode with the lowest number holds it, each other waits for the one before it.
Three workers share a counter that is not safe without the lock, while the leader of the ensemble is killed.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from zabkit import Client, ConnectionLossError, Ensemble


@asynccontextmanager
async def lock(zk: Client, path: str) -> AsyncIterator[None]:
    me = uuid.uuid4().hex  # If the link breaks there may be two znodes of mine: the first one counts.
    await surely(zk.create, f"{path}/{me}-", ephemeral=True, sequence=True, makepath=True)
    try:
        while me not in (queue := await queue_at(zk, path))[0]:
            before = queue[[me in node for node in queue].index(True) - 1]
            async with zk.watch(before) as events:
                if await zk.exists(before):
                    await anext(events)
        yield
    finally:
        for mine in [node for node in await queue_at(zk, path) if me in node]:
            await surely(zk.delete, mine, recursive=True)  # No error if it has gone.


async def queue_at(zk: Client, path: str) -> list[str]:
    return sorted((f"{path}/{name}" for name in await zk.get_children(path)), key=lambda node: node[-10:])


async def surely(call: Callable[..., Awaitable[object]], *arguments: object, **keywords: object) -> object:
    """Calls until there is an answer; for what does no harm when it is done twice."""
    while True:
        with suppress(ConnectionLossError):
            return await call(*arguments, **keywords)


async def work(name: str, ensemble: Ensemble) -> None:
    async with Client(ensemble.hosts) as zk:
        for _ in range(3):
            async with lock(zk, "/lock"):
                count = int((await zk.get("/count"))[0]) + 1
                if count == 5:
                    await ensemble.leader.kill()
                await surely(zk.set, "/count", b"%d" % count)
                print(f"{name} counts {count}")


async def main() -> None:
    async with Ensemble(3) as ensemble, Client(ensemble.hosts) as zk:
        await zk.create("/count", b"0")
        await asyncio.gather(*(work(name, ensemble) for name in ("Ada", "Grace", "Barbara")))


asyncio.run(main())
