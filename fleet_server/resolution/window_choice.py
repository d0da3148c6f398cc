"""The choice of a repair window from the customer's hourly load, in the site's time zone. Pure.

All arithmetic is on UTC instants; local time only names things (which shift, what people read), so a day of 23 or
25 hours changes nothing. A WMS counts hours as its site's clocks do, so they begin at :30 or :45 UTC in some zones. An
hour lasts until the next begins; where summer time is half an hour, that is 30 or 90 minutes for one of them.
A window starts where an hour begins that the WMS gave a load for, must lie wholly in hours with a known load, after the
part's arrival and the notice period, be over by ``latest_end`` (the deadline; the planning horizon where that is
nearer; later where lateness was accepted), clear of other bookings of the equipment, and within the free time of a
qualified engineer. Feasible windows are ranked by load, then by start.
Where lateness was accepted, soon counts first: the quietest that begins by ``soon_until``, else the first of all.
Of a machine that has failed the earliest counts, whatever its load: it carries none.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fleet_core.errors import BadConfig

HOUR = timedelta(hours=1)
HALF_AN_HOUR = timedelta(minutes=30)
"""By which summer time moves the clocks of Lord Howe, so that one local hour lasts longer or shorter by it."""
MAX_ALTERNATIVES = 8
"""Windows that are kept and shown beside the chosen one: as many as a person compares at a glance."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, UTC, end excluded."""

    start: datetime
    end: datetime

    def overlaps(self, other: Span) -> bool:
        """Whether the two share any time; spans that only touch do not."""
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True, slots=True)
class Shift:
    """A shift by local wall time; one that ends at or before its start runs over midnight."""

    name: str
    start: time
    end: time

    def covers(self, local: time) -> bool:
        """Whether a local wall time lies in the shift, its end excluded."""
        if self.start < self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end


@dataclass(frozen=True, slots=True)
class Engineer:
    """A qualified engineer and when he is taken."""

    person_id: str
    name: str
    busy: tuple[Span, ...] = ()

    def free(self, span: Span) -> bool:
        """Whether nothing the engineer has promised overlaps the span."""
        return not any(span.overlaps(taken) for taken in self.busy)


@dataclass(frozen=True, slots=True)
class WindowRequest:
    """What is asked for: a window of ``duration``, from ``earliest`` on and over by ``latest_end`` (UTC instants).

    ``load`` maps the instants at which hours begin to the orders expected in them; only these are possible starts.
    ``taken`` is when the equipment is out of use already. ``engineers`` are the qualified ones, the nearest first.
    ``refused`` (starts) and ``refused_pairs`` (a start and an engineer) were turned down before. ``soon_until`` is set
    when a late window was accepted: windows that begin by then come before all others.
    """

    earliest: datetime
    latest_end: datetime
    duration: timedelta
    time_zone: str
    load: dict[datetime, float]
    shifts: tuple[Shift, ...]
    taken: tuple[Span, ...]
    engineers: tuple[Engineer, ...]
    refused: frozenset[datetime] = frozenset()
    refused_pairs: frozenset[tuple[datetime, str]] = frozenset()
    soon_until: datetime | None = None
    emergency: bool = False
    """The machine has failed: the earliest window comes first, whatever its load."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A window that is possible. ``load``: orders expected in it; ``load_rank`` 1 is the quietest of all."""

    start: datetime
    end: datetime
    load: float
    load_rank: int
    shift: str
    engineer_id: str
    engineer_name: str


@dataclass(frozen=True, slots=True)
class Ranking:
    """The possible windows, best first.

    ``excluded``: why other starts are not possible -> how many; ``considered``: how many starts there were. The code
    ``after_deadline``, which stored plans keep, says that a window would end after ``latest_end``.
    ``first_counts``: no window begins soon enough, so they stand in order of time instead of load.
    """

    windows: tuple[Candidate, ...]
    excluded: dict[str, int] = field(default_factory=dict)
    considered: int = 0
    first_counts: bool = False

    @property
    def best(self) -> Candidate | None:
        """The window to book; None when none is possible."""
        return self.windows[0] if self.windows else None


def rank_windows(request: WindowRequest) -> Ranking:
    """Rank every possible start. Raises BadConfig for an unknown time zone.

    A load that is missing or not a finite number makes the starts it touches impossible; it is no error.
    """
    zone = zone_info(request.time_zone)
    excluded: Counter[str] = Counter()
    feasible: list[Candidate] = []
    starts, hours = sorted(request.load), _hours(request.load)
    for start in starts:
        span = Span(start, start + request.duration)
        load = _load_over(hours, request.load, span)
        reason = _why_not(request, span, load)
        engineer = None if reason else _first_free(request, span)
        if not reason and engineer is None:
            reason = "no_engineer" if request.engineers else "no_qualified_engineer"
        if reason or engineer is None or load is None:
            excluded[reason] += 1
            continue
        shift = shift_at(request.shifts, start, zone)
        feasible.append(Candidate(start, span.end, round(load, 3), 0, shift, engineer.person_id, engineer.name))
    soon = [
        window
        for window in feasible
        if request.emergency or request.soon_until is None or window.start <= request.soon_until
    ]
    if soon and len(soon) < len(feasible):
        excluded["later_than_needed"] = len(feasible) - len(soon)
    chosen = sorted(soon or feasible, key=lambda window: (window.load, window.start))
    ranked = [replace(window, load_rank=rank) for rank, window in enumerate(chosen, start=1)]
    if not soon or request.emergency:
        ranked.sort(key=lambda window: window.start)
    return Ranking(tuple(ranked), dict(sorted(excluded.items())), len(starts), first_counts=not soon and bool(feasible))


def why_none(ranking: Ranking, request: WindowRequest, skill: str, region: str) -> str:
    """Why a ranking has no window, for people: what excludes most of the starts that lie in time."""
    who = f"engineer with skill {skill or 'of any kind'}"
    if "no_qualified_engineer" in ranking.excluded:
        return f"no {who} is registered for region {region}"
    if not ranking.considered:
        return "the WMS gives no load for the time in question"
    words = {
        "no_engineer": f"every {who} for region {region} is booked",
        "equipment_taken": "the equipment is taken by other bookings",
        "load_unknown": "the WMS gives no load for them",
        "refused_before": "they were turned down before",
    }
    in_time = {reason: ranking.excluded[reason] for reason in words if reason in ranking.excluded}
    if not in_time:
        latest = f"{request.latest_end:%Y-%m-%d %H:%M} UTC"
        earliest = f"{request.earliest:%Y-%m-%d %H:%M} UTC"
        return f"from {earliest}, when part and notice allow it, {request.duration / HOUR:g} h would end after {latest}"
    reason = max(in_time, key=lambda name: in_time[name])
    if reason == "load_unknown" and (gap := _first_gap(request)) is not None:
        local = gap.astimezone(zone_info(request.time_zone))
        words[reason] += f"; it lacks the time from {local:%Y-%m-%d %H:%M} {request.time_zone}"
    return f"{in_time[reason]} of the {sum(in_time.values())} starts in time do not fit because {words[reason]}"


def shift_at(shifts: Sequence[Shift], instant: datetime, zone: ZoneInfo) -> str:
    """The shift's name at an instant, "" between shifts."""
    local = instant.astimezone(zone).time()
    return next((shift.name for shift in shifts if shift.covers(local)), "")


def load_by_shift(load: dict[datetime, float], shifts: Sequence[Shift], time_zone: str) -> dict[str, float]:
    """Total load of each local date's shift, ``2026-03-29 night`` -> load, in order of time."""
    zone = zone_info(time_zone)
    totals: dict[str, float] = {}
    for hour in sorted(load):
        local = hour.astimezone(zone)
        shift = next((shift for shift in shifts if shift.covers(local.time())), None)
        if shift is None:
            continue
        over_midnight = shift.start >= shift.end and local.time() < shift.end
        day = local.date() - timedelta(days=1) if over_midnight else local.date()
        key = f"{day.isoformat()} {shift.name}"
        totals[key] = totals.get(key, 0.0) + load[hour]
    return totals


def zone_info(name: str) -> ZoneInfo:
    """An IANA time zone. Raises BadConfig."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadConfig(f"time zone {name!r} is not an IANA name such as Europe/Berlin") from None


def _why_not(request: WindowRequest, span: Span, load: float | None) -> str:
    if span.start < request.earliest:
        return "before_part_or_notice"
    if span.end > request.latest_end:
        return "after_deadline"
    if span.start in request.refused:
        return "refused_before"
    if load is None:
        return "load_unknown"
    if any(span.overlaps(taken) for taken in request.taken):
        return "equipment_taken"
    return ""


def _first_free(request: WindowRequest, span: Span) -> Engineer | None:
    for engineer in request.engineers:
        if engineer.free(span) and (span.start, engineer.person_id) not in request.refused_pairs:
            return engineer
    return None


def _load_over(hours: Sequence[Span], load: dict[datetime, float], span: Span) -> float | None:
    """Load of a span in whole and part hours; None where it is unknown for some time, or not a finite number."""
    total, known_until = 0.0, span.start
    first = bisect_right(hours, span.start, key=lambda hour: hour.start) - 1
    for hour in hours[max(0, first) :]:
        if hour.start > known_until or known_until >= span.end:
            break
        if not hour.overlaps(span):
            continue
        value = load[hour.start]
        if not math.isfinite(value):
            return None
        total += value * ((min(span.end, hour.end) - max(span.start, hour.start)) / (hour.end - hour.start))
        known_until = hour.end
    return total if known_until >= span.end else None


def _hours(load: dict[datetime, float]) -> list[Span]:
    """The hours of a load, in order. An hour ends where the next begins; before a gap it has its usual length.

    A start within a whole hour of the others is a start only, and splits no hour.
    """
    starts = sorted(load)
    steps = Counter(after - before for before, after in itertools.pairwise(starts) if after - before <= HOUR)
    usual = max(steps, key=lambda step: (steps[step], step)) if steps else HOUR
    if usual == HOUR:
        inner = {
            at for before, at, after in zip(starts, starts[1:], starts[2:], strict=False) if after - before == HOUR
        }
        starts = [start for start in starts if start not in inner]
    spans = []
    for start, after in itertools.zip_longest(starts, starts[1:]):
        long_hour = usual == HOUR and after is not None and after - start == HOUR + HALF_AN_HOUR
        spans.append(
            Span(start, after if after is not None and (after - start < usual or long_hour) else start + usual)
        )
    return spans


def _first_gap(request: WindowRequest) -> datetime | None:
    """When, of the time that windows could lie in, the load is first unknown."""
    known_until = request.earliest
    for hour in _hours(request.load):
        if hour.start > known_until:
            break
        known_until = max(known_until, hour.end)
    return known_until if known_until < request.latest_end else None
