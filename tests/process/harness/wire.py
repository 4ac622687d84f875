"""The client protocol with nothing but `struct` and sockets.

A `Session` is what survives a connection: id, password, newest zxid seen. A `Connection` is one TCP connection of a
session. Requests may be pipelined: `send` any number, then `recv` the replies, which come in the same order; events and
answers to `auth` are put aside. No retries, no threads: what the server does is what the caller sees.
"""

import collections
import socket
import struct
import time

CREATE, DELETE, EXISTS, GET_DATA, SET_DATA, GET_ACL, SET_ACL, SYNC, PING = 1, 2, 3, 4, 5, 6, 7, 9, 11
GET_CHILDREN2, CHECK, MULTI, CREATE2, CREATE_CONTAINER, CREATE_TTL = 12, 13, 14, 15, 19, 21
AUTH, SET_WATCHES, CLOSE_SESSION = 100, 101, -11
XID_EVENT, XID_PING, XID_AUTH, XID_SET_WATCHES = -1, -2, -4, -8
NO_NODE, NODE_EXISTS, SESSION_EXPIRED = -101, -110, -112

#: Every permission for everybody.
OPEN_ACL = ((31, "world", "anyone"),)

Reply = collections.namedtuple("Reply", "xid zxid err body")
Event = collections.namedtuple("Event", "zxid type state path")
Stat = collections.namedtuple(
    "Stat", "czxid mzxid ctime mtime version cversion aversion ephemeral_owner data_length num_children pzxid"
)

_STAT = struct.Struct(">qqqqiiiqiiq")
_REPLY = struct.Struct(">iqi")


class ZkError(Exception):
    """The server answered with an error code."""

    def __init__(self, code, what=""):
        super().__init__(f"error {code} {what}".rstrip())
        self.code = code


class Refused(OSError):
    """The server closed the connection before it was a session's."""


class Expired(Exception):
    """The server says that the session is over."""


def buffer(data):
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


def string(text):
    return buffer(None if text is None else text.encode(errors="surrogateescape"))


def acl_vector(acls):
    return struct.pack(">i", len(acls)) + b"".join(
        struct.pack(">i", perms) + string(scheme) + string(ident) for perms, scheme, ident in acls
    )


def create_body(path, data=b"", acls=OPEN_ACL, flags=0):
    return string(path) + buffer(data) + acl_vector(acls) + struct.pack(">i", flags)


def set_body(path, data, version=-1):
    return string(path) + buffer(data) + struct.pack(">i", version)


def watch_body(path, watch=False):
    return string(path) + bytes([watch])


class Reader:
    """Takes fields off the front of a reply's body."""

    def __init__(self, body):
        self.body, self.at = body, 0

    def take(self, layout):
        values = struct.unpack_from(layout, self.body, self.at)
        self.at += struct.calcsize(layout)
        return values[0] if len(values) == 1 else values

    def buffer(self):
        length = self.take(">i")
        if length < 0:
            return None
        self.at += length
        return self.body[self.at - length : self.at]

    def string(self):
        raw = self.buffer()
        return None if raw is None else raw.decode(errors="surrogateescape")

    def stat(self):
        return Stat(*self.take(_STAT.format))

    def strings(self):
        return [self.string() for _ in range(max(self.take(">i"), 0))]

    def acls(self):
        return [(self.take(">i"), self.string(), self.string()) for _ in range(max(self.take(">i"), 0))]


class Session:
    """What a client keeps over its connections; `id` 0 is a session not yet made."""

    def __init__(self, timeout_ms=10_000):
        self.timeout_ms, self.id, self.password, self.last_zxid = timeout_ms, 0, bytes(16), 0


class Connection:
    """One connection of a session to one server. Any end of it is an `OSError`."""

    def __init__(self, address, session=None, timeout_s=10.0, tls=None):
        self.session = session or Session()
        self.events, self._xid, self._received, self._start = [], 0, bytearray(), 0
        self.socket = socket.create_connection(address, timeout_s)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:  # An `ssl.SSLContext`.
                self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
            self._shake_hands()
        except BaseException:
            self.socket.close()
            raise

    def _shake_hands(self):
        session = self.session
        request = struct.pack(">iqiq", 0, session.last_zxid, session.timeout_ms, session.id) + buffer(session.password)
        self.socket.sendall(buffer(request + b"\0"))
        try:
            answer = Reader(self._frame())
        except ConnectionError as reason:
            raise Refused(f"no session: {reason}") from reason
        _, timeout_ms, session_id = answer.take(">iiq")
        if timeout_ms <= 0:
            raise Expired(f"session {session.id:#x}")
        session.id, session.password, self.negotiated_ms = session_id, answer.buffer(), timeout_ms

    def _frame(self):
        """The next frame, without its length."""
        while True:
            have = len(self._received) - self._start
            if have >= 4:
                length = struct.unpack_from(">i", self._received, self._start)[0]
                if have >= 4 + length:
                    begin = self._start + 4
                    self._start = begin + length
                    return bytes(self._received[begin : self._start])
            if self._start:
                del self._received[: self._start]
                self._start = 0
            got = self.socket.recv(262_144)
            if not got:
                raise ConnectionResetError("closed by the server")
            self._received += got

    def send_raw(self, frames):
        self.socket.sendall(frames)

    def send(self, opcode, body=b"", xid=None):
        """Send one request; returns its xid."""
        if xid is None:
            self._xid += 1
            xid = self._xid
        self.socket.sendall(struct.pack(">iii", len(body) + 8, xid, opcode) + body)
        return xid

    def send_many(self, requests):
        """Send ``(opcode, body)`` pairs in one write; returns how many."""
        out = bytearray()
        for opcode, body in requests:
            self._xid += 1
            out += struct.pack(">iii", len(body) + 8, self._xid, opcode) + body
        self.socket.sendall(out)
        return len(requests)

    def recv(self):
        """The next reply; events before it go to `events`."""
        while True:
            frame = self._frame()
            xid, zxid, err = _REPLY.unpack_from(frame)
            if xid == XID_EVENT:
                self.events.append(self._event(zxid, frame))
                continue
            if zxid > self.session.last_zxid:
                self.session.last_zxid = zxid
            return Reply(xid, zxid, err, frame[16:])

    @staticmethod
    def _event(zxid, frame):
        reader = Reader(frame[16:])
        kind, state = reader.take(">ii")
        return Event(zxid, kind, state, reader.string())

    def wait_event(self, timeout_s=15.0):
        """The next event, asking for nothing; also one that has come already."""
        deadline = time.monotonic() + timeout_s
        while not self.events:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            frame = self._frame()
            xid, zxid, _ = _REPLY.unpack_from(frame)
            assert xid == XID_EVENT, f"a reply to nothing, xid {xid}"
            self.events.append(self._event(zxid, frame))
        return self.events.pop(0)

    def call(self, opcode, body=b"", what="", xid=None):
        """One request and its reply's body as a `Reader`; raises `ZkError`."""
        sent = self.send(opcode, body, xid)
        reply = self.recv()
        assert reply.xid == sent, f"reply {reply.xid} to request {sent}"
        if reply.err:
            raise ZkError(reply.err, what)
        return Reader(reply.body)

    # One method an operation; each waits for its reply.

    def create(self, path, data=b"", acls=OPEN_ACL, flags=0):
        return self.call(CREATE, create_body(path, data, acls, flags), path).string()

    def create_container(self, path, data=b""):
        return self.call(CREATE_CONTAINER, create_body(path, data, OPEN_ACL, 4), path).string()

    def create_ttl(self, path, data, ttl_ms):
        return self.call(CREATE_TTL, create_body(path, data, OPEN_ACL, 5) + struct.pack(">q", ttl_ms), path).string()

    def delete(self, path, version=-1):
        self.call(DELETE, string(path) + struct.pack(">i", version), path)

    def set(self, path, data, version=-1):
        return self.call(SET_DATA, set_body(path, data, version), path).stat()

    def set_acl(self, path, acls, version=-1):
        return self.call(SET_ACL, string(path) + acl_vector(acls) + struct.pack(">i", version), path).stat()

    def get(self, path, watch=False):
        reader = self.call(GET_DATA, watch_body(path, watch), path)
        return reader.buffer(), reader.stat()

    def exists(self, path, watch=False):
        try:
            return self.call(EXISTS, watch_body(path, watch), path).stat()
        except ZkError as error:
            if error.code == NO_NODE:
                return None
            raise

    def children(self, path, watch=False):
        return self.call(GET_CHILDREN2, watch_body(path, watch), path).strings()

    def sync(self, path="/"):
        self.call(SYNC, string(path), path)

    def auth(self, scheme, credential):
        self.call(AUTH, struct.pack(">i", 0) + string(scheme) + buffer(credential), scheme, xid=XID_AUTH)

    def set_watches(self, data=(), exist=(), child=(), since=None):
        lists = b"".join(struct.pack(">i", len(paths)) + b"".join(map(string, paths)) for paths in (data, exist, child))
        zxid = self.session.last_zxid if since is None else since
        self.call(SET_WATCHES, struct.pack(">q", zxid) + lists, "setWatches", xid=XID_SET_WATCHES)

    def multi(self, operations):
        """``operations``: ``(opcode, body)`` pairs; returns one error code for each."""
        body = b"".join(struct.pack(">i?i", opcode, False, -1) + part for opcode, part in operations)
        reader = self.call(MULTI, body + struct.pack(">i?i", -1, True, -1), "multi")
        codes = []
        while True:
            kind, done, _ = reader.take(">i?i")
            if done:
                return codes
            if kind == -1:
                codes.append(reader.take(">i"))
                continue
            codes.append(0)
            if kind == CREATE:
                reader.string()
            elif kind == CREATE2:
                reader.string(), reader.stat()
            elif kind == SET_DATA:
                reader.stat()

    def close_session(self):
        """End the session, then the connection."""
        try:
            self.call(CLOSE_SESSION)
        finally:
            self.close()

    def close(self):
        """End the connection; the session lives on."""
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def four_letter(address, word, timeout_s=2.0):
    """Answer to a four-letter word, or None when the server cannot be reached."""
    try:
        with socket.create_connection(address, timeout_s) as link:
            link.sendall(word.encode())
            parts = []
            while part := link.recv(65_536):
                parts.append(part)
        return b"".join(parts).decode(errors="replace")
    except OSError:
        return None
