"""``fleet-server case list`` and ``case show``: cases as text or JSON."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet_core.errors import ForestallError
from fleet_server.resolution.names import case_label
from fleet_server.settings import load_settings
from fleet_server.store.pool import open_pool
from fleet_server.store.sql import queries

case_app = typer.Typer(help="Look at repair cases.", no_args_is_help=True)

ConfigFile = Annotated[Path, typer.Option("--config", "-c", envvar="FORESTALL_CONFIG", help="The settings file.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]


@case_app.command("list")
def list_cases(
    config: ConfigFile = Path("server.toml"),
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Ended cases too.")] = False,
    as_json: AsJson = False,
    most: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
) -> None:
    """The open cases, newest first."""
    cases = _run(_list(config, tenant, every, most))
    if as_json:
        typer.echo(_json(cases))
        return
    for case in cases:
        flags = " ".join(name for name in ("escalated", "replanning") if case[name])
        deadline = f"{case['deadline_at']:%Y-%m-%d %H:%M}" if case["deadline_at"] else "-"
        label = case_label(case["number"])
        typer.echo(
            f"{label}  {case['state']:<12} {case['asset_id']}/{case['slot']}  {case['failure_mode']}"
            f"  deadline {deadline}  owner {case['owner']}  {flags} {case['waits_for']}".rstrip()
        )
    if not cases:
        typer.echo("no cases")


@case_app.command("show")
def show_case(
    case: Annotated[str, typer.Argument(help="FS-000123, 123 or the case's id.")],
    config: ConfigFile = Path("server.toml"),
    as_json: AsJson = False,
) -> None:
    """One case: where it stands, its timeline, acts and escalations."""
    found = _run(_show(config, case))
    if found is None:
        _fail(f"there is no case {case}; `fleet-server case list --all` shows those there are")
    if as_json:
        typer.echo(_json(found))
        return
    row = found["case"]
    typer.echo(f"{case_label(row['number'])}  {row['state']}  {row['asset_id']}/{row['slot']}  {row['failure_mode']}")
    typer.echo(f"  {row['impact']}")
    if row["waits_for"]:
        typer.echo(f"  waits for {row['waits_for']}")
    for event in found["events"]:
        typer.echo(f"  {event['at']:%Y-%m-%d %H:%M}  {event['summary']}")
    for act in found["acts"]:
        typer.echo(f"  act {act['kind']} {act['purpose']} #{act['sequence']}: {act['state']} {act['error']}".rstrip())
    for escalation in found["escalations"]:
        decided = f"{escalation['decision']} by {escalation['decided_by']}" if escalation["decided_at"] else "open"
        typer.echo(f"  escalation {escalation['reason']} to {escalation['to_person']}: {decided}")


async def _list(config: Path, tenant: str | None, every: bool, most: int) -> list[dict[str, Any]]:
    sql = queries("resolution")
    pool = await open_pool(load_settings(config), "worker", size=1)
    try:
        async with pool.connection() as conn:
            values = {"tenant_id": tenant, "every": every, "most": most}
            return await (await conn.execute(sql.cases_list, values)).fetchall()
    finally:
        await pool.close()


async def _show(config: Path, ref: str) -> dict[str, Any] | None:
    sql = queries("resolution")
    number = ref.upper().removeprefix("FS-").lstrip("0")
    pool = await open_pool(load_settings(config), "worker", size=1)
    try:
        async with pool.connection() as conn:
            wanted = {"ref": number if number.isdigit() else ref.lower()}
            case = await (await conn.execute(sql.case_by_number, wanted)).fetchone()
            if case is None:
                return None
            parts: dict[str, Any] = {"case": case}
            for name, statement in (
                ("events", sql.events_of),
                ("acts", sql.acts_of),
                ("escalations", sql.escalations_of),
            ):
                parts[name] = await (await conn.execute(statement, {"case_id": case["case_id"]})).fetchall()
            return parts
    finally:
        await pool.close()


def _run(work: Any) -> Any:
    try:
        return asyncio.run(work)
    except ForestallError as error:
        _fail(str(error))


def _fail(text: str) -> None:
    typer.echo(f"fleet-server: {text}", err=True)
    raise typer.Exit(2)


def _json(value: Any) -> str:
    return json.dumps(value, default=str, indent=2, ensure_ascii=False)
