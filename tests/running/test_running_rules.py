"""The rules the suites are run by hold: no skip in CI, workers for many files only, every file in a known place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.workers import FIRST, IN_TURN, SPREAD, rank, unit_of, worker_count

TESTS = Path(__file__).resolve().parents[1]
BARE = {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
SKIPPING = """
import pytest

def test_passes(): pass

def test_skips(): pytest.skip("no broker")

@pytest.mark.data
def test_without_data(): pytest.skip("no recordings")
"""


def outcomes(folder: Path, text: str, **environment: str) -> tuple[int, str]:
    """Run a file of tests as the suites are run; returns the exit code and what was printed."""
    (folder / "test_some.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = data: needs recordings\n")
    argv = [sys.executable, "-m", "pytest", "-ra", "-p", "support.skips", "-p", "no:cacheprovider", "test_some.py"]
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "FORESTALL_DATA")}
    done = subprocess.run(argv, cwd=folder, env={**kept, **BARE, **environment}, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_on_a_developers_machine_a_skip_is_a_skip(tmp_path: Path) -> None:
    code, said = outcomes(tmp_path, SKIPPING)
    assert code == 0 and "1 passed, 2 skipped" in said, said


def test_in_ci_a_skip_fails_and_only_missing_recordings_excuse_it(tmp_path: Path) -> None:
    code, said = outcomes(tmp_path, SKIPPING, CI="true")
    assert code == 1 and "1 failed, 1 passed, 1 skipped" in said, said
    assert "a failure in CI" in said and "no broker" in said
    code, said = outcomes(tmp_path, SKIPPING, CI="true", FORESTALL_DATA=str(tmp_path))
    assert code == 1 and "2 failed, 1 passed" in said, said


def test_in_ci_a_file_that_skips_itself_fails(tmp_path: Path) -> None:
    code, said = outcomes(tmp_path, "import pytest\npytest.importorskip('not_installed')\n", CI="true")
    assert code != 0 and "a failure in CI" in said, said


def test_few_files_need_no_workers() -> None:
    assert worker_count([str(TESTS / "fleet_core")]) == 0
    assert worker_count([str(TESTS / "docs" / "test_docs_links.py") + "::test_x"]) == 0
    assert worker_count([str(TESTS)]) >= 2


def test_what_takes_minutes_is_begun_first_and_the_order_names_what_exists() -> None:
    assert rank("tests/e2e/test_demo_stories.py::test_x") < rank("tests/integration/test_y.py::test_z")
    assert rank("tests/integration/test_y.py::test_z") < rank("tests/fleet_core/test_y.py::test_z")
    for name in (*FIRST, *IN_TURN, *SPREAD):
        assert (TESTS.parent / name).exists(), name


@pytest.mark.parametrize("file", SPREAD)
def test_a_spread_file_is_handed_out_test_by_test(file: str) -> None:
    assert unit_of(f"{file}::test_x[1]") != unit_of(f"{file}::test_x[2]")
    assert unit_of("tests/simulation/test_a.py::test_x") == unit_of("tests/e2e/test_bad_input.py::test_y")
    assert unit_of("tests/docs/test_a.py::test_x[1]") == unit_of("tests/docs/test_a.py::test_x[2]")
