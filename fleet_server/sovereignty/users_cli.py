"""``fleet-server user``: make, list and disable accounts of the web."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import psycopg
import typer
from rich.console import Console
from rich.table import Table

from fleet_core.clock import Clock
from fleet_core.errors import BadInput, Permanent
from fleet_server.audit.log import record
from fleet_server.settings import clock_of, load_settings
from fleet_server.sovereignty import users
from fleet_server.sovereignty.roles import Role
from fleet_server.store.pool import Connection, open_pool, transaction
from fleet_server.store.sql import queries

users_app = typer.Typer(help="Accounts of the web.", no_args_is_help=True)
Config = Annotated[Path, typer.Option("--config", "-c", envvar="FORESTALL_CONFIG", help="The settings file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_DEFAULT = Path("server.toml")
_ACTOR = "cli:user"
T = TypeVar("T")


@users_app.command("add")
def add(
    login: Annotated[str, typer.Argument(help="Login name; an existing one gets a new password.")],
    role: Annotated[Role, typer.Option("--role", help="What the account may do.")],
    tenant: Annotated[str | None, typer.Option("--tenant", help="Bind it to one customer.")] = None,
    person: Annotated[str | None, typer.Option("--person", help="The registry's person it belongs to.")] = None,
    one_time: Annotated[bool, typer.Option("--one-time", help="The password opens one session only.")] = False,
    config: Config = _DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Make an account and print its generated password, once."""

    async def make(conn: Connection, clock: Clock) -> str:
        password = await users.add_user(conn, login, role, tenant_id=tenant, person_id=person, one_time=one_time)
        body = {"role": role.value, "tenant": tenant, "person": person, "one_time": one_time}
        await _record(conn, clock, tenant, "user_added", login, body)
        return password

    password = _run(config, make)
    if as_json:
        typer.echo(json.dumps({"login": login, "role": role.value, "password": password, "one_time": one_time}))
    else:
        typer.echo(f"{login}: {password}" + ("   (one-time: it opens one session)" if one_time else ""))


@users_app.command("list")
def list_users(config: Config = _DEFAULT, as_json: AsJson = False) -> None:
    """List the accounts."""

    async def read(conn: Connection, _: Clock) -> list[dict[str, object]]:
        return await (await conn.execute(queries("users").users)).fetchall()

    rows = _run(config, read)
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("Login", "Role", "Tenant", "Person", "One-time", "Active")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console().print(table)


@users_app.command("disable")
def disable(login: str, config: Config = _DEFAULT) -> None:
    """Disable an account and end its sessions; `add` revives it."""

    async def end(conn: Connection, clock: Clock) -> None:
        row = await (await conn.execute(queries("users").disable_user, {"user_id": login})).fetchone()
        if row is None:
            raise BadInput("login", f"there is no account {login!r}; see `fleet-server user list`")
        await users.end_sessions(conn, login)
        await _record(conn, clock, row["tenant_id"], "user_disabled", login, {})

    _run(config, end)
    typer.echo(f"{login} is disabled")


async def _record(
    conn: Connection, clock: Clock, tenant: str | None, action: str, login: str, body: Mapping[str, object]
) -> None:
    await record(conn, clock, tenant_id=tenant, actor=_ACTOR, action=action, subject=f"user:{login}", body=body)


def _run(config: Path, work: Callable[[Connection, Clock], Awaitable[T]]) -> T:
    """Run in one worker transaction. Failures are ForestallErrors, which the program writes as one line."""
    settings = load_settings(config)

    async def main() -> T:
        pool = await open_pool(settings, "worker", size=1)
        try:
            async with transaction(pool) as conn:
                return await work(conn, clock_of(settings))
        finally:
            await pool.close()

    try:
        return asyncio.run(main())
    except psycopg.Error as error:
        raise Permanent(f"the database refused: {' '.join(str(error).split())}") from None
