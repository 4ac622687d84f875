"""Ensembles of server processes on loopback: started, stopped, killed; their CPU time and memory, from /proc."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def boot_seconds() -> float:
    """Seconds since the machine's boot: the clock of `zkload probe --since`."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in MB of 2^20 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
    """Signals a process and waits for its end; one that does not stop is killed."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass
class Cluster:
    """One peer's servers. `command` starts one in the foreground; `{cfg}` in it is its zoo.cfg."""

    name: str
    command: str
    root: Path
    servers: int = 3
    settings: tuple[str, ...] = ()
    ports: list[int] = field(default_factory=list)
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def ids(self) -> range:
        return range(1, self.servers + 1)

    @property
    def hosts(self) -> str:
        """As in a connection string."""
        return ",".join(f"127.0.0.1:{self.client_port(i)}" for i in self.ids)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes.values()]

    def client_port(self, server: int) -> int:
        return self.ports[3 * (server - 1)]

    def _dir(self, server: int) -> Path:
        return self.root / str(server)

    def _configure(self) -> None:
        self.ports = free_ports(3 * self.servers)
        ensemble = [f"server.{i}=127.0.0.1:{self.ports[3 * i - 2]}:{self.ports[3 * i - 1]}" for i in self.ids]
        for i in self.ids:
            data = self._dir(i) / "data"
            data.mkdir(parents=True)
            (data / "myid").write_text(str(i))
            settings = [
                *("tickTime=2000", "initLimit=10", "syncLimit=5", "maxClientCnxns=0", "admin.enableServer=false"),
                *(f"dataDir={data}", "clientPortAddress=127.0.0.1", f"clientPort={self.client_port(i)}"),
                "4lw.commands.whitelist=*",
                *(ensemble if self.servers > 1 else ()),
                *self.settings,
            ]
            (self._dir(i) / "zoo.cfg").write_text("\n".join(settings) + "\n")

    def start(self) -> float:
        """Starts all of them, on empty directories unless they ran before; when that began, by `boot_seconds`."""
        if not self.ports:
            self._configure()
        began = boot_seconds()
        for i in self.ids:
            self.start_one(i)
        return began

    def start_one(self, server: int) -> None:
        command = shlex.split(self.command.replace("{cfg}", str(self._dir(server) / "zoo.cfg")))
        with (self._dir(server) / "server.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self._dir(server), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.processes[server] = process

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            end(process)
        self.processes.clear()

    def wipe(self) -> None:
        """Stops all and forgets what they wrote; the next start is a first one."""
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)
        self.ports.clear()

    def leader(self, limit_s: float = 30) -> int:
        """The id of the server that leads (or stands alone)."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            for i in self.ids:
                if self._mode(i) in ("leader", "standalone"):
                    return i
            time.sleep(0.05)
        raise TimeoutError(f"{self.name} has no leader; see {self.root}")

    def _mode(self, server: int) -> str:
        try:
            with socket.create_connection(("127.0.0.1", self.client_port(server)), 2) as s:
                s.sendall(b"srvr")
                text = b"".join(iter(lambda: s.recv(4096), b""))
        except OSError:
            return ""
        modes = [line.partition(b": ")[2] for line in text.splitlines() if line.startswith(b"Mode: ")]
        return modes[0].decode() if modes else ""

    def memory_mb(self) -> list[float]:
        return [resident_mb(pid) for pid in self.pids]


class Echo:
    """The echo floor as three servers that share nothing."""

    def __init__(self, floor: Path, servers: int = 3) -> None:
        command = [str(floor), "echo"]
        self.processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(servers)]
        ports = []
        for process in self.processes:
            assert process.stdout is not None
            ports.append(int(process.stdout.readline()))
        self.hosts = ",".join(f"127.0.0.1:{port}" for port in ports)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def stop(self) -> None:
        for process in self.processes:
            end(process)
            assert process.stdout is not None
            process.stdout.close()
