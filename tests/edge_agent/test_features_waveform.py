"""Waveform features against signals whose features are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_agent.features.waveform import BAND_EDGES, FEATURE_NAMES, waveform_features

RATE_HZ = 25_600.0
TIME_S = np.arange(2560) / RATE_HZ


def test_a_sine() -> None:
    features = waveform_features(3 + 2 * np.sin(2 * np.pi * 1600 * TIME_S), RATE_HZ)
    assert features["rms"] == pytest.approx(math.sqrt(2), rel=1e-3)
    assert features["peak"] == pytest.approx(2, rel=1e-2)
    assert features["kurtosis"] == pytest.approx(1.5, rel=1e-2)
    assert features["centroid"] == pytest.approx(1600, rel=1e-2)
    assert features["band_1"] == pytest.approx(1, abs=1e-3)


def test_noise_has_kurtosis_three_and_impulses_more() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=2560)
    assert waveform_features(noise, RATE_HZ)["kurtosis"] == pytest.approx(3, abs=0.3)
    noise[::256] += 12
    assert waveform_features(noise, RATE_HZ)["kurtosis"] > 8


def test_bands_add_up_to_one() -> None:
    rng = np.random.default_rng(2)
    features = waveform_features(rng.normal(size=1000), RATE_HZ)
    assert sum(features[f"band_{i}"] for i in range(len(BAND_EDGES) - 1)) == pytest.approx(1)


def test_what_cannot_be_computed_is_nan() -> None:
    assert all(math.isnan(value) for value in waveform_features([1.0, 2.0], RATE_HZ).values())
    assert all(math.isnan(value) for value in waveform_features([math.nan] * 100, RATE_HZ).values())
    still = waveform_features([1.0] * 100, RATE_HZ)
    assert still["rms"] == 0 and math.isnan(still["kurtosis"])


@given(arrays(np.float64, st.integers(0, 200), elements=st.floats(-1e6, 1e6)))
def test_never_raises_and_names_every_feature(signal: np.ndarray) -> None:
    assert tuple(waveform_features(signal, RATE_HZ)) == FEATURE_NAMES
