"""Configuration: a service follows a znode while it changes, and while the server that it is connected to is killed.

The watch survives the reconnect. Because something may have been missed meanwhile there is a RESYNC event, and the
service reads again, as it does for every other event.
"""

import asyncio
import json

from zabkit import Client, Ensemble, EventType


async def service(zk: Client, ready: asyncio.Event) -> None:
    """Use the newest configuration until it says "stop"; ``ready`` when it does and waits for the next."""
    async with zk.watch("/config") as events:
        version = -1
        while True:
            data, stat = await zk.get("/config")
            if stat.version > version:
                version, config = stat.version, json.loads(data)
                print(f"service: version {version} {config}")
                ready.set()
                if config["stop"]:
                    return
            event = await anext(events)
            if event.type is EventType.RESYNC:
                print("service: connected again")


async def write(zk: Client, version: int, **config: object) -> None:
    await zk.set("/config", json.dumps(config).encode(), version)


async def main() -> None:
    async with Ensemble(3) as ensemble, Client(ensemble.hosts) as operator, Client(ensemble.hosts) as zk:
        await operator.create("/config", json.dumps({"workers": 1, "stop": False}).encode())
        await zk.sync("/config")
        ready = asyncio.Event()
        running = asyncio.create_task(service(zk, ready))
        await ready.wait()
        ready.clear()
        await write(operator, 0, workers=2, stop=False)
        await ready.wait()
        server = next(member for member in ensemble if member.hosts == zk.server)
        await server.kill()
        print(f"server {server.id} is killed")
        await write(operator, 1, workers=3, stop=False)
        await write(operator, 2, workers=3, stop=True)
        await running


asyncio.run(main())
