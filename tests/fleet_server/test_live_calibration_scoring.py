"""Scores of prognoses: inside, pinball, Brier, what censoring leaves known; reliability with censored lives."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.errors import BadInput
from fleet_server.prognosis.live_calibration.reliability import ProbabilityOutcome, reliability
from fleet_server.prognosis.live_calibration.scoring import Forecasted, score

SAID = Forecasted(40.0, 100.0, 220.0, {"24": 0.05, "72": 0.3, "168": 0.8, "720": 1.0})


def test_a_failure_inside_the_interval_is_scored_in_full() -> None:
    made = score(SAID, 80.0, failed=True)
    assert made.inside is True
    assert made.credit == 1.0
    assert -1 < made.position < 0
    assert made.log_error == pytest.approx(math.log(100 / 80), abs=1e-6)
    assert made.pinball_h == pytest.approx((0.1 * 40 + 0.5 * 20 + 0.1 * 140) / 3, abs=1e-4)
    assert made.failed_within == {"24": False, "72": False, "168": True, "720": True}
    assert made.brier == pytest.approx({"24": 0.0025, "72": 0.09, "168": 0.04, "720": 0.0})


@pytest.mark.parametrize(("lived_h", "side"), [(20.0, -1), (400.0, 1)])
def test_a_failure_outside_the_interval(lived_h: float, side: int) -> None:
    made = score(SAID, lived_h, failed=True)
    assert made.inside is False
    assert made.credit == 0.0
    assert made.position * side > 1


def test_of_a_component_replaced_in_time_only_what_is_known_is_scored() -> None:
    early = score(SAID, 30.0, failed=False)
    assert early.inside is None
    assert early.brier == {"24": pytest.approx(0.0025)}  # it lived longer than a day, the rest is not known
    assert early.log_error is early.pinball_h is None
    assert 0.8 < early.credit < 0.9  # it is past a part of the failures before p10
    late = score(SAID, 300.0, failed=False)
    assert late.inside is False  # it has outlived the interval, whenever it would have failed
    assert late.credit == 0.0


@given(st.floats(0.01, 219.0))
def test_the_chance_of_ending_inside_falls_once_the_interval_is_entered(lived_h: float) -> None:
    now, later = (score(SAID, hours, failed=False).credit for hours in (lived_h, lived_h + 1.0))
    assert 0.0 <= now <= 8 / 9 + 1e-6
    if lived_h >= 40.0:
        assert later <= now + 1e-9


def test_credit_neither_gains_nor_loses_by_replacement() -> None:
    rng = np.random.default_rng(1)
    said = Forecasted(*(100 * math.exp(z * 0.5) for z in (-1.2816, 0, 1.2816)), {})
    ends = 100 * np.exp(0.5 * rng.standard_normal(20_000))
    stops = rng.uniform(10, 300, ends.size)
    gained = [score(said, float(min(a, b)), failed=bool(a <= b)).credit for a, b in zip(ends, stops, strict=True)]
    assert np.mean(gained) == pytest.approx(0.8, abs=0.015)


@pytest.mark.parametrize(
    "wrong",
    [
        {"p10_h": math.nan},
        {"p10_h": 150.0},
        {"p10_h": -1.0},
        {"p90_h": math.inf},
        {"p_fail": {"72": 1.5}},
        {"p_fail": {"soon": 0.5}},
        {"p_fail": {"-3": 0.5}},
    ],
)
def test_what_is_no_forecast_is_refused(wrong: dict) -> None:
    with pytest.raises(BadInput):
        Forecasted(**{"p10_h": 40.0, "p50_h": 100.0, "p90_h": 220.0, "p_fail": {}, **wrong})


@pytest.mark.parametrize("hours", [0.0, -1.0, math.nan, math.inf])
def test_a_life_that_is_none_is_refused(hours: float) -> None:
    with pytest.raises(BadInput):
        score(SAID, hours, failed=True)


def test_an_interval_without_width_is_scored() -> None:
    assert score(Forecasted(0.0, 0.0, 0.0, {}), 1e-6, failed=True).inside is not None
    assert math.isfinite(score(Forecasted(5.0, 5.0, 5.0, {}), 900.0, failed=True).position)


def test_nothing_known_has_no_figures() -> None:
    for told in ([], [ProbabilityOutcome("a", 0.3, 10.0, False)]):
        made = reliability(told)
        assert (made.lives, made.brier, made.bins) == (0, None, ())


def test_reliability_of_a_true_forecast_lies_on_the_diagonal_though_lives_are_censored() -> None:
    rng = np.random.default_rng(2)
    told = []
    for number in range(4000):
        scale_h = float(rng.uniform(20, 400))
        end_h, stop_h = float(rng.exponential(scale_h)), float(rng.exponential(150))
        told.append(ProbabilityOutcome(str(number), 1 - math.exp(-72 / scale_h), min(end_h, stop_h), end_h <= stop_h))
    made = reliability(told)
    assert made.brier < made.base_brier
    for each in made.bins:
        assert each.seen == pytest.approx(each.said, abs=0.07)
        assert each.low <= each.seen <= each.high
    known = [one for one in told if (one.failed and one.remaining_h <= 72) or one.remaining_h >= 72]
    naive = np.mean([one.failed and one.remaining_h <= 72 for one in known])
    truth = np.mean([one.p_fail for one in told])
    assert abs(made.base_rate - truth) < 0.03 < abs(naive - truth)  # without weights failures look too frequent


def test_a_life_counts_once_however_many_forecasts_it_had() -> None:
    once = [ProbabilityOutcome("a", 0.9, 10.0, True), ProbabilityOutcome("b", 0.1, 500.0, True)]
    often = [*once, *[ProbabilityOutcome("a", 0.9, 10.0, True)] * 50]
    assert reliability(often).brier == reliability(once).brier
    assert reliability(often).base_rate == 0.5
