"""Few lives: the six FEMTO learning bearings and four NASA cells, each judged by the others.

With three to five lives to learn from there is little to promise: the figures are shown, no floor stands on them.
A cell's life ends at its first capacity of 1.4 Ah or less (30 % fade); one of the four never gets there: censored.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fleet_core.errors import BadInput
from fleet_server.prognosis.rul.histories import Histories, Unit
from fleet_server.prognosis.rul.model import RulModel, RulSettings
from models.detection_evaluation.report import Table
from models.rul import metrics
from models.rul.evaluation.cuts import Cuts, joined, judge_lives
from models.rul.evaluation.tasks import Outcome, Task

END_OF_LIFE_AH = 1.4
FEMTO_STEP_H = 10.0 / 3600.0
FEMTO_THIN = 5
"""Every so many snapshots of a bearing (each stands for the mean of these): 50 s."""
SKIPPED = ("snapshot", "hour", "minute", "second", "n_samples")
SETS = ("femto", "battery")


def tasks(data: Path, only: Sequence[str]) -> list[Task]:
    """One task per unit that failed."""
    found = []
    for name in SETS:
        if name in only:
            lives = read_lives(name, data)
            found += [
                Task("few", name, "leave-one-out", 0, n, True, data) for n, life in enumerate(lives) if life.failed
            ]
    return found


def work(task: Task) -> Outcome:
    """Fit on the others, judge one. Raises BadInput for files of another form."""
    assert task.data is not None, "these lives are recorded"
    lives = read_lives(task.name, task.data)
    started = time.perf_counter()
    others = lives.pick([n for n in range(len(lives)) if n != task.part])
    try:
        model = RulModel.fit(others, RulSettings(seed=task.seed, whole_mean=True))
    except BadInput as error:
        return Outcome(task, refused=str(error))
    spent = time.perf_counter() - started
    return Outcome(task, judge_lives(model, lives.pick([task.part]), first=task.part), fit_s=spent)


def tables(outcomes: Sequence[Outcome]) -> list[Table]:
    """A row per unit and one for all, per set."""
    found = []
    for name in SETS:
        mine = [
            each for each in outcomes if each.task.corpus == "few" and each.task.name == name and each.cuts is not None
        ]
        if not mine:
            continue
        lives = read_lives(name, mine[0].task.data) if mine[0].task.data else None
        names = [lives.units[done.task.part].name if lives else str(done.task.part) for done in mine]
        rows = [_row(title, done.cuts) for title, done in zip(names, mine, strict=True) if done.cuts is not None]
        rows.append(_row("all", joined([done.cuts for done in mine if done.cuts is not None])))
        errors = ("median error / life", "median error / remaining")
        columns = ("unit", "forecasts", "withheld", *errors, "80 % interval holds", "median width / life")
        found.append(Table(f"{name}: each judged by the others", columns, rows, "no floor: too few lives to promise"))
    return found


def read_lives(name: str, data: Path) -> Histories:
    """The recorded lives of a set. Raises BadInput ``missing`` or ``columns``."""
    return (
        _cells(data / "battery" / "nasa_capacity.csv") if name == "battery" else _bearings(data / "femto" / "features")
    )


def _row(title: str, cuts: Cuts) -> tuple[object, ...]:
    said = cuts.said
    if not len(said.unit):
        return (title, len(cuts.unit), cuts.withheld, None, None, None, None)
    life = said.remaining / np.maximum(1.0 - said.share, 1e-9)
    off = np.abs(said.p50 - said.remaining)
    figures = [float(np.median(errors)) for errors in (off / life, off / said.remaining)]
    held = metrics.coverage(said.p10, said.p90, said.remaining, said.unit)
    shown = str(held) if len(np.unique(said.unit)) > 1 else f"{held.value:.3f}"
    width = round(float(np.median((said.p90 - said.p10) / life)), 3)
    return (title, len(cuts.unit), cuts.withheld, *(round(figure, 3) for figure in figures), shown, width)


def _cells(path: Path) -> Histories:
    if not path.is_file():
        raise BadInput("missing", f"{path}: no such file")
    with path.open(encoding="utf-8", newline="") as source:
        rows = [(row["cell"], float(row["cycle"]), float(row["capacity_ah"])) for row in csv.DictReader(source)]
    units = []
    for cell in dict.fromkeys(row[0] for row in rows):
        times, capacity = np.array([row[1:] for row in rows if row[0] == cell]).T
        over = np.flatnonzero(capacity <= END_OF_LIFE_AH)
        until = int(over[0]) + 1 if len(over) else len(times)
        units.append(Unit(cell, times[:until].copy(), capacity[:until, None].copy(), bool(len(over))))
    return Histories(tuple(units), ("capacity_ah",))


def _bearings(folder: Path) -> Histories:
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise BadInput("missing", f"{folder} has no features of bearings")
    with paths[0].open(encoding="utf-8") as source:
        names = source.readline().strip().split(",")
    kept = [place for place, name in enumerate(names) if name not in SKIPPED]
    units = []
    for path in paths:
        table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
        if table.shape[1] != len(names):
            raise BadInput("columns", f"{path}: {table.shape[1]} columns, expected {len(names)}")
        last = len(table) // FEMTO_THIN * FEMTO_THIN
        values = table[len(table) - last :, kept].reshape(-1, FEMTO_THIN, len(kept)).mean(axis=1)
        times = np.arange(1, len(values) + 1, dtype=np.float64) * (FEMTO_THIN * FEMTO_STEP_H)
        units.append(Unit(path.stem.removeprefix("Learning_set__"), times, values, True))
    return Histories(tuple(units), tuple(names[place] for place in kept))
