"""A leader that is cut off from the others: nothing that it said yes to is lost. Run it with pytest.

zabkit brings a pytest plugin: `zk_ensemble` is three servers that only this test has, `zk` a client of them.
"""

import pytest

import zabkit


async def write(zk: zabkit.Client, path: str, data: bytes) -> int:
    """Writes once more where it is unknown whether a write has happened."""
    while True:
        try:
            return (await zk.set(path, data)).version
        except zabkit.ConnectionLossError:
            continue


@pytest.mark.asyncio
@pytest.mark.zabkit(tick_time_ms=50)  # Short, so that the cut is noticed soon: the leader after 5 ticks.
async def test_a_leader_that_is_cut_off_loses_nothing(zk: zabkit.Client, zk_ensemble: zabkit.Ensemble) -> None:
    await zk.create("/app", b"v0")
    old = zk_ensemble.leader
    others = [member for member in zk_ensemble if member is not old]

    await zk_ensemble.partition({old}, others)
    new = await zk_ensemble.wait_for_leader()
    assert new in others
    await write(zk, "/app", b"v1")

    await zk_ensemble.heal()
    await old.wait_until_serving()
    assert old.status.role is zabkit.Role.FOLLOWING

    # A client that knows only the old leader: `sync` brings it up to date before it reads.
    async with zabkit.Client(old.hosts + zk.chroot) as other:
        await other.sync("/")
        assert (await other.get("/app"))[0] == b"v1"
