"""What the detection of one asset is, seen by the agent and by ``edge-agent detect``.

Everything here is pure: no clock, no disk, no socket. Time is the samples' own. The same input in the same order
gives the same events, and a pipeline restored from ``snapshot()`` continues exactly as if it had never stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fleet_core.telemetry import DetectionState, Finding, MetricSpec, Sample, StateChange, Waveform

Event = StateChange | Finding


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one hand-over led to: events, and vitals derived on the device (waveform features)."""

    events: tuple[Event, ...] = ()
    derived: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class ComponentView:
    """The present verdict on one component. ``score`` is 0..1; alarm means degrading or critical."""

    component: str
    state: DetectionState
    score: float
    top_channel: str
    learned_fraction: float
    detectors: dict[str, float] = field(default_factory=dict)


class AssetDetection(Protocol):
    """Detection for one asset over all its components."""

    def derived_metrics(self) -> tuple[MetricSpec, ...]:
        """Vitals the pipeline will add (waveform features), for the birth certificate."""

    def on_samples(self, samples: Sequence[Sample]) -> Outcome: ...

    def on_waveform(self, waveform: Waveform) -> Outcome: ...

    def component_replaced(self, component: str, serial: str, time_us: int) -> Outcome:
        """A component was swapped: forget its baseline and learn anew."""

    def views(self) -> tuple[ComponentView, ...]: ...

    def snapshot(self) -> bytes: ...

    def restore(self, snapshot: bytes) -> None:
        """Continue from a snapshot. Raises BadInput when it is damaged or of another configuration."""
