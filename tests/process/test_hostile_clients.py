"""`hostile_clients.py` as tests: hostile clients of every kind at once, and the good one does not notice.

A few seconds in `make test`, 60 s with 10,000 connections in `make hostile-soak`. The short form asks for no figures of
time: the machine may be busy with other tests.
"""

import hostile_clients
import pytest

SHORT_S, SHORT_CONNECTIONS = 4, 500
FULL_S, FULL_CONNECTIONS = 60, 10_000
#: What the server's memory may be above its base line when all of them have gone.
LEFT_MAX_MIB = 8


def test_hostile_clients_leave_neither_traces_in_memory_nor_the_good_client_without_answers():
    good, (before, peak, after) = hostile_clients.run(SHORT_S, SHORT_CONNECTIONS, session_ms=4_000)
    assert good["requests"] > 20, "the good client got hardly any answers"
    assert peak > before
    assert after - before < LEFT_MAX_MIB, f"{before:.0f} MiB before, {peak:.0f} at the peak, {after:.0f} after"


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_under_a_minute_of_every_kind_of_hostile_client_the_good_ones_p99_stays_under_100_ms():
    good, (before, peak, after) = hostile_clients.run(FULL_S, FULL_CONNECTIONS)
    assert good["p99"] < 100.0, good
    assert after - before < LEFT_MAX_MIB, f"{before:.0f} MiB before, {peak:.0f} at the peak, {after:.0f} after"
