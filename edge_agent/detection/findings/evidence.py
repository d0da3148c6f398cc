"""Findings: what an alarm is made of, for the server and for people. When there is one: ``judging/plane.py`` says what
is believed, ``judging/states.py`` what is sustained."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_agent.detection import fusion, restored
from edge_agent.detection.findings.description import (
    FINDING_NAMESPACE,
    MAX_EVIDENCE_CHANNELS,
    MAX_REASON,
    MAX_REVISION,
    indicator_index,
    known_id,
)
from edge_agent.detection.findings.failure_mode import Likely, likely_mode
from edge_agent.detection.findings.signature import signature
from edge_agent.detection.healthy.model import HealthyModel, channel_limits
from edge_agent.detection.judging.segment import Segment, Standing
from edge_agent.detection.judging.states import ALARMS
from edge_agent.detection.recursion import Smoother
from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.subject import Subject
from fleet_core.telemetry import ChannelEvidence, DetectionState, Finding

FAST, SLOW = 0.3, 0.05
_COURSE = Smoother((FAST, SLOW))


@dataclass
class FindingMemory:
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
        """For a snapshot: it is made of its own fields."""
        return dict(self.__dict__)


def load_memory(state: Mapping[str, Any], channels: int) -> FindingMemory:
    """A memory from its ``state_tree``. Raises ValueError, TypeError, KeyError when it is of other channels, or is
    none."""
    return FindingMemory(
        fast=restored.sized(state["fast"], channels),
        slow=restored.sized(state["slow"], channels),
        calm_us=restored.time_us(state["calm_us"]),
        finding_id=known_id(state["finding_id"]),
        onset_us=restored.time_us(state["onset_us"]),
        revision=restored.whole(state["revision"], 0, MAX_REVISION),
        severity=restored.number(state["severity"], 0.0, 1.0),
        state=restored.text(state["state"]),
        failure_mode=restored.text(state["failure_mode"]),
        mode_confidence=restored.number(state["mode_confidence"], 0.0, 1.0),
        mode_reasons=[restored.text(reason) for reason in restored.items(state["mode_reasons"])],
        ticks_since=restored.whole(state["ticks_since"]),
        waveforms_us=[restored.time_us(at_us) for at_us in restored.items(state["waveforms_us"])],
    )


def track(memory: FindingMemory, segment: Segment, state: DetectionState, settings: DetectionSettings) -> None:
    """Follow the deviations; remember when all was last calm (the onset of what comes after it)."""
    if segment.deviation is None:
        return
    means = _COURSE.run(np.array((memory.fast, memory.slow)), segment.deviation)[-1]
    memory.fast, memory.slow = means[0], means[1]
    memory.ticks_since += len(segment.times_us)
    calm = np.flatnonzero(segment.shown < settings.watch / 2)
    if calm.size or not memory.calm_us:
        memory.calm_us = int(segment.times_us[calm[-1] if calm.size else 0])
    if state in (DetectionState.HEALTHY, DetectionState.LEARNING):
        memory.finding_id = ""


def finding(
    subject: Subject, memory: FindingMemory, standing: Standing, time_us: int, settings: DetectionSettings
) -> Finding | None:
    """The finding, or its next revision, when there is something new to say: first alarm, another state or failure
    mode, or a severity changed by ``severity_step`` (the last two at most every ``revision_ticks``)."""
    state = standing.state
    if state not in ALARMS:
        return None
    if memory.finding_id and memory.state == state and memory.ticks_since < settings.revision_ticks:
        return None
    severity = fusion.severity(standing.evidence)
    mode, confidence, reasons = mode_now(subject, memory, standing)
    if memory.finding_id:
        if confidence < memory.mode_confidence:  # a mode once seen stands until better evidence names another
            mode, confidence, reasons = memory.failure_mode, memory.mode_confidence, tuple(memory.mode_reasons)
        material = abs(severity - memory.severity) >= settings.severity_step or mode != memory.failure_mode
        if memory.state == state and not (material and memory.ticks_since >= settings.revision_ticks):
            return None
    else:
        memory.onset_us, memory.revision = min(memory.calm_us or time_us, time_us), 0
        identity = f"{subject.device_id}|{subject.slot}|{subject.serial}|{memory.onset_us}"
        memory.finding_id = str(uuid.uuid5(FINDING_NAMESPACE, identity))
    memory.revision += 1
    memory.severity, memory.state, memory.ticks_since = severity, str(state), 0
    memory.failure_mode, memory.mode_confidence, memory.mode_reasons = mode, confidence, list(reasons)
    blame, votes = standing.blame(), standing.votes()
    indicator = indicator_index(subject, blame, settings)
    healthy, sigma = healthy_level(standing.ticks, indicator)
    trend = memory.fast - memory.slow
    return Finding(
        finding_id=memory.finding_id,
        revision=memory.revision,
        component=subject.slot,
        state=state,
        score=fusion.score(standing.evidence),
        severity=severity,
        detected_us=time_us,
        onset_us=memory.onset_us,
        channels=_channels(subject, memory, standing.ticks, blame),
        signature=signature(subject.channels, memory.fast, trend, votes, standing.evidence),
        detectors=votes,
        indicator_metric=subject.channels[indicator].name,
        indicator_baseline=healthy,
        indicator_sigma=sigma,
        failure_mode=mode,
        mode_confidence=confidence,
        model_digest=standing.digest,
        waveform_us=tuple(memory.waveforms_us),
        trace_id=memory.finding_id.replace("-", ""),
        extra=_extra(reasons, _unhealthy(subject, standing)),
    )


def healthy_level(model: HealthyModel, channel: int) -> tuple[float, float]:
    """A channel's healthy level and one robust sigma around it, in the channel's unit, at the mean regime."""
    blank = np.zeros(len(model.baseline.centre))
    centre = float(np.nan_to_num(model.baseline.physical(blank)[channel]))
    above = float(np.nan_to_num(model.baseline.physical(blank + 1)[channel]))
    return centre, abs(above - centre)


def mode_now(subject: Subject, memory: FindingMemory, standing: Standing) -> Likely:
    """The failure mode that the deviations speak for, as the plane that leads sees them in its calibrated limits."""
    relative = memory.fast / channel_limits(standing.ticks)
    if standing.creeps:
        # what creeps is small beside the noise of single ticks, and large beside that of means
        slow = standing.judged.deviation[-1] / channel_limits(standing.model)
        relative = np.where(np.abs(slow) > np.abs(relative), slow, relative)
    return likely_mode(subject.type, subject.channels, relative)


def _channels(
    subject: Subject, memory: FindingMemory, model: HealthyModel, blame: np.ndarray
) -> tuple[ChannelEvidence, ...]:
    total = float(blame.sum()) or 1.0
    observed = model.baseline.physical(memory.fast)
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


def _unhealthy(subject: Subject, standing: Standing) -> dict[str, str]:
    """Channels left out at this moment, and why."""
    result = {}
    for channel, missing, stuck in zip(subject.channels, standing.missing, standing.stuck, strict=True):
        if missing or stuck:
            result[channel.name] = "missing" if missing else "stuck"
    return result
