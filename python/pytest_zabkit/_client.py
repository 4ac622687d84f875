"""`zk`: a client under a chroot of the test's own, in the event loop that runs the test.

An asynchronous fixture is run by the plugin that runs the test, pytest-asyncio or anyio's, each with rules of its own.
So `zk` itself is synchronous and picks one of the fixtures below and in `_asyncio`, which all do the same.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import AsyncIterator

import pytest

import zabkit
from pytest_zabkit._settings import is_asynchronous, refused

__all__ = ["connected", "fixture_name", "hosts"]

_numbers = itertools.count(1)


def hosts(request: pytest.FixtureRequest) -> str:
    """Where the client of a test connects: the servers that it uses, and a chroot that no other test has."""
    only_server = "zk_server" in request.fixturenames and "zk_ensemble" not in request.fixturenames
    servers: zabkit.Ensemble | zabkit.Server = request.getfixturevalue("zk_server" if only_server else "zk_ensemble")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", request.node.name)
    return f"{servers.hosts}/{name}-{next(_numbers)}"


def fixture_name(request: pytest.FixtureRequest) -> str:
    """Which fixture connects in the loop of this test."""
    if not is_asynchronous(request):
        raise refused("zk is an asyncio client, for `async def` tests; `zk_ensemble.hosts` is for any other client.")
    item = request.node
    marker = item.get_closest_marker("asyncio")
    on_anyio = "anyio_backend" in request.fixturenames
    if marker and on_anyio:
        raise refused("Both pytest-asyncio and anyio would run this test: use asyncio_mode = strict, and one marker.")
    if marker and item.config.pluginmanager.hasplugin("zabkit-asyncio"):
        loop_scope = marker.kwargs.get("loop_scope") or item.config.getini("asyncio_default_test_loop_scope")
        return f"_zk_asyncio_{loop_scope}"
    if on_anyio:
        return "_zk_anyio"
    raise refused(
        "zk is for tests that pytest-asyncio (0.24 or newer; asyncio_mode = auto, or @pytest.mark.asyncio) or anyio "
        "runs; `zk_ensemble.hosts` is for others."
    )


@contextlib.asynccontextmanager
async def connected(hosts: str) -> AsyncIterator[zabkit.Client]:
    """A client whose chroot is there."""
    async with zabkit.Client(hosts) as client:
        await client.ensure_path("/")
        yield client
