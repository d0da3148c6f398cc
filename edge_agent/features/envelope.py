"""The envelope spectrum of a burst: it shows how often something knocks, also below the noise of the machine.

A spall excites the structure's resonances once for every passing ball. The knocks are too weak to raise the level, but
they repeat at the defect's frequency, so the spectrum of the high band's envelope has a line there. A line is judged by
its height over the median of the lines around it, its floor. That ratio has no unit; for noise it is about 2.5 to 4,
whatever the noise's level and colour.

Source: R. B. Randall, J. Antoni, Rolling element bearing diagnostics - a tutorial, Mechanical Systems and Signal
Processing 25, 2011.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.features.bearing import BearingGeometry
from edge_agent.features.spectrum import Spectrum, hann

BAND = (0.25, 0.95)
"""The band whose envelope is taken, as fractions of the Nyquist frequency. It begins above shaft and gear mesh and ends
below the edge of the anti-aliasing filter."""
MAX_LINE_HZ = 1000.0
"""The strongest line is searched up to this frequency when no geometry is known: bearing defects knock more slowly."""
FIRST_BIN = 3
"""The first bin that may hold a line: below it the window's own lobe around 0 Hz fills the spectrum."""
SLIP = 0.02
"""How far a defect's line may lie from its computed frequency, as a fraction of that frequency: balls slip."""
HARMONICS = 3
"""How many harmonics of a defect's frequency are read."""
FLOOR_BINS = 16
"""How many bins on either side of a line its floor is taken from."""
MIN_LINE_BINS = 8
"""Fewer bins than this give no trustworthy median."""
MIN_FLOOR = 1e-4
"""The lowest floor that is divided by, as a fraction of the mean squared envelope: in a noiseless signal the true floor
is rounding error, and every line would seem enormous."""
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class EnvelopeSpectrum:
    """The spectrum of a squared envelope, as :func:`envelope_spectrum` makes it.

    ``amplitude`` (bins,) is relative to the mean squared envelope, so it has no unit and lies between 0 and little more
    than 1. Bin i stands at i times ``step_hz``.
    """

    amplitude: FloatArray
    step_hz: float


def envelope_spectrum(spectrum: Spectrum, speed_change: float = 0.0) -> EnvelopeSpectrum | None:
    """The spectrum of the squared envelope of ``BAND``, or None when the burst is silent there or too short.

    The bins of the band, transformed back on their own, are the analytic signal shifted down to 0 Hz. Its magnitude is
    the Hilbert envelope, sampled at the lower rate that the band needs. The bins are padded to at least twice their
    number, because squaring doubles the bandwidth; the padding changes no frequency, since the burst lasts as long as
    before.

    ``speed_change`` is (end - start) / mean of a shaft speed that changes over the burst. When it is not 0, the
    envelope is resampled at equal angles (computed order tracking), so that a defect's line stays sharp at its mean
    frequency.
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
    """``signal`` (n,) resampled (n,) at equal steps of the shaft's angle, as if the shaft had kept its mean speed.

    The speed is taken to change linearly over the burst. With ``speed_change`` c = (end - start) / mean, |c| < 2, the
    shaft has turned u (1 - c / 2) + c u^2 / 2 of its whole angle after the share u of the burst; the code solves this
    for u.

    Source: K. R. Fyfe, E. D. S. Munck, Analysis of computed order tracking, Mechanical Systems and Signal Processing
    11, 1997.
    """
    angle = np.arange(signal.size) / signal.size
    start = 1.0 - speed_change / 2
    # The root is written with the sum below the line: the usual form would cancel for a small speed change.
    share = 2 * angle / (start + np.sqrt(start * start + 2 * speed_change * angle))
    return np.interp(share * signal.size, np.arange(signal.size), signal)


def strongest_line(envelope: EnvelopeSpectrum | None) -> tuple[float, float]:
    """The highest line as a ratio to the median of all lines, and its frequency in Hz.

    Lines between ``FIRST_BIN`` and ``MAX_LINE_HZ``, in the lowest quarter of the spectrum, are compared. Both results
    are NaN without an envelope or with fewer than ``MIN_LINE_BINS`` lines.
    """
    if envelope is None:
        return NAN, NAN
    last = min(envelope.amplitude.size // 4, int(MAX_LINE_HZ / envelope.step_hz) + 1)
    lines = envelope.amplitude[FIRST_BIN:last]
    if lines.size < MIN_LINE_BINS:
        return NAN, NAN
    floor, top = max(float(np.median(lines)), MIN_FLOOR), int(lines.argmax())
    return float(lines[top]) / floor, (FIRST_BIN + top) * envelope.step_hz


def bearing_lines(envelope: EnvelopeSpectrum | None, geometry: BearingGeometry, shaft_hz: float) -> dict[str, float]:
    """The line of every bearing defect as a ratio to its floor, by names of ``BEARING_LINES``.

    The ratio is the root mean square over those of the first ``HARMONICS`` harmonics that the spectrum covers.
    ``shaft_hz`` is the shaft frequency. A ratio is NaN without an envelope or a positive shaft frequency, or when the
    spectrum covers none of the defect's harmonics.
    """
    result = dict.fromkeys(geometry.orders(), NAN)
    if envelope is None or not 0 < shaft_hz < math.inf:
        return result
    for name, order in geometry.orders().items():
        found = [_over_floor(envelope, order * shaft_hz * harmonic) for harmonic in range(1, HARMONICS + 1)]
        seen = [ratio * ratio for ratio in found if math.isfinite(ratio)]
        if seen:
            result[name] = (sum(seen) / len(seen)) ** 0.5
    return result


def _fast_length(size: int) -> int:
    """The smallest length of at least ``size`` that is 4, 5, 6 or 7 times a power of two: its transform is quick."""
    shift = max(0, size.bit_length() - 3)
    return min(part << (shift + more) for part in (4, 5, 6, 7) for more in (0, 1) if part << (shift + more) >= size)


def _over_floor(envelope: EnvelopeSpectrum, frequency_hz: float) -> float:
    """The highest line within ``SLIP`` of a frequency, as a ratio to its floor: the median of the bins on both sides.

    NaN when the frequency lies outside the spectrum or too few bins are left for the floor.
    """
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
