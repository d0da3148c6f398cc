"""What healthy is for one component: its baseline, its detectors with their limits, and how rows are judged by them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection import detectors as detector_package
from edge_agent.detection import fusion, restored
from edge_agent.detection.alarm_limit import Threshold, alarm_limit
from edge_agent.detection.detectors.api import Detector, DetectorDeps, Tables
from edge_agent.detection.healthy.baseline import Baseline, load_baseline
from edge_agent.detection.packing import pack
from edge_agent.detection.tuning import MOST_EVIDENCE
from fleet_core.errors import BadConfig
from fleet_core.plugins import load_plugin, parse_config

UNCALIBRATED_SIGMAS = 6.0
"""A channel's limit while the level detector, which calibrates one, is switched off. It decides no alarm: the failure
mode is named by deviations in units of it, and pictures draw it."""
LEAST_LIMIT = 1e-9
"""What is divided by is no smaller."""


@dataclass(frozen=True, slots=True)
class JudgedRows:
    """Rows judged: ``evidence`` (n,), not yet accumulated; ``detectors`` (n, detectors), ``channels`` (n, channels)
    and ``deviation`` (n, channels). Ratios are 1 at the calibrated limit."""

    evidence: FloatArray
    detectors: FloatArray
    channels: FloatArray
    deviation: FloatArray

    def first(self, count: int) -> JudgedRows:
        """The first rows of it."""
        if count == len(self.evidence):
            return self
        return JudgedRows(self.evidence[:count], self.detectors[:count], self.channels[:count], self.deviation[:count])

    def newest(self) -> dict[str, FloatArray]:
        """The last row of it, for a snapshot."""
        return {name: getattr(self, name)[-1:] for name in self.__slots__}


class HealthyModel:
    """Baseline, detectors and thresholds of one component. Pure; detectors carry the memory.

    ``evidence_limit``: where the fused evidence is at its limit; see ``alarm_limit``. ``raise_ticks``: ticks the
    evidence must stay up for an alarm. ``alone``: see ``fusion.between``.
    """

    def __init__(
        self,
        baseline: Baseline,
        detectors: dict[str, Detector],
        thresholds: dict[str, Threshold],
        evidence_limit: float,
        raise_ticks: int,
        alone: float,
    ) -> None:
        self.baseline = baseline
        self.detectors = detectors
        self.thresholds = thresholds
        self.evidence_limit = evidence_limit
        self.raise_ticks = raise_ticks
        self._alone = alone
        first = first_votes(detectors)
        self._first = None if len(first) == len(detectors) else first
        self.names = tuple(detectors)
        self._typical = np.concatenate([thresholds[name].typical for name in self.names])
        self._per_unit = 1 / (np.concatenate([thresholds[name].limit for name in self.names]) - self._typical)
        sizes = [len(thresholds[name].typical) for name in self.names]
        self._starts = np.cumsum([0, *sizes[:-1]])
        channels = len(baseline.centre)
        # sums each channel's ratios over the detectors that have one statistic per channel
        self._by_channel = np.zeros((sum(sizes), channels))
        for name, start, size in zip(self.names, self._starts, sizes, strict=True):
            if detectors[name].per_channel:
                self._by_channel[start : start + size] = np.tile(np.eye(channels), (size // channels, 1))
        self._all_shared = not self._by_channel.any()

    def run(self, rows: FloatArray, regimes: FloatArray, lagged: FloatArray, times_us: IntArray) -> JudgedRows:
        """Judge rows (n, channels) in order; missing channels count as healthy."""
        raw = self.baseline.deviation(rows, regimes, lagged, times_us)
        deviation = np.where(np.isnan(raw), 0.0, raw)
        statistics = np.concatenate([detector.run(deviation) for detector in self.detectors.values()], axis=1)
        ratios = (statistics - self._typical) * self._per_unit
        ratios = np.minimum(np.maximum(ratios, 0.0), MOST_EVIDENCE)
        joined = fusion.within(ratios, self._starts)
        evidence = np.minimum(MOST_EVIDENCE, fusion.between(joined, self._alone, self._first) / self.evidence_limit)
        channels = np.abs(deviation) if self._all_shared else ratios @ self._by_channel
        return JudgedRows(evidence, joined, channels, deviation)

    def blame(self, judged: JudgedRows) -> FloatArray:
        """How much each channel (channels,) has to do with the last row, shared statistics included."""
        blame = judged.channels[-1].copy()
        for name, joined in zip(self.names, judged.detectors[-1], strict=True):
            detector = self.detectors[name]
            if not detector.per_channel:
                contributions = detector.contributions()
                total = float(contributions.sum())
                blame += contributions * (joined / total) if total > 0 else 0.0
        return blame

    def memories(self) -> dict[str, FloatArray]:
        """Where the detectors stand: what ``take_memories`` goes on from."""
        return {name: detector.memory for name, detector in self.detectors.items()}

    def take_memories(self, memories: dict[str, FloatArray]) -> None:
        """Go on from there."""
        for name, detector in self.detectors.items():
            detector.memory = memories[name]

    def digest(self) -> str:
        """SHA-256 (hex) over what was fitted, memories left out."""
        # the layout of its first version: a digest must not change because a name does
        fitted = {
            "baseline": self.baseline.state(),
            "detectors": {name: detector.model() for name, detector in self.detectors.items()},
            "thresholds": {name: [each.typical, each.limit] for name, each in self.thresholds.items()},
            "gain": self.evidence_limit,
            "raise_ticks": self.raise_ticks,
            "alone": self._alone,
        }
        return hashlib.sha256(json.dumps(pack(fitted), sort_keys=True).encode()).hexdigest()

    def widen(self, room: float) -> None:
        """Make the evidence's limit so many times as wide."""
        self.evidence_limit = alarm_limit(self.evidence_limit, experience=room)

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {
            "baseline": self.baseline.state(),
            "detectors": {name: detector.model() for name, detector in self.detectors.items()},
            "memories": self.memories(),
            "thresholds": {
                name: {"typical": each.typical, "limit": each.limit} for name, each in self.thresholds.items()
            },
            "evidence_limit": self.evidence_limit,
            "raise_ticks": self.raise_ticks,
            "alone": self._alone,
        }


def channel_limits(model: HealthyModel) -> FloatArray:
    """Each channel's own calibrated limit (channels,), in sigmas: the level's, else ``UNCALIBRATED_SIGMAS``."""
    if "level" in model.thresholds:
        return np.maximum(model.thresholds["level"].limit, 1e-9)
    return np.full(len(model.baseline.centre), UNCALIBRATED_SIGMAS)


def load_model(state: Mapping[str, Any], tables: Tables, channels: int, regimes: int) -> HealthyModel:
    """A model from its ``state``. Raises ValueError, TypeError, KeyError when it is not of so many channels and
    regimes."""
    detectors = build_detectors(tables, channels)
    thresholds = {}
    for name, detector in detectors.items():
        detector.load(restored.record(state["detectors"][name]))
        detector.memory = restored.sized(state["memories"][name], *detector.memory.shape)
        thresholds[name] = _load_threshold(state["thresholds"][name], len(detector.room(1)))
    return HealthyModel(
        load_baseline(state["baseline"], channels, regimes),
        detectors,
        thresholds,
        restored.number(state["evidence_limit"], LEAST_LIMIT),
        restored.whole(state["raise_ticks"], 1),
        restored.number(state["alone"], LEAST_LIMIT),
    )


def _load_threshold(state: Mapping[str, Any], statistics: int) -> Threshold:
    threshold = Threshold(restored.sized(state["typical"], statistics), restored.sized(state["limit"], statistics))
    if not (threshold.limit > threshold.typical).all():
        raise ValueError("a limit that healthy rows are beyond")
    return threshold


def first_votes(detectors: Mapping[str, Detector]) -> IntArray:
    """Places of the detectors that may stand alone."""
    return np.array([place for place, each in enumerate(detectors.values()) if not each.second_vote], dtype=np.int64)


def absent_detectors(tables: Tables) -> dict[str, str]:
    """Detectors named that cannot run on this device, with the reason: a runtime that is not installed."""
    absent: dict[str, str] = {}
    for name in sorted(tables):
        reason = getattr(load_plugin(detector_package.__name__, name), "unavailable", str)()
        if reason:
            absent[name] = reason
    return absent


def build_detectors(tables: Tables, channels: int) -> dict[str, Detector]:
    """The detectors of these tables by name, in order of name, less the absent ones. Raises BadConfig."""
    deps = DetectorDeps(channels)
    built: dict[str, Detector] = {}
    absent = absent_detectors(tables)
    for name in sorted(tables):
        plugin = load_plugin(detector_package.__name__, name)
        config = parse_config(plugin.Config, tables[name], f"detectors.{name}")
        if name not in absent:
            built[name] = plugin.build(config, deps)
    if not built:
        raise BadConfig(f"no detector can run here: {'; '.join(absent.values())}")
    return built
