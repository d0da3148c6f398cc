"""Machines that run, stand and die: the vitals of simulated drives, stored as the ingest stores them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
from support.resolution import ASSET, SLOT, TENANT, Stage, finding_at, store_finding

from firmware_bridge.devices.drive_model import DriveModel, DriveParams
from fleet_core.telemetry import DetectionState, Finding, to_us

STEP = timedelta(minutes=10)
VITALS = {
    "speed_rpm": ("/min", ""), "motor_current_a": ("A", "drive_motor"),
    "motor_temperature_cel": ("Cel", "drive_motor"), "vibration_rms_g": ("[g]", SLOT),
}  # fmt: skip


class Drive:
    """A simulated drive whose readings every ten minutes, up to the story's present, are stored by ``live``."""

    def __init__(self, story: Stage, *, seizes_after_h: float = 40.0, seed: int = 1, asset_id: str = ASSET) -> None:
        self.story, self.asset_id = story, asset_id
        params = DriveParams(healthy_h=24.0, seize_after_onset_h=seizes_after_h - 24.0, growth_jitter=0.0)
        self.model = DriveModel(params, np.random.default_rng(seed))
        self.healthy_g = 0.0

    async def live(self, hours: float) -> None:
        """Live and be read for some hours, and let the story go on so long."""
        read: dict[str, list[float]] = {name: [] for name in VITALS}
        steps = round(hours * 6)
        for _ in range(steps):
            self.model.step(1 / 6)
            vitals = self.model.vitals()
            for name, values in read.items():
                values.append(getattr(vitals, name))
        self.healthy_g = self.healthy_g or float(np.median(read["vibration_rms_g"]))
        self.story.clock.shift(hours * 3600)
        await store_vitals(self.story, read, asset_id=self.asset_id)

    async def until_seized(self) -> datetime:
        """Live until it seizes; returns when that was."""
        while not self.model.seized:
            await self.live(1.0)
        return self.story.clock.now()

    def finding(self, state: DetectionState = DetectionState.DEGRADING, **changes: object) -> Finding:
        """What its device would find now."""
        made = finding_at(self.story.clock, state=state)
        channels = (replace(made.channels[0], metric="vibration_rms_g"),)
        known = {"indicator_metric": "vibration_rms_g", "indicator_baseline": self.healthy_g, "channels": channels}
        return replace(made, **{**known, **changes})


async def store_vitals(
    story: Stage, read: Mapping[str, Sequence[float]], *, end: datetime | None = None, asset_id: str = ASSET
) -> None:
    """Store readings, the last of which was taken at ``end`` (now), and that the asset and its agent were heard."""
    end = end or story.clock.now()
    async with story.rt.pool.connection() as conn:
        await conn.execute("SET LOCAL ROLE forestall_ingest")
        for metric, values in read.items():
            unit, slot = VITALS[metric]
            await conn.execute(
                "INSERT INTO series (tenant_id, asset_id, metric, unit, slot) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                (TENANT, asset_id, metric, unit, slot),
            )
            times = [end - STEP * (len(values) - 1 - i) for i in range(len(values))]
            await conn.execute(
                "INSERT INTO samples (series_id, t0, t1, n, bad, times_us, vals, agent_id, outbox_id, batch_no,"
                " received_at) SELECT series_id, %s, %s, %s, 0, %s, %s, 'agent-1', %s, 1, %s FROM series"
                " WHERE asset_id = %s AND metric = %s",
                (times[0], times[-1], len(times), [to_us(at) for at in times], list(map(float, values)), uuid.uuid4(),
                 end, asset_id, metric),
            )  # fmt: skip
        for table, key, value in (("asset", "asset_id", asset_id), ("agent", "agent_id", "agent-1")):
            statement = f"UPDATE {table} SET last_seen_at = %s WHERE {key} = %s"
            await conn.execute(statement, (end, value))


async def state_told(
    story: Stage, slot: str, state: str, previous: str = "healthy", at: datetime | None = None
) -> None:
    """The device reports a component's state, as the ingest stores it."""
    at = at or story.clock.now()
    async with story.rt.pool.connection() as conn:
        await conn.execute("SET LOCAL ROLE forestall_ingest")
        await conn.execute(
            "INSERT INTO state_change VALUES (%s, %s, %s, %s, %s, %s, 0.9, 'told by a test')",
            (TENANT, ASSET, slot, state, previous, at),
        )
        level = {"healthy": "good", "learning": "unknown"}.get(state, state)
        await conn.execute(
            "INSERT INTO health (asset_id, slot, tenant_id, state, level, score, since, state_at, updated_at)"
            " VALUES (%s, %s, %s, %s, %s, 0.9, %s, %s, %s) ON CONFLICT (asset_id, slot) DO UPDATE"
            " SET state = excluded.state, level = excluded.level, since = excluded.since",
            (ASSET, slot, TENANT, state, level, at, at, at),
        )


async def install(story: Stage, slot: str, component_type: str) -> None:
    """One more component of the robot."""
    async with story.rt.pool.connection() as conn:
        await conn.execute(
            "INSERT INTO component (tenant_id, asset_id, slot, component_type, serial, part_no, valid_from)"
            " VALUES (%s, %s, %s, %s, %s, '', %s)",
            (TENANT, ASSET, slot, component_type, f"{slot}-1", story.clock.now() - timedelta(days=300)),
        )


__all__ = ["VITALS", "Drive", "install", "state_told", "store_finding", "store_vitals"]
