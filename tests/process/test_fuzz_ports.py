"""`fuzz_ports.py` as tests: mutated frames at every port, and the servers serve on with their memory flat.

A few thousand frames in `make test`, 100,000 for each port in `make fuzz`. Apache ZooKeeper 3.8.0 does not pass: a lone
`check` or a bent `multi` stops its pipeline, and an INITIAL with its own id leaks the connection.
"""

import fuzz_ports
import pytest

SHORT, FULL = 3_000, 100_000
#: What a server's memory may grow by between a tenth of the frames and the end. The frames make znodes and sessions,
#: so not nothing; 100,000 leaked connections or buffers would be far more.
GROWTH_MAX_KIB = 32 * 1024


def fuzz_and_judge(frames, seed=1):
    memory = fuzz_ports.run(frames, seed)
    for port, (_, warm, end) in memory.items():
        for number, (then, now) in enumerate(zip(warm, end, strict=True), 1):
            assert now - then < GROWTH_MAX_KIB, f"{port} port: server {number} grew from {then} to {now} KiB"


def test_servers_serve_on_under_mutated_frames():
    fuzz_and_judge(SHORT)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_servers_serve_on_under_a_hundred_thousand_mutated_frames_for_each_port():
    fuzz_and_judge(FULL)
