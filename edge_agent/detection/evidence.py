"""Findings: what an alarm is made of, for the server and for people.

The signature (``SIGNATURE`` names its places) compares failures over the fleet: for each family of channels how far
the worst one stands from healthy (signed, log-compressed) and where it is heading, then each family of statistics'
ratio and the evidence. It is free of units and of channel names, so unlike assets can be compared.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_agent.detection import fuse
from edge_agent.detection.judge import ComponentJudge
from edge_agent.detection.learn import HealthyModel, Reading
from edge_agent.detection.settings import DetectionSettings
from fleet_core.assets import COMPONENT_TYPES, UNKNOWN_FAILURE_MODE, failure_mode, unit_label
from fleet_core.telemetry import ChannelEvidence, DetectionState, Finding, MetricSpec

FINDING_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:forestall:finding")
MAX_EVIDENCE_CHANNELS = 16
FAST, SLOW = 0.3, 0.05
ALARMS = (DetectionState.DEGRADING, DetectionState.CRITICAL)

FAMILIES = (
    "vibration_level", "vibration_shape", "vibration_spectrum", "temperature", "current", "speed", "pressure", "flow",
    "capacity", "other",
)  # fmt: skip
STATISTICS = ("level", "pca", "ewma", "cusum")
SIGNATURE = (
    *(f"{family}.deviation" for family in FAMILIES),
    *(f"{family}.trend" for family in FAMILIES),
    *(f"statistic.{name}" for name in STATISTICS),
    "evidence",
)
"""What each place of a finding's signature holds. Deviation and trend are -1..1, the rest 0..1."""


@dataclass
class Course:
    """What is remembered of one component between findings. Smoothed deviations are (channels,)."""

    fast: np.ndarray
    slow: np.ndarray
    calm_us: int = 0
    finding_id: str = ""
    onset_us: int = 0
    revision: int = 0
    severity: float = 0.0
    state: str = ""
    failure_mode: str = ""
    mode_confidence: float = 0.0
    ticks_since: int = 0
    waveforms_us: list[int] = field(default_factory=list)

    def state_tree(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom the findings of a slot are about."""

    device_id: str
    slot: str
    type: str
    serial: str
    channels: tuple[MetricSpec, ...]


def family(metric: MetricSpec) -> str:
    """The signature's family of a vital, by its unit and its name's words."""
    name = metric.name.lower()
    if any(word in name for word in ("kurtosis", "crest", "peak")):
        return "vibration_shape"
    if any(word in name for word in ("band_", "centroid")):
        return "vibration_spectrum"
    if metric.unit in ("[g]", "m/s2", "mm/s") or any(word in name for word in ("vibration", "accel", "bearing ")):
        return "vibration_level"
    for words, result in (
        (("temp", "thermo"), "temperature"),
        (("current", "voltage", "power"), "current"),
        (("rpm", "speed"), "speed"),
        (("pressure",), "pressure"),
        (("flow",), "flow"),
        (("capacity", "charge"), "capacity"),
    ):
        if any(word in name for word in words):
            return result
    return {"Cel": "temperature", "A": "current", "/min": "speed", "bar": "pressure", "A.h": "capacity"}.get(
        metric.unit, "other"
    )


def track(course: Course, judge: ComponentJudge, time_us: int, settings: DetectionSettings) -> None:
    """Follow the deviations; remember when all was last calm (the onset of what comes after it)."""
    assert judge.reading is not None
    course.fast = course.fast + FAST * (judge.reading.deviation - course.fast)
    course.slow = course.slow + SLOW * (judge.reading.deviation - course.slow)
    course.ticks_since += 1
    if judge.evidence < settings.watch / 2 or not course.calm_us:
        course.calm_us = time_us
    if judge.tracker.state in (DetectionState.HEALTHY, DetectionState.LEARNING):
        course.finding_id = ""


def finding(
    subject: Subject, course: Course, judge: ComponentJudge, time_us: int, settings: DetectionSettings
) -> Finding | None:
    """The finding, or its next revision, when there is something new to say: first alarm, another state or failure
    mode, or a severity changed by ``severity_step`` (the last two at most every ``revision_ticks``)."""
    state = judge.tracker.state
    if state not in ALARMS or judge.model is None or judge.reading is None:
        return None
    severity = fuse.severity(judge.evidence)
    mode, confidence = likely_mode(subject, course, judge.model)
    if course.finding_id:
        if confidence < course.mode_confidence:  # a mode once seen stands until better evidence names another
            mode, confidence = course.failure_mode, course.mode_confidence
        material = abs(severity - course.severity) >= settings.severity_step or mode != course.failure_mode
        if course.state == state and not (material and course.ticks_since >= settings.revision_ticks):
            return None
    else:
        course.onset_us, course.revision = min(course.calm_us or time_us, time_us), 0
        identity = f"{subject.device_id}|{subject.slot}|{subject.serial}|{course.onset_us}"
        course.finding_id = str(uuid.uuid5(FINDING_NAMESPACE, identity))
    course.revision += 1
    course.severity, course.state, course.ticks_since = severity, str(state), 0
    course.failure_mode, course.mode_confidence = mode, confidence
    indicator = indicator_index(subject, judge.reading, settings)
    healthy, sigma = healthy_level(judge.model, indicator)
    return Finding(
        finding_id=course.finding_id,
        revision=course.revision,
        component=subject.slot,
        state=state,
        score=fuse.score(judge.evidence),
        severity=severity,
        detected_us=time_us,
        onset_us=course.onset_us,
        channels=_channels(subject, course, judge.model, judge.reading),
        signature=signature(subject, course, judge),
        detectors={name: min(1e6, ratio) for name, ratio in judge.reading.detectors.items()},
        indicator_metric=subject.channels[indicator].name,
        indicator_baseline=healthy,
        indicator_sigma=sigma,
        failure_mode=mode,
        mode_confidence=confidence,
        model_digest=judge.model_digest,
        waveform_us=tuple(course.waveforms_us),
        trace_id=course.finding_id.replace("-", ""),
        extra={"unhealthy_channels": _unhealthy(subject, judge)} if _unhealthy(subject, judge) else {},
    )


def healthy_level(model: HealthyModel, channel: int) -> tuple[float, float]:
    """A channel's healthy level and one robust sigma around it, in the channel's unit, at the mean regime."""
    blank = np.zeros(len(model.baseline.centre))
    centre = float(np.nan_to_num(model.baseline.physical(blank)[channel]))
    above = float(np.nan_to_num(model.baseline.physical(blank + 1)[channel]))
    return centre, abs(above - centre)


def in_words(name: str, ucum: str, now: float, healthy: float, sigma: float) -> str:
    """``vibration kurtosis 4.97, healthy 3.65 ± 0.23``: rounded to two digits of one sigma, the unit as on a page."""
    decimals = min(9, max(0, 1 - math.floor(math.log10(sigma)))) if sigma > 0 and math.isfinite(sigma) else 2
    unit = f" {label}" if (label := unit_label(ucum)) else ""
    words = name.replace(".", " ").replace("_", " ")
    return f"{words} {now:.{decimals}f}{unit}, healthy {healthy:.{decimals}f} ± {sigma:.{decimals}f}{unit}"


def indicator_index(subject: Subject, reading: Reading, settings: DetectionSettings) -> int:
    """The channel that best follows the degradation: configured, else by the component's type, else the worst."""
    names = [channel.name for channel in subject.channels]
    configured = settings.indicator.get(subject.slot)
    if configured in names:
        return names.index(configured)
    kind = COMPONENT_TYPES.get(subject.type)
    if kind is not None:
        fitting = [i for i, each in enumerate(subject.channels) if each.unit == kind.indicator_unit]
        named = [i for i in fitting if kind.indicator in names[i].lower()]
        if best := sorted(named or fitting, key=lambda i: ("rms" not in names[i].lower(), i)):
            return best[0]
    return int(np.argmax(reading.channels))


def likely_mode(subject: Subject, course: Course, model: HealthyModel) -> tuple[str, float]:
    """Likely failure mode and confidence 0..1 from simple evidence: which families stand above their limits.

    Limits are the calibrated ones of the level statistic where it runs, else of the component as a whole.
    """
    limits = model.thresholds["level"].limit if "level" in model.thresholds else np.full(len(subject.channels), 6.0)
    relative = course.fast / np.maximum(limits, 1e-9)
    up: dict[str, float] = {}
    altered = any(
        family(channel) == "vibration_spectrum" and abs(value) >= 0.5
        for channel, value in zip(subject.channels, relative, strict=True)
    )
    for channel, value in zip(subject.channels, relative, strict=True):
        up[family(channel)] = max(up.get(family(channel), 0.0), float(value))
    vibrating, impulsive = up.get("vibration_level", 0.0) >= 0.5, up.get("vibration_shape", 0.0) >= 0.5
    hot = up.get("temperature", 0.0) >= 0.5
    possible = COMPONENT_TYPES[subject.type].failure_modes if subject.type in COMPONENT_TYPES else ()
    if "bearing_seizure" in possible and (vibrating or impulsive):
        return "bearing_seizure", 0.5 + 0.15 * impulsive + 0.2 * hot
    if "bearing_seizure" in possible and altered:
        return "bearing_seizure", 0.4
    overheating = next((mode for mode in possible if failure_mode(mode).iso_mode == "OHE"), "")
    if hot and not vibrating and overheating:
        return overheating, 0.7
    if subject.type in ("disk", "fan", "battery", "pump"):
        return possible[0], 0.5
    if not possible and vibrating:
        return "bearing_seizure", 0.3 + 0.15 * impulsive
    return (UNKNOWN_FAILURE_MODE, 0.0)


def signature(subject: Subject, course: Course, judge: ComponentJudge) -> tuple[float, ...]:
    """The fingerprint, laid out as ``SIGNATURE``."""
    assert judge.reading is not None
    groups: dict[str, list[int]] = {name: [] for name in FAMILIES}
    for index, channel in enumerate(subject.channels):
        groups[family(channel)].append(index)
    deviation, trend = _compressed(course.fast), _compressed(course.fast - course.slow)
    worst = [max(members, key=lambda i: abs(deviation[i])) if members else -1 for members in groups.values()]
    ratios = judge.reading.detectors
    return (
        *(float(deviation[i]) if i >= 0 else 0.0 for i in worst),
        *(float(trend[i]) if i >= 0 else 0.0 for i in worst),
        *(fuse.score(ratios.get(name, 0.0)) for name in STATISTICS),
        fuse.score(judge.evidence),
    )


def _compressed(deviation: np.ndarray) -> np.ndarray:
    return np.asarray(np.sign(deviation) * np.minimum(1.0, np.log1p(np.abs(deviation)) / np.log1p(1000.0)))


def _channels(subject: Subject, course: Course, model: HealthyModel, reading: Reading) -> tuple[ChannelEvidence, ...]:
    total = float(reading.channels.sum()) or 1.0
    observed = model.baseline.physical(course.fast)
    order: Sequence[int] = np.argsort(-reading.channels, kind="stable")[:MAX_EVIDENCE_CHANNELS].tolist()
    evidence = []
    for index in order:
        healthy, sigma = healthy_level(model, index)
        metric = subject.channels[index]
        share = min(1.0, float(reading.channels[index]) / total)
        value = float(np.clip(np.nan_to_num(observed[index]), -1e300, 1e300))
        evidence.append(ChannelEvidence(metric.name, metric.unit, share, healthy, sigma, value))
    return tuple(evidence)


def _unhealthy(subject: Subject, judge: ComponentJudge) -> dict[str, str]:
    """Channels left out at this moment, and why."""
    result = {}
    for channel, missing, stuck in zip(subject.channels, judge.health.missing, judge.health.stuck, strict=True):
        if missing or stuck:
            result[channel.name] = "missing" if missing else "stuck"
    return result
