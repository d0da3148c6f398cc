"""``fleet-models autoencoder``: train and publish the device's autoencoder, and check what was published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edge_agent.detection.detectors import _litert
from edge_agent.detection.detectors.autoencoder import load_judge
from fleet_core.errors import BadConfig, ForestallError
from models.autoencoder import card, data, export, parity
from models.autoencoder.train import EPOCHS, train

DEFAULT_SEED = 20_240_611

app = typer.Typer(help="The device's autoencoder: train, check.", no_args_is_help=True, add_completion=False)


@app.callback()
def _root() -> None:
    """The device's autoencoder: train, check."""


@app.command("train")
def train_command(
    out: Annotated[Path, typer.Option(help="Folder to publish to.")] = export.ARTIFACT,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files on one machine and version.")] = (
        DEFAULT_SEED
    ),
    epochs: Annotated[int, typer.Option(min=1, max=1000, help="Passes over the simulated windows.")] = EPOCHS,
    ship: Annotated[bool, typer.Option("--ship", help="Also into the device's distribution, with the card.")] = False,
) -> None:
    """Simulate, train, export to int8 and publish, if the int8 network judges as the float32 one does (else exit 1)."""
    typer.echo("simulating, training and converting: a minute or two on one core", err=True)
    try:
        told = publish(out, seed, epochs, ship)
    except (ForestallError, OSError) as error:
        raise _failed(str(error)) from None
    _show(told)
    if not _passed(told):
        typer.echo(f"refused: int8 and float32 scores correlate below {parity.LEAST_CORRELATION}", err=True)
        raise typer.Exit(1)
    typer.echo(f"published to {out}")


@app.command("check")
def check(
    folder: Annotated[Path, typer.Argument(help="Folder that was published to.")] = export.ARTIFACT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure parity and value of published files again, in LiteRT on both (exit 1 below the gate)."""
    try:
        small, exact, told = parity.load(folder)
        told |= parity.figures(small, exact, int(told.get("seed", DEFAULT_SEED)))
    except (ForestallError, OSError, ValueError, TypeError) as error:
        raise _failed(str(error)) from None
    if as_json:
        typer.echo(json.dumps({name: told[name] for name in ("sha256", "parity", "value")}))
    else:
        _show(told)
    if not _passed(told):
        raise typer.Exit(1)


def publish(out: Path, seed: int, epochs: int, ship: bool) -> dict[str, Any]:
    """Train and, if the gate is passed, write the files to ``out``. Returns the manifest, published or not."""
    if _litert.runtime().interpreter is None:
        raise BadConfig(_litert.runtime().reason)
    trained = train(seed, epochs)
    contents = dict(zip((export.FLOAT_MODEL, export.INT8_MODEL), export.convert(trained), strict=True))
    held_back = data.views(
        data.healthy(parity.CHANNELS, 256, parity.TICKS, parity.held_back(seed, 0)), trained.least_spread, 8
    )
    exact = _litert.Network(contents[export.FLOAT_MODEL])
    weights = export.weigh(exact, held_back.reshape(-1, held_back.shape[2]))
    told = export.manifest(contents, export.contract(weights, trained.least_spread), seed, _command(seed, epochs))
    text = json.dumps(told)
    judges = [load_judge(contents[name], text) for name in (export.INT8_MODEL, export.FLOAT_MODEL)]
    told |= parity.figures(judges[0], judges[1], seed)
    if not _passed(told):
        return told
    export.write(out, contents, told)
    if ship:
        export.ship(out)
        card.CARD.write_text(card.render(told), encoding="utf-8")
    return told


def _passed(told: dict[str, Any]) -> bool:
    return parity.Parity(**told["parity"]).passed


def _command(seed: int, epochs: int) -> str:
    return f"fleet-models autoencoder train --out DIR --seed {seed}" + (
        f" --epochs {epochs}" if epochs != EPOCHS else ""
    )


def _show(told: dict[str, Any]) -> None:
    console = Console()
    for name, number in told["parity"].items():
        console.print(f"parity {name}: {number}")
    names = list(next(iter(told["value"].values())))
    table = Table("fault", *names, title="AUC of faulty against healthy windows")
    for fault, row in told["value"].items():
        table.add_row(fault, *(f"{row[name]:.3f}" for name in names))
    console.print(table)


def _failed(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(2)
