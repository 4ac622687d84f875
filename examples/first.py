import asyncio, zabkit

async def main():
    async with zabkit.Ensemble(3) as ensemble:              # three real servers, in this process
        async with zabkit.Client(ensemble.hosts) as zk:     # any ZooKeeper, also Apache's
            await zk.create("/app", b"v1")
            await ensemble.leader.kill()                    # as kill -9 would
            await zk.set("/app", b"v2")                     # waits for the new leader
            await zk.sync("/app")
            print(await zk.get("/app"))

asyncio.run(main())
