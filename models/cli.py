"""``fleet-models``: simulate histories for the library, and measure how honest the forecasts are."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fleet_core.assets import BEARING
from fleet_core.errors import ForestallError
from fleet_server.prognosis.history import read_history, write_history
from fleet_server.prognosis.library import Library
from models.autoencoder.cli import app as autoencoder_app
from models.detection_evaluation.report import show
from models.detection_evaluation.run import CORPORA, Options, evaluate
from models.prior.cli import app as prior_app
from models.prognosis_evaluation import evaluate_library, evaluate_recorded
from models.rul.cli import rul_app
from models.simulation import ARTIFACT, ARTIFACT_SEED, ARTIFACT_UNITS, simulate_bearings

FILE_WIDTH = 140
"""Columns of the tables where standard output is no terminal."""

app = typer.Typer(help="Models and histories: simulate, evaluate.", no_args_is_help=True, add_completion=False)
app.add_typer(autoencoder_app, name="autoencoder")
app.add_typer(rul_app, name="rul")
app.add_typer(prior_app, name="prior")


@app.callback()
def _root() -> None:
    """Models and histories: simulate, evaluate."""


@app.command("simulate-history")
def simulate_history(
    out: Annotated[Path, typer.Option(help="CSV to write; gzipped when it ends in .gz.")] = ARTIFACT,
    component: Annotated[str, typer.Option(help="Component type; only bearings are simulated.")] = BEARING,
    units: Annotated[int, typer.Option(help="How many units.")] = ARTIFACT_UNITS,
    seed: Annotated[int, typer.Option(help="The same seed gives the same file.")] = ARTIFACT_SEED,
) -> None:
    """Write simulated run-to-failure histories. Without options it makes the library that is shipped."""
    if component != BEARING:
        raise _failed(f"--component {component}: only bearing can be simulated")
    try:
        write_history(out, simulate_bearings(units, seed))
    except (ForestallError, OSError) as error:
        raise _failed(str(error)) from None
    typer.echo(f"{out}: {units} units, {out.stat().st_size} bytes")


@app.command("evaluate-prognosis")
def evaluate_prognosis(
    library: Annotated[Path, typer.Option(help="Trajectory CSV to evaluate.")] = ARTIFACT,
    data: Annotated[Path | None, typer.Option(help="Recorded data (IMS, FEMTO); default: FORESTALL_DATA.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Judge each unit of a library by the others, and recorded bearings when there are any."""
    recorded = data or (Path(os.environ["FORESTALL_DATA"]) if os.environ.get("FORESTALL_DATA") else None)
    try:
        units = read_history(library).trajectories
        found: dict[str, Any] = {"library": evaluate_library(Library(units))}
        if recorded:
            found["recorded"] = evaluate_recorded(units, recorded)
    except (ForestallError, OSError) as error:
        raise _failed(str(error)) from None
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _show(found)


@app.command("evaluate")
def evaluate_detection(
    data: Annotated[Path | None, typer.Option(help="Recorded data (NAB, SKAB, ...); default: FORESTALL_DATA.")] = None,
    only: Annotated[str, typer.Option(help="Some of nab,skab,bearings,fleet.")] = ",".join(CORPORA),
    out: Annotated[Path | None, typer.Option(help="Folder for report.md, report.json, pictures.")] = None,
    seed: Annotated[int, typer.Option(help="Of the simulated fleet.")] = 0,
    months: Annotated[int, typer.Option(help="Simulated healthy asset-months.")] = 24,
    jobs: Annotated[int, typer.Option(help="Processes; 0: one per core.")] = 0,
    baselines: Annotated[bool, typer.Option("--baselines/--no-baselines", help="Plain detectors beside ours.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Run the device's own detection over recordings and a simulated fleet, beside plain detectors."""
    recorded = data or (Path(os.environ["FORESTALL_DATA"]) if os.environ.get("FORESTALL_DATA") else None)
    chosen = tuple(name.strip() for name in only.split(",") if name.strip())
    try:
        options = Options(recorded, chosen, out, seed, months, jobs, baselines)
        with Progress(console=Console(stderr=True), transient=True) as bar:
            line = bar.add_task("judging", total=None)
            report = evaluate(
                options, lambda done, total, name: bar.update(line, completed=done, total=total, description=name)
            )
    except (ForestallError, OSError, ValueError) as error:
        raise _failed(str(error)) from None
    if as_json:
        typer.echo(json.dumps(report.as_json()))
    else:
        console = Console()
        show(report.all_tables(), console if console.is_terminal else Console(width=FILE_WIDTH))


def main() -> None:
    """Entry point: one line and exit code 2 for a wrong setting or a file that cannot be read or written."""
    try:
        app()
    except (ForestallError, OSError) as error:
        print(f"fleet-models: {error}", file=sys.stderr)
        sys.exit(2)


def _show(found: dict[str, Any]) -> None:
    console = Console()
    names = list(found["library"]["all"])
    table = Table("phase", *names, title=f"{found['library']['units']} units, each judged by the others")
    for phase, row in [("all", found["library"]["all"]), *found["library"]["phases"].items()]:
        table.add_row(phase, *(str(row.get(name, "")) for name in names))
    console.print(table)
    table = Table("forecasts", "said", "happened", title="P(failure within 72 h)")
    for row in found["library"]["reliability"]:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
    if "recorded" not in found:
        console.print("No recorded data: name its folder with --data or FORESTALL_DATA.")
        return
    recorded = found["recorded"]
    table = Table("row", "remaining h", "p10", "p50", "p90", "P(72 h)", "failure mode", title=recorded["unit"])
    for row in recorded["cuts"]:
        table.add_row(*(str(value) for name, value in row.items() if name != "reason"))
    console.print(table)


def _failed(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(2)


if __name__ == "__main__":
    main()
