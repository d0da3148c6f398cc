"""``fleet-server demand``: what the fleet will need, and what to order. Failure: one line, exit code 2.

It stands above the API, not among the insights, because it prints the API's own answer.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from fleet_core.errors import BadInput, ForestallError
from fleet_server.api.models.demand import Demand, Need
from fleet_server.api.reads.demand import demand as read
from fleet_server.api.reads.fleet import is_registered
from fleet_server.insights.demand import Assumptions, amount, parse_days
from fleet_server.settings import clock_of, load_settings
from fleet_server.store.pool import as_reader, open_pool, transaction

demand_app = typer.Typer(help="Parts and skills the fleet will need, and what to order.", add_completion=False)

_USUAL = Assumptions()


@demand_app.command()
def demand(
    config: Annotated[
        Path, typer.Option("--config", "-c", envvar="FORESTALL_CONFIG", help="The settings file.")
    ] = Path("server.toml"),
    days: Annotated[str, typer.Option("--days", help="Horizons in days.")] = "30,90",
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's need, without stock.")] = None,
    lead_days: Annotated[
        float, typer.Option("--lead-days", min=0, max=730, help="Lead time of parts for which none is stated.")
    ] = _USUAL.lead_days,
    review_days: Annotated[
        float, typer.Option("--review-days", min=1, max=365, help="How often orders are placed.")
    ] = _USUAL.review_days,
    service: Annotated[
        float, typer.Option("--service", min=0.5, max=0.9999, help="Certainty not to run out, 0.5 to 0.9999.")
    ] = _USUAL.service,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the expected need by part and centre and by skill and region, and what to order by when."""
    assumed = Assumptions(lead_days=lead_days, review_days=review_days, service=service)
    try:
        found = asyncio.run(_read(config, parse_days(days), tenant, assumed))
    except ForestallError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    if as_json:
        typer.echo(json.dumps(found.model_dump(mode="json")))
    else:
        _print(found)


async def _read(config: Path, days: tuple[int, ...], tenant: str | None, assumed: Assumptions) -> Demand:
    settings = load_settings(config)
    pool = await open_pool(settings, "web", size=1)
    try:
        async with transaction(pool) as conn:
            await as_reader(conn, tenant)
            if tenant and not await is_registered(conn, tenant):
                raise BadInput("tenant", f"{tenant[:64]!r} is not registered")
            return await read(conn, clock_of(settings).now(), days, tenant, assumed)
    finally:
        await pool.close()


def _print(found: Demand) -> None:
    console = Console()
    columns = [f"{days} days" for days in found.days]
    parts = Table("part", "centre", *columns, "what to do", box=box.SIMPLE, padding=(0, 1))
    for line in found.parts:
        parts.add_row(line.part_no, line.centre_id or "none", *_needs(line.needs), line.reason)
    skills = Table("skill", "region", *columns, "outlook", box=box.SIMPLE, padding=(0, 1))
    for job in found.skills:
        skills.add_row(job.skill, job.region, *_needs(job.needs), job.reason)
    console.print(parts, skills)
    for gap in found.without_part:
        typer.echo(f"no part is listed for {gap.components} x {gap.component_type} of {gap.model}")
    typer.echo(
        f"{found.components} components; {found.abstained} forecasts abstained and {found.outlived} were outlived:"
        " these count by class rate"
    )
    if found.cut_off:
        typer.echo("the fleet is larger than what is counted: the figures are too low", err=True)


def _needs(needs: list[Need]) -> list[str]:
    return [f"{amount(need.mean)} ({need.low}–{need.high})" for need in needs]
