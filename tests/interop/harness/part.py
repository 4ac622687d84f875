"""One part of `make interop`: a client program, its recordings on Apache, its differences, its last line.

A part's `run.py` gives `main` its name and its transcripts, and says how a transcript is made. Then

    run.py                   compares zabkit (`ZABKIT_BIN`, or the newest build) with the recordings
    run.py --server-cmd CMD     compares another server; {cfg} in CMD is its zoo.cfg
    run.py --apache             compares Apache 3.8.0 with its own recordings: does the program say the same each time?
    run.py --record             records Apache 3.8.0 again

prints each difference, ends with ``name: N passed, N failed, N skipped`` (a step of a transcript is one), and exits
with 1 when one failed, with 2 when nothing could be run.
"""

import argparse
import concurrent.futures
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import secure
import transcript

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "process"))

from harness import command  # noqa: E402
from harness.ensemble import GUARD, LIVE, Ensemble  # noqa: E402

JARS = Path(os.environ.get("ZK_JARS", "/usr/share/java"))

#: What the clients' transcripts were recorded with: nobody waits long, quotas count, containers go soon.
CONFIG = {"tickTime": 500, "minSessionTimeout": 4000, "maxSessionTimeout": 10_000, "enforceQuota": "true"}

#: Settings that are system properties only: zabkit takes them from SERVER_JVMFLAGS, Apache from its command line.
JVM_FLAGS = "-Dznode.container.checkIntervalMs=200"


class Unable(Exception):
    """A tool is missing, so nothing was compared; the text says which."""


def need(tool, package):
    """Raise `Unable` unless a tool (a name on PATH, or a path) is there."""
    found = (
        Path(tool).exists()
        if "/" in str(tool)
        else any((Path(folder) / tool).exists() for folder in os.environ["PATH"].split(os.pathsep))
    )
    if not found:
        raise Unable(f"{tool} is missing: apt-get install {package}")


def apache(flags=""):
    """Template of a command that starts Apache 3.8.0 with our system properties."""
    try:
        return command.apache_command().replace("java ", f"java {JVM_FLAGS} {flags} ", 1)
    except command.ApacheMissing as error:
        raise Unable(str(error)) from error


def run_program(words, timeout_s=400, **options):
    """Run a program to its end; its output and error together, and its exit code."""
    options = {"text": True, "check": False, "cwd": tempfile.gettempdir(), "timeout": timeout_s, **options}
    try:
        done = subprocess.run([*GUARD, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    except subprocess.TimeoutExpired as error:
        said = error.stdout or b""
        return f"{said if isinstance(said, str) else said.decode(errors='replace')}\nnot done within {timeout_s} s", -1
    return done.stdout, done.returncode


class Setting:
    """The servers of one transcript: how many, on which terms, and whether the quick form has it."""

    def __init__(self, name, size=1, terms=secure.plain, quick=True):
        self.name, self.size, self.terms, self.quick = name, size, terms, quick

    def start(self, folder, on_apache, template):
        """Servers that serve; they know the terms for the program."""
        terms = self.terms(folder)
        wrapper = ("env", f"SERVER_JVMFLAGS={JVM_FLAGS} {terms.server_flags}")
        ensemble = Ensemble(self.size, template=apache(terms.server_flags) if on_apache else template, config=CONFIG)
        ensemble.terms = terms
        for member in ensemble:
            member.program_port = member.client_port
            if terms.tls:
                member.program_port = member.election_port + 16  # Of the same block of 32, which is ours.
            lines = (f"{key}={value}\n".format(secure_port=member.program_port) for key, value in terms.config.items())
            with open(member.config, "a") as file:
                file.writelines(lines)
        return ensemble.start(wrapper=wrapper)


def talks_to(ensemble):
    """Ports of the servers in the order in which a program uses them: followers first, for they have more to do."""
    members = ensemble.followers() or list(ensemble)
    return [member.program_port for member in members]


#: Alone, and as one of three.
STANDALONE, MEMBER = Setting("standalone"), Setting("member", 3)


def _transcript(name, setting, make, on_apache, template):
    """One transcript, on servers of its own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"zabkit-interop-{name}-") as name_of_folder:
        folder = Path(name_of_folder)
        with setting.start(folder, on_apache, template) as ensemble:
            text, failures = make(setting, ensemble, folder)
    return text, failures, time.monotonic() - began


def _end(*_):
    """SIGTERM: servers and their directories go; what else we started dies with us."""
    for ensemble in list(LIVE):
        ensemble.close()
    os._exit(143)


def main(name, here, settings, make):
    """Run, compare, report; ends the process.

    Args:
        name: Of the part, as in its last line.
        here: The part's directory, with `recorded/` and `differences.txt`.
        settings: One `Setting` for each transcript.
        make: ``make(setting, ensemble, folder)`` returns the transcript's text, and a list of failures beside it.
    """
    parser = argparse.ArgumentParser(description=f"the {name} client against a server, compared with Apache 3.8.0")
    parser.add_argument("--server-cmd", help="template of the server's command, with {cfg}")
    parser.add_argument("--apache", action="store_true", help="run Apache, and compare it with its recordings")
    parser.add_argument("--record", action="store_true", help="run Apache, and write the recordings")
    parser.add_argument("--only", action="append", help="only this transcript")
    parser.add_argument("--quick", action="store_true", help="the form for CI: some transcripts less")
    parser.add_argument("--keep", metavar="DIR", help="write what came out to DIR as well")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    passed = failed = meant = 0
    on_apache = options.apache or options.record
    differences = [] if on_apache else transcript.read_differences(here / "differences.txt")
    chosen = [s for s in settings if (s.name in options.only if options.only else s.quick or not options.quick)]
    try:
        template = apache() if on_apache else options.server_cmd or command.server_command()
        print(f"{name}: {shlex.split(template)[0]}", flush=True)
        # At once: clients that wait to come back, and servers that wait for their clocks, need no processor.
        with concurrent.futures.ThreadPoolExecutor(len(chosen)) as pool:
            made = list(pool.map(lambda setting: _transcript(name, setting, make, on_apache, template), chosen))
        for setting, (text, failures, seconds) in zip(chosen, made, strict=True):
            path = here / "recorded" / f"{setting.name}.txt"
            if options.keep:
                Path(options.keep).mkdir(parents=True, exist_ok=True)
                (Path(options.keep) / f"{setting.name}.txt").write_text(text)
            for failure in failures:
                print(f"{setting.name}: {failure}")
            failed += len(failures)
            actual = transcript.parse(text)
            if options.record:
                path.parent.mkdir(exist_ok=True)
                path.write_text(transcript.render(actual))
                passed += len(actual)
            else:
                outcome = transcript.compare(setting.name, transcript.parse(path.read_text()), actual, differences)
                print("\n".join(outcome.report), end="\n" if outcome.report else "")
                passed, failed, meant = passed + outcome.passed, failed + outcome.failed, meant + outcome.meant
            print(f"{setting.name}: {len(actual)} steps in {seconds:.1f} s", flush=True)
        if len(chosen) == len(settings):
            # A difference that no longer shows must leave the table: who reads it would believe it.
            for entry in differences:
                if not entry.used:
                    failed += 1
                    print(f"differences.txt: [{entry.step}] {' '.join(entry.transcripts)}: no such difference was seen")
        if meant:
            print(f"{name}: {meant} of the passed steps differ as differences.txt says")
    except Unable as error:
        print(f"{name}: {error}")
        print(f"{name}: {passed} passed, {failed} failed, {len(chosen)} skipped")
        sys.exit(2)
    print(f"{name}: {passed} passed, {failed} failed, {len(settings) - len(chosen)} skipped")
    sys.exit(1 if failed else 0)
