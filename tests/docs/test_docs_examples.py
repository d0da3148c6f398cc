"""The examples of the "add a ..." pages are whole and work: each is put into a copy of the packages and tested there.

A block follows a line that names its file: alone, it is the file; with "as the first entry of X" it goes into table X.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.documents import DOCS, ROOT, Block, blocks, page

COPIED = ("demo", "edge_agent", "firmware_bridge", "fleet_core", "fleet_server", "provisioning", "tests/contract",
          "tests/support")  # fmt: skip
PLACED = re.compile(r"^`([\w/]+\.py)`(?:, as the first entry of `(\w+)`)?:$")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the examples touch, so that the tree stays as it is."""
    for folder in COPIED:
        shutil.copytree(ROOT / folder, tmp_path / folder)  # compiled files too: it is quicker
    return tmp_path


def place(checkout: Path, block: Block) -> str | None:
    """Put a block where the line above it says; returns the file's name, None for any other block."""
    placed = PLACED.match(block.before)
    if placed is None or block.language != "python":
        return None
    name, table = placed.groups()
    path = checkout / name
    if table is None:
        assert not path.exists(), f"{name} exists in the checkout: the example needs another name"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        return name
    text = path.read_text(encoding="utf-8")
    opening = re.search(rf"^{table}\b[^(]*\(\n", text, re.MULTILINE)  # the entries stand in parentheses
    assert opening, f"{name} has no table {table}"
    path.write_text(text[: opening.end()] + block.text + text[opening.end() :], encoding="utf-8")
    return name


GUIDES = {
    "add-a-sensor-source.md": ("test_contract_sources.py", "text_file"),
    "add-a-detector.md": ("test_contract_detectors.py", "peak"),
    "add-a-notifier.md": ("test_contract_notifiers.py", "journal"),
    "add-a-component-type.md": ("test_contract_component_types.py", "belt"),
    "connect-a-wms.md": ("test_contract_wms.py", "site_calendar"),
}
"""Each with the suite its example must pass, and the example's name."""


def test_the_examples_pass_their_own_tests_and_the_conformance_suites(checkout: Path) -> None:
    named = {name for guide in GUIDES for block in blocks(DOCS / guide) if (name := place(checkout, block))}
    suites = {f"tests/contract/{suite}" for suite, _ in GUIDES.values()}
    own = {name for name in named if name.startswith("tests/")} - suites
    plugins = [plugin for _, plugin in GUIDES.values()]
    done = run_pytest(checkout, *sorted(suites | own), "-k", " or ".join(plugins))
    assert done.returncode == 0, done.stdout[-4000:]
    for plugin in plugins:  # at least the conformance suite's table ran against each, and nothing was passed over
        assert done.stdout.count(f"[{plugin}]") >= 4, done.stdout[-4000:]
    assert "SKIPPED" not in done.stdout, done.stdout[-4000:]
    lint(checkout, sorted(named))


def run_pytest(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (checkout / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nmarkers = integration: real servers\n")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(checkout), str(checkout / "tests"))),
    }  # fmt: skip
    argv = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--rootdir", str(checkout)]
    argv += [option for plugin in ("support.database", "support.servers") for option in ("-p", plugin)]
    return subprocess.run(
        [*argv, *arguments], cwd=checkout, env=environment, capture_output=True, text=True, timeout=120
    )


def lint(checkout: Path, names: list[str]) -> None:
    """What people copy meets the rules that will be asked of it."""
    for mode in (["check"], ["format", "--check"]):
        argv = [sys.executable, "-m", "ruff", *mode, "--no-cache", "--config", str(ROOT / "pyproject.toml"), *names]
        done = subprocess.run(argv, cwd=checkout, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_detector_guides_settings_name_the_default_set() -> None:
    from edge_agent.detection.settings import DetectionSettings

    said = re.findall(r"^\[detectors\.(\w+)\]$", page("add-a-detector.md"), re.MULTILINE)
    assert said == [*sorted(DetectionSettings().detectors), "peak"]
