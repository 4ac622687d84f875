"""`Ensemble(3)` in a Python process: from the call to the first acknowledged write, again and again."""

from __future__ import annotations

import asyncio
import datetime
import time

from clients.pure import connect
from figures.results import Results, Sample


def measure_ensemble(results: Results, starts: int) -> None:
    """Adds a sample for each start, by a wall clock that sees everything: threads, files, election, first write."""
    results.forget(["ensemble"])
    asyncio.run(_measure(results, starts))


async def _measure(results: Results, starts: int) -> None:
    import zabkit

    for _ in range(starts):
        began = time.perf_counter()
        async with zabkit.Ensemble(3) as ensemble:
            host, _, port = ensemble.hosts.split(",")[0].rpartition(":")
            client = await connect(host, int(port))
            await client.create("/first", b"write")
            took_ms = (time.perf_counter() - began) * 1000
            client.close()
        at = datetime.datetime.now().isoformat(" ", "minutes")
        results.add(Sample("ensemble", "zabkit", {"ms": took_ms}, at))
