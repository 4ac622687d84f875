"""`Ensemble`: real servers in this process, for tests of what a cluster does to a program."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from zabkit import blocking
from zabkit._base import EnsembleBase, MemberBase
from zabkit._zabkit import EnsembleCore

__all__ = ["Ensemble", "Member"]


class Member(MemberBase):
    """One server of an `Ensemble`."""

    async def kill(self) -> None:
        """End it as ``kill -9`` would: when this returns, nothing of it writes, syncs or sends any more.

        The members that followed it, and can notice that it is gone, do not follow it any more then (waited for at most
        1 s): their clients' connections are closed.

        Raises:
            ClosedError: The ensemble does not run.
        """
        await self._core.kill_async([self.id])

    async def stop(self) -> None:
        """End it cleanly: it tells its clients and peers, and its log is flushed, which takes as long as its disk does.

        Raises:
            ClosedError: The ensemble does not run.
        """
        await self._core.stop_async([self.id])

    async def restart(self) -> None:
        """Start it again on the same port and directory; a member that runs is stopped first.

        It looks for the leader when this returns; `wait_until_serving` waits until it has caught up.

        Raises:
            StartError: Its directory or port cannot be used.
            ClosedError: The ensemble does not run.
        """
        await self._core.restart_async([self.id])

    async def wait_until_serving(self, timeout: float = 30.0) -> None:
        """Return when it answers clients, as leader or follower.

        Args:
            timeout: In seconds.

        Raises:
            EnsembleError: It does not serve in time; the message has its status.
        """
        await self._core.wait_until_serving_async([self.id], timeout)

    async def pause(self) -> None:
        """Stop it as SIGSTOP stops a process: when this returns nothing of it runs, its connections stay open.

        Killing, stopping or restarting a paused member works as ever.

        Raises:
            EnsembleError: It is within something that takes long, and stops when that is done.
            ClosedError: The ensemble does not run.
        """
        await self._core.pause_async([self.id])

    async def resume(self) -> None:
        """Let it go on, as SIGCONT does; it finds out by itself what it has missed.

        Raises:
            ClosedError: The ensemble does not run.
        """
        self._core.resume(self.id)

    async def fill_disk(self) -> None:
        """Make every write to its disk fail as on a full one (ENOSPC): it says so and ends by itself at its next one.

        Raises:
            ClosedError: The ensemble does not run.
        """
        self._core.fill_disk(self.id, True)

    async def free_disk(self) -> None:
        """Take `fill_disk` back. A member that has ended of it must be restarted.

        Raises:
            ClosedError: The ensemble does not run.
        """
        self._core.fill_disk(self.id, False)

    async def slow_disk(self, seconds: float) -> None:
        """Make each sync of its disk take so much longer; 0 takes it back.

        Args:
            seconds: Beyond what the disk takes by itself.

        Raises:
            ValueError: Not a time.
            ClosedError: The ensemble does not run.
        """
        self._core.slow_disk(self.id, seconds)


class Ensemble(EnsembleBase[Member]):
    """Servers in this process on 127.0.0.1, with ports of their own that cannot clash.

    ``async with Ensemble(3) as ensemble:`` starts them, waits until all serve, and stops them at the end; ``with``
    does the same without asyncio and gives a `zabkit.blocking.Ensemble`. They run on Rust threads that never touch the
    interpreter: a blocked event loop costs no leader.

    Args:
        servers: How many vote; a majority must be up to serve.
        observers: How many more follow without a vote; their ids come behind.
        dir: Where their data lives, in folders ``1``, ``2``, ...; None for a temporary folder that goes at the end.
        tick_time_ms: ZooKeeper's ``tickTime``; heartbeats and session timeouts are counted in it.
        timeout: How long the start may take, in seconds.
    """

    _member_type = Member

    async def start(self) -> None:
        """Start all members and return when all serve.

        Raises:
            StartError: A directory or port cannot be used, or they do not serve in time. Nothing is left running.
        """
        if self._core is None:
            started = EnsembleCore.start_async(
                self._servers, self._observers, self._dir, self._tick_time_ms, self._timeout
            )
            self._started(await started)

    async def stop(self) -> None:
        """Stop all members, end their threads, remove the folder if it was temporary. A second time is nothing."""
        if (core := self._closed()) is not None:
            await core.shutdown_async()

    async def kill(self) -> None:
        """Kill all members at once, as a power cut would; `restart` brings them back.

        Raises:
            ClosedError: It does not run.
        """
        await self._running().kill_async(self._all())

    async def restart(self) -> None:
        """Stop those that run, start all, and return when all serve.

        Raises:
            StartError: A member cannot start again.
            EnsembleError: They do not serve in time.
            ClosedError: It does not run.
        """
        core = self._running()
        await core.stop_async(self._all())
        await core.restart_async(self._all())
        await core.wait_until_serving_async(self._all(), self._timeout)

    async def partition(self, *groups: Iterable[int | Member]) -> None:
        """Cut the network between groups of members: no byte passes, connections stay open and silent.

        ``partition({1}, {2, 3})``. A member in no group is cut off from all. It takes the place of a former partition.
        Only the members are cut off from each other: clients reach all of them.

        Args:
            groups: Ids or members.

        Raises:
            ValueError: No such member, or one that is in two groups.
            ClosedError: It does not run.
        """
        self._cut(groups)

    async def slow_link(
        self, a: int | Member, b: int | Member, latency: float, loss: float = 0.0, *, both_ways: bool = True
    ) -> None:
        """Make the network between two members slow or lossy; ``latency=0, loss=0`` takes it back, as does `heal`.

        Args:
            a: One member, or its id.
            b: The other.
            latency: What each packet takes longer, in seconds. Packets stay in order and their number is not limited.
            loss: The share of packets that are lost, from 0 to below 1. TCP sends them again, so it shows as delays:
                200 ms and a round trip for the first loss, doubling.
            both_ways: False: only from ``a`` to ``b``.

        Raises:
            ValueError: No such members, or not such a number.
            ClosedError: It does not run.
        """
        self._slow(a, b, latency, loss, both_ways)

    async def heal(self) -> None:
        """End the partition and all `slow_link`; what waited flows.

        Raises:
            ClosedError: It does not run.
        """
        self._running().heal()

    async def wait_for_leader(self, timeout: float = 30.0) -> Member:
        """Return the member that serves as leader, once there is one.

        Args:
            timeout: In seconds.

        Raises:
            NoLeaderError: None serves in time.
            ClosedError: It does not run.
        """
        return self[await self._running().wait_for_leader_async(timeout)]

    async def __aenter__(self) -> Ensemble:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __enter__(self) -> blocking.Ensemble:
        self._blocking = blocking.Ensemble(
            self._servers,
            observers=self._observers,
            dir=self._dir,
            tick_time_ms=self._tick_time_ms,
            timeout=self._timeout,
        )
        return self._blocking.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocking.stop()
