"""``edge-agent detect``: the device's own detection, run over a recording in one causal pass.

Reads a delimited file (numeric vitals, a time column; without one rows are counted) or an ``.npz`` of waveform
snapshots and writes one line per row: ``time,score,alarm,state,top_channel``. The file takes its place when all is
read. The pipeline is the agent's; no row's verdict knows of a later one. Columns that are not vitals (text,
labels, row numbers) are left out, and that is said. Standard output holds only the ``--json`` summary; progress and
remarks go to standard error.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from edge_agent.detection.settings import DetectionSettings
from edge_agent.files import replacing
from edge_agent.recorded.options import add_recording_arguments, settings_of, spare
from edge_agent.recorded.recording import Recording, Summary, open_recording, say
from fleet_core.errors import BadInput, Permanent
from fleet_core.telemetry import DetectionState

__all__ = ["Recording", "Summary", "open_recording"]

ALARM_STATES = (DetectionState.DEGRADING, DetectionState.CRITICAL)
PROGRESS_EVERY_S = 2.0
ROWS_MEND = (
    "a time is ISO 8601, dd.mm.yyyy HH:MM[:SS], mm/dd/yyyy HH:MM or a number (or count rows with --step-s); "
    "decimal commas need ; or tab between the columns"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``edge-agent detect``."""
    parser.add_argument("file", type=Path, metavar="FILE", help="delimited text with a header, or waveforms (.npz)")
    parser.add_argument("--out", type=Path, required=True, metavar="SCORES", help="where to write the scores (CSV)")
    add_recording_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print a summary as JSON on standard output")


def main_detect(args: argparse.Namespace) -> int:
    """Run the command; 0, or 2 with one line on standard error when input or settings are wrong."""
    try:
        settings = settings_of(args)
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
        say(f"{summary.rows} rows, {len(summary.vitals)} vitals, {summary.alarms} alarm(s), {found}; see {args.out}")
    return 0


def detect(args: argparse.Namespace, settings: DetectionSettings) -> Summary:
    """Judge a file row by row and write the scores. Raises BadInput, BadConfig, OSError."""
    spare(args.out, args.file, args.settings)
    summary = Summary()
    recording = open_recording(args, settings, summary)
    for column, reason in summary.left_out.items():
        say(f"left out: column {column!r} ({reason})")
    started_s = time.perf_counter()
    with replacing(args.out) as out:
        _write(out, recording, summary)
        if not summary.rows:
            raise BadInput("rows", f"{args.file}: no usable row; {summary.first_skipped}; {ROWS_MEND}")
    summary.seconds = round(time.perf_counter() - started_s, 3)
    if summary.rows:
        summary.microseconds_per_row = round(1e6 * summary.seconds / summary.rows, 1)
    if summary.rows_skipped:
        say(f"skipped {summary.rows_skipped} unreadable row(s); {summary.first_skipped}")
    if summary.learned_at_row is None:
        need = f"more than {settings.learn_ticks} rows are needed (fewer: --learn-ticks, 24 at least)"
        say(f"the recording ended while learning: {need}; the score tells of single surprises only")
    return summary


def _write(out: IO[str], recording: Recording, summary: Summary) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("time", "score", "alarm", "state", "top_channel"))
    if recording.order is None:
        writer.writerows(_judged(recording, summary))
        return
    lines = list(_judged(recording, summary))
    writer.writerows(lines[place] for place in recording.order.argsort(kind="stable").tolist())


def _judged(recording: Recording, summary: Summary) -> Iterator[tuple[str, str, int, str, str]]:
    """The lines to write, in order of time."""
    first_row, alarmed, next_word_s = 0, False, time.monotonic() + PROGRESS_EVERY_S
    for texts, times_us, values in recording.blocks():
        (shown,) = recording.detection.on_block(recording.names, times_us, values).verdicts.values()
        for text, score, state, top in zip(texts, shown.score.tolist(), shown.states, shown.top_channels, strict=True):
            alarm = state in ALARM_STATES
            yield text, f"{score:.6f}", int(alarm), state.value, top
            summary.rows += 1
            summary.alarm_rows += alarm
            if alarm and not alarmed:
                summary.alarms += 1
                if summary.first_alarm is None:
                    summary.first_alarm, first_row = text, summary.rows - 1
            alarmed = alarm
            if summary.learned_at_row is None and state is not DetectionState.LEARNING:
                summary.learned_at_row = summary.rows - 1
        if time.monotonic() >= next_word_s:
            next_word_s = time.monotonic() + PROGRESS_EVERY_S
            say(f"{summary.rows} rows, {shown.states[-1].value}, score {shown.score[-1]:.2f}")
    if summary.first_alarm is not None:
        summary.first_alarm_fraction = round(first_row / summary.rows, 4)
