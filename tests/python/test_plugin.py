"""The pytest plugin, in runs of its own: what each kind of test is lent, for how long, and what a failure shows."""

from __future__ import annotations

import re

import pytest
from plugin_runs import AUTO, STRICT, WITHOUT_ASYNCIO, Run


def test_the_fixtures_and_the_marker_are_listed(run: Run) -> None:
    fixtures = run(args=("--fixtures",)).stdout.str()
    for name in ("zk_ensemble", "zk_server"):
        described = fixtures.split(f"\n{name} --", 1)[1].split("\n\n")[0]
        assert "fresh for each test" in described
    assert "@pytest.mark.zabkit(servers=3, tick_time_ms=200" in run(args=("--markers",)).stdout.str()


def test_a_test_without_asyncio_is_lent_the_blocking_form(run: Run) -> None:
    result = run(
        """
        from zabkit import blocking

        def test_ensemble(zk_ensemble):
            assert isinstance(zk_ensemble, blocking.Ensemble)
            old = zk_ensemble.leader
            old.kill()
            assert zk_ensemble.wait_for_leader().id != old.id
            old.restart()

        def test_server(zk_server):
            assert isinstance(zk_server, blocking.Server)
            zk_server.kill()
            zk_server.restart()
            assert zk_server.status.serving
        """,
        args=WITHOUT_ASYNCIO,
    )
    result.assert_outcomes(passed=2)


ASYNCHRONOUS = """
import pytest, zabkit

MARK

async def test_ensemble(zk_ensemble):
    assert isinstance(zk_ensemble, zabkit.Ensemble)
    old = zk_ensemble.leader
    await old.kill()
    assert (await zk_ensemble.wait_for_leader()).id != old.id
    await old.restart()

async def test_server(zk_server):
    assert isinstance(zk_server, zabkit.Server)
    await zk_server.kill()
    await zk_server.restart()
    assert zk_server.status.serving
"""


@pytest.mark.parametrize(
    ("mark", "ini", "args"),
    [
        ("pytestmark = pytest.mark.asyncio", STRICT, ()),
        ("pytestmark = pytest.mark.asyncio(loop_scope='module')", STRICT, ()),
        ("", AUTO, ()),
        ("", AUTO, ("-p", "no:anyio")),
        ("pytestmark = pytest.mark.anyio", STRICT, ("-k", "asyncio")),
        ("pytestmark = pytest.mark.anyio", "[pytest]\n", ("-k", "asyncio", "-p", "no:asyncio")),
    ],
    ids=["strict", "strict-module-loop", "auto", "auto-alone", "anyio", "anyio-alone"],
)
def test_an_asynchronous_test_is_lent_the_asyncio_form(run: Run, mark: str, ini: str, args: tuple[str, ...]) -> None:
    run(ASYNCHRONOUS.replace("MARK", mark), ini=ini, args=args).assert_outcomes(
        passed=2, deselected=2 if "-k" in args else 0
    )


def test_trio_is_refused_with_advice(run: Run) -> None:
    result = run(ASYNCHRONOUS.replace("MARK", "pytestmark = pytest.mark.anyio"), args=("-k", "trio"))
    result.assert_outcomes(errors=2, deselected=2)
    result.stdout.fnmatch_lines(["zabkit needs asyncio, and this test runs on trio.*anyio_backend*"])


def test_a_run_that_uses_no_fixture_loads_neither_zabkit_nor_asyncio(run: Run) -> None:
    result = run(
        """
        import sys

        def test_nothing():
            assert "pytest_zabkit" in sys.modules
            assert not {"zabkit", "asyncio", "anyio", "pytest_asyncio"} & sys.modules.keys()
        """,
        args=WITHOUT_ASYNCIO,
    )
    result.assert_outcomes(passed=1)


def test_the_nearest_marker_decides_each_setting(run: Run) -> None:
    result = run(
        """
        import pytest

        pytestmark = pytest.mark.zabkit(servers=1, tick_time_ms=100)

        def test_of_the_module(zk_ensemble):
            assert (len(zk_ensemble), zk_ensemble._tick_time_ms) == (1, 100)

        @pytest.mark.zabkit(servers=5)
        def test_of_its_own(zk_ensemble):
            assert (len(zk_ensemble), zk_ensemble._tick_time_ms) == (5, 100)
            assert len(zk_ensemble.followers) == 4

        def test_a_server_takes_what_concerns_it(zk_server):
            assert "tickTime=100" in zk_server._settings.text()
        """
    )
    result.assert_outcomes(passed=3)


def test_what_a_marker_cannot_mean_fails_the_test_with_the_reason(run: Run) -> None:
    result = run(
        """
        import pytest

        @pytest.mark.zabkit(size=5)
        def test_keyword(zk_ensemble): pass

        @pytest.mark.zabkit(5)
        def test_position(zk_ensemble): pass

        @pytest.mark.zabkit(scope="package")
        def test_scope(zk_server): pass

        @pytest.mark.zabkit(servers=0)
        def test_servers(zk_ensemble): pass
        """
    )
    result.assert_outcomes(errors=4)
    result.stdout.fnmatch_lines(
        [
            "@pytest.mark.zabkit takes servers=, tick_time_ms=, timeout=, scope=; not size",
            "@pytest.mark.zabkit takes servers=, tick_time_ms=, timeout=, scope=; not 5",
            "zabkit: a scope is one of function, class, module, session; not 'package'",
            "*ValueError: servers is at least one, not 0",
        ]
    )


def test_every_test_has_fresh_servers_and_leaves_none(run: Run) -> None:
    result = run(
        """
        import socket, pytest

        seen = set()

        @pytest.mark.parametrize("turn", range(3))
        def test_fresh(zk_ensemble, zk_server, turn):
            assert not seen & {zk_server.hosts, *zk_ensemble.hosts.split(",")}
            for hosts in seen:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(hosts.split(":"))
            seen.update([zk_server.hosts, *zk_ensemble.hosts.split(",")])
        """,
    )
    result.assert_outcomes(passed=3)


def test_a_wider_scope_shares_servers_which_are_whole_again_for_each_test(run: Run) -> None:
    result = run(
        """
        import pytest
        import shared

        pytestmark = pytest.mark.zabkit(scope="module")

        async def test_first(zk_ensemble, zk_server):
            shared.ensemble = zk_ensemble.hosts
            shared.server = zk_server.hosts
            await zk_server.kill()
            await zk_ensemble.kill()

        def test_then(zk_ensemble, zk_server):
            assert zk_ensemble.hosts == shared.ensemble
            assert zk_server.hosts == shared.server
            assert all(member.status.serving for member in zk_ensemble)
            zk_ensemble.partition({1}, {2}, {3})
            zk_ensemble[1].pause()
            zk_ensemble[2].fill_disk()
            for member in zk_ensemble:
                member.slow_disk(60.0)

        async def test_what_was_hurt_is_well(zk, zk_ensemble):
            assert all(member.status.serving and not member.is_paused for member in zk_ensemble)
            await zk.create("/a", b"1")
            await zk_ensemble.stop()

        async def test_what_was_stopped_is_started(zk_ensemble):
            assert all(member.status.serving for member in zk_ensemble)
            await zk_ensemble.stop()
            await zk_ensemble.start()
            shared.ensemble = zk_ensemble.hosts

        def test_what_was_started_again_is_what_is_shared(zk_ensemble):
            assert zk_ensemble.hosts == shared.ensemble

        @pytest.mark.zabkit(servers=1)
        def test_other_settings_are_other_servers(zk_ensemble):
            assert len(zk_ensemble) == 1
            assert zk_ensemble.hosts not in shared.ensemble
        """,
        """
        import socket, pytest
        import shared

        def test_they_end_with_their_module(zk_ensemble):
            for address in [shared.server, *shared.ensemble.split(",")]:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(address.split(":"))
        """,
        ini=AUTO + "pythonpath = .\n",
        shared="",
    )
    result.assert_outcomes(passed=7)


def test_shared_servers_that_a_test_has_added_or_removed_are_as_many_as_before(run: Run) -> None:
    result = run(
        """
        import pytest

        pytestmark = pytest.mark.zabkit(scope="module")

        async def test_grown(zk, zk_ensemble):
            await zk_ensemble.add()
            await zk_ensemble.add("observer")
            zk.set_hosts(zk_ensemble.hosts)
            await zk.create("/kept", b"1")
            assert len(zk_ensemble) == 5

        def test_shrunk(zk_ensemble):
            assert len(zk_ensemble) == 3
            assert not zk_ensemble.observers
            zk_ensemble.leader.hand_over()
            zk_ensemble.remove(zk_ensemble.leader)
            zk_ensemble.remove(zk_ensemble.leader)

        async def test_whole(zk, zk_ensemble):
            assert len(zk_ensemble) == 3
            assert len(zk_ensemble.followers) == 2
            await zk.create("/more", b"1")
        """,
        ini=AUTO,
    )
    result.assert_outcomes(passed=3)


def test_a_module_that_is_taken_up_again_has_servers_anew(run: Run) -> None:
    module = """
        import pytest
        import shared

        def test_one(zk_server):
            shared.check_refused()
            shared.last = zk_server.hosts

        def test_two(zk_server):
            shared.check_refused()
            shared.last = zk_server.hosts
    """
    helper = """
        import socket

        last = None

        def check_refused():
            try:
                assert last is None or socket.create_connection(last.split(":")) is None
            except ConnectionRefusedError:
                pass
    """
    # The first module is left for the second one and entered again.
    order = ("test_0.py::test_one", "test_1.py::test_one", "test_0.py::test_two", "test_1.py::test_two")
    ini = STRICT + "zabkit_scope = module\npythonpath = .\n"
    run(module, module, ini=ini, args=order, shared=helper).assert_outcomes(passed=4)


def test_pytest_keeps_nothing_of_a_test_that_is_over(run: Run) -> None:
    result = run(
        """
        import gc, weakref

        refs = []

        async def test_one(zk_ensemble, zk_server):
            refs.extend(map(weakref.ref, (zk_ensemble, zk_server)))

        def test_two(zk_ensemble, zk_server):
            refs.extend(map(weakref.ref, (zk_ensemble, zk_server)))

        def test_three():
            gc.collect()
            assert [ref() for ref in refs] == [None] * 4
        """,
        ini=AUTO,
    )
    result.assert_outcomes(passed=3)


def test_the_ini_option_gives_the_scope_of_all_tests(run: Run) -> None:
    module = """
        import pytest
        import shared

        class TestClass:
            def test_one(self, zk_server):
                assert shared.hosts in (None, zk_server.hosts)
                shared.hosts = zk_server.hosts

            @pytest.mark.zabkit(scope="class")
            def test_two(self, zk_server):
                assert shared.hosts != zk_server.hosts
                type(self).own = zk_server.hosts

            @pytest.mark.zabkit(scope="class")
            def test_three(self, zk_server):
                assert self.own == zk_server.hosts
    """
    ini = STRICT + "zabkit_scope = session\npythonpath = .\n"
    run(module, module, ini=ini, shared="hosts = None").assert_outcomes(passed=6)


def test_a_failure_shows_how_the_servers_stand_and_how_it_came_to_that(run: Run) -> None:
    result = run(
        """
        async def test_fails(zk_ensemble, zk_server):
            old = zk_ensemble.leader
            await old.kill()
            leader = await zk_ensemble.wait_for_leader()
            third = next(member for member in zk_ensemble if member not in (old, leader))
            await third.wait_until_serving()  # It may follow a little later than the leader leads.
            await third.pause()
            assert not "as it should be"

        def test_passes(zk_ensemble):
            pass
        """,
        ini=AUTO,
    )
    result.assert_outcomes(failed=1, passed=1)
    ensemble, server = result.stdout.str().split("-- zabkit ")[1:]
    assert ensemble.startswith("ensemble ")
    members, story = ensemble.split("transitions:\n")
    transitions, log = story.split("log:\n")
    for state in (": ended", ": leading", ": following"):
        assert members.count(state) == 1
    assert members.count(", paused") == 1
    assert re.search(r"leading -> ended, epoch 1: killed\n", transitions)
    assert re.search(r"leading, serving, epoch 2", transitions)
    assert re.search(r"INFO LEADER ELECTION TOOK", log)
    assert server.startswith("server ")
    assert re.search(r"127\.0\.0\.1:\d+: standalone, zxid", server)


def test_an_error_after_the_end_of_the_servers_shows_how_they_stood(run: Run) -> None:
    result = run(
        """
        import pytest

        @pytest.fixture
        def outer():
            yield
            raise RuntimeError

        def test_of_mine(outer, zk_ensemble, zk_server):
            zk_ensemble.leader.kill()
        """
    )
    result.assert_outcomes(passed=1, errors=1)
    ensemble, server = result.stdout.str().split("-- zabkit ")[1:]
    assert ": ended, " in ensemble
    assert "epoch 1: killed" in ensemble
    assert ": standalone, " in server


def test_servers_that_the_test_has_stopped_do_not_spoil_its_report(run: Run) -> None:
    result = run(
        """
        def test_stops(zk_ensemble):
            zk_ensemble.stop()
            assert not "as it should be"
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*AssertionError*", "*- zabkit ensemble -*", "stopped by the test"])


def test_workers_of_xdist_do_not_clash(run: Run) -> None:
    result = run(
        """
        import pytest

        @pytest.mark.parametrize("turn", range(8))
        def test_fresh(zk_ensemble, turn):
            assert zk_ensemble.leader.status.serving
        """,
        args=("-n", "2"),
    )
    result.assert_outcomes(passed=8)
