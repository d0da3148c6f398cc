"""Fill the shelf of libraries when a worker starts, so that the first prognosis after a restart need not wait.

The worker loads and calibrates the libraries that the installed components are compared with, those of the most
frequent components first, and as many scopes as the shelf keeps libraries. Every scope is a transaction of its own,
which also stores a calibration that was missing.

Failure behaviour: a failure here costs only the head start. A scope that fails is logged and is loaded by its first
prognosis instead; the other scopes go on. An unexpected error in one library must not keep the worker from starting, so
it is logged with its traceback. A database that is away when the scopes are listed is logged, too; any other error
there is raised.
"""

from __future__ import annotations

import logging
import time

import psycopg

from fleet_core.clock import Clock
from fleet_core.errors import ForestallError
from fleet_server.prognosis.service import prepare_scope
from fleet_server.prognosis.shelf import MAX_LIBRARIES, Scope, rows
from fleet_server.store.pool import Pool, transaction
from fleet_server.store.sql import queries

log = logging.getLogger(__name__)
_sql = queries("prognosis")


async def warm_shelf(pool: Pool, clock: Clock) -> int:
    """Load and calibrate the libraries of the installed components; returns the number of scopes that are ready."""
    started_s = time.perf_counter()
    try:
        async with transaction(pool) as conn:
            found = await rows(conn, _sql.scopes_in_use, {"most": MAX_LIBRARIES})
    except (psycopg.Error, OSError) as error:
        log.warning("the library is not made ready ahead of the first prognosis: %s", error)
        return 0
    ready = 0
    for scope in (Scope(**row) for row in found):
        where = f"{scope.component_type}, {scope.asset_class}, {scope.jurisdiction}, {scope.tenant_id}"
        try:
            async with transaction(pool) as conn:
                units = await prepare_scope(conn, clock, scope)
        except (psycopg.Error, OSError, ForestallError) as error:
            log.warning("library %s is not ready ahead of its first prognosis: %s", where, error)
            continue
        except Exception:
            log.exception("library %s is not ready ahead of its first prognosis", where)
            continue
        ready += 1
        log.info("library %d of %d is ready: %s, %d units", ready, len(found), where, units)
    log.info("%d of %d libraries are ready after %.1f s", ready, len(found), time.perf_counter() - started_s)
    return ready
