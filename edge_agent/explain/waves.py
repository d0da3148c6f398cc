"""The picture's waveform row: a healthy burst and a later one, their spectra and their envelope spectra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_agent.arrays import RealArray
from edge_agent.detection.trace.records import Shot
from edge_agent.explain import words
from edge_agent.explain.case import Case, Pair
from edge_agent.explain.panels import BEYOND, HEALTHY, shortened
from edge_agent.features.envelope import FIRST_BIN, MAX_LINE_HZ, envelope_spectrum
from edge_agent.features.spectrum import spectrum_of

SHOWN_SAMPLES = 1200
SEGMENT = 512


def bursts(axes: Sequence[Any], case: Case, pair: Pair) -> None:
    """Draw a healthy burst, a later one on the same scale, and the spectra and envelope spectra of both."""
    shots = [("healthy", pair.healthy, HEALTHY), (pair.word, pair.now, BEYOND)]
    present = [shot for _, shot, _ in shots if shot is not None]
    reach = 1.08 * max(float(np.abs(shot.values - shot.values.mean()).max()) for shot in present) or 1.0
    for axis, (word, shot, colour) in zip(axes[:2], shots, strict=True):
        axis.set_title(
            f"{shortened(words.spoken(pair.metric), 16)}, {word}", loc="left", fontsize=8.5, fontweight="bold", pad=3
        )
        if shot is None:
            axis.set_axis_off()
            continue
        wave = shot.values[:SHOWN_SAMPLES] - shot.values.mean()
        axis.plot(np.arange(len(wave)) * 1e3 / shot.sample_rate_hz, wave, color=colour, lw=0.5)
        axis.set_ylim(-reach, reach)
        axis.set_xlim(0, len(wave) * 1e3 / shot.sample_rate_hz)
        since = "after" if case.subject.origin_us is not None else "from"
        axis.set_xlabel(f"ms {since} {words.moment(case, shot.time_us)}", labelpad=1)
        axis.set_ylabel(words.unit_label(shot.unit) or words.AS_RECORDED, labelpad=2)
    for word, shot, colour in shots:
        if shot is not None:
            frequencies, amplitude = spectrum(shot)
            axes[2].plot(frequencies / 1e3, amplitude, color=colour, lw=0.8, label=word)
            axes[3].plot(*envelope(shot), color=colour, lw=0.8)
    _decades(axes[2])
    axes[2].set_xlim(0, present[0].sample_rate_hz / 2e3)
    axes[2].set_title("Spectrum", loc="left", fontsize=8.5, fontweight="bold", pad=3)
    axes[2].set_xlabel("kHz", labelpad=1)
    axes[2].set_ylabel(f"{words.unit_label(present[0].unit) or words.AS_RECORDED} / √Hz", labelpad=2)
    axes[3].set_title("Envelope spectrum", loc="left", fontsize=8.5, fontweight="bold", pad=3)
    axes[3].set_xlabel("Hz", labelpad=1)
    axes[3].set_ylabel("share of the mean", labelpad=2)
    axes[3].set_xlim(0, MAX_LINE_HZ)
    axes[3].set_ylim(bottom=0)


def _decades(axis: Any) -> None:
    """Make the axis logarithmic over whole decades, with labels at the decades only."""
    from matplotlib.ticker import NullFormatter

    axis.set_yscale("log")
    drawn = np.concatenate([line.get_ydata() for line in axis.lines])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    if drawn.size:
        low, high = np.floor(np.log10(drawn.min())), np.ceil(np.log10(drawn.max()))
        axis.set_ylim(10.0**low, 10.0 ** max(high, low + 1))
    axis.yaxis.set_minor_formatter(NullFormatter())


def spectrum(shot: Shot) -> tuple[RealArray, RealArray]:
    """The spectrum of a burst: frequencies in Hz (bins,) and amplitude densities (bins,) in unit per root hertz.

    Hann windows of ``SEGMENT`` samples, overlapping by half, are averaged (Welch's method).
    """
    signal = shot.values.astype(np.float64) - shot.values.mean()
    size = min(SEGMENT, len(signal))
    window = np.hanning(size)
    pieces = [signal[at : at + size] * window for at in range(0, len(signal) - size + 1, max(1, size // 2))]
    power = np.mean([np.abs(np.fft.rfft(piece)) ** 2 for piece in pieces], axis=0)
    density = 2 * power / (shot.sample_rate_hz * float(window @ window))
    return np.fft.rfftfreq(size, 1 / shot.sample_rate_hz)[1:], np.sqrt(density)[1:]


def envelope(shot: Shot) -> tuple[RealArray, RealArray]:
    """The envelope spectrum of a burst: frequencies in Hz up to ``MAX_LINE_HZ``, and the lines' amplitudes.

    Both are empty when the burst is silent or too short.
    """
    signal = shot.values.astype(np.float64) - shot.values.mean()
    found = envelope_spectrum(spectrum_of(signal, shot.sample_rate_hz))
    if found is None:
        return np.zeros(0), np.zeros(0)
    frequencies = np.arange(found.amplitude.size) * found.step_hz
    shown = (np.arange(found.amplitude.size) >= FIRST_BIN) & (frequencies <= MAX_LINE_HZ)
    return frequencies[shown], found.amplitude[shown]
