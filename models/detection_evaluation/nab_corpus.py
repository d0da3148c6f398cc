"""The Numenta Anomaly Benchmark: its series as tasks, its three profiles as a table beside published figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from models.detection_evaluation.nab import PROFILES, Result, Series, read_windows, score_alarms, score_corpus
from models.detection_evaluation.report import Floor, Table
from models.detection_evaluation.tasks import OURS, Task, TaskResult

HEALTHY_GROUP = "artificialNoAnomaly"
RECORDED = "real"
"""Groups of recorded series begin so; the others are artificial."""
STANDARD_FLOOR = 55.0
PUBLISHED = (
    ("Numenta HTM", 70.1, 63.1, 74.3),
    ("CAD OSE", 69.9, 67.0, 73.2),
    ("KNN CAD", 58.0, 43.4, 64.8),
    ("Skyline", 58.2, 46.2, 63.9),
    ("windowed Gaussian", 39.6, 20.9, 47.4),
    ("null", 0.0, 0.0, 0.0),
)


def tasks(data: Path) -> list[Task]:
    """One task per labelled series that is there. Raises OSError, ValueError when the labels cannot be read."""
    root = data / "nab"
    labels = root / "labels" / "combined_windows.json"
    if not labels.is_file():
        return []
    return [
        Task(
            "nab",
            Path(name).parent.name,
            name,
            root / "data" / name,
            windows=tuple((int(first.astype(np.int64)), int(last.astype(np.int64))) for first, last in windows),
            healthy_share=1.0 if Path(name).parent.name == HEALTHY_GROUP else 0.0,
        )
        for name, windows in read_windows(labels).items()
        if (root / "data" / name).is_file()
    ]


def tables(judged: Sequence[TaskResult]) -> list[Table]:
    """The scores of all series there, of each group by the threshold of all, and by alarm onsets alone."""
    done = [each for each in judged if each.task.corpus == "nab" and each.recording is not None]
    if not done:
        return []
    groups = sorted({each.task.group for each in done if each.task.windows})
    scores: list[tuple[object, ...]] = []
    by_group: list[tuple[object, ...]] = []
    recorded: list[tuple[object, ...]] = []
    real = [each.task.name for each in done if each.task.group.startswith(RECORDED)]
    by_onset: list[tuple[object, ...]] = []
    for detector in done[0].verdicts:
        series = {each.task.name: _series(each, detector) for each in done}
        found = score_corpus(series)
        standard = found["standard"]
        scores.append((detector, *_scores(found), _counts(found)))
        members = [[each.task.name for each in done if each.task.group == group] for group in groups]
        by_group.append((detector, *(round(standard.of(names), 1) for names in members)))
        alone = score_corpus({name: series[name] for name in real})
        recorded.append((detector, *_scores(alone), _counts(alone)))
        by_onset.append((detector, *_scores(score_alarms(series))))
    found_note = "One threshold per profile, chosen on these series as NAB does. tp/fp/fn: standard profile."
    ours = [
        Table(f"NAB, {len(done)} series", ("detector", *PROFILES, "tp/fp/fn"), scores, found_note),
        Table(
            f"NAB, {len(real)} recorded series", ("detector", *PROFILES, "tp/fp/fn"), recorded, "Their own thresholds."
        ),
        Table("NAB by group", ("detector", *groups), by_group, "Standard profile, threshold of all."),
        Table("NAB, alarm onsets", ("detector", *PROFILES), by_onset, "Alarm onsets alone; no threshold is chosen."),
    ]
    published = Table(
        "NAB, published",
        ("detector", *PROFILES),
        [tuple(row) for row in PUBLISHED],
        "NAB's scoreboard (github.com/numenta/NAB), all 58 series: these are more than the series judged here.",
    )
    return [*ours, published]


def floors(judged: Sequence[TaskResult]) -> list[Floor]:
    """The floors over the recorded (not artificial) series, with the figures that were measured."""
    done = [each for each in judged if each.task.corpus == "nab" and each.recording is not None]
    real = {each.task.name: _series(each, OURS) for each in done if each.task.group.startswith(RECORDED)}
    if not any(each.windows for each in real.values()):
        return []
    score = score_corpus(real)["standard"].score
    return [Floor(f"NAB standard, {len(real)} recorded series", score, STANDARD_FLOOR)]


def _series(judged: TaskResult, detector: str) -> Series:
    assert judged.recording is not None
    verdict = judged.verdicts[detector]
    return Series(judged.recording.times_us, verdict.score, judged.task.windows, verdict.alarm)


def _counts(results: Mapping[str, Result]) -> str:
    standard = results["standard"]
    return f"{standard.tp}/{standard.fp}/{standard.fn}"


def _scores(results: Mapping[str, Result]) -> list[float]:
    return [round(results[name].score, 1) for name in PROFILES]
