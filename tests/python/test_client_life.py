"""The life of a `zabkit.Client`: start, states, broken links, lost sessions, the end."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import warnings

import pytest
from proxy import Proxy, expired, turns, until_there

import zabkit
from zabkit import Client, State

pytestmark = [pytest.mark.zabkit(scope="module"), pytest.mark.usefixtures("transport")]


@pytest.fixture
def zk(behind_proxy: Client) -> Client:
    return behind_proxy


# --- start and stop ---------------------------------------------------------------------------------------------------


async def test_before_the_start_and_after_the_end_a_call_says_so(zk_server: zabkit.Server) -> None:
    client = Client(zk_server.hosts)
    assert (client.state, client.connected, client.client_id, client.server) == (State.CLOSED, False, None, None)
    with pytest.raises(zabkit.ConnectionClosedError, match="not started"):
        await client.get("/")
    with pytest.raises(zabkit.ConnectionClosedError, match="not started"):
        client.nowait.get("/")
    await client.stop()
    await client.start()
    assert client.connected
    await client.stop()
    await client.close()
    await client.aclose()
    with pytest.raises(zabkit.ConnectionClosedError):
        await client.get("/")
    with pytest.raises(zabkit.ConnectionClosedError):
        await client.wait_for_state(State.CONNECTED)


async def test_a_stopped_client_can_be_started_again_with_a_new_session(zk_server: zabkit.Server) -> None:
    client = Client(zk_server.hosts)
    await client.start()
    first = client.client_id
    await client.start()  # Runs already.
    assert client.client_id == first
    await client.stop()
    async with client:
        assert client.client_id != first
        assert await client.exists("/") is not None


async def test_the_session_ends_with_the_client(zk_server: zabkit.Server) -> None:
    async with Client(zk_server.hosts) as watcher:
        async with Client(zk_server.hosts) as client:
            await client.create("/mine", ephemeral=True)
        await watcher.sync()
        assert await watcher.exists("/mine") is None


async def test_a_session_is_taken_over_by_its_id(zk: Client, zk_server: zabkit.Server, proxy: Proxy) -> None:
    await zk.create("/mine", ephemeral=True)
    session = zk.client_id
    assert session is not None
    proxy.refuses = True
    proxy.cut()
    async with Client(zk_server.hosts, client_id=session) as heir:
        assert heir.client_id == session
        stat = await heir.exists("/mine")
        assert stat is not None
        assert stat.owner_session_id == session[0]


async def test_a_start_in_vain_says_where_and_leaves_nothing(proxy: Proxy) -> None:
    proxy.refuses = True
    client = Client(proxy.hosts)
    with pytest.raises(zabkit.OperationTimeoutError, match=proxy.hosts) as raised:
        await client.start(timeout=0.1)
    assert isinstance(raised.value, TimeoutError)
    assert "within 0.1 s: " in str(raised.value)
    assert client.state is State.CLOSED
    proxy.refuses = False
    async with client:
        assert client.connected


async def test_a_start_that_is_cancelled_leaves_nothing(proxy: Proxy) -> None:
    proxy.refuses = True
    client = Client(proxy.hosts)
    starting = asyncio.create_task(client.start())
    await turns(lambda: proxy.accepted > 0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert client.state is State.CLOSED


async def test_stop_does_not_wait_long_for_a_server_that_is_silent(proxy: Proxy) -> None:
    client = Client(proxy.hosts, timeout=0.4)
    await client.start()
    proxy.hold_answers()
    waiting = asyncio.create_task(client.get("/"))
    await asyncio.sleep(0)
    await asyncio.wait_for(client.stop(), 10)
    with pytest.raises(zabkit.ConnectionClosedError):
        await waiting


async def test_stop_while_there_is_no_server_ends_every_wait(zk: Client, proxy: Proxy) -> None:
    proxy.refuses = True
    proxy.cut()
    await zk.wait_for_state(State.SUSPENDED)
    waits = [asyncio.create_task(wait) for wait in (zk.get("/"), zk.create("/a"), zk.wait_for_state(State.CONNECTED))]
    await asyncio.sleep(0)
    await zk.stop()
    for wait in waits:
        with pytest.raises(zabkit.ConnectionClosedError) as raised:
            await wait
        assert not raised.value.outcome_unknown


# --- hosts ------------------------------------------------------------------------------------------------------------


async def test_names_are_looked_up(zk_server: zabkit.Server) -> None:
    port = zk_server.hosts.rpartition(":")[2]
    async with Client(f"localhost:{port}") as client:
        assert client.server == f"127.0.0.1:{port}"
    async with Client([f"no-such-host.invalid:{port}", f"localhost:{port}"]) as client:
        assert client.connected
    with pytest.raises(zabkit.OperationTimeoutError, match=r"no-such-host\.invalid:1 "):
        await Client("no-such-host.invalid:1").start(timeout=0.3)


async def test_names_are_looked_up_again_while_there_is_no_connection(
    zk_server: zabkit.Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a server comes back with another address (kazoo#794)."""
    loop = asyncio.get_running_loop()
    address = proxy.hosts.split(":")

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        assert host == "server.example"
        return [(0, 0, 0, "", (address[0], port))]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr("zabkit.client._RESOLVE_AGAIN_S", 0.001)
    async with Client(f"server.example:{address[1]}") as client:
        assert client.server == proxy.hosts
        proxy.refuses = True
        proxy.cut()
        address[0] = "127.0.0.2"
        async with Proxy(zk_server.hosts) as other:
            other._listener.close()
            moved = await asyncio.start_server(other._accept, "127.0.0.2", int(address[1]))
            await client.wait_for_state(State.SUSPENDED)
            await client.wait_for_state(State.CONNECTED)
            assert client.server == f"127.0.0.2:{address[1]}"
            moved.close()


async def test_other_hosts_can_be_given(zk: Client, zk_server: zabkit.Server, proxy: Proxy) -> None:
    zk.set_hosts(zk_server.hosts)
    assert zk.server == proxy.hosts
    session = zk.client_id
    proxy.cut()
    assert await zk.exists("/") is not None
    assert (zk.server, zk.client_id) == (zk_server.hosts, session)
    with pytest.raises(ValueError, match="chroot"):
        zk.set_hosts(f"{zk_server.hosts}/elsewhere")


async def test_hosts_are_tried_in_their_order_when_that_is_asked_for(zk_server: zabkit.Server, proxy: Proxy) -> None:
    for _ in range(8):
        async with Client([proxy.hosts, zk_server.hosts], randomize_hosts=False) as client:
            assert client.server == proxy.hosts
        async with Client([zk_server.hosts, proxy.hosts], randomize_hosts=False) as client:
            assert client.server == zk_server.hosts


@pytest.mark.parametrize(
    ("hosts", "shown"),
    [
        ("a", "a:2181"),
        ("a:1,b:2/x/y", "a:1,b:2/x/y"),
        (["a:1", "b"], "a:1,b:2181"),
        (["a:1", "b/x"], "a:1,b:2181/x"),
        ("[::1]:1,[fe80::1]/x/", "[::1]:1,[fe80::1]:2181/x"),
        (" a:1 , b:2/", "a:1,b:2"),
    ],
)
def test_hosts_are_read_in_their_forms(hosts: str | list[str], shown: str) -> None:
    client = Client(hosts)
    assert repr(client) == f"<zabkit.Client {shown} CLOSED>"
    assert client.chroot == shown[shown.find("/") :] if "/" in shown else client.chroot == ""


@pytest.mark.parametrize(
    "hosts", ["", "/x", ":1", "a:x", "a:0", "a:65536", "::1", "[::1", "[a]:1", "a:1//x", "a/./b", []]
)
def test_malformed_hosts_are_refused(hosts: str | list[str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Client(hosts)


def test_a_malformed_timeout_is_refused() -> None:
    for timeout in (0, -1.0, 1e9):
        with pytest.raises(ValueError, match="timeout"):
            Client("a", timeout=timeout)


# --- states -----------------------------------------------------------------------------------------------------------


async def test_listeners_are_told_every_change_in_order(proxy: Proxy, zk_server: zabkit.Server) -> None:
    client = Client(proxy.hosts)
    told: list[State] = []
    once: list[State] = []

    def only_once(state: State) -> bool:
        once.append(state)
        return True

    client.add_listener(told.append)
    client.add_listener(only_once)
    async with client:
        proxy.cut()
        await client.wait_for_state(State.SUSPENDED)
        await client.wait_for_state(State.CONNECTED)
        assert client.client_id is not None
        async with expired(proxy, client.client_id, zk_server.hosts):
            await client.wait_for_state(State.LOST)
            await client.wait_for_state(State.CONNECTED)
    back = [State.SUSPENDED, State.CONNECTED]
    assert told == [
        State.CONNECTING,
        State.CONNECTED,
        *back,
        State.SUSPENDED,
        State.LOST,
        State.CONNECTED,
        State.CLOSED,
    ]
    assert once == [State.CONNECTING]
    client.remove_listener(told.append)
    client.remove_listener(print)


async def test_a_listener_that_fails_is_reported_and_harms_nobody(zk: Client, proxy: Proxy) -> None:
    reports: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
    told: list[State] = []
    zk.add_listener(lambda state: 1 / 0)
    zk.add_listener(told.append)
    proxy.cut()
    await zk.wait_for_state(State.SUSPENDED)
    assert told == [State.SUSPENDED]
    assert isinstance(reports[0]["exception"], ZeroDivisionError)
    with pytest.raises(TypeError):
        zk.add_listener(3)
    with pytest.raises(TypeError, match="plain function"):
        zk.add_listener(zk.get)


async def test_a_listener_may_use_the_client(zk: Client, proxy: Proxy) -> None:
    read: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def listener(state: State) -> None:
        if state is State.CONNECTED:
            zk.nowait.get("/").add_done_callback(lambda call: read.set_result(call.result()[0]))

    zk.add_listener(listener)
    proxy.cut()
    assert await read == b""


async def test_the_session_timeout_is_the_servers(zk_server: zabkit.Server) -> None:
    client = Client(zk_server.hosts, timeout=3600)
    assert client.session_timeout == 3600
    async with client:
        assert client.session_timeout == 4.0  # 20 ticks of 200 ms.
        assert client.last_zxid > 0 or await client.exists("/") is not None


# --- broken links and lost sessions -----------------------------------------------------------------------------------


async def test_calls_while_suspended_wait_and_are_carried_out_in_order(zk: Client, proxy: Proxy) -> None:
    session = zk.client_id
    proxy.refuses = True
    proxy.cut()
    await zk.wait_for_state(State.SUSPENDED)
    calls = [zk.nowait.create("/a", b"1"), zk.nowait.set("/a", b"2"), zk.nowait.get("/a")]
    proxy.refuses = False
    assert (await asyncio.gather(*calls))[2][0] == b"2"
    assert zk.client_id == session


async def test_reads_and_syncs_on_their_way_are_sent_again(zk: Client, proxy: Proxy) -> None:
    await zk.create("/a", b"1")
    proxy.hold_answers()
    calls = [zk.nowait.sync(), zk.nowait.get("/a"), zk.nowait.exists("/b"), zk.nowait.get_children("/")]
    await proxy.wait_for_requests(70)
    proxy.cut()
    proxy.pass_answers()
    path, (data, _), stat, _ = await asyncio.gather(*calls)
    assert (path, data, stat) == ("/", b"1", None)


async def test_a_write_on_its_way_fails_with_an_unknown_outcome(
    zk: Client, proxy: Proxy, zk_server: zabkit.Server
) -> None:
    proxy.hold_answers()
    writes = {
        "/a": zk.nowait.create("/a"),
        "/b": zk.nowait.set("/b", b""),
        "/c": zk.nowait.delete("/c"),
        "/d": zk.nowait.set_acls("/d", zabkit.OPEN_ACL_UNSAFE),
    }
    transaction = zk.transaction()
    transaction.create("/e")
    writes["transaction"] = zk.nowait.commit(transaction)
    async with Client(zk_server.hosts) as other:
        await until_there(other, "/e")
        proxy.cut()
        proxy.pass_answers()
    for write in writes.values():
        with pytest.raises(zabkit.ConnectionLossError) as raised:
            await write
        assert isinstance(raised.value, ConnectionError)
        assert raised.value.outcome_unknown
        assert "unknown" in str(raised.value)
    assert await zk.exists("/a") is not None


async def test_a_call_that_was_never_sent_says_that_nothing_happened(proxy: Proxy) -> None:
    async with Client(proxy.hosts, timeout=0.4) as client:
        proxy.refuses = True
        proxy.cut()
        await client.wait_for_state(State.SUSPENDED)
        for call in (client.nowait.create("/never"), client.nowait.get("/")):
            with pytest.raises(zabkit.ConnectionLossError) as raised:
                await call
            assert not raised.value.outcome_unknown
        assert client.state is State.SUSPENDED  # Only a server can say that a session is over.


async def test_when_the_session_is_lost_its_calls_fail_and_a_new_one_is_opened(
    zk: Client, proxy: Proxy, zk_server: zabkit.Server
) -> None:
    old = zk.client_id
    assert old is not None
    await zk.create("/mine", ephemeral=True)
    proxy.refuses = True
    proxy.cut()
    await zk.wait_for_state(State.SUSPENDED)
    calls = [zk.nowait.get("/"), zk.nowait.create("/a")]
    async with expired(proxy, old, zk_server.hosts):
        for call in calls:
            with pytest.raises(zabkit.SessionExpiredError) as raised:
                await call
            assert not raised.value.outcome_unknown
        await zk.wait_for_state(State.CONNECTED)
    assert zk.client_id is not None
    assert zk.client_id[0] != old[0]
    assert await zk.exists("/mine") is None
    assert await zk.exists("/a") is None


async def test_a_lost_session_takes_its_unknown_writes_along(
    zk: Client, proxy: Proxy, zk_server: zabkit.Server
) -> None:
    """What was sent before the link broke fails as that, not as the expiry that follows."""
    proxy.hold_answers()
    write = zk.nowait.create("/a")
    await proxy.wait_for_requests(20)
    assert zk.client_id is not None
    async with expired(proxy, zk.client_id, zk_server.hosts):
        proxy.pass_answers()
        with pytest.raises(zabkit.ConnectionLossError) as raised:
            await write
        assert raised.value.outcome_unknown


@pytest.mark.zabkit(scope="function")
async def test_the_client_goes_on_when_its_server_is_killed(zk_ensemble: zabkit.Ensemble) -> None:
    async with Client(zk_ensemble.hosts) as zk:
        session = zk.client_id
        await zk.create("/mine", ephemeral=True)
        for _ in range(2):
            mine = next(member for member in zk_ensemble if member.hosts == zk.server)
            await mine.kill()
            await zk.set("/mine", b"again")
            assert zk.client_id == session
            assert zk.server != mine.hosts
            await mine.restart()
            await mine.wait_until_serving()
        assert (await zk.get("/mine"))[1].version == 2


# --- cancellation -----------------------------------------------------------------------------------------------------


async def test_a_cancelled_call_leaves_the_client_usable(zk: Client, proxy: Proxy) -> None:
    await zk.create("/a", b"1")
    proxy.hold_answers()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(zk.get("/a"), 0.01)
    tasks = [asyncio.create_task(zk.set("/a", str(n).encode())) for n in range(50)]
    await proxy.wait_for_requests(50)
    for task in tasks[::2]:
        task.cancel()
    proxy.pass_answers()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    assert [result.version for result in results[1::2]] == list(range(2, 51, 2))
    assert (await zk.get("/a"))[0] == b"49"


# --- as an object -----------------------------------------------------------------------------------------------------


async def test_it_shows_where_it_is_and_no_secret(zk_server: zabkit.Server) -> None:
    client = Client(f"{zk_server.hosts}/app", auth_data=[("digest", "user:secret")])
    async with client:
        assert client.client_id is not None
        text = f"{client!r} {client.nowait!r}"
        assert f"<zabkit.Client {zk_server.hosts}/app CONNECTED session={client.client_id[0]:#x}>" in text
        assert "secret" not in text
        assert str(client.client_id[1]) not in text


async def test_it_cannot_be_pickled_or_copied(zk: Client) -> None:
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            act(zk)


async def test_one_that_is_dropped_open_warns_and_closes_its_socket(proxy: Proxy) -> None:
    client = Client(proxy.hosts)
    await client.start()
    call = client.nowait.get("/")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del client
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert proxy.hosts in str(caught[0].message)
    with pytest.raises(zabkit.ConnectionClosedError):
        await call
    await turns(lambda: not proxy._links)


async def test_one_that_was_stopped_does_not_warn(zk_server: zabkit.Server, recwarn: pytest.WarningsRecorder) -> None:
    async with Client(zk_server.hosts):
        pass
    Client(zk_server.hosts)
    gc.collect()
    assert not list(recwarn)
