"""Check: TLS between servers is brought in while the ensemble runs, server by server, and an ensemble of both kinds
serves after each step.

First every server learns to take both (`portUnification`) and still dials plainly, then each dials by TLS
(`sslQuorum`), then none takes anything else. No proxy: it would have to guess what a server will dial.
"""

import socket

import packets
import secured
from mixed import MixedEnsemble

STAGES = (
    ("both are taken", {"portUnification": "true", "sslQuorum": "false"}),
    ("TLS is dialled", {"portUnification": "true", "sslQuorum": "true"}),
    ("nothing else is taken", {"portUnification": "false", "sslQuorum": "true"}),
)


def run(mixture, checks):
    """One mixture through all stages; a line for each."""
    name = f"TLS comes to {mixture}"
    with MixedEnsemble(mixture, proxied=False) as servers, checks.context(servers):
        stores = secured.tls(servers.dir).config
        plainly = {member.id: member.config.read_text() for member in servers}
        with checks.check(f"{name}: starts plainly") as line:
            servers.start()
            line.add(servers.describe())
        writes = 0
        for what, keys in STAGES:
            with checks.check(f"{name}: {what}") as line:
                for member in servers:
                    member.terminate()
                    config = {**stores, **keys}
                    lines = "".join(f"{key}={value}\n" for key, value in config.items())
                    member.config.write_text(plainly[member.id] + lines)
                    servers.launch(member)
                    servers.wait_serving(60.0)
                    for other in servers:
                        servers.write(other, f"/write-{writes}")
                        writes += 1
                line.add(servers.describe())
                line.add(servers.assert_agree())
                taken = [member.id for member in servers if takes_plainly(member)]
                assert taken == ([] if keys["portUnification"] == "false" else [1, 2, 3]), f"plainly taken by {taken}"
            if line.failed:
                return


def takes_plainly(member):
    """Whether a stranger who says who he is without TLS is left connected to the election port."""
    with socket.create_connection(("127.0.0.1", member.election_port), 5.0) as link:
        link.sendall(packets.initial_bytes(-65536, 200, "127.0.0.1:1"))
        link.settimeout(1.0)
        try:
            answer = link.recv(1)
        except TimeoutError:
            return True
        except OSError:
            return False
    return answer not in (b"", b"\x15")  # 0x15: an alert of TLS.
