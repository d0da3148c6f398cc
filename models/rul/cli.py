"""``fleet-models rul``: fit remaining life on any table of lives, and forecast the units of another.

One configuration serves every kind of asset. The bundle remembers the columns' names, so ``predict`` needs only the
bundle and the table. Forecasts are made at each unit's last row; horizons and lives are in the unit of the time column.
"""

from __future__ import annotations

import csv
import json
import time as clock
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from fleet_core.errors import BadConfig, BadInput, ForestallError
from fleet_server.prognosis.rul.bundle import Columns, load_bundle, save_bundle
from fleet_server.prognosis.rul.histories import Histories
from fleet_server.prognosis.rul.model import Forecast, RulModel, RulSettings
from fleet_server.prognosis.rul.model import Progress as Step
from fleet_server.prognosis.rul.tables import Notes, read_table
from models.rul.evaluation.command import register

rul_app = typer.Typer(help="Remaining life from a table of lives.", no_args_is_help=True, add_completion=False)


@rul_app.callback()
def _root() -> None:
    """Remaining life from a table of lives."""


@rul_app.command("fit")
def fit(
    train: Annotated[Path, typer.Argument(help="CSV (, ; tab or |, .gz) of past lives: a row per unit and time.")],
    unit: Annotated[str, typer.Option(help="Column that names the unit.")],
    time: Annotated[str, typer.Option(help="Column of the time: hours, cycles, or dates (counted in hours).")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write.")],
    failed: Annotated[str, typer.Option(help="Column that says 1 where a unit failed; without: all failed.")] = "",
    cap: Annotated[float | None, typer.Option(help="Say no remaining life above this.")] = None,
    whole_mean: Annotated[bool, typer.Option("--whole-mean", help="Mean of all remaining life, however far.")] = False,
    horizons: Annotated[str, typer.Option(help="Probabilities of failure within these times.")] = "24,72,720",
    age: Annotated[bool, typer.Option("--age/--no-age", help="Use the time since a unit's first row.")] = True,
    ignore: Annotated[str, typer.Option(help="Columns to leave out, with commas.")] = "",
    seed: Annotated[int, typer.Option(help="The same seed gives the same bundle.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Learn remaining life from past lives and write a bundle."""
    began = clock.monotonic()
    with _errors(), _bar() as step:
        asked = _horizons(horizons)
        settings = RulSettings(seed=seed, with_age=age, horizons=asked, cap=cap, whole_mean=whole_mean)
        left_out = tuple(name.strip() for name in ignore.split(",") if name.strip())
        step(0, 0, "reading")
        histories, notes = read_table(train, unit, time, failed or None, ignore=left_out)
        model = _learnt(histories, settings, step, notes)
        digest = save_bundle(out, model, Columns(unit, time, failed or None, notes.categories))
    report = {
        "bundle": str(out),
        "digest": digest,
        "units": len(histories),
        "failed": sum(life.failed for life in histories),
        "rows": histories.rows,
        "regimes": len(model.features.regimes),
        "features": len(model.features.names),
        "channels_dropped": model.features.dropped,
        "mean_counts_to": model.lifetimes.limit if model.lifetimes else None,
        "similar_share": round(model.lifetimes.similar_share, 3) if model.lifetimes else None,
        "hazard": "between rows" if model.watched else "at rows" if model.hazard else None,
        "notes": notes.messages,
        "seconds": round(clock.monotonic() - began, 1),
    }
    _tell(report, as_json)


@rul_app.command("predict")
def predict(
    bundle: Annotated[Path, typer.Argument(help="Folder that fit wrote.")],
    test: Annotated[Path, typer.Argument(help="CSV with the columns of the training table.")],
    out: Annotated[Path, typer.Option(help="CSV to write: one row per unit, at its last row.")],
    unit: Annotated[str, typer.Option(help="Column of the unit, if named otherwise than in training.")] = "",
    time: Annotated[str, typer.Option(help="Column of the time, if named otherwise.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Forecast each unit of a table at its last row."""
    with _errors(), _bar() as step:
        if out.exists() and test.exists() and out.samefile(test):
            raise BadConfig(f"--out {out} is the table that is read; name another file")
        model, columns = load_bundle(bundle)
        step(0, 0, "reading")
        histories, notes = read_table(
            test,
            unit or columns.unit,
            time or columns.time,
            channels=model.features.channels,
            categories=columns.categories or {},
            optional=model.features.dropped,
        )
        forecasts = model.predict_many(histories.units, step)
        rows = [_row(life.name, forecast) for life, forecast in zip(histories.units, forecasts, strict=True)]
        rows += [{"unit": name, "abstained": why} for name, why in notes.refused.items()]
        _write(out, rows, model.settings.horizons)
    _tell(_summary(out, rows, notes), as_json)


def _learnt(histories: Histories, settings: RulSettings, step: Step, notes: Notes) -> RulModel:
    """The model; a refusal tells what was read, which is where the reason often lies."""
    try:
        return RulModel.fit(histories, settings, step)
    except BadInput as error:
        failed = sum(life.failed for life in histories)
        read = f"{len(histories)} units were read, {failed} of them failed"
        said = str(error).removeprefix(f"{error.reason}: ")
        raise BadInput(error.reason, "; ".join([said, read, *notes.messages[:2]])) from None


def _row(name: str, forecast: Forecast) -> dict[str, Any]:
    if forecast.abstained:
        return {"unit": name, "abstained": forecast.abstained}
    numbers = {"p10": forecast.p10, "p50": forecast.p50, "p90": forecast.p90, "mean": forecast.mean}
    numbers |= {_column(horizon): share for horizon, share in forecast.p_fail.items()}
    return {
        "unit": name,
        **{column: f"{value:.6g}" for column, value in numbers.items()},
        "neighbours": ";".join(f"{neighbour.unit}:{neighbour.weight:.2f}" for neighbour in forecast.neighbours),
        "abstained": "",
        "at_least": int(forecast.at_least),
    }


def _column(horizon: float) -> str:
    return f"p_fail_h{horizon:g}"


def _write(out: Path, rows: list[dict[str, Any]], horizons: tuple[float, ...]) -> None:
    names = ["unit", "p10", "p50", "p90", "mean", *map(_column, horizons), "neighbours", "abstained", "at_least"]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _summary(out: Path, rows: list[dict[str, Any]], notes: Notes) -> dict[str, Any]:
    withheld = Counter(str(row["abstained"]).split(":")[0] for row in rows if row["abstained"])
    return {
        "out": str(out),
        "units": len(rows),
        "forecasts": len(rows) - sum(withheld.values()),
        "abstained": dict(withheld),
        "notes": notes.messages,
    }


def _horizons(text: str) -> tuple[float, ...]:
    try:
        return tuple(sorted({float(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        raise ForestallError(f"--horizons {text}: numbers with commas between, such as 24,72,720") from None


def _tell(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report))
        return
    for name, value in report.items():
        if name == "notes":
            for message in value:
                typer.echo(f"note: {message}")
        elif isinstance(value, dict):
            for key, what in value.items():
                typer.echo(f"{name.replace('_', ' ')}: {key}: {what}")
        elif value is not None:
            typer.echo(f"{name.replace('_', ' ')}: {value}")


@contextmanager
def _errors() -> Iterator[None]:
    """A failure is one line and exit code 2."""
    try:
        yield
    except (ForestallError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


@contextmanager
def _bar() -> Iterator[Step]:
    console = Console(stderr=True)
    # a log gets no bar, nor the blank line that one leaves behind
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task("working", total=None)

        def step(done: int, total: int, what: str) -> None:
            bar.update(line, completed=done, total=total or None, description=what)

        yield step


register(rul_app)
