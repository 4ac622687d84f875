"""Random cancellations, disconnects, closes and loop shutdowns: no hang, no leak, no lost or doubled watch event."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from client_soak import Servers, Soak


@pytest.fixture
def servers() -> Iterator[Servers]:
    running = Servers()
    yield running
    running.stop()


def test_clients_survive_a_few_hundred_faults(servers: Servers) -> None:
    soak = Soak(servers, seed=1)
    soak.run(300)
    print(soak.report())


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_clients_survive_ten_thousand_faults(servers: Servers) -> None:
    """``SOAK_FAULTS`` and ``SOAK_SEED`` change how many, and which."""
    seed = int(os.environ.get("SOAK_SEED") or time.time())
    soak = Soak(servers, seed)
    print(f"SOAK_SEED={seed}", flush=True)
    soak.run(int(os.environ.get("SOAK_FAULTS", "10000")))
    print(soak.report())
