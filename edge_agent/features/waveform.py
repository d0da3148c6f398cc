"""Features of one waveform burst: a dozen numbers that change as wear changes a vibration signal.

Pure numpy: one pass over the samples and four transforms. Training and serving both import this file, so that a
feature means the same on both sides. The configuration alone decides which features a burst has; a feature that cannot
be computed (the burst is too short or not finite, the speed is unknown) is NaN, never an exception.

The default set must work without tuning. It therefore holds the features that showed wear on run-to-failure recordings,
with little redundancy:

* the level of the whole signal and of its highest band, which rises first and farthest;
* every band's share of the energy: the shares move before any level does, and do not move with the load;
* two shapes: kurtosis and centroid;
* the strongest line of the envelope, for knocks too weak to raise the level.

A set with the bands' levels instead of their shares found the same bearings later.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from edge_agent.arrays import FloatArray
from edge_agent.features.bearing import BEARING_LINES, BearingGeometry
from edge_agent.features.envelope import at_equal_angles, bearing_lines, envelope_spectrum, strongest_line
from edge_agent.features.spectrum import (
    BAND_EDGES,
    band_energies,
    centroid_hz,
    line_amplitude,
    spectrum_of,
    velocity_rms_mm_s,
)

MIN_SAMPLES = 32
SILENCE = 1e-100
"""The mean square below which a burst is silent: it has no shape to describe, and its squares would underflow."""
MIN_RATE_HZ, MAX_RATE_HZ = 1e-3, 1e9
ORDERS = (1, 2, 3)
MAX_SPEED_CHANGE = 1.0
"""The largest believed change of the shaft speed over one burst, (end - start) / mean: the code takes the change to be
linear, which a larger one hardly is."""
NAN = float("nan")

OWN_UNIT = ""
FEATURES: tuple[tuple[str, bool], ...] = (
    ("rms", True),
    ("peak", True),
    ("kurtosis", False),
    ("centroid", False),
    *((f"band_{index}", False) for index in range(len(BAND_EDGES) - 1)),
    ("high_rms", True),
    ("envelope_peak", False),
)
"""The default set: (name, whether the feature has the waveform's own unit)."""

FEATURE_NAMES: tuple[str, ...] = tuple(name for name, _ in FEATURES)


def feature_specs(
    has_geometry: bool = False, has_speed: bool = False, has_velocity: bool = False
) -> tuple[tuple[str, str], ...]:
    """(name, UCUM unit) of every feature of a configuration, in order. ``OWN_UNIT`` is the waveform's own unit."""
    optional = [(name, "1") for name in BEARING_LINES] if has_geometry else []
    optional += [(f"order_{order}", OWN_UNIT) for order in ORDERS] if has_speed else []
    optional += [("velocity_rms", "mm/s")] if has_velocity else []
    default = ((name, OWN_UNIT if own else "Hz" if name == "centroid" else "1") for name, own in FEATURES)
    return (*default, *optional)


def waveform_features(
    values: ArrayLike,
    sample_rate_hz: float,
    geometry: BearingGeometry | None = None,
    shaft_hz: float | None = None,
    unit: str = "[g]",
    *,
    shaft_end_hz: float | None = None,
    velocity: bool = False,
) -> dict[str, float]:
    """The features of a burst, by name in the order of :func:`feature_specs`.

    ``values`` (n,) are equally spaced samples in ``unit`` (UCUM); their mean is removed first. Every burst has

    * ``rms``, ``peak`` and ``high_rms`` (RMS above 0.64 of the Nyquist frequency), in the unit of the values;
    * ``kurtosis``, 3 for noise, and ``centroid`` in Hz;
    * ``band_i``, the share 0..1 of the energy in the i-th relative band;
    * ``envelope_peak``, the strongest line of the envelope as a ratio to the median line.

    A ``geometry`` adds ``bpfo``, ``bpfi``, ``bsf`` and ``ftf``, the lines of bearing defects as ratios to their floor.
    A ``shaft_hz`` adds ``order_1..3``, the amplitudes of the shaft's harmonics in the unit of the values; ``shaft_hz``
    is NaN while the speed is unknown, and ``shaft_end_hz`` is the shaft frequency at the end of the burst when it
    changes. ``velocity`` adds ``velocity_rms`` in mm/s over 10 to 1000 Hz, for values in ``[g]`` or ``m/s2``.

    A feature that cannot be computed is NaN.
    """
    signal: FloatArray = np.asarray(values, dtype=np.float64).ravel()
    names = [name for name, _ in feature_specs(geometry is not None, shaft_hz is not None, velocity)]
    features = dict.fromkeys(names, NAN)
    if signal.size < MIN_SAMPLES or not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ or not np.isfinite(signal).all():
        return features
    signal = signal - signal.mean()
    squares = signal * signal
    mean_square = float(squares.mean())
    features["rms"], features["peak"] = mean_square**0.5, float(np.abs(signal).max())
    if not SILENCE < mean_square < 1 / SILENCE:
        return features
    mean_hz, change = _speed(shaft_hz, shaft_end_hz)
    spectrum = spectrum_of(signal, sample_rate_hz)
    features["kurtosis"] = float(squares @ squares) / signal.size / mean_square**2
    features["centroid"] = centroid_hz(spectrum)
    energies = band_energies(spectrum)
    total = float(energies.sum())
    features.update((f"band_{index}", float(energy) / total) for index, energy in enumerate(energies) if total > 0)
    features["high_rms"] = float(energies[-1]) ** 0.5
    envelope = envelope_spectrum(spectrum)
    features["envelope_peak"] = strongest_line(envelope)[0]
    if geometry is not None:
        tracked = envelope_spectrum(spectrum, change) if change else envelope
        features.update(bearing_lines(tracked, geometry, mean_hz))
    if shaft_hz is not None:
        steady = spectrum_of(at_equal_angles(signal, change), sample_rate_hz) if change else spectrum
        features.update((f"order_{order}", line_amplitude(steady, order * mean_hz)) for order in ORDERS)
    if velocity:
        features["velocity_rms"] = velocity_rms_mm_s(spectrum, unit)
    return features


def _speed(start_hz: float | None, end_hz: float | None) -> tuple[float, float]:
    """The mean shaft frequency in Hz and its relative change over the burst. The frequency is NaN when the shaft stands
    still, its speed is unknown, or the change exceeds ``MAX_SPEED_CHANGE``.
    """
    if start_hz is None or not 0 < start_hz < math.inf:
        return NAN, 0.0
    if end_hz is None:
        return start_hz, 0.0
    if not 0 < end_hz < math.inf:
        return NAN, 0.0
    mean_hz = start_hz / 2 + end_hz / 2
    change = (end_hz - start_hz) / mean_hz
    return (mean_hz, change) if abs(change) <= MAX_SPEED_CHANGE else (NAN, 0.0)
