"""Expected orders by hour of a warehouse: a weekly and daily rhythm, the same for the same warehouse and seed. Pure.

With a recorded curve (two years of hourly demand) the recording repeats from Monday to Monday instead.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

HOUR = timedelta(hours=1)
SHIFTS = (("early", "06:00", "14:00"), ("late", "14:00", "22:00"), ("night", "22:00", "06:00"))
_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
_BY_HOUR = (12, 9, 7, 6, 8, 14, 32, 58, 74, 82, 88, 90, 78, 84, 92, 96, 88, 72, 60, 48, 38, 30, 22, 16)
_BY_WEEKDAY = (1.08, 1.0, 0.98, 1.02, 1.15, 0.62, 0.35)


class Curve:
    """Orders per hour of warehouses in one time zone. ``recorded`` is hourly counts that begin on a Monday, 0 h."""

    def __init__(self, seed: int, time_zone: str, recorded: Sequence[float] = ()) -> None:
        self._seed = seed
        self.zone = ZoneInfo(time_zone)
        self._recorded = recorded

    def orders(self, warehouse: str, hour: datetime) -> float:
        """Expected orders in the hour that starts at ``hour`` (UTC, full)."""
        local = hour.astimezone(self.zone)
        if self._recorded:
            week_hours = int((local.replace(tzinfo=UTC) - _EPOCH) / HOUR)
            return float(self._recorded[week_hours % len(self._recorded)])
        noise = _noise(f"{self._seed}:{warehouse}:{hour.isoformat()}")
        size = 0.7 + 0.9 * _noise(f"{self._seed}:{warehouse}")
        return round(_BY_HOUR[local.hour] * _BY_WEEKDAY[local.weekday()] * size * (0.85 + 0.3 * noise), 1)


def read_recording(path: Path) -> list[float]:
    """Hourly counts of a recording, from its first Monday on, in whole weeks; missing hours count as the last known."""
    counts: dict[datetime, float] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            day, month, year = (int(part) for part in row["dateday"].split("-"))
            start = datetime.combine(date(year, month, day), datetime.min.time(), UTC)
            counts[start + int(row["hour"]) * HOUR] = float(row["count"])
    first = min(counts)
    monday = (first + timedelta(days=-first.weekday() % 7)).replace(hour=0)
    weeks = (max(counts) - monday) // timedelta(weeks=1)
    series, last = [], 0.0
    for index in range(weeks * 168):
        last = counts.get(monday + index * HOUR, last)
        series.append(last)
    return series


def _noise(text: str) -> float:
    """A number in 0..1 that only depends on the text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") / 0xFFFFFFFF
