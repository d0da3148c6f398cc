"""ARCHITECTURE.md is true: diagrams, fault points, processes and the variables that are named."""

from __future__ import annotations

import re
import tomllib

from support.documents import PAGES, ROOT, own_part, page, rows, section

from edge_agent.detection.judging.states import TRANSITIONS
from fleet_core.batches import BATCH_METRICS
from fleet_server.notifiers import api as notifiers
from fleet_server.resolution.states import drawings, mermaid
from fleet_server.supervisor import CHILDREN

TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PACKAGES = ("edge_agent", "firmware_bridge", "fleet_core", "fleet_server", "models", "provisioning")
CODE = {path: path.read_text(encoding="utf-8") for package in PACKAGES for path in (ROOT / package).rglob("*.py")}


def test_the_state_machines_are_drawn_as_they_are() -> None:
    for heading, drawing in (drawings() | {"Detection state": mermaid(TRANSITIONS)}).items():
        assert f"```mermaid\n{drawing}```" in section(TEXT, f"### {heading}"), f"{heading} is now:\n{drawing}"


def test_every_fault_point_is_listed() -> None:
    passed = {name for text in CODE.values() for name in re.findall(r'\bfault_point\("([\w.]+)"\)', text)}
    assert sorted(rows(section(TEXT, "## Fault points"))) == sorted(passed)


def test_the_server_runs_the_processes_it_says() -> None:
    said = rows(section(TEXT, "## Processes"))
    assert {f"fleet-server {name}" for name in CHILDREN} | {"fleet-server run"} <= set(said)


def test_every_package_of_the_agent_and_the_server_is_on_the_map() -> None:
    for package in ("edge_agent", "fleet_server"):
        for folder in (ROOT / package).iterdir():
            if (folder / "__init__.py").exists():
                assert f"{package}/{folder.name}" in TEXT, f"{package}/{folder.name} has no place on the map"


def test_every_import_contract_is_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    said = section(TEXT, "## Who may import whom")
    contracts = [contract["name"] for contract in project["tool"]["importlinter"]["contracts"]]
    assert [name for name in contracts if f"- {name}\n" not in f"{said}\n"] == []


def test_every_variable_is_documented() -> None:
    read = {name for text in CODE.values() for name in re.findall(r'"(FORESTALL_[A-Z_]+)"', text)}
    pages = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    assert sorted(name for name in read if name not in pages) == []


def test_the_wire_page_names_every_metric_of_a_batch() -> None:
    assert sorted(rows(section(page("wire.md"), "## Batches"))) == sorted(BATCH_METRICS)


def test_the_notifier_guide_names_the_whole_protocol() -> None:
    methods = [name for name in vars(notifiers.Notifier) if not name.startswith("_")]
    assert [name for name in methods if f"def {name}(" not in page("add-a-notifier.md")] == []


def test_own_part_stops_at_a_heading() -> None:
    assert own_part("a\n```\n# no heading\n```\nb\n## c\nd").count("b") == 1
