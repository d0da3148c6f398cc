"""Verdicts on cohorts: an honest alarm, recalibration that works, abstention, and the way back."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fleet_server.prognosis.live_calibration.cohorts import (
    ALARM,
    MIN_FAILURES,
    WINDOW,
    WINDOW_LIVES,
    CohortVerdict,
    Scored,
    Standing,
    coverage_of,
    demanded,
    drift,
    lives_of,
    review,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPREAD = 1 / 1.2816  # of positions when the interval holds 80 %


def scored(
    number: int, position: float, *, failed: bool = True, under: Standing | None = None, **more: object
) -> Scored:
    """One life that ends ``number`` hours after the start, where its interval was stretched as ``under`` says."""
    under = under or Standing()
    shown = position / (under.early if position < 0 else under.late)
    fields: dict = {
        "unit": f"u{number}",
        "asset_id": f"a{number}",
        "made_at": START + (number - 0.5) * HOUR,
        "ended_at": START + number * HOUR,
        "failed": failed,
        "credit": float(abs(shown) <= 1),
        "position": shown,
        "early": under.early,
        "late": under.late,
    }
    return Scored(**(fields | more))


def run(positions: Iterable[float]) -> tuple[list[Standing], list[Scored]]:
    """Lives end one after the other; every change of verdict, and the scores."""
    standing, changes, scores = Standing(), [], []
    for number, position in enumerate(positions):
        scores.append(scored(number, float(position), under=standing))
        now = START + number * HOUR
        after = review(lives_of(scores, now), standing, now)
        if after is not standing:
            changes.append(after)
        standing = after
    return changes, scores


def normal(seed: int, count: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return shift + SPREAD * scale * np.random.default_rng(seed).standard_normal(count)


def test_intervals_that_keep_their_promise_are_left_alone() -> None:
    alarms = 0
    for seed in range(60):
        scores = [scored(n, float(position)) for n, position in enumerate(normal(seed, 200))]
        alarms += drift(lives_of(scores, START + 200 * HOUR)).wealth >= ALARM
    assert alarms <= 6  # about one in twenty in 200 lives, however often it was looked at


def test_a_drift_after_a_long_good_record_is_found_and_mended() -> None:
    changes, scores = run([*normal(1, 100), *normal(2, 120, shift=-1.2, scale=1.3)])
    assert changes[0].verdict is CohortVerdict.RECALIBRATE
    assert changes[0].early > 1.5
    found = int((changes[0].counts_from - START) / HOUR)
    assert 100 < found < 130
    after = [one for one in scores if one.made_at >= changes[0].counts_from]
    share, low, high = coverage_of(lives_of(after, START + 220 * HOUR))
    assert low <= 0.8 <= high or share > 0.8
    assert CohortVerdict.ABSTAIN not in [change.verdict for change in changes]


def test_a_drift_of_a_young_cohort_abstains_until_twenty_failures_show_the_way() -> None:
    changes, _ = run(normal(3, 60, shift=-2.5))
    assert [change.verdict for change in changes[:2]] == [CohortVerdict.ABSTAIN, CohortVerdict.RECALIBRATE]
    assert "too few" in changes[0].reason
    recalibrated = int((changes[1].counts_from - START) / HOUR)
    assert recalibrated >= MIN_FAILURES - 1


def test_what_no_stretch_mends_abstains() -> None:
    changes, _ = run([*normal(4, 60), *normal(5, 40, shift=-40.0)])
    assert changes[-1].verdict is CohortVerdict.ABSTAIN
    again = run([*normal(4, 40), *normal(5, 30, shift=-2.0), *normal(6, 40, shift=-14.0)])[0]
    assert CohortVerdict.ABSTAIN in [change.verdict for change in again]
    assert any("Even recalibrated" in change.reason for change in again)


def test_a_cohort_that_is_sound_again_is_restored() -> None:
    suspended = Standing(CohortVerdict.ABSTAIN, START, reason="x")
    lives = lives_of([scored(n, 0.5 * (-1) ** n) for n in range(MIN_FAILURES - 1)], START + 99 * HOUR)
    assert review(lives, suspended, START + 99 * HOUR) is suspended
    lives = lives_of([scored(n, 0.5 * (-1) ** n) for n in range(30)], START + 99 * HOUR)
    assert review(lives, suspended, START + 99 * HOUR).verdict is CohortVerdict.OK
    widened = Standing(CohortVerdict.RECALIBRATE, START - HOUR, 2.0, 1.5)
    lives = lives_of([scored(n, 0.5 * (-1) ** n, under=widened) for n in range(30)], START + 99 * HOUR)
    assert review(lives, widened, START + 99 * HOUR).verdict is CohortVerdict.OK
    lives = lives_of([scored(n, 1.4 * (-1) ** n, under=widened) for n in range(30)], START + 99 * HOUR)
    assert review(lives, widened, START + 99 * HOUR) is widened


def test_forecasts_made_before_a_verdict_are_not_held_against_it() -> None:
    standing = Standing(CohortVerdict.RECALIBRATE, START + 50 * HOUR, 2.0, 2.0)
    before = lives_of([scored(n, -9.0) for n in range(50)], START + 60 * HOUR)
    assert review(before, standing, START + 60 * HOUR) is standing


def test_the_same_asset_again_and_again_decides_little() -> None:
    one_asset = [scored(n, -5.0, asset_id="a") for n in range(40)]
    many = [scored(n, -5.0) for n in range(40)]
    alone, all_of_them = (drift(lives_of(scores, START + 50 * HOUR)).wealth for scores in (one_asset, many))
    assert alone < ALARM < all_of_them
    lives = lives_of(one_asset, START + 50 * HOUR)
    assert [life.weight for life in lives[:3]] == pytest.approx([1, 1 / 4, 1 / 9])


def test_a_life_with_many_forecasts_is_one_life() -> None:
    life = [scored(1, -5.0, made_at=START - n * HOUR) for n in range(500)]
    (only,) = lives_of(life, START + 5 * HOUR)
    assert drift([only]).wealth < 4


def test_only_the_window_counts() -> None:
    scores = [scored(n, 0.0) for n in range(WINDOW_LIVES + 30)]
    assert len(lives_of(scores, START + 300 * HOUR)) == WINDOW_LIVES
    assert lives_of(scores, START + WINDOW + 300 * HOUR) == []


def test_parts_replaced_before_the_late_end_say_nothing_against_it() -> None:
    lives = lives_of([scored(n, -1.5 if n % 3 == 0 else -0.5, failed=n % 3 == 0) for n in range(90)], START + 90 * HOUR)
    early, late = demanded(lives)
    assert early == pytest.approx(1.5)
    assert late == 1.0
    outlived = [*lives, *lives_of([scored(99, 2.0, failed=False)], START + 99 * HOUR)]
    assert demanded(outlived)[1] == float("inf")


def test_coverage_has_an_interval_that_holds_and_an_answer_for_nothing() -> None:
    missed = 0
    for seed in range(40):
        share, low, high = coverage_of(
            lives_of([scored(n, float(p)) for n, p in enumerate(normal(seed, 100))], START + 100 * HOUR)
        )
        assert 0 <= low <= share <= high <= 1
        missed += not low <= 0.8 <= high
    assert missed <= 4
    assert coverage_of([])[1:] == (0.0, 1.0)
    one = lives_of([scored(1, 0.0)], START + HOUR)
    assert coverage_of(one)[0] == 1.0
    assert coverage_of(one)[1] < 0.2


def test_positions_are_told_on_the_axis_without_stretch() -> None:
    under = replace(Standing(), verdict=CohortVerdict.RECALIBRATE, early=2.0, late=3.0)
    assert scored(1, -1.8, under=under).base_position == pytest.approx(-1.8)
    assert scored(1, 2.4, under=under).base_position == pytest.approx(2.4)
    assert scored(1, -1.8, under=under).credit == 1.0
