"""Tables, floors and curves of the drives: their figures, which come as one record, made readable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.detection_evaluation.report import Floor, Table
from models.rul.drives import HORIZON_H, evaluate_drives
from models.rul.evaluation.tasks import Outcome, Task

SPLITS = {"time_split": "the same drives, later", "other_drives": "other drives, later"}
LIFT_AIM = 50.0
CALIBRATED = (0.8, 1.25)
_COLUMNS = (
    ("Brier skill", "skill"),
    ("happened", "base_rate"),
    ("observed / expected", "observed_expected"),
    ("... in the top 1 %", "observed_expected_top1"),
    ("lift in the top 1 %", "lift_top1"),
    ("caught by the top 1 %", "caught_top1"),
)


def work(task: Task) -> Outcome:
    """Read, fit and judge. Raises BadInput for another table, OSError."""
    assert task.data is not None, "drives are recorded"
    return Outcome(task, figures=evaluate_drives(task.data, seed=task.seed))


def tables(outcomes: Sequence[Outcome]) -> list[Table]:
    """By split: all moments together with 90 % intervals, each moment; then said against happened."""
    found = []
    for figures in _records(outcomes):
        rows: list[tuple[object, ...]] = []
        for split, title in SPLITS.items():
            record = figures[split]
            rows.append(
                (title, "all", record["n"], record["failed"], *(_with_interval(record, key) for _, key in _COLUMNS))
            )
            for day, each in zip(figures["cut_days"], record["cuts"], strict=True):
                rows.append((title, f"day {day:.0f}", None, None, *(_shown(each[key]) for _, key in _COLUMNS)))
        columns = ("forecast", "moment", "forecasts", "failed", *(name for name, _ in _COLUMNS))
        note = (
            f"{figures['drives']} drives; learnt from what was known at the moment (days since 1970), failed within"
            f" {HORIZON_H:g} h after it; skill against the base rate, which is known only afterwards; 90 % bootstrap"
            " over drives"
        )
        found.append(Table("Drives", columns, rows, note))
        lines = [(title, *each.values()) for split, title in SPLITS.items() for each in figures[split]["reliability"]]
        found.append(Table("Drives: reliability", ("forecast", "forecasts", "said", "happened"), lines))
    return found


def floors(outcomes: Sequence[Outcome]) -> list[Floor]:
    """Better than the base rate, calibrated where one acts, and how far from the lift aimed at."""
    found = []
    for figures in _records(outcomes):
        for split, title in SPLITS.items():
            record, name = figures[split], f"drives ({title})"
            found += [
                Floor(f"{name} Brier skill", record["skill"], 0.0),
                Floor(f"{name} observed / expected in the top 1 %", record["observed_expected_top1"], CALIBRATED[0]),
                Floor(f"{name} the same", record["observed_expected_top1"], CALIBRATED[1], True),
                Floor(f"{name} lift in the top 1 % (aim)", record["lift_top1"], LIFT_AIM),
            ]
    return found


def _records(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return [outcome.figures for outcome in outcomes if outcome.task.corpus == "drives" and outcome.figures]


def _with_interval(record: dict[str, Any], key: str) -> str:
    interval = record["interval_90"].get(key)
    told = _shown(record[key])
    return str(told) if interval is None else f"{told} [{_shown(interval[0])}, {_shown(interval[1])}]"


def _shown(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")
