"""Probes for machines: alive, ready, metrics. They name no customer and need no login."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest

from fleet_server.api.access import App
from fleet_server.api.models.fleet import Ready
from fleet_server.store.readiness import why_not_ready

router = APIRouter(tags=["probes"])
_listeners = Gauge("forestall_web_live_listeners", "Pages that listen for live events")


@router.get("/health")
async def health() -> Ready:
    """The process answers (says nothing of the database: see /ready)."""
    return Ready(status="alive", database=None)


@router.get("/ready")
async def ready(response: Response, app: App) -> Ready:
    """The process can do its work: the database answers and takes changes. 503 with the reason when it does not."""
    why = await why_not_ready(app.worker_pool, app.trouble)
    if why:
        response.status_code = 503
        response.headers["Retry-After"] = "2"
        return Ready(status=why, database=False)
    return Ready(status="ready", database=True)


@router.get("/metrics", include_in_schema=False)
async def metrics(app: App) -> Response:
    """Prometheus metrics of this process."""
    _listeners.set(app.live.listeners)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
