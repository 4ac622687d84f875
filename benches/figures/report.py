"""Writes the generated parts of docs/performance.md, each between its two markers."""

from __future__ import annotations

from pathlib import Path

from .results import Results, Spread
from .rows import ROWS, Metric, Row

PEERS = ("zabkit", "apache", "floor")


def number(value: float, unit: str) -> str:
    """A figure as one reads it, without its unit: two or three digits that mean something."""
    if unit == "us":
        return f"{value:.3g} µs" if value < 1000 else f"{value / 1000:.3g} ms"
    text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return text if unit in ("n", "s") else f"{text} {unit}"


def cell(spread: Spread | None, unit: str) -> str:
    if spread is None:
        return "–"
    if spread.count == 1:
        return number(spread.median, unit)
    return f"**{number(spread.median, unit)}** ({number(spread.low, unit)} to {number(spread.high, unit)})"


def ratio(ours: float, theirs: float) -> str:
    """`1/4` where less is used, `2×` where more is."""
    if ours <= 0 or theirs <= 0:
        return "–"
    share = max(ours / theirs, theirs / ours)
    text = f"{share:.0f}" if share >= 10 else f"{share:.2g}"
    return f"{text}×" if ours >= theirs else f"1/{text}"


def mark_text(metric: Metric) -> str:
    if metric.mark is None:
        return ""
    if metric.mark.share is not None:
        return f"≤ 1/{1 / metric.mark.share:.2g}"
    assert metric.mark.limit is not None
    return f"≤ {number(metric.mark.limit, metric.unit)}"


def verdict(metric: Metric, ours: float, apache: float | None) -> str:
    """Whether the mark is met; for one that is a figure of the reference machine, how."""
    mark = metric.mark
    if mark is None:
        return ""
    if mark.share is not None:
        if apache is None:
            return "?"
        return "met" if ours <= mark.share * apache else "**not met**"
    assert mark.limit is not None
    if ours <= mark.limit:
        return "met"
    if apache is not None and mark.apache_then is not None and ours / apache <= mark.limit / mark.apache_then:
        return "met as a share of Apache's"
    return "**not met**"


def _line(results: Results, row: Row, metric: Metric, title: str) -> str:
    spreads = {peer: results.spread(row.key, peer, metric.name) for peer in PEERS}

    def figure(peer: str) -> float | None:
        spread = spreads[peer]
        return None if spread is None else spread.high if metric.use_max else spread.median

    if metric.use_max:
        cells = ["–" if (value := figure(peer)) is None else number(value, metric.unit) for peer in PEERS]
    else:
        cells = [cell(spreads[peer], metric.unit) for peer in PEERS]
    if row.spike and spreads["floor"] is None:
        cells[2] = f"({row.spike})"
    ours, apache, floor = (figure(peer) for peer in PEERS)
    to_apache = "–" if ours is None or apache is None else ratio(ours, apache)
    to_floor = "–" if ours is None or floor is None else ratio(ours, floor)
    met = ("not measured" if metric.mark else "") if ours is None else verdict(metric, ours, apache)
    return (
        f"| {title} | {metric.title} | {' | '.join(cells)} | {to_apache} | {to_floor} | {mark_text(metric)} | {met} |"
    )


def table(results: Results) -> str:
    lines = [
        "| row | | zabkit | Apache 3.8.0 | floor | of Apache's | of the floor | mark | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        for n, metric in enumerate(row.metrics):
            lines.append(_line(results, row, metric, row.title if n == 0 else ""))
    return "\n".join(lines)


def when(results: Results, row_keys: set[str]) -> str:
    """What there is to say of the runs: when, how many rounds, how much else the machine did."""
    samples = [sample for sample in results.samples if sample.row in row_keys]
    if not samples:
        return "Nothing is measured yet."
    times = sorted(sample.at for sample in samples)
    noise = [sample.others for sample in samples if sample.others > 0]
    counts: dict[tuple[str, str], int] = {}
    for sample in samples:
        counts[sample.row, sample.peer] = counts.get((sample.row, sample.peer), 0) + 1
    rounds = sorted(counts.values())
    quiet = f"; others used {min(noise):.2g} to {max(noise):.2g} cores meanwhile" if noise else ""
    each = f"{rounds[0]}" if rounds[0] == rounds[-1] else f"{rounds[0]} to {rounds[-1]}"
    return f"Measured from {times[0]} to {times[-1]}, {each} rounds a row{quiet}."


def repeated(results: Results) -> str:
    """Runs whose answers were errors, lost, or never came."""
    runs = [sample for sample in results.samples if "wrong" in sample.values]
    told = [f"{sample.peer}, {sample.row}, {sample.at}" for sample in runs]
    if not told:
        return ""
    return f"Made again, or not counted, since an answer was an error, was lost or never came: {'; '.join(told)}."


def write_part(path: Path, name: str, text: str) -> None:
    """Replaces what stands between the markers of this part."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = path.read_text()
    head, found, rest = page.partition(begin)
    _, also_found, tail = rest.partition(end)
    if not found or not also_found:
        raise ValueError(f"{path} has no part {name}: the lines `{begin}` and `{end}` are missing")
    path.write_text(f"{head}{begin}\n{text.strip()}\n{end}{tail}")
