"""One burst in the frequency domain: the basis of the level, velocity, order and envelope features.

A plan (window, frequencies, band edges) depends on the size and sample rate of a burst only. The last ``MAX_PLANS``
plans are kept, so that a burst costs no more than its transforms. Pure. The caller must pass finite samples and a
positive sample rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_agent.arrays import FloatArray

ComplexArray = NDArray[np.complex128]

MAX_PLANS = 4
"""How many plans are kept. The plan of the largest burst (65,536 samples) takes 1 MB."""
BAND_EDGES = (0.0, 0.08, 0.16, 0.32, 0.64, 1.0)
"""Edges of the relative bands as fractions of the Nyquist frequency; at 25.6 kHz: 1, 2, 4, 8.2, 12.8 kHz."""
VELOCITY_BAND_HZ = (10.0, 1000.0)
"""The band of the broad-band vibration velocity of machines above 600 /min. Source: ISO 20816-3:2022, 4.2."""
METRES_PER_S2 = {"[g]": 9.806_65, "m/s2": 1.0}
"""Units (UCUM) that are accelerations -> their size in m/s2."""
LOBE_BINS = 2
"""Half the width of the Hann window's main lobe, in bins."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What bursts of one size and sample rate share: ``window`` (size,), ``frequencies_hz`` (size // 2 + 1,), and
    ``edges`` (bands,), the bins where the relative bands start.
    """

    window: FloatArray
    frequencies_hz: FloatArray
    edges: NDArray[np.intp]
    scale: float
    """The factor by which the squared magnitudes of a windowed transform's bins sum to the signal's mean square."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The spectrum of one burst, as :func:`spectrum_of` makes it.

    ``bins`` (size // 2 + 1,) are the complex transform of the signal without a window. ``power`` (size // 2 + 1,) is
    the power of the windowed signal; it sums to the signal's mean square, in the signal's unit squared.
    """

    plan: Plan
    sample_rate_hz: float
    size: int
    bins: ComplexArray
    power: FloatArray

    @property
    def resolution_hz(self) -> float:
        return self.sample_rate_hz / self.size


def spectrum_of(signal: FloatArray, sample_rate_hz: float) -> Spectrum:
    """The spectrum of a burst (n,) whose mean the caller has removed."""
    plan = _plan(signal.size, sample_rate_hz)
    windowed = np.fft.rfft(signal * plan.window)
    power = (windowed.real**2 + windowed.imag**2) * plan.scale
    return Spectrum(plan, sample_rate_hz, signal.size, np.fft.rfft(signal), power)


def band_energies(spectrum: Spectrum) -> FloatArray:
    """The mean square (bands,) of the signal in every relative band of ``BAND_EDGES``, in the signal's unit squared."""
    return np.add.reduceat(spectrum.power, spectrum.plan.edges)


def centroid_hz(spectrum: Spectrum) -> float:
    """The centre of gravity of the power in Hz; NaN for a silent signal."""
    total = float(spectrum.power.sum())
    return float(spectrum.power @ spectrum.plan.frequencies_hz) / total if total > 0 else float("nan")


def velocity_rms_mm_s(spectrum: Spectrum, unit: str) -> float:
    """The broad-band vibration velocity of an acceleration signal, RMS in mm/s, by which ISO 20816 judges machines.

    In the frequency domain velocity is acceleration over 2 pi f. The result is NaN when ``unit`` (UCUM) is no
    acceleration, when the sample rate does not cover 1 kHz, or when the burst is too short to separate 10 Hz from 0 Hz
    (the two lowest bins are leakage).
    """
    low, high = VELOCITY_BAND_HZ
    if unit not in METRES_PER_S2 or spectrum.sample_rate_hz < 2 * high or low < LOBE_BINS * spectrum.resolution_hz:
        return float("nan")
    frequencies = spectrum.plan.frequencies_hz
    inside = slice(*np.searchsorted(frequencies, (low, high * (1 + 1e-9))))
    squared = spectrum.power[inside] / (2 * np.pi * frequencies[inside]) ** 2
    return 1e3 * METRES_PER_S2[unit] * float(squared.sum()) ** 0.5


def line_amplitude(spectrum: Spectrum, frequency_hz: float) -> float:
    """The amplitude (zero to peak, in the signal's unit) of a sine at a frequency.

    It is read from the energy of the window's main lobe around the frequency. NaN where the lobe would reach 0 Hz or
    pass the Nyquist frequency.
    """
    place = frequency_hz / spectrum.resolution_hz
    if not LOBE_BINS + 0.5 <= place <= spectrum.power.size - 1 - LOBE_BINS:
        return float("nan")
    nearest = round(place)
    lobe = spectrum.power[nearest - LOBE_BINS : nearest + LOBE_BINS + 1]
    return float(2.0 * lobe.sum()) ** 0.5


@lru_cache(maxsize=2 * MAX_PLANS)
def hann(size: int) -> FloatArray:
    """The periodic Hann window (size,). The array is read-only, because all bursts of the size share it."""
    window: FloatArray = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size, dtype=np.float64) / size)
    window.setflags(write=False)
    return window


@lru_cache(maxsize=MAX_PLANS)
def _plan(size: int, sample_rate_hz: float) -> Plan:
    window = hann(size)
    bins = size // 2 + 1
    frequencies: FloatArray = np.arange(bins, dtype=np.float64) * (sample_rate_hz / size)
    edges = np.rint(np.array(BAND_EDGES[:-1]) * bins).astype(np.intp)
    frequencies.setflags(write=False)  # shared by every burst of this size, as the window is
    return Plan(window, frequencies, edges, 2.0 / (size * float(window @ window)))
