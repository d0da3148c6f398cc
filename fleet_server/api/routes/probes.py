"""Probes for machines: alive, ready, metrics. They name no customer and need no login."""

from __future__ import annotations

import psycopg
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from psycopg_pool import PoolTimeout

from fleet_server.api.access import App
from fleet_server.api.models.fleet import Ready

router = APIRouter(tags=["probes"])
_listeners = Gauge("forestall_web_live_listeners", "Pages that listen for live events")
READY_TIMEOUT_S = 2.0


@router.get("/health")
async def health() -> Ready:
    """The process answers (says nothing of the database: see /ready)."""
    return Ready(status="alive", database=None)


@router.get("/ready")
async def ready(response: Response, app: App) -> Ready:
    """The process can serve: the database answers. 503 when it does not."""
    try:
        async with app.web_pool.connection(timeout=READY_TIMEOUT_S) as conn:
            await conn.execute("SELECT 1")
    except (psycopg.Error, PoolTimeout):
        response.status_code = 503
        return Ready(status="no database", database=False)
    return Ready(status="ready", database=True)


@router.get("/metrics", include_in_schema=False)
async def metrics(app: App) -> Response:
    """Prometheus metrics of this process."""
    _listeners.set(app.live.listeners)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
