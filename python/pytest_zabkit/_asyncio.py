"""What connects `zk` under pytest-asyncio, in a loop of each scope. A plugin of its own: it needs pytest-asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal

import pytest_asyncio

if TYPE_CHECKING:
    import zabkit


def _in_loop(scope: Literal["function", "class", "module", "package", "session"]) -> Any:
    @pytest_asyncio.fixture(name=f"_zk_asyncio_{scope}", loop_scope=scope)
    async def zk(_zk_hosts: str) -> AsyncIterator[zabkit.Client]:
        from pytest_zabkit import _client

        async with _client.connected(_zk_hosts) as client:
            yield client

    return zk


in_function_loop = _in_loop("function")
in_class_loop = _in_loop("class")
in_module_loop = _in_loop("module")
in_package_loop = _in_loop("package")
in_session_loop = _in_loop("session")
