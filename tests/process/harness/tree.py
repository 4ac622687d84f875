"""Whole trees, as a client sees them, and how two of them differ."""

import collections

from . import wire

Node = collections.namedtuple("Node", "data acls stat")

#: Requests in flight while reading; a reply for each is taken before the next batch.
WINDOW = 500


def _batch(connection, opcode, paths, encode):
    """One request a path, pipelined; yields ``(path, reply)``."""
    for start in range(0, len(paths), WINDOW):
        window = paths[start : start + WINDOW]
        connection.send_many([(opcode, encode(path)) for path in window])
        for path in window:
            yield path, connection.recv()


def read_tree(connection, root="/", acls=True):
    """Every node at and below ``root`` after a `sync`: ``{path: Node}``; ``acls`` None for each when not asked for.

    Nobody may delete nodes meanwhile.
    """
    connection.sync(root)
    tree, level = {}, [root]
    while level:
        below = []
        for path, reply in _batch(connection, wire.GET_CHILDREN2, level, wire.watch_body):
            _expect_ok(reply, path)
            prefix = path.rstrip("/")
            below += [f"{prefix}/{name}" for name in sorted(wire.Reader(reply.body).strings())]
        for path, reply in _batch(connection, wire.GET_DATA, level, wire.watch_body):
            _expect_ok(reply, path)
            reader = wire.Reader(reply.body)
            tree[path] = Node(reader.buffer(), None, reader.stat())
        if acls:
            for path, reply in _batch(connection, wire.GET_ACL, level, wire.string):
                _expect_ok(reply, path)
                tree[path] = tree[path]._replace(acls=wire.Reader(reply.body).acls())
        level = below
    return tree


def _expect_ok(reply, path):
    if reply.err:
        raise wire.ZkError(reply.err, path)


def read_tree_of(member, root="/", auth=None, acls=True):
    """`read_tree` through one server, over a session of its own that is closed afterwards.

    The session is made and ended by transactions, which touch no node.
    """
    connection = member.connect(wire.Session(30_000))
    if auth:
        connection.auth(*auth)
    tree = read_tree(connection, root, acls)
    connection.close_session()
    return tree


def _comparable(path, node):
    """The node without what servers need not agree on: each sets the time of `/zookeeper/config` by its own clock."""
    if node is not None and path == "/zookeeper/config":
        return node._replace(stat=node.stat._replace(mtime=0))
    return node


def differences(left, right, limit=10):
    """Lines that say where two trees differ; empty when they are equal."""
    lines = []
    for path in sorted(left.keys() | right.keys()):
        if _comparable(path, left.get(path)) != _comparable(path, right.get(path)):
            lines.append(f"{path}: {left.get(path, 'absent')} != {right.get(path, 'absent')}")
            if len(lines) == limit:
                return [*lines, "..."]
    return lines


def assert_same_trees(trees):
    """``trees``: ``{name: tree}``; each must equal the first."""
    (first, expected), *others = trees.items()
    for name, tree in others:
        found = differences(expected, tree)
        assert not found, f"{first} and {name} differ:\n" + "\n".join(found)


def epoch_of(zxid):
    """The upper half of a zxid."""
    return zxid >> 32
