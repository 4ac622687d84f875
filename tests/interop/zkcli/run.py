"""A session of zkCli.sh from Debian's zookeeper package; see ../harness/part.py for the words of the command.

`session.txt` is typed in, a command at a time: the next one goes when the answer to a command that every zkCli.sh
refuses alike is there, and the events that the line promises. Calls with a command as arguments follow.
"""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "harness"))

import part  # noqa: E402
from harness.until import NotInTime, wait_until  # noqa: E402

CLI = Path(os.environ.get("ZKCLI", "/usr/share/zookeeper/bin/zkCli.sh"))
#: Refused by the client itself, whether it has a server or not.
MARK, ANSWER = "redo 999999", "Command index out of range"
FLAGS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
AT_ONCE = ("ls /cli", "get /none", "create /once x")


class Cli:
    """A running zkCli.sh and all that it says."""

    def __init__(self, host):
        self.said, self._new = [], threading.Lock()
        self.process = subprocess.Popen(
            [*part.GUARD, str(CLI), "-server", host],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "CLIENT_JVMFLAGS": FLAGS},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._new:
                self.said.append(line.rstrip("\n"))

    def type(self, command):
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def take(self, whole):
        """All lines, once ``whole(lines)`` holds."""

        def lines():
            with self._new:
                if whole(self.said):
                    taken, self.said = self.said, []
                    return [*taken, ""]
            return None

        return wait_until(lines, "zkCli.sh answers", 30.0, lambda: "\n".join(self.said))

    def end(self):
        """Closes its input; its exit code."""
        self.process.stdin.close()
        code = self.process.wait(30)
        self._reader.join()
        return code


def events(lines):
    return [line for line in lines if line.startswith("WatchedEvent")]


class Mask:
    """Zxids as distances from the first node's, times and sessions without their values, no ports."""

    def __init__(self):
        self.base = None

    def line(self, line):
        stat = re.fullmatch(r"([cmp]Zxid) = 0x([0-9a-f]+)", line)
        if stat:
            zxid = int(stat[2], 16)
            if self.base is None and stat[1] == "cZxid":
                self.base = zxid
            if zxid:
                line = f"{stat[1]} = " + (f"z+{zxid - self.base}" if zxid >= self.base else "old")
        line = re.sub(r"^([cm]time) = (?!.* 1970$).*", r"\1 = T", line)
        line = re.sub(r"^(ephemeralOwner) = 0x[0-9a-f]{2,}$", r"\1 = a session", line)
        line = re.sub(r"(127\.0\.0\.1)(:\d+)+", r"\1:PORT", line)
        return re.sub(r"\(CONNECTED\)|log4j.*", "", line).rstrip()

    def step(self, name, lines):
        """A step's text: what was answered, then the events, which come when they come."""
        drop = ("SLF4J", "WATCHER::", ANSWER, "WatchedEvent", "Connecting to")
        answer = [self.line(line) for line in lines if line and not line.startswith(drop)]
        if name.endswith("whoami"):
            answer[1:] = sorted(answer[1:])  # A connection's ids have no order.
        answer += [f"event {line}" for line in events(lines)]
        return f"[{name}]\n" + "".join(f"  {line}\n" for line in answer)


def make(setting, ensemble, folder):
    """Type the session, then make the calls."""
    part.need(CLI, "zookeeper")
    host = f"127.0.0.1:{part.talks_to(ensemble)[0]}"
    mask, text, failures = Mask(), [], []
    cli = Cli(host)
    try:
        lines = cli.take(lambda lines: len(events(lines)) == 1 and "JLine support is disabled" in lines)
        text.append(mask.step("zkCli.sh", lines))
        commands = [line for line in (HERE / "session.txt").read_text().splitlines() if line and line[0] != "#"]
        for number, command in enumerate(commands, 1):
            promised = re.match(r"!(\d) ", command)
            count = int(promised[1]) if promised else 0
            typed = (command[3:] if promised else command).format(host=host)
            cli.type(typed)
            cli.type(MARK)
            name = f"{number} {mask.line(typed)}"
            try:
                lines = cli.take(lambda lines, n=count: any(ANSWER in x for x in lines) and len(events(lines)) >= n)
            except NotInTime:
                with cli._new:
                    lines, cli.said = [*cli.said, "and no more within 30 s"], []
            text.append(mask.step(name, lines))
        cli.type("quit")
        code = cli.end()
        text.append(f"[quit]\n  exit code {code}\n")
    finally:
        cli.process.kill()
        cli.process.wait()
    for command in AT_ONCE:
        words = [str(CLI), "-server", host, *command.split()]
        said, code = part.run_program(words, env={**os.environ, "CLIENT_JVMFLAGS": FLAGS})
        text.append(mask.step(f"zkCli.sh {command}", said.splitlines()) + f"  exit code {code}\n")
    return "".join(text), failures


part.main("zkcli", HERE, [part.STANDALONE, part.MEMBER], make)
