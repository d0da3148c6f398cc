"""``fleet-server case list`` and ``case show``: cases as text or JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar
from uuid import UUID

import typer

from fleet_core.errors import ForestallError
from fleet_server.labels import case_label
from fleet_server.settings import load_settings
from fleet_server.store.fetch import fetch_all
from fleet_server.store.pool import open_pool
from fleet_server.store.sql import queries

case_app = typer.Typer(help="Look at repair cases.", no_args_is_help=True)

T = TypeVar("T")
Shown = dict[str, object]
"""A whole row, for people and for ``--json``."""
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
        typer.echo(_json([asdict(case) for case in cases]))
        return
    for case in cases:
        flags = " ".join(name for name in ("escalated", "replanning") if getattr(case, name))
        deadline = f"{case.deadline_at:%Y-%m-%d %H:%M}" if case.deadline_at else "-"
        typer.echo(
            f"{case_label(case.number)}  {case.state:<12} {case.asset_id}/{case.slot}  {case.failure_mode}"
            f"  deadline {deadline}  owner {case.owner}  {flags} {case.waits_for}".rstrip()
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
        typer.echo(_json(asdict(found)))
        return
    row = found.case
    label = case_label(int(str(row["number"])))
    typer.echo(f"{label}  {row['state']}  {row['asset_id']}/{row['slot']}  {row['failure_mode']}")
    typer.echo(f"  {row['impact']}")
    if row["waits_for"]:
        typer.echo(f"  waits for {row['waits_for']}")
    for event in found.events:
        typer.echo(f"  {event['at']:%Y-%m-%d %H:%M}  {event['summary']}")
    for act in found.acts:
        typer.echo(f"  act {act['kind']} {act['purpose']} #{act['sequence']}: {act['state']} {act['error']}".rstrip())
    for escalation in found.escalations:
        decided = f"{escalation['decision']} by {escalation['decided_by']}" if escalation["decided_at"] else "open"
        typer.echo(f"  escalation {escalation['reason']} to {escalation['to_person']}: {decided}")


@dataclass(slots=True)
class CaseLine:
    """``cases_list``: a case in a list."""

    case_id: UUID
    number: int
    tenant_id: str
    site_id: str
    asset_id: str
    slot: str
    state: str
    failure_mode: str
    urgency: str
    escalated: bool
    replanning: bool
    waits_for: str
    deadline_at: datetime | None
    opened_at: datetime
    closed_at: datetime | None
    owner: str


@dataclass(slots=True)
class CaseShown:
    """A case and what belongs to it, as the rows stand in the database."""

    case: Shown
    events: list[Shown]
    acts: list[Shown]
    escalations: list[Shown]


async def _list(config: Path, tenant: str | None, every: bool, most: int) -> list[CaseLine]:
    sql = queries("resolution")
    pool = await open_pool(load_settings(config), "worker", size=1)
    try:
        async with pool.connection() as conn:
            values = {"tenant_id": tenant, "every": every, "most": most}
            return await fetch_all(conn, CaseLine, sql.cases_list, values)
    finally:
        await pool.close()


async def _show(config: Path, ref: str) -> CaseShown | None:
    sql = queries("resolution")
    number = ref.upper().removeprefix("FS-").lstrip("0")
    pool = await open_pool(load_settings(config), "worker", size=1)
    try:
        async with pool.connection() as conn:
            wanted = {"ref": number if number.isdigit() else ref.lower()}
            case = await (await conn.execute(sql.case_by_number, wanted)).fetchone()
            if case is None:
                return None
            where = {"case_id": case["case_id"]}
            return CaseShown(
                case=case,
                events=await (await conn.execute(sql.events_of, where)).fetchall(),
                acts=await (await conn.execute(sql.acts_shown, where)).fetchall(),
                escalations=await (await conn.execute(sql.escalations_of, where)).fetchall(),
            )
    finally:
        await pool.close()


def _run(work: Coroutine[object, object, T]) -> T:
    try:
        return asyncio.run(work)
    except ForestallError as error:
        _fail(str(error))


def _fail(text: str) -> NoReturn:
    typer.echo(f"fleet-server: {text}", err=True)
    raise typer.Exit(2)


def _json(value: object) -> str:
    return json.dumps(value, default=str, indent=2, ensure_ascii=False)
