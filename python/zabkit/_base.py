"""What the asyncio and the blocking classes have in common: everything that neither waits nor blocks."""

from __future__ import annotations

import atexit
import operator
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

from zabkit._zabkit import EnsembleCore, ServerCore
from zabkit.errors import ClosedError, NoLeaderError, StartError
from zabkit.status import LogLine, Role, Status, Transition

__all__ = ["EnsembleBase", "MemberBase", "PeerType", "ServerBase", "StrPath"]

if TYPE_CHECKING:
    from typing_extensions import Self

StrPath: TypeAlias = "str | os.PathLike[str]"
PeerType: TypeAlias = Literal["participant", "observer"]
_StatusTuple: TypeAlias = "tuple[str, bool, int, int | None, int, int, str | None]"
_Member = TypeVar("_Member", bound="MemberBase")


def _status(fields: _StatusTuple) -> Status:
    return Status(Role(fields[0]), *fields[1:])


class MemberBase:
    """One server of an ensemble."""

    def __init__(self, ensemble: EnsembleBase[Any], id: int, hosts: str) -> None:
        self._ensemble = ensemble
        self._id = id
        self._hosts = hosts

    @property
    def id(self) -> int:
        """Its server id, 1 for the first."""
        return self._id

    @property
    def hosts(self) -> str:
        """``"127.0.0.1:port"``, for a client that shall talk to this member only. The same after a restart."""
        return self._hosts

    @property
    def status(self) -> Status:
        """Its status now.

        Raises:
            ClosedError: The ensemble does not run.
        """
        return _status(self._core.status(self._id))

    @property
    def is_paused(self) -> bool:
        """Whether `pause` has stopped it.

        Raises:
            ClosedError: The ensemble does not run.
        """
        return self._core.is_paused(self._id)

    @property
    def log(self) -> list[LogLine]:
        """The newest lines of its log (INFO and above), oldest first; also of its lives before a restart.

        Raises:
            ClosedError: The ensemble does not run.
        """
        return _lines(self._core, self._id)

    @property
    def _core(self) -> EnsembleCore:
        return self._ensemble._running()

    def __repr__(self) -> str:
        return f"<Member {self._id} at {self._hosts}>"


def _lines(core: EnsembleCore, id: int | None) -> list[LogLine]:
    return [LogLine(*fields) for fields in core.logs(id)]


# Those that run: what the program does not stop ends with the interpreter, threads, files and all.
_started: weakref.WeakSet[EnsembleBase[Any]] = weakref.WeakSet()


def _stop_all() -> None:
    for ensemble in list(_started):
        if ensemble._pid == os.getpid() and (core := ensemble._closed()) is not None:
            core.shutdown()


atexit.register(_stop_all)


class EnsembleBase(Generic[_Member]):
    """The members of an ensemble and how they stand."""

    _member_type: type[_Member]

    def __init__(
        self,
        servers: int = 3,
        *,
        observers: int = 0,
        dir: StrPath | None = None,
        tick_time_ms: int = 200,
        timeout: float = 30.0,
    ) -> None:
        self._servers = _count("servers", servers)
        self._observers = _count("observers", observers, least=0)
        self._dir = None if dir is None else os.fspath(dir)
        self._tick_time_ms = _count("tick_time_ms", tick_time_ms)
        self._timeout = timeout
        self._pid = os.getpid()
        self._core: EnsembleCore | None = None
        self._hosts = ""
        self._members: tuple[_Member, ...] = ()

    @property
    def hosts(self) -> str:
        """``"127.0.0.1:p1,127.0.0.1:p2,..."``: what a ZooKeeper client connects to, in a forked child too.

        Raises:
            ClosedError: It does not run.
        """
        self._running()
        return self._hosts

    @property
    def members(self) -> tuple[_Member, ...]:
        """All members of the moment by id, those that are down too.

        Raises:
            ClosedError: It does not run.
        """
        self._running()
        return self._members

    @property
    def leader(self) -> _Member:
        """The member that serves as leader now. One that is paused or cut off from a majority does not count.

        Raises:
            NoLeaderError: There is none at the moment; `wait_for_leader` waits for one.
            ClosedError: It does not run.
        """
        id = self._running().leader()
        if id is None:
            raise NoLeaderError("no member serves as leader now: " + self._summary())
        return self[id]

    @property
    def followers(self) -> tuple[_Member, ...]:
        """The members that serve as followers now, by id.

        Raises:
            ClosedError: It does not run.
        """
        return self._serving_as(Role.FOLLOWING)

    @property
    def observers(self) -> tuple[_Member, ...]:
        """The members that serve as observers now, by id.

        Raises:
            ClosedError: It does not run.
        """
        return self._serving_as(Role.OBSERVING)

    @property
    def logs(self) -> list[LogLine]:
        """The newest 10,000 lines of all members' logs (INFO and above), oldest first.

        Raises:
            ClosedError: It does not run.
        """
        return _lines(self._running(), None)

    @property
    def transitions(self) -> list[Transition]:
        """The newest 1,000 changes of what the members are, oldest first; for reports.

        Raises:
            ClosedError: It does not run.
        """
        fields = self._running().transitions()
        return [Transition(f[0], f[1], Role(f[2]), Role(f[3]), *f[4:]) for f in fields]

    def __getitem__(self, id: int) -> _Member:
        """The member with this server id; ids begin at 1."""
        for member in self.members:
            if member.id == id:
                return member
        if id not in self._running().ids():
            raise KeyError(id)
        self._changed()  # It joins just now: another task or thread waits for it.
        return self[id]

    def __iter__(self) -> Iterator[_Member]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self._members) if self._core is not None else self._servers + self._observers

    def __repr__(self) -> str:
        state = "not running" if self._core is None else self._members
        return f"<Ensemble of {len(self)}: {state}>"

    def _serving_as(self, role: Role) -> tuple[_Member, ...]:
        return tuple(m for m in self.members if (s := m.status).role is role and s.serving and not m.is_paused)

    def _running(self) -> EnsembleCore:
        if self._core is None:
            raise ClosedError("this ensemble does not run: start it, or use it in `with` or `async with`")
        return self._core

    def _started(self, core: EnsembleCore) -> None:
        self._core = core
        self._pid = os.getpid()
        _started.add(self)
        self._members = ()
        self._changed()

    def _changed(self) -> None:
        """Some may have joined, or left; the others stay the same objects."""
        core = self._running()
        known = {member.id: member for member in self._members}
        hosts = core.hosts()
        each = zip(core.ids(), hosts.split(","), strict=True)
        self._members = tuple(known.get(id) or self._member_type(self, id, at) for id, at in each)
        self._hosts = hosts

    def _changed_if(self, core: EnsembleCore) -> None:
        """As `_changed`, unless it has been stopped meanwhile."""
        if self._core is core:
            self._changed()

    def _closed(self) -> EnsembleCore | None:
        """What is to be shut down, once."""
        core, self._core = self._core, None
        _started.discard(self)
        return core

    def _cut(self, groups: tuple[Iterable[int | MemberBase], ...]) -> None:
        self._running().partition([[self._id(member) for member in group] for group in groups])

    def _slow(
        self, source: int | MemberBase, target: int | MemberBase, latency: float, loss: float, both_ways: bool
    ) -> None:
        core, source, target = self._running(), self._id(source), self._id(target)
        core.slow_link(source, target, latency, loss)
        if both_ways:
            core.slow_link(target, source, latency, loss)

    def _id(self, member: int | MemberBase) -> int:
        """The id of a member that was given as such or by its id."""
        if not isinstance(member, MemberBase):
            return operator.index(member)
        if member._ensemble._core is not self._core:
            raise ValueError(f"{member!r} is a member of another ensemble")
        return member.id

    def _leaving(self, member: int | MemberBase) -> int:
        """The id of a member that there is."""
        if (id := self._id(member)) not in self._running().ids():
            raise ValueError(f"there is no server {id} in this ensemble")
        return id

    def _all(self) -> list[int]:
        return [member.id for member in self.members]

    def _summary(self) -> str:
        return ", ".join(f"{m.id} is {m.status.role}{', paused' if m.is_paused else ''}" for m in self.members)


def _is_observer(role: PeerType) -> bool:
    """Whether the role of a ``server.N`` line is that of a server without a vote."""
    if role not in ("participant", "observer"):
        raise ValueError(f"role is 'participant' or 'observer', not {role!r}")
    return role == "observer"


def _count(what: str, given: int, least: int = 1) -> int:
    """A number of at least so many."""
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{what} is a whole number, not {given!r}")
    if given < least:
        raise ValueError(f"{what} is at least {'one' if least == 1 else least}, not {given}")
    return given


class ServerSettings:
    """What a server is started with; shared by a `Server` and the blocking twin that `with` makes of it."""

    def __init__(
        self,
        file: StrPath | None,
        lines: Mapping[str, object],
        data_dir: StrPath | None,
        my_id: int | None,
        timeout: float,
    ) -> None:
        self.file = file
        self._my_id = my_id
        self.timeout = timeout
        self._lines = dict(lines)
        self._data_dir = data_dir
        self._temporary: weakref.finalize[[str, int], ServerSettings] | None = None

    def text(self) -> str:
        """The text of its zoo.cfg, when there is no file of the user's."""
        if self.file is not None:
            return ""
        directory = Path(self.directory())
        if self._my_id is not None:
            _write_my_id(directory, self._my_id)
        lines = {"dataDir": directory, **self._lines}
        return "".join(_line(key, value) for key, value in lines.items())

    def directory(self) -> StrPath:
        """The data directory; made now if it is a temporary one."""
        if self._data_dir is None:
            self._data_dir = tempfile.mkdtemp(prefix="zabkit-")
            self._temporary = weakref.finalize(self, _remove, self._data_dir, os.getpid())
        return self._data_dir

    def keep_port(self, hosts: str) -> None:
        """Makes a restart come back on the port that clients know."""
        self._lines["clientPort"] = int(hosts.rpartition(":")[2])

    def clean_up(self) -> None:
        """Removes the data directory if it is a temporary one."""
        if self._temporary is not None:
            self._temporary()
            self._temporary = self._data_dir = None


class ServerBase:
    """One server's configuration, and how it stands."""

    def __init__(
        self,
        config: StrPath | None = None,
        /,
        *,
        data_dir: StrPath | None = None,
        client_port: int = 0,
        host: str = "127.0.0.1",
        my_id: int | None = None,
        servers: Mapping[int, str] | None = None,
        tick_time_ms: int = 2000,
        init_limit: int = 10,
        sync_limit: int = 5,
        settings: Mapping[str, object] | None = None,
        timeout: float = 30.0,
    ) -> None:
        if config is not None and any(given is not None for given in (data_dir, my_id, servers, settings)):
            raise TypeError("a zoo.cfg has all settings: give the file or keywords, not both")
        if servers and my_id is None:
            raise TypeError("a member of an ensemble needs my_id, its own key in servers")
        lines = {
            "tickTime": tick_time_ms,
            "initLimit": init_limit,
            "syncLimit": sync_limit,
            "clientPortAddress": host,
            "clientPort": client_port,
            **{f"server.{id}": address for id, address in (servers or {}).items()},
            **(settings or {}),
        }
        self._use(ServerSettings(config, lines, data_dir, my_id, timeout))

    @classmethod
    def _with(cls, settings: ServerSettings) -> Self:
        """One that is not started yet, with the settings of another."""
        server = cls.__new__(cls)
        server._use(settings)
        return server

    def _use(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._core: ServerCore | None = None
        self._hosts = ""

    @property
    def hosts(self) -> str:
        """``"host:port"``: what a ZooKeeper client connects to, in a forked child too.

        Raises:
            ClosedError: It was not started.
        """
        self._running()
        return self._hosts

    @property
    def status(self) -> Status:
        """Its status now; of a server that has ended, the last one.

        Raises:
            ClosedError: It was not started.
        """
        return _status(self._running().status())

    def __repr__(self) -> str:
        return "<Server, not started>" if self._core is None else f"<Server at {self.hosts}: {self.status.role}>"

    def _running(self) -> ServerCore:
        if self._core is None:
            raise ClosedError("this server was not started: start it, or use it in `with` or `async with`")
        return self._core

    def _started(self, core: ServerCore) -> None:
        self._core = core
        self._hosts = core.hosts()
        self._settings.keep_port(self._hosts)

    def _start_arguments(self) -> tuple[StrPath | None, str, float]:
        if self._core is not None and _status(self._core.status()).role is not Role.ENDED:
            raise ClosedError("this server runs already")
        settings = self._settings
        return settings.file, settings.text(), settings.timeout


def _line(key: str, value: object) -> str:
    """One line of a zoo.cfg, which is a Java properties file."""
    text = f"{str(value).lower() if isinstance(value, bool) else value}"
    if "\n" in text or "\r" in text:
        raise ValueError(f"{key}: a value is one line")
    return f"{key}={text}\n".replace("\\", "\\\\")


def _write_my_id(directory: Path, my_id: int) -> None:
    """Writes `myid`, where ZooKeeper looks for a server's id; a directory that is another server's is refused."""
    file = directory / "myid"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_text(f"{my_id}\n")
        if (found := file.read_text().strip()) != str(my_id):
            raise StartError(f"{file} says that this is the directory of server {found}, not of {my_id}")
    except OSError as error:
        raise StartError(f"cannot keep my_id in {file}: {error.strerror}") from error


def _remove(path: str, owner: int) -> None:
    if os.getpid() == owner:  # A forked child's exit must not take the parent's files.
        shutil.rmtree(path, ignore_errors=True)
