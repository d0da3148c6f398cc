"""Cohorts of scored prognoses: do the intervals hold what they promise in the field, and what follows if they do not.

A cohort is a component type in an asset class under one model version. Its *lives* are lives of components, with the
scores of their prognoses averaged, in the order in which they ended.

The test of the promise is a bet: it stakes on "fewer than 80 % of the lives end inside their intervals", and if the
promise holds, the expected wealth does not grow. Unlike a p-value, the wealth may be looked at after every life. The
bet is restarted whenever its wealth falls below the stake (an e-CUSUM), so that a long good record does not hide a
drift that begins today. With intervals that hold their promise, a false alarm comes at most once in :data:`ALARM` lives
on average.

Verdicts: ``ok``; ``recalibrate``, with the factors by which the outcomes of the cohort demand wider intervals;
``abstain``, when too few lives support such factors, when no useful factor suffices, or when the promise is broken
in spite of them. A verdict is judged by prognoses made under it and is lifted when 20 further failures show that it is
no longer needed.

Invariants: pure. The k-th life of an asset within the window weighs 1/k², so an asset counts little more than once and
no single asset decides a verdict.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np

from fleet_server.prognosis.calibration import COVERAGE
from fleet_server.prognosis.signatures import Floats
from fleet_server.prognosis.survival import product_limit

ALARM = 200.0
WINDOW_LIVES = 200
WINDOW = timedelta(days=180)
MIN_FAILURES = 20
MAX_STRETCH = 6.0
_SOUND_STRETCH = 1.05
_BETS = np.array([0.125, 0.25, 0.5, 1.0, 2.0, 3.0])  # stakes per life; 1 / (1 - COVERAGE) = 5 would risk ruin
_GRID = np.linspace(0.0025, 0.9975, 200)
_SHARES = np.array([0.05, 0.1, 0.2, 0.35, 0.5])


class CohortVerdict(StrEnum):
    OK = "ok"
    RECALIBRATE = "recalibrate"
    ABSTAIN = "abstain"


@dataclass(frozen=True, slots=True)
class Cohort:
    component_type: str
    asset_class: str
    model_version: str

    def __str__(self) -> str:
        return f"{self.component_type}/{self.asset_class}/{self.model_version}"


@dataclass(frozen=True, slots=True)
class Scored:
    """The latest score of one prognosis (see ``scoring.Score``) and the conditions under which it was made.

    ``unit`` names the life of the component; ``early`` and ``late`` are the factors by which the cohort's verdict had
    stretched the interval when it was issued.
    """

    unit: str
    asset_id: str
    made_at: datetime
    ended_at: datetime
    failed: bool
    credit: float
    position: float
    early: float = 1.0
    late: float = 1.0

    @property
    def base_position(self) -> float:
        """The position of the end on the axis of the interval without the cohort's stretch."""
        return self.position * (self.early if self.position < 0 else self.late)


@dataclass(frozen=True, slots=True)
class Life:
    """One life of a component with the scores of its prognoses.

    ``weight`` is 1/k² for the k-th life of the asset, ``credit`` the mean credit of the scores.
    """

    unit: str
    asset_id: str
    ended_at: datetime
    failed: bool
    credit: float
    weight: float
    scores: tuple[Scored, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """The verdict under which a cohort stands, with its stretch factors.

    The next review judges only prognoses that were made from ``counts_from`` on (under ``abstain``: lives that ended
    from then on).
    """

    verdict: CohortVerdict = CohortVerdict.OK
    counts_from: datetime | None = None
    early: float = 1.0
    late: float = 1.0
    reason: str = "Nothing speaks against its intervals."


@dataclass(frozen=True, slots=True)
class Drift:
    """Result of the bet against the promise.

    ``wealth`` is its highest wealth as a multiple of the stake (1: nothing won); ``began`` is the index of the first
    life of the run that reached it.
    """

    wealth: float
    began: int


def lives_of(scores: Iterable[Scored], now: datetime) -> list[Life]:
    """The newest ``WINDOW_LIVES`` lives that ended within ``WINDOW`` before ``now``, in the order of their ends."""
    by_unit: dict[str, list[Scored]] = defaultdict(list)
    for one in scores:
        by_unit[one.unit].append(one)
    groups = sorted(by_unit.items(), key=lambda item: (max(one.ended_at for one in item[1]), item[0]))
    seen: Counter[str] = Counter()
    lives = []
    for unit, group in groups[-WINDOW_LIVES:]:
        ended_at = max(one.ended_at for one in group)
        if now - ended_at > WINDOW:
            continue
        asset_id = group[0].asset_id
        seen[asset_id] += 1
        credit = float(np.mean([one.credit for one in group]))
        failed = any(one.failed for one in group)
        lives.append(Life(unit, asset_id, ended_at, failed, credit, 1.0 / seen[asset_id] ** 2, tuple(group)))
    return lives


def drift(lives: Sequence[Life]) -> Drift:
    """The bet that fewer lives than promised end inside, restarted at every low: see the module docstring."""
    wealth = np.ones(_BETS.size)
    began = np.zeros(_BETS.size, dtype=int)
    best = Drift(1.0, 0)
    for index, life in enumerate(lives):
        began = np.where(wealth <= 1.0, index, began)
        wealth = np.maximum(wealth, 1.0) * (1.0 + _BETS * life.weight * (COVERAGE - life.credit))
        if float(wealth.mean()) > best.wealth:
            best = Drift(float(wealth.mean()), int(began[int(np.argmax(wealth))]))
    return best


def coverage_of(lives: Sequence[Life]) -> tuple[float, float, float]:
    """Share of lives that ended inside their intervals, and the two ends of its 95 % confidence sequence.

    A confidence sequence stays valid however often it is read. Without lives the share is NaN.
    """
    if not lives:
        return float("nan"), 0.0, 1.0
    inside, weights = (np.array([getattr(life, name) for life in lives]) for name in ("credit", "weight"))
    mean = float(np.average(inside, weights=weights))
    off = (inside[:, None] - _GRID) * weights[:, None]  # (n, grid)
    up = _best_wealth(off, 1.0 / _GRID)
    down = _best_wealth(-off, 1.0 / (1.0 - _GRID))
    kept = _GRID[np.max((up + down) / 2, axis=0) < 20.0]
    low, high = (float(kept[0]), float(kept[-1])) if kept.size else (mean, mean)
    return mean, max(0.0, min(low, mean)), min(1.0, max(high, mean))


def review(lives: Sequence[Life], standing: Standing, now: datetime) -> Standing:
    """The verdict after the lives of the window; the same ``standing`` object when the verdict does not change."""
    if standing.verdict is CohortVerdict.ABSTAIN:
        return _may_speak_again([life for life in lives if _from(life.ended_at, standing)], standing, now)
    judged = _made_under(lives, standing)
    found = drift(judged)
    if found.wealth < ALARM:
        return _lifted(judged, standing, now)
    since = judged[found.began :]
    share = coverage_of(since)[0]
    why = f"{share:.0%} of the last {len(since)} lives ended inside intervals that promise {COVERAGE:.0%}"
    if standing.verdict is CohortVerdict.RECALIBRATE:
        return Standing(CohortVerdict.ABSTAIN, now, reason=f"Even recalibrated, {why}.")
    recent = since if _failures(since) >= MIN_FAILURES else _newest(judged)
    if _failures(recent) < MIN_FAILURES:
        few = f"{_failures(recent)} failures are too few to recalibrate, {MIN_FAILURES} are needed"
        return Standing(CohortVerdict.ABSTAIN, since[0].ended_at, reason=f"Only {why}, and {few}.")
    early, late = demanded(recent)
    if max(early, late) > MAX_STRETCH:
        return Standing(
            CohortVerdict.ABSTAIN, now, reason=f"Only {why}, and no interval of use would keep the promise."
        )
    return _recalibrated(early, late, now, f"Only {why}")


def demanded(lives: Sequence[Life]) -> tuple[float, float]:
    """The early and the late factor by which the unstretched intervals must be widened to cover these lives.

    A factor below 1 says that the interval is wider than needed. The late factor is infinite when lives outlived the
    interval and too few failures say by how much.
    """
    positions, failed, weights = [], [], []
    for life in lives:
        for one in life.scores:
            positions.append(one.base_position)
            failed.append(one.failed)
            weights.append(life.weight / len(life.scores))
    ends = np.array(positions, dtype=np.float64)
    values, beyond = product_limit(ends, np.array(failed), np.array(weights))
    # The next life must be covered, too, so the share asked of n known lives is a little more than the promised share.
    side = min(1.0, (1.0 + COVERAGE) / 2 * (1.0 + 1.0 / max(1, _failures(lives))))
    before = np.concatenate(([0.0], 1.0 - beyond[:-1]))  # share that ended below each value
    early = -float(values[np.flatnonzero(before <= 1.0 - side + 1e-9)[-1]])
    reached = np.flatnonzero(1.0 - beyond >= side - 1e-9)
    if reached.size:
        late = float(values[reached[0]])
    else:  # parts are replaced before their late end is seen: no bound, unless every part stayed within its interval
        late = 1.0 if float(ends.max()) <= 1.0 else np.inf
    return round(early, 4), round(late, 4)


def _may_speak_again(lives: Sequence[Life], standing: Standing, now: datetime) -> Standing:
    if _failures(lives) < MIN_FAILURES:
        return standing
    early, late = demanded(lives)
    failures = f"the forecasts kept back were set against {_failures(lives)} failures"
    if max(early, late) <= _SOUND_STRETCH:
        return Standing(CohortVerdict.OK, now, reason=f"Sound again: {failures}.")
    return _recalibrated(early, late, now, f"Since {failures}") if max(early, late) <= MAX_STRETCH else standing


def _lifted(judged: Sequence[Life], standing: Standing, now: datetime) -> Standing:
    """A recalibration is lifted when the unstretched intervals would have kept the promise."""
    if (
        standing.verdict is CohortVerdict.OK
        or _failures(judged) < MIN_FAILURES
        or max(demanded(judged)) > _SOUND_STRETCH
    ):
        return standing
    return Standing(CohortVerdict.OK, now, reason=f"{_failures(judged)} failures no longer demand wider intervals.")


def _recalibrated(early: float, late: float, now: datetime, why: str) -> Standing:
    early, late = max(1.0, early), max(1.0, late)
    text = f"{why}; the early side is stretched by {early:.2f}, the late side by {late:.2f}."
    return Standing(CohortVerdict.RECALIBRATE, now, early, late, text)


def _made_under(lives: Sequence[Life], standing: Standing) -> list[Life]:
    """The lives, with only those of their prognoses that were made under the standing verdict."""
    kept = []
    for life in lives:
        scores = tuple(one for one in life.scores if _from(one.made_at, standing))
        if scores:
            credit = float(np.mean([one.credit for one in scores]))
            kept.append(Life(life.unit, life.asset_id, life.ended_at, life.failed, credit, life.weight, scores))
    return kept


def _from(at: datetime, standing: Standing) -> bool:
    return standing.counts_from is None or at >= standing.counts_from


def _failures(lives: Sequence[Life]) -> int:
    return sum(life.failed for life in lives)


def _newest(lives: Sequence[Life]) -> Sequence[Life]:
    """The newest lives that hold ``MIN_FAILURES`` failures, or all lives when there are fewer."""
    for start in range(len(lives) - 1, -1, -1):
        if _failures(lives[start:]) >= MIN_FAILURES:
            return lives[start:]
    return lives


def _best_wealth(off: Floats, largest: Floats) -> Floats:
    """Running wealth (n, grid) of bets on ``off`` (n, grid), averaged over stakes.

    ``largest`` (grid,) is the stake that would risk everything, for each value of the grid.
    """
    logs = [np.cumsum(np.log1p(np.maximum(share * largest * off, -0.999)), axis=0) for share in _SHARES]
    wealth: Floats = np.exp(np.minimum(logs, 700.0)).mean(axis=0)
    return wealth
