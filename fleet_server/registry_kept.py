"""An import of the registry against what is there: what a file leaves out stays, and what changes is told.

An entry is merged with its row before it is written, so that a field the file does not mention keeps its value; a
field is removed by saying so (``wms_kind = "none"``, ``policy = {}``). Differences are told in words, per kind.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("registry")

TABLES = {
    "tenant": ("tenant", ("tenant_id",)),
    "site": ("site", ("site_id",)),
    "person": ("person", ("person_id",)),
    "agent": ("agent", ("agent_id",)),
    "asset": ("asset", ("asset_id",)),
    "contract": ("contract", ("contract_id",)),
    "part": ("part", ("part_no",)),
    "centre": ("fulfilment_centre", ("centre_id",)),
    "stock": ("stock", ("centre_id", "part_no")),
}
"""The table and the key of each kind of entry that has a row of its own."""


@dataclass
class Count:
    """What became of the entries of one kind; ``ended``: components that another one followed."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    ended: int = 0


@dataclass
class Imported:
    """What an import did. ``changes`` has one line for each entry that changed."""

    counts: dict[str, Count] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)

    def of(self, kind: str) -> Count:
        return self.counts.setdefault(kind, Count())

    def note(self, kind: str, name: str, before: dict[str, Any] | None, after: dict[str, Any]) -> None:
        """Count an entry, and tell how it differs from the row that was there."""
        if before is None:
            self.of(kind).added += 1
            return
        differs = [key for key in sorted(after) if key in before and _plainly(before[key]) != _plainly(after[key])]
        if not differs:
            self.of(kind).unchanged += 1
            return
        self.of(kind).changed += 1
        told = ", ".join(f"{key} {_shown(before[key])} -> {_shown(after[key])}" for key in differs)
        self.changes.append(f"{kind} {name}: {told}")

    def document(self) -> dict[str, Any]:
        """For ``--json`` and the audit log."""
        return {kind: asdict(count) for kind, count in self.counts.items()} | {"changes": self.changes[:200]}

    def lines(self) -> list[str]:
        """For people: the changes, then the counts of each kind."""
        words = [
            f"{kind}: " + ", ".join(f"{number} {word}" for word, number in asdict(count).items() if number)
            for kind, count in self.counts.items()
        ]
        return [*self.changes, *words]


async def stored(conn: Connection, kind: str, row: dict[str, Any]) -> dict[str, Any] | None:
    """The row of an entry as it is now, None when there is none."""
    table, keys = TABLES[kind]
    where = sql.SQL(" AND ").join(sql.SQL("{} = {}").format(sql.Identifier(key), sql.Placeholder(key)) for key in keys)
    asked = sql.SQL(_sql.row_as_it_is).format(table=sql.Identifier(table), keys=where)
    return await (await conn.execute(asked, {key: row[key] for key in keys})).fetchone()


def merged(row: dict[str, Any], said: set[str], before: dict[str, Any] | None) -> dict[str, Any]:
    """The row to write: what the file said, else what is there, else the default."""
    if before is None:
        return row
    kept = {key: before[key] for key in row if key not in said and key in before}
    return row | {key: Jsonb(value) if isinstance(value, dict) else value for key, value in kept.items()}


def _plainly(value: Any) -> Any:
    if isinstance(value, Jsonb):
        return value.obj
    return float(value) if isinstance(value, Decimal) else value


def _shown(value: Any) -> str:
    text = str(_plainly(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
