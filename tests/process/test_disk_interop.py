"""Each side opens the other's data directory: the same znodes with the same data, ACLs and Stats.

zabkit and Apache ZooKeeper 3.8.0 (Debian's package) take turns on one set of directories, standalone and as three
servers, after SIGKILL as well as after SIGTERM. And directories that Apache wrote long ago load to what it read from
them (`tests/testdata/disk`).
"""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from harness import wire
from harness.command import server_command
from harness.ensemble import SUPER_AUTH
from harness.tree import Node, assert_same_trees, read_tree_of
from harness.until import wait_until

DISK = Path(__file__).resolve().parents[1] / "testdata" / "disk"

#: Sessions outlive the change of servers, so that their ephemerals can be compared.
CONFIG = {
    "maxSessionTimeout": 120_000,
    "tickTime": 500,
    # Apache knows it as a system property only: its first check would come after a minute.
    "znode.container.checkIntervalMs": 200,
}
LONG_SESSION_MS = 120_000

BOB = (31, "digest", "bob:pM4UFDqeVOTQS2Jf9VtoXc3lwVg=")


def furnish(member, root, reaps):
    """Under ``root``, one of everything that a tree can hold; the ephemerals' connection stays open.

    ``reaps``: the leader looks for empty containers often enough to be waited for.
    """
    link = member.connect(wire.Session(LONG_SESSION_MS))
    link.auth("digest", b"alice:secret")
    link.create(root, b"")
    for name, data in {"empty": b"", "null": None, "binary": bytes(range(256)), "large": os.urandom(20_000)}.items():
        link.create(f"{root}/{name}", data)
    link.create(f"{root}/åß∂ ƒ", "grün".encode())

    link.create(f"{root}/seq")
    for number in range(5):
        link.create(f"{root}/seq/n-", b"%d" % number, flags=2)
    link.delete(f"{root}/seq/n-0000000001")
    link.set(f"{root}/seq/n-0000000002", b"changed")
    link.set(f"{root}/seq/n-0000000002", b"changed again", version=1)

    link.create(f"{root}/acl", b"", acls=[(31, "auth", "")])
    link.create(f"{root}/acl/two", b"hidden", acls=[(31, "auth", ""), (1, "ip", "127.0.0.1")])
    link.create(f"{root}/acl/other", b"", acls=[(1, "world", "anyone"), BOB])
    link.create(f"{root}/acl/later", b"")
    link.set_acl(f"{root}/acl/later", [(5, "world", "anyone")])

    link.create(f"{root}/mine", b"e", flags=1)
    link.create(f"{root}/mine-", b"e", flags=3)
    link.create_container(f"{root}/container", b"c")
    link.create(f"{root}/container/child")
    link.create_ttl(f"{root}/ttl", b"t", 3_600_000)
    if reaps:
        link.create_container(f"{root}/emptied")
        link.create(f"{root}/emptied/child")
        link.delete(f"{root}/emptied/child")
        link.create_ttl(f"{root}/brief", b"", 1)
        for path in (f"{root}/emptied", f"{root}/brief"):
            wait_until(lambda path=path: not link.exists(path), f"{path} is reaped")

    body = wire.create_body
    assert (
        link.multi(
            [
                (wire.CREATE, body(f"{root}/multi", b"1")),
                (wire.CREATE, body(f"{root}/multi/child")),
                (wire.SET_DATA, wire.set_body(f"{root}/multi", b"2", 0)),
                (wire.CHECK, wire.string(f"{root}/multi") + (1).to_bytes(4, "big")),
                (wire.CREATE2, body(f"{root}/multi/second", b"", [BOB])),
                (wire.DELETE, wire.string(f"{root}/multi/child") + b"\xff\xff\xff\xff"),
            ]
        )
        == [0] * 6
    )
    assert any(link.multi([(wire.CREATE, body(f"{root}/no")), (wire.CREATE, body(f"{root}/multi"))]))
    for _ in range(2):
        with pytest.raises(wire.ZkError):
            link.create(f"{root}/absent/child")

    with member.connect() as brief:
        brief.create(f"{root}/gone", flags=1)
        brief.close_session()
    for number in range(60):  # Enough for several snapshots where snapCount is small.
        link.create(f"{root}/many-{number}", b"x" * number)
        if number % 3 == 0:
            link.delete(f"{root}/many-{number}")
    return link


def assert_loaded_well(member):
    said = member.log_text()
    for words in ("Digests are not matching", "CRC check failed", "Unable to load"):
        assert words not in said, member.log_tail()


def take_turns(servers, templates, end):
    """Each in turn loads what the ones before wrote, shows the same tree, and writes more."""
    links, before = [], None
    for number, (name, template) in enumerate(templates):
        for member in servers:
            member.start(template=template)
        servers.wait_serving()
        trees = {f"{name}, server {member.id}": read_tree_of(member, auth=SUPER_AUTH) for member in servers}
        if before is not None:
            trees = {f"before {name} loaded it": before, **trees}
            assert len(before) > 60
        assert_same_trees(trees)
        # Through another server each time, so that in the end each has had clients.
        links.append(furnish(servers.members[number % len(servers.members)], f"/turn{number}", name == "zabkit"))
        before = read_tree_of(servers[1], auth=SUPER_AUTH)
        for member in servers:
            assert_loaded_well(member)
            member.signal(end)
        for member in servers:
            member.wait_exit()
    for link in links:
        link.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("snap_count", [100_000, 40], ids=["log-only", "snapshots"])
@pytest.mark.parametrize(
    ("size", "end"),
    [(1, signal.SIGKILL), (1, signal.SIGTERM), (3, signal.SIGKILL)],
    ids=["alone-kill", "alone-term", "three-kill"],
)
def test_zabkit_and_apache_open_each_others_directories(ensemble, apache, size, end, snap_count):
    servers = ensemble(size, config={**CONFIG, "snapCount": snap_count})
    ours = ("zabkit", server_command())
    take_turns(servers, [ours, ("Apache", apache), ours], end)
    files = {path.name.split(".")[0] for path in (servers[1].data_dir / "version-2").iterdir()}
    assert {"log", "snapshot"} <= files


# --- directories recorded from Apache -------------------------------------------------------------------------------


def expected_tree(name):
    """`expected.json` as a tree."""
    # Its stat has the protocol's own names for the fields of `wire.Stat`.
    fields = [re.sub("_(.)", lambda match: match[1].upper(), field) for field in wire.Stat._fields]
    tree = {}
    for node in json.loads((DISK / name / "expected.json").read_text())["expected"]["nodes"]:
        data = None if node["data"] is None else bytes.fromhex(node["data"])
        acls = [tuple(entry) for entry in node["acl"]]
        tree[node["path"]] = Node(data, acls, wire.Stat(*(int(node["stat"][field]) for field in fields)))
    return tree


def lay_out(servers, name):
    """A copy of the recorded directory as the data directory of a standalone server."""
    shutil.rmtree(servers[1].data_dir)
    shutil.copytree(DISK / name, servers[1].data_dir)
    for path in servers[1].data_dir.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (servers[1].data_dir / "expected.json").unlink()


RECORDED = sorted(path.parent.name for path in DISK.glob("*/expected.json"))


@pytest.mark.parametrize("name", [name for name in RECORDED if name != "corrupt-record"])
def test_a_recorded_directory_loads_to_what_apache_read_from_it(ensemble, name):
    servers = ensemble(1, config=CONFIG)
    lay_out(servers, name)
    servers.start()
    tree, expected = read_tree_of(servers[1], auth=SUPER_AUTH), expected_tree(name)
    if name.startswith("epoch-change"):  # Its content was recorded from another kind of server.
        tree["/zookeeper/config"] = expected["/zookeeper/config"]
    assert_same_trees({"expected.json": expected, "loaded": tree})


def test_a_corrupt_record_in_mid_log_is_refused_with_file_and_offset(ensemble):
    servers = ensemble(1, config=CONFIG)
    lay_out(servers, "corrupt-record")
    log = servers[1].data_dir / "version-2" / "log.1"
    before = log.read_bytes()
    servers[1].start()
    assert servers[1].wait_exit() == 1
    assert log.read_bytes() == before, "the evidence was changed"
    said = servers[1].log_text()
    assert "CRC check failed" in said or ("log.1" in said and "corrupt" in said), said
