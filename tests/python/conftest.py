"""Clients that end with the test: kazoo, and one behind a proxy. The servers come from zabkit's own pytest plugin."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from kazoo.client import KazooClient
from plugin_runs import Run
from proxy import Proxy

import zabkit


@pytest.fixture
def connect() -> Iterator[Callable[[str], KazooClient]]:
    """Starts kazoo clients, and stops them at the end."""
    with contextlib.ExitStack() as stack:

        def start(hosts: str) -> KazooClient:
            client = KazooClient(hosts, timeout=10.0, connection_retry={"delay": 0.002, "max_tries": -1})
            client.start(timeout=30)
            stack.callback(client.close)
            stack.callback(client.stop)
            return client

        yield start


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Runs pytest in a process of its own."""
    return Run(pytester)


@pytest.fixture(params=[False, True], ids=["socket", "protocol"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rust's socket, and an asyncio protocol."""
    monkeypatch.setattr(zabkit.Client, "_fallback", request.param)


@pytest.fixture
async def proxy(zk_server: zabkit.Server) -> AsyncIterator[Proxy]:
    async with Proxy(zk_server.hosts) as proxy:
        yield proxy


@pytest.fixture
async def behind_proxy(proxy: Proxy) -> AsyncIterator[zabkit.Client]:
    """A client behind the proxy; the root of the tree is empty."""
    async with zabkit.Client(proxy.hosts) as zk:
        for child in set(await zk.get_children("/")) - {"zookeeper"}:
            await zk.delete(f"/{child}", recursive=True)
        yield zk
