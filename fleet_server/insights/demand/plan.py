"""The demand plan: which parts and skills the fleet will need, with intervals, and what to order. Pure.

Every installed component counts once, by the best information about it (:func:`chance`):

* A component whose open case has its part (or its engineer) needs none.
* A component with a confirmed case needs one before the deadline of the case, as often as such cases needed one.
* A component with a valid prognosis needs one with its probability of failing within the horizon.
* Every other component (without a prognosis, with an abstention, or with a prognosis that it outlived or that a closed
  case settled) counts as a member of its class. The replacement rate of a class is a Gamma posterior: the tenant's own
  history on a weak prior.

Time in which an asset stands still for maintenance does not count.

The need of a part is the distribution of the sum, with a cohort factor that all components with a prognosis share (see
counts.py). The proposed order tops up the stock to what covers lead time and review period with the wanted certainty.
Nothing is ordered here: the plan is a proposal, deterministic in its inputs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np

from fleet_core.errors import BadInput
from fleet_server.insights.demand.counts import Count, bernoulli_sum, negative_binomial, plus, total
from fleet_server.prognosis.survival import SurvivalCurve

DAY_H = 24.0
YEAR_H = 365.25 * DAY_H
MAX_DAYS = 365
MAX_HORIZONS = 5
OUTLIVED = 0.02
"""A prognosis is refuted when its unit still lives at a time that less than this share of units was to reach."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Assumptions of the plan where nothing is known, and its levels of certainty.

    ``lead_days`` stands for a lead time that nobody stated; orders are reviewed every ``review_days``. ``service`` is
    the certainty with which an order prevents a shortage, ``level`` that of the intervals (0..1). ``cohort_sigma`` is
    the spread of the cohort factor. The prior of a class rate is ``prior_failures`` failures in ``prior_failures``
    times ``prior_life_years`` unit-years: half a failure in 2.5 unit-years.
    """

    lead_days: float = 14.0
    review_days: float = 7.0
    service: float = 0.95
    level: float = 0.8
    cohort_sigma: float = 0.3
    prior_failures: float = 0.5
    prior_life_years: float = 5.0


class Basis(StrEnum):
    """The information that the need of a component rests on."""

    PROVIDED = "provided"  # the part is reserved, or the engineer booked
    CASE = "case"
    PROGNOSIS = "prognosis"
    CLASS = "class"


@dataclass(frozen=True, slots=True)
class OpenCase:
    """The open case of a component; ``deadline_h`` is in hours from now, None for a case without a deadline."""

    confirmed: bool
    reserved: bool
    booked: bool
    deadline_h: float | None


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed component, the source of its part, and the information about its future.

    ``scope`` names the history that its class rate rests on (tenant, jurisdiction, component type). ``curve`` is the
    survival curve of its newest valid prognosis, which was made ``age_h`` hours ago. ``stopped_h`` is the number of
    hours from now for which its asset stands still.
    """

    scope: tuple[str, ...]
    part_no: str
    centre_id: str
    skill: str
    region: str
    mode: str = "unknown"
    curve: SurvivalCurve | None = None
    age_h: float = 0.0
    stopped_h: float = 0.0
    case: OpenCase | None = None


@dataclass(frozen=True, slots=True)
class History:
    """The history of one scope: ``replaced`` units in ``hours`` of service, and ``used`` parts in ended ``cases``."""

    replaced: int = 0
    hours: float = 0.0
    cases: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True)
class Shelf:
    """The stock of a part in a centre, in pieces; ``lead_days`` is None when nobody stated the lead time."""

    on_hand: int
    on_order: int = 0
    reserved: int = 0
    lead_days: float | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """The need within ``days``, in pieces: mean and interval; ``forecast`` is the part from prognoses and cases."""

    days: int
    mean: float
    low: int
    high: int
    forecast: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """The proposed order of ``quantity`` pieces, at ``order_by`` at the latest.

    ``short_p`` is the probability of running out without the order.
    """

    quantity: int
    order_by: datetime | None
    short_p: float
    lead_days: float
    lead_assumed: bool


@dataclass(frozen=True, slots=True)
class Line:
    """The need of one part from one centre, or of one skill in one region."""

    key: tuple[str, str]
    components: int
    basis: Mapping[str, int]
    modes: Mapping[str, float]
    needs: tuple[Need, ...]
    shelf: Shelf | None = None
    proposal: Proposal | None = None
    booked: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """The demand plan: parts to order come first, then parts by their need; skills are sorted by their need."""

    parts: tuple[Line, ...]
    skills: tuple[Line, ...]


@dataclass(slots=True)
class _Group:
    members: list[Installed] = field(default_factory=list)
    booked: int = 0


def plan_demand(
    installed: Sequence[Installed],
    histories: Mapping[tuple[str, ...], History],
    shelves: Mapping[tuple[str, str], Shelf],
    days: Sequence[int],
    now: datetime,
    assumed: Assumptions,
) -> Plan:
    """The need of every part in every centre and of every skill in every region, within each of ``days``.

    Only a (part, centre) with an entry in ``shelves`` gets a proposed order. A component without a part number counts
    for its skill only.
    """
    parts: defaultdict[tuple[str, str], _Group] = defaultdict(_Group)
    skills: defaultdict[tuple[str, str], _Group] = defaultdict(_Group)
    for one in installed:
        if one.part_no:
            parts[one.part_no, one.centre_id].members.append(one)
        skills[one.skill, one.region].members.append(one)
        skills[one.skill, one.region].booked += bool(one.case and one.case.booked)
    lines = []
    for key, group in parts.items():
        outlook = _Outlook(group.members, histories, assumed, "reserved")
        shelf = shelves.get(key)
        offer = outlook.proposal(shelf, now) if shelf else None
        lines.append(outlook.line(key, days, shelf, offer))
    lines.sort(key=lambda line: (not (line.proposal and line.proposal.quantity), -line.needs[0].mean, line.key))
    jobs = [
        _Outlook(group.members, histories, assumed, "booked").line(key, days, booked=group.booked)
        for key, group in skills.items()
    ]
    return Plan(tuple(lines), tuple(sorted(jobs, key=lambda line: (-line.needs[0].mean, line.key))))


def chance(one: Installed, hours: float, used_share: float, provided: str = "reserved") -> tuple[Basis, float]:
    """The basis of a component's need within ``hours``, and the probability of the need (0 for ``CLASS``).

    ``provided`` is "reserved" for the need of a part and "booked" for that of an engineer. ``used_share`` (0..1) is the
    share of confirmed cases that needed one.
    """
    case = one.case
    if case and getattr(case, provided):
        return Basis.PROVIDED, 0.0
    left = one.curve.at(one.age_h) if one.curve else 0.0
    stands, fails = left >= OUTLIVED, 0.0
    if one.curve and stands:  # the probability is given that the component has survived until now
        fails = 1.0 - one.curve.at(one.age_h + max(0.0, hours - one.stopped_h)) / left
    if case and case.confirmed:
        in_time = case.deadline_h is None or case.deadline_h <= hours
        return Basis.CASE, max(fails, used_share if in_time else 0.0)
    return (Basis.PROGNOSIS, fails) if stands else (Basis.CLASS, 0.0)


def parse_days(text: str) -> tuple[int, ...]:
    """Read horizons in days, such as ``30,90``; ascending and without repetition.

    Raises:
        BadInput: ``days`` when the text is not a list of up to five whole numbers from 1 to 365.
    """
    words = text.split(",")
    if len(words) > MAX_HORIZONS or not all(word.strip().isdecimal() and len(word.strip()) <= 3 for word in words):
        raise BadInput("days", f"{text[:40]!r}: give up to {MAX_HORIZONS} whole numbers of days, such as 30,90")
    days = tuple(sorted({int(word) for word in words}))
    if not 1 <= days[0] <= days[-1] <= MAX_DAYS:
        raise BadInput("days", f"{text[:40]!r}: days are 1 to {MAX_DAYS}")
    return days


def curve_of(points: Sequence[Sequence[float]], quantiles: Sequence[float | None] = ()) -> SurvivalCurve | None:
    """The survival curve of a stored prognosis.

    It is made of the stored ``points`` (hours, share surviving), or of the ``quantiles`` (p10, p50, p90) in hours where
    there are too few points. None when neither suffices.
    """
    known = np.array(points, dtype=np.float64).reshape(-1, 2)
    known = known[np.isfinite(known).all(axis=1)]
    if len(known) < 2:
        hours = np.array([0.0, *quantiles], dtype=np.float64)
        if len(hours) == 4 and np.isfinite(hours).all():
            known = np.column_stack((hours, (1.0, 0.9, 0.5, 0.1)))
    if len(known) < 2:
        return None
    hours, surviving = known[np.lexsort((-known[:, 1], known[:, 0]))].T
    hours, surviving = np.maximum(hours, 0.0), np.minimum.accumulate(np.clip(surviving, 0.0, 1.0))
    return SurvivalCurve(np.append(hours, hours[-1] * 1.05 + 1), np.append(surviving, 0.0), float(hours[-1]))


class _Outlook:
    """The need of one group of components; ``provided`` as in :func:`chance`."""

    def __init__(
        self,
        members: Sequence[Installed],
        histories: Mapping[tuple[str, ...], History],
        assumed: Assumptions,
        provided: str,
    ) -> None:
        self._members, self._histories, self._assumed, self._provided = members, histories, assumed, provided

    def judged(self, hours: float) -> Iterable[tuple[Installed, Basis, float]]:
        for one in self._members:
            past = self._histories.get(one.scope, History())
            share = (past.used + 1) / (past.cases + 2)
            yield (one, *chance(one, hours, share, self._provided))

    def count(self, hours: float) -> tuple[Count, Count]:
        """The need within ``hours`` as two counts: that from prognoses and cases, and that from class rates."""
        chances: list[float] = []
        ahead_h: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for one, basis, probability in self.judged(hours):
            if basis is Basis.CLASS:
                ahead_h[one.scope] += max(0.0, hours - one.stopped_h)
            else:
                chances.append(probability)
        prior_h = self._assumed.prior_failures * self._assumed.prior_life_years * YEAR_H
        classes = []
        for scope, scope_h in sorted(ahead_h.items()):
            past = self._histories.get(scope, History())
            shape = self._assumed.prior_failures + past.replaced
            classes.append(negative_binomial(shape, prior_h + max(0.0, past.hours), scope_h))
        return bernoulli_sum(np.array(chances), self._assumed.cohort_sigma), total(classes)

    def need(self, days: int) -> Need:
        foreseen, of_class = self.count(days * DAY_H)
        count = plus(foreseen, of_class)
        low, high = count.interval(self._assumed.level)
        return Need(days, count.mean, low, high, foreseen.mean)

    def line(
        self,
        key: tuple[str, str],
        days: Sequence[int],
        shelf: Shelf | None = None,
        proposal: Proposal | None = None,
        booked: int = 0,
    ) -> Line:
        bases: Counter[str] = Counter()
        modes: defaultdict[str, float] = defaultdict(float)
        for one, basis, probability in self.judged(days[-1] * DAY_H):
            bases[basis.value] += 1
            if probability:
                modes[one.mode] += probability
        ordered = dict(sorted(modes.items(), key=lambda item: (-item[1], item[0])))
        needs = tuple(self.need(horizon) for horizon in days)
        return Line(key, len(self._members), dict(sorted(bases.items())), ordered, needs, shelf, proposal, booked)

    def proposal(self, shelf: Shelf, now: datetime) -> Proposal:
        """The order that makes the stock last until an order of the next review would arrive.

        ``order_by`` is the last day on which ordering still prevents a shortage with the certainty ``service``.
        """
        assumed = self._assumed
        lead_days = assumed.lead_days if shelf.lead_days is None else shelf.lead_days
        position = shelf.on_hand + shelf.on_order

        def until(days: float) -> Count:
            return plus(*self.count((lead_days + days) * DAY_H))

        count = until(assumed.review_days)
        quantity = max(0, count.quantile(assumed.service) - position)
        order_by = None
        if quantity:
            safe, late = 0, max(1, int(np.ceil(assumed.review_days)))
            while late - safe > 1:
                middle = (safe + late) // 2
                covered = until(middle).quantile(assumed.service) <= position
                safe, late = (middle, late) if covered else (safe, middle)
            order_by = now + timedelta(days=safe)
        return Proposal(quantity, order_by, 1.0 - count.at_most(position), lead_days, shelf.lead_days is None)
