"""Waiting: always for a condition, always with a deadline, and the deadline says what was waited for."""

import time


class NotInTime(AssertionError):
    """The condition did not come true before its deadline."""


def wait_until(condition, what, timeout_s=30.0, detail=None):
    """Return the first true value of ``condition()``, asked every 5 to 50 ms.

    Args:
        condition: Asked until it returns something true.
        what: Names the condition in the error, as in "server 2 serves".
        timeout_s: Seconds until `NotInTime`.
        detail: Called for more text when it did not come true (tails of logs).
    """
    deadline = time.monotonic() + timeout_s
    pause_s = 0.005
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            more = "\n" + detail() if detail else ""
            raise NotInTime(f"not within {timeout_s:g} s: {what}{more}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.05)
