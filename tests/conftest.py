"""What every suite shares: the support folder on the path, the recorded data, minutes per suite."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS))
sys.path.insert(0, str(TESTS.parent))  # the demo package is run from the checkout, not installed

pytest_plugins = ["support.database", "support.servers", "support.skips", "support.workers"]

# how long an example takes says how busy the machine is, not whether the code is right
settings.register_profile("forestall", deadline=None)
settings.load_profile("forestall")

_seconds: dict[str, float] = defaultdict(float)
_counts: dict[str, int] = defaultdict(int)


@pytest.fixture(scope="session")
def recorded_data() -> Path:
    """The folder of recorded data; the test is skipped where there is none."""
    folder = os.environ.get("FORESTALL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("no recorded data: FORESTALL_DATA names no folder")
    return Path(folder)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    parts = Path(report.nodeid.split("::")[0]).parts
    suite = parts[1] if len(parts) > 2 else parts[0]
    _seconds[suite] += report.duration
    _counts[suite] += report.when == "call"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("minutes per suite")
    for suite, seconds in sorted(_seconds.items(), key=lambda item: -item[1]):
        terminalreporter.write_line(f"{suite:<18} {_counts[suite]:>5} tests {seconds / 60:>7.2f} min")
