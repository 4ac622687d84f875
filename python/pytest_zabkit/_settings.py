"""What a test asks for: the keywords of its markers, and whether it is asynchronous."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import pytest

__all__ = ["Settings", "is_asynchronous", "refused"]

SCOPES = ("function", "class", "module", "session")


class Settings(NamedTuple):
    """The keywords of ``@pytest.mark.zabkit``; of several markers the one nearest to the test decides each keyword."""

    servers: int = 3
    tick_time_ms: int = 200
    timeout: float = 30.0
    scope: str = "function"

    @classmethod
    def of(cls, item: pytest.Item) -> Settings:
        """Those of one test."""
        given: dict[str, Any] = {"scope": item.config.getini("zabkit_scope")}
        for marker in reversed(list(item.iter_markers("zabkit"))):
            unknown = [*map(repr, marker.args), *sorted(marker.kwargs.keys() - set(cls._fields))]
            if unknown:
                raise refused(
                    f"@pytest.mark.zabkit takes {', '.join(f'{name}=' for name in cls._fields)}; not {unknown[0]}"
                )
            given |= marker.kwargs
        if given["scope"] not in SCOPES:
            raise refused(f"zabkit: a scope is one of {', '.join(SCOPES)}; not {given['scope']!r}")
        return cls(**given)


def refused(reason: str) -> BaseException:
    """What fails a test with a reason that needs no traceback."""
    return pytest.fail.Exception(reason, pytrace=False)


def is_asynchronous(request: pytest.FixtureRequest) -> bool:
    """Whether the test is an ``async def`` on asyncio. One on another event loop is refused."""
    test = getattr(request.node, "obj", None)
    test = getattr(getattr(test, "hypothesis", None), "inner_test", test)
    if not inspect.iscoroutinefunction(test):
        return False
    backend = "trio" if request.node.get_closest_marker("trio") else "asyncio"
    if "anyio_backend" in request.fixturenames:
        given = request.getfixturevalue("anyio_backend")
        backend = given if isinstance(given, str) else given[0]
    if backend != "asyncio":
        raise refused(
            f"zabkit needs asyncio, and this test runs on {backend}. With anyio, define a fixture `anyio_backend` that "
            'returns "asyncio". Without asyncio there is `with zabkit.Ensemble(3)`.'
        )
    return True
