"""The autoencoder on the device: blocks, holding, clipping, files that are not to be believed, no runtime."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.detection.detectors import _litert, _windows, autoencoder
from edge_agent.detection.detectors.api import DetectorDeps
from fleet_core.errors import BadConfig

CHANNELS = 3


@pytest.fixture
def no_runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_litert, "RUNTIMES", ("no_such_runtime", "no_other_runtime"))
    _litert.runtime.cache_clear()
    autoencoder.shipped.cache_clear()
    yield
    monkeypatch.undo()
    _litert.runtime.cache_clear()


def rows(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, CHANNELS))


def fitted(every_ticks: int = 4) -> autoencoder.Autoencoder:
    detector = autoencoder.build(autoencoder.Config(every_ticks), DetectorDeps(CHANNELS))
    detector.fit(rows(256, 2), np.ones(CHANNELS))
    return detector


def shipped_files() -> tuple[bytes, dict[str, Any]]:
    folder = resources.files(autoencoder.ARTIFACTS)
    manifest = json.loads((folder / autoencoder.MANIFEST).read_text(encoding="utf-8"))
    return (folder / autoencoder.MODEL).read_bytes(), manifest


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 90), max_size=6), every_ticks=st.integers(1, 9), seed=st.integers(0, 99))
def test_blocks_of_any_size_say_the_same(cuts: list[int], every_ticks: int, seed: int) -> None:
    course = 3 * rows(90, seed)
    whole, piecewise = fitted(every_ticks), fitted(every_ticks)
    wanted = whole.run(course)
    edges = sorted({0, 90, *cuts})
    found = [piecewise.run(course[low:high]) for low, high in itertools.pairwise(edges)]
    assert np.abs(np.concatenate(found) - wanted).max() < 1e-9
    assert np.abs(piecewise.memory - whole.memory).max() < 1e-9


def test_statistics_stand_between_judgements() -> None:
    statistics = fitted(8).run(rows(80))
    for start in range(7, 72, 8):
        assert (statistics[start : start + 8] == statistics[start]).all()
    assert (statistics[:7] == 0).all() and (statistics[7] > 0).all()


def test_an_empty_block_changes_nothing() -> None:
    detector = fitted()
    before = detector.memory.copy()
    assert detector.run(np.zeros((0, CHANNELS))).shape == (0, CHANNELS)
    assert np.array_equal(detector.memory, before)


def test_a_fault_beyond_the_input_is_judged_unclipped_and_counted() -> None:
    small, large = fitted(), fitted()
    quiet = small.run(rows(64))[-1]
    fault = np.zeros((64, CHANNELS))
    fault[32:, 1] = 16.0
    before = large.saturated
    found = large.run(rows(64) + fault)[-1]
    assert found[1] > 5 * quiet[1]
    assert large.saturated[0] - before[0] >= sum(range(4, 33, 4)) and large.saturated[1] > before[1]
    fault[32:, 1] = 160.0
    assert fitted().run(rows(64) + fault)[-1, 1] > 8 * found[1]
    assert np.allclose(found[[0, 2]], quiet[[0, 2]])


@pytest.mark.parametrize("change", ["stick", "hunt", "smooth"])
def test_another_way_of_moving_is_seen_within_the_healthy_band(change: str) -> None:
    course = rows(400, 5)
    time = np.arange(200)
    if change == "stick":
        course[200:, 0] = np.repeat(course[200::10, 0], 10)
    elif change == "hunt":
        course[200:, 0] = 1.2 * np.sin(time * 2 * np.pi / 6) + 0.2 * course[200:, 0]
    else:
        course[200:, 0] = np.sin(time * 2 * np.pi / 90)
    statistics = fitted().run(course)
    assert np.median(statistics[240:, 0]) > 1.2 * np.quantile(statistics[40:200, 0], 0.99)
    assert np.median(statistics[240:, 1]) < 1.2 * np.quantile(statistics[40:200, 1], 0.99)


def test_a_missing_channel_is_not_blamed() -> None:
    course = rows(120)
    course[40:, 0] = 0.0
    detector = fitted()
    statistics = detector.run(course)
    assert statistics[80:, 0].max() <= statistics[32:40].max()


def test_files_that_do_not_fit_are_refused() -> None:
    content, manifest = shipped_files()
    autoencoder.load_judge(content, json.dumps(manifest))
    contract = manifest["contract"]
    for changed, message in (
        ({"sha256": {autoencoder.MODEL: "0" * 64}}, "SHA-256"),
        ({"contract": contract | {"version": 99}}, "another input contract"),
        ({"contract": contract | {"shapes": ["speed"]}}, "another input contract"),
        ({"contract": contract | {"weights": [1.0]}}, "another width"),
        ({"contract": contract | {"weights": [float("nan")] * _windows.WIDTH}}, "out of range"),
        ({"contract": None}, "cannot be read"),
    ):
        with pytest.raises(BadConfig, match=message):
            autoencoder.load_judge(content, json.dumps(manifest | changed))
    with pytest.raises(BadConfig, match="cannot be read"):
        autoencoder.load_judge(content, "not JSON")


def test_a_network_must_be_one() -> None:
    for content in (b"", b"nonsense" * 50, b"\0" * (_litert.MAX_MODEL_BYTES + 1)):
        with pytest.raises(BadConfig):
            _litert.Network(content)


def test_a_batch_beyond_the_bound_is_cut() -> None:
    network = _litert.Network(shipped_files()[0])
    table = np.random.default_rng(1).normal(size=(_litert.MAX_BATCH + 70, _windows.WIDTH))
    assert np.array_equal(network.run(table)[-1:], network.run(table[-1:]))
    assert network.run(table[:0]).shape == (0, _windows.WIDTH)


def test_without_a_runtime_it_says_so(no_runtime: None) -> None:
    assert "install 'ai-edge-litert'" in autoencoder.unavailable()
    with pytest.raises(BadConfig, match="no LiteRT runtime"):
        autoencoder.build(autoencoder.Config(), DetectorDeps(CHANNELS))


def test_settings_are_bounded() -> None:
    for every_ticks in (0, 33):
        with pytest.raises(BadConfig, match="every_ticks"):
            autoencoder.Config(every_ticks)


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=_windows.WINDOW, max_size=_windows.WINDOW),
    st.booleans(),
)
def test_shapes_are_finite_and_bounded(values: list[float], at_rest: bool) -> None:
    course = np.zeros((1, _windows.WINDOW)) if at_rest else np.array([values])
    scale = _windows.fit_scale(np.zeros((10, 1)), np.ones(len(_windows.SHAPES)))
    standard = scale.standardise(_windows.shapes(course))
    assert np.isfinite(standard).all() and (np.abs(standard) <= _windows.SHAPE_LIMIT).all()
    assert not at_rest or (standard == 0).all()


def test_shapes_tell_dynamics_apart_and_not_levels() -> None:
    noise = np.random.default_rng(3).normal(size=(1, _windows.WINDOW))
    assert np.allclose(_windows.shapes(noise), _windows.shapes(noise + 100.0))
    column = {name: index for index, name in enumerate(_windows.SHAPES)}
    zigzag = np.tile([1.0, -1.0], _windows.WINDOW // 2)[None]
    ramp = np.linspace(0.1, 4.0, _windows.WINDOW)[None]
    assert _windows.shapes(zigzag)[0, column["turns"]] > 0.9 > 0.1 > _windows.shapes(ramp)[0, column["turns"]]
    assert _windows.shapes(ramp)[0, column["slope"]] > 1.5
    assert _windows.shapes(zigzag)[0, column["correlation_1"]] < -0.9
