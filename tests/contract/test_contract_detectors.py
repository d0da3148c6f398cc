"""Every detector keeps the contract of ``edge_agent.detection.detectors.api``; new ones are found by themselves."""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np
import pytest

from edge_agent.detection import detectors as package
from edge_agent.detection.detectors.api import Detector, DetectorDeps
from fleet_core.errors import BadConfig
from fleet_core.plugins import load_plugin, parse_config, plugin_names

CHANNELS = 5
NAMES = plugin_names(package.__name__)


def make(name: str) -> Detector:
    plugin = load_plugin(package.__name__, name)
    config = parse_config(plugin.Config, tomllib.loads(plugin.SAMPLE), name)
    detector: Detector = plugin.build(config, DetectorDeps(CHANNELS))
    return detector


def healthy(rows: int = 144, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(rows, CHANNELS))
    table[:, 1] = 0.8 * table[:, 0] + 0.6 * table[:, 1]
    return table


def fitted(name: str) -> Detector:
    detector = make(name)
    detector.fit(healthy(), np.ones(CHANNELS))
    return detector


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_there_are_detectors() -> None:
    assert {"level", "pca", "ewma", "cusum"} <= set(NAMES)


def test_unknown_settings_are_refused(name: str) -> None:
    with pytest.raises(BadConfig, match="unknown setting"):
        parse_config(load_plugin(package.__name__, name).Config, {"no_such_setting": 1}, name)


def test_outputs_have_the_promised_shape_and_sign(name: str) -> None:
    detector = fitted(name)
    for row in healthy(50, 4):
        statistics = detector.step(row)
        assert statistics.shape == ((CHANNELS,) if detector.per_channel else (1,))
        assert np.isfinite(statistics).all() and (statistics >= 0).all()
        assert detector.contributions().shape == (CHANNELS,) and (detector.contributions() >= 0).all()


def test_same_input_same_output(name: str) -> None:
    one, two = fitted(name), fitted(name)
    for row in healthy(60, 5):
        assert np.array_equal(one.step(row), two.step(row))


def test_restart_changes_nothing(name: str) -> None:
    one = fitted(name)
    rows = healthy(60, 6)
    for row in rows[:30]:
        one.step(row)
    two = make(name)
    two.load(one.model())
    two.memory = one.memory.copy()
    for row in rows[30:]:
        assert np.array_equal(one.step(row), two.step(row))


def test_constant_healthy_rows_are_survived(name: str) -> None:
    detector = make(name)
    detector.fit(np.zeros((144, CHANNELS)), np.ones(CHANNELS))
    assert np.isfinite(detector.step(np.zeros(CHANNELS))).all()
    assert np.isfinite(detector.step(np.full(CHANNELS, 1000.0))).all()


def test_an_outlier_does_not_blind(name: str) -> None:
    rows = healthy()
    rows[70] = 1000.0
    clean, dirty = fitted(name), make(name)
    dirty.fit(rows, np.ones(CHANNELS))
    shifted = np.full(CHANNELS, 6.0)
    for _ in range(10):
        with_clean, with_dirty = clean.step(shifted).max(), dirty.step(shifted).max()
    assert with_dirty > 0.5 * with_clean


def test_growing_drift_gives_growing_statistics(name: str) -> None:
    detector = fitted(name)
    course = [detector.step(np.array([level, 0.0, 0.0, 0.0, 0.0])).max() for level in np.linspace(0, 60, 200)]
    assert course[-1] > 3 * max(course[5], 0.1)
    later = np.array(course[20:])
    assert (np.diff(later) >= -1e-9).all()


def test_a_standing_offset_is_not_forgotten(name: str) -> None:
    detector = fitted(name)
    offset = np.array([0.0, 0.0, 0.0, 6.0, 0.0])
    course = [detector.step(offset).max() for _ in range(600)]
    quiet = max(fitted(name).step(row).max() for row in healthy(50, 4))
    assert course[-1] > 0.5 * max(course) and course[-1] > quiet


def test_the_drifting_channel_contributes_most(name: str) -> None:
    detector = fitted(name)
    for _ in range(20):
        detector.step(np.array([0.0, 0.0, 0.0, 8.0, 0.0]))
    assert int(np.argmax(detector.contributions())) == 3
