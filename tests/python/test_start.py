"""What an `Ensemble` costs a test: from its start to the first acknowledged write, and to its end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from zabkit import Client, Ensemble, Role

STARTS = 50


async def test_members_that_start_together_elect_once() -> None:
    """None of them may find another's port closed and elect a leader without it."""
    for _ in range(5):
        async with Ensemble(3) as ensemble:
            assert {member.status.epoch for member in ensemble} == {1}
            assert [t.server for t in ensemble.transitions if t.after is Role.LEADING and t.serving] == [
                ensemble.leader.id
            ]


@pytest.mark.soak
@pytest.mark.parametrize("is_temporary", [True, False])
def test_fifty_starts_to_the_first_acknowledged_write(tmp_path: Path, is_temporary: bool) -> None:
    async def once(directory: Path) -> tuple[float, float]:
        began = time.monotonic()
        async with Ensemble(3, dir=None if is_temporary else directory) as ensemble:
            async with Client(ensemble.hosts) as zk:
                await zk.create("/a", b"1")
                written = time.monotonic()
            ending = time.monotonic()
        return written - began, time.monotonic() - ending

    took = [asyncio.run(once(tmp_path / str(number))) for number in range(STARTS)]
    starts, ends = (sorted(1000 * each[i] for each in took) for i in (0, 1))
    p50, p99 = starts[STARTS // 2], starts[-1]
    print(f"{'temporary folder' if is_temporary else 'synced folder'}: start to first write", end=" ")
    print(f"p50 {p50:.1f} ms, p99 {p99:.1f} ms; end p50 {ends[STARTS // 2]:.1f} ms, max {ends[-1]:.1f} ms")
    assert p99 <= 300 or not is_temporary
