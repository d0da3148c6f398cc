"""What the resolution worker is made of: pool, clock, connectors, notifiers and the prognosis, built from settings."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from fleet_core.clock import Clock
from fleet_core.errors import BadConfig
from fleet_core.plugins import load_plugin, parse_config
from fleet_core.telemetry import Finding
from fleet_server.connectors.common import ConnectorDeps
from fleet_server.connectors.entitlement.api import EntitlementSource
from fleet_server.connectors.field_service.api import FieldService
from fleet_server.connectors.parts.api import PartsSource
from fleet_server.connectors.wms.api import WarehouseSystem
from fleet_server.notifiers.api import Notifier
from fleet_server.prognosis.service import learn_from_case, prognose
from fleet_server.resolution.pieces import Pieces
from fleet_server.resolution.rows import Site
from fleet_server.settings import Settings
from fleet_server.store.pool import Connection, Pool

Prognose = Callable[[Connection, Clock, Finding, dict[str, str], UUID, str], Awaitable[Mapping[str, object]]]
"""Makes and stores a prognosis for a finding; the row it returns names its ``prognosis_id``."""
Learn = Callable[[Connection, Clock, UUID], Awaitable[object]]
"""Takes the outcome of a closed case into the library."""
MAX_WMS_CLIENTS = 512


@dataclass
class Runtime:
    """Shared by all cases of one worker. ``prognose`` and ``learn`` are replaced in unit tests only."""

    pool: Pool
    deps: ConnectorDeps
    entitlement: EntitlementSource
    parts: PartsSource
    field_service: FieldService
    notifiers: Mapping[str, Notifier]
    prognose: Prognose
    learn: Learn
    pieces: Pieces = field(default_factory=Pieces)
    _wms: dict[str, WarehouseSystem] = field(default_factory=dict)

    @property
    def clock(self) -> Clock:
        return self.deps.clock

    def wms_of(self, site: Site) -> WarehouseSystem:
        """The site's WMS. Raises BadConfig when its configuration is wrong."""
        key = json.dumps([site.wms_kind, site.wms_config], sort_keys=True)
        known = self._wms.get(key)
        if known is None:
            module = load_plugin("fleet_server.connectors.wms", site.wms_kind)
            config = parse_config(module.Config, site.wms_config, f"site {site.site_id}: wms_config")
            known = module.build(config, self.deps)
            if len(self._wms) >= MAX_WMS_CLIENTS:
                raise BadConfig(f"more than {MAX_WMS_CLIENTS} different WMS configurations; restart the worker")
            self._wms[key] = known
        return known

    async def close(self) -> None:
        """Give up the connections of connectors and notifiers; the pool stays open."""
        for system in self._wms.values():
            await system.close()
        for notifier in self.notifiers.values():
            await notifier.close()


def build_runtime(settings: Settings, pool: Pool, clock: Clock) -> Runtime:
    """Load the plugins the settings name. Raises BadConfig."""
    deps = ConnectorDeps(pool, clock, settings.connectors.timeout_s)

    def connector(kind: str, name: str) -> Any:
        module = load_plugin(f"fleet_server.connectors.{kind}", name)
        return module.build(module.Config(), deps)

    return Runtime(
        pool=pool,
        deps=deps,
        entitlement=connector("entitlement", settings.connectors.entitlement),
        parts=connector("parts", settings.connectors.parts),
        field_service=connector("field_service", settings.connectors.field_service),
        notifiers={name: _notifier(name, table, deps) for name, table in settings.notifiers.items()},
        prognose=prognose,
        learn=learn_from_case,
    )


def _notifier(name: str, table: Mapping[str, object], deps: ConnectorDeps) -> Notifier:
    """The plugin a table ``[notifiers.NAME]`` configures. Raises BadConfig naming the table."""
    where = f"notifiers.{name}"
    try:
        module = load_plugin("fleet_server.notifiers", name)
    except BadConfig as error:
        raise BadConfig(f"{where}: {error}; remove the table or mend its name") from None
    config = parse_config(module.Config, table, where)
    try:
        notifier: Notifier = module.build(config, deps)
    except BadConfig as error:
        raise BadConfig(f"{where}: {error}") from None
    return notifier
