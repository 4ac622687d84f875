"""Kazoo clients that end with the test. The servers come from zabkit's own pytest plugin."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from kazoo.client import KazooClient
from plugin_runs import Run


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
