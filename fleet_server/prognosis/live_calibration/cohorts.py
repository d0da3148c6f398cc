"""Cohorts of scored prognoses: do the intervals keep their promise in the field, and what follows if they do not.

A cohort is a component type in an asset class under one model. Its lives (one component each, its prognoses averaged)
come in the order in which they ended. The test of the promise may be looked at after every life, since it is a bet and
not a p-value: one stakes on "fewer than 80 % inside", and if the promise holds the wealth cannot be expected to grow.
It is restarted whenever it falls below its stake (an e-CUSUM), so a long good record does not hide a drift that begins
today; with intervals that keep their promise it errs at most once in :data:`ALARM` lives on average.

Verdicts: ``ok``; ``recalibrate``, with the factors by which the cohort's own outcomes demand wider intervals;
``abstain``, when too few lives carry such factors, when none would do, or when the promise is broken even so. A verdict
is judged by prognoses made under it; it is lifted when 20 further failures show that it is no longer needed.

Invariants: pure. An asset counts about once: its k-th life in the window weighs 1/k², so no single asset decides.
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
    """The latest score of one prognosis (see ``scoring.Score``), with what it was made under.

    ``unit`` is the component's life, ``early`` and ``late`` are the cohort's stretch the interval was issued with.
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
        """The position on the axis of the interval without the cohort's stretch."""
        return self.position * (self.early if self.position < 0 else self.late)


@dataclass(frozen=True, slots=True)
class Life:
    """One component's life with its prognoses; ``weight`` as the k-th of its asset, ``credit`` their mean."""

    unit: str
    asset_id: str
    ended_at: datetime
    failed: bool
    credit: float
    weight: float
    scores: tuple[Scored, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """The verdict on a cohort. Only what was made (``abstain``: what ended) from ``counts_from`` on is judged next."""

    verdict: CohortVerdict = CohortVerdict.OK
    counts_from: datetime | None = None
    early: float = 1.0
    late: float = 1.0
    reason: str = "Nothing speaks against its intervals."


@dataclass(frozen=True, slots=True)
class Drift:
    """``wealth``: the most the bet against the promise has won (1: nothing); ``began``: the first life of that run."""

    wealth: float
    began: int


def lives_of(scores: Iterable[Scored], now: datetime) -> list[Life]:
    """The newest lives of the window, in the order of their ends."""
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
    """The bet that fewer than promised end inside, restarted at every low: see the module's text."""
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
    """Share of lives inside their intervals, with the ends of a 95 % confidence sequence (valid however often read)."""
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
    """The verdict after the lives of the window; the very same object when it stands."""
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
    """Factors by which the lives demand the unstretched intervals be widened; below 1: wider than needed."""
    positions, failed, weights = [], [], []
    for life in lives:
        for one in life.scores:
            positions.append(one.base_position)
            failed.append(one.failed)
            weights.append(life.weight / len(life.scores))
    ends = np.array(positions, dtype=np.float64)
    values, beyond = product_limit(ends, np.array(failed), np.array(weights))
    # A further life must be covered too, so the share asked of n lives is a little more than the one promised.
    side = min(1.0, (1.0 + COVERAGE) / 2 * (1.0 + 1.0 / max(1, _failures(lives))))
    before = np.concatenate(([0.0], 1.0 - beyond[:-1]))  # share that ended below each value
    early = -float(values[np.flatnonzero(before <= 1.0 - side + 1e-9)[-1]])
    reached = np.flatnonzero(1.0 - beyond >= side - 1e-9)
    if reached.size:
        late = float(values[reached[0]])
    else:  # parts are replaced before the late end is seen: infinite only if some have outlived the interval
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
    """The lives with only the prognoses made under the verdict."""
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
    """The newest lives that hold enough failures, or all."""
    for start in range(len(lives) - 1, -1, -1):
        if _failures(lives[start:]) >= MIN_FAILURES:
            return lives[start:]
    return lives


def _best_wealth(off: Floats, largest: Floats) -> Floats:
    """Mean over stakes of the running wealth of betting on ``off`` (n, grid); ``largest`` stake of each grid value."""
    logs = [np.cumsum(np.log1p(np.maximum(share * largest * off, -0.999)), axis=0) for share in _SHARES]
    wealth: Floats = np.exp(np.minimum(logs, 700.0)).mean(axis=0)
    return wealth
