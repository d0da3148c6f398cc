"""The shelf keeps libraries ready in the process: each is read from the database, prepared and calibrated once.

For every prognosis the shelf asks the database only for the index of the library (id and digest of every trajectory)
and reads only the trajectories it does not hold yet. A calibration is stored in the database under its digest. It
stays valid while the number of units changes by no more than a tenth, so that one more case does not cost a
recalibration; a prognosis names the calibration it used.

Bounds: the shelf keeps 8 libraries and 20,000 trajectories and drops the oldest first. A stored trajectory or
calibration that is not usable is left out, logged and counted; the others are used.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from prometheus_client import Counter
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from fleet_core.errors import BadInput
from fleet_server.prognosis.calibration import Calibration, calibrate
from fleet_server.prognosis.judgement import MODEL_VERSION
from fleet_server.prognosis.library import Library, Trajectory
from fleet_server.store.sql import queries

log = logging.getLogger(__name__)

MAX_LIBRARIES = 8
MAX_TRAJECTORIES = 20_000
UNUSABLE = Counter("forestall_prognosis_unusable_total", "Stored trajectories or calibrations left out", ["kind"])

_sql = queries("prognosis")


@dataclass(frozen=True)
class Scope:
    """The part of the library that a component may be compared with: its type, class, jurisdiction and tenant."""

    component_type: str
    asset_class: str
    jurisdiction: str
    tenant_id: str


@dataclass
class Shelf:
    """The libraries of one process."""

    libraries: OrderedDict[str, Library] = field(default_factory=OrderedDict)
    trajectories: OrderedDict[str, Trajectory | None] = field(default_factory=OrderedDict)
    calibrations: dict[str, Calibration] = field(default_factory=dict)

    async def library(self, conn: AsyncConnection[Any], scope: Scope, known_at: datetime) -> Library:
        """The library of a scope as it was known at the domain time ``known_at``. Database errors are raised."""
        wanted = {**vars(scope), "known_at": known_at}
        index = [(row["trajectory_id"], row["digest"]) for row in await rows(conn, _sql.library_index, wanted)]
        key = hashlib.sha256("\n".join(f"{name}\x1f{digest}" for name, digest in index).encode()).hexdigest()
        if key not in self.libraries:
            units = await self._load(conn, index)
            self.libraries[key] = await asyncio.to_thread(Library, units)
            while len(self.libraries) > MAX_LIBRARIES:
                self.libraries.popitem(last=False)
        self.libraries.move_to_end(key)
        return self.libraries[key]

    async def calibration(
        self, conn: AsyncConnection[Any], component_type: str, library: Library, now: datetime
    ) -> Calibration:
        """The calibration of a library: kept in this process, read from the database, or made now (about a second)."""
        made = self.calibrations.get(library.digest)
        wanted = {
            "scope": component_type,
            "model_version": MODEL_VERSION,
            "library_digest": library.digest,
            "units": len(library),
        }
        if made is None:
            for row in await rows(conn, _sql.latest_calibration, wanted):
                made = _read_calibration(row["body"])
        if made is None:
            made = await asyncio.to_thread(calibrate, library)
        if not await rows(conn, _sql.calibration_is_stored, {"calibration_id": made.digest}):
            # Store a calibration made earlier, too: its transaction may have been rolled back, or the database restored
            # from a backup.
            body = Jsonb(json.loads(made.to_json()))
            await conn.execute(
                _sql.add_calibration, wanted | {"calibration_id": made.digest, "body": body, "made_at": now}
            )
        if len(self.calibrations) >= 4 * MAX_LIBRARIES:
            self.calibrations.clear()
        self.calibrations[library.digest] = made
        return made

    async def widened(
        self,
        conn: AsyncConnection[Any],
        component_type: str,
        made: Calibration,
        stretch: tuple[float, float],
        now: datetime,
    ) -> Calibration:
        """A calibration stretched further for a cohort by the factors ``stretch`` (early, late), and stored.

        It is stored under a scope name of its own, so that it is never taken for the library's calibration.
        """
        wider = made.widened(*stretch)
        kept = {
            "calibration_id": wider.digest,
            "scope": f"{component_type}, recalibrated",
            "model_version": MODEL_VERSION,
            "library_digest": made.library_digest,
            "units": made.units,
            "body": Jsonb(json.loads(wider.to_json())),
            "made_at": now,
        }
        await conn.execute(_sql.add_calibration, kept)
        return wider

    async def stored_calibration(self, conn: AsyncConnection[Any], calibration_id: str) -> Calibration:
        """Read a calibration by its digest. Raises BadInput when it is missing or does not match its digest."""
        found = await rows(conn, _sql.calibration, {"calibration_id": calibration_id})
        made = _read_calibration(found[0]["body"]) if found else None
        if made is None or made.digest != calibration_id:
            raise BadInput("calibration", f"{calibration_id} is missing or changed")
        return made

    async def _load(self, conn: AsyncConnection[Any], index: Sequence[tuple[str, str]]) -> list[Trajectory]:
        keys = {name: f"{name}\x1f{digest}" for name, digest in index}
        units = {name: self.trajectories[key] for name, key in keys.items() if key in self.trajectories}
        missing = [name for name in keys if name not in units]
        for row in await rows(conn, _sql.trajectories, {"ids": missing}):
            units[row["trajectory_id"]] = _read_trajectory(row)
        self.trajectories.update((keys[name], unit) for name, unit in units.items())
        while len(self.trajectories) > MAX_TRAJECTORIES:
            self.trajectories.popitem(last=False)
        return [unit for unit in units.values() if unit is not None]


async def rows(conn: AsyncConnection[Any], statement: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All rows of a statement as dictionaries, whatever the connection's row factory."""
    async with conn.cursor(row_factory=dict_row, binary=True) as cursor:
        await cursor.execute(statement, values)
        return await cursor.fetchall()


def _read_trajectory(row: Mapping[str, Any]) -> Trajectory | None:
    fields = {name: value for name, value in row.items() if name not in ("hours", "indicator")}
    try:
        hours, ratio = (np.array(row[name], dtype=np.float64) for name in ("hours", "indicator"))
        return Trajectory(**fields, hours=hours, ratio=ratio)
    except (BadInput, TypeError, ValueError) as error:
        UNUSABLE.labels("trajectory").inc()
        log.warning("trajectory %s is left out: %s", row["trajectory_id"], error)
        return None


def _read_calibration(body: Any) -> Calibration | None:
    try:
        return Calibration.from_json(json.dumps(body))
    except BadInput as error:
        UNUSABLE.labels("calibration").inc()
        log.warning("a stored calibration is made anew: %s", error)
        return None
