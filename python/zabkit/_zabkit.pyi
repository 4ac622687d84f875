"""The compiled half of `zabkit`; private. `x` blocks without the GIL, `x_async` gives a future of the running loop."""

import asyncio
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Final, TypeAlias, final

__all__ = [
    "ClientCore",
    "EnsembleCore",
    "ServerCore",
    "Stat",
    "__version__",
    "end_awaitables",
    "log_begin",
    "log_end",
    "log_lines",
    "log_to_stderr",
]

__version__: Final[str]

# The fields of `zabkit.Status`, in order.
_StatusTuple: TypeAlias = tuple[str, bool, int, int | None, int, int, str | None]
# The fields of `zabkit.LogLine`, in order.
_LogTuple: TypeAlias = tuple[float, int, str, str]
# The fields of `zabkit.Transition`, in order; the roles by name.
_TransitionTuple: TypeAlias = tuple[float, int, str, str, bool, int, int | None, str]
_Path: TypeAlias = str | PathLike[str]
# Level, logger, message, file, line, thread, s since 1970, id of the server or "", lines dropped before it.
_Line: TypeAlias = tuple[int, str, str, str, int, str, float, str, int]
# Permissions, scheme, id.
_Acl: TypeAlias = tuple[int, str, str]
# An operation of a multi or multi-read: ZooKeeper's opcode, then what the call of that name takes.
_Op: TypeAlias = tuple[Any, ...]

def end_awaitables() -> None:
    """Called at exit: waits until no thread of the awaitables is attached."""

def log_begin(level: int, /) -> None:
    """From now on lines of this level (Python's number) and above can be taken."""

def log_end() -> None:
    """No more lines are queued."""

def log_lines(limit: int, /) -> list[_Line] | None:
    """Wait for lines, without the GIL; None after `log_end`, when all have been taken."""

def log_to_stderr() -> None:
    """Send the servers' log lines to stderr."""

@final
class EnsembleCore:
    """A running ensemble; dropping it kills it."""

    @staticmethod
    def start(
        servers: int, observers: int, directory: _Path | None, tick_time_ms: int, timeout_s: float
    ) -> EnsembleCore:
        """Start members and wait until all serve."""
    @staticmethod
    def start_async(
        servers: int, observers: int, directory: _Path | None, tick_time_ms: int, timeout_s: float
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
    def add(self, observer: bool, timeout_s: float) -> int:
        """Start one more member and let it in."""
    def add_async(self, observer: bool, timeout_s: float) -> asyncio.Future[int]:
        """As `add`."""
    def remove(self, id: int, timeout_s: float) -> None:
        """Take a member out of the list and end it."""
    def remove_async(self, id: int, timeout_s: float) -> asyncio.Future[None]:
        """As `remove`."""
    def hand_over(self, id: int, timeout_s: float) -> int:
        """Let another member lead."""
    def hand_over_async(self, id: int, timeout_s: float) -> asyncio.Future[int]:
        """As `hand_over`."""
    def partition(self, groups: list[list[int]]) -> None:
        """Cut the network between these groups of members."""
    def heal(self) -> None:
        """End the partition and all slow links."""
    def slow_link(self, source: int, target: int, latency_s: float, loss: float) -> None:
        """Make one direction of a link slow."""
    def pause(self, ids: list[int]) -> None:
        """Stop members as SIGSTOP would."""
    def pause_async(self, ids: list[int]) -> asyncio.Future[None]:
        """As `pause`."""
    def resume(self, id: int) -> None:
        """Let a member go on as SIGCONT would."""
    def is_paused(self, id: int) -> bool:
        """Whether a member is paused."""
    def fill_disk(self, id: int, full: bool) -> None:
        """Whether a member's disk takes nothing any more."""
    def slow_disk(self, id: int, delay_s: float) -> None:
        """Make each sync of a member's disk take longer."""
    def logs(self, id: int | None) -> list[_LogTuple]:
        """The newest log lines of one member, or of all, oldest first."""
    def transitions(self) -> list[_TransitionTuple]:
        """The newest transitions of all members, oldest first."""
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
    def hand_over(self, timeout_s: float) -> int:
        """Let another server lead."""
    def hand_over_async(self, timeout_s: float) -> asyncio.Future[int]:
        """As `hand_over`."""
    def stop(self) -> None:
        """End it cleanly."""
    def stop_async(self) -> asyncio.Future[None]:
        """As `stop`."""
    def kill(self) -> None:
        """End it as `kill -9` would."""
    def kill_async(self) -> asyncio.Future[None]:
        """As `kill`."""

@final
class Stat:
    """What the servers keep of a znode beside its data, at one moment."""

    __match_args__: Final = (
        "czxid",
        "mzxid",
        "ctime",
        "mtime",
        "version",
        "cversion",
        "aversion",
        "ephemeralOwner",
        "dataLength",
        "numChildren",
        "pzxid",
    )
    def __new__(
        cls,
        czxid: int,
        mzxid: int,
        ctime: int,
        mtime: int,
        version: int,
        cversion: int,
        aversion: int,
        ephemeralOwner: int,
        dataLength: int,
        numChildren: int,
        pzxid: int,
    ) -> Stat: ...
    @property
    def czxid(self) -> int:
        """Zxid of the transaction that created it."""
    @property
    def mzxid(self) -> int:
        """Zxid of the last write of its data."""
    @property
    def ctime(self) -> int:
        """When it was created, in ms since 1970, by the leader's clock."""
    @property
    def mtime(self) -> int:
        """When its data was written last, in ms since 1970, by the leader's clock."""
    @property
    def version(self) -> int:
        """How often its data was written."""
    @property
    def cversion(self) -> int:
        """How often its children changed."""
    @property
    def aversion(self) -> int:
        """How often its ACL was written."""
    @property
    def ephemeralOwner(self) -> int:
        """Session id of its owner, 0 if it is not ephemeral."""
    @property
    def dataLength(self) -> int:
        """Length of its data in bytes."""
    @property
    def numChildren(self) -> int:
        """How many children it has."""
    @property
    def pzxid(self) -> int:
        """Zxid of the last change of its children."""
    @property
    def created(self) -> float:
        """`ctime` in seconds."""
    @property
    def last_modified(self) -> float:
        """`mtime` in seconds."""
    @property
    def owner_session_id(self) -> int | None:
        """`ephemeralOwner`, None if it is not ephemeral."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class ClientCore:
    """One session, driven by the caller's event loop; `zabkit.Client` is its public face."""

    def __new__(
        cls,
        event_loop: asyncio.AbstractEventLoop,
        hosts: Sequence[tuple[str, int]],
        chroot: str,
        timeout_ms: int,
        read_only: bool,
        session: tuple[int, bytes] | None,
        auths: Sequence[tuple[str, bytes]],
        seed: int,
        on_event: Callable[..., object],
        fallback: bool,
        /,
    ) -> ClientCore: ...
    def start(self) -> None:
        """Begin to connect; once, on the loop's thread."""
    def set_hosts(self, hosts: Sequence[tuple[str, int]], /) -> None:
        """Use these numeric addresses from the next connect on."""
    def create(
        self, path: str, data: bytes, acl: Sequence[_Acl] | None, flags: int, ttl_ms: int, include_stat: bool, /
    ) -> asyncio.Future[Any]:
        """Send Create; the path, with `include_stat` a pair of it and the `Stat`."""
    def get(self, path: str, watch: int | None, /) -> asyncio.Future[tuple[bytes, Stat]]:
        """Send GetData."""
    def set(self, path: str, data: bytes, version: int, /) -> asyncio.Future[Stat]:
        """Send SetData."""
    def exists(self, path: str, watch: int | None, /) -> asyncio.Future[Stat | None]:
        """Send Exists."""
    def get_children(self, path: str, watch: int | None, include_stat: bool, /) -> asyncio.Future[Any]:
        """Send GetChildren; the names, with `include_stat` a pair of them and the `Stat`."""
    def delete(self, path: str, version: int, /) -> asyncio.Future[None]:
        """Send Delete."""
    def get_acls(self, path: str, /) -> asyncio.Future[tuple[list[_Acl], Stat]]:
        """Send GetACL."""
    def set_acls(self, path: str, acl: Sequence[_Acl], version: int, /) -> asyncio.Future[Stat]:
        """Send SetACL."""
    def add_auth(self, scheme: str, auth: bytes, /) -> asyncio.Future[None]:
        """Send an auth packet, now and after every reconnect."""
    def sync(self, path: str, /) -> asyncio.Future[str]:
        """Send Sync; the path."""
    def multi(self, ops: Sequence[_Op], /) -> asyncio.Future[list[Any]]:
        """Send Multi; results in order, exception instances when a part failed."""
    def multi_read(self, ops: Sequence[_Op], /) -> asyncio.Future[list[Any]]:
        """Send MultiRead; results in order, exception instances for what failed."""
    def add_watch(self, path: str, recursive: bool, watch: int, /) -> asyncio.Future[None]:
        """Send AddWatch."""
    def forget_watch(self, watch: int, /) -> None:
        """Tell no event of this watch any more."""
    def ephemerals(self, path: str, /) -> asyncio.Future[list[str]]:
        """Send GetEphemerals."""
    def children_number(self, path: str, /) -> asyncio.Future[int]:
        """Send GetAllChildrenNumber."""
    def who_am_i(self) -> asyncio.Future[list[tuple[str, str]]]:
        """Send WhoAmI; pairs of scheme and id."""
    def reconfig(
        self, joining: str | None, leaving: str | None, new_members: str | None, from_config: int, /
    ) -> asyncio.Future[tuple[bytes, Stat]]:
        """Send Reconfig."""
    def close(self) -> asyncio.Future[None]:
        """Send CloseSession behind what is in flight."""
    def abort(self) -> None:
        """Close the socket now; the session lives until its timeout."""
    @property
    def state(self) -> str:
        """The state told last."""
    @property
    def client_id(self) -> tuple[int, bytes] | None:
        """Session id and password; None before the first connection."""
    @property
    def timeout_ms(self) -> int:
        """Session timeout: negotiated, before that the wanted one."""
    @property
    def server(self) -> tuple[str, int] | None:
        """Address of the server that it is linked to."""
    @property
    def last_failure(self) -> str | None:
        """Why the last link was lost or could not be opened, with the server's address."""
    @property
    def last_zxid(self) -> int:
        """The newest zxid seen."""
    @property
    def in_flight(self) -> int:
        """How many calls are not answered, queued ones too."""
