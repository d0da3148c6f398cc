"""Bearings run to failure: how early the first alarm came, which alarm still stood at the end, what was missed.

FEMTO as raw waveforms and as features, IMS tests 1 and 2: the whole rig as one asset, and each bearing alone. Bearings
of IMS that did not fail count as healthy for the first half of the run; later the failing ones shake the whole rig.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.detection_evaluation.report import Floor, Table
from models.detection_evaluation.tasks import OURS, Task, TaskResult

FEMTO_STEP_S = 10.0
HEALTHY_SHARE = 0.5
END_SHARE = 0.95
IN_TIME_PERCENT = (20.0, 90.0)
IN_TIME_FLOOR = 80.0
IMS_FAILURES = {
    ("1st_test", "Bearing 3"): "inner race",
    ("1st_test", "Bearing 4"): "roller",
    ("2nd_test", "Bearing 1"): "outer race",
}


def tasks(data: Path) -> list[Task]:
    """One task per bearing and rig that is there."""
    raw = [
        Task("bearings", "FEMTO waveforms", f"femto/{path.stem}", path, fails="bearing", step_s=FEMTO_STEP_S)
        for path in sorted((data / "femto" / "raw").glob("*.npz"))
    ]
    features = [
        Task("bearings", "FEMTO features", f"femto/{path.stem}", path, fails="bearing", step_s=FEMTO_STEP_S)
        for path in sorted((data / "femto" / "features").glob("*.csv"))
    ]
    return raw + features + [task for path in sorted((data / "ims").glob("*.csv")) for task in _ims(path)]


def tables(judged: Sequence[TaskResult]) -> list[Table]:
    """Each run to failure as the device saw it, and the detectors compared."""
    done = [each for each in judged if each.task.fails and each.recording is not None]
    if not done:
        return []
    rows = [(each.task.name, each.task.fails, *course(each, OURS)) for each in done]
    columns = ("recording", "failed", "rows", "first alarm % of life", "lead h", "standing alarm since %", "alarms")
    single = Table("Run to failure", columns, rows, "A standing alarm is one in the last 5 % of life; none: missed.")
    return [single, Table("Run to failure, compared", _COMPARED, _compared(done), "Over the runs above.")]


def floors(judged: Sequence[TaskResult]) -> list[Floor]:
    """On how many runs the first alarm came after the run-in and before the last tenth of life."""
    done = [each for each in judged if each.task.fails and each.recording is not None]
    if not done:
        return []
    first = [course(each, OURS)[1] for each in done]
    earliest, latest = IN_TIME_PERCENT
    share = 100.0 * sum(each is not None and earliest <= each <= latest for each in first) / len(first)
    name = f"first alarm at {earliest:g} to {latest:g} % of life, % of {len(first)} runs to failure"
    return [Floor(name, share, IN_TIME_FLOOR)]


def course(judged: TaskResult, detector: str) -> tuple[int, float | None, float | None, float | None, int]:
    """Rows, first alarm (% of rows), its lead (h), begin of the alarm that stood at the end (%), number of alarms."""
    verdict = judged.verdicts[detector]
    rows, onsets = len(verdict.alarm), verdict.onsets()
    if not len(onsets):
        return rows, None, None, None, 0
    late = np.flatnonzero(verdict.alarm[int(END_SHARE * rows) :])
    standing = None
    if len(late):
        last = int(END_SHARE * rows) + int(late[-1])
        standing = round(100.0 * float(onsets[onsets <= last][-1]) / rows, 1)
    lead_h = round(24.0 * judged.days(int(onsets[0]), rows), 2)
    return rows, round(100.0 * float(onsets[0]) / rows, 1), lead_h, standing, len(onsets)


_COMPARED = ("detector", "runs", "with an alarm", "alarm at the end", "median first alarm %", "alarms per run")


def _compared(done: Sequence[TaskResult]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for detector in done[0].verdicts:
        found = [course(each, detector) for each in done]
        first = [each[1] for each in found if each[1] is not None]
        standing = sum(each[3] is not None for each in found)
        median = round(float(np.median(first)), 1) if first else None
        each_run = round(sum(each[4] for each in found) / len(found), 1)
        rows.append((detector, len(found), len(first), standing, median, each_run))
    return rows


def _ims(path: Path) -> list[Task]:
    """The rig, and each of its bearings (a bearing of test 1 has two sensors, -A and -B)."""
    with path.open(encoding="utf-8", errors="replace") as file:
        header = [cell.strip() for cell in file.readline(4096).split(",")]
    failed = {bearing: what for (test, bearing), what in IMS_FAILURES.items() if test == path.stem}
    found = [Task("bearings", "IMS rig", f"ims/{path.stem}", path, fails=", ".join(failed.values()))]
    sensors = [name for name in header if name.startswith("Bearing")]
    for bearing in sorted({name.removesuffix("-A").removesuffix("-B") for name in sensors}):
        columns = tuple(name for name in sensors if name.startswith(bearing))
        what = failed.get(bearing, "")
        group = "IMS failing bearing" if what else "IMS healthy bearings, first half"
        share = 0.0 if what else HEALTHY_SHARE
        name = f"ims/{path.stem}/{bearing}"
        found.append(Task("bearings", group, name, path, columns, healthy_share=share, fails=what))
    return found
