"""Runs the device's own detection over a recording or a table; the only module of the evaluation that calls it.

The code of ``edge-agent detect`` opens and judges files, in blocks of its own size and with its default settings.
Tables (simulated assets) go through the same pipeline. A recording that the command refuses raises BadInput with the
command's message.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.api import AssetDetection
from edge_agent.detection.judging.novelty import Novelty
from edge_agent.detection.pipeline import NEWS
from edge_agent.recorded import offline, recording
from edge_agent.recorded.options import settings_of
from fleet_core.errors import BadInput
from fleet_core.telemetry import DetectionState


@dataclass(frozen=True, slots=True)
class Recording:
    """Rows of one asset: times (n,) rising, values (n, c) with NaN for missing, label columns (n,) by name."""

    names: tuple[str, ...]
    times_us: NDArray[np.int64]
    values: FloatArray
    labels: dict[str, FloatArray]


@dataclass(frozen=True, slots=True)
class DetectorRun:
    """Output of a detector for each row: score (n,) and alarm (n,); it learnt from the first ``learned`` rows."""

    score: FloatArray
    alarm: NDArray[np.bool_]
    learned: int

    def onsets(self) -> NDArray[np.int64]:
        """Rows in which an alarm begins."""
        return np.flatnonzero(np.diff(self.alarm.astype(np.int8), prepend=0) > 0)


def judge_file(path: Path, columns: Sequence[str] = ()) -> tuple[Recording, DetectorRun]:
    """Judge a file (or some ``columns`` of it) as ``edge-agent detect`` does. Raises BadInput, BadConfig, OSError."""
    args = _arguments(path, columns)
    with contextlib.redirect_stderr(io.StringIO()):  # remarks on columns left out
        opened = recording.open_recording(args, settings_of(args), recording.Summary())
    blocks: list[tuple[IntArray, FloatArray]] = []

    def passing() -> Iterator[tuple[IntArray, FloatArray]]:
        for _, times_us, values in opened.blocks():
            blocks.append((times_us, values))
            yield times_us, values

    verdict = _judge(opened.detection, opened.names, passing())
    if not blocks:
        raise BadInput("recording", f"{path}: no usable row")
    times_us, values = (np.concatenate(part) for part in zip(*blocks, strict=True))
    labels = recording.read_columns(path, recording.LABEL_NAMES)
    if opened.order is not None:
        labels = {name: each[opened.order] for name, each in labels.items()}
    return Recording(opened.names, times_us, values, labels), verdict


def judge_table(times_us: IntArray, names: Sequence[str], values: FloatArray) -> DetectorRun:
    """Judge aligned rows (n, c) in one causal pass, with the settings ``edge-agent detect`` has."""
    starts = range(0, len(times_us), recording.BLOCK_ROWS)
    cut = ((times_us[at : at + recording.BLOCK_ROWS], values[at : at + recording.BLOCK_ROWS]) for at in starts)
    return _judge(recording.columns_detection(names, settings_of(_arguments(Path("table")))), names, cut)


def novelty_alone(judged: Recording, learned: int) -> DetectorRun:
    """The novelty part of the device's score, which judges single rows; an alarm where novelty alone would flag."""
    novelty = Novelty(len(judged.names))
    score = np.concatenate(
        [
            novelty.run(judged.times_us[at : at + recording.BLOCK_ROWS], judged.values[at : at + recording.BLOCK_ROWS])
            for at in range(0, len(judged.times_us), recording.BLOCK_ROWS)
        ]
    )
    return DetectorRun(score, score >= NEWS, learned)


def _arguments(path: Path, columns: Sequence[str] = ()) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    offline.add_arguments(parser)
    chosen = ["--columns", ",".join(columns)] if columns else []
    return parser.parse_args([str(path), "--out", os.devnull, *chosen])


def _judge(
    detection: AssetDetection, names: Sequence[str], blocks: Iterable[tuple[IntArray, FloatArray]]
) -> DetectorRun:
    scores: list[FloatArray] = []
    states: list[DetectionState] = []
    for times_us, values in blocks:
        (shown,) = detection.on_block(names, times_us, values).verdicts.values()
        scores.append(shown.score)
        states += shown.states
    learned = next((row for row, state in enumerate(states) if state is not DetectionState.LEARNING), len(states))
    alarm = np.array([state in offline.ALARM_STATES for state in states], dtype=np.bool_)
    return DetectorRun(np.concatenate(scores) if scores else np.zeros(0), alarm, learned)
