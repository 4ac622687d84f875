"""The clients' tables: client CPU for one request, requests a second, and the marks."""

from __future__ import annotations

from figures.report import cell, ratio
from figures.results import Results

from .styles import GATHER, ONE, OPS, STYLES, THOUSAND

TITLES = {
    "kazoo": "kazoo",
    "aiozk": "aiozk",
    "pure": "pure Python (5p)",
    "zabkit": "zabkit, coroutines",
    "zabkit.nowait": "zabkit, `nowait`",
}


def row_key(op: str, style: str) -> str:
    return f"{op}, {style}"


def tables(results: Results) -> str:
    """For each operation client CPU, then requests a second."""
    heads = f"| | {' | '.join(STYLES)} |\n|---|{'---|' * len(STYLES)}"
    parts = []
    for op in OPS:
        for metric, unit, title in (("cpu_us", "us", "client CPU for one request"), ("ops", "n", "requests a second")):
            lines = [
                f"| {TITLES[client]} | "
                + " | ".join(cell(results.spread(row_key(op, style), client, metric), unit) for style in STYLES)
                + " |"
                for client in TITLES
            ]
            parts.append("\n".join([f"`{op}`, {title}:", "", heads, *lines]))
    return "\n\n".join([*parts, marks(results)])


def marks(results: Results) -> str:
    """Each mark, and what was reached. CPU of `get` and `set`, medians."""
    wanted = (
        ("zabkit", "kazoo", ONE, 1 / 4),
        ("zabkit", "kazoo", THOUSAND, 1 / 15),
        ("zabkit", "kazoo", GATHER, 1 / 15),
        ("zabkit.nowait", "kazoo", GATHER, 1 / 15),
        ("zabkit", "pure", ONE, 1.0),
        ("zabkit.nowait", "pure", ONE, 1.0),
        ("zabkit.nowait", "pure", THOUSAND, 3 / 4),
        ("zabkit.nowait", "pure", GATHER, 3 / 4),
    )
    lines = ["| CPU of | beside | | mark | get | set | |", "|---|---|---|---|---|---|---|"]
    for client, other, style, share in wanted:
        shares = []
        for op in OPS:
            ours = results.spread(row_key(op, style), client, "cpu_us")
            theirs = results.spread(row_key(op, style), other, "cpu_us")
            shares.append(None if ours is None or theirs is None else (ours.median, theirs.median))
        cells = ["–" if pair is None else f"{ratio(*pair)} ({pair[0] / pair[1]:.2f})" for pair in shares]
        missed = [op for op, pair in zip(OPS, shares, strict=True) if pair is not None and pair[0] > share * pair[1]]
        met = f"**not met** by {' and '.join(missed)}" if missed else "met" if any(shares) else "?"
        mark = f"≤ {share:.2g}" if share > 1 / 4 else f"≤ 1/{1 / share:.0f}"
        lines.append(f"| {TITLES[client]} | {TITLES[other]} | {style} | {mark} | {cells[0]} | {cells[1]} | {met} |")
    return "\n".join(lines)
