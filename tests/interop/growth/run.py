"""An ensemble grows from one server to three and five, and shrinks to three and one, by reconfig under load.

Meanwhile five kazoo clients write, hold ephemerals and watch (`harness/kazoo_load.py`). A joiner is started with the
members of the moment and itself in its list; it follows the leader without a vote, and a reconfig takes it in. Who
leaves is taken out first and ended then; both times the leader is among those. In between, each of the three is started
again as the other kind, with the `zoo.cfg` and the dynamic file that the reconfigs have left. After each step every
server must show the new list in `/zookeeper/config`, and every client must go on; at the end what the clients hold is
compared with what the last server has.

    run.py            zabkit alone, and with Apache 3.8.0: which of them begins, and who joins, in three mixtures
    run.py --quick    zabkit alone up to five, one mixture up to four
    run.py --kinds Apache    Apache alone (or zabkit, or a list in the order of the ids: zabkit,Apache,zabkit)
"""

import argparse
import re
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "interop" / "harness"))
sys.path.insert(0, str(ROOT / "tests" / "interop"))

import mixed  # noqa: E402
from harness import wire  # noqa: E402
from harness.ensemble import Ensemble  # noqa: E402
from harness.until import wait_until  # noqa: E402
from kazoo import exceptions  # noqa: E402
from kazoo.client import KazooClient  # noqa: E402
from kazoo.handlers.threading import KazooTimeoutError  # noqa: E402
from kazoo.retry import KazooRetry  # noqa: E402
from kazoo_load import Load  # noqa: E402
from pytest_part import finish  # noqa: E402

CONFIG = {
    "tickTime": 500,
    "minSessionTimeout": 1000,
    "maxSessionTimeout": 60_000,
    "reconfigEnabled": "true",
    "standaloneEnabled": "false",
}
#: A joiner that has not quite followed yet, another change that is not over, a leader that has gone: asked again.
AGAIN = (
    exceptions.NewConfigNoQuorumError,
    exceptions.ReconfigInProcessError,
    exceptions.ConnectionLoss,
    exceptions.SessionExpiredError,
    KazooTimeoutError,
)


def server_line(member):
    return (
        f"server.{member.id}=127.0.0.1:{member.quorum_port}:{member.election_port}:participant"
        f";127.0.0.1:{member.client_port}"
    )


class Growth(mixed.Checks):
    """One ensemble that grows and shrinks; counts its checks."""

    def __init__(self, kinds, sizes):
        self.kinds, self.sizes = kinds, sizes
        super().__init__()

    def run(self):
        most = max(self.sizes)
        names = ", ".join(kind.name for kind in self.kinds[:most])
        print(f"{' -> '.join(map(str, self.sizes))}: {names}", flush=True)
        with Ensemble(most, config=CONFIG) as servers:
            self.servers, self.members, self.load, self.admin = servers, [], None, None
            try:
                self.begin()
                for size in self.sizes[1:]:
                    if size > len(self.members):
                        self.grow(size)
                    else:
                        self.shrink(size)
                        if size > 1:
                            self.change_kinds()
                self.load.finish()
                for text, wrong in self.load.verdicts(self.members):
                    self.check(text, wrong)
                gap, of_one = self.load.longest_gap() * 1000, self.load.longest_gap_of_one() * 1000
                print(f"  longest write gap {gap:.0f} ms, of one client {of_one:.0f} ms", flush=True)
            except Exception:
                told = [*traceback.format_exc().splitlines()[-30:], *servers.logs().splitlines()]
                self.check("goes on to the end", told)
            finally:
                if self.load:
                    self.load.close()
                if self.admin:
                    self.admin.stop()

    def hosts(self):
        return ",".join(member.host for member in self.members)

    def start(self, member):
        """With the members of the moment and itself in its list."""
        listed = sorted({*self.members, member}, key=lambda one: one.id)
        keys = {"dataDir": member.data_dir, **self.servers.config}
        lines = [f"{key}={value}" for key, value in keys.items() if value is not None]
        member.config.write_text("\n".join([*lines, *map(server_line, listed)]) + "\n")
        (member.data_dir / "myid").write_text(f"{member.id}\n")
        mixed.start(member, self.kinds[member.id - 1])

    def begin(self):
        first = self.servers[1]
        self.start(first)
        first.wait_serving()
        self.members = [first]
        patient = KazooRetry(max_tries=-1, delay=0.02, backoff=1.5, max_delay=0.25)
        self.admin = KazooClient(
            self.hosts(), timeout=20, connection_retry=patient, auth_data=[("digest", "super:secret")]
        )
        self.admin.start(timeout=30)
        self.load = Load(self.hosts(), [first.address]).start()
        self.load.wait_progress()
        print(f"  begins: {mixed.described(first)}", flush=True)

    def grow(self, size):
        """Two at once where there was one, else one after the other: both are ways to do it."""
        joiners = [member for member in self.servers if member not in self.members][: size - len(self.members)]
        for group in [joiners] if len(self.members) == 1 else [[joiner] for joiner in joiners]:
            begun, before = time.monotonic(), len(self.members)
            for joiner in group:
                self.start(joiner)
            for joiner in group:
                joiner.wait_serving()
            self.members += group
            self.reconfig(joining=",".join(map(server_line, group)))
            self.settle(f"{before} -> {len(self.members)}: {', '.join(map(mixed.described, group))} joined", begun)

    def shrink(self, size):
        """The leader goes, and with it those who came first."""
        begun, before = time.monotonic(), len(self.members)
        leader = self.leader()
        others = [member for member in self.members if member is not leader]
        leaving = [leader, *others[: before - size - 1]]
        said = ", ".join(f"{mixed.described(member)}{', which led' * (member is leader)}" for member in leaving)
        self.members = [member for member in self.members if member not in leaving]
        self.reconfig(leaving=",".join(str(member.id) for member in leaving))
        # What clients that stay with it see of a server without a vote is not looked at here.
        self.settle(f"{before} -> {size}: {said} left", begun, leaving)

    def change_kinds(self):
        """Each member is started again as the other kind, on the files that its reconfigs have left."""
        for member in self.members:
            begun, old = time.monotonic(), mixed.described(member)
            others = [kind for kind in self.kinds if kind != member.kind]
            mixed.take_over(self.servers, member, others[0] if others else member.kind)
            self.settle(f"server {old} became {mixed.described(member)}", begun)

    def leader(self):
        return wait_until(
            lambda: next((member for member in self.members if member.mode == "leader"), None),
            "a member leads",
            60,
            self.servers.logs,
        )

    def reconfig(self, joining=None, leaving=None):
        """Ask until it is done; asked twice, it changes nothing the second time."""

        def done():
            self.load.check()
            with suppress(*AGAIN):
                self.admin.reconfig(joining=joining, leaving=leaving, new_members=None)
                return True
            return False

        wait_until(done, f"reconfig joining={joining} leaving={leaving}", 60, self.servers.logs)

    def settle(self, what, begun, leaving=()):
        """Every member shows the new list, every client goes on; who has left is ended."""
        wanted = {server_line(member) for member in self.members}

        def shown(member):
            with suppress(OSError, wire.ZkError, wire.Expired), member.connect(wire.Session(5000), 5.0) as link:
                lines = link.get("/zookeeper/config")[0].decode().splitlines()
                link.close_session()
                return lines[-1] if set(lines[:-1]) == wanted else None

        versions = {
            wait_until(lambda member=member: shown(member), f"server {member.id} shows {wanted}", 60, self.servers.logs)
            for member in self.members
        }
        self.load.set_servers(self.hosts(), [member.address for member in self.members])
        self.admin.set_hosts(self.hosts())
        for member in leaving:
            member.terminate()
        leader = self.leader()
        self.load.wait_progress()
        seconds, gap = time.monotonic() - begun, self.load.longest_gap(begun) * 1000
        wrong = [] if len(versions) == 1 else [f"versions differ: {versions}"]
        wrong += [f"not a version: {one}" for one in versions if not re.fullmatch("version=[0-9a-f]+", one)]
        self.check(
            f"{what}; {'/'.join(sorted(versions))}, {mixed.described(leader)} leads, {seconds:.1f} s, "
            f"longest write gap {gap:.0f} ms",
            wrong,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer mixtures, fewer servers")
    parser.add_argument("--kinds", help="only this: one kind, or kinds in the order of the ids")
    parser.add_argument("--sizes", default="1,3,5,3,1")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, mixed.end_all)
    try:
        apache, zabkit = mixed.kinds()
    except mixed.Unable as error:
        print(f"growth: {error}")
        sys.exit(2)
    whole = [int(size) for size in options.sizes.split(",")]
    if options.kinds:
        named = {kind.name: kind for kind in (apache, zabkit)}
        plan = [([named[name] for name in options.kinds.split(",")] * 5, whole)]
    elif options.quick:
        plan = [([zabkit] * 5, whole), ([apache, zabkit, apache, zabkit], [1, 4, 3, 1])]
    else:
        plan = [
            ([zabkit] * 5, whole),
            ([apache, zabkit, apache, zabkit, apache], whole),
            ([zabkit, apache, zabkit, apache, zabkit], whole),
            ([apache, zabkit, zabkit, zabkit, zabkit], whole),
        ]
    runs = [Growth(kinds, sizes) for kinds, sizes in plan]
    for one in runs:
        one.run()
    finish("growth", sum(one.passed for one in runs), sum(one.failed for one in runs), 0)


if __name__ == "__main__":
    main()
