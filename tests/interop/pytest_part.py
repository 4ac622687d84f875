"""A part that consists of pytest tests: runs them and ends with the line that the driver counts."""

import subprocess
import sys
import xml.etree.ElementTree as ET


def run_pytest(python, arguments, report, *, environment=None, cwd=None):
    """Run pytest and return (passed, failed, skipped); failures are in what pytest prints.

    Args:
        python: The interpreter that has pytest.
        arguments: What to collect, and options.
        report: Path of the JUnit file that is counted; anything but a complete one is one failure.
    """
    report.unlink(missing_ok=True)
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *arguments]
    code = subprocess.run(command, env=environment, cwd=cwd, check=False).returncode
    try:
        suite = ET.parse(report).getroot().find("testsuite")
        tests, skipped = int(suite.get("tests")), int(suite.get("skipped"))
        failed = int(suite.get("failures")) + int(suite.get("errors"))
    except (OSError, ET.ParseError, AttributeError, TypeError):
        print(f"pytest ended with code {code} and left no report")
        return 0, 1, 0
    # An error in a fixture's end is counted beside its test, which may have passed.
    passed = max(tests - failed - skipped, 0)
    return passed, failed or int(code != 0), skipped


def finish(name, passed, failed, skipped):
    """Print the counts and end with the code that goes with them."""
    print(f"{name}: {passed} passed, {failed} failed, {skipped} skipped", flush=True)
    sys.exit(1 if failed else 0)
