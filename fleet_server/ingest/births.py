"""Applies Sparkplug births, deaths and held reports to agents, assets, schemas, the installed base and the ledger.

Everything runs in the caller's transaction. The installed base follows the reports of the devices: another serial
number in a slot closes the row of the old component and opens a row for the next one, with an audit entry, because
warranty and prognosis depend on it. A birth that repeats known facts changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Jsonb
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from fleet_core.births import DeviceBirth, HeldReport, NodeBirth
from fleet_core.clock import Clock
from fleet_core.schema import Schema
from fleet_core.sparkplug.payload import decode_payload
from fleet_core.telemetry import ComponentSpec
from fleet_server.audit.log import record
from fleet_server.ingest.decoder import Agent, Control, Death
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_SQL = queries("ingest")


async def apply_control(conn: Connection, clock: Clock, control: Control) -> None:
    """Apply one control message. Raises psycopg.Error."""
    content, agent = control.content, control.agent
    if isinstance(content, NodeBirth):
        await _node_born(conn, clock, agent, content, _sent_ms(control))
    elif isinstance(content, DeviceBirth):
        await _device_born(conn, clock, agent, content)
    elif isinstance(content, HeldReport):
        await _report_held(conn, clock, agent, content)
    elif isinstance(content, Death) and content.bd_seq is not None:
        values = {"agent_id": agent.agent_id, "bd_seq": content.bd_seq, "sent_ms": _sent_ms(control), "at": clock.now()}
        await conn.execute(_SQL.node_died, values)


def _sent_ms(control: Control) -> int | None:
    """The agent's own time of a message, in ms since 1970; None when it says none that the database can hold."""
    sent_ms = decode_payload(control.message.payload).timestamp_ms
    return sent_ms if sent_ms is not None and 0 <= sent_ms < 1 << 63 else None


async def _node_born(conn: Connection, clock: Clock, agent: Agent, birth: NodeBirth, sent_ms: int | None) -> None:
    values = {
        "born_ms": sent_ms,
        "agent_id": agent.agent_id,
        "at": clock.now(),
        "agent_version": birth.agent_version,
        "wire_version": birth.wire_version,
        "boot_id": birth.boot_id,
        "bd_seq": birth.bd_seq,
        "outbox_id": birth.held.outbox_id,
        "models": Jsonb(dict(birth.models)),
        "time_quality": birth.time_quality,
    }
    await conn.execute(_SQL.node_born, values)
    await _report_held(conn, clock, agent, birth.held)


async def _report_held(conn: Connection, clock: Clock, agent: Agent, report: HeldReport) -> None:
    ranges: list[Range[int]] = [Range(first, last + 1) for first, last in report.ranges]
    if report.covers_to < report.next_number - 1:  # too many batches for one report: those beyond it count as held
        ranges.append(Range(report.covers_to + 1, report.next_number))
    values = {
        "agent_id": agent.agent_id,
        "outbox_id": report.outbox_id,
        "held": Multirange(ranges),
        "next_batch": report.next_number,
        "reported_at": clock.now(),
    }
    await conn.execute(_SQL.upsert_held, values)
    await conn.execute(_SQL.agent_heard, {"agent_id": agent.agent_id, "at": clock.now()})


async def _device_born(conn: Connection, clock: Clock, agent: Agent, birth: DeviceBirth) -> None:
    now = clock.now()
    for schema in (*birth.former_schemas, birth.schema):
        await _save_schema(conn, agent.agent_id, birth.device_id, schema, now)
    asset = await (await conn.execute(_SQL.asset_for_update, {"asset_id": birth.device_id})).fetchone()
    if asset is None:
        return
    common = {"asset_id": birth.device_id, "tenant_id": agent.tenant_id, "at": now}
    told = {"model": birth.model, "serial": birth.serial, "firmware": birth.firmware}
    await conn.execute(_SQL.asset_born, {**common, **told})
    changes = {name: {"was": asset[name], "is": value} for name, value in told.items() if asset[name] != value}
    if "firmware" in changes:
        await conn.execute(_SQL.firmware_seen, {**common, "firmware": birth.firmware})
    if str(asset["asset_class"]) != birth.asset_class.value:
        changes["asset_class"] = {"registered": asset["asset_class"], "reported": birth.asset_class.value}
    if changes:
        await _audit(conn, clock, agent, birth.device_id, "asset.reported_change", changes)
    installed = await (await conn.execute(_SQL.installed, {"asset_id": birth.device_id})).fetchall()
    for old, new in swaps(installed, birth.components):
        if old is not None:
            await conn.execute(_SQL.component_out, {"component_id": old["component_id"], "at": now})
        values = {"slot": new.slot, "component_type": new.type, "serial": new.serial}
        part_no = new.part_no or (old["part_no"] if old is not None else "")
        await conn.execute(_SQL.component_in, {**common, **values, "part_no": part_no})
        if old is not None:
            body = {"slot": new.slot, "was": old["serial"], "is": new.serial, "component_type": new.type}
            await _audit(conn, clock, agent, birth.device_id, "component.swapped", body)
    told_serials = {component.slot: component.serial for component in birth.components if component.serial}
    reported = {"asset_id": birth.device_id, "slots": list(told_serials), "serials": list(told_serials.values())}
    await conn.execute(_SQL.note_reported, reported)


def swaps(
    installed: Sequence[dict[str, Any]], reported: Sequence[ComponentSpec]
) -> list[tuple[dict[str, Any] | None, ComponentSpec]]:
    """The slots whose component changed, as pairs of the installed row (or None) and the reported component. Pure.

    A slot that the device does not mention stays as it is, because a device need not see all its parts. A report
    without a serial number does not replace an installed component that has one. A report that repeats the previous
    report changes nothing either: after an engineer has swapped a part, a device may go on naming the old part until
    its configuration is corrected.
    """
    by_slot = {row["slot"]: row for row in installed}
    changed: list[tuple[dict[str, Any] | None, ComponentSpec]] = []
    for spec in reported:
        old = by_slot.get(spec.slot)
        if old is None or (spec.serial and spec.serial not in (old["serial"], old["reported_serial"])):
            changed.append((old, spec))
    return changed


async def _save_schema(conn: Connection, agent_id: str, device_id: str, schema: Schema, now: Any) -> None:
    values = {"digest": schema.digest, "agent_id": agent_id, "device_id": device_id, "at": now}
    await conn.execute(_SQL.save_schema, {**values, "definition": Jsonb(json.loads(schema.to_json()))})


async def _audit(
    conn: Connection, clock: Clock, agent: Agent, asset_id: str, action: str, body: dict[str, Any]
) -> None:
    actor, subject = f"agent:{agent.agent_id}", f"asset:{asset_id}"
    await record(conn, clock, tenant_id=agent.tenant_id, actor=actor, action=action, subject=subject, body=body)
