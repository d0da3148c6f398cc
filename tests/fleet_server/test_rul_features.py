"""Features are causal and the same in any company; regimes are found where there are some; leaks are seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_core.errors import BadInput
from fleet_server.prognosis.rul.features import FeatureModel
from fleet_server.prognosis.rul.histories import Histories, Unit
from fleet_server.prognosis.rul.leaks import leaks
from fleet_server.prognosis.rul.regimes import find_regimes


def fleet(seed: int = 0, units: int = 24, regimes: bool = False, gaps: float = 0.0) -> Histories:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(units):
        rows = int(rng.integers(60, 120))
        wear = np.linspace(0.0, 1.0, rows) ** 2
        setting = rng.integers(0, 3, rows) * 10.0 + rng.normal(0.0, 0.01, rows) if regimes else rng.normal(size=rows)
        sensor = 5.0 * np.round(setting) * regimes + 3.0 * wear + rng.normal(0.0, 0.1, rows)
        counter = np.cumsum(rng.random(rows) < 0.1 * wear).astype(float)
        maker = np.full(rows, float(number % 3))
        values = np.column_stack([setting, sensor, counter, maker, np.full(rows, 7.0)])
        values[rng.random(values.shape) < gaps] = np.nan
        made.append(Unit(f"u{number}", np.arange(rows) * 2.0 + 1.0, values, True))
    return Histories(tuple(made), ("setting", "sensor", "counter", "maker", "constant"))


@pytest.mark.parametrize("gaps", [0.0, 0.2])
@pytest.mark.parametrize("regimes", [False, True])
@settings(max_examples=8, deadline=None)
@given(cut=st.integers(0, 50))
def test_a_row_depends_on_its_past_only_to_the_bit(cut: int, regimes: bool, gaps: float) -> None:
    lives = fleet(regimes=regimes, gaps=gaps)
    model = FeatureModel.fit(lives)
    together = model.tables(lives.units)
    unit = lives.units[3]
    start = sum(len(each) for each in lives.units[:3])
    alone = model.table(unit.until(cut))
    assert alone.shape == (cut + 1, len(model.names))
    np.testing.assert_array_equal(alone, together[start : start + cut + 1])


def test_regimes_are_found_and_taken_out() -> None:
    model = FeatureModel.fit(fleet(regimes=True))
    assert len(model.regimes) == 3
    assert model.dropped["setting"] == "operating regime"
    assert model.dropped["constant"] == "never changes"
    unit = fleet(regimes=True).units[0]
    first = model.scaled(unit.values)[:15, 0]
    assert abs(first.mean()) < 1.0 < model.scaled(unit.values)[-5:, 0].mean()
    assert model.regimes.strangeness(unit.values).max() < 0.1
    assert model.regimes.strangeness(np.full((1, 5), 14.0))[0] > 0.1


def test_an_idle_rounded_setting_and_a_counter_make_no_regime() -> None:
    rng = np.random.default_rng(1)
    rows = 2000
    share = np.tile(np.linspace(0, 1, 100), 20)
    unit = np.repeat(np.arange(20), 100)
    values = np.column_stack([rng.integers(0, 4, rows), np.floor(share * 4), rng.normal(size=rows) + share])
    assert len(find_regimes(values.astype(float), unit, share)) == 1


def test_without_age_nothing_tells_how_long() -> None:
    model = FeatureModel.fit(fleet(), with_age=False)
    assert not {"age", "rows"} & set(model.names)
    assert not [name for name in model.names if "since_move" in name or name.endswith(".moves")]
    assert {"age", "rows"} < set(FeatureModel.fit(fleet()).names)


def test_channels_that_give_the_end_away_are_dropped() -> None:
    lives = fleet()
    told = tuple(
        Unit(u.name, u.times, np.column_stack([u.values, np.full(len(u), u.times[-1])]), u.failed) for u in lives
    )
    spoiled = Histories(told, (*lives.channels, "max_hours"))
    assert set(leaks(spoiled)) == {"max_hours"}
    assert "max_hours" in FeatureModel.fit(spoiled).dropped


def test_hindsight_is_found_by_itself_beside_another_channel_and_by_its_name() -> None:
    rng = np.random.default_rng(3)
    told = []
    for unit in fleet().units:
        first = float(rng.integers(0, 5000))
        span = unit.times[-1] - unit.times[0]
        fixed = np.tile([first, first + span / 24.0, span / 2.0 + 7.0, float(rng.integers(0, 9))], (len(unit), 1))
        told.append(Unit(unit.name, unit.times, np.column_stack([unit.values, fixed]), unit.failed))
    found = leaks(Histories(tuple(told), (*fleet().channels, "bought", "last_seen", "records", "made_date")))
    assert set(found) == {"last_seen", "records", "made_date"}
    assert "beside bought" in found["last_seen"]


def test_the_trend_since_the_start_needs_long_lives() -> None:
    long = FeatureModel.fit(fleet())
    assert {"sensor:rise", "sensor:drift"} < set(long.names)
    drift = long.table(fleet().units[0])[:, long.names.index("sensor:drift")]
    assert np.isnan(drift[3])
    assert drift[-1] > drift[20]
    short = tuple(unit.until(14) for unit in fleet())
    assert not [name for name in FeatureModel.fit(Histories(short, fleet().channels)).names if name.endswith("drift")]


def test_bad_lives_are_refused() -> None:
    with pytest.raises(BadInput, match="ascend"):
        Unit("a", np.array([2.0, 1.0]), np.zeros((2, 1)), True)
    with pytest.raises(BadInput, match="infinite"):
        Unit("a", np.array([1.0]), np.array([[np.inf]]), True)
    with pytest.raises(BadInput, match="one name"):
        unit = Unit("a", np.array([1.0]), np.zeros((1, 1)), True)
        Histories((unit, unit), ("x",))
    with pytest.raises(BadInput, match="no_channels"):
        FeatureModel.fit(Histories((Unit("a", np.arange(3.0), np.ones((3, 1)), True),), ("x",)))
