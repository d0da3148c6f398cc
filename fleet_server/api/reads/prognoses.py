"""Read prognoses for people: times, a sentence about the past units they rest on, and the courses of these units.

The sentence only counts what was observed of the stored neighbours; the calibrated interval stands beside it. Courses
come through row-level security: a reader gets only courses of public histories and of tenants that it may see.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np

from fleet_core.assets import COMPONENT_TYPES, failure_mode, indicator_falls
from fleet_server.api.models.base import Record
from fleet_server.api.models.prognoses import (
    Neighbour,
    NeighbourCourse,
    NeighbourCourses,
    Prognosis,
    PrognosisHistory,
    PrognosisPoint,
)
from fleet_server.prognosis.signatures import Floats
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

SHOWN_COURSES = 16
COURSE_POINTS = 60
SHAPE_POINTS = 21
MIN_FOR_SHAPE = 3
LEAST_RISE = 1.25
"""Least ratio to the present level at which the unit is shown to fail: a unit that runs at its level fails above it."""
LISTED = 40
"""A prognosis stores at most this many neighbours; with more of them the sentence speaks of the nearest."""
_LEAST_PAST_H = 24.0
_LONGEST_H = 1e6
_sql = queries("api_assets")


def prognosis(row: Record) -> Prognosis:
    """A prognosis row as an answer."""
    inputs = row["inputs"] if isinstance(row.get("inputs"), dict) else {}
    component_type = str(inputs.get("component_type") or "")
    near = [item for item in row["neighbours"] if isinstance(item, dict)]
    return Prognosis(
        **row | {"neighbours": [_neighbour(item) for item in near]},
        component_type=component_type,
        failure_mode_label=failure_mode(row["failure_mode"]).label,
        # A prognosis may have abstained because no past unit was like it, so then there is no sentence.
        likeness="" if row["abstained"] else likeness(component_type, near),
        early_at=_after(row["made_at"], row["rul_p10_h"]),
        median_at=_after(row["made_at"], row["rul_p50_h"]),
        late_at=_after(row["made_at"], row["rul_p90_h"]),
        indicator=str(inputs.get("metric") or ""),
        falls=bool(inputs.get("falls", indicator_falls(component_type))),  # older prognoses did not keep it
        noise_ratio=_number(inputs.get("sigma_ratio")) or 0.0,
    )


def likeness(component_type: str, neighbours: Sequence[Record]) -> str:
    """One sentence on what became of the most similar past units; empty when there are none."""
    ends = [(hours, item.get("failed") is True, str(item.get("failure_mode") or "")) for item in neighbours
            if (hours := _number(item.get("remaining_h"))) is not None]  # fmt: skip
    if not ends:
        return ""
    units, failed_h = len(ends), sorted(hours for hours, failed, _ in ends if failed)
    modes = {mode for _, failed, mode in ends if failed}
    verb = failure_mode(modes.pop()).verb if len(modes) == 1 else "failed"
    noun = _noun(component_type, units)
    said = f"1 past {noun} looked like this" if units == 1 else f"{units} past {noun} looked like this"
    if units >= LISTED:
        said = f"The {units} past {noun} most like this one"
    join = ": " if units >= LISTED else "; "
    return said + join + _fate(units, failed_h, verb, max(hours for hours, _, _ in ends)) + "."


async def neighbour_courses(conn: Connection, asset_id: str, prognosis_id: UUID) -> NeighbourCourses | None:
    """The nearest past courses of a prognosis; None when the asset has no such prognosis that the reader may see."""
    wanted = {"asset_id": asset_id, "prognosis_id": prognosis_id}
    row = await (await conn.execute(_sql.prognosis_of, wanted)).fetchone()
    if row is None:
        return None
    near = {
        str(item.get("trajectory_id")): hours
        for item in row["neighbours"]
        if isinstance(item, dict) and (hours := _number(item.get("remaining_h"))) is not None
    }
    nearest = list(near)[:SHOWN_COURSES]
    found = await (await conn.execute(_sql.courses, {"ids": nearest})).fetchall()
    by_id = {unit["trajectory_id"]: unit for unit in found}
    past_h = max([_LEAST_PAST_H, *(float(point[0]) for point in row["course"] if point)])
    now_ratio = float(row["course"][-1][1]) if row["course"] else 1.0
    aligned = [
        (by_id[name]["failed"], near[name], *_laid_beside(by_id[name], near[name])) for name in nearest if name in by_id
    ]
    courses = [
        NeighbourCourse(failed=failed, remaining_h=left_h, points=thinned(hours, ratio, -past_h, COURSE_POINTS))
        for failed, left_h, hours, ratio in aligned
    ]
    ended = [(hours, ratio, left_h) for failed, left_h, hours, ratio in aligned if failed and left_h > 0]
    return NeighbourCourses(prognosis_id=prognosis_id, courses=courses, shape=usual_shape(ended, now_ratio))


async def prognosis_history(conn: Connection, asset_id: str, slot: str) -> PrognosisHistory:
    """How the prognosis of one component moved, oldest first."""
    rows = await (await conn.execute(_sql.prognosis_history, {"asset_id": asset_id, "slot": slot})).fetchall()
    return PrognosisHistory(slot=slot, points=[PrognosisPoint(**row) for row in reversed(rows)])


def usual_shape(ended: Sequence[tuple[Floats, Floats, float]], now_ratio: float) -> list[tuple[float, float]]:
    """The usual course of failed units from here on: pairs (share 0..1 of the remaining life, ratio) from
    ``now_ratio``.

    A unit of ``ended`` is (hours with 0 at the present level, ratios, remaining hours). The course is the median
    progress of the units from their present level to their last, and never falls. It is empty when fewer than three
    units failed.
    """
    if len(ended) < MIN_FOR_SHAPE:
        return []
    shares = np.linspace(0.0, 1.0, SHAPE_POINTS)
    courses = np.array([np.interp(shares * left_h, hours, ratio) for hours, ratio, left_h in ended])
    rise = courses[:, -1:] - courses[:, :1]
    progress = np.where(rise > 0, (courses - courses[:, :1]) / np.where(rise > 0, rise, 1.0), shares)
    usual = np.maximum.accumulate(np.clip(np.median(progress, axis=0), 0.0, 1.0))
    end = max(float(np.median(courses[:, -1])), LEAST_RISE * now_ratio)
    ratios = now_ratio + (end - now_ratio) * usual
    return [(round(float(share), 3), round(float(ratio), 4)) for share, ratio in zip(shares, ratios, strict=True)]


def thinned(hours: Floats, ratio: Floats, since_h: float, most: int) -> list[tuple[float, float]]:
    """The course from ``since_h`` on as means over at most ``most`` even stretches of time; the last point is kept."""
    keep = hours >= since_h
    hours, ratio = hours[keep], ratio[keep]
    if hours.size == 0:
        return []
    if hours.size > most:
        width = max(float(hours[-1] - hours[0]), 1e-9) / (most - 1)
        bucket = np.minimum(((hours[:-1] - hours[0]) / width).astype(np.int64), most - 2)
        starts = np.flatnonzero(np.diff(bucket, prepend=-1))
        count = np.diff(starts, append=bucket.size)
        hours = np.append(np.add.reduceat(hours[:-1], starts) / count, hours[-1])
        ratio = np.append(np.add.reduceat(ratio[:-1], starts) / count, ratio[-1])
    return [(round(float(h), 3), round(float(r), 4)) for h, r in zip(hours, ratio, strict=True)]


def _laid_beside(unit: Record, remaining_h: float) -> tuple[Floats, Floats]:
    """A past unit's hours from the moment at which it had ``remaining_h`` left, and its ratios."""
    hours, ratio = np.array(unit["hours"], dtype=np.float64), np.array(unit["indicator"], dtype=np.float64)
    return hours - hours[-1] + remaining_h, ratio


def _fate(units: int, failed_h: list[float], verb: str, longest_h: float) -> str:
    """What became of the past units, counted literally: a unit that was replaced in time never counts as failed."""
    failed, half = len(failed_h), -(-units // 2)
    if units == 1:
        return (
            f"it {verb} after {_hours(failed_h[0])}"
            if failed
            else f"it was replaced or still ran {_hours(longest_h)} later"
        )
    if not failed:
        return f"none of them failed within the {_hours(longest_h)} they were watched"
    if units == 2 and failed == 2:
        return f"both {verb} within {_hours(failed_h[-1])}"
    if failed >= half:
        return f"half of them {verb} within {_hours(failed_h[half - 1])}"
    others = units - failed
    rest = "the other was" if others == 1 else f"the other {others} were"
    return f"{failed} of them {verb} within {_hours(failed_h[-1])}, {rest} replaced in time or still ran"


def _hours(value: float) -> str:
    if value >= 96:
        return f"{value / 24:.0f} days"
    if value < 1:
        return f"{max(1, round(value * 60))} min"
    return f"{value:.0f} h" if value >= 10 else f"{value:.1f} h"


def _noun(component_type: str, units: int) -> str:
    """``bearing``, ``bearings``, ``batteries``; a type without a name is a unit."""
    word = component_type if component_type in COMPONENT_TYPES else "unit"
    if units == 1:
        return word
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"


def _neighbour(item: Record) -> Neighbour:
    """A neighbour that was a case stays unnamed: it may be another customer's."""
    known = {name: item.get(name) for name in Neighbour.model_fields}
    named = item.get("source") != "case"
    identity = {name: str(item.get(name, "")) if named else "" for name in ("trajectory_id", "unit_serial")}
    return Neighbour.model_validate(known | identity)


def _after(moment: datetime, hours: float | None) -> datetime | None:
    return None if hours is None or not 0 <= hours <= _LONGEST_H else moment + timedelta(hours=hours)


def _number(value: object) -> float | None:
    """A finite number of a JSON record, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        return None
    return float(value)
