"""Apache's servers and tools on zabkit's files, and the other way round (`tests/process/test_disk_interop.py`)."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "interop"))

from pytest_part import finish, run_pytest  # noqa: E402

report = Path(os.environ["INTEROP_DIR"]) / "report.xml"
finish("disk", *run_pytest(sys.executable, ["tests/process", "-k", "interop"], report, cwd=ROOT))
