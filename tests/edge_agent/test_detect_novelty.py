"""Novelty: spikes, shifts and flat-lines are news once; blocks equal rows; any scale, any gaps, saved and restored."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.detection.judging.novelty import Novelty
from edge_agent.detection.snapshot import dump, load
from fleet_core.errors import BadInput
from models.detection_evaluation.nab import Series, read_windows, score_at, score_corpus

FLAG = 0.8


def noise(rows: int, channels: int = 1, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(10.0, 1.0, (rows, channels))


def times(rows: int) -> np.ndarray:
    return np.arange(rows, dtype=np.int64) * 300_000_000


def scores(values: np.ndarray, block: int = 64) -> np.ndarray:
    novelty = Novelty(values.shape[1])
    at = times(len(values))
    parts = [novelty.run(at[i : i + block], values[i : i + block]) for i in range(0, len(values), block)]
    return np.concatenate(parts)


def flags(values: np.ndarray, first: int, last: int) -> int:
    return int((scores(values)[first:last] >= FLAG).sum())


def test_noise_is_rarely_news() -> None:
    rates = [(scores(noise(4000, seed=seed))[300:] >= FLAG).mean() for seed in range(5)]
    assert np.mean(rates) < 0.004


@pytest.mark.parametrize("start", [150, 1000])
def test_a_spike_is_news_in_any_channel(start: int) -> None:
    values = noise(start + 100, 8)
    values[start, 5] += 15
    assert scores(values)[start] >= FLAG


def test_a_shift_of_level_is_news_at_its_start_only() -> None:
    values = noise(2000)
    values[1000:] += 8
    news = scores(values) >= FLAG
    assert news[1000:1010].any()
    assert news[1010:1400].sum() <= 2


def test_a_slight_lasting_shift_is_news_though_no_row_of_it_is_a_spike() -> None:
    values = noise(3000)
    values[2000:] += 2.5
    assert flags(values, 2000, 2040) >= 1


def test_a_growing_drift_goes_on_being_news() -> None:
    values = noise(3000)
    values[2000:2400, 0] += np.linspace(0, 8, 400) ** 2
    news = scores(values)
    assert news[2000:2200].max() >= FLAG
    assert news[2200:2400].max() > 0.5 > np.median(news[2000:2400])


def test_bursts_are_no_news_where_bursts_are_usual() -> None:
    values = noise(4000)
    values[::50] += 20
    assert flags(values, 2000, 4000) <= 8
    values[3010] += 200
    assert flags(values, 3010, 3011) == 1


def test_a_channel_that_stops_moving_is_news() -> None:
    values = noise(3000, 3)
    values[2000:, 1] = values[1999, 1]
    assert flags(values, 2000, 2500) >= 1


def test_a_constant_series_is_silent_until_it_moves() -> None:
    values = np.full((1000, 1), 3.7e9)
    values[800:] += 1.0
    assert scores(values)[:800].max() < 1e-9
    assert flags(values, 800, 801) == 1


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_blocks_equal_rows(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    values = rng.standard_t(3, (500, 3)) * (1.0, 1e-6, 1e6) + (0.0, 5.0, -1e9)
    values[rng.uniform(size=values.shape) < data.draw(st.sampled_from([0.0, 0.1, 0.9]))] = np.nan
    values[: data.draw(st.integers(0, 200)), 2] = np.nan
    values[data.draw(st.integers(0, 400)) :, 1] = 5.0
    values[rng.integers(0, 500, 3), 0] = (np.inf, -np.inf, 1e300)
    by_row = scores(values, 1)
    for block in (data.draw(st.integers(2, 130)), 64, 500):
        assert scores(values, block) == pytest.approx(by_row, abs=1e-9)


def test_scores_are_causal_and_deterministic() -> None:
    values = noise(900, 2)
    changed = values.copy()
    changed[700:] *= 50
    assert (scores(values)[:700] == scores(changed)[:700]).all()
    assert (scores(values) == scores(values)).all()


def test_units_and_offsets_do_not_matter() -> None:
    values = noise(1500)
    values[1200] += 12
    plain = scores(values)
    assert scores(values * 1e-9) == pytest.approx(plain, abs=1e-6)
    assert scores(values * 1e6 - 5e6) == pytest.approx(plain, abs=1e-6)


def test_missing_values_are_no_news_and_a_channel_may_come_late() -> None:
    values = noise(1500, 2)
    values[1000:1100, 0] = np.nan
    values[:400, 1] = np.nan
    assert np.isfinite(scores(values)).all()
    assert flags(values, 380, 600) <= 3
    assert flags(values, 1000, 1101) <= 2
    assert (scores(np.full((300, 2), np.nan)) == 0).all()


def test_hostile_numbers_stay_within_bounds() -> None:
    values = noise(800)
    values[400:410, 0] = (1e308, -1e308, np.inf, -np.inf, np.nan, 1e149, -1e149, 5e-324, 0.0, 1e-300)
    news = scores(values)
    assert np.isfinite(news).all() and (news >= 0).all() and (news <= 1).all()


def test_a_saved_state_goes_on_as_if_never_stopped() -> None:
    values = noise(777, 4)
    values[600, 2] = 40
    whole = Novelty(4).run(times(777), values)
    first = Novelty(4)
    first.run(times(333), values[:333])
    second = Novelty(4)
    second.load(load(dump(first.state())))
    assert second.run(times(777)[333:], values[333:]) == pytest.approx(whole[333:], abs=1e-9)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    values = noise(300, 2)
    novelty = Novelty(2)
    novelty.run(times(200), values[:200])
    expected = Novelty(2)
    expected.load(novelty.state())
    good = novelty.state()
    for damage in ({}, Novelty(3).state(), {**good, "_filled": 99.0}, {**good, "_level": np.array([np.nan, 0.0])}):
        with pytest.raises(BadInput):
            novelty.load(damage)
    assert (novelty.run(times(300)[200:], values[200:]) == expected.run(times(300)[200:], values[200:])).all()


def test_shapes_are_checked_and_memory_is_bounded() -> None:
    novelty = Novelty(60)
    with pytest.raises(ValueError, match="expected"):
        novelty.run(times(3), np.zeros((3, 59)))
    assert len(novelty.run(times(0), np.zeros((0, 60)))) == 0
    novelty.run(times(2000), noise(2000, 60))
    assert sum(np.asarray(part).nbytes for part in novelty.state().values()) < 1_000_000
    with pytest.raises(ValueError):
        Novelty(0)


@pytest.mark.data
def test_open_series_of_the_numenta_benchmark() -> None:
    folder = os.environ.get("FORESTALL_DATA")
    if not folder:
        pytest.skip("FORESTALL_DATA names no recorded data")
    nab = Path(folder) / "nab"
    judged = {}
    for name, windows in read_windows(nab / "labels" / "combined_windows.json").items():
        if not name.startswith("real"):
            continue
        with (nab / "data" / name).open(encoding="utf-8") as lines:
            rows = list(csv.reader(lines))[1:]
        at = np.array([row[0] for row in rows], dtype="datetime64[us]")
        values = np.array([[float(row[1])] for row in rows])
        judged[name] = Series(at, Novelty(1).run(at.astype(np.int64), values), windows)
    best, flagged = score_corpus(judged), score_at(judged, FLAG)
    assert best["standard"].score > 60
    assert best["reward_low_FP"].score > 50
    assert flagged["standard"].score > best["standard"].score - 5
