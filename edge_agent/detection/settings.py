"""Settings of the detection of one asset (``[asset.detection]`` in the agent's configuration); all have defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fleet_core.errors import BadConfig

SAMPLE = """\
learn_ticks = 144
learn_span_h = 20.0
false_alarms_per_tick = 1e-4

[indicator]
drive_bearing = "vibration_rms_g"
"""


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """How one asset is judged.

    A tick is one aligned reading of a component's channels. Learning ends when both ``learn_ticks`` and
    ``learn_span_h`` (device time) have passed. ``false_alarms_per_tick`` is the rate thresholds are calibrated to.
    ``horizon``: for how many learning periods ahead a wandering channel is given room. ``watch``, ``alarm`` and
    ``critical`` are levels of the fused evidence, 1 being the calibrated limit; a state is left again below
    ``release`` times its level. ``indicator`` names, by slot, the vital that follows the degradation best (else it is
    chosen by the component's type); ``regime`` the asset-wide vitals to normalise by (else all of them).
    ``detectors`` gives each detector its own table.
    """

    learn_ticks: int = 144
    learn_span_h: float = 20.0
    false_alarms_per_tick: float = 1e-4
    horizon: float = 4.0
    watch: float = 0.6
    alarm: float = 1.0
    critical: float = 6.0
    release: float = 0.7
    raise_ticks: int = 3
    release_ticks: int = 5
    smoothing: float = 0.3
    severity_step: float = 0.15
    revision_ticks: int = 6
    indicator: dict[str, str] = field(default_factory=dict)
    regime: tuple[str, ...] = ()
    detectors: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"cusum": {}, "ewma": {}, "level": {}, "pca": {}}
    )

    def __post_init__(self) -> None:
        if not 24 <= self.learn_ticks <= 1000:
            raise BadConfig("learn_ticks must be 24..1000")
        if not 0 <= self.learn_span_h <= 24 * 60:
            raise BadConfig("learn_span_h must be 0..1440")
        if not 1e-9 <= self.false_alarms_per_tick <= 0.1:
            raise BadConfig("false_alarms_per_tick must be 1e-9..0.1")
        if not 0 < self.watch < self.alarm < self.critical or not 0 < self.release < 1:
            raise BadConfig("levels must rise: 0 < watch < alarm < critical, and 0 < release < 1")
        if not 0 < self.smoothing <= 1 or not 1 <= self.horizon <= 1000:
            raise BadConfig("smoothing must be in (0, 1], horizon in 1..1000")
        if min(self.raise_ticks, self.release_ticks, self.revision_ticks) < 1 or not 0 < self.severity_step <= 1:
            raise BadConfig("raise_ticks, release_ticks, revision_ticks must be >= 1, severity_step in (0, 1]")
        if not 1 <= len(self.detectors) <= 16:
            raise BadConfig("detectors must name 1..16 detectors")
