"""`Transaction`: several writes that happen together or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from zabkit._client_args import create_flags
from zabkit.errors import RolledBackError, RuntimeInconsistencyError, ZooKeeperError
from zabkit.security import ACL, _wire

if TYPE_CHECKING:
    from typing_extensions import Self

    from zabkit._client_nowait import Nowait

__all__ = ["Transaction"]

_CREATE, _DELETE, _SET, _CHECK, _CREATE2 = 1, 2, 5, 13, 15


class Transaction:
    """Writes that are collected and then sent as one; made by `Client.transaction`.

    In ``async with``, leaving the block sends them and raises the error of the part that failed, if one did; with
    `commit` the caller looks at the results, as in kazoo. An exception in the block sends nothing.
    """

    def __init__(self, nowait: Nowait) -> None:
        self._nowait = nowait
        self._operations: list[tuple[Any, ...]] = []
        self._sent = False
        self.results: list[Any] = []
        """What `commit` returned."""

    def create(
        self,
        path: str,
        value: bytes = b"",
        acl: Sequence[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        include_data: bool = False,
        container: bool = False,
        ttl: float | None = None,
    ) -> None:
        """Add the creation of a znode.

        Args:
            path: Absolute path, below the client's chroot.
            value: Its data.
            acl: Its ACL; None for the client's default.
            ephemeral: It goes with the session.
            sequence: The server appends a number of ten digits to the name.
            include_data: The result is ``(path, Stat)`` and not the path alone; Apache's servers before 3.8.2 give the
                path alone all the same.
            container: It is deleted some time after its last child has gone.
            ttl: It is deleted when it has had no children and no change for so long, in seconds.

        Raises:
            ValueError: These do not go together.
        """
        flags, ttl_ms = create_flags(ephemeral, sequence, container, ttl)
        entries = self._nowait._default_acl if acl is None else _wire(acl)
        self._add(_CREATE2 if include_data else _CREATE, path, value, entries, flags, ttl_ms)

    def delete(self, path: str, version: int = -1) -> None:
        """Add the deletion of a znode.

        Args:
            path: Absolute path, below the client's chroot.
            version: Data version it must have, or -1 for any.
        """
        self._add(_DELETE, path, version)

    def set_data(self, path: str, value: bytes, version: int = -1) -> None:
        """Add a write.

        Args:
            path: Absolute path, below the client's chroot.
            value: New data.
            version: Data version the znode must have, or -1 for any.
        """
        self._add(_SET, path, value, version)

    def check(self, path: str, version: int) -> None:
        """Add a condition: the znode is there and has this version.

        Args:
            path: Absolute path, below the client's chroot.
            version: Its data version, or -1 for any.
        """
        self._add(_CHECK, path, version)

    async def commit(self) -> list[Any]:
        """Send the operations as one.

        Returns:
            One result for each operation, in their order: the path (or ``(path, Stat)``) of a `create`, True of a
            `delete` or a `check`, the `Stat` of a `set_data`. When a part failed nothing has happened, and there is an
            exception *object* for each, as in kazoo: `RolledBackError` for those before the one that failed, its
            own error, and `RuntimeInconsistencyError` for those after it.

        Raises:
            ConnectionLossError: The link broke before the reply; with ``outcome_unknown`` it may have happened.
            SessionExpiredError: The session ended before the reply.
            ConnectionClosedError: The client is closed.
            ValueError: This transaction was committed before.

        Semantics: ZooKeeper ``multi``.
        """
        return await self._nowait.commit(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._sent:
            for result in await self.commit():
                if isinstance(result, ZooKeeperError) and not isinstance(
                    result, (RolledBackError, RuntimeInconsistencyError)
                ):
                    raise result

    def __repr__(self) -> str:
        state = "committed" if self._sent else "not committed"
        return f"<Transaction of {len(self._operations)} operations, {state}>"

    def _add(self, *operation: Any) -> None:
        if self._sent:
            raise ValueError("this transaction has been committed: begin a new one")
        self._operations.append(operation)

    def _take(self) -> list[tuple[Any, ...]]:
        """The operations, for the one time that they are sent."""
        if self._sent:
            raise ValueError("this transaction has been committed: begin a new one")
        self._sent = True
        return self._operations

    def _finish(self, results: list[Any]) -> list[Any]:
        self.results = [True if result is None else result for result in results]
        return self.results
