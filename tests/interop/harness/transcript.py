"""Transcripts: steps with a name and lines, two of them compared, and the differences that are meant.

A transcript is text. A line ``[section: what]`` begins a step, and no two steps have one name; the lines behind it,
indented by two blanks, are what came of it.

A table of differences is text too. Comment lines give the reason, then come the steps that it holds for::

    # A watch event reaches only who may read the node (3.9.2; CVE-2024-23944).
    [watch: hidden] member standalone
    < event B: NodeCreated SyncConnected /x

``<`` is what Apache 3.8.0 said there, ``>`` what zabkit says in its place. Transcripts are named behind the step;
none named means all of them.
"""

import dataclasses
import difflib
import re

_STEP = re.compile(r"^\[(.+)\]$")
_DIFFERENCE = re.compile(r"^\[(.+)\]((?: [\w-]+)*)$")


def parse(text):
    """``{name: [line, ...]}`` in the order of the steps."""
    steps, lines = {}, None
    for line in text.splitlines():
        head = _STEP.match(line)
        if head:
            if head[1] in steps:
                raise ValueError(f"two steps are called {head[1]}")
            lines = steps.setdefault(head[1], [])
        elif lines is None:
            raise ValueError(f"a line before the first step: {line}")
        else:
            lines.append(line.strip())
    return steps


@dataclasses.dataclass
class Difference:
    """One step that rightly differs from the recording."""

    step: str
    transcripts: tuple
    reason: str
    recorded: list = dataclasses.field(default_factory=list)
    actual: list = dataclasses.field(default_factory=list)
    used: bool = False

    def explains(self, transcript, step, recorded, actual):
        if step != self.step or (self.transcripts and transcript not in self.transcripts):
            return False
        gone, come = changed(recorded, actual)
        return gone == self.recorded and come == self.actual


def read_differences(path):
    """The table's entries; empty when there is no such file."""
    entries, reason, fresh = [], "", True
    for number, raw in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        line = raw.rstrip()
        head = _DIFFERENCE.match(line)
        if line.startswith("#"):
            reason = f"{reason} {line[1:].strip()}".strip() if not fresh else line[1:].strip()
            fresh = False
        elif head:
            entries.append(Difference(head[1], tuple(head[2].split()), reason))
            fresh = True
        elif line[:2] in ("< ", "> ") and entries:
            (entries[-1].recorded if line[0] == "<" else entries[-1].actual).append(line[2:])
            fresh = True
        elif line:
            raise ValueError(f"{path}:{number}: neither reason, step nor line")
        else:
            fresh = True
    return entries


def changed(recorded, actual):
    """Lines that are only in the recording, and lines that are only in the other."""
    diff = list(difflib.ndiff(recorded, actual))
    return [line[2:] for line in diff if line[0] == "-"], [line[2:] for line in diff if line[0] == "+"]


@dataclasses.dataclass
class Outcome:
    """What a comparison found; `report` is text for people."""

    passed: int = 0
    failed: int = 0
    meant: int = 0
    report: list = dataclasses.field(default_factory=list)


def compare(name, recorded, actual, differences):
    """Each step of the recording is there, in its place, with the same lines or with a difference that is meant."""
    outcome = Outcome()
    order = [step for step in actual if step in recorded]
    expected = [step for step in recorded if step in actual]
    if order != expected:
        outcome.failed += 1
        outcome.report.append(f"{name}: the steps come in another order")
    for step, lines in recorded.items():
        if step not in actual:
            outcome.failed += 1
            outcome.report.append(f"{name}: [{step}] is missing")
            continue
        if actual[step] == lines:
            outcome.passed += 1
            continue
        meant = next((d for d in differences if d.explains(name, step, lines, actual[step])), None)
        if meant:
            meant.used = True
            outcome.passed += 1
            outcome.meant += 1
            continue
        outcome.failed += 1
        gone, come = changed(lines, actual[step])
        outcome.report.append(f"{name}: [{step}]")
        outcome.report += [f"  < {line}" for line in gone] + [f"  > {line}" for line in come]
    for step in actual:
        if step not in recorded:
            outcome.failed += 1
            outcome.report.append(f"{name}: [{step}] is not in the recording; record again")
    return outcome


def render(steps):
    """The text that `parse` reads."""
    return "".join(f"[{step}]\n" + "".join(f"  {line}\n" for line in lines) for step, lines in steps.items())
