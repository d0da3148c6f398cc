"""C-MAPSS FD001 and FD003: the usual protocol (last cycle of each test engine) and engine-grouped cross-validation.

The test protocol caps predictions and true lives at 125 cycles. The cross-validation judges whole lives of training
engines that the model has not seen, with uncapped intervals and true lives, because a capped interval covers every
early moment and so says nothing. The regularities of the data are those of NASA's simulator. No figure here was used to
choose a setting.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fleet_server.prognosis.rul.model import RulModel, RulSettings
from models.detection_evaluation.report import Floor, Table
from models.rul import metrics
from models.rul.cmapss import CAP, load_cmapss
from models.rul.evaluation.cuts import THIRDS, Cuts, coverage_by_phase, joined, judge_last, judge_lives, per_life
from models.rul.evaluation.tasks import Outcome, Task

SUBSETS = ("FD001", "FD003")
FOLDS = 5
LEVEL = 0.8
RMSE_FLOORS = {"FD001": 11.6, "FD003": 12.2}
WIDTH_FLOOR = 27.0
LAMBDAS = (0.5, 0.7, 0.9)
ALPHA = 0.2

PUBLISHED = (
    ("Babu et al. 2016, CNN", 18.45, 19.82),
    ("Zheng et al. 2017, LSTM", 16.14, 16.18),
    ("Zhang et al. 2017, MODBNE", 15.04, 12.51),
    ("Li, Ding and Sun 2018, deep CNN", 12.61, 12.64),
)
"""RMSE on FD001 and FD003 as stated by the authors; their caps are 125 to 130 cycles."""


def tasks(data: Path, seeds: int) -> list[Task]:
    """Test protocol by seed, with and without age; cross-validation by fold."""
    folder = data / "cmapss"
    found = []
    for name in SUBSETS:
        for with_age in (True, False):
            found += [Task("cmapss", name, "test", seed, 0, with_age, folder) for seed in range(seeds)]
        found += [Task("cmapss", name, "cross-validation", 0, fold, True, folder) for fold in range(FOLDS)]
    return found


def work(task: Task) -> Outcome:
    """One fit and its forecasts. Raises BadInput for files that are not C-MAPSS."""
    assert task.data is not None, "turbofans are recorded"
    train, test, remaining = load_cmapss(task.data, task.name)
    started = time.perf_counter()
    if task.kind == "test":
        model = RulModel.fit(train, RulSettings(seed=task.seed, with_age=task.with_age, cap=CAP))
        spent = time.perf_counter() - started
        if test is None or remaining is None:
            return Outcome(task, refused="no test engines, or no RUL file")
        return Outcome(task, judge_last(model, test, remaining), fit_s=spent)
    order = np.random.default_rng(task.seed).permutation(len(train))
    held = np.array_split(order, FOLDS)[task.part]
    kept = np.setdiff1d(order, held)
    model = RulModel.fit(
        train.pick(kept.tolist()), RulSettings(seed=task.seed, with_age=task.with_age, whole_mean=True)
    )
    spent = time.perf_counter() - started
    return Outcome(task, judge_lives(model, train.pick(held.tolist()), first=task.part * len(train)), fit_s=spent)


def tables(outcomes: Sequence[Outcome]) -> list[Table]:
    """Errors beside published ones, coverage by phase, prognostic metrics."""
    sets = {key: _test_figures(_of(outcomes, key[0], "test", key[1])) for key in _sets(outcomes)}
    rows = [(*key, *figures.values()) for key, figures in sets.items()]
    columns = ("set", "age", *next(iter(sets.values()), {}))
    test = Table(
        "Turbofans, last cycle of the test engines", columns, rows, f"capped at {CAP:g} cycles; median of seeds"
    )
    published = Table(
        "Published, beside them",
        ("method", "RMSE FD001", "RMSE FD003"),
        PUBLISHED,
        "deep networks as their authors state them; caps of 125 to 130 cycles",
    )
    names = [name for name in SUBSETS if _of(outcomes, name, "cross-validation")]
    return [*([test, published] if rows else []), *(table for name in names for table in _lives(outcomes, name))]


def floors(outcomes: Sequence[Outcome]) -> list[Floor]:
    """Floors for errors and interval width in the test protocol, and for the coverage in each third of life."""
    found = []
    for name, with_age in _sets(outcomes):
        figures = _test_figures(_of(outcomes, name, "test", with_age))
        found.append(
            Floor(f"{name} RMSE{'' if with_age else ' without age'}", figures["RMSE"], RMSE_FLOORS[name], True)
        )
        if name == "FD001" and with_age:
            found.append(Floor("FD001 mean width of the 80 % interval", figures["mean width"], WIDTH_FLOOR, True))
    for name in SUBSETS:
        if parts := _of(outcomes, name, "cross-validation"):
            for phase, share in coverage_by_phase(joined([part.cuts for part in parts if part.cuts])).items():
                title = f"{name} 80 % interval, {phase}: 95 % CI holds 0.8"
                found.append(Floor(title, float(share.holds(LEVEL)), 1.0))
    return found


def _test_figures(parts: Sequence[Outcome]) -> dict[str, Any]:
    """Figures of one set in the test protocol: medians over the seeds, coverage of the first."""
    cuts = [part.cuts.said for part in parts if part.cuts is not None]
    capped = [np.minimum(each.remaining, CAP) for each in cuts]
    pairs = list(zip(cuts, capped, strict=True))
    errors = [metrics.rmse(each.mean, each.remaining, CAP) for each in cuts]
    held = metrics.coverage(np.minimum(cuts[0].p10, CAP), np.minimum(cuts[0].p90, CAP), capped[0], cuts[0].unit)
    return {
        "seeds": len(cuts),
        "RMSE": _median(errors, 2),
        "seeds' spread": round(float(np.ptp(errors)), 2),
        "RMSE uncapped": _median([metrics.rmse(each.mean, each.remaining) for each in cuts], 2),
        "PHM08 score": _median([metrics.phm08_score(each.mean, truth, CAP) for each, truth in pairs], 0),
        "80 % interval holds": str(held),
        "mean width": _median([metrics.mean_width(each.p10, each.p90, CAP) for each in cuts], 1),
        "withheld": sum(part.cuts.withheld for part in parts if part.cuts is not None),
        "fit s": _median([part.fit_s for part in parts], 1),
    }


def _median(values: Sequence[float], digits: int) -> float:
    return round(float(np.median(values)), digits)


def _lives(outcomes: Sequence[Outcome], name: str) -> list[Table]:
    """Tables of the cross-validation of one set."""
    cuts = joined([part.cuts for part in _of(outcomes, name, "cross-validation") if part.cuts is not None])
    said = cuts.said
    third = np.minimum((said.share * 3).astype(int), 2)
    rows: list[tuple[object, ...]] = []
    for phase, share in coverage_by_phase(cuts).items():
        part = said if phase == "all" else said.pick(third == THIRDS.index(phase))
        early, late = float((part.remaining < part.p10).mean()), float((part.remaining > part.p90).mean())
        widths = [round(metrics.mean_width(part.p10, part.p90, cap), 1) for cap in (None, CAP)]
        rows.append((phase, len(part.unit), str(share), share.holds(LEVEL), round(early, 3), round(late, 3), *widths))
    columns = ("phase", "forecasts", "80 % interval holds", "CI has 0.8", "ended before p10", "after p90")
    note = f"{FOLDS} folds by engine, about 30 moments of each life, uncapped; 95 % bootstrap over engines"
    phases = Table(f"{name}: coverage over life", (*columns, "mean width", f"width below {CAP:g}"), rows, note)
    return [phases, _prognostic(name, per_life(cuts))]


def _prognostic(name: str, lives: Sequence[Cuts]) -> Table:
    """Alpha-lambda accuracy, prognostic horizon and cumulative relative accuracy over the lives."""
    rows: list[tuple[object, ...]] = []
    for share in LAMBDAS:
        good = [
            metrics.alpha_lambda(life.time, life.p50, life.remaining, _moment(life, share), ALPHA) for life in lives
        ]
        known = [each for each in good if each is not None]
        rows.append((f"within {ALPHA:.0%} at {share:.0%} of life", round(float(np.mean(known)), 3) if known else None))
    horizons = [metrics.prognostic_horizon(life.time, life.p50, life.remaining, ALPHA) or 0.0 for life in lives]
    rows.append(
        (f"median cycles before the end from which it stays within {ALPHA:.0%}", round(float(np.median(horizons)), 1))
    )
    accuracy = [metrics.cumulative_relative_accuracy(life.p50, life.remaining) for life in lives]
    rows.append(("median cumulative relative accuracy", round(float(np.median(accuracy)), 3)))
    return Table(f"{name}: prognostic metrics", ("metric", "value"), rows, "Saxena et al. 2010, by the median forecast")


def _moment(life: Cuts, share: float) -> float:
    """The time at a share of life, from any cut's time, share and remaining life."""
    span = life.remaining[0] / (1.0 - life.share[0])
    return float(life.time[0] + (share - life.share[0]) * span)


def _of(outcomes: Sequence[Outcome], name: str, kind: str, with_age: bool = True) -> list[Outcome]:
    return [
        each
        for each in outcomes
        if (each.task.corpus, each.task.name, each.task.kind, each.task.with_age) == ("cmapss", name, kind, with_age)
        and each.cuts is not None
    ]


def _sets(outcomes: Sequence[Outcome]) -> list[tuple[str, bool]]:
    return [(name, age) for name in SUBSETS for age in (True, False) if _of(outcomes, name, "test", age)]
