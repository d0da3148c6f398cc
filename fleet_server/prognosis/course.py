"""Read the course of one vital from the stored telemetry (worker role), with a bound on the number of points.

Which way the vital goes as its component degrades is read here too: once a finding has decided it, it stays, so that
no later revision turns the course over and the library learns the course that was forecast by.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
from psycopg import AsyncConnection

from fleet_core.telemetry import Finding, to_us
from fleet_server.prognosis.shelf import rows
from fleet_server.prognosis.signatures import DirectionBy, Floats, IndicatorDirection, found_direction
from fleet_server.store.sql import queries

MAX_POINTS = 6_000
HOUR_US = 3_600_000_000

_sql = queries("prognosis")


async def read_course(
    conn: AsyncConnection[Any], asset_id: str, metric: str, since: datetime, until: datetime, most: int = MAX_POINTS
) -> tuple[Floats, Floats]:
    """Read the values of one vital between two domain times.

    Returns two arrays of the same length, ascending in time: times in microseconds since 1970 and finite values in the
    vital's own unit. When more than ``most`` values are stored, the values are averaged over buckets of equal width.
    Database errors are raised.
    """
    span = {"asset_id": asset_id, "metric": metric, "from_t": since, "to_t": until}
    points = (await rows(conn, _sql.course_size, span))[0]["points"]
    first_us, last_us = to_us(since), to_us(until)
    bucket_us = 1 if points <= most else max(1, (last_us - first_us) // most)
    read = await rows(conn, _sql.course, span | {"from_us": first_us, "to_us": last_us, "bucket_us": bucket_us})
    return np.array([row["t_us"] for row in read]), np.array([row["v"] for row in read])


async def read_direction(
    conn: AsyncConnection[Any], asset_id: str, component_type: str, finding: Finding
) -> IndicatorDirection:
    """Which way the indicator of a finding goes as its component degrades, the same over the finding's life.

    Where only the finding can say, the first prognosis of the finding by this indicator that was clear holds. Database
    errors are raised.
    """
    found = found_direction(component_type, finding)
    if found.by is DirectionBy.TYPE:
        return found
    of = {"asset_id": asset_id, "slot": finding.component, "finding_id": finding.finding_id}
    kept = await rows(conn, _sql.kept_direction, of | {"metric": finding.indicator_metric, "by": DirectionBy.FINDING})
    return IndicatorDirection(kept[0]["falls"], DirectionBy.FINDING) if kept else found
