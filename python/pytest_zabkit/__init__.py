"""The pytest plugin: real ZooKeeper servers, and a client of them, as fixtures. See ``docs/testing.md``.

pytest loads this module in every run in an environment that has zabkit. So it stands outside the package `zabkit`, and
imports nothing of it and no event loop until a test asks for a fixture.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import zabkit

__all__ = ["zk", "zk_ensemble", "zk_server"]

_MARKER = """\
zabkit(servers=3, tick_time_ms=200, timeout=30.0, scope="function"): what zk_ensemble and zk_server start. \
servers: size of the ensemble. tick_time_ms: ZooKeeper's tickTime. timeout: seconds that the start may take. \
scope: "function", "class", "module" or "session", how long the servers live; its default is the ini zabkit_scope.\
"""

# What tells how the servers of a test stand, by their kind.
_reports = pytest.StashKey[dict[str, Callable[[], str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "zabkit_scope",
        "how long the servers of zk_ensemble and zk_server live: function (fresh for each test), class, module or "
        "session",
        default="function",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)
    pytest_asyncio = sys.modules.get("pytest_asyncio.plugin")
    if pytest_asyncio and config.pluginmanager.is_registered(pytest_asyncio):
        with contextlib.suppress(TypeError):  # Before 0.24 it knew no `loop_scope`.
            from pytest_zabkit import _asyncio

            config.pluginmanager.register(_asyncio, "zabkit-asyncio")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    reports = item.stash.get(_reports, {})
    if report.failed:
        report.sections += [(f"zabkit {kind}", text()) for kind, text in reports.items()]
    if report.when == "teardown":
        reports.clear()  # pytest keeps all tests until the end of the run.
    return report


@pytest.fixture
def zk_ensemble(request: pytest.FixtureRequest) -> Iterator[zabkit.Ensemble | zabkit.blocking.Ensemble]:
    """Three ZooKeeper servers in this process, which serve; fresh for each test, gone after it.

    An ``async def`` test gets a ``zabkit.Ensemble``, whose methods are awaited, any other test a
    ``zabkit.blocking.Ensemble``. ``@pytest.mark.zabkit(servers=5, tick_time_ms=100, scope="module")`` changes it.
    """
    from pytest_zabkit import _servers

    with _servers.lend(_servers.ENSEMBLE, request, request.node.stash.setdefault(_reports, {})) as ensemble:
        yield ensemble


@pytest.fixture
def zk_server(request: pytest.FixtureRequest) -> Iterator[zabkit.Server | zabkit.blocking.Server]:
    """One standalone ZooKeeper server in this process; fresh for each test, gone after it.

    An ``async def`` test gets a ``zabkit.Server``, whose methods are awaited, any other test a
    ``zabkit.blocking.Server``. ``@pytest.mark.zabkit(tick_time_ms=100, scope="module")`` changes it.
    """
    from pytest_zabkit import _servers

    with _servers.lend(_servers.SERVER, request, request.node.stash.setdefault(_reports, {})) as server:
        yield server


@pytest.fixture
def zk(request: pytest.FixtureRequest) -> zabkit.Client:
    """A connected ``zabkit.Client`` under a chroot of the test's own, in the event loop that runs the test.

    It is a client of `zk_ensemble`; in a test that uses `zk_server` and no ensemble, of that. For ``async def`` tests
    that pytest-asyncio or, on asyncio, anyio runs.
    """
    from pytest_zabkit import _client

    client: zabkit.Client = request.getfixturevalue(_client.fixture_name(request))
    return client


@pytest.fixture
def _zk_hosts(request: pytest.FixtureRequest) -> str:
    from pytest_zabkit import _client

    return _client.hosts(request)


@pytest.fixture
async def _zk_anyio(_zk_hosts: str) -> AsyncIterator[zabkit.Client]:
    from pytest_zabkit import _client

    async with _client.connected(_zk_hosts) as client:
        yield client
