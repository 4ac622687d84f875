"""The calls of `Client`: coroutines with kazoo's names, each of one request, and a few made of several.

Each awaits the Future that `Nowait` gives. Those of several requests send what does not depend on each other together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Literal, overload

from zabkit._client_nowait import Nowait, Read, ReadResult
from zabkit.errors import NodeExistsError, NoNodeError, NoWatcherError
from zabkit.security import ACL, Id
from zabkit.transaction import Transaction
from zabkit.watching import Watch, WatchCallback

if TYPE_CHECKING:
    from zabkit._zabkit import Stat
    from zabkit.client import Client

__all__ = ["Calls"]

_AT_ONCE = 1000  # Requests that one call keeps in flight: enough to fill a link, little beside the client's bound.


class Calls:
    """What one asks of a znode.

    All of them raise, beside what each names:

    - `ConnectionLossError`: no connection for as long as the session timeout, or the link broke before the reply of a
      write. Then ``outcome_unknown`` is True: the write may have happened; read before writing again. Reads are sent
      again by themselves.
    - `SessionExpiredError`: the servers ended the session before the reply.
    - `AuthFailedError`: they refused the credentials.
    - `ConnectionClosedError`: the client is closed or was not started.
    - `InvalidPathError` and `RequestTooLargeError`, both also `ValueError`, and `QueueFullError`: nothing was sent.
    - `NoAuthError`: the znode's ACL does not let this session do it.

    A call made while there is no connection waits for one. Cancelling a call leaves the client usable; a write that
    was sent may happen nevertheless.
    """

    nowait: Nowait
    """The same calls as plain methods that send at once and return a Future."""
    _chroot: str

    @overload
    async def create(
        self,
        path: str,
        value: bytes = b"",
        acl: Sequence[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        makepath: bool = False,
        include_data: Literal[False] = False,
        *,
        container: bool = False,
        ttl: float | None = None,
    ) -> str: ...
    @overload
    async def create(
        self,
        path: str,
        value: bytes = b"",
        acl: Sequence[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        makepath: bool = False,
        *,
        include_data: Literal[True],
        container: bool = False,
        ttl: float | None = None,
    ) -> tuple[str, Stat]: ...
    @overload
    async def create(
        self,
        path: str,
        value: bytes = b"",
        acl: Sequence[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        makepath: bool = False,
        *,
        include_data: bool,
        container: bool = False,
        ttl: float | None = None,
    ) -> str | tuple[str, Stat]: ...
    async def create(
        self,
        path: str,
        value: bytes = b"",
        acl: Sequence[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        makepath: bool = False,
        include_data: bool = False,
        *,
        container: bool = False,
        ttl: float | None = None,
    ) -> str | tuple[str, Stat]:
        """Create a znode.

        Args:
            path: Absolute path such as ``"/app/config"``, below the client's chroot.
            value: Its data; the whole request may take 1_048_575 bytes (``jute.maxbuffer``).
            acl: Its ACL; None for the client's ``default_acl``.
            ephemeral: It is deleted when the session ends.
            sequence: The server appends a number of ten digits to the name, higher than that of any sibling before.
            makepath: Make missing parents first, with the same ACL.
            include_data: Return the stat too.
            container: It is deleted some time after its last child has gone.
            ttl: It is deleted when it has had no children and no change for so long; in seconds, to the millisecond.

        Returns:
            The path of the znode, below the chroot and with the number if ``sequence``; with ``include_data`` a pair
            of it and the `Stat`.

        Raises:
            NodeExistsError: There is a znode at ``path`` (code -110).
            NoNodeError: It has no parent, and not ``makepath`` (code -101).
            NoChildrenForEphemeralsError: Its parent is ephemeral (code -108).
            InvalidACLError: The ACL is empty or malformed (code -114).
            QuotaExceededError: It would exceed a quota (code -125).
            UnimplementedError: The servers have no TTL or containers (code -6).
            ConnectionLossError: No connection, or the link broke before the reply (code -4). With
                ``outcome_unknown`` it may have happened: look before creating again.
            ValueError: These arguments do not go together.

        Semantics: ZooKeeper ``create``, ``create2``, ``createContainer``, ``createTTL``.
        """

        def send() -> asyncio.Future[str | tuple[str, Stat]]:
            return self.nowait.create(
                path, value, acl, ephemeral, sequence, include_data=include_data, container=container, ttl=ttl
            )

        try:
            return await send()
        except NoNodeError:
            if not makepath:
                raise
        await self.ensure_path(_parent(path), acl)
        return await send()

    async def get(self, path: str, watch: WatchCallback | None = None) -> tuple[bytes, Stat]:
        """Read the data and the stat of a znode.

        Args:
            path: Absolute path, below the client's chroot.
            watch: Called once, with a `WatchedEvent`, when the znode is written or deleted after this read; or when
                the session ends first. It survives reconnects.

        Returns:
            The data, and the `Stat` at the same moment.

        Raises:
            NoNodeError: No znode at ``path`` (code -101); then no watch is left.
            ConnectionLossError: No connection within the session timeout (code -4).

        Semantics: ZooKeeper ``getData``. A server may be behind the leader: call `sync` first to read what has been
        acknowledged to anybody.
        """
        return await self.nowait.get(path, watch)

    async def set(self, path: str, value: bytes, version: int = -1) -> Stat:
        """Replace the data of a znode.

        Args:
            path: Absolute path, below the client's chroot.
            value: New data; the whole request may take 1_048_575 bytes (``jute.maxbuffer``).
            version: Data version the znode must have, or -1 for any.

        Returns:
            The stat after the write; ``mtime`` in milliseconds since 1970 UTC, by the leader's clock.

        Raises:
            NoNodeError: No znode at ``path`` (code -101).
            BadVersionError: Its data version is not ``version`` (code -103).
            QuotaExceededError: It would exceed a quota (code -125).
            ConnectionLossError: No connection, or the link broke before the reply (code -4). With
                ``outcome_unknown`` it may have happened: read before writing again.

        Semantics: ZooKeeper ``setData``.
        """
        return await self.nowait.set(path, value, version)

    async def exists(self, path: str, watch: WatchCallback | None = None) -> Stat | None:
        """Look whether there is a znode.

        Args:
            path: Absolute path, below the client's chroot.
            watch: Called once, with a `WatchedEvent`, when the znode is created, written or deleted after this; or
                when the session ends first. It survives reconnects.

        Returns:
            The `Stat`, or None if there is no znode.

        Raises:
            ConnectionLossError: No connection within the session timeout (code -4).

        Semantics: ZooKeeper ``exists``.
        """
        return await self.nowait.exists(path, watch)

    @overload
    async def get_children(
        self, path: str, watch: WatchCallback | None = None, include_data: Literal[False] = False
    ) -> list[str]: ...
    @overload
    async def get_children(
        self, path: str, watch: WatchCallback | None = None, *, include_data: Literal[True]
    ) -> tuple[list[str], Stat]: ...
    @overload
    async def get_children(
        self, path: str, watch: WatchCallback | None = None, *, include_data: bool
    ) -> list[str] | tuple[list[str], Stat]: ...
    async def get_children(
        self, path: str, watch: WatchCallback | None = None, include_data: bool = False
    ) -> list[str] | tuple[list[str], Stat]:
        """List the children of a znode.

        Args:
            path: Absolute path, below the client's chroot.
            watch: Called once, with a `WatchedEvent`, when a child is created or deleted or the znode is deleted
                after this; or when the session ends first. It survives reconnects.
            include_data: Return the stat of the znode too.

        Returns:
            The names of the children, without the path, in no order; with ``include_data`` a pair of them and the
            `Stat`.

        Raises:
            NoNodeError: No znode at ``path`` (code -101); then no watch is left.
            ConnectionLossError: No connection within the session timeout (code -4).

        Semantics: ZooKeeper ``getChildren``, ``getChildren2``.
        """
        return await self.nowait.get_children(path, watch, include_data=include_data)

    async def delete(self, path: str, version: int = -1, recursive: bool = False) -> None:
        """Delete a znode.

        Args:
            path: Absolute path, below the client's chroot.
            version: Data version it must have, or -1 for any.
            recursive: Delete what is below it first. This is many requests: others may see a part of it done, and
                what vanishes meanwhile is no error.

        Raises:
            NoNodeError: No znode at ``path``, and not ``recursive`` (code -101).
            BadVersionError: Its data version is not ``version`` (code -103).
            NotEmptyError: It has children; with ``recursive`` somebody created one meanwhile (code -111).
            ConnectionLossError: No connection, or the link broke before the reply (code -4). With
                ``outcome_unknown`` it may have happened.

        Semantics: ZooKeeper ``delete``.
        """
        if not recursive:
            return await self.nowait.delete(path, version)
        below = level = [path]
        while level := await self._children_of(level):
            below = below + level
        for part in _parts(below[::-1]):  # The deepest first.
            await _all((self.nowait.delete(each, version if each == path else -1) for each in part), NoNodeError)
        return None

    async def ensure_path(self, path: str, acl: Sequence[ACL] | None = None) -> None:
        """Make a znode and its parents, as far as they are missing; the chroot itself too.

        Args:
            path: Absolute path, below the client's chroot; ``"/"`` for the chroot alone.
            acl: ACL of those made; None for the client's ``default_acl``.

        Raises:
            NoAuthError: The ACL of the last existing parent does not let this session create children (code -102).
            NoChildrenForEphemeralsError: A parent is ephemeral (code -108).
            ConnectionLossError: No connection, or the link broke before the reply (code -4). With
                ``outcome_unknown`` a part may have happened; calling again does no harm.

        Semantics: kazoo's ``ensure_path``: ZooKeeper ``exists``, then ``create`` of what is missing, with no data.
        """
        steps = _steps(path)
        if self._chroot and await self.nowait.exists("/") is None:
            async with self._without_chroot() as outside:
                await outside.ensure_path(self._chroot, acl)
        found = await asyncio.gather(*(self.nowait.exists(step) for step in steps))
        missing = steps[max((depth for depth, stat in enumerate(found, 1) if stat is not None), default=0) :]
        await _all((self.nowait.create(step, b"", acl) for step in missing), NodeExistsError)

    async def get_acls(self, path: str) -> tuple[list[ACL], Stat]:
        """Read the ACL of a znode.

        Args:
            path: Absolute path, below the client's chroot.

        Returns:
            Its entries, and the `Stat`; hashes of digest entries are masked for whoever may not change the ACL.

        Raises:
            NoNodeError: No znode at ``path`` (code -101).
            ConnectionLossError: No connection within the session timeout (code -4).

        Semantics: ZooKeeper ``getACL``.
        """
        return await self.nowait.get_acls(path)

    async def set_acls(self, path: str, acls: Sequence[ACL], version: int = -1) -> Stat:
        """Replace the ACL of a znode.

        Args:
            path: Absolute path, below the client's chroot.
            acls: The new entries.
            version: *ACL* version the znode must have (``Stat.aversion``), or -1 for any.

        Returns:
            The stat after the write.

        Raises:
            NoNodeError: No znode at ``path`` (code -101).
            BadVersionError: Its ACL version is not ``version`` (code -103).
            InvalidACLError: The list is empty or malformed (code -114).
            ConnectionLossError: No connection, or the link broke before the reply (code -4). With
                ``outcome_unknown`` it may have happened.

        Semantics: ZooKeeper ``setACL``.
        """
        return await self.nowait.set_acls(path, acls, version)

    async def add_auth(self, scheme: str, credential: str | bytes) -> None:
        """Prove an identity, for this session and after every reconnect.

        Args:
            scheme: Such as ``"digest"``.
            credential: Such as ``"user:password"``, in clear; text goes as UTF-8.

        Raises:
            AuthFailedError: The servers refuse it; the client is done then (code -115).
            ConnectionLossError: No connection within the session timeout (code -4).

        Semantics: ZooKeeper ``addAuthInfo``.
        """
        await self.nowait.add_auth(scheme, credential)

    def transaction(self) -> Transaction:
        """Begin a transaction: writes that happen together or not at all.

        Returns:
            A `Transaction`, for ``async with`` or to be sent by its ``commit``; it need not be used.

        Semantics: ZooKeeper ``multi``.
        """
        return Transaction(self.nowait)

    async def sync(self, path: str = "/") -> str:
        """Wait until this client's server has caught up with the leader.

        A read after this sees every write that was acknowledged to anybody before this was called.

        Args:
            path: Any path; ZooKeeper asks for one and does not look at it.

        Returns:
            The path.

        Raises:
            ConnectionLossError: No connection within the session timeout (code -4).

        Semantics: ZooKeeper ``sync``; with zabkit's servers the leader first asks a quorum whether it still leads.
        """
        return await self.nowait.sync(path)

    async def multi_read(self, reads: Sequence[Read]) -> list[ReadResult]:
        """Read several znodes in one request, all at the same moment.

        Args:
            reads: Pairs such as ``("get", "/a")`` and ``("get_children", "/b")``.

        Returns:
            For each its result, ``(data, Stat)`` or a list of names, or an exception object, such as a `NoNodeError`:
            one that fails does not disturb the others.

        Raises:
            ConnectionLossError: No connection within the session timeout (code -4).

        Semantics: ZooKeeper ``multiRead`` (3.6).
        """
        return await self.nowait.multi_read(reads)

    async def get_ephemerals(self, path: str = "/") -> list[str]:
        """List this session's ephemeral znodes.

        Args:
            path: Only those whose path begins so.

        Returns:
            Their paths, below the client's chroot.

        Raises:
            ConnectionLossError: No connection within the session timeout (code -4).

        Semantics: ZooKeeper ``getEphemerals`` (3.6).
        """
        return await self.nowait.get_ephemerals(path)

    async def get_all_children_number(self, path: str) -> int:
        """Count what is below a znode, at any depth.

        Args:
            path: Absolute path, below the client's chroot.

        Returns:
            How many znodes there are below it.

        Raises:
            NoNodeError: No znode at ``path`` (code -101).
            ConnectionLossError: No connection within the session timeout (code -4).

        Semantics: ZooKeeper ``getAllChildrenNumber`` (3.6).
        """
        return await self.nowait.get_all_children_number(path)

    async def who_am_i(self) -> list[Id]:
        """List the identities that this session has proven.

        Returns:
            Such as ``[Id("ip", "127.0.0.1"), Id("digest", "user")]``.

        Raises:
            ConnectionLossError: No connection within the session timeout (code -4).

        Semantics: ZooKeeper ``whoAmI`` (3.7).
        """
        return await self.nowait.who_am_i()

    def watch(self, path: str, *, recursive: bool = False, limit: int = 1000) -> Watch:
        """Watch a znode for as long as a block runs: ``async with client.watch(path) as events: async for ...``.

        The watch stays set after its events and after reconnects. Where events may be missing, because the link was
        lost or because more than ``limit`` wait to be read, there is one `EventType.RESYNC` instead of silence: read
        what you watch anew then.

        Args:
            path: Absolute path, below the client's chroot; the znode need not exist.
            recursive: Tell of everything below it too. Then there are no ``CHILD`` events, since each child's own
                ``CREATED`` and ``DELETED`` says more.
            limit: How many events may wait to be read.

        Returns:
            A `Watch`, whose iteration raises `SessionExpiredError` or `ConnectionClosedError` when it can go on no
            more.

        Semantics: ZooKeeper ``addWatch`` (3.6), ``PERSISTENT`` or ``PERSISTENT_RECURSIVE``.
        """
        if limit < 1:
            raise ValueError(f"at least one event must be able to wait, not {limit}")
        nowait = self.nowait

        def forget(callback: WatchCallback) -> None:
            for id in nowait._watches.on_path(path, callback):
                nowait._watches.forget(id, nowait._core)

        return Watch(path, limit, lambda callback: nowait.add_watch(path, callback, recursive), forget)

    async def add_watch(self, path: str, watch: WatchCallback, recursive: bool = False) -> None:
        """Call a function at every event of a znode, until `remove_watches` or the end of the session.

        Args:
            path: Absolute path, below the client's chroot; the znode need not exist.
            watch: Called with a `WatchedEvent` each time, on the event loop; with `EventType.RESYNC` after a
                reconnect, when events may be missing, and with `EventType.NONE` when the session ends.
            recursive: Tell of everything below it too, without ``CHILD`` events.

        Raises:
            ConnectionLossError: No connection within the session timeout, or the link broke before the reply
                (code -4); then no watch is left.

        Semantics: ZooKeeper ``addWatch`` (3.6).
        """
        await self.nowait.add_watch(path, watch, recursive)

    async def remove_watches(self, path: str, watch: WatchCallback | None = None) -> None:
        """Drop this client's watch callbacks on a znode; at return none of them is called any more.

        Args:
            path: The path they were set on.
            watch: Drop this function only; None for all.

        Raises:
            NoWatcherError: There is none (code -121).

        Semantics: ZooKeeper ``removeWatches``; the servers are told when nothing is left on ``path``.
        """
        ids = self.nowait._watches.on_path(path, watch)
        if not ids:
            raise NoWatcherError(f"no such watch at {path!r} (NoWatcher, -121)", path=path)
        for id in ids:
            self.nowait._watches.forget(id, self.nowait._core)

    async def reconfig(
        self,
        joining: str | None = None,
        leaving: str | None = None,
        new_members: str | None = None,
        from_config: int = -1,
    ) -> tuple[bytes, Stat]:
        """Change the members of the ensemble.

        Args:
            joining: Servers to add or change: ``"server.4=host:2888:3888;2181"``, several with commas.
            leaving: Ids of servers to remove, such as ``"3,4"``.
            new_members: The whole new configuration, instead of the two before.
            from_config: Version the configuration must have, or -1 for any.

        Returns:
            The text of the new configuration, and the `Stat` of its znode.

        Raises:
            ReconfigDisabledError: It is switched off (code -123).
            ReconfigInProcessError: Another one is in progress (code -14).
            NewConfigNoQuorumError: No quorum of the new members is up to date (code -13).
            BadVersionError: The configuration's version is not ``from_config`` (code -103).
            BadArgumentsError: The arguments make no configuration (code -8).
            ConnectionLossError: No connection, or the link broke before the reply (code -4). With
                ``outcome_unknown`` it may have happened.

        Semantics: ZooKeeper ``reconfig``.
        """
        return await self.nowait.reconfig(joining, leaving, new_members, from_config)

    async def get_config(self) -> tuple[bytes, Stat]:
        """Read the configuration of the ensemble, wherever the client's chroot is.

        Returns:
            Its text, and the `Stat` of its znode.

        Raises:
            NoNodeError: The server has none (code -101).
            ConnectionLossError: No connection within the session timeout (code -4).

        Semantics: ZooKeeper ``getConfig``, a read of ``/zookeeper/config``.
        """
        if not self._chroot:
            return await self.nowait.get("/zookeeper/config")
        async with self._without_chroot() as outside:
            return await outside.get("/zookeeper/config")

    def _without_chroot(self) -> AbstractAsyncContextManager[Client]:
        """A client of the whole tree, with a session of its own."""
        raise NotImplementedError

    async def _children_of(self, paths: list[str]) -> list[str]:
        """The paths of all children of these znodes, as far as they are there."""
        children: list[str] = []
        for part in _parts(paths):
            found = await _all((self.nowait.get_children(path) for path in part), NoNodeError)
            for path, names in zip(part, found, strict=True):
                children += [f"{path.rstrip('/')}/{name}" for name in names or ()]
        return children


async def _all(calls: Iterable[asyncio.Future[Any]], ignored: type[Exception]) -> list[Any]:
    """The results in order, None for what failed with `ignored`; raises what else failed, once all are done."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, ignored):
            raise result
    return [None if isinstance(result, ignored) else result for result in results]


def _parts(paths: list[str]) -> list[list[str]]:
    return [paths[begin : begin + _AT_ONCE] for begin in range(0, len(paths), _AT_ONCE)]


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _steps(path: str) -> list[str]:
    """The path and its parents, the shortest first, without the root."""
    names = path.strip("/").split("/") if path != "/" else []
    return ["/" + "/".join(names[:depth]) for depth in range(1, len(names) + 1)]
