"""The comparison of transcripts (`tests/interop/harness`) notices what it is there for."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop" / "harness"))

import transcript

RECORDED = """\
[data: set]
  -> {version 1}
[data: get]
  -> 'x'
  event A: changed /a
"""


def compared(actual, differences=()):
    return transcript.compare("member", transcript.parse(RECORDED), transcript.parse(actual), differences)


def entries(tmp_path, text):
    path = tmp_path / "differences.txt"
    path.write_text(text)
    return transcript.read_differences(path)


def test_what_is_the_same_passes():
    outcome = compared(RECORDED)
    assert (outcome.passed, outcome.failed, outcome.meant) == (2, 0, 0)


@pytest.mark.parametrize(
    "actual",
    [
        RECORDED.replace("version 1", "version 2"),
        RECORDED.replace("  event A: changed /a\n", ""),
        RECORDED + "  event A: changed /a\n",
        RECORDED + "[data: more]\n  -> null\n",
        "[data: set]\n  -> {version 1}\n",
        "[data: get]\n  -> 'x'\n  event A: changed /a\n[data: set]\n  -> {version 1}\n",
    ],
    ids=["a value", "an event is missing", "an event twice", "a step too many", "a step too few", "another order"],
)
def test_each_deviation_fails(actual):
    assert compared(actual).failed == 1


def test_a_difference_holds_for_its_step_its_transcript_and_its_text_alone(tmp_path):
    table = "# Because 3.9 says so.\n[data: set] {}\n< -> {{version 1}}\n> -> {{version 2}}\n"
    actual = RECORDED.replace("version 1", "version 2")
    meant = entries(tmp_path, table.format("member"))
    outcome = compared(actual, meant)
    assert (outcome.passed, outcome.failed, outcome.meant) == (2, 0, 1)
    assert meant[0].used
    assert meant[0].reason == "Because 3.9 says so."
    assert compared(RECORDED.replace("version 1", "version 3"), entries(tmp_path, table.format(""))).failed == 1
    assert compared(actual, entries(tmp_path, table.format("standalone"))).failed == 1
    assert compared(actual, entries(tmp_path, table.replace("set]", "get]").format(""))).failed == 1


def test_two_steps_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two steps"):
        transcript.parse("[a]\n[a]\n")


def test_the_text_that_is_recorded_is_the_text_that_is_read():
    assert transcript.render(transcript.parse(RECORDED)) == RECORDED
