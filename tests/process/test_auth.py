"""Who a client is, and what that lets it do: SASL DIGEST-MD5, required schemes, hashes, super users.

All of it is Apache's behaviour, and these tests run against its server as well (`ZABKIT_SERVER_CMD`); only the last
ones are about what zabkit has besides.
"""

import os
import struct
import threading

import pytest
from harness import wire
from harness.command import is_zabkit
from harness.digest_md5 import answer, exchange, log_in
from harness.ensemble import SUPER_AUTH
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.protocol.states import KazooState
from kazoo.security import make_acl

OK, NO_AUTH, INVALID_ACL, AUTH_FAILED, REQUIRED = 0, -102, -114, -115, -124
AUTH_CLASSES = "org.apache.zookeeper.server.auth"
SASL_PROVIDER = {"authProvider.1": f"{AUTH_CLASSES}.SASLAuthenticationProvider"}
WHO_AM_I = 107
MINE = [(31, "auth", "")]

JAAS = f"""
// The users of SASL.
Server {{
    {AUTH_CLASSES}.DigestLoginModule required
        user_bob="bob's secret"
        user_admin="admin \\"secret\\""
        user_super="super's secret";
}};
"""


@pytest.fixture
def sasl_users(tmp_path, monkeypatch):
    """The servers of this test know the users of `JAAS`, as Java's flags tell."""
    file = tmp_path / "jaas.conf"
    file.write_text(JAAS)
    for name in ("SERVER_JVMFLAGS", "JAVA_TOOL_OPTIONS"):
        flags = f"{os.environ.get(name, '')} -Djava.security.auth.login.config={file}"
        monkeypatch.setenv(name, flags)
    return file


@pytest.fixture
def server(ensemble):
    """Starts one server with more keys: ``server({...})``."""
    return lambda config, size=1: ensemble(size, config=config).start()


def err(link, opcode, body=b""):
    link.send(opcode, body)
    return link.recv().err


def closed(link):
    """Whether the server has ended the connection, without another word."""
    try:
        link.recv()
    except OSError:
        return True
    return False


def who_am_i(link):
    link.send(WHO_AM_I)
    reply = link.recv()
    reader = wire.Reader(reply.body)
    return sorted((reader.string(), reader.string()) for _ in range(reader.take(">i")))


def acls_of(link, path):
    link.send(wire.GET_ACL, wire.string(path))
    reply = link.recv()
    assert reply.err == OK, reply
    return wire.Reader(reply.body).acls()


def test_each_server_logs_users_in_and_their_ids_reach_the_leader(server, sasl_users):
    trio = server({**SASL_PROVIDER, "superUser": "admin"}, size=3)
    for member in trio:
        bob, admin, nobody = member.connect(), member.connect(), member.connect()
        assert log_in(bob, "bob", "bob's secret")[0] == OK
        assert who_am_i(bob) == [("ip", "127.0.0.1"), ("sasl", "bob")]
        path = f"/of-bob-{member.id}"
        bob.create(path, b"hidden", acls=MINE)
        assert acls_of(bob, path) == [(31, "sasl", "bob")]
        bob.create(f"{path}/child", b"", acls=[(31, "sasl", "bob@EXAMPLE.ORG"), (1, "sasl", "bob")])
        assert err(nobody, wire.GET_DATA, wire.watch_body(path)) == NO_AUTH
        assert err(nobody, wire.SET_DATA, wire.set_body(path, b"")) == NO_AUTH
        assert err(nobody, wire.CREATE, wire.create_body("/bad", acls=[(31, "sasl", "a@b@c")])) == INVALID_ACL

        assert log_in(admin, "admin", 'admin "secret"')[0] == OK
        assert who_am_i(admin) == [("ip", "127.0.0.1"), ("sasl", "admin"), ("super", "")]
        assert err(admin, wire.SET_DATA, wire.set_body(path, b"")) == OK
        assert err(bob, wire.DELETE, wire.string(f"{path}/child") + struct.pack(">i", -1)) == OK


def test_the_user_super_passes_lists_of_sasl_and_no_others(server, sasl_users):
    one = server(SASL_PROVIDER)[1]
    bob, link = one.connect(), one.connect()
    assert log_in(bob, "bob", "bob's secret")[0] == OK
    bob.create("/bobs", b"", acls=MINE)
    bob.create("/nobodys", b"", acls=[(31, "digest", "x:y")])
    assert log_in(link, "super", "super's secret")[0] == OK
    assert err(link, wire.GET_DATA, wire.watch_body("/bobs")) == OK
    assert err(link, wire.GET_DATA, wire.watch_body("/nobodys")) == NO_AUTH


@pytest.mark.parametrize(
    ("user", "password", "changes"),
    [
        ("bob", "another", {}),
        ("eve", "bob's secret", {}),
        ("bob", "bob's secret", {"realm": '"elsewhere"'}),
        ("bob", "bob's secret", {"nonce": '"another"'}),
        ("bob", "bob's secret", {"digest_uri": '"zookeeper/elsewhere"'}),
        ("bob", "bob's secret", {"nc": "00000002"}),
        ("bob", "bob's secret", {"qop": "auth-conf"}),
        ("bob", "bob's secret", {"response": "0" * 32}),
    ],
)
def test_a_failed_login_is_told_and_ends_the_connection_but_not_the_session(
    server, sasl_users, user, password, changes
):
    one = server(SASL_PROVIDER)[1]
    link = one.connect()
    assert log_in(link, user, password, **changes) == (AUTH_FAILED, None)
    assert closed(link)
    again = one.connect(link.session)
    assert again.session.id == link.session.id
    assert log_in(again, "bob", "bob's secret", authzid='"eve"')[0] == OK
    assert who_am_i(again) == [("ip", "127.0.0.1"), ("sasl", "bob")], "who one wants to be does not count"


def test_a_login_has_one_order_and_is_done_once(server, sasl_users):
    one = server(SASL_PROVIDER)[1]
    link = one.connect()
    reply, token = exchange(link, b"whatever")
    assert reply.err == OK, "the first token only asks"
    assert token.startswith(b'realm="zk-sasl-md5",nonce=')
    reply, token = exchange(link, b"")
    assert (reply.err, token) == (AUTH_FAILED, None)
    assert closed(link)
    link = one.connect()
    assert log_in(link, "bob", "bob's secret")[0] == OK
    reply, token = exchange(link, b"")
    assert (reply.err, token) == (AUTH_FAILED, None)
    assert closed(link)


def test_where_failed_clients_may_stay_they_are_nobody(server, sasl_users):
    one = server({**SASL_PROVIDER, "allowSaslFailedClients": "true"})[1]
    link = one.connect()
    assert log_in(link, "bob", "another") == (OK, None)
    assert who_am_i(link) == [("ip", "127.0.0.1")]
    token, _ = answer(b'nonce="x"', "bob", "bob's secret")
    assert exchange(link, token)[0].err == OK, "the second try is none"
    assert who_am_i(link) == [("ip", "127.0.0.1")]


def test_without_its_provider_sasl_tells_who_one_is_but_may_not_be_in_lists(server, sasl_users):
    one = server({})[1]
    link = one.connect()
    assert log_in(link, "bob", "bob's secret")[0] == OK
    assert who_am_i(link) == [("ip", "127.0.0.1"), ("sasl", "")]
    assert err(link, wire.CREATE, wire.create_body("/n", acls=[(31, "sasl", "bob")])) == INVALID_ACL
    assert err(link, wire.CREATE, wire.create_body("/n", acls=MINE)) == INVALID_ACL


def test_without_users_a_token_is_answered_with_none(server):
    one = server(SASL_PROVIDER)[1]
    link = one.connect()
    reply, token = exchange(link, b"")
    assert (reply.err, token) == (OK, None)
    assert err(link, wire.GET_DATA, wire.watch_body("/")) == OK


@pytest.mark.parametrize(
    "keys",
    [
        {"sessionRequireClientSASLAuth": "true"},
        {"enforce.auth.enabled": "true", "enforce.auth.schemes": "sasl, digest"},
    ],
    ids=["sasl", "schemes"],
)
def test_where_a_scheme_is_required_everything_else_waits_for_it(server, sasl_users, keys):
    one = server({**SASL_PROVIDER, **keys})[1]
    for opcode, body in [
        (wire.GET_DATA, wire.watch_body("/")),
        (wire.CREATE, wire.create_body("/n")),
        (wire.PING, b""),
        (wire.CLOSE_SESSION, b""),
        (WHO_AM_I, b""),
    ]:
        link = one.connect()
        xid = link.send(opcode, body)
        assert link.recv() == (xid, 0, REQUIRED, b"")
        assert closed(link)
    link = one.connect()
    assert log_in(link, "bob", "another") == (REQUIRED, None)
    assert closed(link)
    link = one.connect()
    assert log_in(link, "bob", "bob's secret")[0] == OK
    assert err(link, wire.GET_DATA, wire.watch_body("/")) == OK
    link = one.connect()
    link.auth("digest", b"bob:x")
    assert err(link, wire.GET_DATA, wire.watch_body("/")) == (OK if len(keys) == 2 else REQUIRED)


def test_the_hash_of_digests_is_the_configured_one(server):
    sha256_of_bob = "bob:huAluaVu3uER4LIpielGv9Qqk5x3YVDr6I2R/mXf2wE="
    keys = {
        "DigestAuthenticationProvider.digestAlg": "SHA-256",
        "DigestAuthenticationProvider.superDigest": sha256_of_bob,
    }
    one = server(keys)[1]
    link = one.connect()
    link.create("/hidden", b"", acls=[(31, "digest", sha256_of_bob)])
    assert err(link, wire.GET_DATA, wire.watch_body("/hidden")) == NO_AUTH
    link.auth("digest", b"bob:secret")
    assert who_am_i(link) == [("digest", "bob"), ("ip", "127.0.0.1"), ("super", "")]
    assert err(link, wire.GET_DATA, wire.watch_body("/hidden")) == OK


def test_schemes_can_be_turned_off_and_on(server):
    keys = {
        "DigestAuthenticationProvider.enabled": "false",
        "authProvider.ensemble": f"{AUTH_CLASSES}.EnsembleAuthenticationProvider",
        "ensembleAuthName": "one,two",
    }
    one = server(keys)[1]
    link = one.connect()
    for scheme, auth, answered, ends in [
        (b"digest", b"bob:x", AUTH_FAILED, True),
        (b"ensemble", b"two", OK, False),
        (b"ensemble", b"", OK, False),
        (b"ip", b"x", OK, False),
        (b"world", b"anyone", AUTH_FAILED, True),
        (b"ensemble", b"three", None, True),
    ]:
        link = one.connect()
        link.send(wire.AUTH, struct.pack(">i", 0) + wire.buffer(scheme) + wire.buffer(auth), xid=wire.XID_AUTH)
        if answered is not None:
            assert link.recv().err == answered, scheme
        assert ends == (closed(link) if ends else err(link, wire.GET_DATA, wire.watch_body("/")) != OK), scheme
    link = one.connect()
    assert err(link, wire.CREATE, wire.create_body("/n", acls=[(31, "digest", "bob:x")])) == INVALID_ACL


def test_skip_acl_lets_everybody_in_and_keeps_the_lists(server):
    one = server({"skipACL": "yes"})[1]
    link = one.connect()
    link.create("/bobs", b"", acls=[(31, "digest", "bob:x")])
    assert err(link, wire.SET_DATA, wire.set_body("/bobs", b"")) == OK
    assert acls_of(link, "/bobs") == [(31, "digest", "bob:x")]
    assert err(link, wire.CREATE, wire.create_body("/bad", acls=[(31, "nonsense", "x")])) == INVALID_ACL


@pytest.mark.parametrize("size", [1, 3])
def test_an_eager_check_refuses_without_a_transaction_where_there_is_a_leader_to_spare(server, size):
    servers = server({"enableEagerACLCheck": "true"}, size=size)
    for member in servers:
        link = member.connect()
        path = f"/bobs-{member.id}"
        link.create(path, b"", acls=[(31, "digest", "bob:x")])
        for opcode, body, error in [
            (wire.CREATE, wire.create_body(f"{path}/n"), NO_AUTH),
            (wire.SET_DATA, wire.set_body(path, b""), NO_AUTH),
            (wire.DELETE, wire.string(f"{path}/n") + struct.pack(">i", -1), NO_AUTH),
            (wire.CREATE, wire.create_body("/n", acls=[]), INVALID_ACL),
        ]:
            link.send(opcode, body)
            reply = link.recv()
            assert (reply.err, reply.zxid == 0) == (error, size > 1), (opcode, reply)


def test_auth_overtakes_but_does_not_count_for_what_was_sent_before_it(server):
    trio = server({}, size=3)
    for member in trio:
        owner = member.connect()
        owner.auth("digest", b"bob:x")
        owner.create(f"/bobs-{member.id}", b"", acls=MINE)
        path, link = f"/bobs-{member.id}", member.connect()
        frames = b""
        auth = struct.pack(">i", 0) + wire.string("digest") + wire.buffer(b"bob:x")
        for xid, opcode, body in [
            (1, wire.CREATE, wire.create_body(f"/n-{member.id}")),
            (2, wire.GET_DATA, wire.watch_body(path)),
            (3, wire.SET_DATA, wire.set_body(path, b"")),
            (wire.XID_AUTH, wire.AUTH, auth),
            (4, wire.GET_DATA, wire.watch_body(path)),
            (5, wire.SET_DATA, wire.set_body(path, b"")),
        ]:
            frames += struct.pack(">iii", len(body) + 8, xid, opcode) + body
        link.send_raw(frames)
        answers = [link.recv() for _ in range(6)]
        errors = {reply.xid: reply.err for reply in answers}
        assert errors == {1: OK, 2: NO_AUTH, 3: NO_AUTH, wire.XID_AUTH: OK, 4: OK, 5: OK}
        assert [reply.xid for reply in answers if reply.xid > 0] == [1, 2, 3, 4, 5]


def kazoo(member, user, password):
    sasl = {"mechanism": "DIGEST-MD5", "username": user, "password": password}
    return KazooClient(hosts=member.host, timeout=10.0, sasl_options=sasl)


def test_kazoo_logs_in_with_its_password_and_no_other(server, sasl_users):
    one = server({**SASL_PROVIDER, "superUser": "admin"})[1]
    bob, other = kazoo(one, "bob", "bob's secret"), KazooClient(hosts=one.host)
    admin = kazoo(one, "admin", 'admin "secret"')
    try:
        for client in (bob, other, admin):
            client.start(timeout=30)
        bob.create("/bobs", b"hidden", acl=[make_acl("sasl", "bob", all=True)])
        assert bob.get("/bobs")[0] == admin.get("/bobs")[0] == b"hidden"
        with pytest.raises(NoAuthError):
            other.get("/bobs")
        wrong = kazoo(one, "bob", "another")
        lost = threading.Event()
        wrong.add_listener(lambda state: lost.set() if state == KazooState.LOST else None)
        wrong.start_async()
        assert lost.wait(30)
        assert not wrong.connected
        wrong.stop()
    finally:
        for client in (bob, other, admin):
            client.stop()
            client.close()


@pytest.mark.skipif(not is_zabkit(), reason="the key is zabkit's")
def test_users_may_be_in_a_file_of_lines(server, tmp_path):
    users = tmp_path / "users"
    users.write_text("# who may log in\n\nbob:bob's secret\neve:a:b\n")
    one = server({**SASL_PROVIDER, "saslUsersFile": users})[1]
    for user, password in [("bob", "bob's secret"), ("eve", "a:b")]:
        link = one.connect()
        assert log_in(link, user, password)[0] == OK
        assert ("sasl", user) in who_am_i(link)
    assert log_in(one.connect(), "bob", "a:b")[0] == AUTH_FAILED


@pytest.mark.skipif(not is_zabkit(), reason="Apache's server keeps them all")
def test_a_client_cannot_pile_ids_up(server):
    one = server({})[1]
    link = one.connect()
    link.auth(*SUPER_AUTH)
    for number in range(300):
        body = struct.pack(">i", 0) + wire.string("digest") + wire.buffer(b"u%d:x" % number)
        link.send(wire.AUTH, body, xid=wire.XID_AUTH)
    answers = []
    while not answers or answers[-1] == OK:
        answers.append(link.recv().err)
    assert answers[-1] == AUTH_FAILED
    assert 200 < len(answers) < 300
    assert closed(link)
