"""Recorded sets in their publishers' layouts: NASA/IMS bearings, FEMTO bearings, NASA battery cells.

IMS: two tests with four bearings each. The published description says which bearings failed (test 1: bearing 3, inner
race, and bearing 4, roller; test 2: bearing 1, outer race); the other bearings are censored. The rig paused for days at
a time, so hours are operating hours. The course of a failed bearing ends at its peak: after it the rig was stopped.

FEMTO: accelerated tests of a few hours with one snapshot every 10 s, ended at a vibration limit. Their real hours are
kept (library.py says why they cannot dominate the search). Which element failed was not published, so the failure mode
is unknown.

NASA battery: the capacity of a cell after each cycle. The life of a cell ends when its capacity first falls to 1.4 Ah
(70 % of the rated capacity); a cell that never fell so far is censored. The indicator falls, so the ratio is the
capacity of the new cell over the present capacity. A cell fades from its first cycle on, so its healthy level is taken
from its first cycles and not from a later stretch. A cycle counts as ``cycle_h`` operating hours.

Two public sets are refused with a reason: C-MAPSS (21 channels of a jet engine: no single channel is the indicator of a
component in the registry) and the SMART history of drives (counters that are zero while a drive is healthy, so that
there is no healthy level to form a ratio with). Both are tables for ``fleet-models rul fit``.
"""

from __future__ import annotations

import math
from datetime import datetime

import numpy as np

from fleet_core.assets import BATTERY, BATTERY_FADE, BEARING, BEARING_SPALLING, UNKNOWN_FAILURE_MODE
from fleet_core.errors import BadInput
from fleet_server.prognosis.history.units import History, Source, healthy_level, point
from fleet_server.prognosis.signatures import Floats, indicator_ratio

CELL_END_AH = 1.4
MAX_CELLS = 20_000
_IMS_PAUSE_H = 1.0
_IMS_FAILED = {"1": {3: BEARING_SPALLING, 4: BEARING_SPALLING}, "2": {1: BEARING_SPALLING}}
_FEMTO_STEP_H = 10.0 / 3600.0
_NEW_CYCLES = 5
_LEAST_CYCLES = 20


def read_ims(source: Source) -> History:
    """Read a file of the NASA/IMS bearing tests. Raises BadInput with fewer than 50 usable rows."""
    history, header, stem = History(), source.header, source.stem
    times: list[datetime] = []
    values: list[list[float]] = []
    columns = [index for index, name in enumerate(header) if name.startswith("Bearing")]
    when = header.index("Datetime")
    for row in source.rows:
        try:
            moment = datetime.strptime(row[when].strip(), "%Y.%m.%d.%H.%M.%S")  # noqa: DTZ007 only differences matter
            levels = [float(row[index]) for index in columns]
        except (ValueError, IndexError):
            history.rows_skipped += 1
            continue
        if all(map(math.isfinite, levels)) and (not times or moment > times[-1]):
            times.append(moment)
            values.append(levels)
        else:
            history.rows_skipped += 1
    if len(times) < 50:
        raise BadInput("history_file", f"{stem}: fewer than 50 usable rows")
    steps_h = np.diff([moment.timestamp() for moment in times], prepend=times[0].timestamp()) / 3600.0
    steps_h = np.where(steps_h > _IMS_PAUSE_H, np.median(steps_h), steps_h)
    steps_h[0] = 0.0
    hours, levels_of = np.cumsum(steps_h), np.array(values)
    test = "1" if len(columns) == 8 else "2"
    for bearing in range(1, 5):
        mine = [at for at, index in enumerate(columns) if header[index].startswith(f"Bearing {bearing}")]
        if mine:
            _add_ims(history, test, bearing, hours, levels_of[:, mine].mean(axis=1), stem)
    return history


def _add_ims(history: History, test: str, bearing: int, hours: Floats, level: Floats, stem: str) -> None:
    mode = _IMS_FAILED[test].get(bearing)
    end = level.size
    if mode:  # a failed bearing's course ends at its peak
        tail = int(0.9 * level.size)
        end = tail + int(np.argmax(level[tail:])) + 1
    history.add(
        f"IMS{test}-B{bearing}",
        trajectory_id=f"ims:{test}-{bearing}",
        component_type=BEARING,
        source="import:ims",
        failure_mode=mode or UNKNOWN_FAILURE_MODE,
        failed=mode is not None,
        hours=hours[:end],
        ratio=level[:end] / healthy_level(level),
        detail={"file": stem},
    )


def read_femto(source: Source) -> History:
    """Read a file of FEMTO bearing features: one bearing. Raises BadInput with fewer than 50 usable rows."""
    history, header, stem = History(), source.header, source.stem
    column, number = header.index("h_rms"), header.index("snapshot")
    course: list[tuple[float, float]] = []
    for row in source.rows:
        here = point(row[number], row[column]) if len(row) > max(column, number) else None
        if here is None or (course and here[0] <= course[-1][0]):
            history.rows_skipped += 1
        else:
            course.append(here)
    if len(course) < 50:
        raise BadInput("history_file", f"{stem}: fewer than 50 usable rows")
    snapshots, level = (np.array(values) for values in zip(*course, strict=True))
    unit = f"FEMTO-{stem.rpartition('Bearing')[2] or stem}"
    history.add(
        unit,
        trajectory_id=unit.lower().replace("femto-", "femto:"),
        component_type=BEARING,
        source="import:femto",
        failure_mode=UNKNOWN_FAILURE_MODE,
        failed=True,
        hours=(snapshots - snapshots[0]) * _FEMTO_STEP_H,
        ratio=level / healthy_level(level),
        detail={"file": stem},
    )
    return history


def read_battery(source: Source) -> History:
    """Read a file of NASA battery cells: every cell is a unit."""
    history = History()
    cell, cycle, capacity = (source.header.index(name) for name in ("cell", "cycle", "capacity_ah"))
    cells: dict[str, list[tuple[float, float]]] = {}
    for row in source.rows:
        here = point(row[cycle], row[capacity]) if len(row) > max(cell, cycle, capacity) else None
        name = row[cell].strip() if here else ""
        if here is None or not name or here[1] <= 0 or (name not in cells and len(cells) >= MAX_CELLS):
            history.rows_skipped += 1
            continue
        course = cells.setdefault(name, [])
        if course and here[0] <= course[-1][0]:
            history.rows_skipped += 1
        else:
            course.append(here)
    for name, course in cells.items():
        _add_cell(history, name, np.array(course), source)
    return history


def _add_cell(history: History, name: str, course: Floats, source: Source) -> None:
    """Add a cell of (cycle, capacity in Ah), up to the end of its life."""
    if len(course) < _LEAST_CYCLES:
        history.refuse(name, f"fewer than {_LEAST_CYCLES} cycles")
        return
    new_ah = float(np.median(course[:_NEW_CYCLES, 1]))
    if new_ah <= CELL_END_AH:
        history.refuse(name, f"it began at {new_ah:.2f} Ah, at or below the end of life ({CELL_END_AH} Ah)")
        return
    worn_out = np.flatnonzero(course[:, 1] <= CELL_END_AH)
    lived = course[: worn_out[0] + 1] if worn_out.size else course
    history.add(
        f"NASA-{name}",
        trajectory_id=f"nasa-battery:{name}",
        component_type=BATTERY,
        source="import:nasa-battery",
        failure_mode=BATTERY_FADE,
        failed=bool(worn_out.size),
        hours=(lived[:, 0] - lived[0, 0]) * source.cycle_h,
        ratio=indicator_ratio(lived[:, 1], new_ah, falls=True),
        detail={"file": source.stem, "cycle_h": source.cycle_h},
    )
