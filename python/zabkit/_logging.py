"""Rust's log lines in Python's `logging`."""

from __future__ import annotations

import atexit
import logging
import threading
import traceback

from zabkit import _zabkit

__all__ = ["log_to_logging"]

_lock = threading.Lock()
_thread: threading.Thread | None = None

# What the thread takes in one go.
_LINES = 256


def log_to_logging(level: int | None = None) -> None:
    """Send the log lines of this process's servers and clients to Python's `logging`; without it they are silent.

    Their loggers are below ``zabkit``, such as ``zabkit.server.listen`` and ``zabkit.client``, and the levels that the
    program has set for them hold, too. Each record has the time, thread and source line of its origin, and
    ``record.server_id``: the id of the server that logs, "" for a client.

    Servers never wait for `logging`: lines go through a queue of 10_000 to one daemon thread, and a line too many is
    dropped and counted in a warning. At the program's end the thread finishes what has been queued.

    Args:
        level: The lowest level to send, such as ``logging.INFO``; None for the effective level of the logger
            ``zabkit`` now. Lower ones cost nothing. A second call changes the level.

    Raises:
        RuntimeError: The lines go to stderr already (`log_to_stderr`).
        ForkError: The parent of this process has called it.
    """
    global _thread
    with _lock:
        _zabkit.log_begin(logging.getLogger("zabkit").getEffectiveLevel() if level is None else level)
        if _thread is None:
            _thread = threading.Thread(target=_take_lines, name="zabkit-logging", daemon=True)
            _thread.start()
            atexit.register(_end, _thread)


def _take_lines() -> None:
    while (lines := _zabkit.log_lines(_LINES)) is not None:
        for level, name, message, file, line, thread, created, server_id, dropped in lines:
            logger = logging.getLogger(name)
            if dropped:
                _handle(
                    logger,
                    logging.WARNING,
                    file,
                    line,
                    f"{dropped} log lines were dropped here: too many to take",
                    thread,
                    created,
                    server_id,
                )
            if logger.isEnabledFor(level):
                _handle(logger, level, file, line, message, thread, created, server_id)


def _handle(
    logger: logging.Logger, level: int, file: str, line: int, message: str, thread: str, created: float, server_id: str
) -> None:
    record = logger.makeRecord(logger.name, level, file, line, message, (), None, extra={"server_id": server_id})
    # As of the line, not of its arrival here.
    record.relativeCreated += (created - record.created) * 1000
    record.created = created
    record.msecs = created % 1 * 1000
    record.threadName = thread
    try:
        logger.handle(record)
    except Exception:  # A filter of the program's. As `logging` does with handlers: said, and no end of the thread.
        if logging.raiseExceptions:
            traceback.print_exc()


def _end(thread: threading.Thread) -> None:
    """The thread must not come back from Rust into an interpreter that is being taken apart."""
    _zabkit.log_end()
    thread.join(timeout=5.0)
