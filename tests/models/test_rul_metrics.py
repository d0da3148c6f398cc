"""Metrics by hand-worked cases, and against NASA's progpy where it is installed."""

from __future__ import annotations

import importlib
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_core.errors import BadInput
from fleet_server.resolution.policy import Policy
from models.rul import metrics


def test_errors_capped_and_not() -> None:
    said, truth = np.array([10.0, 130.0]), np.array([13.0, 150.0])
    assert metrics.rmse(said, truth) == pytest.approx(math.sqrt((9 + 400) / 2))
    assert metrics.rmse(said, truth, cap=125) == pytest.approx(math.sqrt(9 / 2))
    assert math.isnan(metrics.rmse(np.empty(0), np.empty(0)))


def test_phm08_punishes_late_answers_more() -> None:
    assert metrics.phm08_score(np.array([23.0]), np.array([13.0])) == pytest.approx(math.e - 1)
    assert metrics.phm08_score(np.array([0.0]), np.array([13.0])) == pytest.approx(math.e - 1)
    assert metrics.phm08_score(np.array([140.0]), np.array([125.0]), cap=125) == 0


def test_coverage_weighs_assets_alike() -> None:
    unit = np.array([0] * 90 + [1] * 10)
    inside = np.concatenate((np.ones(90), np.zeros(10)))
    low, high = np.where(inside > 0, 0.0, 5.0), np.full(100, 9.0)
    found = metrics.coverage(low, high, np.full(100, 3.0), unit)
    assert found.value == pytest.approx(0.5) and found.low == 0.0 and found.high == 1.0
    assert found.holds(0.8) and str(found) == "0.500 [0.000, 1.000]"
    with pytest.raises(BadInput):
        metrics.coverage(low[1:], high, high, unit)
    assert math.isnan(metrics.coverage(*(np.empty(0),) * 3, np.empty(0, dtype=int)).value)


def test_width_counts_what_lies_below_the_cap() -> None:
    assert metrics.mean_width(np.array([100.0, 150.0]), np.array([140.0, 170.0]), cap=125) == 12.5


def test_coverage_interval_has_the_right_size() -> None:
    found = metrics.by_unit(np.arange(400) % 5 > 0, np.arange(400), seed=1)
    assert found.holds(0.8) and 0.06 < found.high - found.low < 0.1  # 4 standard errors of 0.02


def test_brier_skill_and_reliability() -> None:
    came = np.array([1.0, 0.0, 0.0, 0.0])
    assert metrics.brier_skill(came, came) == 1
    assert metrics.brier_skill(np.full(4, 0.25), came) == 0
    assert metrics.brier_skill(np.full(4, 0.25), came, base=0.5) > 0
    assert math.isnan(metrics.brier_skill(np.zeros(3), np.zeros(3)))
    table = metrics.reliability(np.array([0.05, 0.07, 1.0]), np.array([0.0, 1.0, 1.0]))
    assert table == [
        {"forecasts": 2, "said": pytest.approx(0.06), "happened": 0.5},
        {"forecasts": 1, "said": 1.0, "happened": 1.0},
    ]


def test_precision_recall_at_the_policys_threshold() -> None:
    assert Policy().act_probability == metrics.ACT_PROBABILITY
    said, came = np.array([0.9, 0.5, 0.4, 0.1]), np.array([1.0, 0.0, 1.0, 0.0])
    assert metrics.precision_recall(said, came) == (0.5, 0.5)
    assert math.isnan(metrics.precision_recall(said * 0.1, came)[0])


def test_top_share() -> None:
    said = np.linspace(0.0, 0.5, 200)
    came = np.zeros(200)
    came[-1] = came[0] = 1.0
    found = metrics.top_share(said, came)
    assert found.count == 2 and found.lift == pytest.approx(0.5 / 0.01)
    assert found.observed_expected == pytest.approx(1.0 / said[-2:].sum())


def test_prognostic_horizon_that_stays() -> None:
    times, remaining = np.arange(10.0), 10.0 - np.arange(10.0)
    good = remaining * 1.1
    brief = good.copy()
    brief[5] = 50.0
    assert metrics.prognostic_horizon(times, good, remaining) == 10
    assert metrics.prognostic_horizon(times, brief, remaining) == 4
    assert metrics.prognostic_horizon(times, brief, remaining, stays=False) == 10
    assert metrics.prognostic_horizon(times, remaining * 3, remaining) is None
    assert metrics.alpha_lambda(times, good, remaining, at_time=99.0) is None


@pytest.fixture(scope="module")
def oracle() -> object:
    """NASA's progpy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("progpy.metrics")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_agrees_with_progpy(oracle: object, seed: int) -> None:
    from progpy.predictors import ToEPredictionProfile
    from progpy.uncertain_data import UnweightedSamples

    rng = np.random.default_rng(seed)
    end = 100.0
    times = np.sort(rng.choice(95, 8, replace=False)).astype(float)
    remaining = end - times
    said = remaining * rng.uniform(0.6, 1.4, 8)
    truth = {"end": end}
    profile = ToEPredictionProfile()
    for time, left in zip(times, said, strict=True):
        profile.add_prediction(time, UnweightedSamples([{"end": time + left}]))

    at_time = float(rng.uniform(0, times[-1]))
    theirs = oracle.alpha_lambda(profile, truth, at_time, 0.2, 0.5)["end"]
    assert metrics.alpha_lambda(times, said, remaining, at_time, 0.2) == theirs

    def near(left: UnweightedSamples, wanted: dict[str, float]) -> dict[str, bool]:
        return {"end": abs(left.mean["end"] - wanted["end"]) <= 0.2 * wanted["end"]}

    theirs = oracle.prognostic_horizon(profile, near, truth)["end"]
    ours = metrics.prognostic_horizon(times, said, remaining, 0.2, stays=False)
    assert ours == (None if theirs is None else pytest.approx(theirs))

    # relative accuracy of the time that is left, so both sides get times from now on
    pairs = zip(said, remaining, strict=True)
    each = [UnweightedSamples([{"end": left}]).relative_accuracy({"end": true})["end"] for left, true in pairs]
    np.testing.assert_allclose(metrics.relative_accuracy(said, remaining), each)
    assert metrics.cumulative_relative_accuracy(said, remaining) == pytest.approx(np.mean(each))
    ends = [UnweightedSamples([{"end": time + left}]) for time, left in zip(times, said, strict=True)]
    whole = np.mean([item.relative_accuracy(truth)["end"] for item in ends])
    assert oracle.cumulative_relative_accuracy(profile, truth)["end"] == pytest.approx(whole)
    ours_whole = metrics.cumulative_relative_accuracy(times + said, np.full(8, end))
    assert ours_whole == pytest.approx(oracle.cumulative_relative_accuracy(profile, truth)["end"])


def test_relative_accuracy_where_nothing_is_left() -> None:
    assert math.isnan(metrics.cumulative_relative_accuracy(np.array([1.0]), np.array([0.0])))
