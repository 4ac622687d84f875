"""`Client.nowait`: each call becomes one request at once and gives a bare Future; `Client`'s coroutines await these."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, cast, overload

from zabkit._client_args import create_flags
from zabkit._zabkit import ClientCore, Stat
from zabkit.errors import ConnectionClosedError, ZooKeeperError
from zabkit.security import ACL, Id, _from_wire, _wire
from zabkit.transaction import Transaction
from zabkit.watching import WatchCallback, WatchTable

if TYPE_CHECKING:
    from typing import TypeAlias

__all__ = ["Nowait", "Read", "ReadResult"]

Read: TypeAlias = "tuple[Literal['get', 'get_children'], str]"
ReadResult: TypeAlias = "tuple[bytes, Stat] | list[str] | ZooKeeperError"

_A = TypeVar("_A")
_B = TypeVar("_B")

_READ_OPS = {"get": 4, "get_children": 8}


class Nowait:
    """The client's calls, sent at once: each returns an `asyncio.Future` and makes no Task.

    Requests go to the server in the order of the calls, all that are made in one turn of the loop together. Arguments,
    results and errors are those of the coroutine of the same name in `Client`, which awaits the Future of this one.
    What can be known without a server (a malformed path, a request too large, a closed client) is raised at once.
    Cancelling a Future drops its reply; a write that was sent happens nevertheless.
    """

    def __init__(self, default_acl: Sequence[ACL] | None) -> None:
        self._core = _not_started()
        self._watches = WatchTable()
        self._default_acl = _wire(default_acl)

    @overload
    def create(
        self,
        path: str,
        value: bytes = b"",
        acl: Sequence[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        *,
        include_data: Literal[False] = False,
        container: bool = False,
        ttl: float | None = None,
    ) -> asyncio.Future[str]: ...
    @overload
    def create(
        self,
        path: str,
        value: bytes = b"",
        acl: Sequence[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        *,
        include_data: Literal[True],
        container: bool = False,
        ttl: float | None = None,
    ) -> asyncio.Future[tuple[str, Stat]]: ...
    @overload
    def create(
        self,
        path: str,
        value: bytes = b"",
        acl: Sequence[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        *,
        include_data: bool,
        container: bool = False,
        ttl: float | None = None,
    ) -> asyncio.Future[str | tuple[str, Stat]]: ...
    def create(
        self,
        path: str,
        value: bytes = b"",
        acl: Sequence[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        *,
        include_data: bool = False,
        container: bool = False,
        ttl: float | None = None,
    ) -> asyncio.Future[Any]:
        """Send `Client.create`; parents are not made."""
        flags, ttl_ms = create_flags(ephemeral, sequence, container, ttl)
        entries = self._default_acl if acl is None else _wire(acl)
        return self._core.create(path, value, entries, flags, ttl_ms, include_data)

    def get(self, path: str, watch: WatchCallback | None = None) -> asyncio.Future[tuple[bytes, Stat]]:
        """Send `Client.get`."""
        if watch is None:
            return self._core.get(path, None)
        return self._watching("data", path, watch, self._core.get)

    def set(self, path: str, value: bytes, version: int = -1) -> asyncio.Future[Stat]:
        """Send `Client.set`."""
        return self._core.set(path, value, version)

    def exists(self, path: str, watch: WatchCallback | None = None) -> asyncio.Future[Stat | None]:
        """Send `Client.exists`."""
        if watch is None:
            return self._core.exists(path, None)
        return self._watching("data", path, watch, self._core.exists)

    @overload
    def get_children(
        self, path: str, watch: WatchCallback | None = None, include_data: Literal[False] = False
    ) -> asyncio.Future[list[str]]: ...
    @overload
    def get_children(
        self, path: str, watch: WatchCallback | None = None, *, include_data: Literal[True]
    ) -> asyncio.Future[tuple[list[str], Stat]]: ...
    @overload
    def get_children(
        self, path: str, watch: WatchCallback | None = None, *, include_data: bool
    ) -> asyncio.Future[list[str] | tuple[list[str], Stat]]: ...
    def get_children(
        self, path: str, watch: WatchCallback | None = None, include_data: bool = False
    ) -> asyncio.Future[Any]:
        """Send `Client.get_children`."""
        if watch is None:
            return self._core.get_children(path, None, include_data)
        core = self._core
        return self._watching("children", path, watch, lambda path, id: core.get_children(path, id, include_data))

    def delete(self, path: str, version: int = -1) -> asyncio.Future[None]:
        """Send `Client.delete`, for one znode."""
        return self._core.delete(path, version)

    def get_acls(self, path: str) -> asyncio.Future[tuple[list[ACL], Stat]]:
        """Send `Client.get_acls`."""
        return _then(self._core.get_acls(path), lambda found: (_from_wire(found[0]), found[1]))

    def set_acls(self, path: str, acls: Sequence[ACL], version: int = -1) -> asyncio.Future[Stat]:
        """Send `Client.set_acls`."""
        return self._core.set_acls(path, _wire(acls) or [], version)

    def add_auth(self, scheme: str, credential: str | bytes) -> asyncio.Future[None]:
        """Send `Client.add_auth`."""
        return self._core.add_auth(scheme, credential.encode() if isinstance(credential, str) else credential)

    def sync(self, path: str = "/") -> asyncio.Future[str]:
        """Send `Client.sync`: a read that is sent after it, in the same client, is fresh without awaiting this."""
        return self._core.sync(path)

    def commit(self, transaction: Transaction) -> asyncio.Future[list[Any]]:
        """Send the operations of a `Transaction`; as `Transaction.commit`."""
        return _then(self._core.multi(transaction._take()), transaction._finish)

    def multi_read(self, reads: Sequence[Read]) -> asyncio.Future[list[ReadResult]]:
        """Send `Client.multi_read`."""
        return self._core.multi_read([(_READ_OPS[what], path) for what, path in reads])

    def get_ephemerals(self, path: str = "/") -> asyncio.Future[list[str]]:
        """Send `Client.get_ephemerals`."""
        return self._core.ephemerals(path)

    def get_all_children_number(self, path: str) -> asyncio.Future[int]:
        """Send `Client.get_all_children_number`."""
        return self._core.children_number(path)

    def who_am_i(self) -> asyncio.Future[list[Id]]:
        """Send `Client.who_am_i`."""
        return _then(self._core.who_am_i(), lambda found: [Id(scheme, id) for scheme, id in found])

    def add_watch(self, path: str, watch: WatchCallback, recursive: bool = False) -> asyncio.Future[None]:
        """Send `Client.add_watch`."""
        core, kind = self._core, "recursive" if recursive else "persistent"
        return self._watching(kind, path, watch, lambda path, id: core.add_watch(path, recursive, id), persistent=True)

    def reconfig(
        self,
        joining: str | None = None,
        leaving: str | None = None,
        new_members: str | None = None,
        from_config: int = -1,
    ) -> asyncio.Future[tuple[bytes, Stat]]:
        """Send `Client.reconfig`."""
        return self._core.reconfig(joining, leaving, new_members, from_config)

    def _watching(
        self,
        kind: str,
        path: str,
        watch: WatchCallback,
        send: Callable[[str, int], asyncio.Future[_A]],
        *,
        persistent: bool = False,
    ) -> asyncio.Future[_A]:
        """Sends a request that registers a watch."""
        table, core = self._watches, self._core
        id = table.id_for(kind, path, watch, persistent=persistent)
        try:
            call = send(path, id)
        except BaseException:
            table.withdraw(id)
            raise
        table.settle(id, call, core)
        return call


def _then(call: asyncio.Future[_A], convert: Callable[[_A], _B]) -> asyncio.Future[_B]:
    """A Future of what `convert` makes of the result of `call`."""
    result: asyncio.Future[_B] = call.get_loop().create_future()

    def done(call: asyncio.Future[_A]) -> None:
        if result.done():
            if not call.cancelled():
                call.exception()  # Looked at: nobody waits for it any more.
        elif call.cancelled():
            result.cancel()
        elif (error := call.exception()) is not None:
            result.set_exception(error)
        else:
            result.set_result(convert(call.result()))

    call.add_done_callback(done)
    return result


class _NotStarted:
    """Stands where the compiled half will be; every use of it says what is missing."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ConnectionClosedError("this client was not started: use `async with`, or `await client.start()`")


def _not_started() -> ClientCore:
    return cast("ClientCore", _NotStarted())
