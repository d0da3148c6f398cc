"""A test that is skipped proves nothing. On a developer's machine it says so; in CI it fails.

CI is a run with ``CI`` set, as ``.ci/run`` and every CI service do. One skip is allowed there: a test marked ``data``
where ``FORESTALL_DATA`` is not set, because the recordings are not part of the repository. Where it is set, the
recordings must be whole.
"""

from __future__ import annotations

import os

import pytest

_NOT_IN_CI = "skipped, which is a failure in CI (see tests/support/skips.py): "


def skip_is_allowed(*, needs_data: bool) -> bool:
    """Whether a test may be skipped in this environment; ``needs_data`` tells of the marker ``data``."""
    return not os.environ.get("CI") or (needs_data and not os.environ.get("FORESTALL_DATA"))


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a test or a file was skipped."""
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):  # a generator of pluggy's
    report = yield
    if report.skipped and not skip_is_allowed(needs_data=item.get_closest_marker("data") is not None):
        report.outcome, report.longrepr = "failed", _NOT_IN_CI + reason_of(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():  # a generator of pluggy's
    """A file that skips itself when it is read has lost all its tests."""
    report = yield
    if report.skipped and not skip_is_allowed(needs_data=False):
        report.outcome, report.longrepr = "failed", _NOT_IN_CI + reason_of(report)
    return report
