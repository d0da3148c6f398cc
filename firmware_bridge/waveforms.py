"""Waveforms in frames: cut into fragments, put together again. Pure."""

from __future__ import annotations

from array import array

import numpy as np

from firmware_bridge.messages import MAX_FRAGMENT_SAMPLES, MAX_METRICS, MetricInfo, WaveformFragment

_INT16 = np.dtype("<i2")


class WaveformAssembler:
    """Fragments -> whole waveforms, one in progress for every channel. A missing fragment spoils only its waveform."""

    def __init__(self) -> None:
        self.incomplete = 0
        self._open: dict[int, tuple[WaveformFragment, bytearray]] = {}

    def feed(self, part: WaveformFragment) -> array[float] | None:
        """The waveform's values once its last fragment is in, else None.

        Memory is bounded by MAX_METRICS waveforms of MAX_WAVEFORM_SAMPLES samples.
        """
        if part.offset == 0:
            self.incomplete += part.id in self._open
            if part.id not in self._open and len(self._open) >= MAX_METRICS:
                self._open.pop(next(iter(self._open)))
                self.incomplete += 1
            self._open[part.id] = (part, bytearray())
        head, data = self._open.get(part.id, (part, None))
        same = (head.number, head.ticks, head.total) == (part.number, part.ticks, part.total)
        if data is None or not same or len(data) != 2 * part.offset:
            self.incomplete += self._open.pop(part.id, None) is not None
            return None
        data += part.data
        if len(data) < 2 * part.total:
            return None
        del self._open[part.id]
        return _scaled(bytes(data), part.scale)


def fragments(
    channel: MetricInfo, number: int, ticks: int, data: bytes, scale: float, historical: bool
) -> list[WaveformFragment]:
    """Cut one waveform (int16, little-endian) into messages that fit a frame."""
    total, step = len(data) // 2, MAX_FRAGMENT_SAMPLES
    rate_hz = channel.sample_rate_hz
    return [
        WaveformFragment(
            channel.id, number, ticks, at, total, rate_hz, scale, data[2 * at : 2 * (at + step)], historical
        )
        for at in range(0, total, step)
    ]


def quantised(values: np.ndarray) -> tuple[bytes, float]:
    """``values`` as little-endian int16, and the scale that restores them (value = int16 * scale).

    The largest magnitude becomes 32,000, close to the end of int16's range, so that little resolution is lost.
    """
    peak = float(np.max(np.abs(values), initial=0.0)) or 1.0
    scale = float(np.float32(peak / 32_000))
    return np.rint(values / scale).astype(_INT16).tobytes(), scale


def _scaled(data: bytes, scale: float) -> array[float]:
    raw = np.frombuffer(data, dtype=_INT16).astype(np.float64) * scale
    return array("f", raw.astype(np.float32).tobytes())
