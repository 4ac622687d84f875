"""`Ensemble`: real servers in this process, for tests of what a cluster does to a program."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from zabkit import blocking
from zabkit._base import EnsembleBase, MemberBase, PeerType, _is_observer
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

    async def hand_over(self, timeout: float = 30.0) -> Member:
        """Let another member lead instead of this one, which leads now, as SIGUSR1 asks it of ``zabkit server``.

        It takes no more writes, waits until the others have all there is, and votes for one of them. Sessions live on;
        the clients' connections are closed, as at each change of leader.

        Args:
            timeout: In seconds.

        Returns:
            The member that leads when this returns.

        Raises:
            EnsembleError: This one does not lead, no follower could, or it leads on at the end of the time.
            ClosedError: The ensemble does not run.

        Semantics: zabkit's own; ZooKeeper's leader must be ended.
        """
        leader: Member = self._ensemble[await self._core.hand_over_async(self.id, timeout)]
        return leader

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
        servers: How many vote; a majority must be up to serve. `add` and `remove` change it while they run.
        observers: How many more follow without a vote; their ids come behind.
        dir: Where their data lives, in folders ``1``, ``2``, ...; None for a temporary folder that goes at the end. An
            ensemble that has grown or shrunk there is started as it was left, whatever ``servers`` says.
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

    async def add(self, role: PeerType = "participant", *, timeout: float = 30.0) -> Member:
        """Start one more server and make it a member, while clients go on.

        It follows the leader without a vote until it has all there is; then a reconfig lets it in. Its id is one that
        no member has had. `hosts` and `members` have it when this returns; a client is told by `Client.set_hosts`.

        Args:
            role: ``"participant"`` votes; ``"observer"`` does not, so it costs writes no time.
            timeout: In seconds.

        Returns:
            The new member; it serves, and knows that it is one.

        Raises:
            StartError: It cannot be started.
            EnsembleError: No majority of the members agrees in time, or the new one does not catch up. Then there is no
                new member, unless the message says that this is not known.
            ValueError: No such role.
            ClosedError: It does not run.

        Semantics: ZooKeeper ``reconfig -add``, by the super user of this ensemble.
        """
        core, observer = self._running(), _is_observer(role)
        try:
            id = await core.add_async(observer, timeout)
        finally:
            self._changed_if(core)
        return self[id]

    async def remove(self, member: int | Member, *, timeout: float = 30.0) -> None:
        """Take a member out of the ensemble and stop its server, while clients go on.

        It may be down, or lead: then one of the others leads before it is stopped. Its folder stays. Clients that know
        only this one need other hosts before (`Client.set_hosts`).

        Args:
            member: A member, or its id.
            timeout: In seconds.

        Raises:
            EnsembleError: It is the last one that votes, or no majority of those who stay, and of all, agrees in time.
            ValueError: No such member.
            ClosedError: It does not run.

        Semantics: ZooKeeper ``reconfig -remove``, by the super user of this ensemble.
        """
        core, id = self._running(), self._leaving(member)
        try:
            await core.remove_async(id, timeout)
        finally:
            self._changed_if(core)

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
