"""Formats values for pages: times in the site's zone and UTC, numbers with their units, names for codes. Pure."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from markupsafe import Markup
from pydantic import BaseModel

LEVEL_LABELS = {
    "critical": "Critical",
    "degrading": "Degrading",
    "watch": "Watch",
    "good": "Good",
    "unknown": "Unknown",
}
RUNNING_LABELS = {"failed": "Failed", "stopped": "Stopped, though it should run", "resting": "At rest, as meant"}
"""Running states that pages name; of the others the data themselves tell."""
CASE_STEPS = ("open", "confirmed", "planning", "committed", "in_progress", "verifying", "closed")
_UNIT_IN_NAME = re.compile(r"_(?:cel|a|v|w|g|rpm|hz|bar|by_s|percent)(?=_|\Z)")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)\Z")
_ACRONYM = re.compile(r"\b(?:cpu|rms|rpm)\b", re.IGNORECASE)
_DASH = "–"


def local(moment: datetime | None, time_zone: str, style: str = "short") -> Markup:
    """A time in the site's zone, with UTC in the tool tip (``short``) or beside it (``both``)."""
    if moment is None:
        return Markup(_DASH)
    here = moment.astimezone(_zone(time_zone))
    utc = moment.astimezone(UTC)
    text = f"{here:%a} {here.day} {here:%b %H:%M} {here.tzname()}"
    aside = f"{utc:%H:%M} UTC" if utc.date() == here.date() else f"{utc:%a %H:%M} UTC"
    if style == "both" and here.tzname() != "UTC":
        return Markup('<time datetime="{}">{}</time> <span class="muted">{}</span>').format(
            utc.isoformat(), text, aside
        )
    full = f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(utc.isoformat(), full, text)


def span(start: datetime, end: datetime, time_zone: str) -> Markup:
    """A window in the site's zone; the date is written once when the window lies within one day."""
    a, b = start.astimezone(_zone(time_zone)), end.astimezone(_zone(time_zone))
    last = f"{b:%H:%M}" if a.date() == b.date() else f"{b:%a} {b.day} {b:%b %H:%M}"
    utc = f"{start.astimezone(UTC):%a %H:%M}{_DASH}{end.astimezone(UTC):%H:%M} UTC"
    text = f"{a:%a} {a.day} {a:%b %H:%M}{_DASH}{last} {b.tzname()}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(start.isoformat(), utc, text)


def until(moment: datetime | None, now: datetime) -> str:
    """The distance of a time from now: ``in 2 d 4 h``, ``3 h ago``."""
    if moment is None:
        return ""
    ahead = moment - now
    return f"in {duration(ahead)}" if ahead > timedelta(0) else f"{duration(-ahead)} ago"


def duration(length: timedelta) -> str:
    """Two units at most: ``2 d 4 h``, ``5 h 10 min``, ``40 s``."""
    seconds = int(length.total_seconds())
    days, hours, minutes = seconds // 86_400, seconds % 86_400 // 3600, seconds % 3600 // 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min" if minutes else f"{seconds} s"


def story_second(scale: float) -> str:
    """What one real second is in story time: ``1 h`` at a scale of 3600."""
    for unit, seconds in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if scale >= seconds:
            return number(scale / seconds, unit)
    return number(scale, "s")


def hours(value: float | None) -> str:
    """Hours for people; more than three days are written in days."""
    if value is None:
        return _DASH
    return f"{value / 24:.1f} d" if value > 72 else f"{value:.0f} h" if value >= 10 else f"{value:.1f} h"


def hours_range(low: float | None, high: float | None) -> str:
    """An interval of hours in one unit: ``41 – 84 h``, ``5.8 – 13.8 d``."""
    if low is None or high is None:
        return _DASH
    if high > 96:
        return f"{low / 24:.1f} {_DASH} {high / 24:.1f} d"
    return f"{low:.0f} {_DASH} {high:.0f} h" if high >= 10 else f"{low:.1f} {_DASH} {high:.1f} h"


def number(value: float | None, unit: str = "") -> str:
    """Three significant digits and the unit."""
    if value is None or not math.isfinite(value):
        return _DASH
    size = abs(value)
    if size >= 1000:
        text = f"{value:,.0f}".replace(",", "\u202f")
    elif value == int(value) and size >= 1:
        text = f"{value:.0f}"
    else:
        text = f"{value:.3g}" if size >= 1e-3 or size == 0 else f"{value:.1e}"
    return f"{text}\u00a0{unit}" if unit else text


def percent(share: float | None) -> str:
    """A share 0..1 as a percentage; never rounded to certainty."""
    if share is None:
        return _DASH
    if 0.995 <= share < 1:
        return ">\u202f99\u00a0%"
    if 0 < share < 0.005:
        return "<\u202f1\u00a0%"
    return f"{share * 100:.0f}\u00a0%"


def words(code: str | None) -> str:
    """A code as words: ``in_progress`` -> ``In progress``."""
    return code.replace("_", " ").replace("-", " ").capitalize() if code else _DASH


def vital_name(metric: str) -> str:
    """A vital's name as words, without the unit its code ends in: the unit stands beside the number.

    ``bearing_temperature_cel`` -> ``Bearing temperature``, ``vibration.band_2`` -> ``Vibration, band 2``.
    """
    parts = [_UNIT_IN_NAME.sub("", part).replace("_", " ") for part in metric.split(".")]
    text = ", ".join(parts).capitalize() or metric
    return _ACRONYM.sub(lambda found: found.group().upper(), text)


def facts(record: Any, depth: int = 0) -> list[tuple[str, str]]:
    """A JSON object as label-value lines for people; nested objects two levels deep, long texts cut."""
    if not isinstance(record, dict):
        return []
    lines: list[tuple[str, str]] = []
    for key, value in list(record.items())[:40]:
        if isinstance(value, dict) and depth < 2:
            lines += [(f"{words(key)} · {name.lower()}", text) for name, text in facts(value, depth + 1)]
        elif isinstance(value, list):
            lines.append((words(key), ", ".join(_plain(item) for item in value[:12]) or _DASH))
        elif value not in (None, ""):
            lines.append((words(key), _plain(value)))
    return lines


def details_of(context: dict[str, Any]) -> dict[str, Any]:
    """The facts of an escalation without those that have a place of their own on the page."""
    standing = ("case", "asset", "site", "prognosis", "plan", "acts", "step")
    return {name: value for name, value in context.items() if name not in standing}


def data_block(value: Any) -> Markup:
    """JSON for a data block of a page, escaped so that no text in it can end the block."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text = json.dumps(plain, separators=(",", ":"), default=str, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))  # escaped for its place


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return "; ".join(f"{words(str(key))} {_plain(item)}" for key, item in list(value.items())[:8])[:200]
    if isinstance(value, str) and _MOMENT.match(value):
        return _moment(value)
    return str(value)[:300]


def _moment(text: str) -> str:
    """An ISO time inside a record as people write it, in UTC: a record does not say whose zone it is."""
    try:
        utc = datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return text
    return f"{utc:%a} {utc.day} {utc:%b %H:%M} UTC"


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")
