"""No setting, plugin, metric or policy value without its row in the docs, and no row without its setting."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from support.documents import PAGES, ROOT, blocks, name_of, own_part, page, rows, section

from edge_agent.config import parse_config
from edge_agent.detection import settings as detection
from fleet_core.assets import COMPONENT_TYPES
from fleet_core.errors import BadConfig
from fleet_core.plugins import load_plugin, plugin_names
from fleet_core.plugins import parse_config as check
from fleet_server.registry import Component, Registry
from fleet_server.resolution.policy import Policy
from fleet_server.resolution.questions import REASONS
from fleet_server.settings import Settings

AGENT = page("agent-configuration.md")
OPERATE = page("operate.md")
SOURCES = "edge_agent.acquisition"
DETECTORS = "edge_agent.detection.detectors"
NOTIFIERS = "fleet_server.notifiers"
TABLES = {
    "agent": "### `[agent]`", "uplink": "### `[uplink]`", "outbox": "### `[outbox]`", "table": "### `[[asset]]`",
    "component": "### `[[asset.component]]`",
}  # fmt: skip


def fields(cls: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if field.init]


def settings_of_agent_toml() -> dict[str, set[str]]:
    """What the code asks each table for, found in its source: there is no model to read it from."""
    code = (ROOT / "edge_agent" / "config.py").read_text(encoding="utf-8")
    asked: dict[str, set[str]] = {name: set() for name in TABLES}
    for function in code.split("\ndef ")[1:]:
        for table, name in re.findall(r"\b(agent|uplink|outbox|table)\.(?:take|number)\(\s*\"(\w+)\"", function):
            where = {"_uplink": "uplink", "_component": "component"}.get(function.split("(")[0], table)
            asked[where].add(name)
    asked["uplink"] |= {"ca_file", "cert_file", "key_file"}
    return asked


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_of_agent_toml(table: str) -> None:
    assert sorted(rows(section(AGENT, TABLES[table]))) == sorted(settings_of_agent_toml()[table])


def test_the_settings_of_agent_toml_are_all_asked_for_in_one_way() -> None:
    """Guards the test above: another way of asking would escape it."""
    code = (ROOT / "edge_agent" / "config.py").read_text(encoding="utf-8")
    assert len(re.findall(r"\.(?:take|number)\(", code)) == len(
        re.findall(r"\b(?:top|agent|uplink|outbox|table|source_table)\.(?:take|number)\(|self\.take\(", code)
    )


@pytest.mark.parametrize("name", plugin_names(SOURCES))
def test_every_source_and_its_sample(name: str) -> None:
    plugin, text = load_plugin(SOURCES, name), section(AGENT, f"### `{name}`")
    assert sorted(rows(text)) == sorted(fields(plugin.Config))
    assert f"```toml\n{plugin.SAMPLE.lstrip()}```" in text, f"the sample of {name} is now:\n{plugin.SAMPLE}"


@pytest.mark.parametrize("name", plugin_names(DETECTORS))
def test_every_detector_and_its_sample(name: str) -> None:
    plugin, text = load_plugin(DETECTORS, name), section(AGENT, f"#### `{name}`")
    assert sorted(rows(text)) == sorted(fields(plugin.Config))
    assert not plugin.SAMPLE or f"```toml\n{plugin.SAMPLE}```" in text, f"the sample of {name} is:\n{plugin.SAMPLE}"


def test_no_plugin_that_is_gone() -> None:
    assert set(re.findall(r"^### `(\w+)`$", AGENT, re.MULTILINE)) == set(plugin_names(SOURCES))
    assert set(re.findall(r"^#### `(\w+)`$", AGENT, re.MULTILINE)) == set(plugin_names(DETECTORS))


def test_every_setting_of_detection() -> None:
    text = own_part(section(AGENT, "## Detection: `[asset.detection]`"))
    assert sorted(rows(text)) == sorted(fields(detection.DetectionSettings))
    assert f"```toml\n{detection.SAMPLE}```" in section(AGENT, "## Detection: `[asset.detection]`")


def test_the_whole_example_is_a_configuration() -> None:
    path = ROOT / "docs" / "agent-configuration.md"
    example = next(block for block in blocks(path) if "[uplink]" in block.text)
    record = tomllib.loads(example.text)
    with pytest.raises(BadConfig, match=r"bundle\.toml"):  # everything before the bundle's files is accepted
        parse_config(record, ROOT)
    record["uplink"], record["agent"] = {}, record["agent"] | {"node_id": "a", "group_id": "g"}
    assert parse_config(record, ROOT).assets[0].source_type == "serial_frames"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_toml_block_is_toml(path: Path) -> None:
    for block in blocks(path):
        if block.language == "toml":
            tomllib.loads(block.text)


def test_the_examples_of_other_pages_are_configurations() -> None:
    (pi,) = (block for block in blocks(ROOT / "docs" / "install-on-a-pi.md") if block.language == "toml")
    record = tomllib.loads(pi.text)
    record["uplink"], record["agent"] = {}, record["agent"] | {"node_id": "a", "group_id": "g"}
    asset = parse_config(record, ROOT).assets[0]
    check(load_plugin(SOURCES, asset.source_type).Config, asset.source, "source")
    (shown,) = (block for block in blocks(ROOT / "docs" / "add-a-detector.md") if block.language == "toml")
    table = tomllib.loads(shown.text)
    table["detectors"].pop("peak")  # the guide's own, see test_docs_examples
    check(detection.DetectionSettings, table, "detection")


def settings_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings_of(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_setting_of_server_toml() -> None:
    written = rows(own_part(section(OPERATE, "## Settings: `server.toml`")))
    assert sorted(written) == sorted(set(settings_of(Settings)) - {"notifiers"})


@pytest.mark.parametrize("name", plugin_names(NOTIFIERS))
def test_every_notifier_its_defaults_and_its_sample(name: str) -> None:
    plugin, text = load_plugin(NOTIFIERS, name), section(OPERATE, f"#### `[notifiers.{name}]`")
    assert sorted(rows(text)) == sorted(fields(plugin.Config))
    assert f"```toml\n{plugin.SAMPLE}```" in text, f"the sample of {name} is now:\n{plugin.SAMPLE}"
    for field in dataclasses.fields(plugin.Config):
        if isinstance(field.default, int | float):
            assert f"| `{field.name}` | {field.default} |" in text, f"the default of {field.name} is {field.default}"


def test_no_notifier_that_is_gone() -> None:
    assert set(re.findall(r"^#### `\[notifiers\.(\w+)\]`$", OPERATE, re.MULTILINE)) == set(plugin_names(NOTIFIERS))


def test_every_value_of_the_policy_and_its_default() -> None:
    text = section(OPERATE, "## Policy: what may be decided automatically")
    assert sorted(rows(text)) == sorted(Policy.model_fields)
    for name, value in Policy().model_dump().items():
        if isinstance(value, bool | int | float):
            assert f"| `{name}` | {str(value).lower()} |" in text, f"the default of {name} is {value}"


def test_every_field_of_the_registry_file() -> None:
    lines = section(OPERATE, "## The registry file").splitlines()
    said = {line.split("`")[1]: line for line in lines if line.startswith("| `[[")}
    tables = {f"[[{name}]]": get_args(field.annotation)[0] for name, field in Registry.model_fields.items()}
    tables["[[asset.component]]"] = Component
    assert set(said) == set(tables)
    for name, model in tables.items():
        for field_name, field in model.model_fields.items():
            shown = f" `{field_name}`" if field.is_required() else f"*`{field_name}`*"
            assert shown in said[name], f"{name}: {shown}"


def test_every_skill_of_a_component() -> None:
    said = section(OPERATE, "## The registry file")
    assert [kind.code for kind in COMPONENT_TYPES.values() if kind.code not in said or kind.skill not in said] == []


def test_every_type_of_a_component_of_the_agent() -> None:
    (row,) = [line for line in section(AGENT, "### `[[asset.component]]`").splitlines() if line.startswith("| `type`")]
    assert sorted(re.findall(r"`(\w+)`", row)) == sorted(["type", *COMPONENT_TYPES])


def test_the_defaults_of_server_toml() -> None:
    for name, field in Settings.model_fields.items():
        part = field.get_default()
        for key, value in part.model_dump().items() if isinstance(part, BaseModel) else ():
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert f"| `{name}.{key}` | {value} |" in OPERATE, f"the default of {name}.{key} is {value}"


def test_every_metric() -> None:
    asked = re.compile(r'(?:Counter|Gauge|Histogram)\(\s*"(forestall_\w+)"')
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "fleet_server").rglob("*.py"))
    assert sorted(rows(section(OPERATE, "## Metrics and probes"))) == sorted(asked.findall(code))


def test_every_reason_of_an_escalation() -> None:
    said = section(OPERATE, "## Cases, questions, switches")
    assert [reason for reason in REASONS if reason not in said] == []
