"""``fleet-models rul evaluate``: how good and how honest the forecasts of remaining life are, on everything recorded.

Tasks are independent fits; they run one after another, in processes, or by Ray, with the same result. A set whose data
are absent is left out and named in the report; one configuration of the engine serves all of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from fleet_core.errors import BadConfig, ForestallError
from models.detection_evaluation.baselines import optional
from models.detection_evaluation.report import Report, Table, file_name, show
from models.rul import plots
from models.rul.engines import ENGINES, run_tasks
from models.rul.evaluation import drives, few, motors, turbofans
from models.rul.evaluation.cuts import ACTING_H, coverage_by_phase, joined, known_within, per_life
from models.rul.evaluation.tasks import Outcome, Task

CORPORA = ("cmapss", "femto", "battery", "drives", "motors")
FOLDERS = {"cmapss": "cmapss", "femto": "femto", "battery": "battery", "drives": "drives"}
FILE_WIDTH = 160
MODULES: dict[str, Any] = {
    "cmapss": turbofans,
    "few": few,
    "motors": motors,
    "drives": drives,
}
"""By corpus: the module whose ``work`` does its tasks and whose ``tables`` report them."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to evaluate; ``data`` None leaves only the simulated motors, ``out`` None writes nothing."""

    data: Path | None = None
    only: tuple[str, ...] = CORPORA
    seeds: int = 5
    out: Path | None = None
    engine: str = "serial"
    workers: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.only if name not in CORPORA]
        if unknown or not self.only:
            raise BadConfig(f"--only {unknown[0] if unknown else 'nothing'}: there are {', '.join(CORPORA)}")
        if self.engine not in ENGINES:
            raise BadConfig(f"--engine {self.engine}: there are {', '.join(ENGINES)}")
        if not 1 <= self.seeds <= 100 or not 0 <= self.workers <= 1024:
            raise BadConfig("--seeds must be 1..100, --workers 0..1024 (0: one per core)")
        if self.data is not None and not self.data.is_dir():
            raise BadConfig(f"--data {self.data}: no such folder")


def evaluate(options: Options, progress: Callable[[int, int], None] = lambda done, total: None) -> Report:
    """Run everything chosen and tabulate it; with ``out`` also report.md, report.json and pictures.

    Raises BadConfig (nothing to do, a package is missing), BadInput (a file that is something else), OSError.
    """
    if options.out is not None:
        optional("matplotlib.figure")
        options.out.mkdir(parents=True, exist_ok=True)
    tasks, absent = plan(options)
    if not tasks:
        raise BadConfig(
            "nothing to evaluate: name a folder of recordings with --data or FORESTALL_DATA, or --only motors"
        )
    outcomes = run_tasks(tasks, work, options.engine, workers=options.workers, progress=progress)
    report = tabulate(outcomes, absent)
    if options.out is not None:
        _write(options.out, report, outcomes)
    return report


def plan(options: Options) -> tuple[list[Task], list[tuple[str, str]]]:
    """The tasks, and the sets left out with the reason."""
    missing = {
        name: f"no folder {folder} in {options.data or 'no --data'}"
        for name, folder in FOLDERS.items()
        if name in options.only and (options.data is None or not (options.data / folder).is_dir())
    }
    chosen = [name for name in options.only if name not in missing]
    found: list[Task] = []
    if options.data is not None:
        found += turbofans.tasks(options.data, options.seeds) if "cmapss" in chosen else []
        found += few.tasks(options.data, chosen)
        found += [Task("drives", "drives", "time split", data=options.data)] if "drives" in chosen else []
    found += motors.tasks(options.data, min(options.seeds, 3)) if "motors" in chosen else []
    return found, list(missing.items())


def work(task: Task) -> Outcome:
    """Do one task, whatever it is; a module's function, so that it can be sent to another process."""
    return MODULES[task.corpus].work(task)


def tabulate(outcomes: Sequence[Outcome], absent: Sequence[tuple[str, str]] = ()) -> Report:
    """Tables and floors of what came."""
    came = [outcome for outcome in outcomes if not outcome.refused]
    tables = [table for module in MODULES.values() for table in module.tables(came)]
    refused = [*absent, *((outcome.task.title, outcome.refused) for outcome in outcomes if outcome.refused)]
    tables += [Table("Not evaluated", ("set", "reason"), refused)] if refused else []
    return Report(tables, [*turbofans.floors(came), *drives.floors(came)])


def register(app: typer.Typer) -> None:
    """Add the command ``evaluate`` to the ``rul`` commands."""
    app.command("evaluate")(_command)


def _command(
    data: Annotated[Path | None, typer.Option(help="Recorded data; default: FORESTALL_DATA.")] = None,
    only: Annotated[str, typer.Option(help=f"Some of {','.join(CORPORA)}.")] = ",".join(CORPORA),
    seeds: Annotated[int, typer.Option(help="How many seeds the turbofan tests are repeated with.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Folder for report.md, report.json, pictures.")] = None,
    engine: Annotated[str, typer.Option(help=f"Where tasks run: {', '.join(ENGINES)}.")] = "processes",
    workers: Annotated[int, typer.Option(help="Processes or local Ray workers; 0: one per core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Judge the forecasts of remaining life on recorded and simulated lives: errors, intervals, probabilities."""
    recorded = data or (Path(os.environ["FORESTALL_DATA"]) if os.environ.get("FORESTALL_DATA") else None)
    chosen = tuple(name.strip() for name in only.split(",") if name.strip())
    try:
        options = Options(recorded, chosen, seeds, out, engine, workers)
        with Progress(console=Console(stderr=True), transient=True) as bar:
            line = bar.add_task("evaluating", total=None)
            report = evaluate(options, lambda done, total: bar.update(line, completed=done, total=total))
    except (ForestallError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    if as_json:
        typer.echo(json.dumps(report.as_json()))
        return
    console = Console()
    show(report.all_tables(), console if console.is_terminal else Console(width=FILE_WIDTH))


def _write(out: Path, report: Report, outcomes: Sequence[Outcome]) -> None:
    text = "# Remaining life, evaluated\n\n" + "\n".join(table.as_markdown() for table in report.all_tables())
    (out / "report.md").write_text(text, encoding="utf-8")
    (out / "report.json").write_text(json.dumps(report.as_json(), indent=1) + "\n", encoding="utf-8")
    _draw(out, outcomes)


def _draw(out: Path, outcomes: Sequence[Outcome]) -> None:
    coverages = {}
    for name in turbofans.SUBSETS:
        mine = [done for done in outcomes if done.task.name == name and done.cuts is not None]
        first = next((done.cuts for done in mine if done.task.kind == "test"), None)
        if first is not None:
            plots.plot_last(out / file_name(f"{name}_test"), f"{name} test engines", first, turbofans.CAP)
        folds = [done.cuts for done in mine if done.task.kind == "cross-validation" and done.cuts is not None]
        if folds:
            lives = per_life(joined(folds))
            plots.plot_fans(out / file_name(f"{name}_lives"), f"{name}: lives not learned from", lives, turbofans.ALPHA)
            coverages[name] = coverage_by_phase(joined(folds))
    curves = {}
    for name in motors.SETS:
        cuts = motors.cuts_of(outcomes, name)
        if cuts is not None:
            curves[name] = known_within(cuts, ACTING_H)[:2]
            coverages[name] = coverage_by_phase(cuts)
    if curves:
        plots.plot_reliability(out / "reliability.png", f"P(failure within {ACTING_H:g} h)", curves)
    if coverages:
        plots.plot_coverage(out / "coverage.png", coverages, turbofans.LEVEL)
