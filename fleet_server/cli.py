"""``fleet-server``: run the server or one of its processes, look after its database, ledger and audit log.

Modules are imported by the command that needs them, so that ``--help`` and one-line mistakes are quick. Failure: one
clear line with the mend and exit code 2; ``--verify`` commands exit with 1 when something does not add up.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

import typer

from fleet_core.errors import ForestallError

if TYPE_CHECKING:
    from fleet_server.settings import Settings
    from fleet_server.store.pool import Connection

T = TypeVar("T")

app = typer.Typer(help="The Forestall fleet server.", no_args_is_help=True, add_completion=False)
db_app = typer.Typer(help="The database: migrate, status.", no_args_is_help=True)
registry_app = typer.Typer(help="Tenants, sites, agents, assets, contracts, parts.", no_args_is_help=True)
audit_app = typer.Typer(help="The audit log: verify it, prove an entry.", no_args_is_help=True)
app.add_typer(db_app, name="db")
app.add_typer(registry_app, name="registry")
app.add_typer(audit_app, name="audit")

ELSEWHERE = {
    "case": ("fleet_server.resolution.cli", "case_app", "Cases: list, show."),
    "user": ("fleet_server.sovereignty.users_cli", "users_app", "People who may log in."),
    "demand": ("fleet_server.demand_cli", "demand_app", "Parts and skills the fleet will need."),
    "history": ("fleet_server.prognosis.history.cli", "history_app", "Degradation histories: import, list."),
}
"""Commands of other packages: name -> (module, Typer app, help). Imported only when asked for."""

ConfigOption = Annotated[Path, typer.Option("--config", "-c", envvar="FORESTALL_CONFIG", help="The settings file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DEFAULT_CONFIG = Path("server.toml")


def main() -> None:
    """The program."""
    _add_elsewhere(sys.argv[1:2])
    try:
        app()
    except ForestallError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except Exception as error:
        told = _of_the_world(error)
        if not told:
            raise
        typer.echo(f"error: {told}", err=True)
        sys.exit(2)


def _of_the_world(error: Exception) -> str:
    """One line for what the database or the system answered; "" for an error nobody foresaw."""
    if "psycopg" in sys.modules:  # else nobody spoke to a database
        import psycopg

        from fleet_server.store.failures import explained

        if isinstance(error, psycopg.Error):
            return str(explained(error))
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return ""


def _add_elsewhere(asked: list[str]) -> None:
    for name, (module, attribute, text) in ELSEWHERE.items():
        if asked == [name]:
            found: typer.Typer = getattr(importlib.import_module(module), attribute)
            sole = found.registered_commands[0] if len(found.registered_commands) == 1 else None
            if sole and sole.callback and not found.registered_groups:  # a program of one command is a command
                app.command(name)(sole.callback)
            else:
                app.add_typer(found, name=name)
        else:
            app.add_typer(typer.Typer(), name=name, help=text)


# -- processes


@app.command()
def run(
    config: ConfigOption = DEFAULT_CONFIG,
    status_file: Annotated[
        Path | None, typer.Option("--status-file", help="Keep a JSON file with the state and every process id.")
    ] = None,
) -> None:
    """Run everything: the embedded database if configured, then ingest, worker, sequencer and web."""
    from fleet_server import supervisor
    from fleet_server.app import start_log
    from fleet_server.settings import clock_of, load_settings

    settings = load_settings(config)
    start_log(settings)
    raise typer.Exit(supervisor.run(settings, clock_of(settings), config, status_file))


@app.command()
def ingest(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run one ingest process."""
    from fleet_server.app import serve
    from fleet_server.ingest.service import run_ingest

    raise typer.Exit(serve(config, run_ingest))


@app.command()
def worker(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run one worker: triage, cases, acts, timers."""
    from fleet_server.app import serve
    from fleet_server.resolution.worker import run_worker

    raise typer.Exit(serve(config, lambda settings, clock: run_worker(settings)))


@app.command()
def sequencer(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the audit log's sequencer."""
    from fleet_server.app import serve
    from fleet_server.audit.sequencer import run_sequencer

    raise typer.Exit(serve(config, run_sequencer))


@app.command()
def web(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the web process: API and dashboard."""
    from fleet_server.api.app import run_web
    from fleet_server.app import serve

    raise typer.Exit(serve(config, lambda settings, clock: run_web(settings)))


@app.command()
def init(directory: Annotated[Path, typer.Option("--dir", help="Where to write server.toml and the keys.")]) -> None:
    """Write a first settings file with an embedded database, and the keys it names. Overwrites nothing."""
    from fleet_server.first import write_first_files

    for path in write_first_files(directory):
        typer.echo(f"wrote {path}")
    typer.echo(f"next: fleet-server run --config {directory / 'server.toml'}")


# -- database


@db_app.command()
def migrate(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Bring the database to this version's schema, and give back the roles and rights that a restore lacks."""
    from fleet_server.store.migrate import migrate as apply

    applied = apply(_dsn(config))
    if as_json:
        typer.echo(json.dumps({"applied": applied}))
    else:
        typer.echo("\n".join(f"applied {name}" for name in applied) or "nothing to apply")


@db_app.command()
def status(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show which migrations are applied and which rights are missing; exit code 1 when something is missing."""
    from fleet_server.store.migrate import missing_rights
    from fleet_server.store.migrate import status as look

    dsn = _dsn(config)
    steps, lacking = look(dsn), missing_rights(dsn)
    if as_json:
        rows = [{"name": step.name, "applied_at": step.applied_at} for step in steps]
        typer.echo(json.dumps({"migrations": rows, "missing_rights": lacking}, default=str))
    else:
        for step in steps:
            typer.echo(f"{step.name}  {step.applied_at.isoformat() if step.applied_at else 'missing'}")
        if lacking:
            typer.echo(
                f"roles and rights: {len(lacking)} missing, such as: {lacking[0]}; run `fleet-server db migrate`"
            )
    raise typer.Exit(0 if not lacking and all(step.applied_at for step in steps) else 1)


# -- registry


@registry_app.command("import")
def registry_import(
    file: Annotated[Path, typer.Argument(help="A TOML file, see `fleet-server registry sample`.")],
    config: ConfigOption = DEFAULT_CONFIG,
    reset_stock: Annotated[bool, typer.Option("--reset-stock", help="Set stock that is there already, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add or bring up to date what a file names; may be repeated. What the file leaves out stays as it is."""
    from fleet_server.registry import import_registry, load_registry, who_cannot_be_asked
    from fleet_server.registry_kept import Imported
    from fleet_server.settings import clock_of

    registry = load_registry(file)

    async def act(conn: Connection, settings: Settings) -> tuple[Imported, list[str]]:
        clock = clock_of(settings)
        told = await import_registry(conn, clock, registry, actor="system:registry", reset_stock=reset_stock)
        missing = await who_cannot_be_asked(conn, list(settings.notifiers))
        if dry_run:
            await conn.rollback()
        return told, missing

    told, missing = _with_connection(config, act)
    for line in missing:
        typer.echo(f"warning: {line}", err=True)
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run} | told.document()))
    else:
        head = ["nothing was changed (--dry-run); an import would do:"] if dry_run else []
        typer.echo("\n".join([*head, *told.lines()]))


@registry_app.command("sample")
def registry_sample() -> None:
    """Print a sample file."""
    from fleet_server.registry import SAMPLE

    typer.echo(SAMPLE, nl=False)


# -- ledger and audit


@app.command()
def ledger(
    config: ConfigOption = DEFAULT_CONFIG,
    verify: Annotated[bool, typer.Option("--verify", help="Exit with 1 when it does not add up.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Count samples, look for doubles, check hash chains.")] = False,
    agent: Annotated[str | None, typer.Option("--agent", help="Only this agent.")] = None,
    write_off: Annotated[
        UUID | None, typer.Option("--write-off", help="First declare what this silent outbox holds as lost.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The conservation ledger: every batch is stored, quarantined, a gap, or held."""
    from fleet_server.ingest import write_off as give_up
    from fleet_server.ingest.ledger import Ledger, read_ledger
    from fleet_server.settings import clock_of

    async def act(conn: Connection, settings: Settings) -> Ledger:
        await conn.execute("SET LOCAL statement_timeout = 0")
        oldest = clock_of(settings).now() - timedelta(days=settings.ingest.retention_days - 1)  # whole days are dropped
        limits = {"grace_s": settings.ingest.ledger_grace_s, "held_report_age_s": settings.ingest.held_report_age_s}
        if write_off is not None:
            await give_up.write_off(conn, clock_of(settings), write_off, **limits)
        return await read_ledger(conn, **limits, agent_id=agent, deep=deep, oldest=oldest)

    found = _with_connection(config, act)
    if as_json:
        typer.echo(json.dumps(found.document()))
    else:
        _print_ledger(found.document())
    raise typer.Exit(0 if found.balanced or not verify else 1)


@audit_app.command("verify")
def audit_verify(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Check every entry and every signed checkpoint; exit code 1 when something does not add up."""
    from fleet_server.audit.checkpoint import load_key
    from fleet_server.audit.verify import AuditReport
    from fleet_server.audit.verify import verify as check

    async def act(conn: Connection, settings: Settings) -> AuditReport:
        key = load_key(settings.audit.signing_key_file).public_key()
        return await check(conn, key, settings.audit.checkpoint_file)

    verdict = _with_connection(config, act)
    if as_json:
        typer.echo(json.dumps(verdict.document()))
    else:
        word = "verified" if verdict.verified else "NOT verified"
        typer.echo(f"{word}: {verdict.entries} entries, {verdict.pending} pending, {verdict.checkpoints} checkpoints")
        for fault in verdict.faults:
            typer.echo(f"  {fault}")
    raise typer.Exit(0 if verdict.verified else 1)


@audit_app.command("prove")
def audit_prove(
    entry: Annotated[UUID, typer.Argument(help="The entry's id.")], config: ConfigOption = DEFAULT_CONFIG
) -> None:
    """Print the proof that an entry is in the signed tree, as JSON."""
    from fleet_server.audit.verify import Proof, prove

    async def act(conn: Connection, settings: Settings) -> Proof:
        return await prove(conn, entry)

    typer.echo(json.dumps(asdict(_with_connection(config, act)), default=str, indent=2))


def _dsn(config: Path) -> str:
    from fleet_server.settings import load_settings
    from fleet_server.store.pool import require_dsn

    return require_dsn(load_settings(config))


def _with_connection(config: Path, act: Callable[[Connection, Settings], Awaitable[T]]) -> T:
    """Run ``act`` in one transaction as owner; what it raises rolls back."""
    from fleet_server.settings import load_settings
    from fleet_server.store.pool import open_pool, transaction

    settings = load_settings(config)

    async def body() -> T:
        pool = await open_pool(settings, "owner", size=1)
        try:
            async with transaction(pool) as conn:
                return await act(conn, settings)
        finally:
            await pool.close()

    return asyncio.run(body())


def _print_ledger(document: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    kinds = ("batches", "stored", "quarantined", "gaps", "held", "in_grace", "unexplained")
    table = Table("agent", "outbox", *(kind.replace("_", " ") for kind in kinds), box=box.SIMPLE, padding=0)
    for row in document["agents"]:
        table.add_row(row["agent"], row["outbox"][:8], *(str(row[kind]) for kind in kinds))
    table.add_row("all", "", *(str(document[kind]) for kind in kinds), style="bold")
    Console().print(table)
    for row in document["agents"]:
        for first, last in row["unexplained_ranges"]:
            typer.echo(f"unexplained: batches {first} to {last} of {row['agent']}")
    for fault in document["faults"]:
        typer.echo(fault)


if __name__ == "__main__":
    main()
