"""The component that is judged: its place, its type and its channels."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_core.telemetry import MetricSpec


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom the findings of a slot are about."""

    device_id: str
    slot: str
    type: str
    serial: str
    channels: tuple[MetricSpec, ...]
