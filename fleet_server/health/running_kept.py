"""Reads the facts of whether a machine runs, and keeps the answer in the table ``running_state``.

``read_facts`` and ``assess_now`` only read. ``keep_running`` writes, in the caller's transaction, one worker at a time
for each asset: the audit log gets one entry when an asset comes into another state, none while it stays. A first state
that says nothing new (it runs, or nothing is known) has none. Database errors are raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from fleet_core.clock import Clock
from fleet_core.telemetry import DetectionState, from_us, to_us
from fleet_server.audit.log import record
from fleet_server.health.assess import stale_after
from fleet_server.health.running import (
    Assessed,
    CriticalSpan,
    Facts,
    Part,
    Running,
    RunningState,
    Why,
    assess_running,
    stands_now,
)
from fleet_server.health.standstill import Course, tells
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

HISTORY = timedelta(days=15)
"""Two weekends: what a machine does on which day of the week."""
RECENT = timedelta(days=2)
MOST_SERIES = 24
_sql = queries("running")


@dataclass(frozen=True, slots=True)
class Kept:
    """What a look at an asset found: the states it had by slot ('' is the whole asset), and those it has."""

    asset_id: str
    before: Mapping[str, RunningState]
    now: Assessed

    @property
    def runs_again(self) -> bool:
        """Whether the asset stood, or was silent, and is seen to run with this look."""
        before = self.before.get("")
        was_away = before is not None and before.state not in (Running.RUNNING, Running.UNKNOWN)
        return was_away and self.now.asset.state is Running.RUNNING

    def came_into(self, *states: Running) -> dict[str, RunningState]:
        """The components that came into one of these states with this look."""
        return {
            slot: found
            for slot, found in self.now.parts.items()
            if found.state in states and (slot not in self.before or self.before[slot].state not in states)
        }


async def read_facts(conn: Connection, asset_id: str, now: datetime, courses_over: timedelta = HISTORY) -> Facts | None:
    """What is known of a machine, its vitals over that time; None when there is no such asset."""
    row = await (await conn.execute(_sql.asset, {"asset_id": asset_id, "now": now})).fetchone()
    if row is None:
        return None
    silent_after = stale_after(row["longest_period_s"])
    parts = await (await conn.execute(_sql.parts, {"asset_id": asset_id})).fetchall()
    said = await (await conn.execute(_sql.states, {"asset_id": asset_id, "since": now - HISTORY})).fetchall()
    courses = await _courses(conn, asset_id, parts, now, courses_over)
    by_metric = {course.metric: course for course in courses}
    return Facts(
        now=now,
        parts=tuple(
            Part(
                slot=part["slot"],
                component_type=part["component_type"],
                indicator=by_metric.get(part["indicator_metric"] or ""),
                critical=critical_spans((one["state"], one["at"]) for one in said if one["slot"] == part["slot"]),
            )
            for part in parts
        ),
        courses=tuple(course for course in courses if tells(course.metric, course.unit) is not None),
        last_seen_at=row["last_seen_at"],
        silent_after=silent_after,
        time_zone=row["time_zone"],
        said_farewell=row["left_at"] is not None,
        others_heard=await _others_heard(conn, row, silent_after),
        maintained_until=row["maintenance_until"],
        being_repaired=row["being_repaired"],
    )


async def assess_now(conn: Connection, asset_id: str, now: datetime) -> Assessed | None:
    """Whether a machine runs, from what is stored at this moment; None when there is no such asset."""
    facts = await read_facts(conn, asset_id, now)
    return None if facts is None else assess_running(facts)


async def why_standing(conn: Connection, asset_id: str, slot: str, now: datetime) -> str:
    """Why a component is not to be judged now: its vitals show a standstill, however short, or its machine has failed.

    Empty when there is no such reason. For people.
    """
    facts = await read_facts(conn, asset_id, now)
    if facts is None:
        return ""
    found = assess_running(facts)
    part = found.parts.get(slot, found.asset)
    if part.stands:
        return part.text
    if found.asset.why is Why.CRITICAL_THEN_SILENCE:
        return found.asset.text
    return "" if stands_now(facts) is None else "its vitals show a standstill"


async def keep_running(conn: Connection, clock: Clock, asset_id: str) -> Kept | None:
    """Look at an asset and write down what changed. None when another worker is at it, or there is no such asset."""
    if not (await (await conn.execute(_sql.alone, {"asset_id": asset_id})).fetchone() or {}).get("alone"):
        return None
    now = clock.now()
    row = await (await conn.execute(_sql.asset, {"asset_id": asset_id, "now": now})).fetchone()
    stored = await (await conn.execute(_sql.stored, {"asset_id": asset_id})).fetchall()
    before = {one["slot"]: _state(one) for one in stored}
    looked_at = min((one["looked_at"] for one in stored), default=None)
    found = await _still_running(conn, asset_id, now, looked_at, before) or await assess_now(conn, asset_id, now)
    if row is None or found is None:
        return None
    found = Assessed(_held(before.get(""), found.asset), {s: _held(before.get(s), f) for s, f in found.parts.items()})
    for slot, state in {"": found.asset, **found.parts}.items():
        if slot not in before or _news(before[slot], state):
            values = {
                "asset_id": asset_id, "slot": slot, "tenant_id": row["tenant_id"], "state": state.state,
                "since": state.since, "why": state.why, "reason": state.text, "evidence": Jsonb(state.evidence),
                "now": now,
            }  # fmt: skip
            await conn.execute(_sql.put, values)
    await conn.execute(_sql.forget_slots, {"asset_id": asset_id, "slots": list(found.parts)})
    await conn.execute(_sql.looked, {"asset_id": asset_id, "now": now})
    await _audit(conn, clock, asset_id, row["tenant_id"], before.get(""), found.asset)
    return Kept(asset_id, before, found)


async def _still_running(
    conn: Connection, asset_id: str, now: datetime, looked_at: datetime | None, before: Mapping[str, RunningState]
) -> Assessed | None:
    """The answer of nearly every look, from a tenth of the vitals: it ran lately, and its vitals show it running.

    None when they show anything else, a standstill of minutes too. How large its vitals are while it runs is only to be
    seen in vitals of a time when it ran, so the last look must lie well within those that are read.
    """
    if looked_at is None or now - looked_at > RECENT / 2:
        return None
    if any(state.state is not Running.RUNNING for state in before.values()):
        return None
    facts = await read_facts(conn, asset_id, now, RECENT)
    if facts is None or stands_now(facts) is not None:
        return None
    found = assess_running(facts)
    runs = all(state.state is Running.RUNNING for state in (found.asset, *found.parts.values()))
    return found if runs else None


def critical_spans(said: Iterable[tuple[str, datetime]]) -> tuple[CriticalSpan, ...]:
    """When a device called a component critical, from what it said of it in order of time. Pure."""
    spans: list[CriticalSpan] = []
    since: datetime | None = None
    for state, at in said:
        if state == DetectionState.CRITICAL:
            since = since or at
        elif since is not None:
            spans.append(CriticalSpan(since, at))
            since = None
    return tuple(spans) if since is None else (*spans, CriticalSpan(since, None))


async def _courses(
    conn: Connection, asset_id: str, parts: list[dict[str, Any]], now: datetime, over: timedelta
) -> list[Course]:
    """The courses of the vitals that tell, and of the components' indicators."""
    healthy = {
        part["indicator_metric"]: part["indicator_baseline"] or 0.0 for part in parts if part["indicator_metric"]
    }
    series = await (await conn.execute(_sql.series, {"asset_id": asset_id})).fetchall()
    wanted = [one for one in series if one["metric"] in healthy or tells(one["metric"], one["unit"]) is not None]
    wanted = sorted(wanted, key=lambda one: one["metric"] not in healthy)[:MOST_SERIES]
    span = {
        "series": [one["series_id"] for one in wanted], "from_t": now - over, "to_t": now,
        "from_us": to_us(now - over), "to_us": to_us(now), "recent_us": to_us(now - RECENT),
    }  # fmt: skip
    points: dict[int, list[tuple[float, float]]] = {one["series_id"]: [] for one in wanted}
    for point in await (await conn.execute(_sql.courses, span)).fetchall():
        points[point["series_id"]].append((point["t_us"], point["v"]))
    return [
        Course(
            metric=one["metric"],
            unit=one["unit"],
            slot=one["slot"],
            times=tuple(from_us(int(at_us)) for at_us, _ in points[one["series_id"]]),
            values=tuple(value for _, value in points[one["series_id"]]),
            healthy=healthy.get(one["metric"], 0.0),
        )
        for one in wanted
        if points[one["series_id"]]
    ]


async def _others_heard(conn: Connection, row: Mapping[str, Any], silent_after: timedelta) -> bool:
    """Whether somebody was heard who could have been cut off with this asset: its own agent, others at the site, else
    others elsewhere. True when there is nobody else at all."""
    last_seen_at = row["last_seen_at"]
    if last_seen_at is None:
        return True
    after = last_seen_at + silent_after
    if row["agent_last_seen_at"] is not None and row["agent_last_seen_at"] > after:
        return True
    values = {"agent_id": row["agent_id"], "site_id": row["site_id"], "last_seen_at": last_seen_at, "after": after}
    others = {one["at_site"]: one for one in await (await conn.execute(_sql.others, values)).fetchall()}
    nearest = others.get(True) or others.get(False)
    return nearest is None or nearest["heard"] > 0


def _held(before: RunningState | None, found: RunningState) -> RunningState:
    """A machine that failed is not at rest because its repair has begun: it has failed until it runs."""
    if before is None or before.state is not Running.FAILED:
        return found
    return before if found.why in (Why.REPAIR, Why.MAINTENANCE) else found


def _news(before: RunningState, found: RunningState) -> bool:
    return (before.state, before.why) != (found.state, found.why)


def _state(row: Mapping[str, Any]) -> RunningState:
    return RunningState(Running(row["state"]), row["since"], Why(row["why"]), row["reason"], row["evidence"])


async def _audit(
    conn: Connection, clock: Clock, asset_id: str, tenant_id: str, before: RunningState | None, found: RunningState
) -> None:
    if found.state is (before.state if before else Running.UNKNOWN):
        return
    if before is None and found.state is Running.RUNNING:
        return
    was = before.state if before else Running.UNKNOWN
    body = {"was": was, "is": found.state, "since": found.since.isoformat(), "why": found.why, "reason": found.text}
    await record(
        conn,
        clock,
        tenant_id=tenant_id,
        actor="system:worker",
        action=f"asset.{found.state}",
        subject=f"asset:{asset_id}",
        body={**body, "evidence": found.evidence},
    )
