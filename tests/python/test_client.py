"""`zabkit.Client` against a real server: every call, and the answers that it can get."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

import zabkit
from zabkit import ACL, Client, Id, Permissions, Stat

pytestmark = pytest.mark.zabkit(scope="module")

NUMBERS = itertools.count()


@pytest.fixture(params=[False, True], ids=["socket", "protocol"])
async def zk(
    zk_server: zabkit.Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Client]:
    """A client under a chroot of the test's own, by both ways to a server: Rust's socket, and an asyncio protocol."""
    monkeypatch.setattr(Client, "_fallback", request.param)
    async with Client(f"{zk_server.hosts}/{request.function.__name__}-{request.param}-{next(NUMBERS)}") as zk:
        await zk.ensure_path("/")
        yield zk


async def test_a_znode_is_created_read_written_and_deleted(zk: Client) -> None:
    assert await zk.create("/a", b"1") == "/a"
    data, stat = await zk.get("/a")
    assert (data, stat.version, stat.dataLength) == (b"1", 0, 1)
    written = await zk.set("/a", b"22", version=0)
    assert (written.version, written.dataLength, written.czxid) == (1, 2, stat.czxid)
    assert await zk.get("/a") == (b"22", written)
    assert await zk.exists("/a") == written
    await zk.delete("/a", version=1)
    assert await zk.exists("/a") is None


async def test_create_gives_the_stat_when_asked(zk: Client) -> None:
    path, stat = await zk.create("/a", b"123", include_data=True)
    assert path == "/a"
    assert isinstance(stat, Stat)
    assert (b"123", stat) == await zk.get("/a")


async def test_a_znode_without_data_reads_as_empty(zk: Client) -> None:
    await zk.create("/a")
    assert (await zk.get("/a"))[0] == b""


async def test_sequential_znodes_are_numbered_in_order(zk: Client) -> None:
    paths = [await zk.create("/n-", sequence=True) for _ in range(3)]
    assert paths == [f"/n-{number:010}" for number in range(3)]


async def test_an_ephemeral_znode_is_its_sessions(zk: Client) -> None:
    assert zk.client_id is not None
    await zk.create("/e", ephemeral=True)
    stat = await zk.exists("/e")
    assert stat is not None
    assert stat.owner_session_id == zk.client_id[0]
    await zk.create("/f-", ephemeral=True, sequence=True)
    await zk.create("/not-ephemeral")
    assert sorted(await zk.get_ephemerals()) == ["/e", "/f-0000000001"]
    assert await zk.get_ephemerals("/f") == ["/f-0000000001"]


async def test_containers_and_znodes_with_a_ttl(zk: Client) -> None:
    await zk.create("/container", container=True)
    assert await zk.exists("/container") is not None
    with pytest.raises(ValueError, match="neither ephemeral nor sequential"):
        await zk.create("/a", container=True, ephemeral=True)
    with pytest.raises(ValueError, match="no TTL"):
        await zk.create("/a", ephemeral=True, ttl=1.0)
    for seconds in (0, -1.0, 2**40):
        with pytest.raises(ValueError, match="seconds"):
            await zk.create("/a", ttl=seconds)
    path, stat = await zk.create("/ttl-", ttl=3600.5, sequence=True, include_data=True)
    assert (path, stat.owner_session_id) == ("/ttl-0000000001", None)


async def test_makepath_makes_the_parents(zk: Client) -> None:
    with pytest.raises(zabkit.NoNodeError) as missing:
        await zk.create("/a/b/c")
    assert missing.value.path == "/a/b/c"
    assert await zk.create("/a/b/c", b"1", makepath=True) == "/a/b/c"
    assert (await zk.get("/a"))[0] == b""
    assert await zk.create("/q/n-", sequence=True, makepath=True) == "/q/n-0000000000"
    assert await zk.create("/r/", sequence=True, makepath=True) == "/r/0000000000"


async def test_ensure_path_makes_what_is_missing_and_may_be_called_again(zk: Client) -> None:
    await zk.create("/a", b"kept")
    for _ in range(2):
        await zk.ensure_path("/a/b/c")
    assert (await zk.get("/a"))[0] == b"kept"
    assert await zk.get_children("/a/b") == ["c"]
    await asyncio.gather(*(zk.ensure_path("/x/y/z") for _ in range(10)))
    assert await zk.exists("/x/y/z") is not None


async def test_ensure_path_makes_the_chroot_and_not_more(zk: Client) -> None:
    async with Client(f"{zk.server}{zk.chroot}/deep/down") as below:
        assert await below.exists("/") is None
        with pytest.raises(zabkit.NoNodeError):
            await below.create("/a")
        await below.ensure_path("/a/b")
        assert await below.get_children("/") == ["a"]
    assert await zk.exists("/deep/down/a/b") is not None


async def test_children_are_listed_with_the_stat_when_asked(zk: Client) -> None:
    await zk.ensure_path("/a/1")
    await zk.ensure_path("/a/2")
    assert sorted(await zk.get_children("/a")) == ["1", "2"]
    children, stat = await zk.get_children("/a", include_data=True)
    assert (sorted(children), stat.numChildren) == (["1", "2"], 2)
    await zk.ensure_path("/a/2/3")
    assert await zk.get_all_children_number("/a") == 3


async def test_delete_recursive_takes_everything_below(zk: Client) -> None:
    created = [zk.nowait.create(path) for path in ("/a", *(f"/a/{n}" for n in range(3000)), "/a/0/b", "/a/0/b/c")]
    await asyncio.gather(*created)
    with pytest.raises(zabkit.NotEmptyError):
        await zk.delete("/a")
    await zk.delete("/a", recursive=True)
    assert await zk.exists("/a") is None
    await zk.delete("/a", recursive=True)


async def test_each_refusal_has_its_exception(zk: Client) -> None:
    await zk.create("/a")
    await zk.create("/e", ephemeral=True)
    refused: list[tuple[type[zabkit.ZooKeeperError], asyncio.Future[Any]]] = [
        (zabkit.NoNodeError, zk.nowait.get("/no")),
        (zabkit.NoNodeError, zk.nowait.set("/no", b"")),
        (zabkit.NoNodeError, zk.nowait.delete("/no")),
        (zabkit.NoNodeError, zk.nowait.get_children("/no")),
        (zabkit.NoNodeError, zk.nowait.get_acls("/no")),
        (zabkit.NoNodeError, zk.nowait.get_all_children_number("/no")),
        (zabkit.NodeExistsError, zk.nowait.create("/a")),
        (zabkit.NoChildrenForEphemeralsError, zk.nowait.create("/e/x")),
        (zabkit.BadVersionError, zk.nowait.set("/a", b"", version=7)),
        (zabkit.BadVersionError, zk.nowait.delete("/a", version=7)),
        (zabkit.BadVersionError, zk.nowait.set_acls("/a", zabkit.OPEN_ACL_UNSAFE, version=7)),
        (zabkit.InvalidACLError, zk.nowait.create("/b", acl=zabkit.CREATOR_ALL_ACL)),
        (zabkit.InvalidACLError, zk.nowait.create("/b", acl=[])),
        (zabkit.InvalidACLError, zk.nowait.set_acls("/a", [zabkit.make_acl("digest", "no-colon", all=True)])),
        (zabkit.ReconfigDisabledError, zk.nowait.reconfig(leaving="1")),
    ]
    for error, call in refused:
        with pytest.raises(error) as raised:
            await call
        assert type(raised.value) is error
        assert str(raised.value.code) in str(raised.value)
        assert not raised.value.outcome_unknown
        assert raised.value.path is None or raised.value.path in str(raised.value)


async def test_the_error_names_the_path_below_the_chroot(zk: Client) -> None:
    with pytest.raises(zabkit.NoNodeError, match=r"^no znode at '/no' \(NoNode, -101\)$") as raised:
        await zk.get("/no")
    assert (raised.value.path, raised.value.code) == ("/no", -101)


@pytest.mark.parametrize("path", ["", "a", "/a/", "//", "/a//b", "/a/./b", "/..", "/\0", "/\ud800"])
async def test_a_malformed_path_is_refused_before_it_is_sent(zk: Client, path: str) -> None:
    for call in (zk.nowait.get, zk.nowait.exists, zk.nowait.create, zk.nowait.delete, zk.nowait.get_children):
        with pytest.raises((zabkit.InvalidPathError, UnicodeEncodeError)) as refused:
            call(path)
        assert isinstance(refused.value, ValueError)
    with pytest.raises((zabkit.InvalidPathError, UnicodeEncodeError)):
        await zk.get(path)


async def test_too_large_a_request_is_refused_with_its_size_and_the_next_works(zk: Client) -> None:
    with pytest.raises(zabkit.RequestTooLargeError, match=r"1[_,]?\d{3}[_,]?\d{3}"):
        await zk.create("/a", b"x" * 1_100_000)
    await zk.create("/a", b"x" * 1_000_000)
    assert len((await zk.get("/a"))[0]) == 1_000_000


async def test_wrong_types_are_refused_at_the_call(zk: Client) -> None:
    with pytest.raises(TypeError):
        await zk.create("/a", "text")
    with pytest.raises(TypeError, match="list of ACL"):
        await zk.create("/a", acl=ACL(31, Id("world", "anyone")))
    with pytest.raises(TypeError):
        await zk.set("/a", b"", version="1")
    with pytest.raises(TypeError, match="function of one WatchedEvent"):
        await zk.get("/a", watch=True)

    async def coroutine(event: zabkit.WatchedEvent) -> None:
        pass

    with pytest.raises(TypeError, match="plain function"):
        await zk.get("/a", watch=coroutine)
    await zk.create("/a")


async def test_acls_are_kept_and_obeyed(zk: Client) -> None:
    acl = [zabkit.make_digest_acl("user", "secret", all=True), zabkit.make_acl("world", "anyone", read=True)]
    await zk.create("/a", b"1", acl=acl)
    async with Client(f"{zk.server}{zk.chroot}", auth_data=[("digest", "user:secret")]) as owner:
        assert (await owner.get_acls("/a"))[0] == acl
        assert (await zk.get("/a"))[0] == b"1"
        for forbidden in (zk.set("/a", b"2"), zk.create("/a/b"), zk.set_acls("/a", acl)):
            with pytest.raises(zabkit.NoAuthError):
                await forbidden
        stat = await owner.set_acls("/a", [zabkit.make_digest_acl("user", "secret", all=True)], version=0)
        assert stat.aversion == 1
        with pytest.raises(zabkit.NoAuthError) as refused:
            await zk.get("/a")
        assert refused.value.path == "/a"
        await zk.add_auth("digest", b"user:secret")
        assert (await zk.get("/a"))[0] == b"1"
        found, stat = await zk.get_acls("/a")
        assert isinstance(found[0], ACL)
        assert (found[0].perms, found[0].id.scheme, stat.aversion) == (Permissions.ALL, "digest", 1)


async def test_the_default_acl_is_that_of_the_client(zk: Client) -> None:
    mine = [zabkit.make_digest_acl("user", "secret", all=True)]
    async with Client(f"{zk.server}{zk.chroot}", auth_data=[("digest", "user:secret")], default_acl=mine) as owner:
        await owner.create("/a/b", makepath=True)
        async with owner.transaction() as transaction:
            transaction.create("/a/c")
            transaction.create("/a/d", acl=zabkit.OPEN_ACL_UNSAFE)
        assert (await owner.get_acls("/a"))[0] == mine
        assert (await owner.get_acls("/a/b"))[0] == mine
        assert (await owner.get_acls("/a/c"))[0] == mine
        assert (await owner.get_acls("/a/d"))[0] == list(zabkit.OPEN_ACL_UNSAFE)


async def test_who_am_i_lists_the_identities(zk: Client) -> None:
    await zk.add_auth("digest", "user:secret")
    identities = await zk.who_am_i()
    assert Id("ip", "127.0.0.1") in identities
    assert Id("digest", "user") in identities


async def test_refused_credentials_end_the_client(zk: Client) -> None:
    with pytest.raises(zabkit.AuthFailedError):
        await Client(zk.server or "", auth_data=[("no-such-scheme", "x")]).start()
    async with Client(zk.server or "") as client:
        with pytest.raises(zabkit.AuthFailedError):
            await client.add_auth("no-such-scheme", "x")
        assert client.state is zabkit.State.AUTH_FAILED
        with pytest.raises(zabkit.AuthFailedError):
            await client.get("/")
        with pytest.raises(zabkit.AuthFailedError):
            await client.wait_for_state(zabkit.State.CONNECTED)
        assert client._core is not None
        await client._core.close()  # Over already: done at once.


async def test_a_transaction_happens_wholly(zk: Client) -> None:
    transaction = zk.transaction()
    transaction.create("/a", b"1")
    transaction.create("/a/n-", sequence=True, include_data=True)
    transaction.set_data("/a", b"2", version=0)
    transaction.check("/a", version=1)
    transaction.create("/b")
    transaction.delete("/b")
    results = await transaction.commit()
    assert results[0] == "/a"
    assert results[1][0] == "/a/n-0000000000"
    assert isinstance(results[1][1], Stat)
    assert results[2].version == 1
    assert results[3:] == [True, "/b", True]
    assert transaction.results == results
    assert (await zk.get("/a"))[0] == b"2"
    with pytest.raises(ValueError, match="committed"):
        await transaction.commit()
    with pytest.raises(ValueError, match="committed"):
        transaction.delete("/a")


async def test_a_transaction_that_fails_leaves_nothing_and_says_which_part(zk: Client) -> None:
    transaction = zk.transaction()
    transaction.create("/a")
    transaction.delete("/no")
    transaction.create("/b")
    results = await transaction.commit()
    expected = [zabkit.RolledBackError, zabkit.NoNodeError, zabkit.RuntimeInconsistencyError]
    assert [type(result) for result in results] == expected
    assert results[1].path == "/no"
    assert await zk.get_children("/") == []


async def test_leaving_a_transactions_block_raises_what_failed(zk: Client) -> None:
    async def commit(error: Exception | None = None) -> None:
        async with zk.transaction() as transaction:
            transaction.create("/a")
            transaction.check("/a", version=7)
            if error is not None:
                raise error

    with pytest.raises(zabkit.BadVersionError):
        await commit()
    with pytest.raises(KeyError):
        await commit(KeyError())
    assert await zk.exists("/a") is None
    async with zk.transaction() as transaction:
        transaction.create("/a")
    assert transaction.results == ["/a"]


async def test_multi_read_answers_each_part(zk: Client) -> None:
    await zk.create("/a/b", b"1", makepath=True)
    data, children, missing = await zk.multi_read([("get", "/a/b"), ("get_children", "/a"), ("get", "/no")])
    assert data == await zk.get("/a/b")
    assert children == ["b"]
    assert isinstance(missing, zabkit.NoNodeError)
    assert missing.path == "/no"


async def test_the_configuration_is_read_wherever_the_chroot_is(zk: Client) -> None:
    async with Client(zk.server or "") as root:
        if await root.exists("/zookeeper/config") is not None:
            assert await zk.get_config() == await root.get("/zookeeper/config")
            return
        for client in (zk, root):
            with pytest.raises(zabkit.NoNodeError, match="'/zookeeper/config'"):
                await client.get_config()


async def test_sync_gives_the_path(zk: Client) -> None:
    assert await zk.sync("/a") == "/a"
    assert await zk.sync() == "/"


async def test_nowait_keeps_the_order_of_the_calls(zk: Client) -> None:
    calls = [zk.nowait.create("/a", b"0")]
    writes = [zk.nowait.set("/a", str(n).encode()) for n in range(1, 200)]
    read = zk.nowait.get("/a")
    assert (await read)[0] == b"199"
    assert calls[0].done()
    assert [write.result().version for write in writes] == list(range(1, 200))


async def test_nowait_gives_futures_of_the_running_loop(zk: Client) -> None:
    calls: list[asyncio.Future[Any]] = [
        zk.nowait.create("/a"),
        zk.nowait.exists("/a"),
        zk.nowait.get_acls("/a"),
        zk.nowait.who_am_i(),
        zk.nowait.multi_read([("get", "/a")]),
        zk.nowait.sync(),
    ]
    assert all(asyncio.isfuture(call) and call.get_loop() is asyncio.get_running_loop() for call in calls)
    assert not any(isinstance(call, asyncio.Task) for call in calls)
    await asyncio.gather(*calls)


async def test_a_call_whose_future_is_dropped_is_carried_out(zk: Client) -> None:
    zk.nowait.create("/a")
    zk.nowait.create("/a")  # Fails, and nobody asks.
    await zk.sync()
    assert await zk.exists("/a") is not None


async def test_many_calls_at_once_are_all_answered(zk: Client) -> None:
    await zk.create("/a", b"1")
    answers = await asyncio.gather(*(zk.get("/a") for _ in range(3000)))
    assert {data for data, _ in answers} == {b"1"}


@pytest.mark.skipif(not hasattr(asyncio, "TaskGroup"), reason="Python 3.11 has it")
async def test_the_calls_are_coroutines_for_a_task_group(zk: Client) -> None:
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(zk.create("/n-", sequence=True)) for _ in range(10)]
        group.create_task(zk.ensure_path("/a/b"))
    assert sorted(task.result() for task in made) == [f"/n-{number:010}" for number in range(10)]
