"""Waveform features against signals whose features are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_agent.features.bearing import BearingGeometry
from edge_agent.features.envelope import envelope_spectrum, strongest_line
from edge_agent.features.spectrum import BAND_EDGES, spectrum_of
from edge_agent.features.waveform import FEATURE_NAMES, FEATURES, feature_specs, waveform_features
from fleet_core.errors import BadConfig

RATE_HZ = 25_600.0
TIME_S = np.arange(2560) / RATE_HZ
SHAFT_HZ = 30.0
GEOMETRY = BearingGeometry(balls=13, ball_diameter_mm=3.5, pitch_diameter_mm=25.6)


def knocks(order: float, height: float = 3.0, size: int = 25_600, seed: int = 0, change: float = 0.0) -> np.ndarray:
    """Noise of 1 g and a 9 kHz resonance struck ``order`` times a turn; the speed may change by a share."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(size) / RATE_HZ
    share = time_s / time_s[-1]
    turns = SHAFT_HZ * time_s[-1] * (share * (1 - change / 2) + change * share**2 / 2)
    signal = rng.normal(size=size)
    for start in np.flatnonzero(np.diff(np.floor(turns * order)) > 0):
        ring_s = time_s[: min(60, size - start)]
        signal[start : start + 60] += height * np.exp(-2000 * ring_s) * np.sin(2 * np.pi * 9000 * ring_s)
    return signal


def test_a_sine() -> None:
    features = waveform_features(3 + 2 * np.sin(2 * np.pi * 1600 * TIME_S), RATE_HZ)
    assert features["rms"] == pytest.approx(math.sqrt(2), rel=1e-3)
    assert features["peak"] == pytest.approx(2, rel=1e-2)
    assert features["kurtosis"] == pytest.approx(1.5, rel=1e-2)
    assert features["centroid"] == pytest.approx(1600, rel=1e-2)
    assert features["band_1"] == pytest.approx(1, abs=1e-3)
    assert features["high_rms"] == pytest.approx(0, abs=1e-3)


def test_noise_has_kurtosis_three_and_impulses_more() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=2560)
    assert waveform_features(noise, RATE_HZ)["kurtosis"] == pytest.approx(3, abs=0.3)
    noise[::256] += 12
    assert waveform_features(noise, RATE_HZ)["kurtosis"] > 8


@pytest.mark.parametrize("size", [32, 33, 1000, 2560, 65_536])
def test_the_bands_shares_add_up_and_the_high_level_is_its_share(size: int) -> None:
    features = waveform_features(np.random.default_rng(2).normal(size=size), RATE_HZ)
    shares = [features[f"band_{i}"] for i in range(len(BAND_EDGES) - 1)]
    assert sum(shares) == pytest.approx(1)
    assert features["high_rms"] == pytest.approx(features["rms"] * shares[-1] ** 0.5, rel=0.4 if size < 100 else 0.05)


def test_what_cannot_be_computed_is_nan() -> None:
    assert all(math.isnan(value) for value in waveform_features([1.0, 2.0], RATE_HZ).values())
    assert all(math.isnan(value) for value in waveform_features([math.nan] * 100, RATE_HZ).values())
    still = waveform_features([1.0] * 100, RATE_HZ)
    assert still["rms"] == 0 and math.isnan(still["kurtosis"])


def test_levels_scale_with_the_unit_and_shapes_do_not() -> None:
    signal = knocks(5.6, size=2560)
    one, thousand = waveform_features(signal, RATE_HZ), waveform_features(1000 * signal, RATE_HZ)
    for name, in_unit in FEATURES:
        assert thousand[name] == pytest.approx((1000 if in_unit else 1) * one[name], rel=1e-9)


def test_names_follow_from_the_configuration_alone() -> None:
    noise = np.random.default_rng(3).normal(size=2560)
    for signal in (noise, noise[:3], np.full(100, math.nan), np.zeros(100)):
        everything = waveform_features(signal, RATE_HZ, GEOMETRY, math.nan, velocity=True)
        assert tuple(everything) == tuple(name for name, _ in feature_specs(True, True, True))
        assert tuple(waveform_features(signal, RATE_HZ)) == tuple(name for name, _ in feature_specs()) == FEATURE_NAMES
    assert len(feature_specs(True, True, True)) == len(FEATURES) + 4 + 3 + 1


def test_knocks_below_the_level_show_in_the_envelope_at_their_frequency() -> None:
    quiet, faulty = (waveform_features(knocks(5.611, height), RATE_HZ) for height in (0.0, 2.0))
    assert faulty["rms"] < 1.06 * quiet["rms"] and faulty["kurtosis"] < 3.3
    assert quiet["envelope_peak"] < 4.5 and faulty["envelope_peak"] > 7
    spectrum = spectrum_of(knocks(5.611, 2.0), RATE_HZ)
    assert strongest_line(envelope_spectrum(spectrum))[1] == pytest.approx(5.611 * SHAFT_HZ, abs=2)


@pytest.mark.parametrize(("defect", "slip"), [("bpfo", 1.0), ("bpfi", 1.0), ("bsf", 1.0), ("bpfo", 0.99)])
def test_each_defect_has_its_own_line(defect: str, slip: float) -> None:
    found = waveform_features(knocks(GEOMETRY.orders()[defect] * slip), RATE_HZ, GEOMETRY, SHAFT_HZ)
    lines = {name: found[name] for name in GEOMETRY.orders()}
    assert max(lines, key=lambda name: lines[name]) == defect
    assert lines[defect] > 8


def test_a_run_up_keeps_its_line_by_order_tracking() -> None:
    signal = knocks(GEOMETRY.orders()["bpfo"], change=0.3)
    blurred = waveform_features(signal, RATE_HZ, GEOMETRY, SHAFT_HZ)
    tracked = waveform_features(signal, RATE_HZ, GEOMETRY, SHAFT_HZ * 0.85, shaft_end_hz=SHAFT_HZ * 1.15)
    assert tracked["bpfo"] > 8 > 2 * blurred["bpfo"]


def test_orders_of_the_shaft_steady_and_in_a_run_up() -> None:
    time_s = np.arange(25_600) / RATE_HZ
    steady = 0.5 * np.sin(2 * np.pi * 30 * time_s) + 0.2 * np.sin(2 * np.pi * 60 * time_s)
    found = waveform_features(steady, RATE_HZ, shaft_hz=30.0)
    assert [found[f"order_{i}"] for i in (1, 2, 3)] == pytest.approx([0.5, 0.2, 0.0], abs=1e-3)
    turns = 25 * time_s + 10 * time_s**2 / 2
    found = waveform_features(np.sin(2 * np.pi * turns), RATE_HZ, shaft_hz=25.0, shaft_end_hz=35.0)
    assert found["order_1"] == pytest.approx(1.0, rel=0.02)
    for speeds in ((0.0, None), (30.0, -1.0), (1.0, 30.0), (1e9, None)):
        found = waveform_features(steady, RATE_HZ, GEOMETRY, speeds[0], shaft_end_hz=speeds[1])
        assert math.isnan(found["order_1"]) and math.isnan(found["bpfo"])


def test_velocity_of_a_sine_is_its_acceleration_over_its_angular_frequency() -> None:
    time_s = np.arange(25_600) / RATE_HZ
    signal = np.sin(2 * np.pi * 100 * time_s) + 5 * np.sin(2 * np.pi * 5000 * time_s)  # 5 kHz is out of band
    expected = 9806.65 / (2 * math.pi * 100) / math.sqrt(2)
    assert waveform_features(signal, RATE_HZ, velocity=True)["velocity_rms"] == pytest.approx(expected, rel=1e-3)
    in_si = waveform_features(signal, RATE_HZ, unit="m/s2", velocity=True)["velocity_rms"]
    assert in_si == pytest.approx(expected / 9.80665, rel=1e-3)
    for values, rate_hz, unit in ((signal, RATE_HZ, "A"), (signal, 1000.0, "[g]"), (signal[:2560], RATE_HZ, "[g]")):
        assert math.isnan(waveform_features(values, rate_hz, unit=unit, velocity=True)["velocity_rms"])


def test_defect_frequencies_of_a_known_bearing() -> None:
    """SKF 6205-2RS as published with the Case Western Reserve University recordings."""
    orders = BearingGeometry(9, 7.94004, 39.03980).orders()
    assert [orders[name] for name in ("bpfi", "bpfo", "ftf")] == pytest.approx([5.4152, 3.5848, 0.39828], rel=1e-4)
    assert 2 * orders["bsf"] == pytest.approx(4.7135, rel=1e-4)


@pytest.mark.parametrize("wrong", [(2, 5, 30), (9, 0, 30), (9, 30, 30), (9, 5, math.nan), (9, 5, 30, 90)])
def test_an_impossible_bearing_is_refused(wrong: tuple) -> None:
    with pytest.raises(BadConfig, match="bearing geometry"):
        BearingGeometry(*wrong)


@settings(deadline=None)
@given(
    arrays(np.float64, st.integers(0, 400), elements=st.floats(width=32)),
    st.floats(),
    st.floats(),
    st.floats() | st.none(),
)
def test_no_burst_rate_or_speed_raises(
    signal: np.ndarray, rate_hz: float, shaft_hz: float, shaft_end_hz: float | None
) -> None:
    found = waveform_features(signal, rate_hz, GEOMETRY, shaft_hz, shaft_end_hz=shaft_end_hz, velocity=True)
    assert len(found) == len(feature_specs(True, True, True))


@settings(deadline=None)
@given(arrays(np.float64, st.integers(0, 200), elements=st.floats(-1e6, 1e6)))
def test_never_raises_and_names_every_feature(signal: np.ndarray) -> None:
    assert tuple(waveform_features(signal, RATE_HZ)) == FEATURE_NAMES
