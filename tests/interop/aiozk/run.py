"""aiozk 0.32.0, unmodified: calls of our own on three servers, and its own tests on one of their followers.

aiozk asks each server `srvr` before it connects and reads the version and the mode from the answer.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT / "tests" / "interop"), str(ROOT / "tests" / "process")]

from harness.ensemble import Ensemble  # noqa: E402
from pytest_part import finish, run_pytest  # noqa: E402


def prepare(venv):
    """A virtual environment with the pinned versions; asks PyPI the first time, and when they have changed."""
    wanted = (HERE / "requirements.txt").read_text()
    stamp = venv / "requirements.done"
    if not stamp.is_file() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        pip = [venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "-r", HERE / "requirements.txt"], check=True)
        stamp.write_text(wanted)


def main():
    folder = Path(os.environ["INTEROP_DIR"])
    prepare(folder / "venv")
    python = folder / "venv" / "bin" / "python"
    config = ["-c", str(HERE / "pytest.ini"), "--rootdir", str(HERE)]
    ours = run_pytest(python, [*config, str(HERE / "calls.py")], folder / "calls.xml", cwd=folder)

    with Ensemble(3) as ensemble:
        follower = ensemble.start() and ensemble.followers()[0]
        host, port = follower.address
        environment = {**os.environ, "ZK_HOST": host, "ZK_PORT": str(port)}
        arguments = [*config, "--pyargs", "aiozk.test"]
        theirs = run_pytest(python, arguments, folder / "own.xml", environment=environment, cwd=folder)
    finish("aiozk", *(sum(pair) for pair in zip(ours, theirs, strict=True)))


if __name__ == "__main__":
    main()
