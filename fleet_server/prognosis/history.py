"""Degradation histories from files: our own trajectory CSV, the NASA/IMS bearing tests, FEMTO bearing features.

Input is hostile: sizes are bounded, every unit is checked, an unusable unit or row is refused with its reason and the
rest goes on. ``.gz`` is read and written as such.

Trajectory CSV: a header and one row for each point, points of a unit in order of time::

    unit,hours,ratio,failed,failure_mode,component_type[,source,asset_class,jurisdiction]

``ratio`` is the indicator over the unit's healthy level; with ``value`` instead, the healthy level is taken from the
file (the median from 8 % to 30 % of the unit's points: after running in, before wear). ``failed`` is 1 or 0,
``source`` may say ``simulated``.

IMS: two tests of four bearings each; the ends are known from the published description (test 1: bearing 3 inner race
and bearing 4 roller failed; test 2: bearing 1 outer race failed), the others are censored. The rig paused for days at a
time: hours are operating hours. A failed bearing's course ends at the peak: what follows is the rig being stopped.

FEMTO: accelerated tests that last hours, one snapshot every 10 s, ended at a vibration limit; real hours are kept (see
library.py for why they cannot dominate); the failed element was not published, so the mode is unknown.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Literal, TextIO

import numpy as np

from fleet_core.assets import FAILURE_MODES, UNKNOWN_FAILURE_MODE, component_type
from fleet_core.errors import BadInput
from fleet_server.prognosis.library import Trajectory
from fleet_server.prognosis.signatures import Floats

Format = Literal["trajectory-csv", "ims", "femto"]
MAX_ROWS = 2_000_000
MAX_TEXT_BYTES = 400 * 1024 * 1024
MAX_UNITS = 20_000
HEALTHY_SPAN = (0.08, 0.3)

_IMS_PAUSE_H = 1.0
_IMS_FAILED = {"1": {3: "bearing_spalling", 4: "bearing_spalling"}, "2": {1: "bearing_spalling"}}
_FEMTO_STEP_H = 10.0 / 3600.0


@dataclass
class History:
    """What a file holds: usable trajectories, and what was refused (unit or row -> reason)."""

    trajectories: list[Trajectory] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    rows_skipped: int = 0

    def add(self, unit: str, **fields: object) -> None:
        """Add one unit, or note why it is refused."""
        try:
            self.trajectories.append(Trajectory(unit_serial=unit, **fields))  # type: ignore[arg-type] # checked there
        except BadInput as error:
            self.refused[unit[:80]] = str(error)


def read_history(path: Path, layout: Format | None = None) -> History:
    """Read a history file, telling its layout from the header unless given. Raises BadInput for a useless file."""
    try:
        with _open_text(path) as stream:
            rows = csv.reader(_bounded(stream))
            header = [name.strip() for name in next(rows, [])]
            chosen = layout or _layout_of(header)
            reader = {"trajectory-csv": _trajectories, "ims": _ims, "femto": _femto}[chosen]
            history = reader(header, islice(rows, MAX_ROWS), path)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise BadInput("history_file", f"{path}: {error}") from None
    if not history.trajectories and not history.refused:
        raise BadInput("history_file", f"{path}: no unit in it")
    return history


def write_history(path: Path, trajectories: Iterable[Trajectory]) -> None:
    """Write a trajectory CSV (gzipped when the name ends so); the same units give the same bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["unit", "hours", "ratio", "failed", "failure_mode", "component_type", "source"])
    for unit in trajectories:
        tail = (int(unit.failed), unit.failure_mode, unit.component_type, unit.source)
        writer.writerows(
            (unit.unit_serial, f"{hours:g}", f"{ratio:.4g}", *tail)
            for hours, ratio in zip(unit.hours, unit.ratio, strict=True)
        )
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content, 9, mtime=0) if path.suffix == ".gz" else content)


def healthy_level(values: Floats) -> float:
    """A unit's healthy level: the median of its life from 8 % to 30 %."""
    first, last = (int(share * values.size) for share in HEALTHY_SPAN)
    return float(np.median(values[first : max(last, first + 1)]))


def _open_text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _bounded(stream: TextIO) -> Iterator[str]:
    """Lines of a text, refusing one that is too long or too much in all (a compressed file can be a bomb)."""
    total = 0
    while line := stream.readline(65_537):
        total += len(line)
        if len(line) > 65_536 or total > MAX_TEXT_BYTES:
            raise BadInput("history_file", "a line or the whole file is too long")
        yield line


def _layout_of(header: list[str]) -> Format:
    names = {name.lower() for name in header}
    if {"unit", "hours"} <= names:
        return "trajectory-csv"
    if "datetime" in names and any(name.startswith("bearing") for name in names):
        return "ims"
    if {"snapshot", "h_rms"} <= names:
        return "femto"
    raise BadInput("history_file", "unknown layout; expected columns unit,hours,ratio,... or name --format")


def _trajectories(header: list[str], rows: Iterable[list[str]], path: Path) -> History:
    names = [name.lower() for name in header]
    kind = "ratio" if "ratio" in names else "value"
    for needed in ("unit", "hours", kind, "failed", "component_type"):
        if needed not in names:
            raise BadInput("history_file", f"{path}: column {needed} is missing")
    history = History()
    points: dict[str, list[tuple[float, float]]] = {}
    described: dict[str, Mapping[str, str]] = {}
    for row in rows:
        record = dict(zip(names, (cell.strip() for cell in row), strict=False))
        unit, point = record.get("unit", ""), _point(record.get("hours"), record.get(kind))
        if not unit or point is None or (unit not in points and len(points) >= MAX_UNITS):
            history.rows_skipped += 1
            continue
        points.setdefault(unit, []).append(point)
        described.setdefault(unit, record)
    for unit, course in points.items():
        hours, ratio = (np.array(column) for column in zip(*course, strict=True))
        _add_described(history, unit, hours, ratio, described[unit], path, kind == "value")
    return history


def _add_described(
    history: History, unit: str, hours: Floats, ratio: Floats, record: Mapping[str, str], path: Path, absolute: bool
) -> None:
    """Add one unit of a trajectory CSV; ``absolute`` values are put over the unit's own healthy level."""
    level = healthy_level(ratio) if absolute else 1.0
    try:
        kind = component_type(record.get("component_type", "")).code
    except BadInput as error:
        history.refused[unit[:80]] = str(error)
        return
    if record.get("failed") not in ("0", "1"):
        history.refused[unit[:80]] = "failed: 0 or 1 expected"
        return
    if not level > 0:
        history.refused[unit[:80]] = "its healthy level is not positive"
        return
    mode = record.get("failure_mode", "")
    history.add(
        unit,
        trajectory_id=f"{_stem(path)}:{unit}",
        component_type=kind,
        source="simulated" if record.get("source") == "simulated" else f"import:{_stem(path)}",
        failure_mode=mode if mode in FAILURE_MODES else UNKNOWN_FAILURE_MODE,
        failed=record["failed"] == "1",
        hours=hours,
        ratio=ratio / level,
        asset_class=record.get("asset_class", ""),
        jurisdiction=record.get("jurisdiction", ""),
    )


def _ims(header: list[str], rows: Iterable[list[str]], path: Path) -> History:
    history = History()
    times: list[datetime] = []
    values: list[list[float]] = []
    columns = [index for index, name in enumerate(header) if name.startswith("Bearing")]
    when = header.index("Datetime")
    for row in rows:
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
        raise BadInput("history_file", f"{path}: fewer than 50 usable rows")
    steps_h = np.diff([moment.timestamp() for moment in times], prepend=times[0].timestamp()) / 3600.0
    steps_h = np.where(steps_h > _IMS_PAUSE_H, np.median(steps_h), steps_h)
    steps_h[0] = 0.0
    hours, levels_of = np.cumsum(steps_h), np.array(values)
    test = "1" if len(columns) == 8 else "2"
    for bearing in range(1, 5):
        mine = [at for at, index in enumerate(columns) if header[index].startswith(f"Bearing {bearing}")]
        if mine:
            _add_ims(history, test, bearing, hours, levels_of[:, mine].mean(axis=1), path)
    return history


def _add_ims(history: History, test: str, bearing: int, hours: Floats, level: Floats, path: Path) -> None:
    mode = _IMS_FAILED[test].get(bearing)
    end = level.size
    if mode:  # a failed bearing's course ends at its peak
        tail = int(0.9 * level.size)
        end = tail + int(np.argmax(level[tail:])) + 1
    history.add(
        f"IMS{test}-B{bearing}",
        trajectory_id=f"ims:{test}-{bearing}",
        component_type="bearing",
        source="import:ims",
        failure_mode=mode or UNKNOWN_FAILURE_MODE,
        failed=mode is not None,
        hours=hours[:end],
        ratio=level[:end] / healthy_level(level),
        detail={"file": path.name},
    )


def _femto(header: list[str], rows: Iterable[list[str]], path: Path) -> History:
    history = History()
    column, number = header.index("h_rms"), header.index("snapshot")
    course: list[tuple[float, float]] = []
    for row in rows:
        point = _point(row[number], row[column]) if len(row) > max(column, number) else None
        if point is None or (course and point[0] <= course[-1][0]):
            history.rows_skipped += 1
        else:
            course.append(point)
    if len(course) < 50:
        raise BadInput("history_file", f"{path}: fewer than 50 usable rows")
    snapshots, level = (np.array(values) for values in zip(*course, strict=True))
    unit = f"FEMTO-{_stem(path).rpartition('Bearing')[2] or _stem(path)}"
    history.add(
        unit,
        trajectory_id=unit.lower().replace("femto-", "femto:"),
        component_type="bearing",
        source="import:femto",
        failure_mode=UNKNOWN_FAILURE_MODE,
        failed=True,
        hours=(snapshots - snapshots[0]) * _FEMTO_STEP_H,
        ratio=level / healthy_level(level),
        detail={"file": path.name},
    )
    return history


def _point(hours: str | None, value: str | None) -> tuple[float, float] | None:
    try:
        point = (float(hours or ""), float(value or ""))
    except ValueError:
        return None
    return point if all(map(math.isfinite, point)) else None


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv")
