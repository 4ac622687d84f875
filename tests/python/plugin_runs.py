"""Runs of pytest in a process of their own, for the tests of the plugin."""

from __future__ import annotations

import pytest

STRICT = "[pytest]\nasyncio_mode = strict\nasyncio_default_fixture_loop_scope = function\n"
AUTO = STRICT.replace("strict", "auto")
WITHOUT_ASYNCIO = ("-p", "no:asyncio", "-p", "no:anyio")


class Run:
    """Runs pytest on one or more modules, and on other files by name."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester

    def __call__(self, *modules: str, ini: str = STRICT, args: tuple[str, ...] = (), **others: str) -> pytest.RunResult:
        self.pytester.makefile(".ini", pytest=ini)
        for name, text in ({f"test_{number}": module for number, module in enumerate(modules)} | others).items():
            self.pytester.makepyfile(**{name: text})
        return self.pytester.runpytest_subprocess("--strict-markers", "-p", "no:cacheprovider", *args)
