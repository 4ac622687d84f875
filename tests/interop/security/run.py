"""TLS and logins between the servers of one ensemble of both kinds.

Each is brought to a running ensemble in three rounds of restarts, member by member, as ZooKeeper's guide says, with
Apache's servers as the majority and with zabkit's, and each kind leads: after each restart every member serves, what is
written through each is seen on all, and who has no certificate, or another password, stays outside.

    run.py            both, in two mixtures
    run.py --quick    one mixture each
"""

import argparse
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "interop" / "harness"))
sys.path.insert(0, str(ROOT / "tests" / "interop"))

import mixed  # noqa: E402
from harness import wire  # noqa: E402
from harness.ensemble import Ensemble  # noqa: E402
from pytest_part import finish  # noqa: E402

STORES = ROOT / "tests" / "testdata" / "tls"
#: An outsider is given this long to come in, which it must not.
OUTSIDE_S = 4.0


def tls_steps(_folder):
    """The three rounds, and how somebody stays outside; the flags of Apache's command."""
    keys = (
        f"ssl.quorum.keyStore.location={STORES}/keystore.jks\nssl.quorum.keyStore.password=testpass\n"
        f"ssl.quorum.trustStore.location={STORES}/truststore.jks\nssl.quorum.trustStore.password=testpass\n"
    )
    steps = [
        ("takes both", f"{keys}portUnification=true\n"),
        ("dials by TLS", f"{keys}sslQuorum=true\nportUnification=true\n"),
        ("TLS alone", f"{keys}sslQuorum=true\n"),
    ]
    return steps, ("without TLS", ""), ""


def sasl_steps(folder):
    """The same of DIGEST-MD5."""
    module = "org.apache.zookeeper.server.auth.DigestLoginModule required"
    jaas = folder / "quorum-jaas.conf"
    jaas.write_text(
        f'QuorumServer {{\n  {module}\n  user_test="mypassword";\n}};\n'
        f'QuorumLearner {{\n  {module}\n  username="test"\n  password="mypassword";\n}};\n'
        f'Wrong {{\n  {module}\n  username="test"\n  password="another";\n}};\n'
    )
    may = f"quorum.auth.enableSasl=true\njava.security.auth.login.config={jaas}\n"
    does = may + "quorum.auth.learnerRequireSasl=true\n"
    must = does + "quorum.auth.serverRequireSasl=true\n"
    wrong = must + "quorum.auth.learner.saslLoginContext=Wrong\n"
    steps = [("may log in", may), ("log in", does), ("must log in", must)]
    return steps, ("with another password", wrong), f"-Djava.security.auth.login.config={jaas}"


class Secured:
    """An ensemble whose members are restarted with other settings, one by one."""

    def __init__(self, mixture, flags):
        apache, zabkit = mixed.kinds(flags)
        self.kinds = [apache if letter == "A" else zabkit for letter in mixture]
        self.ensemble = Ensemble(len(mixture), config={"tickTime": 500, "initLimit": 20, "syncLimit": 10})
        self.base = {member.id: member.config.read_text() for member in self.ensemble}
        self.written = 0

    def start(self, member, settings):
        member.config.write_text(self.base[member.id] + settings)
        return mixed.start(member, self.kinds[member.id - 1])

    def restart(self, member, settings):
        member.signal(signal.SIGTERM)
        member.wait_exit()
        self.start(member, settings)

    def check(self):
        """Everybody follows one leader and sees what is written through each; the leader."""
        leader = mixed.wait_all_follow(self.ensemble)
        paths = []
        for member in self.ensemble.running:
            self.written += 1
            paths.append(f"/n{self.written}")
            with member.connect(wire.Session(10_000)) as link:
                link.create(paths[-1])
                link.close_session()
        for member in self.ensemble.running:
            with member.connect(wire.Session(10_000)) as link:
                link.sync("/")
                missing = [path for path in paths if not link.exists(path)]
                link.close_session()
            assert not missing, f"{missing} are not on server {mixed.described(member)}"
        return leader

    def without(self, number, settings):
        """End a member until the other two have a leader and have taken a write; that leader."""
        member = self.ensemble[number]
        member.signal(signal.SIGTERM)
        member.wait_exit()
        leader = self.check()
        self.start(member, settings)
        self.check()
        return leader


def stays_outside(secured, member, settings):
    secured.restart(member, settings)
    until = time.monotonic() + OUTSIDE_S
    while time.monotonic() < until:
        assert member.mode not in ("leader", "follower"), f"server {mixed.described(member)} is {member.mode}"
        time.sleep(0.2)  # Nothing tells that something does not happen.


def bring(mixture, name, make_steps, counts):
    with tempfile.TemporaryDirectory() as folder:
        steps, (how, outside), flags = make_steps(Path(folder))
        secured = Secured(mixture, flags)
        try:
            for member in secured.ensemble:
                secured.start(member, "")
            secured.check()
            leaders = set()
            for step, settings in steps:
                for member in secured.ensemble:
                    secured.restart(member, settings)
                    leaders.add(secured.check().kind.name)
                counts["passed"] += 1
                who = ", ".join(mixed.described(each) for each in secured.ensemble)
                print(f"{name} {mixture}: {step}: {who}; have led: {', '.join(sorted(leaders))}", flush=True)
            # With equal histories the highest id wins: the second leads while the third is away, and then the third.
            leaders = [secured.without(number, steps[-1][1]).kind.name for number in (3, 2)]
            assert len(set(leaders)) == 2, f"{leaders} have led"
            counts["passed"] += 1
            print(f"{name} {mixture}: {leaders[0]} has led, then {leaders[1]}", flush=True)
            for member in (secured.ensemble[1], secured.ensemble[3]):
                stays_outside(secured, member, outside)
                secured.restart(member, steps[-1][1])
                secured.check()
                counts["passed"] += 1
                print(f"{name} {mixture}: {mixed.described(member)} {how} stays outside, and comes back", flush=True)
        except Exception:
            print(secured.ensemble.logs(40), flush=True)
            raise
        finally:
            secured.ensemble.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, mixed.end_all)
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    runs = [("AZA", "TLS", tls_steps), ("ZAZ", "SASL", sasl_steps)]
    if not options.quick:
        runs += [("ZAZ", "TLS", tls_steps), ("AZA", "SASL", sasl_steps)]
    for mixture, name, make_steps in runs:
        try:
            bring(mixture, name, make_steps, counts)
        except mixed.Unable as error:
            print(error)
            return 2
        except Exception:
            traceback.print_exc()
            counts["failed"] += 1
            print(f"{name} {mixture}: failed", flush=True)
    return finish("security", **counts)


if __name__ == "__main__":
    sys.exit(main())
