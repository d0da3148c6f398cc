"""Fixtures of the connectors' conformance suites: the real servers, and a database of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from support.connectors import deps_on
from support.resolution import Servers

from demo.processes import Keeper
from fleet_server.connectors.common import ConnectorDeps

__all__ = ["deps", "servers"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    directory = tmp_path_factory.mktemp("servers")
    with Keeper(directory / "log") as keeper:
        yield Servers(keeper, directory).start()


@pytest_asyncio.fixture
async def deps(dsn: str, servers: Servers) -> AsyncIterator[ConnectorDeps]:
    async with deps_on(dsn, servers) as ready:
        yield ready
