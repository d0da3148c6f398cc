"""A device's last description, kept over restarts of the agent: text of a small file <-> description. Pure.

The agent publishes its births when its broker answers, often before its devices do. Without the kept description the
births would repeat ``agent.toml`` until the device speaks, and the fleet would record that a component was swapped, and
swapped back, at every restart.

Failure: a text of another form raises BadInput; the configuration alone counts then.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from edge_agent.acquisition.api import AssetDescription
from fleet_core.births import MAX_COMPONENTS
from fleet_core.errors import BadInput
from fleet_core.telemetry import ComponentSpec, check_name, parse_object

MAX_BYTES = 64 * 1024
_TEXTS = ("model", "serial", "firmware")
_PARTS = ("slot", "type", "serial", "part_no")


def to_text(told: AssetDescription) -> str:
    """The text that keeps a device's description, without its metrics: the device brings them when it speaks again."""
    texts = {name: getattr(told, name) for name in _TEXTS}
    return json.dumps({**texts, "components": [asdict(component) for component in told.components]})


def from_text(configured: AssetDescription, text: str) -> AssetDescription:
    """The configuration's description, completed by the device's last one. Raises BadInput."""
    record = parse_object(text, MAX_BYTES)
    told = {name: _text(record, name) for name in _TEXTS}
    rows = record.get("components")
    if not isinstance(rows, list) or len(rows) > MAX_COMPONENTS:
        raise BadInput("components", f"not a list of at most {MAX_COMPONENTS}")
    slots = {component.slot: component for component in (*configured.components, *map(_component, rows))}
    return replace(
        configured,
        model=configured.model or told["model"],
        serial=configured.serial or told["serial"],
        firmware=told["firmware"] or configured.firmware,
        components=tuple(slots.values()),
    )


def _component(row: Any) -> ComponentSpec:
    if not isinstance(row, dict):
        raise BadInput("components", "not an object")
    slot, kind, serial, part_no = (_text(row, name) for name in _PARTS)
    return ComponentSpec(check_name(slot), check_name(kind), serial, part_no)


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or len(value) > 128:
        raise BadInput(name, "not a text of at most 128 characters")
    return value
