"""Fixtures of the process tests, and the servers' logs beside a failure."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness.command import ApacheMissing, apache_class_path, apache_command
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


def installed(find):
    """What ``find`` says of the Apache that is here; a test without it fails, unless somebody wants it left out."""
    if os.environ.get("ZABKIT_SKIP_APACHE") == "1":
        pytest.skip("ZABKIT_SKIP_APACHE=1: whoever set it does without Apache's servers")
    try:
        return find()
    except ApacheMissing as reason:
        pytest.fail(str(reason))


@pytest.fixture(scope="session")
def apache():
    """Template of Apache's server."""
    return installed(apache_command)


@pytest.fixture(scope="session")
def apache_jars():
    """Class path of Apache's server."""
    return installed(apache_class_path)


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
