"""One ensemble of Apache's servers and zabkit's: every mixture, every way to catch up, kills under load.

    run.py                    everything; about 5 minutes
    run.py --quick            the form for CI
    run.py --only KIND        one of `KINDS`; may be repeated
    run.py --mixture AAZ      only with this mixture (see mixed.py)
    run.py --kills N --seed S

A proxy stands between all members and reads what they say (proxy.py, packets.py): each line names the kinds and process
ids of the members, who leads (`*`), and which packets passed between which kinds. With `ZK39_LIB` naming a folder of
Apache's newer jars, there are mixtures with that as well.
"""

import argparse
import os
import re
import signal
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "tests" / "process"), str(Path(__file__).resolve().parent)]

import catch_up  # noqa: E402
import kills  # noqa: E402
import mixed  # noqa: E402
import mixtures  # noqa: E402
import quorums  # noqa: E402
import rolling_tls  # noqa: E402
import secured  # noqa: E402
import self_check  # noqa: E402
from harness.command import ApacheMissing  # noqa: E402
from harness.ensemble import LIVE  # noqa: E402

#: Of checks, in their order.
KINDS = ("mixtures", "secured", "quorums", "catch-up", "kills", "cuts", "hand-overs")
QUICK_MIXTURES = ("AAZ", "AZZ", "AZAZA", "AZZaz")
OF_THREE = ("AAA", "AAZ", "AZA", "ZAA", "AZZ", "ZAZ", "ZZA", "ZZZ")
OF_FIVE = ("AAAAZ", "AZAAZ", "ZAZAZ", "ZZZAZ")
WITH_OBSERVERS = ("AZZaz", "AAZaz", "ZZAaz")
#: Five servers, the last of which leads the two that are a quorum.
QUORUMS = (("AZAAZ", "groups"), ("ZAZZA", "groups"), ("ZZAAZ", "weights"), ("AAZZA", "weights"))
#: Whose members speak with each other by TLS or after SASL.
SECURED, QUICK_SECURED = ("AZZ", "AAZ", "AZZaz"), ("AZZ",)
#: To which TLS comes while they run.
ROLLING = ("AZZ", "ZAA")
#: Kills in each mixture.
QUICK_KILLS = {"AAZ": 5}
KILLS = {"AAZ": 15, "AZZ": 15, "AZAZA": 8, "ZAZAZ": 7, "AZZaz": 5}
#: Of links, not in the quick form.
CUTS = {"AAZ": 8, "AZZ": 8, "ZAZAZ": 4}
#: Where leaders are asked to hand over.
HAND_OVERS = ("AAZ", "AZZ")
NEWER_MIXTURES = ("NNZ", "NZZ", "ANZ")


class Line:
    """What one check says."""

    def __init__(self):
        self.parts, self.failed = [], False

    def add(self, text):
        self.parts.append(text)


class Checks:
    """Counts checks, and prints a line for each."""

    def __init__(self, keep=False):
        self.passed = self.failed = self.skipped = 0
        self._keep_all, self._servers = keep, None

    @contextmanager
    def context(self, servers):
        """Whose logs are shown when a check fails."""
        before, self._servers = self._servers, servers
        try:
            yield
            if self._keep_all:
                self._keep(f"{servers.mixture} at its end")
        finally:
            self._servers = before

    @contextmanager
    def check(self, name):
        """One check: passes unless an exception leaves it."""
        line, began = Line(), time.monotonic()
        try:
            yield line
        except Exception as error:
            line.failed = True
            reason = f"{type(error).__name__}: {error}"
            self._print("FAIL", name, line, began)
            print(f"  {reason}")
            for place in traceback.extract_tb(error.__traceback__):
                print(f"  at {place.filename}:{place.lineno}")
            if self._servers is not None:
                self._keep(name)
                print(f"  {self._servers.describe()}")
                for log in (member.log_text() for member in self._servers):
                    print("---\n" + "\n".join([text for text in log.splitlines() if " srvr command" not in text][-30:]))
                print("--- the last packets")
                print("\n".join(map(str, self._servers.proxy.packets[-60:])), flush=True)
            self.failed += 1
        else:
            self._print("ok  ", name, line, began)
            self.passed += 1

    def _keep(self, name):
        """All packets that passed and all logs, in files."""
        folder = Path(os.environ.get("INTEROP_DIR", ".")) / re.sub(r"\W+", "-", name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "packets.txt").write_text("\n".join(map(str, self._servers.proxy.packets)) + "\n")
        for member in self._servers:
            (folder / f"server-{member.id}.log").write_text(member.log_text())
        print(f"  all packets and logs: {folder}")

    def _print(self, verdict, name, line, began):
        print(f"{verdict} {name} [{time.monotonic() - began:.1f} s] {' | '.join(line.parts)}", flush=True)

    def skip(self, name, why):
        print(f"skip {name}: {why}", flush=True)
        self.skipped += 1


def _end(*_):
    """SIGTERM: servers and their directories go."""
    for ensemble in list(LIVE):
        ensemble.close()
    os._exit(143)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the form for CI")
    parser.add_argument("--only", action="append", choices=KINDS)
    parser.add_argument("--mixture", action="append", help="a word such as AAZ; may be repeated")
    parser.add_argument("--kills", type=int, help="in each mixture, instead of its usual number")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="write down all packets and logs, not only of a failure")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    checks = Checks(options.keep)
    try:
        kinds = mixed.templates()
    except ApacheMissing as reason:
        print(f"zab: {reason}", file=sys.stderr)
        sys.exit(2)
    wanted = options.only or KINDS
    self_check.run(checks)
    if "mixtures" in wanted:
        chosen = options.mixture or (QUICK_MIXTURES if options.quick else OF_THREE + OF_FIVE + WITH_OBSERVERS)
        if not options.quick and not options.mixture:
            if "N" in kinds:
                chosen += NEWER_MIXTURES
            else:
                checks.skip("mixtures with Apache 3.9", "ZK39_LIB names no jars")
        for mixture in chosen:
            mixtures.run(mixture, checks)
    if "catch-up" in wanted:
        # (learner, leader)
        for pair in ("AZ", "ZA") if options.quick else ("AZ", "ZA", "AA", "ZZ", "aZ", "zA", "zZ"):
            catch_up.run(*pair, checks)
            if not options.quick and pair.isupper():
                catch_up.run(*pair, checks, from_log=True)
    if "secured" in wanted:
        for mixture in options.mixture or (QUICK_SECURED if options.quick else SECURED):
            for terms in secured.TERMS:
                mixtures.run(mixture, checks, terms)
        for mixture in options.mixture or (() if options.quick else ROLLING):
            rolling_tls.run(mixture, checks)
    if "quorums" in wanted:
        for mixture, what in QUORUMS[:1] if options.quick else QUORUMS:
            quorums.run(mixture, what, checks)
    if "kills" in wanted:
        usual = QUICK_KILLS if options.quick else KILLS
        for mixture in options.mixture or usual:
            kills.run(mixture, options.kills or usual.get(mixture, 5), options.seed, checks)
    if "cuts" in wanted:
        for mixture in options.mixture or ({} if options.quick else CUTS):
            kills.run(mixture, options.kills or CUTS.get(mixture, 5), options.seed, checks, kills.one_cut)
    if "hand-overs" in wanted:
        for mixture in options.mixture or (() if options.quick else HAND_OVERS):
            kills.run(mixture, options.kills or 4, options.seed, checks, kills.one_hand_over)
    print(f"zab: {checks.passed} passed, {checks.failed} failed, {checks.skipped} skipped", flush=True)
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
