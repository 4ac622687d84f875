"""Ensembles of Apache and zabkit servers on the same directories and ports: which is which, and how one takes over.

A `Kind` is a server's command. A member's kind is the one that it was started as last; `take_over` ends a member and
starts the other kind on its directory and ports, and returns when it is a member like any other again.
"""

import collections
import os
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "process"))

from harness import command, wire  # noqa: E402
from harness.ensemble import LIVE  # noqa: E402
from harness.until import wait_until  # noqa: E402

#: A server's name and the template of its command.
Kind = collections.namedtuple("Kind", "name template")


class Checks:
    """What has passed and failed, a line for each."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, text, wrong=()):
        """Count and print one check; `wrong` are lines that say what is not as it should be."""
        self.failed += bool(wrong)
        self.passed += not wrong
        print(f"  {'FAILED' if wrong else 'ok'}  {text}", flush=True)
        for line in list(wrong)[:80]:
            print(f"          {line}", flush=True)


class Unable(Exception):
    """Something that the part needs is not there; the text says what."""


def kinds(apache_flags=""):
    """(Apache, zabkit).

    Args:
        apache_flags: System properties for Apache's command line, which zabkit has in zoo.cfg.
    """
    try:
        apache = command.apache_command().replace("java ", f"java {apache_flags} ", 1)
        return Kind("Apache", apache), Kind("zabkit", command.zabkit_command())
    except (command.ApacheMissing, RuntimeError) as error:
        raise Unable(str(error)) from error


def start(member, kind):
    """Start a member as one of the kinds."""
    member.kind = kind
    return member.start(template=kind.template)


def described(member):
    """`2 (zabkit, pid 4711)`"""
    return f"{member.id} ({member.kind.name}, pid {member.pid})"


def mntr(member):
    """Fields of the word `mntr`."""
    text = wire.four_letter(member.address, "mntr") or ""
    return dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)


def wait_all_follow(ensemble, timeout_s=60.0):
    """Wait until every running voter is in the leader's quorum, in its own view and in the leader's; the leader."""

    def whole():
        modes = {member.id: member.mode for member in ensemble.running}
        leaders = [number for number, mode in modes.items() if mode == "leader"]
        followers = list(modes.values()).count("follower")
        if len(leaders) != 1 or None in modes.values():
            return None
        leader = ensemble[leaders[0]]
        synced = mntr(leader).get("zk_synced_followers", "-1")
        return leader if int(float(synced)) == followers else None

    return wait_until(whole, "every member follows one leader", timeout_s, ensemble.logs)


def take_over(ensemble, member, kind, end=signal.SIGTERM):
    """End a member, start it as `kind`, wait until the ensemble is whole; (old pid, seconds, leader)."""
    begun, old = time.monotonic(), member.pid
    member.signal(end)
    member.wait_exit()
    start(member, kind)
    leader = wait_all_follow(ensemble)
    return old, time.monotonic() - begun, leader


def end_all(*_):
    """For SIGTERM: servers and their directories go with the part."""
    for ensemble in list(LIVE):
        ensemble.close()
    os._exit(143)
