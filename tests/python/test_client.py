"""`zabkit.Client` against a real server: every call, and every answer that it can get."""

from __future__ import annotations

import pytest

import zabkit
from zabkit import Client

pytestmark = pytest.mark.zabkit(scope="module")


@pytest.fixture(params=[False, True], ids=["socket", "protocol"])
def hosts(zk_server: zabkit.Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A server and a chroot of the test's own, by both ways to it: Rust's socket, and an asyncio protocol."""
    monkeypatch.setattr(Client, "_fallback", request.param)
    return f"{zk_server.hosts}/{request.node.name}"


@pytest.fixture
async def zk(hosts: str) -> Client:
    async with Client(hosts) as zk:
        await zk.ensure_path("/")
        yield zk


async def test_a_znode_is_created_read_written_and_deleted(zk: Client) -> None:
    assert await zk.create("/a", b"1") == "/a"
    data, stat = await zk.get("/a")
    assert (data, stat.version, stat.dataLength) == (b"1", 0, 1)
    written = await zk.set("/a", b"22", version=0)
    assert (written.version, written.dataLength, written.czxid) == (1, 2, stat.czxid)
    assert await zk.get("/a") == (b"22", written)
    assert await zk.exists("/a") == written
    await zk.delete("/a", version=1)
    assert await zk.exists("/a") is None
