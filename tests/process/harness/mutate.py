"""Recorded frames, and what a seeded generator makes of them.

The recordings are `tests/testdata/client` and `tests/testdata/quorum`. Every mutation is drawn from one
`random.Random`, so a seed names the whole sequence of frames.
"""

import json
import re
import struct

from .command import ROOT

TESTDATA = ROOT / "tests" / "testdata"
LENGTH_MAX = 1_048_575
#: Longest frame that a mutation may grow to.
FRAME_BYTES_MAX = 65_536

#: Values that lie about a length, a count or a type.
LIES = (-1, -2, 0, 1, 2, 7, 0x7F, 0xFF, 0x1000, 0xFFFFF, 0x100000, 0x7FFFFFFF, -0x80000000, 0x42)

_INT = struct.Struct(">i")
_LOOPBACK = re.compile(rb"127\.\d{1,3}\.\d{1,3}\.\d{1,3}:\d{1,5}(\|127\.\d{1,3}\.\d{1,3}\.\d{1,3}:\d{1,5})*")


def _frames_of(path, keys):
    document = json.loads(path.read_text())
    for key in keys:
        for item in document.get(key, ()):
            for packet in item.get("packets", [item]):
                yield packet["kind"], bytes.fromhex(packet["hex"])


def client_frames():
    """Connect requests, and all later frames that clients sent."""
    connects, requests = [], []
    for path in sorted((TESTDATA / "client").glob("*.json")):
        seen = set()
        for step in json.loads(path.read_text())["steps"]:
            if step["send"]:
                (requests if step["conn"] in seen else connects).append(bytes.fromhex(step["send"]))
            seen.add(step["conn"])
    return connects, requests


def election_frames():
    """INITIAL messages, and notifications with their length."""
    frames = list(_frames_of(TESTDATA / "quorum" / "election.json", ["messages"]))
    return (
        [frame for kind, frame in frames if kind.startswith("INITIAL")],
        [frame for kind, frame in frames if kind.startswith("NOTIFICATION")],
    )


def quorum_frames():
    """Packets of both directions, each once; and by kind, those that a leader expects from an up-to-date learner."""
    found = {}
    for name in ("handshake", "broadcast", "reconfig", "sequences"):
        for kind, frame in _frames_of(TESTDATA / "quorum" / f"{name}.json", ["packets", "sequences"]):
            if kind != "SNAP-STREAM":
                found.setdefault(frame, kind)
    wanted = {}
    for frame, kind in found.items():
        if re.match(r"REQUEST|ACK$|PING:|REVALIDATE$", kind):
            wanted.setdefault(kind, []).append(frame)
    return list(found), list(wanted.values())


def mutate(rng, frame, others):
    """One to three of: bit flips, a cut, a lie about a length, a repeated piece, a splice with another frame."""
    out = bytearray(frame)
    for _ in range(rng.choice((1, 1, 2, 3))):
        kind = rng.randrange(5)
        at = rng.randrange(len(out) + 1)
        if kind == 0:
            flip_bits(rng, out)
        elif kind == 1:
            del out[at:]
        elif kind == 2 and len(out) >= 4:
            at = rng.randrange(len(out) - 3)
            _INT.pack_into(out, at, rng.choice((*LIES, len(out), len(out) - 4, len(out) - at - 4)))
        elif kind == 3:
            end = rng.randrange(at, len(out) + 1)
            out[at:at] = out[at:end] * rng.randint(1, 4)
        else:
            other = rng.choice(others)
            out[at:] = other[rng.randrange(len(other) + 1) :]
    return bytes(out[:FRAME_BYTES_MAX])


def flip_bits(rng, out):
    """Flip one to eight bits in place."""
    for _ in range(rng.randint(1, 8)):
        if out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return out


def with_length(body):
    return _INT.pack(len(body)) + body


def is_framed(frame, length_min):
    """Whether a length and exactly as many bytes: the stream is still in step behind it."""
    return len(frame) >= 4 and length_min <= _INT.unpack_from(frame)[0] == len(frame) - 4 <= LENGTH_MAX


def mutated_frame(rng, frames, header_bytes=0):
    """A mutated frame with a length in front.

    Three in four times it is a true one, so that what is inside gets read; and three in four of those keep their
    header, so that what is behind the header gets read.
    """
    frame = rng.choice(frames)
    if rng.randrange(4) == 0:
        return mutate(rng, frame, frames)
    keep = 4 + header_bytes * (rng.randrange(4) > 0)
    return with_length(frame[4:keep] + mutate(rng, frame[keep:], [other[keep:] for other in rng.sample(frames, 2)]))


def split_packet(packet):
    """Of a quorum packet: the bytes before its data's length, its data, the rest; None when it is not one packet."""
    try:
        length = _INT.unpack_from(packet, 12)[0]
        end = 16 + max(length, 0)
        if length < -1 or end > len(packet):
            return None
        at = end + 4
        for _ in range(2 * max(_INT.unpack_from(packet, end)[0], 0)):
            size = _INT.unpack_from(packet, at)[0]
            if size < -1:
                return None
            at += 4 + max(size, 0)
    except struct.error:
        return None
    return (packet[:12], packet[16:end], packet[end:]) if at == len(packet) else None


def mutated_packet(rng, packets, wanted):
    """A mutated quorum packet; two in three times one that the leader wants, with only its data bent."""
    if rng.randrange(3):
        packet = rng.choice(rng.choice(wanted))
        parts = split_packet(packet)
        if parts and parts[1]:
            head, data, rest = parts
            # Its lengths mostly stay true, so that most of these are read to the end.
            if rng.randrange(4):
                return head + with_length(bytes(flip_bits(rng, bytearray(data)))) + rest
            return head + with_length(mutate(rng, data, [other[16:] for other in rng.sample(packets, 2)])) + rest
        return packet[:4] + bytes(flip_bits(rng, bytearray(packet[4:12]))) + packet[12:]
    return mutate(rng, rng.choice(packets), packets)


def names_a_stranger(initial):
    """Whether an INITIAL message may make the server call an address that is not on loopback."""
    if len(initial) < 20:
        return False
    version, _, length = struct.unpack_from(">qqi", initial)
    if version not in (-65536, -65535):
        return False
    address = initial[20 : 20 + max(length, 0)]
    return b":" in address and not _LOOPBACK.fullmatch(address)
