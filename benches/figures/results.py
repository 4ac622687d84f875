"""Samples of a run, one JSON line each, so that a report can be written again and rows be measured again alone."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """What one peer did in one round of one row."""

    row: str
    peer: str
    values: dict[str, float]
    at: str
    """Local time, minutes."""
    others: float = 0.0
    """Cores that neither the servers nor the load generator used meanwhile: the noise. 0 where nobody looked."""


@dataclass(frozen=True)
class Spread:
    """The median of several rounds, and their range."""

    median: float
    low: float
    high: float
    count: int


class Results:
    """All samples, kept in a file from the first on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.samples: list[Sample] = []
        if path.exists():
            self.samples = [Sample(**json.loads(line)) for line in path.read_text().splitlines()]

    def forget(self, rows: Iterable[str]) -> None:
        """Drops the samples of rows that are measured anew."""
        gone = set(rows)
        self.samples = [sample for sample in self.samples if sample.row not in gone]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(json.dumps(asdict(sample)) + "\n" for sample in self.samples))

    def add(self, sample: Sample) -> None:
        self.samples.append(sample)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(sample)) + "\n")
        values = " ".join(f"{name}={value:g}" for name, value in sample.values.items())
        print(f"{sample.at} {sample.row:14} {sample.peer:12} {values} others={sample.others:g}", flush=True)

    def of(self, row: str, peer: str, metric: str) -> list[float]:
        return [s.values[metric] for s in self.samples if s.row == row and s.peer == peer and metric in s.values]

    def spread(self, row: str, peer: str, metric: str) -> Spread | None:
        values = self.of(row, peer, metric)
        return spread(values) if values else None


def spread(values: list[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values), len(values))
