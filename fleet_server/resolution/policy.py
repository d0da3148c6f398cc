"""What may be decided automatically, and what a prognosis leads to. Pure: (policy, prognosis, finding) -> judgement.

Defaults stand here; a tenant overrides single values in ``tenant.policy``. A tenant's policy that cannot be read
never widens what the machine may do: the defaults apply and every case asks a person first.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fleet_core.assets import UNKNOWN_FAILURE_MODE, AssetClass
from fleet_core.errors import BadConfig
from fleet_server.resolution.rows import Prognosis

ALWAYS_APPROVED_BY_PEOPLE = frozenset({AssetClass.INFUSION_PUMP.value, AssetClass.VENTILATOR.value})
"""Asset classes for which no policy can switch the human approval off."""


MAX_LOOK_AGAIN_H = 24.0
URGENCIES = ("low", "normal", "high", "immediate")
_DueH = Annotated[float, Field(gt=0, le=2160)]


class Line(BaseModel):
    """One line of the chain: ``owner``, ``second_line``, ``last_line``, a role of ours, or ``person:ID``. ``wait_h``:
    how long it has to decide; None: as ``escalation_due_h`` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: str = Field(pattern=r"^(owner|second_line|last_line|case_owner|fleet_operator|administrator|person:.{1,64})$")
    wait_h: float | None = Field(default=None, gt=0, le=720)


class Policy(BaseModel):
    """Limits of automatic acting. Hours are domain time; ``retry_first_s`` is real time (a transport's).

    Values are taken as they are: a text is no number, ``true`` is none either, and no number is without end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    act_probability: float = Field(default=0.5, ge=0, le=1)
    act_horizon_h: float = Field(default=168.0, gt=0, le=8760)
    cost_limit_eur: float = Field(default=5000.0, ge=0)
    require_approval: bool = False
    approval_classes: tuple[str, ...] = Field(default=(), strict=False)  # a list, as TOML and JSON have it
    mode_confidence: float = Field(default=0.6, ge=0, le=1)
    """How sure both the device and the neighbours must be of different failure modes to count as a conflict."""
    notice_h: float = Field(default=2.0, ge=0, le=336)
    """No window begins sooner than this after it is planned."""
    work_h: float = Field(default=2.0, gt=0, le=72)
    planning_horizon_h: float = Field(default=336.0, gt=0, le=2160)
    """How far ahead a window is looked for at most, whatever the deadline; from the part's arrival on when a person
    accepted a late repair."""
    late_window_h: float = Field(default=72.0, gt=0, le=2160)
    """A late window is the quietest that begins within this after the earliest possible start, else the first."""
    verify_h: float = Field(default=6.0, gt=0, le=720)
    overdue_h: float = Field(default=24.0, gt=0, le=720)
    replan_threshold_h: float = Field(default=6.0, ge=0, le=720)
    look_again_h: float = Field(2.0, gt=0, le=168)
    """How soon a case that is only watched is judged again, as its vitals arrive; old cases less often."""
    patience_h: float = Field(48.0, gt=0, le=2160)
    """How long a device may insist while its indicator stays healthy before a person is asked."""
    vitals_wait_h: float = Field(4.0, ge=0, le=168)
    """How long vitals may be on their way (after an outage the finding overtakes them) before a person is asked."""
    escalation_due_h: dict[str, _DueH] = {"low": 48.0, "normal": 24.0, "high": 8.0, "immediate": 2.0}
    escalation_chain: tuple[Line, ...] = Field(
        default=(Line(to="owner"), Line(to="second_line"), Line(to="last_line")),
        min_length=1,
        max_length=20,
        strict=False,
    )
    """Who is asked, one line after the other while nobody decides."""
    repeat_shares: tuple[Annotated[float, Field(ge=0.01, le=1)], ...] = Field(
        default=(0.5, 0.25, 1 / 6), min_length=1, strict=False
    )
    """The last line is asked again after these shares of its hours, then at the last of them until somebody acts."""
    last_line: str = ""
    """The person who is asked when nobody else decides; "" for whoever has the role for it."""
    questions_per_shift: int = Field(default=20, ge=1, le=1000)
    """More open questions than these of one shift are not put to one person: the next goes to the next line."""
    shift_h: float = Field(default=8.0, gt=0, le=48)
    by_hand_h: float = Field(default=72.0, gt=0, le=720)
    """How long a case that a person took over may go without a word before that person is asked how it stands."""
    mail_patience_h: float = Field(default=24.0, gt=0, le=120)
    """How long a message is tried again whose receiver asks for it later, before a person is asked. Real time."""
    retry_attempts: int = Field(default=8, ge=1, le=50)
    retry_first_s: float = Field(default=0.5, gt=0, le=3600)

    @field_validator("approval_classes")
    @classmethod
    def _known_classes(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        _all_known(classes, [kind.value for kind in AssetClass], "asset class")
        return classes

    @field_validator("escalation_due_h")
    @classmethod
    def _known_urgencies(cls, due_h: dict[str, float]) -> dict[str, float]:
        _all_known(due_h, URGENCIES, "urgency")
        return due_h

    def asks_a_person(self, asset_class: str) -> bool:
        """Whether a person must approve before anything is reserved or booked."""
        return self.require_approval or asset_class in self.approval_classes or asset_class in ALWAYS_APPROVED_BY_PEOPLE

    def backoff_s(self, attempts: int) -> float:
        """Real seconds to wait after ``attempts`` failed calls (1, 2, ...): doubling, at most ten minutes."""
        return min(600.0, self.retry_first_s * 2.0 ** min(attempts - 1, 20))


class Verdict(StrEnum):
    ACT = "act"
    WATCH = "watch"
    ASK = "ask"


class PolicyJudgement(BaseModel):
    """What the policy makes of a prognosis. ``reason`` is a stable code; ``text`` explains it to people."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    reason: str
    text: str
    probability: float | None = None


def policy_for(overrides: Mapping[str, object]) -> Policy:
    """A tenant's policy. Raises BadConfig naming the value that is wrong, and for an unknown key the nearest known."""
    try:
        return Policy.model_validate(dict(overrides))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            said = f"unknown key; {_nearest(where, Policy.model_fields)}"
        raise BadConfig(f"policy: {where}: {said}") from None


def safe_policy(overrides: Mapping[str, object]) -> tuple[Policy, str]:
    """A tenant's policy and "", or the cautious one (a person approves everything) and what is wrong."""
    try:
        return policy_for(overrides), ""
    except BadConfig as error:
        return Policy.model_validate({"require_approval": True}), str(error)


def judge(
    policy: Policy,
    prognosis: Prognosis,
    device_mode: str,
    mode_confidence: float,
    *,
    watched_h: float = 0.0,
    related: str = "",
) -> PolicyJudgement:
    """Act, watch or ask a person. ``device_mode`` is what the device believes, ``mode_confidence`` (0..1) how firmly.

    ``watched_h`` is how long the case has been open. ``related`` names another open case of the same asset: what has
    no forecast of its own beside it may be the same trouble and is looked at again, not handed to a person as well.
    """
    if prognosis.conflicting:
        return PolicyJudgement(verdict=Verdict.ASK, reason="conflicting_evidence", text=prognosis.reason)
    if prognosis.abstained and watched_h < policy.patience_h:
        if related:
            text = f"{prognosis.reason} It may be the trouble that {related} repairs; it is judged again meanwhile"
            return PolicyJudgement(verdict=Verdict.WATCH, reason="related_case", text=text)
        if prognosis.abstain_code == "healthy_level":
            text = f"{prognosis.reason} The device saw it early; it is judged again as its vitals arrive"
            return PolicyJudgement(verdict=Verdict.WATCH, reason="too_early", text=text)
    if prognosis.abstained and prognosis.abstain_code == "stale" and watched_h < policy.vitals_wait_h:
        text = f"{prognosis.reason} What the device has since stored is on its way; it is judged again as it arrives"
        return PolicyJudgement(verdict=Verdict.WATCH, reason="vitals_awaited", text=text)
    if prognosis.abstained:
        return PolicyJudgement(
            verdict=Verdict.ASK, reason="abstained", text=f"No prognosis was made: {prognosis.reason}"
        )
    likely_mode, share = prognosis.failure_mode, _largest_share(prognosis.mode_share)
    both_sure = mode_confidence >= policy.mode_confidence and share >= policy.mode_confidence
    if both_sure and UNKNOWN_FAILURE_MODE not in (device_mode, likely_mode) and device_mode != likely_mode:
        text = (
            f"The device sees {device_mode} (confidence {mode_confidence:.0%}), "
            f"similar past cases were {likely_mode} (share {share:.0%})"
        )
        return PolicyJudgement(verdict=Verdict.ASK, reason="conflicting_evidence", text=text)
    probability = probability_within(prognosis.p_fail, prognosis.survival, policy.act_horizon_h)
    if probability is None:
        text = f"The prognosis says nothing about {policy.act_horizon_h:g} h"
        return PolicyJudgement(verdict=Verdict.ASK, reason="abstained", text=text)
    text = f"Probability of failure within {policy.act_horizon_h:g} h is {probability:.0%}{_interval(prognosis)}"
    if probability >= policy.act_probability:
        return PolicyJudgement(verdict=Verdict.ACT, reason="likely_failure", text=text, probability=probability)
    text += f", below {policy.act_probability:.0%}"
    return PolicyJudgement(verdict=Verdict.WATCH, reason="below_policy", text=text, probability=probability)


def probability_within(
    p_fail: Mapping[str, float], survival: Sequence[Sequence[float]], horizon_h: float
) -> float | None:
    """Probability of failure within ``horizon_h`` hours: stated, else read off the survival curve, else None.

    Beyond the curve's end its last value holds, which can only understate the probability.
    """
    for hours, probability in p_fail.items():
        if math.isclose(float(hours), horizon_h):
            return float(probability)
    points = [(0.0, 1.0), *((float(hours), float(alive)) for hours, alive in survival if float(hours) > 0)]
    if len(points) < 2:
        return None
    for (left_h, left), (right_h, right) in itertools.pairwise(points):
        if left_h <= horizon_h <= right_h:
            return 1.0 - (left + (right - left) * (horizon_h - left_h) / (right_h - left_h))
    return 1.0 - points[-1][1]


def deadline(prognosis: Prognosis) -> datetime | None:
    """The early end of the interval of the time to failure, or None when nothing was predicted."""
    if prognosis.abstained or prognosis.rul_p10_h is None:
        return None
    return prognosis.made_at + timedelta(hours=max(0.0, prognosis.rul_p10_h))


def look_again_after_h(policy: Policy, age_h: float) -> float:
    """Hours until a case that is only watched is judged again: a quarter of its age, at least ``look_again_h``, at most
    a day (or ``look_again_h`` where that is longer). News from the device is judged at once all the same."""
    return max(policy.look_again_h, min(age_h / 4, MAX_LOOK_AGAIN_H))


def urgency(deadline_at: datetime | None, now: datetime, criticality: int) -> str:
    """low, normal, high or immediate; the most critical assets are one step more urgent."""
    if deadline_at is None:
        level = 1
    else:
        hours_left = (deadline_at - now).total_seconds() / 3600
        level = 3 if hours_left < 24 else 2 if hours_left < 72 else 1 if hours_left < 336 else 0
    return URGENCIES[min(3, level + (criticality == 1))]


def needs_replan(policy: Policy, window_end: datetime, planned_for: datetime | None, moved_to: datetime | None) -> bool:
    """Whether a deadline that moved from ``planned_for`` to ``moved_to`` no longer leaves room for the window."""
    if moved_to is None or window_end <= moved_to:
        return False
    return planned_for is None or planned_for - moved_to > timedelta(hours=policy.replan_threshold_h)


def _all_known(names: Iterable[str], known: Sequence[str], what: str) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is no {what}; {_nearest(name, known)}")


def _nearest(name: str, known: Iterable[str]) -> str:
    """What may have been meant by a name that is not known, else all that there are."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"


def _interval(prognosis: Prognosis) -> str:
    early_h, middle_h, late_h = prognosis.rul_p10_h, prognosis.rul_p50_h, prognosis.rul_p90_h
    if early_h is None or middle_h is None or late_h is None:
        return ""
    return f"; time to failure {middle_h:.0f} h, in 80 of 100 such cases {early_h:.0f} to {late_h:.0f} h"


def _largest_share(mode_share: Mapping[str, float]) -> float:
    return max((float(share) for share in mode_share.values()), default=0.0)
