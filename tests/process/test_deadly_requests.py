"""Every request that the specification says kills, stops or silences an Apache ZooKeeper 3.8.0 server, and their kin.

Each is sent to a standalone server, and to a follower and the leader of three, on a connection of its own; the answer
is the one in the table, and the server serves on: the same process, no election, and equal trees at the end.
"""

import struct

import pytest
from harness import wire
from harness.ensemble import Ensemble
from harness.tree import assert_same_trees, epoch_of, read_tree_of

MARSHALLING, UNIMPLEMENTED, BAD_ARGUMENTS, INVALID_ACL, AUTH_FAILED = -5, -6, -8, -114, -115
DELETE_CONTAINER, CREATE_SESSION, GET_CHILDREN, RECONFIG, MULTI_READ, SASL = 20, -10, 8, 16, 22, 102
GET_EPHEMERALS, CHILDREN_NUMBER, SET_WATCHES_2, ADD_WATCH, REMOVE_WATCHES, CHECK_WATCHES = 103, 104, 105, 106, 18, 17
#: The connection ends without an answer, and its session lives on.
CLOSED = "closed"

NULL = struct.pack(">i", -1)
END = struct.pack(">i?i", -1, True, -1)


def ttl(flags, value, path="/ttl"):
    return wire.create_body(path, b"", flags=flags) + struct.pack(">q", value)


def multi(*operations):
    return b"".join(struct.pack(">i?i", opcode, False, -1) + body for opcode, body in operations) + END


#: Name: opcode, body, the error or errors of the answer (0: none), whether the connection ends behind it.
REQUESTS = {
    # In 3.8.0 these pass validation, are logged, and kill each server that applies them, at each start again.
    **{f"createTTL without a ttl, flags {n}": (wire.CREATE_TTL, ttl(n, -1), BAD_ARGUMENTS, False) for n in range(5)},
    "createTTL with the smallest ttl, flags 0": (wire.CREATE_TTL, ttl(0, -(2**63)), BAD_ARGUMENTS, False),
    "createTTL with a ttl of 0": (wire.CREATE_TTL, ttl(5, 0), BAD_ARGUMENTS, False),
    "createTTL with a ttl beyond 40 bits": (wire.CREATE_TTL, ttl(5, 2**40), BAD_ARGUMENTS, False),
    "createTTL with flags 7": (wire.CREATE_TTL, ttl(7, 1000), BAD_ARGUMENTS, False),
    "create with flags of a TTL": (wire.CREATE, wire.create_body("/a", flags=5), BAD_ARGUMENTS, False),
    "create with flags -1": (wire.CREATE, wire.create_body("/a", flags=-1), BAD_ARGUMENTS, False),
    # Never answered.
    "a lone check": (wire.CHECK, wire.string("/") + struct.pack(">i", -1), UNIMPLEMENTED, True),
    "a lone check that fails": (wire.CHECK, wire.string("/none") + struct.pack(">i", 7), UNIMPLEMENTED, True),
    # Between servers only; 3.8.0 does them for anybody.
    "deleteContainer": (DELETE_CONTAINER, wire.string("/kept"), UNIMPLEMENTED, True),
    "deleteContainer, its bytes as 3.8 has them": (DELETE_CONTAINER, b"/kept", UNIMPLEMENTED, True),
    "createSession": (CREATE_SESSION, struct.pack(">i", 10_000), UNIMPLEMENTED, True),
    "an error transaction": (-1, struct.pack(">i", -101), UNIMPLEMENTED, True),
    "a notification": (0, b"", UNIMPLEMENTED, True),
    "operation 10": (10, b"", UNIMPLEMENTED, True),
    "operation 23": (23, wire.string("/"), UNIMPLEMENTED, True),
    "operation 2147483647": (2**31 - 1, b"", UNIMPLEMENTED, True),
    "operation -2147483648": (-(2**31), b"", UNIMPLEMENTED, True),
    # Null where a value belongs.
    "setWatches of null": (wire.SET_WATCHES, struct.pack(">q", 0) + 3 * NULL, MARSHALLING, False),
    "setWatches2 of null": (SET_WATCHES_2, struct.pack(">q", 0) + 5 * NULL, MARSHALLING, False),
    "create of null": (wire.CREATE, NULL + wire.buffer(b"") + wire.acl_vector(wire.OPEN_ACL) + bytes(4), None, False),
    "create with a null list": (
        wire.CREATE,
        wire.string("/a") + wire.buffer(b"") + NULL + bytes(4),
        INVALID_ACL,
        False,
    ),
    "create for null": (
        wire.CREATE,
        wire.string("/a") + wire.buffer(b"") + struct.pack(">ii", 1, 31) + NULL + NULL + bytes(4),
        INVALID_ACL,
        False,
    ),
    "delete of null": (wire.DELETE, NULL + NULL, None, False),
    "setData of null": (wire.SET_DATA, NULL + NULL + NULL, None, False),
    "setACL of null": (wire.SET_ACL, NULL + NULL + NULL, None, False),
    "sync of null": (wire.SYNC, NULL, 0, False),
    "getEphemerals of null": (GET_EPHEMERALS, NULL, 0, False),
    "addWatch of null": (ADD_WATCH, NULL + bytes(4), MARSHALLING, False),
    "sasl of null": (SASL, NULL, 0, False),
    "auth of null": (wire.AUTH, bytes(4) + NULL + NULL, AUTH_FAILED, True),
    **{
        f"read {opcode} of null": (opcode, NULL + b"\1", MARSHALLING, False)
        for opcode in (wire.EXISTS, wire.GET_DATA, GET_CHILDREN, wire.GET_CHILDREN2)
    },
    "getACL of null": (wire.GET_ACL, NULL, MARSHALLING, False),
    "getAllChildrenNumber of null": (CHILDREN_NUMBER, NULL, MARSHALLING, False),
    # Values that stand for nothing.
    "addWatch with mode 2": (ADD_WATCH, wire.string("/") + struct.pack(">i", 2), MARSHALLING, False),
    "removeWatches of kind 0": (REMOVE_WATCHES, wire.string("/") + bytes(4), MARSHALLING, False),
    "checkWatches of kind 9": (CHECK_WATCHES, wire.string("/") + struct.pack(">i", 9), MARSHALLING, False),
    # Counts and lengths that are lies.
    "a path of 2 GiB": (wire.GET_DATA, struct.pack(">i", 2**31 - 1), MARSHALLING, False),
    "a path of -2 bytes": (wire.GET_DATA, struct.pack(">i", -2), MARSHALLING, False),
    "2147483647 entries in a list": (
        wire.CREATE,
        wire.string("/a") + wire.buffer(b"") + struct.pack(">i", 2**31 - 1),
        MARSHALLING,
        False,
    ),
    "setWatches of 2147483647 paths": (
        wire.SET_WATCHES,
        struct.pack(">qi", 0, 2**31 - 1),
        MARSHALLING,
        False,
    ),
    **{
        f"operation {opcode} without a body": (opcode, b"", MARSHALLING, False)
        for opcode in (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 16, 17, 18, 19, 21, 22, 101, 103, 104, 105, 106)
    },
    # multi.
    "a multi with a multi": (wire.MULTI, multi((wire.MULTI, END)), MARSHALLING, False),
    "a multi with operation 20": (wire.MULTI, multi((DELETE_CONTAINER, wire.string("/kept"))), MARSHALLING, False),
    "a multi with setACL": (wire.MULTI, multi((wire.SET_ACL, wire.string("/") + NULL + NULL)), MARSHALLING, False),
    "a multi of reads": (wire.MULTI, multi((wire.GET_DATA, wire.watch_body("/"))), MARSHALLING, False),
    "a multi without an end": (wire.MULTI, multi()[:-9], MARSHALLING, False),
    "a multi of a null path": (wire.MULTI, multi((wire.CHECK, NULL + NULL)), None, False),
    "a multi with flags of a TTL": (wire.MULTI, multi((wire.CREATE, wire.create_body("/a", flags=5))), None, False),
    "a multi with a null list": (
        wire.MULTI,
        multi((wire.CREATE, wire.string("/a") + wire.buffer(b"") + NULL + bytes(4))),
        None,
        False,
    ),
    "a multiRead with a write": (MULTI_READ, multi((wire.DELETE, wire.string("/kept") + NULL)), MARSHALLING, False),
    "a multiRead of null": (MULTI_READ, multi((wire.GET_DATA, NULL + b"\0")), 0, False),
    # Text that the tree's own bookkeeping has to read.
    "limits that are no limits": (
        wire.CREATE,
        wire.create_body("/zookeeper/quota/zookeeper_limits", b"count=x,bytes=99999999999999999999"),
        0,
        False,
    ),
    "stats that are no stats": (
        wire.CREATE,
        wire.create_body("/zookeeper/quota/zookeeper_stats", b"=,;=="),
        0,
        False,
    ),
    "reconfig of null": (RECONFIG, 3 * NULL + struct.pack(">q", -1), None, False),
    # What was deadly as the first frame comes again as a later one.
    "a second connect request": (None, wire.buffer(struct.pack(">iqiqi", 0, 0, 10_000, 0, 0) + b"\0"), None, True),
    "a four-letter word in the middle": (None, b"ruok", CLOSED, True),
    "a frame without a header": (None, wire.buffer(b"\0\0\0"), CLOSED, True),
    "a frame of -1 bytes": (None, NULL, CLOSED, True),
    "a frame of 2 GiB": (None, struct.pack(">i", 2**31 - 1), CLOSED, True),
    "a frame of a byte too many": (None, struct.pack(">i", 0x100000), CLOSED, True),
}

#: What is sent in place of a connect request; each connection ends, and some with the zero response before.
FIRST_FRAMES = {
    "no bytes": b"",
    "a length of -1": NULL,
    "a length beyond the limit": struct.pack(">i", 0x100000),
    "an empty frame": wire.buffer(b""),
    "half a connect request": wire.buffer(struct.pack(">iqi", 0, 0, 10_000)),
    "a password of 2 GiB": wire.buffer(struct.pack(">iqiqi", 0, 0, 10_000, 0, 2**31 - 1)),
    "a client from the future": wire.buffer(struct.pack(">iqiq", 0, 2**62, 10_000, 0) + wire.buffer(bytes(16)) + b"\0"),
    "a session of nobody": wire.buffer(struct.pack(">iqiq", 0, 0, 10_000, 7) + wire.buffer(bytes(16)) + b"\0"),
    "a null password for a session": wire.buffer(struct.pack(">iqiq", 0, 0, 10_000, 7) + NULL + b"\0"),
    "a four-letter word that is none": b"ruOK",
}


@pytest.fixture(scope="module")
def alone():
    with Ensemble(1, config={"4lw.commands.whitelist": "srvr"}) as one:
        yield one.start()


@pytest.fixture(scope="module")
def trio():
    with Ensemble(3) as three:
        yield three.start()


def ask(member, request):
    """What one request is answered with: its error or `CLOSED`, and whether the connection then ends."""
    opcode, body, _, ends = request
    with member.connect(wire.Session(30_000)) as link:
        if opcode is None:
            link.send_raw(body)
        else:
            link.send(opcode, body)
        try:
            answer = link.recv().err
        except ConnectionError:
            return CLOSED, True
        if not ends:
            # The connection is in step: the next request gets the next answer.
            assert link.exists("/") is not None
            return answer, False
        try:
            raise AssertionError(f"the connection lives on behind {link.recv()}")
        except ConnectionError:
            return answer, True


def check_all(member):
    wrong = []
    for name, request in REQUESTS.items():
        answer, ended = ask(member, request)
        _, _, wanted, ends = request
        is_right = answer != CLOSED if wanted is None else answer == wanted
        if not is_right or ended != ends:
            wrong.append(f"{name}: {answer}, {'ended' if ended else 'open'}; wanted {wanted}")
    assert not wrong, "\n".join(wrong)


def check_first_frames(member):
    for name, first in FIRST_FRAMES.items():
        with wire.socket.create_connection(member.address, 15) as link:
            link.sendall(first)
            link.shutdown(wire.socket.SHUT_WR)
            answer = b""
            while part := link.recv(4096):
                answer += part
        assert len(answer) in (0, 41), f"{name}: {answer!r}"


def serve_on(servers, pids, epoch, kept):
    assert [member.pid for member in servers] == pids
    assert all(member.runs for member in servers)
    now = epoch_of(int(servers.wait_leader().srvr()["Zxid"], 16))
    assert now == epoch, f"{now - epoch} elections"
    for member in servers:
        with member.connect() as link:
            assert link.get("/kept")[0] == kept
            link.set("/kept", kept)
            link.close_session()
    trees = {f"server {member.id}": read_tree_of(member) for member in servers}
    assert not {"/a", "/ttl"} & set(next(iter(trees.values())))
    assert_same_trees(trees)


def attack(servers, members):
    pids = [member.pid for member in servers]
    epoch = epoch_of(int(servers.wait_leader().srvr()["Zxid"], 16))
    with servers.leader().connect() as link:
        link.create_container("/kept", b"x")
        link.close_session()
    for member in members:
        check_all(member)
        check_first_frames(member)
        with member.connect() as link:
            for name in ("limits", "stats"):
                link.delete(f"/zookeeper/quota/zookeeper_{name}")
            link.close_session()
    serve_on(servers, pids, epoch, b"x")


def test_a_standalone_server_answers_what_kills_or_silences_apaches(alone):
    attack(alone, list(alone))


def test_a_follower_and_a_leader_answer_what_kills_or_silences_apaches(trio):
    attack(trio, [trio.followers()[0], trio.wait_leader()])
