"""Reads the inputs of the demand plan from the database and makes the plan for one reader.

This module is the shell around ``plan.py``. It runs in the reader's transaction: row-level security decides whose
components, cases and prognoses count. Figures that are learned from history (class rates, how often a case uses a part)
stay within one tenant and jurisdiction, so a tenant's need is the same number whoever reads it. Stock is shared by all
tenants: stock and proposed orders are shown only to readers of the whole fleet.

The part is the one that the planning of a repair would reserve: the installed part number if it is listed, otherwise a
part that fits type and model. The centre is the one from which the part would arrive first. Only database errors are
raised.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleet_core.assets import COMPONENT_TYPES
from fleet_server.connectors.parts.own_tables import UNKNOWN_PLACE_H, Config, distance_between_km
from fleet_server.insights.demand.plan import (
    OUTLIVED,
    Assumptions,
    History,
    Installed,
    OpenCase,
    Plan,
    Shelf,
    curve_of,
    plan_demand,
)
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

MOST_COMPONENTS = 100_000
_UNCONFIRMED = "open"
_sql = queries("demand")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Demand:
    """The demand plan of one reader, with names for its codes and counts of what it does not cover.

    ``without_part`` counts components for which no part is listed, by (type, model). ``shelves_shown`` says whether
    stock and proposals are included. ``abstained`` and ``outlived`` are the prognoses whose components count by their
    class rate. ``cut_off`` says that there are more than ``MOST_COMPONENTS`` components.
    """

    at: datetime
    days: tuple[int, ...]
    plan: Plan
    labels: Mapping[str, str]
    centres: Mapping[str, str]
    engineers: Mapping[tuple[str, str], int]
    components: int
    abstained: int
    outlived: int
    without_part: Mapping[tuple[str, str], int]
    shelves_shown: bool
    cut_off: bool
    assumed: Assumptions


async def read_demand(
    conn: Connection,
    now: datetime,
    days: Sequence[int],
    *,
    tenant_id: str | None = None,
    assumed: Assumptions | None = None,
) -> Demand:
    """The demand of the components that the transaction's reader sees, within each of ``days``.

    With ``tenant_id`` only the components of that tenant count, and stock and proposals are left out. Database errors
    are raised.
    """
    assumed = assumed or Assumptions()
    wanted = {"now": now, "tenant_id": tenant_id}
    rows = await _all(conn, _sql.installed, {**wanted, "most": MOST_COMPONENTS + 1})
    histories = _histories(await _all(conn, _sql.histories, wanted), await _all(conn, _sql.ended_cases, wanted))
    catalogue = _Catalogue(*[await _all(conn, query, {}) for query in (_sql.parts, _sql.shelves, _sql.centres)])
    whole_fleet = tenant_id is None
    shelves = catalogue.shelves if whole_fleet else {}

    def work() -> tuple[list[Installed], Plan]:
        installed = [_installed(row, catalogue) for row in rows[:MOST_COMPONENTS]]
        return installed, plan_demand(installed, histories, shelves, days, now, assumed)

    # The plan of a very large fleet takes seconds, so it is made in a thread and does not hold up the event loop.
    installed, plan = await asyncio.to_thread(work)
    pairs = [line.key for line in plan.skills]
    asked = {"skills": [skill for skill, _ in pairs], "regions": [region for _, region in pairs]}
    found = await _all(conn, _sql.engineers, asked)
    return Demand(
        at=now,
        days=tuple(days),
        plan=plan,
        labels=catalogue.labels,
        centres=catalogue.names,
        engineers={(row["skill"], row["region"]): row["engineers"] for row in found},
        components=len(installed),
        abstained=sum(row["abstained"] is True for row in rows[:MOST_COMPONENTS]),
        outlived=sum(one.curve is not None and one.curve.at(one.age_h) < OUTLIVED for one in installed),
        without_part=_without_part(installed, rows),
        shelves_shown=whole_fleet,
        cut_off=len(rows) > MOST_COMPONENTS,
        assumed=assumed,
    )


class _Catalogue:
    """The listed parts, their stock and the centres; finds the part and the centre that would serve a component."""

    def __init__(self, parts: list[Row], shelves: list[Row], centres: list[Row]) -> None:
        self.labels = {row["part_no"]: row["label"] for row in parts}
        self.names = {row["centre_id"]: row["name"] for row in centres}
        lead = {row["part_no"]: row["replenish_days"] for row in parts}
        self.shelves = {
            (row["part_no"], row["centre_id"]): Shelf(
                row["on_hand"], row["on_order"], row["reserved"], lead.get(row["part_no"])
            )
            for row in shelves
        }
        self._parts, self._centres = parts, centres
        self._chosen: dict[tuple[Any, ...], tuple[str, str]] = {}

    def serving(self, row: Row) -> tuple[str, str]:
        """Part number and centre for a component at its site; an empty text where no part, or no centre, fits."""
        names = ("component_type", "model", "part_no", "latitude", "longitude")
        wanted = tuple(row[name] for name in names)
        if wanted not in self._chosen:
            self._chosen[wanted] = self._serving(row)
        return self._chosen[wanted]

    def _serving(self, row: Row) -> tuple[str, str]:
        known = row["part_no"] in self.labels
        fitting = [
            part
            for part in self._parts
            if part["component_type"] == row["component_type"]
            and (not part["fits_models"] or row["model"] in part["fits_models"])
            and (part["part_no"] == row["part_no"] or not known)
        ]
        offers = [
            (_arrival_h(centre, row), part["price_eur"], centre["centre_id"], part["part_no"])
            for part in fitting
            for centre in self._centres
            if (part["part_no"], centre["centre_id"]) in self.shelves
        ]
        if offers:
            _, _, centre_id, part_no = min(offers)
            return part_no, centre_id
        return (min((part["price_eur"], part["part_no"]) for part in fitting)[1], "") if fitting else ("", "")


def _arrival_h(centre: Row, site: Row) -> float:
    if site["latitude"] is None or site["longitude"] is None:
        return float(centre["handling_h"]) + UNKNOWN_PLACE_H
    usual = Config()
    way_km = distance_between_km(site["latitude"], site["longitude"], centre["latitude"], centre["longitude"])
    return float(centre["handling_h"]) + way_km * usual.road_factor / usual.speed_km_h


def _installed(row: Row, catalogue: _Catalogue) -> Installed:
    kind = COMPONENT_TYPES.get(row["component_type"])
    part_no, centre_id = catalogue.serving(row)
    standing = row["abstained"] is False
    case = None
    if row["has_case"]:
        case = OpenCase(row["case_state"] != _UNCONFIRMED, row["reserved"], row["booked"], row["deadline_h"])
    return Installed(
        scope=(row["tenant_id"], row["jurisdiction"], row["component_type"]),
        part_no=part_no,
        centre_id=centre_id,
        skill=kind.skill if kind else "",
        region=row["region"],
        mode=row["failure_mode"],
        curve=curve_of(row["survival"], (row["rul_p10_h"], row["rul_p50_h"], row["rul_p90_h"])) if standing else None,
        age_h=max(0.0, row["age_h"] or 0.0),
        stopped_h=row["stopped_h"] or 0.0,
        case=case,
    )


def _histories(service: list[Row], cases: list[Row]) -> dict[tuple[str, ...], History]:
    ended = {_scope(row): (row["cases"], row["used"]) for row in cases}
    return {_scope(row): History(row["replaced"], row["hours"], *ended.get(_scope(row), (0, 0))) for row in service}


def _scope(row: Row) -> tuple[str, ...]:
    return row["tenant_id"], row["jurisdiction"], row["component_type"]


def _without_part(installed: list[Installed], rows: list[Row]) -> dict[tuple[str, str], int]:
    missing = Counter(
        (row["component_type"], row["model"])
        for one, row in zip(installed, rows[:MOST_COMPONENTS], strict=True)
        if not one.part_no
    )
    return dict(sorted(missing.items()))


async def _all(conn: Connection, query: Any, parameters: Mapping[str, Any]) -> list[Row]:
    return await (await conn.execute(query, parameters)).fetchall()
