"""The drives' evaluation: nothing of the future is learned, those who leave are weighed in, figures are right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fleet_core.errors import BadInput
from fleet_server.prognosis.rul.histories import Histories, Unit
from models.rul.drives import (
    CUT_SHARES,
    FILE,
    DriveForecasts,
    ended_at,
    evaluate_drives,
    evaluate_histories,
    figures,
    watched_weights,
)

CHANNELS = ("tstart", "errors", "min_date", "min_hours", "n_fails", "max_hours")


def drives(count=1500, seed=0):
    """Drives of which errors appear at some moment and which then fail within about 400 h, over 400 days."""
    rng = np.random.default_rng(seed)
    units = []
    for number in range(count):
        first, day = float(rng.integers(0, 20_000)), float(rng.integers(0, 100))
        watched = 24.0 * (400 - day)
        error = rng.uniform(0, 40_000)
        life = error + rng.exponential(400.0)
        end = min(life, watched)
        starts = [0.0] + ([error] if error < end else [])
        stops = first + np.array([*starts[1:], end])
        fixed = np.tile([day, first, float(life <= watched), first + end], (len(starts), 1))
        values = np.column_stack((first + np.array(starts), np.arange(len(starts)), fixed))
        units.append(Unit(str(number), stops, values, bool(life <= watched)))
    return Histories(tuple(units), CHANNELS)


def test_a_life_ended_at_a_moment_knows_nothing_later():
    unit = Unit("a", np.array([10.0, 20.0]), np.array([[0.0, 0.0], [10.0, 5.0]]), True)
    half = ended_at(unit, 0, 15.0)
    assert half is not None and half.times.tolist() == [10.0, 15.0] and not half.failed
    before = ended_at(unit, 0, 10.0)
    assert before is not None and before.values[:, 1].tolist() == [0.0]
    assert ended_at(unit, 0, 0.0) is None
    assert ended_at(unit, 0, 20.0) is unit


def test_those_who_left_are_weighed_into_the_others():
    remaining = np.array([100.0, 900.0, 50.0, 900.0])
    failed = np.array([False, False, True, False])
    weights = watched_weights(remaining, failed)
    assert weights.tolist() == pytest.approx([0.0, 4 / 3 * 1.0, 1.0, 4 / 3], rel=0.15)
    assert (watched_weights(np.array([800.0, 10.0]), np.array([False, True])) == 1.0).all()


def test_figures_of_a_perfect_and_of_a_blind_forecast():
    came = np.r_[np.ones(10), np.zeros(990)]
    top = np.r_[np.ones(10, dtype=bool), np.zeros(990, dtype=bool)]
    perfect = figures([DriveForecasts(np.arange(1000), came * 0.98 + 0.01, came, np.ones(1000), top)])
    assert perfect["skill"] > 0.98 and perfect["lift_top1"] == pytest.approx(100.0)
    assert perfect["observed_expected_top1"] == pytest.approx(1.0, abs=0.02)
    blind = figures([DriveForecasts(np.arange(1000), np.full(1000, 0.01), came, np.ones(1000), top)])
    assert blind["skill"] == pytest.approx(0.0, abs=1e-9)
    assert blind["observed_expected"] == pytest.approx(1.0)


def test_simulated_drives_are_forecast_with_skill_and_the_answer_is_json():
    found = json.loads(json.dumps(evaluate_histories(drives(), seed=0, cuts=(0.9,))))
    for split in ("time_split", "other_drives"):
        assert found[split]["skill"] > 0.1
        assert found[split]["lift_top1"] > 10
    again = evaluate_histories(drives(), seed=0, cuts=(0.9,))
    assert json.loads(json.dumps(again)) == found


def test_another_table_is_refused():
    histories = Histories((Unit("a", np.array([1.0]), np.array([[1.0]]), True),), ("x",))
    with pytest.raises(BadInput, match="drives"):
        evaluate_histories(histories)


@pytest.mark.data
@pytest.mark.timeout(900)
def test_recorded_drives(recorded_data: Path):
    if not (recorded_data / FILE).exists():
        pytest.skip("no recorded drives in FORESTALL_DATA")
    found = evaluate_drives(recorded_data, cuts=CUT_SHARES[1:2])  # one moment; `fleet-models rul evaluate` takes all
    for split in ("time_split", "other_drives"):
        assert found[split]["skill"] > 0
        assert found[split]["lift_top1"] > 15
