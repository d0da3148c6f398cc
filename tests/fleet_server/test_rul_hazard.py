"""Probability of failure: who is at risk is found, what is said comes true, censoring does not mislead."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_core.errors import BadInput
from fleet_server.prognosis.rul.counters import counter_channels, counter_features, counter_names
from fleet_server.prognosis.rul.hazard import Hazard, _ascending, fit_hazard
from fleet_server.prognosis.rul.histories import Histories, Unit
from fleet_server.prognosis.rul.intervals import IntervalHazard, interval_channel

HORIZONS = (10.0, 50.0)


def cohort(units=900, seed=0, censored=True):
    """Units of constant hazard exp(2 x) / 400 with x known, watched from 0; rows every 20 until they end."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=units)
    life = rng.exponential(400.0 / np.exp(2.0 * x))
    leave = rng.uniform(20, 200, units) if censored else np.full(units, np.inf)
    end, failed = np.minimum(life, leave), life <= leave
    counts = np.ceil(end / 20.0).astype(int)
    unit = np.repeat(np.arange(units), counts)
    times = 20.0 * (np.arange(unit.size) - np.repeat(np.cumsum(counts) - counts, counts))
    features = np.column_stack((x[unit], rng.normal(size=unit.size)))
    return features, times, unit, end[unit], failed[unit]


def truth(features, horizon):
    return 1.0 - np.exp(-np.exp(2.0 * features[:, 0]) / 400.0 * horizon)


@pytest.fixture(scope="module")
def hazard():
    return fit_hazard(*cohort(), HORIZONS, seed=1)


def test_says_what_comes_despite_censoring(hazard):
    features, *_ = cohort(seed=5)
    said = hazard.p_fail(features)
    for place, horizon in enumerate(HORIZONS):
        right = truth(features, horizon)
        assert np.corrcoef(said[:, place], right)[0, 1] > 0.85
        assert said[:, place].mean() == pytest.approx(right.mean(), rel=0.2)
        top = np.argsort(-said[:, place])[: len(said) // 50]
        assert right[top].mean() / said[top, place].mean() == pytest.approx(1.0, abs=0.3)


def test_never_falls_with_the_horizon_and_is_a_probability(hazard):
    said = hazard.p_fail(np.random.default_rng(2).normal(scale=10, size=(500, 2)))
    assert (np.diff(said, axis=1) >= 0).all() and (said > 0).all() and (said < 1).all()
    assert hazard.p_fail(np.full((1, 2), np.nan)).shape == (1, 2)
    assert hazard.p_fail(np.zeros((0, 2))).shape == (0, 2)


def test_the_same_bits_again_and_after_storing(hazard):
    features = cohort(seed=3)[0]
    said = hazard.p_fail(features)
    assert (Hazard.from_text(hazard.to_text()).p_fail(features) == said).all()
    assert (fit_hazard(*cohort(), HORIZONS, seed=1).p_fail(features) == said).all()


def test_few_failures_say_one_share_for_all():
    features, times, unit, end, failed = cohort(40)
    failed = failed & (unit < 4)
    said = fit_hazard(features, times, unit, end, failed, (50.0, 1e6)).p_fail(features)
    assert len(np.unique(said[:, 0])) == 1 and 0.0 < said[0, 0] < 0.3
    nobody = fit_hazard(features, times, unit, end, np.zeros_like(failed), (50.0,)).p_fail(features)
    assert 0.0 < nobody[0, 0] < 0.05


def test_everyone_fails_within_a_horizon_longer_than_every_life():
    features, times, unit, end, failed = cohort(censored=False, units=100)
    said = fit_hazard(features, times, unit, end, failed, (1e6,)).p_fail(features)
    assert (said > 0.98).all()


@pytest.mark.parametrize("damage", ["{", "[]", '{"format": 9}', '{"format": 1, "features": 2, "models": [{}]}'])
def test_a_damaged_text_is_refused(damage):
    with pytest.raises(BadInput):
        Hazard.from_text(damage)
    with pytest.raises(BadInput):
        IntervalHazard.from_text(damage)


def test_wrong_shapes_are_refused(hazard):
    features, times, unit, end, failed = cohort(30)
    with pytest.raises(BadInput, match="shape"):
        fit_hazard(features, times[1:], unit, end, failed, HORIZONS)
    with pytest.raises(BadInput, match="horizons"):
        fit_hazard(features, times, unit, end, failed, (0.0,))
    with pytest.raises(BadInput, match="rows"):
        fit_hazard(features, end, unit, end, failed, HORIZONS)
    with pytest.raises(BadInput, match="features"):
        hazard.p_fail(np.zeros((3, 5)))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 10)), min_size=1, max_size=30))
def test_ascending_never_falls_and_keeps_the_mean(pairs):
    values, weights = (np.array(each) for each in zip(*pairs, strict=True))
    made = _ascending(values, weights)
    assert (np.diff(made) >= 0).all()
    assert np.average(made, weights=weights) == pytest.approx(np.average(values, weights=weights), abs=1e-9)


# -- counters


def test_counter_features_of_a_life_by_hand():
    times = np.array([0.0, 10.0, 20.0, 30.0])
    values = np.array([[0.0], [0.0], [3.0], [3.0]])
    made = counter_features(times, values, np.zeros(4, dtype=np.int64), (10.0, 100.0))
    columns = dict(zip(counter_names(("c",), (10.0, 100.0)), made[3].tolist(), strict=True))
    assert columns["c.level"] == pytest.approx(np.log1p(3))
    assert columns["c.since_move"] == pytest.approx(np.log1p(10))
    assert columns["c.moves"] == pytest.approx(np.log1p(1))
    assert columns["c.pace"] == pytest.approx(np.log1p(100))
    assert columns["c.moved_10"] == 0.0
    assert columns["c.moved_100"] == pytest.approx(np.log1p(3))
    asked = counter_features(times, values, np.zeros(4, dtype=np.int64), (10.0,), (np.array([2]), np.array([29.0])))
    assert asked[0, 1] == pytest.approx(np.log1p(9)) and asked[0, 4] == pytest.approx(np.log1p(3))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_counter_features_are_causal_and_know_one_unit_only(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 12, 4)
    unit = np.repeat(np.arange(4), lengths)
    times = np.concatenate([np.sort(rng.choice(1000, n, replace=False)) for n in lengths]).astype(float)
    values = rng.poisson(0.5, (unit.size, 2)).astype(float)
    values[rng.random(values.shape) < 0.2] = np.nan
    everything = counter_features(times, values, unit, (7.0, 70.0))
    begin = int(np.flatnonzero(unit == 2)[0])
    cut = begin + int(rng.integers(1, lengths[2] + 1))
    alone = counter_features(times[begin:cut], values[begin:cut], unit[begin:cut], (7.0, 70.0))
    assert np.array_equal(alone, everything[begin:cut], equal_nan=True)


def test_counters_are_whole_numbers_that_move_now_and_then():
    rng = np.random.default_rng(0)
    unit = np.repeat([0, 1], 50)
    steps = np.tile(np.arange(50) // 10, 2).astype(float)
    values = np.column_stack((steps, rng.normal(size=100), unit.astype(float), -steps, np.tile(np.arange(50.0), 2)))
    assert counter_channels(values, unit).tolist() == [True, False, False, False, False]


# -- intervals


def interval_units(count=700, seed=0):
    """Half of the units get a first error at random; with errors a unit fails within about 60, without rarely."""
    rng = np.random.default_rng(seed)
    units = []
    for number in range(count):
        error = rng.uniform(0, 900) if rng.random() < 0.5 else np.inf
        life = min(rng.exponential(8000.0), error + rng.exponential(60.0))
        end = min(life, rng.uniform(100, 1000))
        starts = [0.0] + ([error] if error < end else [])
        stops = np.array([*starts[1:], end])
        maker = float(number % 3)
        values = np.column_stack((starts, np.arange(len(starts)), np.full(len(starts), maker)))
        values = np.column_stack((values, np.full(len(starts), end), np.full(len(starts), float(life <= end))))
        units.append(Unit(str(number), stops, values, bool(life <= end)))
    return Histories(tuple(units), ("start", "errors", "maker", "max_hours", "n_fails"))


@pytest.fixture(scope="module")
def of_intervals():
    histories = interval_units()
    return IntervalHazard.fit(histories, "start", HORIZONS, seed=0)


def test_the_start_of_intervals_is_found_and_nothing_else_taken_for_it():
    histories = interval_units(200)
    assert interval_channel(histories) == "start"
    plain = Histories(
        tuple(Unit(u.name, u.times, u.values[:, 1:], u.failed) for u in histories), histories.channels[1:]
    )
    assert interval_channel(plain) is None


def test_columns_that_tell_the_end_are_not_used(of_intervals):
    assert of_intervals.moving == (1,) and of_intervals.groups == (2,)


def test_a_quiet_unit_and_one_with_errors_are_told_apart(of_intervals):
    quiet = Unit("quiet", np.array([300.0]), np.array([[0.0, 0.0, 1.0, 0.0, 0.0]]), False)
    errors = Unit("errors", np.array([290.0, 300.0]), np.array([[0.0, 0, 1, 0, 0], [290.0, 1, 1, 0, 0]]), False)
    said = of_intervals.p_fail([quiet, errors])
    assert said[0, 1] < 0.1
    assert said[1, 1] == pytest.approx(1 - np.exp(-50 / 60), abs=0.15)
    assert (of_intervals.p_fail_at(errors, [0, 1])[1] == said[1]).all()
    again = IntervalHazard.from_text(of_intervals.to_text())
    assert (again.p_fail([quiet, errors]) == said).all()
    assert of_intervals.p_fail([]).shape == (0, 2)


def test_hostile_starts_neither_fail_nor_reach_into_the_future(of_intervals):
    values = np.array([[np.nan, 0.0, 1.0, 0.0, 0.0], [1e9, 1.0, 1.0, 0.0, 0.0]])
    said = of_intervals.p_fail([Unit("odd", np.array([10.0, 20.0]), values, False)])
    assert np.isfinite(said).all()


def test_without_its_channel_or_any_watched_time_it_is_refused():
    histories = interval_units(30)
    with pytest.raises(BadInput, match="channel"):
        IntervalHazard.fit(histories, "tstart", HORIZONS)


def test_some_failures_still_tell_units_apart():
    features, times, unit, end, failed = cohort(200, seed=6)
    failed = failed & (unit < 32)  # enough to learn a score from, too few for a curve of bins
    made = fit_hazard(features, times, unit, end, failed, (50.0,), seed=1)
    soon = len(np.unique(unit[failed & (end - times <= 50.0)]))
    assert 12 <= soon < 20 and made.models[0].boosters
    said = made.p_fail(features)[:, 0]
    assert said[features[:, 0] > 1.0].mean() > 2.0 * said[features[:, 0] < 0.0].mean()
    assert said.mean() == pytest.approx((failed & (end - times <= 50.0)).mean(), rel=0.5)
