"""Every command of docs/migrating-from-zookeeper.md, typed into bash in the order of the page, on a real ensemble.

Three servers of Apache 3.8.0, started by its own script, are replaced as the page says, rolled back, and restored from
a copy; the mixture in between gets an observer, another one TLS and SASL. The logs of the first three lie apart from
their snapshots, those of the others do not. A "host" is one bash that begins with the page's own block of names and
goes on with the values of the test. The first command that fails ends its bash, and the test. A block that no step has
run fails it too, and so does a section that none of the tests has in its list.
"""

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from harness import wire
from harness.command import ROOT, zabkit_binary
from harness.ports import PortBlock
from harness.until import wait_until

GUIDE = ROOT / "docs" / "migrating-from-zookeeper.md"
SCRIPTS = Path("/usr/share/zookeeper/bin")
#: Quick to start rather than quick to run; three servers and clients on one machine.
JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto"
SESSION_MS = 60_000
#: "/", "/zookeeper" and what is below it.
NODES_OF_A_NEW_TREE = 5

#: Sections of the page with commands, and the test that runs them.
THERE_AND_BACK = {
    "Names",
    "Check the ensemble",
    "Check the settings",
    "Rehearse on a copy",
    "Replace one member",
    "Verify",
    "Roll back",
    "An observer of the other kind",
    "Restore a copy",
}
IN_A_MIXTURE = {
    "Change a setting everywhere",
    "TLS between the servers: keys",
    "TLS between the servers: first step",
    "TLS between the servers: second step",
    "TLS between the servers: third step",
    "SASL between the servers: names",
    "SASL between the servers: first step",
    "SASL between the servers: second step",
    "SASL between the servers: third step",
}


def blocks():
    """Heading -> its bash blocks, in the order of the page."""
    found, heading, lines = {}, None, None
    for line in GUIDE.read_text().splitlines():
        if lines is not None:
            if line == "```":
                found.setdefault(heading, []).append("\n".join(lines))
                lines = None
            else:
                lines.append(line)
        elif line.startswith("## "):
            heading = line[3:]
        elif line == "```bash":
            lines = []
    return found


class Host:
    """One bash on the host of one member; variables stay from block to block."""

    def __init__(self, place, number, ports, environment, has_log_dir):
        self.dir = place / str(number)
        self.data, self.conf, self.backup = self.dir / "data", self.dir / "conf", self.dir / "backup"
        self.logs = self.dir / "logs" if has_log_dir else self.data
        self.number, (self.port, self.quorum, self.election, self.spare) = number, ports
        self.address = ("127.0.0.1", self.port)
        for folder in {self.data, self.logs, self.conf, self.backup}:
            folder.mkdir(parents=True)
        self.said = self.dir / "said.txt"
        self._files = 0
        with open(self.said, "wb") as said:
            self.bash = subprocess.Popen(
                ["bash", "--norc", "-e", "-o", "pipefail"],
                cwd=self.dir,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def type(self, commands, timeout_s=120.0):
        """Run commands to their end; what they said, or a failure with it."""
        self._files += 1
        script, done, before = (
            self.dir / f"{self._files}.sh",
            self.dir / f"{self._files}.done",
            self.said.stat().st_size,
        )
        script.write_text(commands + "\n")
        self.bash.stdin.write(f". {script} </dev/null\n: > {done}\n".encode())
        self.bash.stdin.flush()

        def told():
            return "\n".join([f"host {self.number}, at", commands, "it said", self._since(before)])

        def ended():
            if done.exists():
                return True
            assert self.bash.poll() is None, f"a command failed: {told()}"
            return False

        wait_until(ended, "the commands end", timeout_s, told)
        return self._since(before)

    def _since(self, begin):
        with open(self.said, "rb") as said:
            said.seek(begin)
            return said.read().decode(errors="replace")

    def role(self):
        return next(iter(re.findall(r"^Mode: (\w+)$", wire.four_letter(self.address, "srvr") or "", re.M)), None)

    def is_zabkit(self):
        return "zabkit" in (wire.four_letter(self.address, "srvr") or "")

    def close(self):
        with suppress(ProcessLookupError):
            os.killpg(self.bash.pid, signal.SIGKILL)  # The servers are of its group.
        self.bash.wait()
        self.bash.stdin.close()


class Holder(threading.Thread):
    """A session with an ephemeral that writes to whatever server will have it, and notes what was acknowledged."""

    def __init__(self, hosts):
        super().__init__(daemon=True)
        self.hosts, self.session, self.acked, self.failure = hosts, wire.Session(SESSION_MS), [], None
        with self._connect(0) as link:
            link.create("/held", b"", flags=1)
            link.create("/written")
        self.id = self.session.id
        self._stop_asked = threading.Event()

    def _connect(self, turn):
        return wire.Connection(self.hosts[turn % len(self.hosts)].address, self.session, 5.0)

    def run(self):
        turn = number = 0
        try:
            while not self._stop_asked.is_set():
                turn += 1
                # Between two tries, and between two writes: the servers that start need the processor.
                with suppress(OSError), self._connect(turn) as link:
                    while not self._stop_asked.wait(0.02):
                        number += 1
                        link.create(f"/written/{number}", b"")
                        self.acked.append(number)
                self._stop_asked.wait(0.05)
        except BaseException as error:  # Expired among them: the session was lost.
            self.failure = error

    def finish(self):
        self._stop_asked.set()
        self.join(30)
        if self.failure:
            raise self.failure
        return self


@pytest.fixture
def hosts(apache_jars, request):
    """Three hosts with Apache's scripts in their PATH, an ensemble of Apache's on them; parameter: two directories."""
    place, ports = Path(tempfile.mkdtemp(prefix="zabkit-guide-")), PortBlock()
    tools = place / "bin"
    shutil.copytree(SCRIPTS, tools)
    # Debian's have one log directory for all servers of a machine, and a class path without what TLS and logs need.
    settings = (tools / "zkEnv.sh").read_text()
    for name, value in {"ZOO_LOG_DIR": place / "$PPID", "CLASSPATH": apache_jars}.items():
        settings, count = re.subn(rf"(?m)^{name}=.*$", f"{name}={value}", settings)
        assert count == 1, f"{SCRIPTS}/zkEnv.sh sets {name} {count} times"
    (tools / "zkEnv.sh").write_text(settings)
    (tools / "zabkit").symlink_to(zabkit_binary())
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "SERVER_JVMFLAGS": f"{JVM} -Xmx256m -Dzookeeper.admin.enableServer=false",
        "CLIENT_JVMFLAGS": JVM,
        "JMXDISABLE": "true",
    }
    made = [Host(place, number, [ports.take() for _ in range(4)], environment, request.param) for number in (1, 2, 3)]
    servers = "".join(f"server.{host.number}=127.0.0.1:{host.quorum}:{host.election}\n" for host in made)
    for host in made:
        keys = {
            "tickTime": 500,
            "initLimit": 20,
            "syncLimit": 10,
            "maxSessionTimeout": SESSION_MS,
            "dataDir": host.data,
            **({"dataLogDir": host.logs} if host.logs != host.data else {}),
            "clientPortAddress": "127.0.0.1",
            "clientPort": host.port,
            "4lw.commands.whitelist": "*",
        }
        (host.conf / "zoo.cfg").write_text("".join(f"{key}={value}\n" for key, value in keys.items()) + servers)
        (host.data / "myid").write_text(f"{host.number}\n")
    try:
        yield made
    finally:
        for host in made:
            host.close()
        ports.close()
        shutil.rmtree(place, ignore_errors=True)


class Page:
    """The blocks of the page, and which of them have been run."""

    def __init__(self):
        self.blocks, self.done = blocks(), set()

    def run(self, heading, host, only=None):
        """All blocks below a heading, or one of them; what the last one said."""
        assert heading in self.blocks, f"{GUIDE.name} has no bash below {heading!r}"
        said = ""
        for number, text in enumerate(self.blocks[heading]):
            if only is None or only == number:
                said = host.type(text)
                self.done.add((heading, number))
        return said

    def left_out(self, headings):
        """Blocks of these sections that have not been run."""
        every = {(heading, number) for heading in headings for number in range(len(self.blocks[heading]))}
        return sorted(every - self.done)


def enter(page, host, hosts):
    """The page's names, then the values of this test."""
    page.run("Names", host)
    servers = " ".join(f"127.0.0.1:{one.port}" for one in hosts)
    host.type(
        f'SERVERS="{servers}" ME=127.0.0.1:{host.port} CONF={host.conf} DATA={host.data} '
        f"LOGS={host.logs} BACKUP={host.backup} SPARE_PORT={host.spare}"
    )


def leader_last(hosts):
    roles = wait_until(
        lambda: (lambda roles: roles if None not in roles.values() else None)({one: one.role() for one in hosts}),
        "every member has a role",
    )
    return sorted(hosts, key=lambda one: (roles[one] == "leader", one.number))


def children_of(host, path):
    with host_link(host) as link:
        link.sync(path)
        return link.children(path)


def host_link(host):
    return wire.Connection(host.address, wire.Session(10_000))


def begin(page, hosts):
    """An ensemble of Apache's that serves."""
    for host in hosts:
        enter(page, host, hosts)
        host.type('zkServer.sh start "$CONF/zoo.cfg"')
    leader_last(hosts)


def test_each_section_with_commands_is_run_by_a_test():
    assert set(blocks()) == THERE_AND_BACK | IN_A_MIXTURE


@pytest.mark.timeout(400)
@pytest.mark.parametrize("hosts", [True], ids=["dataLogDir"], indirect=True)
def test_each_command_works_on_the_way_there_and_back(hosts):
    page = Page()
    begin(page, hosts)
    holder = Holder(hosts)
    holder.start()

    page.run("Check the ensemble", hosts[0])
    for host in hosts:
        page.run("Check the settings", host)
    rehearse(page, hosts[0])

    order = leader_last(hosts)
    for host in order:
        assert not host.is_zabkit()
        page.run("Replace one member", host)
        assert host.is_zabkit()
        page.run("Verify", host)
        if host is order[1]:
            observe(page, hosts)

    back = leader_last(hosts)
    for host in back:
        page.run("Roll back", host)
        assert not host.is_zabkit()
        page.run("Verify", host)

    assert_nothing_lost(hosts, holder)
    restore(page, hosts, order[-1], "/written")
    assert not page.left_out(THERE_AND_BACK), "blocks that nothing has run"


def assert_nothing_lost(hosts, holder):
    holder.finish()
    for host in hosts:
        with host_link(host) as link:
            link.sync("/")
            assert link.exists("/held").ephemeral_owner == holder.id
            missing = {str(number) for number in holder.acked} - set(link.children("/written"))
            assert not missing, f"acknowledged and gone: {missing}"
    assert len(holder.acked) > 100, "too few writes to prove anything"


def rehearse(page, host):
    """The copy of a running member has what the member has: its logs too, since no snapshot was taken yet."""
    counts = re.findall(r"^Node count: (\d+)$", page.run("Rehearse on a copy", host), re.M)
    assert len(counts) == 2
    assert int(counts[0]) > NODES_OF_A_NEW_TREE


def restore(page, hosts, last_replaced, kept):
    """The section about copies: afterwards the ensemble is what the last copy was."""
    with host_link(hosts[0]) as link:
        link.create("/after-the-copy")
    for host in hosts:
        page.run("Restore a copy", host, only=0)
        shutil.copytree(last_replaced.backup / "data-of-apache", host.backup / "restore")
        if host.logs != host.data:
            shutil.copytree(last_replaced.backup / "logs-of-apache", host.backup / "restore-logs")
    for host in hosts:
        page.run("Restore a copy", host, only=1)
    for host in hosts:
        page.run("Restore a copy", host, only=2)
    leader_last(hosts)
    for host in hosts:
        page.run("Check the ensemble", host)
        with host_link(host) as link:
            link.sync("/")
            assert link.exists(kept)
            assert not link.exists("/after-the-copy")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("hosts", [False], ids=["dataDir"], indirect=True)
def test_each_command_works_in_a_mixture_that_gets_tls_and_sasl(hosts):
    page = Page()
    begin(page, hosts)
    with host_link(hosts[0]) as link:
        link.create("/before-the-copy", b"")
    rehearse(page, hosts[0])
    order = leader_last(hosts)[1:]
    for host in order:  # Two of three, the leader last.
        page.run("Replace one member", host)
    holder = Holder(hosts)
    holder.start()
    for host in hosts:
        page.run("Change a setting everywhere", host)
        host.type(f"TLS={host.dir}/tls NAMES=IP:127.0.0.1 QUORUM_PASSWORD=pass-of-members; mkdir $TLS")
    page.run("TLS between the servers: keys", hosts[0], only=0)
    for host in hosts[1:]:
        for name in ("ca.key", "ca.pem"):
            shutil.copy(hosts[0].dir / "tls" / name, host.dir / "tls")
    for host in hosts:
        page.run("TLS between the servers: keys", host, only=1)
    for step in ("first", "second", "third"):
        everywhere(page, hosts, f"TLS between the servers: {step} step")
    assert all(speaks_tls_only(host.election) for host in hosts)

    for host in hosts:
        page.run("SASL between the servers: names", host)
    for step in ("first", "second", "third"):
        everywhere(page, hosts, f"SASL between the servers: {step} step")
    said = [path.read_text(errors="replace") for path in hosts[0].dir.parent.glob("*/zookeeper-*.out")]
    assert any("completed the authentication using SASL" in text for text in said), "nobody has logged in at Apache"
    assert [host.is_zabkit() for host in hosts].count(True) == 2, "no mixture any more"
    assert_nothing_lost(hosts, holder)
    restore(page, hosts, order[-1], "/before-the-copy")
    assert not page.left_out(IN_A_MIXTURE), "blocks that nothing has run"


def everywhere(page, hosts, heading):
    """One step on one member after the other; the ensemble is whole after each."""
    for host in leader_last(hosts):
        page.run(heading, host)
        leader_last(hosts)


def speaks_tls_only(port):
    """Whether a plain INITIAL message ends the connection."""
    with socket.create_connection(("127.0.0.1", port), 5.0) as link:
        link.sendall(struct.pack(">qqi", -65536, 77, 11) + b"127.0.0.1:1")
        try:
            return link.recv(100)[:1] in (b"", b"\x15")  # Closed, or an alert.
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


def observe(page, hosts):
    """An observer beside the mixture: it shows what is written, and its end is nobody's loss."""
    host, port = hosts[0], hosts[0].spare
    host.type(f"OBSERVER={host.dir}/observer OBSERVER_ID=9 OBSERVER_CLIENTS=127.0.0.1:{port}")
    host.type(f"OBSERVER_ADDRESS=127.0.0.1:{hosts[1].spare}:{hosts[2].spare}")
    page.run("An observer of the other kind", host, only=0)
    with wire.Connection(("127.0.0.1", port), wire.Session(10_000)) as link:
        link.create("/by-the-observer")
    with host_link(hosts[1]) as link:
        link.sync("/")
        assert link.exists("/by-the-observer")
    page.run("An observer of the other kind", host, only=1)
