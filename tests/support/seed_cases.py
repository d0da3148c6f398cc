"""The cases of the seeded fleet: findings, prognoses, plans, acts, work orders, escalations, timelines."""

from __future__ import annotations

import math
import random
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from psycopg.types.json import Jsonb
from support.seed_story import HOUR, METRICS, PEOPLE, SLOTS, TENANT_OF, assets, growth, ident, insert

MODES = {"robot": "bearing_spalling", "server": "disk_failure", "infusion_pump": "battery_fade"}
OPTIONS = {
    "accept_late_part": ("Accept a late part", "the part that arrives first is reserved, and a late window accepted"),
    "retry": ("Try again", "planning continues automatically"),
    "approve": ("Approve", "everything is arranged automatically from here"),
    "take_over": ("Take over by hand", "nothing more is arranged automatically for this case"),
    "false_alarm": ("False alarm", "the case ends; what is held is released"),
}
ESCALATIONS = {
    "no_part_in_time": (
        "No part can be on site before the failure may come: the first of 2 arrives 14 h too late",
        ("accept_late_part", "retry", "take_over", "false_alarm"),
    ),
    "approval_required": (
        "Approval needed: the policy asks a person for every infusion pump",
        ("approve", "take_over"),
    ),
}


@dataclass(frozen=True)
class Wanted:
    """One case to seed; ``rul_h`` is the prognosis' p10, p50, p90."""

    asset_id: str
    state: str
    rul_h: tuple[float, float, float]
    urgency: str = "normal"
    escalated: str = ""
    waits_for: str = ""


CASES = (
    Wanted("amr-001", "committed", (41.0, 58.0, 83.0), "high", waits_for="the booked window"),
    Wanted("amr-007", "planning", (9.0, 17.0, 26.0), "immediate", "no_part_in_time", "decision of Marta Lindqvist"),
    Wanted("srv-02", "in_progress", (60.0, 96.0, 150.0), waits_for="the report of Jonas Weber"),
    Wanted("pump-01", "confirmed", (140.0, 220.0, 330.0), "normal", "approval_required", "decision of Marta Lindqvist"),
    Wanted("amr-004", "verifying", (30.0, 44.0, 71.0), "high", waits_for="6 h of healthy vitals"),
    Wanted("amr-009", "closed", (50.0, 71.0, 99.0)),
    Wanted("amr-m01", "false_alarm", (80.0, 120.0, 200.0), "low"),
)


@dataclass(frozen=True)
class Story:
    """What the rows of one case share."""

    wanted: Wanted
    number: int
    tenant_id: str
    site_id: str
    asset_name: str
    kind: str
    opened: datetime
    now: datetime

    @property
    def slot(self) -> str:
        return SLOTS[self.kind][0]

    @property
    def arranged(self) -> bool:
        return self.wanted.state not in ("confirmed", "planning", "false_alarm")

    def id_of(self, what: str) -> uuid.UUID:
        return ident(f"{what}:{self.wanted.asset_id}")


def seed_cases(conn: psycopg.Connection[Any], now: datetime) -> None:
    """Write every case with all that belongs to it."""
    known = {asset[0]: asset for asset in assets()}
    for number, wanted in enumerate(CASES):
        _, name, kind, site_id = known[wanted.asset_id]
        opened = now - (5 + number * 14) * HOUR
        story = Story(wanted, number, TENANT_OF[site_id], site_id, name, kind, opened, now)
        _seed_finding(conn, story)
        _seed_prognosis(conn, story)
        plan = _plan(story) if story.arranged else {}
        _seed_case(conn, story, plan)
        _seed_timeline(conn, story)
        _seed_acts(conn, story, plan)
        if plan:
            _seed_work_order(conn, story, plan)
        if wanted.escalated:
            _seed_escalation(conn, story)


def _seed_finding(conn: psycopg.Connection[Any], story: Story) -> None:
    channels = [
        {
            "metric": metric,
            "unit": unit,
            "contribution": share,
            "baseline_mean": base,
            "baseline_sigma": base * spread,
            "observed": base * ratio,
        }
        for (metric, unit, base), share, spread, ratio in zip(
            METRICS[story.kind][:2], (0.78, 0.22), (0.05, 0.012), (2.6, 1.08), strict=True
        )
    ]
    insert(
        conn,
        "finding",
        finding_id=story.id_of("finding"),
        revision=1,
        tenant_id=story.tenant_id,
        asset_id=story.wanted.asset_id,
        slot=story.slot,
        state="degrading",
        score=0.87,
        severity=0.62,
        failure_mode=MODES[story.kind],
        detected_at=story.opened - HOUR / 6,
        onset_at=story.opened - 26 * HOUR,
        body=Jsonb({"channels": channels, "detectors": {"ewma": 0.91, "cusum": 0.88, "pca": 0.74}}),
        trace_id=f"{story.number:032x}",
        received_at=story.opened,
    )


def _seed_prognosis(conn: psycopg.Connection[Any], story: Story) -> None:
    low, middle, high = story.wanted.rul_h
    spread = math.log(high / low) / 2.563

    def survives(hours: float) -> float:
        return 0.5 * math.erfc(math.log(max(hours, 1e-9) / middle) / (spread * math.sqrt(2)))

    rng = random.Random(story.wanted.asset_id)
    neighbours = [
        {
            "trajectory_id": f"simulated-{n}" if n % 3 else f"import:ims-{n}",
            "source": "simulated" if n % 3 else "import:ims",
            "failure_mode": MODES[story.kind],
            "distance": 0.1 + n / 40,
            "weight": 0.2 / (1 + n / 3),
            "remaining_h": round(middle * rng.uniform(0.6, 1.6), 1),
            "failed": n % 4 != 3,
        }
        for n in range(9)
    ]
    insert(
        conn,
        "prognosis",
        prognosis_id=story.id_of("prognosis"),
        tenant_id=story.tenant_id,
        asset_id=story.wanted.asset_id,
        slot=story.slot,
        case_id=story.id_of("case"),
        finding_id=story.id_of("finding"),
        revision=1,
        made_at=story.opened,
        abstained=False,
        reason="Nine past units degraded alike; seven of them failed, two were replaced before.",
        failure_mode=MODES[story.kind],
        mode_share=Jsonb({MODES[story.kind]: 0.86, "unknown": 0.14}),
        p_fail=Jsonb({str(h): round(1 - survives(h), 4) for h in (24, 72, 168, 720)}),
        rul_p10_h=low,
        rul_p50_h=middle,
        rul_p90_h=high,
        survival=Jsonb(
            [[0.0, 1.0], *([round(h, 1), round(survives(h), 4)] for h in np.linspace(low * 0.3, high * 1.5, 60))]
        ),
        neighbours=Jsonb(neighbours),
        course=Jsonb(
            [[round(h, 2), round(growth("amr-001", h) * (1 + 0.03 * math.sin(h)), 4)] for h in np.arange(90, 0, -0.75)]
        ),
        inputs=Jsonb(
            {"component_type": SLOTS[story.kind][1], "metric": METRICS[story.kind][0][0], "sigma_ratio": 0.04}
        ),
        library_digest="9f2ce01b" * 8,
        model_version="nearest-1",
        trace_id=f"{story.number:032x}",
    )


def _seed_case(conn: psycopg.Connection[Any], story: Story, plan: dict[str, Any]) -> None:
    wanted = story.wanted
    impact = (
        f"{story.asset_name} carries 4 % of the picks at its site; a stop in the day shift delays about 120 orders."
    )
    outcome = {"failure_mode": MODES[story.kind], "replaced": True, "note": "outer race spalled, as predicted"}
    insert(
        conn,
        "repair_case",
        case_id=story.id_of("case"),
        tenant_id=story.tenant_id,
        site_id=story.site_id,
        asset_id=wanted.asset_id,
        slot=story.slot,
        state=wanted.state,
        failure_mode=MODES[story.kind],
        owner_id="p-owner",
        impact=impact,
        urgency=wanted.urgency,
        finding_id=story.id_of("finding"),
        prognosis_id=story.id_of("prognosis"),
        deadline_at=story.opened + wanted.rul_h[0] * HOUR,
        component_serial=f"{story.slot[:2].upper()}-{story.number}B",
        part_no="PN-BEAR-20" if story.kind == "robot" else "",
        opened_at=story.opened,
        closed_at=story.now - 3 * HOUR if wanted.state in ("closed", "false_alarm") else None,
        escalated=bool(wanted.escalated),
        waits_for=wanted.waits_for,
        plan=Jsonb(plan),
        outcome=Jsonb(outcome) if wanted.state == "closed" else None,
        trace_id=f"{story.number:032x}",
    )


def _plan(story: Story) -> dict[str, Any]:
    """As the resolution writes it (``resolution/plan.py``); what the window was chosen from is ``_window_request``."""
    load = _load(story)
    first = story.opened.replace(minute=0, second=0, microsecond=0)

    def window(hour: int, rank: int) -> dict[str, Any]:
        start = first + hour * HOUR
        return {
            "start": start.isoformat(),
            "end": (start + 2 * HOUR).isoformat(),
            "load": float(load[hour] + load[hour + 1]),
            "load_rank": rank,
            "shift": "night",
        }

    ranked = sorted(range(16, 40), key=lambda hour: load[hour] + load[hour + 1])
    chosen = window(ranked[0], 1) | {"of_windows": 17, "time_zone": "Europe/Berlin", "booking": "B-5512"}
    return {
        "entitlement": {"kind": "warranty", "reference": "W-2031", "terms": {}},
        "part": {
            "part_no": "PN-BEAR-20",
            "label": "Drive bearing 6004-2RS",
            "centre_id": "fc-hanover",
            "centre_name": "Hanover centre",
            "arrives_at": (story.opened + 15 * HOUR).isoformat(),
            "on_hand": 3,
            "price_eur": 84.5,
            "distance_km": 132.4,
            "lead_time_h": 11.0,
            "reservation": "R-88",
        },
        "window": chosen | {"before_deadline": True, "day_orders": 9120.0, "choice": "quietest"},
        "engineer": {"id": "p-eng-1", "name": "Jonas Weber"},
        "alternatives": [window(hour, rank) for rank, hour in enumerate(ranked[1:6], start=2)],
        "excluded": {"before_part_or_notice": 15, "after_deadline": 9, "equipment_taken": 3},
    }


def _load(story: Story) -> dict[int, int]:
    """Orders in each of the 48 hours after the case was opened."""
    hour = story.opened.hour
    return {n: round(380 - 270 * math.cos((hour + n - 1) / 24 * 2 * math.pi) + 30 * math.sin(n)) for n in range(48)}


def _window_request(story: Story, plan: dict[str, Any]) -> dict[str, Any]:
    first = story.opened.replace(minute=0, second=0, microsecond=0)
    window = {name: value for name, value in plan["window"].items() if name != "booking"}
    shown = {name: plan[name] for name in ("engineer", "alternatives", "excluded")}
    loads = {(first + n * HOUR).isoformat(): load for n, load in _load(story).items()}
    return {"start": window["start"], "end": window["end"], "window": window, **shown, "load_by_hour": loads}


def _seed_timeline(conn: psycopg.Connection[Any], story: Story) -> None:
    events = [
        ("opened", f"{story.asset_name}: degradation confirmed by the device's finding"),
        ("prognosis_made", "Failure likely within days; nine past units compared"),
    ]
    if story.wanted.state not in ("confirmed", "false_alarm"):
        events.append(("entitlement_verified", "Covered by warranty W-2031"))
    if story.arranged:
        events += [
            ("part_reserved", "Drive bearing 6004-2RS reserved in Hanover centre"),
            ("window_booked", "Window booked, load rank 1 of 17"),
            ("work_order_written", "Work order with playbook, part and evidence"),
            ("dispatched", "Jonas Weber accepted"),
            ("announced", "Announcement accepted by the customer's mail server"),
        ]
    if story.wanted.escalated:
        events.append(("escalated", "Handed to Marta Lindqvist"))
    if story.wanted.state == "closed":
        events += [("completed", "Bearing replaced"), ("verified", "Vitals healthy for 6 h"), ("closed", "Closed")]
    for n, (kind, summary) in enumerate(events):
        at = story.opened + timedelta(minutes=4 * n)
        shared = {"tenant_id": story.tenant_id, "at": at}
        insert(conn, "case_event", **shared, case_id=story.id_of("case"), kind=kind, summary=summary)
        insert(
            conn,
            "audit_entry",
            **shared,
            entry_id=uuid.uuid4(),
            actor="system:worker",
            action=kind,
            subject=f"case:{story.id_of('case')}",
            body=Jsonb({"summary": summary}),
            canonical="{}",
        )


def _seed_acts(conn: psycopg.Connection[Any], story: Story, plan: dict[str, Any]) -> None:
    director = next(person for person in PEOPLE if person[1] == story.tenant_id)
    subject = f"{story.asset_name}: repair arranged before failure"
    announcement = {"channel": "email", "to": director[0], "message": {"to_name": director[2], "subject": subject}}
    acts: list[tuple[str, str, dict[str, Any], str]] = []
    if story.wanted.state != "confirmed":
        acts.append(("entitlement", "held", {}, "W-2031"))
    if plan:
        acts += [
            ("reservation", "held", plan["part"], "R-88"),
            ("window", "held", _window_request(story, plan), "B-5512"),
            ("work_order", "held", {}, f"WO-{story.number:06d}"),
            ("dispatch", "held", {}, "D-17"),
            ("message", "consumed", announcement, f"<{story.number}@forestall>"),
        ]
    for n, (kind, state, request, reference) in enumerate(acts):
        insert(
            conn,
            "act",
            act_id=uuid.uuid4(),
            tenant_id=story.tenant_id,
            case_id=story.id_of("case"),
            kind=kind,
            purpose="announcement:email" if kind == "message" else "",
            idempotency_key=f"{story.id_of('case')}:{kind}",
            state=state,
            request=Jsonb(request),
            external_ref=reference,
            attempts=1,
            due_at=story.opened,
            intended_at=story.opened + timedelta(minutes=n),
            settled_at=story.opened + timedelta(minutes=n + 1),
        )


def _seed_work_order(conn: psycopg.Connection[Any], story: Story, plan: dict[str, Any]) -> None:
    state = {"committed": "dispatched", "in_progress": "started"}.get(story.wanted.state, "completed")
    done = state == "completed"
    playbook = ["Lock out the drive", "Remove the wheel hub", "Press out the bearing, fit the new one", "Run 10 min"]
    insert(
        conn,
        "work_order",
        work_order_id=story.id_of("order"),
        tenant_id=story.tenant_id,
        case_id=story.id_of("case"),
        idempotency_key=f"wo:{story.id_of('case')}",
        asset_id=story.wanted.asset_id,
        engineer_id="p-eng-1",
        state=state,
        starts_at=plan["window"]["start"],
        ends_at=plan["window"]["end"],
        body=Jsonb({"playbook": playbook, "part": "PN-BEAR-20"}),
        report=Jsonb({"replaced": True, "note": "outer race spalled"}) if done else None,
        created_at=story.opened,
        completed_at=story.now - 8 * HOUR if done else None,
    )


def _seed_escalation(conn: psycopg.Connection[Any], story: Story) -> None:
    summary, codes = ESCALATIONS[story.wanted.escalated]
    low, middle, high = story.wanted.rul_h
    prognosis = {"abstained": False, "rul_p10_h": low, "rul_p50_h": middle, "rul_p90_h": high}
    context = {
        "asset": {"name": story.asset_name},
        "prognosis": prognosis | {"reason": "Nine past units degraded alike."},
        "component": {"type": SLOTS[story.kind][1]},
    }
    insert(
        conn,
        "escalation",
        escalation_id=story.id_of("escalation"),
        tenant_id=story.tenant_id,
        case_id=story.id_of("case"),
        reason=story.wanted.escalated,
        summary=summary,
        to_person="p-owner",
        raised_at=story.opened,
        due_at=story.opened + 8 * HOUR,
        context=Jsonb(context),
        options=Jsonb([{"code": code, "label": OPTIONS[code][0], "effect": OPTIONS[code][1]} for code in codes]),
    )
