"""The promise of the interval: over lives, in each phase, with few lives, with censored ones; and its stored form."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_core.errors import BadInput
from fleet_server.prognosis.rul.boosting import Boosted
from fleet_server.prognosis.rul.conformal import Conformal, fit_conformal
from fleet_server.prognosis.rul.lives import independent_lives, quantile_of_lives, student


def _lives(seed: int, lives: int, rows: int = 40) -> tuple[np.ndarray, ...]:
    """Lives with an error of their own that shrinks towards the end, quantiles that are far too narrow; the share."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(lives), rows)
    length = np.repeat(rng.uniform(120, 360, lives), rows)
    share = np.tile((np.arange(rows) + 0.5) / rows, lives)
    remaining = length * (1 - share)
    own = np.repeat(rng.standard_normal(lives), rows)
    middle = np.maximum(remaining * np.exp(0.15 * own * (1.05 - share)) + rng.normal(0, 1, len(unit)), 0.0)
    return middle * 0.97, middle, middle * 1.03, remaining, unit, share


def _coverage(made: Conformal, seed: int, lives: int = 400) -> tuple[float, list[float]]:
    """Over all fresh lives, and in each third of true life and of the predicted median."""
    low, middle, high, remaining, _, share = _lives(seed, lives)
    low, high = made.apply(low, middle, high)
    inside = (low <= remaining) & (remaining <= high)
    predicted = np.argsort(np.argsort(middle)) / len(middle)
    thirds = [inside[(phase * 3).astype(int) == third].mean() for phase in (share, predicted) for third in range(3)]
    return float(inside.mean()), thirds


def test_holds_over_all_and_in_each_third_of_life() -> None:
    overall, thirds = [], []
    for seed in range(5):
        made = fit_conformal(*_lives(seed, 100)[:5])
        assert made is not None and made.basis == "phases"
        everywhere, each = _coverage(made, 1000 + seed)
        overall.append(everywhere)
        thirds.append(each)
    assert abs(np.mean(overall) - 0.8) < 0.04
    means = np.mean(thirds, axis=0)
    assert np.abs(means[3:] - 0.8).max() < 0.06, means  # the phase as it is predicted: promised
    assert np.abs(means[:3] - 0.8).max() < 0.1, means  # the true one, never known: near it


def test_holds_at_the_very_end_where_errors_shrink() -> None:
    rng = np.random.default_rng(12)

    def rows(lives: int) -> tuple[np.ndarray, ...]:
        unit = np.repeat(np.arange(lives), 100)
        remaining = np.tile(np.arange(100.0), lives)
        middle = np.maximum(remaining * np.exp(0.3 * rng.standard_normal(lives))[unit] + rng.normal(0, 1, len(unit)), 0)
        return middle * 0.9, middle, middle * 1.1, remaining, unit

    made = fit_conformal(*rows(100))
    assert made is not None
    low, middle, high, remaining, _ = rows(2000)
    low, high = made.apply(low, middle, high)
    order = np.argsort(middle)[: len(middle) // 20]
    inside = ((low <= remaining) & (remaining <= high))[order]
    assert inside.mean() == pytest.approx(0.8, abs=0.07)


def test_variance_that_a_forecast_will_not_have_is_not_promised_for() -> None:
    held: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(5):
        low, middle, high, remaining, unit, _ = _lives(seed, 100)
        middle = middle + 30.0
        remaining = remaining + 30.0
        noise = 0.12 * middle
        noisy = middle + noise * np.random.default_rng(seed).standard_normal(len(middle))
        for told in (False, True):
            made = fit_conformal(
                noisy - 1, noisy, noisy + 1, remaining, unit, excess=noise**2 if told else np.zeros(len(unit))
            )
            assert made is not None
            _, fresh, _, truth, _, _ = _lives(1000 + seed, 400)
            low, high = made.apply(fresh + 29, fresh + 30, fresh + 31)
            held[told].append(float(((low <= truth + 30) & (truth + 30 <= high)).mean()))
    assert np.mean(held[False]) > 0.9
    assert np.mean(held[True]) == pytest.approx(0.8, abs=0.06)


def test_excess_is_what_averaging_over_all_members_takes_away() -> None:
    many = Boosted(("",) * 10)
    ways = np.array([[4.0, 6.0], [5.0, 5.0]])
    np.testing.assert_allclose(many.excess(ways), [2.0 * (1 / 2 - 1 / 10), 0.0])
    np.testing.assert_array_equal(many.excess(ways[:, :1]), 0.0)


def test_lives_count_as_one_row_where_their_rows_agree_and_for_more_where_not() -> None:
    rng = np.random.default_rng(0)
    unit, ended = np.repeat(np.arange(60), 10), np.ones(600, dtype=bool)
    alike = np.repeat(rng.standard_normal(60), 10)
    assert independent_lives(alike, unit, ended, 0.9, 60) == pytest.approx(60, abs=1.5)
    apart = rng.standard_normal(600)
    for low in (False, True):
        assert 300 < independent_lives(apart, unit, ended, 0.9, 60, low=low) < 1200
    assert independent_lives(apart, unit, ~ended, 0.9, 60) == 60
    assert independent_lives(apart, np.zeros(600, dtype=int), ended, 0.9, 60) == 60
    plain = quantile_of_lives(apart, unit, ended, 0.9)
    assert quantile_of_lives(apart, unit, ended, 0.9, lives=math.inf) <= plain


@pytest.mark.parametrize(
    ("lives", "basis"), [(2, "normal"), (3, "normal"), (4, "pooled"), (8, "pooled"), (9, "phases")]
)
def test_few_lives_widen(lives: int, basis: str) -> None:
    held = []
    for seed in range(40):
        made = fit_conformal(*_lives(seed, lives, rows=10)[:5])
        assert made is not None and made.basis == basis and made.units == lives
        held.append(_coverage(made, 500 + seed, lives=60)[0])
    assert np.mean(held) >= 0.77  # two lives: nearly always far too wide; nine: near what was promised


@pytest.mark.parametrize("lives", [2, 3, 5, 8])
def test_few_lives_measure_by_the_median_not_by_accidental_widths(lives: int) -> None:
    low, middle, high, remaining, unit, _ = _lives(11, lives)
    accident = np.random.default_rng(1).uniform(0.01, 30, len(unit))
    made = fit_conformal(low, middle, high, remaining, unit)
    odd = fit_conformal(middle - accident, middle, middle + accident, remaining, unit)
    assert made is not None and odd is not None and Conformal.from_json(made.to_json()) == made
    assert (made.early, made.late, made.typical_late) == (odd.early, odd.late, odd.typical_late)
    early, late = made.apply(low, middle, high)
    half = late - middle
    far = middle > np.quantile(middle, 0.9)
    assert half[far].mean() > 2 * half[middle < np.quantile(middle, 0.1)].mean()  # narrower towards the end
    assert (early <= middle).all() and (early >= 0).all()


def test_one_life_promises_nothing() -> None:
    assert fit_conformal(*_lives(0, 1)[:5]) is None


def test_a_life_of_many_rows_weighs_as_one() -> None:
    low, middle, high, remaining, unit, _ = _lives(3, 60)
    odd = unit == 0
    repeats = np.where(odd, 200, 1)  # one life reports 200 times as often
    plain = fit_conformal(low, middle, high, remaining, unit)
    often = fit_conformal(
        *(np.repeat(each, repeats) for each in (low, middle, high, remaining)), np.repeat(unit, repeats)
    )
    assert plain is not None and often is not None
    np.testing.assert_allclose(often.late, plain.late, rtol=0.35, atol=0.35)


def test_a_useful_scale_is_trusted_and_a_noisy_one_is_not() -> None:
    _, middle, _, remaining, unit, _ = _lives(4, 120)
    rng = np.random.default_rng(0)
    spread = np.exp(rng.normal(0, 1.2, len(unit)))
    noisy = fit_conformal(middle - 5 * spread, middle, middle + 5 * spread, remaining, unit)
    error = np.abs(remaining - middle) * rng.uniform(0.8, 1.6, len(unit))  # a scale that knows the size of the error
    telling = fit_conformal(middle - error, middle, middle + error, remaining, unit)
    assert noisy is not None and telling is not None
    assert noisy.trust <= 0.25 and telling.trust >= 0.75


def test_censored_lives_push_the_late_end_out() -> None:
    low, middle, high, remaining, unit, share = _lives(5, 150)
    kept = (unit % 3 > 0) | (share < 0.6)  # every third life was stopped at 60 %
    stopped = (unit % 3 == 0)[kept]
    seen = np.where(stopped, (remaining - remaining[np.searchsorted(unit, unit)] * 0.4)[kept], remaining[kept])
    rows = (low[kept], middle[kept], high[kept], np.maximum(seen, 0.0), unit[kept])
    naive, honest = fit_conformal(*rows), fit_conformal(*rows, failed=~stopped)
    assert naive is not None and honest is not None and honest.units == 100
    assert _coverage(honest, 77)[0] > 0.75
    assert honest.apply(low, middle, high)[1].mean() > naive.apply(low, middle, high)[1].mean()


def test_stored_and_read_again_to_the_bit() -> None:
    low, middle, high, remaining, unit, _ = _lives(6, 30)
    made = fit_conformal(low, middle, high, remaining, unit)
    assert made is not None
    again = Conformal.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made
    for one, other in zip(again.apply(low, middle, high), made.apply(low, middle, high), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "change",
    [
        {"knots": [1.0, 1.0]},
        {"knots": []},
        {"early": [1.0]},
        {"late": ["x", 2]},
        {"level": 1.5},
        {"trust": -0.1},
        {"floor": float("nan")},
        {"units": None},
    ],
)
def test_a_broken_record_is_refused(change: dict[str, object]) -> None:
    good = Conformal(0.8, 20, "phases", 0.5, 0.5, *((1.0, 2.0),) * 5).to_json()
    assert Conformal.from_json(good).units == 20
    with pytest.raises(BadInput):
        Conformal.from_json({**good, **change})
    with pytest.raises(BadInput):
        Conformal.from_json([good])


def test_refuses_what_it_cannot_use() -> None:
    rows = _lives(7, 12)[:5]
    with pytest.raises(BadInput, match="one entry"):
        fit_conformal(rows[0][1:], *rows[1:])
    with pytest.raises(BadInput, match="finite"):
        fit_conformal(np.full(len(rows[0]), np.nan), *rows[1:])
    with pytest.raises(BadInput, match="finite"):
        fit_conformal(*rows, excess=np.full(len(rows[0]), np.inf))
    with pytest.raises(BadInput, match="one entry"):
        fit_conformal(*rows, excess=np.zeros(3))
    with pytest.raises(BadInput, match="level"):
        fit_conformal(*rows, level=1.0)


def test_many_rows_are_thinned_and_stay_right() -> None:
    made = fit_conformal(*_lives(8, 150, rows=300)[:5])
    assert made is not None
    assert abs(_coverage(made, 9)[0] - 0.8) < 0.07


_VALUES = st.floats(-1e6, 1e6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_VALUES, _VALUES, _VALUES), min_size=1, max_size=20), st.integers(2, 24))
def test_ends_never_cross_nor_go_below_zero(rows: list[tuple[float, float, float]], lives: int) -> None:
    made = fit_conformal(*_lives(1, lives, rows=6)[:5])
    assert made is not None
    raw = np.array(rows)
    low, high = made.apply(*raw.T)
    middle = np.sort(np.maximum(raw, 0.0), axis=1)[:, 1]
    assert (low >= 0).all() and (low <= middle).all() and (middle <= high).all() and np.isfinite(high).all()


def test_no_answer_stays_no_answer() -> None:
    made = fit_conformal(*_lives(2, 20)[:5])
    assert made is not None
    low, high = made.apply(np.array([np.nan, 1.0]), np.array([5.0, 2.0]), np.array([6.0, 3.0]))
    assert math.isnan(low[0]) and math.isnan(high[0]) and low[1] <= 2.0 <= high[1]


@pytest.mark.parametrize(
    ("freedom", "wanted"), [(1, 1.37638), (2, 1.06066), (3, 0.97847), (7, 0.89603), (100, 0.84523)]
)
def test_student_quantile(freedom: int, wanted: float) -> None:
    assert student(0.8, freedom) == pytest.approx(wanted, abs=2e-3)
