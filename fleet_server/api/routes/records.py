"""The proofs: the conservation ledger and the audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from fleet_server.api.access import App, Identity, Limit, Offset, Search, require
from fleet_server.api.models.records import AuditEntries, AuditStatus, Ledger
from fleet_server.api.reads import records
from fleet_server.sovereignty.directives import view
from fleet_server.sovereignty.roles import Permission
from fleet_server.sovereignty.users import User

router = APIRouter(prefix="/api", tags=["proofs"])
Auditor = Annotated[User, Depends(require(Permission.VIEW_AUDIT))]
Subject = Annotated[str | None, Query(max_length=120, description="e.g. case:ID or asset:ID")]


@router.get("/ledger")
async def ledger(user: Annotated[User, Depends(require(Permission.VIEW_LEDGER))], app: App) -> Ledger:
    """Every batch number is exactly one of stored, quarantined, gap, held; else unexplained."""
    return view(await records.ledger(app, user), user.role)


@router.get("/audit")
async def audit(
    user: Auditor,
    app: App,
    subject: Subject = None,
    action: Identity = None,
    search: Search = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> AuditEntries:
    """Audit entries, those not yet sequenced first, then newest first."""
    async with app.reader(user) as conn:
        page = await records.audit_entries(
            conn, subject=subject, action=action, search=search, limit=limit, offset=offset
        )
    return view(page, user.role)


@router.get("/audit/status")
async def audit_status(user: Auditor, app: App) -> AuditStatus:
    """Entries, pending ones, the newest signed checkpoint. `fleet-server audit verify` checks the whole tree."""
    async with app.reader(user) as conn:
        return view(await records.audit_status(conn), user.role)
