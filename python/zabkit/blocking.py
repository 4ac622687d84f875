"""`Server` and `Ensemble` for programs without asyncio: the same methods, blocking, other Python threads go on.

``with zabkit.Ensemble(3) as ensemble:`` gives an `Ensemble` of this module. See `zabkit.Ensemble` and `zabkit.Server`
for arguments and semantics.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from zabkit._base import EnsembleBase, MemberBase, PeerType, ServerBase, _is_observer
from zabkit._zabkit import EnsembleCore, ServerCore

__all__ = ["Ensemble", "Member", "Server"]


class Member(MemberBase):
    """One server of an `Ensemble`; as `zabkit.Member`, blocking."""

    def kill(self) -> None:
        """End it as ``kill -9`` would: when this returns, nothing of it writes, syncs or sends any more."""
        self._core.kill([self.id])

    def stop(self) -> None:
        """End it cleanly: it tells its clients and peers, and its log is flushed."""
        self._core.stop([self.id])

    def restart(self) -> None:
        """Start it again on the same port and directory; a member that runs is stopped first."""
        self._core.restart([self.id])

    def wait_until_serving(self, timeout: float = 30.0) -> None:
        """Return when it answers clients, as leader or follower; ``timeout`` in seconds."""
        self._core.wait_until_serving([self.id], timeout)

    def hand_over(self, timeout: float = 30.0) -> Member:
        """Let another member lead instead of this one, which leads now; the one that does. ``timeout`` in seconds.

        Raises:
            EnsembleError: This one does not lead, no follower could, or it leads on at the end of the time.
            ClosedError: The ensemble does not run.
        """
        leader: Member = self._ensemble[self._core.hand_over(self.id, timeout)]
        return leader

    def pause(self) -> None:
        """Stop it as SIGSTOP stops a process: when this returns nothing of it runs, its connections stay open.

        Killing, stopping or restarting a paused member works as ever.

        Raises:
            EnsembleError: It is within something that takes long, and stops when that is done.
            ClosedError: The ensemble does not run.
        """
        self._core.pause([self.id])

    def resume(self) -> None:
        """Let it go on, as SIGCONT does; it finds out by itself what it has missed.

        Raises:
            ClosedError: The ensemble does not run.
        """
        self._core.resume(self.id)

    def fill_disk(self) -> None:
        """Make every write to its disk fail as on a full one (ENOSPC): it says so and ends by itself at its next one.

        Raises:
            ClosedError: The ensemble does not run.
        """
        self._core.fill_disk(self.id, True)

    def free_disk(self) -> None:
        """Take `fill_disk` back. A member that has ended of it must be restarted.

        Raises:
            ClosedError: The ensemble does not run.
        """
        self._core.fill_disk(self.id, False)

    def slow_disk(self, seconds: float) -> None:
        """Make each sync of its disk take so much longer; 0 takes it back.

        Args:
            seconds: Beyond what the disk takes by itself.

        Raises:
            ValueError: Not a time.
            ClosedError: The ensemble does not run.
        """
        self._core.slow_disk(self.id, seconds)


class Ensemble(EnsembleBase[Member]):
    """Servers in this process on 127.0.0.1; as `zabkit.Ensemble`, blocking."""

    _member_type = Member

    def start(self) -> None:
        """Start all members and return when all serve."""
        if self._core is None:
            self._started(
                EnsembleCore.start(self._servers, self._observers, self._dir, self._tick_time_ms, self._timeout)
            )

    def stop(self) -> None:
        """Stop all members, end their threads, remove the folder if it was temporary. A second time is nothing."""
        if (core := self._closed()) is not None:
            core.shutdown()

    def kill(self) -> None:
        """Kill all members at once, as a power cut would; `restart` brings them back."""
        self._running().kill(self._all())

    def restart(self) -> None:
        """Stop those that run, start all, and return when all serve."""
        core = self._running()
        core.stop(self._all())
        core.restart(self._all())
        core.wait_until_serving(self._all(), self._timeout)

    def add(self, role: PeerType = "participant", *, timeout: float = 30.0) -> Member:
        """Start one more server and make it a member, while clients go on; it serves when this returns.

        Args:
            role: ``"participant"`` votes; ``"observer"`` does not, so it costs writes no time.
            timeout: In seconds.

        Raises:
            StartError: It cannot be started.
            EnsembleError: No majority of the members agrees in time, or the new one does not catch up.
            ValueError: No such role.
            ClosedError: It does not run.
        """
        core, observer = self._running(), _is_observer(role)
        try:
            id = core.add(observer, timeout)
        finally:
            self._changed_if(core)
        return self[id]

    def remove(self, member: int | Member, *, timeout: float = 30.0) -> None:
        """Take a member out of the ensemble and stop its server, while clients go on; the leader too.

        Args:
            member: A member, or its id.
            timeout: In seconds.

        Raises:
            EnsembleError: It is the last one that votes, or no majority of those who stay, and of all, agrees in time.
            ValueError: No such member.
            ClosedError: It does not run.
        """
        core, id = self._running(), self._leaving(member)
        try:
            core.remove(id, timeout)
        finally:
            self._changed_if(core)

    def partition(self, *groups: Iterable[int | Member]) -> None:
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

    def slow_link(
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

    def heal(self) -> None:
        """End the partition and all `slow_link`; what waited flows.

        Raises:
            ClosedError: It does not run.
        """
        self._running().heal()

    def wait_for_leader(self, timeout: float = 30.0) -> Member:
        """Return the member that serves as leader, once there is one; ``timeout`` in seconds."""
        return self[self._running().wait_for_leader(timeout)]

    def __enter__(self) -> Ensemble:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Server(ServerBase):
    """One ZooKeeper server in this process; as `zabkit.Server`, blocking."""

    def start(self) -> None:
        """Start it. A standalone server serves when this returns; a member looks for its leader."""
        self._started(ServerCore.start(*self._start_arguments()))

    def stop(self) -> None:
        """End it cleanly; nothing if it has ended. `restart` brings it back."""
        self._running().stop()

    def kill(self) -> None:
        """End it as ``kill -9`` would: when this returns, nothing of it writes, syncs or sends any more."""
        self._running().kill()

    def restart(self) -> None:
        """Stop it if it runs, and start it again on the same port and directory."""
        self.stop()
        self.start()

    def wait_until_serving(self, timeout: float = 30.0) -> None:
        """Return when it answers clients; ``timeout`` in seconds."""
        self._running().wait_until_serving(timeout)

    def hand_over(self, timeout: float = 30.0) -> int:
        """Let another server lead instead of this one, which leads now; the id of the one that does.

        Args:
            timeout: In seconds.

        Raises:
            EnsembleError: This one does not lead, no follower could, or it leads on at the end of the time.
            NoLeaderError: It does not lead any more, and no other does in time.
            ClosedError: It was not started.
        """
        return self._running().hand_over(timeout)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._settings.clean_up()
