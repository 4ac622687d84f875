"""Two programs share an ensemble: this one runs the servers, and starts a second one that is told where they are.

Run without arguments it is the first program, with the hosts of an ensemble the second.
"""

import asyncio
import sys

from zabkit import Client, Ensemble, EventType


async def first() -> None:
    async with Ensemble(3) as ensemble, Client(ensemble.hosts) as zk:
        await zk.ensure_path("/jobs")
        async with zk.watch("/jobs", recursive=True) as events:
            second = await asyncio.create_subprocess_exec(sys.executable, __file__, ensemble.hosts)
            await zk.create("/jobs/2+3")
            async for event in events:
                if event.type is EventType.CHANGED:
                    print(f"first program: {event.path} is {(await zk.get(event.path))[0].decode()}")
                    break
        await zk.create("/jobs/stop")
        await second.wait()


async def second(hosts: str) -> None:
    async with Client(hosts, timeout=10.0) as zk, zk.watch("/jobs", recursive=True) as events:
        print(f"second program: connected to {zk.server}")
        done: set[str] = set()
        while True:
            for job in set(await zk.get_children("/jobs")) - done:
                if job == "stop":
                    return
                await zk.set(f"/jobs/{job}", str(sum(map(int, job.split("+")))).encode())
                done.add(job)
            await anext(events)


asyncio.run(second(sys.argv[1]) if sys.argv[1:] else first())
