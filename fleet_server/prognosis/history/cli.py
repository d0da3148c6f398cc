"""``fleet-server history``: bring degradation histories into the library and show what it holds."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from fleet_core.errors import ForestallError
from fleet_server.prognosis.history.files import CYCLE_H, READERS, Format, read_history
from fleet_server.prognosis.history.units import History
from fleet_server.prognosis.learning import add_trajectories
from fleet_server.prognosis.library import Trajectory
from fleet_server.prognosis.service import prepare
from fleet_server.prognosis.shelf import rows
from fleet_server.settings import Settings, clock_of, load_settings
from fleet_server.store.pool import open_pool, transaction
from fleet_server.store.sql import queries

Result = TypeVar("Result")
AT_ONCE = 200
"""Units stored in one transaction."""
TELL_S = 2.0
SHOWN_REFUSALS = 20

history_app = typer.Typer(help="Degradation histories: the library of past cases.", no_args_is_help=True)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", envvar="FORESTALL_CONFIG", help="The settings file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@history_app.command("import")
def import_files(
    files: Annotated[list[Path], typer.Argument(help="Trajectory CSV, IMS, FEMTO or NASA battery files; .gz is fine.")],
    config: ConfigOption = Path("server.toml"),
    layout: Annotated[str, typer.Option("--format", help=f"{', '.join(READERS)}; told from the header.")] = "",
    exclude: Annotated[list[str] | None, typer.Option(help="A unit to leave out; may be repeated.")] = None,
    cycle_hours: Annotated[
        float, typer.Option(min=0.001, max=8760, help="Operating hours of a cycle, for sets that count cycles.")
    ] = CYCLE_H,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check the files, change nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add the units of history files to the library. What is there already stays as it is.

    A file that cannot be read is refused with its reason, the others are imported, and the exit code is 2.
    """
    chosen = next((name for name in READERS if name == layout), None)
    if layout and chosen is None:
        raise _failed(f"--format {layout}: use {', '.join(READERS)}")
    histories = _read(files, chosen, cycle_hours, frozenset(exclude or ()))
    try:
        work = _import_all(histories, None) if dry_run else None
        summary = asyncio.run(work) if work else _run(config, lambda settings: _import(settings, histories))
    except ForestallError as error:
        raise _failed(str(error)) from None
    _tell(summary, as_json)
    if any("error" in counts for counts in summary["files"].values()):
        raise typer.Exit(2)


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


def _read(
    files: list[Path], layout: Format | None, cycle_h: float, excluded: frozenset[str]
) -> Iterator[tuple[str, History | ForestallError]]:
    """Read one file after another, so that only one is in memory; units named in ``excluded`` are left out."""
    for path in files:
        told_s = time.monotonic()

        def tell(rows_read: int, path: Path = path) -> None:
            nonlocal told_s
            if time.monotonic() - told_s >= TELL_S:
                told_s = time.monotonic()
                typer.echo(f"{path}: {rows_read:,} rows read ...", err=True)

        try:
            history = read_history(path, layout, cycle_h=cycle_h, progress=tell)
        except ForestallError as error:
            yield str(path), error
            continue
        history.trajectories = [unit for unit in history.trajectories if unit.unit_serial not in excluded]
        yield str(path), history


async def _import(settings: Settings, histories: Iterator[tuple[str, History | ForestallError]]) -> dict[str, Any]:
    clock = clock_of(settings)
    pool = await open_pool(settings, "worker", size=1)
    try:

        async def add(units: list[Trajectory]) -> int:
            async with transaction(pool) as conn:
                return await add_trajectories(conn, clock, units)

        summary = await _import_all(histories, add)
        for kind in sorted(summary["ready"]):
            async with transaction(pool) as conn:
                summary["ready"][kind] = await prepare(conn, clock, kind)
    finally:
        await pool.close()
    return summary


async def _import_all(
    histories: Iterator[tuple[str, History | ForestallError]],
    add: Callable[[list[Trajectory]], Awaitable[int]] | None,
) -> dict[str, Any]:
    """Add the units of all histories, ``AT_ONCE`` in one call of ``add``; without ``add`` it is a dry run.

    An import that was stopped is completed by running it again, because known units stay as they are.
    """
    summary: dict[str, Any] = {"dry_run": add is None, "files": {}, "ready": {}}
    for path, history in histories:
        if isinstance(history, ForestallError):
            summary["files"][path] = {"error": str(history)}
            continue
        units, new, told_s = history.trajectories, 0, time.monotonic()
        for start in range(0, len(units) if add else 0, AT_ONCE):
            assert add is not None
            new += await add(units[start : start + AT_ONCE])
            if time.monotonic() - told_s >= TELL_S:
                told_s = time.monotonic()
                typer.echo(f"{path}: {start + AT_ONCE:,} of {len(units):,} units stored ...", err=True)
        summary["ready"] |= {unit.component_type: 0 for unit in units}
        summary["files"][path] = {
            "units": len(units),
            "failed": sum(unit.failed for unit in units),
            "new": new,
            "refused": history.refused,
            "units_refused": history.units_refused,
            "rows": history.rows,
            "rows_skipped": history.rows_skipped,
        }
    return summary


def _tell(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(summary))
        return
    for path, counts in summary["files"].items():
        if "error" in counts:
            typer.echo(f"{path}: refused: {counts['error']}", err=True)
            continue
        added = "none stored (dry run)" if summary["dry_run"] else f"{counts['new']} new"
        units = f"{counts['units']} units, {counts['failed']} observed until failure, {added}"
        typer.echo(f"{path}: {units}; {counts['rows_skipped']} of {counts['rows']} rows skipped")
        for unit, reason in list(counts["refused"].items())[:SHOWN_REFUSALS]:
            typer.echo(f"  refused {unit}: {reason}", err=True)
        if counts["units_refused"] > SHOWN_REFUSALS:
            typer.echo(f"  and {counts['units_refused'] - SHOWN_REFUSALS} more units", err=True)
    if not summary["dry_run"] and summary["ready"]:
        typer.echo(", ".join(f"{units} {kind} histories ready" for kind, units in summary["ready"].items()))


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
