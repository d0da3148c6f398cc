"""Cases, and what people decide or do in them: escalations, work orders, cancelling."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends
from starlette.exceptions import HTTPException

from fleet_core.errors import BadInput
from fleet_server.api.access import App, Identity, Limit, Offset, SignedIn, found, require
from fleet_server.api.models.base import Done
from fleet_server.api.models.cases import (
    AcknowledgeRequest,
    CancelRequest,
    Case,
    Cases,
    CompletionRequest,
    DecisionRequest,
    Escalation,
    Escalations,
    WorkOrder,
    WorkOrders,
)
from fleet_server.api.reads import cases
from fleet_server.api.services import Services
from fleet_server.resolution import commands
from fleet_server.resolution.decisions import decide_escalation
from fleet_server.resolution.escalations import acknowledge
from fleet_server.sovereignty.directives import view
from fleet_server.sovereignty.roles import Permission, allowed
from fleet_server.sovereignty.users import User

router = APIRouter(prefix="/api", tags=["cases"])
Viewer = Annotated[User, Depends(require(Permission.VIEW_CASES))]
Worker = Annotated[User, Depends(require(Permission.DO_WORK_ORDER))]


@router.get("/cases")
async def list_cases(
    user: Viewer,
    app: App,
    open_only: bool | None = None,
    state: Identity = None,
    asset_id: Identity = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> Cases:
    """Cases: escalated first, then by deadline; closed ones last."""
    async with app.reader(user) as conn:
        page = await cases.cases(conn, open_only=open_only, state=state, asset_id=asset_id, limit=limit, offset=offset)
    return view(page, user.role)


@router.get("/cases/{case_id}")
async def one_case(case_id: UUID, user: Viewer, app: App) -> Case:
    """Everything of one case: evidence, prognosis, plan and its alternatives, acts, timeline, escalations."""
    async with app.reader(user) as conn:
        return view(found(await cases.case(conn, case_id, user, app.clock.now()), "case"), user.role)


@router.post("/cases/{case_id}/cancel")
async def cancel(
    case_id: UUID, body: CancelRequest, user: Annotated[User, Depends(require(Permission.CANCEL_CASE))], app: App
) -> Done:
    """Cancel a case; what was arranged is released."""
    async with app.reader(user) as conn:
        found(await cases.case(conn, case_id, user, app.clock.now()), "case")
    async with app.worker() as conn:
        await commands.cancel_case(conn, app.clock, user.actor, case_id, body.reason, body.false_alarm)
    return Done(detail="recorded as a false alarm" if body.false_alarm else "cancelled")


@router.get("/escalations")
async def list_escalations(
    user: Viewer, app: App, open_only: bool | None = True, limit: Limit = 100, offset: Offset = 0
) -> Escalations:
    """What waits for a person, by due time."""
    async with app.reader(user) as conn:
        page = await cases.escalations(conn, user, app.clock.now(), open_only=open_only, limit=limit, offset=offset)
    return view(page, user.role)


@router.get("/escalations/{escalation_id}")
async def one_escalation(escalation_id: UUID, user: Viewer, app: App) -> Escalation:
    """One escalation with everything needed to decide it."""
    return view(await _escalation(app, user, escalation_id), user.role)


@router.post("/escalations/{escalation_id}/decide")
async def decide(escalation_id: UUID, body: DecisionRequest, user: SignedIn, app: App) -> Done:
    """Choose one of the options; the automation goes on from there."""
    escalation = await _escalation(app, user, escalation_id)
    addressed = allowed(user.role, Permission.DECIDE_ADDRESSED) and escalation.mine_to_decide
    if not addressed and not allowed(user.role, Permission.DECIDE_ESCALATION):
        raise HTTPException(403, f"the role {user.role} may not decide this escalation")
    if escalation.decided_at is not None:
        raise HTTPException(409, f"{escalation.decided_by} decided it already: {escalation.decision}")
    chosen = next((option for option in escalation.options if option.code == body.decision), None)
    if chosen is None:
        codes = ", ".join(option.code for option in escalation.options)
        raise BadInput("decision", f"{body.decision!r} is not one of {codes}")
    async with app.worker() as conn:
        await decide_escalation(conn, app.clock, user.actor, escalation_id, body.decision, body.note)
    return Done(detail=f"Decided: {chosen.label}")


@router.post("/escalations/{escalation_id}/acknowledge")
async def acknowledge_escalation(escalation_id: UUID, body: AcknowledgeRequest, user: SignedIn, app: App) -> Done:
    """Say to be on it for so many hours: nobody is asked again meanwhile, then the repeats return."""
    escalation = await _escalation(app, user, escalation_id)
    addressed = allowed(user.role, Permission.DECIDE_ADDRESSED) and escalation.mine_to_decide
    if not addressed and not allowed(user.role, Permission.DECIDE_ESCALATION):
        raise HTTPException(403, f"the role {user.role} may not acknowledge this escalation")
    until = app.clock.now() + timedelta(hours=body.hours)
    async with app.worker() as conn:
        await acknowledge(conn, app.clock, user.actor, escalation_id, until)
    return Done(detail=f"Nobody is asked again before {until:%Y-%m-%d %H:%M} UTC")


@router.get("/work-orders")
async def list_work_orders(
    user: Viewer, app: App, state: Identity = None, limit: Limit = 100, offset: Offset = 0
) -> WorkOrders:
    """Work orders, uncompleted first."""
    async with app.reader(user) as conn:
        return view(await cases.work_orders(conn, state=state, limit=limit, offset=offset), user.role)


@router.get("/work-orders/{work_order_id}")
async def one_work_order(work_order_id: UUID, user: Viewer, app: App) -> WorkOrder:
    """One work order with playbook, part, window and evidence."""
    return view(await _work_order(app, user, work_order_id), user.role)


@router.post("/work-orders/{work_order_id}/start")
async def start(work_order_id: UUID, user: Worker, app: App) -> Done:
    """The engineer begins."""
    order = await _work_order(app, user, work_order_id)
    async with app.worker() as conn:
        await commands.start_work_order(conn, app.clock, user.actor, work_order_id)
    return Done(detail=f"{order.label} started")


@router.post("/work-orders/{work_order_id}/complete")
async def complete(work_order_id: UUID, body: CompletionRequest, user: Worker, app: App) -> Done:
    """The engineer reports what was found and done; the vitals after the repair then verify it."""
    if body.replaced and not body.new_serial.strip():
        raise BadInput("new_serial", "a replaced component needs the serial number of the new one")
    order = await _work_order(app, user, work_order_id)
    report = commands.WorkReport(
        failure_mode=body.failure_mode,
        failed=body.failed,
        replaced=body.replaced,
        new_serial=body.new_serial.strip(),
        note=body.note,
    )
    async with app.worker() as conn:
        await commands.complete_work_order(conn, app.clock, user.actor, work_order_id, report)
    return Done(detail=f"{order.label} completed; the vitals verify the repair now")


async def _escalation(app: Services, user: User, escalation_id: UUID) -> Escalation:
    async with app.reader(user) as conn:
        page = await cases.escalations(conn, user, app.clock.now(), escalation_id=escalation_id, limit=1)
    return found(_only(page.items), "escalation")


async def _work_order(app: Services, user: User, work_order_id: UUID) -> WorkOrder:
    async with app.reader(user) as conn:
        page = await cases.work_orders(conn, work_order_id=work_order_id, limit=1)
    return found(_only(page.items), "work order")


def _only(items: list[Any]) -> Any:
    return items[0] if items else None
