"""``fleet-models prior``: make the prior of a class of assets from healthy recordings, and show what one holds."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_agent.detection.prior.class_prior import ClassPrior, prior_from_json, prior_to_json
from edge_agent.detection.settings import DetectionSettings
from edge_agent.files import replacing
from edge_agent.recorded.recording import Summary, open_recording
from fleet_core.assets import COMPONENT_TYPES
from fleet_core.errors import BadInput, ForestallError
from models.prior.fitting import Asset, Fitted, fit_prior

MAX_ASSETS = 1000
FILE_WIDTH = 140

app = typer.Typer(help="What healthy assets of a class are like.", no_args_is_help=True, add_completion=False)


@app.callback()
def _root() -> None:
    """What healthy assets of a class are like: fit, show."""


@app.command("fit")
def fit(
    recordings: Annotated[list[Path], typer.Argument(help="Healthy recordings, one asset each (CSV or .npz).")],
    component: Annotated[str, typer.Option(help="Component type, such as bearing or motor.")],
    out: Annotated[Path, typer.Option(help="JSON; the component is put into a prior that is there already.")],
    healthy: Annotated[float, typer.Option(min=0.01, max=1.0, help="Healthy share of each recording's rows.")] = 1.0,
    columns: Annotated[str, typer.Option(help="Only these columns: A,B.")] = "",
    rename: Annotated[str, typer.Option(help="Columns as vitals of the agent: COLUMN=VITAL,...")] = "",
    units: Annotated[str, typer.Option(help="Units of vitals (UCUM): VITAL=UNIT,...")] = "",
    each_column: Annotated[str, typer.Option(metavar="VITAL", help="Every column is one asset's own VITAL.")] = "",
) -> None:
    """Fit the prior of one component type. At least three assets are needed; ten say much more."""
    try:
        if component not in COMPONENT_TYPES:
            raise BadInput("component", f"{component!r} is not one of {', '.join(COMPONENT_TYPES)}")
        names = _pairs("rename", rename)
        assets = [asset for path in recordings for asset in read_assets(path, healthy, columns, names, each_column)]
        if len(assets) > MAX_ASSETS:
            raise BadInput("recordings", f"{len(assets)} assets, at most {MAX_ASSETS}")
        fitted = fit_prior(assets, _pairs("units", units))
        write_prior(out, component, fitted)
    except (ForestallError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    for name, reason in fitted.left_out.items():
        typer.echo(f"left out: {name} ({reason})", err=True)
    far = sorted(fitted.farthest.items(), key=lambda each: -each[1])[:3]
    typer.echo(
        f"{out}: {component}, {len(assets)} assets, {len(fitted.prior.channels)} vitals; farthest from the others: "
        + ", ".join(f"{name} {value:.2f}" for name, value in far)
        + f"; one more healthy asset goes beyond {fitted.room:.2f} with a chance of about {fitted.prior.exceeds:.0%}"
    )


@app.command("show")
def show(file: Annotated[Path, typer.Argument(help="A prior.")]) -> None:
    """Show what a prior holds."""
    try:
        prior = prior_from_json(file.read_text(encoding="utf-8"))
    except (ForestallError, OSError, UnicodeDecodeError) as error:
        typer.echo(f"{file}: {error}", err=True)
        raise typer.Exit(2) from None
    console = Console()
    console = console if console.is_terminal else Console(width=FILE_WIDTH)
    for component, own in prior.components.items():
        heads = ("vital", "unit", "low limit", "lowest", "centre", "highest", "high limit", "between", "within")
        table = Table(*heads, title=f"{component}: {own.assets} healthy assets, exceeded by {own.exceeds:.1%}")
        for name, each in own.channels.items():
            numbers = (each.low_limit, each.low, each.centre, each.high, each.high_limit, each.between, each.within)
            table.add_row(escape(name), escape(each.unit), *(f"{number:.4g}" for number in numbers))
        console.print(table)


def read_assets(
    path: Path, healthy: float = 1.0, columns: str = "", rename: dict[str, str] | None = None, each_column: str = ""
) -> list[Asset]:
    """The asset of a recording, or one for each of its columns, from its first ``healthy`` rows. Raises BadInput."""
    arguments = argparse.Namespace(file=path, time_column="", step_s=None, columns=columns, exclude="", settings=path)
    recording = open_recording(arguments, DetectionSettings(), Summary())
    values = np.concatenate([block for _, _, block in recording.blocks()] or [np.zeros((0, len(recording.names)))])
    values = values[: max(1, round(healthy * len(values)))]
    if each_column:
        return [
            Asset(f"{path.stem} {name}", (each_column,), values[:, [index]])
            for index, name in enumerate(recording.names)
        ]
    renamed = tuple((rename or {}).get(name, name) for name in recording.names)
    if len(set(renamed)) < len(renamed):
        raise BadInput("rename", "two columns would be the same vital")
    return [Asset(path.stem, renamed, values)]


def write_prior(out: Path, component: str, fitted: Fitted) -> None:
    """Write the prior, beside what the file has of other components. Raises BadConfig, OSError."""
    there = prior_from_json(out.read_text(encoding="utf-8")) if out.exists() else ClassPrior()
    prior = dataclasses.replace(there, components=there.components | {component: fitted.prior})
    with replacing(out) as file:
        file.write(prior_to_json(prior))


def _pairs(option: str, text: str) -> dict[str, str]:
    pairs = [each.partition("=") for each in text.split(",") if each.strip()]
    if not all(name.strip() and sign and value.strip() for name, sign, value in pairs):
        raise BadInput(option, "expected NAME=VALUE,...")
    return {name.strip(): value.strip() for name, _, value in pairs}
