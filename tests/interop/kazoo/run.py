"""kazoo 2.11.0's own 493 tests, unmodified, against three zabkit servers.

None that fails is run a second time, but for the two that are known to race against themselves (`RACES`), and those
only when they ended as the race ends.

The suite stands outside this project, in `../shared/tools/kazoo-suite` beside the clone. It starts the servers with the
`zoo.cfg` that kazoo's harness writes, and hands Java's system properties to them in `SERVER_JVMFLAGS`, as ZooKeeper's
start script does. What counts as a failure here, beside a test that fails: one that is skipped though it runs on
Apache, one that is not there, a server that ended by itself.

`--quick` runs two modules at a time; options after `--` go to the suite (`-- --module test_lock`).
"""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "interop"))

from pytest_part import finish  # noqa: E402

SUITE = ROOT.parent / "shared" / "tools" / "kazoo-suite"
#: The result of the same tests on three Apache servers: which there are, and which are skipped there too.
BASELINE = SUITE / "baseline-apache-3.8.0.json"

#: Modules that have the machine to themselves, also with `--quick`, because tests in them race against themselves.
#: test_sasl: kazoo's `start` wakes up when it is connected and then looks whether it is, while its other thread goes on
#: to log in; refused before the look, it takes that for a time-out (on a machine with eight times the work that it can
#: do, 11 of 400 refused logins ended so, and 5 of 400 on Apache). test_lock: after a release `test_lock` waits to see
#: that nobody has the lock; if the next contender has it before the look, it waits for ever.
ALONE = ("test_lock.py", "test_sasl.py")

#: The race of test_sasl is lost now and then on a machine with noisy neighbours too, and how it ends is unmistakable: a
#: "time-out" of 15 s that came within one. Such a test is run again, `RACE_TRIES` times in all, and each time is told.
RACES = {
    f"test_sasl.py::{case}::test_invalid_sasl_auth": "kazoo.handlers.threading.KazooTimeoutError: Connection time-out"
    for case in ("TestLegacySASLDigestAuthentication", "TestSASLDigestAuthentication")
}
RACE_SECONDS = 5
RACE_TRIES = 5

#: The suite's servers have JKS stores; its test of TLS runs once more with each of these.
OTHER_STORES = ("p12", "pem")
TLS_TEST = "TestSSLClient"


def prepare(venv):
    """The suite's virtual environment; asks PyPI the first time, and when the requirements have changed."""
    wanted = (SUITE / "requirements.txt").read_text()
    stamp = venv / "requirements.done"
    if not stamp.is_file() or stamp.read_text() != wanted:
        subprocess.run([SUITE / "run", "--setup", "--venv", venv], check=True)
        stamp.write_text(wanted)


def run_suite(venv, folder, label, options):
    """Run the suite; returns its result, or None when it has not come that far."""
    out = folder / f"result-{label}.json"
    out.unlink(missing_ok=True)
    command = [SUITE / "run", "--venv", venv, "--out", out, "--keep-logs", folder / f"logs-{label}", "--reruns", "0"]
    server = shlex.join([os.environ["ZABKIT_BIN"], "server"]) + " {cfg}"
    process = subprocess.Popen([*command, "--server-cmd", server, *options])
    try:
        process.wait()
    except BaseException:
        process.terminate()  # It ends its servers.
        process.wait()
        raise
    return json.loads(out.read_text()) if out.is_file() else None


def raced(name, test):
    """Whether this test of kazoo's lost the race against itself: it failed as the race fails, and at once."""
    return (
        test["outcome"] == "failed"
        and name in RACES
        and RACES[name] in (test.get("message") or "")
        and test["duration"] < RACE_SECONDS
        and not test.get("server_deaths")
    )


def run_races_again(tests, venv, folder):
    """Run the tests that lost their race once more, and again; the last run of each takes its place in `tests`."""
    for attempt in range(2, RACE_TRIES + 1):
        lost = [name for name, test in tests.items() if raced(name, test)]
        if not lost:
            return
        for name in lost:
            print(f"RACED {name}  kazoo looked after the refusal ({tests[name]['duration']} s): try {attempt}")
        result = run_suite(venv, folder, f"again-{attempt}", [option for name in lost for option in ("-k", name)])
        tests.update((result or {"tests": {}})["tests"])


def verdicts(tests, expected):
    """(test, "passed", "failed" or "skipped", why) for each of the expected tests."""
    for name in sorted(expected):
        here = tests.get(name, {"outcome": "missing", "message": "it did not run"})
        outcome, why = here["outcome"], (here.get("message") or "").strip().splitlines()[-1:]
        why = why[0].strip() if why else ""
        if here.get("server_deaths"):
            yield name, "failed", f"a server ended by itself: {here['server_deaths']}"
        elif outcome == "passed":
            yield name, "passed", ""
        elif outcome == "skipped" and expected[name]["outcome"] == "skipped":
            yield name, "skipped", f"on Apache too: {why}"
        else:
            yield name, "failed", f"{outcome}: {why}"


def main():
    if not os.access(SUITE / "run", os.X_OK):
        print("kazoo: there is no ../shared/tools/kazoo-suite beside this clone", file=sys.stderr)
        sys.exit(2)
    folder = Path(os.environ["INTEROP_DIR"])
    venv = folder / "venv"
    prepare(venv)

    arguments = sys.argv[1:]
    more = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
    jobs = ["--jobs", "2"] if "--quick" in arguments else []
    baseline = json.loads(BASELINE.read_text())["tests"]

    counts = {"passed": 0, "failed": 0, "skipped": 0}

    def count(label, result, expected):
        tests = result["tests"] if result else {}
        run_races_again(tests, venv, folder)
        for name in tests.keys() - expected.keys():
            expected = {**expected, name: {"outcome": "passed"}}
        for name, verdict, why in verdicts(tests, expected):
            counts[verdict] += 1
            if verdict != "passed":
                print(f"{verdict.upper()} {label}{name}  {why}")

    if more:
        result = run_suite(venv, folder, "part", [*jobs, *more])
        count("", result, {name: baseline[name] for name in (result or {"tests": {}})["tests"] if name in baseline})
    else:
        alone = {name: test for name, test in baseline.items() if jobs and name.startswith(ALONE)}
        together = {name: test for name, test in baseline.items() if name not in alone}
        modules = sorted({name.partition("::")[0] for name in together})
        count("", run_suite(venv, folder, "jks", [*jobs, *(f"--module={module}" for module in modules)]), together)
        if alone:
            count("", run_suite(venv, folder, "alone", [f"--module={module}" for module in ALONE]), alone)
        for store in OTHER_STORES:
            only = {name: test for name, test in baseline.items() if TLS_TEST in name}
            result = run_suite(venv, folder, store, ["--tls-store", store, "-k", TLS_TEST])
            count(f"({store}) ", result, only)
    finish("kazoo", counts["passed"], counts["failed"], counts["skipped"])


if __name__ == "__main__":
    # The suite ends its servers when it is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
