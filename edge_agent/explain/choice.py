"""Chooses what is explained: the N-th finding, a finding by its id, or the moment of the highest evidence. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edge_agent.detection.trace.memory import Trace
from edge_agent.detection.trace.records import ToldFinding
from fleet_core.errors import BadInput


@dataclass(frozen=True, slots=True)
class Choice:
    """A component's trace with one of its findings, or with none. ``choose`` fills in ``which``."""

    slot: str
    trace: Trace
    told: ToldFinding | None
    which: str = ""


def choose(choices: Sequence[Choice], wanted: str = "") -> Choice:
    """The choice that ``wanted`` names: a number from 1 on in order of detection, or the beginning of a finding's id.

    With "" the first finding is chosen; where there is no finding, the trace with the highest evidence. Raises BadInput
    with the findings there are.
    """
    findings = sorted((choice for choice in choices if choice.told), key=_detected)
    count = len(findings)
    findings = [replace(each, which=f"finding {index} of {count}") for index, each in enumerate(findings, 1)]
    if not wanted:
        return findings[0] if findings else max(choices, key=_worst)
    if not findings:
        raise BadInput("finding", "there is none; leave --finding out to see the highest evidence")
    if wanted.isdigit() and len(wanted) < 4:
        if 1 <= int(wanted) <= count:
            return findings[int(wanted) - 1]
        raise BadInput("finding", f"there is no finding {wanted}; there are 1 to {count}")
    fitting = [told for told in findings if told.told and told.told.finding.finding_id.startswith(wanted.lower())]
    if len(fitting) != 1:
        there = ", ".join(choice.told.finding.finding_id[:13] for choice in findings if choice.told)
        raise BadInput("finding", f"{wanted!r} is the id of {len(fitting)} findings; there are: {there}")
    return fitting[0]


def _detected(choice: Choice) -> int:
    return choice.told.detected_us if choice.told else 0


def _worst(choice: Choice) -> float:
    return choice.trace.peak.evidence if choice.trace.peak is not None else -1.0
