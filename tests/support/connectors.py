"""What the conformance suites of connectors and notifiers share: how each plugin is found, checked and reached.

A plugin that must be told where the thing is it talks to has a *rig*: a function ``rig`` in the plugin's own test,
``tests/fleet_server/test_KIND_NAME.py``. It is found by that name, so a plugin is one file and one test.
"""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import pytest
from support.resolution import PATIENT_S, Servers, seed, settings_of
from support.rigs import TESTS, offered

from fleet_core.clock import Clock, SimulatedClock
from fleet_core.plugins import load_plugin, parse_config
from fleet_server.connectors.common import ConnectorDeps
from fleet_server.store.pool import open_pool

OWN_TESTS = TESTS / "fleet_server"


def check_shape(package: str, name: str) -> ModuleType:
    """The plugin, after its module has been found to be one: Config, build, a SAMPLE that is a valid Config."""
    module = load_plugin(package, name)
    assert callable(module.build) and isinstance(module.SAMPLE, str)
    assert module.__doc__, f"{package}.{name} has no docstring"
    parse_config(module.Config, tomllib.loads(module.SAMPLE), f"the SAMPLE of {name}")
    return module


def own_test(kind: str, plugin: ModuleType, signature: str) -> Callable[..., Any]:
    """The function ``signature`` names, from the plugin's own test. Fails the test that asks, with the mend."""
    name = plugin.__name__.rpartition(".")[2]
    path = OWN_TESTS / f"test_{kind}_{name}.py"
    function = offered(path, signature.partition("(")[0])
    if function is None:
        where = path.relative_to(TESTS.parent)
        pytest.fail(f"{kind} {name!r} cannot be tried: write `def {signature}` in {where}", pytrace=False)
    return function


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
        yield ConnectorDeps(pool, clock, PATIENT_S)
    finally:
        await pool.close()


@functools.cache
def config_of(kind: str, module: ModuleType, servers: Servers) -> Any:
    """The configuration with which the plugin reaches the test's servers. One that needs no setting needs no rig."""
    table: dict[str, Any] = {}
    if any(field.default is field.default_factory for field in dataclasses.fields(module.Config)):  # both are MISSING
        table = own_test(kind, module, "rig(servers: Servers) -> dict[str, Any]")(servers)
    return parse_config(module.Config, table, f"the rig of {module.__name__}")
