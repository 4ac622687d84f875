"""The rows of the design's table "How fast", and their marks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """What is asked for first: a share of Apache's figure of the same run, or a figure of the reference machine.

    A limit in milliseconds or MB was set beside Apache's figure on the quiet reference machine (`apache_then`). Where
    this run's machine is slower or faster, Apache's figure moves with it; so such a mark counts as met too when the
    share of Apache's figure is what the limit was a share of then.
    """

    share: float | None = None
    limit: float | None = None
    apache_then: float | None = None


@dataclass(frozen=True)
class Metric:
    """One line of a row."""

    name: str
    title: str
    unit: str
    mark: Mark | None = None
    more_is_better: bool = False
    use_max: bool = False
    """The mark speaks of the largest value, not of the median."""


@dataclass(frozen=True)
class Load:
    """What the load generator does for a row."""

    op: str
    sessions: int
    outstanding: int
    warmup: float = 1.0


@dataclass(frozen=True)
class Row:
    key: str
    title: str
    metrics: tuple[Metric, ...]
    load: Load | None = None
    spike: str = ""
    """The floor that a bare spike reached on the reference machine, where this run measures none."""


def _cpu(divisor: float) -> Metric:
    return Metric("cpu", "CPU s/100k", "s", Mark(share=1 / divisor))


def _rate() -> Metric:
    return Metric("ops", "ops/s", "n", more_is_better=True)


def _latency(name: str, mark: Mark | None = None) -> Metric:
    return Metric(name, name, "us", mark)


def _crowd(key: str, title: str, op: str, divisor: float) -> Row:
    metrics = (_cpu(divisor), _rate(), _latency("p50"), _latency("p99"))
    return Row(key, f"{title}, crowd", metrics, Load(op, 30, 100))


ROWS = (
    _crowd("get-crowd", "get", "get", 15),
    _crowd("set-crowd", "set", "set", 8),
    _crowd("create-crowd", "create", "create", 5),
    _crowd("mixed-crowd", "mixed, 70 % reads", "mixed:0.7", 8),
    Row("get-30", "get, 30 × 1", (_cpu(3), _rate(), _latency("p50"), _latency("p99")), Load("get", 30, 1)),
    Row(
        "set-30",
        "set, 30 × 1",
        (_cpu(2.5), _rate(), _latency("p50", Mark(share=1 / 2)), _latency("p99", Mark(share=1 / 3))),
        Load("set", 30, 1),
    ),
    Row(
        "get-alone",
        "get alone",
        (_cpu(2.5), _rate(), _latency("p50", Mark(limit=80, apache_then=123)), _latency("p99")),
        Load("get", 1, 1),
    ),
    Row(
        "set-alone",
        "set alone",
        (
            _cpu(1.3),
            _rate(),
            _latency("p50", Mark(limit=420, apache_then=551)),
            _latency("p99", Mark(limit=700, apache_then=772)),
        ),
        Load("set", 1, 1),
    ),
    Row(
        "failover",
        "leader `kill -9` to next acknowledged write",
        (
            Metric("ms", "p50", "ms", Mark(limit=150, apache_then=408)),
            Metric("ms", "max", "ms", Mark(limit=300, apache_then=636), use_max=True),
        ),
    ),
    Row(
        "start",
        "three servers, process start to first acknowledged write",
        (Metric("ms", "time", "ms", Mark(limit=300, apache_then=1230)),),
        spike="9–21 ms, without log and election",
    ),
    Row(
        "idle",
        "resident memory, idle server",
        (Metric("mb", "each server", "MB", Mark(limit=15, apache_then=74)),),
        spike="3 MB",
    ),
    Row(
        "million",
        "resident memory, 1,000,000 znodes of 100 bytes",
        (Metric("mb", "each server", "MB", Mark(limit=350, apache_then=1089)),),
        spike="211–235 MB",
    ),
    Row(
        "restart",
        "restart with those, to first read",
        (Metric("ms", "time", "ms", Mark(limit=1500, apache_then=5200)),),
        spike="240 ms, one server alone",
    ),
)
BY_KEY = {row.key: row for row in ROWS}
PYTHON_ROWS = ("ensemble",)
"""Measured with the Python package: fifty starts of `Ensemble(3)`. The clients' rows are `python_clients.py`'s."""
