"""A `zabkit.Client` and the event loops that there are: several, uvloop, one that ends, a fork."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import subprocess
import sys
import textwrap
import warnings

import pytest
from aids import forked
from proxy import Proxy, turns

import zabkit
from zabkit import Client, State

pytestmark = [pytest.mark.zabkit(scope="module"), pytest.mark.usefixtures("transport")]


async def work(hosts: str, name: str) -> list[str]:
    async with Client(hosts) as zk:
        await asyncio.gather(*(zk.create(f"/{name}-", sequence=True, ephemeral=True) for _ in range(100)))
        return await zk.get_ephemerals(f"/{name}")


def test_loops_in_several_threads_have_clients_of_their_own(zk_server: zabkit.blocking.Server) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(lambda name=name: asyncio.run(work(zk_server.hosts, name))) for name in "abcd"]
        assert [len(run.result()) for run in runs] == [100] * 4


def test_one_loop_after_the_other(zk_server: zabkit.blocking.Server) -> None:
    client = Client(zk_server.hosts)

    async def once() -> int:
        async with client:
            assert await client.exists("/") is not None
            assert client.client_id is not None
            return client.client_id[0]

    assert asyncio.run(once()) != asyncio.run(once())


def test_uvloop_runs_it(zk_server: zabkit.blocking.Server) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def on_uvloop() -> None:
        assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
        async with Proxy(zk_server.hosts) as proxy, Client(proxy.hosts) as zk:
            assert len(await work(zk_server.hosts, "uvloop")) == 100
            events: list[zabkit.WatchedEvent] = []
            await zk.create("/uvloop")
            await zk.get("/uvloop", watch=events.append)
            proxy.cut()
            await zk.wait_for_state(State.SUSPENDED)
            await zk.set("/uvloop", b"1")
            assert [event.type for event in events] == ["CHANGED"]
            proxy.hold_answers()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(zk.get("/uvloop"), 0.01)
            proxy.pass_answers()
            await zk.delete("/uvloop")

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(on_uvloop())
    finally:
        loop.close()


def test_a_loop_that_ends_with_the_client_open_ends_cleanly(zk_server: zabkit.blocking.Server) -> None:
    async def forget() -> Client:
        client = Client(zk_server.hosts)
        await client.start()
        client.nowait.get("/")
        return client

    client = asyncio.run(forget())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises((RuntimeError, zabkit.ConnectionClosedError)):
            client.nowait.get("/")
        del client
        gc.collect()
    told = [str(warning.message) for warning in caught if warning.category is ResourceWarning]
    assert len([text for text in told if "zabkit.Client" in text]) == 1


@pytest.mark.parametrize(
    "ending", ["await zk.stop()", "pass", "raise SystemExit(0)", "asyncio.get_running_loop().stop()"]
)
def test_a_program_ends_cleanly_with_a_client_open_or_not(zk_server: zabkit.blocking.Server, ending: str) -> None:
    program = textwrap.dedent(f"""
        import asyncio, zabkit

        async def main():
            global zk
            zk = zabkit.Client("{zk_server.hosts}")
            await zk.start()
            zk.nowait.get("/")
            {ending}

        try:
            asyncio.run(main())
        except RuntimeError as error:
            assert "stopped before Future completed" in str(error)
        print("ended")
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    said = "" if "SystemExit" in ending else "ended\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


def test_a_program_with_only_a_client_has_one_thread(zk_server: zabkit.blocking.Server) -> None:
    program = textwrap.dedent(f"""
        import asyncio, os, zabkit

        async def main():
            async with zabkit.Client("{zk_server.hosts}") as zk:
                await asyncio.gather(*(zk.get("/") for _ in range(100)))
                return len(os.listdir("/proc/self/task"))

        print(asyncio.run(main()))
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "1\n"


async def test_a_forked_child_gets_a_clear_error_and_the_parent_is_unharmed(zk_server: zabkit.Server) -> None:
    holder = [Client(zk_server.hosts)]
    zk = holder[0]
    await zk.start()
    waiting = zk.nowait.get("/")
    for act in (
        lambda: zk.nowait.get("/"),
        lambda: zk.nowait.set("/", b""),
        lambda: zk.get("/").send(None),
        lambda: zk.stop().send(None),
        lambda: zk.nowait.sync(),
    ):
        said = forked(act)
        assert said.startswith("ForkError: "), said
        assert "a forked child needs a client of its own" in said
    assert "zabkit.Client" in repr(zk)
    assert forked(lambda: repr(zk)).startswith(("nothing raised", "ForkError"))

    def drop() -> None:
        nonlocal zk
        holder.clear()
        del zk
        gc.collect()

    assert forked(drop) == "nothing raised"
    await waiting
    assert zk.state is State.CONNECTED
    assert await zk.exists("/") is not None
    await zk.stop()


def test_a_forked_child_may_have_a_client_of_its_own(zk_server: zabkit.blocking.Server) -> None:
    loop = asyncio.new_event_loop()
    zk = Client(zk_server.hosts)
    loop.run_until_complete(zk.start())
    assert forked(lambda: asyncio.run(work(zk_server.hosts, "child"))) == "nothing raised"
    assert len(loop.run_until_complete(work(zk_server.hosts, "parent"))) == 100
    assert loop.run_until_complete(zk.exists("/")) is not None
    assert zk.connected
    loop.run_until_complete(zk.stop())
    loop.close()


async def test_a_client_is_collected_with_its_loop_running(zk_server: zabkit.Server) -> None:
    """The loop keeps the core, and the core must not keep the client."""
    async with Proxy(zk_server.hosts) as proxy:
        client = Client(proxy.hosts)
        client.add_listener(client.__eq__)  # A cycle, as any listener that is a method of the client's owner.
        await client.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del client
            gc.collect()
        await turns(lambda: not proxy._links)


def test_a_client_whose_loop_is_closed_ends_and_starts_anew(zk_server: zabkit.blocking.Server) -> None:
    async def begin(client: Client) -> int:
        await client.start()
        assert client.client_id is not None
        return client.client_id[0]

    async def end(client: Client) -> None:
        await client.stop()

    client = Client(zk_server.hosts)
    first = asyncio.run(begin(client))
    assert client.state is State.CONNECTED  # It cannot know.
    asyncio.run(end(client))
    assert client.state is State.CLOSED

    async def again() -> int:
        await client.start()
        assert await client.exists("/") is not None
        await client.stop()
        return await begin(client)

    second = asyncio.run(again())
    assert second != first
    asyncio.run(again())  # Started on a closed loop, it is started anew.
    asyncio.run(end(client))


def test_a_client_refuses_another_loop_and_stays_well(zk_server: zabkit.blocking.Server) -> None:
    async def main() -> None:
        async with Client(zk_server.hosts) as zk:
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                for act in (zk.start, zk.stop):
                    run = pool.submit(lambda act=act: asyncio.run(act()))
                    with pytest.raises(RuntimeError, match="runs on another event loop"):
                        await asyncio.wrap_future(run)
            assert await zk.exists("/") is not None

    asyncio.run(main())
