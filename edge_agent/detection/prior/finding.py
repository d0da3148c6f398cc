"""Findings by the class's prior, in the shape of all findings: what the server and people read is the same. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.detection import fusion
from edge_agent.detection.findings.description import (
    FINDING_NAMESPACE,
    MAX_EVIDENCE_CHANNELS,
    MAX_REASON,
    MAX_REVISION,
    in_words,
    indicator_index,
    known_id,
)
from edge_agent.detection.findings.failure_mode import likely_mode
from edge_agent.detection.findings.signature import signature
from edge_agent.detection.prior.judge import PriorJudge
from edge_agent.detection.restored import evidence, flag, whole
from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.subject import Subject
from fleet_core.telemetry import ChannelEvidence, DetectionState, Finding

VOTE = "class_prior"
UNLIKE = "its own normal is unlike its class"
GROWN = 1.5
"""A finding is revised when the evidence grew by this factor."""


@dataclass
class PriorFindingMemory:
    """What was said last of a component's standing by its class."""

    finding_id: str = ""
    revision: int = 0
    evidence: float = 0.0
    unlike: bool = False


def load_prior_memory(state: Mapping[str, Any]) -> PriorFindingMemory:
    """A memory from its fields. Raises ValueError, TypeError, KeyError when it is none."""
    return PriorFindingMemory(
        finding_id=known_id(state["finding_id"]),
        revision=whole(state["revision"], 0, MAX_REVISION),
        evidence=evidence(state["evidence"]),
        unlike=flag(state["unlike"]),
    )


def judged_by(judge: PriorJudge, learned_fraction: float) -> str:
    """On which grounds, in words."""
    if judge.unlike:
        return f"{UNLIKE} ({judge.assets} healthy assets)"
    return f"judged by the class's prior (own baseline {learned_fraction:.0%} learnt)"


def worst_in_words(subject: Subject, judge: PriorJudge) -> str:
    """The vital farthest beyond its class, in words."""
    worst = int(np.abs(judge.ratios).argmax())
    metric, own = subject.channels[worst], judge.of_channel[worst]
    sigma = float(np.hypot(own.between, own.within))
    return in_words(metric.name, metric.unit, float(np.nan_to_num(judge.level[worst])), own.centre, sigma)


def prior_finding(
    subject: Subject,
    judge: PriorJudge,
    memory: PriorFindingMemory,
    learned_fraction: float,
    time_us: int,
    settings: DetectionSettings,
) -> Finding | None:
    """The finding, or its next revision, when there is something new to say."""
    if not judge.alarm:
        memory.finding_id = ""
        return None
    new = judge.unlike != memory.unlike or judge.evidence >= GROWN * memory.evidence
    if memory.finding_id and not new:
        return None
    if not memory.finding_id:
        identity = f"{subject.device_id}|{subject.slot}|{subject.serial}|{judge.since_us}|{VOTE}"
        memory.finding_id, memory.revision = str(uuid.uuid5(FINDING_NAMESPACE, identity)), 0
    memory.revision, memory.evidence, memory.unlike = memory.revision + 1, judge.evidence, judge.unlike
    ratios = judge.ratios
    blame = np.abs(ratios)
    indicator = indicator_index(subject, blame, settings)
    own = judge.of_channel[indicator]
    likely = likely_mode(subject.type, subject.channels, ratios)
    grounds = judged_by(judge, learned_fraction)
    return Finding(
        finding_id=memory.finding_id,
        revision=memory.revision,
        component=subject.slot,
        state=DetectionState.DEGRADING,
        score=fusion.score(judge.evidence),
        severity=fusion.severity(judge.evidence),
        detected_us=time_us,
        onset_us=min(judge.since_us or time_us, time_us),
        channels=_channels(subject, judge, blame),
        signature=_signature(subject, judge),
        detectors={VOTE: judge.evidence},
        indicator_metric=subject.channels[indicator].name,
        indicator_baseline=own.centre,
        indicator_sigma=float(np.hypot(own.between, own.within)),
        failure_mode=likely.mode,
        mode_confidence=likely.confidence,
        model_digest=judge.digest,
        trace_id=memory.finding_id.replace("-", ""),
        extra={"judged_by": grounds, "mode_reasons": [grounds, *(each[:MAX_REASON] for each in likely.reasons)]},
    )


def _channels(subject: Subject, judge: PriorJudge, blame: np.ndarray) -> tuple[ChannelEvidence, ...]:
    total = float(blame.sum()) or 1.0
    shown = [index for index in np.argsort(-blame, kind="stable").tolist() if judge.known[index]]
    return tuple(
        ChannelEvidence(
            subject.channels[index].name,
            subject.channels[index].unit,
            min(1.0, float(blame[index]) / total),
            judge.of_channel[index].centre,
            float(np.hypot(judge.of_channel[index].between, judge.of_channel[index].within)),
            float(np.clip(np.nan_to_num(judge.level[index]), -1e300, 1e300)),
        )
        for index in shown[:MAX_EVIDENCE_CHANNELS]
    )


def _signature(subject: Subject, judge: PriorJudge) -> tuple[float, ...]:
    """The finding's signature: deviations in the class's sigmas, no trends and no statistics."""
    sigmas = np.array([max(np.hypot(own.between, own.within), 1e-300) for own in judge.of_channel])
    away = np.where(judge.known, np.nan_to_num(judge.level - judge.centre) / sigmas, 0.0)
    return signature(subject.channels, np.clip(away, -1e9, 1e9), np.zeros(len(away)), {}, judge.evidence)
