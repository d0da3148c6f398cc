"""Answers about the fleet as a whole: overview, tenants, sites, library, clock, the one signed in."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from fleet_server.api.models.base import Answer, customer, operational, personal, public


class FleetAsset(Answer):
    """One line of the fleet table. ``level`` is the worst of its components; of an asset that is not heard any more a
    good one is ``unknown``; a failed asset is ``critical``, one that stopped though it should run at least ``watch``.

    ``last_level`` is what was known at ``last_seen_at``. ``running`` says whether it runs, rests, stopped, failed or is
    silent, ``running_reason`` why, for people.
    """

    asset_id: str = operational()
    name: str = operational()
    asset_class: str = operational()
    model: str = operational()
    serial: str = operational()
    site_id: str = operational()
    site_name: str = customer()
    time_zone: str = operational()
    tenant_id: str = customer()
    tenant_name: str = customer()
    level: str = operational()
    last_level: str = operational("unknown")
    running: str = operational("unknown")
    running_since: datetime | None = operational(None)
    running_reason: str = operational("")
    worst_slot: str = operational()
    score: float = operational()
    stale: bool = operational()
    agent_online: bool = operational()
    last_seen_at: datetime | None = operational()
    maintenance_until: datetime | None = operational()
    case_id: UUID | None = operational()
    case_label: str | None = operational()
    case_state: str | None = operational()
    escalated: bool = operational()


class FleetAssets(Answer):
    total: int = operational()
    items: list[FleetAsset] = operational()


class LevelCount(Answer):
    level: str = public()
    assets: int = operational()


class FleetOverview(Answer):
    """Counts over everything the caller may see."""

    at: datetime = public()
    levels: list[LevelCount] = operational()
    assets: int = operational()
    stale: int = operational()
    in_maintenance: int = operational()
    agents: int = operational()
    agents_online: int = operational()
    open_cases: int = operational()
    closed_cases: int = operational()
    open_escalations: int = operational()


class Tenant(Answer):
    tenant_id: str = customer()
    name: str = customer()
    jurisdiction: str = operational()
    observe_only: bool = operational()
    assets: int = operational()


class Tenants(Answer):
    items: list[Tenant] = operational()


class Site(Answer):
    site_id: str = operational()
    tenant_id: str = customer()
    name: str = customer()
    region: str = operational()
    jurisdiction: str = operational()
    time_zone: str = operational()
    wms_kind: str = operational()


class Sites(Answer):
    items: list[Site] = operational()


class LibraryGroup(Answer):
    """Past trajectories of one component type, failure mode and source."""

    component_type: str = operational()
    failure_mode: str = operational()
    source: str = operational()
    trajectories: int = operational()
    failed: int = operational()
    units: int = operational()
    last_added_at: datetime = operational()


class Library(Answer):
    groups: list[LibraryGroup] = operational()


class ClockInfo(Answer):
    """Domain time. ``scale`` is domain seconds per real second; ``story`` says that it is not real time."""

    now: datetime = public()
    real_now: datetime = public()
    scale: float = public()
    story: bool = public()


class Me(Answer):
    """The one signed in. ``csrf`` must come back as X-CSRF-Token with each change a cookie session asks for."""

    user_id: str = personal()
    role: str = public()
    tenant_id: str | None = customer()
    permissions: list[str] = public()
    must_change_password: bool = public()
    csrf: str = public()


class SignedIn(Answer):
    """``token`` is the session's, for ``Authorization: Bearer``; browsers use the cookie set beside it."""

    token: str = public()
    csrf: str = public()
    role: str = public()
    must_change_password: bool = public()
    expires_at: datetime = public()


class Ready(Answer):
    status: str = public()
    database: bool | None = public()
