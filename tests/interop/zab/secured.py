"""Terms on which servers speak with each other: plainly, after SASL DIGEST-MD5, by TLS on both ports, or both.

The certificate is one for all members and the proxy, which ends TLS and begins it anew: each side shows it and asks
for it. Everything is made for one run, in a directory of its own.
"""

import dataclasses
import ssl
import subprocess

PASSWORD = "storepass"
MODULE = "org.apache.zookeeper.server.auth.DigestLoginModule required"


@dataclasses.dataclass
class Terms:
    """What all members are told; `flags` are Java's, which zabkit reads from SERVER_JVMFLAGS."""

    config: dict = dataclasses.field(default_factory=dict)
    flags: str = ""
    #: The proxy's contexts, for the connections that it takes and for those that it makes.
    tls: tuple | None = None


def plain(_folder):
    return Terms()


def sasl(folder):
    """Nobody is let in without a proof, on either port."""
    jaas = folder / "jaas.conf"
    jaas.write_text(
        f'QuorumServer {{\n  {MODULE}\n  user_member="secret";\n}};\n'
        f'QuorumLearner {{\n  {MODULE}\n  username="member"\n  password="secret";\n}};\n'
    )
    config = {f"quorum.auth.{key}": "true" for key in ("enableSasl", "learnerRequireSasl", "serverRequireSasl")}
    return Terms(config, f"-Djava.security.auth.login.config={jaas}")


def tls(folder):
    """Nothing but TLS, with certificates on both sides."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    _openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-sha256", "-subj", "/O=zabkit/CN=member"),
        *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", certificate),
    )
    store = folder / "member.p12"
    _openssl("pkcs12", "-export", "-passout", f"pass:{PASSWORD}", "-inkey", key, "-in", certificate, "-out", store)
    config = {
        "sslQuorum": "true",
        "ssl.quorum.keyStore.location": store,
        "ssl.quorum.keyStore.password": PASSWORD,
        "ssl.quorum.trustStore.location": certificate,
    }
    contexts = []
    for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH):
        context = ssl.create_default_context(purpose, cafile=certificate)
        context.load_cert_chain(certificate, key)
        context.verify_mode = ssl.CERT_REQUIRED
        contexts.append(context)
    return Terms(config, tls=tuple(contexts))


def sasl_and_tls(folder):
    one, other = sasl(folder), tls(folder)
    return Terms({**one.config, **other.config}, one.flags, other.tls)


def _openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


TERMS = {"SASL": sasl, "TLS": tls, "SASL and TLS": sasl_and_tls}
