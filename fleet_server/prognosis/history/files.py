"""Degradation histories from files: our own trajectory CSV and recorded public sets (see ``sets.py``).

Input is hostile: sizes are bounded and every unit is checked. An unusable unit is refused with its reason, an unusable
row is counted, and the rest of the file is read. A file whose name ends in ``.gz`` is compressed. Every row takes 16
bytes of memory while a file is read, whatever it holds.

Trajectory CSV: a header and one row for each point; the points of a unit are in order of time::

    unit,hours,ratio,failed,failure_mode,component_type[,source,asset_class,jurisdiction]

``ratio`` is the indicator over the unit's healthy level. When the file has a column ``value`` instead, the healthy
level is the median from 8 % to 30 % of the unit's points: after running in and before wear. A ratio rises as the unit
degrades: for an indicator that falls (a capacity, a flow) it is the healthy level over the value. ``failed`` is 1 or 0;
``source`` may be ``simulated``.
"""

from __future__ import annotations

import csv
import gzip
import io
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Literal, TextIO

import numpy as np

from fleet_core.assets import FAILURE_MODES, UNKNOWN_FAILURE_MODE, component_type, indicator_falls
from fleet_core.errors import BadInput
from fleet_server.prognosis.history.sets import read_battery, read_femto, read_ims
from fleet_server.prognosis.history.units import History, Reader, Source, healthy_level, point
from fleet_server.prognosis.library import Trajectory
from fleet_server.prognosis.signatures import Floats, indicator_ratio

Format = Literal["trajectory-csv", "ims", "femto", "nasa-battery"]
MAX_ROWS = 2_000_000
MAX_TEXT_BYTES = 400 * 1024 * 1024
MAX_UNITS = 20_000
CYCLE_H = 3.0
"""Operating hours of one cycle of a cell (charge and discharge), unless the caller names another figure."""
REPORT_ROWS = 50_000
_CMAPSS_COLUMNS = 26
_DESCRIBING = ("failed", "failure_mode", "component_type", "source", "asset_class", "jurisdiction")


def read_history(
    path: Path,
    layout: Format | None = None,
    *,
    cycle_h: float = CYCLE_H,
    progress: Callable[[int], None] | None = None,
) -> History:
    """Read a history file; without ``layout`` the header says which layout it has.

    ``cycle_h`` is the number of operating hours of a cycle, for sets that count cycles. ``progress`` is called every
    ``REPORT_ROWS`` rows with the number of rows read so far.

    Raises:
        BadInput: ``history_file`` when the file cannot be read, is too large, or holds no unit.
    """
    try:
        with _open_text(path) as stream:
            rows = csv.reader(_bounded(stream))
            header = [name.strip() for name in next(rows, [])]
            reader = READERS[layout or _layout_of(header)]
            counted = _Counted(islice(rows, MAX_ROWS), progress)
            history = reader(Source(header, counted, _stem(path), cycle_h))
            if next(rows, None) is not None:
                raise BadInput("history_file", f"{path}: more than {MAX_ROWS} rows; split it by unit")
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, LookupError, ValueError) as error:
        raise BadInput("history_file", f"{path}: {error}") from None
    history.rows = counted.rows
    if not history.trajectories and not history.units_refused:
        raise BadInput("history_file", f"{path}: no unit in it")
    return history


def write_history(path: Path, trajectories: Iterable[Trajectory]) -> None:
    """Write a trajectory CSV, compressed when the name ends in ``.gz``; the same units give the same bytes."""
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


def _open_text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _bounded(stream: TextIO) -> Iterator[str]:
    """Lines of a text. Raises BadInput for a line, or a text, that is too long: a compressed file can be a bomb."""
    total = 0
    while line := stream.readline(65_537):
        total += len(line)
        if len(line) > 65_536 or total > MAX_TEXT_BYTES:
            raise BadInput("history_file", "a line or the whole file is too long")
        yield line


class _Counted:
    """Passes rows on, counts them and reports the count."""

    def __init__(self, rows: Iterable[list[str]], progress: Callable[[int], None] | None) -> None:
        self.rows = 0
        self._source = rows
        self._progress = progress

    def __iter__(self) -> Iterator[list[str]]:
        for row in self._source:
            self.rows += 1
            if self._progress is not None and self.rows % REPORT_ROWS == 0:
                self._progress(self.rows)
            yield row


def _layout_of(header: list[str]) -> Format:
    """The layout that a header belongs to. Raises BadInput for an unknown one; for a known unusable set, with why."""
    names = {name.lower() for name in header}
    if {"unit", "hours"} <= names:
        return "trajectory-csv"
    if "datetime" in names and any(name.startswith("bearing") for name in names):
        return "ims"
    if {"snapshot", "h_rms"} <= names:
        return "femto"
    if {"cell", "cycle", "capacity_ah"} <= names:
        return "nasa-battery"
    if {"serial_number", "tstart", "tstop", "fails"} <= names:
        text = "SMART counts are zero while a drive is healthy: there is no healthy level to be a ratio of"
        raise BadInput("history_file", f"{text}; fit them as a table with `fleet-models rul fit`")
    if len(header) == 1 and len(header[0].split()) == _CMAPSS_COLUMNS:
        text = "C-MAPSS: many channels of an engine, none the indicator of a component in the registry"
        raise BadInput("history_file", f"{text}; fit it as a table with `fleet-models rul fit`")
    raise BadInput("history_file", "unknown layout; expected columns unit,hours,ratio,... or name --format")


def _trajectories(source: Source) -> History:
    names = [name.lower() for name in source.header]
    kind = "ratio" if "ratio" in names else "value"
    for needed in ("unit", "hours", kind, "failed", "component_type"):
        if needed not in names:
            raise BadInput("history_file", f"{source.stem}: column {needed} is missing")
    unit_at, hours_at, value_at = (names.index(name) for name in ("unit", "hours", kind))
    last = max(unit_at, hours_at, value_at)
    history = History()
    points: dict[str, array[float]] = {}  # hours and values in turn
    described: dict[str, Mapping[str, str]] = {}
    for row in source.rows:
        unit = row[unit_at].strip() if len(row) > last else ""
        here = point(row[hours_at], row[value_at]) if unit else None
        if here is None or (unit not in points and len(points) >= MAX_UNITS):
            history.rows_skipped += 1
            continue
        if unit not in points:
            points[unit] = array("d")
            record = dict(zip(names, row, strict=False))
            described[unit] = {name: record.get(name, "").strip() for name in _DESCRIBING}
        points[unit].extend(here)
    for unit in list(points):
        course = np.frombuffer(points.pop(unit)).reshape(-1, 2)
        hours, values = np.ascontiguousarray(course[:, 0]), np.ascontiguousarray(course[:, 1])
        _add_described(history, unit, hours, values, described[unit], source.stem, kind == "value")
    return history


def _add_described(
    history: History, unit: str, hours: Floats, values: Floats, record: Mapping[str, str], stem: str, absolute: bool
) -> None:
    """Add one unit of a trajectory CSV: ratios, or ``absolute`` values that are put over its own healthy level.

    Where the type's indicator falls as it degrades, the healthy level is put over the values; a value of nothing has no
    ratio then and is left out.
    """
    level = healthy_level(values) if absolute else 1.0
    try:
        kind = component_type(record.get("component_type", "")).code
    except BadInput as error:
        history.refuse(unit, str(error))
        return
    if record.get("failed") not in ("0", "1"):
        history.refuse(unit, "failed: 0 or 1 expected")
        return
    if not level > 0:
        history.refuse(unit, "its healthy level is not positive")
        return
    ratio = values
    if absolute:
        falls = indicator_falls(kind)
        formed = (values != 0) | (not falls)
        hours, ratio = hours[formed], indicator_ratio(values[formed], level, falls=falls)
    mode = record.get("failure_mode", "")
    history.add(
        unit,
        trajectory_id=f"{stem}:{unit}",
        component_type=kind,
        source="simulated" if record.get("source") == "simulated" else f"import:{stem}",
        failure_mode=mode if mode in FAILURE_MODES else UNKNOWN_FAILURE_MODE,
        failed=record["failed"] == "1",
        hours=hours,
        ratio=ratio,
        asset_class=record.get("asset_class", ""),
        jurisdiction=record.get("jurisdiction", ""),
    )


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv")


READERS: Mapping[Format, Reader] = {
    "trajectory-csv": _trajectories,
    "ims": read_ims,
    "femto": read_femto,
    "nasa-battery": read_battery,
}
