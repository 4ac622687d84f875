"""TLS on the client ports: Python's own TLS and kazoo's against a server process with Apache's keys in its zoo.cfg."""

import os
import shutil
import socket
import ssl
import threading
from pathlib import Path

import pytest
from harness import command, wire
from harness.until import wait_until
from kazoo.client import KazooClient
from kazoo.security import ACL, Id

FILES = Path(__file__).resolve().parents[1] / "testdata" / "tls"
PASSWORD = "testpass"
#: As Java writes it: the last part first, the comma escaped.
CLIENT = r"CN=client,OU=a\, b,O=zabkit tests"
SUPER = "CN=super,O=zabkit tests"
#: How the end of a connection looks in Python.
REFUSED = (ssl.SSLError, ConnectionError)

STORES = {
    "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
    "ssl.keyStore.location": FILES / "keystore.jks",
    "ssl.keyStore.password": PASSWORD,
    "ssl.trustStore.location": FILES / "truststore.jks",
    "ssl.trustStore.password": PASSWORD,
    "X509AuthenticationProvider.superUser": SUPER,
}


def context(certificate="client", version=None, ca="ca"):
    """A client's side: it trusts `ca`, shows `certificate` (or nothing), speaks one version or any."""
    tls = ssl.create_default_context(cafile=FILES / f"{ca}.pem")
    if certificate:
        tls.load_cert_chain(FILES / f"{certificate}.pem")
    if version:
        tls.minimum_version = tls.maximum_version = version
    return tls


only_zabkit = pytest.mark.skipif(not command.is_zabkit(), reason="Apache promises nothing of it")


def assert_said(server, text):
    """Waits for a line in the log; Apache's say other things."""
    if command.is_zabkit():
        wait_until(lambda: text in server.log_text(), f"the log says {text!r}")


@pytest.fixture
def server(ensemble):
    """Starts one server with TLS; `.secure` is where."""

    def start(wait=True, **config):
        one = ensemble(1, config={**STORES, **{key.replace("__", "."): value for key, value in config.items()}})
        member = one[1]
        member.secure = ("127.0.0.1", one._ports.take())
        with open(member.config, "a") as file:
            file.write(f"secureClientPort={member.secure[1]}\nsecureClientPortAddress=127.0.0.1\n")
        member.start()
        if wait:
            member.wait_serving()
            wait_until(lambda: listens(member.secure), "the secure port listens", detail=member.log_tail)
        return member

    return start


def listens(address):
    try:
        socket.create_connection(address, 10.0).close()
    except ConnectionRefusedError:
        return False
    return True


def word(address, text, tls=None):
    """The answer to a four-letter word, over TLS if `tls` is a context."""
    with socket.create_connection(address, 10.0) as link:
        if tls:
            link = tls.wrap_socket(link, server_hostname="localhost", suppress_ragged_eofs=False)
        link.sendall(text)
        parts = []
        while part := link.recv(65_536):
            parts.append(part)
        link.close()
    return b"".join(parts)


def shown_certificate(address, certificate="client"):
    """The certificate that the server shows to a new connection."""
    tls = context(certificate)
    with socket.create_connection(address, 10.0) as link, tls.wrap_socket(link, server_hostname="localhost") as link:
        link.sendall(b"ruok")
        link.recv(4)
        return link.getpeercert(binary_form=True)


def certificate_in(name):
    text = (FILES / name).read_text()
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERT") :])


#: 3.8's own list of suites has none of TLS 1.3.
VERSIONS = [ssl.TLSVersion.TLSv1_2, pytest.param(ssl.TLSVersion.TLSv1_3, marks=only_zabkit)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_and_words_go_over_each_version(server, version):
    zk = server()
    tls = context(version=version)
    # An end without close_notify would be an error here.
    assert word(zk.secure, b"ruok", tls) == b"imok"
    assert b"Mode: standalone" in word(zk.secure, b"stat", tls)
    with wire.Connection(zk.secure, tls=tls) as client:
        assert client.socket.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
        client.create("/over", b"tls")
        with zk.connect() as plain:
            assert plain.get("/over")[0] == b"tls"
            client.get("/over", watch=True)
            plain.set("/over", b"plain")
        assert client.wait_event().path == "/over"


def test_a_session_moves_between_both_ports(server):
    zk = server()
    with wire.Connection(zk.secure, tls=context()) as client:
        session = client.session
        client.create("/moving", flags=1)
    with zk.connect(session) as plain:
        assert plain.exists("/moving").ephemeral_owner == session.id
    with wire.Connection(zk.secure, session, tls=context()) as client:
        client.close_session()
    with zk.connect() as plain:
        assert plain.exists("/moving") is None


def test_large_answers_arrive_whole_at_a_client_that_reads_late(server):
    zk = server()
    data = os.urandom(1_000_000)
    with wire.Connection(zk.secure, tls=context(), timeout_s=30.0) as client:
        client.create("/large", data)
        n = client.send_many([(4, wire.watch_body("/large"))] * 30)
        with zk.connect() as other:
            other.set("/large", data)  # Meanwhile the others are served.
        for _ in range(n):
            reply = client.recv()
            assert (reply.err, reply.body[4:1_000_004] == data) == (0, True)


def test_kazoo_is_known_by_its_certificate(server):
    zk = server()

    def kazoo(certificate):
        pem = str(FILES / f"{certificate}.pem")
        hosts = f"127.0.0.1:{zk.secure[1]}"
        client = KazooClient(hosts, use_ssl=True, ca=str(FILES / "ca.pem"), certfile=pem, keyfile=pem)
        client.start(timeout=30)
        return client

    own, other, superuser = kazoo("client"), kazoo("server"), kazoo("super")
    try:
        own.create("/mine", b"1", acl=[ACL(31, Id("x509", CLIENT))])
        own.create("/same", b"1", acl=[ACL(31, Id("auth", ""))])
        assert own.get_acls("/same")[0] == [ACL(31, Id("x509", CLIENT))]
        assert own.get("/mine")[0] == b"1"
        with pytest.raises(Exception, match="NoAuth"):
            raise_name(lambda: other.get("/mine"))
        assert superuser.get("/mine")[0] == b"1"
    finally:
        for client in (own, other, superuser):
            client.stop()
            client.close()


def raise_name(act):
    """kazoo's errors have no text; their name is."""
    try:
        act()
    except Exception as error:
        raise AssertionError(type(error).__name__) from error


def test_a_certificate_can_be_made_the_only_way_in(server):
    zk = server(enforce__auth__enabled="true", enforce__auth__schemes="x509", ssl__clientAuth="want")
    with wire.Connection(zk.secure, tls=context()) as client:
        client.create("/in", b"by certificate")
    for tls, address in ((None, zk.address), (context(None), zk.secure)):
        with wire.Connection(address, tls=tls) as client, pytest.raises(wire.ZkError) as refused:
            client.get("/in")
        assert refused.value.code == -124


@pytest.mark.parametrize(
    ("asked", "certificate", "is_let_in"),
    [
        ("need", "client", True),
        ("need", None, False),
        ("need", "stranger", False),
        ("need", "expired", False),
        ("want", "client", True),
        ("want", None, True),
        ("want", "stranger", False),
        ("none", "client", True),
        ("none", None, True),
        ("none", "stranger", True),
    ],
)
def test_who_must_show_a_certificate(server, asked, certificate, is_let_in):
    zk = server(ssl__clientAuth=asked)
    if is_let_in:
        assert word(zk.secure, b"ruok", context(certificate)) == b"imok"
    else:
        with pytest.raises(REFUSED):
            word(zk.secure, b"ruok", context(certificate))
        assert_said(zk, "Unsuccessful handshake with /127.0.0.1")
    # The others are served as before.
    assert word(zk.secure, b"ruok", context()) == b"imok"
    assert word(zk.address, b"ruok") == b"imok"


def test_a_client_that_does_not_trust_the_server_goes_away(server):
    zk = server()
    with pytest.raises(ssl.SSLCertVerificationError):
        word(zk.secure, b"ruok", context(ca="other"))
    assert_said(zk, "does not trust this server's certificate")
    assert word(zk.secure, b"ruok", context()) == b"imok"


def test_limits_on_versions_and_suites_hold(server):
    suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    zk = server(ssl__enabledProtocols="TLSv1.2,TLSv1.1", ssl__ciphersuites=f"TLS_RSA_WITH_RC4_128_MD5,{suite}")
    with wire.Connection(zk.secure, tls=context()) as client:
        assert client.socket.version() == "TLSv1.2"
        assert client.socket.cipher()[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
    with pytest.raises(REFUSED):
        word(zk.secure, b"ruok", context(version=ssl.TLSVersion.TLSv1_3))
    for name in ("TLSv1.1", "TLS_RSA_WITH_RC4_128_MD5"):
        assert_said(zk, f"{name} is left out")


def test_one_port_takes_both_when_it_is_told_to(server):
    zk = server(client__portUnification="true")
    for _ in range(3):
        assert word(zk.address, b"ruok", context()) == b"imok"
        assert word(zk.address, b"ruok") == b"imok"
    with wire.Connection(zk.address, tls=context()) as secure, zk.connect() as plain:
        secure.create("/one", b"port")
        assert plain.get("/one")[0] == b"port"


@only_zabkit
def test_a_port_that_takes_both_waits_for_the_first_byte_as_long_as_it_is_told(server):
    zk = server(client__portUnification="true", ssl__handshakeDetectionTimeoutMillis=500)
    # Plain text that has begun has the time of any plain connection.
    with socket.create_connection(zk.address, 30.0) as slow, socket.create_connection(zk.address, 30.0) as silent:
        slow.sendall(b"ru")
        assert silent.recv(1) == b""
        slow.sendall(b"ok")
        assert slow.recv(4) == b"imok"
    assert b"tls_handshake_exceeded\t1" in word(zk.address, b"mntr")


@only_zabkit
def test_the_wrong_speech_on_a_port_ends_the_connection_and_nothing_else(server):
    zk = server()
    with pytest.raises(REFUSED):
        word(zk.address, b"ruok", context())
    with pytest.raises(wire.Refused):
        wire.Connection(zk.secure)
    assert_said(zk, "does not speak TLS")
    for garbage in (b"\x16", b"\x16\x03\x01\xff\xff" + b"x" * 70_000, os.urandom(5000), b"GET / HTTP/1.1\r\n\r\n"):
        with socket.create_connection(zk.secure, 30.0) as link:
            link.sendall(garbage)
            link.shutdown(socket.SHUT_WR)
            while True:
                try:
                    if not link.recv(4096):
                        break
                except ConnectionError:
                    break
    assert word(zk.secure, b"ruok", context()) == b"imok"


def hello():
    """The first bytes of a handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    link = context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        link.do_handshake()
    return outgoing.read()


def test_slow_handshakes_are_ended_and_disturb_nobody(server):
    zk = server(nio__sessionlessCnxnTimeout=2000)
    silent = [socket.create_connection(zk.secure, 60.0) for _ in range(100)]
    slow = [socket.create_connection(zk.secure, 60.0) for _ in range(100)]
    first = hello()
    with wire.Connection(zk.secure, tls=context(), timeout_s=60.0) as client:
        client.create("/good")
        gone, sent = set(), 0
        while len(gone) < len(slow):
            # A byte from each at a time, and the good client between them.
            for link in slow:
                if link in gone:
                    continue
                try:
                    link.sendall(first[sent % len(first) : sent % len(first) + 1])
                    link.setblocking(False)
                    if link.recv(1) == b"":
                        gone.add(link)
                except BlockingIOError:
                    pass
                except OSError:
                    gone.add(link)
                finally:
                    link.settimeout(60.0)
            client.set("/good", b"%d" % sent)
            sent += 1
            assert sent < len(first), "they came through"
            threading.Event().wait(0.05)
        assert client.get("/good")[0] == b"%d" % (sent - 1)
    for link in silent:
        assert link.recv(1) == b""
        link.close()
    for link in slow:
        link.close()
    assert word(zk.secure, b"ruok", context()) == b"imok"


def replace(path, contents):
    """As certificates are renewed: another file under the same name."""
    path.with_suffix(".new").write_bytes(contents)
    os.replace(path.with_suffix(".new"), path)


@only_zabkit
def test_renewed_certificates_are_served_without_a_restart(server, tmp_path):
    key, trust = tmp_path / "key.pem", tmp_path / "trust.pem"
    shutil.copy(FILES / "server.pem", key)
    shutil.copy(FILES / "ca.pem", trust)
    stores = {"ssl__keyStore__location": key, "ssl__trustStore__location": trust}
    zk = server(client__certReload="true", **stores)
    with wire.Connection(zk.secure, tls=context()) as open_before:
        assert shown_certificate(zk.secure) == certificate_in("server.pem")
        replace(key, (FILES / "rsa.pem").read_bytes())
        wait_until(lambda: shown_certificate(zk.secure) == certificate_in("rsa.pem"), "the new certificate is shown")

        replace(key, b"-----BEGIN PRIVATE KEY-----\nhalf")
        wait_until(lambda: "what was loaded before stays" in zk.log_text(), "the broken file is told")
        assert shown_certificate(zk.secure) == certificate_in("rsa.pem")
        replace(key, (FILES / "server.pem").read_bytes())
        wait_until(lambda: shown_certificate(zk.secure) == certificate_in("server.pem"), "the mended file is loaded")

        replace(trust, (FILES / "ca.pem").read_bytes() + (FILES / "other.pem").read_bytes())

        def is_let_in():
            try:
                return word(zk.secure, b"ruok", context("stranger")) == b"imok"
            except OSError:
                return False

        wait_until(is_let_in, "the new authority is trusted")
        open_before.create("/still-here")


@only_zabkit
@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"ssl__keyStore__password": "wrong"}, "the password is not the file's"),
        ({"ssl__keyStore__location": "/absent.jks"}, "cannot read /absent.jks"),
        ({"ssl__keyStore__location": None}, "ssl.keyStore.location is not set"),
        ({"ssl__enabledProtocols": "SSLv3"}, "ssl.enabledProtocols=SSLv3: nothing is left"),
        ({"ssl__clientAuth": "perhaps"}, "none, want or need is needed"),
        ({"ssl__authProvider": "mine"}, "SSL authentication scheme 'mine'"),
    ],
)
def test_settings_that_cannot_work_end_the_server_at_once(server, config, says):
    zk = server(wait=False, **config)
    assert zk.wait_exit() == 2
    assert says in zk.log_text()
    assert "wrong" not in zk.log_text(), "a password is not for logs"
