"""Live calibration: do the forecasts keep their promise."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from fleet_server.api.access import App, found, require
from fleet_server.api.models.base import Done
from fleet_server.api.models.calibration import CalibrationAnswer, CorrectionRequest
from fleet_server.api.reads import calibration as reads
from fleet_server.api.reads import cases
from fleet_server.resolution.corrections import Correction, correct_outcome
from fleet_server.sovereignty.directives import view
from fleet_server.sovereignty.roles import Permission
from fleet_server.sovereignty.users import User

router = APIRouter(prefix="/api", tags=["fleet"])


@router.get("/v1/calibration", include_in_schema=False)
@router.get("/calibration")
async def calibration(user: Annotated[User, Depends(require(Permission.VIEW_LIBRARY))], app: App) -> CalibrationAnswer:
    """By component type, asset class and model: coverage, Brier score, reliability, and the verdict on the cohort."""
    async with app.reader(user) as conn:
        return view(await reads.calibration(conn, app.clock.now()), user.role)


@router.post("/cases/{case_id}/outcome")
async def correct(
    case_id: UUID, body: CorrectionRequest, user: Annotated[User, Depends(require(Permission.DO_WORK_ORDER))], app: App
) -> Done:
    """Correct the outcome of an ended case; its forecasts are scored anew."""
    async with app.reader(user) as conn:
        found(await cases.case(conn, case_id, user, app.clock.now()), "case")
    async with app.worker() as conn:
        scored = await correct_outcome(conn, app.clock, user.actor, case_id, Correction(**body.model_dump()))
    return Done(detail=f"{scored} forecasts scored anew")
