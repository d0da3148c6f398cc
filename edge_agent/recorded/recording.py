"""A recording opened for judging: what a file holds, which of its columns are vitals, and its rows in order of time.

Columns that are not vitals (text, labels, row numbers, parts of the time) are left out, and that is said on standard
error. Rows come causally; the one thing taken from a file as a whole is how long it is and whether it is sorted.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.acquisition._tables import BadRow, Snapshots, Table, open_snapshots, open_table
from edge_agent.acquisition.api import AssetDescription
from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.api import AssetDetection
from edge_agent.detection.input.waves import Waves
from edge_agent.detection.pipeline import build_detection
from edge_agent.detection.settings import DetectionSettings
from fleet_core.assets import AssetClass
from fleet_core.errors import BadConfig, BadInput
from fleet_core.telemetry import MetricSpec

BLOCK_ROWS = 64
MAX_VITALS = 60
LABEL_NAMES = (
    *("anomaly", "changepoint", "label", "labels", "is_anomaly", "target", "ground_truth", "outlier", "is_outlier"),
    *("fault", "is_fault", "faulty", "failure", "is_failure", "failed", "attack", "machine_status"),
)
INDEX_NAMES = ("", "index", "unnamed: 0", "row", "row_number", "snapshot", "id")
CLOCK_NAMES = ("year", "month", "day", "weekday", "hour", "minute", "second", "millisecond", "microsecond")
MAX_STEP_S = 86_400.0
US_PER_HOUR = 3.6e9
SHORT_SPANS = 2.0
"""A recording of less than so many ``learn_span_h`` is learnt from by rows alone: else most of it would be learning."""
BRISK = 2.0
"""So many times more rows in ``learn_span_h`` than may be learnt from at first: then hours never count anyway."""
UNSORTED_SHARE = 0.1
"""Above this share of rows older than the one before, a file is unsorted and not a clock set back."""
MAX_SORTED_CELLS = 50_000_000
HEAD_ROWS = 200
LEAST_COUNTED = 24
"""A column that rises by one in so many first rows counts them."""


@dataclass
class Summary:
    """What a run found."""

    rows: int = 0
    rows_skipped: int = 0
    first_skipped: str | None = None
    rows_out_of_order: int = 0
    learned_at_row: int | None = None
    alarm_rows: int = 0
    first_alarm: str | None = None
    first_alarm_fraction: float | None = None
    alarms: int = 0
    vitals: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    microseconds_per_row: float = 0.0


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording opened for judging: its detection, the vitals judged, and its rows in order.

    A row is its time as written, its time in microseconds (rising), and the vitals' values. ``order`` (n,): which row
    of the file each one is, where the file does not have them in order of time.
    """

    detection: AssetDetection
    names: tuple[str, ...]
    rows: Iterator[tuple[str, int, FloatArray]]
    order: IntArray | None = None

    def blocks(self) -> Iterator[tuple[list[str], IntArray, FloatArray]]:
        """The rows in blocks as ``AssetDetection.on_block`` takes them, with their times as written."""
        while batch := list(itertools.islice(self.rows, BLOCK_ROWS)):
            texts, times_us, values = zip(*batch, strict=True)
            yield list(texts), np.array(times_us, dtype=np.int64), np.array(values, dtype=np.float64)


def open_recording(args: argparse.Namespace, settings: DetectionSettings, summary: Summary) -> Recording:
    """Open what the arguments name; ``summary`` is told of what is left out. Raises BadInput, BadConfig, OSError."""
    if args.file.suffix.lower() == ".npz":
        return _waveforms(open_snapshots(args.file), settings, summary)
    if args.step_s is not None and not 0 < args.step_s <= MAX_STEP_S:
        raise BadConfig(f"--step-s must be above 0 and at most {MAX_STEP_S:g}")
    table = open_table(args.file, args.time_column, args.step_s, timeless=True)
    if table.step_s is not None and args.step_s is None:
        say(f"no time column found: rows are counted, {table.step_s:g} s apart (else --time-column or --step-s)")
    times_us = table.times_us()
    order = _order(times_us, len(table.columns)) if args.step_s is None else None
    chosen = _choose(table, _names(args.columns), _names(args.exclude), summary)
    if args.settings is None and _is_short(times_us, settings):
        say(f"less than {SHORT_SPANS * settings.learn_span_h:g} h: learnt from {settings.learn_ticks} rows, not a day")
        settings = dataclasses.replace(settings, learn_span_h=0.0)
    return _vitals(table, chosen, settings, summary, order)


def _is_short(times_us: IntArray, settings: DetectionSettings) -> bool:
    """Would the hours to learn from take half the recording or more? Not asked where rows alone end learning."""
    # gaps are not recorded: ten hours of minutes stay ten hours though they were taken over two weeks
    span_us = float(times_us.max() - times_us.min()) if len(times_us) else 0.0
    usual_us = float(np.median(np.abs(np.diff(times_us)))) if len(times_us) > 1 else 0.0
    span_us = min(span_us, usual_us * (len(times_us) - 1)) if usual_us else span_us
    if not 0.0 < span_us < SHORT_SPANS * settings.learn_span_h * US_PER_HOUR:
        return False
    return settings.learn_span_h * US_PER_HOUR * (len(times_us) - 1) / span_us <= BRISK * settings.learn_ticks_at_most


def _order(times_us: IntArray, columns: int) -> IntArray | None:
    """The rows in order of time; None where the file has them so, but for clocks that were set back now and then."""
    falls = int((np.diff(times_us) < 0).sum())
    if falls <= UNSORTED_SHARE * len(times_us):
        return None
    if len(times_us) * columns > MAX_SORTED_CELLS:
        say(f"{falls} rows are older than the one before; too many to sort: judged as they stand")
        return None
    say(f"{falls} rows are older than the one before: judged in order of time, written in the file's order")
    return np.argsort(times_us, kind="stable")


def _vitals(
    table: Table, chosen: list[int], settings: DetectionSettings, summary: Summary, order: IntArray | None
) -> Recording:
    names = _vital_names([table.header[i] for i in chosen])
    summary.vitals = names
    places = [table.columns.index(i) for i in chosen]

    def readable() -> Iterator[tuple[str, int, FloatArray]]:
        newest_us = 0
        for row in table.rows():
            if isinstance(row, BadRow):
                summary.rows_skipped += 1
                if summary.first_skipped is None:
                    summary.first_skipped = f"the first is line {row.line}, {row.text!r}: {row.reason}"
                continue
            summary.rows_out_of_order += row.time_us <= newest_us
            newest_us = max(row.time_us, newest_us)
            yield row.time_text, row.time_us, np.array([row.values[place] for place in places], dtype=np.float64)

    def rows() -> Iterator[tuple[str, int, FloatArray]]:
        last_us = 0
        for text, time_us, values in _sorted(readable(), order):
            # equal and stepped-back times must not drop rows
            last_us = max(time_us, last_us + 1)
            yield text, last_us, values

    return Recording(columns_detection(names, settings), tuple(names), rows(), order)


def _sorted(
    rows: Iterator[tuple[str, int, FloatArray]], order: IntArray | None
) -> Iterator[tuple[str, int, FloatArray]]:
    if order is None:
        yield from rows
        return
    held = list(rows)
    for place in order.tolist():
        yield held[place]


def _waveforms(shots: Snapshots, settings: DetectionSettings, summary: Summary) -> Recording:
    count = shots.values.shape[2]
    names = _waveform_names(count)
    summary.vitals = names
    metrics = tuple(MetricSpec(name, "[g]", kind="waveform") for name in names)
    detection = build_detection(_asset(metrics), settings)
    waves = Waves(metrics, settings)

    def rows() -> Iterator[tuple[str, int, FloatArray]]:
        last_us = 0
        for index, text in enumerate(shots.time_texts):
            last_us = max(int(shots.times_us[index]), last_us + 1)
            features = [
                waves.features_of(name, shots.values[index, :, channel], shots.sample_rate_hz)
                for channel, name in enumerate(names)
            ]
            yield text, last_us, np.array([value for each in features for value in each.values()])

    return Recording(detection, tuple(each.name for each in detection.derived_metrics()), rows())


def _waveform_names(count: int) -> list[str]:
    return ["vibration"] if count == 1 else [f"vibration_{index}" for index in range(count)]


def waveform_tables(path: Path, bearing: str, shaft_hz: float | None) -> dict[str, Any]:
    """Settings of an ``.npz``'s waveforms from ``balls,ball mm,pitch mm[,contact degrees]``; or BadInput, BadConfig."""
    if path.suffix.lower() != ".npz":
        raise BadConfig(f"--bearing and --shaft-hz are for waveforms (.npz), and {path} is a table")
    own: dict[str, Any] = {} if shaft_hz is None else {"shaft_hz": shaft_hz}
    if bearing:
        try:
            balls, *sizes = bearing.split(",")
            names = ("ball_diameter_mm", "pitch_diameter_mm", "contact_angle_deg")[: max(2, len(sizes))]
            own["bearing"] = {"balls": int(balls), **dict(zip(names, map(float, sizes), strict=True))}
        except ValueError:
            raise BadInput("bearing", f"{bearing!r}: expected balls,ball mm,pitch mm[,contact degrees]") from None
    return dict.fromkeys(_waveform_names(open_snapshots(path).values.shape[2]), own)


def _choose(table: Table, wanted: list[str], excluded: list[str], summary: Summary) -> list[int]:
    unknown = [name for name in (*wanted, *excluded) if name not in table.header]
    if unknown:
        raise BadConfig(f"no column {unknown[0]!r} in {table.path}; there are: {', '.join(table.header)[:300]}")
    for index in table.text_columns:
        summary.left_out[table.header[index]] = "text"
    chosen: list[int] = []
    rows = [row.values for row in itertools.islice(table.rows(), HEAD_ROWS) if not isinstance(row, BadRow)]
    head = np.array(rows).reshape(len(rows), len(table.columns))
    counting = _counting(table, head)
    for index in table.columns:
        name = table.header[index]
        if name in excluded:
            summary.left_out[name] = "excluded"
        elif wanted:
            if name in wanted:
                chosen.append(index)
        elif name.lower() in LABEL_NAMES:
            summary.left_out[name] = "a label by its name; --columns to judge it"
        elif name.lower() in INDEX_NAMES:
            summary.left_out[name] = "a row number by its name; --columns to judge it"
        elif name.lower() in CLOCK_NAMES:
            summary.left_out[name] = "a part of the time by its name; --columns to judge it"
        elif index in counting:
            summary.left_out[name] = "it counts the rows; --columns to judge it"
        else:
            chosen.append(index)
    if not chosen or (wanted and len(chosen) > MAX_VITALS):
        mend = "name fewer" if chosen else "numbers are written 1.5, or 1,5 where ; or tab delimits"
        raise BadInput("columns", f"{len(chosen)} numeric columns to judge, expected 1..{MAX_VITALS}; {mend}")
    if len(chosen) > MAX_VITALS:
        busiest = _busiest(table, head, chosen)
        for index in chosen:
            if index not in busiest:
                summary.left_out[table.header[index]] = (
                    f"more than {MAX_VITALS}; others change more; --columns to judge it"
                )
        chosen = [index for index in chosen if index in busiest]
    return chosen


def _counting(table: Table, head: FloatArray) -> set[int]:
    """Columns that rise by one from row to row of the first rows, as row numbers do whatever their name."""
    if len(head) < LEAST_COUNTED:
        return set()
    steady = (np.diff(head, axis=0) == 1.0).all(axis=0)
    return {index for index, counts in zip(table.columns, steady.tolist(), strict=True) if counts}


def _busiest(table: Table, head: FloatArray, chosen: list[int]) -> set[int]:
    """Those columns whose first rows show the most different values: constants and flags tell the least."""
    seen = {index: len(set(head[:, table.columns.index(index)].tolist())) for index in chosen}
    return set(sorted(chosen, key=lambda index: -seen[index])[:MAX_VITALS])


def _vital_names(headers: list[str]) -> list[str]:
    """Column names as names of vitals: letters, digits, ``_ . -``; unique."""
    names: list[str] = []
    for index, header in enumerate(headers):
        name = re.sub(r"[^A-Za-z0-9_.\-]+", "_", header).strip("_.-")[:100] or f"column_{index}"
        names.append(name if name not in names else f"{name}_{index}")
    return names


def columns_detection(names: Sequence[str], settings: DetectionSettings) -> AssetDetection:
    """Detection for the columns of a table. Raises BadConfig."""
    return build_detection(_asset(tuple(map(MetricSpec, names))), settings)


def read_columns(path: Path, wanted: Collection[str]) -> dict[str, FloatArray]:
    """Those of the columns (n,) that a table has, by their lower-case names, of the rows judged. Raises BadInput."""
    if path.suffix.lower() == ".npz":
        return {}
    table = open_table(path, timeless=True)
    headers = [table.header[index] for index in table.columns]
    places = {name: place for place, name in enumerate(headers) if name.lower() in wanted}
    rows = [row.values for row in table.rows() if not isinstance(row, BadRow)] if places else []
    return {name: np.array([row[place] for row in rows], dtype=np.float64) for name, place in places.items()}


def _asset(metrics: tuple[MetricSpec, ...]) -> AssetDescription:
    return AssetDescription("recording", AssetClass.ROBOT, "recording", "recording", metrics)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def say(text: str) -> None:
    """A remark, on standard error."""
    print(text, file=sys.stderr)
