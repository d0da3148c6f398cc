"""Every detector keeps the contract of ``edge_agent.detection.detectors.api``; new ones are found by themselves.

A detector that this device cannot run (its ``unavailable()`` gives a reason) is skipped with that reason.
"""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np
import pytest

from edge_agent.arrays import FloatArray
from edge_agent.detection import detectors as package
from edge_agent.detection.detectors.api import Detector, DetectorDeps
from fleet_core.errors import BadConfig
from fleet_core.plugins import load_plugin, parse_config, plugin_names

CHANNELS = 5
NAMES = plugin_names(package.__name__)
FOLLOW_CHANGE = {"autoencoder", "spectral"}
"""Detectors of how a channel moves: an offset that only stands is no movement; another manner of moving stands."""


def make(name: str, channels: int = CHANNELS) -> Detector:
    plugin = load_plugin(package.__name__, name)
    if reason := getattr(plugin, "unavailable", str)():
        pytest.skip(reason)
    config = parse_config(plugin.Config, tomllib.loads(plugin.SAMPLE), name)
    detector: Detector = plugin.build(config, DetectorDeps(channels))
    return detector


def healthy(rows: int = 144, seed: int = 3, channels: int = CHANNELS) -> FloatArray:
    table = np.random.default_rng(seed).normal(size=(rows, channels))
    if channels > 1:
        table[:, 1] = 0.8 * table[:, 0] + 0.6 * table[:, 1]
    return table


def fitted(name: str, channels: int = CHANNELS) -> Detector:
    detector = make(name, channels)
    detector.fit(healthy(channels=channels), np.ones(channels))
    return detector


def one_by_one(detector: Detector, rows: FloatArray) -> FloatArray:
    return np.concatenate([detector.run(rows[index : index + 1]) for index in range(len(rows))])


def faulty(seed: int, rows: int = 200) -> FloatArray:
    """Life with all that befalls it: noise, zeros for what is missing, a step, an outlier, a stuck channel."""
    rng = np.random.default_rng(seed)
    table = healthy(rows, seed)
    table[rows // 4 : rows // 3] = 0.0
    table[rows // 2 :, 2] += rng.uniform(-20, 20)
    table[2 * rows // 3] = rng.choice([-1000.0, 1000.0], size=CHANNELS)
    table[3 * rows // 4 :, 4] = table[3 * rows // 4, 4]
    return table


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_there_are_detectors() -> None:
    assert {"aakr", "autoencoder", "cusum", "ewma", "level", "pca", "spectral", "virtual"} <= set(NAMES)


def test_unknown_settings_are_refused(name: str) -> None:
    with pytest.raises(BadConfig, match="unknown setting"):
        parse_config(load_plugin(package.__name__, name).Config, {"no_such_setting": 1}, name)


@pytest.mark.parametrize("channels", [1, 2, CHANNELS, 60])
@pytest.mark.parametrize("rows", [1, 2, 50, 130])
def test_outputs_have_the_promised_shape_and_sign(name: str, channels: int, rows: int) -> None:
    detector = fitted(name, channels)
    before = detector.memory.shape
    statistics = detector.run(healthy(rows, 4, channels))
    outputs = statistics.shape[1]
    assert len(statistics) == rows
    assert outputs % channels == 0 if detector.per_channel else outputs == 1
    assert np.isfinite(statistics).all() and (statistics >= 0).all()
    contributions = detector.contributions()
    assert contributions.shape == (channels,) and (contributions >= 0).all() and np.isfinite(contributions).all()
    assert detector.memory.shape == before


@pytest.mark.parametrize("rows", [24, 144, 20_000])
def test_room_is_never_less_than_none(name: str, rows: int) -> None:
    detector = fitted(name)
    room = detector.room(rows)
    outputs = detector.run(healthy(1)).shape[1]
    assert np.broadcast_to(room, (outputs,)).shape == (outputs,)
    assert (room >= 1).all() and np.isfinite(room).all()
    assert (detector.room(2 * rows) <= room).all()


def test_the_memory_starts_at_zero_and_a_fit_of_an_empty_one_leaves_no_trace_of_rows(name: str) -> None:
    detector = make(name)
    assert not detector.memory.any()
    detector.run(healthy(40, 8))
    kept = detector.memory.copy()
    detector.fit(healthy(), np.ones(CHANNELS))
    assert np.array_equal(detector.memory, kept)


def test_same_input_same_output(name: str) -> None:
    rows = faulty(5)
    assert np.array_equal(fitted(name).run(rows), fitted(name).run(rows))


def test_rows_are_not_written_to(name: str) -> None:
    rows = faulty(5)
    kept = rows.copy()
    detector = fitted(name)
    detector.run(rows)
    detector.fit(rows, np.ones(CHANNELS))
    assert np.array_equal(rows, kept)


@pytest.mark.parametrize("cut", [1, 30, 64, 131])
def test_restart_changes_nothing(name: str, cut: int) -> None:
    one = fitted(name)
    rows = faulty(6)
    one.run(rows[:cut])
    two = make(name)
    two.load(one.model())
    two.memory = one.memory.copy()
    assert np.array_equal(one.run(rows[cut:]), two.run(rows[cut:]))
    assert np.array_equal(one.memory, two.memory) and np.array_equal(one.contributions(), two.contributions())


@pytest.mark.parametrize("seed", range(4))
def test_a_block_gives_what_its_rows_one_by_one_would(name: str, seed: int) -> None:
    rows = faulty(seed)
    whole, single, blocks = fitted(name), fitted(name), fitted(name)
    expected = one_by_one(single, rows)
    edges = np.sort(np.random.default_rng(seed).integers(1, len(rows), 6))
    parts = [blocks.run(part) for part in np.split(rows, edges) if len(part)]
    for statistics in (whole.run(rows), np.concatenate(parts)):
        np.testing.assert_allclose(statistics, expected, rtol=1e-9, atol=1e-9)
    for detector in (whole, blocks):
        np.testing.assert_allclose(detector.memory, single.memory, rtol=1e-9, atol=1e-9)


def test_no_row_knows_of_a_later_one(name: str) -> None:
    rows = faulty(7)
    changed = rows.copy()
    changed[100:] += 50.0
    np.testing.assert_allclose(fitted(name).run(rows)[:100], fitted(name).run(changed)[:100], rtol=1e-9, atol=1e-9)


def test_a_gap_is_healthy(name: str) -> None:
    """What is missing reads 0: it may let a statistic fall, and after it life goes on as if it had been quiet."""
    detector = fitted(name)
    usual = detector.run(healthy(400, 4)).max()
    gap = detector.run(np.zeros((200, CHANNELS)))
    after = detector.run(healthy(400, 9))
    assert np.isfinite(gap).all()
    # a channel that stopped moving is news to those who watch how it moves, boundedly
    assert gap.max() < (12 if name in FOLLOW_CHANGE else 1.01) * usual
    assert after[200:].max() < 2 * usual


def test_constant_healthy_rows_are_survived(name: str) -> None:
    detector = make(name)
    detector.fit(np.zeros((144, CHANNELS)), np.ones(CHANNELS))
    assert np.isfinite(detector.run(np.zeros((10, CHANNELS)))).all()
    assert np.isfinite(detector.run(np.full((10, CHANNELS), 1000.0))).all()


def test_few_rows_and_wide_wander_are_survived(name: str) -> None:
    detector = make(name)
    detector.fit(healthy(20), np.full(CHANNELS, 30.0))
    statistics = detector.run(faulty(1))
    assert np.isfinite(statistics).all() and (statistics >= 0).all()


def test_an_outlier_does_not_blind(name: str) -> None:
    rows = healthy()
    rows[70] = 1000.0
    clean, dirty = fitted(name), make(name)
    dirty.fit(rows, np.ones(CHANNELS))
    shifted = np.full((10, CHANNELS), 6.0)
    assert dirty.run(shifted)[-1].max() > 0.5 * clean.run(shifted)[-1].max()


@pytest.mark.parametrize("level", sorted(set(NAMES) - FOLLOW_CHANGE))
def test_growing_drift_gives_growing_statistics(level: str) -> None:
    rows = np.zeros((200, CHANNELS))
    rows[:, 0] = np.linspace(0, 60, 200)
    course = fitted(level).run(rows).max(axis=1)
    assert course[-1] > 3 * max(course[5], 0.1)
    assert (np.diff(course[20:]) >= -1e-9).all()


@pytest.mark.parametrize(
    ("each", "wild"), [*((each, False) for each in NAMES), *((each, True) for each in sorted(FOLLOW_CHANGE))]
)
def test_a_growing_fault_in_the_midst_of_noise_gives_growing_statistics(each: str, wild: bool) -> None:
    """A drift that quickens; to those that follow change, movement that grows wilder as well."""
    growth = np.linspace(0, 1, 600)
    rows = healthy(600, 10)
    rows[:, 0] += 20 * growth * np.random.default_rng(3).normal(size=600) if wild else 60 * growth**3
    # the first channel's own statistics, where each channel has some
    course = fitted(each).run(rows)[:, ::CHANNELS].max(axis=1)
    stretches = np.median(course[200:].reshape(4, 100), axis=1)
    assert (np.diff(stretches) > 0).all() and stretches[-1] > 2 * np.median(course[:100])


def test_what_stands_is_not_forgotten(name: str) -> None:
    """An offset, to detectors of levels; another manner of moving, to those that follow change."""
    rng = np.random.default_rng(2)
    rows = np.tile(np.array([0.0, 0.0, 0.0, 6.0, 0.0]), (600, 1))
    if name in FOLLOW_CHANGE:
        rows = healthy(600, 12)
        rows[:, 3] = 6.0 * rng.normal(size=600)
    course = fitted(name).run(rows).max(axis=1)
    quiet = fitted(name).run(healthy(50, 4)).max()
    assert course[-200:].max() > 0.5 * course.max() and np.median(course[-200:]) > quiet


def test_the_channel_that_strays_contributes_most(name: str) -> None:
    rows = np.zeros((40, CHANNELS))
    rows[:, 3] = 8.0
    if name in FOLLOW_CHANGE:
        rows[:, 3] *= np.random.default_rng(1).normal(size=40)
    detector = fitted(name)
    detector.run(rows)
    assert int(np.argmax(detector.contributions())) == 3
