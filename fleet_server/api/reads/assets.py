"""Read one asset: installed base, health, findings, prognoses, and its vitals thinned for a chart."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import numpy as np

from fleet_core.assets import COMPONENT_TYPES, failure_mode, unit_label
from fleet_server.api.models.assets import (
    Asset,
    AssetCase,
    Channel,
    Component,
    ComponentHealth,
    Finding,
    RunningState,
    StateChange,
    Vital,
    VitalPoint,
    VitalSeries,
    WaveformView,
)
from fleet_server.api.models.base import Record
from fleet_server.api.reads.fleet import LEVELS
from fleet_server.api.reads.plan import read_plan
from fleet_server.api.reads.prognoses import prognosis
from fleet_server.health.running import Running
from fleet_server.labels import case_label
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

MAX_FRAGMENTS = 64
DISPLAY_POINTS = 800
_sql = queries("api_assets")


async def asset(conn: Connection, asset_id: str, heard_since: datetime) -> Asset | None:
    """One asset with everything but the courses of its vitals; None when the reader sees no such asset."""
    key = {"asset_id": asset_id, "heard_since": heard_since}
    row = await (await conn.execute(_sql.asset, key)).fetchone()
    if row is None:
        return None
    health = [ComponentHealth(**r) for r in await (await conn.execute(_sql.health, key)).fetchall()]
    findings = [finding(r) for r in await (await conn.execute(_sql.findings, key)).fetchall()]
    last_level = next((level for level in LEVELS if any(h.level == level for h in health)), "unknown")
    stale = not health or any(h.stale for h in health)
    running = await (await conn.execute(_sql.running, key)).fetchall()
    return Asset(
        **row,
        level=shown_level(last_level, stale, next((r["state"] for r in running if not r["slot"]), "unknown")),
        last_level=last_level,
        stale=stale,
        running=[RunningState(**r) for r in running],
        components=[_component(r) for r in await (await conn.execute(_sql.components, key)).fetchall()],
        health=health,
        health_history=[StateChange(**r) for r in await (await conn.execute(_sql.health_history, key)).fetchall()],
        findings=sorted(findings, key=lambda item: item.detected_at, reverse=True),
        prognoses=[prognosis(r) for r in await (await conn.execute(_sql.prognoses, key)).fetchall()],
        vitals=await _vitals(conn, asset_id),
        cases=[_case(r) for r in await (await conn.execute(_sql.asset_cases, key)).fetchall()],
    )


def shown_level(level: str, stale: bool, running: str) -> str:
    """The level that is shown of an asset whose worst component has ``level``: a failed machine is critical, one that
    stopped though it should run is not good, and neither is one that is not heard any more. As in ``fleet_assets``."""
    if running == Running.FAILED:
        return "critical"
    if running == Running.STOPPED and level in ("good", "unknown"):
        return "watch"
    return "unknown" if stale and level == "good" else level


async def exists(conn: Connection, asset_id: str) -> bool:
    """Whether there is such an asset that the reader may see."""
    return await (await conn.execute(_sql.exists, {"asset_id": asset_id})).fetchone() is not None


async def vitals(
    conn: Connection, asset_id: str, metric: str, from_t: datetime, to_t: datetime, buckets: int
) -> VitalSeries | None:
    """One metric in ``buckets`` equal time buckets with their extremes; None when the asset has no such metric."""
    series = await (await conn.execute(_sql.series_of, {"asset_id": asset_id})).fetchall()
    unit = next((row["unit"] for row in series if row["metric"] == metric), None)
    if unit is None:
        return None
    query = {"asset_id": asset_id, "metric": metric, "from_t": from_t, "to_t": to_t, "buckets": buckets}
    rows = await (await conn.execute(_sql.vitals_thinned, query)).fetchall()
    width = (to_t - from_t) / buckets
    return VitalSeries(
        metric=metric,
        unit=unit,
        unit_label=unit_label(unit),
        from_t=from_t,
        to_t=to_t,
        bucket_s=width.total_seconds(),
        points=[
            VitalPoint(
                t=from_t + (row["bucket"] + 0.5) * width,
                n=row["n"],
                bad=row["bad"],
                low=finite(row["v_min"]),
                high=finite(row["v_max"]),
                mean=finite(row["v_mean"]),
            )
            for row in rows
        ],
    )


async def waveform(conn: Connection, asset_id: str, metric: str, before: datetime) -> WaveformView:
    """The newest complete waveform of a metric within 30 days before an instant, and its spectrum."""
    query = {
        "asset_id": asset_id,
        "metric": metric,
        "from_t": before - timedelta(days=30),
        "to_t": before,
        "most": MAX_FRAGMENTS,
    }
    rows = await (await conn.execute(_sql.waveforms, query)).fetchall()
    series = await (await conn.execute(_sql.series_of, {"asset_id": asset_id})).fetchall()
    unit = next((row["unit"] for row in series if row["metric"] == metric), "1")
    for t0 in dict.fromkeys(row["t0"] for row in rows):
        parts = sorted((row for row in rows if row["t0"] == t0), key=lambda row: row["fragment"])
        if len(parts) == parts[0]["fragments"]:
            values = np.concatenate([np.asarray(part["vals"], dtype=np.float64) for part in parts])
            return _waveform_view(metric, unit, t0, parts[0]["sample_rate_hz"], values)
    return WaveformView(
        metric=metric, unit_label=unit_label(unit), t0=None, sample_rate_hz=None, samples=0, waveform=[], spectrum=[]
    )


def finding(row: Record) -> Finding:
    """A finding row as an answer; its body was checked on ingest but is still read with care."""
    channels = [
        _channel(item) for item in row["body"].get("channels", []) if isinstance(item, dict) and "metric" in item
    ]
    return Finding(
        **row,
        failure_mode_label=failure_mode(row["failure_mode"]).label,
        channels=sorted(channels, key=lambda channel: -channel.contribution),
        detectors=row["body"].get("detectors", {}),
        indicator_metric=str(row["body"].get("indicator_metric", "")),
    )


def finite(value: float | None) -> float | None:
    """The value, or None when it is not finite, because JSON has no NaN."""
    return value if value is not None and math.isfinite(value) else None


def _component(row: Record) -> Component:
    kind = COMPONENT_TYPES.get(row["component_type"])
    return Component(**row, label=kind.label if kind else row["component_type"])


def _case(row: Record) -> AssetCase:
    plan = read_plan(row["plan"], (), None, "")
    window = next((window for window in plan.windows if window.chosen), None)
    return AssetCase(
        **row,
        label=case_label(row["number"]),
        failure_mode_label=failure_mode(row["failure_mode"]).label,
        window_start=window.start if window else None,
        window_end=window.end if window else None,
        part_arrives_at=plan.arrives_at,
    )


def _channel(item: Record) -> Channel:
    sigma = item.get("baseline_sigma") or 0.0
    sigmas = (item["observed"] - item["baseline_mean"]) / sigma if sigma > 0 else None
    return Channel(**item | {"unit": unit_label(item.get("unit", ""))}, sigmas=finite(sigmas))


async def _vitals(conn: Connection, asset_id: str) -> list[Vital]:
    """Every metric the asset declared, with its latest value where there is one."""
    key = {"asset_id": asset_id}
    latest = {row["metric"]: row for row in await (await conn.execute(_sql.latest_vitals, key)).fetchall()}
    vitals = []
    for row in await (await conn.execute(_sql.series_of, key)).fetchall():
        value = latest.get(row["metric"], {"t": None, "v": None})
        vitals.append(Vital(**row, unit_label=unit_label(row["unit"]), t=value["t"], v=finite(value["v"])))
    return vitals


def _waveform_view(metric: str, unit: str, t0: datetime, rate_hz: float, values: np.ndarray) -> WaveformView:
    """A waveform and its amplitude spectrum by a Hann-windowed FFT, with the gain of the window undone.

    Both curves are thinned for display and keep their extremes. ``rate_hz`` is the sampling rate.
    """
    clean = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    window = np.hanning(clean.size)
    amplitude = np.abs(np.fft.rfft((clean - clean.mean()) * window)) * 2.0 / max(window.sum(), 1e-12)
    frequency = np.fft.rfftfreq(clean.size, 1.0 / rate_hz)
    time_ms = np.arange(clean.size) / rate_hz * 1000.0
    return WaveformView(
        metric=metric,
        unit_label=unit_label(unit),
        t0=t0,
        sample_rate_hz=rate_hz,
        samples=int(clean.size),
        waveform=_thinned(time_ms, clean),
        spectrum=_thinned(frequency, amplitude),
    )


def _thinned(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    """At most about ``DISPLAY_POINTS`` points: the lowest and the highest point of each stretch, in order."""
    if x.size <= DISPLAY_POINTS:
        return [(round(float(a), 4), round(float(b), 6)) for a, b in zip(x, y, strict=True)]
    chosen: list[int] = []
    for part in np.array_split(np.arange(x.size), DISPLAY_POINTS // 2):
        chosen += sorted({int(part[y[part].argmin()]), int(part[y[part].argmax()])})
    return [(round(float(x[i]), 4), round(float(y[i]), 6)) for i in chosen]
