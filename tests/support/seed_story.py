"""Fill a database with a plausible fleet for pages and API tests: two customers, 24 assets, cases in every state.

Rows are written directly, as the programs would leave them; nothing here is asked of the resolution or the ingest.
Deterministic for a given ``now``. ``python -m support.seed_story DSN`` fills a database for looking at pages.
"""

from __future__ import annotations

import json
import math
import random
import sys
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

HOUR = timedelta(hours=1)
OUTBOX = uuid.UUID(int=7)
SITES = (
    ("hamburg-dc2", "northgate", "Hamburg DC2", "eu-north", "DE", "Europe/Berlin"),
    ("leipzig-hub", "northgate", "Leipzig hub", "eu-north", "DE", "Europe/Berlin"),
    ("memphis-fc", "cedar", "Memphis FC", "us-south", "US", "America/Chicago"),
)
PEOPLE = (
    ("p-owner", None, "Marta Lindqvist", "marta@forestall.example", "case_owner", None),
    ("p-eng-1", None, "Jonas Weber", "jonas@forestall.example", "engineer", None),
    ("p-eng-2", None, "Aisha Okafor", "aisha@forestall.example", "engineer", None),
    ("p-dir-n", "northgate", "Henrik Paulsen", "h.paulsen@northgate.example", "operations_director", "hamburg-dc2"),
    ("p-dir-c", "cedar", "Dana Whitfield", "dana@cedar.example", "operations_director", "memphis-fc"),
)


def ident(name: str) -> uuid.UUID:
    """A stable id for a name."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"forestall:{name}")


def seed(dsn: str, now: datetime) -> None:
    """Fill an empty migrated database."""
    with psycopg.connect(dsn) as conn:
        conn.execute("SET search_path = fleet, public")
        _registry(conn, now)
        _telemetry(conn, now)
        _cases(conn, now)
        _library(conn, now)


def asset_names() -> list[tuple[str, str, str, str]]:
    """(asset_id, name, class, site)."""
    robots = [(f"amr-{n:03d}", f"AMR {n:03d}", "robot", SITES[n % 2][0]) for n in range(1, 15)]
    robots += [(f"amr-m{n:02d}", f"Picker {n:02d}", "robot", "memphis-fc") for n in range(1, 5)]
    servers = [(f"srv-{n:02d}", f"WMS server {n}", "server", SITES[n % 3][0]) for n in range(1, 5)]
    return [*robots, *servers, ("pump-01", "Infusion pump 1", "infusion_pump", "memphis-fc"),
            ("pump-02", "Infusion pump 2", "infusion_pump", "memphis-fc")]  # fmt: skip


SLOTS = {
    "robot": ("drive_left_bearing", "bearing"),
    "server": ("disk0", "disk"),
    "infusion_pump": ("battery", "battery"),
}
METRICS = {
    "robot": (("vibration", "[g]", 0.062), ("motor_temperature", "Cel", 47.0), ("motor_current", "A", 3.4)),
    "server": (("reallocated_sectors", "1", 2.0), ("disk_temperature", "Cel", 36.0)),
    "infusion_pump": (("capacity", "A.h", 2.31), ("battery_temperature", "Cel", 29.0)),
}
LEVELS = {"amr-001": "degrading", "amr-007": "critical", "srv-02": "degrading", "amr-m02": "watch", "amr-010": "watch",
          "pump-01": "degrading", "amr-012": "unknown"}  # fmt: skip
STATES = {"good": "healthy", "unknown": "learning"}


def _tenant_of(site_id: str) -> str:
    return next(site[1] for site in SITES if site[0] == site_id)


def _registry(conn: psycopg.Connection[Any], now: datetime) -> None:
    conn.execute(
        "INSERT INTO tenant (tenant_id, name, jurisdiction) VALUES ('northgate', 'Northgate Logistics', 'DE'), ('cedar', 'Cedar Retail', 'US')"
    )
    for site in SITES:
        conn.execute(
            "INSERT INTO site (site_id, tenant_id, name, region, jurisdiction, time_zone) VALUES (%s,%s,%s,%s,%s,%s)",
            site,
        )
        conn.execute(
            "INSERT INTO agent (agent_id, tenant_id, site_id, registered_at, online, last_seen_at, agent_version)"
            " VALUES (%s,%s,%s,%s,true,%s,'0.1.0')",
            (f"agent-{site[0]}", site[1], site[0], now - timedelta(days=90), now),
        )
    for person in PEOPLE:
        conn.execute(
            "INSERT INTO person (person_id, tenant_id, name, email, role, site_id) VALUES (%s,%s,%s,%s,%s,%s)", person
        )
    for number, (asset_id, name, kind, site_id) in enumerate(asset_names()):
        stale = asset_id == "amr-012"
        seen = now - timedelta(hours=9) if stale else now - timedelta(minutes=3 + number % 5)
        model = {"robot": "Transit 500", "server": "Ridge R7", "infusion_pump": "Volumat 3"}[kind]
        conn.execute(
            "INSERT INTO asset (asset_id, tenant_id, site_id, agent_id, name, asset_class, model, serial, firmware,"
            " equipment_ref, criticality, in_service_at, maintenance_until, maintenance_note, last_seen_at)"
            " VALUES (%s,%s,%s,%s,%s,%s,%s,%s,'4.2.0',%s,%s,%s,%s,%s,%s)",
            (asset_id, _tenant_of(site_id), site_id, f"agent-{site_id}", name, kind, model, f"SN-{4100 + number}",
             f"EQ-{number:04d}", 1 + number % 3, now - timedelta(days=400),
             now + 20 * HOUR if asset_id == "amr-005" else None, "tyre change" if asset_id == "amr-005" else "", seen),
        )  # fmt: skip
        slot, component = SLOTS[kind]
        for when, until, serial in ((now - timedelta(days=400), now - timedelta(days=120), f"{slot[:2].upper()}-{number}A"),
                                    (now - timedelta(days=120), None, f"{slot[:2].upper()}-{number}B")):  # fmt: skip
            conn.execute(
                "INSERT INTO component (tenant_id, asset_id, slot, component_type, serial, part_no, valid_from, valid_to)"
                " VALUES (%s,%s,%s,%s,%s,%s,%s,%s)",
                (_tenant_of(site_id), asset_id, slot, component, serial, f"PN-{component[:4].upper()}-20", when, until),
            )
        level = LEVELS.get(asset_id, "good")
        state = STATES.get(level, level)
        score = {"critical": 0.96, "degrading": 0.83, "watch": 0.55}.get(level, 0.08)
        conn.execute(
            "INSERT INTO health (asset_id, slot, tenant_id, state, level, score, since, updated_at, data_quality, stale)"
            " VALUES (%s,%s,%s,%s,%s,%s,%s,%s,%s,%s)",
            (asset_id, slot, _tenant_of(site_id), state, level, score, now - 30 * HOUR, now, 0.994, stale),
        )
        if level not in ("good", "unknown"):
            steps = [("healthy", "watch", 46, 0.5), ("watch", "degrading", 30, 0.8), ("degrading", "critical", 8, 0.95)]
            for before, after, hours, change_score in steps[: {"watch": 1, "degrading": 2, "critical": 3}[level]]:
                conn.execute(
                    "INSERT INTO state_change (tenant_id, asset_id, slot, state, previous, at, score, reason) VALUES (%s,%s,%s,%s,%s,%s,%s,%s)",
                    (_tenant_of(site_id), asset_id, slot, after, before, now - hours * HOUR, change_score,
                     f"{METRICS[kind][0][0]} left its own baseline"),
                )  # fmt: skip
    conn.execute("INSERT INTO part (part_no, component_type, label) VALUES ('PN-BEAR-20', 'bearing', 'Drive bearing 6004-2RS'),"
                 " ('PN-DISK-20', 'disk', 'Disk 8 TB'), ('PN-BATT-20', 'battery', 'Battery pack 2.3 Ah')")  # fmt: skip


def _growth(asset_id: str, hours_ago: float) -> float:
    """Ratio to the healthy baseline: flat, then growing since the onset."""
    since = {"critical": 60, "degrading": 46, "watch": 20}.get(LEVELS.get(asset_id, "good"), 0)
    if hours_ago >= since or not since:
        return 1.0
    top = {"critical": 5.8, "degrading": 3.4, "watch": 1.5}[LEVELS[asset_id]]
    return 1.0 + (top - 1.0) * ((since - hours_ago) / since) ** 1.8


def _telemetry(conn: psycopg.Connection[Any], now: datetime) -> None:
    first = (now - timedelta(days=9)).date()
    for table in ("samples", "waveform"):
        conn.execute(
            f"CREATE TABLE {table}_seed PARTITION OF {table} FOR VALUES FROM ('{first}') TO ('{(now + timedelta(days=2)).date()}')"
        )
    batches: Counter[str] = Counter()
    for number, (asset_id, _, kind, site_id) in enumerate(asset_names()):
        for index, (metric, unit, base) in enumerate(METRICS[kind]):
            (series_id,) = conn.execute(
                "INSERT INTO series (tenant_id, asset_id, metric, unit, slot) VALUES (%s,%s,%s,%s,%s) RETURNING series_id",
                (_tenant_of(site_id), asset_id, metric, unit, SLOTS[kind][0] if index == 0 else ""),
            ).fetchone()  # type: ignore[misc]  # RETURNING gives a row
            agent = f"agent-{site_id}"
            rng = np.random.default_rng(number * 10 + index)
            value = base
            for hours_ago in (
                range(8 * 24, 0, -1) if asset_id in ("amr-001", "amr-007") or number % 6 == 0 else range(8, 0, -1)
            ):
                batches[agent] += 1
                digest = batches[agent].to_bytes(8, "big")
                start = now - hours_ago * HOUR
                offsets = np.arange(0, 60, 10)
                ratio = np.array([_growth(asset_id, hours_ago - minutes / 60) for minutes in offsets])
                daily = 1 + 0.05 * math.sin(start.hour / 24 * 2 * math.pi)
                if index == 0:
                    values = base * ratio * daily * (1 + 0.05 * rng.standard_normal(6))
                else:
                    values = base * (1 + 0.06 * (ratio - 1)) * daily * (1 + 0.01 * rng.standard_normal(6))
                if metric == "capacity":
                    values = base / (1 + 0.1 * (ratio - 1)) * (1 + 0.004 * rng.standard_normal(6))
                times = [int((start + timedelta(minutes=int(m))).timestamp() * 1e6) for m in offsets]
                value = float(values[-1])
                conn.execute(
                    "INSERT INTO samples (series_id, t0, t1, n, bad, v_min, v_max, v_sum, times_us, vals, agent_id, outbox_id, batch_no, received_at)"
                    " VALUES (%s,%s,%s,6,0,%s,%s,%s,%s,%s,%s,%s,%s,%s)",
                    (series_id, start, start + timedelta(minutes=50), float(values.min()), float(values.max()),
                     float(values.sum()), times, values.tolist(), agent, OUTBOX, batches[agent], start + HOUR),
                )  # fmt: skip
                conn.execute(
                    "INSERT INTO batch_key (agent_id, outbox_id, batch_no, digest, prev_digest, batch_class, device_id,"
                    " samples, received_at) VALUES (%s,%s,%s,%s,%s,'routine',%s,6,%s)",
                    (agent, OUTBOX, batches[agent], digest, digest, asset_id, start + HOUR),
                )
            conn.execute(
                "INSERT INTO latest (series_id, t, v) VALUES (%s,%s,%s)", (series_id, now - timedelta(minutes=4), value)
            )
            if metric == "vibration" and asset_id in ("amr-001", "amr-007"):
                t = np.arange(4096) / 12_000
                wave = 0.05 * rng.standard_normal(4096) + 0.16 * np.sin(2 * np.pi * 162 * t) * (
                    1 + np.sin(2 * np.pi * 29 * t)
                )
                wave += 0.09 * np.sin(2 * np.pi * 1840 * t) * np.exp(-((t * 162 % 1) * 9))
                conn.execute(
                    "INSERT INTO waveform (series_id, t0, sample_rate_hz, fragment, fragments, vals, agent_id, outbox_id, batch_no, received_at)"
                    " VALUES (%s,%s,12000,0,1,%s,%s,%s,%s,%s)",
                    (series_id, now - 2 * HOUR, wave.tolist(), agent, OUTBOX, batches[agent], now),
                )


CASES: tuple[dict[str, Any], ...] = (
    {"asset": "amr-001", "state": "committed", "p": (41.0, 58.0, 83.0), "urgency": "high"},
    {"asset": "amr-007", "state": "planning", "p": (9.0, 17.0, 26.0), "urgency": "immediate", "escalated": "no_part_in_time"},
    {"asset": "srv-02", "state": "in_progress", "p": (60.0, 96.0, 150.0), "urgency": "normal"},
    {"asset": "pump-01", "state": "confirmed", "p": (140.0, 220.0, 330.0), "urgency": "normal", "escalated": "approval_required"},
    {"asset": "amr-004", "state": "verifying", "p": (30.0, 44.0, 71.0), "urgency": "high"},
    {"asset": "amr-009", "state": "closed", "p": (50.0, 71.0, 99.0), "urgency": "normal"},
    {"asset": "amr-m01", "state": "false_alarm", "p": (80.0, 120.0, 200.0), "urgency": "low"},
)  # fmt: skip
MODES = {"robot": "bearing_spalling", "server": "disk_failure", "infusion_pump": "battery_fade"}


def _cases(conn: psycopg.Connection[Any], now: datetime) -> None:
    kinds = {name[0]: name for name in asset_names()}
    for number, wanted in enumerate(CASES):
        asset_id, name, kind, site_id = kinds[wanted["asset"]]
        tenant, slot, mode = _tenant_of(site_id), SLOTS[kind][0], MODES[kind]
        opened = now - (5 + number * 14) * HOUR
        case_id, finding_id, prognosis_id = (ident(f"{what}:{asset_id}") for what in ("case", "finding", "prognosis"))
        _finding(conn, tenant, asset_id, kind, finding_id, opened)
        _prognosis(conn, tenant, asset_id, slot, case_id, finding_id, prognosis_id, mode, opened, wanted["p"])
        deadline = opened + wanted["p"][0] * HOUR
        done = wanted["state"] in ("closed", "false_alarm")
        plan = _plan(opened, deadline) if wanted["state"] not in ("confirmed", "planning", "false_alarm") else {}
        waits = {"committed": "the booked window", "in_progress": "the report of Jonas Weber",
                 "verifying": "6 h of healthy vitals"}.get(wanted["state"], "")  # fmt: skip
        if wanted.get("escalated"):
            waits = "a decision of Marta Lindqvist"
        conn.execute(
            "INSERT INTO repair_case (case_id, tenant_id, site_id, asset_id, slot, state, failure_mode, owner_id, impact,"
            " urgency, finding_id, prognosis_id, deadline_at, component_serial, part_no, opened_at, closed_at, escalated,"
            " waits_for, plan, outcome, trace_id) VALUES (%s,%s,%s,%s,%s,%s,%s,'p-owner',%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s)",
            (case_id, tenant, site_id, asset_id, slot, wanted["state"], mode,
             f"{name} carries 4 % of the picks at its site; a stop in the day shift delays about 120 orders.",
             wanted["urgency"], finding_id, prognosis_id, deadline, f"{slot[:2].upper()}-{number}B",
             "PN-BEAR-20" if kind == "robot" else "", opened, now - 3 * HOUR if done else None,
             bool(wanted.get("escalated")), waits, Jsonb(plan),
             Jsonb({"failure_mode": mode, "replaced": True, "note": "outer race spalled, as predicted"}) if wanted["state"] == "closed" else None,
             f"{number:032x}"),
        )  # fmt: skip
        _acts_and_events(conn, now, tenant, case_id, asset_id, name, wanted, opened, plan)


def _finding(
    conn: psycopg.Connection[Any], tenant: str, asset_id: str, kind: str, finding_id: uuid.UUID, opened: datetime
) -> None:
    metric, unit, base = METRICS[kind][0]
    second, unit2, base2 = METRICS[kind][1]
    body = {
        "channels": [
            {
                "metric": metric,
                "unit": unit,
                "contribution": 0.78,
                "baseline_mean": base,
                "baseline_sigma": base * 0.05,
                "observed": base * 2.6,
            },
            {
                "metric": second,
                "unit": unit2,
                "contribution": 0.22,
                "baseline_mean": base2,
                "baseline_sigma": base2 * 0.012,
                "observed": base2 * 1.08,
            },
        ],
        "detectors": {"ewma": 0.91, "cusum": 0.88, "pca": 0.74},
    }
    conn.execute(
        "INSERT INTO finding (finding_id, revision, tenant_id, asset_id, slot, state, score, severity, failure_mode,"
        " detected_at, onset_at, body, trace_id, received_at) VALUES (%s,1,%s,%s,%s,'degrading',0.87,0.62,%s,%s,%s,%s,'t',%s)",
        (finding_id, tenant, asset_id, SLOTS[kind][0], MODES[kind], opened - HOUR / 6, opened - 26 * HOUR, Jsonb(body), opened),
    )  # fmt: skip


def _prognosis(conn: psycopg.Connection[Any], tenant: str, asset_id: str, slot: str, case_id: uuid.UUID, finding_id: uuid.UUID,
               prognosis_id: uuid.UUID, mode: str, made: datetime, p: tuple[float, float, float]) -> None:  # fmt: skip
    low, middle, high = p
    spread = math.log(high / low) / 2.563
    share = lambda h: 0.5 * math.erfc((math.log(max(h, 1e-9) / middle)) / (spread * math.sqrt(2)))  # noqa: E731
    survival = [[0.0, 1.0]] + [[round(h, 1), round(share(h), 4)] for h in np.linspace(low * 0.3, high * 1.5, 60)]
    course = [
        [round(h, 2), round(_growth("amr-001", h) * (1 + 0.03 * math.sin(h)), 4)] for h in np.arange(90, 0, -0.75)
    ]
    rng = random.Random(asset_id)
    neighbours = [
        {"trajectory_id": f"unit-{n:03d}", "source": "simulated" if n % 3 else "import:ims", "distance": 0.1 + n / 40,
         "weight": 0.2 / (1 + n / 3), "remaining_h": round(middle * rng.uniform(0.6, 1.6), 1), "failed": n % 5 != 4}
        for n in range(9)
    ]  # fmt: skip
    conn.execute(
        "INSERT INTO prognosis (prognosis_id, tenant_id, asset_id, slot, case_id, finding_id, revision, made_at, abstained,"
        " reason, failure_mode, mode_share, p_fail, rul_p10_h, rul_p50_h, rul_p90_h, survival, neighbours, course,"
        " library_digest, model_version, trace_id) VALUES (%s,%s,%s,%s,%s,%s,1,%s,false,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,'nearest-1','t')",
        (prognosis_id, tenant, asset_id, slot, case_id, finding_id, made,
         "Nine past units degraded alike; seven of them failed, two were replaced before.", mode,
         Jsonb({mode: 0.86, "unknown": 0.14}), Jsonb({str(h): round(1 - share(h), 4) for h in (24, 72, 168, 720)}),
         low, middle, high, Jsonb(survival), Jsonb(neighbours), Jsonb(course), "9f2ce01b" * 8),
    )  # fmt: skip


def _plan(opened: datetime, deadline: datetime) -> dict[str, Any]:
    start = (opened + 22 * HOUR).replace(minute=0, second=0, microsecond=0)
    shown = lambda s, load, rank, shift: {
        "start": s.isoformat(),
        "end": (s + 2 * HOUR).isoformat(),
        "load": load,
        "load_rank": rank,
        "shift": shift,
    }  # noqa: E731, E501
    return {
        "entitlement": {"kind": "warranty", "reference": "W-2031", "valid_to": (opened + timedelta(days=200)).isoformat(), "terms": {}},
        "part": {"part_no": "PN-BEAR-20", "label": "Drive bearing 6004-2RS", "centre_id": "fc-hanover", "centre_name": "Hanover centre",
                 "arrives_at": (opened + 15 * HOUR).isoformat(), "price_eur": 84.0, "reservation": "R-88"},
        "window": {**shown(start, 214.0, 1, "night"), "time_zone": "Europe/Berlin", "of_windows": 17, "before_deadline": True,
                   "day_orders": 9120.0, "booking": "B-5512"},
        "engineer": {"id": "p-eng-1", "name": "Jonas Weber"},
        "alternatives": [shown(start + n * HOUR, 214.0 + 71 * n, n + 1, "night" if n < 3 else "early") for n in range(1, 6)],
        "excluded": {"before_part_or_notice": 15, "after_deadline": 9, "equipment_taken": 3},
        "load_by_hour": [
            [(opened.replace(minute=0, second=0, microsecond=0) + n * HOUR).isoformat(),
             round(380 - 270 * math.cos((n - 23) / 24 * 2 * math.pi) + 30 * math.sin(n), 0)]
            for n in range(48)
        ],
    }  # fmt: skip


def _acts_and_events(conn: psycopg.Connection[Any], now: datetime, tenant: str, case_id: uuid.UUID, asset_id: str, name: str,
                     wanted: dict[str, Any], opened: datetime, plan: dict[str, Any]) -> None:  # fmt: skip
    story = [
        ("opened", f"{name}: degradation confirmed by the device's finding"),
        ("prognosis_made", "Failure likely within days; nine past units compared"),
    ]
    if wanted["state"] not in ("confirmed", "false_alarm"):
        story += [("entitlement_verified", "Covered by warranty W-2031")]
    if plan:
        story += [("part_reserved", "Drive bearing 6004-2RS reserved in Hanover centre"), ("window_booked", "Window booked, load rank 1 of 17"),
                  ("work_order_written", "Work order with playbook, part and evidence"), ("dispatched", "Jonas Weber accepted"),
                  ("announced", "Announcement accepted by the customer's mail server")]  # fmt: skip
    if wanted.get("escalated"):
        story += [("escalated", "Handed to Marta Lindqvist")]
    if wanted["state"] == "closed":
        story += [("completed", "Bearing replaced"), ("verified", "Vitals healthy for 6 h"), ("closed", "Closed")]
    for n, (kind, summary) in enumerate(story):
        conn.execute("INSERT INTO case_event (tenant_id, case_id, at, kind, summary) VALUES (%s,%s,%s,%s,%s)",
                     (tenant, case_id, opened + timedelta(minutes=4 * n), kind, summary))  # fmt: skip
        conn.execute(
            "INSERT INTO audit_entry (entry_id, tenant_id, at, actor, action, subject, body, canonical, seq)"
            " VALUES (%s,%s,%s,'system:worker',%s,%s,%s,'{}',%s)",
            (
                uuid.uuid4(),
                tenant,
                opened + timedelta(minutes=4 * n),
                kind,
                f"case:{case_id}",
                Jsonb({"summary": summary}),
                None,
            ),
        )
    director = next(person for person in PEOPLE if person[1] == tenant)
    acts: list[tuple[str, str, dict[str, Any], str]] = (
        [("entitlement", "held", {}, "W-2031")] if wanted["state"] != "confirmed" else []
    )
    if plan:
        acts += [("reservation", "held", plan["part"], "R-88"), ("window", "held", plan["window"], "B-5512"),
                 ("work_order", "held", {}, "WO"), ("dispatch", "held", {"engineer_name": "Jonas Weber"}, "D-17"),
                 ("message", "consumed", {"channel": "email", "to": director[0], "message": {"to_name": director[2],
                  "subject": f"{name}: repair arranged before failure"}}, "<m@forestall>")]  # fmt: skip
    for n, (kind, state, request, reference) in enumerate(acts):
        conn.execute(
            "INSERT INTO act (act_id, tenant_id, case_id, kind, purpose, idempotency_key, state, request, external_ref, attempts,"
            " due_at, intended_at, settled_at) VALUES (%s,%s,%s,%s,%s,%s,%s,%s,%s,1,%s,%s,%s)",
            (uuid.uuid4(), tenant, case_id, kind, "announcement:email" if kind == "message" else "", f"{case_id}:{kind}", state,
             Jsonb(request), reference, opened, opened + timedelta(minutes=n), opened + timedelta(minutes=n + 1)),
        )  # fmt: skip
    if plan:
        state = {"committed": "dispatched", "in_progress": "started"}.get(wanted["state"], "completed")
        conn.execute(
            "INSERT INTO work_order (work_order_id, tenant_id, case_id, idempotency_key, asset_id, engineer_id, state, starts_at,"
            " ends_at, body, report, created_at, completed_at) VALUES (%s,%s,%s,%s,%s,'p-eng-1',%s,%s,%s,%s,%s,%s,%s)",
            (ident(f"order:{asset_id}"), tenant, case_id, f"wo:{case_id}", asset_id, state, plan["window"]["start"], plan["window"]["end"],
             Jsonb({"playbook": ["Lock out the drive", "Remove the wheel hub", "Press out the bearing, fit the new one", "Run 10 min unloaded"],
                    "part": "PN-BEAR-20"}),
             Jsonb({"replaced": True, "note": "outer race spalled"}) if state == "completed" else None, opened,
             now - 8 * HOUR if state == "completed" else None),
        )  # fmt: skip
    if wanted.get("escalated"):
        options = {
            "no_part_in_time": [("accept_late_part", "Accept a late part", "the part that arrives first is reserved, and a late window accepted"),
                                ("retry", "Try again", "planning continues automatically"),
                                ("take_over", "Take over by hand", "nothing more is arranged automatically for this case"),
                                ("false_alarm", "False alarm", "the case ends; what is held is released")],
            "approval_required": [("approve", "Approve", "everything is arranged automatically from here"),
                                  ("take_over", "Take over by hand", "nothing more is arranged automatically for this case")],
        }[wanted["escalated"]]  # fmt: skip
        summary = {"no_part_in_time": "No part can be on site before the failure may come: the first of 2 arrives 14 h too late",
                   "approval_required": "Approval needed: the policy asks a person for every infusion pump"}[wanted["escalated"]]  # fmt: skip
        low, middle, high = wanted["p"]
        context = {"asset": {"name": name}, "prognosis": {"abstained": False, "rul_p10_h": low, "rul_p50_h": middle, "rul_p90_h": high,
                   "p_fail": {"72": 0.99}, "reason": "Nine past units degraded alike."},
                   "component": {"component_type": SLOTS[next(a[2] for a in asset_names() if a[0] == asset_id)][1], "part_no": "PN-BEAR-20"}}  # fmt: skip
        conn.execute(
            "INSERT INTO escalation (escalation_id, tenant_id, case_id, reason, summary, to_person, raised_at, due_at, context, options)"
            " VALUES (%s,%s,%s,%s,%s,'p-owner',%s,%s,%s,%s)",
            (ident(f"escalation:{asset_id}"), tenant, case_id, wanted["escalated"], summary, opened, opened + 8 * HOUR,
             json.dumps(context), json.dumps([{"code": c, "label": l, "effect": e} for c, l, e in options])),
        )  # fmt: skip


def _library(conn: psycopg.Connection[Any], now: datetime) -> None:
    for source, count in (("simulated", 40), ("import:ims", 8), ("import:femto", 17)):
        for n in range(count):
            conn.execute(
                "INSERT INTO trajectory (trajectory_id, component_type, unit_serial, source, failure_mode, failed, hours, indicator, added_at)"
                " VALUES (%s,'bearing',%s,%s,'bearing_spalling',%s,'{0,1}','{1,2}',%s)",
                (f"{source}-{n}", f"{source}-{n}", source, n % 4 != 3, now - timedelta(days=30)),
            )


if __name__ == "__main__":
    seed(sys.argv[1], datetime.now(UTC))
