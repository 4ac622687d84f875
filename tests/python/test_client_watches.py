"""Watches of a `zabkit.Client`: each event once, none lost over a reconnect, an end that is said."""

from __future__ import annotations

import asyncio

import pytest
from proxy import Proxy, expired, turns

import zabkit
from zabkit import Client, EventType, State, Watch, WatchedEvent

pytestmark = [pytest.mark.zabkit(scope="module"), pytest.mark.usefixtures("transport")]


@pytest.fixture
def zk(behind_proxy: Client) -> Client:
    return behind_proxy


class Events(list[WatchedEvent]):
    """A callback that remembers."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other if isinstance(other, Events) else super().__eq__(other)

    def __call__(self, event: WatchedEvent) -> None:
        self.append(event)

    def shown(self) -> list[tuple[str, str, str]]:
        return [(str(event.type), str(event.state), event.path) for event in self]


async def test_each_kind_of_watch_tells_its_event_once(zk: Client) -> None:
    await zk.create("/a/b", makepath=True)
    data, exist, child = Events(), Events(), Events()
    await zk.get("/a", watch=data)
    await zk.exists("/new", watch=exist)
    await zk.get_children("/a", watch=child)
    for n in range(2):
        await zk.set("/a", b"1")
        await zk.create(f"/a/{n}")
    await zk.create("/new")
    await zk.set("/new", b"1")
    assert data.shown() == [("CHANGED", "CONNECTED", "/a")]
    assert child.shown() == [("CHILD", "CONNECTED", "/a")]
    assert exist.shown() == [("CREATED", "CONNECTED", "/new")]
    assert len(zk.nowait._watches) == 0


async def test_an_event_comes_before_the_reply_that_shows_it(zk: Client) -> None:
    await zk.create("/a")
    seen = Events()
    await zk.get("/a", watch=seen)
    at_reply = []
    write = zk.nowait.set("/a", b"1")
    write.add_done_callback(lambda _: at_reply.append(len(seen)))
    await write
    await asyncio.sleep(0)
    assert at_reply == [1]


async def test_the_same_function_is_told_once_however_often_it_was_given(zk: Client) -> None:
    await zk.create("/a")
    seen, other = Events(), Events()
    for _ in range(5):
        await zk.get("/a", watch=seen)
        await zk.exists("/a", watch=seen)
    await zk.get_children("/a", watch=seen)
    await zk.get("/a", watch=other)
    assert len(zk.nowait._watches) == 3
    await zk.delete("/a")
    assert seen.shown() == other.shown() == [("DELETED", "CONNECTED", "/a")]


async def test_a_watch_may_be_set_again_by_its_own_function(zk: Client) -> None:
    await zk.create("/a")
    seen = []

    def again(event: WatchedEvent) -> None:
        seen.append(event.type)
        zk.nowait.get("/a", watch=again)

    zk.nowait.get("/a", watch=again)
    for _ in range(50):
        await zk.set("/a", b"")
    assert seen == [EventType.CHANGED] * 50


async def test_calls_on_their_way_keep_their_watch_when_an_event_uses_up_an_older_one(zk: Client) -> None:
    await zk.create("/a")
    seen = Events()
    await zk.get("/a", watch=seen)
    await asyncio.gather(zk.set("/a", b"1"), zk.get("/a", watch=seen), zk.set("/a", b"2"), zk.get("/a", watch=seen))
    assert len(seen) == 2
    await zk.set("/a", b"3")
    assert len(seen) == 3
    assert len(zk.nowait._watches) == 0


async def test_a_call_that_fails_or_is_cancelled_leaves_no_watch(zk: Client, proxy: Proxy) -> None:
    seen = Events()
    for call in (zk.get, zk.get_children):
        with pytest.raises(zabkit.NoNodeError):
            await call("/a", watch=seen)
    with pytest.raises(zabkit.InvalidPathError):
        await zk.get("a", watch=seen)
    assert len(zk.nowait._watches) == 0
    await zk.create("/a")
    proxy.hold_answers()
    task = asyncio.create_task(zk.get("/a", watch=seen))
    await proxy.wait_for_requests(15)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    proxy.pass_answers()
    await zk.set("/a", b"1")
    assert seen == []
    assert len(zk.nowait._watches) == 0


async def test_a_watch_that_fails_is_reported_and_harms_no_other(zk: Client) -> None:
    reports: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
    await zk.create("/a")
    seen = Events()
    await zk.get("/a", watch=lambda event: 1 / 0)
    await zk.get("/a", watch=seen)
    await zk.set("/a", b"1")
    assert isinstance(reports[0]["exception"], ZeroDivisionError)
    assert "'/a'" in str(reports[0]["message"])
    assert len(seen) == 1


async def test_watches_survive_a_reconnect_and_tell_what_was_missed(
    zk: Client, proxy: Proxy, zk_server: zabkit.Server
) -> None:
    for path in ("/changed", "/same", "/deleted", "/parent"):
        await zk.create(path)
    seen = Events()
    for path in ("/changed", "/same", "/deleted"):
        await zk.get(path, watch=seen)
    await zk.exists("/created", watch=seen)
    await zk.get_children("/parent", watch=seen)
    proxy.refuses = True
    proxy.cut()
    await zk.wait_for_state(State.SUSPENDED)
    async with Client(zk_server.hosts) as other:
        await other.set("/changed", b"1")
        await other.delete("/deleted")
        await other.create("/created")
        await other.create("/parent/child")
    assert seen == []
    proxy.refuses = False
    await zk.sync()
    assert sorted(seen.shown()) == [
        ("CHANGED", "CONNECTED", "/changed"),
        ("CHILD", "CONNECTED", "/parent"),
        ("CREATED", "CONNECTED", "/created"),
        ("DELETED", "CONNECTED", "/deleted"),
    ]
    await zk.set("/same", b"1")
    assert seen.shown()[4:] == [("CHANGED", "CONNECTED", "/same")]


async def test_watches_under_a_chroot_tell_paths_below_it(zk: Client, proxy: Proxy) -> None:
    async with Client(f"{proxy.hosts}/chroot") as below:
        await below.ensure_path("/a")
        seen = Events()
        await below.get("/a", watch=seen)
        await below.get_children("/", watch=seen)
        async with below.watch("/", recursive=True) as events:
            proxy.cut()
            await below.wait_for_state(State.SUSPENDED)
            await below.set("/a", b"1")
            await below.create("/b")
            assert [(await anext(events)).type for _ in range(3)] == ["RESYNC", "CHANGED", "CREATED"]
        assert sorted(seen.shown()) == [("CHANGED", "CONNECTED", "/a"), ("CHILD", "CONNECTED", "/")]


async def test_an_expired_session_ends_its_watches_and_says_so(
    zk: Client, proxy: Proxy, zk_server: zabkit.Server
) -> None:
    await zk.create("/a")
    seen = Events()
    await zk.get("/a", watch=seen)
    await zk.get_children("/a", watch=seen)
    await zk.add_watch("/a", seen)
    async with zk.watch("/a") as events:
        assert zk.client_id is not None
        async with expired(proxy, zk.client_id, zk_server.hosts):
            with pytest.raises(zabkit.SessionExpiredError, match="'/a'"):
                await anext(events)
            with pytest.raises(zabkit.SessionExpiredError):
                await anext(events)
    assert seen.shown() == [("NONE", "LOST", "/a")] * 3
    assert len(zk.nowait._watches) == 0
    await zk.set("/a", b"1")
    assert len(seen) == 3


async def test_closing_ends_all_watches_and_says_so(zk_server: zabkit.Server, zk: Client) -> None:
    await zk.create("/a")
    async with Client(zk_server.hosts) as client:
        seen = Events()
        await client.get("/a", watch=seen)
        reading = asyncio.create_task(first_of(client.watch("/a")))
        await turns(lambda: len(client.nowait._watches) == 2 and all(e.registered for e in entries(client)))
    assert seen.shown() == [("NONE", "CLOSED", "/a")]
    with pytest.raises(zabkit.ConnectionClosedError, match="'/a'"):
        await reading


async def first_of(watch: Watch) -> WatchedEvent:
    async with watch as events:
        return await anext(events)


def entries(client: Client) -> list[object]:
    return list(client.nowait._watches._entries.values())


# --- persistent ones --------------------------------------------------------------------------------------------------


async def test_a_stream_tells_every_event_in_order(zk: Client) -> None:
    async with zk.watch("/a") as events:
        path, stat = await zk.create("/a", include_data=True)
        assert path == "/a"
        await zk.set("/a", b"1")
        await zk.create("/a/b")
        await zk.create("/a/b/c")
        await zk.delete("/a", recursive=True)
        told = [await anext(events) for _ in range(5)]
        assert [event.type for event in told] == ["CREATED", "CHANGED", "CHILD", "CHILD", "DELETED"]
        assert {event.path for event in told} == {"/a"}
        assert told[0].zxid in (stat.czxid, -1)
        assert "0 events wait" in repr(events)
    await zk.create("/a")
    with pytest.raises(StopAsyncIteration):
        await anext(events)
    assert [event async for event in events] == []


async def test_a_recursive_stream_tells_of_everything_below(zk: Client) -> None:
    async with zk.watch("/a", recursive=True) as events:
        await zk.create("/a/b/c", makepath=True)
        await zk.set("/a/b/c", b"1")
        await zk.create("/aside")
        await zk.delete("/a", recursive=True)
        told = [await anext(events) for _ in range(7)]
    created, deleted = ["/a", "/a/b", "/a/b/c"], ["/a/b/c", "/a/b", "/a"]
    assert [event.path for event in told] == [*created, "/a/b/c", *deleted]
    assert [event.type for event in told] == ["CREATED"] * 3 + ["CHANGED"] + ["DELETED"] * 3


async def test_a_reconnect_is_told_in_a_stream(zk: Client, proxy: Proxy, zk_server: zabkit.Server) -> None:
    await zk.create("/a")
    async with zk.watch("/a") as events:
        proxy.refuses = True
        proxy.cut()
        await zk.wait_for_state(State.SUSPENDED)
        async with Client(zk_server.hosts) as other:
            await other.set("/a", b"missed")
        proxy.refuses = False
        event = await anext(events)
        assert event == WatchedEvent(EventType.RESYNC, State.CONNECTED, "/a", -1)
        assert (await zk.get("/a"))[0] == b"missed"
        await zk.set("/a", b"seen")
        assert (await anext(events)).type is EventType.CHANGED


async def test_a_stream_that_is_not_read_stays_bounded_and_tells_the_gap(zk: Client) -> None:
    await zk.create("/a")
    async with zk.watch("/a", limit=10) as events:
        for n in range(25):
            await zk.set("/a", str(n).encode())
        told = [(await anext(events)).type for _ in range(5)]
        # The 11th made one RESYNC of the ten that waited, the 21st of that and nine more; four came after it.
        assert told == [EventType.RESYNC] + [EventType.CHANGED] * 4
        assert events._events.empty()
    with pytest.raises(ValueError, match="at least one"):
        zk.watch("/a", limit=0)


async def test_two_streams_on_one_path_both_tell(zk: Client) -> None:
    await zk.create("/a")
    async with zk.watch("/a") as one, zk.watch("/a", recursive=True) as other:
        await zk.set("/a", b"1")
        assert (await anext(one)).type == (await anext(other)).type == EventType.CHANGED
        await one.__aexit__(None, None, None)
        await zk.set("/a", b"2")
        assert (await anext(other)).type == EventType.CHANGED


async def test_a_waiting_reader_can_be_cancelled(zk: Client) -> None:
    await zk.create("/a")
    async with zk.watch("/a") as events:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(events), 0.01)
        await zk.set("/a", b"1")
        assert (await anext(events)).type is EventType.CHANGED


async def test_a_persistent_callback_is_called_until_it_is_removed(zk: Client) -> None:
    seen, other = Events(), Events()
    await zk.add_watch("/a", seen)
    await zk.add_watch("/a", seen)
    await zk.add_watch("/a", other, recursive=True)
    await zk.create("/a")
    await zk.set("/a", b"1")
    assert seen.shown() == [("CREATED", "CONNECTED", "/a"), ("CHANGED", "CONNECTED", "/a")]
    await zk.remove_watches("/a", seen)
    await zk.delete("/a")
    assert len(seen) == 2
    assert [event.type for event in other] == ["CREATED", "CHANGED", "DELETED"]
    with pytest.raises(zabkit.NoWatcherError) as raised:
        await zk.remove_watches("/a", seen)
    assert (raised.value.path, raised.value.code) == ("/a", -121)
    await zk.exists("/a", watch=seen)
    await zk.remove_watches("/a")
    await zk.create("/a")
    assert (len(seen), len(other)) == (2, 3)


async def test_a_watch_that_nobody_wants_is_taken_from_the_server() -> None:
    async with zabkit.Server(settings={"4lw.commands.whitelist": "wchs"}) as server, Client(server.hosts) as zk:
        await zk.create("/a")
        async with zk.watch("/a", recursive=True):
            assert b"Total watches:1\n" in await wchs(server.hosts)
        await zk.sync()
        assert b"Total watches:0\n" in await wchs(server.hosts)


async def wchs(hosts: str) -> bytes:
    host, _, port = hosts.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"wchs")
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.zabkit(scope="function")
async def test_watches_follow_the_client_to_another_server(zk_ensemble: zabkit.Ensemble) -> None:
    async with Client(zk_ensemble.hosts) as zk:
        await zk.create("/a")
        seen = Events()
        await zk.get("/a", watch=seen)
        async with zk.watch("/a") as events:
            await next(member for member in zk_ensemble if member.hosts == zk.server).kill()
            await zk.set("/a", b"1")
            assert (await anext(events)).type is EventType.RESYNC
            assert (await anext(events)).type is EventType.CHANGED
        assert seen.shown() == [("CHANGED", "CONNECTED", "/a")]
