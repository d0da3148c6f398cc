"""The rig of the serial source: a simulated drive on a pseudo-terminal. What it reads: tests/integration."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from edge_agent.acquisition.api import AssetDescription, SourceDeps
from edge_agent.acquisition.serial_frames import Config, SerialFrames, build
from firmware_bridge.devices.drive import DriveIdentity, DriveSettings, SimulatedDrive
from firmware_bridge.devices.faults import FaultRates, FaultyLine
from firmware_bridge.devices.pty_port import PtyDevice
from fleet_core.assets import AssetClass
from fleet_core.clock import SimulatedClock
from fleet_core.errors import Retryable


@asynccontextmanager
async def rig(deps: SourceDeps) -> AsyncIterator[dict[str, Any]]:
    drive = SimulatedDrive(DriveIdentity(), DriveSettings(history_h=1.0))
    device = PtyDevice(drive, deps.clock, FaultyLine(FaultRates(), random.Random(1)), random.Random(1))
    device.start()
    running = asyncio.create_task(device.run())
    try:
        yield {"port": device.port}
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        device.close()


async def test_a_port_that_is_away_is_tried_again(tmp_path: Any) -> None:
    asset = AssetDescription("robot-17", AssetClass.ROBOT, "", "")
    source = build(Config(str(tmp_path / "ttyNOPE")), SourceDeps(SimulatedClock(), asset, tmp_path, random.Random(1)))
    assert isinstance(source, SerialFrames)
    with pytest.raises(Retryable, match="cannot open"):
        await source.run(None)  # type: ignore[arg-type]  # nothing is ever handed over
