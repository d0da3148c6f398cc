"""``fleet-server history``: bring degradation histories into the library and show what it holds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from fleet_core.clock import clock_from_environment, clock_from_spec
from fleet_core.errors import ForestallError
from fleet_server.prognosis.history import Format, History, read_history
from fleet_server.prognosis.learning import add_trajectories
from fleet_server.prognosis.service import prepare
from fleet_server.prognosis.shelf import rows
from fleet_server.settings import Settings, load_settings
from fleet_server.store.pool import open_pool, transaction
from fleet_server.store.sql import queries

Result = TypeVar("Result")

history_app = typer.Typer(help="Degradation histories: the library of past cases.", no_args_is_help=True)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", envvar="FORESTALL_CONFIG", help="The settings file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@history_app.command("import")
def import_files(
    files: Annotated[list[Path], typer.Argument(help="Trajectory CSV, IMS or FEMTO files; .gz is fine.")],
    config: ConfigOption = Path("server.toml"),
    layout: Annotated[str, typer.Option("--format", help="ims, femto or trajectory-csv; told from the header.")] = "",
    exclude: Annotated[list[str] | None, typer.Option(help="A unit to leave out; may be repeated.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Add the units of history files to the library. What is there already stays as it is."""
    chosen: Format | None = None
    if layout:
        if layout not in ("ims", "femto", "trajectory-csv"):
            raise _failed(f"--format {layout}: use ims, femto or trajectory-csv")
        chosen = layout  # type: ignore[assignment] # checked above
    try:
        histories = {str(path): read_history(path, chosen) for path in files}
        summary = _run(config, lambda settings: _import(settings, histories, frozenset(exclude or ())))
    except ForestallError as error:
        raise _failed(str(error)) from None
    if as_json:
        typer.echo(json.dumps(summary))
        return
    for path, counts in summary["files"].items():
        typer.echo(f"{path}: {counts['units']} units, {counts['new']} new, {counts['rows_skipped']} rows skipped")
        for unit, reason in counts["refused"].items():
            typer.echo(f"  refused {unit}: {reason}", err=True)
    typer.echo(", ".join(f"{units} {kind} histories ready" for kind, units in summary["ready"].items()))


@history_app.command("list")
def list_library(config: ConfigOption = Path("server.toml"), as_json: JsonOption = False) -> None:
    """Show what the library holds, by component, source and failure mode."""
    try:
        found = _run(config, _list)
    except ForestallError as error:
        raise _failed(str(error)) from None
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table("component", "source", "failure mode", "units", "failed", "of customers")
    for row in found:
        table.add_row(*(str(row[name]) for name in row))
    Console().print(table)


async def _import(settings: Settings, histories: dict[str, History], excluded: frozenset[str]) -> dict[str, Any]:
    clock = clock_from_spec(settings.clock) if settings.clock else clock_from_environment()
    pool = await open_pool(settings, "worker", size=1)
    summary: dict[str, Any] = {"files": {}, "ready": {}}
    kinds: set[str] = set()
    try:
        for path, history in histories.items():
            wanted = [unit for unit in history.trajectories if unit.unit_serial not in excluded]
            async with transaction(pool) as conn:
                new = await add_trajectories(conn, clock, wanted)
            kinds |= {unit.component_type for unit in wanted}
            counts = {"units": len(wanted), "new": new, "refused": history.refused}
            summary["files"][path] = counts | {"rows_skipped": history.rows_skipped}
        for kind in sorted(kinds):
            async with transaction(pool) as conn:
                summary["ready"][kind] = await prepare(conn, clock, kind)
    finally:
        await pool.close()
    return summary


async def _list(settings: Settings) -> list[dict[str, Any]]:
    pool = await open_pool(settings, "worker", size=1)
    try:
        async with transaction(pool) as conn:
            return await rows(conn, queries("prognosis").summary, {})
    finally:
        await pool.close()


def _run(config: Path, work: Callable[[Settings], Awaitable[Result]]) -> Result:
    settings = load_settings(config)

    async def main() -> Result:
        return await work(settings)

    return asyncio.run(main())


def _failed(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(2)
