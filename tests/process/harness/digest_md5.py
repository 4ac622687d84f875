"""The client's side of SASL DIGEST-MD5 as ZooKeeper uses it, from RFC 2831 and `hashlib` alone."""

import hashlib
import re
import struct

from . import wire

SASL = 102
REALM = "zk-sasl-md5"


def _md5(*parts):
    return hashlib.md5(b":".join(parts))


def answer(challenge, user, password, **changes):
    """The answer to a challenge, and the proof that the server has to send then.

    Args:
        challenge: The server's token.
        changes: Directives that shall be others.
    """
    nonce = re.search(rb'nonce="([^"]*)"', challenge)[1].decode()
    directives = {
        "charset": "utf-8",
        "username": f'"{user}"',
        "realm": f'"{REALM}"',
        "nonce": f'"{nonce}"',
        "nc": "00000001",
        "cnonce": '"c0ffee"',
        "digest-uri": f'"zookeeper/{REALM}"',
        "maxbuf": "65536",
        "qop": "auth",
        "authzid": f'"{user}"',
    }
    directives.update({name.replace("_", "-"): value for name, value in changes.items()})
    plain = {name: value.strip('"').encode() for name, value in directives.items()}
    secret = _md5(plain["username"], plain["realm"], password.encode()).digest()
    a1 = _md5(secret, plain["nonce"], plain["cnonce"], plain["authzid"]).hexdigest().encode()

    def proof(method):
        a2 = _md5(method, plain["digest-uri"]).hexdigest().encode()
        return _md5(a1, plain["nonce"], plain["nc"], plain["cnonce"], plain["qop"], a2).hexdigest()

    directives.setdefault("response", proof(b"AUTHENTICATE"))
    text = ",".join(f"{name}={value}" for name, value in directives.items())
    return text.encode(), b"rspauth=" + proof(b"").encode()


def exchange(link, token):
    """Send one token; the reply, and the token in it."""
    xid = link.send(SASL, wire.buffer(token))
    reply = link.recv()
    assert (reply.xid, reply.zxid) == (xid, 0)
    return reply, wire.Reader(reply.body).buffer() if len(reply.body) >= struct.calcsize(">i") else b"no body"


def log_in(link, user, password, **changes):
    """The whole exchange; the error of its last reply, and the token in it."""
    reply, challenge = exchange(link, b"")
    assert reply.err == 0, reply
    token, proof = answer(challenge, user, password, **changes)
    reply, last = exchange(link, token)
    if reply.err == 0 and last is not None:
        assert last == proof, "the server does not know the password"
    return reply.err, last
