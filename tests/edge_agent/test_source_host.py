"""The Linux host's vitals, and made-up ones."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_agent.acquisition import linux_host, synthetic
from edge_agent.acquisition.api import AssetDescription, SourceDeps
from fleet_core.assets import UNITS, AssetClass
from fleet_core.clock import SimulatedClock
from fleet_core.errors import BadConfig
from fleet_core.telemetry import Sample


class Sink:
    def __init__(self) -> None:
        self.description: AssetDescription | None = None
        self.taken: list[tuple[Sample, bool]] = []

    async def describe(self, asset: AssetDescription) -> None:
        self.description = asset

    async def samples(self, samples: Sequence[Sample], *, historical: bool = False) -> None:
        self.taken.extend((sample, historical) for sample in samples)


def deps() -> SourceDeps:
    return SourceDeps(SimulatedClock(), AssetDescription("h-1", AssetClass.SERVER, "m", "s"), Path(), random.Random(3))


async def run_for(source: synthetic.Synthetic, made: SourceDeps, seconds: float) -> Sink:
    sink = Sink()
    task = asyncio.ensure_future(source.run(sink))  # type: ignore[arg-type]  # the parts of a sink it uses
    for _ in range(50):
        await asyncio.sleep(0)
    assert isinstance(made.clock, SimulatedClock)
    await made.clock.advance(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return sink


def test_thermal_zones_stand_in_for_sensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux_host.psutil, "sensors_temperatures", dict)
    monkeypatch.setattr(linux_host.psutil, "sensors_fans", dict)
    for zone, text in (("thermal_zone0", "41500\n"), ("thermal_zone1", "asleep")):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "temp").write_text(text)
    assert linux_host.read_sensors(tmp_path) == {"temperature_thermal_zone0": (41.5, "Cel")}


def test_every_unit_is_known() -> None:
    host = linux_host.build(linux_host.Config(), deps())
    host._rates()
    reading = host._read()
    assert {"cpu_percent", "load_1m", "memory_used_percent", "disk_used_percent_root"} <= set(reading)
    assert {unit for _, unit in reading.values()} <= set(UNITS)
    assert all(0 <= reading[name][0] <= 100 for name in ("memory_used_percent", "disk_used_percent_root"))


def test_a_vanished_mount_is_missing_and_its_siblings_go_on() -> None:
    reading = linux_host.build(linux_host.Config(disks=("/nowhere", "/")), deps())._read()
    assert "disk_used_percent_nowhere" not in reading and "disk_used_percent_root" in reading


async def test_same_seed_same_values_with_history_first() -> None:
    config = synthetic.Config(channels=2, period_s=60, seed=5, history_h=1, samples=10)
    courses = []
    for _ in range(2):
        made = deps()
        courses.append(await run_for(synthetic.build(config, made), made, 900))
    assert courses[0].taken == courses[1].taken
    assert [historical for _, historical in courses[0].taken] == [True] * 120 + [False] * 20


async def test_drift_moves_only_the_first_channel() -> None:
    config = synthetic.Config(channels=2, period_s=600, seed=5, history_h=480, drift_start_h=240, drift_per_day=5)
    made = deps()
    sink = await run_for(synthetic.build(config, made), made, 1)
    last = {
        name: [s.value for s, _ in sink.taken if s.metric == name][-144:] for name in ("synthetic_0", "synthetic_1")
    }
    assert sum(last["synthetic_0"]) / 144 > 45 and abs(sum(last["synthetic_1"]) / 144 - 10) < 2


def test_senseless_settings_are_refused() -> None:
    for wrong in ({"channels": 0}, {"period_s": 0.0}, {"autocorrelation": 1.0}):
        with pytest.raises(BadConfig):
            synthetic.Config(**wrong)  # type: ignore[arg-type]  # any of the fields
    with pytest.raises(BadConfig):
        linux_host.Config(period_s=0)
