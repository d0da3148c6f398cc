"""The services of the application, made once: pools, clocks, the login throttle, live events.

Reads run under ``forestall_web`` and see the rows that row-level security shows the user's tenant. Commands run under
``forestall_worker``, and only after the route has found, as that reader, the resource on which they act.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from starlette.requests import HTTPConnection

from fleet_core.clock import Clock, SystemClock
from fleet_server.api.live import LiveEvents
from fleet_server.health.assess import heard_since
from fleet_server.settings import Settings
from fleet_server.sovereignty.throttle import LoginThrottle
from fleet_server.sovereignty.users import User
from fleet_server.store.pool import Connection, Pool, as_reader, transaction
from fleet_server.store.readiness import Trouble


@dataclass
class Services:
    """The services of a request; ``clock`` is domain time, ``real_clock`` real time for sessions and throttling."""

    settings: Settings
    clock: Clock
    web_pool: Pool
    worker_pool: Pool
    live: LiveEvents
    real_clock: Clock = field(default_factory=SystemClock)
    throttle: LoginThrottle = field(init=False)
    trouble: Trouble = field(default_factory=Trouble)

    def __post_init__(self) -> None:
        self.throttle = LoginThrottle(self.real_clock)

    def heard_since(self) -> datetime:
        """Since when an agent must have been heard to be online."""
        return heard_since(self.clock.now(), self.clock.scale)

    def use_real_clock(self, clock: Clock) -> None:
        """Tests: another real clock, for sessions and throttling."""
        self.real_clock, self.throttle = clock, LoginThrottle(clock)

    @asynccontextmanager
    async def reader(self, user: User) -> AsyncIterator[Connection]:
        """One read transaction that sees what the user's tenant may see."""
        async with transaction(self.web_pool) as conn:
            await as_reader(conn, user.tenant_id)
            yield conn

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[Connection]:
        """One transaction of the worker role, for commands that were checked before, and for sessions."""
        async with transaction(self.worker_pool) as conn:
            yield conn


def services_of(connection: HTTPConnection) -> Services:
    """The application's services."""
    services: Services = connection.app.state.services
    return services
