"""What the conformance suites of connectors and notifiers share: a rig for each plugin that exists.

A rig brings a plugin up against the real thing it talks to. A plugin without a rig fails its suite: whoever adds a
plugin adds its rig here, and nothing else.
"""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

from support.resolution import SITE, Servers, seed, settings_of

from fleet_core.clock import Clock, SimulatedClock
from fleet_core.plugins import load_plugin
from fleet_server.connectors.common import ConnectorDeps
from fleet_server.store.pool import open_pool


def check_shape(package: str, name: str) -> ModuleType:
    """The plugin, after its module has been found to be one: Config, build, a SAMPLE that is a valid Config."""
    module = load_plugin(package, name)
    assert callable(module.build) and isinstance(module.SAMPLE, str)
    assert module.__doc__, f"{package}.{name} has no docstring"
    module.Config(**tomllib.loads(module.SAMPLE))
    return module


@asynccontextmanager
async def deps_on(dsn: str, servers: Servers, clock: Clock | None = None) -> AsyncIterator[ConnectorDeps]:
    """A seeded database and what connectors are built from."""
    clock = clock or SimulatedClock()
    settings = settings_of(dsn, servers.mail_port)
    owner = await open_pool(settings, "owner", size=1)
    async with owner.connection() as conn:
        await seed(conn, servers, clock)
    await owner.close()
    pool = await open_pool(settings, "worker", size=8)
    try:
        yield ConnectorDeps(pool, clock, 1.0)
    finally:
        await pool.close()


def config_of(module: ModuleType, name: str, servers: Servers) -> Any:
    """The configuration with which the plugin reaches the test's servers."""
    if name == "reference_http":
        return module.Config(url=servers.wms_url, warehouse=SITE, token_file=str(servers.token_file))
    assert name in ("own_tables", "none"), f"plugin {name} has no rig in tests/support/connectors.py"
    return module.Config()
