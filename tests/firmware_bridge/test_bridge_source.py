"""The agent's serial source without a port: merging descriptions, refusing unbelievable times, naming values."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from edge_agent.acquisition import serial_frames
from edge_agent.acquisition.api import AssetDescription, SourceDeps
from firmware_bridge.frames import Stream
from firmware_bridge.messages import Describe, Hello, MetricInfo, Samples
from firmware_bridge.session import Ready, Received
from firmware_bridge.timemap import TimeMap
from fleet_core.assets import AssetClass
from fleet_core.clock import SimulatedClock
from fleet_core.telemetry import ComponentSpec, MetricSpec, Sample, to_us

HELLO = Hello("M-1", "S-1", "9.9", 5, (ComponentSpec("a", "bearing", "NEW"), ComponentSpec("b", "motor", "MOT")))
DESCRIBE = Describe((MetricInfo(1, "level", "1", "a", 1000), MetricInfo(2, "wave", "[g]", "a", 0, 100.0)))
CONFIGURED = AssetDescription(
    "dev",
    AssetClass.ROBOT,
    "",
    "S-1",
    (MetricSpec("level", "bar", "b"), MetricSpec("absent")),
    (ComponentSpec("a", "bearing", "OLD", "P-1"), ComponentSpec("c", "fan", "FAN")),
    "1.0",
)


class Recorder:
    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    async def describe(self, asset: AssetDescription) -> None:
        self.calls.append(("describe", asset))

    async def samples(self, samples: object, *, historical: bool = False) -> None:
        self.calls.append(("samples", samples, historical))

    async def waveform(self, waveform: object, *, historical: bool = False) -> None:
        self.calls.append(("waveform", waveform, historical))

    async def gap(self, start_us: int, end_us: int, reason: str) -> None:
        self.calls.append(("gap", start_us, end_us, reason))


def test_configuration_and_device_are_merged() -> None:
    merged = serial_frames.described(CONFIGURED, HELLO, DESCRIBE)
    assert (merged.device_id, merged.model, merged.serial, merged.firmware) == ("dev", "M-1", "S-1", "9.9")
    assert {part.slot: part.serial for part in merged.components} == {"a": "NEW", "b": "MOT", "c": "FAN"}
    assert merged.metrics == (MetricSpec("level", "bar", "b"), MetricSpec("wave", "[g]", "a", 0.0, "waveform"))
    kept = serial_frames.described(replace(CONFIGURED, model="X", serial="Y"), HELLO, DESCRIBE)
    assert (kept.model, kept.serial) == ("X", "Y")


async def test_unbelievable_times_and_unknown_ids_are_refused_and_counted() -> None:
    clock, sink = SimulatedClock(), Recorder()
    deps = SourceDeps(clock, CONFIGURED, Path(), random.Random(1))
    source = serial_frames.build(serial_frames.Config("/dev/none"), deps)
    assert isinstance(source, serial_frames.SerialFrames)
    moment_us = to_us(clock.now())
    time_map = TimeMap(1_000_000)
    time_map.observe(0, moment_us)
    await source._ready(Ready(HELLO, DESCRIBE, time_map), sink)
    rows = ((0, (1.0, 2.0)), (86_400_000_000, (3.0, 4.0)), (-(2**61), (5.0, 6.0)))
    await source._received(Received(Samples((1, 99), rows), Stream.SAMPLES, 0, moment_us), sink)
    kinds = [call[0] for call in sink.calls]
    assert kinds == ["describe", "gap", "samples"]
    assert sink.calls[-1] == ("samples", [Sample("level", moment_us, 1.0)], False)
    assert source._counters["time_rejected"] == 2 and source._counters["undescribed_values"] == 1
