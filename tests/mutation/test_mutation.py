"""The tool behind ``make mutate``: what it changes, what it leaves alone, and that it tells killed from survived."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.cores import CORES, EQUIVALENTS, ROOT, equivalents, sources
from tests.mutation.mutants import mutants_of

SOURCE = '''
"""A module. It has text, which is prose."""
from __future__ import annotations
import logging
from enum import Enum

log = logging.getLogger(__name__)
__all__ = ["Colour", "shade"]
Key = tuple[str, int]

class Colour(Enum):
    RED = "red"
    BLUE = "blue"

NEXT = {Colour.RED: 1, Colour.BLUE: 2}
BRIGHT = frozenset((Colour.RED, Colour.BLUE))
QUERY = "SELECT id FROM t WHERE status = 0 AND id > ? ORDER BY id DESC"

def shade(colour: Colour, depth: int | None = 5) -> int:
    """Prose again."""
    log.warning("so %s", colour)
    if depth is None or depth < 0:
        raise ValueError("reason", f"a depth of {depth} is none")
    for _ in range(depth):
        depth -= 1
    return min(NEXT[colour], depth)
'''


@pytest.fixture
def changes(tmp_path: Path) -> list[str]:
    file = tmp_path / "module.py"
    file.write_text(SOURCE)
    found = mutants_of("module", file)
    clean = compile(SOURCE, str(file), "exec")
    for mutant in found:
        assert mutant.compiled() != clean
    assert [mutant.change for mutant in mutants_of("module", file)] == [mutant.change for mutant in found]
    return [f"{mutant.line} {mutant.scope}: {mutant.change}" for mutant in found]


@pytest.mark.parametrize(
    "change",
    [
        "12 Colour: 'red' -> 'red~' in RED = 'red'",
        "15 : row Colour.RED: 1 -> removed",
        "15 : row Colour.RED: 1 -> 2",
        "15 : Colour.RED -> Colour.BLUE",
        "16 : element Colour.BLUE -> removed",
        "17 : 'SELECT id FROM t WHERE status = 0 AND id > ? ORDER BY id DESC' -> "
        "'SELECT id FROM t WHERE status = 1 AND id > ? ORDER BY id DESC'",
        "19 shade: 5 -> 6 in depth",
        "22 shade: if depth is None or depth < 0 -> never",
        "22 shade: depth < 0 -> depth <= 0",
        "22 shade: depth is None or depth < 0 -> depth < 0",
        "23 shade: raise ValueError('reason', f'a depth of {depth} is none') -> removed",
        "23 shade: 'reason' -> 'reason~' in ValueError('reason', f'a depth of {depth} is none')",
        "24 shade: for ... in range(depth) -> in nothing",
        "25 shade: depth -= 1 -> depth += 1",
        "26 shade: return min(NEXT[colour], depth) -> return None",
        "26 shade: min(NEXT[colour], depth) -> max(NEXT[colour], depth)",
    ],
)
def test_a_fault_that_tests_ought_to_notice_is_made(changes: list[str], change: str) -> None:
    assert change in changes


def test_what_nobody_can_notice_is_left_alone(changes: list[str]) -> None:
    allowed = ("23 shade: raise", "23 shade: 'reason'", "19 shade: 5")
    for words in ("rose", "getLogger", "so %s", "__all__", "'Colour'", "tuple[", "int | None", "another text"):
        assert [change for change in changes if words in change and not change.startswith(allowed)] == []


SUBJECT = """
def grown(height, limit):
    while height < limit:
        height += 1
    return height
"""
SCRIPT = """
import json
from pathlib import Path
from tests.mutation import runner
from tests.mutation.mutants import mutants_of
runner.CPU_FACTOR, runner.CPU_MORE_S = 2.0, 1.0
folder = Path({folder!r})
tests = [str(folder / "test_subject.py")]
clean = runner.prepare(["subject"], tests)
found = mutants_of("subject", folder / "subject.py")
print(json.dumps({{each.mutant.change: each.how for each in runner.outcomes(found, tests, clean, 2)}}))
"""


def run(folder: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "subject.py").write_text(SUBJECT)
    path = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "PYTHONDONTWRITEBYTECODE": "1"}
    script = [sys.executable, "-c", before + SCRIPT.format(folder=str(folder))]
    return subprocess.run(script, env=path, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_mutant_is_killed_by_a_failure_or_a_hang_and_survives_what_does_not_look(tmp_path: Path) -> None:
    (tmp_path / "test_subject.py").write_text("import subject\ndef test():\n    assert subject.grown(1, 3) == 3\n")
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert outcomes["return height -> return None"] == "failed"
    assert outcomes["height += 1 -> height -= 1"] == "hung"
    assert outcomes["1 -> 2 in height += 1"] == "survived"  # from 1 to 3 in one step
    assert (tmp_path / "subject.py").read_text() == SUBJECT


def test_tests_that_fail_by_themselves_measure_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_subject.py").write_text("import subject\ndef test():\n    assert subject.grown(1, 3) == 4\n")
    done = run(tmp_path)
    assert done.returncode != 0 and "the tests fail without any mutant" in done.stderr


def test_a_module_that_is_loaded_already_measures_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_subject.py").write_text("import subject\ndef test():\n    assert subject.grown(1, 3) == 3\n")
    done = run(tmp_path, "import subject\n")
    assert done.returncode != 0 and "no mutant would stand in for what is imported already: subject" in done.stderr


def test_cores_are_measured_with_their_own_tests_and_what_they_share() -> None:
    """The suites' own configuration is read, and does not stand in the way of forked tests.

    The first core's tests import the second core too: its mutants are killed all the same.
    """
    cores = ("fleet_server.resolution.states", "fleet_server.resolution.case")
    options = [word for core in cores for word in ("--module", core)]
    command = [sys.executable, "-m", "tests.mutation", *options, "--sample", "4", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode in (0, 1), done.stderr  # how many are killed, is not the tool's business
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(report["module"], report["mutants"], report["broken"]) for report in reports] == [
        (core, 4, 0) for core in cores
    ]
    for report in reports:
        assert report["killed"] > 0 and report["share"] == report["killed"] / 4
        assert len(report["survived"]) == 4 - report["killed"]


def test_every_core_stands_where_the_table_says() -> None:
    for core, tests in CORES.items():
        assert all(path.is_file() for _, path in sources(core)), core
        assert all((ROOT / test).is_file() for test in tests), core


def test_every_listed_equivalent_is_a_mutant_and_says_why() -> None:
    found = {
        (mutant.module, mutant.scope, mutant.change)
        for core in CORES
        for module, path in sources(core)
        for mutant in mutants_of(module, path)
    }
    assert sorted(equivalents() - found) == []
    assert all(each.reason for each in EQUIVALENTS)
