"""The programs that measure: the neutral load generator of ../shared/tools, and the floors of `benches/floor.rs`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("SHARED_TOOLS", ROOT.parent / "shared" / "tools"))
WORK = ROOT / "build" / "bench"


def _json_line(command: list[str], limit_s: float) -> dict[str, Any]:
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=limit_s, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout.decode().strip().splitlines()[-1])
    return answer


class WrongAnswers(RuntimeError):
    """Answers were errors, out of order, or never came."""


@dataclass
class Tools:
    """Where the programs are."""

    zkload: Path
    floor: Path

    def load(
        self, hosts: str, pids: list[int], op: str, sessions: int, outstanding: int, seconds: float, warmup: float
    ) -> dict[str, Any]:
        """One run of `zkload load`, 100-byte values; raises if an answer was wrong or out of order."""
        command = [
            *(str(self.zkload), "load", "--hosts", hosts, "--pids", ",".join(map(str, pids)), "--op", op),
            *("--sessions", str(sessions), "--outstanding", str(outstanding), "--size", "100"),
            *("--seconds", str(seconds), "--warmup", str(warmup)),
        ]
        answer = _json_line(command, 120 + seconds + warmup)
        wrong = {key: answer[key] for key in ("errors", "order_errors", "dead_sessions", "setup_errors")}
        if any(wrong.values()):
            raise WrongAnswers(f"zkload {op} {sessions}x{outstanding} at {hosts}: {wrong}")
        return answer

    def fill(self, hosts: str, pids: list[int], count: int) -> dict[str, Any]:
        command = [
            *(str(self.zkload), "fill", "--hosts", hosts, "--pids", ",".join(map(str, pids))),
            *("--count", str(count), "--size", "100"),
        ]
        return _json_line(command, 900)

    def probe(self, hosts: str, since: float, op: str = "write", path: str = "/", everywhere: bool = False) -> float:
        """Milliseconds from `since` to the first success anywhere; with `everywhere` it waits for each server's."""
        command = [
            *(str(self.zkload), "probe", "--hosts", hosts, "--since", str(since), "--op", op, "--path", path),
            *("--timeout", "180", *(("--all", "1") if everywhere else ())),
        ]
        return float(_json_line(command, 240)["first_ms"])

    def failover(self, hosts: str, leader_pid: int, kill_after: float, seconds: float) -> dict[str, Any]:
        """SIGKILL for the leader under ten writers; raises if an acknowledged write is gone, or nobody serves."""
        command = [
            *(str(self.zkload), "failover", "--hosts", hosts, "--kill", str(leader_pid), "--sessions", "10"),
            *("--outstanding", "1", "--seconds", str(seconds), "--kill-after", str(kill_after)),
        ]
        try:
            return _json_line(command, 120)
        except RuntimeError as error:
            raise WrongAnswers(str(error)) from error

    def log_floor(self, where: Path, writers: int, batch: int, seconds: float) -> dict[str, Any]:
        where.mkdir(parents=True, exist_ok=True)
        return _json_line([str(self.floor), "log", str(where), str(writers), str(batch), str(seconds)], 120)


def build() -> Tools:
    """Builds both in `build/bench`. `ZKLOAD` may name a load generator that is built already."""
    WORK.mkdir(parents=True, exist_ok=True)
    floor = WORK / "floor"
    source = ROOT / "benches" / "floor.rs"
    if not floor.exists() or floor.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["rustc", "--edition", "2024", "-O", "-o", str(floor), str(source)], check=True)
    if given := os.environ.get("ZKLOAD"):
        return Tools(Path(given), floor)
    if not (SHARED / "zkload").is_dir():
        sys.exit("benches: no ../shared/tools beside this clone: nothing to measure with")
    # The tools are not ours to write into: built from a copy, with a lock file and target directory of its own.
    copy, target = WORK / "zkload", WORK / "target"
    subprocess.run(["cp", "-rT", str(SHARED / "zkload"), str(copy)], check=True)
    subprocess.run(["chmod", "-R", "u+w", str(copy)], check=True)
    manifest = str(copy / "Cargo.toml")
    command = ["cargo", "build", "--release", "--quiet", "--manifest-path", manifest, "--target-dir", str(target)]
    subprocess.run(command, check=True)
    return Tools(target / "release" / "zkload", floor)


def zabkit_command() -> str:
    """`ZABKIT_BIN`, or the command that pip installed beside this Python."""
    given = os.environ.get("ZABKIT_BIN", str(Path(sys.executable).with_name("zabkit")))
    if shutil.which(given) is None:
        sys.exit(f"benches: {given} is not there: `make build` first")
    return f"{given} server {{cfg}}"


def apache_command() -> str | None:
    """Debian's ZooKeeper; `None`: it is not installed."""
    if shutil.which("java") is None or not Path("/usr/share/java/zookeeper.jar").exists():
        return None
    done = subprocess.run([str(SHARED / "peers" / "zk-cmd"), "3.8"], stdout=subprocess.PIPE, check=True, text=True)
    return done.stdout.strip()
