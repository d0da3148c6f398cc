"""Device ticks -> UTC. Pure.

The line only delays. A message received at host time ``h`` and stamped ``t`` ticks therefore shows that
``h - t >= true offset``, and the smallest recent difference is the best estimate of the offset. The window of recent
differences lets the estimate follow the drift of the device's crystal and steps of the host's clock.

Mapped times never stand still or run backwards: a downward correction is spread, so that it takes at most half of the
time that passes. One map belongs to one boot; a reboot starts a new map.
"""

from __future__ import annotations

from collections import deque

WINDOW = 64
"""How many recent observations are kept."""


class TimeMap:
    """The offset between a device's ticks and UTC. ``observe`` refines it, ``to_us`` applies it."""

    def __init__(self, tick_hz: int) -> None:
        self._tick_hz = tick_hz
        self._differences: deque[int] = deque(maxlen=WINDOW)
        self._offset_us = 0
        self._anchor_us = 0  # device time of the last correction

    @property
    def ready(self) -> bool:
        return bool(self._differences)

    def observe(self, ticks: int, received_us: int) -> None:
        """Take one observation: the device read ``ticks`` at or before ``received_us`` (host time, UTC)."""
        device_us = self._device_us(ticks)
        first = not self._differences
        self._differences.append(received_us - device_us)
        target_us = min(self._differences)
        if not first and target_us < self._offset_us:
            allowed_us = max(0, device_us - self._anchor_us) // 2
            target_us = max(target_us, self._offset_us - allowed_us)
        self._offset_us = target_us
        self._anchor_us = max(self._anchor_us, device_us) if not first else device_us

    def to_us(self, ticks: int) -> int:
        """A tick as microseconds since the Unix epoch (UTC), by the present estimate; meaningless until ``ready``."""
        return self._device_us(ticks) + self._offset_us

    def _device_us(self, ticks: int) -> int:
        return ticks * 1_000_000 // self._tick_hz
