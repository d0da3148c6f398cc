"""Learning what healthy is: rows of the learning period in, a model with calibrated thresholds out.

Three layers are calibrated on the same out-of-sample rehearsal of the learning period (``calibrate``): each
detector's statistics, given room for channels that wander; and the fused, accumulated evidence, whose own healthy
tail may tighten the limit (``gain``) where the detectors' separate limits turned out needlessly wide.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.detection import detectors as detector_package
from edge_agent.detection import fuse
from edge_agent.detection.baseline import Baseline, FloatArray, fit_baseline, lag, load_baseline
from edge_agent.detection.calibrate import Threshold, deviations, persistence, rehearse, scarcity, tail_threshold
from edge_agent.detection.detectors.api import Detector, DetectorDeps
from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.snapshot import pack
from fleet_core.plugins import load_plugin, parse_config

FOLDS = 6
LEAST_GAIN = 0.25
MOST_PERSISTENCE = 2
"""An alarm waits for the evidence's own correlation time, at most this many times ``raise_ticks``."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One row judged. ``evidence`` is the row's own, not yet accumulated; ratios are 1 at the calibrated limit."""

    evidence: float
    detectors: dict[str, float]
    channels: FloatArray
    deviation: FloatArray


class HealthyModel:
    """What healthy is for one component: baseline, detectors, thresholds. Pure; detectors carry the memory."""

    def __init__(
        self,
        baseline: Baseline,
        detectors: dict[str, Detector],
        thresholds: dict[str, Threshold],
        gain: float,
        raise_ticks: int,
    ) -> None:
        self.baseline = baseline
        self.detectors = detectors
        self.thresholds = thresholds
        self.gain = gain
        self.raise_ticks = raise_ticks

    def step(self, row: FloatArray, regime: FloatArray, lagged: FloatArray) -> Reading:
        """Judge one row (channels,); missing channels count as healthy."""
        raw = self.baseline.deviation(row, self.baseline.terms(regime, lagged))
        deviation = np.where(np.isnan(raw), 0.0, raw)
        joined: dict[str, float] = {}
        channels = np.zeros(len(row))
        for name, detector in self.detectors.items():
            statistics = detector.step(deviation)
            ratios = np.minimum(self.thresholds[name].ratio(statistics), fuse.EVIDENCE_LIMIT)
            joined[name] = fuse.within(ratios)
            channels += ratios if detector.per_channel else _shared(joined[name], detector.contributions())
        evidence = fuse.between(np.array(list(joined.values()))) / self.gain
        return Reading(min(fuse.EVIDENCE_LIMIT, evidence), joined, channels, deviation)

    def take_memories(self, other: HealthyModel) -> None:
        """Go on from where another model's detectors stand."""
        for name, detector in self.detectors.items():
            detector.memory = other.detectors[name].memory.copy()

    def digest(self) -> str:
        """SHA-256 (hex) over what was fitted, memories left out."""
        fitted = {key: value for key, value in self.state().items() if key != "memories"}
        return hashlib.sha256(json.dumps(pack(fitted), sort_keys=True).encode()).hexdigest()

    def state(self) -> dict[str, Any]:
        return {
            "baseline": self.baseline.state(),
            "detectors": {name: detector.model() for name, detector in self.detectors.items()},
            "memories": {name: detector.memory for name, detector in self.detectors.items()},
            "thresholds": {name: [each.typical, each.limit] for name, each in self.thresholds.items()},
            "gain": self.gain,
            "raise_ticks": self.raise_ticks,
        }


def load_model(state: dict[str, Any], settings: DetectionSettings, channels: int) -> HealthyModel:
    """A model from its ``state``."""
    detectors = build_detectors(settings, channels)
    for name, detector in detectors.items():
        detector.load(state["detectors"][name])
        detector.memory = state["memories"][name]
    thresholds = {name: Threshold(*state["thresholds"][name]) for name in detectors}
    return HealthyModel(load_baseline(state["baseline"]), detectors, thresholds, state["gain"], state["raise_ticks"])


def build_detectors(settings: DetectionSettings, channels: int) -> dict[str, Detector]:
    """The configured detectors by name, in order of name. Raises BadConfig."""
    deps = DetectorDeps(channels)
    built: dict[str, Detector] = {}
    for name in sorted(settings.detectors):
        plugin = load_plugin(detector_package.__name__, name)
        config = parse_config(plugin.Config, settings.detectors[name], f"detectors.{name}")
        built[name] = plugin.build(config, deps)
    return built


def learn(rows: Sequence[FloatArray], regimes: Sequence[FloatArray], settings: DetectionSettings) -> HealthyModel:
    """Fit and calibrate on healthy rows (n, channels) in order of time; the memories stand where the rows end."""
    table = np.array(rows)
    regime_table = np.array(regimes).reshape(len(table), -1)
    lagged = lag(regime_table)
    detectors = build_detectors(settings, table.shape[1])
    rehearsal = rehearse(table, regime_table, lagged, list(detectors.values()), FOLDS, settings.horizon)
    scarce = scarcity(table)
    thresholds: dict[str, Threshold] = {}
    for (name, detector), statistics in zip(detectors.items(), rehearsal.statistics, strict=True):
        each = tail_threshold(statistics, settings.false_alarms_per_tick / statistics.shape[1])
        room = rehearsal.wander * scarce if detector.per_channel else np.array([float(np.median(scarce))])
        thresholds[name] = Threshold(each.typical, np.maximum(each.limit * room, each.typical + 1e-6))
    course = _course(list(thresholds.values()), rehearsal.statistics, settings)
    limit = float(tail_threshold(course[:, None], settings.false_alarms_per_tick).limit[0])
    gain = min(1.0, max(LEAST_GAIN, limit * float(np.median(rehearsal.wander * scarce))))
    raise_ticks = min(MOST_PERSISTENCE * settings.raise_ticks, max(settings.raise_ticks, persistence(course)))
    baseline = fit_baseline(table, regime_table, lagged)
    healthy = deviations(baseline, table, regime_table, lagged)
    for detector in detectors.values():
        detector.fit(healthy, rehearsal.wander)
    return HealthyModel(baseline, detectors, thresholds, gain, raise_ticks)


def _course(
    thresholds: Sequence[Threshold], statistics: Sequence[FloatArray], settings: DetectionSettings
) -> FloatArray:
    """The accumulated evidence (n,) over the learning period."""
    evidence = 0.0
    course = np.empty(len(statistics[0]))
    for index in range(len(course)):
        joined = [fuse.within(each.ratio(rows[index])) for each, rows in zip(thresholds, statistics, strict=True)]
        evidence += settings.smoothing * (fuse.between(np.array(joined)) - evidence)
        course[index] = evidence
    return course


def _shared(ratio: float, contributions: FloatArray) -> FloatArray:
    total = float(contributions.sum())
    return contributions * (ratio / total) if total > 0 else contributions
