"""`Client`: one ZooKeeper session for asyncio; here its life and its states, its calls in `zabkit._client_calls`.

Under it is Rust's `ClientCore`, woken by the caller's own event loop: there is no thread and no Task of the client's
(but for looking up names of servers while there is no connection). What is easy to get wrong: the loop keeps the core
alive, so the core must not keep the client, or a forgotten client would never be noticed and its session never end.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import warnings
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from zabkit import _client_hosts as _hosts
from zabkit._client_calls import Calls
from zabkit._client_nowait import Nowait
from zabkit._zabkit import ClientCore
from zabkit.errors import AuthFailedError, ConnectionClosedError, OperationTimeoutError, ZooKeeperError
from zabkit.events import State
from zabkit.security import ACL

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Client", "Listener"]

Listener: TypeAlias = "Callable[[State], object]"

_CONNECTED = (State.CONNECTED, State.CONNECTED_RO)
_FINAL = (State.AUTH_FAILED, State.CLOSED)
_RESOLVE_AGAIN_S = 1.0
_STOP_CANCELLED_S = 1.0


class Client(Calls):
    """A session with a ZooKeeper service, zabkit's or Apache's, for asyncio.

    ``async with Client("host1:2181,host2:2181/app") as zk:`` connects, and ends the session when the block does. The
    client reconnects by itself, to any of the hosts, and keeps its session and watches; calls made meanwhile wait. If
    the servers end the session, what was asked of it fails with `SessionExpiredError` and a new session is opened.

    A client belongs to the event loop that it was started on. It cannot be pickled, nor used in a forked child.

    Args:
        hosts: ``"host:port,host:port/chroot"`` or a list with one server each; IPv6 addresses in brackets, port 2181 if
            there is none. With a chroot all paths are below it; `ensure_path` makes it if it is missing. A name stands
            for all its addresses, looked up again while there is no connection.
        timeout: Wanted session timeout in seconds; the servers decide (`session_timeout`).
        client_id: `client_id` of another client, to take over its session.
        default_acl: ACL of the znodes that this client makes; None lets everybody do everything.
        auth_data: Pairs ``(scheme, credential)``, as for `add_auth`.
        read_only: Whether a server without a quorum will do, for reads that may show the past.
        randomize_hosts: Try the hosts in random order, so that clients spread over the servers.

    Raises:
        ValueError: ``hosts`` or ``timeout`` is malformed.
        TypeError: One of them is not text, or no number.
    """

    _fallback = False  # Tests set it: an asyncio Protocol even where the loop has `add_reader`.

    def __init__(
        self,
        hosts: str | Sequence[str] = "127.0.0.1:2181",
        *,
        timeout: float = 10.0,
        client_id: tuple[int, bytes] | None = None,
        default_acl: Sequence[ACL] | None = None,
        auth_data: Sequence[tuple[str, str | bytes]] = (),
        read_only: bool = False,
        randomize_hosts: bool = True,
    ) -> None:
        self._core: ClientCore | None = None
        self._servers, self._chroot = _hosts.parse(hosts)
        self._timeout_ms = _session_timeout_ms(timeout)
        self._client_id = client_id
        self._auth_data = [(scheme, _as_bytes(credential)) for scheme, credential in auth_data]
        self._default_acl = default_acl
        self._read_only = read_only
        self._randomize_hosts = randomize_hosts
        self.nowait = Nowait(default_acl)
        self._state = State.CLOSED
        self._was_suspended = False
        self._failure = ""  # Why no name could be looked up.
        self._addresses: list[_hosts.Address] = []
        self._listeners: list[Listener] = []
        self._waiters: list[tuple[frozenset[State], asyncio.Future[State]]] = []
        self._resolving: asyncio.Task[None] | None = None
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None  # That of the core.
        self._run = 0

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self, timeout: float = 15.0) -> None:
        """Connect, and return when a session is open and all credentials have been accepted.

        A client that runs already only waits until it is connected; one that was stopped opens a new session.

        Args:
            timeout: In seconds; this is about the connection, the session timeout is the constructor's.

        Raises:
            OperationTimeoutError: No server gave a session in time; also a `TimeoutError`. The client is closed.
            AuthFailedError: The servers refused the credentials; the client is closed.
            RuntimeError: It runs on another event loop.
        """
        if not isinstance(timeout, (int, float)):
            raise TypeError(f"the timeout is a number of seconds, not {timeout!r}")
        self._check_loop()
        is_new = self._core is None or self._state in _FINAL
        try:
            await asyncio.wait_for(self._connect(), timeout)
        except asyncio.TimeoutError:
            why = self._failure or (self._core and self._core.last_failure) or ""
            if is_new:
                self._abort()
            raise OperationTimeoutError(
                f"no session with {self._where()} within {timeout} s{why and f': {why}'}"
            ) from None
        except BaseException:
            if is_new:
                self._abort()
            raise

    async def stop(self) -> None:
        """End the session: its ephemeral znodes are gone when this returns, if there was a connection.

        Waits for a server for at most 5 s and for calls that are in flight; those that were not sent fail with
        `ConnectionClosedError`. A second time is nothing. If the client's event loop is closed, so is the client: its
        session ends by its timeout.

        Raises:
            RuntimeError: It runs on another event loop.
        """
        self._check_loop()
        self._stop_resolving()
        if (core := self._core) is not None:
            if self._state not in _FINAL:
                await core.close()
            self._on_state(State.CLOSED)

    async def close(self) -> None:
        """As `stop`."""
        await self.stop()

    async def aclose(self) -> None:
        """As `stop`; for `contextlib.aclosing`."""
        await self.stop()

    async def __aenter__(self) -> Self:
        """`start`."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """`stop`; a block that was cancelled waits for a second at most, and the session may end by its timeout."""
        if kind is None or not issubclass(kind, (asyncio.CancelledError, KeyboardInterrupt)):
            return await self.stop()
        try:
            await asyncio.wait_for(self.stop(), _STOP_CANCELLED_S)
        except asyncio.TimeoutError:
            self._abort()

    def __del__(self) -> None:
        if self._core is None or self._state in _FINAL or sys.is_finalizing() or self._pid != os.getpid():
            return  # A forked child's copy of the socket is closed by the core itself.
        text = f"{self!r} was dropped without `stop()`: its session ends only by its timeout"
        warnings.warn(text, ResourceWarning, 2, source=self)
        self._core.abort()

    # --- how it stands ------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """How it stands, as the listeners were told last."""
        return self._state

    @property
    def connected(self) -> bool:
        """Whether a session is open and linked to a server now."""
        return self._state in _CONNECTED

    @property
    def client_id(self) -> tuple[int, bytes] | None:
        """Id and password of the session, for another client's ``client_id``; None before the first connection."""
        return self._client_id if self._core is None else self._core.client_id

    @property
    def session_timeout(self) -> float:
        """The session timeout that the servers granted, in seconds; before the first connection the wanted one."""
        return (self._timeout_ms if self._core is None else self._core.timeout_ms) / 1000

    @property
    def chroot(self) -> str:
        """What stands before every path on the servers, such as ``"/app"``; ``""`` if nothing does."""
        return self._chroot

    @property
    def server(self) -> str | None:
        """``"address:port"`` of the server that it is linked to now, or None."""
        address = None if self._core is None else self._core.server
        return None if address is None else _hosts.join(address)

    @property
    def last_zxid(self) -> int:
        """The newest transaction that this session has seen; no read of it will show an older state."""
        return 0 if self._core is None else self._core.last_zxid

    def add_listener(self, listener: Listener) -> None:
        """Call a function at every change of `state`.

        Args:
            listener: Called with the new `State` on the event loop, in the order of the changes; it may use the client,
                but not block. If it returns True it is removed.
        """
        if not callable(listener):
            raise TypeError(f"a listener is a function of one State, not {listener!r}")
        if asyncio.iscoroutinefunction(listener):
            raise TypeError("a listener is a plain function; a coroutine may await wait_for_state() instead")
        self._listeners.append(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Call it no more; nothing if it was not added.

        Args:
            listener: What `add_listener` was given.
        """
        if listener in self._listeners:
            self._listeners.remove(listener)

    async def wait_for_state(self, *states: State) -> State:
        """Return when the client is in one of these states, now or after a change.

        Args:
            *states: What to wait for; `State.CONNECTED` if nothing is given.

        Returns:
            The state, as it was at that moment.

        Raises:
            ConnectionClosedError: The client is closed, or gets closed, and that was not waited for.
            AuthFailedError: The servers refused the credentials, and that was not waited for.
        """
        wanted = frozenset(State(state) for state in states or (State.CONNECTED,))
        if self._state in wanted:
            return self._state
        if self._state in _FINAL:
            raise self._final_error(self._state)
        waiter: asyncio.Future[State] = asyncio.get_running_loop().create_future()
        self._waiters.append((wanted, waiter))
        return await waiter

    def set_hosts(self, hosts: str | Sequence[str]) -> None:
        """Use other servers from the next reconnect on; a link that is open stays.

        Args:
            hosts: As for the constructor, with the same chroot or none.

        Raises:
            ValueError: ``hosts`` is malformed, or has another chroot.
        """
        servers, chroot = _hosts.parse(hosts)
        if chroot not in ("", self._chroot):
            raise ValueError(f"a client cannot change its chroot from {self._chroot!r} to {chroot!r}")
        self._servers = servers
        if self._core is not None and self._state not in _FINAL:
            self._stop_resolving()
            if _hosts.are_numeric(servers):
                self._use(servers)
            else:
                self._resolve()

    def __repr__(self) -> str:
        session = self.client_id
        return f"<zabkit.Client {self._where()} {self._state}{f' session={session[0]:#x}' if session else ''}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Client is a live connection and cannot be pickled or copied: pass its hosts, and make another"
        )

    # --- what happens -------------------------------------------------------------------------------------------------

    def _check_loop(self) -> None:
        """A core lives and dies with its loop."""
        if self._core is None or self._state in _FINAL or self._pid != os.getpid():
            return  # In a forked child the core itself refuses.
        if self._loop is asyncio.get_running_loop():
            return
        assert self._loop is not None, "a core has a loop"
        if not self._loop.is_closed():
            raise RuntimeError(f"{self!r} runs on another event loop: each loop needs a client of its own")
        self._abort()

    async def _connect(self) -> None:
        if self._core is None or self._state in _FINAL:
            addresses = await self._first_addresses()
            if self._core is None or self._state in _FINAL:  # Nobody else has started it meanwhile.
                self._begin(addresses)
        await self.wait_for_state(*_CONNECTED)

    def _begin(self, addresses: list[_hosts.Address]) -> None:
        session, self._client_id = self._client_id, None
        # What a core of before still has to tell is not about this one.
        client, self._run = weakref.ref(self), self._run + 1
        run = self._run

        def on_event(kind: str, *details: Any) -> None:
            living = client()
            if living is not None and living._run == run:
                living._on_event(kind, *details)

        self._loop = asyncio.get_running_loop()
        core = ClientCore(
            self._loop,
            addresses,
            self._chroot,
            self._timeout_ms,
            self._read_only,
            session,
            self._auth_data,
            random.randrange(1, 2**64) if self._randomize_hosts else 0,  # 0: in their own order.
            on_event,
            self._fallback,
        )
        self._core = self.nowait._core = core
        self._addresses, self._pid = addresses, os.getpid()
        self._on_state(State.CONNECTING)
        core.start()

    def _on_event(self, kind: str, *details: Any) -> None:
        """Something that the core tells; always on the loop's thread."""
        watches = self.nowait._watches
        if kind == "watch":
            ids, type, _, path, zxid = details
            watches.fire(ids, type, path, zxid)
        elif kind == "watches_lost":
            watches.end(details[0], self._state)
        elif kind == "state":
            self._on_state(State(details[0]))

    def _on_state(self, state: State) -> None:
        if state is self._state:
            return
        self._state = state
        for listener in tuple(self._listeners):
            try:
                if listener(state) is True:
                    self.remove_listener(listener)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": f"a listener failed on {state}", "exception": error}
                )
        if state in _CONNECTED and self._was_suspended:
            self.nowait._watches.resync()
        self._was_suspended = state is State.SUSPENDED
        if state in _FINAL:
            self._stop_resolving()
            self.nowait._watches.end_all(state)
        elif state not in _CONNECTED and not _hosts.are_numeric(self._servers):
            self._resolve()
        self._tell_waiters()

    def _tell_waiters(self) -> None:
        waiting, self._waiters = self._waiters, []
        for wanted, waiter in waiting:
            if waiter.done():
                continue
            if self._state in wanted:
                waiter.set_result(self._state)
            elif self._state in _FINAL:
                waiter.set_exception(self._final_error(self._state))
            else:
                self._waiters.append((wanted, waiter))

    def _final_error(self, state: State) -> ZooKeeperError:
        if state is State.AUTH_FAILED:
            return AuthFailedError(f"{self._where()} refused the credentials (AuthFailed, -115)")
        never = " or was never started" if self._core is None else ""
        return ConnectionClosedError(f"the client of {self._where()} is closed{never}")

    def _abort(self) -> None:
        self._stop_resolving()
        if self._core is not None:
            self._core.abort()
        self._on_state(State.CLOSED)

    # --- names of servers ---------------------------------------------------------------------------------------------

    async def _first_addresses(self) -> list[_hosts.Address]:
        """The addresses to begin with; a name that nobody knows may be known a moment later."""
        while True:
            try:
                addresses = await _hosts.resolve(self._servers)
                self._failure = ""
                return addresses
            except OSError as error:
                self._failure = f"{error.strerror or error}"
                await asyncio.sleep(_RESOLVE_AGAIN_S / 10)

    def _use(self, addresses: list[_hosts.Address]) -> None:
        if self._core is not None and addresses != self._addresses:
            self._addresses = addresses
            self._core.set_hosts(addresses)

    def _resolve(self) -> None:
        """Looks the names up until there is a connection."""
        if self._resolving is None or self._resolving.done():
            self._resolving = asyncio.get_running_loop().create_task(_keep_resolving(weakref.ref(self)))

    def _stop_resolving(self) -> None:
        if self._resolving is not None:
            self._resolving.cancel()
            self._resolving = None

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _without_chroot(self) -> Client:
        return Client(
            [_hosts.join(server) for server in self._servers],
            timeout=self._timeout_ms / 1000,
            default_acl=self._default_acl,
            auth_data=self._auth_data,
            randomize_hosts=self._randomize_hosts,
        )

    def _where(self) -> str:
        return ",".join(map(_hosts.join, self._servers)) + self._chroot


async def _keep_resolving(reference: weakref.ref[Client]) -> None:
    """Looks up the names of a client's servers, at least once and until it is connected; does not keep the client."""
    while (client := reference()) is not None and client._state not in _FINAL:
        servers = client._servers
        del client
        try:
            addresses = await _hosts.resolve(servers)
        except OSError:
            addresses = []  # The old ones may do.
        client = reference()
        if client is None or client._state in _FINAL:
            return
        if addresses:
            client._use(addresses)
        if client.connected:
            return
        del client
        await asyncio.sleep(_RESOLVE_AGAIN_S)


def _session_timeout_ms(timeout: float) -> int:
    """Seconds as ms."""
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"a session timeout is a number of seconds, not {timeout!r}")
    if not 0 < timeout < 2**31 / 1000 or (timeout_ms := round(timeout * 1000)) == 0:
        raise ValueError(f"a session timeout is more than 0 and less than {2**31 // 1000} seconds, not {timeout}")
    return timeout_ms


def _as_bytes(credential: str | bytes) -> bytes:
    return credential.encode() if isinstance(credential, str) else credential
