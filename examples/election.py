"""An election: each candidate has an ephemeral znode with a number; the lowest leads, each watches the one before it.

Each leader leads for a moment and leaves with its session; its successor takes over at once, nobody else is woken.
"""

import asyncio

from zabkit import Client, Ensemble


async def campaign(zk: Client, name: str) -> None:
    """Return when ``zk`` leads, which it does until its session ends."""
    mine = await zk.create("/election/", name.encode(), ephemeral=True, sequence=True, makepath=True)
    while (queue := sorted(f"/election/{child}" for child in await zk.get_children("/election")))[0] != mine:
        await until_gone(zk, queue[queue.index(mine) - 1])


async def until_gone(zk: Client, path: str) -> None:
    changed = asyncio.Event()
    while await zk.exists(path, watch=lambda event: changed.set()):
        await changed.wait()
        changed.clear()


async def candidate(hosts: str, name: str) -> None:
    async with Client(hosts) as zk:
        await campaign(zk, name)
        print(f"{name} leads")


async def main() -> None:
    async with Ensemble(3) as ensemble:
        await asyncio.gather(*(candidate(ensemble.hosts, name) for name in ("Ada", "Grace", "Barbara")))


asyncio.run(main())
