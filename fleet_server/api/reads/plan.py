"""Read a case's plan (JSON the resolution writes, see ``resolution/windows.py``) into what a page shows. Pure.

Read with care: a part of it that is missing or odd is left out, since a plan is shown at every stage of its making.
The loads lie in the request of the window's act (``load_by_hour`` when the WMS gave hours, ``load_by_shift``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fleet_server.api.models.base import Record
from fleet_server.api.models.cases import LoadHour, Plan, ShiftLoad, Window

MAX_HOURS = 24 * 31
LOAD_UNIT = "orders"


def read_plan(plan: Any, acts: Sequence[Record], part: Record | None, part_no: str) -> Plan:
    """The plan for people. ``acts`` are the case's, oldest first; ``part`` is the catalogue's row."""
    plan = _table(plan)
    chosen_part, chosen = _table(plan.get("part")), plan.get("window")
    asked = next((_table(act["request"]) for act in reversed(acts) if act["kind"] == "window"), {})
    return Plan(
        part_no=_text(chosen_part.get("part_no")) or part_no or None,
        part_label=part["label"] if part else _text(chosen_part.get("label")),
        centre=_text(chosen_part.get("centre_name")) or _text(chosen_part.get("centre_id")),
        arrives_at=_time(chosen_part.get("arrives_at")),
        entitlement=_entitlement(_table(plan.get("entitlement"))),
        engineer_name=_text(_table(plan.get("engineer")).get("name")),
        windows=_windows(chosen, plan.get("alternatives")),
        windows_considered=_whole(_table(chosen).get("of_windows")),
        excluded={str(k): v for k, v in _table(plan.get("excluded")).items() if _whole(v) is not None},
        load_by_hour=_hours(plan.get("load_by_hour") or asked.get("load_by_hour")),
        load_by_shift=[
            ShiftLoad(shift=name, load=value)
            for name, load in list(_table(asked.get("load_by_shift")).items())[:93]
            if (value := _number(load)) is not None
        ],
        load_unit=LOAD_UNIT,
    )


def _windows(chosen: Any, others: Any) -> list[Window]:
    windows: list[Window] = []
    for item in [chosen, *(others if isinstance(others, list) else [])][:25]:
        start, end = _time(_table(item).get("start")), _time(_table(item).get("end"))
        if start is None or end is None:
            continue
        windows.append(
            Window(
                start=start,
                end=end,
                load=_number(item.get("load")),
                load_rank=_whole(item.get("load_rank")),
                chosen=item is chosen,
                shift=_text(item.get("shift")) or "",
            )
        )
    return sorted(windows, key=lambda w: (w.load_rank is None, w.load_rank or 0, w.start))


def _hours(load: Any) -> list[LoadHour]:
    pairs: list[Any] = list(load.items()) if isinstance(load, dict) else load if isinstance(load, list) else []
    hours = []
    for pair in pairs[:MAX_HOURS]:
        if isinstance(pair, list | tuple) and len(pair) == 2:
            at, value = _time(pair[0]), _number(pair[1])
            if at is not None and value is not None:
                hours.append(LoadHour(at=at, load=value))
    return sorted(hours, key=lambda hour: hour.at)


def _entitlement(cover: Record) -> str | None:
    words = [str(cover.get("kind") or "").capitalize(), str(cover.get("reference") or "")]
    return " · ".join(filter(None, words)) or None


def _table(value: Any) -> Record:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _time(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
