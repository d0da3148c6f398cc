"""A small fleet for resolution tests: one customer, one site with a reference WMS, one robot whose bearing wears out.

``Stage`` starts the real WMS and mail sink as processes, fills a database, inserts findings as the ingest does, and
plays a worker step by step in this process (or leaves it to a real worker process).
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from psycopg.types.json import Jsonb

from demo.mail_sink import distinct, read_mails
from demo.processes import Keeper
from fleet_core.clock import Clock, SimulatedClock
from fleet_core.telemetry import ChannelEvidence, DetectionState, Finding, to_us
from fleet_server.resolution.jobs import defer_triage
from fleet_server.resolution.runner import Runner
from fleet_server.resolution.runtime import Runtime, build_runtime
from fleet_server.resolution.triage import triage_finding
from fleet_server.resolution.worker import Sweep
from fleet_server.settings import Connectors, Database, Settings
from fleet_server.store.pool import Connection, Pool, open_pool

ASSET, SLOT, TENANT, SITE = "amr-17", "drive_bearing", "northgate", "hamburg"
BASELINE_G, SIGMA_G = 0.06, 0.004
READY = r'"ready": true'

Prognosis = Mapping[str, Any]


PATIENT_S = 20.0
"""How long an answer of the test's own servers is waited for: on a busy machine it may take seconds, and giving up
changes how a story goes."""


def settings_of(dsn: str, mail_port: int, *, clock: str = "", timeout_s: float = PATIENT_S) -> Settings:
    mail = {"port": mail_port, "sender": "forestall@forestall.example", "security": "none", "timeout_s": timeout_s}
    return Settings(
        clock=clock,
        database=Database(dsn=dsn),
        connectors=Connectors(timeout_s=timeout_s),
        notifiers={"email": mail},
    )


class Servers:
    """The reference WMS and the mail sink, as processes."""

    def __init__(self, keeper: Keeper, directory: Path) -> None:
        self.keeper = keeper
        self.directory = directory
        self.token_file = directory / "wms.token"

    def start(self, *sink_options: str) -> Servers:
        self.start_sink(*sink_options)
        python = sys.executable
        wms = [python, "-m", "demo.reference_wms", "--db", str(self.directory / "wms.db"), "--token-file",
               str(self.token_file), "--time-zone", "Europe/Berlin"]  # fmt: skip
        self.keeper.start("wms", wms, ready=READY)
        return self

    def start_sink(self, *options: str) -> None:
        """The mail sink alone."""
        sink = [sys.executable, "-m", "demo.mail_sink", "--dir", str(self.directory / "mail"), *options]
        self.keeper.start("sink", sink, ready=READY)

    def _ready(self, name: str) -> dict[str, Any]:
        lines = self.keeper.child(name).log_text().splitlines()
        found: dict[str, Any] = json.loads(next(line for line in lines if '"ready"' in line))
        return found

    @property
    def mail_port(self) -> int:
        return int(self._ready("sink")["port"])

    @property
    def wms_url(self) -> str:
        return str(self._ready("wms")["url"])

    def mails(self) -> list[dict[str, Any]]:
        return read_mails(self.directory / "mail")

    def mails_of(self, case_id: object, purpose: str) -> list[dict[str, Any]]:
        """Distinct mails of a case."""
        wanted = (str(case_id), purpose)
        return [
            mail
            for mail in distinct(self.mails())
            if (mail["headers"].get("X-Forestall-Case"), mail["headers"].get("X-Forestall-Purpose")) == wanted
        ]

    def wms(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token_file.read_text().strip()}"}
        answer = httpx.request(method, self.wms_url + path, json=body, headers=headers, timeout=5.0)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def fault(self, **fault: Any) -> None:
        self.wms("POST", "/_faults", fault)


async def seed(conn: Connection, servers: Servers, clock: Clock, **overrides: Any) -> None:
    """Fill an empty database; ``overrides`` are ``asset_class``, ``policy``, ``warranty`` (bool), ``stock``."""
    now = clock.now()
    equipment_ref = (
        f"EQ-{uuid.uuid4().hex[:8]}"  # the WMS is shared: what other tests booked there takes no window here
    )
    wms_config = {"url": servers.wms_url, "warehouse": SITE, "token_file": str(servers.token_file)}
    rows: list[tuple[str, tuple[Any, ...]]] = [
        (
            "INSERT INTO tenant (tenant_id, name, jurisdiction, policy) VALUES (%s, 'Northgate', 'DE', %s)",
            (TENANT, Jsonb(overrides.get("policy", {}))),
        ),
        (
            "INSERT INTO site (site_id, tenant_id, name, region, jurisdiction, time_zone, latitude, longitude,"
            " wms_kind, wms_config)"
            " VALUES (%s, %s, 'Hamburg DC', 'eu-north', 'DE', 'Europe/Berlin', 53.5, 10.0, %s, %s)",
            (
                SITE,
                TENANT,
                overrides.get("wms_kind", "reference_http"),
                Jsonb(wms_config if overrides.get("wms_kind", "reference_http") != "none" else {}),
            ),
        ),
        (
            "INSERT INTO agent (agent_id, tenant_id, site_id, registered_at) VALUES ('agent-1', %s, %s, %s)",
            (TENANT, SITE, now),
        ),
    ]
    for person_id, tenant, name, role, skills in (
        ("marta", None, "Marta Lindqvist", "case_owner", []),
        ("nina", None, "Nina Hale", "fleet_operator", []),
        ("jonas", None, "Jonas Weber", "engineer", ["drive-mechanics", "medical-devices"]),
        ("aisha", None, "Aisha Okafor", "engineer", ["drive-mechanics"]),
        ("henrik", TENANT, "Henrik Paulsen", "operations_director", []),
    ):
        rows.append(
            (
                "INSERT INTO person (person_id, tenant_id, name, email, role, skills) VALUES (%s, %s, %s, %s, %s, %s)",
                (person_id, tenant, name, f"{person_id}@people.example", role, skills),
            )
        )
    kind = overrides.get("component_type", "bearing")
    rows += [
        (
            "INSERT INTO asset (asset_id, tenant_id, site_id, agent_id, name, asset_class, model, serial,"
            " equipment_ref) VALUES (%s, %s, %s, 'agent-1', 'AMR 17', %s, 'Transit 500', 'SN-17', %s)",
            (ASSET, TENANT, SITE, overrides.get("asset_class", "robot"), equipment_ref),
        ),
        (
            "INSERT INTO component (tenant_id, asset_id, slot, component_type, serial, part_no, valid_from)"
            " VALUES (%s, %s, %s, %s, 'BRG-1', '', %s)",
            (TENANT, ASSET, SLOT, kind, now - timedelta(days=300)),
        ),
        ("INSERT INTO part VALUES ('PN-1', %s, 'Drive bearing 6004', '{}', 120)", (kind,)),
        ("INSERT INTO fulfilment_centre VALUES ('bremen', 'Bremen', 'eu-north', 'DE', 53.1, 8.8, 4)", ()),
        ("INSERT INTO fulfilment_centre VALUES ('lyon', 'Lyon', 'eu-south', 'FR', 45.7, 4.8, 8)", ()),
        ("INSERT INTO stock VALUES ('bremen', 'PN-1', %s), ('lyon', 'PN-1', 5)", (overrides.get("stock", 2),)),
        (
            "INSERT INTO series (tenant_id, asset_id, metric, unit, slot) VALUES (%s, %s, 'vibration', '[g]', %s)",
            (TENANT, ASSET, SLOT),
        ),
        ("CREATE TABLE IF NOT EXISTS samples_all PARTITION OF samples DEFAULT", ()),
    ]
    if overrides.get("warranty", True):
        rows.append(
            (
                "INSERT INTO contract VALUES ('W-1', %s, 'warranty', 'SN-17', %s, %s, %s, '{}')",
                (TENANT, [kind], now - timedelta(days=300), now + timedelta(days=300)),
            )
        )
    for statement, values in rows:
        await conn.execute(statement, values)  # type: ignore[arg-type] # literal statements of this file


def finding_at(clock: Clock, **changes: Any) -> Finding:
    """A bearing finding, detected now."""
    at_us = to_us(clock.now())
    finding = Finding(
        finding_id=str(uuid.uuid4()),
        revision=1,
        component=SLOT,
        state=DetectionState.DEGRADING,
        score=0.9,
        severity=0.6,
        detected_us=at_us,
        onset_us=at_us - 6 * 3_600_000_000,
        channels=(ChannelEvidence("vibration", "[g]", 0.8, BASELINE_G, SIGMA_G, 0.2),),
        signature=(1.0, 0.2),
        detectors={"cusum": 1.0},
        indicator_metric="vibration",
        indicator_baseline=BASELINE_G,
        indicator_sigma=SIGMA_G,
        failure_mode="bearing_spalling",
        mode_confidence=0.7,
        trace_id=uuid.uuid4().hex,
    )
    return replace(finding, **changes)


async def store_finding(conn: Connection, clock: Clock, finding: Finding, asset_id: str = ASSET) -> None:
    """As the ingest does: the row and its job in one transaction."""
    await conn.execute(
        "INSERT INTO finding (finding_id, revision, tenant_id, asset_id, slot, state, score, severity, failure_mode,"
        " detected_at, onset_at, body, trace_id, received_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (finding.finding_id, finding.revision, TENANT, asset_id, finding.component, finding.state, finding.score,
         finding.severity, finding.failure_mode, clock.now(), clock.now(), Jsonb(json.loads(finding.to_json())),
         finding.trace_id, clock.now()),
    )  # fmt: skip
    await defer_triage(conn, finding.finding_id, finding.revision)


def certain(p10_h: float = 96.0, **changes: Any) -> Callable[..., Awaitable[Prognosis]]:
    """A prognosis in the place of the real one: a likely failure after ``p10_h`` hours at the earliest."""

    async def prognose(
        conn: Connection, clock: Clock, finding: Finding, asset: dict[str, Any], case_id: Any, trace_id: str
    ) -> Prognosis:
        row = {
            "prognosis_id": uuid.uuid4(), "tenant_id": asset["tenant_id"], "asset_id": asset["asset_id"],
            "slot": finding.component, "case_id": case_id, "finding_id": finding.finding_id,
            "revision": finding.revision, "made_at": clock.now(), "abstained": False, "abstain_code": "",
            "reason": "12 similar cases",
            "failure_mode": "bearing_spalling", "mode_share": Jsonb({"bearing_spalling": 0.9}),
            "p_fail": Jsonb({"72": 0.3, "168": 0.9}), "rul_p10_h": p10_h, "rul_p50_h": p10_h * 1.3,
            "rul_p90_h": p10_h * 1.8, "library_digest": "d", "model_version": "stub", "trace_id": trace_id, **changes,
        }  # fmt: skip
        names = ", ".join(row)
        values = ", ".join(f"%({name})s" for name in row)
        await conn.execute(f"INSERT INTO prognosis ({names}) VALUES ({values})", row)  # type: ignore[arg-type]
        return row

    return prognose


async def learn_nothing(conn: Connection, clock: Clock, case_id: Any) -> None:
    return None


class Stage:
    """A worker in this process, played step by step."""

    def __init__(self, rt: Runtime, servers: Servers) -> None:
        self.rt = rt
        self.servers = servers
        self.clock = rt.clock
        self.runner = Runner(rt, 3)
        self.sweep = Sweep(rt, self.runner)

    async def finding(self, finding: Finding | None = None, *, run: bool = True) -> uuid.UUID | None:
        """Store a finding, judge it and go on until everything waits. Returns the case."""
        finding = finding or finding_at(self.clock)
        async with self.rt.pool.connection() as conn:
            await store_finding(conn, self.clock, finding)
        case_id = await triage_finding(self.rt, finding.finding_id, finding.revision)
        if run:
            await self.settle()
        return uuid.UUID(case_id) if case_id else None

    async def settle(self, rounds: int = 12) -> None:
        """Sweep until nothing is due."""
        for _ in range(rounds):
            await self.sweep.once()
            await self.sweep.settle()
            async with self.rt.pool.connection() as conn:
                due = await (
                    await conn.execute("SELECT 1 FROM repair_case WHERE next_at <= %s", (self.clock.now(),))
                ).fetchone()
            if due is None:
                return

    async def later(self, hours: float) -> None:
        """Let domain time pass in one leap and go on."""
        assert isinstance(self.clock, SimulatedClock)
        self.clock.shift(hours * 3600)
        await self.settle()

    async def case(self, case_id: uuid.UUID | None) -> dict[str, Any]:
        rows = await self.rows("SELECT * FROM repair_case WHERE case_id = %s", case_id)
        return rows[0]

    async def acts(self, case_id: uuid.UUID | None, kind: str) -> list[dict[str, Any]]:
        return await self.rows("SELECT * FROM act WHERE case_id = %s AND kind = %s ORDER BY sequence", case_id, kind)

    async def escalations(self, case_id: uuid.UUID | None) -> list[dict[str, Any]]:
        return await self.rows("SELECT * FROM escalation WHERE case_id = %s ORDER BY raised_at", case_id)

    async def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        async with self.rt.pool.connection() as conn:
            return await (await conn.execute(statement, values)).fetchall()  # type: ignore[arg-type]

    async def command(self, command: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """Run a person's command and go on."""
        async with self.rt.pool.connection() as conn:
            await command(conn, self.clock, "user:test", *arguments)
        await self.settle()

    async def vitals(self, value: float, hours: float = 3.0) -> None:
        """Samples of the indicator over the last hours."""
        now = self.clock.now()
        times = [now - timedelta(hours=hours) * (1 - i / 10) for i in range(1, 10)]
        async with self.rt.pool.connection() as conn:
            await conn.execute("SET LOCAL ROLE forestall_ingest")
            await conn.execute(
                "INSERT INTO samples (series_id, t0, t1, n, bad, times_us, vals, agent_id, outbox_id, batch_no,"
                " received_at) SELECT series_id, %s, %s, %s, 0, %s, %s, 'agent-1', gen_random_uuid(), 1, %s FROM series"
                " WHERE asset_id = %s",
                (times[0], times[-1], len(times), [to_us(t) for t in times], [value] * len(times), now, ASSET),
            )


@asynccontextmanager
async def stage(
    dsn: str,
    servers: Servers,
    prognose: Any = None,
    clock: Clock | None = None,
    *,
    timeout_s: float = PATIENT_S,
    **overrides: Any,
) -> AsyncIterator[Stage]:
    """A seeded database and a worker on it; ``overrides`` are those of :func:`seed`."""
    clock = clock or SimulatedClock()
    settings = settings_of(dsn, servers.mail_port, timeout_s=timeout_s)
    owner = await open_pool(settings, "owner", size=1)
    try:
        async with owner.connection() as conn:
            await seed(conn, servers, clock, **overrides)
    finally:
        await owner.close()
    pool: Pool = await open_pool(settings, "worker", size=8)
    rt = build_runtime(settings, pool, clock)
    rt.prognose = prognose or certain()
    rt.learn = learn_nothing
    try:
        yield Stage(rt, servers)
    finally:
        await rt.close()
        await pool.close()


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
