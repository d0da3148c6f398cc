"""Findings: what an alarm is made of, for the server and for people.

The signature (``SIGNATURE`` names its places) compares failures over the fleet: for each family of channels how far
the worst one stands from healthy (signed, log-compressed) and where it is heading, then each family of statistics'
ratio and the evidence. It is free of units and of channel names, so unlike assets can be compared.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_agent.detection import fusion
from edge_agent.detection.findings.failure_mode import Likely, family, likely_mode
from edge_agent.detection.healthy.model import HealthyModel, channel_limits
from edge_agent.detection.judging.judge import ComponentJudge, Segment
from edge_agent.detection.judging.states import ALARMS
from edge_agent.detection.recursion import Smoother
from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.subject import Subject
from fleet_core.assets import COMPONENT_TYPES, unit_label
from fleet_core.failure_rules import Family
from fleet_core.telemetry import ChannelEvidence, DetectionState, Finding

FINDING_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:forestall:finding")
MAX_EVIDENCE_CHANNELS = 16
MAX_REASON = 120
FAST, SLOW = 0.3, 0.05
_COURSE = Smoother((FAST, SLOW))

FAMILIES = tuple(Family)
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
    mode_reasons: list[str] = field(default_factory=list)
    ticks_since: int = 0
    waveforms_us: list[int] = field(default_factory=list)

    def state_tree(self) -> dict[str, Any]:
        return dict(self.__dict__)


def track(course: Course, segment: Segment, state: DetectionState, settings: DetectionSettings) -> None:
    """Follow the deviations; remember when all was last calm (the onset of what comes after it)."""
    if segment.deviation is None:
        return
    means = _COURSE.run(np.array((course.fast, course.slow)), segment.deviation)[-1]
    course.fast, course.slow = means[0], means[1]
    course.ticks_since += len(segment.times_us)
    calm = np.flatnonzero(segment.shown < settings.watch / 2)
    if calm.size or not course.calm_us:
        course.calm_us = int(segment.times_us[calm[-1] if calm.size else 0])
    if state in (DetectionState.HEALTHY, DetectionState.LEARNING):
        course.finding_id = ""


def finding(
    subject: Subject, course: Course, judge: ComponentJudge, time_us: int, settings: DetectionSettings
) -> Finding | None:
    """The finding, or its next revision, when there is something new to say: first alarm, another state or failure
    mode, or a severity changed by ``severity_step`` (the last two at most every ``revision_ticks``)."""
    state = judge.tracker.state
    if state not in ALARMS or judge.model is None:
        return None
    if course.finding_id and course.state == state and course.ticks_since < settings.revision_ticks:
        return None
    severity = fusion.severity(judge.evidence)
    mode, confidence, reasons = mode_now(subject, course, judge)
    if course.finding_id:
        if confidence < course.mode_confidence:  # a mode once seen stands until better evidence names another
            mode, confidence, reasons = course.failure_mode, course.mode_confidence, tuple(course.mode_reasons)
        material = abs(severity - course.severity) >= settings.severity_step or mode != course.failure_mode
        if course.state == state and not (material and course.ticks_since >= settings.revision_ticks):
            return None
    else:
        course.onset_us, course.revision = min(course.calm_us or time_us, time_us), 0
        identity = f"{subject.device_id}|{subject.slot}|{subject.serial}|{course.onset_us}"
        course.finding_id = str(uuid.uuid5(FINDING_NAMESPACE, identity))
    course.revision += 1
    course.severity, course.state, course.ticks_since = severity, str(state), 0
    course.failure_mode, course.mode_confidence, course.mode_reasons = mode, confidence, list(reasons)
    plane = judge.leading
    assert plane.model is not None and plane.judged is not None
    blame = plane.model.blame(plane.judged)
    ratios = votes(judge)
    indicator = indicator_index(subject, blame, settings)
    healthy, sigma = healthy_level(judge.model, indicator)
    return Finding(
        finding_id=course.finding_id,
        revision=course.revision,
        component=subject.slot,
        state=state,
        score=fusion.score(judge.evidence),
        severity=severity,
        detected_us=time_us,
        onset_us=course.onset_us,
        channels=_channels(subject, course, judge.model, blame),
        signature=signature(subject, course, judge, ratios),
        detectors=ratios,
        indicator_metric=subject.channels[indicator].name,
        indicator_baseline=healthy,
        indicator_sigma=sigma,
        failure_mode=mode,
        mode_confidence=confidence,
        model_digest=plane.digest,
        waveform_us=tuple(course.waveforms_us),
        trace_id=course.finding_id.replace("-", ""),
        extra=_extra(reasons, _unhealthy(subject, judge)),
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


def indicator_index(subject: Subject, blame: np.ndarray, settings: DetectionSettings) -> int:
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
    return int(np.argmax(blame))


def mode_now(subject: Subject, course: Course, judge: ComponentJudge) -> Likely:
    """The failure mode that the deviations speak for, as the plane that leads sees them in its calibrated limits."""
    plane = judge.leading
    assert judge.model is not None
    relative = course.fast / channel_limits(judge.model)
    if plane is judge.slow and plane.model is not None and plane.judged is not None:
        # what creeps is small beside the noise of single ticks, and large beside that of means
        slow = plane.judged.deviation[-1] / channel_limits(plane.model)
        relative = np.where(np.abs(slow) > np.abs(relative), slow, relative)
    return likely_mode(subject.type, subject.channels, relative)


def votes(judge: ComponentJudge) -> dict[str, float]:
    """Each detector's ratio to its calibrated limit on the plane that leads; empty while learning."""
    plane = judge.leading
    if plane.model is None or plane.judged is None:
        return {}
    return dict(zip(plane.model.names, plane.judged.detectors[-1].tolist(), strict=True))


def signature(
    subject: Subject, course: Course, judge: ComponentJudge, ratios: Mapping[str, float]
) -> tuple[float, ...]:
    """The fingerprint, laid out as ``SIGNATURE``."""
    groups: dict[Family, list[int]] = {name: [] for name in FAMILIES}
    for index, channel in enumerate(subject.channels):
        groups[family(channel)].append(index)
    deviation, trend = compressed(course.fast), compressed(course.fast - course.slow)
    worst = [max(members, key=lambda i: abs(deviation[i])) if members else -1 for members in groups.values()]
    return (
        *(float(deviation[i]) if i >= 0 else 0.0 for i in worst),
        *(float(trend[i]) if i >= 0 else 0.0 for i in worst),
        *(fusion.score(ratios.get(name, 0.0)) for name in STATISTICS),
        fusion.score(judge.evidence),
    )


def compressed(deviation: np.ndarray) -> np.ndarray:
    """Deviations in sigmas as -1..1, by their logarithm."""
    return np.asarray(np.sign(deviation) * np.minimum(1.0, np.log1p(np.abs(deviation)) / np.log1p(1000.0)))


def _channels(subject: Subject, course: Course, model: HealthyModel, blame: np.ndarray) -> tuple[ChannelEvidence, ...]:
    total = float(blame.sum()) or 1.0
    observed = model.baseline.physical(course.fast)
    order: Sequence[int] = np.argsort(-blame, kind="stable")[:MAX_EVIDENCE_CHANNELS].tolist()
    evidence = []
    for index in order:
        healthy, sigma = healthy_level(model, index)
        metric = subject.channels[index]
        share = min(1.0, float(blame[index]) / total)
        value = float(np.clip(np.nan_to_num(observed[index]), -1e300, 1e300))
        evidence.append(ChannelEvidence(metric.name, metric.unit, share, healthy, sigma, value))
    return tuple(evidence)


def _extra(reasons: Sequence[str], unhealthy: Mapping[str, str]) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if reasons:
        extra["mode_reasons"] = [each[:MAX_REASON] for each in reasons]
    if unhealthy:
        extra["unhealthy_channels"] = dict(unhealthy)
    return extra


def _unhealthy(subject: Subject, judge: ComponentJudge) -> dict[str, str]:
    """Channels left out at this moment, and why."""
    result = {}
    for channel, missing, stuck in zip(subject.channels, judge.health.missing, judge.health.stuck, strict=True):
        if missing or stuck:
            result[channel.name] = "missing" if missing else "stuck"
    return result
