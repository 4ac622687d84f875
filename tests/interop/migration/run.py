"""A live ensemble goes from Apache 3.8.0 to zabkit, member by member on the same directories and ports, and back.

Meanwhile five kazoo clients write, hold ephemerals and watch (`harness/kazoo_load.py`). A line for each step: the
member, both process ids and kinds, the seconds until the ensemble was whole again, the leader and its kind, the longest
time without an acknowledged write. A step has passed when the ensemble is whole with a leader and every client goes on;
then what the clients hold is compared with what the servers have.

    run.py            once through in the order of the ids, leaders first (ended by SIGKILL too), last, and five servers
    run.py --quick    once through, leaders last, as the guide says
"""

import argparse
import signal
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "interop" / "harness"))
sys.path.insert(0, str(ROOT / "tests" / "interop"))

import mixed  # noqa: E402
from harness.ensemble import Ensemble  # noqa: E402
from kazoo_load import Load  # noqa: E402
from pytest_part import finish  # noqa: E402

CONFIG = {"tickTime": 500, "minSessionTimeout": 1000, "maxSessionTimeout": 60_000, "snapCount": 2000}


def next_member(order, servers, left):
    """Which of the members left is replaced now."""
    leader = mixed.wait_all_follow(servers)
    others = [number for number in left if number != leader.id]
    if order == "by id" or len(others) in (0, len(left)):
        return servers[left[0]]
    return servers[leader.id] if order == "leader first" else servers[others[0]]


class Migration(mixed.Checks):
    """One ensemble, there and back; counts its checks."""

    def __init__(self, size, order, end, kinds, changes):
        self.size, self.order, self.end, (self.apache, self.zabkit) = size, order, end, kinds
        self.changes = changes  # Of the watched node, between two steps.
        super().__init__()

    def run(self):
        print(f"{self.size} servers, {self.order}, ended by {self.end.name}", flush=True)
        with Ensemble(self.size, template=self.apache.template, config=CONFIG) as servers:
            load = None
            try:
                for member in servers:
                    mixed.start(member, self.apache)
                leader = mixed.wait_all_follow(servers)
                load = Load(servers.hosts, [member.address for member in servers]).start()
                load.wait_progress(self.changes)
                print(f"  begins: {', '.join(map(mixed.described, servers))}; {leader.id} leads", flush=True)
                for kind in (self.zabkit, self.apache):
                    self.replace_all(servers, kind, load)
                load.finish()
                self.judge(servers, load)
            except Exception:
                self.check(
                    "goes on to the end", [*traceback.format_exc().splitlines()[-30:], *servers.logs().splitlines()]
                )
            finally:
                if load:
                    load.close()

    def replace_all(self, servers, kind, load):
        left = [member.id for member in servers]
        while left:
            member = next_member(self.order, servers, left)
            left.remove(member.id)
            role, old, begun = member.mode, member.kind, time.monotonic()
            mismatches = int(float(mixed.mntr(member)["zk_digest_mismatches_count"]))
            pid, seconds, leader = mixed.take_over(servers, member, kind, self.end)
            load.wait_progress(self.changes)
            self.check(
                f"server {member.id} ({role}): {old.name} pid {pid} -> {kind.name} pid {member.pid}, "
                f"whole again after {seconds:.1f} s, {mixed.described(leader)} leads, "
                f"longest write gap {load.longest_gap(begun) * 1000:.0f} ms",
                [f"before, it had found {mismatches} digests that differ"] if mismatches else [],
            )

    def judge(self, servers, load):
        for text, wrong in load.verdicts(list(servers)):
            self.check(text, wrong)
        counts = {member.id: mixed.mntr(member)["zk_digest_mismatches_count"] for member in servers}
        wrong = [f"server {number}: {count}" for number, count in counts.items() if float(count)]
        self.check("no server has found a digest that differs", wrong)
        print(
            f"  longest write gap {load.longest_gap() * 1000:.0f} ms, of one client "
            f"{load.longest_gap_of_one() * 1000:.0f} ms; {load.handed_over} times a watch was handed over",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="once through")
    parser.add_argument("--servers", type=int, help="only with so many servers")
    parser.add_argument("--order", choices=("by id", "leader first", "leader last"), help="only in this order")
    parser.add_argument("--kill", action="store_true", help="only with SIGKILL in place of SIGTERM")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, mixed.end_all)
    term, kill = signal.SIGTERM, signal.SIGKILL
    plan = [
        (3, "by id", term),
        (3, "leader first", term),
        (3, "leader first", kill),
        (3, "leader last", term),
        (5, "leader last", term),
        (5, "leader first", kill),
    ]
    if options.quick:
        plan = [(3, "leader last", term)]
    if options.servers or options.order or options.kill:
        plan = [(options.servers or 3, options.order or "leader last", kill if options.kill else term)]
    try:
        kinds = mixed.kinds()
    except mixed.Unable as error:
        print(f"migration: {error}")
        sys.exit(2)
    runs = [Migration(size, order, end, kinds, 2 if options.quick else 25) for size, order, end in plan]
    for one in runs:
        one.run()
    finish("migration", sum(one.passed for one in runs), sum(one.failed for one in runs), 0)


if __name__ == "__main__":
    main()
