"""Real server processes on loopback: started, killed, frozen and restarted by pid.

A `Member` is one server with its own directory (`zoo.cfg`, `data/`, `server.log`) and ports that it keeps over
restarts. An `Ensemble` is n of them; one alone is a standalone server.
"""

import atexit
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import weakref
from pathlib import Path

from . import command, wire
from .ports import PortBlock
from .until import wait_until

#: super:secret, so that a test may read what an ACL hides.
SUPER_AUTH = ("digest", b"super:secret")
SUPER_DIGEST = "super:lK75jTNcA+U9vtVEw5vB51mj/w4="

#: The server dies with the test run, also with one that a timeout has cut off (`setpriv` becomes the server).
GUARD = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()

#: Ensembles alive in this process; the conftest shows their logs when a test fails.
LIVE = weakref.WeakSet()

#: Short enough for tests, long enough for a busy machine with two cores.
DEFAULTS = {
    "tickTime": 500,
    "initLimit": 20,
    "syncLimit": 10,
    "maxClientCnxns": 0,
    "4lw.commands.whitelist": "*",
    "admin.enableServer": "false",
    "extendedTypesEnabled": "true",
    "preAllocSize": 1024,
    "DigestAuthenticationProvider.superDigest": SUPER_DIGEST,
}


def _state(stat):
    """The state letter in a thread's /proc/.../stat; "X" if the thread has ended meanwhile."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


class Member:
    """One server: its files, its ports, its process while it runs."""

    def __init__(self, ensemble, number, ports):
        self.ensemble, self.id = ensemble, number
        self.dir = ensemble.dir / str(number)
        self.data_dir, self.config, self.log = self.dir / "data", self.dir / "zoo.cfg", self.dir / "server.log"
        self.client_port, self.quorum_port, self.election_port = ports.take(), ports.take(), ports.take()
        self.process = None

    @property
    def address(self):
        return ("127.0.0.1", self.client_port)

    @property
    def host(self):
        return f"127.0.0.1:{self.client_port}"

    @property
    def pid(self):
        return self.process.pid

    @property
    def runs(self):
        return self.process is not None and self.process.poll() is None

    def start(self, template=None, wrapper=(), keep_ignored_signals=False):
        """Start the process and return at once.

        Args:
            template: Another command than the ensemble's.
            wrapper: Words before the command, such as strace's.
            keep_ignored_signals: Leave SIGXFSZ ignored, so that a file limit is an error and not a death.
        """
        assert not self.runs, f"server {self.id} runs already"
        fill = {"cfg": self.config, "id": self.id, "dir": self.dir, "port": self.client_port}
        words = [word.format(**fill) for word in shlex.split(template or self.ensemble.template)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*GUARD, *wrapper, *words],
                cwd=self.dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                restore_signals=not keep_ignored_signals,
            )
        return self

    def signal(self, number):
        assert self.runs, f"server {self.id} does not run"
        self.process.send_signal(number)

    def kill(self):
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self, timeout_s=20.0):
        """SIGTERM; returns the exit code as a shell shows it (143 = ended by SIGTERM)."""
        self.signal(signal.SIGTERM)
        return self.wait_exit(timeout_s)

    def freeze(self):
        """Stops all its threads. The signal alone does not: for a moment a thread on another CPU goes on, and acks."""
        self.signal(signal.SIGSTOP)
        stats = Path(f"/proc/{self.process.pid}/task")
        wait_until(
            lambda: all(_state(path) in "TZX" for path in stats.glob("*/stat")), f"server {self.id} stands still", 10.0
        )

    def thaw(self):
        self.signal(signal.SIGCONT)

    def wait_exit(self, timeout_s=30.0):
        """The exit code once the process has ended; 128 + n for one ended by signal n."""
        wait_until(lambda: self.process.poll() is not None, f"server {self.id} ends", timeout_s, self.log_tail)
        code = self.process.returncode
        return 128 - code if code < 0 else code

    def srvr(self):
        """Fields of the four-letter word `srvr`, `{}` when there is no answer or it does not serve."""
        text = wire.four_letter(self.address, "srvr") or ""
        return dict(re.findall(r"^([A-Z][\w ]*): *(.*)$", text, re.MULTILINE)) if "Mode:" in text else {}

    @property
    def mode(self):
        """`leader`, `follower`, `standalone`, or None while it does not serve."""
        return self.srvr().get("Mode")

    def wait_serving(self, timeout_s=60.0):
        """Wait until it has a role; returns the mode."""

        def serves():
            assert self.runs, f"server {self.id} has ended with {self.process.returncode}\n{self.log_tail()}"
            return self.mode

        return wait_until(serves, f"server {self.id} serves", timeout_s, self.log_tail)

    def connect(self, session=None, timeout_s=10.0):
        """A connection to this server and no other."""
        return wire.Connection(self.address, session, timeout_s)

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self, lines=25):
        return f"--- log of server {self.id}\n" + "\n".join(self.log_text().splitlines()[-lines:])

    def rss_kib(self):
        """Resident memory."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1])


class Ensemble:
    """n servers in a temp directory, which goes away with them.

    Args:
        size: How many; 1 is a standalone server.
        template: Command of a server; default: the server under test.
        config: More keys of zoo.cfg, or other values; None removes a key.
        observers: How many more servers, with the next numbers, that do not vote.
        spread: Server N's ports for other servers are at 127.0.0.N, so that all can have one of the same number.
    """

    def __init__(self, size=3, template=None, config=None, observers=0, spread=False):
        self.template = template or command.server_command()
        self.dir = Path(tempfile.mkdtemp(prefix="zabkit-process-"))
        self._ports = PortBlock()
        self.members = [Member(self, number, self._ports) for number in range(1, size + observers + 1)]
        self._voters, self._spread = size, spread
        self.config = {**DEFAULTS, **(config or {})}
        for member in self.members:
            self._write_config(member)
        LIVE.add(self)
        atexit.register(self.close)

    def _write_config(self, member):
        member.data_dir.mkdir(parents=True)
        keys = {"dataDir": member.data_dir, "clientPortAddress": "127.0.0.1", "clientPort": member.client_port}
        keys.update({key: value for key, value in self.config.items() if value is not None})
        if len(self.members) > 1:
            for other in self.members:
                host = f"127.0.0.{other.id if self._spread else 1}"
                role = "" if other.id <= self._voters else ":observer"
                keys[f"server.{other.id}"] = f"{host}:{other.quorum_port}:{other.election_port}{role}"
            if member.id > self._voters:
                keys["peerType"] = "observer"
            (member.data_dir / "myid").write_text(f"{member.id}\n")
        member.config.write_text("".join(f"{key}={value}\n" for key, value in keys.items()))

    def __getitem__(self, number):
        return self.members[number - 1]

    def __iter__(self):
        return iter(self.members)

    @property
    def hosts(self):
        """Connection string of all members."""
        return ",".join(member.host for member in self.members)

    @property
    def running(self):
        return [member for member in self.members if member.runs]

    def start(self, **options):
        """Start every server that does not run, and wait until all of them serve."""
        for member in self.members:
            if not member.runs:
                member.start(**options)
        self.wait_serving()
        return self

    def wait_serving(self, timeout_s=60.0):
        """Wait until every running server has a role and one of them leads (or stands alone)."""
        for member in self.running:
            member.wait_serving(timeout_s)
        return self.wait_leader(timeout_s)

    def leader(self):
        """The server that says so, or None."""
        for member in self.running:
            if member.mode in ("leader", "standalone"):
                return member
        return None

    def wait_leader(self, timeout_s=60.0):
        return wait_until(self.leader, "one server leads", timeout_s, self.logs)

    def followers(self):
        return [member for member in self.running if member.mode == "follower"]

    def observers(self):
        return [member for member in self.running if member.mode == "observer"]

    def logs(self, lines=25):
        return "\n".join(member.log_tail(lines) for member in self.members)

    def close(self):
        """End every server and remove the directory. Safe to call twice."""
        for member in self.running:
            member.process.kill()
        for member in self.members:
            if member.process is not None:
                member.process.wait()
        self._ports.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        atexit.unregister(self.close)
        LIVE.discard(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
