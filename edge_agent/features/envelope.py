"""The envelope of a burst's high frequencies: how often something knocks, below the noise of the machine.

A spall excites the structure's resonances once per passing ball. The knocks drown in the level, but the envelope of
the high band repeats at the defect's frequency, and its spectrum has a line there (R. B. Randall, J. Antoni, Rolling
element bearing diagnostics - a tutorial, Mechanical Systems and Signal Processing 25, 2011). All results are
dimensionless: a line over the median of its surroundings, about 2.5 to 4 for noise whatever its level and colour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.features.bearing import BearingGeometry
from edge_agent.features.spectrum import Spectrum, hann

BAND = (0.25, 0.95)
"""Of the Nyquist frequency: above shaft and gear mesh, below the edge of the anti-aliasing filter."""
MAX_LINE_HZ = 1000.0
"""Where lines are looked for without a geometry: a bearing's defects knock slower than this."""
FIRST_BIN = 3
"""Below it a line is the window's own lobe around standstill."""
SLIP = 0.02
HARMONICS = 3
FLOOR_BINS = 16
"""Half width of a line's surroundings."""
MIN_LINE_BINS = 8
MIN_FLOOR = 1e-4
"""No surroundings are taken for quieter, of the mean squared envelope: a noiseless signal must not divide by dust."""
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class EnvelopeSpectrum:
    """``amplitude`` (bins,) of the squared envelope over its mean (0..1 and a little), one bin each ``step_hz``."""

    amplitude: FloatArray
    step_hz: float


def envelope_spectrum(spectrum: Spectrum, speed_change: float = 0.0) -> EnvelopeSpectrum | None:
    """Spectrum of the squared envelope of ``BAND``; None when the burst is silent there or too short.

    The band's bins, transformed back on their own, are the analytic signal shifted to standstill: its magnitude is
    the Hilbert envelope at the band's own, lower rate. Padding to twice the length or more leaves room for the square
    and changes no frequency, since the burst lasts as long as before.
    ``speed_change``: (end - start) / mean of a shaft speed that changes over the burst; the envelope is then read at
    equal angles, so that a defect's line stays sharp (computed order tracking) at its mean frequency.
    """
    low, high = (round(edge * spectrum.bins.size) for edge in BAND)
    band = spectrum.bins[low:high]
    if band.size < 2 * MIN_LINE_BINS:
        return None
    analytic = np.fft.ifft(band, _fast_length(2 * band.size))
    squared = analytic.real**2 + analytic.imag**2
    mean = float(squared.mean())
    if not mean > 0:
        return None
    if speed_change:
        squared = at_equal_angles(squared, speed_change)
    window = hann(squared.size)
    lines = np.abs(np.fft.rfft((squared / mean - 1.0) * window))[: band.size]
    return EnvelopeSpectrum(lines * (2.0 / window.sum()), spectrum.resolution_hz)


def at_equal_angles(signal: FloatArray, speed_change: float) -> FloatArray:
    """A burst (n,) resampled at equal steps of the shaft's angle, as if it had turned at its mean speed.

    The speed is taken to change linearly; with ``speed_change`` c = (end - start) / mean, |c| < 2, the angle after the
    share u of the burst is u (1 - c / 2) + c u^2 / 2 of the whole, solved here for u (K. R. Fyfe, E. D. S. Munck,
    Analysis of computed order tracking, Mechanical Systems and Signal Processing 11, 1997).
    """
    angle = np.arange(signal.size) / signal.size
    start = 1.0 - speed_change / 2
    share = 2 * angle / (start + np.sqrt(start * start + 2 * speed_change * angle))  # no cancellation for small c
    return np.interp(share * signal.size, np.arange(signal.size), signal)


def strongest_line(envelope: EnvelopeSpectrum | None) -> tuple[float, float]:
    """The largest line over the median of all, and its frequency in Hz. NaN, NaN when there are too few lines."""
    if envelope is None:
        return NAN, NAN
    last = min(envelope.amplitude.size // 4, int(MAX_LINE_HZ / envelope.step_hz) + 1)
    lines = envelope.amplitude[FIRST_BIN:last]
    if lines.size < MIN_LINE_BINS:
        return NAN, NAN
    floor, top = max(float(np.median(lines)), MIN_FLOOR), int(lines.argmax())
    return float(lines[top]) / floor, (FIRST_BIN + top) * envelope.step_hz


def bearing_lines(envelope: EnvelopeSpectrum | None, geometry: BearingGeometry, shaft_hz: float) -> dict[str, float]:
    """Each defect's line over its surroundings: root mean square over the first three harmonics that can be seen."""
    result = dict.fromkeys(geometry.orders(), NAN)
    if envelope is None or not 0 < shaft_hz < math.inf:
        return result
    for name, order in geometry.orders().items():
        found = [_over_floor(envelope, order * shaft_hz * harmonic) for harmonic in range(1, HARMONICS + 1)]
        seen = [each * each for each in found if math.isfinite(each)]
        if seen:
            result[name] = (sum(seen) / len(seen)) ** 0.5
    return result


def _fast_length(size: int) -> int:
    """The smallest 4, 5, 6 or 7 times a power of two that is not below: transforms of it are quick."""
    shift = max(0, size.bit_length() - 3)
    return min(part << (shift + more) for part in (4, 5, 6, 7) for more in (0, 1) if part << (shift + more) >= size)


def _over_floor(envelope: EnvelopeSpectrum, frequency_hz: float) -> float:
    """The largest line within the slip of a frequency over the median of the surroundings outside it."""
    place = frequency_hz / envelope.step_hz
    if not FIRST_BIN - 0.5 <= place < envelope.amplitude.size - FIRST_BIN:
        return NAN
    room = max(1.0, SLIP * place)
    low, high = math.ceil(place - room), math.floor(place + room) + 1
    below = envelope.amplitude[max(FIRST_BIN - 1, low - FLOOR_BINS) : max(0, low - 1)]
    around = np.concatenate((below, envelope.amplitude[high + 1 : high + FLOOR_BINS]))
    if around.size < MIN_LINE_BINS:
        return NAN
    return float(envelope.amplitude[low:high].max(initial=0.0)) / max(float(np.median(around)), MIN_FLOOR)
