"""The compiled half of `zabkit`; private. `x` blocks without the GIL, `x_async` gives a future of the running loop."""

import asyncio
from os import PathLike
from typing import Final, TypeAlias, final

__all__ = ["EnsembleCore", "ServerCore", "__version__", "end_awaitables", "log_to_stderr"]

__version__: Final[str]

# The fields of `zabkit.Status`, in order.
_StatusTuple: TypeAlias = tuple[str, bool, int, int | None, int, int, str | None]
_Path: TypeAlias = str | PathLike[str]

def end_awaitables() -> None:
    """Called at exit: waits until no thread of the awaitables is attached."""

def log_to_stderr() -> None:
    """Send the servers' log lines to stderr."""

@final
class EnsembleCore:
    """A running ensemble; dropping it kills it."""

    @staticmethod
    def start(servers: int, directory: _Path | None, tick_time_ms: int, timeout_s: float) -> EnsembleCore:
        """Start members and wait until all serve."""
    @staticmethod
    def start_async(
        servers: int, directory: _Path | None, tick_time_ms: int, timeout_s: float
    ) -> asyncio.Future[EnsembleCore]:
        """As `start`."""
    def ids(self) -> list[int]:
        """Ids of the members, ascending."""
    def hosts(self) -> str:
        """`host:port` of every member in the order of `ids`, comma between."""
    def status(self, id: int) -> _StatusTuple:
        """One member's status."""
    def leader(self) -> int | None:
        """Id of the member that serves as leader now."""
    def wait_for_leader(self, timeout_s: float) -> int:
        """Wait for a leader that serves."""
    def wait_for_leader_async(self, timeout_s: float) -> asyncio.Future[int]:
        """As `wait_for_leader`."""
    def wait_until_serving(self, ids: list[int], timeout_s: float) -> None:
        """Wait until each of these members serves."""
    def wait_until_serving_async(self, ids: list[int], timeout_s: float) -> asyncio.Future[None]:
        """As `wait_until_serving`."""
    def stop(self, ids: list[int]) -> None:
        """End members cleanly."""
    def stop_async(self, ids: list[int]) -> asyncio.Future[None]:
        """As `stop`."""
    def kill(self, ids: list[int]) -> None:
        """End members as `kill -9` would."""
    def kill_async(self, ids: list[int]) -> asyncio.Future[None]:
        """As `kill`."""
    def restart(self, ids: list[int]) -> None:
        """Start members again, with their ports and directories."""
    def restart_async(self, ids: list[int]) -> asyncio.Future[None]:
        """As `restart`."""
    def shutdown(self) -> None:
        """End the ensemble; a second time is nothing."""
    def shutdown_async(self) -> asyncio.Future[None]:
        """As `shutdown`."""

@final
class ServerCore:
    """A running server; dropping it kills it."""

    @staticmethod
    def start(file: _Path | None, text: str, timeout_s: float) -> ServerCore:
        """Start a server from a zoo.cfg, or from the text of one."""
    @staticmethod
    def start_async(file: _Path | None, text: str, timeout_s: float) -> asyncio.Future[ServerCore]:
        """As `start`."""
    def hosts(self) -> str:
        """`host:port` for clients."""
    def status(self) -> _StatusTuple:
        """The status now."""
    def wait_until_serving(self, timeout_s: float) -> None:
        """Wait until it serves."""
    def wait_until_serving_async(self, timeout_s: float) -> asyncio.Future[None]:
        """As `wait_until_serving`."""
    def stop(self) -> None:
        """End it cleanly."""
    def stop_async(self) -> asyncio.Future[None]:
        """As `stop`."""
    def kill(self) -> None:
        """End it as `kill -9` would."""
    def kill_async(self) -> asyncio.Future[None]:
        """As `kill`."""
