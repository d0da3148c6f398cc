"""Features of one waveform burst: what a bearing's wear does to a vibration signal, in a dozen numbers.

Pure numpy, one pass over the samples and one FFT. Training and serving both import this file, so that a feature
means the same on both sides. A feature that cannot be computed (too short, not finite) is NaN, never an exception.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

MIN_SAMPLES = 32
SILENCE = 1e-100
"""Mean square below which there is nothing to describe the shape of (and squares would underflow)."""
BAND_EDGES = (0.0, 0.08, 0.16, 0.32, 0.64, 1.0)
"""Edges of the relative bands as fractions of the Nyquist frequency; at 25.6 kHz: 1, 2, 4, 8.2, 12.8 kHz."""

FEATURES: tuple[tuple[str, bool], ...] = (
    ("rms", True),
    ("peak", True),
    ("crest", False),
    ("kurtosis", False),
    ("centroid", False),
    *((f"band_{index}", False) for index in range(len(BAND_EDGES) - 1)),
)
"""(name, carries the waveform's own unit); the others are ratios of unit 1 except the centroid, in hertz."""

FEATURE_NAMES: tuple[str, ...] = tuple(name for name, _ in FEATURES)


def waveform_features(values: ArrayLike, sample_rate_hz: float) -> dict[str, float]:
    """Features of a burst of equally spaced samples, mean removed.

    ``rms`` and ``peak`` in the unit of the values; ``crest`` = peak / rms; ``kurtosis`` (3 for noise);
    ``centroid`` in Hz; ``band_i`` = share 0..1 of the spectrum's energy in the i-th relative band.
    """
    signal: FloatArray = np.asarray(values, dtype=np.float64).ravel()
    if signal.size < MIN_SAMPLES or not np.isfinite(signal).all() or not sample_rate_hz > 0:
        return dict.fromkeys(FEATURE_NAMES, float("nan"))
    signal = signal - signal.mean()
    squares = signal * signal
    power = float(squares.mean())
    peak = float(np.abs(signal).max())
    rms = power**0.5
    if not power > SILENCE:
        return dict.fromkeys(FEATURE_NAMES, float("nan")) | {"rms": 0.0, "peak": peak}
    features = {
        "rms": rms,
        "peak": peak,
        "crest": peak / rms,
        "kurtosis": float((squares * squares).mean()) / power**2,
    }
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(signal.size))) ** 2
    total = float(spectrum.sum())
    frequencies = np.linspace(0.0, sample_rate_hz / 2, spectrum.size)
    features["centroid"] = float(spectrum @ frequencies) / total if total > 0 else float("nan")
    edges = np.rint(np.array(BAND_EDGES) * spectrum.size).astype(int)
    for index, (low, high) in enumerate(itertools.pairwise(edges)):
        features[f"band_{index}"] = float(spectrum[low:high].sum()) / total if total > 0 else float("nan")
    return features
