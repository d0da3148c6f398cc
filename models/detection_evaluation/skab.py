"""SKAB, a water pump's test bed: rows flagged (F1, false and missed alarm rate, pooled over all rows), and delays.

FAR is the share of normal rows flagged, MAR the share of anomalous rows not flagged, both over all rows of all files
together, as SKAB's own evaluation has them. Rows the device learns from count as not flagged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.detection_evaluation.judging import Recording
from models.detection_evaluation.report import Floor, Table
from models.detection_evaluation.tasks import OURS, Task, TaskResult

BoolArray = NDArray[np.bool_]

SEEN_WITHIN_S = 60.0
FLOOR_GROUP = "valve1"
PUBLISHED = (
    ("Conv-AE", 0.79, 13.69, 17.77),
    ("MSET", 0.73, 20.82, 20.08),
    ("T-squared+Q (PCA)", 0.67, 13.95, 36.32),
    ("T-squared", 0.56, 12.14, 52.56),
    ("isolation forest", 0.40, 6.86, 72.09),
    ("null", 0.0, 0.0, 100.0),
)
_DELAYS_NOTE = (
    "Start: from an anomaly's first row to the first alarm row in it (0 when an alarm stood already). "
    "End: from its last row to the first row without alarm."
)


@dataclass(frozen=True, slots=True)
class Rates:
    """Rows flagged against rows labelled; rates 0..1, NaN where there is nothing to divide by."""

    f1: float
    far: float
    mar: float


def tasks(data: Path) -> list[Task]:
    """One task per file that is there; the anomaly-free one is a healthy stretch."""
    root = data / "skab"
    labelled = [
        Task("skab", path.parent.name, f"{path.parent.name}/{path.name}", path)
        for path in sorted(root.glob("*/*.csv"))
        if path.parent.name != "anomaly-free"
    ]
    healthy = [
        Task("skab", "SKAB anomaly-free", f"anomaly-free/{path.name}", path, healthy_share=1.0)
        for path in sorted((root / "anomaly-free").glob("*.csv"))
    ]
    return labelled + healthy


def tables(judged: Sequence[TaskResult]) -> list[Table]:
    """Rates and delays of each detector over the labelled files, beside published ones."""
    done = [each for each in judged if each.task.corpus == "skab" and each.recording is not None]
    done = [each for each in done if each.recording is not None and "anomaly" in each.recording.labels]
    if not done:
        return []
    flagged: list[tuple[object, ...]] = []
    judged_rows: list[tuple[object, ...]] = []
    delays: list[tuple[object, ...]] = []
    truth = [_truth(each) for each in done]
    for detector in done[0].verdicts:
        flags = [each.verdicts[detector].alarm for each in done]
        flagged.append((detector, *_shown(rates(np.concatenate(truth), np.concatenate(flags)))))
        after = _after_learning(done, detector, truth, flags)
        judged_rows.append((detector, *_shown(rates(*(np.concatenate(part) for part in after)))))
        starts = _delays_s(done, flags, truth)
        ends = _delays_s(done, [~each for each in flags], [~each for each in truth])
        delays.append((detector, *_delay(starts), *_delay(ends)))
    rate_columns = ("detector", "F1", "FAR %", "MAR %")
    delay = (f"in {SEEN_WITHIN_S:g} s", "median s")
    delay_columns = ("detector", *(f"{edge} {each}" for edge in ("start", "end") for each in delay))
    note = "SKAB's leaderboard v0.9 (github.com/waico/SKAB), all 34 files, unsupervised."
    return [
        Table(f"SKAB, {len(done)} files", rate_columns, flagged, "All rows; those learnt from count as not flagged."),
        Table("SKAB, rows after learning", rate_columns, judged_rows),
        Table("SKAB, delays", delay_columns, delays, _DELAYS_NOTE),
        Table("SKAB, published", rate_columns, [tuple(row) for row in PUBLISHED], note),
    ]


def floors(judged: Sequence[TaskResult]) -> list[Floor]:
    """The floors on the valve's files (``FLOOR_GROUP``), with the figures that were measured."""
    done = [each for each in judged if each.task.group == FLOOR_GROUP and each.recording is not None]
    if not done:
        return []
    truth = np.concatenate([_truth(each) for each in done])
    found = rates(truth, np.concatenate([each.verdicts[OURS].alarm for each in done]))
    return [
        Floor(f"SKAB {FLOOR_GROUP}, F1", found.f1, 0.72),
        Floor(f"SKAB {FLOOR_GROUP}, FAR %", 100.0 * found.far, 20.0, at_most=True),
    ]


def rates(truth: BoolArray, flags: BoolArray) -> Rates:
    """Rates over rows (n,)."""
    tp, fp = int((truth & flags).sum()), int((~truth & flags).sum())
    fn, tn = int((truth & ~flags).sum()), int((~truth & ~flags).sum())
    return Rates(_ratio(2 * tp, 2 * tp + fp + fn), _ratio(fp, fp + tn), _ratio(fn, tp + fn))


def delays_s(judged: TaskResult, flags: BoolArray, truth: BoolArray) -> list[float]:
    """Per stretch of true rows (one that began before the first row is left out) the seconds to its first flagged
    row; infinite when none in it is."""
    assert judged.recording is not None
    times_us = judged.recording.times_us
    found: list[float] = []
    for start in (int(row) for row in np.flatnonzero(truth[1:] & ~truth[:-1]) + 1):
        length = int(np.argmin(np.append(truth[start:], False)))
        hits = np.flatnonzero(flags[start : start + length])
        found.append(float(times_us[start + hits[0]] - times_us[start]) / 1e6 if len(hits) else float("inf"))
    return found


def anomaly_windows(recording: Recording) -> list[tuple[int, int]]:
    """First and last time of each labelled stretch, in microseconds."""
    if "anomaly" not in recording.labels:
        return []
    edges = np.flatnonzero(np.diff((recording.labels["anomaly"] > 0.5).astype(np.int8), prepend=0, append=0))
    return [
        (int(recording.times_us[first]), int(recording.times_us[last - 1]))
        for first, last in zip(edges[::2], edges[1::2], strict=True)
    ]


def _delays_s(done: Sequence[TaskResult], flags: Sequence[BoolArray], truth: Sequence[BoolArray]) -> list[float]:
    return [each for parts in zip(done, flags, truth, strict=True) for each in delays_s(*parts)]


def _truth(judged: TaskResult) -> BoolArray:
    assert judged.recording is not None
    return np.asarray(judged.recording.labels["anomaly"] > 0.5)


def _after_learning(
    done: Sequence[TaskResult], detector: str, truth: Sequence[BoolArray], flags: Sequence[BoolArray]
) -> tuple[list[BoolArray], list[BoolArray]]:
    learned = [each.verdicts[detector].learned for each in done]
    return (
        [each[start:] for each, start in zip(truth, learned, strict=True)],
        [each[start:] for each, start in zip(flags, learned, strict=True)],
    )


def _shown(found: Rates) -> tuple[float, float, float]:
    return round(found.f1, 3), round(100 * found.far, 2), round(100 * found.mar, 2)


def _delay(found: Sequence[float]) -> tuple[str, float | None]:
    seen = sorted(found)
    median = seen[len(seen) // 2] if seen else float("inf")
    return f"{sum(each <= SEEN_WITHIN_S for each in seen)}/{len(seen)}", median if np.isfinite(median) else None


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
