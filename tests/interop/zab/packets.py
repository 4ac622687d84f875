"""What servers say to each other, taken apart as it passes: election messages, QuorumPackets, the SNAP stream.

A `Stream` is one direction of one connection. It is fed bytes in whatever pieces they come, and calls ``note`` for
each packet that is whole. Nothing is guessed: a snapshot is read node by node up to its `BenWasHere`, so that a
znode's data cannot be taken for the end of it, and what follows is read as packets again.

The bytes: spec B.1 (packets), A.1 and A.2 (election), E.5 (SASL); ZooKeeper: `QuorumPacket`, `QuorumCnxManager`,
`FastLeaderElection`, `DataTree.serialize`.
"""

import struct
from dataclasses import dataclass

KINDS = {
    1: "REQUEST",
    2: "PROPOSAL",
    3: "ACK",
    4: "COMMIT",
    5: "PING",
    6: "REVALIDATE",
    7: "SYNC",
    8: "INFORM",
    9: "COMMITANDACTIVATE",
    10: "NEWLEADER",
    11: "FOLLOWERINFO",
    12: "UPTODATE",
    13: "DIFF",
    14: "TRUNC",
    15: "SNAP",
    16: "OBSERVERINFO",
    17: "LEADERINFO",
    18: "ACKEPOCH",
    19: "INFORMANDACTIVATE",
}
#: How a leader begins to bring a learner up to date; exactly one of them.
SYNC_KINDS = ("DIFF", "TRUNC", "SNAP")
#: States in notifications.
STATES = ("LOOKING", "FOLLOWING", "LEADING", "OBSERVING")

SASL_MAGIC = 0x5F2435013501EDCC
INITIAL_VERSIONS = (-65536, -65535)
#: More than any packet here can have; a length beyond it means that the decoder is lost.
LENGTH_MAX = 1 << 26


@dataclass(slots=True)
class Packet:
    """One message as it passed.

    `at` is in seconds of `time.monotonic`; `zxid` what the packet names (of a notification: of the vote); `size` in
    bytes on the wire. `digest` is that of a transaction, None when it has none. A snapshot's stream that came to its
    end is a packet of kind `BenWasHere`.
    """

    at: float
    source: int
    target: int
    connection: int
    kind: str
    zxid: int
    size: int
    more: str = ""
    digest: int | None = None

    def __str__(self):
        return f"{self.at:12.6f} {self.source}>{self.target} #{self.connection} {self.kind} {self.zxid:#x} {self.more}"


class Lost(Exception):
    """The bytes are not what the protocol says; the text says where."""


class Stream:
    """Bytes of one direction, handed to a grammar: a generator that yields how many it wants and is sent them."""

    def __init__(self, grammar):
        self._grammar, self._buffer, self._at = grammar, bytearray(), 0
        self.taken, self.lost = 0, None
        self._want = next(grammar)

    def feed(self, data):
        """More bytes, in whatever pieces they come."""
        if self.lost is not None:
            return
        self._buffer += data
        try:
            while len(self._buffer) - self._at >= self._want:
                piece = bytes(self._buffer[self._at : self._at + self._want])
                self._at += self._want
                self.taken += self._want
                self._want = self._grammar.send(piece)
        except (Lost, struct.error, UnicodeDecodeError) as reason:
            self.lost = f"{reason} after {self.taken} bytes"
        del self._buffer[: self._at]
        self._at = 0


def _length(raw):
    length = struct.unpack(">i", raw)[0]
    if not -1 <= length <= LENGTH_MAX:
        raise Lost(f"a length of {length}")
    return length


def _buffer():
    """`buffer`: its bytes, None for null."""
    length = _length((yield 4))
    if length < 0:
        return None
    return (yield length) if length else b""


def _ids():
    """`vector<Id>`; returns how many."""
    count = _length((yield 4))
    for _ in range(2 * count):  # Null is -1: none.
        yield from _buffer()
    return count


def _snapshot():
    """The stream behind SNAP; returns (sessions, nodes, bytes)."""
    size = 0
    sessions = _length((yield 4))
    for _ in range(sessions):
        yield 12
    size += 4 + 12 * sessions
    lists = _length((yield 4))
    size += 4
    for _ in range(lists):
        count = _length((yield 12)[8:])
        size += 12
        for _ in range(count):
            yield 4
            for _ in range(2):
                size += 4 + len((yield from _buffer()) or b"")
            size += 4
    nodes = 0
    while (path := (yield from _buffer())) != b"/":
        data = yield from _buffer()
        yield 68  # ACL's key, StatPersisted.
        size += 4 + len(path or b"") + 4 + len(data or b"") + 68
        nodes += 1
    signature = yield from _buffer()
    if signature != b"BenWasHere":
        raise Lost(f"a snapshot that ends with {signature!r}")
    return sessions, nodes, size + 5 + 14


def transaction(data):
    """(types, session, digest or None) of a transaction's bytes; types: its own, then those of a multi's parts."""
    session, _, _, _, kind = struct.unpack_from(">qiqqi", data)
    types, at = [kind], 36
    if kind == 14:
        for _ in range(struct.unpack_from(">i", data, 32)[0]):
            part, length = struct.unpack_from(">ii", data, at)
            types.append(part)
            at += 8 + max(length, 0)
    digest = None
    if kind != -1 and len(data) >= 44:  # Error transactions have none.
        version, value = struct.unpack(">iq", data[-12:])
        digest = value & (1 << 64) - 1 if version == 2 else None
    return types, session, digest


def _describe(kind, data):
    """(text, digest) of a packet's data."""
    data = data or b""
    if kind in ("PROPOSAL", "INFORM"):
        types, session, digest = transaction(data)
        return f"txn {' '.join(map(str, types))} session {session:#x}", digest
    if kind == "INFORMANDACTIVATE":
        return f"designated {struct.unpack_from('>q', data)[0]}", transaction(data[8:])[2]
    if kind == "COMMITANDACTIVATE":
        return f"designated {struct.unpack_from('>q', data)[0]}", None
    if kind == "REQUEST" and len(data) >= 16:
        session, cxid, op = struct.unpack_from(">qii", data)
        return f"op {op} session {session:#x} cxid {cxid}", None
    if kind in ("FOLLOWERINFO", "OBSERVERINFO") and len(data) >= 20:
        sid, _, version = struct.unpack_from(">qiq", data)
        return f"sid {sid} config {version:#x}", None
    if kind == "ACKEPOCH" and len(data) >= 4:
        return f"currentEpoch {struct.unpack_from('>i', data)[0]}", None
    if kind == "REVALIDATE" and len(data) >= 8:
        valid = f" valid {data[8]}" if len(data) == 9 else ""
        return f"session {struct.unpack_from('>q', data)[0]:#x}{valid}", None
    return "", None


def quorum(note):
    """Grammar of the quorum port; ``note(kind, zxid, size, more, digest)`` for each packet."""
    head = yield 8
    while struct.unpack(">q", head)[0] == SASL_MAGIC:
        status = struct.unpack(">i", (yield 4))[0]
        token = yield from _buffer()
        note("SASL", 0, 16 + len(token or b""), f"status {status}", None)
        head = yield 8
    head += yield 4
    while True:
        number, zxid = struct.unpack(">iq", head)
        kind = KINDS.get(number)
        if kind is None:
            raise Lost(f"a packet of type {number}")
        data = yield from _buffer()
        ids = yield from _ids()
        more, digest = _describe(kind, data)
        size = 20 + len(data or b"")
        if ids > 0:
            more += f" ids {ids}"
        note(kind, zxid, size, more, digest)
        if kind == "SNAP":
            sessions, nodes, streamed = yield from _snapshot()
            note("BenWasHere", zxid, streamed, f"{nodes} nodes, {sessions} sessions", None)
        head = yield 12


def election(note):
    """Grammar of an election connection behind INITIAL, which `initial` has taken."""
    head = yield 4
    # SASL's magic cannot be a length: the first 4 of its bytes make one far too large.
    while struct.unpack(">I", head)[0] == SASL_MAGIC >> 32:
        yield 4
        status = struct.unpack(">i", (yield 4))[0]
        token = yield from _buffer()
        note("SASL", 0, 16 + len(token or b""), f"status {status}", None)
        head = yield 4
    while True:
        length = _length(head)
        data = yield max(length, 1)
        if length < 28:
            raise Lost(f"a notification of {length} bytes")
        state, leader, zxid, clock = struct.unpack_from(">iqqq", data)
        epoch = struct.unpack_from(">q", data, 28)[0] if length >= 40 else zxid >> 32
        name = STATES[state] if 0 <= state < len(STATES) else str(state)
        note("NOTIFICATION", zxid, 4 + length, f"{name} votes {leader} round {clock} epoch {epoch}", None)
        head = yield 4


def initial(data):
    """The INITIAL message at the head of ``data``: (bytes taken, version, sid, address), None while it is not whole.

    Raises `Lost` for anything else.
    """
    if len(data) < 8:
        return None
    version = struct.unpack_from(">q", data)[0]
    if version >= 0:
        return 8, None, version, ""
    if version not in INITIAL_VERSIONS:
        raise Lost(f"INITIAL of version {version}")
    if len(data) < 20:
        return None
    sid, length = struct.unpack_from(">qi", data, 8)
    if not 1 <= length <= 2048:
        raise Lost(f"INITIAL with an address of {length} bytes")
    if len(data) < 20 + length:
        return None
    return 20 + length, version, sid, bytes(data[20 : 20 + length]).decode()


def initial_bytes(version, sid, address):
    """INITIAL, as it goes on: with the address at which the receiver reaches the sender through the proxy."""
    raw = address.encode()
    return struct.pack(">qqi", version, sid, len(raw)) + raw
