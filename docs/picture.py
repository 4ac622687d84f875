"""Draws ``docs/first.svg``: what ``examples/first.py`` really prints. ``python docs/picture.py``."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
COLUMNS, LINE, MARGIN = 84, 20, 16


def main() -> None:
    """Runs the example and writes the picture."""
    example = ROOT / "examples" / "first.py"
    printed = subprocess.run([sys.executable, example], capture_output=True, text=True, timeout=60, check=True).stdout
    lines = [("#7ee787", "$ python examples/first.py")]
    lines += [("#e6edf3", part) for line in printed.splitlines() for part in textwrap.wrap(line, COLUMNS)]
    width, height = round(COLUMNS * 8.45) + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    text = "".join(
        f'<text x="{MARGIN}" y="{MARGIN + LINE * row + 14}" fill="{colour}">{escape(line, quote=False)}</text>\n'
        for row, (colour, line) in enumerate(lines)
    )
    (ROOT / "docs" / "first.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"\n'
        f'     font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14">\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>\n{text}</svg>\n'
    )


if __name__ == "__main__":
    main()
