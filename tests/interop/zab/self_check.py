"""Check: the rules and the decoder find what they are there to find. No servers."""

import struct

import packets
from packets import Packet
from rules import violations

#: A learner (2) that is brought up to date by its leader (1), and then hears of one transaction more.
GOOD = (
    "2 FOLLOWERINFO 0, 1 LEADERINFO 200000000, 2 ACKEPOCH 100000001, 1 DIFF 100000002, 1 PROPOSAL 100000002,"
    "1 COMMIT 100000002, 1 PROPOSAL 200000001, 1 NEWLEADER 200000000, 2 ACK 200000000, 1 UPTODATE 0, 2 ACK 200000000,"
    "2 ACK 200000001, 1 COMMIT 200000001, 1 PROPOSAL 200000002, 2 ACK 200000002, 1 COMMIT 200000002"
)
#: What is changed in it, and in which words the rule says so.
BAD = (
    ("2 ACK 200000000, 1 UPTODATE 0", "1 COMMIT 200000001, 2 ACK 200000000, 1 UPTODATE 0", "proposed before NEWLEADER"),
    ("2 ACK 200000000, 1 UPTODATE 0", "1 UPTODATE 0", "before NEWLEADER was acknowledged"),
    ("1 PROPOSAL 200000002", "1 PROPOSAL 200000003", "after 0x200000001"),
    ("1 COMMIT 200000001,", "1 COMMIT 200000009,", "was not proposed here"),
    ("1 NEWLEADER", "2 ACK 200000001, 1 NEWLEADER", "before NEWLEADER is acknowledged"),
    ("2 ACK 200000002", "2 ACK 200000001", "after the ACK of 0x200000001"),
    ("1 NEWLEADER", "1 SNAP 0, 1 NEWLEADER", "a second synchronisation"),
)


def conversation(text):
    """Packets of a text such as `GOOD`: sender, kind, zxid in hexadecimal."""
    for at, words in enumerate(text.split(",")):
        source, kind, zxid = words.split()
        more = "txn 1 session 0x0" if kind == "PROPOSAL" else ""
        yield Packet(at, int(source), 3 - int(source), 1, kind, int(zxid, 16), 0, more)


def found(text):
    return violations(list(conversation(text)), lambda server: True)


def decoded(data, pieces):
    """Kinds that come out of the quorum port's bytes, fed in pieces of that size."""
    kinds = []
    stream = packets.Stream(packets.quorum(lambda kind, *_: kinds.append(kind)))
    for start in range(0, len(data), pieces):
        stream.feed(data[start : start + pieces])
    assert stream.lost is None, stream.lost
    return kinds


def run(checks):
    with checks.check("the rules tell good from bad"):
        assert not found(GOOD), found(GOOD)
        for old, new, words in BAD:
            assert GOOD.count(old) == 1, old
            lines = found(GOOD.replace(old, new))
            assert any(words in line for line in lines), f"{new}: {lines}"
    with checks.check("the decoder finds the end of a snapshot, also behind data that look like it"):
        text = b"\0\0\0\x01/\0\0\0\x0aBenWasHere"

        def field(data):
            return struct.pack(">i", len(data)) + data

        head = struct.pack(">iqii", 15, 7, -1, -1)
        node = field(b"/a") + field(text) + bytes(68)
        snapshot = struct.pack(">iqi", 1, 5, 4000) + struct.pack(">i", 0) + field(b"") + field(b"") + bytes(68) + node
        commit = struct.pack(">iqii", 4, 9, -1, -1)
        for pieces in (1, 7, 10_000):
            kinds = decoded(head + snapshot + text + commit, pieces)
            assert kinds == ["SNAP", "BenWasHere", "COMMIT"], kinds
