"""How requests are issued, the same for all clients: one at a time, by 16 tasks, 1,000 outstanding in two ways."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

OPS = ("get", "set")
ONE, SIXTEEN, THOUSAND, GATHER = "one at a time", "16 tasks", "1000 tasks", "gather of 1000"
STYLES = (ONE, SIXTEEN, THOUSAND, GATHER)
"""`1000 tasks`: each awaits its request before the next. `gather of 1000`: issued together, then all are awaited."""


class AsyncResult(Protocol):
    """What kazoo's asynchronous calls return."""

    def get(self) -> object: ...


@dataclass(frozen=True)
class Measured:
    """One run."""

    ops: int
    cpu_s: float
    """Of the whole process, all its threads."""
    wall_s: float


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def run_async(issue: Callable[[], Awaitable[object]], style: str, seconds: float) -> Measured:
    """`issue` begins one request; what it returns is awaited in the way of `style`."""
    cpu, began = _cpu(), time.perf_counter()
    ops = await _loop_of(style)(issue, began + seconds)
    return Measured(ops, _cpu() - cpu, time.perf_counter() - began)


_Loop = Callable[[Callable[[], Awaitable[object]], float], Awaitable[int]]


def _loop_of(style: str) -> _Loop:
    return {ONE: _in_turn, SIXTEEN: _tasks(16), THOUSAND: _tasks(1000), GATHER: _gathers}[style]


async def _in_turn(issue: Callable[[], Awaitable[object]], end: float) -> int:
    ops = 0
    while time.perf_counter() < end:
        await issue()
        ops += 1
    return ops


def _tasks(count: int) -> _Loop:
    async def run(issue: Callable[[], Awaitable[object]], end: float) -> int:
        return sum(await asyncio.gather(*(_in_turn(issue, end) for _ in range(count))))

    return run


async def _gathers(issue: Callable[[], Awaitable[object]], end: float) -> int:
    ops = 0
    while time.perf_counter() < end:
        await asyncio.gather(*(issue() for _ in range(1000)))
        ops += 1000
    return ops


def run_blocking(one: Callable[[], object], send: Callable[[], AsyncResult], style: str, seconds: float) -> Measured:
    """For kazoo: `one` waits for its answer, `send` does not. Tasks are a window of that many requests."""
    cpu, began = _cpu(), time.perf_counter()
    end, ops = began + seconds, 0
    if style == ONE:
        while time.perf_counter() < end:
            one()
            ops += 1
    elif style == GATHER:
        while time.perf_counter() < end:
            for result in [send() for _ in range(1000)]:
                result.get()
            ops += 1000
    else:
        window = deque(send() for _ in range(16 if style == SIXTEEN else 1000))
        while time.perf_counter() < end:
            window.popleft().get()
            window.append(send())
            ops += 1
        for result in window:
            result.get()
        ops += len(window)
    return Measured(ops, _cpu() - cpu, time.perf_counter() - began)
