"""The whole engine on small fleets: ordered, agreeing, better than guessing, honest where it cannot know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fleet_core.errors import BadConfig, BadInput
from fleet_server.prognosis.rul import training
from fleet_server.prognosis.rul.bundle import MANIFEST, Columns, load_bundle, save_bundle
from fleet_server.prognosis.rul.curve import agreeing, p_fail_of, quantiles_of
from fleet_server.prognosis.rul.histories import Histories, Unit
from fleet_server.prognosis.rul.model import RulModel, RulSettings

HORIZONS = (10.0, 40.0)


def worn(seed: int, units: int, censored: float = 0.0) -> Histories:
    """Lives of 60 to 120 rows with two channels of growing wear."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(units):
        rows = int(rng.integers(60, 120))
        wear = np.linspace(0.0, 1.0, rows) ** 2
        values = np.column_stack([wear * 4.0, -wear * 3.0, np.zeros(rows)]) + rng.normal(0.0, 0.3, (rows, 3))
        kept = int(rows * rng.uniform(0.3, 0.9)) if rng.random() < censored else rows
        made.append(Unit(f"{seed}-{number}", np.arange(kept, dtype=float), values[:kept], kept == rows))
    return Histories(tuple(made), ("up", "down", "noise"))


@pytest.fixture(scope="module")
def model() -> RulModel:
    return RulModel.fit(worn(0, 20), RulSettings(horizons=HORIZONS, cap=60.0))


def test_forecasts_are_ordered_agree_and_beat_the_mean(model: RulModel) -> None:
    errors, guesses, held = [], [], []
    for unit in worn(1, 12):
        rows = [10, len(unit) // 2, len(unit) - 10, len(unit) - 3]
        for row, said in zip(rows, model.predict_at(unit, rows), strict=True):
            truth = min(unit.remaining[row], 60.0)
            assert 0.0 <= said.p10 <= said.p50 <= said.p90 <= 60.0
            assert said.p_fail[10.0] <= said.p_fail[40.0]
            for horizon, share in said.p_fail.items():
                assert share >= 0.1 - 1e-9 or said.p10 >= horizon
            assert sum(each.weight for each in said.neighbours) == pytest.approx(1.0)
            assert said.at_least == (said.p90 == 60.0)
            errors.append(said.mean - truth)
            guesses.append(30.0 - truth)
            held.append(said.p10 <= truth <= said.p90)
    assert np.square(errors).mean() < 0.5 * np.square(guesses).mean()
    assert np.mean(held) > 0.6


def test_a_later_row_changes_no_earlier_answer(model: RulModel) -> None:
    unit = worn(2, 1).units[0]
    assert model.predict_at(unit, [30]) == (model.predict(unit.until(30)),)
    assert model.predict_many([unit, unit.until(30)])[1] == model.predict(unit.until(30))


def test_it_withholds_what_it_cannot_know(model: RulModel) -> None:
    unit = worn(3, 1).units[0]
    assert model.predict(unit.until(2)).abstained.startswith("too few rows")
    empty = Unit("empty", unit.times, np.full_like(unit.values, np.nan), False)
    assert model.predict(empty).abstained.startswith("no readings")
    partly = unit.values.copy()
    partly[:, :2] = np.nan
    assert model.predict(Unit("partly", unit.times, partly, False)).abstained.startswith("missing channels")
    wild = model.predict(Unit("wild", unit.times, unit.values + 1e4, False))
    assert wild.abstained.startswith("outside")
    assert np.isnan(wild.p50)
    assert not wild.p_fail
    with pytest.raises(BadInput, match="shape"):
        model.predict(Unit("other", unit.times, unit.values[:, :1], False))


def test_a_bundle_answers_with_the_same_bits_and_refuses_damage(model: RulModel, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    columns = Columns("unit", "t", None, {"maker": ("a", "b")})
    digest = save_bundle(folder, model, columns)
    loaded, named = load_bundle(folder)
    lives = worn(4, 3).units
    assert loaded.predict_many(lives) == model.predict_many(lives)
    assert named == columns
    assert save_bundle(folder, loaded, columns) == digest
    tree = folder / "model_00.txt"
    tree.write_text(tree.read_text().replace("tree", "bush", 1))
    with pytest.raises(BadInput, match="digest"):
        load_bundle(folder)
    (folder / MANIFEST).write_text("[]")
    with pytest.raises(BadInput, match="fit it anew"):
        load_bundle(folder)
    with pytest.raises(BadConfig, match="something else"):
        save_bundle(tmp_path, model, columns)


def test_the_same_seed_gives_the_same_model() -> None:
    settings = RulSettings(seed=3, horizons=HORIZONS)
    first, second = (RulModel.fit(worn(0, 6), settings) for _ in range(2))
    unit = worn(5, 1).units[0]
    assert first.predict(unit) == second.predict(unit)


@pytest.mark.parametrize("censored", [0.5, 0.88])
def test_censored_lives_count(censored: float, tmp_path: Path) -> None:
    lives = worn(6, 60, censored)
    model = RulModel.fit(lives, RulSettings(horizons=HORIZONS))
    assert (model.lifetimes is None) == (censored > 0.8)
    assert model.hazard is not None
    said = model.predict(lives.units[0])
    assert said.p10 <= said.p50 <= said.p90
    assert 0.0 <= said.p_fail[10.0] <= said.p_fail[40.0] <= 1.0
    save_bundle(tmp_path / "b", model, Columns("u", "t"))
    assert load_bundle(tmp_path / "b")[0].predict(lives.units[0]) == said


def intervals(seed: int, units: int) -> Histories:
    """Start-stop rows: a counter that counts in units which mostly fail, and the hindsight of a last time."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(units):
        weak = rng.random() < 0.15
        stops = np.cumsum(rng.integers(20, 120, int(rng.integers(1, 6)))).astype(float)
        errors = np.cumsum(rng.poisson(4.0 if weak else 0.02, len(stops))).astype(float)
        values = np.column_stack([np.r_[0.0, stops[:-1]], errors, np.full(len(stops), stops[-1])])
        made.append(Unit(f"{number}", stops, values, bool(weak and rng.random() < 0.8)))
    return Histories(tuple(made), ("begin", "errors", "last_hour"))


def test_tables_of_intervals_are_watched_in_between(tmp_path: Path) -> None:
    lives = intervals(0, 500)
    model = RulModel.fit(lives, RulSettings(horizons=(20.0, 100.0)))
    assert model.watched is not None
    assert model.hazard is None
    assert {"begin", "last_hour"} <= set(model.features.dropped)
    tested = intervals(1, 200)
    said = model.predict_many(tested.units)
    assert not [each for each in said if each.abstained]
    weak = np.array([unit.values[-1, 1] > 2 for unit in tested])
    chance = np.array([each.p_fail[100.0] for each in said])
    assert chance[weak].mean() > 3.0 * chance[~weak].mean()
    unit = next(unit for unit in tested if len(unit) > 2)
    assert model.predict_at(unit, [0, len(unit) - 1]) == (model.predict(unit.until(0)), model.predict(unit))
    save_bundle(tmp_path / "b", model, Columns("u", "t", "f"))
    assert load_bundle(tmp_path / "b")[0].predict_many(tested.units[:20]) == said[:20]


def test_a_hazard_s_sample_of_many_lives_keeps_their_level(monkeypatch: pytest.MonkeyPatch) -> None:
    lives = worn(8, 80, 0.9)
    whole = RulModel.fit(lives, RulSettings(horizons=HORIZONS))
    monkeypatch.setattr(training, "HAZARD_ROWS", lives.rows // 3)
    part = RulModel.fit(lives, RulSettings(horizons=HORIZONS))
    levels = [np.mean([each.p_fail[40.0] for each in model.predict_many(lives.units)]) for model in (whole, part)]
    assert levels[1] == pytest.approx(levels[0], rel=0.5)


def test_too_few_lives_and_bad_settings_are_refused() -> None:
    with pytest.raises(BadInput, match="too_few_lives"):
        RulModel.fit(worn(0, 1))
    for wrong in ({"horizons": ()}, {"horizons": (5.0, 1.0)}, {"cap": -1.0}, {"level": 1.0}, {"seed": -1}):
        with pytest.raises(BadConfig):
            RulSettings(**wrong)


def test_curves_agree_with_quantiles() -> None:
    quantiles = np.array([[5.0, 20.0, 50.0]])
    at = np.array([5.0, 20.0, 50.0, 500.0])
    np.testing.assert_allclose(p_fail_of(quantiles, at)[0, :3], [0.1, 0.5, 0.9])
    np.testing.assert_array_equal(agreeing(quantiles, np.array([[0.05, 0.6]]), np.array([10.0, 15.0])), [[10, 15, 50]])
    np.testing.assert_array_equal(agreeing(quantiles, np.array([[0.2, 0.3]]), np.array([3.0, 30.0])), [[3, 30, 50]])
    rate = 0.01
    horizons = np.array([10.0, 50.0, 100.0])
    found, mean = quantiles_of(1.0 - np.exp(-rate * horizons)[None], horizons)
    np.testing.assert_allclose(found[0], -np.log(1.0 - np.array([0.1, 0.5, 0.9])) / rate, rtol=1e-6)
    assert mean[0] == pytest.approx(100.0, rel=0.05)
