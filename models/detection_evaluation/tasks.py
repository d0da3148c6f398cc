"""Tasks of the evaluation: one for each series, which the device's detection and the plain detectors judge alike."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fleet_core.errors import ForestallError
from models.detection_evaluation.baselines import BASELINES
from models.detection_evaluation.judging import DetectorRun, Recording, judge_file, judge_table, novelty_alone
from models.fleet_simulation import Drift, Kind, simulate_asset

OURS = "edge-agent detect"
NOVELTY = "its novelty alone"
US_PER_DAY = 86_400_000_000
DAYS_PER_MONTH = 30.0


@dataclass(frozen=True, slots=True)
class Simulated:
    """A simulated asset instead of a file."""

    seed: int
    days: float
    kind: Kind
    load_visible: bool
    drift: Drift | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One series. ``group`` gathers tasks in the tables; the first ``healthy_share`` of its rows is known to be
    healthy (0: not known); ``windows`` are labelled times in microseconds; ``step_s`` overrides the times' own step
    where a file has none; ``fails`` names what failed at the end, if anything did."""

    corpus: str
    group: str
    name: str
    source: Path | Simulated
    columns: tuple[str, ...] = ()
    windows: tuple[tuple[int, int], ...] = ()
    healthy_share: float = 0.0
    step_s: float | None = None
    fails: str = ""
    baselines: tuple[str, ...] = tuple(BASELINES)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """A task with the output of every detector; ``refused`` says why nothing was judged."""

    task: Task
    recording: Recording | None = None
    verdicts: dict[str, DetectorRun] = field(default_factory=dict)
    seconds: float = 0.0
    refused: str = ""

    def days(self, first: int, last: int) -> float:
        """Time from row ``first`` to before row ``last``."""
        assert self.recording is not None
        times_us = self.recording.times_us
        if self.task.step_s is not None:
            return (last - first) * self.task.step_s / 86_400.0
        step_us = float(np.median(np.diff(times_us))) if len(times_us) > 1 else 0.0
        return max(0.0, float(times_us[last - 1] - times_us[first]) + step_us) / US_PER_DAY if last > first else 0.0


def judge(task: Task) -> TaskResult:
    """Run all detectors over one series. A series that cannot be judged says so in ``refused``. Raises BadConfig."""
    started_s = time.process_time()
    try:
        if isinstance(task.source, Simulated):
            how = task.source
            asset = simulate_asset(how.seed, how.days, drift=how.drift, load_visible=how.load_visible, kind=how.kind)
            recording = Recording(asset.names, asset.times_us, asset.values, {})
            ours = judge_table(asset.times_us, asset.names, asset.values)
        else:
            recording, ours = judge_file(task.source, task.columns)
    except (ForestallError, OSError) as error:
        return TaskResult(task, refused=str(error))
    seconds = time.process_time() - started_s
    verdicts = {OURS: ours}
    if task.corpus == "nab":  # what max(sustained evidence, novelty) costs where each flagged row is counted
        verdicts[NOVELTY] = novelty_alone(recording, ours.learned)
    for name in task.baselines:
        verdicts[name] = BASELINES[name](recording.values, max(2, ours.learned))
    return TaskResult(task, recording, verdicts, seconds)


def slim(judged: TaskResult, scores: bool) -> TaskResult:
    """The same without the values, and without the ``scores`` unless wanted: thousands of assets fit in memory."""
    if judged.recording is None:
        return judged
    recording = dataclasses.replace(judged.recording, values=np.zeros((0, len(judged.recording.names))))
    kept = {name: v if scores else dataclasses.replace(v, score=v.score[:0]) for name, v in judged.verdicts.items()}
    return dataclasses.replace(judged, recording=recording, verdicts=kept)
