"""`Server`: one server in this process, standalone or a member of an ensemble."""

from __future__ import annotations

from types import TracebackType

from zabkit import blocking
from zabkit._base import ServerBase
from zabkit._zabkit import ServerCore

__all__ = ["Server"]


class Server(ServerBase):
    """One ZooKeeper server in this process, from keywords or from a ``zoo.cfg``.

    ``async with Server() as server:`` starts and stops it; ``with`` does the same without asyncio and gives a
    `zabkit.blocking.Server`. It runs on Rust threads that never touch the interpreter.

    Args:
        config: Path of a ``zoo.cfg``, Apache's own file; then no other setting may be given.
        data_dir: ``dataDir``, for snapshots and logs; None for a temporary folder that goes with this object.
        client_port: ``clientPort``; 0 for any free one, see `hosts`.
        host: ``clientPortAddress``, the address to listen on.
        my_id: Server id, for a member of an ensemble.
        servers: ``server.N`` lines by id: ``{1: "10.0.0.1:2888:3888", ...}``; None for standalone.
        tick_time_ms: ``tickTime``.
        init_limit: ``initLimit``, in ticks.
        sync_limit: ``syncLimit``, in ticks.
        settings: Any other key of a ``zoo.cfg``.
        timeout: How long the start may take, in seconds.
    """

    async def start(self) -> None:
        """Start it. A standalone server serves when this returns; a member looks for its leader.

        Raises:
            StartError: Its configuration, directory or port cannot be used.
            ClosedError: It runs already.
        """
        self._started(await ServerCore.start_async(*self._start_arguments()))

    async def stop(self) -> None:
        """End it cleanly; nothing if it has ended. `restart` brings it back.

        Raises:
            ClosedError: It was not started.
        """
        await self._running().stop_async()

    async def kill(self) -> None:
        """End it as ``kill -9`` would: when this returns, nothing of it writes, syncs or sends any more.

        Raises:
            ClosedError: It was not started.
        """
        await self._running().kill_async()

    async def restart(self) -> None:
        """Stop it if it runs, and start it again on the same port and directory.

        Raises:
            StartError: As `start`.
            ClosedError: It was not started.
        """
        await self.stop()
        await self.start()

    async def wait_until_serving(self, timeout: float = 30.0) -> None:
        """Return when it answers clients.

        Args:
            timeout: In seconds.

        Raises:
            EnsembleError: It does not serve in time; the message has its status.
            ClosedError: It was not started.
        """
        await self._running().wait_until_serving_async(timeout)

    async def hand_over(self, timeout: float = 30.0) -> int:
        """Let another server of the ensemble lead instead of this one, which leads now.

        As SIGUSR1 asks it of ``zabkit server``: it takes no more writes, waits until the others have all there is, and
        votes for one of them. Sessions live on; the clients' connections are closed, as at each change of leader.

        Args:
            timeout: In seconds.

        Returns:
            The id of the server that leads when this returns, which this one follows.

        Raises:
            EnsembleError: This one does not lead, no follower could, or it leads on at the end of the time.
            NoLeaderError: It does not lead any more, and no other does in time.
            ClosedError: It was not started.

        Semantics: zabkit's own; ZooKeeper's leader must be ended.
        """
        return await self._running().hand_over_async(timeout)

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        self._settings.clean_up()

    def __enter__(self) -> blocking.Server:
        self._blocking = blocking.Server._with(self._settings)
        return self._blocking.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocking.__exit__(kind, error, trace)
