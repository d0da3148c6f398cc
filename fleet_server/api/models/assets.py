"""Answers about one asset. Vitals are technical and operational; nothing here is about a patient or a person."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from fleet_server.api.models.base import Answer, Asked, customer, operational, public
from fleet_server.api.models.prognoses import Prognosis


class Component(Answer):
    """An installed component; ``valid_to`` None: installed now."""

    slot: str = operational()
    component_type: str = operational()
    label: str = public()
    serial: str = operational()
    part_no: str = operational()
    valid_from: datetime = operational()
    valid_to: datetime | None = operational()


class ComponentHealth(Answer):
    slot: str = operational()
    state: str = operational()
    level: str = operational()
    score: float = operational()
    since: datetime = operational()
    updated_at: datetime = operational()
    data_quality: float = operational()
    stale: bool = operational()


class RunningState(Answer):
    """Whether the asset (slot "") or a component runs; ``why`` is a code, ``reason`` for people."""

    slot: str = operational()
    state: str = operational()
    since: datetime = operational()
    why: str = operational()
    reason: str = operational()


class StateChange(Answer):
    slot: str = operational()
    state: str = operational()
    previous: str = operational()
    at: datetime = operational()
    score: float = operational()
    reason: str = operational()


class Channel(Answer):
    """One channel's part in a finding; ``contribution`` is its share 0..1, ``sigmas`` how far it left its baseline."""

    metric: str = operational()
    unit: str = public()
    contribution: float = operational()
    baseline_mean: float = operational()
    baseline_sigma: float = operational()
    observed: float = operational()
    sigmas: float | None = operational()


class Finding(Answer):
    finding_id: UUID = operational()
    revision: int = operational()
    slot: str = operational()
    state: str = operational()
    score: float = operational()
    severity: float = operational()
    failure_mode: str = operational()
    failure_mode_label: str = public()
    indicator_metric: str = operational()
    detected_at: datetime = operational()
    onset_at: datetime = operational()
    received_at: datetime = operational()
    channels: list[Channel] = operational()
    detectors: dict[str, float] = operational()


class Vital(Answer):
    """The latest value of one metric; ``t`` and ``v`` None when nothing has arrived yet."""

    metric: str = operational()
    unit: str = public()
    unit_label: str = public()
    slot: str = operational()
    t: datetime | None = operational()
    v: float | None = operational()


class AssetCase(Answer):
    """A case of the asset; window and part as its plan says, None before they are known."""

    case_id: UUID = operational()
    label: str = operational()
    slot: str = operational()
    state: str = operational()
    failure_mode: str = operational()
    failure_mode_label: str = public()
    urgency: str = operational()
    escalated: bool = operational()
    opened_at: datetime = operational()
    closed_at: datetime | None = operational()
    deadline_at: datetime | None = operational()
    window_start: datetime | None = customer(None)
    window_end: datetime | None = customer(None)
    part_arrives_at: datetime | None = operational(None)


class Asset(Answer):
    """Everything of one asset but the courses of its vitals."""

    asset_id: str = operational()
    name: str = operational()
    asset_class: str = operational()
    model: str = operational()
    serial: str = operational()
    firmware: str = operational()
    equipment_ref: str = customer()
    criticality: int = operational()
    site_id: str = operational()
    site_name: str = customer()
    time_zone: str = operational()
    jurisdiction: str = operational()
    tenant_id: str = customer()
    tenant_name: str = customer()
    observe_only: bool = operational()
    agent_id: str = operational()
    agent_online: bool = operational()
    agent_version: str | None = operational()
    in_service_at: datetime | None = operational()
    last_seen_at: datetime | None = operational()
    maintenance_until: datetime | None = operational()
    maintenance_note: str = customer()
    level: str = operational()
    last_level: str = operational("unknown")
    stale: bool = operational(True)
    running: list[RunningState] = operational(default_factory=list)
    components: list[Component] = operational()
    health: list[ComponentHealth] = operational()
    health_history: list[StateChange] = operational()
    findings: list[Finding] = operational()
    prognoses: list[Prognosis] = operational()
    vitals: list[Vital] = operational()
    cases: list[AssetCase] = operational()


class VitalPoint(Answer):
    """One time bucket: ``t`` is its middle; ``bad`` counts values that were NaN or infinite."""

    t: datetime = operational()
    n: int = operational()
    bad: int = operational()
    low: float | None = operational()
    high: float | None = operational()
    mean: float | None = operational()


class VitalSeries(Answer):
    metric: str = operational()
    unit: str = public()
    unit_label: str = public()
    from_t: datetime = operational()
    to_t: datetime = operational()
    bucket_s: float = operational()
    points: list[VitalPoint] = operational()


class WaveformView(Answer):
    """The newest whole waveform of a metric and its amplitude spectrum, both thinned for display."""

    metric: str = operational()
    unit_label: str = public()
    t0: datetime | None = operational()
    sample_rate_hz: float | None = operational()
    samples: int = operational()
    waveform: list[tuple[float, float]] = operational(description="[[ms since t0, value], ...]")
    spectrum: list[tuple[float, float]] = operational(description="[[Hz, amplitude], ...]")


class MaintenanceRequest(Asked):
    """``until`` None ends the maintenance now."""

    until: datetime | None = operational(None)
    note: str = customer("", max_length=500)
