"""Fill a database with a plausible fleet for pages and API tests: two customers, 24 assets, cases in every state.

Rows are written directly, as the programs would leave them; nothing here asks the ingest or the resolution.
Deterministic for a given ``now``. ``python -m support.seed_story DSN`` fills a database for looking at pages.
"""

from __future__ import annotations

import math
import sys
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import numpy as np
import psycopg
from psycopg import sql

HOUR = timedelta(hours=1)
OUTBOX = uuid.UUID(int=7)
SITES = (
    ("hamburg-dc2", "northgate", "Hamburg DC2", "eu-north", "DE", "Europe/Berlin"),
    ("leipzig-hub", "northgate", "Leipzig hub", "eu-north", "DE", "Europe/Berlin"),
    ("memphis-fc", "cedar", "Memphis FC", "us-south", "US", "America/Chicago"),
)
TENANT_OF = {site[0]: site[1] for site in SITES}
PEOPLE = (
    ("p-owner", None, "Marta Lindqvist", "marta@forestall.example", "case_owner", None),
    ("p-eng-1", None, "Jonas Weber", "jonas@forestall.example", "engineer", None),
    ("p-eng-2", None, "Aisha Okafor", "aisha@forestall.example", "engineer", None),
    ("p-dir-n", "northgate", "Henrik Paulsen", "h.paulsen@northgate.example", "operations_director", "hamburg-dc2"),
    ("p-dir-c", "cedar", "Dana Whitfield", "dana@cedar.example", "operations_director", "memphis-fc"),
)
SLOTS = {
    "robot": ("drive_left_bearing", "bearing"),
    "server": ("disk0", "disk"),
    "infusion_pump": ("battery", "battery"),
}
MODELS = {"robot": "Transit 500", "server": "Ridge R7", "infusion_pump": "Volumat 3"}
METRICS = {
    "robot": (("vibration", "[g]", 0.062), ("motor_temperature", "Cel", 47.0), ("motor_current", "A", 3.4)),
    "server": (("reallocated_sectors", "1", 2.0), ("disk_temperature", "Cel", 36.0)),
    "infusion_pump": (("capacity", "A.h", 2.31), ("battery_temperature", "Cel", 29.0)),
}
LEVELS = {
    "amr-001": "degrading",
    "amr-007": "critical",
    "srv-02": "degrading",
    "amr-m02": "watch",
    "amr-010": "watch",
    "pump-01": "degrading",
    "amr-012": "unknown",
}
LONG_HISTORY = ("amr-001", "amr-007", "srv-02", "pump-01")
WITH_WAVEFORM = ("amr-001", "amr-007")


def ident(name: str) -> uuid.UUID:
    """A stable id for a name."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"forestall:{name}")


def insert(conn: psycopg.Connection[Any], table: LiteralString, **row: Any) -> None:
    """Insert one row, columns by name."""
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(sql.Placeholder() * len(row)),
    )
    conn.execute(statement, list(row.values()))


def assets() -> list[tuple[str, str, str, str]]:
    """Every asset: (asset_id, name, class, site)."""
    return [
        *((f"amr-{n:03d}", f"AMR {n:03d}", "robot", SITES[n % 2][0]) for n in range(1, 15)),
        *((f"amr-m{n:02d}", f"Picker {n:02d}", "robot", "memphis-fc") for n in range(1, 5)),
        *((f"srv-{n:02d}", f"WMS server {n}", "server", SITES[n % 3][0]) for n in range(1, 5)),
        *((f"pump-{n:02d}", f"Infusion pump {n}", "infusion_pump", "memphis-fc") for n in range(1, 3)),
    ]


def growth(asset_id: str, hours_ago: float) -> float:
    """Ratio of an indicator to its healthy baseline: flat, then growing since the onset."""
    level = LEVELS.get(asset_id, "good")
    since_h, top = {"critical": (60, 5.8), "degrading": (46, 3.4), "watch": (20, 1.5)}.get(level, (0, 1.0))
    if hours_ago >= since_h:
        return 1.0
    return 1.0 + (top - 1.0) * ((since_h - hours_ago) / since_h) ** 1.8


def seed(dsn: str, now: datetime) -> None:
    """Fill an empty migrated database."""
    from support.seed_cases import seed_cases  # it builds on this module

    with psycopg.connect(dsn) as conn:
        conn.execute("SET search_path = fleet, public")
        _seed_registry(conn, now)
        for number, (asset_id, name, kind, site_id) in enumerate(assets()):
            _seed_asset(conn, now, number, asset_id, name, kind, site_id)
        _seed_telemetry(conn, now)
        seed_cases(conn, now)
        _seed_library(conn, now)


def _seed_registry(conn: psycopg.Connection[Any], now: datetime) -> None:
    for tenant_id, name, country in (("northgate", "Northgate Logistics", "DE"), ("cedar", "Cedar Retail", "US")):
        insert(conn, "tenant", tenant_id=tenant_id, name=name, jurisdiction=country)
    columns = ("site_id", "tenant_id", "name", "region", "jurisdiction", "time_zone")
    for site in SITES:
        insert(conn, "site", **dict(zip(columns, site, strict=True)))
        insert(
            conn,
            "agent",
            agent_id=f"agent-{site[0]}",
            tenant_id=site[1],
            site_id=site[0],
            registered_at=now - timedelta(days=90),
            online=True,
            last_seen_at=now,
            agent_version="0.1.0",
        )
    for person in PEOPLE:
        columns = ("person_id", "tenant_id", "name", "email", "role", "site_id")
        insert(conn, "person", **dict(zip(columns, person, strict=True)))
    for part_no, kind, label in (
        ("PN-BEAR-20", "bearing", "Drive bearing 6004-2RS"),
        ("PN-DISK-20", "disk", "Disk 8 TB"),
        ("PN-BATT-20", "battery", "Battery pack 2.3 Ah"),
    ):
        insert(conn, "part", part_no=part_no, component_type=kind, label=label)


def _seed_asset(
    conn: psycopg.Connection[Any], now: datetime, number: int, asset_id: str, name: str, kind: str, site_id: str
) -> None:
    tenant_id, (slot, component) = TENANT_OF[site_id], SLOTS[kind]
    stale, in_maintenance = asset_id == "amr-012", asset_id == "amr-005"
    insert(
        conn,
        "asset",
        asset_id=asset_id,
        tenant_id=tenant_id,
        site_id=site_id,
        agent_id=f"agent-{site_id}",
        name=name,
        asset_class=kind,
        model=MODELS[kind],
        serial=f"SN-{4100 + number}",
        firmware="4.2.0",
        equipment_ref=f"EQ-{number:04d}",
        criticality=1 + number % 3,
        in_service_at=now - timedelta(days=400),
        maintenance_until=now + 20 * HOUR if in_maintenance else None,
        maintenance_note="tyre change" if in_maintenance else "",
        last_seen_at=now - timedelta(hours=9) if stale else now - timedelta(minutes=3 + number % 5),
    )
    swapped = now - timedelta(days=120)
    for valid_from, valid_to, letter in ((now - timedelta(days=400), swapped, "A"), (swapped, None, "B")):
        insert(
            conn,
            "component",
            tenant_id=tenant_id,
            asset_id=asset_id,
            slot=slot,
            component_type=component,
            serial=f"{slot[:2].upper()}-{number}{letter}",
            part_no=f"PN-{component[:4].upper()}-20",
            valid_from=valid_from,
            valid_to=valid_to,
        )
    _seed_health(conn, now, asset_id, tenant_id, slot, METRICS[kind][0][0], stale)


def _seed_health(
    conn: psycopg.Connection[Any], now: datetime, asset_id: str, tenant_id: str, slot: str, metric: str, stale: bool
) -> None:
    level = LEVELS.get(asset_id, "good")
    insert(
        conn,
        "health",
        asset_id=asset_id,
        slot=slot,
        tenant_id=tenant_id,
        state={"good": "healthy", "unknown": "learning"}.get(level, level),
        level=level,
        score={"critical": 0.96, "degrading": 0.83, "watch": 0.55}.get(level, 0.08),
        since=now - 30 * HOUR,
        updated_at=now,
        data_quality=0.994,
        stale=stale,
    )
    steps = (("healthy", "watch", 46, 0.5), ("watch", "degrading", 30, 0.8), ("degrading", "critical", 8, 0.95))
    for before, after, hours, score in steps[: {"watch": 1, "degrading": 2, "critical": 3}.get(level, 0)]:
        insert(
            conn,
            "state_change",
            tenant_id=tenant_id,
            asset_id=asset_id,
            slot=slot,
            state=after,
            previous=before,
            at=now - hours * HOUR,
            score=score,
            reason=f"{metric} left its own baseline",
        )


def _seed_telemetry(conn: psycopg.Connection[Any], now: datetime) -> None:
    first, last = (now - timedelta(days=9)).date(), (now + timedelta(days=2)).date()
    for table in ("samples", "waveform"):
        conn.execute(f"CREATE TABLE {table}_seed PARTITION OF {table} FOR VALUES FROM ('{first}') TO ('{last}')")
    batches: Counter[str] = Counter()
    for number, (asset_id, _, kind, site_id) in enumerate(assets()):
        for index, (metric, unit, base) in enumerate(METRICS[kind]):
            row = conn.execute(
                "INSERT INTO series (tenant_id, asset_id, metric, unit, slot) VALUES (%s, %s, %s, %s, %s)"
                " RETURNING series_id",
                (TENANT_OF[site_id], asset_id, metric, unit, SLOTS[kind][0] if index == 0 else ""),
            ).fetchone()
            assert row is not None
            rng = np.random.default_rng(number * 10 + index)
            value = base
            for hours_ago in range(192 if asset_id in LONG_HISTORY else 8, 0, -1):
                values = _values(rng, asset_id, metric, base, index, now, hours_ago)
                batches[site_id] += 1
                _seed_batch(
                    conn, row[0], f"agent-{site_id}", asset_id, batches[site_id], now - hours_ago * HOUR, values
                )
                value = float(values[-1])
            insert(conn, "latest", series_id=row[0], t=now - timedelta(minutes=4), v=value)
            if metric == "vibration" and asset_id in WITH_WAVEFORM:
                _seed_waveform(conn, row[0], f"agent-{site_id}", batches[site_id], now - 2 * HOUR, rng)


def _values(
    rng: np.random.Generator, asset_id: str, metric: str, base: float, index: int, now: datetime, hours_ago: int
) -> np.ndarray:
    """Six values of one hour."""
    ratio = np.array([growth(asset_id, hours_ago - minutes / 60) for minutes in range(0, 60, 10)])
    daily = 1 + 0.05 * math.sin((now.hour - hours_ago) / 24 * 2 * math.pi)
    if metric == "capacity":
        return base / (1 + 0.1 * (ratio - 1)) * (1 + 0.004 * rng.standard_normal(6))
    if index == 0:
        return base * ratio * daily * (1 + 0.05 * rng.standard_normal(6))
    return base * (1 + 0.06 * (ratio - 1)) * daily * (1 + 0.01 * rng.standard_normal(6))


def _seed_batch(
    conn: psycopg.Connection[Any],
    series_id: int,
    agent_id: str,
    asset_id: str,
    batch_no: int,
    start: datetime,
    values: np.ndarray,
) -> None:
    stored = {"agent_id": agent_id, "outbox_id": OUTBOX, "batch_no": batch_no, "received_at": start + HOUR}
    digest = batch_no.to_bytes(32, "big")
    insert(
        conn,
        "batch_key",
        **stored,
        digest=digest,
        prev_digest=(batch_no - 1).to_bytes(32, "big"),
        batch_class="routine",
        device_id=asset_id,
        samples=6,
    )
    insert(
        conn,
        "samples",
        **stored,
        series_id=series_id,
        t0=start,
        t1=start + timedelta(minutes=50),
        n=6,
        bad=0,
        v_min=float(values.min()),
        v_max=float(values.max()),
        v_sum=float(values.sum()),
        times_us=[int((start + timedelta(minutes=m)).timestamp() * 1e6) for m in range(0, 60, 10)],
        vals=values.tolist(),
    )


def _seed_waveform(
    conn: psycopg.Connection[Any], series_id: int, agent_id: str, batch_no: int, at: datetime, rng: np.random.Generator
) -> None:
    t = np.arange(4096) / 12_000
    wave = 0.05 * rng.standard_normal(4096)
    wave += (
        0.16 * np.sin(2 * np.pi * 162 * t) * (1 + np.sin(2 * np.pi * 29 * t))
    )  # a defect frequency and its sidebands
    wave += 0.09 * np.sin(2 * np.pi * 1840 * t) * np.exp(-((t * 162 % 1) * 9))  # the ringing of each impact
    insert(
        conn,
        "waveform",
        series_id=series_id,
        t0=at,
        sample_rate_hz=12_000,
        fragment=0,
        fragments=1,
        vals=wave.tolist(),
        agent_id=agent_id,
        outbox_id=OUTBOX,
        batch_no=batch_no,
        received_at=at,
    )


def _seed_library(conn: psycopg.Connection[Any], now: datetime) -> None:
    for source, count in (("simulated", 40), ("import:ims", 8), ("import:femto", 17)):
        for n in range(count):
            insert(
                conn,
                "trajectory",
                trajectory_id=f"{source}-{n}",
                component_type="bearing",
                unit_serial=f"{source}-{n}",
                source=source,
                failure_mode="bearing_spalling",
                failed=n % 4 != 3,
                hours=[float(hour) for hour in range(0, 301, 3)],
                indicator=[
                    round(1.0 + (6.0 + n % 5) * (max(0, hour - 180 - 4 * (n % 7)) / 120) ** 1.6, 4)
                    for hour in range(0, 301, 3)
                ],
                added_at=now - timedelta(days=30),
            )


if __name__ == "__main__":
    seed(sys.argv[1], datetime.now(UTC))
