"""``edge-agent detect``: the device's own detection, run over a recording in one causal pass.

Reads a delimited file (numeric vitals, a time column; without one rows are counted) or an ``.npz`` of waveform
snapshots and writes one line per row: ``time,score,alarm,state,top_channel``. The file takes its place when all is
read. The pipeline is the agent's; each row is judged before the next one is read. Columns that are not vitals (text,
labels, row numbers) are left out, and that is said. Standard output holds only the ``--json`` summary; progress and
remarks go to standard error.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import time
import tomllib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from edge_agent.acquisition._tables import BadRow, Snapshots, Table, open_snapshots, open_table
from edge_agent.acquisition.api import AssetDescription
from edge_agent.detection.api import AssetDetection, ComponentView
from edge_agent.detection.pipeline import build_detection
from edge_agent.detection.settings import DetectionSettings
from edge_agent.files import replacing
from fleet_core.assets import AssetClass
from fleet_core.errors import BadConfig, BadInput, Permanent
from fleet_core.plugins import parse_config
from fleet_core.telemetry import DetectionState, MetricSpec, Sample, Waveform

MAX_VITALS = 60
LABEL_NAMES = ("anomaly", "changepoint", "label", "labels", "is_anomaly", "target", "ground_truth")
INDEX_NAMES = ("", "index", "unnamed: 0", "row", "snapshot")
ALARM_STATES = (DetectionState.DEGRADING, DetectionState.CRITICAL)
PROGRESS_EVERY_S = 2.0
MAX_STEP_S = 86_400.0
ROWS_MEND = (
    "a time is ISO 8601, dd.mm.yyyy HH:MM[:SS] or a number (or count rows with --step-s); "
    "decimal commas need ; or tab between the columns"
)


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``edge-agent detect``."""
    parser.add_argument("file", type=Path, metavar="FILE", help="delimited text with a header, or waveforms (.npz)")
    parser.add_argument("--out", type=Path, required=True, metavar="SCORES", help="where to write the scores (CSV)")
    parser.add_argument("--time-column", default="", metavar="NAME", help="the time column (else it is found)")
    parser.add_argument("--step-s", type=float, metavar="S", help="count the rows, S seconds apart; read no times")
    parser.add_argument("--columns", default="", metavar="A,B", help="judge only these columns")
    parser.add_argument("--exclude", default="", metavar="A,B", help="columns to leave out, such as labels")
    parser.add_argument("--settings", type=Path, metavar="TOML", help="settings as in [asset.detection]")
    parser.add_argument("--learn-ticks", type=int, metavar="N", help="rows to learn from (default 144)")
    parser.add_argument("--false-alarms-per-tick", type=float, metavar="P", help="calibrated rate (default 1e-4)")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON on standard output")


def main_detect(args: argparse.Namespace) -> int:
    """Run the command; 0, or 2 with one line on standard error when input or settings are wrong."""
    try:
        settings = _settings(args)
        summary = detect(args, settings)
    except Permanent as error:
        print(f"edge-agent detect: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"edge-agent detect: {error.filename or args.out}: {error.strerror}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(summary.__dict__))
    else:
        found = f"first alarm at {summary.first_alarm}" if summary.first_alarm is not None else "no alarm"
        _say(f"{summary.rows} rows, {len(summary.vitals)} vitals, {summary.alarms} alarm(s), {found}; see {args.out}")
    return 0


def detect(args: argparse.Namespace, settings: DetectionSettings) -> Summary:
    """Judge a file row by row and write the scores. Raises BadInput, BadConfig, OSError."""
    _spare(args.out, args.file, args.settings)
    summary = Summary()
    if args.file.suffix.lower() == ".npz":
        detection, rows = _waveform_rows(open_snapshots(args.file), settings, summary)
    else:
        if args.step_s is not None and not 0 < args.step_s <= MAX_STEP_S:
            raise BadConfig(f"--step-s must be above 0 and at most {MAX_STEP_S:g}")
        table = open_table(args.file, args.time_column, args.step_s, timeless=True)
        if table.time_column is None and args.step_s is None:
            _say(f"no time column found: rows are counted, {table.step_s:g} s apart (else --time-column or --step-s)")
        detection, rows = _table_rows(table, _names(args.columns), _names(args.exclude), settings, summary)
    for column, reason in summary.left_out.items():
        _say(f"left out: column {column!r} ({reason})")
    started_s = time.perf_counter()
    with replacing(args.out) as out:
        _write(out, rows, detection, summary, settings)
        if not summary.rows:
            raise BadInput("rows", f"{args.file}: no usable row; {summary.first_skipped}; {ROWS_MEND}")
    summary.seconds = round(time.perf_counter() - started_s, 3)
    if summary.rows:
        summary.microseconds_per_row = round(1e6 * summary.seconds / summary.rows, 1)
    if summary.rows_skipped:
        _say(f"skipped {summary.rows_skipped} unreadable row(s); {summary.first_skipped}")
    if summary.learned_at_row is None:
        _say(f"the recording ended while learning: {settings.learn_ticks} usable rows are needed (--learn-ticks)")
    return summary


def _spare(out: Path, *inputs: Path | None) -> None:
    """Refuse to write over what is read. Raises BadConfig, OSError."""
    for path in inputs:
        if path is not None and out.exists() and out.samefile(path):
            raise BadConfig(f"--out {out} is the file that is read; name another one")


def _write(
    out: IO[str], rows: Iterator[str], detection: AssetDetection, summary: Summary, settings: DetectionSettings
) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("time", "score", "alarm", "state", "top_channel"))
    first_row, alarmed, next_word_s = 0, False, time.monotonic() + PROGRESS_EVERY_S
    for time_text in rows:
        view = _worst(detection.views())
        alarm = view.state in ALARM_STATES
        writer.writerow((time_text, f"{view.score:.6f}", int(alarm), view.state.value, view.top_channel))
        summary.rows += 1
        summary.alarm_rows += alarm
        if alarm and not alarmed:
            summary.alarms += 1
            if summary.first_alarm is None:
                summary.first_alarm, first_row = time_text, summary.rows - 1
        alarmed = alarm
        if summary.learned_at_row is None and view.state is not DetectionState.LEARNING:
            summary.learned_at_row = summary.rows - 1
        if time.monotonic() >= next_word_s:
            next_word_s = time.monotonic() + PROGRESS_EVERY_S
            _say(f"{summary.rows} rows, {view.state.value}, score {view.score:.2f}")
    if summary.first_alarm is not None:
        summary.first_alarm_fraction = round(first_row / summary.rows, 4)


def _table_rows(
    table: Table, wanted: list[str], excluded: list[str], settings: DetectionSettings, summary: Summary
) -> tuple[AssetDetection, Iterator[str]]:
    chosen = _choose(table, wanted, excluded, summary)
    names = _vital_names([table.header[i] for i in chosen])
    summary.vitals = names
    places = [table.columns.index(i) for i in chosen]
    detection = build_detection(_asset(tuple(MetricSpec(name) for name in names)), settings)

    def rows() -> Iterator[str]:
        last_us = 0
        for row in table.rows():
            if isinstance(row, BadRow):
                summary.rows_skipped += 1
                if summary.first_skipped is None:
                    summary.first_skipped = f"the first is line {row.line}, {row.text!r}: {row.reason}"
                continue
            summary.rows_out_of_order += row.time_us <= last_us
            # the order of the rows is the truth of a recording; equal and stepped-back times must not drop rows
            last_us = max(row.time_us, last_us + 1)
            detection.on_samples(
                [Sample(name, last_us, row.values[place]) for name, place in zip(names, places, strict=True)]
            )
            yield row.time_text

    return detection, rows()


def _waveform_rows(
    shots: Snapshots, settings: DetectionSettings, summary: Summary
) -> tuple[AssetDetection, Iterator[str]]:
    count = shots.values.shape[2]
    names = ["vibration"] if count == 1 else [f"vibration_{index}" for index in range(count)]
    summary.vitals = names
    detection = build_detection(_asset(tuple(MetricSpec(name, "[g]", kind="waveform") for name in names)), settings)

    def rows() -> Iterator[str]:
        last_us = 0
        for index, text in enumerate(shots.time_texts):
            last_us = max(int(shots.times_us[index]), last_us + 1)
            for channel, name in enumerate(names):
                values = array("f", shots.values[index, :, channel].tobytes())
                detection.on_waveform(Waveform(name, last_us, shots.sample_rate_hz, values))
            yield text

    return detection, rows()


def _choose(table: Table, wanted: list[str], excluded: list[str], summary: Summary) -> list[int]:
    unknown = [name for name in (*wanted, *excluded) if name not in table.header]
    if unknown:
        raise BadConfig(f"no column {unknown[0]!r} in {table.path}; there are: {', '.join(table.header)[:300]}")
    for index in table.text_columns:
        summary.left_out[table.header[index]] = "text"
    chosen: list[int] = []
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
        else:
            chosen.append(index)
    if not 1 <= len(chosen) <= MAX_VITALS:
        mend = "use --columns" if chosen else "numbers are written 1.5, or 1,5 where ; or tab delimits"
        raise BadInput("columns", f"{len(chosen)} numeric columns to judge, expected 1..{MAX_VITALS}; {mend}")
    return chosen


def _vital_names(headers: list[str]) -> list[str]:
    """Column names as names of vitals: letters, digits, ``_ . -``; unique."""
    names: list[str] = []
    for index, header in enumerate(headers):
        name = re.sub(r"[^A-Za-z0-9_.\-]+", "_", header).strip("_.-")[:100] or f"column_{index}"
        names.append(name if name not in names else f"{name}_{index}")
    return names


def _asset(metrics: tuple[MetricSpec, ...]) -> AssetDescription:
    return AssetDescription("recording", AssetClass.ROBOT, "recording", "recording", metrics)


def _worst(views: tuple[ComponentView, ...]) -> ComponentView:
    return max(views, key=lambda view: (view.state in ALARM_STATES, view.score))


def _settings(args: argparse.Namespace) -> DetectionSettings:
    table: dict[str, Any] = {}
    if args.settings is not None:
        try:
            table = tomllib.loads(args.settings.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadConfig(f"{args.settings}: {error}") from None
    # a recording's clock says nothing of the asset's daily rhythm: only rows count, unless the settings say more
    table.setdefault("learn_span_h", 0.0)
    if args.learn_ticks is not None:
        table["learn_ticks"] = args.learn_ticks
    if args.false_alarms_per_tick is not None:
        table["false_alarms_per_tick"] = args.false_alarms_per_tick
    return parse_config(DetectionSettings, table, "settings")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _say(text: str) -> None:
    print(text, file=sys.stderr)
