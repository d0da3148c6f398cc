"""Settings of the detection of one asset (``[asset.detection]`` in the agent's configuration); all have defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from edge_agent.detection.prior.class_prior import ClassPrior
from edge_agent.features.bearing import BearingGeometry
from fleet_core.errors import BadConfig

SAMPLE = """\
learn_ticks = 144
learn_span_h = 24.0
false_alarms_per_month = 0.1

[indicator]
drive_bearing = "vibration_rms_g"
"""


MAX_SHAFT_HZ = 10_000.0


@dataclass(frozen=True, slots=True)
class WaveformSettings:
    """What is known of what a waveform hears; all of it may be left out.

    ``bearing``: its geometry, for the lines of its own defects; ``shaft_hz`` or ``speed``, a vital (``/min`` or Hz)
    times ``speed_ratio`` (a gear between), say how fast it turns. ``velocity``: add the velocity's root mean square,
    10 to 1000 Hz.
    """

    bearing: BearingGeometry | None = None
    shaft_hz: float = 0.0
    speed: str = ""
    speed_ratio: float = 1.0
    velocity: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.shaft_hz <= MAX_SHAFT_HZ or not 0 < self.speed_ratio < math.inf:
            raise BadConfig(f"shaft_hz must be 0..{MAX_SHAFT_HZ:g}, speed_ratio above 0")
        if self.shaft_hz and self.speed:
            raise BadConfig("give shaft_hz or speed, not both")
        if self.bearing is not None and not self.turns:
            raise BadConfig("a bearing needs shaft_hz, or speed, the vital that tells it")

    @property
    def turns(self) -> bool:
        """Is it known how fast the shaft turns, or will be?"""
        return bool(self.shaft_hz or self.speed)


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """How one asset is judged.

    A tick is one aligned reading of a component's channels. Learning ends when ``learn_ticks`` ticks have passed, and
    ``learn_span_h`` hours (device time) where so many take no more than ``learn_ticks_at_most`` ticks; the slow plane,
    on means of ``slow_ticks`` ticks, follows with as many rows of its own. ``false_alarms_per_month`` is the rate
    thresholds are calibrated to.
    ``horizon``: for how many learning periods ahead a wandering channel is given room. ``watch``, ``alarm`` and
    ``critical`` are levels of the fused evidence, 1 being the calibrated limit; a state is left again below
    ``release`` times its level. ``indicator`` names, by slot, the vital that follows the degradation best (else it is
    chosen by the component's type); ``regime`` the asset-wide vitals to normalise by (else all of them).
    ``novelty``: whether block verdicts also tell what is new, for recordings. ``detectors`` gives each detector of the
    fast plane its own table, ``slow_detectors`` those of the slow one. ``least_tick_s``: ticks are no shorter.
    ``waveforms``: what is known of waveforms, by vital. ``prior``: what healthy assets of the class are like (see
    ``prior``); a configuration names the file, which takes its place when the configuration is read.
    """

    learn_ticks: int = 144
    learn_span_h: float = 24.0
    learn_ticks_at_most: int = 1500
    least_tick_s: float = 60.0
    slow_ticks: int = 16
    false_alarms_per_month: float = 0.1
    horizon: float = 4.0
    watch: float = 0.75
    alarm: float = 1.0
    critical: float = 6.0
    release: float = 0.8
    raise_ticks: int = 3
    release_ticks: int = 5
    smoothing: float = 0.3
    severity_step: float = 0.15
    revision_ticks: int = 6
    indicator: dict[str, str] = field(default_factory=dict)
    regime: tuple[str, ...] = ()
    detectors: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            name: {} for name in ("aakr", "autoencoder", "cusum", "ewma", "level", "pca", "spectral", "virtual")
        }
    )
    novelty: bool = False
    slow_detectors: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "aakr": {},
            "ewma": {"weights": [0.2, 0.05, 0.0125, 0.005]},
            "level": {},
            "pca": {},
            "virtual": {},
        }
    )
    waveforms: dict[str, WaveformSettings] = field(default_factory=dict)
    prior: ClassPrior = field(default_factory=ClassPrior)

    def __post_init__(self) -> None:
        if not 24 <= self.learn_ticks <= 1000:
            raise BadConfig("learn_ticks must be 24..1000")
        if not 0 <= self.learn_span_h <= 24 * 60:
            raise BadConfig("learn_span_h must be 0..1440")
        if not self.learn_ticks <= self.learn_ticks_at_most <= 4000 or not 2 <= self.slow_ticks <= 1000:
            raise BadConfig("learn_ticks_at_most must be learn_ticks..4000, slow_ticks 2..1000")
        if not 1e-6 <= self.false_alarms_per_month <= 1000:
            raise BadConfig("false_alarms_per_month must be 1e-6..1000")
        if not 0 < self.watch < self.alarm < self.critical or not 0 < self.release < 1:
            raise BadConfig("levels must rise: 0 < watch < alarm < critical, and 0 < release < 1")
        if not 0 < self.smoothing <= 1 or not 1 <= self.horizon <= 1000:
            raise BadConfig("smoothing must be in (0, 1], horizon in 1..1000")
        if min(self.raise_ticks, self.release_ticks, self.revision_ticks) < 1 or not 0 < self.severity_step <= 1:
            raise BadConfig("raise_ticks, release_ticks, revision_ticks must be >= 1, severity_step in (0, 1]")
        if not 0 <= self.least_tick_s <= 86_400:
            raise BadConfig("least_tick_s must be 0..86400")
        if not (1 <= len(self.detectors) <= 16 and 1 <= len(self.slow_detectors) <= 16):
            raise BadConfig("detectors and slow_detectors must each name 1..16 detectors")
