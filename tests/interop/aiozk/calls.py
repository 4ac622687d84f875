"""aiozk's calls against three servers, each with the answer that Apache ZooKeeper gives."""

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiozk import ACL, WatchEvent, ZKClient, exc, protocol
from aiozk.states import States

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "process"))

from harness.ensemble import Ensemble

#: Seconds; only a hang takes so long.
LONG = 30.0


@pytest.fixture(scope="module")
def trio():
    with Ensemble(3) as three:
        yield three.start()


@asynccontextmanager
async def connected(hosts, chroot="/calls", **options):
    client = ZKClient(hosts, chroot=chroot, session_timeout=10, **options)
    await asyncio.wait_for(client.start(), LONG)
    try:
        yield client
    finally:
        await asyncio.wait_for(client.close(), LONG)


@pytest.fixture
async def zk(trio, request):
    async with connected(trio.hosts, chroot=f"/{request.node.name}") as client:
        yield client


async def test_the_version_and_the_mode_are_read_from_srvr(trio):
    for member in trio:
        async with connected(member.host) as client:
            assert client.session.conn.version_info >= (3, 9, 0) or client.session.conn.version_info[:2] == (3, 8)
            assert client.session.conn.start_read_only is False
            assert client.features.containers
            assert client.features.create_with_stat


async def test_create_get_set_exists_delete(zk):
    assert await zk.create("/node", b"one") == "/node"
    data, stat = await zk.get("/node")
    assert (data, stat.version, stat.data_length, stat.ephemeral_owner) == (b"one", 0, 3, 0)
    assert (await zk.set("/node", b"three", 0)).version == 1
    with pytest.raises(exc.BadVersion):
        await zk.set("/node", b"x", 0)
    await zk.set_data("/node", b"four", force=True)
    assert await zk.get_data("/node") == b"four"
    assert await zk.exists("/node")
    with pytest.raises(exc.NodeExists):
        await zk.create("/node")
    await zk.delete("/node", force=True)
    assert not await zk.exists("/node")
    for call in (zk.get("/node"), zk.delete("/node"), zk.get_children("/node"), zk.set_data("/node", b"")):
        with pytest.raises(exc.NoNode):
            await call


async def test_children_sequence_numbers_and_deleting_a_whole_tree(zk):
    await zk.ensure_path("/a/b/c")
    assert await zk.get_children("/a") == ["b"]
    with pytest.raises(exc.NotEmpty):
        await zk.delete("/a/b", force=True)
    names = [await zk.create("/a/n-", sequential=True) for _ in range(3)]
    assert names == [f"/a/n-{number:010}" for number in (1, 2, 3)]
    assert sorted(await zk.get_children("/a")) == ["b", *(name.rpartition("/")[2] for name in names)]
    await zk.deleteall("/a")
    assert not await zk.exists("/a")


async def test_an_ephemeral_ends_with_its_session(trio, zk):
    async with connected(trio.hosts, chroot=zk.chroot) as other:
        await other.create("/mine", b"", ephemeral=True)
        with pytest.raises(exc.NoChildrenForEphemerals):
            await other.create("/mine/child")
        await zk.send(protocol.SyncRequest(path=zk.normalize_path("/mine")))
        _, stat = await zk.get("/mine")
        assert stat.ephemeral_owner == other.session.session_id
        gone = zk.wait_for_events([WatchEvent.DELETED], "/mine")
        assert await zk.exists("/mine", watch=True)
    await asyncio.wait_for(gone, LONG)
    assert not await zk.exists("/mine")


async def test_a_container_is_made(zk):
    await zk.create("/container", container=True)
    await zk.create("/container/child")
    assert await zk.get_children("/container") == ["child"]
    assert (await zk.get("/container"))[1].ephemeral_owner == 0


async def test_a_lone_watch_fires_once_for_each_kind_of_change(zk):
    async def fires(kind, path, change):
        event = zk.wait_for_events([kind], path)
        if kind == WatchEvent.CHILDREN_CHANGED:
            await zk.get_children(path, watch=True)
        else:
            await zk.exists(path, watch=True)
        await change
        await asyncio.wait_for(event, LONG)

    await fires(WatchEvent.CREATED, "/watched", zk.create("/watched"))
    await fires(WatchEvent.DATA_CHANGED, "/watched", zk.set_data("/watched", b"new", force=True))
    await fires(WatchEvent.CHILDREN_CHANGED, "/watched", zk.create("/watched/child"))
    await zk.delete("/watched/child", force=True)
    await fires(WatchEvent.DELETED, "/watched", zk.delete("/watched", force=True))


async def test_watchers_see_data_and_children(zk):
    await zk.create("/w", b"first")
    data, children = asyncio.Queue(), asyncio.Queue()
    data_watcher, children_watcher = zk.recipes.DataWatcher(), zk.recipes.ChildrenWatcher()
    data_watcher.add_callback("/w", data.put_nowait)
    children_watcher.add_callback("/w", children.put_nowait)
    assert await asyncio.wait_for(data.get(), LONG) == b"first"
    assert await asyncio.wait_for(children.get(), LONG) == []
    await zk.set_data("/w", b"second", force=True)
    assert await asyncio.wait_for(data.get(), LONG) == b"second"
    await zk.create("/w/child")
    assert await asyncio.wait_for(children.get(), LONG) == ["child"]
    data_watcher.remove_callback("/w", data.put_nowait)
    children_watcher.remove_callback("/w", children.put_nowait)


async def test_a_transaction_is_all_or_nothing(zk):
    await zk.create("/t", b"0")
    transaction = zk.begin_transaction()
    transaction.check_version("/t", 0)
    transaction.create("/t/made", b"x")
    transaction.set_data("/t", b"1", 0)
    transaction.delete("/t/made", 0)
    result = await transaction.commit()
    assert (result.checked, result.updated) == ({"/t"}, {"/t"})
    assert (result.created, result.deleted) == ({"/t/made"}, {"/t/made"})

    transaction = zk.begin_transaction()
    transaction.create("/t/never")
    transaction.check_version("/t", 99)
    assert not await transaction.commit()
    assert await zk.get_children("/t") == []
    assert await zk.get_data("/t") == b"1"


async def test_acls_are_kept_and_obeyed(zk):
    only_read = ACL.make("world", "anyone", read=True)
    await zk.create("/public", acl=[only_read])
    assert await zk.get_acl("/public") == [only_read]
    with pytest.raises(exc.NoAuth):
        await zk.set_data("/public", b"", force=True)
    await zk.create("/open")
    await zk.set_acl("/open", [only_read], force=True)
    assert await zk.get_acl("/open") == [only_read]
    with pytest.raises(exc.NoAuth):
        await zk.create("/open/child")


async def test_locks_exclude_each_other_over_servers(trio, zk):
    inside = []

    async def worker(member):
        async with connected(member.host, chroot=zk.chroot) as client:
            for _ in range(5):
                async with client.recipes.Lock("/lock"):
                    inside.append(member.id)
                    await client.exists("/")
                    assert inside == [member.id]
                    inside.remove(member.id)

    await asyncio.gather(*(worker(member) for member in trio))


async def test_a_shared_lock_lets_readers_in_together_and_a_writer_alone(trio, zk):
    async with connected(trio.hosts, chroot=zk.chroot) as other:
        one, two = zk.recipes.SharedLock("/shared"), other.recipes.SharedLock("/shared")
        async with one.reader_lock, two.reader_lock:
            with pytest.raises(exc.TimeoutError):
                await other.recipes.SharedLock("/shared").writer_lock.acquire(timeout=0.2)
        async with two.writer_lock:
            pass


async def test_counters_count_over_servers(trio, zk):
    counter = zk.recipes.Counter("/counter")
    await counter.start()
    await counter.incr()
    await counter.incr(by=4)
    assert await counter.get_value() == 5
    counter.stop()


async def test_parties_see_who_comes_and_goes(trio, zk):
    async with connected(trio.hosts, chroot=zk.chroot) as other:
        one, two = zk.recipes.Party("/party", "one"), other.recipes.Party("/party", "two")
        await asyncio.wait_for(one.join(), LONG)
        await asyncio.wait_for(two.join(), LONG)
        while sorted(one.members) != ["one", "two"]:
            await asyncio.wait_for(one.wait_for_change(), LONG)
        await two.leave()
        while one.members != ["one"]:
            await asyncio.wait_for(one.wait_for_change(), LONG)
        await one.leave()


async def test_an_election_has_one_leader_at_a_time(trio, zk):
    async with connected(trio.hosts, chroot=zk.chroot) as other:
        first, second = zk.recipes.LeaderElection("/election"), other.recipes.LeaderElection("/election")
        await first.volunteer()
        await asyncio.wait_for(first.wait_for_leadership(), LONG)
        await second.volunteer()
        assert (first.has_leadership, second.has_leadership) == (True, False)
        await first.resign()
        await asyncio.wait_for(second.wait_for_leadership(), LONG)
        assert second.has_leadership
        await second.resign()


async def test_a_session_survives_its_server(trio):
    """The client goes to another server with the same session, and its watch and its ephemeral go along."""
    async with connected(trio.hosts, chroot="/survives") as client:
        await client.create("/mine", b"before", ephemeral=True)
        session = client.session.session_id
        changed = client.wait_for_events([WatchEvent.DATA_CHANGED], "/mine")
        await client.exists("/mine", watch=True)

        port = client.session.conn.port
        (member,) = (one for one in trio if one.client_port == port)
        member.kill()
        # By itself aiozk notices a cut connection by a heartbeat without an answer: when the session is about to end.
        client.session.state.transition_to(States.SUSPENDED)
        try:
            await asyncio.wait_for(client.set_data("/mine", b"after", force=True), LONG)
            await asyncio.wait_for(changed, LONG)
            assert client.session.session_id == session
            assert (await client.get("/mine"))[1].ephemeral_owner == session
        finally:
            member.start()
            trio.wait_serving()


async def test_a_client_that_may_reads_from_a_server_without_a_quorum():
    # Without local sessions Apache grants no session here; zabkit would.
    with Ensemble(3, config={"readonlymode.enabled": "true", "localSessionsEnabled": "true"}) as three:
        three.start()
        last, *others = three
        async with connected(last.host, chroot="/kept") as client:
            await client.create("/node", b"still here")
        for member in others:
            member.kill()

        # With a chroot it would begin with a write.
        async with connected(last.host, chroot=None, allow_read_only=True) as client:
            assert await client.get_data("/kept/node") == b"still here"
            assert await client.get_children("/kept") == ["node"]
