"""Fixtures of the connectors' conformance suites: what connectors are built from, with a database for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from support.connectors import deps_on
from support.resolution import Servers

from fleet_server.connectors.common import ConnectorDeps

__all__ = ["deps"]


@pytest_asyncio.fixture
async def deps(dsn: str, servers: Servers) -> AsyncIterator[ConnectorDeps]:
    async with deps_on(dsn, servers) as ready:
        yield ready
