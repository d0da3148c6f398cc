"""Probability of failure within 72 h for bearings of motors: simulated ones with physics of their own, and NASA/IMS.

The library is simulated with the shipped ranges. The test units come from the same generator with other parameters
(lives, exponents of damage growth, loudness, noise, replacement) and other seeds: they share the shape of the law with
the library, but not its numbers. The IMS bearings are recorded; each of the two tests is judged by the simulated
library and the other test.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fleet_server.prognosis.history import read_history
from fleet_server.prognosis.library import Trajectory
from fleet_server.prognosis.rul.histories import Floats, Histories, Unit
from fleet_server.prognosis.rul.model import RulModel, RulSettings
from models.detection_evaluation.report import Table
from models.rul import metrics
from models.rul.evaluation.cuts import ACTING_H, Cuts, coverage_by_phase, joined, judge_lives, known_within
from models.rul.evaluation.tasks import Outcome, Task
from models.simulation import Ranges, simulate_bearings

LIBRARY_UNITS, LIBRARY_SEED = 120, 71_001
TEST_UNITS, TEST_SEED = 80, 90_210
HORIZONS_H = (24.0, ACTING_H, 720.0)
OTHER_RANGES = Ranges(
    life_median_h=120.0,
    life_log_sigma=0.6,
    end_ratio_median=4.5,
    end_ratio_log_sigma=0.5,
    exponent_range=(0.7, 2.2),
    first_damage_range=(0.006, 0.04),
    healthy_range_h=(12.0, 120.0),
    noise_range=(0.01, 0.045),
    replaced_share=0.3,
)
IMS_TESTS = ("1st_test.csv", "2nd_test.csv")
SETS = ("simulated motors", "IMS bearings")


def tasks(data: Path | None, seeds: int) -> list[Task]:
    """One simulated fleet per seed; the two IMS tests when they are there."""
    found = [Task("motors", SETS[0], "other physics", seed) for seed in range(seeds)]
    if data is not None and (data / "ims").is_dir():
        found += [Task("motors", SETS[1], IMS_TESTS[part], 0, part, True, data / "ims") for part in range(2)]
    return found


def work(task: Task) -> Outcome:
    """Fit on a library, judge units it has not seen."""
    past = simulate_bearings(LIBRARY_UNITS, LIBRARY_SEED + task.seed)
    if task.data is None:
        tested = simulate_bearings(TEST_UNITS, TEST_SEED + task.seed, OTHER_RANGES)
    else:
        past += read_history(task.data / IMS_TESTS[1 - task.part]).trajectories
        tested = read_history(task.data / IMS_TESTS[task.part]).trajectories
    started = time.perf_counter()
    model = RulModel.fit(as_histories(past), RulSettings(seed=task.seed, horizons=HORIZONS_H, whole_mean=True))
    spent = time.perf_counter() - started
    first = 1000 * (task.seed + task.part)
    return Outcome(task, judge_lives(model, as_histories(tested), first, horizon=ACTING_H), fit_s=spent)


def as_histories(trajectories: Sequence[Trajectory]) -> Histories:
    """One channel: the indicator over its healthy level, by hours."""
    units = (Unit(past.unit_serial, past.hours, past.ratio[:, None], past.failed) for past in trajectories)
    return Histories(tuple(units), ("ratio",))


def cuts_of(outcomes: Sequence[Outcome], name: str) -> Cuts | None:
    """All forecasts of a set."""
    found = [outcome.cuts for outcome in outcomes if outcome.task.name == name and outcome.cuts is not None]
    return joined(found) if found else None


def tables(outcomes: Sequence[Outcome]) -> list[Table]:
    """Probabilities and intervals by set, then said against happened."""
    sets = {name: cuts for name in SETS if (cuts := cuts_of(outcomes, name)) is not None}
    rows = [_row(name, cuts) for name, cuts in sets.items()]
    counts = ("units", "that failed", "forecasts", "withheld")
    columns = ("set", *counts, "came", "Brier", "Brier skill", "precision", "recall", "80 % interval holds")
    note = (
        f"precision and recall at the acting threshold {metrics.ACT_PROBABILITY:g}; simulated: library and tested units"
        " from different physical parameters and seeds. Intervals are judged on the units that failed; the three IMS"
        " failures are of another world than the simulated library: nothing is promised there"
    )
    table = Table(f"P(failure within {ACTING_H:g} h)", columns, rows, note)
    found = [table] if rows else []
    for name, cuts in sets.items():
        said, came, _ = known_within(cuts, ACTING_H)
        lines = [tuple(round(value, 3) for value in line.values()) for line in metrics.reliability(said, came)]
        found.append(Table(f"{name}: reliability", ("forecasts", "said", "happened"), lines))
    return found


def _row(name: str, cuts: Cuts) -> tuple[object, ...]:
    said, came, unit = known_within(cuts, ACTING_H)
    rows_of = [np.flatnonzero(unit == each) for each in np.unique(unit)]
    skill = metrics.bootstrap(_skill_of(rows_of, said, came), len(rows_of), 0)
    precision, recall = metrics.precision_recall(said, came)
    held = coverage_by_phase(cuts)["all"]
    figures = (round(float(came.mean()), 3), round(metrics.brier(said, came), 4), str(skill))
    counts = (*(len(np.unique(each)) for each in (cuts.unit, cuts.unit[cuts.failed])), len(cuts.unit), cuts.withheld)
    return (name, *counts, *figures, round(precision, 3), round(recall, 3), str(held))


def _skill_of(
    rows_of: Sequence[npt.NDArray[np.intp]], said: Floats, came: Floats
) -> Callable[[npt.NDArray[np.intp]], float]:
    """Brier skill of the units picked (a unit picked twice counts twice)."""

    def skill(units: npt.NDArray[np.intp]) -> float:
        rows = np.concatenate([rows_of[unit] for unit in units])
        return metrics.brier_skill(said[rows], came[rows])

    return skill
