"""Rust's log lines in Python's `logging`. Each test in a process of its own, since a process has one such place."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Runs it; it prints what it has seen."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)},
        capture_output=True,
        text=True,
        timeout=60,
    )


# Keeps the records in a list.
KEEP = """
        import logging, threading
        records = []
        class Keep(logging.Handler):
            def emit(self, record):
                records.append(record)
        logging.getLogger().addHandler(Keep())
        logging.getLogger("zabkit").setLevel(logging.DEBUG)
"""


def test_the_lines_of_servers_and_clients_are_records_of_their_time_and_place() -> None:
    done = run(
        KEEP
        + """
        import asyncio, time, zabkit
        from aids import until
        from cores import connected
        zabkit.log_to_logging(logging.INFO)
        begun = time.time()
        with zabkit.Ensemble(3) as ensemble:
            async def main():
                async with connected(ensemble.hosts):
                    pass
            asyncio.run(main())
        until(lambda: {"1", "2", "3", ""} <= {record.server_id for record in records})
        until(lambda: any(record.name == "zabkit.client" for record in records))
        for record in records:
            assert record.name.startswith("zabkit."), record.name
            assert record.levelno >= logging.INFO
            assert begun - 1 < record.created < time.time() + 1
            assert record.threadName != "zabkit-logging"
            assert record.pathname.endswith(".rs") and record.lineno > 0
            assert record.getMessage()
        print([record.getMessage() for record in records if record.name == "zabkit.client"])
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("['CONNECTED")


def test_the_level_holds_in_rust_and_can_be_changed() -> None:
    done = run(
        KEEP
        + """
        import asyncio, zabkit
        from aids import until
        from cores import Told, begin
        async def main():
            core = begin("127.0.0.1:1", Told())
            core.abort()
        asyncio.run(main())
        assert threading.active_count() == 1 and not records, "off by default"
        zabkit.log_to_logging(logging.ERROR)
        asyncio.run(main())
        zabkit.log_to_logging(logging.INFO)
        asyncio.run(main())
        until(lambda: bool(records))
        zabkit.log_to_logging(logging.ERROR)
        asyncio.run(main())
        zabkit._logging._end(zabkit._logging._thread)  # As at exit: all that was queued is taken.
        print(sum(record.getMessage().startswith("CLOSED") for record in records))
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_a_handler_that_hangs_holds_up_nobody_and_lost_lines_are_counted() -> None:
    done = run(
        """
        import asyncio, logging, threading, zabkit
        from aids import until
        from cores import Told, begin
        go_on, seen = threading.Event(), []
        class Hang(logging.Handler):
            def emit(self, record):
                go_on.wait()
                seen.append(record.getMessage())
        logging.getLogger("zabkit").addHandler(Hang())
        logging.getLogger("zabkit").propagate = False
        logging.getLogger("zabkit").setLevel(logging.DEBUG)
        zabkit.log_to_logging(logging.INFO)
        async def main():
            for _ in range(12_000):
                begin("127.0.0.1:1", lambda *_: None).abort()
        asyncio.run(main())
        go_on.set()
        zabkit.log_to_logging(logging.INFO)
        until(lambda: len(seen) >= 10_000)
        asyncio.run(main())
        until(lambda: any("were dropped" in each for each in seen))
        print("said")
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "said\n", "")


def test_a_program_that_ends_writes_what_was_logged_and_ends() -> None:
    done = run(
        """
        import logging, zabkit
        logging.basicConfig(format="%(name)s %(server_id)s %(message)s")
        zabkit.log_to_logging(logging.INFO)
        logging.getLogger().setLevel(logging.INFO)
        ensemble = zabkit.blocking.Ensemble(1)
        ensemble.start()
        ensemble.stop()
        """
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "zabkit.server" in done.stderr
    assert "Traceback" not in done.stderr
    assert all(line.startswith("zabkit.") for line in done.stderr.splitlines()), done.stderr


def test_a_forked_child_logs_nowhere_and_stderr_excludes_it() -> None:
    done = run(
        """
        import asyncio, logging, os, warnings, zabkit
        from cores import Told, begin
        warnings.simplefilter("ignore")
        zabkit.log_to_logging(logging.INFO)
        pid = os.fork()
        if pid == 0:
            try:
                zabkit.log_to_logging(logging.INFO)
            except zabkit.ForkError:
                async def main():
                    begin("127.0.0.1:1", Told()).abort()
                asyncio.run(main())
                os._exit(7)
            os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")
    done = run(
        """
        import zabkit
        zabkit.log_to_stderr()
        try:
            zabkit.log_to_logging()
        except RuntimeError as error:
            print(error)
        """
    )
    assert "log_to_stderr" in done.stdout
