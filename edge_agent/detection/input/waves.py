"""Waveform vitals of one asset: which features each leads to, and how fast its shaft turned. Pure.

A waveform is not judged itself but by its features, which are vitals like any other (``vibration.rms``). The default
set needs no settings. Given the bearing's geometry and the shaft's speed, which stands in the settings or is a vital,
the lines of the bearing's own defects and the shaft's harmonics join them.

A speed that is not known at the moment of a burst (never read, or too long ago) makes what depends on it NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from edge_agent.detection.input.readings import only_reading
from edge_agent.detection.restored import reading, record, time_us
from edge_agent.detection.settings import DetectionSettings, WaveformSettings
from fleet_core.errors import BadConfig
from fleet_core.telemetry import MetricSpec, Sample, Waveform

DEFAULT = WaveformSettings()
LEAST_SPEED_AGE_S = 60.0
SPEED_PERIODS = 3.0
"""So many of its periods, and a minute at least, the last speed read is taken for the present one."""
PER_MINUTE = ("/min", "{rpm}", "r/min")
VELOCITY_UNITS = ("[g]", "m/s2")


class Waves:
    """The waveforms among ``metrics``, as the settings say. Raises BadConfig where those name what is not there."""

    def __init__(self, metrics: Sequence[MetricSpec], settings: DetectionSettings) -> None:
        self._waveforms = {each.name: each for each in metrics if each.kind == "waveform"}
        self._settings = settings.waveforms
        floats = {each.name: each for each in metrics if each.kind == "float"}
        for name, own in self._settings.items():
            where = f"asset.detection.waveforms.{name}"
            if name not in self._waveforms:
                raise BadConfig(
                    f"{where}: there is no such waveform; there are: {', '.join(self._waveforms) or 'none'}"
                )
            if own.speed and own.speed not in floats:
                raise BadConfig(f"{where}.speed: {own.speed!r} is not a vital of this asset")
            if own.velocity and self._waveforms[name].unit not in VELOCITY_UNITS:
                raise BadConfig(f"{where}.velocity: needs a waveform in {' or '.join(VELOCITY_UNITS)}")
        self._speeds = {own.speed: floats[own.speed] for own in self._settings.values() if own.speed}
        self._turning: dict[str, tuple[int, float]] = {}
        self.derived = tuple(
            MetricSpec(f"{wave.name}.{name}", unit, wave.component, wave.period_s)
            for wave in self._waveforms.values()
            for name, unit in self._specs(wave.name)
            if f"{wave.name}.{name}" not in floats
        )

    def __contains__(self, name: str) -> bool:
        return name in self._waveforms

    def see(self, samples: Sequence[Sample]) -> None:
        """Remember the speeds among samples."""
        if not self._speeds:
            return
        for sample in samples:
            if sample.metric in self._speeds:
                self._turning[sample.metric] = (sample.time_us, only_reading(sample.value))

    def features(self, waveform: Waveform) -> dict[str, float]:
        """Features of a burst by their vitals' names."""
        shaft_hz = self._shaft_hz(waveform.metric, waveform.time_us)
        return self.features_of(waveform.metric, waveform.values, waveform.sample_rate_hz, shaft_hz)

    def features_of(
        self, name: str, values: ArrayLike, sample_rate_hz: float, shaft_hz: float | None = None
    ) -> dict[str, float]:
        """Features of a recording's snapshot by their vitals' names; the settings' own speed where none is told."""
        own = self._own(name)
        if shaft_hz is None and own.turns:
            shaft_hz = own.shaft_hz or math.nan
        unit = self._waveforms[name].unit
        from edge_agent.features.waveform import waveform_features  # an agent without waveforms never loads it

        found = waveform_features(
            np.asarray(values), sample_rate_hz, own.bearing, shaft_hz, unit, velocity=own.velocity
        )
        return {f"{name}.{feature}": value for feature, value in found.items()}

    def state(self) -> dict[str, dict[str, float]]:
        """The speeds last read."""
        return {name: {"time_us": time_us, "value": value} for name, (time_us, value) in self._turning.items()}

    def load(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Continue from a ``state``. Raises ValueError, TypeError, KeyError when it is none; it is then as before."""
        self._turning = {
            name: (time_us(read["time_us"]), reading(read["value"])) for name, read in record(state).items()
        }

    def _own(self, name: str) -> WaveformSettings:
        return self._settings.get(name, DEFAULT)

    def _specs(self, name: str) -> list[tuple[str, str]]:
        """(name, UCUM unit) of every feature of a waveform."""
        from edge_agent.features.waveform import OWN_UNIT, feature_specs

        own, unit_of_wave = self._own(name), self._waveforms[name].unit
        specs = feature_specs(own.bearing is not None, own.turns, own.velocity)
        return [(feature, unit_of_wave if unit == OWN_UNIT else unit) for feature, unit in specs]

    def _shaft_hz(self, name: str, time_us: int) -> float | None:
        own = self._own(name)
        if not own.speed:
            return None
        metric, (seen_us, value) = self._speeds[own.speed], self._turning.get(own.speed, (0, math.nan))
        known_for_us = 1e6 * max(LEAST_SPEED_AGE_S, SPEED_PERIODS * metric.period_s)
        if not (abs(time_us - seen_us) <= known_for_us and math.isfinite(value)):
            return math.nan
        per_minute = metric.unit in PER_MINUTE or (metric.unit in ("", "1") and "rpm" in metric.name.lower())
        return abs(value) * own.speed_ratio / (60.0 if per_minute else 1.0)
