"""Fixtures of the process tests, and the servers' logs beside a failure."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness.ensemble import LIVE, Ensemble


@pytest.fixture
def ensemble():
    """Builds ensembles for one test: ``ensemble(3, config={...})``; they end with it."""
    made = []

    def build(size=3, **options):
        made.append(Ensemble(size, **options))
        return made[-1]

    yield build
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def shared_trio():
    """Three servers shared by the tests that leave them as they found them."""
    with Ensemble(3) as trio:
        yield trio.start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for one in list(LIVE):
            report.sections.append((f"servers in {one.dir}", one.logs()))
    return report
