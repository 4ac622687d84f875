"""The build backend: maturin's, plus the native `zabkit` command in the same wheel.

maturin packs one kind of target per wheel, and the command must be built *without* the feature `python` (it must
not link libpython, and no Python process stands around a server). So each wheel hook first builds the command with
cargo and lays it where maturin looks for the wheel's data files (`tool.maturin.data` in pyproject.toml); maturin
then packs it as `zabkit-*.data/scripts/zabkit`, keeps its mode and records it, and pip installs it to `bin/`.

Both builds share cargo's target directory, so that a second build is quick. The alternative, two distributions,
would let their versions drift apart.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import maturin
from maturin import (
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

# maturin's own is an alias of the wheel's; older releases name it differently.
prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "build" / "wheel-data" / "scripts"

# maturin refuses even to write metadata while the data folder is missing, so every hook needs it.
SCRIPTS.mkdir(parents=True, exist_ok=True)


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """PEP 517: the wheel with extension and command."""
    _lay_command()
    return str(maturin.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """PEP 660: as `build_wheel`, with the Python files left in place; the build of `make`."""
    _lay_command()
    return str(maturin.build_editable(wheel_directory, config_settings, metadata_directory))


def _lay_command() -> None:
    """Builds the native command and puts it where maturin packs the wheel's scripts from."""
    executable = _build_command()
    shutil.rmtree(SCRIPTS, ignore_errors=True)
    SCRIPTS.mkdir(parents=True)
    shutil.copy2(executable, SCRIPTS / "zabkit")
    (SCRIPTS / "zabkit").chmod(0o755)


def _build_command() -> Path:
    """Runs cargo for the binary alone; its own messages say where the file is, whatever the target directory."""
    cargo = os.environ.get("CARGO", "cargo")
    if shutil.which(cargo) is None:
        sys.exit("zabkit is built from Rust source: `cargo` is not in PATH (rustup.rs, or your distribution)")
    command = [cargo, "build", "--release", "--locked", "--bin", "zabkit"]
    command += ["--manifest-path", str(ROOT / "Cargo.toml"), "--message-format", "json-render-diagnostics"]
    print("zabkit:", " ".join(command), flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"zabkit: cargo could not build the command (exit code {done.returncode})")
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message.get("executable"):
            return Path(message["executable"])
    sys.exit("zabkit: cargo built no executable named `zabkit`")
