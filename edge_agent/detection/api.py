"""What the detection of one asset is, seen by the agent and by ``edge-agent detect``.

Everything here is pure: no clock, no disk, no socket. Time is the samples' own. The same input in the same order
gives the same events, and a pipeline restored from ``snapshot()`` continues exactly as if it had never stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.input.maintenance import Declared
from fleet_core.telemetry import DetectionState, Finding, MetricSpec, Sample, StateChange, Waveform

Event = StateChange | Finding


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one hand-over led to: events, and vitals derived on the device (waveform features)."""

    events: tuple[Event, ...] = ()
    derived: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class ComponentView:
    """The present verdict on one component. ``score`` is 0..1; alarm means degrading or critical.

    ``standstill_since_us``: since when nothing is judged because the machine stands still; 0 while it is judged.
    """

    component: str
    state: DetectionState
    score: float
    top_channel: str
    learned_fraction: float
    detectors: dict[str, float] = field(default_factory=dict)
    standstill_since_us: int = 0


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What each row of a block showed of one component: ``score`` (n,) 0..1, state, and the channel standing out.

    The score is the higher of what stands (0.5 at the calibrated limit, below 0.8) and of what is new (0.8 and more is
    worth a flag): a fault that goes on is in the state, its beginning is in the score too.
    """

    score: FloatArray
    states: list[DetectionState]
    top_channels: list[str]


@dataclass(frozen=True, slots=True)
class Block:
    """What a block led to: events, and the verdicts by component."""

    events: tuple[Event, ...]
    verdicts: dict[str, Verdicts]


class AssetDetection(Protocol):
    """Detection for one asset over all its components. ``counts``: what was dropped or passed over, by reason."""

    counts: Counter[str]

    @property
    def absent(self) -> dict[str, str]:
        """Detectors configured that cannot run on this device, with the reason."""

    def derived_metrics(self) -> tuple[MetricSpec, ...]:
        """Vitals the pipeline will add (waveform features), for the birth certificate."""

    def on_samples(self, samples: Sequence[Sample]) -> Outcome: ...

    def on_block(self, names: Sequence[str], times_us: IntArray, values: FloatArray) -> Block:
        """Judge a table (n, names) of readings that are aligned already, at times (n,) that rise; NaN is missing, as
        is a number that is no reading (``input.readings``).

        One causal pass: a block gives what its rows one by one would, for a fraction of the effort. For recordings and
        whatever else comes as tables; not to be mixed with ``on_samples``, which does the aligning.
        """

    def on_waveform(self, waveform: Waveform) -> Outcome: ...

    def component_replaced(self, component: str, serial: str, time_us: int) -> Outcome:
        """A component was swapped: forget its baseline and learn anew."""

    def declare(self, declared: Declared, time_us: int) -> Outcome:
        """What maintenance is declared from now on, instead of what was before; what is to be learnt anew is."""

    def views(self) -> tuple[ComponentView, ...]: ...

    def snapshot(self) -> bytes: ...

    def restore(self, snapshot: bytes) -> None:
        """Continue from a snapshot. Raises BadInput when it is damaged or of another configuration."""
