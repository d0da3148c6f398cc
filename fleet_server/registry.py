"""The registry from a TOML file: tenants, sites, people, agents, assets with components, contracts, parts, stock.

The import is one transaction and may be repeated: it adds rows and updates them, but removes none, and what an entry
leaves out stays as it is (``registry_kept.py``). Later changes by devices and people are kept: the serial number of an
installed component changes when the file says another one than it said before, in place, or with a later ``valid_from``
as a swap that keeps the history. Stock is set only where there is none (or with ``reset_stock``), because reservations
count it down. An id never moves to another
tenant.

Tables of the file: ``[[tenant]] [[site]] [[person]] [[agent]] [[asset]]`` with ``[[asset.component]]``,
``[[contract]] [[part]] [[centre]] [[stock]]``; ``SAMPLE`` shows them.
Failure: BadConfig naming the entry and what is wrong with it; nothing is changed then.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psycopg
from psycopg.types.json import Jsonb
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fleet_core.assets import AssetClass, component_type
from fleet_core.clock import Clock
from fleet_core.errors import BadConfig, BadInput
from fleet_core.plugins import load_plugin, parse_config
from fleet_server.audit.log import record
from fleet_server.registry_kept import TABLES, Imported, merged, stored
from fleet_server.resolution.policy import policy_for
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_SQL = queries("registry")
MAX_FILE_BYTES = 32 << 20

SAMPLE = """\
[[tenant]]
tenant_id = "acme"
name = "Acme Logistics"
jurisdiction = "EU"

[[site]]
site_id = "acme-berlin"            # the Sparkplug group of its agents
tenant_id = "acme"
name = "Berlin"
region = "eu-central"
jurisdiction = "DE"
time_zone = "Europe/Berlin"
latitude = 52.52
longitude = 13.40
wms_kind = "none"                  # a plugin of connectors/wms, configured under [site.wms_config]

[[person]]
person_id = "dana"
tenant_id = "acme"                 # left out: one of ours
name = "Dana Weber"
email = "dana@example.com"
role = "operations_director"
site_id = "acme-berlin"

[[person]]
person_id = "olga"
name = "Olga Brandt"
email = "olga@example.org"
role = "case_owner"                # decides what is not decided automatically; a site or region narrows whose

[[person]]
person_id = "emil"
name = "Emil Sander"
email = "emil@example.org"
role = "engineer"
region = "eu-central"
skills = ["drive-mechanics"]       # as the component asks for

[[agent]]
agent_id = "agent-1"               # the edge node, equal to its certificate's CN
site_id = "acme-berlin"

[[asset]]
asset_id = "robot-1"
agent_id = "agent-1"
name = "Robot 1"
asset_class = "robot"
model = "RX-2"
serial = "SN-0001"

[[asset.component]]
slot = "bearing-1"
type = "bearing"
serial = "B-0001"
part_no = "P-100"

[[contract]]
contract_id = "C-1"
tenant_id = "acme"
kind = "warranty"                  # or "service"
asset_serial = "SN-0001"           # "*" covers every asset of the tenant
component_types = ["bearing"]
valid_from = 2025-01-01T00:00:00Z
valid_to = 2028-01-01T00:00:00Z

[[part]]
part_no = "P-100"
component_type = "bearing"
label = "Drive bearing 6205"
price_eur = 84.5
replenish_days = 10.0              # until a new one is in the centre; left out: assumed

[[centre]]
centre_id = "fc-leipzig"
name = "Leipzig"
region = "eu-central"
jurisdiction = "DE"
latitude = 51.34
longitude = 12.37
handling_h = 4.0

[[stock]]
centre_id = "fc-leipzig"
part_no = "P-100"
on_hand = 3
on_order = 0                       # ordered and not there yet
"""


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not an IANA time zone") from None
    return name


def _component_type(code: str) -> str:
    try:
        return component_type(code).code
    except BadInput as error:
        raise ValueError(str(error)) from None


Identity = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")]
Text = Annotated[str, Field(max_length=200)]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
ComponentCode = Annotated[str, AfterValidator(_component_type)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Tenant(_Entry):
    tenant_id: Identity
    name: Text
    jurisdiction: Text
    policy: dict[str, Any] = {}

    @model_validator(mode="after")
    def _policy_can_be_read(self) -> Tenant:
        """Refuse here a policy under which the worker would ask a person about everything."""
        try:
            policy_for(self.policy)
        except BadConfig as error:
            raise ValueError(f"tenant {self.tenant_id!r}: {error}") from None
        return self


class Site(_Entry):
    site_id: Identity
    tenant_id: Identity
    name: Text
    region: Text
    jurisdiction: Text
    time_zone: Annotated[str, AfterValidator(_time_zone)]
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    wms_kind: Identity = "none"
    wms_config: dict[str, Any] = {}

    @model_validator(mode="after")
    def _wms_is_configured(self) -> Site:
        """Refuse a WMS configuration here that the worker would refuse when it first plans a repair."""
        try:
            plugin = load_plugin("fleet_server.connectors.wms", self.wms_kind)
        except BadConfig as error:
            raise ValueError(f"wms_kind: {error}") from None
        try:
            parse_config(plugin.Config, self.wms_config, "wms_config")
        except BadConfig as error:
            raise ValueError(f"{error} (wms_kind {self.wms_kind!r})") from None
        return self


class Person(_Entry):
    person_id: Identity
    tenant_id: Identity | None = None
    name: Text
    email: Annotated[str, Field(pattern=r"^([^@\s]+@[^@\s]+)?$", max_length=254)] = ""
    """"" for somebody who is reached by another channel alone."""
    role: Literal[
        "operations_director", "site_manager", "engineer", "case_owner", "fleet_operator", "auditor", "administrator"
    ]
    site_id: Identity | None = None
    region: Text | None = None
    skills: list[Text] = []
    webhook_url: Annotated[str, Field(max_length=2000, pattern=r"^https?://")] | None = None
    active: bool = True


class Agent(_Entry):
    agent_id: Identity
    site_id: Identity
    third_party: bool = False


class Component(_Entry):
    slot: Identity
    type: ComponentCode
    serial: Text
    part_no: Text = ""
    valid_from: AwareDatetime | None = None


class Asset(_Entry):
    asset_id: Identity
    agent_id: Identity
    name: Text
    asset_class: AssetClass
    model: Text
    serial: Text
    firmware: Text = ""
    equipment_ref: Text = ""
    criticality: Annotated[int, Field(ge=1, le=3)] = 2
    in_service_at: AwareDatetime | None = None
    component: list[Component] = []


class Contract(_Entry):
    contract_id: Identity
    tenant_id: Identity
    kind: Literal["warranty", "service"]
    asset_serial: Text
    component_types: list[ComponentCode]
    valid_from: AwareDatetime
    valid_to: AwareDatetime
    terms: dict[str, Any] = {}


class Part(_Entry):
    part_no: Identity
    component_type: ComponentCode
    label: Text
    fits_models: list[Text] = []
    price_eur: Annotated[float, Field(ge=0, lt=1e9)] = 0
    replenish_days: Annotated[float, Field(ge=0, le=730)] | None = None


class Centre(_Entry):
    centre_id: Identity
    name: Text
    region: Text
    jurisdiction: Text
    latitude: Latitude
    longitude: Longitude
    handling_h: Annotated[float, Field(ge=0, le=10_000)]


class Stock(_Entry):
    centre_id: Identity
    part_no: Identity
    on_hand: Annotated[int, Field(ge=0, le=1_000_000)]
    on_order: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class Registry(_Entry):
    """A whole file."""

    tenant: list[Tenant] = []
    site: list[Site] = []
    person: list[Person] = []
    agent: list[Agent] = []
    asset: list[Asset] = []
    contract: list[Contract] = []
    part: list[Part] = []
    centre: list[Centre] = []
    stock: list[Stock] = []


def parse_registry(text: str, name: str = "registry") -> Registry:
    """Raises BadConfig naming the first wrong entry."""
    try:
        return Registry.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"{name}: {error}") from None
    except ValidationError as error:
        errors = error.errors()
        first = next(
            (one for one in errors if one["type"] == "extra_forbidden"), errors[0]
        )  # often the cause of others
        where = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in first["loc"])
        near = _nearest(first["loc"]) if first["type"] == "extra_forbidden" else ""
        hint = f"; did you mean {near!r}?" if near else ""
        raise BadConfig(f"{name}: {where}: {first['msg']}{hint}") from None


def _nearest(loc: tuple[int | str, ...]) -> str:
    """The known key that is most like an unknown one, "" when none is."""
    kinds: dict[str, type[BaseModel]] = {
        "tenant": Tenant, "site": Site, "person": Person, "agent": Agent, "asset": Asset, "component": Component,
        "contract": Contract, "part": Part, "centre": Centre, "stock": Stock,
    }  # fmt: skip
    above = [part for part in loc[:-1] if isinstance(part, str)]
    model = kinds.get(above[-1], Registry) if above else Registry
    return next(iter(get_close_matches(str(loc[-1]), list(model.model_fields), 1)), "")


def load_registry(path: Path) -> Registry:
    """Read and check a file. Raises BadConfig."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadConfig(f"{path}: larger than {MAX_FILE_BYTES} bytes")
        return parse_registry(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: {error}") from None


async def import_registry(
    conn: Connection, clock: Clock, registry: Registry, *, actor: str, reset_stock: bool = False
) -> Imported:
    """Bring the database up to ``registry`` in the caller's transaction (owner role); returns what became of it.

    Raises BadConfig for an entry that refers to something unknown or belongs to another tenant, and for a file that a
    WMS configuration names and that is not there.
    """
    now = clock.now()
    told = Imported()
    for site in registry.site:
        _require_files(site)
    for kind in ("tenant", "site", "person", "agent"):
        for entry in getattr(registry, kind):
            row = await _merge(conn, told, kind, entry)
            await _put(conn, kind, {**row, "now": now}, next(iter(row.values())), returns=kind != "tenant")
    for asset in registry.asset:
        await _put_asset(conn, told, asset, now)
    for kind in ("contract", "part", "centre", "stock"):
        for entry in getattr(registry, kind):
            if kind == "stock":
                await conn.execute(_SQL.lock_stock, entry.model_dump())
            row = await _merge(conn, told, kind, entry, unset=set() if reset_stock else {"on_hand"})
            await _put(conn, kind, {**row, "reset_stock": reset_stock}, " ".join(map(str, list(row.values())[:2])))
    body = told.document()
    await record(conn, clock, tenant_id=None, actor=actor, action="registry.imported", subject="registry", body=body)
    return told


async def who_cannot_be_asked(conn: Connection, channels: Collection[str]) -> list[str]:
    """What is missing for a question always to reach somebody, one line each with its mend; [] when nothing is.

    ``channels``: the notifiers that are configured.
    """
    reached = {"email": "email" in channels, "webhook": "webhook" in channels}
    rows = await (await conn.execute(_SQL.people_out_of_reach, reached)).fetchall()
    said = [
        f"person {row['person_id']} ({row['role']}) has no address on a configured channel ({', '.join(channels)}):"
        " add an email or a webhook_url, or configure the channel"
        for row in rows
    ]
    rows = await (await conn.execute(_SQL.tenants_without_last_line, reached)).fetchall()
    return said + [
        f"tenant {row['tenant_id']} has no last line: register a person with role administrator, fleet_operator or"
        " case_owner who can be reached; until then a question may reach nobody"
        for row in rows
    ]


async def _merge(
    conn: Connection, told: Imported, kind: str, entry: BaseModel, *, unset: set[str] | None = None
) -> dict[str, Any]:
    """The row of an entry, with what the file leaves out as it is; ``unset`` are fields that are not told of."""
    row = _plain(entry.model_dump(exclude={"component"}))
    before = await stored(conn, kind, row)
    row = merged(row, entry.model_fields_set, before)
    shown = {key: value for key, value in row.items() if key not in (unset or set()) and key != "firmware"}
    told.note(kind, " ".join(str(row[key]) for key in TABLES[kind][1]), before, shown)
    return row


def _require_files(site: Site) -> None:
    for key, value in site.wms_config.items():
        if key.endswith("_file") and isinstance(value, str) and value and not _is_there(Path(value)):
            mend = "write the token there" if key == "token_file" else "put it there"
            raise BadConfig(f"site {site.site_id}: {key} {value} is not there; {mend}, or mend wms_config")


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that this user may not enter: the server may
        return True


async def _put_component(conn: Connection, told: Imported, component: Component, values: dict[str, Any]) -> None:
    """Install, correct or swap a component. A file that repeats what it said before changes no serial number."""
    name = f"{values['asset_id']} {component.slot}"
    before = await (await conn.execute(_SQL.installed, values)).fetchone()
    if before is None:
        told.of("component").added += 1
        await _put(conn, "component", values, name)
        return
    news = component.serial not in (before["registry_serial"], before["serial"])
    if not before["registry_serial"] and before["reported_serial"]:  # no file said anything since the device did
        news = False
    if news and component.valid_from is not None and component.valid_from > before["valid_from"]:
        await conn.execute(_SQL.end_installed, values)
        await _put(conn, "component", values, name)
        told.of("component").ended += 1
        told.of("component").added += 1
        told.changes.append(f"component {name}: {before['serial']} ended, {component.serial} installed")
        return
    row = merged(values, component.model_fields_set | {"asset_id", "tenant_id"}, before) | {"correct": news}
    after = {"component_type": component.type, "part_no": row["part_no"]}
    told.note("component", name, before, after | ({"serial": component.serial} if news else {}))
    await _put(conn, "component", row, name)


async def _put_asset(conn: Connection, told: Imported, asset: Asset, now: datetime) -> None:
    row = await _merge(conn, told, "asset", asset)
    written = await _put(conn, "asset", row, asset.asset_id)
    head = {"tenant_id": written["tenant_id"], "asset_id": asset.asset_id}
    for component in asset.component:
        values = component.model_dump()
        values["valid_from"] = component.valid_from or asset.in_service_at or now
        await _put_component(conn, told, component, {**head, **values, "correct": False})
    if asset.firmware:
        seen_at = asset.in_service_at or now
        await conn.execute(_SQL.first_firmware, {**head, "firmware": asset.firmware, "seen_at": seen_at})


async def _put(conn: Connection, kind: str, row: dict[str, Any], name: str, *, returns: bool = True) -> dict[str, Any]:
    try:
        cursor = await conn.execute(getattr(_SQL, kind), row)
        written = await cursor.fetchone() if returns else {}
    except psycopg.errors.ForeignKeyViolation as error:
        raise BadConfig(f"{kind} {name}: {error.diag.message_detail or error}") from None
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise BadConfig(f"{kind} {name}: {error.diag.message_primary or error}") from None
    if written is None:
        raise BadConfig(f"{kind} {name}: what it belongs to is not registered, or it belongs to another tenant")
    return written


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    def one(value: Any) -> Any:
        if isinstance(value, dict):
            return Jsonb(value)
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        return value.value if isinstance(value, AssetClass) else value

    return {name: one(value) for name, value in row.items()}
