"""The driver of `make interop` believes no part blindly: whatever does not agree makes the run fail."""

import importlib.util
import sys
from pathlib import Path

import pytest

INTEROP = Path(__file__).resolve().parents[1] / "interop"


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Where dataclasses look for it.
    spec.loader.exec_module(module)
    return module


driver = load(INTEROP / "run.py", "interop_driver")


@pytest.mark.parametrize(
    ("last_line", "code", "problem"),
    [
        ("java: 5 passed, 0 failed, 1 skipped\n", 0, ""),
        ("java: 5 passed, 2 failed, 1 skipped\n", 1, ""),
        ("java: 5 passed, 2 failed, 1 skipped\n", 0, "2 failed, but it ended with code 0"),
        ("java: 5 passed, 0 failed, 1 skipped\n", 1, "0 failed, but it ended with code 1"),
        ("java: 0 passed, 0 failed, 5 skipped\n", 0, "not one test passed"),
        ("c: 5 passed, 0 failed, 0 skipped\n", 0, "ended with code 0 and without its counts"),
        ("5 passed in 3 s\n", 0, "ended with code 0 and without its counts"),
        ("", 0, "ended with code 0 and without its counts"),
        ("java: 5 passed, 0 failed, 0 skipped\n", -9, "ended with code -9"),
        ("java: install default-jdk-headless\n", 2, "could not run"),
    ],
)
def test_a_part_is_judged_by_its_last_line_and_its_exit_code(last_line, code, problem):
    result = driver.judge("java", last_line, code)
    assert result.problem == problem
    assert result.well == (not problem and not result.failed)


def test_every_part_is_there():
    assert [name for name in driver.PARTS if driver.command_of(name, sys.executable) is None] == []


def test_a_part_that_is_not_there_fails_the_run(capsys):
    result = driver.run("nowhere", [], {"PYTHON": sys.executable})
    assert not result.well
    driver.report([driver.Result("c", passed=3), result], {})
    assert capsys.readouterr().out.splitlines()[-1] == "3 passed, 1 failed, 0 skipped"


def test_kazoos_tests_are_failed_by_what_apache_would_not_do(monkeypatch):
    monkeypatch.syspath_prepend(INTEROP)
    kazoo = load(INTEROP / "kazoo" / "run.py", "interop_kazoo")
    passes, skips = {"outcome": "passed"}, {"outcome": "skipped"}
    expected = {"passes": passes, "fails": passes, "skips": passes, "gone": passes, "both": skips}
    tests = {
        "passes": {"outcome": "passed", "server_deaths": [[1, -6]]},
        "fails": {"outcome": "failed", "message": "E   AssertionError"},
        "skips": {"outcome": "skipped"},
        "both": {"outcome": "skipped"},
    }

    def verdicts():
        return {name: verdict for name, verdict, _ in kazoo.verdicts(tests, expected)}

    failing = dict.fromkeys(["passes", "fails", "skips", "gone"], "failed")
    assert verdicts() == {**failing, "both": "skipped"}
    tests["passes"] = passes
    assert verdicts()["passes"] == "passed"
