"""The code in the guide runs as it stands."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

import zabkit

pytestmark = pytest.mark.zabkit(scope="module")

ROOT = Path(__file__).parent.parent.parent
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0][:40])
async def test_a_block_of_the_guide_runs(block: str, zk_ensemble: zabkit.Ensemble) -> None:
    names: dict[str, Any] = {"zabkit": zabkit, "asyncio": asyncio, "ensemble": zk_ensemble}
    exec(f"async def example(zk):\n{textwrap.indent(block, '    ')}", names)
    async with zabkit.Client(zk_ensemble.hosts) as zk:
        with contextlib.redirect_stdout(io.StringIO()):
            await asyncio.wait_for(names["example"](zk), 30)


def test_every_public_method_of_the_client_is_described() -> None:
    for owner in (zabkit.Client, zabkit.Transaction, zabkit.Watch):
        for name, member in inspect.getmembers(owner):
            if name.startswith("_"):
                continue
            text = inspect.getdoc(member)
            assert text, f"{owner.__name__}.{name} has no docstring"
            if not inspect.isfunction(member):
                continue
            parameters = [key for key in inspect.signature(member).parameters if key != "self"]
            for key in parameters:
                assert re.search(rf"^    \*?{key}: ", text, re.MULTILINE), (
                    f"{owner.__name__}.{name}: {key} is not described"
                )
            if parameters and inspect.iscoroutinefunction(member) and owner is zabkit.Client:
                assert "Raises:" in text, f"{owner.__name__}.{name} does not say what it raises"


def test_nowait_takes_what_the_coroutines_take() -> None:
    several_requests = {"makepath", "recursive"}
    for name, member in inspect.getmembers(type(zabkit.Client().nowait), inspect.isfunction):
        if name.startswith("_") or name == "commit":
            continue
        coroutine = inspect.signature(getattr(zabkit.Client, name)).parameters
        if name == "add_watch":
            assert [*inspect.signature(member).parameters] == [*coroutine]
            continue
        assert [*inspect.signature(member).parameters] == [key for key in coroutine if key not in several_requests]
