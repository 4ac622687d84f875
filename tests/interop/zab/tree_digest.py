"""The digest of a tree, computed anew from what a client sees of it (spec D.4; ZooKeeper: `DigestCalculator`).

A client does not see two things that count. The persisted cversion follows from what it sees. The stored owner of a
container and of a node with a TTL does not, so in these tests their names say it: `container…`, `ttl-<ms>`.
"""

import re
import struct
import zlib

CONTAINER = 1 << 63
TTL = 0xFF << 56
_STAT = struct.Struct(">qqqqqiiiQ")


def owner(path, stat):
    """`ephemeralOwner` as it is stored."""
    name = path.rpartition("/")[2]
    if name.startswith("container"):
        return CONTAINER
    if match := re.fullmatch(r"ttl-(\d+)", name):
        return TTL | int(match[1])
    return stat.ephemeral_owner & (1 << 64) - 1


def node_digest(path, node):
    """Of one znode; nodes below /zookeeper count nothing."""
    if path.startswith("/zookeeper/"):
        return 0
    stat = node.stat
    cversion = (stat.cversion + stat.num_children) // 2
    numbers = (stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime, stat.version, cversion, stat.aversion)
    name = "" if path == "/" else path
    return zlib.crc32(
        name.encode(errors="surrogateescape") + (node.data or b"") + _STAT.pack(*numbers, owner(path, stat))
    )


def tree_digest(tree):
    """Of all of it, as ``{path: Node}``."""
    return sum(node_digest(path, node) for path, node in tree.items()) & (1 << 64) - 1
