"""The fixture `zk` of the pytest plugin, in runs of its own: under each plugin that runs coroutines, in its loop."""

from __future__ import annotations

import pytest
from plugin_runs import AUTO, STRICT, Run

# What a client sees, and that its loop is that of the test and of the test's own fixtures.
CONNECTED = """
import asyncio, pytest, zabkit
FIXTURE
MARK

@fixture
async def seeded(zk):
    await zk.create("/seed", b"1")
    yield asyncio.get_running_loop()
    await zk.delete("/seed")

class TestZk:
    async def test_it_is_connected(self, zk, seeded):
        assert isinstance(zk, zabkit.Client)
        assert seeded is asyncio.get_running_loop()
        assert (await zk.get("/seed"))[0] == b"1"

    async def test_it_has_a_chroot_of_its_own(self, zk, zk_ensemble):
        assert await zk.get_children("/") == []
        async with zabkit.Client(zk_ensemble.hosts) as other:
            assert zk.chroot.lstrip("/") in await other.get_children("/")
            assert zk.chroot.startswith("/test_it_has_a_chroot_of_its_own")

    async def test_it_outlives_the_leader(self, zk, zk_ensemble):
        await zk.create("/before", b"")
        await zk_ensemble.leader.kill()
        assert await zk.exists("/before")
"""
PYTEST_ASYNCIO = "import pytest_asyncio; fixture = pytest_asyncio.fixture"
PYTEST = "fixture = pytest.fixture"


UVLOOP = """
@pytest.fixture
def anyio_backend():
    return "asyncio", {"use_uvloop": True}
"""
IN_EVERY_LOOP = "asyncio_default_fixture_loop_scope = session\nasyncio_default_test_loop_scope = session\n"


def _marked(scope: str) -> tuple[str, str, str, tuple[str, ...]]:
    fixture = f"import pytest_asyncio; fixture = pytest_asyncio.fixture(loop_scope='{scope}')"
    return fixture, f"pytestmark = pytest.mark.asyncio(loop_scope='{scope}')", STRICT, ()


@pytest.mark.parametrize(
    ("fixture", "mark", "ini", "args"),
    [
        pytest.param(PYTEST_ASYNCIO, "pytestmark = pytest.mark.asyncio", STRICT, (), id="strict"),
        pytest.param(*_marked("class"), id="class-loop"),
        pytest.param(*_marked("module"), id="module-loop"),
        pytest.param(*_marked("session"), id="session-loop"),
        pytest.param(PYTEST, "", AUTO, (), id="auto"),
        pytest.param(PYTEST, "", "[pytest]\nasyncio_mode = auto\n" + IN_EVERY_LOOP, (), id="auto-session-loop"),
        pytest.param(PYTEST, "", AUTO, ("-p", "no:anyio"), id="auto-alone"),
        pytest.param(PYTEST, "pytestmark = pytest.mark.anyio", STRICT, ("-k", "not trio"), id="anyio"),
        pytest.param(
            PYTEST,
            "pytestmark = pytest.mark.anyio",
            "[pytest]\n",
            ("-k", "not trio", "-p", "no:asyncio"),
            id="anyio-alone",
        ),
        pytest.param(PYTEST, "pytestmark = pytest.mark.anyio\n" + UVLOOP, STRICT, (), id="uvloop"),
    ],
)
def test_zk_is_a_client_in_the_loop_of_its_test(
    run: Run, fixture: str, mark: str, ini: str, args: tuple[str, ...]
) -> None:
    result = run(CONNECTED.replace("FIXTURE", fixture).replace("MARK", mark), ini=ini, args=args)
    result.assert_outcomes(passed=3, deselected=3 if "not trio" in args else 0)


def test_zk_connects_to_what_the_test_uses(run: Run) -> None:
    result = run(
        """
        import pytest

        async def test_of_an_ensemble(zk):
            assert await zk.get_children("/") == []
            assert len(await zk.nowait.get_children("/")) == 0

        async def test_of_a_server(zk, zk_server):
            assert zk.server == zk_server.hosts

        async def test_of_both(zk, zk_server, zk_ensemble):
            assert zk.server in zk_ensemble.hosts.split(",")

        @pytest.mark.zabkit(servers=1)
        async def test_of_one(zk, zk_ensemble):
            assert zk.server == zk_ensemble.hosts
        """,
        ini=AUTO,
    )
    result.assert_outcomes(passed=4)


def test_tests_that_share_servers_see_nothing_of_each_other(run: Run) -> None:
    result = run(
        """
        import pytest

        pytestmark = pytest.mark.zabkit(scope="module")

        @pytest.mark.parametrize("turn", ["/", "a b", "ä", ".."])
        async def test_empty(zk, turn):
            assert await zk.get_children("/") == []
            await zk.create("/left", b"")

        async def test_all_were_on_one_ensemble(zk, zk_ensemble):
            import zabkit

            async with zabkit.Client(zk_ensemble.hosts) as root:
                roots = await root.get_children("/")
            assert sum(name.startswith("test_empty") for name in roots) == 4
        """,
        ini=AUTO,
    )
    result.assert_outcomes(passed=5)


def test_where_there_is_no_loop_for_zk_the_reason_is_given(run: Run) -> None:
    result = run(
        """
        import pytest

        def test_blocking(zk): pass

        @pytest.mark.anyio
        async def test_trio(zk): pass
        """,
        args=("-k", "not asyncio"),
    )
    result.assert_outcomes(errors=2, deselected=1)
    result.stdout.fnmatch_lines(
        ["zk is an asyncio client, for `async def` tests*", "zabkit needs asyncio, and this test runs on trio.*"]
    )
    result = run(
        """
        import pytest

        @pytest.mark.anyio
        async def test_two_runners(zk): pass
        """,
        ini=AUTO,
        args=("-k", "not trio"),
    )
    result.assert_outcomes(errors=1, deselected=1)
    result.stdout.fnmatch_lines(["Both pytest-asyncio and anyio would run this test*"])


def test_zk_ends_without_an_error_when_its_servers_have_gone(run: Run) -> None:
    result = run(
        """
        async def test_killed(zk, zk_ensemble):
            await zk_ensemble.kill()

        async def test_stopped(zk, zk_ensemble):
            await zk_ensemble.stop()

        async def test_killed_server(zk, zk_server):
            await zk_server.kill()
        """,
        ini=AUTO,
    )
    result.assert_outcomes(passed=3)
