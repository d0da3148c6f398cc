"""The cases of a live agent, read from the traces in its detection's snapshots while the agent runs.

The agent replaces a snapshot as a whole, so reading needs no lock. A snapshot that is damaged, too large or of a
version that keeps no trace is passed over and named on standard error; when no other is left, it is the error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.config import load_config
from edge_agent.detection import snapshot
from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.trace.keeper import Kept, load_kept
from edge_agent.explain.case import Case, Channel, Pair, Subject, put_together
from edge_agent.explain.choice import Choice, choose
from edge_agent.explain.words import spoken
from edge_agent.files import read_bounded
from fleet_core.errors import BadConfig, BadInput
from fleet_core.plugins import parse_config

MAX_SNAPSHOT_BYTES = 64 << 20
MAX_SNAPSHOTS = 64
WHOLE_ASSET = "asset"


@dataclass(frozen=True, slots=True)
class Component:
    """One component with the trace that its agent keeps."""

    device_id: str
    slot: str
    kept: Kept
    settings: DetectionSettings

    @property
    def place(self) -> str:
        """``device/slot``."""
        return f"{self.device_id}/{self.slot}"


def case_of(args: argparse.Namespace) -> Case:
    """The chosen case of the agent of ``args.config`` or ``args.state_dir``. Raises BadInput, BadConfig, OSError."""
    tables: dict[str, Mapping[str, Any]] = {}
    state_dir: Path = args.state_dir
    if args.config is not None:
        config = load_config(args.config)
        state_dir = config.state_dir
        tables = {asset.description.device_id: asset.detection for asset in config.assets}
    components = _wanted(read_components(state_dir, tables), args.component)
    choices = [
        Choice(component.place, component.kept.ticks, told)
        for component in components
        for told in (*component.kept.ticks.findings.values(), None)
    ]
    chosen = choose(choices, args.finding)
    component = next(component for component in components if component.place == chosen.slot)
    slot = "" if component.slot == WHOLE_ASSET else f", {spoken(component.slot)}"
    trace = component.kept.ticks
    pairs = [Pair(name, shots.get("healthy"), shots.get("now"), "newest") for name, shots in trace.waveforms.items()]
    subject = Subject(f"{component.device_id}{slot}", tuple(Channel(*channel) for channel in component.kept.channels))
    return put_together(subject, trace, chosen.told, component.settings, pairs, chosen.which, component.kept.means)


def read_components(state_dir: Path, tables: Mapping[str, Mapping[str, Any]]) -> list[Component]:
    """All components with a trace under a state folder. ``tables`` has the detection settings of every device.

    Raises BadInput.
    """
    kept: list[Component] = []
    refused = ""
    paths = sorted((state_dir / "detection").glob("*.snapshot"))[:MAX_SNAPSHOTS]
    for path in paths:
        try:
            kept.extend(_read(path, tables.get(path.stem)))
        except BadInput as error:
            refused = f"{path}: {error}"
            print(f"passed over: {refused}", file=sys.stderr)
    if not kept:
        raise BadInput("state", refused or f"{state_dir}/detection: no snapshot yet; run the agent for a while first")
    return kept


def _read(path: Path, table: Mapping[str, Any] | None) -> list[Component]:
    content = read_bounded(path, MAX_SNAPSHOT_BYTES)
    if content is None:
        raise BadInput("snapshot", "it is gone, or larger than any agent writes")
    tree = snapshot.load(content)
    slots = tree.get("slots")
    if not isinstance(slots, dict):
        raise BadInput("snapshot", "it holds no components")
    settings = parse_config(DetectionSettings, table if table is not None else _settings(tree), "asset.detection")
    return [
        Component(path.stem, name, load_kept(snapshot.trace_of(tree, slot)), settings) for name, slot in slots.items()
    ]


def _settings(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    settings = tree.get("settings", {})
    return settings if isinstance(settings, dict) else {}


def _wanted(kept: list[Component], component: str) -> list[Component]:
    if not component:
        return kept
    fitting = [candidate for candidate in kept if component in (candidate.slot, candidate.device_id, candidate.place)]
    if not fitting:
        raise BadConfig(f"no component {component!r}; there are: {', '.join(known.place for known in kept)[:300]}")
    return fitting
