"""The list of servers is changed while they run: from one to three, to five, and back to one.

As an operator does it: a server is started with a list that names some members and itself, follows without a vote, and
is then let in by `reconfig`. Ends of servers in the midst of a change are in the scripts of `tests/zab_scripts.rs`.
"""

import threading
from pathlib import Path

import pytest
from harness.ports import PortBlock
from harness.until import wait_until
from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadArgumentsError,
    BadVersionError,
    ConnectionClosedError,
    ConnectionLoss,
    NewConfigNoQuorumError,
    NoAuthError,
    NodeExistsError,
    ReconfigInProcessError,
    SessionExpiredError,
)

SUPER = ("digest", "super:secret")
CONFIG = {"reconfigEnabled": "true", "standaloneEnabled": "false", "clientPort": None, "clientPortAddress": None}


class Growing:
    """Servers of which the first is an ensemble, and the others wait to join it."""

    def __init__(self, ensemble, size, templates=None):
        self.servers = ensemble(size, config=CONFIG)
        self.templates = templates or {}
        for member in self.servers:
            self.write_list(member, [1, member.id])

    def __getitem__(self, number):
        return self.servers[number]

    def line(self, number, role="participant", client_port=None):
        member = self.servers[number]
        port = client_port or member.client_port
        return f"server.{number}=127.0.0.1:{member.quorum_port}:{member.election_port}:{role};127.0.0.1:{port}"

    def write_list(self, member, numbers):
        lines = [line for line in member.config.read_text().splitlines() if not line.startswith("server.")]
        lines += [self.line(number) for number in dict.fromkeys(numbers)]
        member.config.write_text("\n".join(lines) + "\n")

    def start(self, *numbers):
        for number in numbers:
            self.servers[number].start(template=self.templates.get(number))
        for number in numbers:
            self.servers[number].wait_serving()

    def client(self, *numbers):
        hosts = ",".join(self.servers[number].host for number in numbers)
        client = KazooClient(hosts=hosts, timeout=20, auth_data=[SUPER])
        client.start(30)
        return client

    def version(self, number):
        """Of the list in the server's own file."""
        text = self.servers[number].config.read_text()
        named = [line for line in text.splitlines() if line.startswith("dynamicConfigFile=")]
        return int(named[-1].rpartition(".")[2], 16) if named else 0

    def wait_version(self, version, *numbers):
        for number in numbers:
            wait_until(lambda number=number: self.version(number) == version, f"server {number} has {version:x}", 30)


def stop(client):
    client.stop()
    client.close()


def retried(call):
    """The result of a call that a change of leader may interrupt, or find before the others have followed it."""

    def attempt():
        try:
            return (call(),)
        except (ConnectionLoss, SessionExpiredError, NewConfigNoQuorumError):
            return None

    return wait_until(attempt, "the call succeeds", 60)[0]


def reconfig(client, joining=None, leaving=None, new_members=None, from_config=-1):
    """Returns the version of the list that the answer tells."""
    data, stat = client.reconfig(joining, leaving, new_members, from_config=from_config)
    version = int(data.rpartition(b"version=")[2], 16)
    assert (stat.version, stat.mzxid) == (-1, version)
    return version


class Writer:
    """Writes all the time; no write that was acknowledged may be missing."""

    def __init__(self, hosts):
        self.client = KazooClient(hosts=hosts, timeout=20)
        self.client.start(30)
        self.client.ensure_path("/load")
        self.written, self.ends = [], threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        number = 0
        while not self.ends.is_set():
            number += 1
            try:
                self.client.create(f"/load/{number}", b"")
            except NodeExistsError:
                pass
            except (ConnectionLoss, SessionExpiredError):
                continue
            except ConnectionClosedError:
                return  # The test has failed.
            self.written.append(str(number))

    def finish(self):
        self.ends.set()
        self.thread.join()
        stop(self.client)
        return set(self.written)


def grow_and_shrink(growing):
    growing.start(1)
    growing.start(2, 3)
    first = growing.client(1)
    with pytest.raises(BadArgumentsError):
        reconfig(first, joining="server.4=127.0.0.1:1:2")
    with pytest.raises(BadVersionError):
        reconfig(first, joining=growing.line(2), from_config=1)
    with pytest.raises(NewConfigNoQuorumError):
        reconfig(first, joining=growing.line(4) + "," + growing.line(5))
    stranger = KazooClient(hosts=growing[1].host, timeout=20)
    stranger.start(30)
    with pytest.raises(NoAuthError):
        reconfig(stranger, joining=growing.line(2))
    told = threading.Event()
    stranger.get("/zookeeper/config", watch=lambda _event: told.set())
    writer = Writer(",".join(growing[number].host for number in range(1, 6)))

    version = reconfig(first, joining=growing.line(2) + "," + growing.line(3))
    assert told.wait(20), "the watch of the list has fired"
    growing.wait_version(version, 1, 2, 3)
    stop(first)
    stop(stranger)
    growing.start(4, 5)
    client = growing.client(2, 3)
    version = retried(lambda: reconfig(client, joining=growing.line(4) + "," + growing.line(5)))
    growing.wait_version(version, 1, 2, 3, 4, 5)

    # The leader and another go; then two more, until one is left.
    leader = growing.servers.leader().id
    other = next(number for number in (1, 2) if number != leader)
    stay = [number for number in range(1, 6) if number not in (leader, other)]
    version = retried(lambda: reconfig(client, leaving=f"{leader},{other}"))
    growing.wait_version(version, *stay)
    stop(client)
    client = growing.client(*stay)
    retried(lambda: client.ensure_path("/three"))
    # One of Apache's goes on to say that it leads, until it finds that nobody follows.
    wait_until(lambda: growing[leader].mode == "follower", "the former leader follows without a vote", 60)
    assert growing.servers.wait_leader().id in stay
    version = retried(lambda: reconfig(client, leaving=f"{stay[1]},{stay[2]}"))
    growing.wait_version(version, stay[0])
    stop(client)
    written = writer.finish()

    client = growing.client(stay[0])
    retried(lambda: client.ensure_path("/one"))
    wait_until(lambda: growing[stay[0]].mode == "leader", "the last one leads", 60)
    missing = written - set(client.get_children("/load"))
    assert written
    assert not missing, f"{len(missing)} of {len(written)} are missing"
    stop(client)

    # What is in its files is the ensemble of one.
    growing[stay[0]].kill()
    growing.start(stay[0])
    client = growing.client(stay[0])
    text = client.get("/zookeeper/config")[0].decode()
    assert text == f"{growing.line(stay[0])}\nversion={version:x}"
    retried(lambda: client.ensure_path("/again"))
    stop(client)


def test_one_becomes_three_five_three_and_one_under_load(ensemble):
    grow_and_shrink(Growing(ensemble, 5))


@pytest.mark.parametrize("apaches", [(1, 4), (2, 3)], ids=["apache-first", "zabkit-first"])
def test_servers_of_both_kinds_become_one_ensemble(ensemble, apache, apaches):
    grow_and_shrink(Growing(ensemble, 5, dict.fromkeys(apaches, apache)))


def test_a_server_gets_another_role_and_another_port(ensemble):
    growing = Growing(ensemble, 3)
    growing.start(1)
    growing.start(2, 3)
    client = growing.client(1)
    reconfig(client, joining=growing.line(2) + "," + growing.line(3))
    version = reconfig(client, joining=growing.line(3, "observer"))
    growing.wait_version(version, 1, 2, 3)
    wait_until(lambda: growing[3].mode == "observer", "server 3 observes", 30)
    assert growing[3].wait_serving() == "observer"

    ports = PortBlock()
    try:
        port = ports.take()
        version = reconfig(client, joining=growing.line(3, "participant", port))
        growing.wait_version(version, 1, 2, 3)
        growing[3].client_port = port
        wait_until(lambda: growing[3].mode == "follower", "server 3 follows, at another port", 30)
        growing[3].kill()
        growing.start(3)
        assert growing[3].wait_serving() == "follower"
    finally:
        ports.close()
    stop(client)


def test_a_server_that_missed_the_commit_finds_the_others_at_their_new_ports(ensemble):
    """It has acknowledged the list that moves them and was killed before its commit: it knows both lists."""
    growing = Growing(ensemble, 3)
    growing.start(1)
    growing.start(2, 3)
    client = growing.client(1)
    reconfig(client, joining=growing.line(2) + "," + growing.line(3))
    stop(client)
    growing[1].kill()
    growing.servers.wait_leader()
    client = growing.client(2, 3)
    ports = PortBlock()
    try:
        for number in (2, 3):
            growing[number].quorum_port, growing[number].election_port = ports.take(), ports.take()
        # By a name, which is looked up aside before they listen.
        moved = ",".join(growing.line(number).replace("=127.0.0.1:", "=localhost:") for number in (2, 3))
        version = retried(lambda: reconfig(client, joining=moved))
        growing.wait_version(version, 2, 3)
        text = client.get("/zookeeper/config")[0].decode()
        stop(client)

        assert growing.version(1) < version
        Path(f"{growing[1].config}.dynamic.next").write_text(text)
        growing.start(1)
        assert growing[1].wait_serving() == "follower"
        growing.wait_version(version, 1)
    finally:
        ports.close()


def test_one_change_at_a_time(ensemble):
    """The second is refused, while the first waits for its quorum; it is told so behind the first."""
    growing = Growing(ensemble, 3)
    growing.start(1)
    growing.start(2, 3)
    client, other = growing.client(1), growing.client(1)
    growing[2].freeze()
    growing[3].freeze()
    first = client.reconfig_async(growing.line(2) + "," + growing.line(3), None, None, -1)
    wait_until(lambda: "is proposed" in growing[1].log_text().rpartition("is activated")[2], "it is proposed", 5)
    second = other.reconfig_async(growing.line(2), None, None, -1)
    wait_until(lambda: growing[1].srvr().get("Outstanding") != "1", "the second has come", 5)
    growing[2].thaw()
    growing[3].thaw()
    assert b"server.3=" in first.get(timeout=30)[0]
    with pytest.raises(ReconfigInProcessError):
        second.get(timeout=30)
    stop(client)
    stop(other)
