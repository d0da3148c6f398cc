"""The web process: API, dashboard and probes in one FastAPI application.

The application opens its pools when it starts and closes them when it ends. A database that is away at the start raises
Retryable; when the database goes away later, requests answer 503 until it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from fleet_core import __version__
from fleet_core.clock import Clock
from fleet_core.service import end_tasks
from fleet_server.api import problems
from fleet_server.api.guard import Guard
from fleet_server.api.live import LiveEvents
from fleet_server.api.routes import assets, calibration, cases, demand, events, fleet, probes, records, session
from fleet_server.api.services import Services
from fleet_server.dashboard import site
from fleet_server.settings import Settings, clock_of
from fleet_server.store.pool import open_pool
from fleet_server.store.readiness import watch_database

WORKER_CONNECTIONS = 4
_DESCRIPTION = (
    "Sign in with POST /api/login and send the token as Authorization: Bearer. Times are ISO 8601 with zone;"
    " domain times follow /api/clock. Every field states its data class (x-data-class); what your role may not see"
    " is 'withheld', empty or null. Errors are application/problem+json."
)


def create_app(settings: Settings, clock: Clock | None = None, real_clock: Clock | None = None) -> FastAPI:
    """The application. ``clock`` defaults to the settings', else the environment's; tests inject both clocks."""
    domain_clock = clock or clock_of(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        web_pool = await open_pool(settings, "web")
        try:
            worker_pool = await open_pool(settings, "worker", size=WORKER_CONNECTIONS)
        except BaseException:
            await web_pool.close()
            raise
        services = Services(settings, domain_clock, web_pool, worker_pool, LiveEvents(web_pool))
        if real_clock is not None:
            services.use_real_clock(real_clock)
        app.state.services = services
        watch = asyncio.create_task(watch_database(worker_pool, services.trouble), name="database")
        try:
            yield
        finally:
            await end_tasks([watch])
            await services.live.close()
            await asyncio.gather(web_pool.close(), worker_pool.close())

    app = FastAPI(
        title="Forestall",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page loads scripts from elsewhere; ours is dashboard/site.py
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    problems.install(app)
    for module in (session, fleet, demand, calibration, assets, cases, records, events, probes):
        app.include_router(module.router)
    site.install(app)
    app.add_middleware(Guard)
    return app


def run_web(settings: Settings) -> None:
    """Serve until stopped; open event streams delay the end by two seconds at most.

    Raises BadConfig or Retryable, in one clear line, when the database is not usable at the start.
    """
    asyncio.run(_check_database(settings))
    uvicorn.run(
        create_app(settings),
        host=settings.web.host,
        port=settings.web.port,
        log_level=settings.log_level,
        access_log=False,
        timeout_graceful_shutdown=2,
        server_header=False,
        limit_concurrency=500,
        h11_max_incomplete_event_size=16 * 1024,
        ws="none",
        forwarded_allow_ips=settings.web.trusted_proxies,  # of anybody else X-Forwarded-For is hearsay
    )


async def _check_database(settings: Settings) -> None:
    pool = await open_pool(settings, "web", size=1)
    await pool.close()
