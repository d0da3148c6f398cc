"""Cases, acts and plans built in memory, as the resolution's pure parts get them."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from fleet_server.resolution.case import Case
from fleet_server.resolution.plan import Booking, Cover, Part, Plan, PlannedEngineer, PlannedOrder, Window
from fleet_server.resolution.policy import policy_for
from fleet_server.resolution.records import CaseFile
from fleet_server.resolution.rows import Act, Asset, Component, Prognosis, Site, Tenant
from fleet_server.resolution.states import ActState, CaseState

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
WINDOW = Window(
    start=NOW + timedelta(hours=18),
    end=NOW + timedelta(hours=20),
    load=12.0,
    load_rank=1,
    shift="night",
    time_zone="Europe/Berlin",
    day_orders=9120.5,
    of_windows=17,
    before_deadline=True,
    choice="quietest",
    booking="B-1",
)
PART = Part("PN-1", "Bearing", "bremen", "Bremen", 2, 120.0, None, 4.0, NOW + timedelta(hours=9), "R-1")
JONAS = PlannedEngineer("jonas", "Jonas")
BOOKED = Plan(booking=Booking(Cover("warranty", "W-1"), PART, WINDOW, JONAS, PlannedOrder("id-1", "WO-000001")))


def prognosis(**changes: Any) -> Prognosis:
    """A likely bearing failure after 40 hours at the earliest."""
    values: dict[str, Any] = {
        "prognosis_id": uuid.uuid4(), "made_at": NOW, "abstained": False, "abstain_code": "", "reason": "12 similar",
        "failure_mode": "bearing_spalling", "conflicting": False, "mode_share": {"bearing_spalling": 0.9},
        "p_fail": {"168": 0.8}, "survival": [], "rul_p10_h": 40.0, "rul_p50_h": None, "rul_p90_h": None,
    }  # fmt: skip
    return Prognosis(**{**values, **changes})


def case(state: str = "planning", plan: Plan = Plan(), **changes: Any) -> Case:
    """A bearing's case; ``changes`` are fields of ``Case``."""
    values: dict[str, Any] = {
        "case_id": uuid.uuid4(), "tenant_id": "northgate", "site_id": "hamburg", "asset_id": "amr-17",
        "slot": "drive_bearing", "number": 1, "state": CaseState(state), "failure_mode": "bearing_spalling",
        "owner_id": "marta", "impact": "", "urgency": "normal", "finding_id": uuid.uuid4(), "prognosis_id": None,
        "deadline_at": None, "component_serial": "BRG-1", "part_no": "", "opened_at": NOW, "closed_at": None,
        "escalated": False, "replanning": False, "waits_for": "", "plan": plan, "outcome": None, "trace_id": "t",
        "next_at": None, "version": 0,
    }  # fmt: skip
    return Case(**{**values, **changes})


def act(kind: str, state: str = "held", **changes: Any) -> Act:
    """An act that is due now."""
    made = Act(uuid.uuid4(), uuid.uuid4(), kind, "", 0, f"{kind}:0", cast("ActState", state), {}, "", 0, NOW, "")
    return replace(made, **changes)


def case_file(of: Case, *acts: Act, asset_class: str = "robot", observe_only: bool = False) -> CaseFile:
    """A case with what surrounds it."""
    asset = Asset("amr-17", "AMR 17", asset_class, "Transit 500", "SN-17", "EQ-17", 2)
    site = Site("hamburg", "Hamburg", "eu-north", "DE", "Europe/Berlin", 53.5, 10.0, "none", {})
    component = Component("drive_bearing", "bearing", "BRG-1", "PN-1")
    tenant = Tenant("northgate", observe_only, {})
    return CaseFile(of, list(acts), asset, site, tenant, component, None, policy_for({}), "")
