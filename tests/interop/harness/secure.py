"""Terms on which a client and a server agree: certificates for TLS, passwords for SASL DIGEST-MD5.

Everything is made for one run, in its own directory, with the `openssl` command.
"""

import dataclasses
import subprocess

PASSWORD = "storepass"
PROVIDERS = "org.apache.zookeeper.server.auth"


@dataclasses.dataclass
class Terms:
    """What both sides are told; ``{secure_port}`` in a value of `config` is the port for TLS."""

    config: dict = dataclasses.field(default_factory=dict)
    server_flags: str = ""
    client_flags: list = dataclasses.field(default_factory=list)
    tls: bool = False


def plain(_folder):
    """Anybody, and every byte in the open."""
    return Terms()


def sasl(folder):
    """DIGEST-MD5 with the users in Java's own file, on both sides."""
    server, client = folder / "server-jaas.conf", folder / "client-jaas.conf"
    module = "org.apache.zookeeper.server.auth.DigestLoginModule required"
    server.write_text(f'Server {{\n  {module}\n  user_super="adminsecret"\n  user_bob="bobsecret";\n}};\n')
    client.write_text(f'Client {{\n  {module}\n  username="bob"\n  password="bobsecret";\n}};\n')
    return Terms(
        {"authProvider.1": f"{PROVIDERS}.SASLAuthenticationProvider"},
        f"-Djava.security.auth.login.config={server}",
        [f"-Djava.security.auth.login.config={client}"],
    )


def tls(folder):
    """Both sides show a certificate: the server's is in a PKCS12 store, the client's in a PEM file."""
    for name in ("server", "client"):
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-sha256"),
            *("-subj", f"/O=zabkit/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", folder / f"{name}-key.pem", "-out", folder / f"{name}-cert.pem"),
        )
        key, certificate = (folder / f"{name}-{part}.pem" for part in ("key", "cert"))
        (folder / f"{name}.pem").write_text(key.read_text() + certificate.read_text())
    _openssl(
        *("pkcs12", "-export", "-name", "server", "-passout", f"pass:{PASSWORD}"),
        *("-inkey", folder / "server-key.pem", "-in", folder / "server-cert.pem", "-out", folder / "server.p12"),
    )
    return Terms(
        {
            "secureClientPort": "{secure_port}",
            "secureClientPortAddress": "127.0.0.1",
            "authProvider.x509": f"{PROVIDERS}.X509AuthenticationProvider",
            "ssl.keyStore.location": folder / "server.p12",
            "ssl.keyStore.password": PASSWORD,
            "ssl.trustStore.location": folder / "client-cert.pem",
        },
        "-Dzookeeper.serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
        [
            "-Dzookeeper.clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty",
            "-Dzookeeper.client.secure=true",
            f"-Dzookeeper.ssl.keyStore.location={folder / 'client.pem'}",
            f"-Dzookeeper.ssl.trustStore.location={folder / 'server-cert.pem'}",
        ],
        tls=True,
    )


def _openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
