"""The bridge between a session in Rust and the caller's event loop: safe whatever the program does to either."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import weakref

import pytest
from aids import threads
from cores import Told, addresses, begin, connected, eventually

import zabkit
from zabkit import errors
from zabkit._zabkit import ClientCore

pytestmark = pytest.mark.zabkit(scope="module")


def open_files() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("fallback", [False, True])
async def test_of_a_thousand_tasks_half_are_cancelled_and_the_others_get_their_own_answers(
    zk_server: zabkit.Server, fallback: bool
) -> None:
    async with connected(zk_server.hosts, fallback=fallback) as (core, _):
        root = f"/half-{fallback}"
        await core.create(root, b"", None, 0, 0, False)
        await asyncio.gather(*(core.create(f"{root}/{n}", b"%d" % n, None, 0, 0, False) for n in range(1000)))

        async def read(n: int) -> int:
            data, stat = await core.get(f"{root}/{n}", None)
            assert stat.dataLength == len(data)
            return int(data)

        for turn in range(5):
            tasks = [asyncio.ensure_future(read(n)) for n in range(1000)]
            for _ in range(turn):  # Before anything is sent, when it is, when answers come...
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert results[1::2] == list(range(1, 1000, 2))
            assert all(isinstance(each, asyncio.CancelledError) or each == 2 * n for n, each in enumerate(results[::2]))
        assert core.in_flight <= 1000
        await core.sync("/")
        assert core.in_flight == 0, "a cancelled call keeps its place only until its answer comes"


async def test_a_wait_that_times_out_gives_up_the_answer_and_not_the_client(zk_server: zabkit.Server) -> None:
    async with connected(zk_server.hosts) as (core, _):
        await core.create("/timed", b"1", None, 0, 0, False)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(core.get("/timed", None), 0)
        future = core.set("/timed", b"2", -1)
        shielded = asyncio.shield(future)
        shielded.cancel()
        with pytest.raises(asyncio.CancelledError):
            await shielded
        assert (await future).version == 1
        assert (await core.get("/timed", None))[0] == b"2"


async def test_what_a_cancelled_call_asked_for_still_happens(zk_server: zabkit.Server) -> None:
    async with connected(zk_server.hosts) as (core, _):
        core.create("/cancelled", b"", None, 0, 0, False).cancel()
        assert await core.exists("/cancelled", None) is not None


@pytest.mark.parametrize("fallback", [False, True])
async def test_an_event_is_told_before_the_reply_that_shows_the_change(
    zk_server: zabkit.Server, fallback: bool
) -> None:
    async with connected(zk_server.hosts, fallback=fallback) as (core, told), connected(zk_server.hosts) as (other, _):
        path = await core.create("/watched-", b"", None, 2, 0, False)
        for watch in range(1, 100):
            await core.get(path, watch)
            await other.set(path, b"%d" % watch, -1)
            seen: list[bool] = []
            while not seen or not seen[-1]:
                data, _ = await core.get(path, None)
                seen.append(data == b"%d" % watch)
            assert [event[:2] for event in told.watches] == [([n], 3) for n in range(1, watch + 1)]


@pytest.mark.parametrize("fallback", [False, True])
async def test_large_data_both_ways_at_once(zk_server: zabkit.Server, fallback: bool) -> None:
    """More than the kernel's buffers take: the loop says when the socket takes bytes again."""
    async with connected(zk_server.hosts, fallback=fallback) as (core, _):
        root = f"/large-{fallback}"
        await core.create(root, b"", None, 0, 0, False)
        datas = [os.urandom(900_000) for _ in range(30)]
        calls = [core.create(f"{root}/{n}", data, None, 0, 0, False) for n, data in enumerate(datas)]
        reads = [core.get(f"{root}/{n}", None) for n in range(30)]
        await asyncio.gather(*calls)
        assert [data for data, _ in await asyncio.gather(*reads)] == datas


@pytest.mark.zabkit(scope="function")
def test_a_link_that_the_server_has_closed_is_noticed_before_a_write_is_put_into_it(
    zk_server: zabkit.blocking.Server,
) -> None:
    async def main() -> None:
        async with connected(zk_server.hosts) as (core, told):
            path = await core.create("/a", b"", None, 0, 0, False)
            for n in range(10):
                zk_server.restart()  # Blocks this loop, which so cannot have told the core of the closed socket.
                assert (await core.set(path, b"", -1)).version == n + 1
            assert told.states.count("SUSPENDED") == 10

    asyncio.run(main())


async def test_a_listener_that_fails_is_reported_and_harms_nobody(zk_server: zabkit.Server) -> None:
    reports: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))

    def fail(*_: object) -> None:
        raise KeyError("mine")

    core = begin(zk_server.hosts, fail)
    assert await core.exists("/", None) is not None
    await core.close()
    assert [str(each["exception"]) for each in reports] == ["'mine'", "'mine'"], "CONNECTED and CLOSED"


async def test_a_listener_may_call_the_client(zk_server: zabkit.Server) -> None:
    """It is called in the middle of what the core has to tell; what it causes is told after that."""
    calls: list[asyncio.Future[object]] = []
    told = Told()

    def listen(*event: object) -> None:
        told(*event)
        if event[:2] == ("state", "CONNECTED"):
            calls.append(core.exists("/", None))
            calls.append(core.close())
            with pytest.raises(errors.ConnectionClosedError):
                core.exists("/", None)

    core = begin(zk_server.hosts, listen)
    await told.until("state", "CLOSED")
    assert await calls[0] is not None
    assert await calls[1] is None


def test_what_is_wrong_at_once_is_raised_at_once_and_nothing_is_sent(zk_server: zabkit.blocking.Server) -> None:
    async def main() -> None:
        async with connected(zk_server.hosts) as (core, _):
            for refused in (
                lambda: core.get("a", None),
                lambda: core.create("/a", b"x" * 1_048_576, None, 0, 0, False),
                lambda: core.multi([(1, "/b", b"", None, 0, 0), (1, "c", b"", None, 0, 0)]),
            ):
                with pytest.raises(errors.BadArgumentsError):
                    refused()
            for wrong in (
                lambda: core.get(b"/a", None),
                lambda: core.set("/a", "text", -1),
                lambda: core.multi([("create", "/b")]),
            ):
                with pytest.raises(TypeError):
                    wrong()
            with pytest.raises(ValueError, match="number 7"):
                core.create("/a", b"", None, 7, 0, False)
            assert core.in_flight == 0
            assert await core.exists("/b", None) is None

    asyncio.run(main())


def test_a_loop_that_is_closed_with_calls_in_flight_is_silent_and_leaks_nothing(
    zk_server: zabkit.blocking.Server,
) -> None:
    """In another process, since it is stderr that must be empty."""
    program = """
        import asyncio, gc, os, sys, weakref
        from cores import Told, begin

        files = len(os.listdir("/proc/self/fd"))
        for fallback in (False, True):
            loop = asyncio.new_event_loop()
            told = None

            async def main():
                global told
                told = Told()
                core = begin(sys.argv[1], told, fallback=fallback)
                await told.until("state", "CONNECTED")
                return core, [core.get("/", 1) for _ in range(50)]

            core, calls = loop.run_until_complete(main())
            calls += [core.get("/", 1) for _ in range(50)]
            loop.close()
            core, calls, loop, told = weakref.ref(core), None, None, None
            gc.collect()
            assert core() is None, "the core is kept"
        assert len(os.listdir("/proc/self/fd")) == files, os.listdir("/proc/self/fd")
        assert len(os.listdir("/proc/self/task")) == 1, "a client has one thread, the caller's"
    """
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(program), zk_server.hosts],
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__), "PYTHONWARNINGS": "ignore::ResourceWarning"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_calls_on_a_closed_loop_raise_and_abort_is_quiet(zk_server: zabkit.blocking.Server) -> None:
    loop = asyncio.new_event_loop()

    async def main() -> ClientCore:
        told = Told()
        core = begin(zk_server.hosts, told)
        await told.until("state", "CONNECTED")
        core.get("/", None)
        return core

    core = loop.run_until_complete(main())
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        core.get("/", None)
    core.abort()
    assert core.state == "CLOSED"
    assert core.in_flight == 0


@pytest.mark.parametrize("fallback", [False, True])
def test_an_aborted_client_lets_go_of_everything_while_its_loop_runs_on(
    zk_server: zabkit.blocking.Server, fallback: bool
) -> None:
    async def main() -> None:
        files = open_files()
        for _ in range(20):
            told = Told()
            core = begin(zk_server.hosts, told, fallback=fallback)
            await told.until("state", "CONNECTED")
            call = core.create("/never-mind", b"", None, 1, 0, False)
            core.abort()
            with pytest.raises(errors.ConnectionClosedError):
                await call
            assert told.states == ["CLOSED"]
            kept = weakref.ref(core)
            del core, call, told
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            gc.collect()
            assert kept() is None
        await eventually(lambda: open_files() <= files)  # The server, in this process too, closes its ends by and by.

    asyncio.run(main())


def test_a_client_is_aborted_from_another_thread_as_a_garbage_collection_does(
    zk_server: zabkit.blocking.Server,
) -> None:
    async def main() -> None:
        told = Told()
        core = begin(zk_server.hosts, told)
        await told.until("state", "CONNECTED")
        call = core.create("/other-thread", b"", None, 1, 0, False)
        thread = threading.Thread(target=core.abort)
        thread.start()
        thread.join()
        assert not call.done(), "only the loop's own thread may resolve it"
        with pytest.raises(errors.ConnectionClosedError):
            await asyncio.wait_for(call, 30)
        assert told.states == ["CLOSED"]

    asyncio.run(main())


def test_closed_clients_leave_no_files_threads_or_objects(zk_server: zabkit.blocking.Server) -> None:
    async def main() -> None:
        async with connected(zk_server.hosts):
            pass
        files, running = open_files(), threads()
        kept = []
        for fallback in (False, True) * 20:
            async with connected(zk_server.hosts, fallback=fallback) as (core, told):
                await core.get("/", 1)
                kept.append((weakref.ref(core), weakref.ref(told)))
            del core, told
        await asyncio.sleep(0)
        gc.collect()
        assert [each for pair in kept for each in pair if each() is not None] == []
        await eventually(lambda: open_files() <= files)  # The server, in this process too, closes its ends by and by.
        assert threads() == running

    asyncio.run(main())


def test_four_loops_in_four_threads(zk_server: zabkit.blocking.Server) -> None:
    failures: list[BaseException] = []

    async def main(name: int) -> None:
        async with connected(zk_server.hosts) as (core, _):
            path = await core.create(f"/loop-{name}", b"", None, 0, 0, False)
            for n in range(50):
                await asyncio.gather(*(core.set(path, b"%d" % n, -1) for _ in range(20)))
                assert (await core.get(path, None))[0] == b"%d" % n
            assert (await core.get(path, None))[1].version == 1000

    def run(name: int) -> None:
        try:
            asyncio.run(main(name))
        except BaseException as failure:
            failures.append(failure)

    running = [threading.Thread(target=run, args=(name,)) for name in range(4)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
    assert failures == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_gets_a_clear_error_can_have_a_client_and_harms_nobody(
    zk_server: zabkit.blocking.Server,
) -> None:
    async def child_main() -> None:
        async with connected(zk_server.hosts) as (core, _):
            await core.create("/by-the-child", b"", None, 0, 0, False)

    def child(core: ClientCore) -> str:
        said = []
        for touch in (
            lambda: core.get("/", None),
            lambda: core.close(),
            lambda: core.forget_watch(1),
            lambda: core.set_hosts([("127.0.0.1", 1)]),
            lambda: core.state,
            lambda: core.client_id,
        ):
            try:
                touch()
            except errors.ForkError as error:
                said.append(str(error))
        if len(said) != 6:
            return f"only {said}"
        core.abort()
        asyncio.events._set_running_loop(None)
        asyncio.run(child_main())
        return "fine"

    async def main() -> int:
        async with connected(zk_server.hosts) as (core, told):
            before = core.client_id
            calls = [core.get("/", None) for _ in range(100)]
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                try:
                    os.write(writer, child(core).encode())
                except BaseException as error:
                    os.write(writer, repr(error).encode())
                os._exit(0)
            os.close(writer)
            # The parent's session goes on while the child lives, and after it.
            assert len(await asyncio.gather(*calls)) == 100
            with os.fdopen(reader, "rb") as pipe:
                said = await asyncio.get_running_loop().run_in_executor(None, pipe.read)
            assert said == b"fine"
            assert await core.exists("/by-the-child", None) is not None
            assert core.client_id == before
            assert told.states == []
            return pid

    assert os.waitpid(asyncio.run(main()), 0)[1] == 0


def test_a_program_that_uses_a_client_has_one_thread(zk_server: zabkit.blocking.Server) -> None:
    program = """
        import asyncio, os, sys
        from cores import connected

        async def main():
            async with connected(sys.argv[1]) as (core, _):
                await asyncio.gather(*(core.get("/", None) for _ in range(100)))
                return len(os.listdir("/proc/self/task"))

        print(asyncio.run(main()))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), zk_server.hosts],
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "1\n", "")


def test_a_loop_that_is_blocked_finds_its_answers_before_it_gives_the_link_up(
    zk_server: zabkit.blocking.Server,
) -> None:
    """A process that was stopped for a while: bytes that have come count before the time that has passed."""
    program = """
        import asyncio, os, signal, sys
        from cores import connected

        async def main():
            async with connected(sys.argv[1], timeout_ms=4000) as (core, told):
                calls = [core.get("/", None) for _ in range(10)]
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                print("stop me", flush=True)
                sys.stdin.readline()
                await asyncio.gather(*calls)
                print(told.states, flush=True)

        asyncio.run(main())
    """
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), zk_server.hosts],
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdin is not None
    assert run.stdout is not None
    assert run.stdout.readline() == "stop me\n"
    run.send_signal(signal.SIGSTOP)
    # 2/3 of the timeout, after which a silent link is given up, and less than the timeout, after which the server ends
    # the session: what passes here is the time of the test and nothing that it waits for.
    threading.Event().wait(3.0)
    run.send_signal(signal.SIGCONT)
    out, _ = run.communicate("\n", timeout=30)
    assert out == "[]\n"


async def test_hosts_that_refuse_are_passed_over(zk_server: zabkit.Server) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        for fallback in (False, True):
            async with connected(f"127.0.0.1:{port},{zk_server.hosts}", fallback=fallback) as (core, _):
                assert core.server == addresses(zk_server.hosts)[0]


async def test_an_ipv6_address_and_a_host_list_that_changes(zk_server: zabkit.Server) -> None:
    told = Told()
    core = begin("::1:1", told)
    call = core.exists("/", None)
    core.set_hosts(addresses(zk_server.hosts))
    assert await call is not None
    await core.close()
    with pytest.raises(ValueError, match="localhost"):
        core.set_hosts([("localhost", 1)])


async def test_the_connected_address_stays_and_the_last_failure_is_told(zk_server: zabkit.Server) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        refusing = f"127.0.0.1:{nobody.getsockname()[1]}"
        told = Told()
        core = begin(refusing, told)
        await eventually(lambda: core.last_failure is not None)
        assert core.last_failure == f"{refusing}: Connection refused (os error 111)"
        core.set_hosts(addresses(zk_server.hosts))
        await told.until("state", "CONNECTED")
        core.set_hosts(addresses(refusing))
        assert core.server == addresses(zk_server.hosts)[0]
        await core.close()


async def test_hosts_are_tried_in_their_order_with_seed_zero(zk_server: zabkit.Server) -> None:
    loop = asyncio.get_running_loop()
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
    asked: list[int] = []
    for index, server in enumerate(servers):
        server.setblocking(False)

        def accept(index: int = index, server: socket.socket = server) -> None:
            server.accept()[0].close()
            asked.append(index)

        loop.add_reader(server, accept)
    hosts = [("127.0.0.1", server.getsockname()[1]) for server in servers]
    core = ClientCore(loop, hosts, "", 10_000, False, None, [], 0, Told(), False)
    core.start()
    await eventually(lambda: len(asked) >= 8)
    core.abort()
    for server in servers:
        loop.remove_reader(server)
        server.close()
    assert asked[:8] == [0, 1, 2, 3, 0, 1, 2, 3]


async def test_to_close_twice_or_after_the_end_is_to_wait_for_the_same(zk_server: zabkit.Server) -> None:
    told = Told()
    core = begin(zk_server.hosts, told)
    await told.until("state", "CONNECTED")
    await asyncio.wait_for(asyncio.gather(core.close(), core.close()), 30)
    await asyncio.wait_for(core.close(), 30)
    assert told.states == ["CLOSED"]
    refused = ClientCore(
        asyncio.get_running_loop(),
        addresses(zk_server.hosts),
        "",
        10_000,
        False,
        None,
        [("nothing", b"")],
        1,
        told,
        False,
    )
    refused.start()
    await told.until("state", "AUTH_FAILED")
    await asyncio.wait_for(refused.close(), 30)
    assert refused.state == "AUTH_FAILED"


def test_uvloop_works(zk_server: zabkit.blocking.Server) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async with connected(zk_server.hosts) as (core, told):
            path = await core.create("/uv-", b"", None, 2, 0, False)
            calls = [core.get(path, None) for _ in range(1000)]
            for call in calls[::2]:
                call.cancel()
            assert [data for data, _ in await asyncio.gather(*calls[1::2])] == [b""] * 500
            await core.exists(path, 7)
            await core.delete(path, -1)
            await told.until("watch", [7], 2)

    loop = uvloop.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
