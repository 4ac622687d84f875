"""`chaos.py` as tests: the leader is killed under writes, and nothing acknowledged is lost.

A few kills in `make test`; 50 of processes and 50 in this process in `make chaos`.
"""

import importlib.util

import chaos
import pytest

SHORT, FULL = 5, 50

#: The packages of tests that need the extension are absent where only the binary was built.
embedded = pytest.mark.skipif(importlib.util.find_spec("zabkit") is None, reason="Python package zabkit not installed")


#: Milliseconds from the last write acknowledged under the old leader to the first under the new.
GAP_P50, GAP_MAX = 150, 300


def run_and_judge(kills, mode, outstanding=1):
    result = chaos.run(kills, mode, outstanding=outstanding)
    print(chaos.summary(result), result["gaps_ms"])
    assert result["missing"] == 0
    assert not result["trees_differ"]
    assert result["sessions_lost"] == 0, "a session must outlive the leader"
    assert result["acknowledged"] > kills * result["clients"], "too few writes to prove anything"
    return result


@pytest.mark.parametrize("outstanding", [1, 8])
def test_no_acknowledged_write_is_lost_when_the_leader_is_killed(outstanding):
    run_and_judge(SHORT, "process", outstanding)


@embedded
def test_no_acknowledged_write_is_lost_when_the_leader_is_killed_in_this_process():
    run_and_judge(SHORT, "embedded")


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", ["process", pytest.param("embedded", marks=embedded)])
def test_no_acknowledged_write_is_lost_over_many_kills(mode):
    result = run_and_judge(FULL, mode)
    assert result["gap_p50_ms"] <= GAP_P50
    assert result["gap_max_ms"] <= GAP_MAX, "somebody has waited for what could not come"
