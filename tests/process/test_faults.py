"""Disks that fail, starts that must not succeed, and ends that must be clean.

What is acknowledged is synced first, on a quorum. A server whose disk fails ends alone, says which file, and the others
go on. Exit codes are Apache's: 1 unexpected, 2 invalid invocation, 143 ended by SIGTERM.
"""

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import time

import pytest
from harness import wire
from harness.command import is_zabkit
from harness.tree import assert_same_trees, read_tree_of
from harness.until import wait_until

SETS = 1000

strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed (Debian: apt-get install strace)"
)
#: Apache stays up after a failed sync and takes no part, or takes no lock: these promises are zabkit's own.
zabkit_only = pytest.mark.skipif(not is_zabkit(), reason="promised by zabkit, not by Apache ZooKeeper")


# --- what is acknowledged is on disk --------------------------------------------------------------------------------


class SyncCount:
    """Counts the fdatasync calls of a server that runs under strace."""

    def __init__(self, member):
        self.file = member.dir / "fdatasync"
        # -D: the server is our child, not strace's; all its threads are traced from the first moment.
        self.wrapper = ["strace", "-D", "-f", "--seccomp-bpf", "-e", "trace=fdatasync", "-o", str(self.file)]

    def __call__(self):
        # A call that another thread's interrupts is shown as "unfinished" and "resumed": count it once.
        return sum("fdatasync(" in line and "= -" not in line for line in self.file.read_text().splitlines())


@strace
def test_every_lone_set_is_synced_by_a_quorum_before_its_answer(ensemble):
    servers = ensemble(3)
    counts = {member.id: SyncCount(member) for member in servers}
    for member in servers:
        member.start(wrapper=counts[member.id].wrapper)
    leader = servers.wait_serving()
    follower, spare = servers.followers()

    def syncs(during, members):
        before = {member.id: counts[member.id]() for member in members}
        during()
        return {member.id: counts[member.id]() - before[member.id] for member in members}

    with leader.connect() as link:
        link.create("/lone", b"")

        def sets(number):
            for value in range(number):
                link.set("/lone", b"%d" % value)

        # Each answer stands for two syncs somewhere; the third server may take several writes in one.
        made = syncs(lambda: sets(SETS), servers)
        print(f"fdatasync calls for {SETS} lone sets, by server: {made}")
        assert sum(made.values()) >= 2 * SETS
        assert min(made.values()) >= 1

        # With one server gone there is no other quorum: both must sync every single set.
        spare.kill()
        made = syncs(lambda: sets(SETS // 2), [leader, follower])
        print(f"fdatasync calls for {SETS // 2} lone sets with one server down: {made}")
        assert min(made.values()) >= SETS // 2


# --- a disk that fails ends one server ------------------------------------------------------------------------------


def write_until(condition, members, size=20_000, timeout_s=60.0):
    """Write through these servers until ``condition()``; returns the acknowledged paths and their data."""
    acknowledged, number, deadline = {}, 0, time.monotonic() + timeout_s
    data = os.urandom(size)
    while not condition():
        with contextlib.suppress(OSError, wire.Expired), members[number % len(members)].connect(timeout_s=5) as link:
            while not condition():
                assert time.monotonic() < deadline, "what should end the writing did not happen"
                path = f"/fault-{number}"
                number += 1
                link.create(path, data)
                acknowledged[path] = data
        number += 1
        assert time.monotonic() < deadline, "what should end the writing did not happen"
    return acknowledged


def assert_ended_alone(servers, victim, reason, acknowledged):
    """The victim said why it ended; the others have everything acknowledged, take more, and take it back later."""
    code = victim.wait_exit()
    said = victim.log_text()
    assert 0 < code < 128, f"ended with {code}\n{victim.log_tail()}"
    assert reason in said, f"{reason!r} is not in its log\n{victim.log_tail()}"
    assert "version-2/log." in said[said.index(reason) - 2000 if said.index(reason) > 2000 else 0 :], "names no file"

    others = [member for member in servers if member is not victim]
    wait_until(lambda: all(member.mode for member in others), "the others serve", detail=servers.logs)
    for member in others:
        with member.connect() as link:
            path = link.create(f"/after-fault-{member.id}")
            acknowledged[path] = b""
    for member in others:
        tree = read_tree_of(member)
        lost = [path for path, data in acknowledged.items() if path not in tree or tree[path].data != data]
        assert not lost, f"server {member.id} has lost {lost}"


def assert_comes_back(servers, victim):
    victim.start()
    servers.wait_serving()
    assert_same_trees({f"server {member.id}": read_tree_of(member) for member in servers})


@strace
@zabkit_only
@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_failed_fdatasync_ends_that_server_alone(ensemble, role):
    servers = ensemble(3).start()
    victim = servers.wait_leader() if role == "leader" else servers.followers()[0]
    others = [member for member in servers if member is not victim]
    inject = ["strace", "-f", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO", "-p", str(victim.pid)]
    tracer = subprocess.Popen(
        [*inject, "-o", str(servers.dir / "injected")], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        for line in tracer.stderr:
            assert "not permitted" not in line, f"strace may not attach here: {line}"
            if "attached" in line:
                break
        acknowledged = write_until(lambda: not victim.runs, others, size=100)
    finally:
        tracer.terminate()
        tracer.communicate()
    assert "EIO" in (servers.dir / "injected").read_text(), "nothing was injected"
    assert_ended_alone(servers, victim, "Input/output error", acknowledged)
    assert_comes_back(servers, victim)


@zabkit_only
def test_a_log_that_may_not_grow_ends_that_server_alone(ensemble):
    """A file size limit, set while it runs: the write fails with EFBIG, as ENOSPC would, on every machine."""
    servers = ensemble(3)
    for member in servers:
        member.start(keep_ignored_signals=True)
    victim = servers.wait_serving()
    others = [member for member in servers if member is not victim]
    resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
    acknowledged = write_until(lambda: not victim.runs, others)
    assert_ended_alone(servers, victim, "File too large", acknowledged)
    assert_comes_back(servers, victim)


@zabkit_only
def test_a_full_disk_ends_that_server_alone(ensemble):
    """A tmpfs of 3 MiB under the log of one server."""
    servers = ensemble(3)
    victim = servers[2]
    disk = victim.data_dir / "version-2"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "zabkit-test", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"may not mount a tmpfs here: {mounted.stderr.strip()}")
    try:
        servers.start()
        others = [member for member in servers if member is not victim]
        acknowledged = write_until(lambda: not victim.runs, others)
        assert_ended_alone(servers, victim, "No space left on device", acknowledged)
        # Room again: it comes back with what the others have.
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert_comes_back(servers, victim)
    finally:
        if victim.runs:
            victim.kill()
        subprocess.run(["umount", str(disk)], check=True)


# --- ends and starts ------------------------------------------------------------------------------------------------


def test_sigterm_ends_a_server_with_143_and_loses_nothing(ensemble):
    servers = ensemble(3).start()
    with servers[1].connect() as link:
        link.create("/kept", b"1")
    leader = servers.wait_leader()
    assert leader.terminate() == 143
    servers.wait_serving()
    leader.start()
    servers.wait_serving()
    for member in servers:
        assert member.terminate() == 143
    servers.start()
    for member in servers:
        with member.connect() as link:
            link.sync()
            assert link.get("/kept")[0] == b"1"


def test_a_standalone_server_keeps_its_data_over_sigterm_and_sigkill(ensemble):
    server = ensemble(1)[1]
    expected = {}
    for number, end in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGKILL)):
        server.start()
        assert server.wait_serving() == "standalone"
        with server.connect() as link:
            for path, data in expected.items():
                assert link.get(path)[0] == data
            for child in range(20):
                path = f"/n{number}-{child}"
                link.create(path, b"x" * child)
                expected[path] = b"x" * child
        server.signal(end)
        assert server.wait_exit() == 128 + end


def start_and_end(servers, member):
    member.start()
    return member.wait_exit()


@pytest.mark.parametrize(
    "wrong",
    [
        {"dataDir": None},
        {"tickTime": "often"},
        {"clientPort": "two"},
        {"minSessionTimeout": 5000, "maxSessionTimeout": 4000},
    ],
    ids=lambda wrong: " ".join(wrong),
)
def test_a_bad_configuration_ends_with_2(ensemble, wrong):
    servers = ensemble(1)
    server = servers[1]
    lines = server.config.read_text().splitlines()
    kept = [line for line in lines if line.split("=")[0] not in wrong]
    added = [f"{key}={value}" for key, value in wrong.items() if value is not None]
    server.config.write_text("\n".join([*kept, *added, ""]))
    assert start_and_end(servers, server) == 2
    assert server.log_text().strip(), "it does not say why"


def test_a_missing_configuration_file_ends_with_2(ensemble):
    servers = ensemble(1)
    servers[1].config.unlink()
    assert start_and_end(servers, servers[1]) == 2
    assert "zoo.cfg" in servers[1].log_text()


def test_a_missing_myid_ends_with_2(ensemble):
    servers = ensemble(3)
    (servers[1].data_dir / "myid").unlink()
    assert start_and_end(servers, servers[1]) == 2
    assert "myid" in servers[1].log_text()


def test_a_client_port_in_use_ends_with_1(ensemble):
    servers = ensemble(1)
    with socket.socket() as taken:
        taken.bind(servers[1].address)
        taken.listen()
        assert start_and_end(servers, servers[1]) == 1
    assert servers[1].log_text().strip(), "it does not say why"


@zabkit_only
def test_a_second_server_on_one_data_directory_refuses_and_the_first_goes_on(ensemble):
    first = ensemble(1)
    first.start()
    with first[1].connect() as link:
        link.create("/mine")
        second = ensemble(1)
        text = second[1].config.read_text().replace(str(second[1].data_dir), str(first[1].data_dir))
        second[1].config.write_text(text)
        code = start_and_end(second, second[1])
        assert 0 < code < 128
        assert str(first[1].data_dir) in second[1].log_text(), "it does not name the directory"
        link.create("/mine/still")
