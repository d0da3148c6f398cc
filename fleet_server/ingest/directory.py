"""Read the directory of registered agents and assets, and schemas by name, from the database."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable

from fleet_core.errors import BadInput
from fleet_core.schema import Schema
from fleet_server.ingest.decoder import Agent, Asset, Directory
from fleet_server.store.pool import Pool, transaction
from fleet_server.store.sql import queries

log = logging.getLogger(__name__)
_SQL = queries("ingest")
MAX_SCHEMAS = 100_000

SchemaKey = tuple[str, str, str]
"""(agent, device, digest)"""


async def refresh_identities(pool: Pool, directory: Directory) -> None:
    """Replace the agents and assets of ``directory`` by those that are registered now. Raises psycopg.Error."""
    async with transaction(pool) as conn:
        agents = await (await conn.execute(_SQL.agents)).fetchall()
        assets = await (await conn.execute(_SQL.assets)).fetchall()
    directory.agents = {row["agent_id"]: Agent(**row) for row in agents}
    directory.assets = {row["asset_id"]: Asset(**row) for row in assets}


async def load_schemas(pool: Pool, directory: Directory, wanted: Iterable[SchemaKey]) -> set[SchemaKey]:
    """Load schemas that other processes may have stored; returns the keys that were found. Raises psycopg.Error."""
    keys = sorted(set(wanted) - directory.schemas.keys())
    if not keys:
        return set()
    agents, devices, digests = (list(column) for column in zip(*keys, strict=True))
    async with transaction(pool) as conn:
        cursor = await conn.execute(_SQL.schemas, {"agents": agents, "devices": devices, "digests": digests})
        rows = await cursor.fetchall()
    found: set[SchemaKey] = set()
    for row in rows:
        key = (row["agent_id"], row["device_id"], row["schema_digest"])
        try:
            schema = Schema.from_json(json.dumps(row["definition"]))
        except BadInput as error:
            log.error("schema %s of %s in the database cannot be read: %s", key[2][:12], key[0], error)
            continue
        if schema.digest == key[2]:
            remember(directory, row["agent_id"], row["device_id"], schema)
            found.add(key)
    return found


def remember(directory: Directory, agent_id: str, device_id: str, schema: Schema) -> None:
    """Keep a schema in memory; beyond a bound the oldest schema is dropped (the database keeps all)."""
    directory.schemas[agent_id, device_id, schema.digest] = schema
    if len(directory.schemas) > MAX_SCHEMAS:
        directory.schemas.pop(next(iter(directory.schemas)))
