"""How the suites share the machine: how many workers (pytest-xdist) there are, and which file is begun first.

A file belongs to one worker, so its fixtures are made once. Each worker is a process with a database server, ports
and folders of its own (:mod:`support.database`). Most of the time tests wait, for a server to start or for a story's
clock, so there are more workers than cores.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before numpy is read: a worker is one of several and has a core at most
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

FEW_FILES = 16
"""With fewer files than these the tests run in this process: starting workers would take longer than it saves."""
WORKERS_PER_CORE = 2
MOST_WORKERS = 8

FIRST = (
    "tests/e2e/test_demo_stories.py",
    "tests/e2e/test_bad_input.py",
    "tests/simulation",
    "tests/browser",
    "tests/models",
    "tests/integration",
    "tests/contract",
)
"""Begun in this order, everything else after them: what takes minutes must not be begun when all else is done."""

LAST = ("tests/models/test_rul_engines.py",)
"""Begun when the stacks of processes are down: what is given a fixed time to start there."""

IN_TURN = ("tests/e2e/", "tests/simulation/")
"""They play whole stacks of some fifteen processes, the demo's file two at once. One worker plays them one after the
other: more stacks at once would make every story late on two cores."""

SPREAD = ("tests/integration/test_resolution_crashes.py",)
"""Files whose tests share nothing but the fixtures' servers: the workers share such a file."""


def worker_count(arguments: list[str]) -> int:
    """Workers for the files and folders named on the command line; 0 runs the tests in this process."""
    paths = {Path(argument.partition("::")[0]) for argument in arguments}
    files = {file for path in paths for file in (path.rglob("test_*.py") if path.is_dir() else [path])}
    return 0 if len(files) < FEW_FILES else min(WORKERS_PER_CORE * (os.cpu_count() or 1), MOST_WORKERS)


def rank(test: str) -> int:
    """The place of a test's file in the order in which files are begun; the lowest is begun first."""
    if test.startswith(LAST):
        return len(FIRST) + 1
    return next((place for place, first in enumerate(FIRST) if test.startswith(first)), len(FIRST))


def unit_of(test: str) -> str:
    """What is handed to one worker as a whole: mostly the test's file."""
    file = test.partition("::")[0]
    if file in SPREAD:
        return test
    return " and ".join(IN_TURN) if test.startswith(IN_TURN) else file


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """What ``--numprocesses auto`` means here."""
    return worker_count(config.args)


@pytest.hookimpl(trylast=True)  # after the order was made random, which stays so within a rank
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    places = {path: place for place, path in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(key=lambda item: (places[item.path], item.get_closest_marker("last") is not None))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: rank(item.nodeid))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test logged or printed can be sent by a worker also when it holds half a character."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object | None:
    """``--dist loadfile``, but in the order of the collection and with the units of :func:`unit_of`."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByRank(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    config.option.loadscopereorder = False  # else the file with the most tests is begun first, not the longest
    return ByRank(config, log)
